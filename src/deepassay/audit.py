"""Leaks and shortcuts, looked for before anyone trains: overlaps, near-duplicates, labels that nuisances give away.

Checks are numbered by failure mode: F02 (identity and source overlap), F03 (codec, container, size), F04 (silence,
duration), F05 (near-duplicates). What was not looked at is listed as skipped, with the reason.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.errors import LeakError, ManifestError
from deepassay.files import sha256_bytes, sha256_file
from deepassay.labels import FAKE, REAL, Unusable
from deepassay.manifest import Manifest, Sample

BLOCK, WARN, PASS, SKIP = "block", "warn", "pass", "skip"

# Near-duplicates, calibrated on pictures and utterances of many origins against their own copies. Pictures (300): JPEG
# quality 30, WebP 50, half and third size keep a distance <= 4 and a detail cosine >= 0.93 (1st percentile 0.97), while
# 176 of 5.9 million pairs of different files pass both limits (edits of one picture). A crop by 3 % on each side is not
# recognised. Voices (50): MP3 32, AAC 48, AMR 12.2, Opus 24 and 12 kbit/s and 20 dB of noise keep an aligned cosine
# >= 0.95 in 95 of 100 cases (0.98 misses half of the Opus copies); 435 pairs of strangers reach 0.64.
HAMMING = 6
DETAIL_COSINE = 0.95
MEL_COSINE = 0.95
_MEL_CANDIDATE = 0.72
_MEL_OVERLAP = 0.6
_FRAMES = 4

PROBE_AUC = 0.60
SILENCE_EER = 0.35
FEWEST_PER_CLASS = 20
FEWEST_GROUPS = 10
LINKING_ATTRIBUTES = ("pair_id", "session", "utterance_id", "video_id", "repository")
_SHOWN = 5


class AuditError(LeakError):
    """An audit found something that must stop training and assessment."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """The outcome of one check.

    Args:
        id: ``overlap.subject``, ``near_duplicates``, ``shortcut.silence`` ...
        failure: F02, F03, F04 or F05, or empty.
        severity: `BLOCK`, `WARN`, `PASS` or `SKIP`.
        message: one sentence.
        statistic: the numbers behind it, JSON values.
        examples: what it was found in; values of ``subject`` are replaced by salted hashes in `AuditReport.to_dict`.
        hint: what to do about a block or warning.
    """

    id: str
    failure: str
    severity: str
    message: str
    statistic: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class AuditReport:
    """All checks of one audit, passed and skipped ones included.

    Args:
        name, manifest_sha256, synthetic: of the manifest.
        samples: how many the manifest has.
        looked_at: how many files were opened.
        findings: in a fixed order.
        overlap_counts: id column -> values that occur in more than one split.
        near_duplicates: ``method``, ``threshold``, ``pairs_across_splits``; None where it was skipped.
    """

    name: str
    manifest_sha256: str
    synthetic: bool
    samples: int
    looked_at: int
    findings: tuple[AuditFinding, ...]
    overlap_counts: Mapping[str, int]
    near_duplicates: Mapping[str, Any] | None

    @property
    def blocks(self) -> list[AuditFinding]:
        """Findings that must stop a run."""
        return [f for f in self.findings if f.severity == BLOCK]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; subjects as hashes salted with the manifest's (law 12)."""
        rows = []
        for f in self.findings:
            examples = [
                {k: self._hidden(v) if k == "subject" else v for k, v in example.items()} for example in f.examples
            ]
            rows.append(
                {"id": f.id, "failure": f.failure, "severity": f.severity, "message": f.message,
                 "statistic": dict(f.statistic), "examples": examples, "hint": f.hint}
            )  # fmt: skip
        return {
            "schema": "1", "name": self.name, "manifest_sha256": self.manifest_sha256, "synthetic": self.synthetic,
            "samples": self.samples, "looked_at": self.looked_at, "findings": rows,
            "overlap_counts": dict(self.overlap_counts),
            "near_duplicates": None if self.near_duplicates is None else dict(self.near_duplicates),
        }  # fmt: skip

    def _hidden(self, value: Any) -> str:
        return "subject-" + sha256_bytes(f"{self.manifest_sha256}\0{value}".encode())[:12]

    def raise_on_block(self, *, allow: Sequence[str] = ()) -> None:
        """Fail loudly.

        Args:
            allow: ids of findings that the user knows of and goes on with; the caller records them.

        Raises:
            AuditError: a block that is not allowed.
        """
        left = [f for f in self.blocks if f.id not in allow]
        if left:
            lines = "\n".join(f"  {f.id}: {f.message}" for f in left)
            hints = " ".join(dict.fromkeys(f.hint for f in left if f.hint))
            raise AuditError(
                f"{self.name}: the audit blocks on {len(left)} findings\n{lines}",
                hint=f"{hints} To go on knowingly, allow them by id; that is recorded with the results.".strip(),
            )


