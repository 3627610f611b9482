"""A run's test files scored again under every condition, and the tables of an assessment kept for its seal."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from deepassay.errors import ConfigError
from deepassay.evidence.assess import Enclosed
from deepassay.evidence.conditions import LADDER, Condition, ConditionScores, conditions_of, score_conditions
from deepassay.evidence.protocol import Protocol
from deepassay.evidence.pseudonyms import Pseudonyms
from deepassay.evidence.seal import read_sealed
from deepassay.evidence.verify import read_earlier
from deepassay.evidence.versions import Earlier
from deepassay.manifest import Manifest
from deepassay.pipelines.folder import RunFolder
from deepassay.screening.bundle import Bundle


@dataclass(frozen=True)
class Rescoring:
    """What `deepassay assess` will score again, found out before the test is opened: a missing encoder costs nothing.

    Args:
        conditions: in the order of the work; none where the user wants none.
        salt: of the pseudonyms. previous: the dossier of an earlier version, read; None without one.
    """

    conditions: list[Condition]
    salt: Pseudonyms
    previous: Earlier | None
    workers: int = 0

    @classmethod
    def planned(
        cls, settings: Mapping[str, Any], run: RunFolder, protocol: Protocol, bundle: Bundle | None, manifest: Manifest,
        previous: Path | None,
    ) -> "Rescoring":  # fmt: skip
        """From the keys ``conditions``, ``salt`` and ``workers``; a detector without a bundle cannot score again.

        Raises:
            ConfigError: values of the wrong kind, or a ladder that does not exist.
            MissingDependencyError: an encoder that is not there.
            PseudonymError: a file that is no salt. SealError: a previous dossier that cannot be read.
        """
        wanted, workers = settings.get("conditions", True), settings.get("workers") or 0
        if not isinstance(wanted, bool) or isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise ConfigError(
                f"conditions is {wanted!r}, workers is {workers!r}", hint="write true or false, and a number from 0 on"
            )
        media = sorted({sample.media for sample in manifest.split("test")})
        conditions = conditions_of(protocol, bundle.modality().name, media) if wanted and bundle else []
        salt = Pseudonyms.keep(settings.get("salt") or run.path / "salt")
        return cls(conditions, salt, None if previous is None else read_earlier(read_sealed(previous)), workers)

    def score(
        self, run: RunFolder, bundle: Bundle | None, manifest: Manifest, tool: str, per_class: int, console: Console
    ) -> ConditionScores | None:
        """Scores under every condition; resumes what an interrupted run left in the run's folder ``conditions``."""
        if not self.conditions or bundle is None:
            return None
        steps = sum(condition.kind == LADDER for condition in self.conditions)
        console.print(
            f"[bold]conditions[/]  {len(self.conditions)}, {steps} of them steps of ladders; thresholds are kept"
        )
        return score_conditions(
            manifest.split("test"), self.conditions, bundle.modality(), bundle.predict, run.path / "conditions",
            tool=tool, per_class=per_class, views=bundle.views, workers=self.workers,
            meta={"detector": bundle.name, "bundle_sha256": bundle.hash},
        )  # fmt: skip


def write_enclosed(run: RunFolder, tables: Enclosed) -> None:
    """The tables that were measured, ids as pseudonyms, where `pipelines.seal.seal_run` finds them."""
    folder = run.path / "dossier" / "scores"
    folder.mkdir(parents=True, exist_ok=True)
    tables.test.write(folder / "test.parquet")
    tables.dev.write(folder / "dev.parquet")
    (folder / "conditions.parquet").unlink(missing_ok=True)
    if tables.conditions is not None:
        tables.conditions.write(folder / "conditions.parquet")
