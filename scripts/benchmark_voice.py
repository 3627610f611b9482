"""Voices in one run on two cores: LFCC against librosa, decoding against soundfile, two hours, exported AASIST.

    python scripts/benchmark_voice.py                    # all parts, about 15 minutes on 2 cores
    python scripts/benchmark_voice.py --quick            # small sizes, to see that everything runs
    python scripts/benchmark_voice.py --parts long       # any of lfcc, decode, long, aasist

lfcc    our front end (torch, and its ONNX graph) against librosa.stft, scipy.fft.dct and librosa.feature.delta on the
        same windows, with the largest difference of the coefficients
decode  decode, downmix, resample, measure activity and cut every window of FLAC and MP3, against soundfile alone
long    `deepassay screen` on a recording of 2 hours and on its first 2 minutes: real-time factor, peak memory of the
        process; by an LCNN, and by the exported AASIST where --long-aasist is given
aasist  the exported AASIST in onnxruntime against eager PyTorch AASIST: clips per second, largest difference of logits

Goals: two hours within 200 MiB of two minutes; exported AASIST at least 3 times eager at scores equal to 1e-3. Sound is
made here (seeded), or looped from --voices. Weights of AASIST: ../shared/data/models/AASIST.pth where it is there, else
random, which is said. Exit code 1: a goal was missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
SHARED = ROOT.parent / "shared"
PARTS = ("lfcc", "decode", "long", "aasist")
GOAL_MIB, GOAL_RATIO, GOAL_DIFFERENCE = 200.0, 3.0, 1e-3
WINDOW, RATE = 64600, 16000


def speech_like(seconds: float, rate: int, seed: int = 0):
    """Harmonics and noise in syllables with pauses, (T,) float32: what codecs and silence gates see as speech."""
    import numpy as np

    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / rate
    voiced = sum(np.sin(k * pitch) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.3, 0, 1) * (np.sin(2 * np.pi * 0.11 * t) > -0.7)
    return (
        0.08 * syllables * (voiced + 0.5 * rng.standard_normal(len(t))) + 1e-3 * rng.standard_normal(len(t))
    ).astype(np.float32)


def write_recording(path: Path, seconds: float, rate: int, channels: int = 1, voices: Path | None = None) -> None:
    """A file of some length, written block by block; a minute of sound is looped, a little louder or softer."""
    import numpy as np
    import soundfile

    minute = speech_like(60.0, rate)
    if voices is not None:
        clips = [soundfile.read(p, dtype="float32")[0] for p in sorted(voices.glob("*.flac"))[:40]]
        minute = np.resize(np.concatenate(clips), 60 * rate)
    kind = {".flac": ("FLAC", "PCM_16"), ".mp3": ("MP3", "MPEG_LAYER_III")}[path.suffix]
    with soundfile.SoundFile(path, "w", rate, channels, format=kind[0], subtype=kind[1]) as out:
        left = round(seconds * rate)
        number = 0
        while left > 0:
            block = minute[:left] * np.float32(0.8 + 0.2 * np.sin(number))
            out.write(np.repeat(block[:, None], channels, axis=1))
            left -= len(block)
            number += 1


def best(function: Callable[[], object], repeats: int) -> float:
    """Median seconds of some calls, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def session(path: Path, threads: int):
    """An onnxruntime session of a graph, set up as screening sets it up."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def lfcc(args: argparse.Namespace) -> dict:
    """Seconds per hour of sound for 60 coefficients every 10 ms, windows of 64,600 samples."""
    import librosa
    import numpy as np
    import scipy.fft
    import scipy.signal
    import torch

    from deepassay.models.frontends import LFCC, linear_filter_bank

    torch.set_num_threads(args.threads)
    ours = LFCC(normalise="none").eval()
    bank = linear_filter_bank(20, 512, RATE, 0.0, RATE / 2).astype(np.float32)
    seconds = 40.0 if args.quick else 600.0
    windows = np.resize(speech_like(seconds, RATE), (max(4, round(seconds * RATE / WINDOW)), WINDOW))
    hours = windows.size / RATE / 3600

    def reference(window: np.ndarray) -> np.ndarray:
        x = scipy.signal.lfilter([1, -0.97], [1], window).astype(np.float32)
        x = np.pad(x, 96)  # librosa puts a frame of 320 samples into the middle of 512; ours begins with it
        power = np.abs(librosa.stft(x, n_fft=512, win_length=320, hop_length=160, window="hann", center=False)) ** 2
        static = scipy.fft.dct(np.log(np.maximum(bank @ power, 1e-6)), type=2, norm="ortho", axis=0)
        slope = librosa.feature.delta(static, width=3, mode="nearest")
        return np.concatenate([static, slope, librosa.feature.delta(slope, width=3, mode="nearest")])

    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        graph = Path(name) / "lfcc.onnx"
        free = {"sound": {0: torch.export.Dim.DYNAMIC}}
        torch.onnx.export(
            ours, (torch.zeros(2, WINDOW),), str(graph), dynamo=True, external_data=False, verbose=False,
            input_names=["sound"], dynamic_shapes=free,
        )  # fmt: skip
        run = session(graph, args.threads)
    batches = [windows[i : i + 16] for i in range(0, len(windows), 16)]

    def eager() -> None:
        with torch.inference_mode():
            for batch in batches:
                ours(torch.from_numpy(batch))

    def exported() -> None:
        for batch in batches:
            run.run(None, {"sound": batch})

    expected = np.stack([reference(window) for window in windows[:4]])
    with torch.inference_mode():
        from_torch = ours(torch.from_numpy(windows[:4])).numpy()[:, 0]
    from_graph = np.asarray(run.run(None, {"sound": windows[:4]})[0])[:, 0]
    repeats = 1 if args.quick else 3
    out = {
        "hours": hours,
        "librosa_s_per_hour": best(lambda: [reference(window) for window in windows], repeats) / hours,
        "torch_s_per_hour": best(eager, repeats) / hours,
        "onnx_s_per_hour": best(exported, repeats) / hours,
        "largest_difference_torch": float(np.abs(from_torch - expected).max()),
        "largest_difference_onnx": float(np.abs(from_graph - expected).max()),
        "largest_coefficient": float(np.abs(expected).max()),
    }
    return out


def decode(args: argparse.Namespace) -> dict:
    """Seconds per hour of sound: file to every window, against reading the samples and doing nothing with them."""
    import soundfile

    from deepassay.media.sound import read_sound
    from deepassay.modality.voice import VoiceModality

    seconds = 60.0 if args.quick else 600.0
    voices, out = VoiceModality(), {}
    with tempfile.TemporaryDirectory() as name:
        for title, file, rate, channels in (
            ("FLAC 16 kHz mono", "a.flac", 16000, 1),
            ("FLAC 44.1 kHz stereo", "b.flac", 44100, 2),
            ("MP3 16 kHz mono", "a.mp3", 16000, 1),
            ("MP3 44.1 kHz stereo", "b.mp3", 44100, 2),
        ):
            path = Path(name) / file
            write_recording(path, seconds, rate, channels, args.voices if rate == 16000 else None)
            repeats = 1 if args.quick else 3
            alone = best(lambda path=path: soundfile.read(path, dtype="float32"), repeats)
            read = best(lambda path=path: read_sound(path), repeats)
            windows = best(lambda path=path: voices.draw(voices.prepare(path), 1_000_000), repeats)
            stream = best(lambda path=path: sum(len(part) for part in voices.stream(path)), repeats)
            hours = seconds / 3600
            out[title] = {
                "soundfile_s_per_hour": alone / hours, "decode_resample_s_per_hour": read / hours,
                "windows_s_per_hour": windows / hours, "stream_s_per_hour": stream / hours,
            }  # fmt: skip
    return out


def build(folder: Path, kind: str) -> None:
    """A voice bundle around an LCNN or an AASIST of some weights: timing needs no training."""
    import torch

    from deepassay.calibrator import Calibration, OperatingPoint
    from deepassay.export import export_detector
    from deepassay.modality.views import EVERY
    from deepassay.modality.voice import VoiceModality
    from deepassay.models.lcnn import LCNN
    from deepassay.provenance import collect
    from deepassay.screening.bundle import write_bundle

    torch.manual_seed(0)
    modality = VoiceModality()
    detector = aasist_detector()[0] if kind == "aasist" else LCNN(width=0.25)
    export_detector(detector.eval(), folder / "detector.onnx", modality.input_shape)
    nothing = {"dev_table_sha256": "0" * 64, "n_real": 0}
    write_bundle(
        folder / "bundle",
        name=f"benchmark: {kind}, says nothing",
        detector_onnx=folder / "detector.onnx",
        modality=modality,
        calibration=Calibration(scale=1.0, offset=0.0, n_fake=0, informative=False, warning="not fitted", **nothing),
        operating_points=[
            OperatingPoint(
                name="bpcer_5", target_bpcer=0.05, threshold=0.0, realised_bpcer=0.0, n_clusters=0, supported=False,
                **nothing,
            )
        ],
        scope={"statement": "timing only", "media": ["audio", "video"]},
        licence_chain=[{"name": "benchmark weights", "licence": "not for use"}],
        generators_seen=[],
        manifest_sha256s={},
        synthetic=True,
        card_md="# Benchmark\n\nFor timing only.\n",
        provenance=collect(),
        views=EVERY,
    )  # fmt: skip


def aasist_detector():
    """AASIST with the published weights where they are there; and where its weights come from."""
    from deepassay.models.aasist import AASIST

    weights = SHARED / "data" / "models" / "AASIST.pth"
    if weights.is_file():
        return AASIST(weights=str(weights)), "published weights"
    return AASIST(), "RANDOM weights: the published ones are not beside the project"


def aasist(args: argparse.Namespace) -> dict:
    """Clips per second of eager PyTorch and of the exported graph, in turn, on the same clips."""
    import numpy as np
    import torch

    from deepassay.export import export_detector

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    detector, origin = aasist_detector()
    detector.eval()
    n, batch = (4, 2) if args.quick else (16, 8)
    clips = np.resize(speech_like(n * WINDOW / RATE, RATE), (n, WINDOW))
    if args.voices is not None:
        import soundfile

        rows = [
            soundfile.read(path, dtype="float32")[0] for path in sorted(args.voices.glob("*.flac"))[:: 1 + 1800 // n]
        ]
        clips = np.stack([np.resize(row, WINDOW) for row in rows[:n]])
    clips[0] = 0  # digital silence belongs to what must agree
    with tempfile.TemporaryDirectory() as name:
        run = session(export_detector(detector, Path(name) / "aasist.onnx", (WINDOW,)), args.threads)

    def eager(size: int) -> np.ndarray:
        with torch.inference_mode():
            parts = [detector(torch.from_numpy(clips[i : i + size])).logit for i in range(0, len(clips), size)]
        return torch.cat(parts).numpy()

    def exported(size: int) -> np.ndarray:
        parts = [run.run(None, {"views": clips[i : i + size]})[0] for i in range(0, len(clips), size)]
        return np.concatenate(parts)

    out: dict = {"weights": origin, "clips": len(clips)}
    for size in (1, batch):
        theirs, ours = [], []
        logits = {}
        for _ in range(1 if args.quick else 3):  # in turn, so that a busy machine is unfair to neither
            for function, times in ((eager, theirs), (exported, ours)):
                begin = time.perf_counter()
                logits[function] = function(size)
                times.append(time.perf_counter() - begin)
        slow, fast = statistics.median(theirs), statistics.median(ours)
        out[f"batch_{size}"] = {
            "eager_clips_per_s": len(clips) / slow, "exported_clips_per_s": len(clips) / fast, "ratio": slow / fast,
        }  # fmt: skip
        difference = float(np.abs(logits[eager] - logits[exported]).max())
        out["largest_difference"] = max(difference, out.get("largest_difference", 0.0))
        out["largest_logit"] = float(np.abs(logits[eager]).max())
    return out


def child(args: argparse.Namespace, *words: str) -> str:
    """This script in a process of its own: the parent stays small, since a child inherits its peak of memory."""
    own = [sys.executable, __file__, "--threads", str(args.threads), *(["--quick"] if args.quick else [])]
    own += ["--voices", str(args.voices)] if args.voices is not None else []
    return run([*own, *words], args)[1]


def run(words: list[str], args: argparse.Namespace) -> tuple[float, str, float]:
    """Wall seconds, standard output and peak resident MiB of a process; exits where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": str(args.threads), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryFile() as out:
        begin = time.perf_counter()
        process = subprocess.Popen(words, stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)[:200]} ended with exit code {process.returncode}: {text[:2000]}")
    return seconds, text, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def long(args: argparse.Namespace) -> dict:
    """Screening of a short and a long recording by new processes; runs in the parent, which imports nothing large."""
    seconds = {"short": 20.0 if args.quick else 120.0, "long": 300.0 if args.quick else 7200.0}
    out: dict = {"seconds": seconds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ["lcnn", *(["aasist"] if args.long_aasist else [])]:
            (folder / kind).mkdir()
            child(args, "--build", str(folder / kind), "--kind", kind)
            for suffix in (".flac", ".mp3") if kind == "lcnn" else (".flac",):
                cell: dict = {}
                for title, length in seconds.items():
                    path = folder / f"{title}{suffix}"
                    if not path.exists():
                        child(args, "--write", str(path), "--seconds", str(length))
                    words = [sys.executable, "-m", "deepassay", "screen", str(path), "--quiet"]
                    words += ["--bundle", str(folder / kind / "bundle"), "--threads", str(args.threads)]
                    wall, text, peak = run(words, args)
                    verdict = json.loads(text)
                    if verdict["status"] != "ok":
                        sys.exit(f"{path.name}: {verdict['status']} {verdict['reason']}")
                    cell[title] = {
                        "wall_s": wall, "peak_mib": peak, "windows": verdict["n_views"],
                        "timeline_to_s": verdict["timeline"][-1]["end_s"], "real_time_factor": wall / length,
                    }  # fmt: skip
                    print(f"  {kind} {path.name}: {wall:.1f} s, {peak:.0f} MiB", file=sys.stderr)
                cell["more_mib"] = cell["long"]["peak_mib"] - cell["short"]["peak_mib"]
                out[f"{kind} {suffix[1:]}"] = cell
    return out


def show(results: dict) -> None:
    """What was measured, as text."""
    if "lfcc" in results:
        r = results["lfcc"]
        print("LFCC with slopes, s per hour of sound")
        print(f"  librosa and SciPy    {r['librosa_s_per_hour']:8.2f}")
        for name in ("torch", "onnx"):
            value, difference = r[f"{name}_s_per_hour"], r[f"largest_difference_{name}"]
            print(
                f"  ours, {name:<14} {value:8.2f}   {r['librosa_s_per_hour'] / value:5.1f} times; "
                f"largest difference {difference:.1e} of values up to {r['largest_coefficient']:.0f}"
            )
    if "decode" in results:
        print("File to windows, s per hour of sound")
        print(
            f"  {'':<22}{'soundfile':>10}{'+ resample':>12}{'+ windows':>11}{'streamed':>10}{'windows / soundfile':>21}"
        )
        for title, r in results["decode"].items():
            alone, read, windows, stream = r.values()
            print(f"  {title:<22}{alone:>10.2f}{read:>12.2f}{windows:>11.2f}{stream:>10.2f}{windows / alone:>21.2f}")
    if "long" in results:
        print("Screening, every window")
        for title, cell in results["long"].items():
            if title == "seconds":
                continue
            for name in ("short", "long"):
                r, length = cell[name], results["long"]["seconds"][name]
                print(
                    f"  {title:<12} {length:6.0f} s: {r['windows']:5d} windows, {r['wall_s']:7.1f} s, real-time factor "
                    f"{r['real_time_factor']:.4f}, peak {r['peak_mib']:5.0f} MiB"
                )
            print(f"  {'':<12} more memory for the long one: {cell['more_mib']:.0f} MiB")
    if "aasist" in results:
        r = results["aasist"]
        print(f"AASIST ({r['weights']}), clips of 4.04 s per second")
        for key, cell in r.items():
            if key.startswith("batch_"):
                eager, exported, ratio = cell.values()
                print(f"  batch {key[6:]:<3} eager {eager:6.2f}, exported {exported:6.2f}: {ratio:.2f} times")
        print(f"  largest difference of logits {r['largest_difference']:.1e} (logits up to {r['largest_logit']:.1f})")


def goals(results: dict) -> dict[str, bool]:
    """What was aimed at, and whether it was reached."""
    out = {}
    for title, cell in results.get("long", {}).items():
        if title != "seconds":
            out[f"{title}: long within {GOAL_MIB:g} MiB of short"] = cell["more_mib"] <= GOAL_MIB
    if "aasist" in results:
        r = results["aasist"]
        best_ratio = max(cell["ratio"] for key, cell in r.items() if key.startswith("batch_"))
        out[f"exported AASIST at least {GOAL_RATIO:g} times eager"] = best_ratio >= GOAL_RATIO
        out[f"logits equal to {GOAL_DIFFERENCE:g}"] = r["largest_difference"] <= GOAL_DIFFERENCE
    return out


def main() -> int:
    """Measure, print, compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes; goals are shown and not judged")
    parser.add_argument("--threads", type=int, default=2, help="of torch and onnxruntime (default: %(default)s)")
    parser.add_argument("--voices", type=Path, help="folder of 16 kHz FLAC clips to loop instead of made sound")
    parser.add_argument("--long-aasist", action="store_true", help="screen the long recording by AASIST too")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    for hidden in ("--part", "--build", "--kind", "--write", "--seconds"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        build(Path(args.build), args.kind)
        return 0
    if args.write:
        write_recording(Path(args.write), float(args.seconds), RATE, voices=args.voices)
        return 0
    if args.part:
        json.dump({"lfcc": lfcc, "decode": decode, "aasist": aasist}[args.part](args), sys.stdout)
        return 0
    results: dict = {}
    for part in args.parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        # Only the exporter writes to stdout before the last line.
        results[part] = long(args) if part == "long" else json.loads(child(args, "--part", part).splitlines()[-1])
    show(results)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{cores} cores, {args.threads} threads, load {load:.1f} at the end")
    reached = goals(results)
    for goal, met in reached.items():
        print(f"{'met   ' if met else 'MISSED'}  {goal}")
    if args.json:
        args.json.write_text(json.dumps({**results, "cores": cores, "load": load, "goals": reached}, indent=2) + "\n")
    return 0 if args.quick or all(reached.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
