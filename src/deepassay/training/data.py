"""ViewsDataModule: random views of labelled samples to train on, even views to choose on; nothing else gets in."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, LABEL_WORDS, REAL, Status
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Modality, Views
from deepassay.store import Store
from deepassay.training.randomness import sample_rng, stable_seed

BALANCES = ("none", "label", "generator", "generator_family", "corpus", "channel", "source_id")


class Augment(Protocol):
    """Changes views at random, knowing nothing of labels."""

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views (k, *shape) -> views of the same shape and type."""
        ...


@dataclass(frozen=True, slots=True)
class Draw:
    """One entry of an epoch: which sample, in which epoch, for the how-many-eth time."""

    index: int
    epoch: int
    repeat: int


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """Views (n, *shape) and labels (n,) of one epoch."""

    views: Tensor
    label: Tensor
    epoch: int

    def pin_memory(self) -> "TrainBatch":
        """For faster copies to a GPU."""
        return TrainBatch(self.views.pin_memory(), self.label.pin_memory(), self.epoch)

    def to(self, device: torch.device, non_blocking: bool = False) -> "TrainBatch":
        """On another device."""
        views = self.views.to(device, non_blocking=non_blocking)
        return TrainBatch(views, self.label.to(device, non_blocking=non_blocking), self.epoch)


@dataclass(frozen=True, slots=True)
class DevBatch:
    """Views (n, *shape) of several samples; of each its position, number of views, and views without data."""

    views: Tensor
    members: tuple[tuple[int, int, Views], ...]

    def to(self, device: torch.device, non_blocking: bool = False) -> "DevBatch":
        """On another device."""
        return DevBatch(self.views.to(device, non_blocking=non_blocking), self.members)


def check_splits(train: Manifest, dev: Manifest) -> None:
    """Refuse anything that would let training or selection see what it must not (laws 3 and 4).

    Raises:
        LeakError: rows of split test; a split's rows in the other's place; a sample, file, subject or source on both
        sides.
        ManifestError: unlabelled rows, or a class missing from either side.
    """
    for name, manifest in (("train", train), ("dev", dev)):
        for sample in manifest:
            if sample.split not in ("", name):
                raise LeakError(
                    f"sample {sample.sample_id!r} belongs to split {sample.split!r} and was given as {name} data",
                    hint=f"pass manifest.split({name!r}); test data are scored after training, never here",
                )
            if sample.label is None:
                raise ManifestError(
                    f"sample {sample.sample_id!r} of {name} has no label",
                    hint="unlabelled samples can be scored, not trained or selected on; drop or label them",
                )
        found = set(manifest.column("label").tolist())
        for label in (REAL, FAKE):
            if label not in found:
                raise ManifestError(
                    f"{name} has no {LABEL_WORDS[label]} sample", hint="change the split or the corpus filters"
                )
    for what, mine in (
        ("sample", lambda s: (s.sample_id,)), ("file", lambda s: (s.sha256,)), ("subject", lambda s: s.subjects),
        ("source", lambda s: (s.source_id,)),
    ):  # fmt: skip
        left = {value for sample in train for value in mine(sample) if value}
        both = sorted({value for sample in dev for value in mine(sample) if value} & left)
        if both:
            raise LeakError(
                f"{len(both)} {what}(s) lie in both train and dev",
                hint=f"split by {what} before training; fakes that tie two splits together are dropped there",
            )


def _usable(manifest: Manifest, store: Store, name: str) -> tuple[list[Sample], dict[str, dict[str, int]]]:
    kept, left = [], {}
    for sample in manifest:
        status = store.status(sample.sample_id)
        if status == Status.OK:
            kept.append(sample)
        else:
            assert sample.label is not None
            cell = left.setdefault(str(status), dict.fromkeys(LABEL_WORDS, 0))
            cell[LABEL_WORDS[sample.label]] += 1
    for label in (REAL, FAKE):
        if not any(s.label == label for s in kept):
            raise ManifestError(
                f"{name}: no {LABEL_WORDS[label]} sample has views; left out: {left}",
                hint="look at the statuses of the store; the modality's limits may be too strict for this corpus",
            )
    return kept, left


