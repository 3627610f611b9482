"""Corpora of genuine speech only, for fakes of one's own: LibriSpeech, LJSpeech, VCTK, AISHELL-3, Common Voice."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import GENDERS, attributes, bare, by_name, table
from deepassay.errors import ConfigError
from deepassay.labels import REAL
from deepassay.manifest import Sample


def _beside(listing: str, *parts: str) -> str:
    """A path beside a list, below its folder."""
    return PurePosixPath(PurePosixPath(listing).parent, *parts).as_posix()


class LibriSpeech(PublicCorpus):
    """LibriSpeech: read audio books of LibriVox; every chapter's transcript is the list of its utterances.

    The reader is the subject, the chapter the source. The published subsets have disjoint readers: train, dev, test.

    Args:
        root: folder that holds the unpacked archives (``LibriSpeech/`` or what is in it).
        subsets: names such as ``dev-clean``; null takes every subset that is there.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: a subset that does not exist.
    """

    name: ClassVar[str] = "librispeech"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README.TXT of the release (https://www.openslr.org/12)",
        "Panayotov et al. 2015, Librispeech: an ASR corpus based on public domain audio books, ICASSP",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "dev-clean": 2703, "dev-other": 2864, "test-clean": 2620, "test-other": 2939,
        "train-clean-100": 28539, "train-clean-360": 104014, "train-other-500": 148688,
    }  # fmt: skip
    # The paper's table 1, women and men together.
    published_readers: ClassVar[Mapping[str, int]] = {
        "dev-clean": 40, "dev-other": 33, "test-clean": 40, "test-other": 33,
        "train-clean-100": 251, "train-clean-360": 921, "train-other-500": 1166,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        subsets: Sequence[str] | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        known = tuple(LibriSpeech.published_counts)
        self.subsets = None if subsets is None else tuple(one_of(s, known, what="librispeech: subset") for s in subsets)

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Utterances of the transcripts, subset by subset."""
        found = inventory.files(suffixes=(".flac", ".txt"))
        known = tuple(LibriSpeech.published_counts)
        home = {p: next((part for part in PurePosixPath(p).parts if part in known), "") for p in found}
        subsets = self.subsets or tuple(s for s in known if s in set(home.values()))
        genders = self._genders(inventory, found)
        for subset in subsets:
            sounds = {p for p in found if home[p] == subset and p.endswith(".flac")}
            listed = []
            for path in found:
                if home[path] == subset and path.endswith(".trans.txt"):
                    listed += self._utterances(inventory, path)
            inventory.count(subset, len(sounds), self.published_counts.get(subset))
            readers = len({bare(path).split("-")[0] for path in sounds})
            inventory.count(f"{subset} readers", readers, self.published_readers.get(subset))
            for path in inventory.expect(listed, found=sounds, what=f"librispeech {subset}"):
                reader, chapter, _ = bare(path).split("-")
                yield self.sample(
                    path, label=REAL, split=subset.split("-")[0], subjects=(f"librispeech/{reader}",),
                    source_id=f"librispeech/{reader}/{chapter}",
                    attributes=attributes(
                        language="en", parent="LibriSpeech", subset=subset, gender=genders.get(reader)
                    ),
                )  # fmt: skip

    def _utterances(self, inventory: Inventory, transcript: str) -> list[str]:
        chapter = PurePosixPath(transcript).name.removesuffix(".trans.txt")
        out = []
        for line, text in inventory.lines(transcript):
            name = text.split()[0]
            if not re.fullmatch(re.escape(chapter) + r"-\d{4}", name):
                inventory.unparsable(transcript, line, f"{name!r} is no utterance of {chapter}")
                continue
            out.append(_beside(transcript, f"{name}.flac"))
        return out

    def _genders(self, inventory: Inventory, found: list[str]) -> dict[str, str]:
        listing = next((p for p in found if PurePosixPath(p).name == "SPEAKERS.TXT"), "LibriSpeech/SPEAKERS.TXT")
        out = {}
        for line, text in inventory.lines(listing):
            if text.startswith(";"):
                continue
            cells = [c.strip() for c in text.split("|")]
            if len(cells) < 5 or cells[1].lower() not in GENDERS:
                inventory.unparsable(listing, line, "expected READER | SEX | SUBSET | MINUTES | NAME")
                continue
            out[cells[0]] = GENDERS[cells[1].lower()]
        return out


