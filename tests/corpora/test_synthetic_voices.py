"""Synthetic voices: balanced, reproducible, resumable, marked; fakes differ by their manipulation alone."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepassay.corpora.synthetic_voices import RATE_HZ, SyntheticVoices, draw_speaker, speak
from deepassay.errors import ConfigError, ManifestError
from deepassay.manipulation.voice import VOICE_MANIPULATIONS, pitch_track, stft
from deepassay.media.sound import read_sound
from deepassay.splits import SubjectSplit, assert_disjoint


def corpus(root, **options) -> SyntheticVoices:
    return SyntheticVoices(**{"root": str(root), "speakers": 6, "per_speaker": 4, "progress": False, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("voices")


@pytest.fixture(scope="module")
def manifest(folder):
    return corpus(folder).prepare()


def test_utterances_are_speech_like():
    for seed, (low, high) in enumerate(((75, 290),) * 3):
        rng = np.random.default_rng(seed)
        speaker = draw_speaker(rng)
        signal = speak(speaker, 3.0, rng)
        assert signal.shape == (3 * RATE_HZ,)
        assert signal.dtype == np.float32
        assert np.isfinite(signal).all()
        f0, voicing = pitch_track(signal, RATE_HZ)
        assert 0.2 < np.mean(voicing > 0.5) < 0.95, "voiced most of the time, with pauses and consonants"
        assert abs(np.log2(np.median(f0[voicing > 0.7]) / speaker.f0_hz)) < 0.5
        assert low < np.median(f0[voicing > 0.7]) < high
        energy = np.log(np.sum(np.abs(stft(signal)[10:-10]) ** 2, axis=1))
        assert np.quantile(energy, 0.95) - np.quantile(energy, 0.02) > 3, "pauses are quieter"


def test_everything_is_marked_synthetic_and_accounted_for(manifest):
    assert manifest.synthetic
    assert manifest.info["name"] == "synthetic_voices"
    assert len(manifest) == 24
    for sample in manifest:
        assert sample.modality == "voice"
        assert sample.media == "audio"
        assert manifest.file(sample).stat().st_size == sample.bytes
        assert sample.licence
        assert sample.sha256
        signal = read_sound(manifest.file(sample))
        assert len(signal) == round(sample.duration_s * RATE_HZ)
        assert np.abs(signal).max() < 1
    head = json.loads((manifest.root / "corpus.json").read_text())
    assert head["synthetic"] is True


def test_real_and_fake_are_balanced_in_everything_but_the_manipulation(manifest):
    sides = [[s for s in manifest if s.label == label] for label in (0, 1)]
    for key in (lambda s: s.subjects, lambda s: s.duration_s, lambda s: s.codec, lambda s: s.source_id):
        assert Counter(map(key, sides[0])) == Counter(map(key, sides[1]))
    assert Counter(s.generator for s in sides[1]) == dict.fromkeys(VOICE_MANIPULATIONS, 2)
    assert not any(s.generator or "strength" in s.attributes for s in sides[0])


def test_fake_segments_are_told(manifest):
    for sample in manifest:
        if sample.label == 1:
            spans = [tuple(map(float, part.split("-"))) for part in sample.attributes["fake_segments"].split(";")]
            covered = sum(b - a for a, b in spans) / sample.duration_s
            assert covered == pytest.approx(1, abs=1e-3) if sample.generator != "splice" else 0.4 < covered < 0.62


def test_a_second_call_reuses_and_the_same_seed_gives_the_same_files(manifest, folder, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in manifest.root.rglob("*.*")}
    again = corpus(folder).prepare()
    assert again.hash == manifest.hash
    assert {p: p.stat().st_mtime_ns for p in manifest.root.rglob("*.*")} == before
    assert corpus(tmp_path).prepare().hash == manifest.hash


def test_other_recipes_lie_elsewhere(folder):
    homes = {
        corpus(folder, **o).folder
        for o in ({}, {"seed": 1}, {"strength": 0.5}, {"speakers": 7}, {"formats": {"mp3": 1}})
    }
    assert len(homes) == 5


def test_an_interrupted_corpus_is_continued_to_the_same_result(manifest, tmp_path):
    half = corpus(tmp_path)
    shutil.copytree(manifest.root, half.folder)
    (half.folder / "corpus.json").unlink()
    samples = list(manifest)
    for sample in samples[5:]:
        (half.folder / sample.path).unlink()
    kept = half.folder / samples[0].path
    stamp = kept.stat().st_mtime_ns
    assert half.prepare().hash == manifest.hash
    assert kept.stat().st_mtime_ns == stamp, "finished files are not made again"


def test_a_finished_corpus_with_missing_or_changed_files_is_refused(manifest, tmp_path):
    broken = corpus(tmp_path)
    shutil.copytree(manifest.root, broken.folder)
    victim = broken.folder / manifest[3].path
    victim.write_bytes(b"short")
    with pytest.raises(ManifestError, match=victim.name):
        broken.prepare()


def test_at_strength_zero_a_fake_is_the_recording_but_for_level_and_dither(tmp_path):
    made = corpus(tmp_path, speakers=6, per_speaker=2, strength=0.0, formats={"wav": 1}).prepare()
    pairs = {}
    for sample in made:
        pairs.setdefault(sample.source_id, []).append(read_sound(made.file(sample)))
    for one, two in pairs.values():
        assert np.corrcoef(one, two)[0, 1] > 0.9999
        assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    "bad",
    [
        {"speakers": 1}, {"per_speaker": 3}, {"strength": 2}, {"manipulations": ["wavenet"]}, {"seconds": [3, 1]},
        {"formats": {}}, {"formats": {"wav": -1}},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(tmp_path, bad):
    with pytest.raises(ConfigError, match="hint: "):
        corpus(tmp_path, **bad)


def features(signal: np.ndarray) -> np.ndarray:
    power = np.abs(stft(signal)) ** 2
    bands = np.log(power[:, :256].reshape(len(power), 32, 8).sum(axis=2) + 1e-7)
    cepstrum = np.fft.irfft(bands, axis=1)[:, :20]
    return np.concatenate([cepstrum.mean(0), cepstrum.std(0), np.diff(cepstrum, axis=0).std(0)])


@pytest.mark.full
@pytest.mark.parametrize(("strength", "low", "high"), [(1.0, 0.8, 1.0), (0.0, 0.35, 0.65)])
def test_a_plain_classifier_hears_the_manipulation_and_nuisances_tell_nothing(tmp_path, strength, low, high):
    made = SubjectSplit(fractions={"train": 0.5, "test": 0.5}).apply(
        SyntheticVoices(root=str(tmp_path), strength=strength, progress=False).prepare()
    )
    assert_disjoint(made)
    signals = [read_sound(made.file(s)) for s in made]
    labels, train = made.column("label"), made.column("split") == "train"
    spectral = np.array([features(s) for s in signals])
    nuisance = np.array([[len(x), s.bytes, np.log(np.std(x))] for x, s in zip(signals, made, strict=True)])

    def auc(x: np.ndarray) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=3000)).fit(x[train], labels[train])
        return float(roc_auc_score(labels[~train], model.decision_function(x[~train])))

    assert low <= auc(spectral) <= high
    assert 0.38 < auc(nuisance) < 0.62
