"""Empirical coverage of nominal 95 % intervals on simulated clustered scores whose true AUC, EER and BPCER are known.

    OMP_NUM_THREADS=1 python scripts/coverage_of_intervals.py [--simulations 2000] [--replicates 1000] [--json FILE]

Every cluster (a speaker, a source) has 20 real and 20 fake trials; scores are normal with unit variance, of which the
share ``rho`` = 0.3 is common to the trials of a cluster. In the design ``shared`` one effect moves both classes of a
cluster, in ``apart`` each class has its own. The real mean is 0, the fake mean 2: AUC = Phi(2 / sqrt 2) for trials of
different clusters, EER = Phi(-1), and the threshold is fixed where the true BPCER is 5 %. Printed: the share of
simulations whose interval holds the truth, its Monte-Carlo error, and mean widths, for cluster intervals (percentile,
expanded, BCa, logit t, Korn-Graubard) beside intervals that take trials as independent (bootstrap over trials, DeLong,
Wilson).
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from statistics import NormalDist
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from deepassay.metrics.intervals import bounds, clustered_proportion, delong, replicate, wilson

MEAN, RHO, PER_CLASS, LEVEL = 2.0, 0.3, 20, 0.95
NORMAL = NormalDist()
THRESHOLD = NORMAL.inv_cdf(0.95)
TRUTH = {"auc": NORMAL.cdf(MEAN / math.sqrt(2)), "eer": NORMAL.cdf(-MEAN / 2), "bpcer": 0.05}
ASKED = ["auc", "eer", ("bpcer", {"threshold": THRESHOLD})]


def simulate(clusters: int, shared: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and clusters, each (clusters * 40,)."""
    effect_real = rng.normal(size=clusters)
    effect_fake = effect_real if shared else rng.normal(size=clusters)
    own = rng.normal(size=(2, clusters, PER_CLASS))
    real = math.sqrt(RHO) * effect_real[:, None] + math.sqrt(1 - RHO) * own[0]
    fake = MEAN + math.sqrt(RHO) * effect_fake[:, None] + math.sqrt(1 - RHO) * own[1]
    unit = np.repeat(np.arange(clusters), PER_CLASS)
    labels = np.repeat(np.array([0, 1], dtype=np.int8), clusters * PER_CLASS)
    return labels, np.concatenate([real.ravel(), fake.ravel()]), np.concatenate([unit, unit])


def study(clusters: int, shared: bool, simulations: int, replicates: int, seed: int) -> list[dict[str, Any]]:
    """Rows of coverage and width by metric and interval."""
    rng = np.random.Generator(np.random.PCG64(seed))
    hits: dict[tuple[str, str], list[tuple[bool, float]]] = {}

    def note(metric: str, way: str, lo: float, hi: float) -> None:
        hits.setdefault((metric, way), []).append((lo <= TRUTH[metric] <= hi, hi - lo))

    for number in range(simulations):
        labels, scores, unit = simulate(clusters, shared, rng)
        by_cluster = replicate(ASKED, labels, scores, unit, replicates=replicates, seed=number, jackknife=True)
        by_trial = replicate(ASKED, labels, scores, np.arange(labels.size), replicates=replicates, seed=number)
        assert by_cluster.left_out is not None
        for column, metric in enumerate(TRUTH):
            point, values = float(by_cluster.point[column]), by_cluster.values[:, column]
            for method in ("percentile", "expanded", "bca", "logit_t"):
                left = by_cluster.left_out[:, column]
                note(metric, f"cluster {method}", *bounds(point, values, LEVEL, method, clusters, left))
            trial = bounds(point, by_trial.values[:, column], LEVEL, "percentile", labels.size)
            note(metric, "trial percentile", *trial)
        flat = delong(labels, scores, LEVEL)
        note("auc", "trial DeLong", flat.lo, flat.hi)
        n = clusters * PER_CLASS
        real = labels == 0
        spread = clustered_proportion(scores[real] >= THRESHOLD, unit[real], LEVEL)
        note("bpcer", "cluster Korn-Graubard", spread.lo, spread.hi)
        counted = wilson(round(float(by_cluster.point[2]) * n), n, LEVEL)
        note("bpcer", "trial Wilson", counted.lo, counted.hi)
    rows = []
    for (metric, way), found in sorted(hits.items()):
        share = sum(hit for hit, _ in found) / len(found)
        rows.append(
            {
                "design": "shared" if shared else "apart",
                "clusters": clusters,
                "metric": metric,
                "interval": way,
                "coverage": share,
                "monte_carlo_error": math.sqrt(share * (1 - share) / len(found)),
                "mean_width": sum(width for _, width in found) / len(found),
            }
        )
    return rows


def main() -> int:
    """Run the designs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--clusters", type=int, nargs="+", default=[60, 20])
    parser.add_argument("--designs", nargs="+", choices=["shared", "apart"], default=["shared", "apart"])
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    start, rows = time.perf_counter(), []
    print("| design | clusters | metric | interval | coverage | +- | mean width |\n|---|---|---|---|---|---|---|")
    for design in options.designs:
        for clusters in options.clusters:
            made = study(clusters, design == "shared", options.simulations, options.replicates, options.seed)
            for row in made:
                print(
                    f"| {row['design']} | {row['clusters']} | {row['metric']} | {row['interval']} | "
                    f"{100 * row['coverage']:.1f} % | {100 * row['monte_carlo_error']:.1f} | {row['mean_width']:.4f} |",
                    flush=True,
                )
            rows += made
    print(f"{options.simulations} simulations, {options.replicates} replicates, {time.perf_counter() - start:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
