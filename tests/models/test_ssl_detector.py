"""Speech encoders from a local folder: what is read, what learns, and what the exported graph keeps of it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.export import export_detector, parity
from deepassay.models.losses import WeightedBCE
from deepassay.models.speech_folder import encoder_from_folder
from deepassay.models.ssl_detector import SSLDetector

pytest.importorskip("transformers", reason="the train extra is not installed")
sys.path.append(str(Path(__file__).parents[1]))

from tiny_encoders import save_tiny_encoder

WINDOW = 8000
KINDS = {
    "wav2vec2": ("wav2vec2", False),
    "xlsr": ("wav2vec2", True),
    "wavlm": ("wavlm", False),
    "hubert": ("hubert", False),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    return {name: str(save_tiny_encoder(place / name, kind, large=large)) for name, (kind, large) in KINDS.items()}


def sound(n: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy((0.1 * np.random.default_rng(seed).standard_normal((n, WINDOW))).astype(np.float32))


def step(detector: SSLDetector, rate: float = 1e-2) -> None:
    optimizer = torch.optim.SGD([p for p in detector.parameters() if p.requires_grad], lr=rate)
    WeightedBCE()(detector.train()(sound()), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_of_transformers_on_sound_scaled_as_its_feature_extractor_does(folders, kind):
    import transformers

    detector = SSLDetector(folder=folders[kind], top="mean", window_samples=WINDOW).eval()
    theirs = transformers.AutoModel.from_pretrained(folders[kind]).eval()
    scale = transformers.AutoFeatureExtractor.from_pretrained(folders[kind])
    inputs = scale(list((3 * sound() + 0.1).numpy()), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = theirs(inputs).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(detector(3 * sound() + 0.1).aux["features"], expected, atol=1e-4, rtol=1e-4)


def test_scaling_follows_the_folder(tmp_path):
    loud = {}
    for normalise in (True, False):
        folder = save_tiny_encoder(tmp_path / str(normalise), normalise=normalise, large=True)
        detector = SSLDetector(folder=str(folder), window_samples=WINDOW).eval()
        with torch.no_grad():
            loud[normalise] = (detector(5 * sound()).logit - detector(sound()).logit).abs().max().item()
    assert loud[True] < 1e-3 < loud[False]


@pytest.mark.parametrize("top", ["mean", "attentive", "sls", "aasist"])
def test_a_frozen_encoder_stays_while_the_top_learns(folders, top):
    torch.manual_seed(0)
    detector = SSLDetector(folder=folders["xlsr"], tune="frozen", top=top, window_samples=WINDOW)
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    step(detector)
    after = detector.state_dict()
    moved = {k for k, v in before.items() if not torch.equal(v, after[k])}
    assert moved
    assert not any(k.startswith("encoder.") for k in moved)
    assert {k for k, _ in detector.classifier.named_parameters(prefix="classifier")} <= moved
    assert not detector.encoder.training
    assert all(p.grad is not None for p in detector.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", KINDS)
def test_every_adapter_learns_and_nothing_else_of_the_encoder(folders, kind):
    torch.manual_seed(0)
    detector = SSLDetector(folder=folders[kind], tune="lora", top="mean", lora_rank=2, window_samples=WINDOW)
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    step(detector, rate=1.0)
    moved = {k for k, v in detector.state_dict().items() if not torch.equal(v, before[k]) and k.startswith("encoder.")}
    assert {k for k in before if "lora_B" in k} == moved  # A follows once B is no longer zero


def test_adapters_that_wavlm_would_pass_by_are_refused(folders):
    with pytest.raises(ConfigError, match="pass the adapters by"):
        SSLDetector(folder=folders["wavlm"], tune="lora", lora_targets=["q_proj"], window_samples=WINDOW)


@pytest.mark.parametrize("kind", KINDS)
def test_full_tuning_reaches_every_trainable_weight(folders, kind):
    torch.manual_seed(0)
    detector = SSLDetector(folder=folders[kind], tune="full", top="mean", window_samples=WINDOW)
    step(detector)
    idle = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert any(p.requires_grad for p in detector.encoder.parameters())
    assert len(detector.head_parameters()) < len(list(detector.parameters()))


@pytest.mark.parametrize(
    ("kind", "tune", "top"),
    [
        ("wav2vec2", "lora", "sls"),
        pytest.param("xlsr", "full", "aasist", marks=pytest.mark.full),
        pytest.param("wavlm", "lora", "attentive", marks=pytest.mark.full),
        pytest.param("hubert", "frozen", "mean", marks=pytest.mark.full),
    ],
)
def test_the_graph_equals_the_network_and_has_no_adapters(folders, kind, tune, top, tmp_path):
    import onnx

    torch.manual_seed(0)
    detector = SSLDetector(folder=folders[kind], tune=tune, top=top, window_samples=WINDOW)
    for _ in range(3):
        step(detector, rate=0.1)
    path = export_detector(detector, tmp_path / "d.onnx", (WINDOW,))
    report = parity(detector, path, {"real": sound().numpy()})
    assert report.passed, report.worst
    assert {case.n for case in report.cases} >= {1, 2, 4, 5}
    names = " ".join(w.name for w in onnx.load(path).graph.initializer)
    assert "lora" not in names


def test_randomness_beside_dropout_is_off_and_truncation_counts(folders):
    found = encoder_from_folder(folders["xlsr"], layers=2)
    assert found.layers == 2
    assert not found.network.config.apply_spec_augment
    assert found.network.config.layerdrop == 0
    detector = SSLDetector(folder=folders["xlsr"], layers=1, top="sls", window_samples=WINDOW).eval()
    assert len(detector.encoder.encoder.layers) == 1
    assert detector.weight_origin[0].startswith("wav2vec2 encoder")


def test_folders_that_will_not_do_say_what_to_do(folders, tmp_path):
    with pytest.raises(MissingDependencyError, match=r"no speech encoder there[\s\S]*hint: download"):
        SSLDetector(folder=str(tmp_path / "nowhere"))
    config = json.loads((Path(folders["wav2vec2"]) / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MissingDependencyError, match=r"model\.safetensors is not"):  # never random in silence
        SSLDetector(folder=str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ConfigError, match="pickled weights only"):
        SSLDetector(folder=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(ConfigError, match="model_type is 'bert'"):
        SSLDetector(folder=str(tmp_path))


def test_weights_of_another_shape_or_with_holes_are_refused(folders, tmp_path):
    from deepassay.models.weights import read_weights, save_weights

    source = Path(folders["wav2vec2"])
    state = read_weights(source / "model.safetensors")
    state.pop(next(k for k in state if "layers.1" in k))
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    save_weights(state, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="1 tensors of the encoder are missing"):
        SSLDetector(folder=str(tmp_path), window_samples=WINDOW)


@pytest.mark.parametrize(
    "wrong", [{"tune": "half"}, {"top": "max"}, {"layers": 9}, {"drop_rate": 1}, {"window_samples": 100},
              {"head": "softmax"}], ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(folders, wrong):
    with pytest.raises(ConfigError, match="hint"):
        SSLDetector(folder=folders["wav2vec2"], **{"window_samples": WINDOW, **wrong})
