"""The main job end to end, as a user runs it: corpus to dossier, and screening without torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deepassay.cli import main
from deepassay.evidence.envelope import make_key
from deepassay.evidence.log import read_log
from deepassay.evidence.verify import verify_dossier
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.seal import seal_run
from deepassay.scores import ScoreTable

FACE = [
    "experiment=demo_face", "corpus.identities=20", "corpus.per_identity=4", "corpus.videos=4", "corpus.size=160",
    "corpus.frames=8", "corpus.workers=0", "modality.size=64", "modality.views=4", "detector.size=64",
    "detector.backbone=mobilenetv3_small_050", "detector.pretrained=none",
]  # fmt: skip
VOICE = ["experiment=demo_voice", "corpus.speakers=20", "corpus.per_speaker=4", "views.train=1"]
SHORT = ["trainer.max_epochs=1", "trainer.progress=false", "replicates=100", "store.workers=0"]
TOOLS = {"face": "example_swap", "voice": "example_vocoder"}

BASE_ONLY = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'torchvision', 'timm', 'lightning', 'facenet_pytorch', 'librosa', 'onnx'}:
            raise ImportError('not in the base install: ' + name)
sys.meta_path.insert(0, Blocker())
from deepassay.cli import main
sys.exit(main(sys.argv[1:]))
"""


def screen(*arguments: str) -> tuple[int, list[dict]]:
    """`deepassay screen` in a process that cannot import what the base install lacks."""
    done = subprocess.run(
        [sys.executable, "-c", BASE_ONLY, "screen", "--quiet", *arguments], capture_output=True, text=True, check=False
    )
    assert "not in the base install" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=["face", "voice"])
def run(request, tmp_path_factory) -> tuple[str, Path]:
    """A finished tiny run of each modality: trained, exported, assessed."""
    modality = request.param
    place = tmp_path_factory.mktemp(modality)
    before = os.getcwd()
    os.chdir(place)
    try:
        options = [f"corpus.root={place / 'corpus'}", f"store.store_folder={place / 'stores'}", "name=run", *SHORT]
        assert main(["train", *(FACE if modality == "face" else VOICE), *options, "then=[export]"]) == 0
        assert main(["assess", "run=runs/run", f"tool={TOOLS[modality]}", "hydra.run.dir=runs/run"]) == 0
    finally:
        os.chdir(before)
    return modality, place / "runs" / "run"


def test_every_sample_of_every_split_is_accounted_for(run):
    _, folder = run
    opened = RunFolder.open(folder)
    manifest = opened.manifest()
    for split in ("train", "dev", "test"):
        table = ScoreTable.read(opened.scores(split))
        assert list(table.column("sample_id")) == list(manifest.split(split).column("sample_id"))
        assert table.synthetic
        assert table.meta["calibrated"]
        assert table.meta["bundle_sha256"] == json.loads((folder / "metrics.json").read_text())["bundle_sha256"]


def test_numbers_are_records_with_intervals_or_reasons(run):
    _, folder = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["synthetic"] is True
    names = {n["metric"] for n in metrics["numbers"]}
    assert {"auc", "eer", "apcer", "bpcer"} <= names
    for number in metrics["numbers"]:
        assert number["ci"] is not None or number["no_ci_reason"]
        assert number["scores_sha256"] == ScoreTable.read(folder / "scores" / "test.parquet").hash


def test_thresholds_come_from_dev_and_were_fixed_before_the_test_was_opened(run):
    _, folder = run
    facts = json.loads((folder / "bundle" / "bundle.json").read_text())
    for point in facts["operating_points"]:
        assert point["dev_table_sha256"] == facts["calibration"]["dev_table_sha256"]
    frozen = json.loads((folder / "protocol" / "protocol.json").read_text())["frozen_utc"]
    openings = [json.loads(line) for line in (folder / "protocol" / "openings.jsonl").read_text().splitlines()]
    assert len(openings) == 1
    assert frozen <= openings[0]["opened_utc"]


def test_the_dossier_is_one_page_per_language_marked_synthetic(run):
    modality, folder = run
    log = json.loads((folder / "dossier" / f"{modality}.json").read_text())
    assert log["synthetic"] is True
    assert len(log["checks"]) == 12
    for language, word in (("en", "SYNTHETIC"), ("zh", "合成")):
        page = (folder / "dossier" / f"{modality}.{language}.html").read_text()
        assert word in page
        assert "<svg" in page
        for outside in ("http://", "https://"):
            assert f'src="{outside}' not in page
            assert f'href="{outside}' not in page
        assert "<script" not in page


