"""SpoofCeleb (Jung et al. 2025): VoxCeleb1 speech and 23 synthesisers trained on it, listed by part."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.corpora.voice_lists import Trial, attributes, count_classes, present, table
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_SPLITS = {"train": "train", "development": "dev", "evaluation": "test"}
_VIDEO = re.compile(r"(?P<video>.{11})-\d{5}(?:-\d+)?")


class SpoofCeleb(PublicCorpus):
    """``metadata/<part>.csv`` (file, speaker, attack) against ``flac/<part>``; attack ``a00`` is bona fide."""

    name: ClassVar[str] = "spoofceleb"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY 4.0 (label of its Hugging Face page); built on VoxCeleb1"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://huggingface.co/datasets/jungjee/spoofceleb",
        "Jung et al. 2025, SpoofCeleb: speech deepfake detection and SASV in the wild, IEEE OJSP (arXiv 2409.17285)",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/SpoofCeleb.py (tree, lists)",
    )

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Files of the three lists."""
        found = inventory.files(suffixes=(".flac", ".csv"))
        for part, split in _SPLITS.items():
            ending = f"metadata/{part}.csv"
            listing = next((p for p in found if p == ending or p.endswith(f"/{ending}")), f"spoofceleb/{ending}")
            folder = f"{PurePosixPath(listing).parent.parent.as_posix()}/flac/{part}".removeprefix("./")
            files = {p.removeprefix(f"{folder}/"): p for p in found if p.startswith(f"{folder}/")}
            trials = list(self._trials(inventory, listing))
            count_classes(inventory, part, (t.label for t in trials), self.published_counts)
            expected = f"{folder}/{{}}"
            for path, trial in present(inventory, trials, files, at=expected.format, what=f"spoofceleb {part}"):
                yield self.sample(path, label=trial.label, split=split, **trial.values)

    def _trials(self, inventory: Inventory, listing: str) -> Iterable[Trial]:
        for line, row in table(inventory, listing, ("file", "speaker", "attack")):
            attack = row["attack"]
            if re.fullmatch(r"a\d{2}", attack) is None:
                inventory.unparsable(listing, line, f"attack {attack!r} is none of a00, a01 ...")
                continue
            if row["file"].split("/")[0] != attack or not row["speaker"]:
                inventory.unparsable(listing, line, f"{row['file']} lies in another attack's folder, or no speaker")
                continue
            real = attack == "a00"
            values: Mapping[str, object] = {
                "subjects": (f"voxceleb1/{row['speaker']}",),
                "generator": "" if real else f"SpoofCeleb-{attack}",
                "generator_family": "" if real else "TTS",
                "source_id": self._source(row["file"]) if real else "",
                "attributes": attributes(parent="VoxCeleb1", attack="" if real else attack),
            }
            yield Trial(row["file"], REAL if real else FAKE, values)

    def _source(self, file: str) -> str:
        match = _VIDEO.fullmatch(PurePosixPath(file).stem)
        return f"voxceleb1/{match.group('video')}" if match else ""
