"""PartialSpoof (Zhang et al. 2023): ASVspoof 2019 LA utterances with synthesised segments, and where these lie."""

import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.corpora.voice_lists import KEYS, Trial, by_name, count_classes, label_of, present, rows
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample

_SPLITS = {"train": "train", "dev": "dev", "eval": "test"}
_RESOLUTIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
_HARMLESS = {
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
}


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds arrays and plain containers and refuses every other name, so that a list of labels cannot run code."""

    def find_class(self, module: str, name: str, /) -> Any:
        modern = module.replace("numpy.core.", "numpy._core.")
        if (modern, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(modern, name)


def read_segment_labels(path: str | Path) -> dict[str, np.ndarray]:
    """``*_seglab_*.npy``: utterance -> labels of its segments (n,), 0 real and 1 fake (the file says ``1`` bona fide).

    The release stores a pickled dictionary; nothing but arrays and containers is rebuilt from it.

    Raises:
        ManifestError: not such a file, or one that holds anything else.
    """
    hint = "take segment_labels of the PartialSpoof release again, or set resolution=null"
    try:
        with open(path, "rb") as stream:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            header(stream)
            held = _ArraysOnly(stream).load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, TypeError, IndexError) as error:
        raise ManifestError(f"{path}: not a list of segment labels ({error})", hint=hint) from error
    inside = held.item() if isinstance(held, np.ndarray) and held.shape == () else held
    if not isinstance(inside, dict):
        raise ManifestError(f"{path}: holds {type(inside).__name__}, not a dictionary of labels", hint=hint)
    out: dict[str, np.ndarray] = {}
    for name, values in inside.items():
        words = [str(v) for v in np.asarray(values).ravel().tolist()]
        if not words or not set(words) <= {"0", "1"}:
            raise ManifestError(f"{path}: labels of {name} are {sorted(set(words))[:4]}, not 0 and 1", hint=hint)
        out[str(name)] = np.array([REAL if w == "1" else FAKE for w in words], dtype=np.int8)
    return out


def fake_segments(labels: np.ndarray, resolution_s: float) -> str:
    """Runs of fake segments as ``start-end;start-end`` in seconds, empty where there are none.

    Args:
        labels: (n,) 0 real, 1 fake.
        resolution_s: length of a segment in seconds.
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (labels == FAKE).astype(np.int8), [0]))))
    return ";".join(f"{a * resolution_s:g}-{b * resolution_s:g}" for a, b in edges.reshape(-1, 2).tolist())


class PartialSpoof(PublicCorpus):
    """``<part>/con_wav`` with ASVspoof-like lists; attribute ``fake_segments`` tells where the fake parts lie.

    Bona fide files are ASVspoof 2019 LA's own, with its speakers and parts: do not train on one and test on the other.

    Args:
        root: folder that holds the unpacked archives.
        subsets: of ``train``, ``dev`` and ``eval``.
        resolution: of the segment labels in seconds (0.01 ... 0.64); null leaves them out.
        allow_partial: go on with a copy that differs from what was published; recorded in the manifest.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file.
        probe: read the header of every file.

    Raises:
        ConfigError: an unknown part or resolution.
    """

    name: ClassVar[str] = "partialspoof"
    modality: ClassVar[Literal["voice"]] = "voice"
    status: ClassVar[Literal["verified", "unverified"]] = "unverified"
    version: ClassVar[str] = "1.2"
    licence: ClassVar[str] = "as stated on Zenodo record 5766198 (not established here); parent: ODC-By 1.0"
    documented_at: ClassVar[tuple[str, ...]] = (
        "https://zenodo.org/records/5766198 and https://github.com/nii-yamagishilab/PartialSpoof",
        "Zhang et al. 2023, The PartialSpoof database and countermeasures, IEEE/ACM TASLP 31",
    )
    published_counts: ClassVar[Mapping[str, int]] = {
        "train bona fide": 2580, "train spoofed": 22800, "dev bona fide": 2548, "dev spoofed": 22296,
        "eval bona fide": 7355, "eval spoofed": 63882,
    }  # fmt: skip

    def __init__(
        self,
        *,
        root: str,
        subsets: Sequence[str] = ("train", "dev", "eval"),
        resolution: float | None = 0.16,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        super().__init__(root=root, allow_partial=allow_partial, progress=progress, hash_files=hash_files, probe=probe)
        self.subsets = tuple(one_of(s, tuple(_SPLITS), what="partialspoof: subset") for s in subsets)
        if resolution is not None and resolution not in _RESOLUTIONS:
            raise ConfigError(
                f"partialspoof: resolution is {resolution}", hint=f"use one of {list(_RESOLUTIONS)}, or null"
            )
        self.resolution = resolution

    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Utterances of the lists, each with its fake segments."""
        found = inventory.files(suffixes=(".wav", ".txt", ".npy"))
        at = {PurePosixPath(p).name: p for p in found if not p.endswith(".wav")}
        for subset in self.subsets:
            name = f"PartialSpoof.LA.cm.{subset}.trl.txt"
            listing = at.get(name, f"database/protocols/PartialSpoof_LA_cm_protocols/{name}")
            own = (p for p in found if re.search(rf"(^|/){subset}/con_wav/[^/]+\.wav$", p))
            files = by_name(inventory, own, what=f"partialspoof {subset}")
            trials = list(self._trials(inventory, listing))
            count_classes(inventory, subset, (t.label for t in trials), self.published_counts)
            segments = self._segments(inventory, subset, at, trials)
            expected = f"database/{subset}/con_wav/{{}}.wav"
            for path, trial in present(inventory, trials, files, at=expected.format, what=f"partialspoof {subset}"):
                about = {"language": "en", "parent": "VCTK", **segments.get(trial.name, {})}
                yield self.sample(path, label=trial.label, split=_SPLITS[subset], attributes=about, **trial.values)

    def _trials(self, inventory: Inventory, listing: str) -> Iterable[Trial]:
        for line, (speaker, name, _, system, key) in rows(inventory, listing, 5):
            label = label_of(inventory, key, KEYS, listing, line)
            if label is None:
                continue
            if (system == "-") != (label == REAL):
                inventory.unparsable(listing, line, f"{key}, yet of system {system!r}")
                continue
            values: dict[str, Any] = {"subjects": (speaker,)}
            if label == FAKE:
                values |= {"generator": "PartialSpoof-CON", "generator_family": "partial, TTS and VC"}
            yield Trial(name, label, values)

    def _segments(
        self, inventory: Inventory, subset: str, at: Mapping[str, str], trials: Sequence[Trial]
    ) -> dict[str, dict[str, str]]:
        """Attributes by utterance; a list that contradicts the protocol is a problem."""
        if self.resolution is None:
            return {}
        name = f"{subset}_seglab_{self.resolution:g}.npy"
        if name not in at:
            inventory.problem("missing", f"list database/segment_labels/{name} (resolution=null leaves segments out)")
            return {}
        labels = read_segment_labels(self.root / at[name])
        out: dict[str, dict[str, str]] = {}
        for trial in trials:
            own = labels.get(trial.name)
            if own is None:
                inventory.problem("missing", f"{at[name]}: no segment labels of {trial.name}")
                continue
            if bool((own == FAKE).any()) != (trial.label == FAKE):
                word = "bona fide" if trial.label == REAL else "spoofed"
                inventory.problem("unparsable", f"{at[name]}: {trial.name} is {word}, its segments say otherwise")
                continue
            out[trial.name] = {"segment_resolution_s": f"{self.resolution:g}"}
            if trial.label == FAKE:
                out[trial.name]["fake_segments"] = fake_segments(own, self.resolution)
        return out
