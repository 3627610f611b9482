"""Studies: plan, nested choice, thresholds, tables, channels; and (full) the whole command on synthetic faces."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deepassay.cli import config_root
from deepassay.errors import AssayError, ConfigError, ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.modality.voice import VoiceModality
from deepassay.pipelines import study as study_module
from deepassay.pipelines.study import KEYS, Study, _choose, read_choices, study
from deepassay.pipelines.study_baselines import _boosted, _logistic
from deepassay.pipelines.study_plan import Arm, Design, Training, inner_trainings, outer_trainings, read_arms
from deepassay.pipelines.study_report import (
    AS_ERROR,
    CHOSEN,
    LEFT_OUT,
    MACRO,
    MACRO_ALL,
    GroupTrials,
    markdown,
    measure_groups,
    shortcuts,
    slices,
    spread_of_seeds,
)
from deepassay.pipelines.study_robustness import drawn_trials, ladder_steps, measure_channels
from deepassay.pipelines.study_trials import FACTS, StudyInterrupted, facts_of, run_jobs
from deepassay.pipelines.terminal import terminal
from deepassay.scores import Scored, ScoreTable

GROUPS = {
    "a": {"generators": ["A"], "reals": ["north"]},
    "b": {"generators": ["B"], "reals": ["south"]},
    "c": {"generators": ["C"], "reals": ["east"]},
}
DESIGN = Design(groups=GROUPS)


def corpus(n=24) -> Manifest:
    rows = []
    for label, words in ((REAL, ["north", "south", "east", "west"]), (FAKE, ["A", "B", "C"])):
        for word in words:
            for k in range(n):
                rows.append(
                    Sample(
                        sample_id=f"{word}{k:02}", path=f"{word}{k}.jpg", media="image", modality="face", label=label,
                        subjects=(f"p-{word}{k}",), generator=word if label else "", corpus="t",
                        attributes={"repository": f"fake-{word}" if label else word},
                    )
                )  # fmt: skip
    return Manifest.from_samples(rows, root=".", info={"name": "t"})


def scores(part: Manifest, strength: float, seed=0, silent=()) -> ScoreTable:
    rng = np.random.default_rng(seed)
    scored = {}
    for s in part:
        value = strength * (s.label or 0) + float(rng.normal())
        scored[s.sample_id] = Scored(status="no_face") if s.sample_id in silent else Scored(score=value)
    return ScoreTable.from_scored(part, scored, {"detector": "t"})


def trials(name="a", strength=2.0, seeds=2, silent=(), n=24) -> GroupTrials:
    fold = DESIGN.folds(corpus(n))[name]
    runs = [
        (scores(fold.split("dev"), strength, s), scores(fold.split("test"), strength, s, silent)) for s in range(seeds)
    ]
    out = GroupTrials(name, runs[0][1])
    out.add("mine", runs, 0.05)
    out.add(CHOSEN, runs, 0.05)
    out.add("weak", [(scores(fold.split("dev"), 0.0, 9), scores(fold.split("test"), 0.0, 9, silent))], 0.05)
    return out


def everyone(groups):
    return {g.name: np.ones(len(g.ids), dtype=bool) for g in groups}


def test_every_pair_is_trained_once_and_every_folder_is_its_own():
    arms = read_arms({"one": None, "two": {"overrides": ["x=1"], "given_fakes": False}})
    inner = inner_trainings(DESIGN, arms, [0])
    assert Counter(t.groups for t in inner) == {("a", "b"): 2, ("a", "c"): 2, ("b", "c"): 2}
    outer = outer_trainings(DESIGN, arms, [0, 1])
    assert len(outer) == 12
    names = [t.name for t in inner + outer]
    assert len(set(names)) == len(names)
    assert DESIGN.split(["a"], arms["two"])["given_fakes"] is False


def test_arms_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="at least one arm"):
        read_arms({})
    with pytest.raises(ConfigError, match="'epochs'"):
        read_arms({"a": {"epochs": 3}})
    with pytest.raises(ConfigError, match="overrides is a text"):
        read_arms({"a": {"overrides": "x=1"}})
    with pytest.raises(ConfigError, match="at least two groups"):
        Design(groups={"a": GROUPS["a"]}).folds(corpus())


def pretend(folder: Path, quality, monkeypatch, impossible=()) -> Study:
    """A study whose trainings are scores of a chosen quality: (arm, left-out groups, tested group) -> separation."""
    manifest = corpus()
    folds = DESIGN.folds(manifest)
    arms = {"good": Arm("good"), "bad": Arm("bad")}

    def tables(self, training):
        if training.stage == "outer" or training in impossible:
            return None
        fold = self.design.split(training.groups)
        from deepassay.pipelines.build import build

        out = build(fold).apply(manifest)
        rng = np.random.default_rng(1)
        scored = {}
        for s in out.split("test"):
            of = {"A": "a", "B": "b", "C": "c", "north": "a", "south": "b", "east": "c"}
            word = s.generator or dict(s.attributes)["repository"]
            scored[s.sample_id] = Scored(
                score=quality(training.arm, training.groups, of[word]) * (s.label or 0) + float(rng.normal())
            )
        return None, ScoreTable.from_scored(out.split("test"), scored, {})

    monkeypatch.setattr(Study, "tables", tables)
    settings = {"inner": {"seeds": [0]}, "seeds": [0], "choose_by": "auc"}
    return Study(settings, folder, terminal(), arms, DESIGN, {}, {}, manifest, folds, None, None)


def test_the_choice_for_a_group_never_looks_at_that_group(tmp_path, monkeypatch):
    # "bad" shines on a and on nothing else: it may win for b or c, and must lose for a.
    made = pretend(tmp_path, lambda arm, left, g: (9 if g == "a" else 0) if arm == "bad" else 1.0, monkeypatch)
    _choose(made)
    chosen = {c["group"]: c for c in read_choices(tmp_path)}
    assert chosen["a"]["chosen"] == "good"
    assert chosen["a"]["on"] == ["b", "c"]
    assert chosen["a"]["scored_before"] == []
    assert set(chosen["a"]["tables"]) == {f"inner/{m}/a-{h}/seed0" for m in ("good", "bad") for h in ("b", "c")}
    before = (tmp_path / "choices" / "a.json").read_bytes()
    _choose(made)
    assert (tmp_path / "choices" / "a.json").read_bytes() == before, "an unchanged choice keeps its time"


def test_the_choice_is_made_where_every_arm_could_be_trained(tmp_path, monkeypatch):
    gone = [Training("inner", "bad", ("a", "b"), 0)]
    made = pretend(tmp_path, lambda arm, left, g: 1.0, monkeypatch, impossible=gone)
    _choose(made)
    chosen = {c["group"]: c for c in read_choices(tmp_path)}
    assert (chosen["a"]["on"], chosen["a"]["not_on"]) == (["c"], ["b"])
    gone += [Training("inner", "good", ("a", "c"), 0)]
    with pytest.raises(ConfigError, match="left out a and another group"):
        _choose(pretend(tmp_path / "none", lambda arm, left, g: 1.0, monkeypatch, impossible=gone))


def test_thresholds_come_from_dev_and_seeds_are_averaged_per_trial():
    group = trials(seeds=2)
    fold = DESIGN.folds(corpus())["a"]
    devs = [scores(fold.split("dev"), 2.0, s) for s in range(2)]
    real = devs[0].column("label") == REAL
    average = np.mean([d.column("score") for d in devs], axis=0)[real]
    tests = np.mean([scores(fold.split("test"), 2.0, s).column("score") for s in range(2)], axis=0)
    threshold = tests - group.systems["mine"][0]
    np.testing.assert_allclose(threshold, threshold[0])
    assert np.mean(average >= threshold[0] + 1e-9) <= 0.05
    assert len(group.systems["mine (single)"]) == 2


def test_a_trial_that_an_arm_never_saw_is_an_error():
    group = trials()
    fold = DESIGN.folds(corpus())["a"]
    short = fold.split("test").select(lambda s: s.sample_id != "A00")
    with pytest.raises(ScoreError, match="'A00'"):
        group.add("short", [(scores(fold.split("dev"), 1.0), scores(short, 1.0))], 0.05)


def test_the_headline_rests_on_powered_groups_and_is_paired_with_baselines():
    groups = [trials("a"), trials("b", n=24), trials("c", n=6)]
    block = measure_groups(
        groups, [CHOSEN, "weak"], ["auc", "bpcer"], keep=everyone(groups), view="all", nonresponse=AS_ERROR,
        replicates=100, seed=0, baselines=["weak"], headline=CHOSEN,
    )  # fmt: skip
    assert block["powered"] == ["a", "b"]
    macro = {(n["system"], n["metric"], n["group"]): n for n in block["numbers"]}
    each = [macro[CHOSEN, "auc", g]["value"] for g in ("a", "b")]
    assert macro[CHOSEN, "auc", MACRO]["value"] == pytest.approx(np.mean(each), abs=1e-6)
    assert macro[CHOSEN, "auc", "c"]["status"] == "under_powered"
    found = {(d["metric"], d["group"]): d for d in block["differences"]}
    assert found["auc", MACRO]["ci"]["lo"] > 0
    assert found["auc", MACRO]["over"] == ["a", "b"]
    assert found["auc", MACRO_ALL]["status"] == "under_powered"
    assert found["auc", MACRO]["p_holm"] >= found["auc", MACRO]["p"]


def test_a_fake_without_a_score_costs_where_errors_count():
    groups = [trials(silent=[f"A{k:02}" for k in range(12)], strength=6.0)]
    common = {
        "keep": everyone(groups), "view": "all", "replicates": 20, "seed": 0, "baselines": [], "headline": CHOSEN,
    }  # fmt: skip
    with_errors = measure_groups(groups, [CHOSEN], ["auc"], nonresponse=AS_ERROR, **common)["numbers"][0]
    without = measure_groups(groups, [CHOSEN], ["auc"], nonresponse=LEFT_OUT, **common)["numbers"][0]
    assert with_errors["value"] == pytest.approx(0.5, abs=0.05)
    assert without["value"] > 0.95
    assert without["n_fake"] == 12


def test_shortcuts_and_slices_find_what_was_planted():
    group = trials()
    group.systems["weak"] = [np.where(group.places("repository") == "west", 5.0, 0.0) + group.systems["weak"][0]]
    nuisances = {i: {"size": float(v)} for i, v in zip(group.ids, group.systems["weak"][0], strict=True)}
    found = shortcuts([group], ["mine", "weak"], "repository", nuisances, keep=everyone([group]), replicates=50, seed=0)
    follows = {(r["system"], r["label"]): r["value"] for r in found["rank_correlations"]}
    assert follows["weak", "real"] == pytest.approx(1.0)
    assert abs(follows["mine", "real"]) < 0.6
    inside, single = slices([group], ["mine"], "repository", keep=everyone([group]), replicates=20, seed=0)
    assert not inside, "no place holds both classes here"
    assert single[0]["generator"] == "A"
    assert 0 <= single[0]["k"] <= single[0]["n_fake"] == 24


def test_seeds_have_a_mean_and_a_spread():
    groups = [trials("a", seeds=3), trials("b", seeds=3)]
    (row,) = spread_of_seeds(groups, ["mine"], ["auc"], everyone(groups))
    assert len(row["values"]) == 3
    assert row["mean"] == pytest.approx(np.mean(row["values"]), abs=1e-5)
    assert row["sd"] > 0


def test_markdown_says_what_is_synthetic_and_what_is_weak():
    groups = [trials("a"), trials("c", n=6)]
    block = measure_groups(
        groups, [CHOSEN, "weak"], ["auc"], keep=everyone(groups), view="all trials", nonresponse=AS_ERROR,
        replicates=20, seed=0, baselines=["weak"], headline=CHOSEN,
    )  # fmt: skip
    result = {
        "name": "t", "synthetic": True, "notes": ["a note"], "by": "repository", "choice": [], "seeds": [],
        "results": [{"view": "all trials", "nonresponse": AS_ERROR, **block}], "within_source": [], "generators": [],
        "shortcuts": {"real_against_real": [], "rank_correlations": []}, "robustness": [],
    }  # fmt: skip
    text = markdown(result)
    assert "SYNTHETIC DATA" in text
    assert "| c | 6 | 6 | 6 | 6 | under_powered |" in text
    assert "Difference, chosen recipe minus the other" in text


class Eye:
    name = "face"
    contract: ClassVar[dict] = {}


def test_channels_come_at_three_strengths_and_change_what_they_are_given():
    view = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    steps = ladder_steps(["jpeg", "resize"], Eye())
    assert [name for name, _, _ in steps] == ["jpeg"] * 3 + ["resize"] * 3
    errors = [np.abs(change(view, np.random.default_rng(0)).astype(int) - view).mean() for _, _, change in steps[:3]]
    assert 0 < errors[0] < errors[1] < errors[2]
    sound = (0.1 * np.random.default_rng(1).normal(size=16000)).astype(np.float32)
    for _, _, change in ladder_steps(["noise", "g711"], VoiceModality(), strengths=2):
        heard = change(sound, np.random.default_rng(2))
        assert heard.shape == sound.shape
        assert np.abs(heard - sound).max() > 1e-4
    with pytest.raises(ConfigError, match="no_such"):
        ladder_steps(["no_such"], Eye())


def test_robustness_counts_at_the_threshold_of_dev(tmp_path):
    group = trials()
    rows = []
    for i, label in zip(group.ids, group.labels, strict=True):
        for channel, score in (("none", float(label)), ("jpeg", 1.0)):
            rows.append({"sample_id": i, "training": "t", "channel": channel, "strength": 0.0, "score": score})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    clean, coded = measure_channels(
        {"a": group}, {"a": tmp_path / "a.parquet"}, {("t", "a"): 0.5}, replicates=20, seed=0
    )
    assert (clean["eer"]["value"], clean["bpcer"]["value"], clean["apcer_pooled"]["value"]) == (0, 0, 0)
    assert (coded["bpcer"]["value"], coded["apcer_pooled"]["value"]) == (1, 0)


def test_drawn_trials_are_the_same_every_time():
    fold = DESIGN.folds(corpus())["a"]
    some = drawn_trials(fold, 5)
    assert Counter(s.label for s in some) == {REAL: 5, FAKE: 5}
    assert some == drawn_trials(fold, 5)
    assert len(drawn_trials(fold, None)) == len(fold.split("test"))


def test_probes_learn_what_there_is_and_choose_their_strength_across_clusters():
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 60)
    x = rng.normal(size=(120, 5))
    x[:, 0] += 2 * y
    clusters = np.array([f"c{i // 4}" for i in range(120)], dtype=object)
    for judge, facts in (_logistic(x, y, clusters), _boosted(x, y)):
        assert judge(x)[y == 1].mean() > judge(x)[y == 0].mean() + 1
        assert facts.get("inner_auc", 1) > 0.8
    _, facts = _logistic(x, y, np.where(y == 1, "one", clusters))
    assert facts["inner_auc"] is None, "one cluster of fakes leaves nothing to choose with"


def job(folder: Path, status: str) -> tuple:
    folder.mkdir()
    (folder / FACTS).write_text(json.dumps({"status": status, "reason": "why", "seconds": 1}))
    return (folder.name, facts_of, (folder,))


def test_jobs_that_fail_or_are_interrupted_end_the_command_after_the_others(tmp_path):
    options = {"workers": 1, "threads": 1, "console": terminal(), "title": "jobs"}
    before = os.environ.get("OMP_NUM_THREADS")
    try:
        done = [job(tmp_path / "x", "done"), job(tmp_path / "y", "impossible")]
        assert set(run_jobs(done, **options)) == {"x", "y"}
        with pytest.raises(AssayError, match="1 of 2 jobs failed, the first: z: why"):
            run_jobs([job(tmp_path / "z", "failed"), done[0]], **options)
        with pytest.raises(StudyInterrupted):
            run_jobs([job(tmp_path / "i", "interrupted")], **options)
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


@pytest.mark.parametrize("name", ["faces", "voices"])
def test_the_studies_compose_and_their_plans_hold(name):
    with initialize_config_dir(str(config_root()), version_base="1.3"):
        config = compose(config_name="study", overrides=[f"study={name}", "root=FOLDER"])
    values = OmegaConf.to_container(config, resolve=True)
    assert set(values) <= KEYS
    arms = read_arms(values["arms"])
    assert [a for a in arms.values() if not a.given_fakes]
    overrides = [override for arm in arms.values() for override in arm.overrides]
    named = [o.removeprefix("experiment=") for o in overrides if o.startswith("experiment=")]
    assert len(named) == len(arms)
    assert all((config_root() / "experiment" / f"{word}.yaml").is_file() for word in named)
    design = Design(groups=values["groups"], kin=values["kin"], leave_kin_out=values["leave_kin_out"])
    assert len(inner_trainings(design, arms, values["inner"]["seeds"])) == 6 * len(arms)
    from deepassay.pipelines.build import build

    build(design.split(["hifigan" if name == "voices" else "stylegan2_ada"]))
    modality = {"faces": Eye(), "voices": VoiceModality()}[name]
    assert ladder_steps(values["robustness"]["ladders"], modality, values["robustness"]["strengths"])


def test_unknown_metrics_and_other_plans_are_refused(tmp_path, monkeypatch):
    with initialize_config_dir(str(config_root()), version_base="1.3"):
        values = OmegaConf.to_container(compose(config_name="study"), resolve=True)
    with pytest.raises(ConfigError, match="'f1'"):
        study({**values, "metrics": ["f1"]}, tmp_path)
    with pytest.raises(ConfigError, match="unknown config key"):
        study({**values, "what": 1}, tmp_path)
    (tmp_path / "plan.json").write_text('{"fingerprint": "other"}')
    monkeypatch.setattr(study_module, "compose_train", lambda overrides: {})
    with pytest.raises(ConfigError, match="another plan"):
        study({**values, "arms": {"a": {}}, "groups": GROUPS}, tmp_path)


@pytest.mark.full
def test_a_whole_study_on_synthetic_faces(tmp_path):
    with initialize_config_dir(str(config_root()), version_base="1.3"):
        values = OmegaConf.to_container(compose(config_name="study"), resolve=True)
    values |= {
        "name": "t", "seeds": [0], "views": 1, "replicates": 50, "shortcut_replicates": 20,
        "store": {"store_folder": str(tmp_path / "stores"), "workers": 0},
        "overrides": [
            "corpus.identities=48", "corpus.per_identity=2", "corpus.videos=0", "corpus.size=128", "corpus.workers=0",
            "corpus.generators=[self_blend,local_warp,smooth_resynth]", f"corpus.root={tmp_path / 'corpus'}",
            "modality.size=64", "detector.size=64", "detector.backbone=mobilenetv3_small_050",
            "detector.pretrained=none", "trainer.max_epochs=1", "trainer.batch_size=8",
        ],
        "arms": {"plain": {}, "bare": {"overrides": ["augment=none"]}},
        "groups": {g: {"generators": [w]} for g, w in (("a", "self_blend"), ("b", "local_warp"), ("c", "*"))},
        "baselines": {"nuisance": {"kind": "nuisance_probe"}},
        "robustness": {"ladders": ["jpeg"], "strengths": 2, "variant": {"word": "bare", "overrides": ["augment=none"]}},
    }  # fmt: skip
    folder = tmp_path / "study"
    assert study(values, folder) == 0
    result = json.loads((folder / "study_results.json").read_text())
    assert result["synthetic"] is True
    assert result["headline"] == CHOSEN
    assert {c["group"] for c in result["choice"]} == {"a", "b", "c"}
    systems = {n["system"] for n in result["results"][0]["numbers"]}
    assert {CHOSEN, "plain", "bare", "nuisance"} <= systems
    assert {(r["training"], r["channel"]) for r in result["robustness"]} == {
        (t, c) for t in ("as chosen", "bare") for c in ("none", "jpeg")
    }
    tables = {p: p.read_bytes() for p in folder.rglob("test.parquet")}
    choices = {p: p.read_bytes() for p in (folder / "choices").iterdir()}
    assert study(values, folder) == 0, "again: everything is finished"
    assert tables == {p: p.read_bytes() for p in folder.rglob("test.parquet")}
    assert choices == {p: p.read_bytes() for p in (folder / "choices").iterdir()}
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["groups"]["a"] == {"generators": ["self_blend"]}
