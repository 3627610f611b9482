"""FaceForensics++ (four methods and FaceShifter, raw/c23/c40, official pair lists) and DeepFakeDetection beside it."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of, read_json
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample

METHODS = {
    "Deepfakes": "face_swap",
    "Face2Face": "reenactment",
    "FaceSwap": "face_swap",
    "NeuralTextures": "reenactment",
    "FaceShifter": "face_swap",
}
# The words of the download script, and the folders that releases have used for them.
COMPRESSIONS = {"raw": ("raw", "c0"), "c0": ("c0", "raw"), "c23": ("c23",), "c40": ("c40",)}
_CHANNEL = {"raw": "h264 crf 0", "c0": "h264 crf 0", "c23": "h264 crf 23", "c40": "h264 crf 40"}
_LISTS = {"train": "train", "val": "dev", "test": "test"}
_LIST_FOLDERS = ("", "splits", "dataset/splits", ".official_files/splits")
_VIDEO = (".mp4", ".avi", ".mov", ".mkv")
_LICENCE = "FaceForensics terms of use (non-commercial research, no redistribution)"


class FaceForensics(PublicCorpus):
    """1,000 YouTube sequences and, per method, one fake of each: ``<target>_<source>.mp4``.

    Expected below ``root``, as the download script leaves it::

        original_sequences/youtube/<c23>/videos/000.mp4
        manipulated_sequences/<Deepfakes ...>/<c23>/videos/000_003.mp4
        manipulated_sequences/<Deepfakes ...>/masks/videos/000_003.mp4     (optional)
        train.json, val.json, test.json                                    (or in splits/, or in ``split_lists``)
        conversion_dict.json                                               (optional)

    The four methods repeat the same file names, so every ``sample_id`` carries method and compression (law 4). A fake
    is tied to both its sequences: ``subjects`` are (target, source) and ``source_id`` is the target, whose background
    it keeps; the official lists hold pairs, so both lie in one split. ``val`` is ``dev`` here.

    The 1,000 sequences stem from 977 YouTube videos, and a few of those lie in two official splits: with
    ``conversion_dict.json`` every sample carries ``recording``, and ``people=recording`` makes it the subject, so that
    splits and audit see it. The published protocol is ``people=sequence``.

    Args:
        root: folder that holds ``original_sequences`` and ``manipulated_sequences``.
        compression: ``raw`` (= ``c0``), ``c23`` or ``c40``, or several.
        methods: some of `METHODS`; FaceShifter, added later by its authors, only where it is named.
        split_lists: folder of ``train.json``, ``val.json`` and ``test.json`` (and ``conversion_dict.json``); by
            default they are looked for in ``root``, ``root/splits`` and ``root/dataset/splits``.
        people: what counts as a person: ``sequence`` (as published), or ``recording`` (the YouTube video).

    Raises:
        ConfigError: an unknown compression, method or word for people.
    """

    name = "faceforensics"
    modality = "face"
    status = "verified"
    version = "FaceForensics++ v3 of the download script"
    licence = _LICENCE
    documented_at = (
        "Roessler et al., FaceForensics++: Learning to Detect Manipulated Facial Images, ICCV 2019, arXiv 1901.08971",
        "github.com/ondyari/FaceForensics: dataset/README.md, dataset/splits/*.json, dataset/conversion_dict.json",
        "its download script (folders and file names; sent after the form)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "originals": 1000,
        "fakes per method": 1000,
        "train": 720,
        "dev": 140,
        "test": 140,
    }

    def __init__(
        self,
        *,
        root: str,
        compression: str | Sequence[str] = "c23",
        methods: Sequence[str] = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"),
        split_lists: str | None = None,
        people: str = "sequence",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.compressions = _words(compression, COMPRESSIONS, f"{self.name}: compression")
        self.methods = _words(methods, METHODS, f"{self.name}: methods")
        self.split_lists = Path(split_lists) if split_lists else None
        self.people = one_of(people, ("sequence", "recording"), what=f"{self.name}: people")
        self._shared: dict[str, list[str]] = {}

    def prepare(self) -> Manifest:
        """As for every corpus; ``info["shared_recordings"]`` names YouTube videos that lie in two official splits."""
        manifest = super().prepare()
        info = {**manifest.info, "compression": list(self.compressions), "methods": list(self.methods)}
        return Manifest(manifest.table, manifest.root, {**info, "shared_recordings": self._shared})

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Originals, then every method's fakes, per compression."""
        pairs = self._pairs(inventory)
        split_of = {sequence: split for split, rows in pairs.items() for pair in rows for sequence in pair}
        recordings = self._recordings(inventory)
        self._shared = _in_two_splits(recordings, split_of)
        inventory.count("recordings in two official splits", len(self._shared), None)
        for sequence in sorted(set(split_of) - set(recordings)) if self.people == "recording" else ():
            inventory.problem("missing", f"conversion_dict.json: recording of sequence {sequence}")
        for split in ("train", "dev", "test"):
            if pairs:
                found = sum(s == split for s in split_of.values())
                inventory.count(f"sequences listed for {split}", found, self.published_counts[split])
        for compression in self.compressions:
            yield from self._originals(inventory, compression, split_of, recordings)
            for method in self.methods:
                yield from self._fakes(inventory, method, compression, pairs, split_of, recordings)

    def _originals(
        self, inventory: Inventory, compression: str, split_of: Mapping[str, str], recordings: Mapping[str, str]
    ) -> Iterator[Sample]:
        folder = _existing(self.root, "original_sequences/youtube", compression)
        what = f"original {compression} videos"
        found = inventory.files(folder, _VIDEO)
        wanted = [f"{folder}/{sequence}.mp4" for sequence in sorted(split_of)] or found
        present = inventory.expect(wanted, found=found, what=what)
        inventory.count(what, len(present), self.published_counts["originals"])
        for path in present:
            sequence = PurePosixPath(path).stem
            yield self.sample(
                path,
                label=REAL,
                source_id=f"faceforensics/{sequence}",
                subjects=self._people([sequence], recordings),
                split=split_of.get(sequence, ""),
                channel=_CHANNEL[compression],
                attributes=_attributes(compression, recordings.get(sequence, "")),
            )

    def _fakes(
        self,
        inventory: Inventory,
        method: str,
        compression: str,
        pairs: Mapping[str, list[tuple[str, str]]],
        split_of: Mapping[str, str],
        recordings: Mapping[str, str],
    ) -> Iterator[Sample]:
        folder = _existing(self.root, f"manipulated_sequences/{method}", compression)
        what = f"{method} {compression} videos"
        found = inventory.files(folder, _VIDEO)
        names = sorted(f"{a}_{b}" for rows in pairs.values() for one, two in rows for a, b in ((one, two), (two, one)))
        present = inventory.expect([f"{folder}/{n}.mp4" for n in names] or found, found=found, what=what)
        inventory.count(what, len(present), self.published_counts["fakes per method"])
        masks = set(inventory.files(f"manipulated_sequences/{method}/masks/videos", _VIDEO))
        for path in present:
            stem = PurePosixPath(path).stem
            target, _, source = stem.partition("_")
            if not source:
                inventory.problem("unparsable", f"{path}: a fake is named <target>_<source>")
                continue
            attributes = _attributes(compression, recordings.get(target, ""))
            mask = f"manipulated_sequences/{method}/masks/videos/{stem}.mp4"
            if mask in masks:
                attributes["mask"] = mask
            yield self.sample(
                path,
                label=FAKE,
                source_id=f"faceforensics/{target}",
                subjects=self._people([target, source], recordings),
                generator=method,
                generator_family=METHODS[method],
                split=split_of.get(target, ""),
                channel=_CHANNEL[compression],
                attributes=attributes,
            )

    def _people(self, sequences: Sequence[str], recordings: Mapping[str, str]) -> tuple[str, ...]:
        if self.people == "recording":
            known = (f"youtube/{recordings[s]}" if s in recordings else f"faceforensics/{s}" for s in sequences)
            return tuple(dict.fromkeys(known))
        return tuple(f"faceforensics/{s}" for s in sequences)

    def _pairs(self, inventory: Inventory) -> dict[str, list[tuple[str, str]]]:
        """Split -> pairs of sequence ids, from the three official lists."""
        folder = self._list_folder()
        out: dict[str, list[tuple[str, str]]] = {}
        if folder is None:
            inventory.problem("missing", "split lists train.json, val.json and test.json (set split_lists=FOLDER)")
            return out
        seen: dict[str, str] = {}
        for word, split in _LISTS.items():
            rows = read_json(folder / f"{word}.json", self.name)
            if not isinstance(rows, list):
                raise _bad_list(folder / f"{word}.json", "it holds no list")
            for number, row in enumerate(rows, start=1):
                if not (isinstance(row, list) and len(row) == 2 and all(re.fullmatch(r"\d{3}", str(s)) for s in row)):
                    inventory.unparsable(f"{word}.json", number, f"pair {row!r} is not two three-digit sequence ids")
                    continue
                clash = [s for s in row if s in seen]
                if clash or row[0] == row[1]:
                    inventory.unparsable(f"{word}.json", number, f"sequence {(clash or row)[0]} is listed twice")
                    continue
                seen.update(dict.fromkeys(row, split))
                out.setdefault(split, []).append((row[0], row[1]))
        return out

    def _list_folder(self) -> Path | None:
        if self.split_lists is not None:
            missing = [w for w in _LISTS if not (self.split_lists / f"{w}.json").is_file()]
            if missing:
                raise ManifestError(
                    f"{self.name}: {self.split_lists} has no {missing[0]}.json",
                    hint="split_lists is the folder of train.json, val.json and test.json from the authors' repository "
                    "(dataset/splits)",
                )
            return self.split_lists
        for name in _LIST_FOLDERS:
            if all((self.root / name / f"{w}.json").is_file() for w in _LISTS):
                return self.root / name
        return None

    def _recordings(self, inventory: Inventory) -> dict[str, str]:
        """Sequence id -> YouTube id, where the conversion list is there (``"000": "--b1Ua-kWJE 0"``)."""
        lists = self._list_folder()
        places = [self.root, self.root / "dataset", *([lists, lists.parent] if lists else [])]
        names = ("conversion_dict.json", "ffpp_conversion_dict.json")
        path = next((p / n for p in places for n in names if (p / n).is_file()), None)
        if path is None:
            if self.people == "recording":
                raise ManifestError(
                    f"{self.name}: people=recording needs conversion_dict.json, which is not in {self.root}",
                    hint="copy it from the authors' repository (dataset/conversion_dict.json), or use people=sequence",
                )
            return {}
        raw = read_json(path, self.name)
        if not isinstance(raw, dict):
            raise _bad_list(path, "it holds no object")
        out: dict[str, str] = {}
        for number, (sequence, value) in enumerate(sorted(raw.items()), start=1):
            recording, _, part = str(value).rpartition(" ")
            if not recording or not part.isdigit():
                inventory.unparsable(path.name, number, f"{sequence}: {value!r} is not '<youtube id> <number>'")
                continue
            out[sequence] = recording
        return out