def audit(
    manifest: Manifest,
    *,
    leave_out: Mapping[str, Sequence[str]] | None = None,
    look: bool = True,
    max_files: int = 5000,
    replicates: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> AuditReport:
    """Every check on one manifest.

    Args:
        manifest: with or without splits.
        leave_out: split -> generators or families claimed to occur in that split only; by default what the split
            recorded in ``manifest.info["split"]["leave_out"]``.
        look: open files; False checks the table only.
        max_files: at most so many files are opened, drawn by the hash of their id; the report says so.
        replicates: of the cluster bootstrap.
        seed: of folds and bootstrap.
        progress: show a bar on stderr.

    Raises:
        ManifestError: the manifest is empty, or none of the files to be opened is there.
    """
    samples = list(manifest)
    if not samples:
        raise ManifestError(f"{manifest.name}: nothing to audit", hint="prepare the corpus again")
    claimed = (manifest.info.get("split") or {}).get("leave_out", {}) if leave_out is None else leave_out
    findings, counts = _overlaps(samples, claimed)
    findings.append(_contradictions(samples))
    near: dict[str, Any] | None = None
    looked: list[_Looked] = []
    if look:
        looked = _look_at(manifest, samples, max_files, progress)
        findings += _unreadable(looked)
        found, near = _near_duplicates(looked)
        findings.append(found)
        exact, copies = _exact_copies(looked)
        findings.append(exact)
        counts["sha256"] = max(counts.get("sha256", 0), copies)
        findings += _probes(looked, replicates, seed)
    else:
        why = "files were not opened"
        findings += [
            AuditFinding(name, failure, SKIP, why)
            for name, failure in (("near_duplicates", "F05"), ("copies", "F05"), ("shortcut", "F03"))
        ]
    return AuditReport(
        name=manifest.name,
        manifest_sha256=manifest.hash,
        synthetic=manifest.synthetic,
        samples=len(samples),
        looked_at=len(looked),
        findings=tuple(findings),
        overlap_counts=counts,
        near_duplicates=near,
    )


# --- overlaps ---


def _overlaps(
    samples: list[Sample], leave_out: Mapping[str, Sequence[str]]
) -> tuple[list[AuditFinding], dict[str, int]]:
    splits = {s.split for s in samples if s.split}
    if len(splits) < 2:
        why = "the manifest has fewer than two splits: nothing can lie on both sides"
        return [AuditFinding("overlap", "F02", SKIP, why)], {}
    columns: list[tuple[str, str, Callable[[Sample], Iterable[str]]]] = [
        ("subject", BLOCK, lambda s: s.subjects),
        ("source", BLOCK, lambda s: (s.source_id,)),
        ("sha256", BLOCK, lambda s: (s.sha256,)),
        ("path", BLOCK, lambda s: (s.path,)),
    ]
    keys = {key for s in samples for key in s.attributes}
    columns += [
        (key, WARN, lambda s, key=key: (s.attributes.get(key, ""),)) for key in LINKING_ATTRIBUTES if key in keys
    ]
    findings: list[AuditFinding] = []
    counts: dict[str, int] = {}
    for name, severity, values in columns:
        where: dict[str, dict[str, str]] = defaultdict(dict)
        known = 0
        for sample in samples:
            here = [v for v in values(sample) if v]
            known += bool(here)
            if sample.split:
                for value in here:
                    where[value].setdefault(sample.split, sample.sample_id)
        shared = {value: places for value, places in where.items() if len(places) > 1}
        coverage = known / len(samples)
        if not known:
            findings.append(AuditFinding(f"overlap.{name}", "F02", SKIP, f"no sample names its {name}"))
            continue
        counts[name] = len(shared)
        examples = tuple(
            {name: value, "samples": dict(sorted(places.items()))} for value, places in sorted(shared.items())[:_SHOWN]
        )
        statistic = {"shared_values": len(shared), "values": len(where), "coverage": round(coverage, 4)}
        note = "" if coverage == 1 else f" ({coverage:.0%} of the samples name it)"
        if shared:
            word = f"{len(shared)} of {len(where)} values of {name} lie in more than one split{note}"
            hint = (
                "Split by subject and source, or correct the ids."
                if severity == BLOCK
                else "See whether it links samples."
            )
            findings.append(AuditFinding(f"overlap.{name}", "F02", severity, word, statistic, examples, hint))
        else:
            word = f"no value of {name} lies in two splits{note}"
            findings.append(AuditFinding(f"overlap.{name}", "F02", PASS, word, statistic))
    if leave_out:
        findings.append(_left_out(samples, leave_out))
        counts["generator"] = int(findings[-1].statistic["outside"])
    return findings, counts


def _left_out(samples: list[Sample], leave_out: Mapping[str, Sequence[str]]) -> AuditFinding:
    home = {name: split for split, names in leave_out.items() for name in names}
    seen: set[str] = set()
    outside: list[tuple[str, Sample]] = []
    for sample in samples:
        for name in {sample.generator, sample.generator_family} & set(home):
            seen.add(name)
            if sample.split != home[name]:
                outside.append((name, sample))
    statistic = {"outside": len(outside), "claimed": sorted(home), "absent": sorted(set(home) - seen)}
    if outside:
        examples = tuple({"generator": n, "sample": s.sample_id, "split": s.split} for n, s in outside[:_SHOWN])
        message = f"{len(outside)} samples of left-out generators lie outside the split they were left out for"
        hint = "Apply the split again instead of editing the split column."
        return AuditFinding("overlap.generator", "F02", BLOCK, message, statistic, examples, hint)
    if statistic["absent"]:
        message = f"left-out generators that no sample has: {', '.join(statistic['absent'])}"
        return AuditFinding("overlap.generator", "F02", WARN, message, statistic, hint="Check the spelling.")
    return AuditFinding("overlap.generator", "F02", PASS, "left-out generators occur in their split only", statistic)


def _contradictions(samples: list[Sample]) -> AuditFinding:
    labels: dict[str, dict[int, str]] = defaultdict(dict)
    for sample in samples:
        if sample.sha256 and sample.label is not None:
            labels[sample.sha256].setdefault(sample.label, sample.sample_id)
    both = [ids for ids in labels.values() if len(ids) > 1]
    if not labels:
        return AuditFinding("labels", "", SKIP, "no labelled sample carries a file hash")
    statistic = {"files_with_both_labels": len(both)}
    if both:
        examples = tuple({"real": ids[REAL], "fake": ids[FAKE]} for ids in both[:_SHOWN])
        message = f"{len(both)} files are listed as real and as fake"
        return AuditFinding("labels", "", BLOCK, message, statistic, examples, "Correct the labels.")
    return AuditFinding("labels", "", PASS, "no file is listed as real and as fake", statistic)


# --- looking at files ---


@dataclass
class _Looked:
    """One opened file: nuisance features, and what near-duplicates are recognised by."""

    sample: Sample
    sha256: str = ""
    problem: str = ""
    features: dict[str, float | str] = field(default_factory=dict)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (frames,)
    details: np.ndarray = field(default_factory=lambda: np.zeros((0, _DETAIL**2), np.float32))  # (frames, values)
    mels: np.ndarray | None = None  # (time, bands) float16


def _look_at(manifest: Manifest, samples: list[Sample], max_files: int, progress: bool) -> list[_Looked]:
    from rich.console import Console
    from rich.progress import track

    chosen = samples
    if len(samples) > max_files:
        kept = {s.sample_id for s in sorted(samples, key=lambda s: sha256_bytes(s.sample_id.encode()))[:max_files]}
        chosen = [s for s in samples if s.sample_id in kept]
    missing = [s for s in chosen if not manifest.file(s).is_file()]
    if missing:
        raise ManifestError(
            f"{manifest.name}: {len(missing)} of {len(chosen)} files are missing, the first is {missing[0].path}",
            hint="give the corpus's root folder, or audit the table only (--no-files)",
        )
    bar = Console(stderr=True)
    return [
        _look(manifest, s) for s in track(chosen, "audit: files", console=bar, disable=not progress, transient=True)
    ]


def _look(manifest: Manifest, sample: Sample) -> _Looked:
    from deepassay.media.probe import probe

    path = manifest.file(sample)
    out = _Looked(sample, sha256=sample.sha256 or sha256_file(path))
    try:
        facts = probe(path)
        out.features = {
            "suffix": path.suffix.lower(),
            "container": str(facts.get("container") or ""),
            "codec": str(facts.get("codec") or ""),
            "bytes": _log(facts["bytes"]),
        }
        if facts["media"] == "audio":
            _listen(out, path, facts)
        elif facts["media"] == "image":
            from deepassay.media.image import read_image

            _see(out, [read_image(path)], facts)
        else:
            from deepassay.media.video import read_frames

            _see(out, list(read_frames(path, _FRAMES).images), facts)
    except Unusable as error:
        out.problem = str(error)
        out.features = {}
    return out


def _log(value: float | None) -> float:
    return float(np.log(max(float(value), 1e-9))) if value is not None else float("nan")


_SIZE, _DETAIL, _COARSE = 48, 24, 6


def picture_prints(image: np.ndarray) -> tuple[np.uint64, np.ndarray]:
    """A 64-bit perceptual hash and a detail vector of one picture.

    The hash is the signs of the 8 x 8 lowest cosine coefficients of the 32 x 32 grey picture against their median (the
    DC bit is 0): it proposes. The detail vector is the unit-norm cosine coefficients between 6 and 24 of the 48 x 48
    picture, without what aligned faces have in common: its cosine confirms.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        hash, and (576,) float32, all zero for a picture without detail.
    """
    from PIL import Image
    from scipy.fft import dctn

    grey = Image.fromarray(image).convert("L")
    small = np.asarray(grey.resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    low = np.asarray(dctn(small, norm="ortho"))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False
    code = np.packbits(bits).view(">u8")[0].astype(np.uint64)
    larger = np.asarray(grey.resize((_SIZE, _SIZE), Image.Resampling.LANCZOS), dtype=np.float64)
    waves = np.asarray(dctn(larger, norm="ortho"))[:_DETAIL, :_DETAIL].copy()
    waves[:_COARSE, :_COARSE] = 0
    size = float(np.linalg.norm(waves))
    detail = waves.ravel() / size if size > 1.0 else np.zeros(_DETAIL**2)
    return code, detail.astype(np.float32)


def _see(out: _Looked, images: Sequence[np.ndarray], facts: Mapping[str, Any]) -> None:
    prints = [picture_prints(image) for image in images]
    out.hashes = np.array([p[0] for p in prints], dtype=np.uint64)
    out.details = np.stack([p[1] for p in prints])
    width, height = int(facts["width"] or images[0].shape[1]), int(facts["height"] or images[0].shape[0])
    seconds = facts.get("duration_s")
    pixels = width * height * max(1.0, (seconds or 0) * (facts.get("fps") or 0))
    out.features |= {
        "bits_per_pixel": _log(8 * facts["bytes"] / pixels),
        "width": float(width),
        "height": float(height),
        "aspect": width / height,
        "sharpness": float(np.mean([_sharpness(image) for image in images])),
    }
    if facts["media"] == "video":
        out.features |= {"duration": _log(seconds), "fps": float(facts.get("fps") or np.nan)}


def _sharpness(image: np.ndarray) -> float:
    """Log of the mean squared Laplacian of the grey picture over its variance."""
    grey = image.astype(np.float32).mean(axis=2)
    if min(grey.shape) < 3:
        return float("nan")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    return _log(float((laplacian**2).mean()) / (float(grey.var()) + 1.0))


_RATE, _WINDOW, _HOP, _BANDS, _HEARD_S = 16_000, 1024, 256, 39, 10.0


def _mel_filters() -> np.ndarray:
    edges = np.geomspace(150, 3600, _BANDS + 2)
    frequency = np.fft.rfftfreq(_WINDOW, 1 / _RATE)
    rows = []
    for low, mid, high in zip(edges, edges[1:], edges[2:], strict=False):
        row = np.clip(np.minimum((frequency - low) / (mid - low), (high - frequency) / (high - mid)), 0, None)
        rows.append(row / max(row.sum(), 1e-9))
    return np.stack(rows)


_FILTERS = _mel_filters()


def log_mels(signal: np.ndarray) -> np.ndarray | None:
    """Log energies of the first 10 s in bands that every codec keeps, floored 20 dB under the loud frames.

    Args:
        signal: (T,) float32 at 16 kHz.

    Returns:
        (time, 39) float32; None where it is too short (under 0.3 s) or silent.
    """
    signal = signal[: int(_HEARD_S * _RATE)]
    if len(signal) < 0.3 * _RATE:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(signal, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ _FILTERS.T
    loud = float(np.percentile(power.mean(axis=1), 95))
    return np.log(power + 0.01 * loud).astype(np.float32) if loud > 1e-9 else None


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


def _listen(out: _Looked, path: Path, facts: Mapping[str, Any]) -> None:
    from deepassay.media.sound import read_sound

    signal = read_sound(path, _RATE)
    mels = log_mels(signal)
    out.mels = None if mels is None else mels.astype(np.float16)
    seconds = len(signal) / _RATE
    out.features |= {
        "bits_per_second": _log(8 * facts["bytes"] / max(seconds, 1e-3)),
        "rate": float(facts.get("rate_hz") or np.nan),
        "bandwidth": _bandwidth(signal),
        "duration": _log(seconds),
        "level": 20 * float(np.log10(np.sqrt(np.mean(signal**2)) + 1e-6)) if len(signal) else float("nan"),
        "peak": float(np.abs(signal).max(initial=0.0)),
    }
    out.features |= _silences(signal)


def _bandwidth(signal: np.ndarray) -> float:
    """Frequency in Hz below which 99 % of the energy of the first 10 s lies."""
    power = np.abs(np.fft.rfft(signal[: int(_HEARD_S * _RATE)])) ** 2
    total = np.cumsum(power)
    if not len(total) or total[-1] <= 0:
        return float("nan")
    return float(np.searchsorted(total, 0.99 * total[-1]) / len(total) * _RATE / 2)


def _silences(signal: np.ndarray) -> dict[str, float]:
    """Seconds before the first and after the last 10 ms that are within 40 dB of the loudest; share of exact zeros."""
    step = _RATE // 100
    frames = signal[: len(signal) // step * step].reshape(-1, step)
    power = (frames.astype(np.float64) ** 2).mean(axis=1)
    heard = np.flatnonzero(power > 1e-4 * power.max(initial=0.0))
    if not len(heard):
        return dict.fromkeys(("leading_silence", "trailing_silence", "zeros"), float("nan"))
    return {
        "leading_silence": heard[0] / 100,
        "trailing_silence": (len(frames) - 1 - heard[-1]) / 100,
        "zeros": float((signal == 0).mean()),
    }


def _unreadable(looked: list[_Looked]) -> list[AuditFinding]:
    bad = [item for item in looked if item.problem]
    if not bad:
        return [AuditFinding("readable", "", PASS, f"all {len(looked)} files that were opened can be decoded")]
    words = {REAL: "real", FAKE: "fake", None: "unlabelled"}
    counts = Counter(words[item.sample.label] for item in bad)
    examples = tuple({"sample": item.sample.sample_id, "reason": item.problem} for item in bad[:_SHOWN])
    message = f"{len(bad)} of {len(looked)} files cannot be decoded ({dict(sorted(counts.items()))})"
    hint = "Get whole copies; they stay in every table as non-responses."
    return [AuditFinding("readable", "", WARN, message, {"undecodable": dict(counts)}, examples, hint)]


# --- copies and near-duplicates ---


def _exact_copies(looked: list[_Looked]) -> tuple[AuditFinding, int]:
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
    examples = tuple({"samples": places} for places in shared[:_SHOWN])
    message = f"{len(shared)} files lie byte for byte in more than one split"
    return AuditFinding("copies", "F05", BLOCK, message, statistic, examples, "Drop the copies."), len(shared)


def near_hashes(hashes: np.ndarray, radius: int = HAMMING) -> np.ndarray:
    """Pairs of 64-bit hashes that differ in at most ``radius`` bits, each once.

    Two hashes that differ in r bits agree in at least one of r + 1 bands, so only equal bands are compared.

    Args:
        hashes: (n,) uint64.

    Returns:
        (m, 2) positions, first < second.
    """
    edges = np.linspace(0, 64, radius + 2).round().astype(int)
    found: list[np.ndarray] = []
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], np.diff(band[order]) != 0, [True]])) if len(order) else [0]
        for begin, end in pairwise(starts):
            group = np.sort(order[begin:end])
            for block in range(0, len(group), 2048):
                rows = group[block : block + 2048]
                apart = np.bitwise_count(hashes[rows][:, None] ^ hashes[group[block:]][None, :])
                i, j = np.nonzero(apart <= radius)
                keep = j > i
                found.append(np.stack([rows[i[keep]], group[block:][j[keep]]], axis=1))
    pairs = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.intp)
    return np.unique(pairs, axis=0)


