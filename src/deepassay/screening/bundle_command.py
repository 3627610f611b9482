"""`deepassay bundle`: show what a bundle says of itself, verify it, and compare two on the same files."""

import argparse
import json
import math
import sys
from collections import Counter
from typing import Any

from deepassay.errors import ConfigError

EPILOG = """\
exit codes: 0 done; 1 with diff, at least one decision differs; 2 a bundle is refused or an argument is wrong.

examples:
  deepassay bundle show face.zip
  deepassay bundle verify face.zip --sha256 9f2c...
  deepassay bundle diff old.zip new.zip inbox/ --format jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay bundle`."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="what it is for, what its decisions mean, and its limits")
    show.add_argument("bundle", metavar="B")
    show.add_argument("--json", action="store_true", help="bundle.json as it is")
    verify = actions.add_parser("verify", help="every file unaltered and known, graphs that open, views as calibrated")
    verify.add_argument("bundle", metavar="B")
    verify.add_argument("--sha256", metavar="HASH", help="the only bundle that is accepted")
    diff = actions.add_parser("diff", help="two bundles on the same files: whose decision flips")
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    diff.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, @LIST or -")
    diff.add_argument("--operating-point", default="bpcer_5", metavar="NAME", help="default: %(default)s")
    diff.add_argument("--workers", type=int, default=1, metavar="N", help="files judged at a time (default: 1)")
    diff.add_argument("--format", choices=("table", "jsonl"), default="table", help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Do what the action says; returns the exit code that `EPILOG` describes."""
    return {"show": _show, "verify": _verify, "diff": _diff}[args.action](args)


def _show(args: argparse.Namespace) -> int:
    from deepassay.screening.bundle import FACTS, Bundle
    from deepassay.screening.site import flags_right

    bundle = Bundle.load(args.bundle)
    if args.json:
        json.dump(bundle.facts, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False)
        print()
        return 0
    facts = bundle.facts
    lines = [
        f"{bundle.name}  ({bundle.modality_name}; {facts['architecture'] or 'architecture not stated'})",
        f"  identity   {bundle.hash}  (SHA-256 of {FACTS})",
        f"  made       {facts['created']}",
    ]
    if bundle.synthetic:
        lines.append("  SYNTHETIC  trained on built-in synthetic data: it says nothing of real files")
    if not bundle.calibration.informative:
        lines.append(f"  WARNING    {bundle.calibration.warning}")
    lines += [
        f"  judges     {', '.join(bundle.scope.media)}; up to {bundle.views} views per file; {facts['pooling']}",
        f"  scope      {bundle.scope.statement}",
        *(f"  not for    {text}" for text in bundle.scope.not_for),
        *(f"  abstains   {key}: {value}" for key, value in bundle.scope.limits.items()),
        f"  fakes seen {', '.join(bundle.generators_seen) or 'none'}",
        "",
        "operating points (flag from this llr on; fixed on development data):",
    ]
    for point in bundle.operating_points:
        lines.append(
            f"  {point.name:<10} llr >= {point.threshold:.3f}   flagged {100 * point.realised_bpcer:.2g} % of "
            f"{point.n_real} real files ({point.n_clusters} people or sources)"
            + ("" if point.supported else f"; UNDER-POWERED: needs {math.ceil(3 / point.target_bpcer - 1e-9)}")
        )
        right = ", ".join(f"{100 * share:.1f} % at {rate}" for rate, share in flags_right(point.target_bpcer).items())
        lines.append(f"  {'':<10} of its flags at most this share is right, by how common fakes are: {right}")
    lines += ["", "licences:"]
    lines += [f"  {link['name']}: {link['licence']}" for link in bundle.licence_chain]
    lines += ["", "trained, selected and calibrated on (manifest hashes):"]
    lines += [f"  {name}: {digest}" for name, digest in sorted(bundle.facts["manifest_sha256s"].items())]
    print("\n".join(_printable(line) for line in lines))
    return 0


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)


def _verify(args: argparse.Namespace) -> int:
    from deepassay.screening.bundle import Bundle

    bundle = Bundle.load(args.bundle, sha256=args.sha256)
    bundle.check()
    bundle.modality()
    print(f"{args.bundle}: valid, {len(bundle.facts['files'])} files unaltered, graph opens, views as calibrated")
    print(f"  identity {bundle.hash}")
    if args.sha256 is None:
        print("  hashes inside show damage; to show exchange, compare the identity with the one its maker published")
    return 0


def _diff(args: argparse.Namespace) -> int:
    from deepassay.screening.bundle import Bundle
    from deepassay.screening.crew import Crew
    from deepassay.screening.inputs import expand

    old, new = Bundle.load(args.old), Bundle.load(args.new)
    if old.modality_name != new.modality_name:
        raise ConfigError(
            f"{args.old} judges {old.modality_name}s and {args.new} {new.modality_name}s",
            hint="compare two bundles of one modality",
        )
    paths = [one.path for one in expand(args.paths) if not one.refusal]
    if not paths:
        raise ConfigError("no file to compare on", hint="give at least one file that is there")

    def settings(bundle: str) -> dict[str, Any]:
        return {"bundles": [bundle], "operating_point": args.operating_point}

    flips, differences = Counter[str](), []
    with Crew(settings(args.old), workers=args.workers) as one, Crew(settings(args.new), workers=args.workers) as two:
        for left, right in zip(one.screen(paths), two.screen(paths), strict=True):
            a, b = left.verdicts[0], right.verdicts[0]
            if a.llr is not None and b.llr is not None:
                differences.append(b.llr - a.llr)
            if a.decision != b.decision:
                flips[f"{a.decision} -> {b.decision}"] += 1
            if args.format == "jsonl":
                row = {"path": left.path, "old": a.decision, "new": b.decision, "old_llr": a.llr, "new_llr": b.llr}
                print(json.dumps(row, ensure_ascii=False))
            elif a.decision != b.decision:
                print(f"  {_printable(left.path)}: {a.decision} -> {b.decision}  (llr {_llr(a)} -> {_llr(b)})")
    out = sys.stderr if args.format == "jsonl" else sys.stdout
    print(f"{len(paths)} files, {sum(flips.values())} decisions flip at {args.operating_point}", file=out)
    for name, n in sorted(flips.items()):
        print(f"  {n:>6}  {name}", file=out)
    if differences:
        largest = max(map(abs, differences))
        print(f"  llr of {len(differences)} files judged by both: largest difference {largest:.4g}", file=out)
    return 1 if flips else 0


def _llr(verdict: Any) -> str:
    return "none" if verdict.llr is None else f"{verdict.llr:.2f}"
