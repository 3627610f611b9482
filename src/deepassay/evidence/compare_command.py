"""`deepassay compare`: two sealed dossiers of one tool, the newer against the older, recomputed from their tables."""

import argparse
import json
from pathlib import Path
from typing import Any

EPILOG = """\
APCER at every operating point and AUC, new minus old, with intervals that pair what both tests share (persons, and
inputs, where both were assessed with one salt: `deepassay assess salt=FILE`). Each side keeps its own thresholds. Run
`deepassay verify` on both first: this command believes what they hold.

examples:
  deepassay compare spring.zip autumn.zip
  deepassay compare spring.zip autumn.zip --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay compare`."""
    parser.epilog = EPILOG
    parser.add_argument("older", type=Path, metavar="OLDER.zip", help="the sealed dossier that came first")
    parser.add_argument("newer", type=Path, metavar="NEWER.zip", help="the sealed dossier of the next version")
    parser.add_argument("--json", action="store_true", help="the comparison as JSON")


def main(args: argparse.Namespace) -> int:
    """Print the differences; 0 whatever they are."""
    found = compared(args.older, args.newer)
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    print(f"{found['tool']} {found['new_version']} against {found['version']} ({found['dossier_id']})")
    print(f"  same detector {_yes(found['same_detector'])}, same thresholds {_yes(found['same_thresholds'])}, "
          f"{found['same_inputs']} equal inputs, {found['shared_clusters']} clusters in both")  # fmt: skip
    for row in found["rows"]:
        share = row["metric"] != "auc"
        scale, digits = (100.0, 1) if share else (1.0, 3)
        name = f"{row['metric'].upper()}{f' at {point}' if (point := row['operating_point']) else ''}"
        ci = (
            "no interval"
            if row["lo"] is None
            else f"{scale * row['lo']:+.{digits}f} to {scale * row['hi']:+.{digits}f}"
        )
        p = "-" if row["p_holm"] is None else f"{row['p_holm']:.3f}"
        print(
            f"  {name:<20} {scale * row['old']:.{digits}f} -> {scale * row['new']:.{digits}f}   "
            f"difference {scale * row['difference']:+.{digits}f} ({ci}), p by Holm {p}"
            f"{'   under-powered' if row['weak'] else ''}"
        )
    if not found["shared_clusters"]:
        print("  nothing is paired: the ids of the two tests share no cluster (other people, or another salt)")
    return 0


def compared(older: Path, newer: Path) -> dict[str, Any]:
    """The comparison as JSON values.

    Raises:
        SealError: not sealed dossiers of one tool, or given in the wrong order.
    """
    from datetime import datetime

    from deepassay.calibrator import OperatingPoint
    from deepassay.evidence.envelope import SealError
    from deepassay.evidence.protocol import Protocol
    from deepassay.evidence.seal import BUNDLE, PROTOCOL, read_sealed, same_tool
    from deepassay.evidence.verify import read_earlier, tool_of
    from deepassay.evidence.versions import compare_versions

    one, two = read_sealed(older), read_sealed(newer)
    if not same_tool(one.facts, two.facts):
        raise SealError(
            f"{older} is about {one.facts.get('tool')}, {newer} about {two.facts.get('tool')}",
            hint="give two dossiers of one tool; its versions may differ",
        )
    if datetime.fromisoformat(str(one.facts["created_utc"])) > datetime.fromisoformat(str(two.facts["created_utc"])):
        raise SealError(f"{older} is the newer one", hint="give the older dossier first")
    before, after = read_earlier(one), read_earlier(two)
    plan = json.loads(two.files[PROTOCOL])["protocol"]
    given = {p["name"]: OperatingPoint.from_dict(p) for p in json.loads(two.files[BUNDLE])["operating_points"]}
    points = [given[point.id] for point in after.log.operating_points]
    record, numbers = compare_versions(
        before, after.test, tool_of(after.log), Protocol(**{k: v for k, v in plan.items() if k != "schema"}), points,
        after.log.detectors[0].bundle_sha256,
    )  # fmt: skip
    rows = [
        {
            "metric": row["metric"], "operating_point": row["operating_point"], "old": row["value_second"],
            "new": row["value_first"], "difference": number.value, "lo": number.ci["lo"] if number.ci else None,
            "hi": number.ci["hi"] if number.ci else None, "p": row["p"], "p_holm": row["p_holm"],
            "weak": number.status == "under_powered",
        }
        for row, number in zip(record["comparisons"], numbers, strict=True)
    ]  # fmt: skip
    facts = {name: value for name, value in record.items() if name != "comparisons"}
    tool = after.log.tool_under_assessment
    return {"tool": tool.name, "new_version": tool.version, **facts, "rows": rows}


def _yes(value: bool) -> str:
    return "yes" if value else "no"
