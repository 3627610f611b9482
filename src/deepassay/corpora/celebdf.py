"""Celeb-DF v1, v2 and v3 (Celeb-DF++): celebrities' interviews, fakes of them, and a published list of test videos."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.labels import FAKE, LABEL_WORDS, REAL
from deepassay.manifest import Sample

_LIST = "List_of_testing_videos.txt"
_VIDEO = (".mp4",)
# The list's own numbers, which are the other way round than here (law 1).
_PUBLISHED = {"1": REAL, "0": FAKE}
_LICENCE = "Terms to Use Celeb-DF (form; research only)"
_REAL_FOLDERS = ("Celeb-real", "YouTube-real")

FACE_SWAP = ("BlendFace", "GHOST", "HifiFace", "InSwapper", "MobileFaceSwap", "SimSwap", "UniFace")
REENACTMENT = ("DaGAN", "FSRT", "HyperReenact", "LIA", "LivePortrait", "MCNET", "TPSMM")
TALKING_FACE = ("AniTalker", "EchoMimic", "EDTalk", "FLOAT", "IP_LAP", "Real3DPortrait", "SadTalker")


class _CelebDF(PublicCorpus):
    """What the three releases share: names, the test list and its numbers; see `CelebDFv2`."""

    modality = "face"
    licence = _LICENCE
    people: ClassVar[str]

    def __init__(
        self,
        *,
        root: str,
        rest: str = "train",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.rest = one_of(rest, ("train", "unsplit"), what=f"{self.name}: rest")

    def fake_folders(self) -> dict[str, tuple[str, str]]:
        """Folder of fakes -> (generator, family)."""
        return {"Celeb-synthesis": ("Celeb-DF", "face_swap")}

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Reals, then fakes by folder; the list must name existing videos and repeat their labels."""
        fakes = self.fake_folders()
        found = {f: inventory.files(f, _VIDEO) for f in (*_REAL_FOLDERS, *fakes)}
        everything = {path for paths in found.values() for path in paths}
        test = self._test_list(inventory, everything)
        for folder, paths in found.items():
            inventory.count(f"{folder} videos", len(paths), self.published_counts.get(folder))
        rest = "train" if self.rest == "train" else ""
        for folder in _REAL_FOLDERS:
            for path in found[folder]:
                subject, source = self._real(PurePosixPath(path).stem, folder)
                if not subject:
                    inventory.problem("unparsable", f"{path}: a real video is named id<n>_<recording> or <number>")
                    continue
                yield self.sample(
                    path,
                    label=REAL,
                    source_id=source,
                    subjects=(subject,),
                    split="test" if path in test else rest,
                    attributes={"folder": folder},
                )
        for folder, (generator, family) in fakes.items():
            for path in found[folder]:
                subjects, source = self._fake(PurePosixPath(path).stem)
                if not subjects:
                    inventory.problem("unparsable", f"{path}: a fake is named id<target>_id<source>_<recording>")
                    continue
                yield self.sample(
                    path,
                    label=FAKE,
                    source_id=source,
                    subjects=subjects,
                    generator=generator,
                    generator_family=family,
                    split="test" if path in test else rest,
                    attributes={"folder": folder},
                )

    def _test_list(self, inventory: Inventory, everything: set[str]) -> set[str]:
        lines = inventory.lines(_LIST)
        named: dict[str, int] = {}
        for number, line in lines:
            word, _, path = line.partition(" ")
            path = path.strip()
            if word not in _PUBLISHED or not path:
                inventory.unparsable(_LIST, number, f"{line!r} is not '<1 real or 0 fake> <path>'")
                continue
            if path in named:
                inventory.unparsable(_LIST, number, f"{path} is listed twice (first in line {named[path]})")
                continue
            named[path] = number
            lies_in = REAL if path.split("/")[0] in _REAL_FOLDERS else FAKE
            if lies_in != _PUBLISHED[word]:
                inventory.problem(
                    "label",
                    f"{_LIST}, line {number}: {word} is {LABEL_WORDS[_PUBLISHED[word]]} in this list, but {path} lies "
                    f"among the {LABEL_WORDS[lies_in]} videos",
                )
            if path not in everything:
                inventory.problem("missing", f"test list: {path}")
        if lines:
            inventory.count("videos in the test list", len(named), self.published_counts.get("test"))
            real = sum(path.split("/")[0] in _REAL_FOLDERS for path in named)
            inventory.count("real videos in the test list", real, self.published_counts.get("test real"))
        return set(named)

    def _real(self, stem: str, folder: str) -> tuple[str, str]:
        match = re.fullmatch(r"(id\d+)_(\d+)", stem) if folder == "Celeb-real" else None
        if match:
            return f"{self.people}/{match.group(1)}", f"{self.people}/{stem}"
        if folder == "YouTube-real" and re.fullmatch(r"\d+", stem):
            return f"{self.people}/youtube_{stem}", f"{self.people}/youtube_{stem}"
        return "", ""

    def _fake(self, stem: str) -> tuple[tuple[str, ...], str]:
        match = re.fullmatch(r"(id\d+)_(id\d+)_(\d+)", stem)
        if match is None:
            return (), ""
        target, source, recording = match.groups()
        people = tuple(dict.fromkeys((f"{self.people}/{target}", f"{self.people}/{source}")))
        return people, f"{self.people}/{target}_{recording}"


