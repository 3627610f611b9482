"""The plan of a study: which trainings leave what out, with which configuration, in which folder."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from deepassay.errors import ConfigError
from deepassay.files import slug
from deepassay.manifest import Manifest
from deepassay.pipelines.build import build

# What every training of a study does without: the study scores and judges by itself.
QUIET = ("logger=none", "then=[]", "resume=true", "trainer.progress=false", "audit.skip=true")
ARM_KEYS = {"overrides", "given_fakes", "self_made"}


@dataclass(frozen=True)
class Arm:
    """One recipe of the study.

    Args:
        overrides: of `deepassay train`, after those that all arms share.
        given_fakes: whether it may be trained and chosen on the corpus's own fakes.
        self_made: whether it may be trained and chosen on self-made fakes that its corpus holds.
    """

    name: str
    overrides: tuple[str, ...] = ()
    given_fakes: bool = True
    self_made: bool = True


@dataclass(frozen=True)
class Training:
    """One training: an arm, the groups it leaves out, and a seed.

    Args:
        stage: ``inner`` (choosing), ``outer`` (measuring) or ``variant`` (an arm without channel augmentation, say).
        variant: word of the variant, "" for none.
    """

    stage: str
    arm: str
    groups: tuple[str, ...]
    seed: int
    variant: str = ""

    @property
    def name(self) -> str:
        """Folder below the study's ``runs/``."""
        words = [self.stage, self.arm, *([self.variant] if self.variant else []), "-".join(sorted(self.groups))]
        return "/".join([slug(word) for word in words] + [f"seed{self.seed}"])


def read_arms(node: Mapping[str, Any]) -> dict[str, Arm]:
    """The arms of a study's configuration.

    Raises:
        ConfigError: none, an unknown key, or a text in the place of a list.
    """
    if not node:
        raise ConfigError("a study needs at least one arm", hint="arms: {mine: {overrides: [experiment=real_faces]}}")
    out = {}
    for name, values in node.items():
        values = dict(values or {})
        unknown = sorted(set(values) - ARM_KEYS)
        if unknown or isinstance(values.get("overrides", []), str):
            raise ConfigError(
                f"arm {name}: unknown key {unknown[0]!r}" if unknown else f"arm {name}: overrides is a text",
                hint=f"an arm has {', '.join(sorted(ARM_KEYS))}; overrides is a list of texts",
            )
        out[str(name)] = Arm(
            str(name), tuple(values.get("overrides") or ()), bool(values.get("given_fakes", True)),
            bool(values.get("self_made", True)),
        )  # fmt: skip
    return out


def compose_train(overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration that `deepassay train OVERRIDES` would run, as plain data.

    The command line composes it in a process of its own, since Hydra belongs to it alone.

    Raises:
        ConfigError: with the command's own message and hint.
    """
    command = [
        sys.executable,
        "-m",
        "deepassay",
        "train",
        *QUIET,
        *overrides,
        "name=study",
        "--cfg",
        "job",
        "--resolve",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message, _, hint = done.stderr.strip().partition("\nhint: ")
        raise ConfigError(
            f"deepassay train {' '.join(overrides)}: {message.removeprefix('error: ') or 'cannot be composed'}",
            hint=hint or "try the command with --cfg job",
        )
    values = yaml.safe_load(done.stdout)
    missing = sorted(_missing(values))
    if missing:
        raise ConfigError(
            f"deepassay train {' '.join(overrides)}: no value for {missing[0]}", hint="add it to the overrides"
        )
    return values


def _missing(node: Any, path: str = "") -> set[str]:
    if isinstance(node, Mapping):
        return {m for key, value in node.items() for m in _missing(value, f"{path}.{key}" if path else str(key))}
    return {path} if node == "???" else set()


@dataclass(frozen=True)
class Design:
    """Who is left out together, and how the rest is dealt: what all trainings share.

    Args: as `deepassay.splits.CrossHoldout`.
    """

    groups: Mapping[str, Mapping[str, Any]]
    by: str = "repository"
    kin: Mapping[str, Sequence[str]] | None = None
    leave_kin_out: Sequence[str] = ()
    dev_fraction: float = 0.2
    seed: int = 0

    def split(self, test: Sequence[str], arm: Arm | None = None) -> dict[str, Any]:
        """The configuration of the split that leaves some groups out."""
        return {
            "_target_": "deepassay.splits.CrossHoldout",
            "groups": {name: dict(group) for name, group in self.groups.items()},
            "test": sorted(test),
            "by": self.by,
            "given_fakes": arm is None or arm.given_fakes,
            "self_made": arm is None or arm.self_made,
            "kin": {name: list(names) for name, names in (self.kin or {}).items()},
            "leave_kin_out": list(self.leave_kin_out),
            "dev_fraction": self.dev_fraction,
            "seed": self.seed,
        }

    def folds(self, manifest: Manifest) -> dict[str, Manifest]:
        """The manifest split with one group left out, for every group.

        Raises:
            ConfigError: fewer than two groups.
            ManifestError: see `CrossHoldout.apply`.
        """
        if len(self.groups) < 2:
            raise ConfigError(f"a study needs at least two groups, not {len(self.groups)}", hint="see groups")
        return {name: build(self.split([name])).apply(manifest) for name in self.groups}


def inner_trainings(design: Design, arms: Mapping[str, Arm], seeds: Sequence[int]) -> list[Training]:
    """One training per arm, pair of groups and seed: (g, h) serves the choice for g and the one for h."""
    pairs = list(combinations(sorted(design.groups), 2))
    return [Training("inner", arm, pair, int(seed)) for seed in seeds for pair in pairs for arm in arms]


def outer_trainings(design: Design, arms: Mapping[str, Arm], seeds: Sequence[int]) -> list[Training]:
    """One training per arm, group and seed."""
    return [Training("outer", arm, (group,), int(seed)) for seed in seeds for group in design.groups for arm in arms]


def training_config(
    composed: Mapping[str, Any], training: Training, arm: Arm, design: Design, store: Mapping[str, Any]
) -> dict[str, Any]:
    """The configuration of one training."""
    return {
        **composed,
        "split": design.split(training.groups, arm),
        "seed": training.seed,
        "name": training.name,
        "then": [],
        "store": {**dict(composed["store"]), **dict(store)},
    }


def run_folder(study: Path, training: Training) -> Path:
    """Where a training lies."""
    return study / "runs" / training.name
