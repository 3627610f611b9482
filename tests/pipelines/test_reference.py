"""Reference bundles: tables without names, pages that follow from them, cards, and the two wheels kept apart."""

import importlib.util
import itertools
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import deepassay
from deepassay.calibrator import calibrate
from deepassay.errors import AssayError, BundleError, ConfigError, ScoreError
from deepassay.files import write_json, write_text
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.metrics.ranking import auc
from deepassay.modality.voice import VoiceModality
from deepassay.pipelines import reference
from deepassay.pipelines.reference_cards import WORDS
from deepassay.pipelines.reference_licensed import NOT_RUN, TABLES, commands, empty_csv
from deepassay.pipelines.reference_numbers import measure_study, rates_by
from deepassay.pipelines.reference_pages import table
from deepassay.pipelines.reference_tables import (
    pack_scores,
    pack_study,
    placeless,
    pseudonyms,
    read_scores,
    read_study,
    typed,
)
from deepassay.pipelines.study_plan import Design, Training, run_folder
from deepassay.pipelines.study_report import CHOSEN
from deepassay.scores import Scored, ScoreTable
from deepassay.screening.bundle import Bundle, write_bundle

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"a": {"generators": ["A"], "reals": ["north"]}, "b": {"generators": ["B"], "reals": ["south"]}}
DESIGN = Design(groups=GROUPS)
SECRET = "jane-doe"
STEPS = [("none", 0.0), ("mp3", 64.0), ("mp3", 16.0)]


def corpus(n: int = 30) -> Manifest:
    rows = [
        Sample(
            sample_id=f"{SECRET}/{word}{k:02}", path=f"{SECRET}{word}{k}.wav", media="audio", modality="voice",
            label=label, subjects=(f"{SECRET}-{word}{k}",), generator=word if label else "", corpus="t",
            attributes={"repository": f"fake-{word}" if label else word},
        )
        for label, words in ((REAL, ["north", "south", "west"]), (FAKE, ["A", "B"]))
        for word in words
        for k in range(n)
    ]  # fmt: skip
    return Manifest.from_samples(rows, root=".", info={"name": "t"})


def scores(part: Manifest, strength: float, seed: int, silent: tuple[str, ...] = ()) -> ScoreTable:
    rng = np.random.default_rng(seed)
    scored = {}
    for sample in part:
        value = strength * (sample.label or 0) + float(rng.normal())
        lost = sample.sample_id in silent
        scored[sample.sample_id] = Scored(status="no_speech") if lost else Scored(score=value)
    return ScoreTable.from_scored(part, scored, {"detector": "t"})


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory) -> Path:
    """A folder as `deepassay study` leaves it: two arms, two seeds, two groups, one baseline, channels."""
    folder = tmp_path_factory.mktemp("study")
    folds = DESIGN.folds(corpus())
    for group, fold in folds.items():
        trial = next(s.sample_id for s in fold.split("test") if s.label == FAKE)
        for arm, strength in (("strong", 2.0), ("weak", 0.3)):
            for seed in (0, 1):
                run = run_folder(folder, Training("outer", arm, (group,), seed))
                for split in ("dev", "test"):
                    table = scores(fold.split(split), strength, seed, (trial,))
                    (run / "scores").mkdir(parents=True, exist_ok=True)
                    table.write(run / "scores" / f"{split}.parquet")
        plain = run_folder(folder, Training("variant", "strong", (group,), 0, "plain"))
        (plain / "scores").mkdir(parents=True)
        scores(fold.split("dev"), 1.0, 5).write(plain / "scores" / "dev.parquet")
        write_json(
            run_folder(folder, Training("outer", "strong", (group,), 0)) / "provenance.json",
            {"command": "'deepassay study' study=voices root=/home/somebody/data/voices stages=[inner]"},
        )
        for split in ("dev", "test"):
            (folder / "baselines" / "probe").mkdir(parents=True, exist_ok=True)
            scores(fold.split(split), 0.5, 9).write(folder / "baselines" / "probe" / f"{group}.{split}.parquet")
        rows = [
            {"sample_id": s.sample_id, "training": training, "channel": channel, "strength": strength,
             "score": float(s.label or 0)}
            for s in fold.split("test") for training in ("as trained", "plain") for channel, strength in STEPS
        ]  # fmt: skip
        (folder / "robustness").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "robustness" / f"{group}.parquet")
    settings = {
        "name": "study_t", "modality": "voice", "by": "repository", "arms": {"strong": None, "weak": None},
        "groups": GROUPS, "seeds": [0, 1], "baselines": {"probe": {"kind": "lfcc_probe"}}, "dev_bpcer": 0.05,
        "replicates": 200, "shortcut_replicates": 100, "without_subjects": [f"{SECRET}-A0"],
        "robustness": {"word": "as trained", "variant": {"word": "plain"}},
    }  # fmt: skip
    write_text(folder / "config.yaml", yaml.safe_dump(settings))
    rng = np.random.default_rng(0)
    values = {s.sample_id: {"duration": float(rng.uniform(1, 5))} for s in corpus()}
    write_json(folder / "nuisances.json", {"of": [], "values": values})
    choice = {
        "means": {"strong": 0.9, "weak": 0.6},
        "by": "auc",
        "on": ["other"],
        "written_at": "2026-01-01",
        "scored_before": [],
        "sha256": "0" * 64,
    }
    write_json(
        folder / "study_results.json",
        {
            "synthetic": False, "notes": ["Thresholds: BPCER 5 %."], "design": {}, "created": "2026-01-01",
            "code": {"id": "x"}, "manifest_sha256": "0" * 64, "tables": {},
            "choice": [{"group": g, "chosen": "strong", **choice} for g in GROUPS],
        },
    )  # fmt: skip
    return folder


