"""Weights: the pinned ImageNet pickle means what it says, safetensors come back, misfits are refused."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.models import weights
from deepassay.models.frontends import Pixels
from deepassay.models.weights import LITE0_MEAN, LITE0_STD, lite0_state, load_weights, read_weights, save_weights


@pytest.fixture(scope="module")
def imagenet():
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    network.load_state_dict(lite0_state(network))
    return network.eval()


def photograph(name: str) -> torch.Tensor:
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    from PIL import Image

    path = Path(sklearn_datasets.__file__).parent / "images" / name
    with Image.open(path) as picture:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        crop = picture.convert("RGB").crop((left, top, left + side, top + side))
        return torch.from_numpy(np.array(crop.resize((224, 224), Image.Resampling.BICUBIC)))[None]


@pytest.mark.parametrize(("name", "classes"), [("china.jpg", {698, 442, 663}), ("flower.jpg", {985})])
def test_the_mapped_network_knows_photographs(imagenet, name, classes):
    """A temple is a palace, bell cote or monastery, a flower is a daisy, among 1,000 ImageNet classes."""
    pixels = Pixels(mean=LITE0_MEAN, std=LITE0_STD)
    with torch.no_grad():
        logits = imagenet(pixels(photograph(name)))[0]
    assert int(logits.argmax()) in classes


def test_every_tensor_of_the_wheel_is_placed_once(imagenet):
    source = torch.load(weights.lite0_file(), weights_only=True, map_location="cpu")
    placed = list(imagenet.state_dict().values())
    assert len(placed) == len(source) == 296
    for theirs, ours in zip(source.values(), placed, strict=True):
        assert torch.equal(theirs, ours)


def test_an_altered_pickle_is_never_opened(monkeypatch):
    monkeypatch.setattr(weights, "LITE0_SHA256", "0" * 64)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(MissingDependencyError, match="not the pinned file"):
        lite0_state(timm.create_model("tf_efficientnet_lite0", num_classes=1000))


def test_another_architecture_is_refused():
    with pytest.raises(ConfigError, match="296 tensors"):
        lite0_state(timm.create_model("mobilenetv3_small_050", num_classes=1000))


def test_safetensors_come_back_and_misfits_are_named(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    save_weights(network.state_dict(), tmp_path / "w.safetensors", {"epoch": 3})
    for name, value in read_weights(tmp_path / "w.safetensors").items():
        assert torch.equal(value, network.state_dict()[name])
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other[0].weight, network[0].weight)
    deeper = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    with pytest.raises(ConfigError, match=r"missing \['2.bias'"):
        load_weights(deeper, tmp_path / "w.safetensors")
    wider = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    with pytest.raises(ConfigError, match="other shape"):
        load_weights(wider, tmp_path / "w.safetensors")


def test_what_is_not_safetensors_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="pickles are not read"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="no such weights"):
        read_weights(tmp_path / "none.safetensors")
