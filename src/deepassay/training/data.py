"""ViewsDataModule: random views of labelled samples to train on, even views to choose on; nothing else gets in."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deepassay.augment.forge import Forge, Forged
from deepassay.errors import AssayError, ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, LABEL_WORDS, REAL, Status
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Modality, Views
from deepassay.store import Store
from deepassay.training.order import Batches, DevBatches, Draw, make_order
from deepassay.training.randomness import sample_rng, stable_seed


class Augment(Protocol):
    """Changes views at random, knowing nothing of labels."""

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Views (k, *shape) -> views of the same shape and type."""
        ...


class MaskedAugment(Augment, Protocol):
    """An `Augment` that can take blending masks along."""

    def with_mask(self, data: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Views (k, *shape) and masks (k, h, w) in [0, 1] -> both, bent alike; the same draws as without masks."""
        ...


# Plain classes and not data classes: Lightning takes those apart to convert their tensors.
class TrainBatch:
    """Views (n, *shape) and labels (n,) of one epoch.

    Args:
        mask: (n, h, w) float32, the weight of what was blended in: 0 for real views, NaN where unknown (given fakes).
            None where no loss asked for masks.
        void: it counts for nothing (see `order.Batches`).
    """

    __slots__ = ("epoch", "label", "mask", "views", "void")

    def __init__(
        self, views: Tensor, label: Tensor, epoch: int, mask: Tensor | None = None, void: bool = False
    ) -> None:
        self.views, self.label, self.epoch, self.mask, self.void = views, label, epoch, mask, void

    def pin_memory(self) -> "TrainBatch":
        """For faster copies to a GPU."""
        mask = None if self.mask is None else self.mask.pin_memory()
        return TrainBatch(self.views.pin_memory(), self.label.pin_memory(), self.epoch, mask, self.void)

    def to(self, device: torch.device, non_blocking: bool = False) -> "TrainBatch":
        """On another device."""
        views = self.views.to(device, non_blocking=non_blocking)
        mask = None if self.mask is None else self.mask.to(device, non_blocking=non_blocking)
        label = self.label.to(device, non_blocking=non_blocking)
        return TrainBatch(views, label, self.epoch, mask, self.void)


class DevBatch:
    """Views (n, *shape) of several samples; of each its position, number of views, and views without data."""

    __slots__ = ("members", "views")

    def __init__(self, views: Tensor, members: tuple[tuple[int, int, Views], ...]) -> None:
        self.views, self.members = views, members

    def to(self, device: torch.device, non_blocking: bool = False) -> "DevBatch":
        """On another device."""
        return DevBatch(self.views.to(device, non_blocking=non_blocking), self.members)


class Fault:
    """An error of a loader process on its way to the main one: torch would turn it into text and lose its hint."""

    def __init__(self, error: AssayError) -> None:
        self.error = error

    def pin_memory(self) -> "Fault":
        """Itself."""
        return self

    def to(self, device: torch.device, non_blocking: bool = False) -> "Fault":
        """Raises the error."""
        raise self.error


def check_splits(train: Manifest, dev: Manifest, *, real_only: Collection[str] = ()) -> None:
    """Refuse anything that would let training or selection see what it must not (laws 3 and 4).

    Args:
        real_only: of "train" and "dev", what may hold real samples alone because a forge makes its fakes.

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
            if label not in found and (label == REAL or name not in real_only):
                raise ManifestError(
                    f"{name} has no {LABEL_WORDS[label]} sample",
                    hint="change the split or the corpus filters; real samples alone need a forge (forge=sbi) with "
                    "trainer.forge_share=1 for train, trainer.dev_forge=true for dev",
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


def _usable(
    manifest: Manifest, store: Store, name: str, real_only: bool
) -> tuple[list[Sample], dict[str, dict[str, int]]]:
    kept, left = [], {}
    for sample in manifest:
        status = store.status(sample.sample_id)
        if status == Status.OK and not (real_only and sample.label == FAKE):
            kept.append(sample)
        else:
            assert sample.label is not None
            reason = str(status) if status != Status.OK else "replaced_by_forged"
            cell = left.setdefault(reason, dict.fromkeys(LABEL_WORDS, 0))
            cell[LABEL_WORDS[sample.label]] += 1
    for label in (REAL,) if real_only else (REAL, FAKE):
        if not any(s.label == label for s in kept):
            raise ManifestError(
                f"{name}: no {LABEL_WORDS[label]} sample has views; left out: {left}",
                hint="look at the statuses of the store; the modality's limits may be too strict for this corpus",
            )
    return kept, left


Item = tuple[np.ndarray, np.ndarray, Draw, np.ndarray | None]  # views, labels, draw, masks


class _Partners:
    """Whom a real sample may be blended with: look-alikes of other subjects and sources among the real samples.

    Args:
        candidates: how many are drawn; of these, one of the ``nearest`` by the forge's description is taken.
    """

    def __init__(
        self, samples: Sequence[Sample], store: Store, forge: Forge, *, candidates: int = 100, nearest: int = 5
    ) -> None:
        self.candidates, self.nearest = candidates, nearest
        self.index = np.array([i for i, s in enumerate(samples) if s.label == REAL], dtype=np.int64)
        self.place = {int(i): at for at, i in enumerate(self.index)}
        self.features = np.stack([forge.describe(store.views(samples[i].sample_id)) for i in self.index])
        # A blank source is one of its own: it ties a sample to no other.
        self.ties = [
            frozenset(samples[i].subjects) | ({("source", samples[i].source_id)} if samples[i].source_id else set())
            for i in self.index
        ]
        if len(self.ties) < 2 or all(t & self.ties[0] for t in self.ties):
            raise ManifestError(
                "train has no two real samples of different subjects and sources to blend",
                hint="use forge=sbi, which needs one picture at a time, or add real samples",
            )

    def pick(self, index: int, rng: np.random.Generator) -> int:
        """A partner's index for a real sample's index."""
        me = self.place[index]
        drawn = rng.permutation(len(self.index))
        others = [at for at in drawn[: self.candidates].tolist() if not self.ties[at] & self.ties[me]]
        if not others:
            others = [at for at in drawn.tolist() if not self.ties[at] & self.ties[me]]
        if not others:
            raise ManifestError(
                "a real sample of train shares its subject or source with all others, there is no partner to blend",
                hint="use forge=sbi, which needs one picture at a time",
            )
        away = np.square(self.features[others] - self.features[me]).sum(1)
        near = np.argsort(away, kind="stable")[: self.nearest]
        return int(self.index[others[int(near[int(rng.integers(len(near)))])]])


def _change(
    augment: Augment | None, data: np.ndarray, mask: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Augment views, and masks where there are any, with draws that depend on the seed alone."""
    if augment is None:
        return data, mask
    rng = np.random.Generator(np.random.Philox(seed))
    if mask is None:
        return augment(data, rng), None
    return augment.with_mask(data, mask, rng)  # type: ignore[attr-defined]


def _forge_pair(
    forge: Forge, augment: Augment | None, views: Views, partner: Views | None, rng: np.random.Generator, masks: bool
) -> Forged:
    """A pair, both halves augmented by the same draws, so that nothing but the blend tells them apart."""
    pair = forge(views, rng, partner)
    seed = int(rng.integers(2**63))
    blended = pair.mask if masks else None
    real, _ = _change(augment, pair.real, None, seed)
    fake, blended = _change(augment, pair.fake, blended, seed)
    return Forged(real, fake, blended)


class _TrainSet(Dataset[Item | Fault]):
    """Draw -> (views (k, *shape), labels (k,), draw, masks (k, h, w) or None); a forged draw gives 2 k views."""

    def __init__(
        self, samples: Sequence[Sample], store: Store, modality: Modality, augment: Augment | None, k: int, seed: int,
        forge: Forge | None = None, masks: bool = False, min_fake_s: float | None = None,
    ) -> None:  # fmt: skip
        self.ids = [s.sample_id for s in samples]
        self.labels = [int(s.label) for s in samples if s.label is not None]
        self.segments = [str(s.attributes.get("fake_segments") or "") for s in samples]
        self.min_fake_s = min_fake_s
        self.store, self.modality, self.augment, self.k, self.seed = store, modality, augment, k, seed
        self.forge, self.masks = forge, masks
        self.partners = _Partners(samples, store, forge) if forge is not None and forge.needs_partner else None

    def __getitem__(self, draw: Draw) -> Item | Fault:
        try:
            return self._item(draw)
        except AssayError as error:
            return Fault(error)

    def _item(self, draw: Draw) -> Item:
        sample_id, label = self.ids[draw.index], self.labels[draw.index]
        rng = sample_rng(self.seed, draw.epoch, sample_id, draw.repeat)
        views = self.modality.draw(self.store.views(sample_id), self.k, rng)
        if draw.forged:
            return self._pair(draw, views, rng)
        labels = np.full(len(views), label)
        if self.min_fake_s is not None and self.segments[draw.index]:
            labels = self.modality.view_labels(views, label, self.segments[draw.index], self.min_fake_s)  # type: ignore
        data = views.data if self.augment is None else self.augment(views.data, rng)
        return data, labels, draw, self._known(data, label) if self.masks else None

    def _pair(self, draw: Draw, views: Views, rng: np.random.Generator) -> Item:
        assert self.forge is not None
        partner = None
        if self.partners is not None:
            other = self.ids[self.partners.pick(draw.index, rng)]
            partner = self.modality.draw(self.store.views(other), self.k, rng)
        pair = _forge_pair(self.forge, self.augment, views, partner, rng, self.masks)
        data = np.concatenate([pair.real, pair.fake])
        mask = None
        if self.masks:
            fake = pair.mask if pair.mask is not None else self._known(pair.fake, FAKE)
            mask = np.concatenate([self._known(pair.real, REAL), fake])
        return data, np.repeat([REAL, FAKE], [len(pair.real), len(pair.fake)]), draw, mask

    def _known(self, data: np.ndarray, label: int) -> np.ndarray:
        """Masks (k, h, w) of views that nothing was blended into by a forge."""
        return np.full(data.shape[:-1], 0.0 if label == REAL else np.nan, np.float32)


def _collate_train(found: list[Item | Fault]) -> TrainBatch | Fault:
    items: list[Item] = []
    for item in found:
        if isinstance(item, Fault):
            return item
        items.append(item)
    views = np.concatenate([data for data, _, _, _ in items])
    label = np.concatenate([label for _, label, _, _ in items]).astype(np.int64)
    masks = [mask for _, _, _, mask in items if mask is not None]
    mask = torch.from_numpy(np.concatenate(masks)) if masks else None
    draw = items[0][2]
    return TrainBatch(torch.from_numpy(views), torch.from_numpy(label), draw.epoch, mask, draw.void)


class _DevSet(Dataset[tuple[int, Views] | Fault]):
    """Position -> (position, even views)."""

    def __init__(self, samples: Sequence[Sample], store: Store, modality: Modality, k: int) -> None:
        self.ids = [s.sample_id for s in samples]
        self.labels = [int(s.label) for s in samples if s.label is not None]
        self.store, self.modality, self.k = store, modality, k

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[int, Views] | Fault:
        try:
            return index, self._views(index)
        except AssayError as error:
            return Fault(error)

    def _views(self, index: int) -> Views:
        return self.modality.draw(self.store.views(self.ids[index]), self.k)


class _ForgedDevSet(_DevSet):
    """The real dev samples, then a forged fake of each: the same pairs in every epoch, augmented as in training.

    Without augmentation a forged fake is told too easily for its score to choose between epochs.
    """

    def __init__(
        self, samples: Sequence[Sample], store: Store, modality: Modality, k: int, seed: int, forge: Forge,
        augment: Augment | None,
    ) -> None:  # fmt: skip
        super().__init__(samples, store, modality, k)
        self.labels = [REAL] * len(self.ids) + [FAKE] * len(self.ids)
        self.seed, self.forge, self.augment = seed, forge, augment
        self.partners = _Partners(samples, store, forge) if forge.needs_partner else None

    def __len__(self) -> int:
        return 2 * len(self.ids)

    def _views(self, index: int) -> Views:
        number = index % len(self.ids)
        views = super()._views(number)
        rng = np.random.Generator(np.random.Philox(stable_seed("dev forge", self.seed, self.ids[number])))
        partner = None
        if self.partners is not None:
            other = self.ids[self.partners.pick(number, rng)]
            partner = self.modality.draw(self.store.views(other), self.k)
        pair = _forge_pair(self.forge, self.augment, views, partner, rng, False)
        return replace(views, data=pair.real if index < len(self.ids) else pair.fake)


def _collate_dev(found: list[tuple[int, Views] | Fault]) -> DevBatch | Fault:
    items: list[tuple[int, Views]] = []
    for item in found:
        if isinstance(item, Fault):
            return item
        items.append(item)
    data = np.concatenate([views.data for _, views in items])
    members = tuple((i, len(v), replace(v, data=np.zeros((len(v), 0), v.data.dtype))) for i, v in items)
    return DevBatch(torch.from_numpy(data), members)


def _start_worker(_: int) -> None:
    """One thread per loader process; Ctrl-C is the parent's business."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _check_forge(
    forge: Forge | None, share: float, dev_forge: bool, masks: bool, augment: Augment | None, batch_size: int
) -> None:
    if forge is None and dev_forge:
        raise ConfigError(
            "dev_forge is true and there is no forge", hint="choose forge=sbi, or trainer.dev_forge=false"
        )
    if forge is not None and not 0 < share <= 1:
        raise ConfigError(f"forge_share is {share}", hint="give a share above 0 and up to 1; forge=none for none")
    if forge is not None and batch_size % 2:
        raise ConfigError(f"batch_size is {batch_size} and a forge makes pairs", hint="give an even trainer.batch_size")
    if masks and augment is not None and not hasattr(augment, "with_mask"):
        raise ConfigError(
            f"the loss asks for blending masks and {type(augment).__name__} cannot take them along",
            hint="use augment=face or augment=none, or give the class a with_mask(data, mask, rng) method",
        )


class ViewsDataModule(LightningDataModule):
    """Training and dev data from a store of prepared views. There is no place for test data.

    Args:
        train, dev: disjoint manifests; see `check_splits`.
        store: holds the views of both.
        modality: cuts views from what the store keeps.
        augment: for training views; None for none.
        views: random views per drawn sample in training. score_views: even views per sample on dev.
        batch_size: samples per batch in training, over all ranks; on dev, batches hold about as many views.
        balance: see `order.EpochOrder`. epoch_samples: draws per epoch, by default the number of training samples.
        num_workers: loader processes per rank; results do not depend on it. loader_timeout_s: how long one batch may
            take them before that is an error.
        forge: makes fakes of real views; None for none.
        forge_share: share of the fake half of every batch that is forged. At 1 given fakes of train are not used.
        dev_forge: choose on forged fakes of the real dev samples instead of on the given fakes of dev.
        masks: give batches blending masks.
        min_fake_s: where the corpus has segments (attribute ``fake_segments``), a view of a fake sample is fake if at
            least that many seconds of it are; None: every view of a fake sample is fake.

    Attributes:
        left_out: samples without views, by split, status and label word.

    Raises:
        LeakError, ManifestError: see `check_splits`; or a class has no sample with views.
        ConfigError: a store of another modality.
    """

    def __init__(
        self, *, train: Manifest, dev: Manifest, store: Store, modality: Modality, augment: Augment | None = None,
        views: int = 1, score_views: int = 8, batch_size: int = 32, balance: str = "label",
        epoch_samples: int | None = None, num_workers: int = 0, seed: int = 0, forge: Forge | None = None,
        forge_share: float = 1.0, dev_forge: bool = False, masks: bool = False, min_fake_s: float | None = None,
        loader_timeout_s: float = 600.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if min_fake_s is not None and (min_fake_s <= 0 or not hasattr(modality, "view_labels")):
            raise ConfigError(
                f"min_fake_s is {min_fake_s} and the modality {modality.name}",
                hint="give seconds above 0, for a modality whose views lie in time (voices); or null",
            )
        _check_forge(forge, forge_share, dev_forge, masks, augment, batch_size)
        if min(views, score_views, batch_size) < 1 or num_workers < 0:
            raise ConfigError(
                f"views {views}, score_views {score_views}, batch_size {batch_size}, num_workers {num_workers}",
                hint="the first three are at least 1, num_workers at least 0",
            )
        made = {"train"} if forge is not None and forge_share == 1 else set()
        made |= {"dev"} if dev_forge else set()
        check_splits(train, dev, real_only=made)
        if store.fingerprint != modality.fingerprint:
            raise ConfigError(
                f"the store was prepared as {store.fingerprint[:12]}, the modality is {modality.fingerprint[:12]}",
                hint="prepare again with this modality config",
            )
        store.check(train)
        store.check(dev)
        self.left_out: dict[str, Mapping[str, Any]] = {}
        train_samples, self.left_out["train"] = _usable(train, store, "train", "train" in made)
        self.dev_samples, self.left_out["dev"] = _usable(dev, store, "dev", dev_forge)
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.loader_timeout_s = loader_timeout_s
        self.score_views = score_views
        self.train_set = _TrainSet(
            train_samples, store, modality, augment, views, seed, forge, masks, min_fake_s
        )  # fmt: skip
        if dev_forge:
            assert forge is not None
            self.dev_set = _ForgedDevSet(self.dev_samples, store, modality, score_views, seed, forge, augment)
        else:
            self.dev_set = _DevSet(self.dev_samples, store, modality, score_views)
        self.order = make_order(
            train_samples, balance=balance, seed=seed, length=epoch_samples,
            forge_share=None if forge is None else forge_share,
        )  # fmt: skip
        if len(self.order) < 2:
            raise ConfigError(f"an epoch has {len(self.order)} samples", hint="raise trainer.epoch_samples or add data")

    @property
    def dev_labels(self) -> np.ndarray:
        """Labels (n,) of what is scored on dev, in the order of its positions; with dev_forge, two per real sample."""
        return np.array(self.dev_set.labels, dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Training batches in an epoch, the same on every rank."""
        return len(Batches(self.order, self.batch_size))

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of an epoch, ordered by (seed, epoch); opening it again gives the epoch that the trainer is in.

        A run that is resumed within an epoch begins with the batch after the last that was learnt from.

        Raises:
            ConfigError: there are more ranks than entries of a batch.
        """
        trainer = self.trainer
        if trainer is not None:
            loop = trainer.fit_loop
            # What has been *processed*: loaders are opened before a resumed run has counted that as completed.
            self.order.epoch = lambda: loop.epoch_progress.current.processed  # type: ignore[attr-defined]
            done = loop.epoch_loop.batch_progress.current
            self.order.first = lambda: done.processed if loop.restarting else 0  # type: ignore[attr-defined]
            self.order.rank, self.order.ranks = trainer.global_rank, trainer.world_size
            if self.order.ranks * self.order.unit > self.batch_size:
                raise ConfigError(
                    f"batch_size is {self.batch_size}, over {self.order.ranks} processes",
                    hint="batch_size counts over all processes: give one sample or more (with a forge, a pair) to each",
                )
        return self._train_loader()

    def _train_loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.train_set, batch_sampler=Batches(self.order, self.batch_size), collate_fn=_collate_train,
            generator=self._generator("train"), pin_memory=torch.cuda.is_available(), **self._workers(),
        )  # fmt: skip

    def _workers(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers, "worker_init_fn": _start_worker,
            "persistent_workers": self.num_workers > 0, "timeout": self.loader_timeout_s if self.num_workers else 0,
        }  # fmt: skip

    def _generator(self, name: str) -> torch.Generator:
        """Loaders draw a seed for their processes; it must not come from the global generator, which the steps use."""
        return torch.Generator().manual_seed(stable_seed("loader", self.seed, name))

    def val_dataloader(self) -> DataLoader[Any]:
        """Even views of dev samples in manifest order, whole batches to every rank (`order.DevBatches`)."""
        batches = DevBatches(len(self.dev_set), max(1, self.batch_size // self.score_views))
        if self.trainer is not None:
            batches.rank, batches.ranks = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(
            self.dev_set, batch_sampler=batches, collate_fn=_collate_dev, generator=self._generator("dev"),
            **self._workers(),
        )  # fmt: skip

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Batches know how to move themselves. Raises what went wrong in a loader process."""
        return batch.to(device, non_blocking=True)
