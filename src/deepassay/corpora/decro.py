"""DECRO (Ba et al. 2023): bona fide and spoofed speech in English and Chinese, made with the same kinds of systems."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import (
    KEYS,
    PARENTS,
    Trial,
    attributes,
    by_name,
    count_classes,
    label_of,
    present,
    rows,
)
from deepassay.labels import FAKE
from deepassay.manifest import Sample

_SPLITS = {"train": "train", "dev": "dev", "eval": "test"}
_VC = ("starganv2", "nvcnet", "nvc-net")


class DECRO(PublicCorpus):
    """``{en,ch}_{train,dev,eval}`` with a list each: ``speaker file - system key``.

    The Chinese lists name the parent corpus of bona fide speech where ASVspoof has a dash. English bona fide speech is
    ASVspoof 2019 LA's, with its speaker ids: do not train on one and test on the other.

    Args:
        root: folder that holds the unpacked repository.
        languages: of ``en`` and ``ch``.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown language.
    """

    name: ClassVar[str] = "decro"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README of https://github.com/petrichorwq/DECRO-dataset (counts, lists, licence)",
        "Ba et al. 2023, Transferring audio deepfake detection capability across languages, WWW",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/DECRO.py (tree, Chinese list)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "en_train bona fide": 5129, "en_train spoofed": 17412,
        "en_dev bona fide": 3049, "en_dev spoofed": 10503,
        "en_eval bona fide": 4306, "en_eval spoofed": 14884,
        "ch_train bona fide": 9000, "ch_train spoofed": 17850,
        "ch_dev bona fide": 6109, "ch_dev spoofed": 12015,
        "ch_eval bona fide": 6109, "ch_eval spoofed": 12015,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        languages: Sequence[str] = ("en", "ch"),
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.languages = tuple(one_of(code, ("en", "ch"), what="decro: language") for code in languages)

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Files of the six lists (or of one language's three)."""
        found = inventory.files(suffixes=(".wav", ".txt"))
        for part in (f"{code}_{subset}" for code in self.languages for subset in _SPLITS):
            ending = f"{part}.txt"
            listing = next((p for p in found if p == ending or p.endswith(f"/{ending}")), ending)
            folder = PurePosixPath(listing).parent / part
            own = (p for p in found if p.endswith(".wav") and PurePosixPath(p).parent == folder)
            files = by_name(inventory, own, what=f"decro {part}")
            trials = list(self._trials(inventory, listing, part[:2]))
            count_classes(inventory, part, (t.label for t in trials), self.published_counts)
            expected = f"{folder}/{{}}.wav"
            for path, trial in present(inventory, trials, files, at=expected.format, what=f"decro {part}"):
                yield self.sample(path, label=trial.label, split=_SPLITS[part[3:]], **trial.values)

    def _trials(self, inventory: Inventory, listing: str, code: str) -> Iterable[Trial]:
        for line, (speaker, name, _, system, key) in rows(inventory, listing, 5):
            label = label_of(inventory, key, KEYS, listing, line)
            if label is None:
                continue
            fake = label == FAKE
            if fake and system == "-":
                inventory.unparsable(listing, line, "spoofed, yet of no system")
                continue
            if speaker in ("unknown", "-"):
                subjects: tuple[str, ...] = ()
            elif code == "en" or fake:
                subjects = (speaker,)
            else:
                subjects = (f"{system}/{speaker}",)
            parent = "" if fake else "VCTK" if code == "en" else PARENTS.get(system.lower(), system)
            family = "" if not fake else "VC" if system.lower().startswith(_VC) else "vocoder or TTS"
            yield Trial(
                name, label,
                {
                    "subjects": subjects, "generator": f"DECRO-{system}" if fake else "", "generator_family": family,
                    "attributes": attributes(language="zh" if code == "ch" else "en", parent=parent),
                },
            )  # fmt: skip