class DeepFakeDetection(PublicCorpus):
    """Google and Jigsaw's recordings of paid actors and swaps between them, distributed with FaceForensics++.

    Expected below ``root``::

        original_sequences/actors/<c23>/videos/<actor>__<scene>.mp4
        manipulated_sequences/DeepFakeDetection/<c23>/videos/<target>_<source>__<scene>__<code>.mp4
        manipulated_sequences/DeepFakeDetection/masks/videos/<the same name>   (optional)
        deepfake_detection_filenames.json      (optional: the server's own list of names)

    No split is published: use ``split=subject``. Several faces are in some pictures.

    Args:
        root: folder that holds ``original_sequences`` and ``manipulated_sequences``.
        compression: ``raw`` (= ``c0``), ``c23`` or ``c40``, or several.

    Raises:
        ConfigError: an unknown compression.
    """

    name = "deepfakedetection"
    modality = "face"
    status = "unverified"
    licence = _LICENCE
    documented_at = (
        "Dufour and Gully, Contributing data to deepfake detection research, Google AI blog, 2019",
        "github.com/ondyari/FaceForensics: dataset/DeepFakeDetection/README.md and the download script",
        "Cai et al., AV-Deepfake1M, arXiv 2311.15308, table 1 (363 real, 3,068 fake)",
    )
    published_counts: ClassVar[Mapping[str, int]] = {"originals": 363, "fakes": 3068}

    def __init__(
        self,
        *,
        root: str,
        compression: str | Sequence[str] = "c23",
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.compressions = _words(compression, COMPRESSIONS, f"{self.name}: compression")

    def samples(self, inventory: Inventory) -> Iterator[Sample]:
        """Actors' recordings, then the swaps, per compression."""
        listed: Any = {}
        for place in (self.root, self.root / "misc"):
            if (place / "deepfake_detection_filenames.json").is_file():
                listed = read_json(place / "deepfake_detection_filenames.json", self.name)
        masks = set(inventory.files("manipulated_sequences/DeepFakeDetection/masks/videos", _VIDEO))
        for compression in self.compressions:
            for label, kind, key in (
                (REAL, "original_sequences/actors", "actors"),
                (FAKE, "manipulated_sequences/DeepFakeDetection", "DeepFakesDetection"),
            ):
                folder = _existing(self.root, kind, compression)
                what = f"{'original' if label == REAL else 'manipulated'} {compression} videos"
                found = inventory.files(folder, _VIDEO)
                names = listed.get(key) if isinstance(listed, dict) else None
                wanted = [f"{folder}/{name}.mp4" for name in names or ()] or found
                present = inventory.expect(wanted, found=found, what=what)
                published = self.published_counts["originals" if label == REAL else "fakes"]
                inventory.count(what, len(present), published)
                for path in present:
                    sample = self._one(path, label, compression, masks)
                    if sample is None:
                        shape = "<actor>__<scene>" if label == REAL else "<target>_<source>__<scene>__<code>"
                        inventory.problem("unparsable", f"{path}: not named {shape}")
                    else:
                        yield sample

    def _one(self, path: str, label: int, compression: str, masks: set[str]) -> Sample | None:
        shape = r"(\d+)__(.+)" if label == REAL else r"(\d+)_(\d+)__(.+)__([A-Za-z0-9]+)"
        match = re.fullmatch(shape, PurePosixPath(path).stem)
        if match is None or (label == REAL and re.match(r"\d+_\d+__", match.group(0))):
            return None
        scene = match.group(2 if label == REAL else 3)
        mask = f"manipulated_sequences/DeepFakeDetection/masks/videos/{PurePosixPath(path).name}"
        actors = match.groups()[: 1 if label == REAL else 2]
        return self.sample(
            path,
            label=label,
            source_id=f"deepfakedetection/{actors[0]}__{scene}",
            subjects=tuple(f"deepfakedetection/{a}" for a in actors),
            generator="" if label == REAL else "DeepFakeDetection",
            generator_family="" if label == REAL else "face_swap",
            channel=_CHANNEL[compression],
            attributes={"compression": compression, "scene": scene, **({"mask": mask} if mask in masks else {})},
        )


def _bad_list(path: Path, why: str) -> ManifestError:
    return ManifestError(f"{path}: {why}", hint="take the file from the authors' repository, unchanged")


def _words(value: str | Sequence[str], allowed: Mapping[str, Any], what: str) -> tuple[str, ...]:
    words = (value,) if isinstance(value, str) else tuple(value)
    for word in words:
        one_of(word, allowed, what=what)
    if not words or len({_same(w) for w in words}) != len(words):
        raise ConfigError(f"{what} is {list(words)}", hint=f"name each once, from {sorted(allowed)}")
    return words


def _same(word: str) -> str:
    return "raw" if word == "c0" else word


def _existing(root: Path, kind: str, compression: str) -> str:
    folders = [f"{kind}/{word}/videos" for word in COMPRESSIONS[compression]]
    return next((f for f in folders if (root / f).is_dir()), folders[0])


def _attributes(compression: str, recording: str) -> dict[str, str]:
    return {"compression": compression, **({"recording": recording} if recording else {})}


def _in_two_splits(recordings: Mapping[str, str], split_of: Mapping[str, str]) -> dict[str, list[str]]:
    """``"605, 606"`` -> the splits that two sequences of one YouTube video lie in, where these differ."""
    sequences: dict[str, list[str]] = defaultdict(list)
    for sequence, recording in sorted(recordings.items()):
        if sequence in split_of:
            sequences[recording].append(sequence)
    return {
        ", ".join(names): sorted({split_of[n] for n in names})
        for names in sequences.values()
        if len({split_of[n] for n in names}) > 1
    }
