"""Copies and near-duplicates: prints propose pairs, a second measure confirms them, and pairs become clusters."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from deepassay.audit.hashes import HAMMING, unique_pairs
from deepassay.audit.looking import BANDS, Looked
from deepassay.audit.report import BLOCK, PASS, SHOWN, SKIP, AuditFinding

# Near-duplicates, calibrated on pictures and utterances of many origins against their own copies. Pictures (300): JPEG
# quality 30, WebP 50, half and third size keep a distance <= 4 and a detail cosine >= 0.93 (1st percentile 0.97), while
# 176 of 5.9 million pairs of different files pass both limits (edits of one picture). A crop by 3 % on each side is not
# recognised. Voices (50): MP3 32, AAC 48, AMR 12.2, Opus 24 and 12 kbit/s and 20 dB of noise keep an aligned cosine
# >= 0.95 in 95 of 100 cases (0.98 misses half of the Opus copies); 435 pairs of strangers reach 0.64. Time-stretched
# copies (25 voices, tempo changed by 3, 5 and 10 %, pitch kept) reach 0.84 to 0.93 at their best tempo, 200 pairs of
# strangers 0.69; the modulation print proposes all of them at 3 %, three in four at 5 % and few at 10 %. Two people who
# say one short word reach 0.91, and one short sentence 0.85: clips under two seconds are left out; the limit is 0.88.
DETAIL_COSINE = 0.95
MEL_COSINE = 0.95
STRETCHED_COSINE = 0.88
_STRETCH_FRAMES = 125
_STRETCH_FROM = 0.6
_TEMPI = (0.88, 0.9, 0.92, 0.94, 0.96, 0.98, 1.02, 1.04, 1.06, 1.08, 1.1, 1.12)
_MEL_CANDIDATE = 0.72
_MEL_OVERLAP = 0.6
_MANY = 64  # frames of one hash beyond which not every pair is looked at


def aligned_cosine(one: np.ndarray, two: np.ndarray) -> float:
    """Cosine of two centred log-mel pictures at the lag that suits them best, over at least 60 % of the shorter one.

    Args:
        one, two: (time, bands).
    """
    a, b = one.astype(np.float64) - one.mean(), two.astype(np.float64) - two.mean()
    least = max(4, int(np.ceil(_MEL_OVERLAP * min(len(a), len(b)))))
    size = 1 << (len(a) + len(b) - 1).bit_length()
    spectrum = np.fft.rfft(a, size, axis=0) * np.conj(np.fft.rfft(b, size, axis=0))
    cross = np.fft.irfft(spectrum.sum(axis=1), size)
    sum_a = np.concatenate([[0.0], np.cumsum((a**2).sum(axis=1))])
    sum_b = np.concatenate([[0.0], np.cumsum((b**2).sum(axis=1))])
    lags = np.arange(-(len(b) - least), len(a) - least + 1)  # frame t of `two` meets frame t + lag of `one`
    start, stop = np.maximum(lags, 0), np.minimum(len(a), len(b) + lags)
    energy = (sum_a[stop] - sum_a[start]) * (sum_b[stop - lags] - sum_b[start - lags])
    good = cross[lags % size] / np.sqrt(energy + 1e-12)
    lag = int(lags[int(np.argmax(good))])
    x, y = a[max(lag, 0) : min(len(a), len(b) + lag)], b[max(-lag, 0) : min(len(b), len(a) - lag)]
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum() + 1e-12))


def stretched_cosine(one: np.ndarray, two: np.ndarray) -> float:
    """`aligned_cosine` at the best of twelve tempi from 0.88 to 1.12: recognises a copy played faster at its own pitch.

    Args:
        one, two: (time, bands).
    """
    return max(aligned_cosine(_at_tempo(one, tempo), two) for tempo in _TEMPI)


def _at_tempo(mels: np.ndarray, tempo: float) -> np.ndarray:
    at = np.linspace(0, len(mels) - 1, max(4, round(len(mels) * tempo)))
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(mels) - 1)
    share = (at - low)[:, None]
    return mels[low] * (1 - share) + mels[high] * share


def exact_copies(looked: list[Looked]) -> tuple[AuditFinding, int]:
    """Files that lie byte for byte in two splits, and how many."""
    where: dict[str, dict[str, str]] = defaultdict(dict)
    for item in looked:
        if item.sample.split:
            where[item.sha256].setdefault(item.sample.split, item.sample.sample_id)
    shared = [places for places in where.values() if len(places) > 1]
    statistic = {"files": len(where), "in_two_splits": len(shared)}
    if not where:
        return AuditFinding("copies", "F05", SKIP, "the manifest has no splits"), 0
    if not shared:
        return AuditFinding("copies", "F05", PASS, "no file lies byte for byte in two splits", statistic), 0
    examples = tuple({"samples": places} for places in shared[:SHOWN])
    message = f"{len(shared)} files lie byte for byte in more than one split"
    return AuditFinding("copies", "F05", BLOCK, message, statistic, examples, "Drop the copies."), len(shared)


def _picture_pairs(looked: list[Looked]) -> list[tuple[int, int, float]]:
    owner = np.concatenate([np.full(len(item.hashes), n) for n, item in enumerate(looked)]).astype(np.intp)
    if not len(owner):
        return []
    hashes, details = np.concatenate([i.hashes for i in looked]), np.concatenate([i.details for i in looked])
    told = np.flatnonzero(np.abs(details).max(axis=1) > 0)
    different, group = np.unique(hashes[told], return_inverse=True)
    members = [np.sort(m) for m in np.split(told[np.argsort(group, kind="stable")], np.cumsum(np.bincount(group))[:-1])]
    best: dict[tuple[int, int], float] = {}

    def confirm(one: np.ndarray, two: np.ndarray) -> None:
        for begin in range(0, len(one), 65_536):
            a, b = one[begin : begin + 65_536], two[begin : begin + 65_536]
            cosines = np.einsum("ij,ij->i", details[a], details[b])
            for k in np.flatnonzero((cosines >= DETAIL_COSINE) & (owner[a] != owner[b])).tolist():
                key = (min(int(owner[a[k]]), int(owner[b[k]])), max(int(owner[a[k]]), int(owner[b[k]])))
                best[key] = max(best.get(key, 0.0), float(cosines[k]))

    for number, group in enumerate(members if len(told) else []):
        if len(group) <= _MANY:
            one, two = np.triu_indices(len(group), 1)
            confirm(group[one], group[two])
        else:
            members[number] = _leaders(group, details, confirm)
    for block in unique_pairs(different):
        one = [members[a] for a, _ in block.tolist()]
        two = [members[b] for _, b in block.tolist()]
        confirm(
            np.concatenate([np.repeat(a, len(b)) for a, b in zip(one, two, strict=True)]),
            np.concatenate([np.tile(b, len(a)) for a, b in zip(one, two, strict=True)]),
        )
    return [(a, b, cosine) for (a, b), cosine in best.items()]


def _leaders(group: np.ndarray, details: np.ndarray, confirm: Callable[[np.ndarray, np.ndarray], None]) -> np.ndarray:
    """Of many frames of one hash: ties each to a leader it is like, and gives the leaders."""
    left, leaders = group, []
    while len(left):
        leader = left[0]
        like = details[left] @ details[leader] >= DETAIL_COSINE
        like[0] = True
        confirm(np.full(int(like.sum()), leader), left[like])
        leaders.append(leader)
        left = left[~like]
    return np.array(leaders)


def _modulation(mels: np.ndarray) -> np.ndarray:
    """Unit-norm magnitudes of the slow modulations of pairs of bands: alike for a clip that begins a little later."""
    values = mels.astype(np.float32)
    values = values - values.mean(axis=0)
    pooled = values[:, : BANDS // 2 * 2].reshape(len(values), -1, 2).mean(axis=2)
    slow = np.abs(np.fft.rfft(pooled, 1024, axis=0))[1:129].ravel()
    slow -= slow.mean()
    return (slow / (np.linalg.norm(slow) + 1e-9)).astype(np.float32)


def _sound_pairs(looked: list[Looked]) -> list[tuple[int, int, float]]:
    heard = [n for n, item in enumerate(looked) if item.mels is not None]
    if len(heard) < 2:
        return []
    mels: dict[int, np.ndarray] = {n: m for n in heard if (m := looked[n].mels) is not None}
    prints = np.stack([_modulation(mels[n]) for n in heard])
    out: list[tuple[int, int, float]] = []
    for begin in range(0, len(heard), 512):
        like = prints[begin : begin + 512] @ prints.T
        for i, j in zip(*np.nonzero(like >= _MEL_CANDIDATE), strict=True):
            a, b = heard[begin + int(i)], heard[int(j)]
            if a >= b:
                continue
            cosine = aligned_cosine(mels[a], mels[b])
            long = min(len(mels[a]), len(mels[b])) >= _STRETCH_FRAMES
            if long and _STRETCH_FROM <= cosine < MEL_COSINE:
                stretched = stretched_cosine(mels[a], mels[b])
                if stretched >= STRETCHED_COSINE:
                    out.append((a, b, stretched))
            elif cosine >= MEL_COSINE:
                out.append((a, b, cosine))
    return out


def near_duplicates(looked: list[Looked]) -> tuple[AuditFinding, dict[str, Any]]:
    """Near-duplicates across splits, and the record that the assessment log keeps."""
    pairs = sorted([*_picture_pairs(looked), *_sound_pairs(looked)])
    parent = list(range(len(looked)))
    for a, b, _ in pairs:
        parent[root_of(parent, a)] = root_of(parent, b)
    clusters: dict[int, list[int]] = defaultdict(list)
    for n in sorted({n for a, b, _ in pairs for n in (a, b)}):
        clusters[root_of(parent, n)].append(n)
    split = [item.sample.split for item in looked]
    across = [(a, b, c) for a, b, c in pairs if split[a] and split[b] and split[a] != split[b]]
    spanning = [c for c in clusters.values() if len({split[n] for n in c if split[n]}) > 1]
    sound = any(item.mels is not None for item in looked)
    method = (
        f"aligned log-mel cosine >= {MEL_COSINE}, or >= {STRETCHED_COSINE} at another tempo"
        if sound
        else f"perceptual hash distance <= {HAMMING} confirmed by detail cosine >= {DETAIL_COSINE}"
    )
    record = {
        "method": f"{method}; clustered transitively; {len(looked)} files",
        "threshold": MEL_COSINE if sound else float(HAMMING),
        "pairs_across_splits": len(across),
    }
    statistic = {
        "pairs": len(pairs), "clusters": len(clusters), "pairs_across_splits": len(across),
        "clusters_across_splits": len(spanning), "files": len(looked),
        "largest_cluster": max((len(c) for c in clusters.values()), default=1),
    }  # fmt: skip
    if not any(split):
        message = (
            f"{len(pairs)} pairs of near-duplicates in {len(clusters)} clusters; the manifest has no splits to compare"
        )
        return AuditFinding("near_duplicates", "F05", SKIP, message, statistic), record
    if not spanning:
        message = f"none across splits ({len(pairs)} pairs inside splits)"
        return AuditFinding("near_duplicates", "F05", PASS, message, statistic), record
    examples = tuple(
        {"samples": {split[a]: looked[a].sample.sample_id, split[b]: looked[b].sample.sample_id}, "cosine": round(c, 4)}
        for a, b, c in sorted(across, key=lambda p: -p[2])[:SHOWN]
    )
    message = f"{len(across)} pairs of near-duplicates lie across splits ({len(spanning)} clusters)"
    hint = "Give near-duplicates one source_id and split again, or drop them."
    return AuditFinding("near_duplicates", "F05", BLOCK, message, statistic, examples, hint), record


def root_of(parent: list[int], n: int) -> int:
    """The root of n in a forest of parents, which is flattened on the way."""
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n
