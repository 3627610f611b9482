"""A small scoring job that can be handed to other processes: windows of numbers and a linear detector."""

from pathlib import Path

import numpy as np

from deepassay.files import fingerprint
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Views


class Windows:
    """A voice modality whose files hold k windows of 8 float32; an empty file cannot be read."""

    name = "voice"
    input_shape = (8,)
    contract: dict = {"kind": "windows"}  # noqa: RUF012
    fingerprint = fingerprint(contract)

    def prepare(self, path: str | Path) -> Views:
        data = np.frombuffer(Path(path).read_bytes(), np.float32).reshape(-1, 8)
        if not len(data):
            raise ValueError("nothing in it")
        n = len(data)
        return Views(data, np.arange(n) / 2, np.ones(n, np.float32), np.zeros(n, np.int32))

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        return prepared.take(np.unique(np.linspace(0, len(prepared) - 1, k).round().astype(int)))

    def pool(self, logits: np.ndarray, views: Views) -> float:
        return float(np.mean(logits))


class Linear:
    """Weights that a matrix product with the whole batch applies: its bits depend on the batch."""

    def __init__(self) -> None:
        self.weights = np.random.default_rng(0).normal(0, 1, 8).astype(np.float32)

    def __call__(self, data: np.ndarray) -> np.ndarray:
        return np.tanh(data @ self.weights)


def linear() -> Linear:
    return Linear()


def world(root: Path, n: int) -> Manifest:
    """n files of one to four windows, two of them empty."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    samples = []
    for i in range(n):
        data = rng.normal(0, 1, (0 if i in (5, 17) else 1 + i % 4, 8)).astype(np.float32)
        (root / f"{i:03d}.bin").write_bytes(data.tobytes())
        samples.append(
            Sample(
                sample_id=f"s{i:03d}", path=f"{i:03d}.bin", media="audio", modality="voice", label=i % 2,
                source_id=f"source-{i // 2}", generator="g" if i % 2 else "", split="test",
            )
        )  # fmt: skip
    return Manifest.from_samples(samples, root, {"name": "windows", "synthetic": True})
