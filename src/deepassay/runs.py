"""Run folders read back: list, show, compare and tabulate runs; reading only, half-written ones are refused by name."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepassay.errors import AssayError

# What a run has once it has come so far, in the order in which the files appear.
STAGES: dict[str, tuple[str, ...]] = {
    "begun": ("config.yaml", "provenance.json"),
    "prepared": ("manifest.parquet",),
    "trained": ("checkpoints/best.safetensors",),
    "evaluated": ("metrics.json", "scores/test.parquet"),
}
_REMEDY = {
    "begun": "this is not a run folder; name one that `deepassay train` printed",
    "prepared": "run the same `deepassay train` command again with resume=true",
    "trained": "run the same `deepassay train` command again with resume=true; it goes on from the last epoch",
    "evaluated": "run `deepassay evaluate run=FOLDER`",
}
_ABSENT = "(absent)"
# Slice keys that say how a whole table was counted, or which part is the worst one, rather than name a subset.
_NOT_A_SUBSET = {"split", "nonresponse", "worst_generator"}


class RunError(AssayError):
    """A folder that is not a run, or a run that is incomplete or damaged."""


@dataclass(frozen=True)
class Run:
    """One run folder, read.

    Args:
        path: the folder.
        stage: how far it has come, a key of `STAGES`.
        config: the resolved configuration.
        provenance: what `deepassay.provenance.collect` recorded at its start.
        numbers: the number records of ``metrics.json`` (law 5), in file order; empty before evaluation.
        synthetic: computed from the built-in synthetic corpora (law 10); None before its data were prepared.
    """

    path: Path
    stage: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    numbers: tuple[Mapping[str, Any], ...]
    synthetic: bool | None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @classmethod
    def open(cls, path: str | Path, *, stage: str = "evaluated") -> "Run":
        """Read a run that has come at least as far as ``stage``.

        Raises:
            RunError: not a run folder, or a file of that stage is missing or damaged; names the file and what to do.
            ValueError: ``stage`` is not a key of `STAGES`.
        """
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {list(STAGES)}")
        folder = Path(path)
        if not folder.is_dir():
            raise RunError(f"{folder}: there is no such folder", hint="list runs with `deepassay runs list`")
        reached = reached_stage(folder)
        order = list(STAGES)
        for wanted in order[: order.index(stage) + 1]:
            missing = [name for name in STAGES[wanted] if not (folder / name).is_file()]
            if missing:
                left = sorted(p.name for p in folder.rglob(".*.part"))
                note = f"; {left[0]} shows that a write was cut off" if left else ""
                raise RunError(
                    f"{folder}: unfinished run, {missing[0]} is missing{note}",
                    hint=_REMEDY[wanted].replace("FOLDER", str(folder)),
                )
        assert reached is not None  # the loop above has found the files of "begun"
        metrics = folder / "metrics.json"
        return cls(
            path=folder,
            stage=reached,
            config=_yaml(folder / "config.yaml"),
            provenance=_json(folder / "provenance.json", dict),
            numbers=tuple(_numbers(_json(metrics, (dict, list)), metrics)) if metrics.is_file() else (),
            synthetic=_synthetic(folder / "manifest.parquet"),
        )


def reached_stage(folder: Path) -> str | None:
    """The last stage whose files, and those of all stages before it, are there; None where a folder is no run."""
    reached = None
    for stage, names in STAGES.items():
        if not all((folder / name).is_file() for name in names):
            break
        reached = stage
    return reached


def find_runs(root: str | Path) -> list[Path]:
    """Run folders at or below a folder, by name, at any stage; a run inside a run is not looked for.

    Raises:
        RunError: there is no such folder.
    """
    top = Path(root)
    if not top.is_dir():
        raise RunError(f"{top}: there is no such folder", hint="runs lie where `deepassay train` was called, in runs/")
    found: list[Path] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if (folder / "config.yaml").is_file() and (folder / "provenance.json").is_file():
            found.append(folder)
            continue
        waiting.extend(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    return sorted(found)


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Where configurations differ: dotted key -> its value in each, ``(absent)`` where a configuration lacks it."""
    flat = [dict(_leaves(config)) for config in configs]
    keys = sorted({key for one in flat for key in one})
    out = {key: [one.get(key, _ABSENT) for one in flat] for key in keys}
    return {key: values for key, values in out.items() if any(_unlike(values[0], v) for v in values[1:])}


