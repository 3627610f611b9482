"""Conditions: files changed as a whole and scored again, resumed after a kill; a missing encoder is an error."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import ConfigError, MissingDependencyError, ScoreError
from deepassay.evidence.conditions import (
    LADDER,
    RECODE,
    TRIM,
    Condition,
    ConditionScores,
    Processed,
    conditions_of,
    drawn,
    score_conditions,
)
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.media import channels
from deepassay.media.image import write_image
from deepassay.media.sound import write_sound
from deepassay.modality.views import Views
from deepassay.modality.voice import VoiceModality
from score_worlds import made_conditions, make_protocol

RATE = 16000
STEPS = [
    Condition(name="recode:aac@64", kind=RECODE, ladder="aac", strength=64.0),
    Condition(name=TRIM, kind=TRIM),
    Condition(name="mp3@32", kind=LADDER, ladder="mp3", strength=32.0),
]


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Six recordings of a second: half a second of tone between silences; fakes are of two generators."""
    root = tmp_path_factory.mktemp("voices")
    samples = []
    for i in range(6):
        t = np.arange(RATE) / RATE
        sound = 0.3 * np.sin(2 * np.pi * (200 + 40 * i) * t) * ((t > 0.25) & (t < 0.75))
        write_sound(root / f"{i}.wav", sound.astype(np.float32), RATE)
        samples.append(
            Sample(sample_id=f"s{i}", path=f"{i}.wav", media="audio", modality="voice", label=i % 2, split="test",
                   source_id=f"p{i}", generator=("", "tool", "", "other", "", "tool")[i])
        )  # fmt: skip
    return Manifest.from_samples(samples, root, {"name": "tones", "synthetic": True})


def modality():
    return VoiceModality(rate_hz=RATE, window_samples=8000)


class Loudness:
    """A detector that says how loud a window is, counts its calls, and can be killed."""

    def __init__(self, dies_at=None):
        self.calls, self.dies_at = 0, dies_at

    def __call__(self, data):
        self.calls += 1
        if self.calls == self.dies_at:
            raise KeyboardInterrupt
        return np.abs(data).mean(axis=1).astype(np.float64)


def score(voices, folder, predict, **changes):
    options = {"tool": "tool", "views": 4, "progress": False, **changes}
    return score_conditions(voices, STEPS, modality(), predict, folder, **options)


def test_the_plan_names_every_condition_and_its_encoder():
    plan = make_protocol(ladders={"voice": ["mp3", "noise"]}, ladder_strengths=2)
    found = conditions_of(plan, "voice", ["audio"])
    assert [c.name for c in found] == ["recode:aac@64", "trim", "mp3@64", "mp3@16", "noise@20", "noise@0"]
    assert "libavcodec" in found[0].coder
    faces = conditions_of(make_protocol(ladders={"face": ["h264"]}), "face", ["video"])
    assert faces[0].name == "recode:h264@23"
    assert [c.name for c in faces if c.kind == LADDER] == ["h264@18", "h264@23", "h264@30", "h264@40"]
    assert "x264" in faces[0].coder
    assert TRIM not in {c.name for c in faces}


def test_a_missing_encoder_is_an_error_before_anything_is_scored(monkeypatch):
    plan = make_protocol(ladders={"voice": ["mp3"]})
    monkeypatch.setattr(channels, "_known", lambda name, mode: name != "libmp3lame")
    with pytest.raises(MissingDependencyError, match="libmp3lame"):
        conditions_of(plan, "voice", ["audio"])
    monkeypatch.setattr(channels, "_known", lambda name, mode: name != "aac")
    with pytest.raises(MissingDependencyError, match="aac"):
        conditions_of(make_protocol(), "voice", ["audio"])
    with pytest.raises(ConfigError, match="ladder 'nope'"):
        conditions_of(make_protocol(ladders={"face": ["nope"]}), "face", ["image"])


def test_silence_at_the_ends_is_cut_off_and_sound_is_coded(voices):
    path = voices.file(voices[0])
    whole = modality().prepare(path).data
    short = Processed(modality(), STEPS[1]).prepare(path).data
    assert whole.shape[1] == RATE
    assert abs(short.shape[1] - RATE / 2) < 0.05 * RATE
    coded = Processed(modality(), STEPS[2]).prepare(path).data
    assert coded.shape == whole.shape
    assert 0 < np.abs(coded - whole).max() < 0.2
    assert Processed(modality(), STEPS[2]).fingerprint != Processed(modality(), STEPS[1]).fingerprint


