"""Matched pairs: outputs of the tool beside the very originals that they were made from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepassay.evaluation import AS_ERROR, CLUSTER_UNIT, LEFT_OUT, Number
from deepassay.labels import FAKE, REAL
from deepassay.metrics.intervals import clustered_proportion
from deepassay.scores import ScoreTable

ORIGINAL = "original"  # attribute of an output: the sample_id of what it was made from, or several with ; between


def matched(test: ScoreTable, tool: str) -> list[tuple[int, list[int]]]:
    """Row of each output of the tool, with the rows of its originals.

    An output's originals are the real samples that its attribute ``original`` names, else those of its own source.
    Outputs without any are left out.
    """
    label, generator = test.column("label"), test.column("generator")
    ids, source = test.column("sample_id"), test.column("source_id")
    real = np.flatnonzero(label == REAL)
    by_id = {ids[i]: int(i) for i in real}
    by_source: dict[str, list[int]] = {}
    for i in real:
        if source[i]:
            by_source.setdefault(source[i], []).append(int(i))
    attributes = [dict(row or ()) for row in test.table.column("attributes").to_pylist()]
    out = []
    for i in np.flatnonzero((label == FAKE) & (generator == tool)):
        named = [name for name in attributes[i].get(ORIGINAL, "").split(";") if name]
        rows = [by_id[name] for name in named if name in by_id] if named else by_source.get(source[i], [])
        if rows:
            out.append((int(i), rows))
    return out


def measure_pairs(
    test: ScoreTable,
    tool: str,
    *,
    replicates: int,
    level: float,
    seed: int,
    minimum_clusters: int,
    minimum_attack: int,
) -> list[Number]:
    """Share of outputs that rank above their own originals, and by how much, on the scale of the llr.

    Pairing takes away what person, scene and recording do to a score: what is left is the edit. An output without an
    answer, or whose original has none, counts as ranked wrong in the first number and is left out of the second. The
    share has the interval of Korn and Graubard (1998), the mean difference that of the cluster bootstrap.

    Returns:
        Nothing where no output has an original in the table.
    """
    found = matched(test, tool)
    if not found:
        return []
    value = test.column("llr" if test.meta.get("calibrated", False) else "score")
    answered, cluster = test.answered, test.column("cluster")
    rows = np.array([i for i, _ in found])
    both = np.array([bool(answered[i]) and bool(answered[originals].all()) for i, originals in found])
    gap = np.array([value[i] - value[originals].mean() if ok else np.nan for (i, originals), ok in zip(found, both)])  # noqa: B905
    units = cluster[rows]
    facts: dict[str, Any] = {
        "detector": str(test.meta.get("detector", "")), "scores_sha256": test.hash,
        "n_bona": len({j for _, originals in found for j in originals}),
    }  # fmt: skip
    out = []
    for convention, keep in ((AS_ERROR, np.ones(len(found), bool)), (LEFT_OUT, both)):
        n, clusters = int(keep.sum()), len(set(units[keep].tolist()))
        if clusters < 2:
            continue
        right = np.nan_to_num(gap[keep], nan=-1.0) > 0
        found_ci = clustered_proportion(right, units[keep], level, cluster_unit=CLUSTER_UNIT)
        weak = clusters < minimum_clusters or n < minimum_attack
        where = {"pairs": tool, "nonresponse": convention}
        out.append(
            Number(
                id=f"pair_rank/pairs={tool}/nonresponse={convention}", metric="pair_rank", definition="m:pair_rank@1",
                direction="higher_better", value=float(right.mean()), ci=found_ci.as_record(),
                count=(int(right.sum()), n), n_attack=n, n_clusters=clusters, n_nonresponse=int((~both).sum()),
                slice=where, status="under_powered" if weak else "exploratory", **facts,
            )
        )  # fmt: skip
    if both.any() and len(set(units[both].tolist())) >= 2:
        out.append(
            _difference(
                gap[both], units[both], tool, facts, int((~both).sum()), minimum_clusters, minimum_attack,
                replicates=replicates, level=level, seed=seed,
            )
        )  # fmt: skip
    return out


def _difference(
    gap: np.ndarray, units: np.ndarray, tool: str, facts: Mapping[str, Any], silent: int, least: int, few: int, *,
    replicates: int, level: float, seed: int,
) -> Number:  # fmt: skip
    names, code = np.unique(units.astype(str), return_inverse=True)
    bits = gap / np.log(2.0)
    total, size = np.bincount(code, weights=bits), np.bincount(code).astype(float)
    draws = np.random.Generator(np.random.PCG64([seed, len(names)])).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=replicates
    )
    means = (draws @ total) / (draws @ size)
    lo, hi = np.percentile(means, [50 * (1 - level), 100 - 50 * (1 - level)])
    return Number(
        id=f"pair_difference/pairs={tool}/nonresponse={LEFT_OUT}", metric="pair_difference",
        definition="m:pair_difference@1", direction="higher_better", unit="bits", value=float(bits.mean()),
        ci={
            "level": level, "method": "bootstrap_cluster_percentile", "lo": float(lo), "hi": float(hi),
            "cluster_unit": CLUSTER_UNIT, "n_clusters": len(names), "replicates": replicates, "seed": seed,
        },
        n_attack=len(gap), n_clusters=len(names), n_nonresponse=silent,
        slice={"pairs": tool, "nonresponse": LEFT_OUT},
        status="under_powered" if len(names) < least or len(gap) < few else "exploratory", **facts,
    )  # fmt: skip
