"""evaluate: the bundle that ships scores every split, and the numbers of the test split are reported with intervals."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from deepassay.calibrator import calibrate
from deepassay.errors import ConfigError
from deepassay.evaluation import Number, markdown_table, measure, write_metrics
from deepassay.evidence.protocol import Register
from deepassay.files import write_text
from deepassay.labels import FAKE, REAL
from deepassay.manifest import SPLITS, Manifest
from deepassay.modality.views import view_count
from deepassay.pipelines.build import build, take
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.prepare import read_corpus
from deepassay.pipelines.terminal import terminal
from deepassay.provenance import code_identity
from deepassay.scores import ScoreTable
from deepassay.scoring import score_manifest
from deepassay.screening.bundle import Bundle

log = logging.getLogger(__name__)
KEYS = {"run", "bundle", "corpus", "split", "replicates", "views", "slices", "seed", "workers", "name"}


def score_with_bundle(
    manifest: Manifest,
    bundle: Bundle,
    *,
    store: Any = None,
    views: int | str | None = None,
    workers: int = 0,
    config_fingerprint: str = "",
    resume_path: Path | None = None,
) -> ScoreTable:
    """Score a manifest with the exported graph and calibrate with the bundle's calibration: every sample gets a row.

    Args:
        views: views per file, a number or ``all``; by default the bundle's, which its thresholds were fixed with.
    """
    most = bundle.views if views is None else view_count(views, bundle.modality())
    meta = {
        "detector": bundle.name,
        "bundle_sha256": bundle.hash,
        "config_fingerprint": config_fingerprint,
        "code": code_identity(),
        "views": most,
    }
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
) -> list[Number]:
    """Score every split of a run with its bundle and report the test split."""
    if not run.bundle.exists():
        raise ConfigError(f"{run.path} has no bundle yet", hint=f"run `deepassay export run={run.path}` first")
    config = run.config
    bundle = Bundle.load(run.bundle)
    manifest = run.manifest()
    store = run.store(bundle.modality())
    console.print("[bold]evaluate[/] (exported graph, every split)")
    tables: dict[str, ScoreTable] = {}
    for split in SPLITS:
        part = manifest.split(split)
        if not len(part):
            continue
        journal = run.path / "scores" / f".{split}.{bundle.hash[:12]}.jsonl"
        journal.parent.mkdir(parents=True, exist_ok=True)
        tables[split] = score_with_bundle(
            part,
            bundle,
            store=store,
            views=views,
            workers=workers,
            config_fingerprint=run.fingerprint,
            resume_path=journal,
        )
        tables[split].write(run.scores(split))
        journal.unlink(missing_ok=True)
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
        )
        return 0
    if not settings["bundle"] or not settings["corpus"]:
        raise ConfigError(
            "evaluate needs a run, or a bundle and a corpus",
            hint="deepassay evaluate run=runs/NAME, or deepassay evaluate bundle=... corpus=csv corpus.csv=...",
        )
    bundle = Bundle.load(settings["bundle"])
    manifest = read_corpus(settings["corpus"], bundle.modality())
    if settings["split"]:
        manifest = build(settings["split"]).apply(manifest).split("test")
    table = score_with_bundle(
        manifest, bundle, views=settings["views"], workers=int(settings["workers"]), resume_path=None
    )
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