def _picture_pairs(looked: list[_Looked]) -> list[tuple[int, int, float]]:
    owner = np.concatenate([np.full(len(item.hashes), n) for n, item in enumerate(looked)]).astype(np.intp)
    if not len(owner):
        return []
    hashes, details = np.concatenate([i.hashes for i in looked]), np.concatenate([i.details for i in looked])
    told = np.flatnonzero(np.abs(details).max(axis=1) > 0)
    pairs = told[near_hashes(hashes[told])]
    best: dict[tuple[int, int], float] = {}
    for begin in range(0, len(pairs), 65_536):
        part = pairs[begin : begin + 65_536]
        cosines = np.einsum("ij,ij->i", details[part[:, 0]], details[part[:, 1]])
        for (a, b), cosine in zip(part[cosines >= DETAIL_COSINE], cosines[cosines >= DETAIL_COSINE], strict=True):
            key = (int(owner[a]), int(owner[b]))
            if key[0] != key[1]:
                best[key] = max(best.get(key, 0.0), float(cosine))
    return [(a, b, cosine) for (a, b), cosine in best.items()]


def _modulation(mels: np.ndarray) -> np.ndarray:
    """Unit-norm magnitudes of the slow modulations of pairs of bands: alike for a clip that begins a little later."""
    values = mels.astype(np.float32)
    values = values - values.mean(axis=0)
    pooled = values[:, : _BANDS // 2 * 2].reshape(len(values), -1, 2).mean(axis=2)
    slow = np.abs(np.fft.rfft(pooled, 1024, axis=0))[1:129].ravel()
    slow -= slow.mean()
    return (slow / (np.linalg.norm(slow) + 1e-9)).astype(np.float32)


def _sound_pairs(looked: list[_Looked]) -> list[tuple[int, int, float]]:
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
            if a < b and (cosine := aligned_cosine(mels[a], mels[b])) >= MEL_COSINE:
                out.append((a, b, cosine))
    return out


def _near_duplicates(looked: list[_Looked]) -> tuple[AuditFinding, dict[str, Any]]:
    pairs = sorted([*_picture_pairs(looked), *_sound_pairs(looked)])
    parent = list(range(len(looked)))
    for a, b, _ in pairs:
        parent[_root(parent, a)] = _root(parent, b)
    clusters: dict[int, list[int]] = defaultdict(list)
    for n in sorted({n for a, b, _ in pairs for n in (a, b)}):
        clusters[_root(parent, n)].append(n)
    split = [item.sample.split for item in looked]
    across = [(a, b, c) for a, b, c in pairs if split[a] and split[b] and split[a] != split[b]]
    spanning = [c for c in clusters.values() if len({split[n] for n in c if split[n]}) > 1]
    sound = any(item.mels is not None for item in looked)
    method = (
        f"aligned log-mel cosine >= {MEL_COSINE}"
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
        for a, b, c in sorted(across, key=lambda p: -p[2])[:_SHOWN]
    )
    message = f"{len(across)} pairs of near-duplicates lie across splits ({len(spanning)} clusters)"
    hint = "Give near-duplicates one source_id and split again, or drop them."
    return AuditFinding("near_duplicates", "F05", BLOCK, message, statistic, examples, hint), record


def _root(parent: list[int], n: int) -> int:
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = parent[n]
    return n


# --- nuisance probes ---

FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "container": ("F03", ("suffix", "container", "codec", "bytes", "bits_per_pixel", "bits_per_second", "fps")),
    "geometry": ("F03", ("width", "height", "aspect")),
    "channel": ("F03", ("rate", "bandwidth", "level", "peak")),
    "duration": ("F04", ("duration",)),
    "silence": ("F04", ("leading_silence", "trailing_silence", "zeros")),
    "sharpness": ("F03", ("sharpness",)),
}


