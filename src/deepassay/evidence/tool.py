"""The tool under assessment: one version of one editing tool, described by one YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deepassay.errors import ConfigError
from deepassay.evidence.tool_command import ToolCommand
from deepassay.manifest import MEDIA, MODALITIES

# Deep Synthesis Provisions, Art. 23(2): speech; 23(4): faces and persons. The words are those of the log's schema.
FACE_FUNCTIONS = (
    "face_generation", "face_swap", "face_attribute_edit", "face_reenactment", "lip_sync", "pose",
)  # fmt: skip
VOICE_FUNCTIONS = ("tts", "voice_conversion", "voice_attribute_edit")
FUNCTIONS = (*FACE_FUNCTIONS, *VOICE_FUNCTIONS, "other")
SEEN = ("no", "yes", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUnderAssessment:
    """One version of an editing tool, and how its outputs came to be in the score table.

    Args:
        name, version, provider: identity; the dossier is bound to this version.
        functions: words of `FUNCTIONS` (Art. 23 of the Deep Synthesis Provisions).
        modality: ``face`` or ``voice``.
        media: ``image``, ``video`` or ``audio``.
        generator: the name its outputs carry in the column ``generator`` of manifest and score table.
        seen_by_detectors: whether any detector was trained on its outputs: ``no``, ``yes`` or ``unknown``.
        settings: what was set, as text.
        drawn_by: who drew the outputs (``assessor``, ``provider``, ``corpus``); a provider's draw is a limitation.
        sampling: how they were drawn, in words, by language.
        sampling_seed: seed of the draw, where there is one.
        refusals: outputs that the tool refused to make; None where nobody counted.
        artefact_sha256: hash of the tool itself, where it is a file.
        command: makes outputs from the run's real test samples, where the tool can be run here; only with
            ``--allow-command``.
        outputs: folder of outputs, or a CSV in the manifest's columns, where the run's data do not hold them; one that
            is named like a real sample of the run (its id, or its file without the ending) is matched to it.
    """

    name: str
    version: str
    provider: str
    functions: Sequence[str]
    modality: str
    media: str
    generator: str
    seen_by_detectors: str = "unknown"
    settings: Mapping[str, str] = field(default_factory=dict)
    drawn_by: str = "corpus"
    sampling: Mapping[str, str] = field(default_factory=dict)
    sampling_seed: int | None = None
    refusals: int | None = None
    artefact_sha256: str | None = None
    command: ToolCommand | None = None
    outputs: str | None = None

    def __post_init__(self) -> None:
        loose = [n for n in ("name", "version", "provider", "generator") if not isinstance(getattr(self, n), str)]
        if loose:
            raise ConfigError(
                f"tool {self.name}: {loose[0]} is {getattr(self, loose[0])!r}, not text",
                hint=f'quote it: {loose[0]}: "..." (YAML turns 1.10 into the number 1.1)',
            )
        unknown = [name for name in self.functions if name not in FUNCTIONS]
        if unknown or not self.functions:
            raise ConfigError(
                f"tool {self.name}: functions {list(self.functions)}", hint=f"name at least one of {list(FUNCTIONS)}"
            )
        if self.modality not in MODALITIES or self.media not in MEDIA:
            raise ConfigError(
                f"tool {self.name}: modality {self.modality!r}, media {self.media!r}",
                hint=f"modality is one of {list(MODALITIES)}, media one of {list(MEDIA)}",
            )
        if (self.modality == "voice") != (self.media == "audio"):
            raise ConfigError(
                f"tool {self.name}: modality {self.modality} with media {self.media}",
                hint="voices are audio; faces are image or video",
            )
        if self.seen_by_detectors not in SEEN:
            raise ConfigError(
                f"tool {self.name}: seen_by_detectors {self.seen_by_detectors!r}",
                hint=f"use one of {list(SEEN)} (quote 'no' and 'yes': YAML turns bare ones into booleans)",
            )
        if self.command is not None and not isinstance(self.command, ToolCommand):
            raise ConfigError(
                f"tool {self.name}: command is {self.command!r}",
                hint="write it as a mapping with _target_: deepassay.evidence.tool_command.ToolCommand",
            )
        if self.command is not None and self.outputs is not None:
            raise ConfigError(
                f"tool {self.name} names both a command and outputs", hint="give the outputs, or what makes them"
            )
        if not self.generator:
            raise ConfigError(
                f"tool {self.name} names no generator", hint="name the generator that marks its outputs in the manifest"
            )
        object.__setattr__(self, "functions", tuple(self.functions))
        object.__setattr__(self, "settings", {str(key): str(value) for key, value in self.settings.items()})
