"""What a night brings: signals and kills in mid-epoch, dead and hanging loaders, damaged files, full disks."""

import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from deepassay.errors import AssayError
from deepassay.files import sha256_file
from deepassay.models.lcnn import LCNN
from deepassay.store import prepare_store
from deepassay.training import fit as room
from deepassay.training.fit import fit
from deepassay.training.loggers import MlflowLog, NoLog, WandbLog
from deepassay.training.optimizers import AdamW

sys.path.append(str(Path(__file__).parents[1]))

from stand_ins import Tones, join, write_samples


class Watched:
    """An augment that does nothing, or one thing at its n-th call (in this process)."""

    def __init__(self, at: int = 0, action=None) -> None:
        self.at, self.action, self.calls = at, action, 0

    def __call__(self, data, rng):
        self.calls += 1
        if self.calls == self.at and self.action is not None:
            self.action()
        return data + rng.normal(0, 0.01, data.shape).astype(data.dtype)


def small() -> LCNN:
    return LCNN(width=0.125, hop_s=0.02, drop_rate=0.3)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    modality = Tones()
    train = write_samples(root, modality, 32, split="train", strength=0.5)
    dev = write_samples(root, modality, 8, split="dev", strength=0.5)
    store = prepare_store(join(train, dev), modality, root / "store", progress=False, shard_samples=8)
    return {"train": train, "dev": dev, "store": store, "modality": modality}


@pytest.fixture(autouse=True)
def described(monkeypatch):
    """The watched augment is the same recipe whatever it watches for."""
    before = room._described
    monkeypatch.setattr(room, "_described", lambda v: "watched" if isinstance(v, Watched) else before(v))


def run(parts, folder, **options):
    """8 batches of 4 per epoch."""
    settings = {
        "detector": small, "max_epochs": 3, "batch_size": 4, "augment": Watched(), "progress": False,
        "optimizer": AdamW(lr=3e-3), "logger": NoLog(), "accelerator": "cpu", "save_minutes": None,
    }  # fmt: skip
    return fit(**parts, folder=folder, **{**settings, **options})


def saved(folder: Path) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


