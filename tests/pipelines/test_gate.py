"""Training and assessment are refused on a planted shortcut, say how to go on knowingly, and keep a record of it."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deepassay import cli
from deepassay.audit import AuditError
from deepassay.corpora.synthetic_voices import SyntheticVoices
from deepassay.errors import ConfigError
from deepassay.evidence.protocol import Register
from deepassay.manifest import Manifest
from deepassay.media.sound import read_sound, write_sound
from deepassay.modality.voice import VoiceModality
from deepassay.pipelines import gate as room
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.gate import Gate
from deepassay.splits import SubjectSplit
from deepassay.store import prepare_store

ALLOW = "[shortcut.container,shortcut.all]"


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Manifest:
    """40 invented speakers, split: 160 files that block on nothing, forged so lightly that their views do not tell."""
    root = tmp_path_factory.mktemp("voices")
    whole = SyntheticVoices(
        root=str(root), speakers=40, per_speaker=4, seconds=[2.0, 2.5], formats={"wav": 1.0}, strength=0, progress=False
    ).prepare()
    return SubjectSplit(fractions={"train": 0.6, "dev": 0.2, "test": 0.2}).apply(whole)


@pytest.fixture(scope="module")
def planted(voices, tmp_path_factory) -> Path:
    """The same voices as somebody's own table, the fakes as FLAC: the container gives the label away."""
    root = tmp_path_factory.mktemp("planted")
    with open(root / "mine.csv", "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["sample_id", "path", "label", "subjects", "source_id", "generator"])
        for n, sample in enumerate(voices):
            name = f"{n:03d}.{'flac' if sample.label else 'wav'}"
            write_sound(root / name, read_sound(voices.file(sample), 16_000), 16_000)
            word = "fake" if sample.label else "real"
            rows.writerow([sample.sample_id, name, word, ";".join(sample.subjects), sample.source_id, sample.generator])
    return root


def quiet() -> Console:
    return Console(width=200, record=True, file=io.StringIO())


def train(planted: Path, *more: str) -> int:
    return cli.main(
        ["train", "experiment=demo_voice", "corpus=csv", f"corpus.root={planted}", "corpus.csv=mine.csv",
         "+corpus.modality=voice", "+corpus.media=audio", f"store.store_folder={planted / 'stores'}",
         "store.workers=0", "trainer.max_epochs=1", "trainer.progress=false", "name=mine", "then=[export]", *more]
    )  # fmt: skip


def test_training_on_a_planted_shortcut_is_refused_and_goes_on_knowingly(planted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine"
    assert train(planted) == 2
    error = capsys.readouterr().err
    assert "shortcut.container" in error
    assert "hint: " in error
    assert f"audit.allow={ALLOW}" in error.replace("\n", "")
    refused = json.loads((run / "audit.json").read_text())
    assert refused["passed"] is False
    assert refused["allowed"] == []
    assert not (run / "checkpoints" / "best.safetensors").exists()

    assert train(planted, f"audit.allow={ALLOW}") == 0, "the same name goes on: what is allowed is no other experiment"
    kept = json.loads((run / "audit.json").read_text())
    assert kept["passed"] is True
    assert kept["allowed"] == ["shortcut.all", "shortcut.container"]
    assert kept["manifest_sha256"] == RunFolder.open(run).manifest().hash
    assert {f["id"] for f in kept["findings"]} >= {"near_duplicates", "view.channel", "shortcut.container"}
    assert "allowed knowingly: shortcut.container" in capsys.readouterr().out

    monkeypatch.setattr(room, "audit", lambda *a, **k: pytest.fail("audited twice"))
    assert train(planted, f"audit.allow={ALLOW}") == 0
    assert "passed before" in capsys.readouterr().out

    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assess = ["assess", f"run={run}", "tool=example_vocoder", f"hydra.run.dir={run}", "protocol.replicates=100"]
    assert cli.main([*assess, "audit.allow=[shortcut.all]"]) == 2
    assert "audit.allow=[shortcut.all,shortcut.container]" in capsys.readouterr().err
    assert not Register(run / "protocol").openings(), "a refusal opens no test labels"
    assert cli.main([*assess, f"audit.allow={ALLOW}"]) == 0
    assert json.loads((run / "dossier" / "audit.json").read_text())["allowed"] == ["shortcut.all", "shortcut.container"]
    dossier = json.loads((run / "dossier" / "voice.json").read_text())
    assert any("blocks on shortcut.container, shortcut.all" in text for text in dossier["limitations"])
    assert any("shortcut.container" in text for text in dossier["scope"]["limitations_zh"])


def test_a_clean_corpus_passes_and_an_audit_left_out_is_recorded(voices, tmp_path):
    modality = VoiceModality(window_samples=32_000)
    store = prepare_store(voices, modality, tmp_path / "store", workers=0)
    console = quiet()
    report = Gate().pass_on(voices, tmp_path / "audit.json", console, modality=modality, store=store)
    assert report is not None
    assert report.blocks == []
    assert "nothing blocks" in console.export_text()
    console = quiet()
    assert Gate(skip=True).pass_on(voices, tmp_path / "audit.json", console) is None
    assert "SKIPPED, knowingly" in console.export_text()
    record = json.loads((tmp_path / "audit.json").read_text())
    assert record["skipped"] is True
    assert record["findings"] == []


def test_an_audit_stands_only_for_the_same_data_terms_and_a_whole_record(voices, tmp_path, monkeypatch):
    made = []
    real = room.audit
    monkeypatch.setattr(room, "audit", lambda *a, **k: made.append(1) or real(*a, **k, look=False))
    record = tmp_path / "audit.json"

    def go(manifest: Manifest = voices, **options) -> int:
        Gate(**options).pass_on(manifest, record, quiet(), again=False)
        return len(made)

    assert go() == 1
    assert go() == 1
    assert go(allow=("labels",)) == 2
    assert go(allow=("labels",)) == 2
    part = voices.select([n % 10 != 0 for n in range(len(voices))])
    assert go(part, allow=("labels",)) == 3
    record.write_text(record.read_text()[:100])
    assert go(part, allow=("labels",)) == 4
    tied = Manifest.from_samples([replace(s, subjects=("one",)) for s in voices], voices.root, dict(voices.info))
    for expected in (5, 6):  # a refusal is no audit that stands
        with pytest.raises(AuditError, match=r"overlap\.subject"):
            go(tied)
        assert len(made) == expected


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"alow": []}, "unknown key 'alow'"),
        ({"allow": "shortcut.all"}, "write a list"),
        ({"allow": ["shortcut.everything"]}, "shortcut.everything"),
        ({"skip": "yes"}, "audit.skip"),
        ({"max_files": 0}, "audit.max_files"),
        ({"replicates": True}, "audit.replicates"),
    ],
)
def test_a_misspelt_key_is_refused(node, words):
    with pytest.raises(ConfigError, match=words):
        Gate.from_config(node)


def test_a_misspelt_key_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", "experiment=demo_voice", "+audit.alow=[x]", "corpus.root=nowhere"]) == 2
    assert "unknown key 'alow'" in capsys.readouterr().err


def test_an_absent_key_is_an_audit_that_allows_nothing():
    assert Gate.from_config(None) == Gate()
    assert Gate().allow == ()
    assert not Gate().skip