def test_screening_needs_no_torch_and_survives_bad_files(run, tmp_path):
    modality, folder = run
    manifest = RunFolder.open(folder).manifest().split("test")
    good = [str(manifest.file(s)) for s in list(manifest)[:2]]
    empty = tmp_path / ("empty.jpg" if modality == "face" else "empty.wav")
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video\n" * 50)
    code, lines = screen(*good, str(empty), str(text), "--bundle", str(folder / "bundle"))
    assert code == 3
    assert len(lines) == 4
    by_path = {line["path"]: line for line in lines}
    for path in good:
        line = by_path[path]
        assert line["status"] == "ok"
        assert line["decision"] in ("fake", "no evidence of manipulation")
        assert len(line["bundle"]) == 64
        assert line["operating_point"]["inequality"] == "flag_if_score_ge"
        assert (line["decision"] == "fake") == (line["llr"] >= line["operating_point"]["threshold"])
        assert line["timeline"]
        assert line["synthetic"] is True
    for path in (empty, text):
        line = by_path[str(path)]
        assert line["decision"] == "abstain"
        assert line["status"] == "undecodable"
        assert line["reason"]
        assert line["llr"] is None


def test_screening_gives_the_score_of_the_evaluation(run):
    """File to llr by the bundle alone equals the table that the run wrote from its store."""
    _, folder = run
    opened = RunFolder.open(folder)
    table = ScoreTable.read(opened.scores("test"))
    manifest = opened.manifest().split("test")
    rows = [i for i in range(len(table)) if table.answered[i]][:3]
    samples = list(manifest)
    _, lines = screen(*(str(manifest.file(samples[i])) for i in rows), "--bundle", str(opened.bundle))
    for i, line in zip(rows, lines, strict=True):
        assert line["llr"] == pytest.approx(table.column("llr")[i], abs=2e-3)


def test_a_bundle_is_evaluated_on_a_corpus_that_no_run_knows(run, monkeypatch):
    modality, folder = run
    place = folder.parents[1]
    monkeypatch.chdir(place)
    words = [word for word in (FACE if modality == "face" else VOICE) if word.startswith("corpus.")]
    corpus = [f"corpus=synthetic_{modality}s", f"corpus.root={place / 'corpus'}", *words]
    assert main(["evaluate", f"bundle={folder / 'bundle'}", *corpus, "replicates=50", "name=elsewhere"]) == 0
    everything = ScoreTable.read(place / "runs" / "elsewhere" / "scores" / "test.parquet")
    at = {sample: row for row, sample in enumerate(everything.column("sample_id"))}
    own = ScoreTable.read(RunFolder.open(folder).scores("test"))
    assert len(everything) > len(own)
    for row in [i for i in range(len(own)) if own.answered[i]][:5]:
        found = everything.column("llr")[at[own.column("sample_id")[row]]]
        assert found == pytest.approx(own.column("llr")[row], abs=2e-3)


def test_the_same_command_again_goes_on_and_another_configuration_is_refused(run, capsys, monkeypatch):
    modality, folder = run
    place = folder.parents[1]
    monkeypatch.chdir(place)
    options = [f"corpus.root={place / 'corpus'}", f"store.store_folder={place / 'stores'}", "name=run", *SHORT]
    command = ["train", *(FACE if modality == "face" else VOICE), *options, "then=[]"]
    weights = (folder / "checkpoints" / "best.safetensors").read_bytes()
    assert main(command) == 0
    assert (folder / "checkpoints" / "best.safetensors").read_bytes() == weights
    assert main([*command, "seed=5"]) == 2
    error = capsys.readouterr().err
    assert "another configuration (differs in seed)" in error
    assert "hint: " in error


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("modality", ["face", "voice"])
def test_at_strength_zero_nothing_can_be_told_apart(modality, tmp_path, monkeypatch):
    """A pipeline that leaks the label (encoder, level, identity, file order) would see it here."""
    monkeypatch.chdir(tmp_path)
    size = (
        [
            "experiment=demo_face",
            "corpus.identities=160",
            "corpus.per_identity=6",
            "corpus.videos=0",
            "trainer.max_epochs=3",
        ]
        if modality == "face"
        else ["experiment=demo_voice", "corpus.speakers=160", "corpus.per_speaker=6", "trainer.max_epochs=6"]
    )
    options = [
        "corpus.strength=0", f"corpus.root={tmp_path / 'corpus'}", f"store.store_folder={tmp_path / 'stores'}",
        "name=zero", "split.fractions={train: 0.2, dev: 0.1, test: 0.7}", "replicates=1000", "trainer.progress=false",
    ]  # fmt: skip
    assert main(["train", *size, *options]) == 0
    numbers = json.loads(Path("runs/zero/metrics.json").read_text())["numbers"]
    auc = next(n for n in numbers if n["id"] == "auc/nonresponse=counted_as_error")
    assert auc["ci"]["n_clusters"] >= 100
    assert 0.40 < auc["ci"]["lo"] < auc["ci"]["hi"] < 0.60, auc


def test_the_dossier_is_sealed_and_verified_from_the_zip_alone(run, tmp_path):
    modality, folder = run
    opened = RunFolder.open(shutil.copytree(folder, tmp_path / "run"))
    key = make_key(tmp_path / "key")
    log = read_log(opened.path / "dossier" / f"{modality}.json")
    out = seal_run(opened, log, key=tmp_path / "key")
    findings = verify_dossier(out, key=key.public)
    assert not [f for f in findings if f.outcome == "wrong"]
    assert {"thresholds", "numbers", "figures", "claims", "pages"} <= {f.part for f in findings if f.outcome == "good"}
