"""Near 64-bit perceptual hashes among hundreds of thousands: multi-index hashing in NumPy, and clusters of them."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

HAMMING = 6
_BANDS, _WIDTH = 4, 16
_AT_ONCE = 4_000_000


def unique_pairs(hashes: np.ndarray, radius: int = HAMMING) -> Iterator[np.ndarray]:
    """Pairs of different 64-bit hashes that differ in at most ``radius`` bits, each once, in blocks.

    Two hashes that differ in r bits differ in at most r // 4 bits in one of their four 16-bit bands (Norouzi, Punjani
    and Fleet 2012, Fast search in Hamming space with multi-index hashing), so only such bands are looked up.

    Args:
        hashes: (n,) uint64, all different.

    Yields:
        (m, 2) positions, first < second.
    """
    for number in range(_BANDS):
        for one, two in _found_by_band(hashes, radius, number, None):
            yield np.sort(np.stack([one, two], axis=1), axis=1)


def _band(hashes: np.ndarray, number: int) -> np.ndarray:
    return ((hashes >> np.uint64(_WIDTH * number)) & np.uint64(0xFFFF)).astype(np.int64)


def _found_by_band(
    hashes: np.ndarray, radius: int, number: int, label: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Near pairs that this band and no earlier one finds; with labels, only those of different labels."""
    if len(hashes) < 2:
        return
    inner = radius // _BANDS
    masks = [sum(1 << bit for bit in bits) for k in range(inner + 1) for bits in combinations(range(_WIDTH), k)]
    band = _band(hashes, number)
    order = np.argsort(band, kind="stable")
    starts = np.searchsorted(band[order], np.arange((1 << _WIDTH) + 1))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    only = np.full(1 << _WIDTH, -1)  # the one label of all hashes of a bucket
    if label is not None:
        low, high = np.full(1 << _WIDTH, len(label)), np.full(1 << _WIDTH, -1)
        np.minimum.at(low, band, label)
        np.maximum.at(high, band, label)
        only = np.where(low == high, low, -1)
    for mask in masks:
        partner = band ^ mask
        begin = place + 1 if mask == 0 else starts[partner]
        size = np.where(band <= partner, starts[partner + 1] - begin, 0)
        if label is not None:
            size[only[partner] == label] = 0
        some = np.flatnonzero(size > 0)
        ends = np.cumsum(size[some])
        done = 0
        while done < len(some):
            stop = int(np.searchsorted(ends, (ends[done - 1] if done else 0) + _AT_ONCE, side="left")) + 1
            rows = some[done:stop]
            length = size[rows]
            one = np.repeat(rows, length)
            offset = np.arange(len(one)) - np.repeat(np.cumsum(length) - length, length)
            two = order[np.repeat(begin[rows], length) + offset]
            if label is not None:
                new = label[one] != label[two]
                one, two = one[new], two[new]
            apart = hashes[one] ^ hashes[two]
            near = np.bitwise_count(apart) <= radius
            one, two, apart = one[near], two[near], apart[near]
            fresh = np.ones(len(one), dtype=bool)
            for earlier in range(number):
                part = (apart >> np.uint64(_WIDTH * earlier)) & np.uint64(0xFFFF)
                fresh &= np.bitwise_count(part) > inner
            if fresh.any():
                yield one[fresh], two[fresh]
            done = stop


def near_hashes(hashes: np.ndarray, radius: int = HAMMING) -> np.ndarray:
    """Pairs of 64-bit hashes that differ in at most ``radius`` bits, each once; equal ones included.

    Args:
        hashes: (n,) uint64.

    Returns:
        (m, 2) positions, first < second, sorted.
    """
    different, group = np.unique(hashes, return_inverse=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]) if len(hashes) else []
    found = [np.stack(np.triu_indices(len(m), 1), axis=1) for m in members if len(m) > 1]
    found = [m[pair] for m, pair in zip([m for m in members if len(m) > 1], found, strict=True)]
    for block in unique_pairs(different, radius):
        for a, b in block.tolist():
            one, two = members[a], members[b]
            found.append(np.stack([np.repeat(one, len(two)), np.tile(two, len(one))], axis=1))
    pairs = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.intp)
    pairs = np.sort(pairs, axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def cluster_hashes(hashes: np.ndarray, radius: int = HAMMING) -> np.ndarray:
    """Transitive clusters of hashes that differ in at most ``radius`` bits; 200,000 in seconds.

    Args:
        hashes: (n,) uint64.

    Returns:
        (n,) number of the cluster, in the order of first members.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    different, group = np.unique(hashes, return_inverse=True)
    n = len(different)
    label = np.arange(n)

    def join(label: np.ndarray, one: list[np.ndarray], two: list[np.ndarray]) -> np.ndarray:
        if not one:
            return label
        a, b = label[np.concatenate(one)], label[np.concatenate(two)]
        links = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(n, n))
        return connected_components(links, directed=False)[1][label]

    # Crowds first: every hash against one of its bucket, so that few pairs inside a crowd are left to look at.
    for number in range(_BANDS):
        band = _band(different, number)
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(n)
            chief = np.zeros(1 << _WIDTH, dtype=np.int64)
            chief[band[order]] = order
            near = np.bitwise_count(different ^ different[chief[band]]) <= radius if n else np.zeros(0, bool)
            label = join(label, [np.flatnonzero(near)], [chief[band][near]])
    for number in range(_BANDS):
        one: list[np.ndarray] = []
        two: list[np.ndarray] = []
        for a, b in _found_by_band(different, radius, number, label):
            one.append(a)
            two.append(b)
            if sum(map(len, one)) > _AT_ONCE:
                label, one, two = join(label, one, two), [], []
        label = join(label, one, two)
    _, first, number_of = np.unique(label[group], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number_of]
