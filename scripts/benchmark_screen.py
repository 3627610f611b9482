"""Cold start, peak memory and speed of `deepassay screen` on one image, against importing torch and scoring the same.

    python scripts/benchmark_screen.py                      # builds a small face bundle (lite0, 224 px, random weights)
    python scripts/benchmark_screen.py --bundle runs/mine/bundle --image photo.jpg

Goals: a new process gives its verdict within 2 s on 2 cores (files cached, median of 10), and within a fifth of the
time that a process needs to import torch and facenet-pytorch, find the face with MTCNN and score it with a timm lite0.
Both run in turn, one of each after the other, so that a busy machine is unfair to neither. Exit code 1: a goal missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

TORCH_WAY = """
import json, sys, time
image, weights, repeats, min_face = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
import numpy as np, timm, torch
from facenet_pytorch import MTCNN
from PIL import Image
from safetensors.torch import load_file
finder = MTCNN(keep_all=True, min_face_size=min_face, post_process=False)
network = timm.create_model("tf_efficientnet_lite0", num_classes=1).eval()
network.load_state_dict(load_file(weights))

@torch.inference_mode()
def score(path):
    picture = Image.open(path).convert("RGB")
    boxes, _ = finder.detect(picture)
    if boxes is None:
        sys.exit("no face found")
    x0, y0, x1, y1 = boxes[0]
    m = 0.3 * max(x1 - x0, y1 - y0)
    crop = picture.crop((int(x0 - m), int(y0 - m), int(x1 + m), int(y1 + m))).resize((224, 224), Image.BICUBIC)
    view = torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1)[None].float()
    return float(network((view - 127) / 128))

value = score(image)
begin = time.perf_counter()
for _ in range(repeats):
    score(image)
print(json.dumps({"score": value, "seconds_per_file": (time.perf_counter() - begin) / max(1, repeats)}))
"""

OUR_WAY = """
import json, sys, time
from deepassay.screening.screener import Screener
image, bundle, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
screener = Screener([bundle], operating_point=sys.argv[4])
screener.screen(image)
begin = time.perf_counter()
for _ in range(repeats):
    screener.screen(image)
print(json.dumps({"seconds_per_file": (time.perf_counter() - begin) / max(1, repeats)}))
"""


def build(folder: Path) -> None:
    """bundle/ around a lite0 of random weights, lite0.safetensors and face.jpg: what timing needs and no more."""
    synthetic_picture(folder)
    import torch
    from safetensors.torch import save_file

    from deepassay.calibrator import Calibration, OperatingPoint
    from deepassay.export import export_detector
    from deepassay.modality.face import FaceModality
    from deepassay.models.mtcnn import export_finder_graphs
    from deepassay.models.timm_detector import TimmDetector
    from deepassay.provenance import collect
    from deepassay.screening.bundle import write_bundle

    torch.manual_seed(0)
    export_finder_graphs(folder / "finder")
    modality = FaceModality(finder_folder=str(folder / "finder"), size=224)
    detector = TimmDetector(backbone="tf_efficientnet_lite0", size=224, pretrained="none").eval()
    save_file(detector.network.state_dict(), folder / "lite0.safetensors")
    export_detector(detector, folder / "detector.onnx", modality.input_shape)
    nothing = "0" * 64
    write_bundle(
        folder / "bundle",
        name="benchmark: random weights, says nothing",
        detector_onnx=folder / "detector.onnx",
        modality=modality,
        calibration=Calibration(
            scale=1.0, offset=0.0, dev_table_sha256=nothing, n_real=0, n_fake=0, informative=False, warning="random"
        ),
        operating_points=[
            OperatingPoint(
                name="bpcer_5",
                target_bpcer=0.05,
                threshold=0.0,
                dev_table_sha256=nothing,
                realised_bpcer=0.0,
                n_real=0,
                n_clusters=0,
                supported=False,
            )
        ],
        scope={"statement": "timing only: the weights are random", "media": ["image", "video"]},
        licence_chain=[{"name": "random weights", "licence": "Apache-2.0"}],
        generators_seen=[],
        manifest_sha256s={},
        synthetic=True,
        card_md="# Benchmark\n\nRandom weights, for timing only.\n",
        provenance=collect(),
    )


def synthetic_picture(folder: Path) -> None:
    """One invented face of 512 pixels, as JPEG."""
    import numpy as np

    from deepassay.corpora.procedural_face import draw_capture, draw_identity, render_face
    from deepassay.media.image import write_image

    rendering = render_face(draw_identity(0, 0.4), draw_capture(np.random.default_rng(0)), 512)
    write_image(folder / "face.jpg", rendering.image, quality=95)


def run(words: list[str]) -> tuple[float, float, float, str]:
    """Wall seconds, processor seconds, peak resident MiB and stdout of a new process; exits where it fails.

    A new process inherits the peak of the one that starts it, so this one stays small: it imports neither room.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryFile() as out:
        begin = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], stdout=out, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode()
    if process.returncode != 0:
        sys.exit(f"{' '.join(words)[:200]} ended with exit code {process.returncode}: {text}")
    peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return seconds, usage.ru_utime + usage.ru_stime, peak, text


