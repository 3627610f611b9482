"""evaluate: the bundle that ships scores every split, and the numbers of the test split are reported with intervals."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from rich.console import Console

from deepassay.calibrator import calibrate
from deepassay.errors import ConfigError
from deepassay.evaluation import Number, markdown_table, measure, write_metrics
from deepassay.evidence.protocol import Register
from deepassay.files import write_json, write_text
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import SPLITS, Manifest
from deepassay.modality.views import view_count
from deepassay.pipelines.build import build, take
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.prepare import read_corpus, read_shard
from deepassay.pipelines.terminal import terminal
from deepassay.provenance import code_identity
from deepassay.scores import ScoreTable
from deepassay.scoring import Predict, score_manifest
from deepassay.screening.bundle import Bundle
from deepassay.worklist import score_worklist

log = logging.getLogger(__name__)
KEYS = {
    "run",
    "bundle",
    "corpus",
    "split",
    "replicates",
    "views",
    "slices",
    "seed",
    "workers",
    "name",
    "processes",
    "part",
    "retry",
}


def _predict_of(path: Path) -> Predict:
    """The detector of a bundle, in a process of its own."""
    return Bundle.load(path).predict


def score_with_bundle(
    manifest: Manifest,
    bundle: Bundle,
    *,
    store: Any = None,
    views: int | str | None = None,
    workers: int = 0,
    config_fingerprint: str = "",
    resume_path: Path | None = None,
    worklist: Path | None = None,
    processes: int = 1,
    finish: bool = True,
) -> ScoreTable | None:
    """Score a manifest with the exported graph and calibrate with the bundle's calibration: every sample gets a row.

    Args:
        views: views per file, a number or ``all``; by default the bundle's, which its thresholds were fixed with.
        worklist: a folder in which several processes and machines work together (`worklist.score_worklist`).
        processes, finish: see there; only with a worklist is the result None, where others are still at work.
    """
    most = bundle.views if views is None else view_count(views, bundle.modality())
    meta = {
        "detector": bundle.name,
        "bundle_sha256": bundle.hash,
        "config_fingerprint": config_fingerprint,
        "code": code_identity(),
        "views": most,
    }
    if worklist is not None:
        shared = score_worklist(
            manifest, bundle.modality(), partial(_predict_of, bundle.path), worklist, views=most, store=store,
            meta=meta, processes=processes, finish=finish,
        )  # fmt: skip
        return None if shared is None else calibrate(shared, bundle.calibration)
    table = score_manifest(
        manifest,
        bundle.modality(),
        bundle.predict,
        views=most,
        store=store,
        meta=meta,
        workers=workers,
        resume_path=resume_path,
    )
    return calibrate(table, bundle.calibration)


def report(
    table: ScoreTable,
    bundle: Bundle,
    folder: Path,
    *,
    console: Console,
    replicates: int,
    slices: list[str],
    seed: int,
    config_fingerprint: str = "",
) -> list[Number]:
    """Measure one table at the bundle's operating points; write metrics.json and metrics.md; print the table."""
    numbers = measure(
        table,
        operating_points=bundle.operating_points,
        slices=slices,
        replicates=replicates,
        seed=seed,
        generators_seen=bundle.generators_seen,
    )
    write_metrics(
        numbers,
        folder / "metrics.json",
        table=table,
        bundle_sha256=bundle.hash,
        config_fingerprint=config_fingerprint,
        generators_seen=list(bundle.generators_seen),
    )
    note = "Synthetic data: these numbers say that the machinery works, and nothing about real media.\n\n"
    write_text(folder / "metrics.md", (note if table.synthetic else "") + markdown_table(numbers))
    show(numbers, table, bundle, console=console)
    console.print(f"  every number, with and without non-responses: {folder / 'metrics.md'} and metrics.json")
    return numbers


