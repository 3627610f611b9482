"""ASVspoof 2019 (LA, PA), 2021 (LA, DF) and 5: protocols and keys, with their words translated at this door.

All of them say ``bonafide`` and ``spoof``, and their tools score bona fide high; here a sample is REAL or FAKE. Speaker
ids stay as published (``LA_0001``, ``T_0001``), so that what 2021 took over from 2019 keeps its speakers. Attack ids
repeat between 2019 and 5 for different systems, so a generator is named with its database: ``ASVspoof2019-A07``.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import (
    GENDERS,
    KEYS,
    Trial,
    attack_of,
    attributes,
    bare,
    by_name,
    count_classes,
    label_of,
    present,
    rows,
)
from deepassay.errors import ConfigError
from deepassay.manifest import Sample

# Family and waveform generator of every attack: Wang et al. 2020, the table of spoofing systems.
ATTACKS_2019: Mapping[str, tuple[str, str]] = {
    "A01": ("TTS", "neural waveform model"),
    "A02": ("TTS", "vocoder"),
    "A03": ("TTS", "vocoder"),
    "A04": ("TTS", "waveform concatenation"),
    "A05": ("VC", "vocoder"),
    "A06": ("VC", "spectral filtering"),
    "A07": ("TTS", "vocoder and GAN"),
    "A08": ("TTS", "neural waveform model"),
    "A09": ("TTS", "vocoder"),
    "A10": ("TTS", "neural waveform model"),
    "A11": ("TTS", "Griffin-Lim"),
    "A12": ("TTS", "neural waveform model"),
    "A13": ("TTS-VC", "waveform concatenation and filtering"),
    "A14": ("TTS-VC", "vocoder"),
    "A15": ("TTS-VC", "neural waveform model"),
    "A16": ("TTS", "waveform concatenation"),
    "A17": ("VC", "waveform filtering"),
    "A18": ("VC", "vocoder"),
    "A19": ("VC", "spectral filtering"),
}

# Wang et al. 2025, the table of attacks: A01-A08 train, A09-A16 dev, A17-A32 eval; seven are filtered adversarially.
ATTACKS_5: Mapping[str, str] = {
    **{f"A{n:02d}": "TTS" for n in (*range(1, 13), 14, 17, 19, 21, 22, 28, 29)},
    **{f"A{n:02d}": "VC" for n in (13, 15, 16, 24, 25, 26)},
    **{f"A{n:02d}": "adversarial TTS" for n in (18, 20, 23, 30, 31)},
    **{f"A{n:02d}": "adversarial VC" for n in (27, 32)},
}

# ASVspoof5.codec.config.csv of the release; "-" is the uncoded part.
CODECS_5: Mapping[str, str] = {
    "C01": "opus wide band",
    "C02": "amr wide band",
    "C03": "speex wide band",
    "C04": "encodec wide band",
    "C05": "mp3 wide band",
    "C06": "m4a wide band",
    "C07": "mp3 and encodec wide band",
    "C08": "opus narrow band",
    "C09": "amr narrow band",
    "C10": "speex narrow band",
    "C11": "device and channel",
}

Subset = Literal["train", "dev", "eval"]
SPLITS: Mapping[str, str] = {"train": "train", "dev": "dev", "eval": "test"}
_KEY_SUBSETS = ("progress", "eval", "hidden")


class _WithSubsets(PublicCorpus):
    """A database whose parts are published apart.

    Args:
        root: folder that holds the unpacked archives; where below it they lie does not matter.
        subsets: parts to index; the others need not be there.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: no subset, or one that the database does not have.
    """

    all_subsets: ClassVar[tuple[str, ...]] = tuple(SPLITS)

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
        chosen = self.all_subsets if subsets is None else tuple(subsets)
        if not chosen:
            raise ConfigError(f"{self.name}: subsets is empty", hint=f"name some of {list(self.all_subsets)}")
        self.subsets = tuple(one_of(s, self.all_subsets, what=f"{self.name}: subset") for s in chosen)

    def published(self, what: str) -> int | None:
        """The published number of something, where there is one."""
        return self.published_counts.get(what)


def _enrolled(inventory: Inventory, lists: Iterable[str]) -> set[str]:
    """Bare names of the files that enrol speakers: ``speaker id,id,...``; they are no trials."""
    out: set[str] = set()
    for path in lists:
        for _, cells in rows(inventory, path, 2):
            out.update(cells[1].split(","))
    return out


class _ASVspoof2019(_WithSubsets):
    """What LA and PA of 2019 have in common: ``speaker trial environment attack key`` in ``*_cm_protocols``."""

    scenario: ClassVar[str]
    modality: ClassVar[Literal["voice"]] = "voice"
    version: ClassVar[str] = "2019"
    licence: ClassVar[str] = "ODC-By 1.0"

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Trials of the countermeasure protocols; enrolment files of the speaker verification part are set aside."""
        found = inventory.files(suffixes=(".flac", ".txt"))
        lists = {PurePosixPath(p).name: p for p in found if p.endswith(".txt")}
        sounds = by_name(inventory, (p for p in found if p.endswith(".flac")), what=f"{self.name} flac files")
        for subset in self.subsets:
            yield from self._subset(inventory, subset, lists, sounds)

    def _subset(
        self, inventory: Inventory, subset: str, lists: Mapping[str, str], sounds: Mapping[str, str]
    ) -> Iterable[Sample]:
        scenario, what = self.scenario, f"{self.name} {subset}"
        ending = "trn" if subset == "train" else "trl"
        name = f"ASVspoof2019.{scenario}.cm.{subset}.{ending}.txt"
        protocol = lists.get(name, f"ASVspoof2019_{scenario}_cm_protocols/{name}")
        trials = list(self._trials(inventory, protocol))
        count_classes(inventory, subset, (t.label for t in trials), self.published_counts)
        speakers = {t.values["subjects"] for t in trials}
        generators = {t.values["generator"] for t in trials} - {""}
        inventory.count(f"{subset} speakers", len(speakers), self.published(f"{subset} speakers"))
        inventory.count(f"{subset} attacks", len(generators), self.published(f"{subset} attacks"))

        own = {k: v for k, v in sounds.items() if k.startswith(f"{scenario}_{subset[0].upper()}_")}
        folder = f"ASVspoof2019_{scenario}_{subset}/flac"
        start = f"ASVspoof2019.{scenario}.asv.{subset}."
        enrolment = [p for n, p in lists.items() if n.startswith(start) and n.endswith("male.trn.txt")]
        enrolled = _enrolled(inventory, sorted(enrolment))
        inventory.expect(
            [own.get(n) or f"{folder}/{n}.flac" for n in sorted(enrolled)],
            found={own[n] for n in enrolled if n in own}, what=f"{what} enrolment",
        )  # fmt: skip
        rest = {n: p for n, p in own.items() if n not in enrolled}
        for path, trial in present(inventory, trials, rest, at=lambda n: f"{folder}/{n}.flac", what=what):
            yield self.sample(path, label=trial.label, split=SPLITS[subset], **trial.values)

    def _trials(self, inventory: Inventory, protocol: str) -> Iterable[Trial]:
        for line, (speaker, name, environment, word, key) in rows(inventory, protocol, 5):
            label = label_of(inventory, key, KEYS, protocol, line)
            if label is None:
                continue
            attack = attack_of(inventory, label, word, protocol, line)
            described = None if attack is None else self._attack(attack)
            if described is None:
                if attack is not None:
                    inventory.unparsable(protocol, line, f"unknown attack {attack!r}")
                continue
            yield Trial(
                name,
                label,
                {
                    "subjects": (speaker,),
                    "channel": "" if environment == "-" else environment,
                    "generator": f"ASVspoof2019-{self._prefix}{attack}" if attack else "",
                    **described,
                },
            )

    _prefix: ClassVar[str] = ""

    def _attack(self, attack: str) -> dict[str, Any] | None:
        """``generator_family`` and ``attributes`` of an attack id ("" for bona fide); None where there is no such."""
        raise NotImplementedError