class LJSpeech(PublicCorpus):
    """LJSpeech 1.1: one reader, 13,100 clips listed in ``metadata.csv``; many spoof sets resynthesise them."""

    name: ClassVar[str] = "ljspeech"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "1.1"
    licence: ClassVar[str] = "public domain"
    documented_at: ClassVar[tuple[str, ...]] = ("README of the release (https://keithito.com/LJ-Speech-Dataset)",)
    published_counts: ClassVar[Mapping[str, int]] = {"clips": 13100}

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Clips of ``metadata.csv``, whose lines begin with the clip's id and a bar."""
        found = inventory.files(suffixes=(".wav", ".csv"))
        meta = next((p for p in found if PurePosixPath(p).name == "metadata.csv"), "LJSpeech-1.1/metadata.csv")
        listed = []
        for line, text in inventory.lines(meta):
            name = text.split("|")[0]
            if not re.fullmatch(r"LJ\d{3}-\d{4}", name):
                inventory.unparsable(meta, line, f"{name!r} is no clip id")
                continue
            listed.append(_beside(meta, "wavs", f"{name}.wav"))
        inventory.count("clips", len(listed), self.published_counts.get("clips"))
        folder = _beside(meta, "wavs") + "/"
        sounds = {p for p in found if p.endswith(".wav") and p.startswith(folder)}
        for path in inventory.expect(listed, found=sounds, what="ljspeech"):
            yield self.sample(
                path, label=REAL, subjects=("LJ",), source_id=bare(path),
                attributes={"language": "en", "parent": "LJSpeech", "gender": "female"},
            )  # fmt: skip


