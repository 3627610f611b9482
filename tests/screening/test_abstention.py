"""Abstention limits: learnt on dev so that no dev file is beyond them, asked of each file, and made to fire."""

from dataclasses import replace

import numpy as np
import pytest

from deepassay.errors import BundleError, ScoreError
from deepassay.labels import Status
from deepassay.modality.views import Streams, Views
from deepassay.modality.voice import VoiceModality
from deepassay.scoring import score_file
from deepassay.screening.abstention import (
    MIN_FILES,
    AbstentionLimits,
    FileFacts,
    file_facts,
    guarded,
    learn_limits,
    measure,
)
from deepassay.screening.bundle import Bundle, write_bundle
from deepassay.screening.screener import Screener


def dev_facts(n: int = 120, seed: int = 0, d: int = 4) -> list[FileFacts]:
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 1, (n, d)) @ rng.normal(0, 1, (d, d))
    px, sharp = rng.uniform(60, 120, n), rng.normal(2, 0.2, n)
    return [
        FileFacts(statistics=mixed[i], face_px=float(px[i]), sharpness=float(sharp[i])) for i in range(n)
    ]  # fmt: skip


def test_no_dev_file_is_beyond_the_limits_and_a_worse_one_is():
    facts = dev_facts()
    limits = learn_limits("face", facts, [f"person {i // 3}" for i in range(len(facts))])
    assert limits
    assert limits.n_files == 120
    assert not any(limits.refuse(fact) for fact in facts)
    assert not any(limits.refuse(fact) for fact in dev_facts(seed=1)[:5])  # nor files of the same kind
    typical = facts[0]
    assert "the face is smaller" in limits.refuse(replace(typical, face_px=30.0))
    assert "more blurred" in limits.refuse(replace(typical, sharpness=0.0))
    assert "unlike the files" in limits.refuse(replace(typical, statistics=np.full(4, 50.0)))
    smallest = limits.limits[0]
    assert smallest.name == "face_px"
    assert 0 < smallest.least == pytest.approx(smallest.dev_least * (smallest.dev_least / smallest.dev_median) ** 0.1)
    softest = limits.limits[1]
    assert softest.least == pytest.approx(softest.dev_least - 0.1 * (softest.dev_median - softest.dev_least))


def test_correlated_statistics_are_measured_along_their_own_axes():
    rng = np.random.default_rng(0)
    line = rng.normal(0, 1, 200)
    facts = [
        FileFacts(statistics=np.array([x, x + 0.01 * e])) for x, e in zip(line, rng.normal(0, 1, 200), strict=True)
    ]
    limits = learn_limits("voice", facts, [str(i) for i in range(200)])
    assert not limits.refuse(FileFacts(statistics=np.array([2.0, 2.0])))
    assert "unlike" in limits.refuse(FileFacts(statistics=np.array([2.0, -2.0])))  # each number by itself is usual


def test_few_dev_files_give_no_limits_and_say_so():
    limits = learn_limits("face", dev_facts(MIN_FILES - 1), ["a"] * (MIN_FILES - 1))
    assert not limits
    assert limits.missing == "49 dev files with a score, and at least 50 are needed"
    assert not limits.refuse(FileFacts(statistics=np.full(4, 1e9), face_px=1.0, sharpness=-9.0))


def test_limits_come_back_as_written_and_nothing_else_is_read():
    limits = learn_limits("face", dev_facts(), ["a"] * 60 + ["b"] * 60)
    assert AbstentionLimits.from_dict(limits.to_dict()) == limits
    good = limits.to_dict()
    for change in (
        {"colour": 1}, {"version": 2}, {"modality": "ear"}, {"n_files": 1.5}, {"limits": [{"name": "face_px"}]},
        {"limits": [{**good["limits"][0], "name": "nose"}]}, {"limits": [{**good["limits"][0], "least": float("nan")}]},
        {"distance": {**good["distance"], "mean": [1.0]}}, {"distance": {**good["distance"], "most": "far"}},
        {"distance": 3}, {"limits": None},
    ):  # fmt: skip
        with pytest.raises(ScoreError, match="cannot be used"):
            AbstentionLimits.from_dict({**good, **change})


