"""Two versions of one tool: the outputs of the new one against those of the old one, paired as far as they can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepassay.calibrator import OperatingPoint
from deepassay.evaluation import Number
from deepassay.evidence.comparisons import Compared, adjusted, compare_sides, side_of
from deepassay.evidence.log import AssessmentLog
from deepassay.evidence.pairs import ORIGINAL
from deepassay.evidence.protocol import Protocol
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.labels import FAKE
from deepassay.scores import ScoreTable

KEY = "version_comparison"


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The dossier before this one: its log, the test table sealed with it, and the hash of its statement."""

    log: AssessmentLog
    test: ScoreTable
    statement_sha256: str


def compare_versions(
    earlier: Earlier,
    test: ScoreTable,
    tool: ToolUnderAssessment,
    protocol: Protocol,
    points: Sequence[OperatingPoint],
    bundle_sha256: str,
) -> tuple[dict[str, Any], list[Number]]:
    """The log's ``previous_version`` and its numbers: APCER at every point and AUC, new minus old.

    Clusters that both tests hold under one id are drawn together, so that equal inputs are paired; ids agree where both
    assessments were made with one salt. Each side is judged at the threshold of its own dossier; where the detector
    differs, the difference is of tool and detector together, and the log says so.
    """
    old_name = earlier.log.tool_under_assessment.generator
    asks: list[tuple[str, OperatingPoint | None]] = [("auc", None), *(("apcer", point) for point in points)]
    thresholds = {point.id: point.threshold for point in earlier.log.operating_points}
    made: list[Compared] = []
    for metric, point in asks:
        name = f"{metric}/{point.name}" if point else metric
        sides = [
            side_of(f"{tool.name} {tool.version}", test, tool.generator, metric, points),
            side_of(
                f"{earlier.log.tool_under_assessment.name} {earlier.log.tool_under_assessment.version}", earlier.test,
                old_name, metric, points,
            ),
        ]  # fmt: skip
        if point is not None:
            if point.name not in thresholds:
                continue
            limits = (point.threshold, thresholds[point.name])
            sides = [replace(side, value=side.value - limit) for side, limit in zip(sides, limits, strict=True)]
        made.append(
            compare_sides(
                *sides, id=name, metric=metric, point=point and replace(point, threshold=0.0), test=test,
                replicates=protocol.replicates, level=protocol.level, seed=protocol.seed,
                minimum_clusters=protocol.minimum_clusters, key=KEY,
            )
        )  # fmt: skip
    made = adjusted(made)
    new, old = _outputs(test, tool.generator), _outputs(earlier.test, old_name)
    detector = earlier.log.detectors[0]
    record = {
        "dossier_id": earlier.log.dossier_id,
        "statement_sha256": earlier.statement_sha256,
        "version": earlier.log.tool_under_assessment.version,
        "created_utc": earlier.log.created_utc,
        "same_detector": detector.bundle_sha256 == bundle_sha256,
        "same_thresholds": all(thresholds.get(p.name) == p.threshold for p in points),
        "same_inputs": len(new["inputs"] & old["inputs"]),
        "shared_clusters": len(new["clusters"] & old["clusters"]),
        "comparisons": [one.to_json() for one in made],
    }
    return record, [one.number for one in made]


def _outputs(table: ScoreTable, generator: str) -> Mapping[str, set[str]]:
    """Originals (else sources) and clusters of a tool's outputs."""
    keep = (table.column("label") == FAKE) & (table.column("generator") == generator)
    part = table.select(np.asarray(keep))
    named = [dict(row or ()).get(ORIGINAL, "") for row in part.table.column("attributes").to_pylist()]
    inputs = {one or source for one, source in zip(named, part.column("source_id"), strict=True)} - {""}
    return {"inputs": inputs, "clusters": set(part.column("cluster").tolist())}
