"""Deepfake-Eval-2024: pictures, videos and sound that circulated in 2024, labelled by hand; faces or voices."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.errors import ConfigError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import MODALITIES, Sample

# Part -> (folder, list, column of the truth by modality).
PARTS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "image": ("image-data", "image-metadata-publish.csv", {"face": "Ground Truth"}),
    "video": (
        "video-data",
        "video-metadata-publish.csv",
        {"face": "Video Ground Truth", "voice": "Audio Ground Truth"},
    ),
    "audio": ("audio-data", "audio-metadata-publish.csv", {"voice": "Ground Truth"}),
}
_DEFAULT = {"face": ("image", "video"), "voice": ("audio",)}
_SPLITS = {"train": "train", "test": "test"}
# What a spreadsheet made of a name in the published list of pictures.
_LOST = "#NAME?"


class DeepfakeEval2024(PublicCorpus):
    """44 hours of video, 56.5 hours of sound and 1,975 pictures from 88 sites in 52 languages.

    Expected below ``root``, as downloaded::

        image-metadata-publish.csv, image-data/     Filename, Ground Truth, Finetuning Set
        video-metadata-publish.csv, video-data/     Filename, Video Ground Truth, Audio Ground Truth, Finetuning Set
        audio-metadata-publish.csv, audio-data/     (also the lists ending in -with-links.csv)

    A video has a truth for its picture and one for its sound: ``modality=face`` reads pictures and videos,
    ``modality=voice`` sound files and, with ``parts: [audio, video]``, the sound of videos. Items whose truth is
    unknown are left out and counted, as are rows whose name the published list lost. The finetuning set is the split.
    Generators are not known (``found online``): there is nothing to leave out by. Not every item shows a face or holds
    speech.

    Args:
        root: folder that holds the lists.
        modality: ``face`` or ``voice``.
        parts: some of ``image``, ``video`` and ``audio``; by default those of the modality.

    Raises:
        ConfigError: another modality, or a part that has no truth for it.
    """

    name = "deepfake_eval_2024"
    modality = "face"
    status = "unverified"
    version = "2025"
    licence = "CC BY-SA 4.0 with conditions (gated)"
    documented_at = (
        "Chandra et al., Deepfake-Eval-2024: A Multi-Modal In-the-Wild Benchmark, 2025, arXiv 2503.02857",
        "huggingface.co/datasets/nuriachandra/Deepfake-Eval-2024: README.md, *-metadata-publish.csv",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"image": 1_975}

    def __init__(
        self,
        *,
        root: str,
        modality: str = "face",
        parts: Sequence[str] | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.side = one_of(modality, MODALITIES, what=f"{self.name}: modality")
        self.parts = tuple(parts if parts is not None else _DEFAULT[self.side])
        for part in self.parts:
            one_of(part, PARTS, what=f"{self.name}: parts")
            if self.side not in PARTS[part][2]:
                raise ConfigError(
                    f"{self.name}: {part} has no truth for modality {self.side}",
                    hint="face: image and video; voice: audio and video",
                )

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Listed items that are there, by part."""
        for part in self.parts:
            folder, name, columns = PARTS[part]
            if not (self.root / name).is_file() and (self.root / name.replace(".csv", "-with-links.csv")).is_file():
                name = name.replace(".csv", "-with-links.csv")
            rows = self._rows(inventory, name, columns[self.side], part)
            found = inventory.files(folder)
            present = (
                inventory.expect([f"{folder}/{n}" for n in rows], found=found, what=f"{part} files") if rows else []
            )
            unknown = 0
            for path in present:
                label, split = rows[path[len(folder) + 1 :]]
                if label is None:
                    unknown += 1
                    continue
                yield self.sample(
                    path,
                    sample_id=f"{self.name}/{self.side}/{path}",
                    media=part,
                    modality=self.side,
                    label=label,
                    source_id=f"{self.name}/{path}",
                    generator="found online" if label == FAKE else "",
                    generator_family="unknown" if label == FAKE else "",
                    split=split,
                )
            inventory.count(f"{part} files of unknown truth (left out)", unknown, None)

    def _rows(self, inventory: Inventory, name: str, truth: str, part: str) -> dict[str, tuple[int | None, str]]:
        lines = inventory.lines(name)
        rows: dict[str, tuple[int | None, str]] = {}
        lost = 0
        for number, row in enumerate(csv.DictReader([line for _, line in lines]), start=2):
            if number == 2 and (missing := {"Filename", truth, "Finetuning Set"} - set(row)):
                inventory.unparsable(name, 1, f"no column {sorted(missing)[0]}; it has {list(row)}")
                return {}
            file = (row["Filename"] or "").strip()
            word = (row[truth] or "").strip().lower()
            split = _SPLITS.get((row["Finetuning Set"] or "").strip().lower(), "")
            if file == _LOST:
                lost += 1
            elif not file or word not in ("real", "fake", "unknown"):
                inventory.unparsable(name, number, f"{file!r} has truth {word!r}")
            elif file in rows:
                inventory.unparsable(name, number, f"{file} is listed twice")
            else:
                rows[file] = ({"real": REAL, "fake": FAKE}.get(word), split)
        inventory.count(f"{part} rows without a name, as published (left out)", lost, None)
        if lines:
            inventory.count(f"{part} rows", len(rows) + lost, self.published_counts.get(part))
        return rows
