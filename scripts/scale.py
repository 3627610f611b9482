"""docs/scale.md from measured costs: what FF++, DFDC and ASVspoof 5 take on GPUs and CPU nodes, and where it sticks.

    python scripts/scale.py measure    # costs of one unit on one core of this machine -> docs/scale.costs.json (minutes)
    python scripts/scale.py write      # the tables of docs/scale.md from that file and the assumptions below
    python scripts/scale.py check      # exit 1 where docs/scale.md is not what `write` would write

To replace the assumption about GPUs by a measurement, run `scripts/benchmark_training.py --device cuda` and put its
samples per second into docs/scale.costs.json as "gpu_views_per_s": {"efficientnet_b4": ..., "aasist": ...}.
"""  # noqa: E501

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COSTS, PAGE = ROOT / "docs" / "scale.costs.json", ROOT / "docs" / "scale.md"
BEGIN, END = (
    "<!-- made by scripts/scale.py: do not edit between these lines -->",
    "<!-- end of what scripts/scale.py made -->",
)
GPUS, NODES = (1, 8, 64), (1, 10, 100)
EPOCHS = 15


@dataclass(frozen=True)
class Corpus:
    """How much there is of a corpus; counts are published, lengths where they are not are assumed."""

    name: str
    modality: str
    detector: str
    files: int
    train: float  # share of the files in training
    seconds: float  # mean length
    pixels: float  # of a frame, in those of 1280 x 720
    views: int  # kept per file
    draws: int  # views per training file and epoch
    dev: float  # share of the files in dev
    note: str


CORPORA = (
    Corpus("FaceForensics++ c23", "face", "efficientnet_b4", 6000, 0.72, 18.0, 1.0, 16, 16, 0.14,
           "1,000 originals and five methods of 1,000 (Rossler et al., ICCV 2019, with FaceShifter); 18 s a video and "
           "720p assumed"),
    Corpus("DFDC", "face", "efficientnet_b4", 128_154, 0.93, 10.0, 2.25, 16, 16, 0.031,
           "128,154 clips of 10 s (arXiv 2006.07397); 1080p assumed throughout"),
    Corpus("ASVspoof 5", "voice", "aasist", 1_006_363, 0.181, 10.0, 0.0, 5, 1, 0.141,
           "182,357 + 142,134 + 681,872 files (Wang et al., 2024); 10 s a file assumed"),
)  # fmt: skip


@dataclass(frozen=True)
class Assumptions:
    """What was not measured here. Change them, run `write`, and see what follows."""

    node_cores: int = 32
    core_speed: float = 1.0  # of a node's core, in those of the machine that was measured
    spread: float = 0.9  # of perfect, when files are spread over nodes by shard
    start_s: float = 60.0  # until a job's processes work: queue, imports, opening the store
    gpu_tflops: float = 40.0  # sustained in bf16 by these networks on an H100-class GPU (4 % of its peak)
    gpus_per_node: int = 8
    loader_cores: int = 12  # per GPU
    ddp: tuple[tuple[int, float], ...] = ((1, 1.0), (8, 0.95), (64, 0.85))
    local_gb_s: float = 3.0  # a node's NVMe disk
    remote_gb_s: float = 1.2  # a node's share of an object store, 10 GbE


# --- measuring --------------------------------------------------------------------------------------------------------


