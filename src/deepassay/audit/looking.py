"""Opening files for an audit: nuisance features, and the prints by which near-duplicates are recognised."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.audit.report import PASS, SHOWN, WARN, AuditFinding
from deepassay.errors import ManifestError
from deepassay.files import sha256_bytes, sha256_file
from deepassay.labels import FAKE, REAL, Unusable
from deepassay.manifest import Manifest, Sample

_FRAMES = 4


@dataclass
class Looked:
    """One opened file: nuisance features, and what near-duplicates are recognised by."""

    sample: Sample
    sha256: str = ""
    problem: str = ""
    features: dict[str, float | str] = field(default_factory=dict)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # (frames,)
    details: np.ndarray = field(default_factory=lambda: np.zeros((0, _DETAIL**2), np.float32))  # (frames, values)
    mels: np.ndarray | None = None  # (time, bands) float16


def drawn(manifest: Manifest, most: int) -> list[Sample]:
    """At most so many samples, drawn by the hash of their id, in the manifest's order.

    Raises:
        ManifestError: files of the drawn samples are missing.
    """
    if len(manifest) > most:
        keys = [sha256_bytes(sample_id.encode()) for sample_id in manifest.table.column("sample_id").to_pylist()]
        limit = sorted(keys)[most]
        manifest = manifest.select([key < limit for key in keys])
    chosen = list(manifest)
    missing = [s for s in chosen if not manifest.file(s).is_file()]
    if missing:
        raise ManifestError(
            f"{manifest.name}: {len(missing)} of {len(chosen)} files are missing, the first is {missing[0].path}",
            hint="give the corpus's root folder, or audit the table only (--no-files)",
        )
    return chosen


def look_at(manifest: Manifest, samples: Sequence[Sample], progress: bool) -> list[Looked]:
    """Open files one by one; a file that cannot be decoded is kept with its problem."""
    from rich.console import Console
    from rich.progress import track

    bar = Console(stderr=True)
    return [
        _look(manifest, s) for s in track(samples, "audit: files", console=bar, disable=not progress, transient=True)
    ]


def _look(manifest: Manifest, sample: Sample) -> Looked:
    from deepassay.media.probe import probe

    path = manifest.file(sample)
    out = Looked(sample, sha256=sample.sha256 or sha256_file(path))
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


def _see(out: Looked, images: Sequence[np.ndarray], facts: Mapping[str, Any]) -> None:
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
        "sharpness": float(np.mean([sharpness(image) for image in images])),
    }
    if facts["media"] == "video":
        out.features |= {"duration": _log(seconds), "fps": float(facts.get("fps") or np.nan)}


def sharpness(image: np.ndarray) -> float:
    """Log of the mean squared Laplacian of the grey picture over its variance."""
    grey = image.astype(np.float32).mean(axis=2)
    if min(grey.shape) < 3:
        return float("nan")
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = around - 4 * grey[1:-1, 1:-1]
    return _log(float((laplacian**2).mean()) / (float(grey.var()) + 1.0))


_RATE, _WINDOW, _HOP, BANDS, _HEARD_S = 16_000, 1024, 256, 39, 10.0


def _mel_filters() -> np.ndarray:
    edges = np.geomspace(150, 3600, BANDS + 2)
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


def _listen(out: Looked, path: Path, facts: Mapping[str, Any]) -> None:
    from deepassay.media.sound import read_sound

    signal = read_sound(path, _RATE)
    mels = log_mels(signal)
    out.mels = None if mels is None else mels.astype(np.float16)
    seconds = len(signal) / _RATE
    out.features |= {
        "bits_per_second": _log(8 * facts["bytes"] / max(seconds, 1e-3)),
        "rate": float(facts.get("rate_hz") or np.nan),
        "bandwidth": bandwidth(signal),
        "duration": _log(seconds),
        "level": 20 * float(np.log10(np.sqrt(np.mean(signal**2)) + 1e-6)) if len(signal) else float("nan"),
        "peak": float(np.abs(signal).max(initial=0.0)),
    }
    out.features |= silences(signal)


def bandwidth(signal: np.ndarray) -> float:
    """Frequency in Hz below which 99 % of the energy of the first 10 s lies."""
    power = np.abs(np.fft.rfft(signal[: int(_HEARD_S * _RATE)])) ** 2
    total = np.cumsum(power)
    if not len(total) or total[-1] <= 0:
        return float("nan")
    return float(np.searchsorted(total, 0.99 * total[-1]) / len(total) * _RATE / 2)


def silences(signal: np.ndarray) -> dict[str, float]:
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


def unreadable(looked: list[Looked]) -> list[AuditFinding]:
    """Files that were opened and cannot be decoded."""
    bad = [item for item in looked if item.problem]
    if not bad:
        return [AuditFinding("readable", "", PASS, f"all {len(looked)} files that were opened can be decoded")]
    words = {REAL: "real", FAKE: "fake", None: "unlabelled"}
    counts = Counter(words[item.sample.label] for item in bad)
    examples = tuple({"sample": item.sample.sample_id, "reason": item.problem} for item in bad[:SHOWN])
    message = f"{len(bad)} of {len(looked)} files cannot be decoded ({dict(sorted(counts.items()))})"
    hint = "Get whole copies; they stay in every table as non-responses."
    return [AuditFinding("readable", "", WARN, message, {"undecodable": dict(counts)}, examples, hint)]
