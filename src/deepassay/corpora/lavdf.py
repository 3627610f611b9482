"""LAV-DF: VoxCeleb2 clips with a few words changed in the sound, the lips or both; one manifest per modality."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of, read_json
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import MODALITIES, Sample

_LISTS = ("metadata.json", "metadata.min.json")
_SPLITS = {"train": "train", "dev": "dev", "test": "test"}
_VIDEO = (".mp4",)
# The release holds so many videos that its own metadata does not list (issue 1 of its repository).
_UNLISTED = 1_706


class LAVDF(PublicCorpus):
    """136,304 clips: 36,431 real ones and 99,873 in which a segment was replaced.

    Expected below ``root``::

        metadata.json (or metadata.min.json)    [{"file": "train/000001.mp4", "modify_video": true, ...}, ...]
        train/*.mp4, dev/*.mp4, test/*.mp4

    Picture and sound are changed apart: ``modality=face`` takes ``modify_video`` as the label, ``modality=voice``
    ``modify_audio``. A clip with the other stream changed is real here, and ``manipulated`` says so. ``fake_segments``
    (seconds) tells where. A row whose flags contradict its segments is a problem. Nobody publishes who speaks: a fake
    is tied to its original.

    Args:
        root: folder that holds the metadata.
        modality: ``face`` or ``voice``.

    Raises:
        ConfigError: another modality.
    """

    name = "lavdf"
    modality = "face"
    status = "unverified"
    version = "2022"
    licence = "CC BY-NC 4.0 with LAV-DF terms and conditions"
    documented_at = (
        "Cai et al., Do You Really Mean That?, DICTA 2022, arXiv 2204.06228; Glitch in the Matrix, CVIU 2023",
        "github.com/ControlNet/LAV-DF: README.md, dataset/lavdf.py (metadata fields), issue 1 (unlisted videos)",
        "counts: github.com/dfwb-research/deepfake-workbench, inventory of LAV-DF",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"train": 78_703, "dev": 31_501, "test": 26_100, "real": 36_431}

    def __init__(
        self,
        *,
        root: str,
        modality: str = "face",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.side = one_of(modality, MODALITIES, what="lavdf: modality")

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every listed clip that is there, labelled for the chosen modality."""
        name = next((n for n in _LISTS if (self.root / n).is_file()), None)
        if name is None:
            inventory.problem("missing", "list metadata.json (or metadata.min.json)")
            return
        rows: dict[str, dict[str, Any]] = {}
        listed = read_json(self.root / name, self.name)
        if not isinstance(listed, list):
            raise ManifestError(f"lavdf: {name} holds no list", hint="use the file as released")
        for number, row in enumerate(listed, start=1):
            if _complete(row):
                rows[row["file"]] = row
            else:
                inventory.problem("unparsable", f"{name}, entry {number}: no file, split or modify flags")
        found = [p for split in _SPLITS for p in inventory.files(split, _VIDEO)]
        unlisted = sorted(set(found) - set(rows))
        inventory.count("videos without metadata (left out)", len(unlisted), None)
        if len(unlisted) != _UNLISTED:  # the known ones are no fault of the copy
            for path in unlisted:
                inventory.problem("extra", f"videos: {path}")
        present = inventory.expect(rows, found=set(found) & set(rows), what="videos")
        for split in _SPLITS:
            n = sum(rows[p]["split"] == split for p in present)
            inventory.count(f"{split} videos", n, self.published_counts[split])
        real = sum(not rows[p]["modify_video"] and not rows[p]["modify_audio"] for p in present)
        inventory.count("wholly real videos", real, self.published_counts["real"])
        for path in present:
            yield self._one(inventory, path, rows[path])

    def _one(self, inventory: Inventory, path: str, row: Mapping[str, Any]) -> Sample:
        picture, sound = bool(row["modify_video"]), bool(row["modify_audio"])
        label = FAKE if (picture if self.side == "face" else sound) else REAL
        segments = row.get("fake_periods") or []
        if bool(segments) != (picture or sound) or bool(row.get("original")) != (picture or sound):
            inventory.problem(
                "label",
                f"{path}: modify_video {picture}, modify_audio {sound}, but {len(segments)} fake segments and original "
                f"{row.get('original')!r}",
            )
        attributes = {"manipulated": changed(picture, sound), "parent": "VoxCeleb2"}
        if segments and label == FAKE:
            attributes["fake_segments"] = segments_text(segments)
        return self.sample(
            path,
            sample_id=f"{self.name}/{self.side}/{path}",
            modality=self.side,
            label=label,
            source_id=f"lavdf/{PurePosixPath(str(row.get('original') or path)).stem}",
            generator="" if label == REAL else f"LAV-DF {'lips' if self.side == 'face' else 'voice'}",
            generator_family="" if label == REAL else ("lip_sync" if self.side == "face" else "voice_cloning"),
            split=_SPLITS[row["split"]],
            attributes=attributes,
        )


def _complete(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("file"), str)
        and row.get("split") in _SPLITS
        and isinstance(row.get("modify_video"), bool)
        and isinstance(row.get("modify_audio"), bool)
    )


def changed(picture: bool, sound: bool) -> str:
    """What was manipulated in a clip: ``nothing``, ``picture``, ``sound`` or ``both``."""
    return {(False, False): "nothing", (True, False): "picture", (False, True): "sound", (True, True): "both"}[
        picture, sound
    ]


def segments_text(segments: list[list[float]]) -> str:
    """Segments in seconds as one text cell: ``0.48-0.86;3-4.5``."""
    return ";".join(f"{float(start):g}-{float(end):g}" for start, end in segments)