def stand_ins():
    spec = importlib.util.spec_from_file_location("stand_ins", ROOT / "tests" / "screening" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory, finished_study) -> tuple[Path, Path]:
    """models/ and docs/ with a stand-in voice bundle, a study, scores of the bundle, and the pages."""
    place = tmp_path_factory.mktemp("project")
    models, docs = place / "models", place / "docs"
    shutil.copytree(ROOT / "models" / "deepassay_reference", models / "deepassay_reference")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / "models" / name, models / name)
    parts = stand_ins().parts(VoiceModality(window_samples=16000)) | {"name": "voice-reference"}
    parts["provenance"] = {
        **parts["provenance"], "command": "deepassay train experiment=x corpus.root=FOLDER/voices", "seeds": [3],
        "weights_sha256": "1" * 64, "data": {
            "corpus": "t", "media": ["audio"], "train": {"real": 60, "fake": 30}, "dev": {"real": 30, "fake": 30},
            "dev_scored": 60,
        },
    }  # fmt: skip
    parts["licence_chain"] = [
        {"name": "t [1]", "kind": "corpus", "licence": "research only", "commercial": "no", "note": "9 of 90 samples"}
    ]
    bundle = write_bundle(models / "voice-reference", **parts)
    row = {
        "bundle": "voice-reference", "bundle_sha256": bundle.hash, "precision": "fp32", "n_files": 7, "threads": 1,
        "max_logit_difference": 1e-6, "flips": {"bpcer_5": 0}, "ms_per_view": 1.0, "network_ms_per_view": 2.0,
        "ms_per_file": 3.0, "network_ms_per_file": 4.0,
    }  # fmt: skip
    write_json(models / "parity" / "voice-reference.json", {"variants": [row]})
    pack_study(finished_study, models / "scores", "voices")
    keep(models, bundle, "test")
    reference.write_pages(models, docs)
    return models, docs


def keep(models: Path, bundle: Bundle, name: str) -> Path:
    table = scores(corpus().select(lambda s: s.generator != "B"), 1.5, 4)
    table = ScoreTable(table.table, {**table.meta, "bundle_sha256": bundle.hash})
    return reference.keep_scores(calibrate(table, bundle.calibration), bundle, models, name)


