"""The labelling annex of one assessment: the tool's outputs and real samples of the test split, looked through."""

import hashlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import Progress

from deepassay.errors import ConfigError
from deepassay.evidence.annex import SURVIVAL_FILES, Annex, Output, labelling_annex
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest
from deepassay.marks.explicit import read_annotations

DEFAULTS: Mapping[str, Any] = {
    "enabled": True, "annotations": None, "survival": True, "survival_files": SURVIVAL_FILES, "trust_anchors": None,
    "real_files": 200,
}  # fmt: skip


def labelling_of(
    manifest: Manifest,
    tool: ToolUnderAssessment,
    settings: Mapping[str, Any] | None,
    console: Console,
    *,
    seed: int = 0,
) -> Annex | None:
    """Look for labels in every output of the tool in the test split; None where the settings say not to.

    Args:
        settings: ``enabled``, ``annotations`` (CSV; ``file`` is a path below the manifest's root or a file name),
            ``survival``, ``survival_files``, ``trust_anchors`` (PEM), ``real_files`` (unmarked ones looked at too).

    Raises:
        ConfigError: an unknown setting, or annotations that cannot be used.
    """
    unknown = sorted(set(settings or {}) - set(DEFAULTS))
    if unknown:
        raise ConfigError(f"labelling: unknown key {unknown[0]!r}", hint=f"known keys are {', '.join(DEFAULTS)}")
    chosen = {**DEFAULTS, **(settings or {})}
    if not chosen["enabled"]:
        return None
    outputs, real = [], []
    for sample in manifest.split("test"):
        one = Output(sample.path, manifest.file(sample), sample.cluster)
        if sample.label == FAKE and sample.generator == tool.generator:
            outputs.append(one)
        elif sample.label == REAL and sample.modality == tool.modality:
            real.append(one)
    if not outputs:
        return None
    real.sort(key=lambda one: hashlib.sha256(f"{seed}/{one.name}".encode()).hexdigest())
    real = real[: int(chosen["real_files"])]
    judgements = read_annotations(chosen["annotations"], manifest.root) if chosen["annotations"] else []
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("labels of the outputs", total=len(outputs) + len(real))
        annex = labelling_annex(
            outputs, judgements=judgements, real=real, survival=bool(chosen["survival"]),
            survival_files=int(chosen["survival_files"]), trust_anchors=chosen["trust_anchors"], seed=seed,
            done=lambda: bar.advance(task),
        )  # fmt: skip
    found = next(number for number in annex.implicit if number.metric == "implicit_found")
    assert found.count is not None
    console.print(f"  labels: {found.count[0]} of {found.count[1]} outputs carry an implicit label")
    return annex