class ASVspoof2019LA(_ASVspoof2019):
    """ASVspoof 2019 logical access: TTS and VC attacks A01-A19 on VCTK speakers."""

    name: ClassVar[str] = "asvspoof2019_la"
    scenario: ClassVar[str] = "LA"
    status: ClassVar[Literal["verified", "unverified"]] = "verified"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README.LA.txt of the release (https://datashare.ed.ac.uk/handle/10283/3336)",
        "Wang et al. 2020, ASVspoof 2019: a large-scale public database, Computer Speech and Language 64",
        "verified against the evaluation protocol's 71,237 trials; train and dev against the lists that "
        "github.com/TakHemlata/SSL_Anti-spoofing carries (25,380 and 24,844 lines)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        # Ten of the 20 speakers of dev are never spoofed.
        "train bona fide": 2580, "train spoofed": 22800, "train speakers": 20, "train attacks": 6,
        "dev bona fide": 2548, "dev spoofed": 22296, "dev speakers": 20, "dev attacks": 6,
        "eval bona fide": 7355, "eval spoofed": 63882, "eval speakers": 67, "eval attacks": 13,
    }  # fmt: skip

    def _attack(self, attack: str) -> dict[str, Any] | None:
        if not attack:
            return {"attributes": {"language": "en", "parent": "VCTK"}}
        if attack not in ATTACKS_2019:
            return None
        family, waveform = ATTACKS_2019[attack]
        return {
            "generator_family": family,
            "attributes": {"language": "en", "parent": "VCTK", "attack": attack, "waveform_generator": waveform},
        }