def _groups(looked: list[_Looked]) -> np.ndarray:
    """(n,) number of the component that a sample's subjects and source tie together."""
    parent = list(range(len(looked)))
    first: dict[tuple[str, str], int] = {}
    for n, item in enumerate(looked):
        ids = [("subject", s) for s in item.sample.subjects if s]
        ids += [("source", item.sample.source_id)] if item.sample.source_id else []
        for key in ids:
            other = first.setdefault(key, n)
            parent[_root(parent, other)] = _root(parent, n)
    return np.array([_root(parent, n) for n in range(len(looked))])


def _matrix(looked: list[_Looked], names: Sequence[str]) -> tuple[np.ndarray, list[str], list[bool]]:
    """Features that vary as floats (n, k) with categories numbered, their names, and which are categories."""
    columns, kept, words = [], [], []
    for name in names:
        cells = [item.features.get(name) for item in looked]
        if any(isinstance(cell, str) for cell in cells):
            common = [word for word, _ in Counter(str(c) for c in cells).most_common(50)]
            column = np.array([common.index(str(c)) if str(c) in common else 50 for c in cells], dtype=np.float64)
            words.append(True)
        else:
            column = np.array([np.nan if c is None else float(c) for c in cells], dtype=np.float64)
            words.append(False)
        seen = column[~np.isnan(column)]
        if len(seen) and (seen != seen[0]).any():
            columns.append(column)
            kept.append(name)
        else:
            words.pop()
    return (np.stack(columns, axis=1) if columns else np.zeros((len(looked), 0))), kept, words


