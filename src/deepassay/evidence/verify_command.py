"""`deepassay verify`: judge a sealed dossier on a machine without torch and without the media."""

import argparse
import json
from pathlib import Path
from typing import Any

EPILOG = """\
Hashes, signature, chain and schema are checked; thresholds are fitted again on the enclosed dev scores; every number
and interval is computed again from the enclosed test scores; verdicts are derived and pages drawn again. What cannot be
checked is listed.

exit codes: 0 nothing is wrong; 1 something is, and is named; 2 there is nothing to verify (no file, no seal).

examples:
  deepassay verify dossier.zip
  deepassay verify dossier.zip --key issuer.pub --previous spring.zip --previous winter.zip
  deepassay verify dossier.zip --render pages/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay verify`."""
    parser.epilog = EPILOG
    parser.add_argument("dossier", type=Path, metavar="DOSSIER.zip", help="what `deepassay assess seal.key=...` wrote")
    parser.add_argument("--key", type=Path, metavar="PUBLIC", help="the issuer's public key, had from the issuer")
    parser.add_argument(
        "--previous", type=Path, action="append", default=[], metavar="OLDER.zip",
        help="the dossier before it; again for the one before that, and so on",
    )  # fmt: skip
    parser.add_argument("--seal-only", action="store_true", help="hashes, signature and chain; recompute nothing")
    parser.add_argument("--render", type=Path, metavar="FOLDER", help="also write the pages anew from the enclosed log")
    parser.add_argument("--json", action="store_true", help="findings as JSON")


def main(args: argparse.Namespace) -> int:
    """Print every finding; returns the exit code that `EPILOG` describes."""
    from deepassay.evidence.envelope import SealError, read_public_key
    from deepassay.evidence.verify import GOOD, UNCHECKED, WRONG, verify_dossier

    key = None
    if args.key is not None:
        try:
            key = read_public_key(args.key.read_bytes(), str(args.key))
        except OSError as error:
            raise SealError(f"{args.key}: cannot be read ({error})", hint="give the issuer's .pub file") from error
    findings = verify_dossier(args.dossier, key=key, previous=args.previous, seal_only=args.seal_only)
    wrong = list(dict.fromkeys(f.part for f in findings if f.outcome == WRONG))
    if args.json:
        report: dict[str, Any] = {
            "dossier": args.dossier.name, "verified": not wrong, "wrong": wrong,
            "findings": [{"part": f.part, "outcome": f.outcome, "text": f.text} for f in findings],
        }  # fmt: skip
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        shown = {GOOD: "good", WRONG: "WRONG", UNCHECKED: "not checked"}
        for finding in sorted(findings, key=lambda f: f.outcome == UNCHECKED):
            print(f"{shown[finding.outcome]:<12} {finding.part:<11} {finding.text}")
        silent = sum(f.outcome == UNCHECKED for f in findings)
        if wrong:
            print(f"\nNOT VERIFIED: wrong in {', '.join(wrong)}")
        else:
            print(f"\nverified: nothing is wrong; {silent} things were not checked, listed above")
    if args.render is not None:
        _render(args.dossier, args.render)
    return 1 if wrong else 0


def _render(dossier: Path, folder: Path) -> None:
    from deepassay.evidence.dossier import write_dossier
    from deepassay.evidence.log import parse_log
    from deepassay.evidence.seal import read_sealed

    files = read_sealed(dossier).files
    name = next(n for n in sorted(files) if n.startswith("dossier/") and n.endswith(".json") and "audit" not in n)
    write_dossier(parse_log(json.loads(files[name]), where=name), folder)