class ASVspoof2019PA(_ASVspoof2019):
    """ASVspoof 2019 physical access: simulated replay, attacks AA-CC (attacker's distance, device quality)."""

    name: ClassVar[str] = "asvspoof2019_pa"
    scenario: ClassVar[str] = "PA"
    _prefix: ClassVar[str] = "PA-"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README.PA.txt of the release (https://datashare.ed.ac.uk/handle/10283/3336)",
        "Todisco et al. 2019, ASVspoof 2019: future horizons in spoofed and fake audio detection, Interspeech",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "train bona fide": 5400, "train spoofed": 48600,
        "dev bona fide": 5400, "dev spoofed": 24300,
        "eval bona fide": 18090, "eval spoofed": 116640, "train attacks": 9, "dev attacks": 9, "eval attacks": 9,
    }  # fmt: skip

    def _attack(self, attack: str) -> dict[str, Any] | None:
        if not attack:
            return {"attributes": {"language": "en", "parent": "VCTK"}}
        if len(attack) != 2 or not set(attack) <= set("ABC"):
            return None
        distance = {"A": "10-50 cm", "B": "50-100 cm", "C": "over 100 cm"}[attack[0]]
        quality = {"A": "perfect", "B": "high", "C": "low"}[attack[1]]
        return {
            "generator_family": "replay",
            "attributes": {
                "language": "en",
                "parent": "VCTK",
                "attack": attack,
                "attacker_to_talker": distance,
                "replay_device": quality,
            },
        }


