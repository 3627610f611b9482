"""NeuralVocoder: HiFi-GAN weights from a local folder as a maker of copy-synthesised voices."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.files import fingerprint, sha256_file
from deepassay.manipulation.copy_synthesis import slaney_mel_filters

# model_type in config.json -> class of transformers. Both take log-mels (n, frames, bands) and return waveforms.
_CLASSES = {
    "hifigan": "SpeechT5HifiGan",  # as older versions of transformers wrote it
    "speecht5_hifigan": "SpeechT5HifiGan",
    "fastspeech2_conformer_hifigan": "FastSpeech2ConformerHifiGan",
}


class NeuralVocoder:
    """Copy synthesis by a neural vocoder (HiFi-GAN: Kong et al. 2020), in the form that transformers keeps on disk.

    The folder holds ``config.json`` (``model_type`` hifigan, speecht5_hifigan or
    fastspeech2_conformer_hifigan) and
    ``model.safetensors``; nothing is ever downloaded. The mel settings are not in those files: the defaults are those
    that microsoft/speecht5_hifigan was trained with; give others for other weights, or the copies will be worse than
    the vocoder is.

    Args:
        folder: with the weights.
        name, family: of the generator.
        low_hz, high_hz: of the mel filters (Slaney's, unit area).
        window: of the spectrum, in samples.
        log: ``10`` or ``e``, the logarithm of the mels.
        floor: least mel before the logarithm.
        threads: torch threads while it works.

    Raises:
        ConfigError: a folder or value that cannot be used.
    """

    donor = "unused"

    def __init__(
        self,
        *,
        folder: str,
        name: str = "hifigan",
        family: str = "neural_vocoder",
        low_hz: float = 80.0,
        high_hz: float = 7600.0,
        window: int = 1024,
        log: str = "10",
        floor: float = 1e-10,
        threads: int = 1,
    ) -> None:
        if str(log) not in ("10", "e"):
            raise ConfigError(f"neural vocoder: log is {log!r}", hint="use '10' or 'e'")
        if not 0 <= low_hz < high_hz or window < 64 or floor <= 0 or threads < 1:
            raise ConfigError(
                f"neural vocoder: low_hz {low_hz}, high_hz {high_hz}, window {window}, floor {floor}, threads "
                f"{threads}",
                hint="0 <= low_hz < high_hz, a window of at least 64 samples, a floor above 0",
            )
        self.folder, self.name, self.family = Path(folder), name, family
        self.low_hz, self.high_hz, self.window = float(low_hz), float(high_hz), int(window)
        self.log, self.floor, self.threads = str(log), float(floor), threads
        self._model: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}  # other processes load their own

    def _head(self) -> dict[str, Any]:
        weights, head = self.folder / "model.safetensors", self.folder / "config.json"
        for path in (head, weights):
            if not path.is_file():
                raise MissingDependencyError(
                    f"{path}: no such file, so there is no neural vocoder",
                    hint="download a HiFi-GAN in transformers' form (for example microsoft/speecht5_hifigan, as "
                    "safetensors) into that folder, or leave the maker out",
                )
        config = json.loads(head.read_text(encoding="utf-8"))
        if config.get("model_type") not in _CLASSES:
            raise ConfigError(
                f"{head}: model_type is {config.get('model_type')!r}", hint=f"this maker knows {sorted(_CLASSES)}"
            )
        return config

    def check(self) -> None:
        """Raise now what is wrong with the folder or the packages. MissingDependencyError, ConfigError."""
        self._load()

    @property
    def version(self) -> str:
        """A hash of the weights and the mel settings."""
        config = self._head()
        weights = sha256_file(self.folder / "model.safetensors")
        return fingerprint([config, weights, self.low_hz, self.high_hz, self.window, self.log, self.floor])[:16]

    def _load(self) -> Any:
        if self._model is None:
            config = self._head()
            try:
                import transformers
            except ImportError as error:
                raise MissingDependencyError(
                    f"the neural vocoder needs transformers, which cannot be imported ({error})",
                    hint="pip install 'deepassay[train]'",
                ) from error
            kind = getattr(transformers, _CLASSES[config["model_type"]])
            self._model = kind.from_pretrained(self.folder, local_files_only=True, use_safetensors=True).eval()
        return self._model

    def log_mel(self, signal: np.ndarray, rate_hz: int, hop: int, bands: int) -> np.ndarray:
        """(T,) -> (frames, bands) float32: magnitudes of centred Hann frames through the filters, logarithm."""
        padded = np.pad(np.asarray(signal, np.float64), self.window // 2, mode="reflect")
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window)[::hop] * hann
        filters = slaney_mel_filters(rate_hz, self.window, bands, self.low_hz, self.high_hz)
        mel = np.maximum(np.abs(np.fft.rfft(frames, axis=1)) @ filters.T, self.floor)
        return (np.log10(mel) if self.log == "10" else np.log(mel)).astype(np.float32)

    def __call__(
        self, signal: np.ndarray, *, rate_hz: int, strength: float, rng: np.random.Generator, donor: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Speech (T,) -> its copy (T,) float32, and the whole of it as one segment in seconds.

        Args:
            signal: mono speech at ``rate_hz``; resampled where the weights want another rate.
            strength: below 1 the copy is mixed with the original.
            rng, donor: not used.

        Raises:
            MissingDependencyError: weights or transformers are absent.
        """
        import soxr
        import torch

        model = self._load()
        own_hz, hop = int(model.config.sampling_rate), int(np.prod(model.config.upsample_rates))
        heard = soxr.resample(signal, rate_hz, own_hz) if own_hz != rate_hz else signal
        mel = self.log_mel(heard, own_hz, hop, int(model.config.model_in_dim))
        with _threads(self.threads), torch.inference_mode():
            made = model(torch.from_numpy(mel)[None]).reshape(-1).float().numpy()
        made = soxr.resample(made, own_hz, rate_hz) if own_hz != rate_hz else made
        made = np.pad(made, (0, max(0, len(signal) - len(made))))[: len(signal)]
        out = (1 - strength) * np.asarray(signal, np.float32) + strength * made
        return out.astype(np.float32), np.array([[0.0, len(signal) / rate_hz]])


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
