"""Conditions of a run: planned before the test is opened, resumed, and kept for the seal with pseudonyms."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1]))

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.evidence.assess import enclosed
from deepassay.evidence.conditions import ConditionScores
from deepassay.evidence.pseudonyms import PseudonymError
from deepassay.manifest import Manifest, Sample
from deepassay.media import channels
from deepassay.media.sound import write_sound
from deepassay.modality.voice import VoiceModality
from deepassay.pipelines.conditions import Rescoring, write_enclosed
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.terminal import terminal
from deepassay.scores import ScoreTable
from score_worlds import made_conditions, made_world, make_protocol

PLAN = make_protocol(ladders={"voice": ["mp3"]}, ladder_strengths=1)


@pytest.fixture(scope="module")
def world():
    return made_world(people=(4, 24, 24))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"seed": 0}))
    return RunFolder.open(tmp_path)


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    root = tmp_path_factory.mktemp("tones")
    samples = []
    for i in range(4):
        t = np.arange(8000) / 16000
        write_sound(root / f"{i}.wav", (0.3 * np.sin(2 * np.pi * 220 * (i + 1) * t)).astype(np.float32), 16000)
        samples.append(
            Sample(sample_id=f"s{i}", path=f"{i}.wav", media="audio", modality="voice", label=i % 2, split="test",
                   source_id=f"p{i}", generator="tool" if i % 2 else "")
        )  # fmt: skip
    return Manifest.from_samples(samples, root, {"name": "tones", "synthetic": True})


def bundle():
    modality = VoiceModality(window_samples=8000)
    return SimpleNamespace(
        modality=lambda: modality, predict=lambda data: np.abs(data).mean(axis=1), views=2, name="loud", hash="b" * 64
    )


def planned(run, voices, **settings):
    return Rescoring.planned(settings, run, PLAN, bundle(), voices, None)


def test_a_missing_encoder_is_met_before_the_test_is_opened(run, voices, monkeypatch):
    monkeypatch.setattr(channels, "_known", lambda name, mode: name != "libmp3lame")
    with pytest.raises(MissingDependencyError, match="libmp3lame"):
        planned(run, voices)
    assert not (run.protocol / "openings.jsonl").exists()
    assert planned(run, voices, conditions=False).conditions == [], "nothing is scored again, knowingly"


@pytest.mark.parametrize("settings", [{"conditions": "yes"}, {"workers": -1}, {"workers": True}])
def test_settings_of_the_wrong_kind_are_refused(settings, run, voices):
    with pytest.raises(ConfigError):
        planned(run, voices, **settings)


def test_a_salt_that_is_none_is_refused(run, voices, tmp_path):
    (tmp_path / "text").write_text("no salt")
    with pytest.raises(PseudonymError, match="not a salt"):
        planned(run, voices, salt=tmp_path / "text")


def test_files_are_scored_again_into_the_run_and_only_once(run, voices):
    again = planned(run, voices)
    scores = again.score(run, bundle(), voices, "tool", 0, terminal())
    assert scores.names == ["recode:aac@64", "trim", "mp3@64"]
    files = {path: path.stat().st_mtime_ns for path in (run.path / "conditions").glob("*.parquet")}
    assert len(files) == 3
    assert again.score(run, bundle(), voices, "tool", 0, terminal()).hash == scores.hash
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_what_is_kept_for_the_seal_names_nobody(run, voices, world):
    _, scores = made_conditions(world)
    salt = planned(run, voices).salt
    write_enclosed(run, enclosed(world.test, world.dev, scores, PLAN, salt))
    folder = run.path / "dossier" / "scores"
    assert {path.name for path in folder.iterdir()} == {"dev.parquet", "test.parquet", "conditions.parquet"}
    test, again = ScoreTable.read(folder / "test.parquet"), ConditionScores.read(folder / "conditions.parquet")
    assert set(again.table.column("sample_id").to_pylist()) <= set(test.column("sample_id"))
    assert all(name.startswith("id-") for name in test.column("sample_id"))
    assert (run.path / "salt").stat().st_mode & 0o777 == 0o600