def _cell(number: Number | None, *, percent: bool, counts: bool = False) -> str:
    """``12.5 (8.1-17.9)`` in per cent, or ``0.912 (0.874-0.941)``; a star where too little supports it."""
    if number is None or number.value is None:
        return "-"
    scale, digits = (100.0, 1) if percent else (1.0, 3)
    text = f"{scale * number.value:.{digits}f}"
    if number.ci is not None and number.ci["lo"] is not None:
        text += f" ({scale * number.ci['lo']:.{digits}f}-{scale * number.ci['hi']:.{digits}f})"
    if counts and number.count is not None:
        text += f" {number.count[0]}/{number.count[1]}"
    return text + ("*" if number.status == "under_powered" else "")


def show(numbers: list[Number], table: ScoreTable, bundle: Bundle, *, console: Console) -> None:
    """The headline and one row per generator, narrow enough for a terminal of 100 columns."""
    from rich.table import Table

    def find(metric: str, point: str = "", **where: str) -> Number | None:
        wanted = {"nonresponse": "counted_as_error", **where}
        for n in numbers:
            if n.metric == metric and n.operating_point == point and dict(n.slice) == wanted:
                return n
        return None

    counts = {k: int((table.column("label") == v).sum()) for k, v in (("real", REAL), ("fake", FAKE))}
    mark = "   [bold]SYNTHETIC DATA[/]" if table.synthetic else ""
    silent = len(table) - int(table.answered.sum())
    console.print(
        f"  [bold]test[/] {counts['real']} real, {counts['fake']} fake, {len(set(table.column('cluster')))} clusters; "
        f"{silent} without an answer, counted as errors{mark}"
    )
    head = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2))
    head.add_row("  AUC", _cell(find("auc"), percent=False))
    head.add_row("  EER %", _cell(find("eer"), percent=True))
    points = [point.name for point in bundle.operating_points]
    for point in points:
        head.add_row(f"  BPCER % at {point}", _cell(find("bpcer", point), percent=True, counts=True))
    console.print(head)
    body = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    for title in ("  generator", "in training", "AUC", *(f"APCER % at {point}, k/n" for point in points)):
        body.add_column(title, justify="left")
    seen = set(bundle.generators_seen)
    labelled = zip(table.column("generator"), table.column("label"), strict=True)
    names = {str(generator) for generator, label in labelled if label == FAKE}
    for name in sorted(names, key=lambda n: (n in seen, n)):
        body.add_row(
            f"  {name or '(unnamed)'}",
            "yes" if name in seen else "[bold]left out[/]",
            _cell(find("auc", generator=name), percent=False),
            *(_cell(find("apcer", point, generator=name), percent=True, counts=True) for point in points),
        )
    console.print(body)
    console.print(
        "  95 % intervals, resampling clusters (subjects, else sources); * too few samples or clusters for a claim"
    )


def evaluate_run(
    run: RunFolder,
    *,
    console: Console,
    replicates: int | None = None,
    slices: list[str] | None = None,
    views: int | str | None = None,
    seed: int = 0,
    workers: int = 0,
    processes: int = 1,
    part: str | None = None,
    retry: bool = False,
) -> list[Number]:
    """Score every split of a run with its bundle and report the test split.

    Args:
        processes: that score side by side; the table does not depend on it.
        part: "i/n" where n commands, on any machines, work on the same run: the first waits for all and reports.
        retry: score again only what ended in an error before.
    """
    if not run.bundle.exists():
        raise ConfigError(f"{run.path} has no bundle yet", hint=f"run `deepassay export run={run.path}` first")
    config = run.config
    bundle = Bundle.load(run.bundle)
    manifest = run.manifest()
    store = run.store(bundle.modality())
    console.print("[bold]evaluate[/] (exported graph, every split)")
    tables: dict[str, ScoreTable] = {}
    number, parts = read_shard(part or "1/1")
    shared = processes > 1 or parts > 1
    for split in SPLITS:
        rows = manifest.split(split)
        if not len(rows):
            continue
        before = None
        if retry and run.scores(split).is_file():
            before = ScoreTable.read(run.scores(split))
            failed = before.column("status") == str(Status.ERROR)
            console.print(f"  {split}: {int(failed.sum())} of {len(before)} samples ended in an error, scored again")
            if not failed.any():
                tables[split] = before
                continue
            rows = rows.select(failed)
        place = run.path / "scores" / f".{split}.{bundle.hash[:12]}"
        journal = place.with_suffix(".jsonl") if before is None else None
        place.parent.mkdir(parents=True, exist_ok=True)
        table = score_with_bundle(
            rows,
            bundle,
            store=store,
            views=views,
            workers=workers,
            config_fingerprint=run.fingerprint,
            resume_path=journal,
            worklist=place if shared and before is None else None,
            processes=processes,
            finish=number == 0,
        )
        if table is None:
            console.print(f"  {split}: no part is free; whoever has part 1 waits for the others and reports")
            continue
        tables[split] = table if before is None else before.patched(table)
        tables[split].write(run.scores(split))
        if journal is not None:
            journal.unlink(missing_ok=True)
        if shared:
            rmtree(place, ignore_errors=True)
    if number:
        return []
    list_failures(run.path, tables, console)
    if "test" not in tables:
        console.print("  there is no test split: nothing to report (train and dev tables are written)")
        return []
    register = Register(run.protocol)
    register.record_opening(tables["test"].hash, before_protocol=not register.frozen)
    return report(
        tables["test"],
        bundle,
        run.path,
        console=console,
        replicates=int(replicates or config["replicates"]),
        slices=list(slices or config["slices"]),
        seed=seed,
        config_fingerprint=run.fingerprint,
    )