def picture(blur: int = 0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = np.kron(rng.integers(0, 256, (28, 28, 3)), np.ones((8, 8, 1)))
    for _ in range(blur):
        rough = (rough + np.roll(rough, 1, 0) + np.roll(rough, 1, 1) + np.roll(rough, 1, (0, 1))) / 4
    return rough.astype(np.uint8)


def views_of(data: np.ndarray, **more) -> Views:
    n = len(data)
    return Views(data, np.arange(n, dtype=float), np.full(n, 30, np.float32), np.zeros(n, np.int32), **more)


def test_blur_lowers_sharpness_and_keeps_the_rest_of_the_shape():
    numbers = measure("face", views_of(np.stack([picture(), picture(2), picture(12)])))
    assert numbers.shape == (3, 9)
    assert numbers[0, 0] > numbers[1, 0] > numbers[2, 0]
    np.testing.assert_allclose(numbers[0, 1], numbers[2, 1], rtol=0.02)  # mean luma
    clip = measure("face", views_of(np.stack([picture(), picture()])[None]))
    np.testing.assert_allclose(clip[0], numbers[0])
    assert measure("face", views_of(np.zeros((1, 4, 4, 3), np.uint8))).shape == (1, 7)


def test_silence_lowers_the_heard_speech_and_noise_moves_the_bands():
    t = np.arange(16000) / 16000
    hum = 0.2 * np.sin(2 * np.pi * 300 * t)
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    half = np.where(t < 0.5, hum, 0.0)
    numbers = measure("voice", views_of(np.stack([hum, half, noise, np.zeros(16000)]).astype(np.float32)))
    assert numbers.shape == (4, 10)
    assert np.isfinite(numbers).all()
    assert numbers[0, 0] == 1.0
    assert numbers[1, 0] == pytest.approx(0.5, abs=0.05)
    assert numbers[3, 0] == 0.0
    assert numbers[2, -1] > numbers[0, -1] + 20  # power in the highest band
    views = views_of(np.zeros((3, 8), np.float32), end_s=np.array([2.0, 3.0, 4.0]))
    facts = file_facts("voice", np.array([[0.5, 0.0], [1.0, 0.0], [0.0, 0.0]]), np.zeros(3), views)
    assert facts.speech_s == pytest.approx(0.5 * 4)  # windows overlap: 0-2, 1-3, 2-4


def test_the_face_that_decides_is_the_one_that_is_asked():
    data = np.stack([picture(seed=i) for i in range(4)])
    views = Views(
        data, np.zeros(4), np.ones(4, np.float32), np.array([0, 0, 1, 1], np.int32),
        size=np.array([200, 220, 20, 30], np.float32),
    )  # fmt: skip
    numbers = measure("face", views)
    assert file_facts("face", numbers, np.array([5.0, 5, -1, -1]), views).face_px == 210
    assert file_facts("face", numbers, np.array([-5.0, -5, 1, 1]), views).face_px == 25


@pytest.fixture
def limited(tmp_path, square, bundle_parts):
    """A face bundle whose dev files were all light squares."""
    views = [views_of(np.full((1, 4, 4, 3), level, np.uint8)) for level in np.linspace(150, 250, 60)]
    facts = [file_facts("face", measure("face", one), np.zeros(1), one) for one in views]
    limits = learn_limits("face", facts, [str(i) for i in range(60)])
    return write_bundle(tmp_path / "limited", **bundle_parts(square, abstention=limits))


def grey(path, level):
    from PIL import Image

    Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(path)
    return path


def test_the_screener_abstains_beyond_the_limits(limited, tmp_path):
    assert Bundle.load(limited.path).abstention == limited.abstention
    screener = Screener([limited])
    usual = screener.screen(grey(tmp_path / "usual.png", 200))[0]
    assert (usual.status, usual.decision) == (Status.OK, "fake")
    dark = screener.screen(grey(tmp_path / "dark.png", 30))[0]
    assert (dark.status, dark.decision, dark.llr, dark.score) == (Status.OUT_OF_SCOPE, "abstain", None, None)
    assert dark.reason.startswith("the picture is unlike the files that the thresholds were fixed on (distance")
    assert dark.timeline == []
    judged = Screener([limited], limits=False).screen(tmp_path / "dark.png")[0]
    assert judged.status == Status.OK
    assert any("limits were not asked" in warning for warning in judged.warnings)


def test_limits_of_another_modality_are_refused(tmp_path, square, bundle_parts):
    with pytest.raises(BundleError, match="of another modality"):
        write_bundle(tmp_path / "b", **bundle_parts(square, abstention=AbstentionLimits(modality="voice")))


def test_a_long_recording_is_measured_part_by_part_like_a_short_one(tmp_path):
    import soundfile

    rng = np.random.default_rng(0)
    t = np.arange(16000 * 70) / 16000
    sound = 0.2 * np.sin(2 * np.pi * 200 * t) * (np.sin(2 * np.pi * 1.5 * t) > 0) + rng.normal(0, 1e-3, len(t))
    soundfile.write(tmp_path / "long.flac", sound.astype(np.float32), 16000)
    voices = VoiceModality(window_samples=16000)
    recorder = guarded(voices, None)
    assert isinstance(recorder, Streams)
    assert recorder.even_views == voices.even_views

    def predict(data):
        return np.zeros(len(data))

    assert score_file(recorder, predict, tmp_path / "long.flac", views=1000).n_views > 16  # in parts
    assert score_file(recorder, predict, tmp_path / "long.flac", views=16).n_views == 16  # at once
    long, short = recorder.seen
    assert long.speech_s == pytest.approx(35, rel=0.1)
    assert 5 < short.speech_s < long.speech_s
    np.testing.assert_allclose(long.statistics, short.statistics, atol=1.5)
    limits = AbstentionLimits(
        modality="voice", limits=(replace(learn_limits("voice", [long] * 50, ["a"] * 50).limits[1], least=99.0),)
    )
    outcome = score_file(guarded(voices, limits), predict, tmp_path / "long.flac", views=1000)
    assert outcome.status == Status.OUT_OF_SCOPE
    assert "noisier" in outcome.reason
