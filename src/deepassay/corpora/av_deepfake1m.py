"""AV-Deepfake1M and ++: clips with single words replaced in sound, lips or both; one manifest per modality."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of, read_json
from deepassay.corpora.lavdf import changed, segments_text
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import MODALITIES, Sample

# modify_type -> (picture, sound)
TYPES = {
    "real": (False, False),
    "visual_modified": (True, False),
    "audio_modified": (False, True),
    "both_modified": (True, True),
}
_NAMED = {
    "real": "real",
    "fake_video_real_audio": "visual_modified",
    "real_video_fake_audio": "audio_modified",
    "fake_video_fake_audio": "both_modified",
}
_SPLITS = {"train": "train", "val": "dev"}
_VIDEO = (".mp4",)


class AVDeepfake1M(PublicCorpus):
    """Over a million clips of more than 2,000 VoxCeleb2 speakers; train and val are labelled, test is not.

    Expected below ``root``, as the volumes unpack::

        train_metadata.json, val_metadata.json    [{"file": "id00012/21Ux.../00001/real.mp4", "modify_type": ...}]
        train/<file>, val/<file>
        test_files.txt, test/<file>               (only with test=true: samples without a label)

    Picture and sound are changed apart: ``modality=face`` asks whether the picture was (``visual_modified``,
    ``both_modified``), ``modality=voice`` whether the sound was. ``manipulated`` says which, ``fake_segments``
    (seconds) where. A row whose type contradicts its segments or its file name is a problem. A recording and its three
    fakes lie in one folder, which is their source. ``val`` is ``dev`` here.

    Args:
        root: folder that holds the metadata.
        modality: ``face`` or ``voice``.
        splits: ``train``, ``val`` or both.
        test: also the unlabelled test files, for scoring only.

    Raises:
        ConfigError: another modality or split.
    """

    name = "av_deepfake1m"
    modality = "face"
    status = "unverified"
    version = "2024"
    licence = "EULA to be signed; CC BY-NC 4.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "Cai et al., AV-Deepfake1M: A Large-Scale LLM-Driven Audio-Visual Deepfake Dataset, MM 2024, arXiv 2311.15308",
        "github.com/ControlNet/AV-Deepfake1M: README.md (metadata structure, tree), python/avdeepfake1m/loader.py",
    )
    test_lists: ClassVar[Mapping[str, str]] = {"test_files.txt": "test"}

    def __init__(
        self,
        *,
        root: str,
        modality: str = "face",
        splits: Sequence[str] = ("train", "val"),
        test: bool = False,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.side = one_of(modality, MODALITIES, what=f"{self.name}: modality")
        for split in splits:
            one_of(split, _SPLITS, what=f"{self.name}: splits")
        self.splits = tuple(splits)
        self.test = test

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Listed clips that are there, by split; then the test files, if asked for."""
        for word in self.splits:
            if not (self.root / f"{word}_metadata.json").is_file():
                inventory.problem("missing", f"list {word}_metadata.json")
                continue
            rows = self._rows(inventory, word)
            found = inventory.files(word, _VIDEO)
            present = inventory.expect(rows, found=found, what=f"{word} videos")
            inventory.count(f"{word} videos", len(present), self.published_counts.get(word))
            for path in present:
                yield self._one(path, rows[path], _SPLITS[word])
        if self.test:
            yield from self._unlabelled(inventory)

    def _rows(self, inventory: Inventory, word: str) -> dict[str, Mapping[str, Any]]:
        where = f"{word}_metadata.json"
        listed = read_json(self.root / where, self.name)
        if not isinstance(listed, list):
            raise ManifestError(f"{self.name}: {where} holds no list", hint="use the file as released")
        rows: dict[str, Mapping[str, Any]] = {}
        for number, row in enumerate(listed, start=1):
            if not isinstance(row, dict) or not isinstance(row.get("file"), str) or row.get("modify_type") not in TYPES:
                inventory.problem("unparsable", f"{where}, entry {number}: no file or no modify_type of {list(TYPES)}")
                continue
            kind = row["modify_type"]
            picture, sound = TYPES[kind]
            stem = row["file"].rsplit("/", 1)[-1].removesuffix(".mp4")
            # Cut parts carry a suffix (real_p1), so a name counts only where it says something.
            named = next((k for n, k in _NAMED.items() if re.fullmatch(rf"{n}(_p\d+)?", stem)), kind)
            segments = row.get("fake_segments") or []
            if named != kind or bool(segments) != (picture or sound):
                inventory.problem(
                    "label", f"{where}, {row['file']}: modify_type {kind} with {len(segments)} fake segments"
                )
            rows[f"{word}/{row['file']}"] = row
        return rows

    def _one(self, path: str, row: Mapping[str, Any], split: str) -> Sample:
        picture, sound = TYPES[row["modify_type"]]
        fake = picture if self.side == "face" else sound
        attributes = {"manipulated": changed(picture, sound)}
        own = row.get("visual_fake_segments" if self.side == "face" else "audio_fake_segments")
        segments = own or row.get("fake_segments") or []
        if fake and segments:
            attributes["fake_segments"] = segments_text(segments)
        folders = path.split("/")[1:-1]
        people, corpus = _speaker(folders)
        if corpus:
            attributes["parent"] = corpus
        model = row.get("video_model" if self.side == "face" else "audio_model")
        return self.sample(
            path,
            sample_id=f"{self.name}/{self.side}/{path}",
            modality=self.side,
            label=FAKE if fake else REAL,
            source_id=f"av_deepfake1m/{'/'.join(folders)}",
            subjects=people,
            generator=(str(model) if model else f"{self.name} {'lips' if self.side == 'face' else 'voice'}")
            if fake
            else "",
            generator_family=("lip_sync" if self.side == "face" else "tts") if fake else "",
            split=split,
            attributes=attributes,
        )

    def _unlabelled(self, inventory: Inventory) -> Iterator[Sample]:
        for name, folder in self.test_lists.items():
            listed = [f"{folder}/{line}" for _, line in inventory.lines(name)]
            found = inventory.files(folder, _VIDEO)
            for path in inventory.expect(listed, found=found, what=f"{folder} videos"):
                yield self.sample(
                    path, sample_id=f"{self.name}/{self.side}/{path}", modality=self.side, label=None, split="test"
                )