class Pictures:
    """Prepares a picture by its mean colour, as a face modality that finds a face everywhere."""

    name, views = "face", 4

    def prepare_image(self, image):
        one = image.reshape(-1, 3).std(axis=0)[None, None, None].astype(np.uint8)
        return Views(data=one, start_s=np.zeros(1), quality=np.ones(1, np.float32), track=np.zeros(1, np.int32))


def test_a_picture_is_changed_as_a_whole_before_faces_are_found(tmp_path):
    rng = np.random.Generator(np.random.PCG64(0))
    write_image(tmp_path / "a.png", rng.integers(0, 255, (64, 48, 3), dtype=np.uint8), 95)
    blurred = Processed(Pictures(), Condition(name="blur@2", kind=LADDER, ladder="blur", strength=2.0))
    plain = Pictures().prepare_image(np.asarray(rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)))
    assert (blurred.prepare(tmp_path / "a.png").data < plain.data / 2).all()


def test_conditions_are_scored_resumed_after_a_kill_and_never_twice(voices, tmp_path):
    whole = Loudness()
    expected = score(voices, tmp_path / "whole", whole)
    assert expected.names == [c.name for c in STEPS]
    killed = Loudness(dies_at=3)
    with pytest.raises(KeyboardInterrupt):
        score(voices, tmp_path / "again", killed)
    rest = Loudness()
    resumed = score(voices, tmp_path / "again", rest)
    assert resumed.hash == expected.hash
    assert rest.calls == whole.calls - 2, "two conditions were finished before the kill"
    idle = Loudness()
    assert score(voices, tmp_path / "again", idle).hash == expected.hash
    assert idle.calls == 0
    assert not list((tmp_path / "again").glob("*.jsonl"))


def test_the_bar_counts_every_file_of_every_condition(voices, tmp_path):
    told = []
    score(voices, tmp_path, Loudness(), progress=lambda name, n, total: told.append((name, n, total)))
    # Halves of checks take all six files, the ladder the real ones and the tool's.
    assert told[-1] == ("mp3@32", 6 + 6 + 5, 17)
    counts = [n for _, n, _ in told]
    assert counts == sorted(counts)


def test_both_classes_go_through_the_ladders_drawn_by_hash(voices):
    few = drawn(voices, 2, "tool")
    label, generator = few.column("label"), few.column("generator")
    assert (label == REAL).sum() == 2
    assert set(generator[label == FAKE]) == {"tool"}
    assert drawn(voices, 2, "tool").hash == few.hash
    assert len(drawn(voices, 0, "tool")) == 5


def test_scores_travel_as_one_table_without_order(world, tmp_path):
    _, scores = made_conditions(world)
    scores.write(tmp_path / "c.parquet")
    again = ConditionScores.read(tmp_path / "c.parquet")
    assert again.hash == scores.hash
    assert ConditionScores(again.table.take(list(range(len(again.table)))[::-1])).hash == scores.hash
    under = again.under("jpeg@30", world.test, world.calibration)
    assert under.meta["calibrated"]
    assert set(under.column("generator")[under.column("label") == FAKE]) == {"example_swap"}
    assert np.nanmean(under.column("llr")) < np.nanmean(world.test.column("llr"))
    (tmp_path / "x.parquet").write_bytes(b"x")
    with pytest.raises(ScoreError, match="not a readable"):
        ConditionScores.read(tmp_path / "x.parquet")


def test_scores_of_unknown_samples_are_refused(world):
    _, scores = made_conditions(world)
    with pytest.raises(ScoreError, match="does not have"):
        scores.under("jpeg@30", world.test.select(np.arange(len(world.test)) > 200), world.calibration)


def test_a_condition_twice_is_an_error(voices, tmp_path):
    with pytest.raises(ConfigError, match="twice"):
        score_conditions(
            voices, [STEPS[0], replace(STEPS[0])], modality(), Loudness(), Path(tmp_path), tool="t", views=1
        )
