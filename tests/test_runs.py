"""Run folders are read back whole or refused with the missing file and the remedy."""

import argparse
import json
from pathlib import Path

import pytest
import yaml

from deepassay import runs
from deepassay.files import write_json
from deepassay.manifest import Manifest, Sample
from deepassay.scores import Scored, ScoreTable


def _number(metric: str = "auc", value: float | None = 0.9, lo=0.85, hi=0.95, **more):
    return {
        "id": f"test.{metric}", "metric": metric, "definition": f"{metric}@1", "direction": "higher_better",
        "value": value,
        "ci": {"level": 0.95, "method": "bootstrap_cluster_percentile", "lo": lo, "hi": hi, "n_clusters": 40},
        "support": {"n_bona": 10, "n_attack": 10, "n_clusters": 40}, "slice": {}, "status": "exploratory", **more,
    }  # fmt: skip


def make_run(folder: Path, *, lr=0.1, numbers=None, synthetic=True, test_ids=("a", "b")) -> Path:
    folder.mkdir(parents=True)
    config = {"name": folder.name, "optimizer": {"lr": lr}, "views": {"train": 4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    code = {"kind": "commit", "id": "f" * 40, "dirty": True}
    write_json(
        folder / "provenance.json", {"created_utc": "2026-01-02T03:04:05+00:00", "code": code, "command": "train"}
    )
    samples = [
        Sample(sample_id=i, path=f"{i}.png", media="image", modality="face", label=n % 2, split="test")
        for n, i in enumerate(test_ids)
    ]
    manifest = Manifest.from_samples(samples, folder, {"name": "c", "synthetic": synthetic})
    manifest.to_parquet(folder / "manifest.parquet")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.safetensors").write_bytes(b"x")
    (folder / "scores").mkdir()
    table = ScoreTable.from_scored(manifest, {s.sample_id: Scored(score=0.5) for s in manifest})
    table.write(folder / "scores" / "test.parquet")
    write_json(folder / "metrics.json", {"test": {"numbers": numbers or [_number()]}})
    return folder


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    runs.add_arguments(parser)
    return runs.main(parser.parse_args(list(arguments)))


def test_open_reads_config_numbers_and_the_synthetic_fact(tmp_path):
    run = runs.Run.open(make_run(tmp_path / "one"))
    assert run.config["optimizer"] == {"lr": 0.1}
    assert run.stage == "evaluated"
    assert run.synthetic is True
    assert [n["metric"] for n in run.numbers] == ["auc"]
    assert runs.Run.open(make_run(tmp_path / "two", synthetic=False)).synthetic is False


@pytest.mark.parametrize("name", [name for names in runs.STAGES.values() for name in names])
def test_a_run_without_any_one_file_is_refused_by_name(tmp_path, name):
    folder = make_run(tmp_path / "one")
    (folder / name).unlink()
    with pytest.raises(runs.RunError) as caught:
        runs.Run.open(folder)
    assert Path(name).name in str(caught.value)
    assert "hint:" in str(caught.value)


def test_trained_but_not_evaluated_can_be_opened_as_such(tmp_path):
    folder = make_run(tmp_path / "one")
    (folder / "metrics.json").unlink()
    (folder / ".metrics.json.abc.part").write_text('{"half')
    assert runs.Run.open(folder, stage="trained").stage == "trained"
    with pytest.raises(runs.RunError, match="cut off"):
        runs.Run.open(folder)
    with pytest.raises(ValueError, match="stage"):
        runs.Run.open(folder, stage="done")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"numbers": [{"metric"'),
        ("metrics.json", b'{"numbers": []}'),
        ("metrics.json", b"7"),
        ("provenance.json", b"\xff\xfe"),
        ("config.yaml", b"a: [1"),
        ("config.yaml", b""),
        ("manifest.parquet", b"PAR1 cut"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, name, content):
    folder = make_run(tmp_path / "one")
    (folder / name).write_bytes(content)
    with pytest.raises(runs.RunError, match=name.replace(".", r"\.")):
        runs.Run.open(folder)


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(runs.RunError, match="no such folder"):
        runs.Run.open(tmp_path / "nowhere")
    with pytest.raises(runs.RunError, match="no such folder"):
        runs.find_runs(tmp_path / "nowhere")


def test_find_runs_goes_down_but_not_into_runs_or_hidden_folders(tmp_path):
    make_run(tmp_path / "sweep" / "0")
    make_run(tmp_path / "sweep" / "1")
    make_run(tmp_path / "sweep" / "0" / "inner")
    make_run(tmp_path / ".trash" / "x")
    assert [p.relative_to(tmp_path).as_posix() for p in runs.find_runs(tmp_path)] == ["sweep/0", "sweep/1"]


def test_differences_are_dotted_and_type_aware():
    one = {"a": {"b": 1, "c": [1, 2]}, "d": True, "e": {}}
    two = {"a": {"b": 2, "c": [1, 2]}, "d": 1, "f": None}
    assert runs.differences([one, two]) == {
        "a.b": [1, 2],
        "d": [True, 1],
        "e": [{}, "(absent)"],
        "f": ["(absent)", None],
    }
    assert runs.differences([one, one]) == {}


def test_tabulate_puts_numbers_side_by_side_and_leaves_slices_out_by_default(tmp_path):
    extra = _number("apcer", 0.4, slice={"generator": "swap"}, operating_point="bpcer_5")
    one = runs.Run.open(make_run(tmp_path / "one", numbers=[_number(slice={"split": "test"}), extra]))
    two = runs.Run.open(make_run(tmp_path / "two", numbers=[_number(value=0.7, slice={"split": "test"})]))
    assert list(runs.tabulate([one, two])) == [("auc", "split=test", "")]
    table = runs.tabulate([one, two], slices=True)
    assert [n and n["value"] for n in table[("auc", "split=test", "")]] == [0.9, 0.7]
    assert table[("apcer", "generator=swap", "bpcer_5")][1] is None
    assert list(runs.tabulate([one], metrics=["eer"])) == []


def test_numbers_as_the_evaluation_writes_them_are_read(tmp_path, capsys):
    from deepassay.evaluation import measure, write_metrics

    paths = []
    for name, generators in (("one", ("blend", "warp")), ("two", ("warp", "blend"))):
        folder = make_run(tmp_path / name)
        samples = [
            Sample(
                sample_id=f"s{n}", path=f"{n}.png", media="image", modality="face", label=n % 2, split="test",
                subjects=(f"p{n // 2}",), generator=generators[n // 2 % 2] if n % 2 else "",
            )
            for n in range(80)
        ]  # fmt: skip
        manifest = Manifest.from_samples(samples, folder, {"name": "c"})
        scored = {s.sample_id: Scored(score=(n % 7) + 2.0 * (n % 2)) for n, s in enumerate(samples)}
        table = ScoreTable.from_scored(manifest, scored)
        table.write(folder / "scores" / "test.parquet")
        write_metrics(measure(table, replicates=50), folder / "metrics.json", table=table)
        paths.append(str(folder))
    opened = [runs.Run.open(path) for path in paths]
    whole = runs.tabulate(opened)
    assert {"auc", "eer"} <= {metric for metric, _, _ in whole}
    assert all(None not in row for row in whole.values())
    assert len(runs.tabulate(opened, slices=True)) > len(whole)
    assert call("list", str(tmp_path), "--json") == 0
    for row in json.loads(capsys.readouterr().out):
        assert sorted(n["metric"] for n in row["numbers"]) == ["auc", "eer"]


def test_the_worst_generator_stands_with_its_value():
    one, two = (_number("apcer", slice={"worst_generator": name}) for name in ("blend", "warp"))
    assert runs.number_text(one) == "0.9 [0.85, 0.95] (blend) exploratory"
    assert runs.number_text(two) == "0.9 [0.85, 0.95] (warp) exploratory"


def test_number_text_never_hides_what_limits_a_number():
    assert runs.number_text(_number()) == "0.9 [0.85, 0.95] exploratory"
    few = _number(ci={"lo": 0.1, "hi": 0.9, "n_clusters": 7}, status="under_powered")
    assert runs.number_text(few) == "0.9 [0.1, 0.9] unreliable (7 clusters) under_powered"
    assert "no interval: one class only" in runs.number_text(_number(ci=None, no_ci_reason="one class only"))
    assert runs.number_text(_number(value=None, ci=None)).startswith("not computed (no interval: reason not recorded)")


def test_list_shows_unfinished_and_damaged_runs_too(tmp_path, capsys):
    make_run(tmp_path / "good")
    (make_run(tmp_path / "unfinished") / "metrics.json").unlink()
    (make_run(tmp_path / "broken") / "provenance.json").write_text("{")
    assert call("list", str(tmp_path), "--json") == 0
    rows = {Path(r["run"]).name: r for r in json.loads(capsys.readouterr().out)}
    assert {name: row["stage"] for name, row in rows.items()} == {
        "good": "evaluated",
        "unfinished": "trained",
        "broken": "damaged",
    }
    assert rows["good"]["numbers"][0]["value"] == 0.9
    assert call("list", str(tmp_path)) == 0
    assert "SYNTHETIC" in capsys.readouterr().out


def test_compare_shows_differences_and_warns_when_test_samples_differ(tmp_path, capsys):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", lr=0.2, test_ids=("a", "b", "c"))
    assert call("compare", str(one), str(two)) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "optimizer.lr" in text
    assert "views.train" not in text
    assert "different samples" in text
    assert call("compare", str(one), str(make_run(tmp_path / "three", lr=0.3)), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same_test_samples"] is True
    assert found["config"]["optimizer.lr"] == [0.1, 0.3]
    with pytest.raises(runs.RunError, match="two runs"):
        call("compare", str(one))


def test_show_says_dirty_and_synthetic(tmp_path, capsys):
    assert call("show", str(make_run(tmp_path / "one"))) == 0
    text = capsys.readouterr().out
    assert "SYNTHETIC" in text
    assert "in no commit" in text
    assert "[0.85, 0.95]" in " ".join(text.split())


def test_a_table_has_one_row_per_evaluated_run(tmp_path, capsys):
    make_run(tmp_path / "runs" / "one", lr=0.1)
    make_run(tmp_path / "runs" / "two", lr=0.2, numbers=[_number(value=0.8, lo=0.7, hi=0.9)])
    (make_run(tmp_path / "runs" / "three", lr=0.3) / "metrics.json").unlink()
    assert call("table", str(tmp_path / "runs")) == 0
    head, _, one, two, *rest = capsys.readouterr().out.splitlines()
    assert head == "| run | optimizer.lr | auc |"
    assert one == "| one SYNTHETIC | 0.1 | 0.9 [0.85, 0.95] exploratory |"
    assert two.startswith("| two SYNTHETIC | 0.2 | 0.8 [0.7, 0.9]")
    assert rest == ["", "1 runs that are not evaluated yet are left out."]
    assert call("table", str(tmp_path / "runs"), "--format", "csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == "run,optimizer.lr,auc"
    assert call("table", str(tmp_path / "runs"), "--format", "latex") == 0
    assert r"\begin{tabular}{lll}" in capsys.readouterr().out


def test_seeds_become_a_mean_with_its_spread(tmp_path, capsys):
    for seed, value in enumerate((0.7, 0.8, 0.9)):
        make_run(tmp_path / "runs" / str(seed), lr=seed, numbers=[_number(value=value)])
    assert call("table", str(tmp_path / "runs"), "--by", "optimizer.lr") == 0
    assert capsys.readouterr().out.splitlines()[2] == "| runs (3 runs) SYNTHETIC | 0.8 ± 0.1 (n = 3) |"
    make_run(tmp_path / "runs" / "3", lr=3, test_ids=("a", "c"))
    with pytest.raises(runs.RunError, match="tested on different samples"):
        call("table", str(tmp_path / "runs"), "--by", "optimizer.lr")


def test_a_table_of_nothing_is_an_error(tmp_path):
    (make_run(tmp_path / "runs" / "one") / "metrics.json").unlink()
    with pytest.raises(runs.RunError, match="none of these runs is evaluated"):
        call("table", str(tmp_path / "runs"))