class VCTK(PublicCorpus):
    """CSTR VCTK: 110 readers of English; the parent of ASVspoof 2019, DFADD, CodecFake and many synthesisers.

    Args:
        root: folder that holds the unpacked archive.
        release: ``0.92`` (silence trimmed, two microphones) or ``0.80`` (``wav48``).
        microphone: of 0.92: ``mic1`` or ``mic2`` (which two readers lack).
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown release or microphone.
    """

    name: ClassVar[str] = "vctk"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README of the release (https://datashare.ed.ac.uk/handle/10283/3443)",
        "Yamagishi et al. 2019, CSTR VCTK corpus: English multi-speaker corpus for CSTR voice cloning toolkit",
        "https://www.tensorflow.org/datasets/catalog/vctk (p280 and p315 lack the second microphone)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "0.92 mic1 readers": 110, "0.92 mic2 readers": 108, "0.80 readers": 109,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        release: str = "0.92",
        microphone: str = "mic1",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.release = one_of(release, ("0.92", "0.80"), what="vctk: release")
        self.microphone = one_of(microphone, ("mic1", "mic2"), what="vctk: microphone")

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Sound files by reader, with what ``speaker-info.txt`` says of the reader."""
        newer = self.release == "0.92"
        found = inventory.files(suffixes=(".flac", ".wav", ".txt"))
        about = self._readers(inventory, found)
        folder = "wav48_silence_trimmed" if newer else "wav48"
        ending = rf"_{self.microphone}\.flac" if newer else r"\.wav"
        pattern = re.compile(rf"(?:.*/)?{folder}/(?P<reader>p\d+|s5)/(?P<utterance>(?:p\d+|s5)_\d{{3}}){ending}")
        readers = set()
        for path in found:
            if f"{folder}/" not in path or path.endswith(".txt"):
                continue
            match = pattern.fullmatch(path)
            if match is None:
                if not newer or not re.search(r"_mic[12]\.flac$", path):
                    inventory.problem("extra", f"vctk: {path} is no {folder} file of release {self.release}")
                continue
            reader, utterance = match.group("reader", "utterance")
            if not utterance.startswith(f"{reader}_"):
                inventory.problem("extra", f"vctk: {path} lies in another reader's folder")
                continue
            readers.add(reader)
            yield self.sample(
                path, label=REAL, subjects=(reader,), source_id=utterance,
                channel=self.microphone if newer else "",
                attributes={"language": "en", "parent": "VCTK", **about.get(reader, {})},
            )  # fmt: skip
        what = f"{self.release} {self.microphone} readers" if newer else f"{self.release} readers"
        inventory.count(what, len(readers), self.published_counts.get(what))

    def _readers(self, inventory: Inventory, found: list[str]) -> dict[str, dict[str, str]]:
        listing = next((p for p in found if PurePosixPath(p).name == "speaker-info.txt"), "speaker-info.txt")
        out = {}
        for line, text in inventory.lines(listing):
            cells = text.split()
            if cells[0] == "ID":
                continue
            if len(cells) < 4 or cells[2].lower() not in GENDERS:
                inventory.unparsable(listing, line, "expected ID AGE GENDER ACCENT REGION")
                continue
            reader = cells[0] if cells[0][0] in "ps" else f"p{cells[0]}"
            out[reader] = attributes(age=cells[1], gender=GENDERS[cells[2].lower()], accent=cells[3])
        return out


class AISHELL3(PublicCorpus):
    """AISHELL-3: 218 readers of Mandarin, listed in ``content.txt``; the parent of CFAD, ADD 2023 and Codecfake."""

    name: ClassVar[str] = "aishell3"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "Apache-2.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "ReadMe.txt of the release (https://www.openslr.org/93)",
        "Shi et al. 2021, AISHELL-3: a multi-speaker Mandarin TTS corpus, Interspeech",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"utterances": 88035, "readers": 218}

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Utterances of both parts' ``content.txt``."""
        found = inventory.files(suffixes=(".wav", ".txt"))
        about = self._readers(inventory, found)
        readers: set[str] = set()
        total = 0
        for part in ("train", "test"):
            ending = f"{part}/content.txt"
            content = next((p for p in found if p == ending or p.endswith(f"/{ending}")), ending)
            folder = _beside(content, "wav")
            listed = []
            for line, text in inventory.lines(content):
                name = text.split()[0]
                if not re.fullmatch(r"SSB\d{8}\.wav", name):
                    inventory.unparsable(content, line, f"{name!r} is no utterance")
                    continue
                listed.append(f"{folder}/{name[:7]}/{name}")
            total += len(listed)
            sounds = {p for p in found if p.endswith(".wav") and p.startswith(f"{folder}/")}
            for path in inventory.expect(listed, found=sounds, what=f"aishell3 {part}"):
                reader = bare(path)[:7]
                readers.add(reader)
                yield self.sample(
                    path, label=REAL, split=part, subjects=(reader,), source_id=bare(path),
                    attributes={"language": "zh", "parent": "AISHELL-3", **about.get(reader, {})},
                )  # fmt: skip
        inventory.count("utterances", total, self.published_counts.get("utterances"))
        inventory.count("readers", len(readers), self.published_counts.get("readers"))

    def _readers(self, inventory: Inventory, found: list[str]) -> dict[str, dict[str, str]]:
        listing = next((p for p in found if PurePosixPath(p).name == "spk-info.txt"), "spk-info.txt")
        ages = {"A": "under 14", "B": "14-25", "C": "26-40", "D": "over 41"}
        out = {}
        for line, text in inventory.lines(listing):
            cells = text.split()
            if cells[0].startswith("#"):
                continue
            if len(cells) != 4 or cells[1] not in ages or cells[2].lower() not in GENDERS:
                inventory.unparsable(listing, line, "expected READER AGE-GROUP GENDER ACCENT")
                continue
            out[cells[0]] = {"age_band": ages[cells[1]], "gender": GENDERS[cells[2].lower()], "accent": cells[3]}
        return out


class CommonVoice(PublicCorpus):
    """Mozilla Common Voice, one language of one release: crowd-sourced clips, listed by split with their speakers.

    Args:
        root: folder that holds the unpacked release.
        language: its folder's name, such as ``en`` or ``zh-CN``.
        lists: of ``train``, ``dev``, ``test`` (its official, speaker-disjoint split) and ``validated``, which holds
            more speakers and gives no split.
        version: of the release, for the record (``cv-corpus-21.0-2025-03-14``, say).
        allow_partial: go on with a copy that differs from its lists; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown list, or ``validated`` together with the others (which it repeats).
    """

    name: ClassVar[str] = "common_voice"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC0-1.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://github.com/common-voice/cv-dataset (columns of the lists, releases)",
        "Ardila et al. 2020, Common Voice: a massively-multilingual speech corpus, LREC",
    )

    def __init__(
        self,
        *,
        root: str,
        language: str,
        lists: Sequence[str] = ("train", "dev", "test"),
        version: str = "",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        known = ("train", "dev", "test", "validated")
        self.lists = tuple(one_of(name, known, what="common_voice: list") for name in lists)
        if not self.lists or ("validated" in self.lists and len(self.lists) > 1):
            raise ConfigError(
                f"common_voice: lists is {list(lists)}", hint="use [train, dev, test], or [validated] alone"
            )
        self.language = language
        self.release = version

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Clips of the chosen lists; clips that only other lists name are no surprise."""
        found = inventory.files(suffixes=(".mp3", ".wav", ".flac", ".tsv"))
        for name in self.lists:
            ending = f"{self.language}/{name}.tsv"
            listing = next((p for p in found if p == ending or p.endswith(f"/{ending}") or p == f"{name}.tsv"), ending)
            folder = _beside(listing, "clips")
            clips = by_name(
                inventory, (p for p in found if not p.endswith(".tsv") and p.startswith(f"{folder}/")),
                what="common_voice clips",
            )  # fmt: skip
            listed: dict[str, dict[str, str]] = {}
            needed = ("client_id", "path", "sentence")
            for line, row in table(inventory, listing, needed, delimiter="\t", quoted=False):
                stem = bare(row["path"])
                if not stem or not row["client_id"]:
                    inventory.unparsable(listing, line, "no path or no client_id")
                    continue
                listed[clips.get(stem, f"{folder}/{row['path']}")] = row
            wanted = set(listed)
            there = inventory.expect(
                list(listed), found={p for p in clips.values() if p in wanted}, what=f"common_voice {name}"
            )
            inventory.count(f"{self.language} {name}", len(listed), None)
            for path in there:
                row = listed[path]
                gender = row.get("gender", "").lower().replace("_masculine", "").replace("_feminine", "")
                yield self.sample(
                    path, label=REAL, split="" if name == "validated" else name, subjects=(row["client_id"],),
                    attributes=attributes(
                        language=row.get("locale") or self.language, parent="Common Voice", age=row.get("age"),
                        gender=GENDERS.get(gender, gender), accent=row.get("accents") or row.get("accent"),
                        release=self.release,
                    ),
                )  # fmt: skip
