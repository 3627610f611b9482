"""Two hundred mixed files through `deepassay screen`, some broken on purpose: a line for each, twice the same, resumed.

    python scripts/screen_mixed_files.py --media ../shared/data --face runs/faces/bundle --voice runs/voices/bundle

Copies pictures, films and recordings from the folder, breaks every tenth of them (cut off, emptied, overwritten, given
another ending), and screens the lot with both bundles. Then: the three-line Python API; a second run, equal but for
timings; a run that is killed about half-way (SIGKILL) and resumed, with no file twice and none missing. With --python
the screening runs in another environment, such as one that has the base install alone; torch must not be in it.
Exit code 1: something of that failed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

KINDS = {"image": (".jpg", ".jpeg", ".png", ".webp"), "video": (".mp4", ".mkv", ".mov"), "audio": (".flac", ".wav")}
API = """
import json, sys
from deepassay.screening.screener import Screener
screener = Screener([sys.argv[1], sys.argv[2]])
print(json.dumps([v.to_dict() for path in sys.argv[3:] for v in screener.screen(path)]))
"""


def choose(media: Path, n: int, seed: int) -> list[Path]:
    """So many files of a folder, films as far as there are any, pictures and recordings half and half."""
    draw = random.Random(seed)
    found = {kind: sorted(p for p in media.rglob("*") if p.suffix.lower() in ends) for kind, ends in KINDS.items()}
    films = found["video"][: n // 10]
    rest = n - len(films)
    pictures = draw.sample(found["image"], min(len(found["image"]), rest // 2))
    sounds = draw.sample(found["audio"], min(len(found["audio"]), rest - len(pictures)))
    return sorted([*films, *pictures, *sounds])


def break_file(path: Path, number: int) -> None:
    """One of four ways of being broken."""
    content = path.read_bytes()
    if number % 4 == 0:
        path.write_bytes(content[: len(content) // 3])
    elif number % 4 == 1:
        path.write_bytes(b"")
    elif number % 4 == 2:
        path.write_bytes(bytes(reversed(content[:256])) + content[256:])
    else:
        path.rename(path.with_suffix(".txt"))


def lines(path: Path) -> list[dict]:
    """Verdicts of an output, without timings."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def main() -> int:
    """Copy, break, screen three times, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--face", type=Path, required=True, help="a face bundle")
    parser.add_argument("--voice", type=Path, required=True, help="a voice bundle")
    parser.add_argument("--python", default=sys.executable, help="of the environment that screens")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Not resolved: the python of a virtual environment is a link, and knows its packages by where it lies.
    args.python = os.path.abspath(args.python) if os.sep in args.python else args.python
    bundles = [str(args.face.resolve()), str(args.voice.resolve())]
    goals: dict[str, bool] = {}
    with tempfile.TemporaryDirectory(prefix="deepassay-mixed-") as name:
        box = Path(name)
        inbox = box / "inbox"
        inbox.mkdir()
        for number, path in enumerate(choose(args.media, args.files, args.seed)):
            copy = inbox / f"{number:03}{path.suffix.lower()}"
            shutil.copyfile(path, copy)
            if number % 10 == 9:
                break_file(copy, number // 10)
        inputs = sorted(str(path) for path in inbox.iterdir())
        check = "import importlib.util as u; print([m for m in ('torch', 'lightning', 'timm') if u.find_spec(m)])"
        heavy = subprocess.run([args.python, "-c", check], capture_output=True, text=True, check=True).stdout.strip()
        print(f"{len(inputs)} files; training packages in the screening environment: {heavy}")

        def command(output: Path, *more: str) -> list[str]:
            words = [args.python, "-m", "deepassay", "screen", str(inbox), "--output", str(output), "--quiet"]
            for bundle in bundles:
                words += ["--bundle", bundle]
            return [*words, "--workers", str(args.workers), *more]

        begin = time.monotonic()
        first = subprocess.run(command(box / "one.jsonl"), cwd=box, check=False)
        whole_s = time.monotonic() - begin
        one = lines(box / "one.jsonl")
        goals["every file has a line, none has two of one modality"] = sorted(
            {row["path"] for row in one}
        ) == inputs and len({(r["path"], r["modality"]) for r in one}) == len(one)
        goals["exit code 3: some files were not judged"] = first.returncode == 3
        goals["no score without status ok"] = all((row["score"] is not None) == (row["status"] == "ok") for row in one)
        subprocess.run(command(box / "two.jsonl"), cwd=box, check=False)
        goals["a second run is the same"] = lines(box / "two.jsonl") == one

        process = subprocess.Popen(command(box / "three.jsonl"), cwd=box, start_new_session=True)
        part = box / "three.jsonl.part"
        while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") >= len(one) // 2):
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept = part.read_bytes().count(b"\n") if part.exists() else 0
        subprocess.run(command(box / "three.jsonl", "--resume"), cwd=box, check=False)
        goals[f"killed after {kept} of {len(one)} lines and resumed, it is the same"] = (
            0 < kept < len(one) and lines(box / "three.jsonl") == one
        )
        api = subprocess.run(
            [args.python, "-c", API, *bundles, *inputs[:10]], capture_output=True, text=True, check=True, cwd=box
        )
        by_api = [{key: value for key, value in row.items() if key != "seconds"} for row in json.loads(api.stdout)]
        goals["the Python API says the same"] = by_api == [row for row in one if row["path"] in inputs[:10]]
    print(f"{whole_s:.1f} s, {len(inputs) / whole_s:.1f} files/s with {args.workers} workers, start included")
    print("  " + ", ".join(f"{n} {word}" for word, n in Counter(row["decision"] for row in one).most_common()))
    print("  " + ", ".join(f"{n} {word}" for word, n in Counter(row["status"] for row in one).most_common()))
    for goal, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'}  {goal}")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
