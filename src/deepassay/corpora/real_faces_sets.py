"""Photographs of real faces for self-made fakes: LFW, CelebA and FFHQ; every label is real."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of, read_json
from deepassay.files import sha256_bytes
from deepassay.labels import REAL
from deepassay.manifest import Sample

_IMAGE = (".jpg", ".jpeg", ".png")


class LFW(PublicCorpus):
    """Labeled Faces in the Wild: 13,233 news photographs of 5,749 people, 250 x 250.

    Expected below ``root``: ``lfw/Name_Surname/Name_Surname_0001.jpg`` (or ``lfw_funneled/``, ``lfw-deepfunneled/``, or
    the people's folders themselves). No split is published for this use. They are celebrities: they also occur in
    CelebA and in corpora of fakes.

    Args:
        root: folder that holds ``lfw``.
    """

    name = "lfw"
    modality = "face"
    status = "unverified"
    version = "2007"
    licence = "not stated; press photographs, research use"
    documented_at = (
        "Huang et al., Labeled Faces in the Wild, University of Massachusetts Amherst technical report 07-49, 2007",
        "its README.txt (tree, 13,233 images, 5,749 people); torchvision.datasets.lfw (folder names)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"images": 13_233, "people": 5_749}

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every photograph; a file that is not named after its folder is reported."""
        tops = ("lfw", "lfw_funneled", "lfw-deepfunneled")
        top = next((t for t in tops if (self.root / t).is_dir()), "")
        people: set[str] = set()
        n = 0
        for path in inventory.files(top, _IMAGE):
            match = re.fullmatch(r"(?:.*/)?([^/]+)/\1_(\d{4})\.\w+", path)
            if match is None:
                inventory.problem("unparsable", f"{path}: not named <person>/<person>_<number>")
                continue
            n += 1
            people.add(match.group(1))
            yield self.sample(
                path,
                label=REAL,
                source_id=f"lfw/{match.group(1)}_{match.group(2)}",
                subjects=(f"lfw/{match.group(1)}",),
            )
        inventory.count("images", n, self.published_counts["images"])
        inventory.count("people", len(people), self.published_counts["people"])


class CelebA(PublicCorpus):
    """CelebA: 202,599 photographs of 10,177 celebrities.

    Expected below ``root``::

        img_align_celeba/000001.jpg             (or img_celeba/, with variant: wild)
        list_eval_partition.txt                 000001.jpg 0      0 train, 1 validation (dev here), 2 test
        identity_CelebA.txt                     000001.jpg 2880   (optional, released on request)
        list_attr_celeba.txt                    40 columns of 1 and -1 (optional; Male and Young are kept)

    Without the identities every picture is its own cluster, which is wrong: ask for the list.

    Args:
        root: folder that holds the pictures' folder and the lists (``Anno``, ``Eval`` and ``Img`` are looked into).
        variant: ``aligned`` or ``wild``.

    Raises:
        ConfigError: another variant.
    """

    name = "celeba"
    modality = "face"
    status = "unverified"
    version = "2015"
    licence = "CelebA agreement (non-commercial research only, no redistribution)"
    documented_at = (
        "Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
        "mmlab.ie.cuhk.edu.hk/projects/CelebA.html (agreement, counts, lists)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"images": 202_599, "people": 10_177}

    def __init__(
        self,
        *,
        root: str,
        variant: str = "aligned",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.variant = one_of(variant, ("aligned", "wild"), what="celeba: variant")

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every picture of the partition list that is there."""
        splits = self._table(inventory, "list_eval_partition.txt", ("0", "1", "2"), needed=True)
        people = self._table(inventory, "identity_CelebA.txt", None, needed=False)
        attributes = self._attributes(inventory)
        name = "img_align_celeba" if self.variant == "aligned" else "img_celeba"
        folder = next((f for f in (name, f"Img/{name}") if (self.root / f).is_dir()), name)
        found = inventory.files(folder, _IMAGE)
        wanted = [f"{folder}/{file}" for file in splits] or found
        # The aligned pictures were also released as PNG under the same numbers.
        if found and found[0].endswith(".png"):
            wanted = [w.rsplit(".", 1)[0] + ".png" for w in wanted]
        present = inventory.expect(wanted, found=found, what="pictures")
        inventory.count("images", len(present), self.published_counts["images"])
        if people:
            inventory.count("people", len(set(people.values())), self.published_counts["people"])
        for path in present:
            file = path.rsplit("/", 1)[1].rsplit(".", 1)[0] + ".jpg"
            person = people.get(file)
            yield self.sample(
                path,
                label=REAL,
                source_id=f"celeba/{file.removesuffix('.jpg')}",
                subjects=(f"celeba/{person}",) if person else (),
                split={"0": "train", "1": "dev", "2": "test"}.get(splits.get(file, ""), ""),
                attributes=attributes.get(file, {}),
            )

    def _place(self, name: str) -> str | None:
        return next((p for p in (name, f"Anno/{name}", f"Eval/{name}") if (self.root / p).is_file()), None)

    def _table(
        self, inventory: Inventory, name: str, allowed: tuple[str, ...] | None, *, needed: bool
    ) -> dict[str, str]:
        path = self._place(name)
        if path is None:
            if needed:
                inventory.problem("missing", f"list {name}")
            return {}
        out: dict[str, str] = {}
        for number, line in inventory.lines(path):
            cells = line.split()
            if len(cells) != 2 or (allowed and cells[1] not in allowed):
                inventory.unparsable(path, number, f"{line!r} is not '<file> <{'0|1|2' if allowed else 'person'}>'")
            else:
                out[cells[0]] = cells[1]
        return out

    def _attributes(self, inventory: Inventory) -> dict[str, dict[str, str]]:
        path = self._place("list_attr_celeba.txt")
        if path is None:
            return {}
        lines = inventory.lines(path)
        header = next((line.split() for _, line in lines[:2] if "Male" in line.split()), None)
        if header is None:
            inventory.unparsable(path, 2, "the second line names no column Male")
            return {}
        male, young = header.index("Male"), header.index("Young")
        out: dict[str, dict[str, str]] = {}
        for number, line in lines[2:]:
            cells = line.split()
            if len(cells) != len(header) + 1:
                inventory.unparsable(path, number, f"{len(cells)} cells, {len(header) + 1} expected")
                continue
            out[cells[0]] = {
                "gender": "male" if cells[1 + male] == "1" else "female",
                "age_band": "young" if cells[1 + young] == "1" else "not young",
            }
        return out


class FFHQ(PublicCorpus):
    """Flickr-Faces-HQ: 70,000 aligned portraits under Creative Commons, each with its own licence.

    Expected below ``root``: ``images1024x1024/00000/00000.png`` (or ``thumbnails128x128``), and
    ``ffhq-dataset-v2.json`` for licences, the published training and validation halves (``dev`` here) and the
    photograph that a portrait was cut from: several portraits may stem from one. Without the JSON the first 60,000 are
    training, as its README says, and the licence is the whole set's.

    Args:
        root: folder that holds the pictures' folder.
        folder: ``images1024x1024`` or ``thumbnails128x128``.

    Raises:
        ConfigError: another folder.
    """

    name = "ffhq"
    modality = "face"
    status = "unverified"
    version = "v2 of its metadata"
    licence = "CC BY-NC-SA 4.0 (set); pictures each under their own Creative Commons or public-domain licence"
    documented_at = (
        "Karras et al., A Style-Based Generator Architecture for Generative Adversarial Networks, CVPR 2019",
        "github.com/NVlabs/ffhq-dataset: README.md (tree, halves, metadata)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"images": 70_000}

    def __init__(
        self,
        *,
        root: str,
        folder: str = "images1024x1024",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.folder = one_of(folder, ("images1024x1024", "thumbnails128x128"), what="ffhq: folder")

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every portrait; its number decides where it belongs."""
        facts: dict[str, Any] = {}
        if (self.root / "ffhq-dataset-v2.json").is_file():
            facts = read_json(self.root / "ffhq-dataset-v2.json", self.name)
        found = inventory.files(self.folder, (".png",))
        key = "image" if self.folder == "images1024x1024" else "thumbnail"
        wanted = [row[key]["file_path"] for row in facts.values() if "file_path" in row.get(key, {})] or found
        present = inventory.expect(wanted, found=found, what="portraits")
        inventory.count("images", len(present), self.published_counts["images"])
        for path in present:
            match = re.fullmatch(r"(\d{5})\.png", path.rsplit("/", 1)[1])
            if match is None:
                inventory.problem("unparsable", f"{path}: not named by five digits")
                continue
            number = int(match.group(1))
            row = facts.get(str(number), {})
            about = row.get("metadata", {})
            half = row.get("category", "training" if number < 60_000 else "validation")
            photo = about.get("photo_url", "")
            yield self.sample(
                path,
                label=REAL,
                # The photograph, not its author: hashed, so that the manifest leads to nobody's page.
                source_id=f"ffhq/{sha256_bytes(photo.encode())[:16] if photo else f'{number:05d}'}",
                split={"training": "train", "validation": "dev"}.get(half, ""),
                licence=about.get("license") or self.licence,
            )
