"""`deepassay bundle`: list installed ones, show what one says of itself, verify and sign it, compare two on files."""

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
  deepassay bundle list
  deepassay bundle show face.zip          # or the name of an installed one
  deepassay bundle verify face.zip --sha256 9f2c... --key maker.pub --commercial
  deepassay bundle sign face.zip --key maker.key
  deepassay bundle schema > bundle.schema.json
  deepassay bundle diff old.zip new.zip inbox/ --format jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay bundle`."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="bundles that installed packages bring; used where no --bundle is named")
    show = actions.add_parser("show", help="what it is for, what its decisions mean, and its limits")
    show.add_argument("bundle", metavar="B")
    show.add_argument("--json", action="store_true", help="bundle.json as it is")
    verify = actions.add_parser("verify", help="every file unaltered and known, graphs that open, views as calibrated")
    verify.add_argument("bundle", metavar="B")
    verify.add_argument("--sha256", metavar="HASH", help="the only bundle that is accepted")
    verify.add_argument("--key", metavar="FILE", help="public key: refuse a bundle that it did not sign")
    verify.add_argument(
        "--commercial", action="store_true", help="refuse a licence chain with a non-commercial or unknown link"
    )
    sign = actions.add_parser("sign", help="put an Ed25519 signature into it; its identity stays")
    sign.add_argument("bundle", metavar="B")
    sign.add_argument("--key", required=True, metavar="FILE", help="private key (`deepassay seal keygen`)")
    actions.add_parser("schema", help="print the JSON Schema of bundle.json")
    diff = actions.add_parser("diff", help="two bundles on the same files: whose decision flips")
    diff.add_argument("old", metavar="OLD")
    diff.add_argument("new", metavar="NEW")
    diff.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, @LIST or -")
    diff.add_argument("--operating-point", default="bpcer_5", metavar="NAME", help="default: %(default)s")
    diff.add_argument("--workers", type=int, default=1, metavar="N", help="files judged at a time (default: 1)")
    diff.add_argument("--format", choices=("table", "jsonl"), default="table", help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    """Do what the action says; returns the exit code that `EPILOG` describes."""
    verbs = {"list": _list, "show": _show, "verify": _verify, "sign": _sign, "schema": _schema, "diff": _diff}
    return verbs[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from deepassay.screening.installed import NONE_INSTALLED, installed_bundles

    found = installed_bundles()
    for one in found:
        print(f"{one.modality:<6} {one}\n       {one.path}")
    if not found:
        print(f"no bundle is installed: {NONE_INSTALLED}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from deepassay.screening.bundle import FACTS, Bundle
    from deepassay.screening.card import needed, refused_targets
    from deepassay.screening.installed import find_bundle
    from deepassay.screening.site import flags_right

    bundle = Bundle.load(find_bundle(args.bundle))
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
        f"  precision  {bundle.precision}",
        f"  judges     {', '.join(bundle.scope.media)}; up to {bundle.views} views per file; {facts['pooling']}",
        f"  scope      {bundle.scope.statement}",
        *(f"  not for    {text}" for text in bundle.scope.not_for),
        *(f"  limits     {key}: {value}" for key, value in bundle.scope.limits.items()),
        *_abstains(bundle.abstention),
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
    for target in refused_targets([point.to_dict() for point in bundle.operating_points]):
        lines.append(
            f"  bpcer_{100 * target:<6.10g} REFUSED by the rule of 3: needs {needed(target)} independent real dev files"
        )
    if bundle.signature is None:
        lines.append("not signed")
    else:
        keys = ", ".join(keyid[:12] for keyid, _ in bundle.signature.signatures)
        lines.append(f"signed, it says by key {keys}: check with `deepassay bundle verify --key`")
    lines += ["", "licences:"]
    lines += [f"  {link['name']}: {link['licence']}" for link in bundle.licence_chain]
    lines += ["", "trained, selected and calibrated on (manifest hashes):"]
    lines += [f"  {name}: {digest}" for name, digest in sorted(bundle.facts["manifest_sha256s"].items())]
    print("\n".join(_printable(line) for line in lines))
    return 0


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line)


def _abstains(limits: Any) -> list[str]:
    if not limits:
        return [f"  abstains   by the view contract only: {limits.missing or 'no limit was learnt'}"]
    out = [f"  abstains   {one.name} below {one.least:.3g} (least on dev {one.dev_least:.3g})" for one in limits.limits]
    if limits.distance is not None:
        far = limits.distance
        out.append(f"  abstains   distance from dev files above {far.most:.3g} (largest on dev {far.dev_most:.3g})")
    return out


def _verify(args: argparse.Namespace) -> int:
    from deepassay.screening.bundle import Bundle
    from deepassay.screening.installed import find_bundle
    from deepassay.screening.schema import check_schema

    bundle = Bundle.load(find_bundle(args.bundle), sha256=args.sha256, key=args.key)
    check_schema(bundle.facts, args.bundle)
    bundle.check()
    bundle.modality()
    if args.commercial:
        from deepassay.corpora.ledger import judge_licence, refuse_non_commercial

        # A chain may say yes of a licence whose own words say no: believed are the words.
        closed = {"no": "no (its own words)"}
        refuse_non_commercial(
            {**link, "commercial": closed.get(judge_licence(link["licence"]), link.get("commercial", "unknown"))}
            for link in bundle.licence_chain
        )
    print(f"{args.bundle}: valid, {len(bundle.facts['files'])} files unaltered, graph opens, views as calibrated")
    print(f"  identity {bundle.hash}")
    if args.commercial:
        print(f"  commercial use: allowed by each of {len(bundle.licence_chain)} links of the licence chain")
    if args.key is not None:
        print(f"  signed by the key in {args.key}")
    elif bundle.signature is not None:
        print("  it carries a signature that was not checked: give its maker's public key with --key")
    elif args.sha256 is None:
        print("  hashes inside show damage; to show exchange, compare the identity with the one its maker published")
    return 0


def _sign(args: argparse.Namespace) -> int:
    from deepassay.screening.bundle import SIGNATURE, Bundle

    bundle = Bundle.load(args.bundle).sign(args.key)
    assert bundle.signature is not None
    print(f"{args.bundle}: signed by key {bundle.signature.signatures[0][0]}, in {SIGNATURE}; identity {bundle.hash}")
    return 0


def _schema(args: argparse.Namespace) -> int:
    from pathlib import Path

    print(Path(__file__).with_name("bundle.schema.json").read_text(encoding="utf-8"), end="")
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
