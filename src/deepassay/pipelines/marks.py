"""marks: labels and manifests of synthetic content in files, explicit labels from annotations, and what survives."""

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from deepassay.errors import ConfigError
from deepassay.evidence.annex import SURVIVAL_FILES, Annex, Output, labelling_annex
from deepassay.files import write_json
from deepassay.marks.explicit import read_annotations
from deepassay.marks.lab import SOURCES, LabRow, not_repeated, run_lab
from deepassay.marks.mark import C2PA
from deepassay.marks.sample import FileReport, SampleReport, files_below
from deepassay.marks.survival import PIPELINES
from deepassay.pipelines.terminal import terminal

EXIT_BROKEN = 1
_ROWS = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay marks`."""
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files, or folders that are searched")
    parser.add_argument("--annotations", metavar="CSV", help="explicit labels as people saw or heard them")
    parser.add_argument("--survival", action="store_true", help="put labelled files through the named pipelines too")
    parser.add_argument(
        "--survival-files", type=int, default=SURVIVAL_FILES, metavar="N", help="files per carrier for that (24)"
    )
    parser.add_argument("--trust", metavar="PEM", help="certificates that are trusted to sign C2PA manifests")
    parser.add_argument("--lab", action="store_true", help="made-up files in every carrier through every pipeline")
    parser.add_argument("--against", metavar="JSON", help="a published survival lab; says where the own one differs")
    parser.add_argument("--json", metavar="FILE", help="write everything as JSON; - prints it instead of tables")
    parser.epilog = (
        "Exit code: 0 every file was read and no rule on which sources agree is broken; 1 a file is unreadable,\n"
        "carries no label, or breaks a rule; 2 an error that ends with a hint. The standard's text was not at hand:\n"
        "rules are those that independent public sources quote; where these disagree the outcome is `disputed`.\n\n"
        "columns of the annotations: file, media, present, form, text, place, height_px, shortest_side_px, height_of\n"
        "(glyph, cap, em), duration_s, legible, chars_per_minute, annotator; file and present are needed. Example:\n"
        "  file,media,present,text,place,height_px,shortest_side_px,height_of,duration_s\n"
        "  a.mp4,video,yes,本视频由人工智能生成,start_frame end,44,720,glyph,3.0"
    )


def main(arguments: argparse.Namespace) -> int:
    """Look, count, print."""
    console = Console(stderr=True) if arguments.json == "-" else terminal()
    if arguments.against and not arguments.lab:
        raise ConfigError("--against compares the survival lab", hint="add --lab")
    out: dict[str, Any] = {}
    code = 0
    if arguments.lab:
        out["lab"] = _lab(arguments, console)
    if arguments.paths:
        found, code = _files(arguments, console)
        out |= found
    elif not arguments.lab:
        raise ConfigError("no file was given", hint="deepassay marks PATH..., or deepassay marks --lab")
    if arguments.json == "-":
        print(json.dumps(out, indent=2, ensure_ascii=False, allow_nan=False))
    elif arguments.json:
        write_json(arguments.json, out)
        console.print(f"  written: {escape(arguments.json)}")
    return code


def _files(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], int]:
    paths = files_below(arguments.paths)
    if not paths:
        raise ConfigError("the folders hold no file", hint="give files or folders of outputs")
    roots = [Path(one) for one in arguments.paths if Path(one).is_dir()]
    outputs = [Output(_name(path, roots), path, str(path)) for path in paths]
    judgements = read_annotations(arguments.annotations, roots[0] if roots else None) if arguments.annotations else []
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("files", total=len(paths))
        annex = labelling_annex(
            outputs, judgements=judgements, survival=arguments.survival, survival_files=arguments.survival_files,
            trust_anchors=arguments.trust, done=lambda: bar.advance(task),
        )  # fmt: skip
    broken = [one for one in annex.files.files if _broken(annex.files, one)]
    failed = [one for one in annex.judgements if "fail" in one.outcomes.values()]
    if arguments.json != "-":
        _show(annex, outputs, console)
    pairs = zip(annex.files.files, outputs, strict=True)
    record = {
        "files": [_file_record(annex.files, one, output.name) for one, output in pairs],
        "numbers": annex.record(),
        "annotations": [{"file": j.annotation.file, "outcomes": dict(j.outcomes), "notes": list(j.notes)}
                        for j in annex.judgements],
        "survival": [asdict(one) for one in annex.outcomes],
        "pipelines": {name: one.stands_for for name, one in PIPELINES.items()} if annex.outcomes else {},
        "c2pa_library": annex.files.c2pa_version,
    }  # fmt: skip
    return record, EXIT_BROKEN if broken or failed else 0


def _name(path: Path, roots: list[Path]) -> str:
    for root in roots:
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name


def _broken(sample: SampleReport, one: FileReport) -> bool:
    return (
        not one.looked_through
        or not one.one
        or any(f.outcome == "fail" for f in one.findings)
        or sample.unique(one) is False
        or one.parsers_agree is False
    )


def _said(sample: SampleReport, one: FileReport) -> list[str]:
    """Sentences on one file: broken rules first, then what is disputed, then notes."""
    out = [one.error] if one.error else [f"breaks off: {text}" for text in one.problems]
    for outcome, head in (("fail", ""), ("disputed", "disputed: "), ("note", "")):
        out += [f"{head}{f.message}" for f in one.findings if f.outcome == outcome and f.rule != "c2pa_trust"]
    if sample.unique(one) is False and one.produce_id is not None:
        out.append(f"ProduceID {one.produce_id[1]} stands in {len(sample.repeated[one.produce_id])} files")
    if one.parsers_agree is False and one.second is not None:
        out.append(f"a second parser ({one.second.reader}) found {len(one.second.texts)} labels, or other ones")
    return out + ([one.second_error] if one.second_error else []) + _c2pa(one)


def _c2pa(one: FileReport) -> list[str]:
    if one.manifest is not None:
        m = one.manifest
        by = f", signed by {m.issuer}" if m.issuer else ""
        kind = {True: ", says generated", False: ", names another source type", None: ""}[m.says_synthetic]
        faults = f" ({', '.join(m.failures)})" if m.failures else ""
        return [f"C2PA manifest {m.state}{faults}{by}{kind}; trust {m.trust}"]
    if one.manifest_error:
        return [f"C2PA manifest present, not judged: {one.manifest_error}"]
    return []


def _show(annex: Annex, outputs: list[Output], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for title in ("file", "container", "label", "schema", "code", "what was found"):
        table.add_column(title, overflow="fold")
    sample = annex.files
    for one, output in list(zip(sample.files, outputs, strict=True))[:_ROWS]:
        count = len(one.labels)
        label = one.labels[0].place if count == 1 else f"{count} labels"
        if not count:
            label = "none" if one.looked_through else "?"
        table.add_row(
            escape(output.name), one.container or "?", label,
            "" if not count else "good" if one.schema_valid else "[bold]broken[/]", one.provider,
            escape("; ".join(_said(sample, one))),
        )  # fmt: skip
    console.print(table)
    if len(outputs) > _ROWS:
        console.print(f"  ... and {len(outputs) - _ROWS} more files (--json has all of them)")
    if any(m.kind == C2PA for one in sample.files for m in one.marks) and not sample.c2pa_version:
        console.print("  C2PA: c2pa-python is not installed (pip install 'deepassay[marks]'); only presence is told")
    for judged in annex.judgements:
        words = ", ".join(f"{rule} {outcome}" for rule, outcome in judged.outcomes.items())
        console.print(f"  explicit  {escape(judged.annotation.file)}: {words}")
        for note in judged.notes:
            console.print(f"            {note}")
    console.print()
    console.print(number_table([*annex.explicit, *annex.implicit]))
    if annex.survival:
        console.print()
        console.print(number_table(annex.survival))


def number_table(numbers: Any) -> Table:
    """Counts with their intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for title in ("", "of what", "k / n", "share", "95 % interval"):
        table.add_column(title)
    for n in numbers:
        where = ", ".join(value for key, value in n.slice.items() if key != "reader")
        count = f"{n.count[0]} / {n.count[1]}" if n.count else ""
        share = "-" if n.value is None else f"{100 * n.value:.1f} %" if n.unit == "fraction" else f"{n.value:g} s"
        ci = "" if n.ci is None else f"{100 * n.ci['lo']:.1f} - {100 * n.ci['hi']:.1f}"
        star = "*" if n.status == "under_powered" else ""
        table.add_row(n.metric.replace("_", " "), where, count, share + star, ci)
    return table


def _file_record(sample: SampleReport, one: FileReport, name: str) -> dict[str, Any]:
    return {
        "file": name, "container": one.container, "error": one.error, "problems": list(one.problems),
        "marks": [{**asdict(mark), "fields": None if mark.fields is None else dict(mark.fields)} for mark in one.marks],
        "findings": [asdict(finding) for finding in one.findings],
        "exactly_one": one.one, "schema_valid": one.schema_valid, "provider": one.provider,
        "id_unique": sample.unique(one), "parsers_agree": one.parsers_agree,
        "second_parser": None if one.second is None else asdict(one.second), "second_parser_error": one.second_error,
        "c2pa": None if one.manifest is None else asdict(one.manifest), "c2pa_error": one.manifest_error,
    }  # fmt: skip


def _lab(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("survival lab", total=len(SOURCES))
        rows = run_lab(arguments.against, done=lambda: bar.advance(task))
    left = not_repeated(arguments.against, rows) if arguments.against else []
    differing = [row for row in rows if row.differs]
    if arguments.json != "-":
        _show_lab(rows, console)
        if arguments.against:
            compared = sum(row.published is not None for row in rows)
            console.print(f"  {compared} rows compared with the published lab, {len(differing)} differ")
            for row in differing:
                console.print(f"    {row.source}, {row.operation}: published {row.published}, here {row.present}")
            for source, operation in left:
                console.print(f"    {source}, {escape(operation)}: not repeated (dropping metadata is no ordinary use)")
    return {
        "rows": [asdict(row) for row in rows],
        "differing": [asdict(row) for row in differing],
        "not_repeated": [{"source": source, "operation": operation} for source, operation in left],
    }


def _show_lab(rows: list[LabRow], console: Console) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for title in ("source", "operation", "label after", "read by"):
        table.add_column(title)
    last = ""
    for row in rows:
        kept = "kept" if row.present else "[bold]lost[/]"
        table.add_row(row.source if row.source != last else "", escape(row.operation), kept, row.reader)
        last = row.source
    console.print(table)
    counts = Counter(row.present for row in rows)
    console.print(
        f"  kept in {counts[True]} of {len(rows)} rows; container defaults decide, so no single rate is given"
    )