def _out_of_fold(x: np.ndarray, words: list[bool], y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    scores = np.full(len(y), np.nan)
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(x, y, groups):
        settings: dict[str, Any] = {
            "max_iter": 60, "max_depth": 4, "min_samples_leaf": min(20, max(5, len(train) // 20)),
            "class_weight": "balanced", "categorical_features": np.array(words), "early_stopping": False,
        }  # fmt: skip
        model = HistGradientBoostingClassifier(random_state=seed, **settings)
        scores[test] = model.fit(x[train], y[train]).decision_function(x[test])
    return scores


def _probes(looked: list[_Looked], replicates: int, seed: int) -> list[AuditFinding]:
    used = [item for item in looked if item.sample.label is not None and item.features]
    y = np.array([item.sample.label for item in used], dtype=np.int8)
    groups = _groups(used)
    few = [
        word
        for value, word in ((REAL, "real"), (FAKE, "fake"))
        if (y == value).sum() < FEWEST_PER_CLASS or len(set(groups[y == value])) < FEWEST_GROUPS
    ]
    if few:
        why = f"fewer than {FEWEST_PER_CLASS} {few[0]} files or {FEWEST_GROUPS} independent groups of them"
        return [AuditFinding("shortcut", "F03", SKIP, why)]
    out = []
    everything = tuple(name for _, names in FAMILIES.values() for name in names)
    for family, (failure, names) in {**FAMILIES, "all": ("F03", everything)}.items():
        if not any(name in item.features for item in used for name in names):
            continue  # a family of the other kind of media
        x, kept, words = _matrix(used, names)
        if not kept:
            out.append(AuditFinding(f"shortcut.{family}", failure, PASS, "the same for every file"))
            continue
        out.append(_probe(family, failure, x, kept, words, y, groups, replicates, seed))
    return out


def _probe(
    family: str, failure: str, x: np.ndarray, names: list[str], words: list[bool], y: np.ndarray, groups: np.ndarray,
    replicates: int, seed: int,
) -> AuditFinding:  # fmt: skip
    from deepassay.metrics.intervals import FEWEST_CLUSTERS, cluster_bootstrap
    from deepassay.metrics.ranking import auc, eer

    scores = _out_of_fold(x, words, y, groups, seed)
    value, equal = auc(y, scores), eer(y, scores)
    interval = cluster_bootstrap("auc", y, scores, groups, replicates=replicates, seed=seed)
    alone = {name: _alone(x[:, k], words[k], y) for k, name in enumerate(names)}
    told_by = sorted(alone, key=lambda name: -alone[name])
    statistic = {
        "auc": round(value, 4), "ci": interval.as_record(), "ci_note": interval.note, "eer": round(equal, 4),
        "n_real": int((y == REAL).sum()), "n_fake": int((y == FAKE).sum()),
        "auc_of_each_alone": {name: round(alone[name], 4) for name in told_by},
    }  # fmt: skip
    text = (
        f"AUC {value:.3f} [{interval.lo:.3f}, {interval.hi:.3f}], EER {equal:.1%}, from {', '.join(told_by[:4])} alone"
    )
    leaks = interval.lo > PROBE_AUC or (family == "silence" and equal < SILENCE_EER and interval.lo > 0.5)
    if not leaks:
        return AuditFinding(f"shortcut.{family}", failure, PASS, text, statistic)
    hint = f"Give both classes the same {told_by[0].replace('_', ' ')} (re-encode, resample, trim or crop them alike)."
    # A perfect probe has equal replicates and so no honest upper end, but the lower one is what blocks.
    if interval.n_clusters < FEWEST_CLUSTERS:
        text = f"{text}; only {interval.n_clusters} groups, so no claim rests on it"
        return AuditFinding(f"shortcut.{family}", failure, WARN, text, statistic, hint=hint)
    return AuditFinding(f"shortcut.{family}", failure, BLOCK, text, statistic, hint=hint)


def _alone(column: np.ndarray, word: bool, y: np.ndarray) -> float:
    """In-sample AUC of one feature, whichever way it points: it ranks features, no claim rests on it."""
    from deepassay.metrics.ranking import auc

    if word:
        rate = {v: y[column == v].mean() for v in np.unique(column)}
        column = np.array([rate[v] for v in column])
    known = ~np.isnan(column)
    if len(set(y[known].tolist())) < 2:
        return 0.5
    value = auc(y[known], column[known])
    return max(value, 1 - value)


# --- the door ---


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay audit`."""
    parser.add_argument(
        "manifest", help="a manifest (.parquet), a table with the manifest's columns (.csv), or a run folder"
    )
    parser.add_argument(
        "--root", help="folder that the paths are relative to (default: the run's, or the file's folder)"
    )
    claim = "a claim to check: this generator or family occurs in that split only (repeatable)"
    parser.add_argument("--leave-out", action="append", default=[], metavar="SPLIT=GENERATOR", help=claim)
    parser.add_argument("--no-files", action="store_true", help="check the table only, open no media")
    parser.add_argument("--max-files", type=int, default=5000, help="open at most so many files (default 5000)")
    parser.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow", action="append", default=[], metavar="ID", help="go on knowingly with this finding")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(args: argparse.Namespace) -> int:
    """`deepassay audit`: 0 where nothing blocks, 1 where something does."""
    manifest = _open(Path(args.manifest), args.root)
    claims: dict[str, list[str]] = defaultdict(list)
    for claim in args.leave_out:
        split, equals, name = claim.partition("=")
        if not equals or not name:
            raise ManifestError(
                f"--leave-out {claim!r} is not SPLIT=GENERATOR", hint="for example --leave-out test=FOMM"
            )
        claims[split].append(name)
    report = audit(
        manifest, leave_out=claims or None, look=not args.no_files, max_files=args.max_files,
        replicates=args.replicates, seed=args.seed, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if args.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(report, allow=args.allow)
    return 1 if any(f.id not in args.allow for f in report.blocks) else 0


def _open(path: Path, root: str | None) -> Manifest:
    if path.is_dir() and (path / "manifest.parquet").is_file():
        facts = path / "run.json"
        if root is None and facts.is_file():
            root = json.loads(facts.read_text())["root"]
        path = path / "manifest.parquet"
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file", hint="name a manifest, a CSV, or a run folder")
    if path.suffix.lower() == ".csv":
        return Manifest.read_csv(path, root or path.parent, {"name": path.stem})
    return Manifest.read_parquet(path, root or path.parent)


def show(report: AuditReport, *, allow: Sequence[str] = (), console: Any = None) -> None:
    """Print a report for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    style = {BLOCK: "bold red", WARN: "yellow", PASS: "green", SKIP: "dim"}
    mark = " [bold]SYNTHETIC[/]" if report.synthetic else ""
    title = f"audit of {escape(report.name)}{mark}: {report.samples} samples, {report.looked_at} files opened"
    table = Table("check", "", "outcome", "what was found", title=title)
    for f in report.findings:
        lines = [escape(f.message)]
        if f.severity in (BLOCK, WARN):
            lines += [f"[dim]{escape(_example(e))}[/]" for e in f.examples[:3]]
            lines += [f"hint: {escape(f.hint)}"] if f.hint else []
        word = f"{f.severity} (allowed)" if f.severity == BLOCK and f.id in allow else f.severity
        table.add_row(escape(f.id), f.failure, f"[{style[f.severity]}]{word}[/]", "\n".join(lines))
    console.print(table)
    left = [f.id for f in report.blocks if f.id not in allow]
    if left:
        console.print(f"[bold red]blocked[/] by {', '.join(left)}; --allow ID goes on knowingly")
    else:
        console.print("[green]nothing blocks[/]; an audit finds known kinds of leaks only")


def _example(example: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k}: {' | '.join(f'{a} {b}' for a, b in v.items()) if isinstance(v, Mapping) else v}"
        for k, v in example.items()
    )
