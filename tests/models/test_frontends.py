"""Spectral front ends equal NumPy, SciPy and librosa, and stay finite on silence."""

import numpy as np
import pytest
import scipy.fft
import torch

from deepassay.errors import ConfigError
from deepassay.models.frontends import (
    LFCC,
    LogMel,
    Pixels,
    RawSound,
    dct_matrix,
    hann,
    linear_filter_bank,
    mel_filter_bank,
)  # fmt: skip


def sound(n: int = 3, seconds: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(1)
    t = np.arange(int(16000 * seconds)) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 220 * t) + 0.1 * np.sin(2 * np.pi * 3100 * t)
    return (tone + 0.02 * rng.normal(size=(n, len(t)))).astype(np.float32)


def reference_power(x: np.ndarray, width: int, hop: int, n_fft: int) -> np.ndarray:
    """Power spectra (frames, bins) of one signal in float64, straight from the definition."""
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), width)[::hop]
    return np.abs(np.fft.rfft(frames * hann(width), n_fft)) ** 2


def reference_lfcc(x: np.ndarray, floor: float) -> np.ndarray:
    emphasised = np.append(x[:1], x[1:] - 0.97 * x[:-1])
    power = reference_power(emphasised, 320, 160, 512)
    log = np.log(np.maximum(power @ linear_filter_bank(20, 512, 16000, 0, 8000).T, floor))
    static = scipy.fft.dct(log, type=2, norm="ortho", axis=1)[:, :20].T

    def slope(y):
        padded = np.pad(y, ((0, 0), (1, 1)), mode="edge")
        return (padded[:, 2:] - padded[:, :-2]) / 2

    return np.concatenate([static, slope(static), slope(slope(static))])


def test_lfcc_equals_its_definition():
    x = sound()
    ours = LFCC(normalise="none")(torch.from_numpy(x)).numpy()
    assert ours.shape == (3, 1, 60, 1 + (8000 - 320) // 160)
    for one, row in zip(x, ours[:, 0], strict=True):
        np.testing.assert_allclose(row, reference_lfcc(one, 1e-6), atol=2e-3)


def test_log_mel_equals_librosa():
    librosa = pytest.importorskip("librosa")
    x = sound()
    theirs_bank = librosa.filters.mel(sr=16000, n_fft=512, n_mels=64, fmin=20, fmax=8000, htk=True, norm=None)
    np.testing.assert_allclose(mel_filter_bank(64, 512, 16000, 20, 8000), theirs_bank, atol=1e-6)
    ours = LogMel(n_filters=64, window_s=0.032, normalise="none")(torch.from_numpy(x)).numpy()[:, 0]
    for one, row in zip(x, ours, strict=True):
        power = (
            np.abs(librosa.stft(one.astype(np.float64), n_fft=512, hop_length=160, window="hann", center=False)) ** 2
        )
        np.testing.assert_allclose(row, np.log(np.maximum(theirs_bank @ power, 1e-6)), atol=2e-3)


def test_dct_is_scipys():
    x = np.random.default_rng(0).normal(size=20)
    np.testing.assert_allclose(dct_matrix(12, 20) @ x, scipy.fft.dct(x, type=2, norm="ortho")[:12], atol=1e-12)


@pytest.mark.parametrize("normalise", ["none", "mean"])
@pytest.mark.parametrize("kind", [LFCC, LogMel])
def test_silence_full_scale_and_single_impulses_stay_finite(kind, normalise):
    x = np.zeros((4, 4000), np.float32)
    x[1] = 1.0
    x[2, ::2], x[2, 1::2] = 1.0, -1.0
    x[3, 2000] = 1.0
    out = kind(normalise=normalise)(torch.from_numpy(x))
    assert torch.isfinite(out).all()


def test_mean_normalisation_takes_the_level_out():
    x = torch.from_numpy(sound())
    front = LFCC()
    torch.testing.assert_close(front(x), front(0.25 * x), atol=5e-3, rtol=0)
    assert not torch.allclose(LFCC(normalise="none")(x), LFCC(normalise="none")(0.25 * x), atol=0.5)


def test_half_precision_regions_do_not_reach_the_front_end():
    x = torch.from_numpy(sound())
    front = LFCC()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = front(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, front(x), atol=0, rtol=0)


def test_tables_stay_out_of_checkpoints():
    assert LFCC().state_dict() == {}


def test_pixels_and_raw():
    picture = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    out = Pixels(mean=(127, 127, 127), std=(128, 128, 128))(picture)
    expected = (picture.permute(0, 3, 1, 2).float() - 127) / 128
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)
    x = torch.from_numpy(sound())
    assert RawSound()(x).shape == (3, 1, 8000)
    torch.testing.assert_close(RawSound(pre_emphasis=0.97)(x)[:, 0, 1:], x[:, 1:] - 0.97 * x[:, :-1])


@pytest.mark.parametrize(
    "wrong",
    [{"n_fft": 256}, {"normalise": "std"}, {"floor": 1e-10}, {"deltas": 3}, {"n_coefficients": 21}],
    ids=lambda d: next(iter(d)),
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match="hint"):
        LFCC(**wrong)
