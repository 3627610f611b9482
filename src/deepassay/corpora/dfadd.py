"""DFADD (Du et al. 2024): VCTK texts spoken by five diffusion and flow-matching synthesisers, one folder each."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

# Folder -> generator, family.
FOLDERS: Mapping[str, tuple[str, str]] = {
    "DATASET_VCTK_BONAFIDE": ("", ""),
    "DATASET_GradTTS": ("DFADD-GradTTS", "diffusion TTS"),
    "DATASET_NaturalSpeech2": ("DFADD-NaturalSpeech2", "diffusion TTS"),
    "DATASET_StyleTTS2": ("DFADD-StyleTTS2", "diffusion TTS"),
    "DATASET_MatchaTTS": ("DFADD-MatchaTTS", "flow-matching TTS"),
    "DATASET_PflowTTS": ("DFADD-PflowTTS", "flow-matching TTS"),
}
_SPLITS = {"train": "train", "valid": "dev", "test": "test"}
_PLACE = re.compile(
    rf"(?:.*/)?(?P<folder>{'|'.join(FOLDERS)})/(?P<part>train|valid|test)/"
    r"(?P<utterance>(?P<reader>p\d+|s5)_\d+)[^/]*\.(?:wav|flac)"
)


class DFADD(PublicCorpus):
    """``DATASET_<system>/{train,valid,test}/<VCTK utterance>...``; the VCTK utterance is the source of fake and real.

    Only the test part's numbers are published where this door could read them.
    """

    name: ClassVar[str] = "dfadd"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "MIT (as its repackagers state); bona fide: VCTK, CC BY 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://github.com/isjwdu/DFADD and https://huggingface.co/datasets/isjwdu/DFADD",
        "Du et al. 2024, DFADD: the diffusion and flow-matching based audio deepfake dataset, SLT (arXiv 2409.08731)",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/DFADD.py (tree, file names)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "DATASET_VCTK_BONAFIDE test": 755,
        **{f"{folder} test": 600 for folder in FOLDERS if folder != "DATASET_VCTK_BONAFIDE"},
    }

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Every sound file, labelled by its folder."""
        numbers: Counter[str] = Counter()
        for path in inventory.files(suffixes=(".wav", ".flac")):
            match = _PLACE.fullmatch(path)
            if match is None:
                inventory.problem("extra", f"dfadd: {path} is in no DATASET folder, or names no VCTK utterance")
                continue
            folder, part, utterance, reader = match.group("folder", "part", "utterance", "reader")
            numbers[f"{folder} {part}"] += 1
            generator, family = FOLDERS[folder]
            yield self.sample(
                path, label=FAKE if generator else REAL, split=_SPLITS[part], generator=generator,
                generator_family=family, subjects=(reader,), source_id=utterance,
                attributes={"language": "en", "parent": "VCTK"},
            )  # fmt: skip
        for folder in FOLDERS:
            for part in _SPLITS:
                what = f"{folder} {part}"
                if not numbers[what]:
                    inventory.problem("missing", f"dfadd: no file in {folder}/{part}")
                inventory.count(what, numbers[what], self.published_counts.get(what))
