"""Times the exact cluster bootstrap beside a plain loop over scikit-learn's roc_curve on resampled trials, in one run.

    OMP_NUM_THREADS=1 python scripts/benchmark_metrics.py [--golden FOLDER] [--replicates 1000] [--loop 20]

Part 1: 1,000 one-way cluster replicates of AUC, EER (E3), min DCF and BPCER at APCER 5 % on the 71,237 ASVspoof 2019 LA
evaluation trials of three systems (or on synthetic trials of that size where the folder is absent). Part 2: a million
synthetic trials from 5,000 sources. The loop draws the same number of clusters, copies their trials, calls roc_curve
once per replicate and takes all four metrics from it. Times are CPU seconds of this process on one core.
"""

import argparse
import csv
import gzip
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from deepassay.metrics.intervals import Replicates, replicate

METRICS = ("auc", "eer", "min_dcf", "bpcer_at_apcer_5")
GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


def peak_mib() -> float:
    """Highest resident memory of this process so far, in MiB.

    ``ru_maxrss`` is what is left where there is no /proc; it keeps the peak of the process that forked this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def synthetic(n: int, clusters: int, share_fake: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and clusters (n,) with overlapping classes and a cluster effect."""
    rng = np.random.Generator(np.random.PCG64(seed))
    unit = rng.integers(0, clusters, n)
    labels = (rng.random(n) < share_fake).astype(np.int8)
    scores = 2.0 * labels + rng.normal(size=n) + 0.6 * rng.normal(size=clusters)[unit]
    return labels, scores, unit


def la_trials(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """Labels, scores by system (negated: the files grow with bona fide) and speakers of the LA evaluation trials."""
    with gzip.open(folder / "asvspoof2019_la_eval_scores.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    labels = np.array([row["key"] == "spoof" for row in rows], dtype=np.int8)
    systems = {name: -np.array([float(row[name]) for row in rows]) for name in ("ocsoftmax", "amsoftmax", "softmax")}
    return labels, systems, [row["speaker"] for row in rows]


def loop(
    labels: np.ndarray, scores: np.ndarray, clusters: Any, replicates: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The plain way: point values (4,) and values (replicates, 4) from roc_curve on copies of the trials."""
    from scipy.interpolate import interp1d
    from scipy.optimize import brentq
    from sklearn.metrics import auc, roc_curve

    def four(y: np.ndarray, s: np.ndarray) -> list[float]:
        fpr, tpr, _ = roc_curve(y, s)
        fnr = 1 - tpr
        crossing: Any = brentq(lambda x: 1.0 - x - interp1d(fpr, tpr)(x), 0.0, 1.0, xtol=1e-13)
        return [auc(fpr, tpr), crossing, ((0.95 * fpr + 0.5 * fnr) / 0.5).min(), fpr[fnr <= 0.05].min()]

    names, code = np.unique(np.asarray(clusters), return_inverse=True)
    order = np.argsort(code, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(code))[:-1])
    rng = np.random.Generator(np.random.PCG64(seed))
    out = []
    for _ in range(replicates):
        index = np.concatenate([members[i] for i in rng.integers(0, names.size, names.size)])
        out.append(four(labels[index], scores[index]))
    return np.array(four(labels, scores)), np.array(out)


def run(
    name: str, labels: np.ndarray, scores: np.ndarray, clusters: Any, replicates: int, loops: int
) -> dict[str, Any]:
    """Time both ways on one set of trials and print a line."""
    start = time.process_time()
    made: Replicates = replicate(METRICS, labels, scores, clusters, replicates=replicates, seed=1)
    ours = (time.process_time() - start) / replicates
    memory = peak_mib()
    loop(labels[:1000], scores[:1000], np.arange(1000), 1, 2)  # imports are not timed
    start = time.process_time()
    point, values = loop(labels, scores, clusters, loops, 2)
    plain = (time.process_time() - start) / (loops + 1)
    record = {
        "set": name,
        "trials": int(labels.size),
        "clusters": made.n_clusters,
        "replicates": replicates,
        "loop_replicates": loops,
        "ms_per_replicate": 1e3 * ours,
        "ms_per_replicate_loop": 1e3 * plain,
        "times_faster": plain / ours,
        "largest_point_difference": float(np.abs(made.point - point).max()),
        "point": dict(zip(METRICS, made.point.tolist(), strict=True)),
        "sd": dict(zip(METRICS, made.values.std(axis=0).tolist(), strict=True)),
        "sd_loop": dict(zip(METRICS, values.std(axis=0).tolist(), strict=True)),
        "peak_mib_before_loop": memory,
    }
    print(
        f"{name}: {labels.size:,} trials, {made.n_clusters:,} clusters: {1e3 * ours:.3f} ms per replicate of 4 metrics "
        f"({replicates} replicates, set-up included) against {1e3 * plain:.1f} ms in the loop ({loops} replicates): "
        f"{plain / ours:.0f} times faster; largest difference of points {record['largest_point_difference']:.1e}; "
        f"peak memory so far {memory:.0f} MiB"
    )
    return record


def main() -> int:
    """Run both parts; exit code 1 where points differ by more than 1e-9 or memory passes 1 GiB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder with asvspoof2019_la_eval_scores.csv.gz")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=20, help="replicates of the plain loop")
    parser.add_argument("--large", type=int, default=1_000_000, help="trials of part 2, from 1 source per 200")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    records = []
    # The large set runs first, so that the memory printed for it is not that of the loop.
    labels, scores, unit = synthetic(options.large, max(2, options.large // 200), 0.8, 3)
    start = time.process_time()
    made = replicate(METRICS, labels, scores, unit, replicates=options.replicates, seed=1)
    seconds = time.process_time() - start
    peak = peak_mib()
    print(
        f"large: {labels.size:,} trials, {made.n_clusters:,} clusters: {options.replicates} replicates of 4 metrics "
        f"in {seconds:.1f} s ({1e3 * seconds / options.replicates:.2f} ms each); peak memory {peak:.0f} MiB"
    )
    records.append({"set": "large", "seconds": seconds, "peak_mib": peak, "replicates": options.replicates})
    if (options.golden / "asvspoof2019_la_eval_scores.csv.gz").is_file():
        truth, systems, speakers = la_trials(options.golden)
        for name, values in systems.items():
            records.append(run(f"LA {name}", truth, values, speakers, options.replicates, options.loop))
    else:
        print(f"no score file in {options.golden}: synthetic trials of the same size instead")
        truth, values, speakers = synthetic(71_237, 67, 0.9, 4)
        records.append(run("synthetic of LA's size", truth, values, speakers, options.replicates, options.loop))
    records.append(run("large, beside the loop", labels, scores, unit, min(50, options.replicates), 2))
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    wrong = [r["set"] for r in records if r.get("largest_point_difference", 0.0) > 1e-9]
    if wrong or peak > 1024:
        print(f"FAILED: points differ in {wrong}, peak {peak:.0f} MiB")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