class _ASVspoof2021(_WithSubsets):
    """What LA and DF of 2021 have in common: audio from one archive, labels from the keys that came a year later.

    Subset ``eval`` becomes the test split; ``progress`` and ``hidden`` get none, because they share speakers with it:
    nothing may be tuned on them and then reported on ``eval``.

    Args:
        root: folder that holds the unpacked archives (the four DF parts may lie side by side) and the keys.
        subsets: of ``progress``, ``eval`` and ``hidden``; files of the others are then no surprise.
        keys: ``trial_metadata.txt`` of the countermeasures, below the root or absolute; by default it is looked for.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: no subset, or one that the keys do not have.
    """

    track: ClassVar[str]
    columns: ClassVar[int]
    modality: ClassVar[Literal["voice"]] = "voice"
    version: ClassVar[str] = "2021, keys of 2022"
    all_subsets: ClassVar[tuple[str, ...]] = _KEY_SUBSETS

    def __init__(
        self,
        *,
        root: str,
        subsets: Sequence[str] | None = None,
        keys: str | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(
            root=root, subsets=subsets, allow_partial=allow_partial, progress=progress, hash_files=hash_files,
            probe=probe,
        )  # fmt: skip
        self.keys = keys

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Trials of the chosen subsets of the key."""
        found = inventory.files(suffixes=(".flac", ".txt"))
        letters = f"{self.track}_E_"
        sounds = by_name(
            inventory, (p for p in found if p.endswith(".flac") and bare(p).startswith(letters)),
            what=f"{self.name} flac files",
        )  # fmt: skip
        key = self.keys or self._key(inventory, found)
        trials = list(self._trials(inventory, key))
        count_classes(inventory, "all", (t.label for t in trials), self.published_counts)
        chosen = []
        for subset in self.subsets:
            part = [t for t in trials if t.values["attributes"]["subset"] == subset]
            count_classes(inventory, subset, (t.label for t in part), self.published_counts)
            chosen += part
        others = {t.name for t in trials} - {t.name for t in chosen}
        rest = {n: p for n, p in sounds.items() if n not in others}
        folder = f"ASVspoof2021_{self.track}_eval/flac"
        for path, trial in present(inventory, chosen, rest, at=lambda n: f"{folder}/{n}.flac", what=self.name):
            split = "test" if trial.values["attributes"]["subset"] == "eval" else ""
            yield self.sample(path, label=trial.label, split=split, **trial.values)

    def _key(self, inventory: Inventory, found: Iterable[str]) -> str:
        """The countermeasures' key of this track: by folder name, else the one with this track's columns."""
        metadata = [p for p in found if PurePosixPath(p).name == "trial_metadata.txt"]
        exact = [p for p in metadata if PurePosixPath(p).parts[-3:-1] == (self.track, "CM")]
        usual = exact or [p for p in metadata if PurePosixPath(p).parent.name == "CM"] or metadata
        for path in usual:
            first = inventory.lines(path)[:1]
            if first and len(first[0][1].split()) == self.columns and f"{self.track}_E_" in first[0][1]:
                return path
        return f"keys/{self.track}/CM/trial_metadata.txt"

    def _trials(self, inventory: Inventory, key: str) -> Iterable[Trial]:
        for line, cells in rows(inventory, key, self.columns):
            label = label_of(inventory, cells[5], KEYS, key, line)
            if label is None:
                continue
            if cells[7] not in _KEY_SUBSETS:
                inventory.unparsable(key, line, f"subset {cells[7]!r} is none of {list(_KEY_SUBSETS)}")
                continue
            attack = attack_of(inventory, label, cells[4], key, line)
            described = None if attack is None else self._described(attack, cells)
            if described is None:
                if attack is not None:
                    inventory.unparsable(key, line, f"unknown attack {attack!r} of {cells[3]}")
                continue
            yield Trial(cells[1], label, {"subjects": (cells[0],), **described})

    def _described(self, attack: str, cells: list[str]) -> dict[str, Any] | None:
        """Generator, family, channel and attributes of a line; None where there is no such attack."""
        raise NotImplementedError


class ASVspoof2021LA(_ASVspoof2021):
    """ASVspoof 2021 logical access: the 2019 evaluation attacks A07-A19 through telephony codecs and lines."""

    name: ClassVar[str] = "asvspoof2021_la"
    track: ClassVar[str] = "LA"
    columns: ClassVar[int] = 8
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "ODC-By 1.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README.LA.txt of the release (https://zenodo.org/records/4837263)",
        "eval-package of https://github.com/asvspoof-challenge/2021 (config.py names the columns of the keys)",
        "Liu et al. 2023, ASVspoof 2021: towards spoofed and deepfake speech detection in the wild, IEEE/ACM TASLP",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "all bona fide": 18452, "all spoofed": 163114, "eval bona fide": 14816, "eval spoofed": 133360,
    }  # fmt: skip

    def _described(self, attack: str, cells: list[str]) -> dict[str, Any] | None:
        if attack and attack not in ATTACKS_2019:
            return None
        family, waveform = ATTACKS_2019.get(attack, ("", ""))
        codec = "" if cells[2] == "none" else cells[2]
        return {
            "generator": f"ASVspoof2019-{attack}" if attack else "",
            "generator_family": family,
            "channel": " ".join(cell for cell in cells[2:4] if cell != "-"),
            "attributes": attributes(
                language="en", parent="VCTK", attack=attack, waveform_generator=waveform, codec=codec,
                transmission=cells[3], trim=cells[6], subset=cells[7],
            ),
        }  # fmt: skip


class ASVspoof2021DF(_ASVspoof2021):
    """ASVspoof 2021 deepfake: ASVspoof 2019 and Voice Conversion Challenges 2018 and 2020 through media codecs."""

    name: ClassVar[str] = "asvspoof2021_df"
    track: ClassVar[str] = "DF"
    columns: ClassVar[int] = 13
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "ODbL 1.0 (LICENSE.DF.txt of the release)"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README.DF.txt of the release (https://zenodo.org/records/4835108)",
        "eval-package of https://github.com/asvspoof-challenge/2021 (config.py names the columns of the keys)",
        "Liu et al. 2023, ASVspoof 2021: towards spoofed and deepfake speech detection in the wild, IEEE/ACM TASLP",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "all bona fide": 22617, "all spoofed": 589212, "eval bona fide": 14869, "eval spoofed": 519059,
    }  # fmt: skip

    def _described(self, attack: str, cells: list[str]) -> dict[str, Any] | None:
        source = cells[3]
        if source not in ("asvspoof", "vcc2018", "vcc2020"):
            return None
        if attack and source == "asvspoof" and attack not in ATTACKS_2019:
            return None
        family = "" if not attack else ATTACKS_2019[attack][0] if source == "asvspoof" else "VC"
        database = "ASVspoof2019" if source == "asvspoof" else source.upper()
        return {
            "generator": f"{database}-{attack}" if attack else "",
            "generator_family": family,
            "channel": cells[2],
            "attributes": attributes(
                parent="VCTK" if source == "asvspoof" else source.upper(),
                attack=attack, source=source, vocoder=cells[8] if attack else "", trim=cells[6], subset=cells[7],
                task=cells[9], team=cells[10], gender_pair=cells[11], target_language=cells[12],
            ),
        }  # fmt: skip


class ASVspoof5(_WithSubsets):
    """ASVspoof 5, track 1: crowd-sourced speech (MLS English), attacks A01-A32, eleven codec conditions in eval.

    A coded utterance names the one it was made from (``CODEC_SEED``): that is its source, so that coded copies of one
    utterance stay together.
    """

    name: ClassVar[str] = "asvspoof5"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "2024"
    licence: ClassVar[str] = "ODC-By 1.0; bona fide: CC BY 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README.txt of the release (https://zenodo.org/records/14498691), with the number of lines of every list",
        "Wang et al. 2025, ASVspoof 5: design, collection and validation of resources, arXiv 2502.08857",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "train bona fide": 18797, "train spoofed": 163560, "train files": 182357,
        "dev bona fide": 31334, "dev spoofed": 109616, "dev files": 142134,
        "eval bona fide": 138688, "eval spoofed": 542086, "eval files": 681872,
    }  # fmt: skip

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Trials of the track 1 lists; files that only enrol speakers (track 2) are set aside and counted."""
        found = inventory.files(suffixes=(".flac", ".tsv", ".txt"))
        lists = {PurePosixPath(p).name: p for p in found if not p.endswith(".flac")}
        sounds = by_name(inventory, (p for p in found if p.endswith(".flac")), what="asvspoof5 flac files")
        for subset in self.subsets:
            name = f"ASVspoof5.{subset}.tsv" if subset == "train" else f"ASVspoof5.{subset}.track_1.tsv"
            protocol = lists.get(name, f"ASVspoof5_protocols/{name}")
            trials = list(self._trials(inventory, protocol))
            count_classes(inventory, subset, (t.label for t in trials), self.published_counts)
            own = {n: p for n, p in sounds.items() if n.startswith(f"{subset[0].upper()}_")}
            start = f"ASVspoof5.{subset}."
            enrolment = sorted(p for n, p in lists.items() if n.startswith(start) and "enroll" in n)
            enrolled = _enrolled(inventory, enrolment) - {t.name for t in trials}
            inventory.count(f"{subset} files", len(own), self.published(f"{subset} files"))
            folder = "flac_E_eval" if subset == "eval" else f"flac_{subset[0].upper()}"
            rest = {n: p for n, p in own.items() if n not in enrolled}
            for path, trial in present(
                inventory, trials, rest, at=lambda n, folder=folder: f"{folder}/{n}.flac", what=f"asvspoof5 {subset}"
            ):
                yield self.sample(path, label=trial.label, split=SPLITS[subset], **trial.values)

    def _trials(self, inventory: Inventory, protocol: str) -> Iterable[Trial]:
        for line, cells in rows(inventory, protocol, 10, header="SPEAKER_ID"):
            speaker, name, gender, codec, quality, seed, tag, word, key, _ = cells
            label = label_of(inventory, key, KEYS, protocol, line)
            if label is None:
                continue
            attack = attack_of(inventory, label, word, protocol, line)
            if attack is None:
                continue
            if attack and attack not in ATTACKS_5:
                inventory.unparsable(protocol, line, f"unknown attack {attack!r}")
                continue
            if codec != "-" and codec not in CODECS_5:
                inventory.unparsable(protocol, line, f"unknown codec condition {codec!r}")
                continue
            yield Trial(
                name,
                label,
                {
                    "subjects": (speaker,),
                    "source_id": name if seed == "-" else seed,
                    "generator": f"ASVspoof5-{attack}" if attack else "",
                    "generator_family": ATTACKS_5.get(attack, ""),
                    "channel": "" if codec == "-" else f"{codec} {quality}",
                    "attributes": attributes(
                        language="en", parent="MLS", attack=attack, attack_tag=tag, gender=GENDERS.get(gender.lower()),
                        codec=CODECS_5.get(codec), codec_quality="" if codec == "-" else quality,
                    ),
                },
            )  # fmt: skip
