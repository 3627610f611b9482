"""What each face detector costs: parameters, and milliseconds per view on one core, in training and as a graph."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepassay.cli import config_root
from deepassay.export import export_detector, onnx_predictor
from deepassay.models.detector import Detector, count_parameters
from deepassay.models.losses import WeightedBCE
from deepassay.pipelines.build import build


def composed(option: str, overrides: list[str]) -> dict[str, Any]:
    """A detector option as Hydra puts it together, from random weights."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(config_root()), version_base="1.3"):
        config = compose(config_name="train", overrides=[f"detector={option}", "detector.pretrained=none", *overrides])
    return OmegaConf.to_container(config.detector, resolve=False)  # type: ignore[return-value]


def milliseconds(call: Any, views: int, repeats: int) -> float:
    """Processor time per view, best of some repeats: on one thread it is the wall time of a core without other work."""
    call()
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return 1e3 * best / views


def cost(option: str, size: int, batch: int, repeats: int) -> dict[str, Any]:
    """Parameters, and milliseconds per view: a training step and the exported graph."""
    torch.manual_seed(0)
    detector: Detector = build(composed(option, [f"detector.size={size}"]))
    frames = getattr(detector, "frames", 0)
    shape = (*((frames,) if frames else ()), size, size, 3)
    views = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8)
    label, loss = torch.arange(batch) % 2, WeightedBCE()
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=1e-5)
    detector.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step() -> None:
        optimizer.zero_grad()
        loss(detector(views), label).backward()
        optimizer.step()

    out: dict[str, Any] = {
        "detector": option, "size": size, "frames": frames, "parameters": sum(p.numel() for p in detector.parameters()),
        "trainable": count_parameters(detector), "train_ms_per_view": round(milliseconds(step, batch, repeats), 1),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        predict = onnx_predictor(export_detector(detector, Path(place) / "d.onnx", shape))
        data = views.numpy()
        out["graph_ms_per_view"] = round(milliseconds(lambda: predict(np.ascontiguousarray(data)), batch, repeats), 1)
        out["graph_mb"] = round((Path(place) / "d.onnx").stat().st_size / 1e6, 1)
    return out


def main() -> None:
    """Print one JSON line per detector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("detectors", nargs="+", help="options of configs/detector")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for option in options.detectors:
        print(json.dumps(cost(option, options.size, options.batch, options.repeats)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