class _TrainSet(Dataset[tuple[np.ndarray, int, int]]):
    """Draw -> (views (k, *shape), label, epoch)."""

    def __init__(
        self, samples: Sequence[Sample], store: Store, modality: Modality, augment: Augment | None, k: int, seed: int
    ) -> None:
        self.ids = [s.sample_id for s in samples]
        self.labels = [int(s.label) for s in samples if s.label is not None]
        self.store, self.modality, self.augment, self.k, self.seed = store, modality, augment, k, seed

    def __getitem__(self, draw: Draw) -> tuple[np.ndarray, int, int]:
        sample_id = self.ids[draw.index]
        rng = sample_rng(self.seed, draw.epoch, sample_id, draw.repeat)
        data = self.modality.draw(self.store.views(sample_id), self.k, rng).data
        if self.augment is not None:
            data = self.augment(data, rng)
        return data, self.labels[draw.index], draw.epoch


def _collate_train(items: list[tuple[np.ndarray, int, int]]) -> TrainBatch:
    views = np.concatenate([data for data, _, _ in items])
    label = np.repeat([label for _, label, _ in items], [len(data) for data, _, _ in items])
    return TrainBatch(torch.from_numpy(views), torch.from_numpy(label.astype(np.int64)), items[0][2])


class _DevSet(Dataset[tuple[int, Views]]):
    """Position -> (position, even views)."""

    def __init__(self, samples: Sequence[Sample], store: Store, modality: Modality, k: int) -> None:
        self.ids = [s.sample_id for s in samples]
        self.store, self.modality, self.k = store, modality, k

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[int, Views]:
        return index, self.modality.draw(self.store.views(self.ids[index]), self.k)


def _collate_dev(items: list[tuple[int, Views]]) -> DevBatch:
    data = np.concatenate([views.data for _, views in items])
    members = tuple((i, len(v), replace(v, data=np.zeros((len(v), 0), v.data.dtype))) for i, v in items)
    return DevBatch(torch.from_numpy(data), members)


