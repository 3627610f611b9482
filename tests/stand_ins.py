"""Stand-in modalities over raw bytes on disk: quick, picklable, with files that fail in every way a file can fail."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np

from deepassay.files import fingerprint
from deepassay.labels import FAKE, REAL, Status, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Views

TRICKS = ("silent", "boom", "crash", "slow")


class Patches:
    """A face modality whose files hold k pictures of 32 x 32 as bytes, or a word that names a failure."""

    name = "face"
    shape: tuple[int, ...] = (32, 32, 3)
    dtype: type = np.uint8

    def __init__(self, *, version: str = "1", journal: str | None = None) -> None:
        self.version = version
        self.journal = journal

    @property
    def contract(self) -> dict:
        return {"modality": self.name, "shape": list(self.shape), "version": self.version}

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.contract)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    def prepare(self, path: str | Path) -> Views:
        if self.journal:
            with open(self.journal, "a", encoding="utf-8") as stream:
                stream.write(Path(path).name + "\n")
        raw = Path(path).read_bytes()
        word = raw[:16].decode("latin-1")
        if word == "silent":
            raise Unusable(Status.NO_FACE, "nothing to see")
        if word == "boom":
            raise ValueError(f"cannot read {path}")
        if word == "crash":
            os._exit(7)
        if word == "slow":
            time.sleep(60)
        data = np.frombuffer(raw, dtype=self.dtype).reshape(-1, *self.shape)
        n = len(data)
        landmarks = np.arange(n * 10, dtype=np.float32).reshape(n, 5, 2) if self.name == "face" else None
        size = np.full(n, 32, np.float32) if self.name == "face" else None
        return Views(
            data,
            np.arange(n, dtype=np.float64),
            np.linspace(0.5, 1, n, dtype=np.float32),
            np.zeros(n, np.int32),
            landmarks,
            size,
        )

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        n = len(prepared)
        if rng is None:
            return prepared.take(np.unique(np.linspace(0, n - 1, min(k, n)).round().astype(int)))
        return prepared.take(rng.integers(0, n, k))

    def pool(self, logits: np.ndarray, views: Views) -> float:
        return float(np.mean(logits))


class Tones(Patches):
    """A voice modality whose files hold k windows of 8,000 samples as float32."""

    name = "voice"
    shape = (8000,)
    dtype = np.float32


def write_samples(
    root: Path, modality: Patches, n: int, *, split: str, views: int = 2, seed: int = 0, strength: float = 1.0
) -> Manifest:
    """n labelled files, fakes with a visible or audible pattern of the given strength, subjects apart by split."""
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(n):
        label = FAKE if i % 2 else REAL
        rng = np.random.default_rng([seed, i, int(hashlib.sha256(split.encode()).hexdigest()[:6], 16)])
        if modality.name == "face":
            data = rng.normal(128, 25, (views, *modality.shape))
            if label == FAKE:
                data[:, ::2, :, :] += 40 * strength
            raw = data.clip(0, 255).astype(np.uint8)
        else:
            data = rng.normal(0, 0.05, (views, *modality.shape))
            if label == FAKE:
                t = np.arange(modality.shape[0]) / 16000
                data += 0.1 * strength * np.sin(2 * np.pi * 3000 * t) * (np.sin(2 * np.pi * 8 * t) > 0)
            raw = data.astype(np.float32)
        path = folder / f"{i:03d}.bin"
        path.write_bytes(raw.tobytes())
        samples.append(
            Sample(
                sample_id=f"{split}-{i:03d}",
                path=f"{split}/{path.name}",
                media="image" if modality.name == "face" else "audio",
                modality=modality.name,
                label=label,
                source_id=f"{split}-source-{i:03d}",
                subjects=(f"{split}-person-{i // 2}",),
                generator="stripes" if label == FAKE else "",
                corpus="stand-in",
                split=split,
            )
        )
    return Manifest.from_samples(samples, root, {"name": "stand-in", "synthetic": True})


def join(*manifests: Manifest) -> Manifest:
    """Several manifests below one root as one."""
    return Manifest.from_samples([s for m in manifests for s in m], manifests[0].root, manifests[0].info)
