"""AASIST and AASIST-L, eager and exported, whole and in pieces, in fp32 and int8: speed, and what it costs in scores.

    python scripts/benchmark_voice_detectors.py                      # about 8 minutes on 2 quiet cores
    python scripts/benchmark_voice_detectors.py --clips 4 --rounds 1 # to see that everything runs
    python scripts/benchmark_voice_detectors.py --int8               # adds a statically quantised graph

eager            the network as published, one window at a time and in batches, in PyTorch
eager, pieces    the same network in the form that ships (`AASIST.folded`): an encoder that fits a cache
exported, whole  onnxruntime, without that form: what a plain export gives
exported         what `deepassay export` writes
int8             that graph with int8 convolutions, calibrated on half of the clips and compared on the others

All take turns on the same clips, so that a busy machine is unfair to none; CPU seconds stand beside wall seconds for
the same reason. Clips come from --voices (a folder of FLAC), else noise; weights from --weights (AASIST.pth ...),
else random, which is said. Goal: exported at least 3 times the clips per second of eager (best batch of each) with
scores equal to 1e-3. Exit code 1: missed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
SHARED = ROOT.parent / "shared" / "data"
WINDOW = 64_600
SIZES = {"AASIST": "base", "AASIST-L": "light"}
Run = Callable[[np.ndarray], np.ndarray]


def read_clips(folder: Path | None, n: int) -> np.ndarray:
    """Clips (n, 64,600) float32 with one of digital silence: sounds of a folder, repeated to length, or noise."""
    rng = np.random.default_rng(0)
    paths = sorted(folder.glob("*.flac")) if folder is not None else []
    if len(paths) < n:
        clips = (0.05 * rng.standard_normal((n, WINDOW))).astype(np.float32)
    else:
        from deepassay.media.sound import read_sound

        chosen = sorted(rng.choice(len(paths), n, replace=False))
        clips = np.stack([np.resize(read_sound(paths[i], 16_000), WINDOW) for i in chosen])
    clips[-1] = 0
    return clips


def session(path: Path, threads: int) -> Run:
    """A graph in onnxruntime, set up as screening sets it up."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda views: np.asarray(made.run(None, {"views": views})[0])


def eager(detector) -> Run:
    """A network in PyTorch, without gradients."""
    import torch

    def run(views: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return detector(torch.from_numpy(views)).logit.numpy()

    return run


def quantised(path: Path, clips: np.ndarray) -> Path:
    """The graph with int8 convolutions (QDQ, per channel, U8S8), calibrated on clips."""
    import logging

    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(clips)

        def get_next(self):
            clip = next(self.rest, None)
            return None if clip is None else {"views": clip[None]}

    ready, out = path.with_name("ready.onnx"), path.with_name("int8.onnx")
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready), str(out), Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, extra_options={"ActivationSymmetric": False},
    )  # fmt: skip
    return out


def measure(runs: dict[str, Run], clips: np.ndarray, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Clips per second and CPU seconds per clip of each, median over rounds in turn."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    work: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(clips[:batch])
    for _ in range(rounds):
        for name, run in runs.items():
            begin, spent = time.perf_counter(), time.process_time()
            for start in range(0, len(clips), batch):
                run(clips[start : start + batch])
            wall[name].append(time.perf_counter() - begin)
            work[name].append(time.process_time() - spent)
    n = len(clips)
    return {
        name: {
            "clips_per_s": n / statistics.median(wall[name]), "best_clips_per_s": n / min(wall[name]),
            "cpu_s_per_clip": statistics.median(work[name]) / n, "least_cpu_s_per_clip": min(work[name]) / n,
        }
        for name in runs
    }  # fmt: skip


def one(name: str, args: argparse.Namespace, clips: np.ndarray) -> dict:
    """All forms of one network."""
    import torch

    from deepassay.export import export_detector
    from deepassay.models.aasist import AASIST

    weights = args.weights / f"{name}.pth"
    torch.manual_seed(0)
    detector = AASIST(size=SIZES[name], weights=str(weights) if weights.is_file() else None).eval()

    class Plain(AASIST):
        """Exports as it is."""

        def folded(self) -> "AASIST":
            return self

    plain = Plain(size=SIZES[name]).eval()
    plain.load_state_dict(detector.state_dict())
    out: dict = {"weights": "published" if weights.is_file() else "RANDOM", "batches": {}}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = {
            "eager": eager(detector),
            "eager, pieces": eager(detector.folded()),
            "exported, whole": session(export_detector(plain, folder / "plain.onnx", (WINDOW,)), args.threads),
            "exported": session(export_detector(detector, folder / "d.onnx", (WINDOW,)), args.threads),
        }
        compared = clips
        if args.int8:
            half = len(clips) // 2
            runs["int8"] = session(quantised(folder / "d.onnx", clips[:half]), args.threads)
            compared = clips[half:]
        reference = np.concatenate([runs["eager"](clip[None]) for clip in compared])
        out["largest_logit"] = float(np.abs(reference).max())
        out["differences"] = {}
        for form, run in runs.items():
            apart = np.abs(np.concatenate([run(clip[None]) for clip in compared]) - reference)
            out["differences"][form] = {"largest": float(apart.max()), "mean": float(apart.mean())}
        for batch in args.batches:
            out["batches"][batch] = measure(runs, clips, batch, args.rounds)

    def fastest(form: str) -> float:
        return max(cell[form]["clips_per_s"] for cell in out["batches"].values())

    def cheapest(form: str) -> float:
        return min(cell[form]["least_cpu_s_per_clip"] for cell in out["batches"].values())

    out["ratio"] = fastest("exported") / fastest("eager")
    out["cpu_ratio"] = cheapest("eager") / cheapest("exported")
    return out


def main() -> int:
    """Measure, print, and say whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--networks", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--voices", type=Path, default=SHARED / "voices")
    parser.add_argument("--weights", type=Path, default=SHARED / "models")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    clips = read_clips(args.voices if args.voices.is_dir() else None, args.clips)
    results, met = {}, True
    for name in args.networks:
        made = results[name] = one(name, args, clips)
        print(f"{name} ({made['weights']} weights), {args.threads} threads, {len(clips)} clips of 4.04 s")
        for form, apart in made["differences"].items():
            cells = "  ".join(
                f"batch {batch}: {cell[form]['clips_per_s']:5.2f} clips/s, {1e3 * cell[form]['cpu_s_per_clip']:4.0f} "
                "ms CPU a clip"
                for batch, cell in made["batches"].items()
            )
            print(f"  {form:<16} {cells}  |difference of logits| {apart['largest']:.1e} (mean {apart['mean']:.1e})")
        good = made["ratio"] >= 3 and made["differences"]["exported"]["largest"] <= 1e-3
        met = met and good
        print(
            f"  exported against eager, best batch of each: {made['ratio']:.2f} times the clips per second, "
            f"{made['cpu_ratio']:.2f} times by CPU time  [{'met' if good else 'MISSED'}: 3 times at 1e-3]"
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
