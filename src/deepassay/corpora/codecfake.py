"""Two corpora of neural codec resynthesis that share a name: CodecFake (Wu et al.) and Codecfake (Xie et al.)."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import Trial, attributes, bare, by_name, count_classes, label_of, present, rows
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_CODED = re.compile(r"(?P<codec>[^+/]+)\+(?P<utterance>(?P<reader>p\d+|s5)_\d+)(?:_mic\d)?")
_RECORDED = re.compile(r"(?P<utterance>(?P<reader>p\d+|s5)_\d+)(?:_mic1)?")


class CodecFakeWu(PublicCorpus):
    """CodecFake: VCTK through fifteen neural codecs, files named ``<codec>+<VCTK utterance>.wav``.

    Args:
        root: folder that holds the coded files and, below ``bona_fide``, VCTK.
        bona_fide: folder of VCTK recordings below the root; null indexes the fakes alone.
        allow_partial: go on with a copy that has problems; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.
    """

    name: ClassVar[str] = "codecfake_wu"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://github.com/roger-tseng/CodecFake and https://huggingface.co/datasets/rogertseng/CodecFake",
        "Wu et al. 2024, CodecFake: enhancing anti-spoofing models against deepfake audios, Interspeech",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/CodecFake.py (file names)",
    )

    def __init__(
        self,
        *,
        root: str,
        bona_fide: str | None = "VCTK",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.bona_fide = bona_fide.strip("/") if bona_fide else None

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Coded files, tied to the VCTK utterance they were made from, then the recordings."""
        found = inventory.files(suffixes=(".wav", ".flac"))
        own = f"{self.bona_fide}/" if self.bona_fide else "\0"
        numbers: Counter[str] = Counter()
        for path in found:
            if path.startswith(own) and bare(path).endswith("_mic2"):
                continue  # the same utterance, heard by VCTK 0.92's second microphone
            pattern = _RECORDED if path.startswith(own) else _CODED
            match = pattern.fullmatch(bare(path))
            if match is None:
                inventory.problem("extra", f"codecfake_wu: {path} does not name a codec and a VCTK utterance")
                continue
            codec = "" if path.startswith(own) else match.group("codec")
            numbers[codec] += 1
            yield self.sample(
                path, label=FAKE if codec else REAL, generator=f"CodecFake-{codec}" if codec else "",
                generator_family="neural codec" if codec else "", subjects=(match.group("reader"),),
                source_id=match.group("utterance"), attributes={"language": "en", "parent": "VCTK"},
            )  # fmt: skip
        if self.bona_fide and not numbers[""]:
            inventory.problem(
                "missing",
                f"codecfake_wu: the bona fide recordings (VCTK) below {self.bona_fide} (bona_fide=null indexes the "
                f"fakes alone)",
            )
        if not any(codec for codec in numbers):
            inventory.problem("missing", "codecfake_wu: no file <codec>+<utterance>.wav")
        for codec, number in sorted(numbers.items()):
            inventory.count(codec or "bona fide recordings", number, None)
        coded = {codec: n for codec, n in numbers.items() if codec}
        most = max(coded.values(), default=0)
        for codec, number in sorted(coded.items()):
            if number != most:
                inventory.problem("count", f"{codec}: {number:,} files, another codec has {most:,} of the same set")


class CodecfakeXie(PublicCorpus):
    """Codecfake: AISHELL-3 and VCTK through seven codecs (F01-F07), and speech of audio language models (A1-A3).

    The tests C1-C7 repeat the same bona fide files, so pooling them counts those again: report each test by itself.
    A3 is general audio rather than speech and its bona fide side is not published, so it is left out unless named.

    Args:
        root: folder that holds the unpacked parts and ``label``.
        parts: of ``train``, ``dev``, ``C1`` ... ``C7``, ``A1``, ``A2``, ``A3``.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown part.
    """

    name: ClassVar[str] = "codecfake_xie"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    licence: ClassVar[str] = "CC BY-NC-ND 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "README of https://github.com/xieyuankun/Codecfake (tree, numbers of files, licence)",
        "Xie et al. 2025, The Codecfake dataset and countermeasures, IEEE/ACM TASLP (arXiv 2405.04880)",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/Codecfake.py (lists)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "train": 740747, "dev": 92596, **{f"C{n}": 26456 for n in range(1, 7)}, "C7": 145505, "A1": 8902, "A2": 8902,
        "A3": 99112,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        parts: Sequence[str] = ("train", "dev", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "A1", "A2"),
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        known = tuple(CodecfakeXie.published_counts)
        self.parts = tuple(one_of(p, known, what="codecfake_xie: part") for p in parts)

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Files of the chosen parts' lists."""
        found = inventory.files(suffixes=(".wav", ".txt"))
        for part in self.parts:
            folders = {part, "val"} if part == "dev" else {part}
            own = (p for p in found if p.endswith(".wav") and PurePosixPath(p).parent.name in folders)
            files = by_name(inventory, own, what=f"codecfake_xie {part}")
            ending = f"label/{part}.txt"
            listing = next((p for p in found if p == ending or p.endswith(f"/{ending}")), ending)
            trials = list(self._trials(inventory, listing, part))
            count_classes(inventory, part, (t.label for t in trials), {})
            inventory.count(part, len(files), self.published_counts.get(part))
            split = part if part in ("train", "dev") else "test"
            expected = f"{part}/{{}}.wav"
            for path, trial in present(inventory, trials, files, at=expected.format, what=f"codecfake_xie {part}"):
                yield self.sample(path, label=trial.label, split=split, **trial.values)

    def _trials(self, inventory: Inventory, listing: str, part: str) -> Iterable[Trial]:
        for line, (file, word, code) in rows(inventory, listing, 3):
            label = label_of(inventory, word, {"real": REAL, "fake": FAKE}, listing, line)
            if label is None:
                continue
            coded = re.fullmatch(r"[1-7]|L[1-3]", code)
            if label == FAKE and coded is None:
                inventory.unparsable(listing, line, f"fake, yet of system {code!r}")
                continue
            if label == REAL and code in "1234567":
                inventory.unparsable(listing, line, f"real, yet of codec {code!r}")
                continue
            name = bare(file)
            read = re.fullmatch(r"(?:F0\d_)?(?P<utterance>(?P<reader>SSB\d{4})\d{4}|(?P<vctk>p\d+|s5)_\d+)", name)
            parent = "" if read is None else "AISHELL-3" if read.group("reader") else "VCTK"
            generator = "" if label == REAL else f"Codecfake-{f'A{code[1:]}' if code[0] == 'L' else f'F0{code}'}"
            family = "" if label == REAL else "audio language model" if code[0] == "L" else "neural codec"
            yield Trial(
                name, label,
                {
                    "generator": generator, "generator_family": family,
                    "subjects": ((read.group("reader") or read.group("vctk")),) if read else (),
                    "source_id": read.group("utterance") if read else "",
                    "attributes": attributes(part=part, parent=parent),
                },
            )  # fmt: skip
