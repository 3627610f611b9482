"""fit: no test data, the same weights from the same seed, exact resume after SIGKILL, honest ends after signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deepassay.augment.face import FaceAugment
from deepassay.augment.forge import CrossBlended, NoForge, SelfBlended
from deepassay.augment.voice import VoiceAugment
from deepassay.errors import AssayError, ConfigError, LeakError, ManifestError
from deepassay.files import sha256_file
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.lcnn import LCNN
from deepassay.models.weights import load_weights, read_weights
from deepassay.store import prepare_store
from deepassay.training.fit import find_weights, fit
from deepassay.training.loggers import CsvLog, NoLog, TensorBoardLog
from deepassay.training.optimizers import SGD, AdamW
from deepassay.training.predictor import TorchPredictor

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS))

from stand_ins import Patches, Tones, join, write_samples  # noqa: E402


def small() -> LCNN:
    return LCNN(width=0.125, hop_s=0.02, drop_rate=0.3)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    modality = Tones()
    train = write_samples(root, modality, 24, split="train", strength=0.5)
    dev = write_samples(root, modality, 12, split="dev", strength=0.5)
    store = prepare_store(join(train, dev), modality, root / "store", progress=False)
    return {"train": train, "dev": dev, "store": store, "modality": modality}


def run(parts, folder, **options):
    settings = {
        "detector": small, "max_epochs": 3, "batch_size": 8, "augment": VoiceAugment(), "progress": False,
        "optimizer": AdamW(lr=3e-3), "logger": NoLog(), "accelerator": "cpu",
    }  # fmt: skip
    return fit(**parts, folder=folder, **{**settings, **options})


def test_it_learns_and_keeps_what_it_chose(parts, tmp_path):
    result = run(parts, tmp_path / "run", max_epochs=6, logger=CsvLog(every_n_steps=1))
    assert [r["epoch"] for r in result.history] == list(range(6))
    chosen = result.history[result.best_epoch]
    assert chosen["dev_loss"] == min(r["dev_loss"] for r in result.history)
    assert chosen["dev_auc"] > 0.8
    assert not result.interrupted
    assert result.exit_code == 0
    facts = json.loads((tmp_path / "run" / "best.json").read_text())
    assert facts["epoch"] == result.best_epoch
    assert facts["synthetic"] is True
    assert facts["train_manifest_sha256"] == parts["train"].hash
    assert facts["sha256"] == sha256_file(result.best_weights)
    # What was kept is what was scored: the weights give the chosen epoch's dev scores again.
    detector = small()
    load_weights(detector, result.best_weights)
    predict = TorchPredictor(detector, device="cpu")
    scores, labels = [], []
    for sample in parts["dev"]:
        views = parts["modality"].draw(parts["store"].views(sample.sample_id), 8)
        scores.append(parts["modality"].pool(predict(views.data), views))
        labels.append(sample.label)
    scores, labels = np.array(scores), np.array(labels)
    loss = np.logaddexp(0, np.where(labels == 1, -scores, scores))
    expected = 0.5 * (loss[labels == 0].mean() + loss[labels == 1].mean())
    assert chosen["dev_loss"] == pytest.approx(expected, abs=1e-5)
    assert list((tmp_path / "run" / "logs").rglob("metrics.csv"))


def test_there_is_no_way_to_pass_test_data(parts, tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'test'"):
        run(parts, tmp_path / "run", test=parts["dev"])
    swapped = parts["dev"].replace_samples([s for s in parts["dev"]])
    with pytest.raises(LeakError):
        run({**parts, "train": join(parts["train"], swapped)}, tmp_path / "run")


def test_the_same_seed_gives_the_same_weights_whatever_the_workers(parts, tmp_path):
    one = run(parts, tmp_path / "one")
    torch.manual_seed(12345)
    two = run(parts, tmp_path / "two", num_workers=2)
    assert sha256_file(one.best_weights) == sha256_file(two.best_weights)
    other = run(parts, tmp_path / "other", seed=1, max_epochs=1)
    assert sha256_file(other.best_weights) != sha256_file(one.best_weights)


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
sys.path.insert(0, {here!r})
from deepassay.augment.voice import VoiceAugment
from deepassay.manifest import Manifest
from deepassay.models.lcnn import LCNN
from deepassay.store import Store
from deepassay.training.fit import fit
from deepassay.training.loggers import NoLog
from deepassay.training.optimizers import AdamW
from stand_ins import Tones
if __name__ == "__main__":
    train, dev = (Manifest.read_parquet(f"{work}/{{name}}.parquet", {root!r}) for name in ("train", "dev"))
    result = fit(
        detector=lambda: LCNN(width=0.125, hop_s=0.02, drop_rate=0.3), train=train, dev=dev, modality=Tones(),
        store=Store.open({store!r}), folder={folder!r}, max_epochs=25, batch_size=8, augment=VoiceAugment(),
        optimizer=AdamW(lr=3e-3), logger=NoLog(), accelerator="cpu", ema={ema}, num_workers={workers},
    )
    sys.exit(result.exit_code)
"""


