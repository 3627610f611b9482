"""`deepassay audit`: the options and the exit code."""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

from deepassay.audit.checks import audit
from deepassay.audit.report import show
from deepassay.errors import ManifestError
from deepassay.manifest import Manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay audit`."""
    parser.add_argument(
        "manifest", help="a manifest (.parquet), a table with the manifest's columns (.csv), or a run folder"
    )
    parser.add_argument(
        "--root", help="folder that the paths are relative to (default: the run's, or the file's folder)"
    )
    claim = "a claim to check: this generator or family occurs in that split only (repeatable)"
    parser.add_argument("--leave-out", action="append", default=[], metavar="SPLIT=GENERATOR", help=claim)
    parser.add_argument("--no-files", action="store_true", help="check the table only, open no media")
    parser.add_argument("--max-files", type=int, default=5000, help="open at most so many files (default 5000)")
    parser.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow", action="append", default=[], metavar="ID", help="go on knowingly with this finding")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(args: argparse.Namespace) -> int:
    """`deepassay audit`: 0 where nothing blocks, 1 where something does."""
    manifest = open_manifest(Path(args.manifest), args.root)
    claims: dict[str, list[str]] = defaultdict(list)
    for claim in args.leave_out:
        split, equals, name = claim.partition("=")
        if not equals or not name:
            raise ManifestError(
                f"--leave-out {claim!r} is not SPLIT=GENERATOR", hint="for example --leave-out test=FOMM"
            )
        claims[split].append(name)
    report = audit(
        manifest, leave_out=claims or None, look=not args.no_files, max_files=args.max_files,
        replicates=args.replicates, seed=args.seed, progress=sys.stderr.isatty(),
    )  # fmt: skip
    if args.json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(report, allow=args.allow)
    return 1 if any(f.id not in args.allow for f in report.blocks) else 0


def open_manifest(path: Path, root: str | None) -> Manifest:
    """A manifest from a Parquet file, a CSV or a run folder.

    Raises:
        ManifestError: there is none.
    """
    if path.is_dir() and (path / "manifest.parquet").is_file():
        facts = path / "run.json"
        if root is None and facts.is_file():
            root = json.loads(facts.read_text())["root"]
        path = path / "manifest.parquet"
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such file", hint="name a manifest, a CSV, or a run folder")
    if path.suffix.lower() == ".csv":
        return Manifest.read_csv(path, root or path.parent, {"name": path.stem})
    return Manifest.read_parquet(path, root or path.parent)
