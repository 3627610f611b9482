"""Adapters change nothing before training, learn alone, and folded in they leave the same function and plain layers."""

import pytest
import torch
from torch import nn

from deepassay.errors import ConfigError
from deepassay.models.detector import count_parameters
from deepassay.models.lora import adaptable, attach, fold
from deepassay.models.timm_detector import TimmDetector


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 6, 1, groups=6))
        self.proj = nn.Linear(6, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.proj(self.body(x).mean(dim=(2, 3))))


def test_linear_and_pointwise_layers_can_be_adapted_and_nothing_else():
    assert adaptable(Small(), without=("head",)) == ["body.1", "proj"]
    assert adaptable(Small()) == ["body.1", "proj", "head"]


def test_adapters_start_as_nothing_learn_alone_and_fold_to_the_same_function():
    torch.manual_seed(0)
    network, x = Small().eval(), torch.randn(4, 3, 9, 9)
    before = network(x)
    names = list(network.state_dict())
    assert attach(network, rank=2, without=("head",)) == ["body.1", "proj"]
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)
    learning = [name for name, p in network.named_parameters() if p.requires_grad]
    assert sorted({n.split(".")[0] for n in learning}) == ["body", "head", "proj"]
    assert all("lora_" in n or n.startswith("head") for n in learning)
    assert count_parameters(network) == 2 * (8 + 6) + 2 * (6 + 5) + 6
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()
    trained = network(x)
    assert (trained - before).abs().max() > 1e-3, "they have learned something to be folded in"
    assert fold(network) == 2
    torch.testing.assert_close(network(x), trained)
    assert list(network.state_dict()) == names
    assert fold(network) == 0


def test_layers_can_be_chosen_by_the_end_of_their_name():
    assert attach(Small(), rank=1, targets=["proj"]) == ["proj"]
    with pytest.raises(ConfigError, match="no layer's name ends in"):
        attach(Small(), rank=1, targets=["roj"])
    for wrong in ({"rank": 0}, {"rank": 2, "dropout": 1.0}, {"rank": 2, "alpha": 0.0}):
        with pytest.raises(ConfigError):
            attach(Small(), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no linear"):
        attach(nn.Sequential(nn.ReLU()), rank=1)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_a_detector_learns_by_adapters_alone_and_ships_without_them(backbone):
    torch.manual_seed(0)
    detector = TimmDetector(backbone=backbone, size=32, lora_rank=2, drop_rate=0.0)
    views = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    frozen = {n: p.clone() for n, p in detector.named_parameters() if not p.requires_grad}
    statistics = {n: b.clone() for n, b in detector.named_buffers() if "running" in n}
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=1e-2)
    detector.train()
    for _ in range(3):
        optimizer.zero_grad()
        (detector(views).logit * torch.tensor([1.0, -1, 1, -1])).sum().backward()
        optimizer.step()
    assert all(torch.equal(p, frozen[n]) for n, p in detector.named_parameters() if n in frozen)
    assert all(torch.equal(b, statistics[n]) for n, b in detector.named_buffers() if n in statistics)
    detector.eval()
    folded = detector.folded()
    torch.testing.assert_close(folded(views).logit, detector(views).logit, rtol=1e-4, atol=1e-4)
    assert not [n for n in folded.state_dict() if "lora" in n]
    assert [n for n in detector.state_dict() if "lora" in n], "the detector itself keeps them, and may go on learning"
    plain = TimmDetector(backbone=backbone, size=32, drop_rate=0.0)
    plain.load_state_dict(folded.state_dict())
    assert plain.folded() is plain
    with pytest.raises(ConfigError, match="adapters freeze"):
        TimmDetector(backbone=backbone, size=32, lora_rank=2, freeze="norm")