class AVDeepfake1MPlusPlus(AVDeepfake1M):
    """The set of the 2025 challenge: about 2 million clips from VoxCeleb2, LRS3 and silent videos, several generators.

    Tree, options and labels as in `AVDeepfake1M`; files lie in ``<split>/vox_celeb_2/<speaker>/...``,
    ``<split>/lrs3/...`` and ``<split>/silent_videos/subject_...``; rows also name the ``video_model``; the test files
    are listed in ``testA_files.txt`` and ``testB_files.txt``.
    """

    name = "av_deepfake1m_pp"
    version = "2025 (++)"
    licence = "EULA of the 2025 1M-Deepfakes Detection Challenge, to be signed (research)"
    documented_at: ClassVar[tuple[str, ...]] = (
        "Cai et al., AV-Deepfake1M++: A Large-Scale Audio-Visual Deepfake Benchmark, ACM MM 2025, arXiv 2507.20579",
        "huggingface.co/datasets/ControlNet/AV-Deepfake1M-PlusPlus (page and file list)",
        "count of val: github.com/dfwb-research/deepfake-workbench, inventory of AV-Deepfake1M++",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"val": 77_326}
    test_lists: ClassVar[Mapping[str, str]] = {"testA_files.txt": "testA", "testB_files.txt": "testB"}


def _speaker(folders: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Subject and parent corpus by the folders of a file; VoxCeleb2's ids keep their name across corpora."""
    parent = folders[0] if folders else ""
    who = folders[1] if len(folders) > 1 else ""
    if re.fullmatch(r"id\d{4,5}", parent):
        return (f"voxceleb2/{parent}",), "VoxCeleb2"
    if parent == "vox_celeb_2" and who:
        return (f"voxceleb2/{who}",), "VoxCeleb2"
    if parent == "lrs3" and who:
        return (f"lrs3/{who}",), "LRS3"
    if parent == "silent_videos" and (match := re.match(r"subject_\d+", who)):
        return (f"av_deepfake1m/{match.group(0)}",), "silent videos"
    return (), ""