def script(parts, tmp_path: Path, name: str, ema: float | None = None, workers: int = 0) -> list[str]:
    for part in ("train", "dev"):
        parts[part].to_parquet(tmp_path / f"{part}.parquet")
    text = SCRIPT.format(
        tests=str(TESTS), here=str(Path(__file__).parent), work=tmp_path, root=str(parts["train"].root),
        store=str(parts["store"].folder), folder=str(tmp_path / name), ema=ema, workers=workers,
    )  # fmt: skip
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def epochs_done(folder: Path) -> int:
    path = folder / "history.json"
    return len(json.loads(path.read_text())) if path.is_file() else 0


def start_and_send(command: list[str], folder: Path, number: int, after: int) -> int:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while epochs_done(folder) < after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait()


@pytest.fixture
def single_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("single_thread")
@pytest.mark.parametrize("ema", [None, pytest.param(0.9, marks=pytest.mark.full)])
def test_a_killed_run_resumes_to_the_same_weights(parts, tmp_path, ema):
    """SIGKILL at a moment nobody chose, then to the end: bit for bit the weights of a run that was left alone."""
    command = script(parts, tmp_path, "broken", ema=ema)
    assert start_and_send(command, tmp_path / "broken", signal.SIGKILL, after=3) == -signal.SIGKILL
    done = epochs_done(tmp_path / "broken")
    assert 3 <= done < 25
    broken = run(parts, tmp_path / "broken", max_epochs=25, ema=ema)
    whole = run(parts, tmp_path / "whole", max_epochs=25, ema=ema)
    for one, two in zip(broken.history, whole.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in two.items() if k != "seconds"}
    assert len(whole.history) == 25
    assert sha256_file(whole.best_weights) == sha256_file(broken.best_weights)
    states = [torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("whole", "broken")]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name]), name
    tables = []
    for result in (whole, broken):
        detector = small()
        load_weights(detector, result.best_weights)
        predict = TorchPredictor(detector, device="cpu")
        tables.append(np.stack([predict(parts["store"].views(s.sample_id).data) for s in parts["dev"]]))
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_signals_end_with_their_code_and_leave_a_resumable_run(parts, tmp_path, number, code):
    assert start_and_send(script(parts, tmp_path, "run"), tmp_path / "run", number, after=2) == code
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "interrupted"
    done = epochs_done(tmp_path / "run")
    assert 2 <= done < 25
    assert not list((tmp_path / "run").glob("*.part"))
    result = run(parts, tmp_path / "run", max_epochs=25)
    assert len(result.history) == 25
    assert result.history[:done] == json.loads((tmp_path / "run" / "history.json").read_text())[:done]


def test_a_signal_to_loader_processes_as_well_is_still_an_interruption(parts, tmp_path):
    """Schedulers and `timeout` signal the whole process group."""
    command = script(parts, tmp_path, "run", workers=1)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 240
    while epochs_done(tmp_path / "run") < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 143, errors.decode()
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "interrupted"


