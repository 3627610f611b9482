"""AASIST with the published weights gives the published logits, in torch and as exported, read our way round."""

import shutil

import numpy as np
import pytest
import torch

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.export import export_detector, onnx_predictor
from deepassay.models import aasist
from deepassay.models.aasist import AASIST, published_safetensors, renamed
from deepassay.models.detector import count_parameters
from deepassay.models.weights import load_weights, save_weights

SIZES = {"AASIST": "base", "AASIST-L": "light"}
published = pytest.mark.parametrize("name", SIZES)
exported = pytest.mark.parametrize("name", [pytest.param("AASIST", marks=pytest.mark.full), "AASIST-L"])


@pytest.fixture(scope="module")
def golden(shared):
    return dict(np.load(shared / "golden" / "aasist_logits.npz", allow_pickle=False))


@pytest.fixture(scope="module")
def load(shared, tmp_path_factory):
    """A detector with published weights; the converted copy goes to a folder of the test."""
    cache = tmp_path_factory.mktemp("cache")

    def build(name: str, **more) -> AASIST:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEEPASSAY_CACHE", str(cache))
            return AASIST(size=SIZES[name], weights=str(shared / "data" / "models" / f"{name}.pth"), **more).eval()

    return build


def polarity_holds(logit: np.ndarray, theirs: np.ndarray) -> bool:
    """Ours is fake minus bona fide, and their column 1 is bona fide."""
    return bool(np.abs(logit - (theirs[:, 0] - theirs[:, 1])).max() < 2e-4)


def smallest_weight(detector: AASIST) -> float:
    return min(float(v.abs()[v != 0].min()) for v in detector.state_dict().values() if (v != 0).any())


@published
def test_published_weights_give_the_published_logits(golden, load, name):
    detector = load(name)
    with torch.no_grad():
        output = detector(torch.from_numpy(golden["waveforms"]))
    theirs = golden[f"{name}_logits"]
    np.testing.assert_allclose(output.aux["classes"].numpy(), theirs, atol=1e-4)
    np.testing.assert_allclose(output.aux["features"].numpy(), golden[f"{name}_embedding"], atol=1e-4)
    assert polarity_holds(output.logit.numpy(), theirs)
    assert not polarity_holds(output.logit.numpy(), theirs[:, ::-1])  # swapped columns must show
    assert detector.weight_origin == ("aasist", "")


@exported
def test_the_exported_graph_gives_them_too(golden, load, name, tmp_path):
    predict = onnx_predictor(export_detector(load(name), tmp_path / "d.onnx", (64_600,)))
    theirs = golden[f"{name}_logits"]
    together = predict(golden["waveforms"])
    np.testing.assert_allclose(together, theirs[:, 0] - theirs[:, 1], atol=1e-4)
    alone = np.concatenate([predict(golden["waveforms"][i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(alone, together, atol=1e-4)


@published
def test_the_form_that_ships_is_the_same_function(golden, load, name):
    detector = load(name)
    shipped = detector.folded()
    assert shipped.pieces > 1
    assert detector.pieces == 1
    with torch.no_grad():
        sound = torch.from_numpy(golden["waveforms"])
        torch.testing.assert_close(shipped(sound).logit, detector(sound).logit, atol=1e-4, rtol=0)
    # No subnormal numbers are left to slow a processor down; the file has them.
    assert smallest_weight(shipped) > 1e-30
    assert smallest_weight(detector) < 1e-37


@pytest.mark.parametrize("window", [6000, 8000, 16_001])
@pytest.mark.parametrize("pieces", [2, 3])
def test_an_encoder_in_pieces_equals_the_whole_to_its_last_step(window, pieces):
    torch.manual_seed(0)
    detector = AASIST(size="light", window_samples=window).eval()
    sound = torch.randn(2, window)
    with torch.no_grad():
        whole = detector.encode(sound)
        detector.pieces = pieces
        torch.testing.assert_close(detector.encode(sound), whole, atol=1e-5, rtol=1e-5)
        detector.train()
        assert detector.encode(sound).shape == whole.shape  # training normalises by the batch: never in pieces


def test_every_published_tensor_has_its_place(shared):
    for name, size in SIZES.items():
        state = torch.load(shared / "data" / "models" / f"{name}.pth", map_location="cpu", weights_only=True)
        placed = renamed(state)
        detector = AASIST(size=size)
        assert {k: v.shape for k, v in placed.items()} == {k: v.shape for k, v in detector.state_dict().items()}
        unused = [k for k in state if ".bn1." in k]
        assert len(placed) == len(state) - len(unused)
        trainable = sum(state[k].numel() for k in unused if k.endswith(("weight", "bias")))
        assert count_parameters(detector) + trainable == {"base": 297_866, "light": 85_306}[size]


def test_only_the_pinned_pickles_are_opened(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPASSAY_CACHE", str(tmp_path / "cache"))
    altered = tmp_path / "AASIST.pth"
    altered.write_bytes((shared / "data" / "models" / "AASIST.pth").read_bytes() + b"\0")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened"))
    with pytest.raises(ConfigError, match="not that of the published"):
        AASIST(weights=str(altered))
    with pytest.raises(MissingDependencyError, match="clovaai/aasist"):
        AASIST(weights=str(tmp_path / "none.pth"))


def test_the_pickle_is_converted_once(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPASSAY_CACHE", str(tmp_path / "cache"))
    pickle = tmp_path / "any name.pth"
    shutil.copy(shared / "data" / "models" / "AASIST-L.pth", pickle)
    first = published_safetensors(pickle)
    assert first.parent == tmp_path / "cache" / "weights"
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened again"))
    assert published_safetensors(pickle) == first
    assert AASIST(size="light", weights=str(first)).weight_origin == ("aasist", "")
    with pytest.raises(ConfigError, match="does not fit"):
        AASIST(size="base", weights=str(first))


def test_a_new_head_keeps_the_published_body(load):
    plain, other = load("AASIST-L"), load("AASIST-L", head="one_class")
    for name, value in plain.graphs.state_dict().items():
        assert torch.equal(value, other.graphs.state_dict()[name])
    assert len(other.head_parameters()) == 1
    assert other(torch.zeros(1, 64_600)).aux["cosines"].shape == (1, 1)


def test_ones_own_weights_come_back_and_say_no_more_than_is_known(tmp_path):
    torch.manual_seed(1)
    one = AASIST(size="light", window_samples=8000)
    save_weights(one.state_dict(), tmp_path / "w.safetensors")
    two = AASIST(size="light", window_samples=8000, weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(one.sinc.get_buffer("kernels"), two.sinc.get_buffer("kernels"))
    assert torch.equal(one.graphs.place, two.graphs.place)
    assert two.weight_origin == ("AASIST weights file", "not stated")
    load_weights(AASIST(size="light"), tmp_path / "w.safetensors")  # weights do not depend on the window


@pytest.mark.parametrize(
    "wrong", [{"size": "huge"}, {"head": "softmax"}, {"window_samples": 3000}, {"drop_factor": 3}], ids=str
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="hint"):
        AASIST(**wrong)
    with pytest.raises(ConfigError, match="windows of 64600"):
        AASIST(size="light")(torch.zeros(1, 8000))


def test_hashes_agree_with_the_ledger():
    from deepassay.corpora.ledger import LEDGER

    assert set(aasist.PUBLISHED) == set(LEDGER["aasist"].files.values())
