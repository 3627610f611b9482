"""The order of an epoch: balanced, a function of (seed, epoch), the same batches for any ranks, entered anywhere."""

import itertools
from collections import Counter

import numpy as np
import pytest

from deepassay.errors import ConfigError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample
from deepassay.training import order as room
from deepassay.training.order import Batches, Cells, DevBatches, EpochOrder, StreamedOrder, make_order, permuted

KINDS = (EpochOrder, StreamedOrder)


def uneven(n_real: int, generators: dict[str, int]) -> list[Sample]:
    reals = [Sample(sample_id=f"r{i}", path="x", media="audio", modality="voice", label=0) for i in range(n_real)]
    return reals + [
        Sample(sample_id=f"{name}{i}", path="x", media="audio", modality="voice", label=1, generator=name)
        for name, n in generators.items()
        for i in range(n)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_epochs(kind):
    samples = uneven(90, {"a": 8, "b": 2})
    plain = kind(samples, balance="none", seed=0)
    assert sorted(d.index for d in plain.order(0)) == list(range(100))
    by_label = kind(samples, balance="label", seed=0).order(0)
    assert Counter(samples[d.index].label for d in by_label) == {0: 50, 1: 50}
    times = Counter(d.index for d in by_label if d.index >= 90)
    assert set(times.values()) == {5}  # no fake comes again before all have come
    assert len({(d.index, d.repeat) for d in by_label}) == 100  # and each time with randomness of its own
    by_generator = kind(samples, balance="generator", seed=0).order(0)
    assert Counter(samples[d.index].generator for d in by_generator) == {"": 50, "a": 25, "b": 25}
    assert by_label != kind(samples, balance="label", seed=0).order(1)
    assert by_label != kind(samples, balance="label", seed=1).order(0)
    assert by_label == kind(samples, balance="label", seed=0).order(0)
    with pytest.raises(ConfigError, match="balance is"):
        kind(samples, balance="luck", seed=0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_over_goes_to_other_cells_in_other_epochs(kind):
    samples = uneven(4, {name: 3 for name in "abcdefg"})
    order = kind(samples, balance="generator", seed=0, length=20)
    lucky = [frozenset(g for g, n in Counter(samples[d.index].generator for d in order.order(e)).items() if n == 2)
             for e in range(30)]  # fmt: skip
    assert len(set(lucky)) > 5
    assert all(len(found - {""}) == 3 for found in lucky)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [None, 0.5, 1.0])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_every_batch_and_nothing_is_dropped_or_doubled(kind, share, ranks):
    """23 entries in batches of 6: a last batch of 5 (or 4, in pairs), for which a rank may have nothing left."""
    samples = uneven(11, {"a": 12})
    alone = kind(samples, balance="label", seed=4, length=23, forge_share=share)
    whole = list(Batches(alone, 6))
    assert [draw for batch in whole for draw in batch] == alone.order(0)
    parts = []
    for rank in range(ranks):
        order = kind(samples, balance="label", seed=4, length=23, forge_share=share)
        order.rank, order.ranks = rank, ranks
        parts.append(list(Batches(order, 6)))
        assert len(parts[-1]) == len(whole) == len(Batches(order, 6)) == 4
    for number, batch in enumerate(whole):
        together = [draw for part in parts for draw in part[number] if not draw.void]
        assert Counter(together) == Counter(batch)
        assert all(sum(1 + draw.forged for draw in part[number]) >= 2 for part in parts)


def test_a_rank_without_work_is_given_a_void_entry():
    order = EpochOrder(uneven(4, {"a": 4}), balance="none", seed=0)
    order.rank, order.ranks = 2, 3
    *full, last = Batches(order, 6)
    assert all(not d.void for batch in full for d in batch)
    assert [d.void for d in last] == [True, True]  # two, for batch norm's sake


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_is_entered_after_the_batches_that_are_done(kind):
    order = kind(uneven(20, {"a": 20}), balance="label", seed=0)
    order.epoch = lambda: 3
    whole = list(Batches(order, 8))
    order.first = lambda: 2
    assert list(Batches(order, 8)) == whole[2:]
    assert len(Batches(order, 8)) == 5  # of the whole epoch: that is how Lightning counts


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_a_forged_epoch_are_whole(kind):
    samples = uneven(5, {"a": 6})
    whole = kind(samples, balance="label", seed=0, forge_share=0.5, length=20).units(0)
    assert sum(len(u) == 1 for u in whole) == 5
    assert all((len(u) == 1) == u[0].forged and samples[u[0].index].label == REAL for u in whole)
    assert all(samples[u[1].index].label == FAKE for u in whole if len(u) == 2)
    assert len(kind(samples, balance="none", seed=0, forge_share=1.0).units(0)) == 11


def test_a_lonely_last_entry_is_left_out():
    assert len(Batches(EpochOrder(uneven(5, {"a": 5}), balance="none", seed=0), 3)) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 4097])
def test_a_permutation_takes_every_place_once(size):
    for key in (0, 1, 2**63):
        out = permuted(np.arange(size, dtype=np.uint64), size, key)
        assert sorted(out.tolist()) == list(range(size))


def test_permutations_look_shuffled_and_differ_by_key():
    n = 4096
    seen = [permuted(np.arange(n, dtype=np.uint64), n, key).astype(float) for key in range(20)]
    steps = np.arange(n) - (n - 1) / 2
    for one, two in itertools.pairwise(seen):
        assert abs(np.corrcoef(steps, one)[0, 1]) < 0.07
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.07
        assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.07


def test_long_epochs_are_streamed(monkeypatch):
    samples = uneven(5, {"a": 5})
    options = {"balance": "label", "seed": 0, "forge_share": None}
    assert type(make_order(samples, length=None, **options)) is EpochOrder
    monkeypatch.setattr(room, "STREAM_FROM", 10)
    assert type(make_order(samples, length=None, **options)) is StreamedOrder


def test_cells_come_in_the_order_of_their_words():
    cells = Cells(np.array([1, 0, 1, 0, 1]), np.array(["b", "z", "a", "", "b"], dtype=object), n=5)
    assert [cells.members(c).tolist() for side in (0, 1) for c in cells.sides[side]] == [[3], [1], [2], [0, 4]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_dev_batches_are_the_same_for_any_ranks(ranks):
    whole = DevBatches(11, 3).batches
    parts = []
    for rank in range(ranks):
        batches = DevBatches(11, 3)
        batches.rank, batches.ranks = rank, ranks
        parts.append(list(batches))
        assert len(parts[-1]) == len(batches) == -(-4 // ranks)
    assert {tuple(b) for part in parts for b in part} == {tuple(b) for b in whole}
    # What comes twice is the last batch, so that every rank takes equally many steps.
    extra = Counter(tuple(b) for part in parts for b in part) - Counter(tuple(b) for b in whole)
    assert set(extra) <= {tuple(whole[-1])}
