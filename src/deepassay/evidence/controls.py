"""Controls: what must come out at chance, and what must be found, before any other number is believed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepassay.calibrator import OperatingPoint
from deepassay.errors import ConfigError
from deepassay.evaluation import CLUSTER_UNIT, LEFT_OUT, Number, measure_generator, metric_row
from deepassay.files import sha256_bytes
from deepassay.labels import FAKE, REAL
from deepassay.metrics.intervals import cluster_bootstrap
from deepassay.metrics.ranking import auc
from deepassay.scores import ScoreTable

REAL_AGAINST_REAL, HALVES, EASY, PERMUTED = "real_against_real", "real_halves", "easy_fake", "permuted_labels"
PERMUTATIONS = 200
FEWEST = 5  # clusters of a source of real samples, below which it is not shown


def measure_controls(
    test: ScoreTable,
    dev: ScoreTable,
    plan: Mapping[str, str],
    *,
    operating_points: Sequence[OperatingPoint],
    replicates: int,
    level: float,
    seed: int,
    minimum_clusters: int,
    minimum_attack: int,
) -> list[Number]:
    """Rows of the table of controls.

    - ``real_against_real``: AUC of each source of real samples against the others; away from 0.5 the detector tells
      sources apart. Sources are the values of ``plan["real_by"]``, a column or an attribute. Without it, real samples
      are halved by the hash of their cluster, which tests the procedure and no source.
    - ``easy_fake``: a generator that any detector should find: ``plan["easy"]``, else the one that dev ranks highest of
      those that the test holds too.
    - ``permuted_labels``: AUC where labels are exchanged at random within clusters (between whole clusters where none
      holds both classes); its range over permutations must contain 0.5.

    Raises:
        ConfigError: a column, attribute or generator that the table does not have.
    """
    options: dict[str, Any] = {"replicates": replicates, "level": level, "seed": seed}
    out = _real_against_real(test, plan.get("real_by", ""), minimum_clusters, options)
    easy = _easy(test, dev, plan.get("easy", ""))
    if easy:
        out += measure_generator(
            test, easy, {"control": EASY}, operating_points=operating_points, minimum_clusters=minimum_clusters,
            minimum_attack=minimum_attack, **options,
        )  # fmt: skip
        out = [n for n in out if not (n.metric == "bpcer" and n.slice.get("control") == EASY)]
    return [*out, _permuted(test, level, seed, minimum_clusters)]


def _values(test: ScoreTable) -> np.ndarray:
    return test.column("llr" if test.meta.get("calibrated", False) else "score")


def _real_against_real(test: ScoreTable, by: str, least: int, options: Mapping[str, Any]) -> list[Number]:
    keep = (test.column("label") == REAL) & test.answered
    real = test.select(keep)
    scores, cluster = _values(real), real.column("cluster").astype(str)
    if by:
        group, kind = _groups(real, by), REAL_AGAINST_REAL
    else:
        group = np.array([str(int(sha256_bytes(c.encode())[:8], 16) % 2) for c in cluster], dtype=object)
        kind = HALVES
    names = [n for n in sorted(set(group)) if len(set(cluster[group == n])) >= FEWEST]
    if len(names) < 2:
        return []
    out = []
    for name in names if kind == REAL_AGAINST_REAL else names[:1]:
        mine = (group == name).astype(np.int8)
        interval = cluster_bootstrap("auc", mine, scores, cluster, cluster_unit=CLUSTER_UNIT, method="auto", **options)
        record = interval.as_record()
        good = bool(np.isfinite(record["lo"]) and np.isfinite(record["hi"]))
        units = min(len(set(cluster[mine == one])) for one in (0, 1))
        where = {"control": kind, "group": name} if kind == REAL_AGAINST_REAL else {"control": kind}
        out.append(
            _number(test, where, auc(mine, scores), record if good else None, n_bona=len(scores),
                    units=units, weak=units < least)
        )  # fmt: skip
    return out


def _groups(real: ScoreTable, by: str) -> np.ndarray:
    if by in real.table.column_names:
        values = [str(v or "") for v in real.table.column(by).to_pylist()]
    else:
        values = [str(dict(v or ()).get(by, "")) for v in real.table.column("attributes").to_pylist()]
    if not any(values):
        raise ConfigError(
            f"controls.real_by is {by!r}, and no real test sample has such a column or attribute",
            hint="name a column such as corpus or channel, or an attribute; or leave real_by out",
        )
    return np.array(values, dtype=object)


def _easy(test: ScoreTable, dev: ScoreTable, named: str) -> str:
    there = set(test.column("generator")[test.column("label") == FAKE]) - {"", None}
    if named:
        if named not in there:
            raise ConfigError(
                f"controls.easy is {named!r}, which the test does not hold", hint=f"it holds {sorted(there)}"
            )
        return named
    scores, label, generator = _values(dev), dev.column("label"), dev.column("generator")
    keep = dev.answered
    ranked = []
    for name in sorted(there & set(generator[label == FAKE])):
        part = keep & ((label == REAL) | (generator == name))
        if (label[part] == FAKE).any() and (label[part] == REAL).any():
            ranked.append((auc(label[part], scores[part]), name))
    return max(ranked)[1] if ranked else ""


def _permuted(test: ScoreTable, level: float, seed: int, least: int) -> Number:
    keep = test.answered
    label, scores = test.column("label")[keep], _values(test)[keep]
    _, code = np.unique(test.column("cluster")[keep].astype(str), return_inverse=True)
    mixed = np.array([len(set(label[code == c])) > 1 for c in range(code.max() + 1)])
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    if mixed.sum() >= 2:
        inside = mixed[code]
        label, scores, code = label[inside], scores[inside], code[inside]
        how, units = "within clusters", int(mixed.sum())
        order = [np.flatnonzero(code == c) for c in np.unique(code)]

        def shuffled() -> np.ndarray:
            out = label.copy()
            for rows in order:
                out[rows] = label[rng.permutation(rows)]
            return out
    else:
        how, units = "between clusters", len(mixed)
        first = np.array([label[code == c][0] for c in range(len(mixed))])

        def shuffled() -> np.ndarray:
            return rng.permutation(first)[code]

    values = []
    for _ in range(PERMUTATIONS):
        drawn = shuffled()
        if 0 < drawn.sum() < len(drawn):
            values.append(auc(drawn, scores))
    where = {"control": PERMUTED, "exchanged": how}
    if not values:
        return _number(test, where, None, None, n_bona=int((label == REAL).sum()), n_attack=int((label == FAKE).sum()),
                       units=units, weak=True)  # fmt: skip
    lo, hi = np.percentile(values, [50 * (1 - level), 100 - 50 * (1 - level)])
    record = {
        "level": level, "method": "permutation_of_labels", "lo": float(lo), "hi": float(hi),
        "cluster_unit": CLUSTER_UNIT, "n_clusters": units, "replicates": len(values), "seed": seed,
    }  # fmt: skip
    return _number(
        test, where, float(np.mean(values)), record, n_bona=int((label == REAL).sum()),
        n_attack=int((label == FAKE).sum()), units=units, weak=units < least,
    )  # fmt: skip


def _number(
    test: ScoreTable, where: Mapping[str, str], value: float | None, ci: Mapping[str, Any] | None, *, n_bona: int,
    units: int, weak: bool, n_attack: int = 0,
) -> Number:  # fmt: skip
    row = metric_row("auc")
    slices = {**where, "nonresponse": LEFT_OUT}
    return Number(
        id="/".join(["auc", *(f"{k}={v}" for k, v in slices.items())]), metric="auc",
        definition=f"m:{row.definition}", direction="descriptive", value=value, ci=ci,
        no_ci_reason="" if ci is not None else "no bootstrap replicate has a value", n_bona=n_bona, n_attack=n_attack,
        n_clusters=units, slice=slices, detector=str(test.meta.get("detector", "")), scores_sha256=test.hash,
        status="under_powered" if weak else "exploratory",
    )  # fmt: skip


def holds(number: Number | Mapping[str, Any]) -> bool | None:
    """Whether a control came out as it must: a range that contains 0.5, or an easy fake that is found; else None."""
    value = number if isinstance(number, Mapping) else number.to_json()
    ci, where = value["ci"], value["slice"]
    if value["metric"] != "auc" or ci is None or ci["lo"] is None or ci["hi"] is None:
        return None
    if where.get("control") == EASY:
        return bool(ci["lo"] > 0.5)
    return bool(ci["lo"] <= 0.5 <= ci["hi"])
