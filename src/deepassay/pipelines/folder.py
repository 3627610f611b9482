"""The run folder: what every verb writes into it and reads back from it; never half-written."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deepassay.errors import ConfigError
from deepassay.files import write_json, write_text
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality
from deepassay.pipelines.build import ELASTIC, VOLATILE, build, config_fingerprint, stable
from deepassay.provenance import collect
from deepassay.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """One run: config.yaml, run.json, provenance.json, manifest.parquet, audit.json, checkpoints, scores, bundle ..."""

    path: Path

    @classmethod
    def start(cls, path: Path, config: Mapping[str, Any], *, resume: bool) -> "RunFolder":
        """Begin a run, or go on with one of the same experiment.

        Raises:
            ConfigError: the folder holds a run with another configuration, or any run and ``resume`` is false.
        """
        run = cls(path)
        mark = config_fingerprint(config)
        if (path / "config.yaml").is_file():
            before = run.config
            if not resume:
                raise ConfigError(
                    f"{path} already holds a run", hint="choose another name=..., or resume=true to go on with this one"
                )
            same = VOLATILE | ELASTIC
            if config_fingerprint(before) != mark and stable(before, same) != stable(config, same):
                differing = sorted(_differences(stable(before, same), stable(config, same)))
                raise ConfigError(
                    f"{path} holds a run with another configuration (differs in {', '.join(differing[:6])})",
                    hint="choose another name=..., or remove that folder",
                )
            log.info("going on with the run in %s", path)
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        write_json(path / "provenance.json", collect(config=dict(config), seeds=[int(config.get("seed", 0))]))
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run. Raises ConfigError where there is none."""
        run = cls(Path(path))
        if not (run.path / "config.yaml").is_file():
            raise ConfigError(
                f"{path} is not a run folder", hint="name the folder that `deepassay train` printed: run=runs/..."
            )
        return run

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the run."""
        return yaml.safe_load((self.path / "config.yaml").read_text())

    @property
    def fingerprint(self) -> str:
        """The fingerprint shared by everything this run makes."""
        return config_fingerprint(self.config)

    @property
    def provenance(self) -> dict[str, Any]:
        """Code identity, packages, hardware and seeds at the start of the run."""
        return json.loads((self.path / "provenance.json").read_text())

    def keep_data(self, manifest: Manifest, store: Store) -> None:
        """Write the split manifest and remember where its files and prepared views lie."""
        manifest.to_parquet(self.path / "manifest.parquet")
        write_json(
            self.path / "run.json",
            {
                "schema": "1",
                "fingerprint": self.fingerprint,
                "manifest_sha256": manifest.hash,
                "root": str(manifest.root.resolve()),
                "store": store.source,
                "synthetic": manifest.synthetic,
                "counts": manifest.counts(),
            },
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What `keep_data` wrote. Raises ConfigError where training has not come so far."""
        path = self.path / "run.json"
        if not path.is_file():
            raise ConfigError(
                f"{self.path} has no run.json: its training never began", hint="run `deepassay train` again"
            )
        return json.loads(path.read_text())

    def manifest(self) -> Manifest:
        """The split manifest of the run."""
        return Manifest.read_parquet(self.path / "manifest.parquet", self.facts["root"])

    def modality(self) -> Modality:
        """The modality as the run's configuration builds it."""
        return build(self.config["modality"])

    def store(self, modality: Modality) -> Store:
        """The prepared views that the run was trained on."""
        return Store.open(str(self.facts["store"]), modality=modality)

    @property
    def weights(self) -> Path:
        """The weights chosen on dev. Raises ConfigError before training has ended."""
        path = self.path / "checkpoints" / "best.safetensors"
        if not path.is_file():
            raise ConfigError(
                f"{self.path} has no trained weights yet", hint="run the same `deepassay train` command to its end"
            )
        return path

    def scores(self, split: str) -> Path:
        """Where the score table of a split lies."""
        return self.path / "scores" / f"{split}.parquet"

    @property
    def protocol(self) -> Path:
        """Where the frozen protocol and every opening of the test labels are kept."""
        return self.path / "protocol"

    @property
    def bundle(self) -> Path:
        """Where the exported bundle lies."""
        return self.path / "bundle"


def _differences(one: Any, two: Any, prefix: str = "") -> set[str]:
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        out: set[str] = set()
        for key in set(one) | set(two):
            out |= _differences(one.get(key), two.get(key), f"{prefix}.{key}" if prefix else str(key))
        return out
    return set() if one == two else {prefix}
