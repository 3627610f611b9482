"""What a cluster does, with submitit's executor on this machine: four shards, a preempted training, a sweep of three.

    python scripts/cluster_local.py runs/cluster                               # about five minutes
    python scripts/cluster_local.py runs/slurm --launcher submitit_slurm       # where there is a SLURM cluster

On a SLURM cluster the commands take `hydra/launcher=submitit_slurm` (and hydra.launcher.partition=..., timeout_min,
gpus_per_node ...); there a training of two processes is added. They are printed as they are run. The training is
preempted as SLURM would: the signal goes to the job, which saves its state, asks to be requeued, ends, is started
again, and goes on in mid-epoch.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMON = ["corpus=synthetic_voices", "corpus.speakers=24", "corpus.per_speaker=4", "modality=voice",
          "modality.window_samples=16000"]  # fmt: skip
TRAIN = [*COMMON, "augment=voice", "detector=lcnn_tiny", "optimizer=adamw_scratch", "trainer=demo_voice",
         "+store.shard_samples=8",
         "trainer.max_epochs=6", "trainer.batch_size=2", "audit.skip=true", "then=[]"]  # fmt: skip
LAUNCHER = ["--multirun", "hydra.launcher.timeout_min=60"]


def deepassay(arguments: list[str], *, wait: bool = True) -> subprocess.Popen[str]:
    """Start a command, printed first; by default to its end."""
    print("$ deepassay " + " ".join(arguments), flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "deepassay.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if wait:
        out, _ = process.communicate()
        print("  " + out.strip().replace("\n", "\n  ")[-1500:], flush=True)
        if process.returncode:
            raise SystemExit(f"that ended with {process.returncode}")
    return process


def tasks(folder: Path) -> list[int]:
    """Processes of submitit's that run a job below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:  # it has just ended
                continue
            if "submitit.core._submit" in words and any(str(folder) in word for word in words):
                found.append(int(entry.name))
    return found


def preempt(process: subprocess.Popen[str], folder: Path, checkpoints: Path, limit_s: float = 600) -> None:
    """Once the first epoch is kept, and the second is under way, signal the job as a scheduler does."""
    deadline = time.monotonic() + limit_s
    slurm = "hydra/launcher=submitit_slurm" in LAUNCHER
    while time.monotonic() < deadline and process.poll() is None:
        begun = (checkpoints / "history.json").is_file()
        if begun and slurm:
            jobs = subprocess.run(
                ["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True
            ).stdout.split()
            subprocess.run(["scancel", "--signal=USR2", *jobs], check=True)
            print(f"  preempted: scancel --signal=USR2 {' '.join(jobs)} after its first epoch", flush=True)
            return
        if begun and (pids := tasks(folder)):
            for pid in pids:
                os.kill(pid, signal.SIGUSR2)
            print(f"  preempted: SIGUSR2 to the job's process {pids} after its first epoch", flush=True)
            return
        time.sleep(0.2)
    raise SystemExit(f"the training did not begin: {process.communicate()[0][-1500:]}")


def main() -> int:
    """Run all three; 0 where each came to its end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the runs")
    parser.add_argument("--launcher", default="submitit_local", choices=("submitit_local", "submitit_slurm"))
    given = parser.parse_args()
    folder = given.folder.resolve()
    LAUNCHER.insert(1, f"hydra/launcher={given.launcher}")
    name = os.path.relpath(folder, Path("runs").resolve())

    print("1. preparation in four shards, each a job")
    four = "shard=1/4,2/4,3/4,4/4"
    deepassay(["prepare", *LAUNCHER, *COMMON, f"name={name}/prepare", four, "store.workers=0", "store.shard_samples=8"])
    deepassay(["prepare", *COMMON, f"name={name}/merged", "merge=true", "store.shard_samples=8"])

    print("2. a training that is preempted and requeued")
    run = folder / "train" / "0"
    process = deepassay(["train", *LAUNCHER, *TRAIN, f"name={name}/train", "seed=0"], wait=False)
    preempt(process, folder / "train", run / "checkpoints")
    out, _ = process.communicate()
    logs = "\n".join(path.read_text() for path in sorted((folder / "train" / ".submitit").rglob("*_log.*")))
    for line in logs.splitlines():
        if any(word in line for word in ("Requeued", "Caught signal", "going on with", "preempt")):
            print("  " + line.strip())
    if process.returncode:
        raise SystemExit(f"that ended with {process.returncode}: {out}")
    if not any(word in logs for word in ("Requeued", "requeue")):
        raise SystemExit("the job ended before it could be preempted: raise trainer.max_epochs in this script")
    state = json.loads((run / "checkpoints" / "state.json").read_text())
    print(f"  {run.name}: {state['status']} after {state['epochs']} epochs")

    print("   the same training, left alone")
    deepassay(["train", *TRAIN, f"name={name}/quiet", "seed=0"])
    weights = [
        json.loads((path / "checkpoints" / "best.json").read_text())["sha256"] for path in (run, folder / "quiet")
    ]
    print(f"  weights {weights[0][:12]} (preempted) and {weights[1][:12]} (left alone)")
    if weights[0] != weights[1]:
        raise SystemExit("they differ")

    print("3. a sweep of three seeds, each a job")
    deepassay(["train", *LAUNCHER, *TRAIN, f"name={name}/sweep", "seed=0,1,2", "trainer.max_epochs=1"])
    deepassay(["runs", "list", str(folder / "sweep")])

    if given.launcher == "submitit_slurm":
        print("4. a training in two processes of one job")
        two = ["hydra.launcher.tasks_per_node=2", "trainer.devices=2", "trainer.batch_size=8", f"name={name}/two"]
        deepassay(["train", *LAUNCHER, *TRAIN, *two])
        state = json.loads((folder / "two" / "0" / "checkpoints" / "state.json").read_text())
        print(f"  {state['status']} after {state['epochs']} epoch")
        if state["status"] != "finished":
            raise SystemExit("it did not finish")
    return 0


if __name__ == "__main__":
    sys.exit(main())
