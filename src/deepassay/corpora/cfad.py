"""CFAD (Ma et al. 2024): Chinese fake audio in a clean, a noisy and a transcoded version, labelled by folder."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import PARENTS, attributes
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_PLACE = re.compile(
    r"(?:.*/)?(?P<version>clean|codec|noisy)_version/(?P<part>train|dev|test_seen|test_unseen)_[a-z]+/"
    r"(?P<kind>fake|real)_[a-z]+/(?P<origin>[^/]+)/(?P<name>[^/]+)\.wav"
)
# AISHELL-3 and AISHELL-1 name reader and utterance; the other parents' names are kept whole.
_READER = re.compile(r"(?P<utterance>(?P<reader>SSB\d{4})\d{4}|BAC009(?P<reader1>S\d{4})W\d{4})")
_SPLITS = {"train": "train", "dev": "dev", "test_seen": "test", "test_unseen": "test"}


class CFAD(PublicCorpus):
    """``{clean,codec,noisy}_version/{train,dev,test_seen,test_unseen}_*/{fake,real}_*/<method or parent>/*.wav``.

    The three versions hold the same utterances, so they share sources: mixing them is augmentation, not more data.
    ``test_unseen`` has methods that training has not; attribute ``part`` tells the two tests apart.

    Args:
        root: folder that holds the unpacked versions.
        version: ``clean``, ``codec``, ``noisy`` or ``all``.
        allow_partial: go on with a copy in which a part is empty; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown version.
    """

    name: ClassVar[str] = "cfad"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "as stated on its Zenodo record (not established here)"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://github.com/ADDchallenge/CFAD and https://zenodo.org/records/6635521",
        "Ma et al. 2024, CFAD: a Chinese dataset for fake audio detection, Speech Communication",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/CFAD.py (tree)",
    )

    def __init__(
        self,
        *,
        root: str,
        version: str = "clean",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.versions = (
            ("clean", "codec", "noisy")
            if one_of(version, ("clean", "codec", "noisy", "all"), what="cfad: version") == "all"
            else (version,)
        )

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Every file of the chosen versions, labelled by its folder."""
        numbers: Counter[str] = Counter()
        for path in inventory.files(suffixes=(".wav",)):
            match = _PLACE.fullmatch(path)
            if match is None:
                inventory.problem("extra", f"cfad: {path} is in no part of any version")
                continue
            version, part, kind, origin, name = match.group("version", "part", "kind", "origin", "name")
            if version not in self.versions:
                continue
            numbers[f"{version} {part} {kind}"] += 1
            read = _READER.match(name)
            reader = (read.group("reader") or f"aishell1/{read.group('reader1')}") if read else ""
            fake = kind == "fake"
            yield self.sample(
                path, label=FAKE if fake else REAL, split=_SPLITS[part],
                generator=f"CFAD-{origin}" if fake else "", generator_family="vocoder or TTS" if fake else "",
                subjects=(reader,) if reader else (),
                source_id=read.group("utterance") if read else "" if fake else f"cfad/{origin}/{name.split('_')[0]}",
                channel="" if version == "clean" else version,
                attributes=attributes(
                    language="zh", version=version, part=part, parent="" if fake else PARENTS.get(origin, origin),
                    codec=name.rsplit("_", 1)[-1] if version == "codec" and "_" in name else "",
                ),
            )  # fmt: skip
        for version in self.versions:
            for part in _SPLITS:
                for kind in ("real", "fake"):
                    what = f"{version} {part} {kind}"
                    if not numbers[what]:
                        inventory.problem("missing", f"cfad: no file in {version}_version, {part}, {kind}")
                    inventory.count(what, numbers[what], self.published_counts.get(what))
