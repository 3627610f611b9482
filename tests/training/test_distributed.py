"""Several processes are one: the same weights as one process with the same batch, the same dev scores, one error."""

import json
import sys
from pathlib import Path

import pytest
import torch

from deepassay.errors import AssayError, ConfigError
from deepassay.processes import Place
from deepassay.store import prepare_store
from deepassay.training.fit import fit
from deepassay.training.launch import local_processes
from deepassay.training.loggers import NoLog
from deepassay.training.optimizers import SGD

sys.path.append(str(Path(__file__).parents[1]))

from rank_worlds import batched, grouped, killed, starved
from stand_ins import Tones, join, write_samples


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """23 training samples and 13 of dev: no number of ranks divides either."""
    root = tmp_path_factory.mktemp("corpus")
    modality = Tones()
    train = write_samples(root, modality, 23, split="train", strength=0.5)
    dev = write_samples(root, modality, 13, split="dev", strength=0.5)
    store = prepare_store(join(train, dev), modality, root / "store", progress=False)
    return {"train": train, "dev": dev, "store": store, "modality": modality}


def run(parts, folder, devices=1, **options):
    """Float64, SGD, batches of 6 over all ranks, 4 steps per epoch (the last with 5 samples), 5 epochs: 20 steps."""
    settings = {
        "detector": grouped, "max_epochs": 5, "batch_size": 6, "progress": False, "balance": "none",
        "optimizer": SGD(lr=0.05), "logger": NoLog(), "accelerator": "cpu", "precision": "64-true",
    }  # fmt: skip
    return fit(**parts, folder=folder, devices=devices, **{**settings, **options})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "last.ckpt", weights_only=True)
    assert state["global_step"] == 20
    return state["state_dict"]


@pytest.fixture(scope="module")
def alone(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    return folder, run(parts, folder)


@pytest.mark.parametrize("devices", [2, pytest.param(3, marks=pytest.mark.full)])
def test_ranks_learn_what_one_process_learns(parts, alone, tmp_path, devices):
    folder, one = alone
    many = run(parts, tmp_path / "many", devices=devices)
    for name, value in weights(folder).items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(weights(tmp_path / "many")[name], value, atol=1e-8, rtol=0)
    for left, right in zip(one.history, many.history, strict=True):
        for key in ("train_loss", "dev_loss", "dev_auc", "dev_eer"):
            assert left[key] == pytest.approx(right[key], abs=1e-7)
    assert many.best_epoch == one.best_epoch
    assert json.loads((tmp_path / "many" / "state.json").read_text())["status"] == "finished"
    again = run(parts, tmp_path / "many")  # on another number of devices: the same training
    assert again.history == many.history


@pytest.mark.full
def test_accumulated_batches_and_uneven_class_weights_too(parts, tmp_path):
    from deepassay.models.losses import WeightedBCE

    options = {"accumulate": 2, "batch_size": 3, "max_epochs": 5, "loss": WeightedBCE(real_weight=3.0)}
    run(parts, tmp_path / "one", **options)
    run(parts, tmp_path / "two", devices=2, **options)
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, atol=1e-8, rtol=0)


@pytest.mark.full
def test_batch_norm_takes_each_ranks_own_statistics(parts, tmp_path):
    """What docs/scale.md says of batch norm, and the canary of the test above: there is a difference to be seen."""
    run(parts, tmp_path / "one", detector=batched)
    run(parts, tmp_path / "two", devices=2, detector=batched)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((one[n] - two[n]).abs().max()) for n in one if "running" not in n and "num" not in n) > 1e-4


def test_the_death_of_a_rank_ends_all_with_the_cause(parts, tmp_path):
    with pytest.raises(AssayError, match=r"rank 1 of 2 ended with SIGKILL.*\nhint: .*goes on from the last"):
        run(parts, tmp_path / "run", devices=2, detector=killed)


@pytest.mark.full
def test_a_rank_out_of_memory_is_named_with_a_remedy(parts, tmp_path):
    with pytest.raises(AssayError, match=r"(?s)out of memory with batch_size 6.*hint: halve trainer.batch_size"):
        run(parts, tmp_path / "run", devices=2, detector=starved)


def test_what_cannot_be_handed_to_another_process_is_refused(parts, tmp_path):
    with pytest.raises(ConfigError, match="cannot be handed"):
        run(parts, tmp_path / "run", devices=2, detector=lambda: grouped())


def test_numbers_that_do_not_fit_are_refused(parts, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="num_nodes is 2"):
        run(parts, tmp_path / "run", num_nodes=2)
    with pytest.raises(ConfigError, match="devices is 'many'"):
        run(parts, tmp_path / "run", devices="many")
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=r"4 processes were started, and .* is 3"):
        run(parts, tmp_path / "run", devices=3)


def test_devices_are_counted():
    assert [local_processes("cpu", d) for d in (1, "2", [0, 1, 3], "0,1", "auto")] == [1, 2, 3, 2, 1]


def test_the_place_among_processes_is_read_from_torchrun_and_srun():
    assert Place.here({}) == Place()
    assert Place.here({"RANK": "1", "WORLD_SIZE": "2"}) == Place()  # nobody's launcher
    torchrun = Place.here({"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "5"})
    assert (torchrun.rank, torchrun.ranks) == (1, 2)
    slurm = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7"}
    assert Place.here(slurm) == Place(3, 4, "7.0-0")
    assert Place.here({k: v for k, v in slurm.items() if k != "SLURM_STEP_ID"}) == Place()
    assert Place.here(slurm).job != Place.here({**slurm, "SLURM_RESTART_COUNT": "1"}).job
