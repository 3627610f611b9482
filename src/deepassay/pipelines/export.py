"""export: trained weights to a screening bundle: parity gate, then calibration on dev with the graph that ships."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from deepassay.errors import ConfigError
from deepassay.modality.views import view_count
from deepassay.pipelines.build import build, take
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.prepare import ensure_finder
from deepassay.pipelines.terminal import terminal

log = logging.getLogger(__name__)
KEYS = {"run", "name", "operating_points", "licence_use", "layout"}
LAYOUTS = ("bundle", "triton")


def export_run(
    run: RunFolder,
    *,
    console: Console,
    operating_points: list[float] | None = None,
    licence_use: str | None = None,
) -> Path:
    """Export a trained run's weights; returns the bundle's folder.

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
    console.print(f"  bundle {run.bundle}  ({bundle.hash[:12]})")
    return run.bundle


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
        licence_use=settings["licence_use"],
    )
    if settings["layout"] == "triton":
        from deepassay.screening.bundle import Bundle
        from deepassay.screening.kserve import write_triton_repository

        name = write_triton_repository(Bundle.load(run.bundle), run.path / "triton")
        console.print(f"  model repository {run.path / 'triton'}  (model {name})")
    return 0
