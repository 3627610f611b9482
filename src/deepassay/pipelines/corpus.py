"""corpus: the ledger of public corpora, verification of a copy, audits across manifests, and open downloads."""

import argparse
import inspect
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape
from rich.table import Table

from deepassay.audit import AuditReport, audit, open_manifest, show
from deepassay.corpora.catalogue import entries, facts, tree_of
from deepassay.corpora.doors import DOORS
from deepassay.corpora.download import download_corpus
from deepassay.corpora.inventory import PublicCorpus
from deepassay.corpora.record import USES
from deepassay.corpora.records import corpus_record
from deepassay.errors import ConfigError, ManifestError
from deepassay.manifest import SPLITS, Manifest, join
from deepassay.pipelines.build import build
from deepassay.pipelines.terminal import terminal

_COMMON = {"root", "allow_partial", "progress", "hash_files", "probe"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-verbs of `deepassay corpus`."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = verbs.add_parser("list", help="the ledger: every public corpus, its terms, size and door")
    listing.add_argument("--json", action="store_true", help="print as JSON")
    showing = verbs.add_parser("show", help="everything known of one corpus: what to sign, tree, traps, options")
    showing.add_argument("name")
    verifying = verbs.add_parser("verify", help="count a copy against what was published")
    verifying.add_argument("name")
    verifying.add_argument("root", help="folder that holds the unpacked corpus")
    verifying.add_argument("--allow-partial", action="store_true", help="go on with a copy that differs, and say so")
    verifying.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="option of the door, as in its config"
    )
    verifying.add_argument("--hash-files", action="store_true", help="compute SHA-256 of every file (slow)")
    verifying.add_argument("--output", metavar="FILE", help="write the manifest (.parquet or .csv)")
    verifying.add_argument("--json", action="store_true", help="print as JSON")
    auditing = verbs.add_parser("audit", help="audit one or several manifests, alone and together")
    auditing.add_argument(
        "manifest", nargs="+", metavar="[SPLIT=]MANIFEST",
        help="a .parquet, a .csv or a run folder; train=, dev= or test= before it puts all of it into that split",
    )  # fmt: skip
    auditing.add_argument("--root", action="append", default=[], help="root of each manifest, in their order")
    auditing.add_argument("--no-files", action="store_true", help="check the tables only, open no media")
    auditing.add_argument("--max-files", type=int, default=5000, help="open at most so many files (default 5000)")
    auditing.add_argument(
        "--modality", metavar="CONFIG", help="probe the views too: a modality's YAML (configs/modality/voice.yaml)"
    )
    auditing.add_argument("--replicates", type=int, default=1000, help="bootstrap replicates (default 1000)")
    auditing.add_argument("--seed", type=int, default=0)
    auditing.add_argument(
        "--allow", action="append", default=[], metavar="ID", help="go on knowingly with this finding"
    )
    auditing.add_argument("--json", action="store_true", help="print the reports as JSON")
    fetching = verbs.add_parser("download", help="fetch what is open to all, with pinned hashes; resumes")
    fetching.add_argument("name")
    fetching.add_argument("root", help="folder to put it in")
    fetching.add_argument("part", nargs="*", help="parts, all by default (corpus show lists them)")
    fetching.add_argument("--no-unpack", action="store_true", help="leave the archives as they are")
    fetching.add_argument("--keep", action="store_true", help="keep the archives after unpacking")


def main(args: argparse.Namespace) -> int:
    """`deepassay corpus`: 0, or 1 where an audit blocks."""
    if args.action == "list":
        return _list(args.json)
    if args.action == "show":
        return _show(args.name)
    if args.action == "verify":
        return _verify(args)
    if args.action == "audit":
        return _audit(args)
    record = corpus_record(args.name)
    console = terminal()
    console.print(f"{record.title}: {escape(DOORS[record.name].licence)}")
    for line in download_corpus(
        record, args.root, args.part, unpacked=not args.no_unpack, keep=args.keep, progress=sys.stderr.isatty()
    ):
        console.print(escape(line))
    console.print(f"next: deepassay corpus verify {record.name} {args.root}", markup=False)
    return 0


def _list(as_json: bool) -> int:
    if as_json:
        rows = [
            {
                "name": record.name, "title": record.title, "modality": door.modality, "status": door.status,
                "version": door.version, "licence": door.licence, "permits": dict(record.permits), "size": record.size,
                "published_counts": dict(door.published_counts), "obtain": record.obtain, "consent": record.consent,
                "citation": record.citation, "parents": list(record.parents), "traps": record.traps,
                "documented_at": list(door.documented_at), "downloads": [d.part for d in record.downloads],
            }
            for record, door in entries()
        ]  # fmt: skip
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    table = Table("name", "corpus", "for", "door", "size", " / ".join(USES), "licence or terms")
    for record, door in entries():
        colour = "green" if door.status == "verified" else "yellow"
        table.add_row(
            record.name, escape(record.title), door.modality, f"[{colour}]{door.status}[/]", escape(record.size or "-"),
            " / ".join(record.permits[use] for use in USES), escape(door.licence),
        )  # fmt: skip
    console = terminal()
    console.print(table)
    verified = sum(door.status == "verified" for _, door in entries())
    console.print(
        f"{len(DOORS)} corpora, {verified} doors verified against an official list; the others are written from "
        "documentation only. deepassay corpus show NAME says what to sign."
    )
    return 0