def copy_of(built: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    for source, name in zip(built, ("models", "docs"), strict=True):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "models", tmp_path / "docs"


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_packed_study_says_what_the_study_said(finished_study, built):
    study = read_study(built[0] / "scores" / "study-voices.json")
    fold = DESIGN.folds(corpus())["a"].split("test")
    runs = [
        ScoreTable.read(run_folder(finished_study, Training("outer", "strong", ("a",), s)) / "scores" / "test.parquet")
        for s in (0, 1)
    ]
    mean = np.mean([run.column("score") for run in runs], axis=0)
    known = np.isfinite(mean)
    group = next(g for g in study.groups if g.name == "a")
    packed = group.systems[CHOSEN][0]
    assert len(group.ids) == len(fold)
    assert (~np.isfinite(packed)).sum() == 1, "a trial without a score stays one"
    expected = auc(runs[0].column("label")[known].astype(int), mean[known])
    assert auc(group.labels[np.isfinite(packed)], packed[np.isfinite(packed)]) == pytest.approx(expected, abs=1e-9)
    assert study.kept[f"without {SECRET}-A0"]["a"].sum() == len(fold) - 1
    assert study.chosen == {"a": "strong", "b": "strong"}


def test_thresholds_of_the_packed_study_are_those_of_dev(finished_study, built):
    study = read_study(built[0] / "scores" / "study-voices.json")
    dev = ScoreTable.read(
        run_folder(finished_study, Training("variant", "strong", ("b",), 0, "plain")) / "scores" / "dev.parquet"
    )
    real = dev.column("score")[dev.column("label") == REAL].astype(np.float32).astype(np.float64)  # as kept
    assert (real >= study.thresholds["plain", "b"]).mean() <= 0.05
    assert set(study.thresholds) == {(word, g) for word in ("as trained", "plain") for g in GROUPS}


def texts_of(folder: Path) -> str:
    """Everything that the committed files say, Parquet included."""
    out = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".onnx"):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            out.append(json.dumps(table.to_pydict()) + str(table.schema.metadata))
        else:
            out.append(path.read_text(errors="ignore"))
    return "\n".join(out)


def test_committed_tables_name_no_file_and_no_person(built):
    said = texts_of(built[0] / "scores").replace(f"without {SECRET}-A0", "")
    assert SECRET not in said
    assert "/home/somebody" not in said
    assert "root=FOLDER/voices" in said


def test_canary_the_search_for_names_sees_them_inside_parquet(tmp_path, finished_study):
    assert SECRET in texts_of(finished_study / "robustness")


def test_pseudonyms_do_not_follow_the_order_of_names():
    names = [f"name{k:03}" for k in range(50)]
    made = pseudonyms(names, "s")
    assert len(set(made.values())) == 50
    assert [made[n] for n in names] != sorted(made.values())
    assert pseudonyms(list(reversed(names)), "s") == made


def test_paths_become_placeholders_and_nothing_else_changes():
    said = {"command": 'deepassay train corpus.root=/data/x/faces "a/b" 3/4 http://host/path', "n": [1, None]}
    assert placeless(said) == {
        "command": 'deepassay train corpus.root=FOLDER/faces "a/b" 3/4 http://host/path', "n": [1, None]
    }  # fmt: skip
    assert typed({"command": '"deepassay study" study=faces stages=[inner,outer]'}) == "deepassay study study=faces"


def test_what_is_no_finished_study_is_refused(tmp_path, built):
    with pytest.raises(ConfigError, match="not a finished study"):
        pack_study(tmp_path, tmp_path / "scores", "x")
    models, _ = copy_of(built, tmp_path)
    (models / "scores" / "study-voices.parquet").write_bytes(b"no")
    with pytest.raises(ScoreError, match=r"study-voices\.parquet"):
        read_study(models / "scores" / "study-voices.json")


def test_scores_of_a_bundle_come_back_and_those_of_another_are_refused(tmp_path, built):
    models, _ = copy_of(built, tmp_path)
    bundle = Bundle.load(models / "voice-reference")
    table, facts = read_scores(keep(models, bundle, "elsewhere"))
    assert facts["bundle_sha256"] == bundle.hash
    assert len(table) == 4 * 30
    raw = scores(corpus(), 1.0, 4)
    with pytest.raises(ScoreError, match="without llr"):
        pack_scores(raw, tmp_path / "x.parquet", by="repository", about={})
    other = ScoreTable(raw.table, {**raw.meta, "bundle_sha256": "9" * 64})
    with pytest.raises(ConfigError, match="another bundle"):
        reference.keep_scores(calibrate(other, bundle.calibration), bundle, models, "x")


