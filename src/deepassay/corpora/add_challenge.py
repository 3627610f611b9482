"""ADD 2022 and 2023, the audio deepfake detection challenges in Mandarin: lists of ``file genuine|fake``."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import GENUINE, Trial, bare, by_name, count_classes, label_of, present, rows
from deepassay.errors import ConfigError
from deepassay.labels import FAKE
from deepassay.manifest import Sample


def _trials(
    inventory: Inventory, listing: str, generator: str, attributes: Mapping[str, str], genuine: Mapping[str, str]
) -> Iterable[Trial]:
    """Trials of a list, with attributes of all and of the genuine ones."""
    for line, (name, word) in rows(inventory, listing, 2):
        label = label_of(inventory, word, GENUINE, listing, line)
        if label is not None:
            made = {"generator": generator, "generator_family": "unnamed"} if label == FAKE else {}
            about = dict(attributes) if label == FAKE else {**attributes, **genuine}
            yield Trial(bare(name), label, {**made, "attributes": about})


class ADD2022(PublicCorpus):
    """ADD 2022: train, dev, adaptation and test parts, fully and partially fake speech; speakers are not published.

    Args:
        root: folder that holds the unpacked parts.
        parts: of ``train``, ``dev``, ``track1_adaptation``, ``track2_adaptation``, ``track1_test``, ``track2_test``
            and ``track3_test``.
        lists: part -> its list, below the root or absolute, where it lies elsewhere; the lists of the first two tests
            must be named, because where they lie is documented nowhere.
        allow_partial: go on with a copy that differs from its lists; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown part, or a test whose list is not named.
    """

    name: ClassVar[str] = "add2022"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "2022"
    licence: ClassVar[str] = "CC BY-NC-ND 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "http://addchallenge.cn/add2022",
        "Yi et al. 2022, ADD 2022: the first audio deep synthesis detection challenge, ICASSP",
        "https://huggingface.co/datasets/SpeechAntiSpoofingBenchmarks/ADD22_eval_31 (track 3 list, licence)",
    )
    # Part -> list, folder of the sound, split, what its fakes are.
    PARTS: ClassVar[Mapping[str, tuple[str, str, str, str]]] = {
        "train": ("ADD_train_dev/label/train_label.txt", "ADD_train_dev/train", "train", "full"),
        "dev": ("ADD_train_dev/label/dev_label.txt", "ADD_train_dev/dev", "dev", "full"),
        "track1_adaptation": ("track1adp_out/label.txt", "track1adp_out", "", "full, low quality"),
        "track2_adaptation": ("track2adp_out/label.txt", "track2adp_out", "", "partial"),
        "track1_test": ("", "track1test", "test", "full, low quality"),
        "track2_test": ("", "track2test", "test", "partial"),
        "track3_test": ("track3_R1_label.txt", "track3test", "test", "full, from an attack and defence game"),
    }

    def __init__(
        self,
        *,
        root: str,
        parts: Sequence[str] = ("train", "dev", "track1_adaptation"),
        lists: Mapping[str, str] | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.lists = dict(lists or {})
        self.parts = tuple(one_of(p, tuple(self.PARTS), what="add2022: part") for p in parts)
        unnamed = [p for p in self.parts if not (self.lists.get(p) or self.PARTS[p][0])]
        if unnamed:
            raise ConfigError(
                f"add2022: no list is known for {unnamed[0]}",
                hint=f"name it: lists: {{{unnamed[0]}: path/of/label.txt}} (lines of 'file genuine' or 'file fake')",
            )

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Files of the chosen parts' lists."""
        found = inventory.files(suffixes=(".wav", ".txt"))
        for part in self.parts:
            listing, folder, split, kind = self.PARTS[part]
            named = self.lists.get(part)
            at = named or next((p for p in found if p == listing or p.endswith(f"/{listing}")), listing)
            own = (p for p in found if p.endswith(".wav") and f"/{folder}/" in f"/{p}")
            files = by_name(inventory, own, what=f"add2022 {part}")
            about = {"language": "zh", "part": part, "fakes_are": kind}
            trials = list(_trials(inventory, at, "ADD2022-unnamed", about, {}))
            count_classes(inventory, part, (t.label for t in trials), self.published_counts)
            expected = f"{folder}/{{}}.wav"
            for path, trial in present(inventory, trials, files, at=expected.format, what=f"add2022 {part}"):
                yield self.sample(path, label=trial.label, split=split, **trial.values)


class ADD2023(PublicCorpus):
    """ADD 2023, track 1.2: one folder per part with ``label.txt`` and ``wav``; genuine speech stems from AISHELL-3.

    Args:
        root: folder that holds the unpacked track.
        parts: folder names such as ``train``, ``dev``, ``testR1``, ``testR2``; null takes every one that has a list.
        allow_partial: go on with a copy that differs from its lists; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.
    """

    name: ClassVar[str] = "add2023"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "2023, track 1.2"
    licence: ClassVar[str] = "CC BY-NC-ND 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "http://addchallenge.cn/add2023",
        "Yi et al. 2023, ADD 2023: the second audio deepfake detection challenge, arXiv 2305.13774",
        "https://github.com/nii-yamagishilab/AntiDeepfake protocols/ADD2023.py (list and tree of testR2)",
        "https://huggingface.co/datasets/SpeechAntiSpoofingBenchmarks/ADD2023_track12_test_r1 (licence, AISHELL-3)",
    )

    def __init__(
        self,
        *,
        root: str,
        parts: Sequence[str] | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.parts = None if parts is None else tuple(parts)

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Files of every part's list."""
        found = inventory.files(suffixes=(".wav", ".txt"))
        lists = {PurePosixPath(p).parent.name: p for p in found if PurePosixPath(p).name == "label.txt"}
        for part in self.parts or sorted(lists):
            listing = lists.get(part, f"Track1.2/{part}/label.txt")
            folder = PurePosixPath(listing).parent / "wav"
            own = (p for p in found if p.endswith(".wav") and PurePosixPath(p).parent == folder)
            files = by_name(inventory, own, what=f"add2023 {part}")
            about = {"language": "zh", "part": part}
            trials = list(_trials(inventory, listing, "ADD2023-unnamed", about, {"parent": "AISHELL-3"}))
            count_classes(inventory, part, (t.label for t in trials), self.published_counts)
            split = "test" if part.startswith("test") else part if part in ("train", "dev") else ""
            expected = f"{folder}/{{}}.wav"
            for path, trial in present(inventory, trials, files, at=expected.format, what=f"add2023 {part}"):
                yield self.sample(path, label=trial.label, split=split, **trial.values)