class CelebDFv1(_CelebDF):
    """Celeb-DF v1: 158 + 250 real videos and 795 swaps; tree, names and options as in `CelebDFv2`.

    Its celebrity numbers are not known to be those of v2, so the two are kept apart.
    """

    name = "celebdf_v1"
    people = "celebdf_v1"
    status = "unverified"
    version = "v1"
    documented_at = (
        "Li et al., Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics, CVPR 2020, arXiv 1909.12962",
        "github.com/yuezunli/celeb-deepfakeforensics: Celeb-DF-v1/README.md, README.md",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"Celeb-real": 158, "YouTube-real": 250, "Celeb-synthesis": 795}


class CelebDFv2(_CelebDF):
    """Celeb-DF v2: 590 + 300 real videos, 5,639 swaps, 518 test videos.

    Expected below ``root``::

        Celeb-real/id0_0000.mp4            recording 0000 of celebrity id0
        YouTube-real/00000.mp4
        Celeb-synthesis/id0_id16_0000.mp4  recording 0000 of id0 with the face of id16
        List_of_testing_videos.txt         "1 YouTube-real/00170.mp4": here 1 means REAL

    Only a test list is published; every other video is ``train``, as in the authors' code, **and celebrities occur on
    both sides**: ``split=official`` says so, ``split=subject`` keeps people apart. The list's label must agree with the
    folder that it names.

    Args:
        root: folder that holds ``Celeb-real``.
        rest: ``train``, or ``unsplit`` to leave every video outside the list without a split.
    """

    name = "celebdf_v2"
    people = "celebdf"
    status = "unverified"
    version = "v2"
    documented_at = (
        "Li et al., Celeb-DF: A Large-scale Challenging Dataset for DeepFake Forensics, CVPR 2020, arXiv 1909.12962",
        "github.com/yuezunli/celeb-deepfakeforensics: Celeb-DF-v2/README.md",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "Celeb-real": 590, "YouTube-real": 300, "Celeb-synthesis": 5639, "test": 518, "test real": 178,
    }  # fmt: skip


class CelebDFv3(_CelebDF):
    """Celeb-DF++ (v3): the real videos of v2, and fakes by 22 methods of three families.

    Expected below ``root``: as v2, with fakes in ``Celeb-synthesis/FaceSwap/<method>/``, ``.../FaceReenact/<method>/``
    and ``.../TalkingFace/<method>/``. The fakes of v2 lie in ``FaceSwap/Celeb-DF`` (README) or ``FaceSwap/Celeb-DF-v2``
    (the authors' code): both are read. Swaps and reenactments are named ``id0_id16_0000``; a talking face is driven by
    sound and names its own recording first (``id0_0000_...``).

    Celebrities and real recordings carry the same ids as in v2, so that an audit of both sees them.

    Args:
        root: folder that holds ``Celeb-real``.
        rest: ``train``, or ``unsplit`` to leave every video outside the test list without a split.
    """

    name = "celebdf_v3"
    people = "celebdf"
    status = "unverified"
    version = "v3 (Celeb-DF++)"
    licence = "Terms to Use Celeb-DF++ (form; research only)"
    documented_at = (
        "Li et al., Celeb-DF++: A Large-scale Challenging Video DeepFake Benchmark, 2025, arXiv 2507.18015",
        "github.com/OUC-VAS/Celeb-DF-PP: README.md, DeepfakeBench/preprocessing/rearrange.py",
    )
    # 178 real ones as in v2; 200 per swap and reenactment method, 300 per talking-face method.
    published_counts: ClassVar[Mapping[str, int]] = {
        "Celeb-real": 590, "YouTube-real": 300, "test": 178 + 200 * 8 + 200 * 7 + 300 * 7,
    }  # fmt: skip

    def fake_folders(self) -> dict[str, tuple[str, str]]:
        """Folder of fakes -> (generator, family)."""
        top = "Celeb-synthesis"
        first = next(
            (n for n in ("Celeb-DF", "Celeb-DF-v2") if (self.root / top / "FaceSwap" / n).is_dir()), "Celeb-DF"
        )
        return {
            f"{top}/FaceSwap/{first}": ("Celeb-DF", "face_swap"),
            **{f"{top}/FaceSwap/{m}": (m, "face_swap") for m in FACE_SWAP},
            **{f"{top}/FaceReenact/{m}": (m, "reenactment") for m in REENACTMENT},
            **{f"{top}/TalkingFace/{m}": (m, "talking_face") for m in TALKING_FACE},
        }

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """As for v2; a method's folder that is not there, or that nobody published, is named."""
        folders = self.fake_folders()
        there = {"/".join(p.split("/")[:3]) for p in inventory.files("Celeb-synthesis", _VIDEO)}
        inventory.expect(folders, found=there, what="folders of fakes")
        yield from super().samples(inventory)

    def _fake(self, stem: str) -> tuple[tuple[str, ...], str]:
        people, source = super()._fake(stem)
        match = re.match(r"(id\d+)_(\d+)(?:_|$)", stem)
        if people or match is None:
            return people, source
        return (f"{self.people}/{match.group(1)}",), f"{self.people}/{match.group(1)}_{match.group(2)}"
