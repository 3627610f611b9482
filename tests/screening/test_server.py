"""The service: right codes for wrong requests, backpressure, keys, no names of its own machine, nothing left behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import ConfigError
from deepassay.screening import server
from deepassay.screening.bundle import write_bundle
from deepassay.screening.server import ServiceSettings, check_exposure, create_app, keys_from_environment

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
KEY = "k" * 24


@pytest.fixture
def box(tmp_path, square, bundle_parts, monkeypatch) -> Path:
    from PIL import Image

    monkeypatch.setattr(server, "START_METHOD", "fork")
    write_bundle(tmp_path / "face", **bundle_parts(square))
    Image.fromarray(np.full((64, 64, 3), 250, np.uint8)).save(tmp_path / "light.png")
    prepare = type(square).prepare

    def slow(self, path):
        views = prepare(self, path)
        if views.data.max() == 77:
            time.sleep(1.0)
        if views.data.max() == 99:
            os.kill(os.getpid(), signal.SIGKILL)
        return views

    monkeypatch.setattr(type(square), "prepare", slow)
    for level in (77, 99):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / f"{level}.png")
    return tmp_path


def settings(box: Path, **more) -> ServiceSettings:
    return ServiceSettings(screener={"bundles": [str(box / "face")]}, **more)


@pytest.fixture
def client(box):
    from starlette.testclient import TestClient

    with TestClient(create_app(settings(box))) as client:
        yield client


RAW = {"Content-Type": "application/octet-stream"}


def test_a_file_as_body_or_form_part_gets_its_verdicts(client, box):
    content = (box / "light.png").read_bytes()
    raw = client.post("/v1/screen", content=content, headers=RAW)
    form = client.post("/v1/screen", files={"file": ("anna.png", content)}, data={"note": "x"})
    for answer in (raw, form):
        assert answer.status_code == 200, answer.text
        (verdict,) = answer.json()["verdicts"]
        assert (verdict["decision"], verdict["status"]) == ("fake", "ok")
        assert "path" not in verdict
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_file_that_cannot_be_judged_is_an_abstention_not_an_error(client):
    answer = client.post("/v1/screen", content=b"no picture", headers=RAW)
    assert answer.status_code == 200
    (verdict,) = answer.json()["verdicts"]
    assert (verdict["decision"], verdict["status"], verdict["llr"]) == ("abstain", "undecodable", None)
    assert "deepassay-serve" not in answer.text


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        (415, {"content": b"{}", "headers": {"Content-Type": "application/json"}}),
        (415, {"content": b"x"}),
        (422, {"content": b"", "headers": RAW}),
        (422, {"data": {"other": "x"}, "files": {"another": b"x"}}),
        (422, {"files": [("file", b"x"), ("file", b"y")]}),
        (400, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}),
        (400, {"content": b"no form", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}),
    ],
)
def test_wrong_requests_get_the_right_code(client, code, request_):
    answer = client.post("/v1/screen", **request_)
    assert answer.status_code == code, answer.text
    assert set(answer.json()) == {"error", "message", "request_id"}
    assert client.get("/v1/screen").status_code == 405


def test_uploads_over_the_limit_are_refused_announced_or_not(box):
    from starlette.testclient import TestClient

    with TestClient(create_app(settings(box, max_upload_bytes=1000))) as client:
        blocks = lambda: (b"x" * 400 for _ in range(400))  # noqa: E731
        for request in (
            {"content": b"x" * 1001, "headers": RAW},
            {"content": b"x" * 500_000, "headers": RAW},
            {"content": blocks(), "headers": RAW},
            {"files": {"file": b"x" * 1001}},
            {"files": {"file": b"x" * 500_000}},
        ):
            assert client.post("/v1/screen", **request).status_code == 413
        assert client.post("/v1/screen", content=b"x" * 1000, headers=RAW).status_code == 200


def test_keys(box):
    from starlette.testclient import TestClient

    with TestClient(create_app(settings(box, keys=("other" * 5, KEY)))) as client:
        content = (box / "light.png").read_bytes()
        for headers in ({}, {"X-API-Key": KEY[:-1]}, {"Authorization": f"Basic {KEY}"}, {"X-API-Key": "ü".encode()}):
            answer = client.post("/v1/screen", content=content, headers={**RAW, **headers})  # type: ignore[dict-item]
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
            assert client.post("/v1/screen", content=content, headers={**RAW, **headers}).status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"X-API-Key": KEY}).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200


def test_no_open_service_on_a_public_interface():
    for host in ("127.0.0.1", "::1", "localhost"):
        check_exposure(host, ())
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org", ""):
        with pytest.raises(ConfigError, match="no API key"):
            check_exposure(host, ())
        check_exposure(host, (KEY,))
    assert keys_from_environment({"DEEPASSAY_API_KEYS": f" {KEY}, ,{'x' * 20}"}) == (KEY, "x" * 20)
    with pytest.raises(ConfigError, match="16 characters"):
        ServiceSettings(screener={}, keys=("short",))
    assert KEY not in repr(ServiceSettings(screener={}, keys=(KEY,)))


def test_more_requests_than_may_wait_get_429(box):
    from starlette.testclient import TestClient

    codes = []
    with TestClient(create_app(settings(box, workers=1, queue=1))) as client:
        content = (box / "77.png").read_bytes()

        def ask():
            codes.append(client.post("/v1/screen", content=content, headers=RAW).status_code)

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert codes.count(200) == 2
        assert codes.count(429) == 4
        assert client.post("/v1/screen", content=content, headers=RAW).status_code == 200


def test_a_crash_is_an_abstention_and_the_next_file_is_judged(client, box):
    answer = client.post("/v1/screen", content=(box / "99.png").read_bytes(), headers=RAW)
    assert answer.status_code == 200
    assert "SIGKILL" in answer.json()["verdicts"][0]["reason"]
    answer = client.post("/v1/screen", content=(box / "light.png").read_bytes(), headers=RAW)
    assert answer.json()["verdicts"][0]["decision"] == "fake"
    text = client.get("/metrics").text
    assert "deepassay_workers_replaced 1.0" in text
    assert 'deepassay_verdicts_total{decision="abstain",modality="none",status="error"} 1.0' in text


def test_health_readiness_and_what_is_left_behind(box, monkeypatch):
    from starlette.testclient import TestClient

    (box / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(box / "tmp"))
    app = create_app(settings(box))
    cold = TestClient(app)
    assert cold.get("/healthz").status_code == 200
    assert cold.get("/readyz").status_code == 503
    assert cold.post("/v1/screen", content=b"x", headers=RAW).status_code == 503
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200
        client.post("/v1/screen", content=(box / "light.png").read_bytes(), headers=RAW)
        client.post("/v1/screen", content=(box / "99.png").read_bytes(), headers=RAW)
        (folder,) = (box / "tmp").glob("deepassay-serve-*")
        assert not list(folder.iterdir())
    assert not list((box / "tmp").iterdir())


def test_the_journal_holds_verdicts_and_no_names(box):
    from starlette.testclient import TestClient

    from deepassay.screening.journal import verify

    with TestClient(create_app(settings(box, journal=str(box / "j")))) as client:
        client.post("/v1/screen", files={"file": ("anna.png", (box / "light.png").read_bytes())})
    assert verify(box / "j").valid
    record = json.loads((box / "j").read_text().splitlines()[1])
    assert record["name"] is None
    assert len(record["input_sha256"]) == 64
    assert "anna" not in (box / "j").read_text()


def test_openapi_names_every_answer_of_the_endpoint(client):
    document = client.get("/openapi.json").json()
    post = document["paths"]["/v1/screen"]["post"]
    assert set(post["responses"]) >= {"200", "400", "401", "408", "413", "415", "422", "429", "503"}
    assert set(post["requestBody"]["content"]) == {"application/octet-stream", "multipart/form-data"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(app):
    """A real server on loopback; gives its port."""
    import uvicorn

    port = _free_port()
    server_ = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server_.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server_.started and time.monotonic() < deadline:
            time.sleep(0.02)
        yield port
    finally:
        server_.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def test_a_slow_upload_gets_408_over_a_real_connection(box):
    with (
        running(create_app(settings(box, upload_s=0.5))) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as line,
    ):
        head = "POST /v1/screen HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
        line.sendall(head.encode() + b"x" * 10)
        assert line.recv(4096).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("examples", [10, pytest.param(200, marks=pytest.mark.full)])
def test_schemathesis_finds_nothing_against_the_openapi_document(box, tmp_path, examples):
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    with running(create_app(settings(box))) as port:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json",
                "--max-examples", str(examples), "--seed", "1", "--no-color",
                "--phases", "examples,coverage,fuzzing",
            ],
            capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 4" in done.stdout
