"""Fake-or-Real (Reimao and Tzerpos 2019): read and synthesised English, in four releases of one collection."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

# Folder names as in the archives and in the copies that circulate.
RELEASES: Mapping[str, tuple[str, ...]] = {
    "original": ("for-original",),
    "norm": ("for-norm",),
    "2sec": ("for-2sec", "for-2seconds"),
    "rerec": ("for-rerec", "for-rerecorded"),
}
_SPLITS = {"training": "train", "validation": "dev", "testing": "test"}
_PLACE = re.compile(r"(?P<lead>(?:.*/)?)(?P<part>training|validation|testing)/(?P<kind>real|fake)/[^/]+", re.IGNORECASE)


class FakeOrReal(PublicCorpus):
    """``<release>/{training,validation,testing}/{real,fake}``; file names tell neither speaker nor synthesiser.

    The four releases hold the same recordings, so they must not be mixed: one is read. The testing part has other
    voices than the rest (by its paper); no list of speakers is published, so every file is its own cluster here and
    intervals come out too narrow.

    Args:
        root: folder that holds the unpacked release (or is it).
        release: ``original``, ``norm`` (balanced, 16 kHz), ``2sec`` (cut to two seconds) or ``rerec`` (re-recorded).
        allow_partial: go on with a copy in which a part is empty; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown release.
    """

    name: ClassVar[str] = "fake_or_real"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "not stated on its page: ask the authors"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://bil.eecs.yorku.ca/datasets",
        "Reimao and Tzerpos 2019, FoR: a dataset for synthetic speech detection, SpeD",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/FakeOrReal.py (tree)",
    )

    def __init__(
        self,
        *,
        root: str,
        release: str = "norm",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.release = one_of(release, tuple(RELEASES), what="fake_or_real: release")

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Every sound file of the release, labelled by its folder."""
        numbers: Counter[str] = Counter()
        names = RELEASES[self.release]
        for path in inventory.files(suffixes=(".wav", ".mp3")):
            match = _PLACE.fullmatch(path)
            lead = [p for p in match.group("lead").split("/") if p] if match else []
            if match is None or (lead and lead[-1] not in names):
                if match is None and any(part in names for part in path.split("/")):
                    inventory.problem("extra", f"fake_or_real: {path} is in no part")
                continue
            part, kind = match.group("part").lower(), match.group("kind").lower()
            numbers[f"{part}/{kind}"] += 1
            fake = kind == "fake"
            yield self.sample(
                path, label=FAKE if fake else REAL, split=_SPLITS[part], generator="FoR-unnamed" if fake else "",
                generator_family="TTS" if fake else "", channel="re-recorded" if self.release == "rerec" else "",
                attributes={"language": "en", "release": self.release},
            )  # fmt: skip
        for part in _SPLITS:
            for kind in ("real", "fake"):
                what = f"{part}/{kind}"
                if not numbers[what]:
                    inventory.problem("missing", f"fake_or_real {self.release}: no sound file in {names[0]}/{what}")
                inventory.count(what, numbers[what], self.published_counts.get(what))