def test_rates_count_a_file_without_a_score_as_an_error(built):
    bundle = Bundle.load(built[0] / "voice-reference")
    table = calibrate(scores(corpus(), 9.0, 1, (f"{SECRET}/A00", f"{SECRET}/north00")), bundle.calibration)
    rows = {(r["label"], r["name"]): r for r in rates_by(table, bundle.operating_points[0], "repository")}
    assert rows["fake", "A"]["k"] == 1, "every fake is flagged but the silent one"
    assert rows["fake", "B"]["k"] == 0
    assert rows["real", "north"]["k"] >= 1
    assert rows["fake", "A"]["n"] == rows["fake", "A"]["clusters"] == 30


# --- pages ----------------------------------------------------------------------------------------------------------


def test_cells_and_heads_that_hold_a_bar_or_a_star_stay_in_their_cell():
    head, rule, row, end = table(["a", "|b|"], [["x|y", "0.5*"]])
    assert (head, rule) == ("| a | \\|b\\| |", "| --- | --- |")
    assert (row, end) == ("| x\\|y | 0.5\\* |", "")


def test_numbers_rank_the_arms_as_they_were_made(built):
    numbers = measure_study(read_study(built[0] / "scores" / "study-voices.json"))
    at = {(r["system"], r["group"]): r["value"] for r in numbers["blocks"][0]["numbers"] if r["metric"] == "auc"}
    assert numbers["headline"] == CHOSEN
    assert at[CHOSEN, "a"] > at["probe", "a"]
    assert {r["second"] for r in numbers["blocks"][0]["differences"]} == {"probe"}
    assert {r["channel"] for r in numbers["channels"]} == {"none", "mp3"}
    assert [r["strength"] for r in numbers["channels"] if r["training"] == "plain"] == [0.0, 64.0, 16.0]
    pooled = {r["system"]: r for r in numbers["pooled"] if r["metric"] == "auc"}
    assert pooled[CHOSEN]["n_fake"] == 60


def test_pages_follow_from_the_tables_and_are_the_same_every_time(built):
    models, docs = built
    assert reference.differing(models, docs) == []
    assert reference.write_pages(models, docs) == []


def test_canary_a_changed_score_or_page_is_seen(tmp_path, built):
    models, docs = copy_of(built, tmp_path)
    page = docs / "results.md"
    page.write_text(page.read_text().replace("0.", "0.9", 1))
    assert reference.differing(models, docs) == [page]
    reference.write_pages(models, docs)
    path = models / "scores" / "study-voices.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("score/strong/0")
    pq.write_table(table.set_column(column, "score/strong/0", pa.array([0.0] * len(table), pa.float32())), path)
    wrong = {p.name for p in reference.differing(models, docs)}
    assert {"results.md", "voice-reference.md", "voice-reference.zh.md"} <= wrong


def test_the_results_page_says_who_is_ahead_and_what_was_not_run(built):
    text = (built[1] / "results.md").read_text()
    assert "ahead of probe" in text
    assert "```sh\ndeepassay study study=voices root=FOLDER/voices\n```" in text
    assert "(results/voices-channels.svg)" in text
    assert (built[1] / "results" / "voices-channels.svg").read_text().startswith("<svg")
    for licensed in TABLES:
        assert licensed.title in text
        assert (built[1] / "results" / f"{licensed.name}.csv").is_file()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for above, below in itertools.pairwise(rows):
        if re.fullmatch(r"\|( --- \|)+", below):
            assert above.replace("\\|", "").count("|") == below.count("|"), above


def numbers_in(text: str) -> list[str]:
    return re.findall(r"\d+\.\d{3}\b", text)


