"""The mask head and the residual branch against the filters' definition and what a user would see of them."""

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from deepassay.errors import ConfigError
from deepassay.models.detector import DetectorOutput
from deepassay.models.face_branches import SRM_DIVISORS, SRM_KERNELS, ResidualBranch, SrmResiduals
from deepassay.models.losses import MaskedBCE
from deepassay.models.timm_detector import TimmDetector


def test_residuals_are_the_filters_of_the_paper_cut_off_at_the_limit():
    picture = np.random.default_rng(0).integers(120, 136, (16, 20, 3)).astype(np.uint8)
    found = SrmResiduals(limit=4)(torch.from_numpy(picture[None]))[0].numpy()
    assert found.shape == (9, 16, 20)
    for colour in range(3):
        for j, (kernel, divisor) in enumerate(zip(SRM_KERNELS, SRM_DIVISORS, strict=True)):
            raw = correlate2d(picture[..., colour].astype(float), np.array(kernel), mode="valid") / divisor
            np.testing.assert_allclose(found[3 * colour + j, 2:-2, 2:-2], raw.clip(-4, 4) / 4, atol=1e-6)
    assert np.abs(found).max() == 1, "something was cut off, or the limit was not tested"


@pytest.mark.parametrize("value", [0, 127, 255])
def test_what_is_constant_or_a_slope_leaves_no_residual(value):
    flat = torch.full((1, 12, 12, 3), value, dtype=torch.uint8)
    assert not SrmResiduals()(flat).any()
    slope = (10 * torch.arange(12, dtype=torch.uint8)).view(1, 1, 12, 1).expand(1, 12, 12, 3)
    assert not SrmResiduals()(slope)[..., 2:-2].any()


def test_kernels_sum_to_zero():
    assert [sum(map(sum, kernel)) for kernel in SRM_KERNELS] == [0, 0, 0]
    assert not list(SrmResiduals().parameters())
    assert not SrmResiduals().state_dict(), "fixed filters are rebuilt, not stored"


def test_the_branch_sees_noise_that_the_backbone_is_not_told_of():
    torch.manual_seed(0)
    detector = TimmDetector(backbone="mobilenetv3_small_050", size=64, residual="srm", drop_rate=0.0)
    assert isinstance(detector.residual, ResidualBranch)
    views = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    output = detector(views)
    assert output.aux["features"].shape == (4, detector.feature_width) == (4, 1024 + 64)
    output.logit.sum().backward()
    assert all(p.grad is not None for p in detector.residual.parameters())
    frozen = TimmDetector(backbone="mobilenetv3_small_050", size=64, residual="srm", freeze="backbone")
    learning = {n.split(".")[0] for n, p in frozen.named_parameters() if p.requires_grad}
    assert learning == {"network", "residual", "residual_classifier"}
    assert {id(p) for p in frozen.head_parameters()} == {id(p) for p in frozen.parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("backbone", "stride", "side"),
    [("mobilenetv3_small_050", 16, 4), ("mobilenetv3_small_050", 8, 8), ("vit_tiny_patch16_224", 16, 4)],
)
def test_the_mask_head_maps_at_its_stride_and_does_not_touch_the_logit(backbone, stride, side):
    torch.manual_seed(0)
    with_head = TimmDetector(backbone=backbone, size=64, mask_head=8, mask_stride=stride, drop_rate=0.0).eval()
    torch.manual_seed(0)
    without = TimmDetector(backbone=backbone, size=64, drop_rate=0.0).eval()
    views = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    output = with_head(views)
    assert output.aux["mask"].shape == (2, side, side)
    torch.testing.assert_close(output.logit, without(views).logit)


def test_a_mask_head_learns_where():
    torch.manual_seed(0)
    detector = TimmDetector(backbone="mobilenetv3_small_050", size=64, mask_head=8, mask_stride=8, drop_rate=0.0)
    views = torch.randint(96, 160, (8, 64, 64, 3), dtype=torch.uint8)
    mask = torch.zeros(8, 64, 64)
    label = torch.tensor([0, 1] * 4)
    for i in range(1, 8, 2):
        side = slice(32, 64) if i % 4 == 1 else slice(0, 32)
        mask[i, :, side] = 1
        views[i, :, side] += 60
    optimizer, loss = torch.optim.AdamW(detector.parameters(), lr=1e-2), MaskedBCE()
    detector.train()
    for _ in range(40):
        optimizer.zero_grad()
        loss(detector(views), label, mask=mask).backward()
        optimizer.step()
    found = detector(views).aux["mask"].sigmoid()
    assert isinstance(detector(views), DetectorOutput)
    wanted = torch.nn.functional.adaptive_avg_pool2d(mask.unsqueeze(1), found.shape[-2:]).squeeze(1)
    assert found[wanted == 1].mean() > 0.8
    assert found[wanted == 0].mean() < 0.2


def test_options_that_do_not_exist_are_refused():
    for wrong in ({"residual": "fft"}, {"mask_head": -1}, {"mask_head": 8, "mask_stride": 1}):
        with pytest.raises(ConfigError):
            TimmDetector(backbone="mobilenetv3_small_050", size=64, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no feature map of stride 8 or less.*\n.*finest has stride 16"):
        TimmDetector(backbone="vit_tiny_patch16_224", size=32, mask_head=8, mask_stride=8)
