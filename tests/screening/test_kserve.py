"""The remote path against a small stand-in of the protocol, and a Triton repository held against its own graph."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from deepassay.errors import BundleError, ConfigError
from deepassay.screening.bundle import Bundle, write_bundle
from deepassay.screening.command import remotes
from deepassay.screening.kserve import RemoteModel, write_triton_repository
from deepassay.screening.screener import Screener

NUMPY = {"UINT8": np.uint8, "FP32": np.float32}


class StandIn:
    """An Open Inference Protocol V2 server around onnxruntime; with or without Triton's binary tensors."""

    def __init__(self, graph: bytes, *, binary: bool, column: bool = False) -> None:
        session = onnxruntime.InferenceSession(graph)
        given, out = session.get_inputs()[0], session.get_outputs()[0]
        self.asked: list[str] = []
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, values, code=200):
                body = json.dumps(values).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                kind = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}[given.type]
                if self.path == "/v2":
                    self.answer({"name": "stand-in", "extensions": ["binary_tensor_data"] if binary else []})
                elif self.path == "/v2/models/m":
                    shape = [-1, *given.shape[1:]]
                    output = {"name": out.name, "datatype": "FP32", "shape": [-1, 1] if column else [-1]}
                    self.answer(
                        {"inputs": [{"name": given.name, "datatype": kind, "shape": shape}], "outputs": [output]}
                    )
                else:
                    self.answer({"error": "unknown model"}, 404)

            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                head = int(self.headers.get("Inference-Header-Content-Length") or len(content))
                request = json.loads(content[:head])
                (tensor,) = request["inputs"]
                stand_in.asked.append("binary" if "Inference-Header-Content-Length" in self.headers else "json")
                if stand_in.asked[-1] == "binary":
                    assert tensor["parameters"]["binary_data_size"] == len(content) - head
                    data = np.frombuffer(content[head:], NUMPY[tensor["datatype"]])
                else:
                    data = np.array(tensor["data"], NUMPY[tensor["datatype"]])
                logits = session.run(None, {tensor["name"]: data.reshape(tensor["shape"])})[0]
                assert [one["name"] for one in request["outputs"]] == [out.name]
                self.answer({"outputs": [{"name": out.name, "shape": list(logits.shape), "data": logits.tolist()}]})

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v2/models/m"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve():
    running = []

    def start(graph, **more):
        running.append(StandIn(graph, **{"binary": True, **more}))
        return running[-1]

    yield start
    for one in running:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def face(tmp_path, square, bundle_parts) -> Bundle:
    return write_bundle(tmp_path / "face", **bundle_parts(square))


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("column", [True, False])
def test_verdicts_are_those_of_the_local_session(face, tmp_path, serve, binary, column):
    from PIL import Image

    server = serve(face.graph, binary=binary, column=column)
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / "x.png")
    local = Screener([face.path]).screen(tmp_path / "x.png")[0]
    remote = Screener([face.path], remote={"face": server.url}).screen(tmp_path / "x.png")[0]
    assert (remote.decision, remote.status) == (local.decision, "ok")
    assert remote.llr == pytest.approx(local.llr, abs=1e-6)
    assert set(server.asked) == {"binary" if binary else "json"}
    assert len(server.asked) == 2  # the check and the file


def test_voices_travel_as_floats(tmp_path, serve, loud, bundle_parts):
    bundle = write_bundle(tmp_path / "voice", **bundle_parts(loud))
    server = serve(bundle.graph)
    remote = Bundle.load(bundle.path, remote=server.url)
    views = np.random.default_rng(0).normal(size=(5, 100)).astype(np.float32)
    assert remote.predict(views) == pytest.approx(bundle.predict(views), abs=1e-6)


def test_a_server_with_another_graph_is_refused(face, serve, make_graph):
    server = serve(make_graph((4, 4, 3), "uint8", scale=1.01))
    with pytest.raises(BundleError, match="logits differ"):
        Bundle.load(face.path, remote=server.url).check()
    server = serve(make_graph((5, 5, 3), "uint8", scale=1 / 255))
    with pytest.raises(BundleError, match="input shape"):
        Bundle.load(face.path, remote=server.url).check()


def test_a_server_that_is_not_there_or_knows_no_such_model(face, serve):
    server = serve(face.graph)
    with pytest.raises(BundleError, match="gave 404"):
        RemoteModel(server.url + "x")
    remote = Bundle.load(face.path, remote=server.url)
    remote.check()
    server.server.shutdown()
    server.server.server_close()
    remote.session().close()
    with pytest.raises(BundleError, match="no answer"):
        remote.predict(np.zeros((1, 4, 4, 3), np.uint8))


def test_addresses(face):
    for url in ("file:///etc/passwd", "http://h/models/m", "ftp://h/v2/models/m", "http://u:p@h/v2/models/m", "h"):
        with pytest.raises(ConfigError):
            RemoteModel(url)
    assert remotes(["face=http://h/v2/models/m"]) == {"face": "http://h/v2/models/m"}
    for words in (["http://h/v2/models/m"], ["face="], ["face=a", "face=b"]):
        with pytest.raises(ConfigError):
            remotes(words)
    with pytest.raises(ConfigError, match="no bundle of that modality"):
        Screener([face], remote={"voice": "http://h/v2/models/m"})


@pytest.mark.parametrize("kind", ["face", "voice"])
def test_a_triton_repository_says_what_onnxruntime_sees(tmp_path, square, loud, bundle_parts, kind):
    bundle = write_bundle(tmp_path / "bundle", **bundle_parts(square if kind == "face" else loud))
    name = write_triton_repository(bundle, tmp_path / "repository")
    folder = tmp_path / "repository" / name
    config = (folder / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    (given,), (out,) = session.get_inputs(), session.get_outputs()
    names, types = re.findall(r' name: "([^"]+)"', config), re.findall(r"data_type: TYPE_(\w+)", config)
    assert names == [given.name, out.name]
    assert types == [{"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}[given.type], "FP32"]
    dims = [json.loads(text) for text in re.findall(r"dims: (\[[^\]]*\])", config)]
    assert dims == [list(given.shape[1:]), [1]]
    assert not isinstance(given.shape[0], int)  # Triton's max_batch_size needs a free batch
    assert int(re.findall(r"max_batch_size: (\d+)", config)[0]) > 1
    assert bundle.hash in config
    assert f"/v2/models/{name}" in (folder / "README.md").read_text()
    assert config.startswith(f'name: "{name}"\n')
    assert Path(tmp_path / "repository" / name / "1").is_dir()
