"""Hostile clips and long recordings through a voice bundle: a sane score or a status, in memory that does not grow."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepassay.calibrator import Calibration
from deepassay.labels import FAKE, Status
from deepassay.manifest import Manifest, Sample
from deepassay.media.sound import write_sound
from deepassay.modality.views import EVERY
from deepassay.modality.voice import VoiceModality
from deepassay.scoring import score_file, score_manifest, score_timelines
from deepassay.screening.bundle import Bundle, write_bundle
from deepassay.screening.screener import Screener, Verdict

RATE = 16000
WINDOW = 16000


def speech(seconds: float, rate: int = RATE, level: float = 0.1) -> np.ndarray:
    """Noise that comes and goes, like syllables."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(7).normal(0, level, len(t))
    return (noise * (0.15 + np.clip(np.sin(2 * np.pi * 3 * t), 0, None))).astype(np.float32)


@pytest.fixture(scope="module")
def voices() -> VoiceModality:
    return VoiceModality(window_samples=WINDOW, hop_samples=WINDOW // 2)


@pytest.fixture
def bundle(tmp_path, voices, bundle_parts) -> Bundle:
    """Logit = mean absolute sample; every window counts; dev files had at most four windows."""
    parts = bundle_parts(voices, views=EVERY, synthetic=False)
    parts["scope"]["limits"] = {"dev_views_most": 4}
    parts["calibration"] = Calibration(
        scale=1.0, offset=0.0, dev_table_sha256="d" * 64, n_real=100, n_fake=90, informative=True
    )
    return write_bundle(tmp_path / "bundle", **parts)


def judge(bundle: Bundle, path: Path) -> Verdict:
    (verdict,) = Screener([bundle]).screen(path)
    json.dumps(verdict.to_dict(), allow_nan=False)
    assert (verdict.status == Status.OK) == (verdict.score is not None) == (verdict.reason == "")
    return verdict


def with_value(signal: np.ndarray, value: float) -> np.ndarray:
    out = signal.copy()
    out[len(out) // 2] = value
    return out


USABLE = {
    "half a second": (speech(0.5), RATE, "FLOAT"),
    "8 kHz": (speech(2, 8000), 8000, "PCM_16"),
    "8 kHz mu-law": (speech(2, 8000), 8000, "ULAW"),
    "stereo": (np.stack([speech(2), speech(2)], axis=1), RATE, "PCM_16"),
    "one silent channel": (np.stack([speech(2), np.zeros(2 * RATE, np.float32)], axis=1), RATE, "PCM_16"),
    "24 bit": (speech(2), RATE, "PCM_24"),
    "8 bit": (speech(2), RATE, "PCM_U8"),
    "float": (speech(2), RATE, "FLOAT"),
    "double": (speech(2), RATE, "DOUBLE"),
    "float beyond full scale": (speech(2) * 40, RATE, "FLOAT"),
    "offset": (speech(2) + np.float32(0.3), RATE, "FLOAT"),
    "clipped": (np.clip(speech(2) * 40, -1, 1), RATE, "PCM_16"),
    "96 kHz": (speech(2, 96000), 96000, "PCM_24"),
}
REFUSED = {
    "0.1 s": (speech(0.1), RATE, "PCM_16", Status.TOO_SHORT),
    "one sample": (np.ones(1, np.float32), RATE, "FLOAT", Status.TOO_SHORT),
    "digital silence": (np.zeros(2 * RATE, np.float32), RATE, "PCM_16", Status.NO_SPEECH),
    "least bits": (np.tile(np.array([1, -1], np.float32) / 32768, RATE), RATE, "PCM_16", Status.NO_SPEECH),
    "offset and nothing else": (np.full(2 * RATE, 0.4, np.float32), RATE, "FLOAT", Status.NO_SPEECH),
    "channels that cancel": (np.stack([speech(2), -speech(2)], axis=1), RATE, "FLOAT", Status.NO_SPEECH),
    "NaN": (with_value(speech(2), np.nan), RATE, "FLOAT", Status.UNDECODABLE),
    "infinity": (with_value(speech(2), np.inf), RATE, "FLOAT", Status.UNDECODABLE),
    "no samples": (np.zeros(0, np.float32), RATE, "PCM_16", Status.UNDECODABLE),
}


@pytest.mark.parametrize("name", USABLE)
def test_hostile_clips_that_can_be_judged_get_a_sane_score(bundle, voices, tmp_path, name):
    signal, rate, subtype = USABLE[name]
    soundfile.write(tmp_path / "a.wav", signal, rate, subtype=subtype)
    verdict = judge(bundle, tmp_path / "a.wav")
    assert verdict.status == Status.OK, verdict.reason
    drawn = voices.draw(voices.prepare(tmp_path / "a.wav"), EVERY)
    assert np.abs(drawn.data).max() <= 1
    assert verdict.score == pytest.approx(float(np.abs(drawn.data).mean()), rel=1e-4)
    assert 0.003 < verdict.score < 0.7
    assert verdict.n_views == len(drawn)
    assert ("holds nothing above 4 kHz" in " ".join(verdict.warnings)) == (rate == 8000)


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_clips_that_cannot_be_judged_get_their_status(bundle, tmp_path, name):
    signal, rate, subtype, status = REFUSED[name]
    soundfile.write(tmp_path / "a.wav", signal, rate, subtype=subtype)
    verdict = judge(bundle, tmp_path / "a.wav")
    assert verdict.status == status
    assert verdict.decision == "abstain"


def test_a_long_recording_is_judged_by_every_window_with_a_timeline(bundle, tmp_path):
    signal = speech(100)
    signal[40 * RATE : 60 * RATE] = 0
    signal[80 * RATE : 82 * RATE] *= 4
    write_sound(tmp_path / "a.flac", signal)
    verdict = judge(bundle, tmp_path / "a.flac")
    starts = [row["start_s"] for row in verdict.timeline]
    assert starts == sorted(starts)
    assert verdict.n_views == len(starts) == 160  # of 199, those in the silence left out
    assert not any(40 <= start <= 59 for start in starts)
    assert all(row["end_s"] - row["start_s"] == pytest.approx(1.0) for row in verdict.timeline)
    assert verdict.timeline[-1]["end_s"] == 100.0
    loudest = max(verdict.timeline, key=lambda row: row["score"])
    assert 79.5 <= loudest["start_s"] <= 81.5
    assert verdict.score == pytest.approx(np.mean([row["score"] for row in verdict.timeline]))
    (warning,) = verdict.warnings
    assert "pooled over 160 views" in warning
    assert "at most 4" in warning
    short = tmp_path / "short.flac"
    write_sound(short, signal[: 4 * RATE])
    assert judge(bundle, short).warnings == []


def manifest(root: Path, seconds: dict[str, float]) -> Manifest:
    samples = []
    for name, length in seconds.items():
        write_sound(root / f"{name}.flac", speech(length))
        samples.append(
            Sample(
                sample_id=name, path=f"{name}.flac", media="audio", modality="voice", label=FAKE, generator="g",
                corpus="c", duration_s=length,
            )
        )  # fmt: skip
    return Manifest.from_samples(samples, root, {"name": "c"})


def test_long_and_short_files_get_the_same_scores_alone_together_and_from_a_store(bundle, voices, tmp_path):
    whole = manifest(tmp_path, {"a": 3.0, "b": 70.0, "c": 0.2, "d": 30.0, "e": 1.0})

    class Store:
        fingerprint = voices.fingerprint

        def views(self, sample_id):
            return voices.prepare(tmp_path / f"{sample_id}.flac")

    tables = [
        score_manifest(whole, voices, bundle.predict, views=EVERY, progress=False),
        score_manifest(whole, voices, bundle.predict, views=EVERY, progress=False, batch_size=2, workers=2),
        score_manifest(whole, voices, bundle.predict, views=EVERY, progress=False, store=Store()),
    ]
    assert tables[0].column("n_views").tolist() == [5, 139, 0, 59, 1]
    assert tables[0].column("status").tolist() == ["ok", "ok", "too_short", "ok", "ok"]
    for table in tables[1:]:
        np.testing.assert_allclose(table.column("score"), tables[0].column("score"), rtol=1e-6)
        assert table.column("reason").tolist() == tables[0].column("reason").tolist()
    for sample, outcome in score_timelines(whole, voices, bundle.predict):
        row = tables[0].column("sample_id").tolist().index(sample.sample_id)
        if outcome.score is None:
            assert outcome.status == Status.TOO_SHORT
            continue
        assert outcome.score == pytest.approx(tables[0].column("score")[row], rel=1e-6)
        assert outcome.end_s is not None
        assert outcome.end_s[-1] == pytest.approx(sample.duration_s)
    assert score_file(voices, bundle.predict, tmp_path / "b.flac", views=8).n_views == 8


def test_a_long_file_never_reaches_the_detector_in_one_piece(voices, tmp_path):
    write_sound(tmp_path / "a.flac", speech(120))
    seen = []

    def predict(data: np.ndarray) -> np.ndarray:
        seen.append(len(data))
        return np.abs(data).mean(axis=1)

    outcome = score_file(voices, predict, tmp_path / "a.flac", views=EVERY)
    assert sum(seen) == outcome.n_views == 239
    assert max(seen) <= 16


def test_a_detector_that_fails_within_a_long_file_costs_that_file_its_score(voices, tmp_path):
    write_sound(tmp_path / "a.flac", speech(120))
    calls = []

    def predict(data: np.ndarray) -> np.ndarray:
        calls.append(len(data))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return np.zeros(len(data))

    outcome = score_file(voices, predict, tmp_path / "a.flac", views=EVERY)
    assert outcome.status == Status.ERROR
    assert outcome.reason.startswith("detector: RuntimeError: out of memory")
