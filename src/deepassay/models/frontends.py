"""Spectral front ends as fixed convolutions: sound enters the network, and its exported graph, as samples."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError


def hann(length: int) -> np.ndarray:
    """Periodic Hann window (length,) float64, as used for short-time spectra."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def dft_kernels(n_fft: int, window: np.ndarray) -> np.ndarray:
    """Windowed DFT as convolution kernels: (2 * (n_fft // 2 + 1), 1, len(window)) float64, real rows first,
    imaginary below.

    A frame shorter than ``n_fft`` is zero-padded at its end, which changes only the phase and not the power.
    """
    bins = np.arange(n_fft // 2 + 1)[:, None]
    angle = 2 * np.pi * bins * np.arange(len(window))[None, :] / n_fft
    return np.concatenate([np.cos(angle) * window, -np.sin(angle) * window])[:, None, :]


def linear_filter_bank(n_filters: int, n_fft: int, rate_hz: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangular filters with evenly spaced edges on the linear frequency axis: (n_filters, n_fft // 2 + 1) float64.

    The bank of LFCC (Sahidullah, Kinnunen, Hanilci, "A comparison of features for synthetic speech detection",
    Interspeech 2015): each triangle reaches 1 at its centre and 0 at its neighbours' centres.
    """
    return _triangles(np.linspace(low_hz, high_hz, n_filters + 2), n_fft, rate_hz)


def mel_filter_bank(n_filters: int, n_fft: int, rate_hz: float, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangular filters evenly spaced on the HTK mel scale, 2595 log10(1 + f / 700): (n_filters, n_fft // 2 + 1)
    float64.

    Equal to ``librosa.filters.mel(htk=True, norm=None)`` (tested).
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    edges = np.linspace(low, high, n_filters + 2)
    return _triangles(700 * (10 ** (edges / 2595) - 1), n_fft, rate_hz)


def _triangles(edges_hz: np.ndarray, n_fft: int, rate_hz: float) -> np.ndarray:
    bins = np.arange(n_fft // 2 + 1) * rate_hz / n_fft
    rise = (bins[None, :] - edges_hz[:-2, None]) / (edges_hz[1:-1] - edges_hz[:-2])[:, None]
    fall = (edges_hz[2:, None] - bins[None, :]) / (edges_hz[2:] - edges_hz[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rise, fall))


def dct_matrix(n_out: int, n_in: int) -> np.ndarray:
    """Orthonormal DCT-II (n_out, n_in) float64: ``scipy.fft.dct(x, type=2, norm="ortho")[:n_out]`` (tested)."""
    k = np.arange(n_out)[:, None]
    matrix = np.cos(np.pi * k * (2 * np.arange(n_in)[None, :] + 1) / (2 * n_in)) * math.sqrt(2 / n_in)
    matrix[0] /= math.sqrt(2)
    return matrix


def delta_kernel(reach: int) -> np.ndarray:
    """Regression slope over ``2 * reach + 1`` frames as a correlation kernel (HTK Book, equation 5.16)."""
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    return steps / (steps**2).sum()


class _Spectral(nn.Module):
    """Shared path of the spectral front ends: pre-emphasis, power spectrum, filter bank, log, normalisation.

    Args:
        rate_hz: sampling rate of the input.
        window_s, hop_s: frame length and step in seconds.
        n_fft: DFT length in samples, at least the frame length.
        pre_emphasis: first-order high-pass coefficient, 0 for none.
        floor: power below which a filter's output is cut off before the logarithm. The default lies above the
            quantisation noise of 16-bit sound, so that digital zero and a quiet room look alike and cannot give a
            corpus away.
        normalise: "none", or "mean" to subtract each feature's mean over time (removes level and a fixed channel).
    """

    def __init__(
        self, bank: np.ndarray, *, rate_hz: int, window_s: float, hop_s: float, n_fft: int, pre_emphasis: float,
        floor: float, normalise: str,
    ) -> None:  # fmt: skip
        super().__init__()
        width = round(window_s * rate_hz)
        if width > n_fft or width < 2:
            raise ConfigError(
                f"a frame of {window_s} s at {rate_hz} Hz is {width} samples, but n_fft is {n_fft}",
                hint="choose n_fft as a power of two at or above the frame length",
            )
        if normalise not in ("none", "mean"):
            raise ConfigError(f"normalise is {normalise!r}", hint="use none or mean")
        if floor < 1e-8:
            raise ConfigError(
                f"floor is {floor}", hint="keep it at 1e-8 or above: smaller constants vanish in exported graphs"
            )
        self.hop = round(hop_s * rate_hz)
        self.pre_emphasis = pre_emphasis
        self.floor = floor
        self.normalise = normalise
        # The tables are rebuilt from the arguments, so they stay out of checkpoints.
        self._table("kernels", dft_kernels(n_fft, hann(width)))
        self._table("bank", bank)

    def _table(self, name: str, value: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)), persistent=False)

    def log_energies(self, sound: Tensor) -> Tensor:
        """Sound (n, T) in [-1, 1] -> natural-log filter energies (n, filters, frames), no padding at the edges."""
        x = sound.unsqueeze(1)
        if self.pre_emphasis:
            x = torch.cat([x[..., :1], x[..., 1:] - self.pre_emphasis * x[..., :-1]], dim=-1)
        spectrum = F.conv1d(x, self.get_buffer("kernels"), stride=self.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        energies = torch.matmul(self.get_buffer("bank"), real * real + imaginary * imaginary)
        # Never log(x + tiny): the exporter's optimiser drops added constants up to 1e-8, and silence becomes -inf.
        return torch.log(torch.clamp_min(energies, self.floor))

    def compute(self, sound: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, sound: Tensor) -> Tensor:
        """Sound (n, T) in [-1, 1] -> features (n, 1, features, frames) float32, in full precision even under AMP."""
        if torch.is_autocast_enabled(sound.device.type):
            with torch.autocast(sound.device.type, enabled=False):
                out = self.compute(sound.float())
        else:
            out = self.compute(sound)
        if self.normalise == "mean":
            out = out - out.mean(dim=-1, keepdim=True)
        return out.unsqueeze(1)


class LFCC(_Spectral):
    """Linear-frequency cepstral coefficients with slopes: (n, T) -> (n, 1, n_coefficients * (1 + deltas), frames).

    Sahidullah et al., Interspeech 2015; the settings are those of the ASVspoof 2019 and 2021 LFCC baselines (20 ms
    frames, 20 filters, 20 coefficients, delta and delta-delta). Frames: 1 + (T - frame) // hop.

    Args:
        deltas: how many times slopes are taken: 0, 1 or 2.
        delta_reach: frames on each side of the regression; edges repeat the border frame.
        Others as in the shared path above.

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(
        self, *, rate_hz: int = 16000, window_s: float = 0.02, hop_s: float = 0.01, n_fft: int = 512,
        n_filters: int = 20,
        n_coefficients: int = 20, low_hz: float = 0.0, high_hz: float | None = None,
        deltas: int = 2, delta_reach: int = 1,
        pre_emphasis: float = 0.97, floor: float = 1e-6, normalise: str = "mean",
    ) -> None:  # fmt: skip
        if not 1 <= n_coefficients <= n_filters:
            raise ConfigError(
                f"{n_coefficients} coefficients from {n_filters} filters",
                hint="n_coefficients must not exceed n_filters",
            )
        if deltas not in (0, 1, 2):
            raise ConfigError(f"deltas is {deltas}", hint="use 0, 1 or 2")
        bank = linear_filter_bank(n_filters, n_fft, rate_hz, low_hz, high_hz or rate_hz / 2)
        super().__init__(
            bank, rate_hz=rate_hz, window_s=window_s, hop_s=hop_s, n_fft=n_fft, pre_emphasis=pre_emphasis, floor=floor,
            normalise=normalise,
        )  # fmt: skip
        self.deltas = deltas
        self.reach = delta_reach
        self.features = n_coefficients * (1 + deltas)
        self._table("dct", dct_matrix(n_coefficients, n_filters))
        self._table("slope", delta_kernel(delta_reach)[None, None, :])

    def _delta(self, x: Tensor) -> Tensor:
        n, features, frames = x.shape
        padded = F.pad(x, (self.reach, self.reach), mode="replicate")
        flat = padded.reshape(n * features, 1, frames + 2 * self.reach)
        return F.conv1d(flat, self.get_buffer("slope")).reshape(n, features, frames)

    def compute(self, sound: Tensor) -> Tensor:
        """Sound (n, T) -> coefficients and slopes (n, features, frames)."""
        parts = [torch.matmul(self.get_buffer("dct"), self.log_energies(sound))]
        for _ in range(self.deltas):
            parts.append(self._delta(parts[-1]))
        return torch.cat(parts, dim=1)


class LogMel(_Spectral):
    """Log mel filter energies (HTK scale): (n, T) -> (n, 1, n_filters, frames)."""

    def __init__(
        self, *, rate_hz: int = 16000, window_s: float = 0.025, hop_s: float = 0.01, n_fft: int = 512,
        n_filters: int = 80,
        low_hz: float = 20.0, high_hz: float | None = None, pre_emphasis: float = 0.0, floor: float = 1e-6,
        normalise: str = "mean",
    ) -> None:  # fmt: skip
        bank = mel_filter_bank(n_filters, n_fft, rate_hz, low_hz, high_hz or rate_hz / 2)
        super().__init__(
            bank, rate_hz=rate_hz, window_s=window_s, hop_s=hop_s, n_fft=n_fft, pre_emphasis=pre_emphasis, floor=floor,
            normalise=normalise,
        )  # fmt: skip
        self.features = n_filters

    def compute(self, sound: Tensor) -> Tensor:
        """Sound (n, T) -> log energies (n, n_filters, frames)."""
        return self.log_energies(sound)


class RawSound(nn.Module):
    """The samples, (n, T) -> (n, 1, T), with optional pre-emphasis: for networks that learn their own filters."""

    def __init__(self, *, pre_emphasis: float = 0.0) -> None:
        super().__init__()
        self.pre_emphasis = pre_emphasis

    def forward(self, sound: Tensor) -> Tensor:
        """Sound (n, T) float32 -> (n, 1, T)."""
        x = sound.unsqueeze(1)
        if self.pre_emphasis:
            x = torch.cat([x[..., :1], x[..., 1:] - self.pre_emphasis * x[..., :-1]], dim=-1)
        return x


class SincBank(nn.Module):
    """Fixed band-pass filters, ideal responses under a Hamming window: (n, T) -> (n, n_filters, T - width + 1).

    The front end of RawNet2 (Tak et al., ICASSP 2021) and AASIST (Jung et al., ICASSP 2022), after SincNet (Ravanelli
    and Bengio, SLT 2018): filter i passes what lies between edges i and i + 1.

    Args:
        n_filters: how many. width: taps, odd.
        scale: where the edges are evenly spaced: "mel" (HTK, as in AASIST), "linear", or "inverse_mel" (narrow bands
            at the top).

    Raises:
        ConfigError: an argument out of range.
    """

    def __init__(self, *, n_filters: int = 70, width: int = 129, scale: str = "mel", rate_hz: int = 16000) -> None:
        super().__init__()
        if n_filters < 1 or width < 3 or width % 2 == 0:
            raise ConfigError(f"{n_filters} filters of {width} taps", hint="at least one filter; taps odd, 3 or more")
        self.n_filters, self.width = n_filters, width
        kernels = sinc_kernels(sinc_edges(n_filters, rate_hz, scale), width, rate_hz)
        self.register_buffer("kernels", torch.from_numpy(kernels.astype(np.float32))[:, None], persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        """Sound (n, T) float32 -> filtered sound (n, n_filters, T - width + 1)."""
        return F.conv1d(sound.unsqueeze(1), self.get_buffer("kernels"))


def sinc_edges(n_filters: int, rate_hz: float, scale: str) -> np.ndarray:
    """Band edges (n_filters + 1,) in Hz from 0 to half the rate.

    Raises:
        ConfigError: an unknown scale.
    """
    top = rate_hz / 2
    mel = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + top / 700), n_filters + 1) / 2595) - 1)
    known = {"mel": mel, "linear": np.linspace(0, top, n_filters + 1), "inverse_mel": top - mel[::-1]}
    if scale not in known:
        raise ConfigError(f"scale is {scale!r}", hint=f"use one of {list(known)}")
    return known[scale]


def sinc_kernels(edges_hz: np.ndarray, width: int, rate_hz: float) -> np.ndarray:
    """Band-pass kernels (len(edges_hz) - 1, width) float64: differences of two low-passes under a symmetric Hamming
    window."""
    steps = np.arange(width) - (width - 1) / 2
    cut = edges_hz[:, None] * 2 / rate_hz
    low_pass = cut * np.sinc(cut * steps)
    return np.hamming(width) * (low_pass[1:] - low_pass[:-1])


class Pixels(nn.Module):
    """Faces as stored, uint8 (n, H, W, 3) RGB, to normalised float32 (n, 3, H, W).

    Args:
        mean, std: per channel on the 0..255 scale, as the backbone was pretrained with.
    """

    def __init__(self, *, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ConfigError(
                f"mean {mean} and std {std}", hint="give three values each, on the 0..255 scale, std above 0"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 (n, H, W, 3) -> float32 (n, 3, H, W); the memory stays channels-last."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return (x - self.get_buffer("mean")) * self.get_buffer("scale")
