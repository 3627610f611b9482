"""The clip detector begins as the mean of its frames, and once trained depends on their order."""

import pytest
import torch

from deepassay.errors import ConfigError
from deepassay.models.clip_detector import ClipDetector
from deepassay.models.timm_detector import TimmDetector
from deepassay.models.weights import save_weights

SMALL = {"backbone": "mobilenetv3_small_050", "size": 32, "drop_rate": 0.0}


def clips(n: int = 2, frames: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (n, frames, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_untrained_it_is_the_frame_detector_averaged_over_the_clip(tmp_path):
    torch.manual_seed(0)
    frame = TimmDetector(**SMALL).eval()  # type: ignore[arg-type]
    save_weights(frame.state_dict(), tmp_path / "frame.safetensors")
    detector = ClipDetector(frames=4, width=16, frame_weights=str(tmp_path / "frame.safetensors"), **SMALL).eval()  # type: ignore[arg-type]
    views = clips()
    one_by_one = torch.stack([frame(clip).logit.mean() for clip in views])
    torch.testing.assert_close(detector(views).logit, one_by_one, rtol=1e-4, atol=1e-5)
    assert detector(views).aux["frame_logit"].shape == (2, 4)


def test_the_order_of_frames_counts():
    torch.manual_seed(0)
    detector = ClipDetector(frames=4, width=16, **SMALL).eval()  # type: ignore[arg-type]
    torch.nn.init.normal_(detector.classifier.weight)
    torch.nn.init.normal_(detector.position)
    views = clips()
    assert (detector(views).logit - detector(views.flip(1)).logit).abs().max() > 1e-4
    alone = torch.cat([detector(view[None]).logit for view in views])
    torch.testing.assert_close(detector(views).logit, alone, rtol=1e-4, atol=1e-4)


def test_it_learns_motion_that_no_frame_shows():
    """Both classes hold the same frames; the fakes hold them in another order."""
    torch.manual_seed(0)
    detector = ClipDetector(frames=4, width=32, temporal_drop=0.0, freeze="backbone", **SMALL)  # type: ignore[arg-type]
    moments = torch.randint(0, 256, (1, 4, 32, 32, 3), dtype=torch.uint8).expand(4, -1, -1, -1, -1)
    people = torch.randint(0, 100, (4, 1, 32, 32, 3), dtype=torch.uint8)
    views = torch.cat([moments // 2 + people, (moments // 2 + people)[:, [2, 0, 3, 1]]])
    label = torch.tensor([0.0] * 4 + [1.0] * 4)
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=2e-3)
    loss = torch.tensor(0.0)
    for _ in range(100):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(detector(views).logit, label)
        loss.backward()
        optimizer.step()
        if loss.item() < 0.2:
            break
    assert loss.item() < 0.2
    frames = detector(views).aux["frame_logit"].mean(dim=1)
    torch.testing.assert_close(
        frames[:4], frames[4:], rtol=1e-3, atol=1e-3
    )  # frame by frame there is nothing to tell them apart


def test_head_parameters_are_all_but_the_frames_body():
    detector = ClipDetector(frames=4, width=16, **SMALL)  # type: ignore[arg-type]
    head = {id(p) for p in detector.head_parameters()}
    body = [n for n, p in detector.named_parameters() if id(p) not in head]
    assert body
    assert all(n.startswith("frame.network.") and "classifier" not in n for n in body)
    adapted = ClipDetector(frames=4, width=16, lora_rank=2, **SMALL)  # type: ignore[arg-type]
    assert not [n for n in adapted.folded().state_dict() if "lora" in n]
    assert detector.folded() is detector


def test_pictures_and_clips_of_another_length_are_refused():
    detector = ClipDetector(frames=4, width=16, **SMALL)  # type: ignore[arg-type]
    for views in (clips()[:, 0], clips(frames=3)):
        with pytest.raises(ConfigError, match="takes clips of 4 frames"):
            detector(views)
    for wrong in ({"frames": 1}, {"width": 30}, {"depth": 0}):
        with pytest.raises(ConfigError):
            ClipDetector(**wrong)  # type: ignore[arg-type]
