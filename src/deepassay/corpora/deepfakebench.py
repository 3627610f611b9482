"""DeepfakeBench's dataset JSON: frame lists by label, split and video, so that its users can move over."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deepassay.corpora.inventory import Inventory
from deepassay.corpora.table import check_classes, with_file_facts
from deepassay.errors import ConfigError, ManifestError
from deepassay.files import sha256_file
from deepassay.labels import FAKE, LABEL_WORDS, REAL
from deepassay.manifest import Manifest, Sample

# training/config/test_config.yaml of DeepfakeBench: label_dict, 1 is fake.
LABELS: Mapping[str, int] = {
    **dict.fromkeys(("FF-SH", "FF-F2F", "FF-DF", "FF-FS", "FF-NT", "FF-FH", "DFD_fake"), FAKE),
    **dict.fromkeys(("CelebDFv1_fake", "CelebDFv2_fake", "DFDCP_FakeA", "DFDCP_FakeB", "DFDC_Fake"), FAKE),
    **dict.fromkeys(("DF_fake", "UADFV_Fake", "roop_Fake"), FAKE),
    **dict.fromkeys(("FF-real", "DFD_real", "CelebDFv1_real", "CelebDFv2_real", "DFDCP_Real", "DFDC_Real"), REAL),
    **dict.fromkeys(("DF_real", "UADFV_Real", "roop_Real"), REAL),
}
# preprocessing/rearrange.py: its short names of FaceForensics++ methods.
METHODS = {
    "FF-DF": "Deepfakes", "FF-F2F": "Face2Face", "FF-FS": "FaceSwap", "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter", "FF-SH": "FaceShifter", "DFD_fake": "DeepFakeDetection", "CelebDFv1_fake": "Celeb-DF",
    "CelebDFv2_fake": "Celeb-DF", "DFDCP_FakeA": "DFDC-preview-A", "DFDCP_FakeB": "DFDC-preview-B",
    "DFDC_Fake": "DFDC", "DF_fake": "DF-VAE", "UADFV_Fake": "UADFV", "roop_Fake": "roop",
}  # fmt: skip
_SPLITS = {"train": "train", "val": "dev", "test": "test"}
_COMPRESSIONS = ("raw", "c0", "c23", "c40")


@dataclass(frozen=True, slots=True)
class _Video:
    dataset: str
    label: str
    compression: str
    name: str
    frames: tuple[str, ...]


class DeepfakeBench:
    """One sample is one frame; its source is its video, and people are named where file names tell them.

    Expected: ``{dataset: {label: {split: {[compression:] {video: {"label": ..., "frames": [...]}}}}}}``, as
    ``preprocessing/rearrange.py`` writes it.

    Its lists put some videos into several splits: Celeb-DF's test videos are in train and val as well, the val of the
    DFDC preview is its test, DeepFakeDetection and UADFV are whole in all three. Here a video has one split: test
    before val before train; where all videos of a label are in train and in test there is no official split, and
    ``info`` says so: use ``split=subject``. People and sources carry the names of this project's own doors
    (``faceforensics/000``, ``celebdf/id0``), so that an audit sees both.

    Args:
        json: the list; a relative name is looked for below ``root`` first.
        root: folder that its paths lie below, after leading parts that do not exist there are taken off.
        compression: of FaceForensics++ lists: ``raw``, ``c23`` or ``c40``; null takes all.
        frames_per_video: at most so many, evenly spread; null takes all.
        labels: label of the list -> ``real`` or ``fake``, beside those of DeepfakeBench's own config.
        name: corpus name, and first part of every id.
        licence: of the whole.
        allow_partial: go on where frames are missing; recorded in ``info["inventory"]``.
        hash_files, probe, progress: as in `TableCorpus`.

    Raises:
        ConfigError: an option that does not exist.
    """

    documented_at = (
        "github.com/SCLBD/DeepfakeBench: preprocessing/rearrange.py (structure)",
        "github.com/SCLBD/DeepfakeBench: training/config/test_config.yaml (labels, 1 is fake)",
    )

    def __init__(
        self,
        *,
        json: str,
        root: str,
        compression: str | None = "c23",
        frames_per_video: int | None = 32,
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        licence: str = "",
        allow_partial: bool = False,
        hash_files: bool = False,
        probe: bool = False,
        progress: bool = True,
    ) -> None:
        below = Path(root) / json
        self.json = below if below.is_file() or not Path(json).is_file() else Path(json)
        self.root = Path(root)
        if compression is not None and compression not in _COMPRESSIONS:
            raise ConfigError(f"compression is {compression!r}", hint=f"use one of {list(_COMPRESSIONS)} or null")
        if frames_per_video is not None and frames_per_video < 1:
            raise ConfigError(f"frames_per_video is {frames_per_video}", hint="use at least 1, or null for all")
        for word in (labels or {}).values():
            if word not in LABEL_WORDS:
                raise ConfigError(f"labels gives {word!r}", hint="right of the colon: real or fake")
        self.labels = {**LABELS, **{str(k): LABEL_WORDS.index(v) for k, v in (labels or {}).items()}}
        self.compression = compression
        self.frames_per_video = frames_per_video
        self.name = name or f"deepfakebench-{self.json.stem}"
        self.licence = licence
        self.allow_partial = allow_partial
        self.hash_files = hash_files
        self.probe = probe
        self.progress = progress

    def prepare(self) -> Manifest:
        """Read the list and look for every frame.

        Raises:
            ManifestError: no such list, another structure, an unknown label, or frames that are not there.
        """
        inventory = Inventory(self.name, self.root, allow_partial=self.allow_partial, progress=self.progress)
        listed = list(self._videos(inventory))
        if not listed:
            raise ManifestError(
                f"{self.json}: no videos of compression {self.compression}",
                hint="set corpus.compression to what the list holds, or null",
            )
        splits, notes = _one_split(listed)
        videos = {_key(video): video for video, _ in listed}
        found = set(inventory.files())
        strip = self._leading(videos.values(), found)
        samples = []
        missing = 0
        for key, video in videos.items():
            inside = sorted((_cleaned(frame)[strip:] for frame in video.frames), key=_natural)
            paths = ["/".join(parts) for parts in inside]
            there = [path for path in paths if path in found]
            missing += len(paths) - len(there)
            for path in paths if len(there) < len(paths) else ():
                if path not in found:
                    inventory.problem("missing", f"frame {path}")
            samples += [self._sample(video, path, splits[key]) for path in self._chosen(there)]
        inventory.count("videos", len(videos), None)
        inventory.count("frames", sum(len(v.frames) for v in videos.values()) - missing, None)
        record = inventory.finish()
        if not samples:
            raise ManifestError(f"{self.name}: no frame of the list lies below {self.root}", hint="correct corpus.root")
        check_classes(samples, str(self.json))
        if self.hash_files or self.probe:
            samples, _ = with_file_facts(
                samples, self.root, name=self.name, hash_files=self.hash_files, probe=self.probe, progress=self.progress
            )
        info: dict[str, Any] = {
            "name": self.name, "synthetic": False, "licence": self.licence, "version": sha256_file(self.json),
            "documented_at": list(self.documented_at), "inventory": record, "listed_in_several_splits": notes,
        }  # fmt: skip
        return Manifest.from_samples(samples, self.root, info)

    def _videos(self, inventory: Inventory) -> Iterator[tuple[_Video, str]]:
        if not self.json.is_file():
            raise ManifestError(f"{self.json}: no such list", hint="give it with corpus.json=...")
        try:
            tree = json.loads(self.json.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ManifestError(f"{self.json}: not JSON ({error})", hint="write it again with rearrange.py") from error
        for dataset, by_label in _items(tree, self.json, "a data set"):
            for label, by_split in _items(by_label, self.json, dataset):
                if label not in self.labels:
                    raise ManifestError(
                        f"{self.json}: unknown label {label!r} of {dataset}",
                        hint=f"add labels: {{{label}: fake}} (or real) to the corpus config",
                    )
                for split, content in _items(by_split, self.json, label):
                    if split not in _SPLITS:
                        raise ManifestError(
                            f"{self.json}: {label} has a split {split!r}", hint=f"known: {list(_SPLITS)}"
                        )
                    if "frames" in content and "label" in content:  # rearrange.py writes DFDC's val so
                        inventory.problem("unparsable", f"{dataset}/{label}/{split} holds one video instead of a list")
                        continue
                    for compression, videos in _by_compression(content).items():
                        if compression and self.compression and compression != self.compression:
                            continue
                        for name, video in _items(videos, self.json, f"{label}/{split}"):
                            said = video.get("label", label)
                            if self.labels.get(said) != self.labels[label]:
                                inventory.problem("label", f"{dataset}/{label}/{name} says label {said!r}")
                                continue
                            yield _Video(dataset, label, compression, name, tuple(video.get("frames", ()))), split

    def _leading(self, videos: Any, found: set[str]) -> int:
        """How many leading parts of the list's paths are to be taken off."""
        first = next((_cleaned(v.frames[0]) for v in videos if v.frames), ())
        for video in videos:
            for frame in video.frames[:1]:
                parts = _cleaned(frame)
                for n in range(len(parts)):
                    if "/".join(parts[n:]) in found:
                        return n
        raise ManifestError(
            f"{self.name}: no frame of the list lies below {self.root}, for example {'/'.join(first)}",
            hint="give the folder that holds what stands at the end of these paths with corpus.root=...",
        )

    def _chosen(self, paths: list[str]) -> list[str]:
        if self.frames_per_video is None or len(paths) <= self.frames_per_video:
            return paths
        at = np.linspace(0, len(paths) - 1, self.frames_per_video).round().astype(int)
        return [paths[k] for k in at]

    def _sample(self, video: _Video, path: str, split: str) -> Sample:
        label = self.labels[video.label]
        subjects, source = _people(video)
        return Sample(
            sample_id=f"{self.name}/{_key(video)}/{PurePosixPath(path).name}",
            path=path,
            media="image",
            modality="face",
            label=label,
            source_id=source,
            subjects=subjects,
            generator=METHODS.get(video.label, video.label) if label == FAKE else "",
            corpus=self.name,
            split=split,
            channel=video.compression,
            attributes={"dataset": video.dataset, "video": _key(video)},
            licence=self.licence,
        )