def test_an_interruption_in_process_is_reported_and_handlers_come_back(parts, tmp_path):
    class Stop(VoiceAugment):
        calls = 0

        def __call__(self, data, rng):
            Stop.calls += 1
            if Stop.calls == 30:  # in the second epoch
                signal.raise_signal(signal.SIGTERM)
            return super().__call__(data, rng)

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    result = run(parts, tmp_path / "run", augment=Stop())
    assert result.interrupted
    assert result.exit_code == 143
    assert len(result.history) == 1
    assert result.best_weights.is_file()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    again = run(parts, tmp_path / "run", augment=Stop())
    assert len(again.history) == 3
    assert not again.interrupted


def test_a_finished_run_is_returned_and_another_is_refused(parts, tmp_path):
    result = run(parts, tmp_path / "run")
    stamp = result.best_weights.stat().st_mtime_ns
    again = run(parts, tmp_path / "run")
    assert again.history == result.history
    assert again.best_weights.stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="other settings or data"):
        run(parts, tmp_path / "run", batch_size=4)
    with pytest.raises(ConfigError, match=r"holds a training \(finished\)"):
        run(parts, tmp_path / "run", resume=False)


def test_resume_is_not_a_rerun(parts, tmp_path):
    """Canary of exact resume: what a resumed run does depends on the checkpoint that it finds."""
    plain = run(parts, tmp_path / "plain", max_epochs=4)

    class Stop(VoiceAugment):
        calls = 0

        def __call__(self, data, rng):
            Stop.calls += 1
            if Stop.calls == 60:  # in the third epoch
                signal.raise_signal(signal.SIGTERM)
            return super().__call__(data, rng)

    run(parts, tmp_path / "altered", max_epochs=4, augment=Stop())
    last = tmp_path / "altered" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    for value in state["state_dict"].values():
        if value.is_floating_point():
            value.mul_(1.01)
    torch.save(state, last)
    altered = run(parts, tmp_path / "altered", max_epochs=4, augment=Stop())
    assert altered.history[1] == {**altered.history[1], **{k: v for k, v in plain.history[1].items() if k != "seconds"}}
    assert altered.history[3]["train_loss"] != plain.history[3]["train_loss"]


def test_early_stopping_and_monitor(parts, tmp_path):
    result = run(
        parts, tmp_path / "run", max_epochs=30, patience=2, optimizer=AdamW(lr=1e-6, warm_up=0), monitor="dev_auc"
    )
    assert len(result.history) < 30
    assert result.history[-1]["epoch"] - result.best_epoch == 2
    best = max(r["dev_auc"] for r in result.history)
    assert result.best_epoch == next(r["epoch"] for r in result.history if r["dev_auc"] == best)


def test_warm_start_begins_where_another_run_ended(parts, tmp_path):
    first = run(parts, tmp_path / "runs" / "checkpoints")
    assert find_weights(tmp_path / "runs") == first.best_weights
    frozen = AdamW(lr=1e-12, warm_up=0, weight_decay=0)
    warm = run(parts, tmp_path / "warm", warm_start=tmp_path / "runs", max_epochs=1, optimizer=frozen)
    for name, value in read_weights(first.best_weights).items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(read_weights(warm.best_weights)[name], value, atol=1e-9, rtol=0)
    facts = json.loads((tmp_path / "warm" / "best.json").read_text())
    assert facts["warm_start_sha256"] == sha256_file(first.best_weights)
    with pytest.raises(ConfigError, match="does not fit"):
        run(parts, tmp_path / "wider", warm_start=first.best_weights, detector=lambda: LCNN(width=0.5))
    with pytest.raises(ConfigError, match="no weights there"):
        run(parts, tmp_path / "none", warm_start=tmp_path / "nowhere")


class Broken(Detector):
    """Says NaN after its first step."""

    modality = "voice"

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, views: torch.Tensor) -> DetectorOutput:
        return DetectorOutput(views.mean(1) * self.weight * float("nan"))


def test_divergence_is_an_error(parts, tmp_path):
    with pytest.raises(AssayError, match="diverged"):
        run(parts, tmp_path / "run", detector=Broken)


