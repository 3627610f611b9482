"""DF40: face crops from forty methods in four families, made from FaceForensics++, Celeb-DF and others."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of, read_json
from deepassay.errors import ConfigError
from deepassay.labels import FAKE, LABEL_WORDS, REAL
from deepassay.manifest import Sample

_IMAGE = (".png", ".jpg", ".jpeg")
# Folder name in the release -> the method's name in the paper, by family.
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "face_swap": {
        "fsgan": "FSGAN", "faceswap": "FaceSwap", "simswap": "SimSwap", "inswap": "InSwapper", "blendface": "BlendFace",
        "uniface": "UniFace", "mobileswap": "MobileSwap", "e4s": "e4s", "facedancer": "FaceDancer",
        "deepfacelab": "DeepFaceLab",
    },
    "reenactment": {
        "fomm": "FOMM", "facevid2vid": "FS_vid2vid", "wav2lip": "Wav2Lip", "mraa": "MRAA", "one_shot_free": "OneShot",
        "pirender": "PIRender", "tpsm": "TPSM", "lia": "LIA", "danet": "DaGAN", "sadtalker": "SadTalker",
        "mcnet": "MCNet", "hyperreenact": "HyperReenact", "heygen": "HeyGen",
    },
    "entire_synthesis": {
        "vqgan": "VQGAN", "stylegan2": "StyleGAN2", "stylegan3": "StyleGAN3", "styleganxl": "StyleGAN-XL",
        "sd2.1": "SD-2.1", "ddim": "DDPM", "rddm": "RDDM", "pixart": "PixArt-alpha", "dit": "DiT-XL/2",
        "sit": "SiT-XL/2", "midjourney": "MidJourney6", "whichfaceisreal": "WhichisReal",
    },
    "attribute_edit": {
        "collabdiff": "CollabDiff", "e4e": "e4e", "stargan": "StarGAN", "starganv2": "StarGANv2",
        "styleclip": "StyleCLIP",
    },
}  # fmt: skip
METHODS = {folder: (name, family) for family, names in FAMILIES.items() for folder, name in names.items()}
# Of unknown data domain: tested on only, and their real pictures come with them (README, Quick Start).
UNKNOWN = (
    "deepfacelab", "heygen", "whichfaceisreal", "midjourney", "stargan", "starganv2", "styleclip", "e4e", "collabdiff",
)  # fmt: skip
_TOPS = {"DF40_train": "train", "DF40": "test", "DF40_test": "test"}
# Levels of the tree that name no video.
_LEVELS = {
    "frames", "faces", "real", "fake", "ff", "cdf", "heygen_new", "inversions", "celeb-real", "youtube-real",
    "fake_from_celeb-real", "fake_from_youtube-real",
}  # fmt: skip


class DF40(PublicCorpus):
    """Forty methods, released as cropped frames; fakes for training (31 methods, FaceForensics++) and for testing (40).

    Expected below ``root``, as the authors' archives unpack::

        DF40_train/simswap/frames/001_870/000.png            training, FaceForensics++ domain (or simswap/ff/...)
        DF40/simswap/ff/frames/000_003/000.png               testing, FaceForensics++ domain (also DF40_test/)
        DF40/simswap/cdf/frames/id0_id16_0003/000.png        testing, Celeb-DF domain
        DF40/DiT/cdf/YouTube-real/00043/458.png              entire synthesis: no frames level
        DF40/MidJourney/fake/..., DF40/MidJourney/real/...   methods of unknown domain bring their real pictures
        FaceForensics++/original_sequences/youtube/c23/frames/000/000.png      real pictures of the 31 other methods
        FaceForensics++/train.json, val.json, test.json
        Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png, Celeb-DF-v2/YouTube-real/frames/00000/000.png
        Celeb-DF-v2/List_of_testing_videos.txt

    One sample is one picture; ``source_id`` is its video (for entire synthesis, which stems from none, its folder).
    The uncropped videos of swaps and reenactments, which the README also offers, have no published tree: index them
    with ``corpus=folder``. Subjects and sources carry the names of the parent corpora (``faceforensics/000``,
    ``celebdf/id0``), so that an audit sees who occurs elsewhere. Methods of which nothing is there, and folders that
    are no method, are named; so is a video of one method in both training and test (issue 39 of its repository found
    such an archive). How many pictures each method should have is not published in text: the door counts them and
    compares nothing.

    Args:
        root: folder that holds ``DF40_train``, ``DF40`` (or ``DF40_test``) and the two folders of real pictures.
        parts: ``train``, ``test`` or both.
        methods: folder names from `METHODS`, in any case; by default all of the part.
        per_video: at most so many pictures per video, evenly spread by name; null takes all.

    Raises:
        ConfigError: an unknown part or method, or a per_video below 1.
    """

    name = "df40"
    modality = "face"
    status = "unverified"
    version = "1.0"
    licence = "CC BY-NC 4.0 (form)"
    documented_at = (
        "Yan et al., DF40: Toward Next-Generation Deepfake Detection, NeurIPS 2024, arXiv 2406.13495",
        "github.com/YZY-stack/DF40: README.md, preprocessing/rearrange.py; issues 16, 28, 29, 39, 41",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"methods tested": 40, "methods trained": 31}

    def __init__(
        self,
        *,
        root: str,
        parts: Sequence[str] = ("train", "test"),
        methods: Sequence[str] | None = None,
        per_video: int | None = None,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        for part in parts:
            one_of(part, ("train", "test"), what="df40: parts")
        for method in methods or ():
            one_of(method.lower(), METHODS, what="df40: methods")
        if per_video is not None and per_video < 1:
            raise ConfigError(f"df40: per_video is {per_video}", hint="give a number of pictures, or null for all")
        self.parts = tuple(parts)
        self.wanted = {m.lower() for m in methods} if methods else set(METHODS)
        self.per_video = per_video

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Fakes by part and method (with the real pictures that lie beside them), then the parents' real pictures."""
        videos: dict[tuple[str, str], set[str]] = {}
        for top, part in _TOPS.items():
            if part in self.parts and (self.root / top).is_dir():
                yield from self._part(inventory, top, part, videos)
        for part in self.parts:
            expected = sorted(m for m in self.wanted if part == "test" or m not in UNKNOWN)
            there = {method for method, p in videos if p == part}
            for method in sorted(set(expected) - there):
                inventory.problem("missing", f"{part}: no picture of method {method}")
            published = self.published_counts["methods tested" if part == "test" else "methods trained"]
            whole = self.wanted == set(METHODS)
            inventory.count(f"methods for {part}", len(there & set(expected)), published if whole else None)
        for method in sorted(self.wanted):
            both = videos.get((method, "train"), set()) & videos.get((method, "test"), set())
            for video in sorted(both):
                inventory.problem("both splits", f"{method}: video {video} lies in training and in test")
        yield from self._faceforensics(inventory)
        yield from self._celebdf(inventory)

    def _part(
        self, inventory: Inventory, top: str, part: str, videos: dict[tuple[str, str], set[str]]
    ) -> Iterator[Sample]:
        counts: dict[str, int] = {}
        foreign: set[str] = set()
        for path in self._thinned(inventory.files(top, _IMAGE)):
            parts = path.split("/")
            method = parts[1].lower()
            if method not in METHODS:
                foreign.add(parts[1])
                continue
            if method not in self.wanted:
                continue
            dirs = [p for p in parts[2:-1]]
            label = REAL if "real" in dirs else FAKE
            domain = next((d for d in dirs if d in ("ff", "cdf")), "ff" if part == "train" else "")
            video = next((d for d in reversed(dirs) if d.lower() not in _LEVELS), "")
            generator, family = METHODS[method]
            # Entire synthesis starts from noise: its folders are named after videos it did not stem from (issue 16).
            made = family == "entire_synthesis"
            people, source = ((), f"df40/{'/'.join(parts[1:-1])}") if made else _parents(domain, video)
            if label == FAKE:
                videos.setdefault((method, part), set()).add(f"{domain}/{video}" if video else path)
            counts[LABEL_WORDS[label]] = counts.get(LABEL_WORDS[label], 0) + 1
            yield self.sample(
                path,
                label=label,
                source_id=source or f"df40/{method}/{video or PurePosixPath(path).stem}",
                subjects=people,
                generator=generator if label == FAKE else "",
                generator_family=family if label == FAKE else "",
                split=part,
                attributes={k: v for k, v in (("domain", domain), ("method_folder", parts[1]), ("video", video)) if v},
            )
        for folder in sorted(foreign):
            inventory.problem("extra", f"{top}/{folder} is no folder of a DF40 method")
        for word, n in sorted(counts.items()):
            inventory.count(f"{word} pictures in {top}", n, None)

    def _faceforensics(self, inventory: Inventory) -> Iterator[Sample]:
        top = "FaceForensics++"
        under = f"{top}/original_sequences/youtube/c23/frames"
        found = inventory.files(under, _IMAGE)
        if not found:
            inventory.problem("missing", f"real pictures of FaceForensics++ ({under})")
            return
        split_of: dict[str, str] = {}
        for word, split in (("train", "train"), ("val", "dev"), ("test", "test")):
            if not (self.root / top / f"{word}.json").is_file():
                inventory.problem("missing", f"list {top}/{word}.json")
                continue
            rows: Any = read_json(self.root / top / f"{word}.json", self.name)
            split_of.update({str(sequence): split for pair in rows for sequence in pair})
        for path in self._thinned(found):
            sequence = path.split("/")[-2]
            yield self.sample(
                path,
                label=REAL,
                source_id=f"faceforensics/{sequence}",
                subjects=(f"faceforensics/{sequence}",),
                split=split_of.get(sequence, ""),
                attributes={"domain": "ff", "video": sequence},
            )

    def _celebdf(self, inventory: Inventory) -> Iterator[Sample]:
        if "test" not in self.parts:
            return
        top = "Celeb-DF-v2"
        found = [p for f in ("Celeb-real", "YouTube-real") for p in inventory.files(f"{top}/{f}/frames", _IMAGE)]
        if not found:
            inventory.problem("missing", f"real pictures of Celeb-DF ({top}/Celeb-real/frames, YouTube-real/frames)")
            return
        lines = inventory.lines(f"{top}/List_of_testing_videos.txt")
        test = {line.split(" ", 1)[-1].strip().removesuffix(".mp4") for _, line in lines}
        for path in self._thinned(found):
            folder, _, video = path.split("/")[1:4]
            match = re.fullmatch(r"(id\d+)_\d+", video)
            source = f"celebdf/{video}" if match else f"celebdf/youtube_{video}"
            yield self.sample(
                path,
                label=REAL,
                source_id=source,
                subjects=(f"celebdf/{match.group(1)}" if match else source,),
                split="test" if f"{folder}/{video}" in test else "",
                attributes={"domain": "cdf", "video": video},
            )

    def _thinned(self, paths: list[str]) -> list[str]:
        """At most ``per_video`` pictures per folder, evenly spread over the sorted names."""
        if self.per_video is None:
            return paths
        folders: dict[str, list[str]] = {}
        for path in paths:
            folders.setdefault(path.rsplit("/", 1)[0], []).append(path)
        out = []
        for names in folders.values():
            k = min(self.per_video, len(names))
            out.extend(names[(2 * i + 1) * len(names) // (2 * k)] for i in range(k))
        return out


def _parents(domain: str, video: str) -> tuple[tuple[str, ...], str]:
    """Subjects and source by the parent corpus's names: ``001_870``, ``001``; ``id0_id16_0003``, ``00043``."""
    if domain == "ff" and (match := re.fullmatch(r"(\d{3})(?:_(\d{3}))?", video)):
        people = tuple(f"faceforensics/{g}" for g in match.groups() if g)
        return people, people[0]
    if domain == "cdf" and (match := re.fullmatch(r"(id\d+)(?:_(id\d+))?_(\d+)", video)):
        people = tuple(dict.fromkeys(f"celebdf/{g}" for g in match.groups()[:2] if g))
        return people, f"celebdf/{match.group(1)}_{match.group(3)}"
    if domain == "cdf" and re.fullmatch(r"\d+", video):
        return (f"celebdf/youtube_{video}",), f"celebdf/youtube_{video}"
    return (), ""