def main() -> int:
    """Measure, print, compare with the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="face bundle (default: one is built, which needs the train extra)")
    parser.add_argument("--image", type=Path, help="picture with a face (default: a synthetic one)")
    parser.add_argument("--operating-point", default="bpcer_5")
    parser.add_argument("--runs", type=int, default=10, help="new processes of each kind (default: %(default)s)")
    parser.add_argument("--files", type=int, default=30, help="files for the speed within one process")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.build:
        build(args.build)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([__file__, "--build", name])
        bundle, image, weights = (
            args.bundle or folder / "bundle",
            args.image or folder / "face.jpg",
            "lite0.safetensors",
        )
        settings = json.loads((bundle / "bundle.json").read_text())["modality"]["contract"].get("settings", {})
        screen = ["-m", "deepassay", "screen", str(image), "--bundle", str(bundle), "--quiet"]
        screen += ["--operating-point", args.operating_point]
        torch_way = ["-c", TORCH_WAY, str(image), str(folder / weights), "0", str(settings.get("min_face_px", 20))]
        verdict = json.loads(run(screen)[3])
        print(f"verdict: {verdict['status']} {verdict['reason']} ({verdict['n_views']} views)", file=sys.stderr)
        run(torch_way)
        ours, theirs = [], []
        for number in range(args.runs):
            ours.append(run(screen)[:3])
            theirs.append(run(torch_way)[:3])
            print(f"run {number + 1} of {args.runs}: {ours[-1][0]:.2f} s, {theirs[-1][0]:.2f} s", file=sys.stderr)
        repeated = [str(args.files), args.operating_point]
        our_speed = json.loads(run(["-c", OUR_WAY, str(image), str(bundle), *repeated])[3])["seconds_per_file"]
        torch_way[4] = str(args.files)
        their_speed = json.loads(run(torch_way)[3])["seconds_per_file"]
    numbers = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "runs": args.runs,
        "cold_start_s": statistics.median(s for s, _, _ in ours),
        "cold_start_min_s": min(s for s, _, _ in ours),
        "cold_start_max_s": max(s for s, _, _ in ours),
        "torch_cold_start_s": statistics.median(s for s, _, _ in theirs),
        "cold_start_cpu_s": statistics.median(s for _, s, _ in ours),
        "torch_cold_start_cpu_s": statistics.median(s for _, s, _ in theirs),
        "peak_mib": max(m for _, _, m in ours),
        "torch_peak_mib": max(m for _, _, m in theirs),
        "files_per_s": 1 / our_speed,
        "torch_files_per_s": 1 / their_speed,
    }
    numbers["cold_start_ratio"] = numbers["torch_cold_start_s"] / numbers["cold_start_s"]
    numbers["peak_ratio"] = numbers["torch_peak_mib"] / numbers["peak_mib"]
    goals = {
        "cold start at most 2 s": numbers["cold_start_s"] <= 2,
        "ratio at least 5": numbers["cold_start_ratio"] >= 5,
    }
    print(f"{'':<26}{'deepassay screen':>18}{'torch + facenet':>18}{'ratio':>8}")
    for title, mine, other, digits in (
        ("cold start, median, s", numbers["cold_start_s"], numbers["torch_cold_start_s"], 2),
        ("processor time, median, s", numbers["cold_start_cpu_s"], numbers["torch_cold_start_cpu_s"], 2),
        ("peak memory, MiB", numbers["peak_mib"], numbers["torch_peak_mib"], 0),
        ("within a process, files/s", numbers["files_per_s"], numbers["torch_files_per_s"], 1),
    ):
        ratio = other / mine if "files" not in title else mine / other
        print(f"{title:<26}{mine:>18.{digits}f}{other:>18.{digits}f}{ratio:>8.1f}")
    print(f"cold start from {numbers['cold_start_min_s']:.2f} to {numbers['cold_start_max_s']:.2f} s", end="; ")
    print(f"{numbers['cores']} cores, {args.runs} runs of each")
    for goal, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'}  {goal}")
    if args.json:
        args.json.write_text(json.dumps({**numbers, "goals": goals}, indent=2) + "\n")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
