"""export: trained weights to a screening bundle: parity gate, then calibration on dev with the graph that ships."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from deepassay.errors import ConfigError
from deepassay.manifest import Manifest
from deepassay.modality.views import view_count
from deepassay.pipelines.build import build, take
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.prepare import ensure_finder
from deepassay.pipelines.terminal import terminal
from deepassay.screening.card import needed, refused_targets

if TYPE_CHECKING:
    from deepassay.export import ParityReport

log = logging.getLogger(__name__)
KEYS = {
    "run", "name", "operating_points", "licence_use", "commercial", "layout", "variants", "parity_files", "parity_on",
    "sign",
}  # fmt: skip
LAYOUTS = ("bundle", "triton")


def export_run(
    run: RunFolder,
    *,
    console: Console,
    operating_points: list[float] | None = None,
    licence_use: str | None = None,
    variants: Sequence[str] = ("fp32",),
    parity_files: int = 64,
    parity_on: str | Path | None = None,
    sign: str | Path | None = None,
) -> Path:
    """Export a trained run's weights; returns the bundle's folder.

    Args:
        run: trained. console: for people. operating_points, licence_use: in place of those of the run's configuration.
        variants, parity_files, sign: see `export.export_bundle`.
        parity_on: a manifest, CSV or Parquet, with paths relative to its own folder.

    Raises:
        ConfigError: the run has no weights yet.
        AssayError: the parity gate refused the graph, or the licence chain refuses the use.
    """
    from deepassay.export import export_bundle

    config = run.config
    ensure_finder(config["modality"])
    modality = run.modality()
    console.print("[bold]export[/]")
    bundle, report = export_bundle(
        detector=build(config["detector"]),
        weights=run.weights,
        modality=modality,
        manifest=run.manifest(),
        store=run.store(modality),
        folder=run.bundle,
        parity_path=run.path / "parity.json",
        operating_points=operating_points or [float(t) for t in config["operating_points"]],
        views=view_count(config["views"]["score"], modality),
        config_fingerprint=run.fingerprint,
        provenance=run.provenance,
        licence_use=licence_use or str(config["licence_use"]),
        name=run.path.name,
        variants=variants,
        parity_files=parity_files,
        parity_on=None if parity_on is None else _manifest(Path(parity_on)),
        sign=sign,
    )
    console.print(
        f"  parity: |difference of logits| <= {report.max_difference:.2e} over {report.n_inputs} inputs (gate 1e-3)"
    )
    calibration = bundle.calibration
    if not calibration.informative:
        console.print(f"  [yellow]warning[/] {calibration.warning}")
    for point in bundle.operating_points:
        mark = "" if point.supported else "  (not supported by the rule of 3 on this dev set)"
        console.print(
            f"  {point.name}: flag if llr >= {point.threshold:.4f}; BPCER on dev {point.realised_bpcer:.3f}, "
            f"n = {point.n_real}{mark}"
        )
    for target in refused_targets([point.to_dict() for point in bundle.operating_points]):
        console.print(
            f"  bpcer_{100 * target:.10g}: refused by the rule of 3, it needs {needed(target)} real dev files"
        )
    if not bundle.abstention:
        console.print(f"  no abstention limits: {bundle.abstention.missing}")
    console.print(_table(report))
    for one in report.variants:
        console.print(f"  bundle {one.path}  ({one.sha256[:12]})", highlight=False, soft_wrap=True)
    return run.bundle


def _manifest(path: Path) -> Manifest:
    read = Manifest.read_parquet if path.suffix == ".parquet" else Manifest.read_csv
    return read(path, path.parent)


def _table(report: "ParityReport") -> Table:
    """Parity over files and speed of every precision, for people; parity.json holds the same."""
    table = Table(title="parity over files, network in PyTorch against bundle", title_justify="left")
    for title in ("", "files", "largest |difference of logits|", "EER change", "flips", "graph, MB", "ms per view",
                  "PyTorch"):  # fmt: skip
        table.add_column(title, justify="right")
    for one in report.variants:
        found = one.files
        change = "one class" if found.eer_change is None else f"{100 * found.eer_change:+.2f} %"
        flips = ", ".join(f"{n} at {name}" for name, n in found.flips.items())
        table.add_row(
            found.precision, f"{found.n_scored}/{found.n_files}", f"{found.max_logit_difference:.2e}", change, flips,
            f"{found.graph_bytes / 1e6:.2f}", f"{found.ms_per_view:.2f}", f"{found.network_ms_per_view:.2f}",
        )  # fmt: skip
    return table


def export(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay export run=...`: the bundle, and with ``layout=triton`` a model repository beside it."""
    settings = take(config, KEYS, verb="export")
    if settings["layout"] not in LAYOUTS:
        raise ConfigError(f"layout: there is no {settings['layout']!r}", hint=f"use one of {', '.join(LAYOUTS)}")
    run, console = RunFolder.open(settings["run"]), terminal()
    export_run(
        run,
        console=console,
        operating_points=settings["operating_points"],
        licence_use="commercial" if settings["commercial"] else settings["licence_use"],
        variants=tuple(settings["variants"]),
        parity_files=int(settings["parity_files"]),
        parity_on=settings["parity_on"],
        sign=settings["sign"],
    )
    if settings["layout"] == "triton":
        from deepassay.screening.bundle import Bundle
        from deepassay.screening.kserve import write_triton_repository

        name = write_triton_repository(Bundle.load(run.bundle), run.path / "triton")
        console.print(f"  model repository {run.path / 'triton'}  (model {name})")
    return 0
