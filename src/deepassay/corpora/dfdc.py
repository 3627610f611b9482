"""The Deepfake Detection Challenge: the full set (50 training parts, validation, test) and the earlier preview."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of, read_json
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, LABEL_WORDS, REAL, parse_label
from deepassay.manifest import Sample

_VIDEO = (".mp4",)
_SPLIT = {"train": "train", "validation": "dev", "test": "test"}
_PART = re.compile(r"dfdc_train_part_\d+|train_sample_videos")
# In labels.csv, unlike in Celeb-DF's list, 1 is fake.
_NUMBERS = {"0": REAL, "1": FAKE}


class DFDC(PublicCorpus):
    """128,154 ten-second clips of paid actors who agreed: train, validation (Kaggle's public test) and released test.

    Expected below ``root``, as the parts unpack (``train/`` may be missing as a level)::

        train/dfdc_train_part_0/metadata.json        {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}}
        train/dfdc_train_part_0/a.mp4 ...            up to dfdc_train_part_49
        validation/labels.csv, validation/*.mp4      filename,label with 1 = fake
        test/labels.csv, test/*.mp4

    A fake is tied to its original (``source_id``); nobody publishes who is seen, nor which of the eight methods made a
    fake, so subjects are empty and the generator is ``DFDC`` (the mixture). ``validation`` is ``dev`` here. A row
    whose label contradicts its ``original`` (a REAL one has none) is a problem.

    Args:
        root: folder of ``train``, ``validation`` and ``test``, or of the training parts themselves.
        parts: which of ``train``, ``validation`` and ``test`` to read.

    Raises:
        ConfigError: an unknown part.
    """

    name = "dfdc"
    modality = "face"
    status = "unverified"
    version = "2020"
    licence = "DFDC terms (research; accepted at download)"
    documented_at = (
        "Dolhansky et al., The DeepFake Detection Challenge (DFDC) Dataset, 2020, arXiv 2006.07397",
        "ai.meta.com/datasets/dfdc and the Kaggle competition's data page (metadata.json columns)",
        "github.com/SCLBD/DeepfakeBench issue 25: the labels of the released test archive are 5,000 rows",
    )
    # The paper's private test set has 10,000 clips; the released test archive holds half as many.
    published_counts: ClassVar[Mapping[str, int]] = {
        "training parts": 50, "train": 119_154, "train fake": 100_000, "validation": 4_000, "test": 5_000,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        parts: Sequence[str] = ("train", "validation", "test"),
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        for part in parts:
            one_of(part, _SPLIT, what="dfdc: parts")
        if not parts or len(set(parts)) != len(parts):
            raise ConfigError(f"dfdc: parts is {list(parts)}", hint=f"name each once, from {list(_SPLIT)}")
        self.parts = tuple(parts)

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """The training parts by number, then validation and test."""
        if "train" in self.parts:
            yield from self._train(inventory)
        for part in ("validation", "test"):
            if part in self.parts:
                yield from self._labelled(inventory, part)

    def _train(self, inventory: Inventory) -> Iterator[Sample]:
        top = "train" if (self.root / "train").is_dir() else ""
        base = self.root / top
        folders = [p.name for p in base.iterdir() if p.is_dir() and _PART.fullmatch(p.name)]
        folders.sort(key=lambda n: (len(n), n))
        inventory.count("training parts", len(folders), self.published_counts["training parts"])
        total = fakes = 0
        for folder in folders:
            under = f"{top}/{folder}" if top else folder
            if not (self.root / under / "metadata.json").is_file():
                inventory.problem("missing", f"{under}/metadata.json")
                continue
            rows = _object(read_json(self.root / under / "metadata.json", self.name), f"{under}/metadata.json")
            found = inventory.files(under, _VIDEO)
            present = inventory.expect([f"{under}/{name}" for name in rows], found=found, what="training videos")
            for path in present:
                name = PurePosixPath(path).name
                sample = self._from_metadata(inventory, path, name, rows[name], f"{under}/metadata.json")
                if sample is not None:
                    total += 1
                    fakes += sample.label == FAKE
                    yield sample
        inventory.count("training videos", total, self.published_counts["train"])
        inventory.count("training fakes", fakes, self.published_counts["train fake"])

    def _from_metadata(self, inventory: Inventory, path: str, name: str, row: Any, where: str) -> Sample | None:
        try:
            label = parse_label(str(row["label"]), where=f"{where}, {name}")
        except (KeyError, TypeError, ManifestError):
            label = None
        if label is None:
            inventory.problem("unparsable", f"{where}, {name}: {row!r} has no label REAL or FAKE")
            return None
        original = row.get("original")
        if (label == FAKE) != bool(original):
            inventory.problem(
                "label", f"{where}, {name}: labelled {LABEL_WORDS[label]}, but its original is {original!r}"
            )
        return self.sample(
            path,
            label=label,
            source_id=f"dfdc/{PurePosixPath(str(original or name)).stem}",
            generator="DFDC" if label == FAKE else "",
            generator_family="face_swap" if label == FAKE else "",
            split="train",
            channel="h264",
            attributes={"part": PurePosixPath(path).parent.name},
        )

    def _labelled(self, inventory: Inventory, part: str) -> Iterator[Sample]:
        where = f"{part}/labels.csv"
        labels: dict[str, int] = {}
        lines = inventory.lines(where)
        for number, line in lines:
            cells = [c.strip() for c in line.split(",")]
            if number == 1 and cells[:2] == ["filename", "label"]:
                continue
            if len(cells) < 2 or not cells[0] or cells[1] not in _NUMBERS:
                inventory.unparsable(where, number, f"{line!r} is not '<file name>,<0 real or 1 fake>'")
                continue
            labels[cells[0]] = _NUMBERS[cells[1]]
        found = set(inventory.files(part, _VIDEO))
        inside = {name: f"{part}/videos/{name}" for name in labels}
        paths = {name: p if p in found else f"{part}/{name}" for name, p in inside.items()}
        present = inventory.expect(paths.values(), found=found, what=f"{part} videos")
        inventory.count(f"{part} videos", len(present), self.published_counts[part])
        by_path = {path: name for name, path in paths.items()}
        for path in present:
            label = labels[by_path[path]]
            yield self.sample(
                path,
                label=label,
                source_id=f"dfdc/{PurePosixPath(path).stem}",
                generator="DFDC" if label == FAKE else "",
                generator_family="face_swap" if label == FAKE else "",
                split=_SPLIT[part],
                channel="h264",
            )


class DFDCPreview(PublicCorpus):
    """The preview of 2019: clips of paid actors and swaps by two methods, with a published train and test set.

    Expected below ``root`` (``dfdc_preview_set``)::

        dataset.json                                 {"method_A/...mp4": {"label": "fake", "set": "train", ...}, ...}
        original_videos/<actor>/<actor>_<clip>_<n>.mp4
        method_A/<target>/<target>_<clip>/<swapped>_<target>_<clip>_<n>.mp4      (and method_B)

    ``dataset.json`` is the list that the copy is counted against; a label that contradicts its folder is a problem. A
    fake's subjects are (target, the actor whose face was put on); its source is the target's clip.

    Args:
        root: folder that holds ``dataset.json``.
    """

    name = "dfdc_preview"
    modality = "face"
    status = "unverified"
    version = "preview 2019"
    licence = "DFDC preview terms (research; accepted at download)"
    documented_at = (
        "Dolhansky et al., The Deepfake Detection Challenge (DFDC) Preview Dataset, 2019, arXiv 1910.08854",
        "DeepfakeBench (github.com/SCLBD/DeepfakeBench), preprocessing/rearrange.py: columns of dataset.json",
    )

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Every video of ``dataset.json`` that is there, in its order."""
        if not (self.root / "dataset.json").is_file():
            inventory.problem("missing", "list dataset.json")
            return
        rows = _object(read_json(self.root / "dataset.json", self.name), "dataset.json")
        found = inventory.files("", _VIDEO)
        present = inventory.expect(rows, found=found, what="videos")
        counts: dict[str, int] = {}
        for path in present:
            sample = self._one(inventory, path, rows[path])
            if sample is not None:
                key = f"{sample.split} {LABEL_WORDS[int(sample.label or 0)]} videos"
                counts[key] = counts.get(key, 0) + 1
                yield sample
        for key, n in sorted(counts.items()):
            inventory.count(key, n, None)

    def _one(self, inventory: Inventory, path: str, row: Any) -> Sample | None:
        folder, stem = path.split("/")[0], PurePosixPath(path).stem
        try:
            label = parse_label(str(row["label"]), where=path)
            split = {"train": "train", "test": "test"}[str(row["set"]).strip().lower()]
        except (KeyError, TypeError, ManifestError):
            inventory.problem("unparsable", f"dataset.json, {path}: {row!r} has no label and set")
            return None
        if folder not in ("original_videos", "method_A", "method_B") or label is None:
            inventory.problem("unparsable", f"dataset.json, {path}: not in original_videos, method_A or method_B")
            return None
        lies_in = REAL if folder == "original_videos" else FAKE
        if lies_in != label:
            inventory.problem("label", f"dataset.json, {path}: labelled {LABEL_WORDS[label]}, but lies in {folder}")
        shape = r"(\d+)_(\w+_\d+)" if lies_in == REAL else r"(\d+)_(\d+)_(\w+_\d+)"
        match = re.fullmatch(shape, stem)
        if match is None:
            inventory.problem("unparsable", f"{path}: its name does not tell actor and clip")
            return None
        people = match.groups()[:-1] if lies_in == REAL else (match.group(2), match.group(1))
        return self.sample(
            path,
            label=lies_in,
            source_id=f"dfdc_preview/{people[0]}_{match.groups()[-1]}",
            subjects=tuple(f"dfdc_preview/{p}" for p in people),
            generator="" if lies_in == REAL else folder,
            generator_family="" if lies_in == REAL else "face_swap",
            split=split,
            channel="h264",
        )


def _object(rows: Any, where: str) -> dict[str, Any]:
    if not isinstance(rows, dict):
        raise ManifestError(
            f"{where} holds a {type(rows).__name__}", hint="use the file as released: an object by name"
        )
    return rows
