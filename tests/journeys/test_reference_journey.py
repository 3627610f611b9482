"""From a finished training to a reference bundle with its parity report, tables, cards and page, by the script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepassay.cli import main
from deepassay.pipelines.reference_tables import read_scores
from deepassay.screening.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
VOICE = [
    "experiment=demo_voice", "corpus.speakers=20", "corpus.per_speaker=4", "views.train=1", "trainer.max_epochs=1",
    "trainer.progress=false", "replicates=100", "store.workers=0", "then=[]", "name=run",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with one trained run below runs/."""
    folder = tmp_path_factory.mktemp("voice")
    before = os.getcwd()
    os.chdir(folder)
    try:
        options = [f"corpus.root={folder / 'corpus'}", f"store.store_folder={folder / 'stores'}"]
        assert main(["train", *VOICE, *options]) == 0
    finally:
        os.chdir(before)
    return folder


def build(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "build_reference.py"), "--models", str(place / "models")]
    return subprocess.run(
        [*command, "--docs", str(place / "docs"), *words], cwd=place, capture_output=True, text=True, check=False
    )


def test_a_run_becomes_a_bundle_with_tables_and_cards_that_follow_from_them(place):
    done = build(place, "--voice", "runs/run", "--parity-files", "6")
    assert done.returncode == 0, done.stderr
    models = place / "models"
    bundle = Bundle.load(models / "voice-reference")
    assert bundle.name == "voice-reference"
    dev, facts = read_scores(models / "scores" / "voice-reference.dev.parquet")
    assert facts["bundle_sha256"] == bundle.hash
    point = bundle.operating_points[0]
    real = (dev.column("label") == 0) & dev.answered
    assert point.flags(dev.column("llr")[real]).mean() == pytest.approx(point.realised_bpcer), "the kept table agrees"
    report = json.loads((models / "parity" / "voice-reference.json").read_text())
    assert report["variants"][0]["bundle_sha256"] == bundle.hash
    assert report["variants"][0]["n_files"] == 6
    texts = [p.read_text() for p in (models / "voice-reference" / "bundle.json", *(models / "cards").iterdir())]
    assert len(texts) == 3
    assert all("SYNTHETIC" in text or "合成数据" in text for text in texts[1:])
    assert not any(str(place) in text for text in texts), "no folder of this machine"
    assert build(place, "--check").returncode == 0
    assert "voice-reference" in (place / "docs" / "results.md").read_text()
    facts = json.loads((place / "runs" / "run" / "run.json").read_text())
    away = {**facts, "store": "nowhere", "root": "/nowhere"}
    (place / "runs" / "run" / "run.json").write_text(json.dumps(away))
    again = build(place, "--repeat", "voice=runs/run", "--media", f"voice={facts['root']}")
    assert again.returncode == 0, again.stderr
    assert "scores of" in (models / "cards" / "voice-reference.md").read_text()
    assert json.loads((models / "scores" / "voice-reference.json").read_text())["repeat"]["flips"] == 0


def test_what_cannot_be_done_is_said_with_a_remedy(place):
    for words, said in (
        (("--face", "runs/run"), "give it as --voice"),
        (("--voice", "runs/none"), "not a run folder"),
        (("--study", "x=runs/run"), "not a finished study"),
        ((), "--tables-only"),
    ):
        done = build(place, *words)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "hint:" in done.stderr