def same(one, two, folders) -> None:
    for left, right in zip(one.history, two.history, strict=True):
        assert {k: v for k, v in left.items() if k != "seconds"} == {k: v for k, v in right.items() if k != "seconds"}
    assert sha256_file(one.best_weights) == sha256_file(two.best_weights)
    states = [saved(folder) for folder in folders]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 1}, {"accumulate": 3, "gradient_clip": None}, {"ema": 0.9}],
    ids=["plain", "loader process", "accumulated", "averaged"],
)
def test_a_signal_in_mid_epoch_loses_nothing(parts, tmp_path, options, monkeypatch):
    """SIGTERM in the second epoch: kept at the next whole step, resumed there, and the end is that of a quiet run."""
    quiet = run(parts, tmp_path / "quiet", **options)
    # With a loader process the augment runs elsewhere: the signal is sent from a step instead.
    step, calls = room.DetectionTask.training_step, []

    def watched(self, batch, batch_idx):
        calls.append((batch.epoch, batch_idx))
        if (batch.epoch, batch_idx) == (1, 4):
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(room.DetectionTask, "training_step", watched)
    first = run(parts, tmp_path / "broken", **options)
    assert (first.interrupted, first.exit_code, len(first.history)) == (True, 143, 1)
    every = options.get("accumulate", 1)
    done = -(-5 // every) * every
    assert calls[-1] == (1, done - 1)
    assert saved(tmp_path / "broken")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"] == done
    calls.clear()
    broken = run(parts, tmp_path / "broken", **options)
    assert calls[0] == (1, done)  # nothing is learnt from twice, nothing is passed over
    assert len(calls) == 24 - 8 - done
    same(quiet, broken, (tmp_path / "quiet", tmp_path / "broken"))


def test_states_are_saved_by_steps_and_a_kill_goes_back_to_the_last(parts, tmp_path):
    class Killed(BaseException):
        """Stands for SIGKILL: nothing of ours runs after it."""

    def die():
        raise Killed

    quiet = run(parts, tmp_path / "quiet")
    with pytest.raises(Killed):
        run(parts, tmp_path / "broken", augment=Watched(32 + 4 * 6 + 2, die), save_steps=3)
    progress = saved(tmp_path / "broken")["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert progress["processed"] == 6
    assert json.loads((tmp_path / "broken" / "state.json").read_text())["status"] == "running"
    watched = Watched()
    broken = run(parts, tmp_path / "broken", augment=watched, save_steps=3)
    assert watched.calls == 96 - 32 - 24
    same(quiet, broken, (tmp_path / "quiet", tmp_path / "broken"))


def test_states_are_saved_by_the_clock_even_if_it_jumps(parts, tmp_path, monkeypatch):
    """The wall clock is not asked: only time.monotonic is."""
    writes, write = [], room._Keeper._keep_state
    monkeypatch.setattr(room._Keeper, "_keep_state", lambda self, *a: (writes.append(1), write(self, *a)))
    monkeypatch.setattr(time, "time", lambda: -1e9)
    run(parts, tmp_path / "often", max_epochs=1, save_minutes=1e-9)
    assert len(writes) == 7  # after every batch but the last
    run(parts, tmp_path / "seldom", max_epochs=1, save_minutes=10)
    assert len(writes) == 7


def test_a_launchers_signal_is_handed_on_once_the_state_is_saved(parts, tmp_path):
    """submitit sends SIGUSR2 before preemption; its own handler then requeues and ends the process."""
    told = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(saved(tmp_path / "run")["global_step"]))
    try:
        result = run(parts, tmp_path / "run", augment=Watched(10, lambda: signal.raise_signal(signal.SIGUSR2)))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert told == [3]
    assert result.interrupted


def test_divergence_names_the_batch_and_keeps_what_was_good(parts, tmp_path, monkeypatch):
    step = room.DetectionTask.training_step

    def bad(self, batch, batch_idx):
        if (batch.epoch, batch_idx) == (1, 2):
            batch.views = batch.views * float("nan")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(room.DetectionTask, "training_step", bad)
    with pytest.raises(
        AssayError, match=r"(?s)epoch 1, batch 2: the training loss is nan.*hint: nothing of it was kept"
    ):
        run(parts, tmp_path / "run", save_steps=1)
    assert all(v.isfinite().all() for v in saved(tmp_path / "run")["state_dict"].values())
    assert (tmp_path / "run" / "best.safetensors").is_file()
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "failed"
    assert "diverged" in state["reason"]


class Dying(Watched):
    """Kills the loader process that it runs in, or sleeps in it."""

    def __init__(self, sleep: bool = False) -> None:
        super().__init__()
        self.sleep = sleep

    def __call__(self, data, rng):
        self.calls += 1
        if self.calls == 9:
            if self.sleep:
                time.sleep(60)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(data, rng)


def test_a_dead_loader_process_is_named_and_the_run_goes_on(parts, tmp_path):
    with pytest.raises(AssayError, match=r"(?s)one of 1 loader processes died.*hint: .*lower trainer.num_workers"):
        run(parts, tmp_path / "run", augment=Dying(), num_workers=1, save_steps=1)
    assert len(run(parts, tmp_path / "run").history) == 3


def test_a_hanging_loader_process_is_an_error_and_no_endless_night(parts, tmp_path):
    with pytest.raises(AssayError, match=r"(?s)given nothing for too long.*hint: .*loader_timeout_s"):
        run(parts, tmp_path / "run", augment=Dying(sleep=True), num_workers=1, loader_timeout_s=3)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_damaged_or_vanished_shard_keeps_its_hint(parts, tmp_path, workers, how):
    """From loader processes, too, where torch would make a text of the error."""
    shutil.copytree(parts["store"].folder, tmp_path / "store")
    store = type(parts["store"]).open(tmp_path / "store")
    shard = sorted((tmp_path / "store" / "shards").iterdir())[1]
    if how == "gone":
        shard.unlink()
    else:
        os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(AssayError, match=rf"(?s){shard.name}.*hint: .*run the same prepare again"):
        run({**parts, "store": store}, tmp_path / "run", num_workers=workers)
    assert len(run(parts, tmp_path / "run").history) == 3


def test_a_full_disk_keeps_the_last_good_state(parts, tmp_path, monkeypatch):
    save, calls = room.Trainer.save_checkpoint, []

    def full(self, path, *rest, **more):
        calls.append(path)
        if len(calls) == 3:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return save(self, path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(room.Trainer, "save_checkpoint", full)
        with pytest.raises(AssayError, match=r"(?s)no space left on the disk.*hint: free some space"):
            run(parts, tmp_path / "run", save_steps=2)
    assert saved(tmp_path / "run")["global_step"] == 4
    assert not list((tmp_path / "run").glob(".*.part"))
    quiet = run(parts, tmp_path / "quiet")
    assert sha256_file(run(parts, tmp_path / "run").best_weights) == sha256_file(quiet.best_weights)


def test_too_small_a_disk_is_seen_before_training(parts, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(AssayError, match=r"(?s)are needed for checkpoints.*hint: free some space"):
        run(parts, tmp_path / "run")


def test_out_of_memory_names_the_remedy(parts, tmp_path):
    def starve():
        raise MemoryError

    with pytest.raises(AssayError, match=r"(?s)out of memory with batch_size 4.*hint: halve trainer.batch_size"):
        run(parts, tmp_path / "run", augment=Watched(5, starve))


def test_a_damaged_state_is_named(parts, tmp_path):
    run(parts, tmp_path / "run", max_epochs=1)
    last = tmp_path / "run" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    with pytest.raises(AssayError, match=r"(?s)last.ckpt: not a readable state.*hint: delete it"):
        run(parts, tmp_path / "run", max_epochs=1)


@pytest.mark.parametrize(("log", "package"), [(MlflowLog(), "mlflow"), (WandbLog(), "wandb")])
def test_loggers_that_are_not_installed_say_so(parts, tmp_path, log, package):
    try:
        __import__(package)
    except ModuleNotFoundError:
        with pytest.raises(AssayError, match=f"{package} is not installed"):
            run(parts, tmp_path / "run", logger=log)
    else:
        assert len(run(parts, tmp_path / "run", logger=log).history) == 3
