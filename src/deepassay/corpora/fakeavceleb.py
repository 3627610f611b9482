"""FakeAVCeleb v1.2: celebrities of VoxCeleb2 whose picture, voice or both were made; one manifest per modality."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.labels import FAKE, REAL
from deepassay.manifest import MODALITIES, Sample

_LIST = "meta_data.csv"
_TOPS = ("", "FakeAVCeleb_v1.2", "FakeAVCeleb")
# Type -> (picture, sound, the category letter beside it).
TYPES = {
    "RealVideo-RealAudio": (REAL, REAL, "A"),
    "RealVideo-FakeAudio": (REAL, FAKE, "B"),
    "FakeVideo-RealAudio": (FAKE, REAL, "C"),
    "FakeVideo-FakeAudio": (FAKE, FAKE, "D"),
}
_NEEDED = ("source", "method", "category", "type", "race", "gender", "path")
_FAMILY = {"faceswap": "face_swap", "fsgan": "face_swap", "wav2lip": "lip_sync"}
_VIDEO = (".mp4",)


@dataclass(frozen=True)
class _Row:
    source: str
    donor: str
    method: str
    kind: str
    race: str
    gender: str
    file: str


class FakeAVCeleb(PublicCorpus):
    """500 real clips, 500 with a cloned voice, 9,709 with a made picture and 10,835 with both.

    Expected below ``root`` (or in ``FakeAVCeleb_v1.2`` there)::

        meta_data.csv      source,target1,target2,method,category,type,race,gender,path,(folder)
        RealVideo-RealAudio/African/men/id00076/00109.mp4
        FakeVideo-FakeAudio/African/men/id00076/00109_10_id00476_wavtolip.mp4

    Picture and sound are faked apart, so a clip has **two labels**: ``modality=face`` takes the picture's (a cloned
    voice over the real picture is real), ``modality=voice`` the sound's. ``manipulated`` says what was made. The type
    must agree with its category letter (A to D) and ``real`` as a method with type A. Rows that name one file twice are
    joined, which is how it was released, and counted.

    No split is published: use ``split=subject``. People carry VoxCeleb2's ids (``voxceleb2/id00076``): the subject
    seen, then the one whose face or voice was put on.

    Args:
        root: folder that holds ``meta_data.csv``, or the one above it.
        modality: ``face`` or ``voice``.

    Raises:
        ConfigError: another modality.
    """

    name = "fakeavceleb"
    modality = "face"
    status = "unverified"
    version = "1.2"
    licence = "FakeAVCeleb request form (research)"
    documented_at = (
        "Khalid et al., FakeAVCeleb: A Novel Audio-Video Multimodal Deepfake Dataset, NeurIPS 2021, arXiv 2108.05080",
        "github.com/DASH-Lab/FakeAVCeleb: README.md; sites.google.com/view/fakeavcelebdash-lab/documentation",
        "counts of v1.2: github.com/dfwb-research/deepfake-workbench, inventory of FakeAVCeleb",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "RealVideo-RealAudio": 500, "RealVideo-FakeAudio": 500,
        "FakeVideo-RealAudio": 9_709, "FakeVideo-FakeAudio": 10_835,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        modality: str = "face",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.side = one_of(modality, MODALITIES, what="fakeavceleb: modality")

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every listed clip that is there, labelled for the chosen modality."""
        top = next((t for t in _TOPS if (self.root / t / _LIST).is_file()), "")
        rows = self._rows(inventory, top)
        found = [p for kind in TYPES for p in inventory.files(f"{top}/{kind}" if top else kind, _VIDEO)]
        present = inventory.expect(rows, found=found, what="clips") if rows else []
        for path in present:
            row = rows[path]
            picture, sound, _ = TYPES[row.kind]
            label = picture if self.side == "face" else sound
            yield self.sample(
                path,
                sample_id=f"{self.name}/{self.side}/{path}",
                modality=self.side,
                label=label,
                source_id=f"fakeavceleb/{row.source}/{PurePosixPath(path).stem.split('_')[0]}",
                subjects=tuple(dict.fromkeys(f"voxceleb2/{p}" for p in (row.source, row.donor) if p)),
                generator=self._generator(row) if label == FAKE else "",
                generator_family=self._family(row) if label == FAKE else "",
                attributes={
                    "manipulated": {(0, 0): "nothing", (0, 1): "sound", (1, 0): "picture", (1, 1): "both"}[
                        picture, sound
                    ],
                    "race": row.race,
                    "gender": row.gender,
                    "method": row.method,
                    "parent": "VoxCeleb2",
                },
            )

    def _generator(self, row: _Row) -> str:
        # The column names what made the picture; every cloned voice is by one tool (documentation page).
        return "rtvc" if self.side == "voice" else row.method

    def _family(self, row: _Row) -> str:
        return "voice_cloning" if self.side == "voice" else _FAMILY.get(row.method.split("-")[0], "")

    def _rows(self, inventory: Inventory, top: str) -> dict[str, _Row]:
        where = f"{top}/{_LIST}" if top else _LIST
        lines = inventory.lines(where)
        if not lines:
            return {}
        header = [c.strip() for c in next(csv.reader([lines[0][1]]))]
        missing = [c for c in _NEEDED if c not in header]
        if missing:
            inventory.unparsable(where, 1, f"no column {missing[0]}; it has {header}")
            return {}
        out: dict[str, _Row] = {}
        repeated = 0
        counts = dict.fromkeys(TYPES, 0)
        for number, line in lines[1:]:
            cells = [c.strip() for c in next(csv.reader([line]))]
            row = dict(zip(header, cells, strict=False))
            kind = row.get("type", "")
            if kind not in TYPES or any(not row.get(c) for c in _NEEDED):
                inventory.unparsable(where, number, f"{line!r} has no type, person or file")
                continue
            counts[kind] += 1
            letter = TYPES[kind][2]
            if row["category"] != letter or (row["method"] == "real") != (letter == "A"):
                inventory.problem(
                    "label",
                    f"{where}, line {number}: {kind} with category {row['category']} and method {row['method']}",
                )
            # The last, unnamed column holds the folder; without it, the other columns say the same.
            folder = cells[len(_NEEDED) + 2] if len(cells) > len(_NEEDED) + 2 else ""
            folder = (
                folder.split("/", 1)[1] if "/" in folder else f"{kind}/{row['race']}/{row['gender']}/{row['source']}"
            )
            path = "/".join(p for p in (top, folder, row["path"]) if p)
            donor = row.get("target1", "")
            new = _Row(
                row["source"], donor if donor.startswith("id") else "", row["method"], kind, row["race"], row["gender"],
                row["path"],
            )  # fmt: skip
            repeated += path in out
            out.setdefault(path, new)
        for kind, n in counts.items():
            inventory.count(f"rows of {kind}", n, self.published_counts[kind])
        inventory.count("rows that repeat a file", repeated, None)
        return out