def tabulate(
    runs: Sequence[Run], *, metrics: Sequence[str] = (), slices: bool = False
) -> dict[tuple[str, str, str], list[Mapping[str, Any] | None]]:
    """Numbers side by side.

    Args:
        runs: finished runs.
        metrics: only these metric names; all where empty.
        slices: also numbers of a subset (per generator and the like), not only those of a whole table.

    Returns:
        (metric, slice, operating point) -> one record per run, None where a run has no such number.
    """
    table: dict[tuple[str, str, str], list[Mapping[str, Any] | None]] = {}
    for column, run in enumerate(runs):
        for number in run.numbers:
            part = set(number.get("slice") or ()) - _NOT_A_SUBSET
            if (metrics and number["metric"] not in metrics) or (part and not slices):
                continue
            key = (str(number["metric"]), _slice_text(number), str(number.get("operating_point") or ""))
            row = table.setdefault(key, [None] * len(runs))
            if row[column] is None:
                row[column] = number
    return table


def number_text(number: Mapping[str, Any] | None) -> str:
    """``0.912 [0.880, 0.940] exploratory``: value, interval (or the reason for none) with what limits it, status."""
    if number is None:
        return "-"
    value = number.get("value")
    text = "not computed" if value is None else f"{value:.4g}"
    interval = number.get("ci")
    if interval and interval.get("lo") is not None and interval.get("hi") is not None:
        text += f" [{interval['lo']:.4g}, {interval['hi']:.4g}]"
        clusters = interval.get("n_clusters")
        if interval.get("reliable") is False or (clusters is not None and clusters < 20):
            text += f" unreliable ({clusters} clusters)" if clusters is not None else " unreliable"
    else:
        text += f" (no interval: {number.get('no_ci_reason') or 'reason not recorded'})"
    worst = (number.get("slice") or {}).get("worst_generator")
    if worst:
        text += f" ({worst})"
    status = number.get("status")
    return text if status in (None, "confirmatory") else f"{text} {status}"


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _unlike(one: Any, two: Any) -> bool:
    return type(one) is not type(two) or one != two


def _slice_text(number: Mapping[str, Any]) -> str:
    """The slice in words; which generator is the worst differs from run to run and stands with the value."""
    parts = dict(number.get("slice") or {})
    if "worst_generator" in parts:
        parts["worst_generator"] = "*"
    return ", ".join(f"{key}={value}" for key, value in sorted(parts.items()))


def _numbers(value: Any, path: Path) -> list[Mapping[str, Any]]:
    """Number records anywhere in the file, in order."""
    found: list[Mapping[str, Any]] = []

    def walk(inner: Any) -> None:
        if isinstance(inner, Mapping):
            if "metric" in inner and "value" in inner:
                found.append(inner)
                return
            inner = list(inner.values())
        if isinstance(inner, list):
            for item in inner:
                walk(item)

    walk(value)
    if not found:
        raise RunError(f"{path}: holds no numbers", hint="run `deepassay evaluate run=...` again")
    return found


def _json(path: Path, kind: type | tuple[type, ...]) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error})", hint=_DAMAGED) from error
    if not isinstance(value, kind):
        raise RunError(f"{path}: holds a {type(value).__name__} where an object was expected", hint=_DAMAGED)
    return value


_DAMAGED = "the file was cut off or edited; restore it, or run the same command again under a new name"


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})", hint=_DAMAGED) from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: holds no keys", hint=_DAMAGED)
    return value


def _synthetic(path: Path) -> bool | None:
    if not path.is_file():
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        head = (pq.read_schema(path).metadata or {}).get(b"deepassay.manifest")
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(f"{path}: not a readable Parquet file ({error})", hint=_DAMAGED) from error
    if head is None:
        raise RunError(f"{path}: not a deepassay manifest", hint=_DAMAGED)
    return bool(json.loads(head)["info"].get("synthetic", False))


# --- the door ---------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay runs`."""
    verbs = parser.add_subparsers(dest="action", required=True, metavar="list|show|compare|table")
    one = verbs.add_parser("list", help="every run below a folder, how far it has come, and its headline numbers")
    one.add_argument("root", nargs="?", default="runs", help="folder to look in (default: runs)")
    two = verbs.add_parser("show", help="one run: what ran, and its numbers with intervals")
    two.add_argument("run", help="a run folder")
    three = verbs.add_parser("compare", help="where configurations differ, and numbers side by side")
    three.add_argument("runs", nargs="+", metavar="run", help="two or more run folders")
    four = verbs.add_parser("table", help="one row per evaluated run: settings that differ, and numbers; for a paper")
    four.add_argument("runs", nargs="+", metavar="run", help="run folders, or folders of runs")
    four.add_argument("--format", choices=("markdown", "csv", "latex"), default="markdown")
    four.add_argument("--by", default="", help="average over runs that differ in this key alone (seed, say): mean ± sd")
    for verb in (one, two, three, four):
        verb.add_argument("--metric", action="append", default=[], help="only this metric (repeatable)")
        if verb is not four:
            verb.add_argument("--json", action="store_true", help="print JSON instead of tables")
    for verb in (two, three, four):
        verb.add_argument("--slices", action="store_true", help="also numbers per generator and other slices")