def test_wrong_arguments_are_refused(parts, tmp_path):
    for wrong in ({"monitor": "test_auc"}, {"max_epochs": 0}, {"ema": 1.0}, {"patience": 0}, {"batch_size": 0}):
        with pytest.raises(ConfigError):
            run(parts, tmp_path / "run", **wrong)
    from deepassay.models.timm_detector import TimmDetector

    with pytest.raises(ConfigError, match="takes face views"):
        run(parts, tmp_path / "run", detector=lambda: TimmDetector(backbone="mobilenetv3_small_050", size=32))


def test_faces_accumulation_averaging_and_tensorboard(tmp_path):
    from deepassay.augment.face import FaceAugment
    from deepassay.models.timm_detector import TimmDetector

    modality = Patches()
    train = write_samples(tmp_path / "media", modality, 16, split="train")
    dev = write_samples(tmp_path / "media", modality, 8, split="dev")
    store = prepare_store(join(train, dev), modality, tmp_path / "store", progress=False)
    parts = {"train": train, "dev": dev, "store": store, "modality": modality}
    result = run(
        parts, tmp_path / "run", detector=lambda: TimmDetector(backbone="mobilenetv3_small_050", size=32),
        augment=FaceAugment(), accumulate=2, ema=0.5, batch_size=4, max_epochs=2, views=2, logger=TensorBoardLog(),
        optimizer=SGD(lr=0.001), balance="generator", epoch_samples=12,
    )  # fmt: skip
    assert len(result.history) == 2
    assert list((tmp_path / "run" / "logs").rglob("events.out*"))
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert "averaging_state" in saved
    assert saved["global_step"] == 4  # 12 draws, batches of 4, two per step, two epochs


class Glimpse(Detector):
    """Mean and contrast of a picture, and a map."""

    modality = "face"

    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(6, 1)
        self.place = torch.nn.Conv2d(3, 1, 1)

    def forward(self, views):
        pixels = views.float().permute(0, 3, 1, 2) / 255
        facts = torch.cat([pixels.mean((2, 3)), pixels.std((2, 3))], 1)
        return DetectorOutput(self.line(facts).squeeze(-1), {"mask": self.place(pixels).squeeze(1)})


class Watching(torch.nn.Module):
    """A loss that remembers the masks it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, output, label, mask=None):
        self.seen.append((label.clone(), None if mask is None else mask.clone()))
        return torch.nn.functional.binary_cross_entropy_with_logits(output.logit, label.float())


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("faces")
    modality = Patches()
    train = write_samples(root, modality, 16, split="train", strength=0.5)
    dev = write_samples(root, modality, 8, split="dev", strength=0.5)
    store = prepare_store(join(train, dev), modality, root / "store", progress=False)
    return {"train": train, "dev": dev, "store": store, "modality": modality}


def test_training_on_real_faces_alone(faces, tmp_path):
    parts = {**faces, **{name: faces[name].select(lambda s: s.label == 0) for name in ("train", "dev")}}
    loss = Watching()
    options = {"detector": Glimpse, "augment": FaceAugment(), "forge": SelfBlended(), "dev_forge": True}
    result = run(parts, tmp_path / "one", **options, loss=loss)
    assert len(result.history) == 3
    facts = json.loads((tmp_path / "one" / "best.json").read_text())
    assert facts["forge"] == {"names": ["sbi"], "share": 1.0, "chosen_on_forged": True}
    for label, mask in loss.seen:
        assert label.sum() * 2 == len(label)
        assert mask.shape == (len(label), 32, 32)
        assert (mask[label == 0] == 0).all()
        assert (mask[label == 1].amax((1, 2)) > 0).all()
    again = run(parts, tmp_path / "two", **options, num_workers=2)
    assert sha256_file(result.best_weights) == sha256_file(again.best_weights)
    with pytest.raises(ConfigError, match="other settings"):
        run(parts, tmp_path / "one", **{**options, "forge": SelfBlended(zoom=0.1)}, loss=Watching())
    with pytest.raises(ManifestError, match="forge=sbi"):
        run(parts, tmp_path / "none", detector=Glimpse, augment=None, forge=NoForge())


def test_a_loss_without_masks_is_called_without_them(faces, tmp_path):
    result = run(faces, tmp_path / "run", detector=Glimpse, augment=None, forge=CrossBlended(), forge_share=0.5)
    assert len(result.history) == 3