def _items(node: Any, path: Path, where: str) -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        raise ManifestError(
            f"{path}: {where} holds {type(node).__name__} where names were expected",
            hint="use a list that DeepfakeBench's rearrange.py wrote: data set, label, split, video",
        )
    return [(str(k), v) for k, v in node.items()]


def _by_compression(content: Mapping[str, Any]) -> dict[str, Any]:
    return dict(content) if content and set(content) <= set(_COMPRESSIONS) else {"": content}


def _key(video: _Video) -> str:
    return "/".join(p for p in (video.dataset, video.label, video.compression, video.name) if p)


def _cleaned(frame: str) -> tuple[str, ...]:
    return tuple(p for p in frame.replace("\\", "/").split("/") if p not in ("", ".", ".."))


def _natural(parts: tuple[str, ...]) -> list[Any]:
    return [(int(w) if w.isdigit() else -1, w) for w in re.split(r"(\d+)", "/".join(parts))]


def _one_split(listed: Sequence[tuple[_Video, str]]) -> tuple[dict[str, str], dict[str, Any]]:
    """One split per video, and how many the list put into several."""
    lists: dict[str, set[str]] = {}
    group: dict[str, str] = {}
    for video, split in listed:
        lists.setdefault(_key(video), set()).add(split)
        group[_key(video)] = f"{video.dataset}/{video.label}"
    told = {group[key] for key, where in lists.items() if not {"train", "test"} <= where}
    unsplit = set(group.values()) - told
    out, several = {}, {}
    for key, where in lists.items():
        if group[key] in unsplit:
            out[key] = ""
        else:
            out[key] = _SPLITS[next(s for s in ("test", "val", "train") if s in where)]
        if len(where) > 1:
            several[group[key]] = several.get(group[key], 0) + 1
    return out, {"videos": several, "no_official_split": sorted(unsplit)}


def _people(video: _Video) -> tuple[tuple[str, ...], str]:
    """Subjects and source by the names that this project's own doors give them."""
    own = f"{video.dataset}/{video.name}"
    if video.label.startswith("FF-"):
        match = re.fullmatch(r"(\d{3})(?:_(\d{3}))?", video.name)
        if match:
            return tuple(f"faceforensics/{g}" for g in match.groups() if g), f"faceforensics/{match.group(1)}"
    if video.label.startswith("CelebDFv"):
        people = "celebdf" if video.label.startswith("CelebDFv2") else "celebdf_v1"
        match = re.fullmatch(r"(id\d+)(?:_(id\d+))?_(\d+)", video.name)
        if match:
            names = tuple(dict.fromkeys(f"{people}/{g}" for g in match.groups()[:2] if g))
            return names, f"{people}/{match.group(1)}_{match.group(3)}"
        if video.name.isdigit():
            return (f"{people}/youtube_{video.name}",), f"{people}/youtube_{video.name}"
    return (), own