def test_both_cards_tell_the_same_numbers_and_what_is_missed(built):
    models, _ = built
    english, chinese = ((models / "cards" / f"voice-reference{end}").read_text() for end in (".md", ".zh.md"))
    assert numbers_in(english) == numbers_in(chinese) != []
    assert Bundle.load(models / "voice-reference").hash in english
    assert "research only | 9 / 90 | not allowed" in english
    assert "no proof" in english
    assert "不构成证明" in chinese
    assert "| A | no |" in english
    assert re.search(r"\| north \| \d+/30 \(", english)
    assert "named nowhere here" in english
    assert re.search("[\u4e00-\u9fff]", english.replace("中文", "")) is None
    assert set(WORDS["en"]) == set(WORDS["zh"])


def test_a_card_notes_the_recipe_and_a_training_done_again(tmp_path, built):
    models, docs = copy_of(built, tmp_path)
    again = {"n": 60, "max_difference": 0.002, "point": "bpcer_5", "flips": 0, "machine": "some CPU"}
    reference.note(models, "voice", recipe="weak")
    reference.note(models, "voice", repeat=again)
    reference.write_pages(models, docs)
    text = (models / "cards" / "voice-reference.md").read_text()
    assert "Recipe: `weak`" in text
    assert "some CPU: scores of 60 files differ by at most 2.0e-03" in text
    reference.note(models, "voice", recipe="none such")
    with pytest.raises(ConfigError, match="no recipe 'none such'"):
        reference.write_pages(models, docs)


def test_parity_or_scores_of_another_bundle_are_refused(tmp_path, built):
    models, docs = copy_of(built, tmp_path)
    path = models / "parity" / "voice-reference.json"
    write_json(path, json.loads(path.read_text().replace(Bundle.load(models / "voice-reference").hash, "2" * 64)))
    with pytest.raises(BundleError, match="not the parity report"):
        reference.pages(models, docs)


def test_paths_of_this_machine_and_too_many_bytes_are_refused(tmp_path, built, monkeypatch):
    models, _ = copy_of(built, tmp_path)
    with pytest.raises(BundleError, match="would name the folder"):
        reference._refuse_paths(models / "voice-reference", ["research only"])
    reference._refuse_paths(models / "voice-reference", [str(tmp_path)])
    facts = models / "voice-reference" / "bundle.json"
    facts.write_text(facts.read_text().replace("research only", "in /data/somebody/x.npz"))
    with pytest.raises(BundleError, match="/data/somebody"):
        reference._refuse_paths(models / "voice-reference", [])
    monkeypatch.setattr(reference, "MOST_BYTES", 10)
    with pytest.raises(AssayError, match="MB together"):
        reference._refuse_size(models)


def test_the_committed_pages_follow_from_the_committed_tables():
    assert reference.differing(ROOT / "models", ROOT / "docs") == [], (
        "run `python scripts/build_reference.py --tables-only` and commit what it writes"
    )


@pytest.mark.parametrize("name", sorted(reference.NAMES.values()))
def test_a_committed_bundle_is_whole_and_its_thresholds_are_those_of_its_dev_table(name):
    if not (ROOT / "models" / name).is_dir():
        pytest.skip("models/ holds no such bundle yet")
    bundle = Bundle.load(ROOT / "models" / name)
    bundle.check()
    assert not bundle.synthetic
    dev, facts = read_scores(ROOT / "models" / "scores" / f"{name}.dev.parquet")
    assert facts["bundle_sha256"] == bundle.hash
    real = (dev.column("label") == REAL) & dev.answered
    for point in bundle.operating_points:
        assert point.flags(dev.column("llr")[real]).mean() == pytest.approx(point.realised_bpcer)


def test_committed_tables_and_bundles_are_small():
    sizes = {p: p.stat().st_size for p in (ROOT / "models").rglob("*") if p.is_file()}
    bundles = sum(size for p, size in sizes.items() if p.suffix == ".onnx")
    assert bundles <= reference.MOST_BYTES
    pages = [p for p in (ROOT / "docs" / "results").rglob("*") if p.is_file()]
    assert sum(sizes.values()) - bundles + sum(p.stat().st_size for p in pages) < 3_000_000


