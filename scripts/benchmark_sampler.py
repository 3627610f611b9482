"""Ten million rows sampled in balance: start-up, memory, time per batch (CPU time), beside torch's weighted sampler.

python scripts/benchmark_sampler.py                    # ten million rows, about a minute and 3 GB
python scripts/benchmark_sampler.py --rows 1000000 --json out.json
"""

import argparse
import gc
import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepassay.training.order import Batches, Cells, StreamedOrder

BATCH = 64


def columns(n: int) -> dict[str, Any]:
    """Labels (five fakes to one real, as FaceForensics++ with all methods), 11 generators, n / 20 sources."""
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < 5 / 6).astype(np.int8)
    methods = pa.array(["", *[f"method{k}" for k in range(11)]])
    generator = np.where(labels == 1, 1 + np.minimum(rng.geometric(0.3, n) - 1, 10), 0)
    source = pa.array([f"source{k:07d}" for k in range(max(n // 20, 1))])
    return {
        "label": labels,
        "generator": pa.DictionaryArray.from_arrays(pa.array(generator, pa.int32()), methods).cast(pa.string()),
        "source_id": pa.DictionaryArray.from_arrays(
            pa.array(rng.integers(0, len(source), n), pa.int32()), source
        ).cast(pa.string()),
    }  # fmt: skip


def resident_mb() -> float:
    """Memory of this process now."""
    try:
        words = Path("/proc/self/statm").read_text().split()
        return int(words[1]) * resource.getpagesize() / 1e6
    except OSError:  # not Linux: the most so far
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(name: str, labels: np.ndarray | None, values: Any, n: int, batches: int) -> dict[str, Any]:
    """One balance: make the sampler, take its first batch, then more, and enter an epoch in its middle."""
    gc.collect()
    before, begin = resident_mb(), time.process_time()
    order = StreamedOrder(Cells(labels, values, n=n), balance=name, seed=0)
    made = time.process_time() - begin
    begin = time.process_time()
    stream = iter(Batches(order, BATCH))
    next(stream)
    first = time.process_time() - begin
    begin = time.process_time()
    for _ in range(batches):
        next(stream)
    each = (time.process_time() - begin) / batches
    half = len(Batches(order, BATCH)) // 2
    order.first = lambda: half
    begin = time.process_time()
    next(iter(Batches(order, BATCH)))
    resumed = time.process_time() - begin
    gc.collect()
    return {
        "balance": name, "rows": n, "cells": len(order.cells.starts) - 1, "start_s": round(made, 3),
        "first_batch_ms": round(1e3 * first, 3), "batch_ms": round(1e3 * each, 3),
        "entered_in_the_middle_ms": round(1e3 * resumed, 3), "memory_mb": round(resident_mb() - before, 1),
    }  # fmt: skip


def torchs_own(labels: np.ndarray, n: int) -> dict[str, Any]:
    """WeightedRandomSampler: what one would use otherwise; it draws a whole epoch, with replacement."""
    import torch
    from torch.utils.data import WeightedRandomSampler

    gc.collect()
    before, begin = resident_mb(), time.process_time()
    counts = np.bincount(labels, minlength=2)
    weights = torch.from_numpy(1.0 / counts[labels])
    try:
        stream = iter(WeightedRandomSampler(weights, n))  # type: ignore[arg-type]
        made = time.process_time() - begin
        begin = time.process_time()
        for _ in range(BATCH):
            next(stream)
        first = time.process_time() - begin
    except RuntimeError as error:  # torch.multinomial takes 2**24 categories at most
        return {"balance": "torch WeightedRandomSampler", "rows": n, "error": str(error).splitlines()[0]}
    return {
        "balance": "torch WeightedRandomSampler", "rows": n, "start_s": round(made, 3),
        "first_batch_ms": round(1e3 * first, 3), "memory_mb": round(resident_mb() - before, 1),
    }  # fmt: skip


def main() -> int:
    """Print a table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batches", type=int, default=500)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    n = options.rows
    data = columns(n)
    results = [measure("none", None, None, n, options.batches)]
    results.append(measure("label", data["label"], None, n, options.batches))
    for name in ("generator", "source_id"):
        results.append(measure(name, data["label"], data[name], n, options.batches))
    results.append(torchs_own(data["label"], n))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    for row in results:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(f"peak memory of the process, with the columns themselves: {peak:.2f} GB; batches of {BATCH}")
    if options.json:
        about = {"machine": platform.machine(), "python": platform.python_version(), "peak_gb": round(peak, 2)}
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