def main(args: argparse.Namespace) -> int:
    """`deepassay runs`: 0 good; errors end with a hint."""
    from rich.console import Console

    console = Console()
    if args.action == "list":
        return _list(args, console)
    if args.action == "show":
        return _show(args, console)
    if args.action == "table":
        return _table(args)
    return _compare(args, console)


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2, ensure_ascii=False))
    return 0


def _list(args: argparse.Namespace, console: Any) -> int:
    from rich.markup import escape
    from rich.table import Table

    rows = []
    for folder in find_runs(args.root):
        try:
            run = Run.open(folder, stage="begun")
        except RunError as error:  # a damaged run is listed as such, so that the others can still be seen
            rows.append({"run": str(folder), "stage": "damaged", "problem": error.message, "numbers": []})
            continue
        whole = [
            row[0]
            for row in tabulate([run], metrics=args.metric or ("auc", "eer")).values()
            if row[0] and (row[0].get("slice") or {}).get("nonresponse", "counted_as_error") == "counted_as_error"
        ]
        rows.append(
            {
                "run": str(folder), "stage": run.stage, "synthetic": run.synthetic,
                "created_utc": run.provenance.get("created_utc"), "numbers": whole,
            }
        )  # fmt: skip
    if args.json:
        return _print_json(rows)
    table = Table("run", "stage", "created (UTC)", "data", "numbers", title=f"{len(rows)} runs below {args.root}")
    for row in rows:
        numbers = [f"{n['metric']} {_slice_text(n)} {number_text(n)}".replace("  ", " ") for n in row["numbers"] if n]
        table.add_row(
            escape(row["run"]),
            row["stage"],
            str(row.get("created_utc") or "-"),
            _data_word(row.get("synthetic")),
            escape("\n".join(numbers) or row.get("problem", "-")),
        )
    console.print(table)
    return 0


def _data_word(synthetic: bool | None) -> str:
    return {True: "SYNTHETIC", False: "real media", None: "-"}[synthetic]


def _number_table(runs: Sequence[Run], args: argparse.Namespace) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("metric", "slice", "operating point", *[escape(run.name) for run in runs])
    for (metric, part, point), cells in tabulate(runs, metrics=args.metric, slices=args.slices).items():
        table.add_row(escape(metric), escape(part), escape(point), *[escape(number_text(cell)) for cell in cells])
    return table


def _show(args: argparse.Namespace, console: Any) -> int:
    from rich.markup import escape

    run = Run.open(args.run)
    if args.json:
        return _print_json(
            {"run": str(run.path), "stage": run.stage, "synthetic": run.synthetic, "config": run.config,
             "provenance": run.provenance, "numbers": list(run.numbers)}
        )  # fmt: skip
    code = run.provenance.get("code") or {}
    console.print(f"[bold]{escape(str(run.path))}[/]  {run.stage}, data: {_data_word(run.synthetic)}")
    dirty = " with changes that are in no commit" if code.get("dirty") else ""
    console.print(f"code {code.get('kind', '?')} {str(code.get('id', '?'))[:12]}{dirty}")
    console.print(f"begun {run.provenance.get('created_utc', '?')}  {escape(str(run.provenance.get('command', '')))}")
    console.print(_number_table([run], args))
    return 0


def _compare(args: argparse.Namespace, console: Any) -> int:
    from rich.markup import escape
    from rich.table import Table

    if len(args.runs) < 2:
        raise RunError("compare needs at least two runs", hint="deepassay runs compare runs/ONE runs/TWO")
    runs = [Run.open(path) for path in args.runs]
    differing = differences([run.config for run in runs])
    manifests = [_test_manifest(run) for run in runs]
    if args.json:
        rows = tabulate(runs, metrics=args.metric, slices=args.slices)
        return _print_json(
            {"runs": [str(run.path) for run in runs], "synthetic": [run.synthetic for run in runs], "config": differing,
             "same_test_samples": len(set(manifests)) == 1,
             "numbers": [dict(zip(("metric", "slice", "operating_point", "values"), (*key, values), strict=True))
                         for key, values in rows.items()]}
        )  # fmt: skip
    table = Table("key", *[escape(run.name) for run in runs], title="configurations differ in")
    for key, values in differing.items():
        table.add_row(escape(key), *[escape(str(value)) for value in values])
    console.print(table if differing else "the configurations are the same")
    console.print("data: " + ", ".join(f"{escape(run.name)} {_data_word(run.synthetic)}" for run in runs))
    if len(set(manifests)) > 1:
        console.print("[yellow]the runs were tested on different samples: their numbers are not comparable[/]")
    console.print(_number_table(runs, args))
    console.print(
        "overlapping intervals prove nothing either way; a claim needs a paired comparison of the score tables"
    )
    return 0