def list_failures(folder: Path, tables: Mapping[str, ScoreTable], console: Console) -> None:
    """Say what ended in an error, write it to ``failed.json``, and give the command that tries just that again."""
    failed = [
        {"split": split, "sample_id": str(name), "reason": str(reason)}
        for split, table in tables.items()
        for name, status, reason in zip(*(table.column(c) for c in ("sample_id", "status", "reason")), strict=True)
        if status == str(Status.ERROR)
    ]
    path = folder / "failed.json"
    if not failed:
        path.unlink(missing_ok=True)
        return
    command = f"deepassay evaluate run={folder} retry=true"
    write_json(path, {"schema": "1", "step": "evaluate", "command": command, "failed": failed})
    console.print(f"[yellow]{len(failed)} samples ended in an error[/], listed in {path}; the first: "
                  f"{failed[0]['sample_id']}: {failed[0]['reason']}\n  to try just those again: {command}")  # fmt: skip


def evaluate(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay evaluate run=...`, or `bundle=... corpus=...` for files that no run knows."""
    settings = take(config, KEYS, verb="evaluate")
    console = terminal()
    if settings["run"]:
        evaluate_run(
            RunFolder.open(settings["run"]),
            console=console,
            replicates=settings["replicates"],
            slices=settings["slices"],
            views=settings["views"],
            seed=int(settings["seed"]),
            workers=int(settings["workers"]),
            processes=int(settings.get("processes") or 1),
            part=settings.get("part"),
            retry=bool(settings.get("retry")),
        )
        return 0
    if not settings["bundle"] or not settings.get("corpus"):
        raise ConfigError(
            "evaluate needs a run, or a bundle and a corpus",
            hint="deepassay evaluate run=runs/NAME, or deepassay evaluate bundle=... corpus=csv corpus.csv=...",
        )
    bundle = Bundle.load(settings["bundle"])
    manifest = read_corpus(settings["corpus"], bundle.modality())
    if settings.get("split"):
        manifest = build(settings["split"]).apply(manifest).split("test")
    table = score_with_bundle(
        manifest, bundle, views=settings["views"], workers=int(settings["workers"]), resume_path=None
    )
    assert table is not None  # only a work list can be unfinished
    table.write(folder / "scores" / "test.parquet")
    console.print(f"scores {folder / 'scores' / 'test.parquet'}")
    if (manifest.column("label") < 0).all():
        console.print("  the corpus has no labels: scores and statuses only")
        return 0
    report(
        table,
        bundle,
        folder,
        console=console,
        replicates=int(settings["replicates"] or 2000),
        slices=list(settings["slices"] or ["generator"]),
        seed=int(settings["seed"]),
    )
    return 0
