"""Maps show what the logit rests on, and deletion and insertion can tell a good map from chance."""

import numpy as np
import pytest
import timm
import torch

from deepassay.errors import ConfigError
from deepassay.labels import FAKE, REAL
from deepassay.models.clip_detector import ClipDetector
from deepassay.models.explain import REFERENCES, Explainer, blurred, faithfulness, reference_maps
from deepassay.models.lcnn import LCNN
from deepassay.models.losses import MaskedBCE
from deepassay.models.timm_detector import TimmDetector


def views(n: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 160, (n, size, size, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained() -> tuple[TimmDetector, np.ndarray, np.ndarray]:
    """A detector that has learned that fakes have a bright square in one corner; fakes, and where their square is."""
    torch.manual_seed(0)
    detector = TimmDetector(backbone="mobilenetv3_small_050", size=64, drop_rate=0.0, mask_head=8)
    data, where = views(32), np.zeros((32, 64, 64), np.float32)
    for i in range(1, 32, 2):
        row, column = divmod((i // 2) % 4, 2)
        where[i, 32 * row + 4 : 32 * row + 28, 32 * column + 4 : 32 * column + 28] = 1
    data[where > 0] += 80
    label = torch.tensor([0, 1] * 16)
    optimizer, loss = torch.optim.AdamW(detector.parameters(), lr=5e-3), MaskedBCE()
    detector.train()
    for _ in range(40):
        optimizer.zero_grad()
        loss(detector(torch.from_numpy(data)), label, mask=torch.from_numpy(where)).backward()
        optimizer.step()
    return detector, data[1::2], where[1::2]


def test_after_average_pooling_grad_cam_is_the_class_activation_map():
    """With one linear layer after the mean over places, the weights are the classifier's (Zhou et al., CVPR 2016)."""
    torch.manual_seed(0)
    detector = TimmDetector(backbone="tf_efficientnet_lite0", size=96, drop_rate=0.0).eval()
    data = views(3, 96)
    found = Explainer(detector).maps("grad_cam", data)
    with torch.no_grad():
        maps = detector.network.forward_features(detector.pixels(torch.from_numpy(data)))  # type: ignore[operator]
        weights = detector.network.classifier.weight[0]  # type: ignore[union-attr]
        cam = torch.relu(torch.einsum("nchw,c->nhw", maps, weights))  # type: ignore[arg-type]
        large = torch.nn.functional.interpolate(cam[:, None], size=(96, 96), mode="bilinear")[:, 0]
        expected = large / large.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert found.max() == 1


def test_maps_point_at_what_was_learned(trained):
    detector, data, where = trained
    explainer = Explainer(detector)
    assert explainer.methods == ("grad_cam", "mask_head")
    assert (explainer.logits(data) > 0).all()
    for method in explainer.methods:
        maps = explainer.maps(method, data)
        assert maps.shape == (16, 64, 64)
        inside = np.array([m[w > 0].mean() for m, w in zip(maps, where, strict=True)])
        outside = np.array([m[w == 0].mean() for m, w in zip(maps, where, strict=True)])
        assert (inside > outside).mean() >= 0.75, method
        if method == "mask_head":  # Grad-CAM has 2 x 2 places here
            assert inside.mean() > 1.3 * outside.mean()


def test_a_good_map_is_more_faithful_than_chance_and_its_opposite_less(trained):
    detector, data, where = trained
    explainer = Explainer(detector)
    right = [faithfulness(explainer.logits, v, w, steps=8) for v, w in zip(data, where, strict=True)]
    wrong = [faithfulness(explainer.logits, v, -w, steps=8) for v, w in zip(data, where, strict=True)]
    chance = [
        faithfulness(explainer.logits, v, m, steps=8) for v, m in zip(data, reference_maps("random", data), strict=True)
    ]
    assert np.mean([f.deletion for f in right]) < np.mean([f.deletion for f in chance])
    assert np.mean([f.deletion for f in chance]) < np.mean([f.deletion for f in wrong])
    assert np.mean([f.insertion for f in right]) > np.mean([f.insertion for f in chance])


def test_curves_begin_and_end_where_they_must(trained):
    detector, data, where = trained
    explainer = Explainer(detector)
    found = faithfulness(explainer.logits, data[0], where[0], steps=4)
    grey = np.broadcast_to(data[0].reshape(-1, 3).mean(0).round().astype(np.uint8), data[0].shape)
    ends = 1 / (1 + np.exp(-explainer.logits(np.stack([data[0], grey, blurred(data[0])]))))
    np.testing.assert_allclose(found.deletion_curve[[0, -1]], ends[:2], atol=1e-5)
    np.testing.assert_allclose(found.insertion_curve[[0, -1]], ends[[2, 0]], atol=1e-5)
    assert len(found.deletion_curve) == 5
    assert found.deletion == pytest.approx(np.trapezoid(found.deletion_curve, dx=0.25))


def test_deletion_of_a_known_function_is_computed_as_written():
    """A score of the pixels' sum: taking the bright ones first halves it sooner."""
    view = np.zeros((4, 4, 3), np.uint8)
    view[0] = 200

    def predict(data: np.ndarray) -> np.ndarray:
        bright = (data[..., 0].reshape(len(data), -1) > 150).mean(1)
        return np.where(bright > 0, 50.0, -50.0)

    first, last = np.zeros((4, 4)), np.ones((4, 4))
    first[0], last[0] = 1, 0
    assert faithfulness(predict, view, first, steps=4).deletion_curve.tolist() == pytest.approx([1, 0, 0, 0, 0])
    assert faithfulness(predict, view, last, steps=4).deletion_curve.tolist() == pytest.approx([1, 1, 1, 1, 0])
    assert faithfulness(predict, view, first, steps=4).deletion == pytest.approx(0.125)
    with pytest.raises(ValueError, match="importance"):
        faithfulness(predict, view, np.zeros((2, 2)))


def test_frozen_networks_transformers_and_clips_can_be_looked_into():
    torch.manual_seed(0)
    for detector, data in (
        (TimmDetector(backbone="mobilenetv3_small_050", size=64, freeze="backbone"), views(2)),
        (TimmDetector(backbone="vit_tiny_patch16_224", size=64, lora_rank=2), views(2)),
        (
            ClipDetector(backbone="mobilenetv3_small_050", size=64, frames=3, width=16),
            views(6).reshape(2, 3, 64, 64, 3),
        ),
    ):
        explainer = Explainer(detector)
        toward = explainer.maps("grad_cam", data), explainer.maps("grad_cam", data, toward=REAL)
        for maps in toward:
            assert maps.shape == data.shape[:-1]
            assert maps.min() >= 0
            assert maps.max() <= 1
        assert not np.allclose(*toward)
        assert not any(m._forward_hooks for m in detector.modules()), "nothing is left hanging on the network"
        again = explainer.maps("grad_cam", data[:1])
        np.testing.assert_allclose(again[0], toward[0][0], atol=1e-4)


def test_every_backbone_with_an_option_shows_maps():
    for name in ("legacy_xception", "convnext_atto", "test_vit", "swin_tiny_patch4_window7_224"):
        size = 160 if name == "test_vit" else 224 if name.startswith("swin") else 96
        detector = TimmDetector(backbone=name, size=size)
        assert Explainer(detector).maps("grad_cam", views(1, size)).shape == (1, size, size)
    assert timm.is_model("swin_tiny_patch4_window7_224")


def test_references_know_nothing_of_the_detector_and_repeat():
    data = views(3)
    for method in REFERENCES:
        maps = reference_maps(method, data)
        assert maps.shape == (3, 64, 64)
        np.testing.assert_array_equal(maps, reference_maps(method, data))
    noise = reference_maps("random", data)
    assert not np.allclose(noise[0], noise[1])
    centre = reference_maps("centre", data)[0]
    assert centre[32, 32] > 0.99 > centre[0, 0]


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(ConfigError, match="timeline"):
        Explainer(LCNN(width=0.125))
    plain = Explainer(TimmDetector(backbone="mobilenetv3_small_050", size=64))
    with pytest.raises(ConfigError, match="does not offer 'mask_head'"):
        plain.maps("mask_head", views(1))
    with_head = Explainer(TimmDetector(backbone="mobilenetv3_small_050", size=64, mask_head=4))
    with pytest.raises(ConfigError, match="fake only"):
        with_head.maps("mask_head", views(1), toward=REAL)
    assert FAKE == 1
