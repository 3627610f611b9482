"""Fakes made from a corpus's real voices: tied to their originals, alike but for the voice, resumable, reproducible."""

import json
import pickle

import numpy as np
import pytest
import soundfile

import deepassay.corpora.self_made_voices as room
from deepassay.augment.vocoder import NeuralVocoder
from deepassay.corpora.self_made_voices import DEFAULT_MAKERS, SelfMadeVoices, like
from deepassay.errors import ConfigError, ManifestError, MediaError, MissingDependencyError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.manipulation.copy_synthesis import VOICE_MAKERS
from deepassay.splits import KEPT_OUT, KeepGenerators, SubjectSplit, assert_disjoint

RATE = 16000


def speech(seed: int, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(110 + 15 * (seed % 7) + 10 * np.sin(2 * np.pi * 2 * t)) / rate
    tone = np.sum([np.cos(k * phase) / k for k in range(1, 20)], axis=0)
    out = 0.1 * tone * np.clip(np.sin(2 * np.pi * 2.3 * t + seed) + 0.6, 0, 1) + 0.002 * rng.standard_normal(len(t))
    out[: rate // 50] = 0
    return out.astype(np.float32)


class Inner:
    """Six speakers with two real recordings each, and one given fake of each of the first three."""

    def __init__(self, root, form="flac", subtype="PCM_16", rate=RATE, extra=()):
        self.root, self.rows = root, list(extra)
        for k in range(12):
            name = f"r{k}.{form}"
            soundfile.write(root / name, speech(k, 1.0, rate), rate, subtype=subtype)
            self.rows.append(self.sample(name, REAL, f"p{k // 2}", f"u{k}"))
        for k in range(6):
            name = f"f{k}.flac"
            soundfile.write(root / name, speech(100 + k), RATE)
            self.rows.append(self.sample(name, FAKE, f"p{k}", f"g{k}", generator="Given", generator_family="given"))

    @staticmethod
    def sample(name, label, subject, source, **more):
        return Sample(
            sample_id=f"toy/{name}", path=name, media="audio", modality="voice", label=label, subjects=(subject,),
            source_id=source, attributes={"repository": subject}, **more,
        )  # fmt: skip

    def prepare(self):
        return Manifest.from_samples(self.rows, self.root, {"name": "toy"})


@pytest.fixture
def inner(tmp_path):
    (tmp_path / "in").mkdir()
    return Inner(tmp_path / "in")


def made(inner, tmp_path, **more):
    more = {"makers": ["phase_replacement", "partial_mel_griffin_lim", "splice"], "progress": False, **more}
    return SelfMadeVoices(corpus=inner, folder=str(tmp_path / "made"), **more)


def test_fakes_are_tied_to_their_originals_and_named(inner, tmp_path):
    out = made(inner, tmp_path, per_real=2).prepare()
    fakes = [s for s in out if s.generator.startswith("self-made/")]
    reals = {s.sample_id: s for s in out if s.label == REAL}
    assert len(reals) == 12
    assert len(fakes) == 24
    for fake in fakes:
        origin = reals[fake.attributes["made_from"]]
        assert (fake.subjects, fake.source_id, fake.split) == (origin.subjects, origin.source_id, origin.split)
        assert fake.attributes["repository"] == origin.attributes["repository"]
        assert fake.label == FAKE
        assert fake.generator_family.startswith("self-made/")
        assert (out.root / fake.path).is_file()
    counts = out.info["self_made"]["makers"]
    assert counts == dict.fromkeys(["phase_replacement", "partial_mel_griffin_lim", "splice"], 8), "dealt evenly"
    split = SubjectSplit(seed=1).apply(out)
    assert_disjoint(split)
    home = {s.sample_id: s.split for s in split}
    assert all(home[f.sample_id] == home[f.attributes["made_from"]] for f in fakes if f.sample_id in home)


def test_nothing_trivial_tells_a_fake_from_its_original(inner, tmp_path):
    out = made(inner, tmp_path, makers=list(DEFAULT_MAKERS), per_real=10).prepare()
    reals = {s.sample_id: s for s in out if s.label == REAL}
    for fake in (s for s in out if "made_from" in s.attributes):
        origin = reals[fake.attributes["made_from"]]
        one, two = (soundfile.info(str(out.root / s.path)) for s in (origin, fake))
        assert (one.format, one.subtype, one.frames, one.samplerate, one.channels) == (
            two.format, two.subtype, two.frames, two.samplerate, two.channels,
        )  # fmt: skip
        x, y = (soundfile.read(out.root / s.path)[0] for s in (origin, fake))
        assert np.sqrt(np.mean(y**2)) == pytest.approx(np.sqrt(np.mean(x**2)), rel=0.03), fake.generator
        assert abs(y.mean() - x.mean()) < 5e-4, fake.generator
        assert not y[: RATE // 50].any(), "digital silence stays"
        assert np.abs(x - y).max() > 0.01, fake.generator


def test_segments_say_where_a_partial_fake_was_changed(inner, tmp_path):
    out = made(inner, tmp_path, makers=["partial_mel_griffin_lim"]).prepare()
    for fake in (s for s in out if "made_from" in s.attributes):
        x, y = (soundfile.read(out.root / p)[0] for p in (f"originals/{fake.attributes['made_from'][4:]}", fake.path))
        inside = np.zeros(len(x), bool)
        for part in fake.attributes["fake_segments"].split(";"):
            start, end = (float(v) for v in part.split("-"))
            inside[round(start * RATE) : round(end * RATE)] = True
        assert 0.1 < inside.mean() < 0.6
        gain = (x[~inside] @ y[~inside]) / (x[~inside] @ x[~inside])
        assert gain == pytest.approx(1, abs=0.06)
        rest = np.sqrt(np.mean((y - gain * x)[~inside] ** 2))
        assert rest < 0.05 * np.sqrt(np.mean((y - x)[inside] ** 2))


def test_made_once_resumed_and_mended(inner, tmp_path, monkeypatch):
    first = made(inner, tmp_path).prepare()
    calls = []
    original = room._make
    monkeypatch.setattr(room, "_make", lambda task, *rest: calls.append(task.key) or original(task, *rest))
    assert made(inner, tmp_path).prepare().hash == first.hash
    assert not calls, "everything was there"
    fake = next(s for s in first if "made_from" in s.attributes)
    (first.root / fake.path).write_bytes(b"half")
    assert made(inner, tmp_path).prepare().hash == first.hash, "the damaged file is made again, bit for bit"
    assert len(calls) == 1
    assert made(inner, tmp_path, seed=1).prepare().hash != first.hash


def test_the_manifest_does_not_depend_on_the_place_or_the_workers(inner, tmp_path):
    one = made(inner, tmp_path).prepare()
    two = made(inner, tmp_path / "elsewhere", workers=1).prepare()
    assert one.hash == two.hash
    assert not any(str(tmp_path) in s.path for s in one)


def test_files_of_another_kind_are_saved_alike_real_and_fake(tmp_path):
    (tmp_path / "in").mkdir()
    out = made(Inner(tmp_path / "in", form="wav", subtype="FLOAT", rate=22050), tmp_path).prepare()
    heads = [soundfile.info(str(out.root / s.path)) for s in out]
    assert {(h.format, h.subtype, h.samplerate, h.channels) for h in heads} == {("FLAC", "PCM_16", RATE, 1)}
    assert out.info["self_made"]["saved_alike"] == 12
    assert {s.rate_hz for s in out if s.label == REAL} == {RATE}


def test_recordings_that_cannot_be_copied_are_counted_not_lost(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    soundfile.write(root / "short.flac", speech(1, 0.1), RATE)
    soundfile.write(root / "silent.flac", np.zeros(RATE), RATE)
    (root / "broken.flac").write_bytes(b"fLaC")
    extra = [Inner.sample(f"{n}.flac", REAL, n, n) for n in ("short", "silent", "broken")]
    out = made(Inner(root, extra=extra), tmp_path).prepare()
    assert out.info["self_made"]["not_made"] == {"no_speech": 1, "too_short": 1, "undecodable": 1}
    assert sum(s.label == REAL for s in out) == 15


def test_a_blank_source_is_filled_so_that_splits_see_the_tie(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    soundfile.write(root / "x.flac", speech(1), RATE)
    blank = Sample(sample_id="toy/x", path="x.flac", media="audio", modality="voice", label=REAL)
    out = made(Inner(root, extra=[blank]), tmp_path).prepare()
    assert {s.source_id for s in out if "toy/x" in s.sample_id} == {"toy/x"}


def test_what_cannot_be_used_is_refused(inner, tmp_path):
    for wrong, match in (
        ({"makers": ["no_such"]}, "no maker"), ({"makers": [3]}, "no maker"), ({"per_real": 4}, "per_real"),
        ({"strength": 0}, "strength"), ({"makers": ["world", "world"]}, "twice"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=match):
            made(inner, tmp_path, **wrong)
    with pytest.raises(ConfigError, match="not a corpus"):
        SelfMadeVoices(corpus="real_voices")
    inner.rows = [s for s in inner.rows if s.label == FAKE]
    with pytest.raises(ManifestError, match="no real voice"):
        made(inner, tmp_path).prepare()


def test_a_maker_that_changes_the_length_is_caught(inner, tmp_path):
    class Cutter:
        name, family = "cutter", "none"

        def __call__(self, signal, *, rate_hz, strength, rng, donor=None):
            return signal[:-1], np.zeros((0, 2))

    with pytest.raises(MediaError, match="cutter"):
        made(inner, tmp_path, makers=[Cutter()]).prepare()


def test_a_missing_pyworld_is_an_error(inner, tmp_path, monkeypatch):
    import importlib

    import deepassay.manipulation.copy_synthesis as synthesis

    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(synthesis.importlib, "import_module", gone)
    with pytest.raises(MissingDependencyError, match="pyworld"):
        VOICE_MAKERS["world"](speech(1), rate_hz=RATE, strength=1.0, rng=np.random.default_rng(0))
    monkeypatch.undo()
    assert importlib.import_module("pyworld")


def test_peaks_are_limited_and_the_power_kept():
    x = speech(3)
    x /= np.abs(x).max() * 1.01
    spiky = np.zeros_like(x)
    spiky[400::90] = 1.0
    out, kept = like(spiky * 3, x, RATE)
    assert np.abs(out).max() <= 1
    assert kept == (abs(np.sum(out.astype(float) ** 2) / np.sum(x.astype(float) ** 2) - 1) < 0.05)


def split(**more):
    return KeepGenerators(split=SubjectSplit(fractions={"train": 0.4, "dev": 0.3, "test": 0.3}), **more)


def test_given_fakes_wait_in_test_and_test_is_the_same_with_and_without_self_made(inner, tmp_path):
    out = made(inner, tmp_path).prepare()
    mine = ["self-made/*"]
    only = split(follow=mine, keep={"train": mine, "dev": mine}, drop={"test": mine}).apply(out)
    plain = SubjectSplit(fractions={"train": 0.4, "dev": 0.3, "test": 0.3}).apply(inner.prepare())
    assert_disjoint(only)
    assert {s.sample_id for s in only.split("test")} == {s.sample_id for s in plain.split("test")}
    for part in ("train", "dev"):
        fakes = [s for s in only.split(part) if s.label == FAKE]
        assert fakes
        assert all(s.generator.startswith("self-made/") for s in fakes)
    assert sum(only.info["split"]["dropped"][KEPT_OUT].values()) == only.info["split"]["n_dropped"] > 0
    mixed = split(follow=mine, drop={"test": mine}).apply(out)
    assert {s.generator for s in mixed.split("train") if s.generator} > {"Given"}


def test_a_misspelt_pattern_is_refused(inner, tmp_path):
    with pytest.raises(ManifestError, match="selfmade"):
        split(keep={"train": ["selfmade/*"]}).apply(made(inner, tmp_path).prepare())
    with pytest.raises(ConfigError, match="write a list"):
        split(keep={"train": "self-made/*"})
    with pytest.raises(ConfigError, match="no split"):
        split(drop={"tset": ["*"]})
    with pytest.raises(ConfigError, match="not a split"):
        KeepGenerators(split="subject")


@pytest.fixture(scope="module")
def hifigan(tmp_path_factory):
    """A tiny HiFi-GAN with random weights, saved as transformers does."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SpeechT5HifiGanConfig(
        model_in_dim=20, upsample_initial_channel=16, upsample_rates=[8, 8, 2, 2], upsample_kernel_sizes=[16, 16, 4, 4],
        resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]], initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hifigan")
    transformers.SpeechT5HifiGan(config).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_neural_vocoder_from_a_local_folder_is_one_more_maker(inner, tmp_path, hifigan):
    maker = NeuralVocoder(folder=str(hifigan))
    out = made(inner, tmp_path, makers=[maker]).prepare()
    fakes = [s for s in out if s.generator == "self-made/hifigan"]
    assert len(fakes) == 12
    again, segments = pickle.loads(pickle.dumps(maker))(
        speech(1), rate_hz=RATE, strength=1.0, rng=np.random.default_rng(0)
    )
    np.testing.assert_array_equal(again, maker(speech(1), rate_hz=RATE, strength=1.0, rng=np.random.default_rng(9))[0])
    assert again.shape == speech(1).shape
    assert again.std() > 0
    assert segments.tolist() == [[0.0, 1.0]]
    x = speech(2)
    np.testing.assert_array_equal(maker(x, rate_hz=RATE, strength=0.0, rng=np.random.default_rng(0))[0], x)
    assert maker(speech(4, 1.0, 8000), rate_hz=8000, strength=1.0, rng=np.random.default_rng(0))[0].shape == (8000,)


def test_its_mels_are_those_of_the_feature_extractor(hifigan):
    """microsoft/speecht5_hifigan was trained on SpeechT5FeatureExtractor's log-mels."""
    transformers = pytest.importorskip("transformers")
    oracle = transformers.SpeechT5FeatureExtractor()
    wanted = oracle(audio_target=speech(1), sampling_rate=RATE, return_tensors="np")["input_values"][0]
    mine = NeuralVocoder(folder=str(hifigan)).log_mel(speech(1), RATE, 256, 80)
    assert mine.shape == wanted.shape
    np.testing.assert_allclose(mine, wanted, atol=1e-3)


def test_missing_or_foreign_weights_are_errors(inner, tmp_path, hifigan):
    with pytest.raises(MissingDependencyError, match=r"config\.json"):
        made(inner, tmp_path, makers=[NeuralVocoder(folder=str(tmp_path / "none"))]).prepare()
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"")
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match="bert"):
        NeuralVocoder(folder=str(other)).check()
    with pytest.raises(ConfigError, match="log"):
        NeuralVocoder(folder=str(hifigan), log="2")