# --- corpora under licence --------------------------------------------------------------------------------------------


def test_result_files_of_licensed_corpora_say_in_every_row_that_they_were_not_run():
    for licensed in TABLES:
        head, *rows = empty_csv(licensed).splitlines()
        assert head.startswith("table,trained_on,tested_on,slice,metric")
        assert rows
        assert all(f",,,,,,{NOT_RUN}," in row for row in rows)


@pytest.mark.parametrize(
    "command", sorted({c for t in TABLES for c in commands(t)}), ids=lambda c: c.split("name=")[-1]
)
def test_commands_of_licensed_tables_compose(command):
    from hydra import compose, initialize_config_dir

    from deepassay.cli import config_root

    _, verb, *words = command.split()
    if verb == "metrics":
        import argparse

        from deepassay.pipelines.metrics import add_arguments

        parser = argparse.ArgumentParser()
        add_arguments(parser)
        assert parser.parse_args(words)
        return
    with initialize_config_dir(str(config_root()), version_base="1.3"):
        assert compose(config_name=verb, overrides=words)


# --- the two wheels ---------------------------------------------------------------------------------------------------


def wheel(project: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def strangers(names: list[str]) -> list[str]:
    """What belongs to the reference wheel or to no wheel at all."""
    return [n for n in names if n.endswith(".onnx") or n.startswith(("models/", "deepassay_reference"))
            or "-reference" in n]  # fmt: skip


def main_project(place: Path) -> Path:
    """What the main wheel is built from, and models/ beside it."""
    for name in ("src", "configs", "models"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    (place / "models" / "planted.onnx").write_bytes(b"weights")
    return place


def test_the_apache_wheel_holds_no_bundle(tmp_path):
    project = main_project(tmp_path / "project")
    done = wheel(project, tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))).namelist()
    assert "deepassay/cli.py" in names
    assert strangers(names) == []


def test_canary_a_bundle_in_the_apache_wheel_is_seen(tmp_path):
    project = main_project(tmp_path / "project")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(
        text.replace('"configs" = "deepassay/configs"', '"configs" = "deepassay/configs"\n"models" = "deepassay/extra"')
    )
    assert wheel(project, tmp_path / "dist").returncode == 0
    names = zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))).namelist()
    assert "deepassay/extra/planted.onnx" in strangers(names)


def test_the_reference_wheel_holds_bundles_cards_parity_and_its_own_licence(tmp_path, built):
    models, _ = copy_of(built, tmp_path)
    without = wheel(models, tmp_path / "none")
    assert without.returncode != 0, "no wheel without its content"
    assert "face-reference" in without.stderr
    shutil.copytree(models / "voice-reference", models / "face-reference")
    done = wheel(models, tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    held = zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl")))
    names = held.namelist()
    for name in ("voice-reference/bundle.json", "voice-reference/detector.onnx", "parity/voice-reference.json",
                 "cards/voice-reference.md", "cards/voice-reference.zh.md"):  # fmt: skip
        assert f"deepassay_reference/{name}" in names
    assert not [n for n in names if n.endswith(".parquet") or n.startswith("deepassay/")]
    info = next(n for n in names if n.endswith("METADATA"))
    metadata = held.read(info).decode()
    assert "License-Expression: LicenseRef-deepassay-reference-research-use" in metadata
    assert "Requires-Dist: deepassay" in metadata
    assert f"Version: {deepassay.__version__}" in metadata, "both wheels carry the same version"
    licence = held.read(next(n for n in names if n.endswith("LICENSE"))).decode()
    assert "Research use only" in licence
    entries = held.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert "[deepassay.bundles]" in entries
    held.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from deepassay.screening.installed import installed_bundles\n"
        "from deepassay.screening.bundle import Bundle\n"
        "for one in installed_bundles(): print(one, Bundle.load(one.path).hash)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0].startswith("face-reference (deepassay-reference")
    assert said[1].startswith("voice-reference (deepassay-reference")
    assert said[1].endswith(Bundle.load(models / "voice-reference").hash)
    assert "for research use" in said[1]
