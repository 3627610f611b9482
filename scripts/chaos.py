"""Chaos: preparation, training and scoring killed at random moments, a shard damaged, the disk filled; same outputs.

    python scripts/chaos.py                # 20 SIGKILLs of each step, about ten minutes
    python scripts/chaos.py --kills 3      # the short form that the tests run

Every step is first run undisturbed. Then it is run again and again, killed (SIGKILL, the whole process group) at a
moment drawn at random, until it has been killed as often as asked; in between a shard of the store is cut in half
(the hint of the error is then followed) and the disk is filled to the last byte. What comes out at the end must be
identical: every byte of the store, the weights chosen on dev and the history of training, every score.

The work is done on a small file system in memory (tmpfs) where it can be mounted, so that the disk can really be
filled; elsewhere the same error is raised in the step's own file opening (--no-mount forces that).
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
from pathlib import Path
from typing import Any

STEPS = ("prepare", "train", "score")
DISK_MB = 192


# --- the steps, each in a process of its own --------------------------------------------------------------------------


def modality() -> Any:
    """Half-second windows, for little work per file."""
    from deepassay.modality.voice import VoiceModality

    return VoiceModality(window_samples=16000, hop_samples=16000)


def detector() -> Any:
    """A small LCNN, with dropout, so that resuming has randomness to get right."""
    from deepassay.models.lcnn import LCNN

    return LCNN(width=0.125, hop_s=0.02, drop_rate=0.3)


def fill_up(folder: Path, after: int) -> None:
    """Let the n-th file that is opened for writing below a folder, and all that follow, find the disk full."""
    import errno

    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open" and isinstance(arguments[0], str | Path) and str(arguments[0]).startswith(str(folder)):
            writes = (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")) or (
                arguments[1] is None and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            )
            count += bool(writes)
            if writes and count >= after:
                raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))

    sys.addaudithook(hook)


def child(step: str, media: Path, work: Path, full: bool) -> int:
    """One step from wherever it stands to its end."""
    import torch

    from deepassay.errors import AssayError
    from deepassay.manifest import Manifest
    from deepassay.scoring import score_manifest  # noqa: F401  (imported before the work begins)
    from deepassay.store import Store, prepare_store
    from deepassay.training.fit import fit
    from deepassay.training.loggers import NoLog
    from deepassay.training.optimizers import AdamW
    from deepassay.training.predictor import TorchPredictor
    from deepassay.worklist import score_worklist

    torch.set_num_threads(1)
    manifest = Manifest.read_parquet(media / "manifest.parquet", (media / "root.txt").read_text())
    print("begun", flush=True)
    if full:
        fill_up(work, 2)
    try:
        if step == "prepare":
            prepare_store(manifest, modality(), work / "store", workers=1, shard_samples=4, progress=False)
            return 0
        store = Store.open(work / "store", modality=modality(), manifest=manifest)
        if step == "train":
            fit(
                detector=detector, modality=modality(), train=manifest.split("train"), dev=manifest.split("dev"),
                store=store, folder=work / "checkpoints", max_epochs=4, batch_size=4, optimizer=AdamW(lr=3e-3),
                logger=NoLog(), accelerator="cpu", save_steps=2, progress=False,
            )  # fmt: skip
            return 0
        from deepassay.models.weights import load_weights

        network = detector()
        load_weights(network, work / "checkpoints" / "best.safetensors")
        table = score_worklist(
            manifest, modality(), lambda: TorchPredictor(network, device="cpu"), work / "scores", store=store,
            batch_size=2, part_samples=16, progress=False,
        )  # fmt: skip
        assert table is not None
        table.write(work / "scores.parquet")
        return 0
    except AssayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


# --- what came out ----------------------------------------------------------------------------------------------------


def outputs(step: str, work: Path) -> dict[str, Any]:
    """What must be identical."""
    from deepassay.files import sha256_file
    from deepassay.scores import ScoreTable

    if step == "prepare":
        files = sorted(p for p in (work / "store").rglob("*") if p.is_file() and not p.name.startswith("."))
        return {p.relative_to(work).as_posix(): sha256_file(p) for p in files}
    if step == "train":
        history = json.loads((work / "checkpoints" / "history.json").read_text())
        return {
            "weights": sha256_file(work / "checkpoints" / "best.safetensors"),
            "history": [{k: v for k, v in record.items() if k != "seconds"} for record in history],
        }
    table = ScoreTable.read(work / "scores.parquet")
    return {"scores": table.hash, "rows": len(table), "answered": int(table.answered.sum())}


def forget(step: str, work: Path) -> None:
    """Undo a step, to begin it anew."""
    names = {"prepare": ["store"], "train": ["checkpoints"], "score": ["scores", "scores.parquet"]}[step]
    for name in names:
        path = work / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


# --- chaos ------------------------------------------------------------------------------------------------------------


class Failure(Exception):
    """An output that differs, or an error without cause and remedy."""


class Chaos:
    """One world: media, an undisturbed run, and a disturbed one.

    Args:
        disk: a file system that may be filled; None: pretend.
    """

    def __init__(self, folder: Path, media: Path, *, kills: int, seed: int, disk: Path | None) -> None:
        self.work, self.media, self.kills, self.disk = folder, media, kills, disk
        self.random = random.Random(seed)

    def start(self, step: str, work: Path, full: bool = False) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--child", step, "--media", str(self.media), "--work", str(work)]
        process = subprocess.Popen(
            [*command, *(["--full"] if full else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        if process.stdout.readline().strip() != "begun":
            raise Failure(f"{step} did not begin: {process.communicate()[1]}")
        return process

    def quiet(self, step: str, work: Path) -> float:
        """Run a step to its end; seconds of work."""
        process = self.start(step, work)
        begin = time.monotonic()
        _, errors = process.communicate()
        if process.returncode:
            raise Failure(f"{step}, undisturbed, ended with {process.returncode}: {errors}")
        return time.monotonic() - begin

    def disturb(self, step: str, reference: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Kill a step until it has been killed often enough, and compare every end with the reference."""
        killed = ends = errors = 0
        pending = ["damage", "fill"]
        for attempt in range(20 * self.kills + 20):
            if killed >= self.kills and not pending and ends:
                break
            if pending and killed >= min(self.kills, 1 if pending[0] == "damage" else 2):
                event = pending.pop(0)
                errors += self.damage(step) if event == "damage" else self.fill(step)
            process = self.start(step, self.work)
            try:
                limit = self.random.uniform(0, 0.6 * seconds) if killed < self.kills else None
                _, said = process.communicate(timeout=limit)
                if process.returncode:
                    raise Failure(f"{step}, attempt {attempt}, ended with {process.returncode}: {said}")
                if outputs(step, self.work) != reference:
                    raise Failure(f"{step}: the output differs after {killed} kills")
                ends += 1
                if killed < self.kills or pending:
                    forget(step, self.work)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                killed += 1
        else:
            raise Failure(f"{step} did not get {self.kills} kills in {attempt} attempts")
        return {"kills": killed, "ends_compared": ends, "errors_with_remedy": errors, "identical": True}

    def damage(self, step: str) -> int:
        """Cut a finished shard in half; follow the hint where the step has one."""
        shards = sorted((self.work / "store" / "shards").glob("[0-9]*.arrow"))
        if not shards:
            return 0
        victim = self.random.choice(shards)
        os.truncate(victim, victim.stat().st_size // 2)
        if step == "prepare":
            return 0  # it makes the shard again by itself
        process = self.start(step, self.work)
        _, said = process.communicate()
        if process.returncode != 2 or "hint:" not in said or victim.name not in said:
            raise Failure(f"{step} with a damaged shard ended with {process.returncode}: {said}")
        victim.unlink()
        self.quiet("prepare", self.work)
        return 1

    def fill(self, step: str) -> int:
        """Let a step meet a full disk, then make room again."""
        balloon = None
        if self.disk is not None:
            balloon = self.disk / "balloon"
            with open(balloon, "wb", buffering=0) as stream:
                try:
                    while True:
                        stream.write(bytes(1 << 16))
                except OSError:
                    pass  # full: that is the point
        process = self.start(step, self.work, full=balloon is None)
        _, said = process.communicate()
        if balloon is not None:
            balloon.unlink()
        if process.returncode == 0:  # nothing was left to be written
            if outputs(step, self.work):
                forget(step, self.work)
            return 0
        if process.returncode != 2 or "hint:" not in said or not ("space" in said or "free" in said):
            raise Failure(f"{step} on a full disk ended with {process.returncode}: {said}")
        return 1


def make_media(folder: Path, speakers: int) -> None:
    """Synthetic voices, split by speaker."""
    from deepassay.corpora.synthetic_voices import SyntheticVoices

    whole = SyntheticVoices(root=str(folder), speakers=speakers, per_speaker=4).prepare()
    people = sorted({name for sample in whole for name in sample.subjects})
    dev = set(people[: max(2, len(people) // 3)])
    split = ["dev" if set(sample.subjects) & dev else "train" for sample in whole]
    whole.replace_columns({"split": split}).to_parquet(folder / "manifest.parquet")
    (folder / "root.txt").write_text(str(whole.root))


def mount(folder: Path) -> bool:
    """A small file system in memory; False where that is not allowed."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Run it; 0 where every output was identical."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each step (default: 20)")
    parser.add_argument("--speakers", type=int, default=18, help="size of the corpus, four recordings each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--no-mount", action="store_true", help="pretend that the disk is full")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    for name in ("--child", "--media", "--work"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--full", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child, Path(given.media), Path(given.work), given.full)
    top = Path(tempfile.mkdtemp(prefix="chaos-"))
    disk = top / "disk"
    disk.mkdir()
    mounted = not given.no_mount and mount(disk)
    result: dict[str, Any] = {"kills_asked": given.kills, "really_filled": mounted}
    try:
        make_media(top / "media", given.speakers)
        quiet = top / "quiet"
        chaos = Chaos(disk / "work", top / "media", kills=given.kills, seed=given.seed, disk=disk if mounted else None)
        for step in STEPS:
            seconds = chaos.quiet(step, quiet)
            reference = outputs(step, quiet)
            if step in given.steps:
                result[step] = {**chaos.disturb(step, reference, seconds), "seconds_undisturbed": round(seconds, 1)}
                print(f"{step}: {result[step]}", flush=True)
            else:
                chaos.quiet(step, chaos.work)
    except Failure as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        return 1
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
        shutil.rmtree(top, ignore_errors=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    print("every output was identical to the undisturbed one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
