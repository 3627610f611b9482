"""The order of an epoch: which sample comes when, balanced, a function of (seed, epoch), shared by all ranks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Sampler

from deepassay.errors import ConfigError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample
from deepassay.training.randomness import stable_seed

BALANCES = ("none", "label", "generator", "generator_family", "corpus", "channel", "source_id")
# From so many entries on, an epoch is computed entry by entry instead of being laid out.
STREAM_FROM = 1_000_000


@dataclass(frozen=True, slots=True)
class Draw:
    """One entry of an epoch: which sample, in which epoch, for the how-many-eth time.

    Args:
        forged: make a pair of the (real) sample: itself and a fake of it.
        void: it fills the place of a rank that has nothing left to do in this step, and counts for nothing.
    """

    index: int
    epoch: int
    repeat: int
    forged: bool = False
    void: bool = False


Unit = tuple[Draw, ...]


class Cells:
    """Rows of a training set by class, and within a class by the value of a column; numbers only, 8 bytes a row.

    Args:
        labels: (n,) 0 or 1; None puts all rows into one class.
        values: (n,) of anything that can be sorted (an Arrow or NumPy column); None: one cell per class.
    """

    def __init__(self, labels: np.ndarray | None, values: Any = None, *, n: int) -> None:
        side = np.zeros(n, np.int64) if labels is None else np.asarray(labels, dtype=np.int64)
        codes = np.zeros(n, np.int64) if values is None else _codes(values)
        width = int(codes.max(initial=0)) + 1
        key = side * width + codes
        self.rows = np.argsort(key, kind="stable")
        cells, starts = np.unique(key[self.rows], return_index=True)
        self.starts = np.append(starts, n).astype(np.int64)
        self.sides: dict[int, range] = {}
        for value in np.unique(cells // width):
            found = np.flatnonzero(cells // width == value)
            self.sides[int(value)] = range(int(found[0]), int(found[-1]) + 1)

    @classmethod
    def of(cls, samples: Sequence[Sample], balance: str) -> "Cells":
        """Of samples, by what `EpochOrder` balances."""
        labels = None if balance == "none" else np.array([int(s.label or 0) for s in samples], dtype=np.int64)
        values = None
        if balance not in ("none", "label"):
            values = np.array([str(getattr(s, balance)) for s in samples], dtype=object)
        return cls(labels, values, n=len(samples))

    def members(self, cell: int) -> np.ndarray:
        """Rows of one cell, ascending."""
        return self.rows[self.starts[cell] : self.starts[cell + 1]]


def _codes(values: Any) -> np.ndarray:
    """Whole numbers (n,) in the order of the sorted distinct values."""
    import pyarrow as pa

    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if not isinstance(array, pa.Array):
        array = pa.array(array)
    coded = array.dictionary_encode(null_encoding="encode")
    words = [word or "" for word in coded.dictionary.to_pylist()]
    rank = np.empty(len(words), np.int64)
    rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    return rank[coded.indices.to_numpy()] if len(words) else np.zeros(len(array), np.int64)


class Order(Protocol):
    """What batches are cut from.

    Attributes:
        length: entries in an epoch. unit: entries that are never torn apart.
        epoch: gives the epoch that the trainer is in. first: how many batches of it are done.
        rank, ranks: this process among those that share every batch.
    """

    length: int
    unit: int
    epoch: Callable[[], int]
    first: Callable[[], int]
    rank: int
    ranks: int

    def take(self, epoch: int, start: int, stop: int) -> list[Unit]:
        """Units ``start`` to ``stop`` of an epoch, fewer at its end."""
        ...


class EpochOrder:
    """The order of one epoch, a function of (seed, epoch) alone; every rank takes its share of every batch of it.

    An epoch consists of units that are never torn apart: one draw each, or, with a forge, a pair of a real and a fake:
    a real sample with a fake made of it, or a real sample and a given fake.

    Args:
        samples: of the training set, or their `Cells` for the balance that is asked for.
        balance: "none" visits every sample once. "label" gives both classes half of the epoch. A column name gives
            its values within each class equal shares too. Rare samples come several times, each time with other
            views; no sample comes again before all of its group have come. With a forge both classes have half of
            the epoch in any case.
        length: entries per epoch; by default the number of samples, and with a forge of all pairs twice the number of
            real samples.
        forge_share: share of the fake half that is forged; None without a forge.
    """

    def __init__(
        self, samples: Sequence[Sample] | Cells, *, balance: str, seed: int, length: int | None = None,
        forge_share: float | None = None,
    ) -> None:  # fmt: skip
        if balance not in BALANCES:
            raise ConfigError(f"balance is {balance!r}", hint=f"use one of {list(BALANCES)}")
        if forge_share is not None and balance == "none":
            balance = "label"
        self.seed, self.forge_share = seed, forge_share
        self.cells = samples if isinstance(samples, Cells) else Cells.of(samples, balance)
        n = len(self.cells.rows)
        self.unit = 1 if forge_share is None else 2
        self.length = length or (2 * n if forge_share == 1 else n)
        self.length -= self.length % self.unit
        self.epoch: Callable[[], int] = lambda: 0
        self.first: Callable[[], int] = lambda: 0
        self.rank, self.ranks = 0, 1
        self._laid: tuple[int, list[Unit]] | None = None

    def __len__(self) -> int:
        """Entries of an epoch, over all ranks."""
        return self.length

    def order(self, epoch: int) -> list[Draw]:
        """All draws of an epoch, for all ranks; a forged draw stands for two entries."""
        return [draw for unit in self.units(epoch) for draw in unit]

    def take(self, epoch: int, start: int, stop: int) -> list[Unit]:
        """Units ``start`` to ``stop`` of an epoch, fewer at its end."""
        if self._laid is None or self._laid[0] != epoch:
            self._laid = epoch, self.units(epoch)
        return self._laid[1][start:stop]

    def units(self, epoch: int) -> list[Unit]:
        """All units of an epoch, for all ranks."""
        rng = np.random.Generator(np.random.Philox(stable_seed("order", self.seed, epoch)))
        if self.forge_share is None:
            sides = sorted(self.cells.sides)
            shares = [self.length // len(sides) + (i < self.length % len(sides)) for i in range(len(sides))]
            picked = [index for side, n in zip(sides, shares, strict=True) for index in self._pick(side, n, rng)]
            return [(draw,) for draw in self._number(rng.permutation(np.array(picked, dtype=np.int64)), epoch)]
        pairs = self.length // 2
        forged = round(pairs * self.forge_share)
        reals = np.array(self._pick(REAL, pairs, rng), dtype=np.int64)[rng.permutation(pairs)]
        fakes = np.array(self._pick(FAKE, pairs - forged, rng), dtype=np.int64)
        reals = self._number(reals, epoch)
        given = self._number(rng.permutation(fakes), epoch)
        units: list[Unit] = [(replace(draw, forged=True),) for draw in reals[:forged]]
        units += list(zip(reals[forged:], given, strict=True))
        return [units[i] for i in rng.permutation(len(units)).tolist()]

    def _pick(self, side: int, share: int, rng: np.random.Generator) -> list[int]:
        """``share`` entries of one class, its cells in equal parts."""
        picked: list[int] = []
        if share:
            cells = [self.cells.members(cell) for cell in self.cells.sides[side]]
            # Which cells get the left-over entries changes with the epoch, so that no group is starved for good.
            extra = set(rng.permutation(len(cells))[: share % len(cells)].tolist())
            for j, cell in enumerate(cells):
                wanted = share // len(cells) + (j in extra)
                rounds = [rng.permutation(cell) for _ in range(-(-wanted // len(cell)))]
                picked.extend(np.concatenate(rounds)[:wanted].tolist() if rounds else [])
        return picked

    @staticmethod
    def _number(indices: np.ndarray, epoch: int) -> list[Draw]:
        seen: dict[int, int] = {}
        out = []
        for index in indices.tolist():
            out.append(Draw(index, epoch, seen.get(index, 0)))
            seen[index] = seen.get(index, 0) + 1
        return out


class StreamedOrder(EpochOrder):
    """The same promises as `EpochOrder` for millions of rows: entry i of an epoch is computed, none is laid out.

    Shuffling is a keyed permutation of 0 .. n-1 (a Feistel network that walks until it lands inside, as in Black and
    Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002), so an epoch costs no memory and can be entered
    anywhere. ``repeat`` counts how often the sample's cell has been gone through before.
    """

    _shares: "tuple[int, dict[int, _Share]] | None" = None

    def units(self, epoch: int) -> list[Unit]:
        """All units of an epoch; meant for short ones."""
        return self.take(epoch, 0, self.length // self.unit)

    def take(self, epoch: int, start: int, stop: int) -> list[Unit]:
        """Units ``start`` to ``stop`` of an epoch, fewer at its end."""
        if self._shares is None or self._shares[0] != epoch:
            self._shares = epoch, self._lay(epoch)
        shares = self._shares[1]
        total = self.length // self.unit
        at = np.arange(start, min(stop, total), dtype=np.uint64)
        slots = permuted(at, total, stable_seed("streamed order", self.seed, epoch)).astype(np.int64)
        if self.forge_share is None:
            index, repeat = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
            for share, low in zip(shares.values(), np.cumsum([0] + [s.total for s in shares.values()]), strict=False):
                mine = (slots >= low) & (slots < low + share.total)
                index[mine], repeat[mine] = share.pick(slots[mine] - low)
            return [(Draw(i, epoch, r),) for i, r in zip(index.tolist(), repeat.tolist(), strict=True)]
        forged = round(total * self.forge_share)
        reals, times = shares[REAL].pick(slots)
        given = slots >= forged
        others = dict(
            zip(slots[given].tolist(), zip(*self._fakes(shares, slots[given] - forged), strict=True), strict=True)
        )
        out: list[Unit] = []
        for slot, index, repeat in zip(slots.tolist(), reals.tolist(), times.tolist(), strict=True):
            if slot < forged:
                out.append((Draw(index, epoch, repeat, forged=True),))
            else:
                fake, again = others[slot]
                out.append((Draw(index, epoch, repeat), Draw(int(fake), epoch, int(again))))
        return out

    @staticmethod
    def _fakes(shares: "dict[int, _Share]", slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return shares[FAKE].pick(slots) if len(slots) else (np.zeros(0, np.int64), np.zeros(0, np.int64))

    def _lay(self, epoch: int) -> "dict[int, _Share]":
        sides = sorted(self.cells.sides)
        if self.forge_share is None:
            wanted = {s: self.length // len(sides) + (i < self.length % len(sides)) for i, s in enumerate(sides)}
        else:
            pairs = self.length // 2
            wanted = {REAL: pairs, FAKE: pairs - round(pairs * self.forge_share)}
        return {
            side: _Share(self.cells, side, n, stable_seed("share", self.seed, epoch, side))
            for side, n in wanted.items()
            if n
        }


class _Share:
    """A class's entries of one epoch, its cells in equal parts, in the order of the cells."""

    def __init__(self, cells: Cells, side: int, total: int, key: int) -> None:
        self.cells, self.total, self.key = cells, total, key
        span = cells.sides[side]
        self.begin = cells.starts[span.start : span.stop]
        self.size = np.diff(cells.starts[span.start : span.stop + 1])
        count = len(self.size)
        lucky = permuted(np.arange(count, dtype=np.uint64), count, key).astype(np.int64) < total % count
        self.ends = np.cumsum(total // count + lucky)

    def pick(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and repeats (n,) at places (n,) of the share."""
        cell = np.searchsorted(self.ends, slots, side="right")
        within = slots - np.where(cell > 0, self.ends[np.maximum(cell, 1) - 1], 0)
        rounds, place = np.divmod(within, self.size[cell])
        keys = _mix(np.uint64(self.key) ^ (cell.astype(np.uint64) << np.uint64(20)) ^ rounds.astype(np.uint64))
        inside = permuted(place.astype(np.uint64), self.size[cell].astype(np.uint64), keys).astype(np.int64)
        return self.cells.rows[self.begin[cell] + inside], rounds


def _mix(x: np.ndarray | np.uint64) -> Any:
    """SplitMix64's finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def permuted(at: np.ndarray, size: Any, key: Any) -> np.ndarray:
    """Where a keyed permutation of 0 .. size-1 takes places (n,) uint64; sizes and keys are scalars or (n,).

    Args:
        at: each below its size. size: 1 to 2**62. key: any 64 bits; another key, another permutation.
    """
    at = np.asarray(at, np.uint64)
    size = np.broadcast_to(np.asarray(size, np.uint64), at.shape)
    key = np.broadcast_to(np.asarray(key, np.uint64), at.shape)
    half = np.maximum((np.ceil(np.log2(np.maximum(size, 2).astype(np.float64))).astype(np.uint64) + 1) // 2, 1)
    half = half.astype(np.uint64)
    out, left = at.copy(), np.arange(len(at))
    while len(left):
        mask = (np.uint64(1) << half[left]) - np.uint64(1)
        high, low = out[left] >> half[left], out[left] & mask
        for turn in range(4):
            high, low = low, high ^ (_mix(low ^ _mix(key[left] + np.uint64(turn))) & mask)
        out[left] = (high << half[left]) | low
        left = left[out[left] >= size[left]]
    return out


def make_order(
    samples: Sequence[Sample] | Cells, *, balance: str, seed: int, length: int | None, forge_share: float | None
) -> EpochOrder:
    """`EpochOrder`, or from `STREAM_FROM` entries on `StreamedOrder`."""
    n = length or (len(samples.rows) if isinstance(samples, Cells) else len(samples))
    kind = StreamedOrder if n >= STREAM_FROM else EpochOrder
    return kind(samples, balance=balance, seed=seed, length=length, forge_share=forge_share)


class Batches(Sampler[list[Draw]]):
    """This rank's part of every batch: units r, r + ranks, ... of it, so that batches are the same for any ranks.

    A rank for which a last, short batch has nothing left gets a void entry, so that all take equally many steps. A
    last batch of a single entry is left out: batch norm has no variance of one view.
    """

    def __init__(self, order: EpochOrder, batch_size: int) -> None:
        self.order, self.batch_size = order, batch_size

    def __len__(self) -> int:
        """Batches of a whole epoch, those done before a resumed run's start included."""
        n = self.order.length
        lonely = n % self.batch_size == 1 and n > self.batch_size
        return n // self.batch_size if lonely else math.ceil(n / self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order, size = self.order, self.batch_size // self.order.unit
        epoch = order.epoch()
        for number in range(order.first(), len(self)):
            units = order.take(epoch, number * size, (number + 1) * size)
            # Batch norm has no variance of one view: nobody is given a single one, some rather have nothing to do.
            active = min(order.ranks, max(1, len(units) * order.unit // 2))
            if order.rank < active:
                mine = units[order.rank :: active]
            else:
                mine = [tuple(replace(draw, void=True) for draw in unit) for unit in units[:2]]
            yield [draw for unit in mine for draw in unit]


class DevBatches(Sampler[list[int]]):
    """Positions 0 .. n-1 in order, in batches that are the same for any number of ranks; every rank takes whole ones.

    A rank that has one batch less than others does the last batch once more: the same scores at the same positions.
    """

    def __init__(self, n: int, batch_size: int) -> None:
        self.batches = [list(range(i, min(i + batch_size, n))) for i in range(0, n, batch_size)]
        self.rank, self.ranks = 0, 1

    def __len__(self) -> int:
        return math.ceil(len(self.batches) / self.ranks)

    def __iter__(self) -> Iterator[list[int]]:
        mine = self.batches[self.rank :: self.ranks]
        yield from [*mine, *([self.batches[-1]] * (len(self) - len(mine)))]
