"""KoDF: clips of 403 consenting Korean subjects and fakes of them by six models, told apart by file name."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_VIDEO = (".mp4",)
_ACTOR = r"(?:[0-9a-f]{20}|\d{6})"
# Code in a fake's name -> folder, name and family. The audio-driven folder holds two models.
CODES = {
    "1": ("dfl", "DeepFaceLab", "face_swap"),
    "2": ("dffs", "FaceSwap", "face_swap"),
    "3": ("fsgan", "FSGAN", "face_swap"),
    "4": ("fo", "FOMM", "reenactment"),
    "5": ("audio-driven", "ATFHP or Wav2Lip", "talking_face"),
}
_FOLDERS = {folder for folder, _, _ in CODES.values()}


class KoDF(PublicCorpus):
    """62,166 real clips and 175,776 fakes, recorded for the purpose.

    Anywhere below ``root``: only file names count, and a folder named after a method, where there is one, must agree::

        .../<actor>/<actor>_<number>.mp4                               real
        .../dfl/<date>/<target>/<target>_<source>_<code>_<number>.mp4  fake; code 1 dfl ... 5 audio-driven

    An actor is twenty hexadecimal characters or six digits. A fake's subjects are (target, source); the very clip it
    stems from is not named. No split is published: use ``split=subject``. The clips with adversarial noise that come
    with the set are named otherwise and are reported; keep them out of ``root``.

    Args:
        root: folder that holds the clips.
    """

    name = "kodf"
    modality = "face"
    status = "unverified"
    version = "2021"
    licence = "KoDF terms (request; AI-Hub for Koreans)"
    documented_at = (
        "Kwon et al., KoDF: A Large-Scale Korean DeepFake Detection Dataset, ICCV 2021, arXiv 2103.10094",
        "github.com/deepbrainai-research/kodf: index.md",
        "names and codes: github.com/dfwb-research/deepfake-workbench, inventory of KoDF",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"real": 62_166, "fake": 175_776, "subjects": 403}

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every clip whose name says what it is."""
        people: set[str] = set()
        counts = {REAL: 0, FAKE: 0}
        for path in inventory.files("", _VIDEO):
            stem, folders = PurePosixPath(path).stem, set(path.split("/")[:-1]) & _FOLDERS
            real = re.fullmatch(rf"({_ACTOR})_\d+", stem)
            fake = re.fullmatch(rf"({_ACTOR})_({_ACTOR})_([1-5])_\d+", stem)
            if real is None and fake is None:
                inventory.problem(
                    "unparsable", f"{path}: neither <actor>_<number> nor <target>_<source>_<code>_<number>"
                )
                continue
            if fake is None and real is not None:
                if folders:
                    inventory.problem("label", f"{path}: named like a real clip, but lies in {sorted(folders)[0]}")
                    continue
                people.add(real.group(1))
                counts[REAL] += 1
                yield self.sample(path, label=REAL, source_id=f"kodf/{stem}", subjects=(f"kodf/{real.group(1)}",))
            elif fake is not None:
                folder, generator, family = CODES[fake.group(3)]
                if folders and folder not in folders:
                    inventory.problem("label", f"{path}: its code says {folder}, but it lies in {sorted(folders)[0]}")
                    continue
                counts[FAKE] += 1
                yield self.sample(
                    path,
                    label=FAKE,
                    subjects=tuple(dict.fromkeys(f"kodf/{p}" for p in fake.groups()[:2])),
                    generator=generator,
                    generator_family=family,
                    attributes={"method_folder": folder},
                )
        inventory.count("real clips", counts[REAL], self.published_counts["real"])
        inventory.count("fake clips", counts[FAKE], self.published_counts["fake"])
        inventory.count("subjects", len(people), self.published_counts["subjects"])