def _show(name: str) -> int:
    record = corpus_record(name)
    door = DOORS[record.name]
    console = terminal()
    console.print(f"[bold]{escape(record.title)}[/]  (corpus={record.name})")
    for label, text in facts(record, door):
        console.print(f"  [bold]{label}[/]: {escape(text)}")
    tree = tree_of(record, door)
    if tree:
        console.print("  [bold]expected below the root[/]:")
        for line in tree:
            console.print(f"    {escape(line)}")
    options = [p for k, p in inspect.signature(door).parameters.items() if k not in _COMMON]
    if options:
        console.print("  [bold]options[/]: " + escape(", ".join(f"{p.name}={p.default!r}" for p in options)))
    console.print(f"  [bold]verify[/]: deepassay corpus verify {record.name} ROOT", markup=True)
    return 0


def _door(args: argparse.Namespace) -> PublicCorpus:
    corpus_record(args.name)
    door = DOORS[args.name]
    values: dict[str, Any] = {}
    for option in args.option:
        key, equals, text = option.partition("=")
        if not equals:
            raise ConfigError(f"--option {option!r} is not KEY=VALUE", hint="for example --option compression=c40")
        values[key] = yaml.safe_load(text)
    return build(
        {"_target_": f"{door.__module__}.{door.__name__}", **values},
        root=args.root, allow_partial=args.allow_partial, hash_files=args.hash_files, progress=sys.stderr.isatty(),
    )  # fmt: skip


def _verify(args: argparse.Namespace) -> int:
    if args.output and Path(args.output).suffix.lower() not in (".parquet", ".csv"):
        raise ConfigError(f"--output {args.output!r}", hint="end it in .parquet or .csv")
    door = _door(args)
    manifest = door.prepare()
    if args.output:
        if args.output.lower().endswith(".csv"):
            manifest.to_csv(args.output)
        else:
            manifest.to_parquet(args.output)
    inventory = manifest.info["inventory"]
    if args.json:
        print(json.dumps({**manifest.info, "samples": len(manifest), "counts": manifest.counts()}, indent=2))
        return 0
    console = terminal()
    console.print(
        f"[bold]{manifest.name}[/] {escape(str(manifest.info.get('version') or ''))}  {len(manifest):,} samples"
    )
    table = Table("split", "real", "fake", "unlabelled")
    for split, cell in sorted(manifest.counts().items()):
        table.add_row(split, *(f"{cell[k]:,}" for k in ("real", "fake", "unlabelled")))
    console.print(table)
    for what, n in inventory["totals"].items():
        published = door.published_counts.get(what)
        console.print(f"  {escape(what)}: {n:,}" + (f" of {published:,} published" if published is not None else ""))
    if inventory["partial"]:
        console.print(f"[bold yellow]partial copy[/]: {json.dumps(inventory['numbers'])}; recorded in the manifest")
        for line in inventory["problems"][:20]:
            console.print(f"  {escape(line)}")
    else:
        console.print("[green]as published[/], as far as lists and counts are known")
    if door.status == "unverified":
        console.print("[yellow]this door is unverified[/]: it was written from documentation only")
    if args.output:
        console.print(f"manifest {args.output}  (hash {manifest.hash[:12]})", markup=False)
    return 0


def _audit(args: argparse.Namespace) -> int:
    if args.root and len(args.root) != len(args.manifest):
        raise ConfigError(
            f"{len(args.manifest)} manifests and {len(args.root)} roots",
            hint="give --root once for each, or not at all",
        )
    given = [
        _opened(text, root) for text, root in zip(args.manifest, args.root or [None] * len(args.manifest), strict=True)
    ]
    modality = None
    if args.modality:
        node = yaml.safe_load(Path(args.modality).read_text(encoding="utf-8"))
        modality = build(node)
    options: dict[str, Any] = {
        "look": not args.no_files, "max_files": args.max_files, "replicates": args.replicates, "seed": args.seed,
        "progress": sys.stderr.isatty(), "modality": modality,
    }  # fmt: skip
    subjects = given if len(given) == 1 else [join(given)]
    reports: list[AuditReport] = [audit(manifest, **options) for manifest in subjects]
    if args.json:
        print(json.dumps([r.record(args.allow) for r in reports], indent=2, ensure_ascii=False, allow_nan=False))
    else:
        console = terminal()
        for manifest in given:
            counts = Counter({k: sum(v.values()) for k, v in manifest.counts().items()})
            console.print(f"{escape(manifest.name)}: {', '.join(f'{k} {n:,}' for k, n in sorted(counts.items()))}")
        for report in reports:
            show(report, allow=args.allow, console=console)
    return 1 if any(f.id not in args.allow for report in reports for f in report.blocks) else 0


def _opened(text: str, root: str | None) -> Manifest:
    split, equals, path = text.partition("=")
    if not equals or split not in SPLITS:
        return open_manifest(Path(text), root)
    manifest = open_manifest(Path(path), root)
    if not len(manifest):
        raise ManifestError(f"{path}: no samples", hint="prepare the corpus again")
    return manifest.replace_columns({"split": [split] * len(manifest)})
