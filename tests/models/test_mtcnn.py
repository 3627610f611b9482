"""MTCNN export: the graphs equal the networks they come from, byte for byte each time; only pinned weights are read."""

import json

import numpy as np
import pytest

from deepassay.errors import MissingDependencyError

pytest.importorskip("facenet_pytorch", reason="the train extra is not installed")

from deepassay.models import mtcnn


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finder")
    return folder, mtcnn.export_finder_graphs(folder)


def test_export_is_complete_repeatable_and_described(graphs, tmp_path):
    folder, hashes = graphs
    assert sorted(p.name for p in folder.iterdir()) == ["finder.json", "onet.onnx", "pnet.onnx", "rnet.onnx"]
    assert mtcnn.export_finder_graphs(tmp_path) == hashes
    note = json.loads((folder / "finder.json").read_text())
    assert note["graphs"] == hashes
    assert note["licence"].startswith("MIT")
    assert note["weights"]["sha256"] == mtcnn.WEIGHTS_SHA256


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
@pytest.mark.parametrize("content", ["noise", "black", "white"])
def test_graphs_equal_the_networks(graphs, name, content):
    import facenet_pytorch
    import onnxruntime
    import torch

    network = {"pnet": facenet_pytorch.PNet, "rnet": facenet_pytorch.RNet, "onet": facenet_pytorch.ONet}[name]().eval()
    session = onnxruntime.InferenceSession(str(graphs[0] / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    shapes = {
        "pnet": [(1, 12, 12), (2, 37, 53), (1, 80, 61)],
        "rnet": [(1, 24, 24), (5, 24, 24)],
        "onet": [(3, 48, 48)],
    }
    for n, height, width in shapes[name]:
        image = np.random.default_rng(0).uniform(-1, 1, (n, 3, height, width)).astype(np.float32)
        if content != "noise":
            image[:] = -127.5 / 128 if content == "black" else 127.5 / 128
        out = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": image}), strict=True))
        with torch.no_grad():
            expected = [t.numpy() for t in network(torch.from_numpy(image))]
        np.testing.assert_allclose(out["offsets"], expected[0], atol=1e-5)
        np.testing.assert_allclose(out["probability"], expected[-1][:, 1], atol=1e-5)
        if name == "onet":
            np.testing.assert_allclose(out["landmarks"], expected[1], atol=1e-5)


def test_altered_weights_are_refused_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setitem(mtcnn.WEIGHTS_SHA256, "rnet.pt", "0" * 64)
    with pytest.raises(MissingDependencyError, match=r"rnet\.pt"):
        mtcnn.export_finder_graphs(tmp_path)
    assert not (tmp_path / "finder.json").exists()