def timed(action: Callable[[], Any], least_s: float = 3.0) -> float:
    """Seconds of one call, the median of as many as fit into a few seconds."""
    action()
    times: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < least_s or len(times) < 3:
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return sorted(times)[len(times) // 2]


def measure(clip_s: float) -> dict[str, Any]:
    """Costs per unit, in seconds of one core (CPU time: others may use the machine)."""
    import numpy as np
    import soundfile
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from deepassay.augment.face import FaceAugment
    from deepassay.augment.voice import VoiceAugment
    from deepassay.modality.voice import VoiceModality
    from deepassay.models.aasist import AASIST
    from deepassay.models.timm_detector import TimmDetector

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    out: dict[str, Any] = {"clip_of_10_s_720p_to_views": clip_s}
    with tempfile.TemporaryDirectory() as name:
        t = np.arange(160_000) / 16000
        sound = 0.3 * np.sin(2 * np.pi * 220 * t) * (np.sin(2 * np.pi * 3 * t) > -0.5) + rng.normal(0, 0.01, t.size)
        path = Path(name) / "ten.flac"
        soundfile.write(path, sound.astype(np.float32), 16000)
        voice = VoiceModality()
        out["sound_of_10_s_to_views"] = timed(lambda: voice.prepare(path))
        prepared = voice.prepare(path)
        out["bytes_per_10_s_of_sound"] = int(prepared.data.nbytes)
        window = voice.draw(prepared, 1).data
    face = rng.integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    out["bytes_per_face_view"] = int(face.nbytes)
    out["augment_face_view"] = timed(lambda: FaceAugment()(face, rng))
    out["augment_voice_window"] = timed(lambda: VoiceAugment()(window, rng))
    networks = {
        "efficientnet_b4": (TimmDetector(backbone="efficientnet_b4", size=224), torch.from_numpy(face)),
        "aasist": (AASIST(), torch.from_numpy(np.ascontiguousarray(window))),
    }
    for word, (network, one) in networks.items():
        batch = one.repeat(2, *[1] * (one.ndim - 1))

        def learn(network: Any = network, batch: Any = batch) -> None:
            network(batch).logit.sum().backward()

        network.train()
        out[f"train_view_{word}"] = timed(learn) / 2
        network.eval()
        with torch.inference_mode():
            out[f"score_view_{word}"] = timed(lambda n=network, b=batch: n(b)) / 2
        # The counter takes the backward pass of depthwise convolutions for that of full ones: count one way, times 3.
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(batch)
        out[f"flops_per_training_view_{word}"] = int(3 * counter.get_total_flops() // 2)
        out[f"checkpoint_bytes_{word}"] = int(3 * sum(p.numel() * 4 for p in network.parameters()))
    return out


# --- extrapolating ----------------------------------------------------------------------------------------------------


def prepare_core_s(corpus: Corpus, costs: dict[str, Any]) -> float:
    """Core seconds for one file: measured for 10 s, in proportion to length and pixels."""
    if corpus.modality == "face":
        return costs["clip_of_10_s_720p_to_views"] * corpus.seconds / 10 * corpus.pixels
    return costs["sound_of_10_s_to_views"] * corpus.seconds / 10


def store_bytes(corpus: Corpus, costs: dict[str, Any]) -> float:
    """Of the whole corpus, encoding raw."""
    if corpus.modality == "face":
        return corpus.files * corpus.views * costs["bytes_per_face_view"]
    return corpus.files * costs["bytes_per_10_s_of_sound"] * corpus.seconds / 10


def rates(corpus: Corpus, costs: dict[str, Any], a: Assumptions, gpus: int) -> dict[str, float]:
    """Views per second of all GPUs together that each part could keep up with."""
    compute = costs.get("gpu_views_per_s", {}).get(corpus.detector) or (
        a.gpu_tflops * 1e12 / costs[f"flops_per_training_view_{corpus.detector}"]
    )
    augment = costs["augment_face_view" if corpus.modality == "face" else "augment_voice_window"]
    # A view drawn from a memory map brings its own bytes; of a sound the window.
    size = costs["bytes_per_face_view"] if corpus.modality == "face" else costs["bytes_per_10_s_of_sound"] * 0.4
    nodes = max(1.0, gpus / a.gpus_per_node)
    return {
        "GPU": compute * gpus * dict(a.ddp)[gpus],
        "loader cores": gpus * a.loader_cores * a.core_speed / augment,
        "local disk": nodes * a.local_gb_s * 1e9 / size,
        "object store": nodes * a.remote_gb_s * 1e9 / size,
    }


def hours(seconds: float) -> str:
    """For people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 86400:.0f} d"


def size(count: float) -> str:
    """For people."""
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000:
            return f"{count:.3g} {unit}"
    return f"{count / 1000:.3g} PB"


def tables(costs: dict[str, Any], about: dict[str, Any], a: Assumptions) -> str:
    """All tables; every figure is marked (m) measured, (x) extrapolated from measurements, or (a) assumed."""
    lines = [
        f"Measured {about['when']} on {about['machine']}; one core, CPU time.",
        "",
        "| one unit | cost | |",
        "|---|---|---|",
    ]
    named = {
        "clip_of_10_s_720p_to_views": "a 10-second 720p clip to views of every face (`benchmark_face_prepare.py`)",
        "sound_of_10_s_to_views": "10 s of sound to prepared windows",
        "augment_face_view": "augmenting a face of 224 px",
        "augment_voice_window": "augmenting a window of 4.04 s",
        "train_view_efficientnet_b4": "a training view of 224 px, EfficientNet-B4",
        "train_view_aasist": "a training window, AASIST",
        "score_view_efficientnet_b4": "scoring a view, EfficientNet-B4 (PyTorch)",
        "score_view_aasist": "scoring a window, AASIST (PyTorch)",
    }
    lines += [f"| {text} | {1e3 * costs[key]:.3g} ms | (m) |" for key, text in named.items()]
    for word in ("efficientnet_b4", "aasist"):
        lines.append(
            f"| arithmetic of a training view, {word} | {costs[f'flops_per_training_view_{word}'] / 1e9:.3g} GFLOP | (m, counted) |"  # noqa: E501
        )
        lines.append(
            f"| a checkpoint, {word} (weights and Adam) | {size(costs[f'checkpoint_bytes_{word}'])} | (m, counted) |"
        )
    lines += ["", "**Preparation and storage** (" + f"nodes of {a.node_cores} cores (a), {a.spread:.0%} of a perfect spread (a))", "",  # noqa: E501
              "| corpus | files | core hours | " + " | ".join(f"{n} node{'s' if n > 1 else ''}" for n in NODES) + " | store, raw |",  # noqa: E501
              "|---|---|---|" + "---|" * (len(NODES) + 1)]  # fmt: skip
    for corpus in CORPORA:
        work = corpus.files * prepare_core_s(corpus, costs) / a.core_speed
        cells = [hours(a.start_s + work / (n * a.node_cores * (a.spread if n > 1 else 1))) + " (x)" for n in NODES]
        lines.append(
            f"| {corpus.name} | {corpus.files:,} | {work / 3600:,.1f} (x) | {' | '.join(cells)} | {size(store_bytes(corpus, costs))} (x) |"  # noqa: E501
        )
    lines += ["", f"**Training**, {EPOCHS} epochs (a) of 16 views per training video or one window per recording; dev is scored after each", "",  # noqa: E501
              "| corpus, detector | one core here | " + " | ".join(f"{n} GPU{'s' if n > 1 else ''}" for n in GPUS) + " | what limits, local disk | what limits, object store |",  # noqa: E501
              "|---|---|" + "---|" * (len(GPUS) + 2)]  # fmt: skip
    for corpus in CORPORA:
        learn = EPOCHS * corpus.files * corpus.train * corpus.draws
        # Scoring is the forward third of the arithmetic of training.
        dev = EPOCHS * corpus.files * corpus.dev * min(8, corpus.views) / 3
        here = learn * costs[f"train_view_{corpus.detector}"] + 3 * dev * costs[f"score_view_{corpus.detector}"]
        cells, near, far = [], [], []
        for gpus in GPUS:
            found = rates(corpus, costs, a, gpus)
            local = {k: v for k, v in found.items() if k != "object store"}
            remote = {k: v for k, v in found.items() if k != "local disk"}
            cells.append(hours(a.start_s + (learn + dev) / min(local.values())) + " (x, a)")
            near.append(min(local, key=local.__getitem__))
            far.append(min(remote, key=remote.__getitem__))
        limits = [
            words[0] if len(set(words)) == 1 else ", ".join(f"{g}: {w}" for g, w in zip(GPUS, words, strict=True))
            for words in (near, far)
        ]
        lines.append(
            f"| {corpus.name}, {corpus.detector} | {hours(here)} (x) | {' | '.join(cells)} | {limits[0]} | {limits[1]} |"  # noqa: E501
        )
    lines += ["", "**Scoring** the whole corpus once on CPU nodes (8 views a video, every window of a sound)", "",
              "| corpus | " + " | ".join(f"{n} node{'s' if n > 1 else ''}" for n in NODES) + " |", "|---|" + "---|" * len(NODES)]  # fmt: skip  # noqa: E501
    for corpus in CORPORA:
        views = 8 if corpus.modality == "face" else corpus.views
        work = corpus.files * views * costs[f"score_view_{corpus.detector}"] / a.core_speed
        lines.append(
            f"| {corpus.name} | "
            + " | ".join(
                hours(a.start_s + work / (n * a.node_cores * (a.spread if n > 1 else 1))) + " (x)" for n in NODES
            )
            + " |"
        )
    lines += ["", "Assumed (a), in `scripts/scale.py`:", ""]
    lines += [f"- {corpus.name}: {corpus.note}" for corpus in CORPORA]
    source = (
        "measured on a GPU, in docs/scale.costs.json"
        if "gpu_views_per_s" in costs
        else (
            f"{a.gpu_tflops:g} TFLOP/s sustained in bf16 by networks of this kind on an H100-class GPU, about 4 % of its peak; no GPU was measured"  # noqa: E501
        )
    )
    lines += [
        f"- GPU: {source}",
        f"- {a.loader_cores} loader cores per GPU, each as fast as a core here; {a.gpus_per_node} GPUs a node",
        f"- {a.start_s:g} s until a job's processes work",
        f"- of perfect scaling by DDP: {', '.join(f'{share:.0%} on {n}' for n, share in a.ddp)}",
        f"- {a.local_gb_s:g} GB/s from a node's own disk, {a.remote_gb_s:g} GB/s from an object store",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("measure", "write", "check"))
    parser.add_argument("--clip-s", type=float, default=1.3, help="core seconds of a 10-second 720p clip to views, from "  # noqa: E501
                        "scripts/benchmark_face_prepare.py (0.65 s on two cores)")  # fmt: skip
    options = parser.parse_args()
    if options.verb == "measure":
        about = {
            "when": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.system()} {platform.machine()}, a shared virtual machine",
        }
        COSTS.write_text(json.dumps({"about": about, "costs": measure(options.clip_s)}, indent=2) + "\n")
        print(COSTS)
        return 0
    held = json.loads(COSTS.read_text(encoding="utf-8"))
    before = PAGE.read_text(encoding="utf-8")
    head, tail = before.split(BEGIN)[0], before.split(END)[1]
    after = f"{head}{BEGIN}\n{tables(held['costs'], held['about'], Assumptions())}\n{END}{tail}"
    if options.verb == "check":
        if after != before:
            print(f"{PAGE} is not what the costs give\nhint: python scripts/scale.py write", file=sys.stderr)
        return int(after != before)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