class EpochOrder(Sampler[Draw]):
    """The order of one epoch, a function of (seed, epoch) alone; every rank takes its share of the same order.

    Args:
        samples: of the training set.
        balance: "none" visits every sample once. "label" gives both classes half of the epoch. A column name gives
            its values within each class equal shares too. Rare samples come several times, each time with other
            views; no sample comes again before all of its group have come.
        length: entries per epoch; by default the number of samples.
    """

    def __init__(self, samples: Sequence[Sample], *, balance: str, seed: int, length: int | None = None) -> None:
        if balance not in BALANCES:
            raise ConfigError(f"balance is {balance!r}", hint=f"use one of {list(BALANCES)}")
        self.seed, self.length = seed, length or len(samples)
        self.groups: dict[int, dict[str, list[int]]] = {}
        for index, sample in enumerate(samples):
            side = 0 if balance == "none" else int(sample.label or 0)
            cell = "" if balance in ("none", "label") else str(getattr(sample, balance))
            self.groups.setdefault(side, {}).setdefault(cell, []).append(index)
        self.epoch: Callable[[], int] = lambda: 0
        self.rank, self.ranks = 0, 1

    def order(self, epoch: int) -> list[Draw]:
        """All draws of an epoch, for all ranks."""
        rng = np.random.Generator(np.random.Philox(stable_seed("order", self.seed, epoch)))
        picked: list[int] = []
        sides = sorted(self.groups)
        for i, side in enumerate(sides):
            share = self.length // len(sides) + (i < self.length % len(sides))
            cells = [self.groups[side][name] for name in sorted(self.groups[side])]
            # Which cells get the left-over entries changes with the epoch, so that no group is starved for good.
            extra = set(rng.permutation(len(cells))[: share % len(cells)].tolist())
            for j, cell in enumerate(cells):
                wanted = share // len(cells) + (j in extra)
                rounds = [rng.permutation(cell) for _ in range(-(-wanted // len(cell)))]
                picked.extend(np.concatenate(rounds)[:wanted].tolist() if rounds else [])
        shuffled = rng.permutation(np.array(picked, dtype=np.int64))
        seen: dict[int, int] = {}
        out = []
        for index in shuffled.tolist():
            out.append(Draw(index, epoch, seen.get(index, 0)))
            seen[index] = seen.get(index, 0) + 1
        return out

    def __len__(self) -> int:
        return math.ceil(self.length / self.ranks)

    def __iter__(self) -> Iterator[Draw]:
        # A generator, so that the epoch is asked for at the first draw: loaders are opened before a resumed run
        # knows it.
        order = self.order(self.epoch())
        order += order[: len(self) * self.ranks - len(order)]  # ranks must take equally many steps
        yield from order[self.rank :: self.ranks]


def _start_worker(_: int) -> None:
    """One thread per loader process; Ctrl-C is the parent's business."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


class ViewsDataModule(LightningDataModule):
    """Training and dev data from a store of prepared views. There is no place for test data.

    Args:
        train, dev: disjoint manifests; see `check_splits`.
        store: holds the views of both.
        modality: cuts views from what the store keeps.
        augment: for training views; None for none.
        views: random views per drawn sample in training. score_views: even views per sample on dev.
        batch_size: samples per batch in training; on dev, batches hold about as many views.
        balance: see `EpochOrder`. epoch_samples: draws per epoch, by default the number of training samples.
        num_workers: loader processes; results do not depend on it.

    Attributes:
        left_out: samples without views, by split, status and label word.

    Raises:
        LeakError, ManifestError: see `check_splits`; or a class has no sample with views.
        ConfigError: a store of another modality.
    """

    def __init__(
        self, *, train: Manifest, dev: Manifest, store: Store, modality: Modality, augment: Augment | None = None,
        views: int = 1, score_views: int = 8, batch_size: int = 32, balance: str = "label",
        epoch_samples: int | None = None, num_workers: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if min(views, score_views, batch_size) < 1 or num_workers < 0:
            raise ConfigError(
                f"views {views}, score_views {score_views}, batch_size {batch_size}, num_workers {num_workers}",
                hint="the first three are at least 1, num_workers at least 0",
            )
        check_splits(train, dev)
        if store.fingerprint != modality.fingerprint:
            raise ConfigError(
                f"the store was prepared as {store.fingerprint[:12]}, the modality is {modality.fingerprint[:12]}",
                hint="prepare again with this modality config",
            )
        store.check(train)
        store.check(dev)
        self.left_out: dict[str, Mapping[str, Any]] = {}
        train_samples, self.left_out["train"] = _usable(train, store, "train")
        self.dev_samples, self.left_out["dev"] = _usable(dev, store, "dev")
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.score_views = score_views
        self.train_set = _TrainSet(train_samples, store, modality, augment, views, seed)
        self.dev_set = _DevSet(self.dev_samples, store, modality, score_views)
        self.order = EpochOrder(train_samples, balance=balance, seed=seed, length=epoch_samples)
        if len(self.order) < 2:
            raise ConfigError(f"an epoch has {len(self.order)} samples", hint="raise trainer.epoch_samples or add data")

    @property
    def dev_labels(self) -> np.ndarray:
        """Labels (n,) of the dev samples that have views, in the order of their positions."""
        return np.array([s.label for s in self.dev_samples], dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch, per rank."""
        return len(self._train_loader())

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of an epoch, ordered by (seed, epoch); opening it again gives the epoch that the trainer is in."""
        trainer = self.trainer
        if trainer is not None:
            self.order.epoch = lambda: trainer.current_epoch
            self.order.rank, self.order.ranks = trainer.global_rank, trainer.world_size
        return self._train_loader()

    def _train_loader(self) -> DataLoader[Any]:
        # A last batch of one view would leave batch norm without a variance.
        lonely = len(self.order) % self.batch_size == 1 and len(self.order) > self.batch_size
        return DataLoader(
            self.train_set, batch_size=self.batch_size, sampler=self.order, collate_fn=_collate_train,
            num_workers=self.num_workers, worker_init_fn=_start_worker, persistent_workers=self.num_workers > 0,
            generator=self._generator("train"), drop_last=lonely, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def _generator(self, name: str) -> torch.Generator:
        """Loaders draw a seed for their processes; it must not come from the global generator, which the steps use."""
        return torch.Generator().manual_seed(stable_seed("loader", self.seed, name))

    def val_dataloader(self) -> DataLoader[Any]:
        """Even views of every dev sample, in manifest order; every rank sees all of them."""
        return DataLoader(
            self.dev_set, batch_size=max(1, self.batch_size // self.score_views), shuffle=False,
            collate_fn=_collate_dev, num_workers=self.num_workers, worker_init_fn=_start_worker,
            persistent_workers=self.num_workers > 0, generator=self._generator("dev"),
        )  # fmt: skip

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches know how to move themselves."""
        return batch.to(device, non_blocking=True)