def rows_of(
    runs: Sequence[Run], *, metrics: Sequence[str] = (), slices: bool = False, by: str = ""
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of runs: name, settings that differ, numbers with intervals.

    Args:
        runs: evaluated runs. metrics: only these; AUC and EER where empty. slices: per generator, too.
        by: a dotted key. Runs that differ in it alone become one row: mean, standard deviation (n - 1), and how many.

    Raises:
        RunError: runs tested on different samples are put into one mean.
    """
    volatile = {"name"}
    differing = {k: v for k, v in differences([r.config for r in runs]).items() if k not in volatile | {by}}
    numbers = {
        key: cells
        for key, cells in tabulate(runs, metrics=metrics or ("auc", "eer"), slices=slices).items()
        if "nonresponse=left_out" not in key[1].replace(" ", "")
    }
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, run in enumerate(runs):
        same = tuple(str(values[i]) for values in differing.values()) if by else (str(run.path),)
        groups.setdefault(same, []).append(i)
    head = ["run", *differing, *(" ".join(part for part in key if part) for key in numbers)]
    out = []
    for members in groups.values():
        first = runs[members[0]]
        if len(members) > 1 and len({_test_manifest(runs[i]) for i in members}) > 1:
            raise RunError(
                f"{first.path} and others of its row were tested on different samples",
                hint="split with a seed of its own (split.seed) and sweep only the training's seed; or leave out --by",
            )
        name = first.name if len(members) == 1 else f"{first.path.parent.name} ({len(members)} runs)"
        mark = " SYNTHETIC" if any(runs[i].synthetic for i in members) else ""
        row = [name + mark, *(str(values[members[0]]) for values in differing.values())]
        for cells in numbers.values():
            found = [cells[i] for i in members]
            row.append(number_text(found[0]) if len(members) == 1 else _mean_text(found))
        out.append(row)
    return head, out


def _mean_text(numbers: Sequence[Mapping[str, Any] | None]) -> str:
    """``0.912 ± 0.008 (n = 5)``; runs without the number are said."""
    from statistics import mean, stdev

    values = [float(n["value"]) for n in numbers if n is not None and n.get("value") is not None]
    if not values:
        return "-"
    spread = f" ± {stdev(values):.2g}" if len(values) > 1 else ""
    missing = "" if len(values) == len(numbers) else f", {len(numbers) - len(values)} without"
    return f"{mean(values):.4g}{spread} (n = {len(values)}{missing})"


def _table(args: argparse.Namespace) -> int:
    folders = [folder for place in args.runs for folder in find_runs(place)]
    done = [folder for folder in folders if reached_stage(folder) == "evaluated"]
    if not done:
        raise RunError("none of these runs is evaluated", hint="deepassay runs list shows how far each has come")
    runs = [Run.open(folder) for folder in done]
    head, rows = rows_of(runs, metrics=args.metric, slices=args.slices, by=args.by)
    if args.format == "csv":
        import csv
        import sys

        csv.writer(sys.stdout).writerows([head, *rows])
    elif args.format == "markdown":
        lines = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
        lines.insert(1, ["---"] * len(head))
        print("\n".join(f"| {' | '.join(row)} |" for row in lines))
    else:
        escape = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$"})
        body = [" & ".join(cell.translate(escape) for cell in row) + r" \\" for row in [head, *rows]]
        print("\n".join([rf"\begin{{tabular}}{{{'l' * len(head)}}}", r"\hline", body[0], r"\hline", *body[1:],
                         r"\hline", r"\end{tabular}"]))  # fmt: skip
    left = len(folders) - len(done)
    if left and args.format == "markdown":
        print(f"\n{left} runs that are not evaluated yet are left out.")
    return 0


def _test_manifest(run: Run) -> str:
    """Hash of which samples with which labels were tested, whatever they scored."""
    from deepassay.files import fingerprint
    from deepassay.scores import ScoreTable

    table = ScoreTable.read(run.path / "scores" / "test.parquet").table
    rows = zip(table.column("sample_id").to_pylist(), table.column("label").to_pylist(), strict=True)
    return fingerprint(sorted([sample, -1 if label is None else label] for sample, label in rows))
