"""Times one million rows (build, validate, hash, write, read, split, audit of ids) and 200,000 perceptual hashes."""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.audit import audit, cluster_hashes
from deepassay.manifest import Manifest, Sample
from deepassay.splits import SubjectSplit

SECONDS, GIB, HASH_SECONDS = 10.0, 2.0, 60.0


def rows(n: int) -> Iterator[Sample]:
    """Half of them real; 40 samples a subject, 5 a source; one fake in four is a swap of two near subjects."""
    subjects = max(n // 40, 4)
    people = [f"id{who:06d}" for who in range(subjects + 1)]
    methods = [f"method{k}" for k in range(11)]
    families = ("swap", "reenactment", "synthesis")
    places = [{"repository": f"place{k}", "language": "en"} for k in range(13)]
    for i in range(n):
        who = i * 7919 % subjects
        fake = i % 2
        path = f"{'fake' if fake else 'real'}/c23/{i:07d}.mp4"
        yield Sample(
            sample_id="bench/" + path, path=path, media="video", modality="face", label=fake, corpus="bench",
            source_id=f"{people[who]}-{i // subjects // 5}",
            subjects=(people[who], people[who ^ 1]) if i % 8 == 1 else (people[who],),
            generator=methods[i % 11] if fake else "",
            generator_family=families[i % 3] if fake else "",
            channel="c23", attributes=places[i % 13], sha256=f"{i:064x}", bytes=100_000 + i, duration_s=3.0 + i % 7,
            width=256, height=256, fps=25.0, codec="h264",
        )  # fmt: skip


def near(n: int, seed: int) -> np.ndarray:
    """(n,) uint64 hashes, a third of them copies with up to six bits changed, and some thousand alike."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 2**64, n, dtype=np.uint64)
    copies = n // 3
    for _ in range(6):
        out[:copies] = out[copies : 2 * copies] if _ == 0 else out[:copies]
        out[:copies] ^= np.uint64(1) << rng.integers(0, 64, copies).astype(np.uint64)
    out[-n // 50 :] = out[-1]
    return out


def main() -> int:
    """Print one line per step, and fail where a limit is passed (`--check`)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--hashes", type=int, default=200_000)
    parser.add_argument("--check", action="store_true", help="exit 1 where a step needs more than the limits")
    args = parser.parse_args()
    over: list[str] = []

    def step(name: str, work: Callable[[], Any], limit: float = SECONDS) -> Any:
        begin, busy = time.perf_counter(), time.process_time()
        out = work()
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
        if seconds > limit or peak > GIB:
            over.append(name)
        print(
            f"{name:<28} {seconds:7.2f} s (limit {limit:.0f}; {busy:.2f} s of processor)   "
            f"peak so far {peak:5.2f} GiB (limit {GIB:.0f})",
            flush=True,
        )
        return out

    print(f"{args.rows:,} rows")
    manifest: Manifest = step("build", lambda: Manifest.from_samples(rows(args.rows), "bench", {"name": "bench"}))
    step("validate", manifest.validate)
    step("hash", lambda: manifest.hash)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        step("write Parquet", lambda: manifest.to_parquet(path))
        manifest = step("read Parquet and validate", lambda: Manifest.read_parquet(path, "bench"))
    split = step("split by subject", lambda: SubjectSplit().apply(manifest))
    step("split by stable hash", lambda: SubjectSplit(assignment="hash").apply(manifest))
    report = step("audit of ids", lambda: audit(split, look=False))
    print(f"{args.hashes:,} perceptual hashes")
    hashes = near(args.hashes, 0)
    labels = step("clusters", lambda: cluster_hashes(hashes), HASH_SECONDS)
    print(f"{len(split):,} samples split, {len(report.blocks)} blocks, {len(np.unique(labels)):,} clusters of hashes")
    if over:
        print(f"over the limit: {', '.join(over)}")
    return 1 if over and args.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
