"""Numbers from score tables: right values, honest intervals, both conventions, and refusal of leaks."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepassay.calibrator import calibrate
from deepassay.errors import LeakError, ScoreError
from deepassay.evaluation import (
    AS_ERROR,
    LEFT_OUT,
    Number,
    curves,
    markdown_table,
    measure,
    rich_table,
    strata,
    summary_table,
    write_metrics,
)
from deepassay.evidence.log import SINCE_0_2
from deepassay.labels import FAKE, REAL
from deepassay.scores import ScoreTable

sys.path.append(str(Path(__file__).parent))

from score_worlds import made_scores, made_world


@pytest.fixture(scope="module")
def world():
    return made_world()


@pytest.fixture(scope="module")
def numbers(world):
    return measure(
        world.test,
        operating_points=world.points,
        slices=("generator", "generator_family", "gender"),
        generators_seen=["local_warp", "blend_easy"],
        replicates=300,
    )


def find(numbers, metric, point="", **where):
    where.setdefault("nonresponse", AS_ERROR)
    found = [n for n in numbers if n.metric == metric and n.operating_point == point and dict(n.slice) == where]
    assert len(found) == 1, [n.id for n in numbers]
    return found[0]


def by_hand(world, generator, point):
    table = world.test
    own = (table.column("generator") == generator) & (table.column("label") == FAKE)
    llr = table.column("llr")[own]
    missed = ~(llr >= point.threshold)  # NaN, no response, counts as missed
    return int(missed.sum()), int(own.sum())


def test_apcer_per_generator_counts_misses_and_nonresponses(world, numbers):
    for point in world.points:
        for generator in ("example_swap", "local_warp", "blend_easy"):
            number = find(numbers, "apcer", point.name, generator=generator)
            assert number.count == by_hand(world, generator, point)
            assert number.value == pytest.approx(number.count[0] / number.count[1])


def test_the_worst_generator_is_named_and_never_better_than_any(world, numbers):
    point = world.points[0].name
    rates = {g: find(numbers, "apcer", point, generator=g).value for g in ("example_swap", "local_warp", "blend_easy")}
    worst = next(n for n in numbers if "worst_generator" in n.slice and n.operating_point == point)
    assert worst.slice["worst_generator"] == "local_warp"
    assert worst.value == max(rates.values())
    assert find(numbers, "macro_apcer", point).value == pytest.approx(np.mean(list(rates.values())))


def test_bpcer_counts_flagged_and_unanswered_real_samples(world, numbers):
    point = world.points[0]
    real = world.test.column("label") == REAL
    llr = world.test.column("llr")[real]
    number = find(numbers, "bpcer", point.name)
    assert number.count == (int((~(llr < point.threshold)).sum()), int(real.sum()))
    left_out = find(numbers, "bpcer", point.name, nonresponse=LEFT_OUT)
    assert left_out.count == (int((llr >= point.threshold).sum()), int(np.isfinite(llr).sum()))
    assert left_out.count[1] < number.count[1]


def test_nonresponses_never_flatter(numbers):
    for metric, better in (("auc", 1), ("eer", -1)):
        headline, second = find(numbers, metric).value, find(numbers, metric, nonresponse=LEFT_OUT).value
        assert better * (second - headline) > 0
    silent = next(n for n in numbers if n.metric == "apnrr")
    assert silent.count is not None
    assert silent.count[0] > 0


def test_without_nonresponses_both_tables_are_there_and_agree():
    quiet = made_world(silent=0.0)
    numbers = measure(quiet.test, operating_points=quiet.points, replicates=50)
    first = {n.id: n.value for n in numbers if n.slice.get("nonresponse") == AS_ERROR}
    second = {n.id.replace(LEFT_OUT, AS_ERROR): n.value for n in numbers if n.slice.get("nonresponse") == LEFT_OUT}
    assert first
    assert first.items() <= second.items()


def test_every_number_is_a_record(world, numbers):
    ids = [n.id for n in numbers]
    assert len(ids) == len(set(ids))
    for number in numbers:
        assert number.definition.startswith("m:")
        assert "@" in number.definition
        assert number.scores_sha256 == world.test.hash
        assert number.ci is not None or number.no_ci_reason
        if number.ci is not None:
            assert number.ci["lo"] <= number.ci["hi"]
            assert number.ci["cluster_unit"]
            assert number.ci["n_clusters"] >= 1


def test_numbers_satisfy_the_reference_schema(numbers, shared):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((shared / "reference" / "dossier.schema.json").read_text())
    one = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": "#/$defs/number"}
    validator = jsonschema.Draft202012Validator(one)
    for number in numbers:
        record = number.to_json()
        if record["ci"] and record["ci"]["method"] in SINCE_0_2:  # intervals that the starting schema did not know yet
            record["ci"]["method"] = "bootstrap_cluster_percentile"
        validator.validate(record)


def test_a_number_without_interval_and_reason_is_refused():
    with pytest.raises(ScoreError, match="neither an interval nor a reason"):
        Number(
            id="x", metric="auc", definition="m:auc@1", direction="higher_better", value=0.5, ci=None, n_bona=1,
            n_attack=1, n_clusters=2, status="exploratory",
        )  # fmt: skip


def test_clusters_widen_intervals():
    world = made_world(silent=0.0, people=(2, 40, 40), per_person=6)
    test = calibrate(
        made_scores(world.manifest, "test", seed=5, silent=0.0, personal=2.0), world.calibration
    )  # each person shifts all of their scores
    widths = []
    for table in (test, ScoreTable(test.table.set_column(4, "cluster", test.table.column("sample_id")), test.meta)):
        number = find(measure(table, operating_points=world.points, slices=(), replicates=300), "bpcer", "bpcer_5")
        widths.append(number.ci["hi"] - number.ci["lo"])
    assert widths[0] > 1.2 * widths[1]


def test_under_twenty_clusters_is_under_powered():
    small = made_world(people=(2, 40, 12), per_person=8)
    numbers = measure(small.test, operating_points=small.points, replicates=50)
    assert numbers
    assert {n.status for n in numbers} == {"under_powered"}


def test_few_attacks_and_unsupported_points_are_under_powered(world, numbers):
    assert not world.points[1].supported, "60 people cannot support 1 %"
    assert find(numbers, "apcer", "bpcer_1", generator="example_swap").status == "under_powered"
    assert find(numbers, "apcer", "bpcer_5", generator="example_swap").n_attack >= 59
    few = measure(world.test, operating_points=world.points[:1], minimum_attack=1000, replicates=20)
    assert find(few, "apcer", "bpcer_5", generator="example_swap").status == "under_powered"


def test_no_errors_at_all_still_have_an_upper_bound():
    easy = made_world(silent=0.0, people=(2, 40, 40), means={"obvious": 40.0})
    number = find(
        measure(easy.test, operating_points=easy.points, replicates=50), "apcer", "bpcer_5", generator="obvious"
    )
    assert number.count == (0, 80)
    assert number.ci["method"] == "clopper_pearson"
    assert number.ci["n_clusters"] == 40
    assert 0.05 < number.ci["hi"] < 0.15, "40 clusters without an error, not 80 samples"


def test_a_threshold_fitted_on_the_measured_table_is_refused(world):
    with pytest.raises(LeakError, match="very table"):
        measure(world.dev, operating_points=world.points)


def test_a_threshold_without_its_dev_table_is_refused(world):
    point = replace(world.points[0], dev_table_sha256="")
    with pytest.raises(LeakError, match="which dev table"):
        measure(world.test, operating_points=[point])


def test_uncalibrated_tables_are_refused_with_thresholds_and_measured_without(world):
    raw = made_scores(world.manifest, "test", seed=2)
    with pytest.raises(ScoreError, match="not calibrated"):
        measure(raw, operating_points=world.points)
    metrics = {n.metric for n in measure(raw, replicates=20)}
    assert "auc" in metrics
    assert "cllr" not in metrics


def test_one_class_and_missing_labels_are_errors(world):
    real = world.test.select(world.test.column("label") == REAL)
    with pytest.raises(ScoreError, match="both classes"):
        measure(real)


def test_an_unknown_slice_names_what_there_is(world):
    with pytest.raises(ScoreError, match="gender"):
        measure(world.test, slices=("hair",))


def test_flipping_labels_turns_auc_around(world, numbers):
    import pyarrow as pa

    labels = pa.array([1 - v for v in world.test.table.column("label").to_pylist()], pa.int8())
    flipped = ScoreTable(world.test.table.set_column(1, "label", labels), world.test.meta)
    number = find(measure(flipped, slices=(), replicates=20), "auc", nonresponse=LEFT_OUT)
    assert number.value == pytest.approx(1 - find(numbers, "auc", nonresponse=LEFT_OUT).value)
    assert number.value < 0.5


def test_the_same_seed_gives_the_same_numbers(world):
    one, two = (
        [n.to_json() for n in measure(world.test, operating_points=world.points, replicates=60, seed=3)] for _ in "ab"
    )
    assert one == two


def test_seen_and_left_out_generators_are_told_apart(numbers):
    seen = find(numbers, "apcer_pooled", "bpcer_5", exposure="seen")
    unseen = find(numbers, "apcer_pooled", "bpcer_5", exposure="left_out")
    assert unseen.count[1] == 120
    assert seen.count[1] == 240


def test_groups_of_people_partition_the_real_samples(numbers):
    counts = [find(numbers, "bpcer", "bpcer_5", gender=g).count for g in "fm"]
    whole = find(numbers, "bpcer", "bpcer_5").count
    assert tuple(map(sum, zip(*counts, strict=True))) == whole


def test_strata_account_for_every_row(world):
    layers = strata(world.test)
    assert sum(layer["n"] for layer in layers) == len(world.test)
    assert sum(layer["n_nonresponse"] for layer in layers) == int((~world.test.answered).sum())


def test_curves_agree_with_the_numbers(world, numbers):
    found = curves(world.test, operating_points=world.points, highlight="example_swap", replicates=40)
    for point in found["points"]:
        assert point["bpcer"] == pytest.approx(find(numbers, "bpcer", point["name"]).value)
        wanted = find(numbers, "apcer", point["name"], generator="example_swap").value
        assert point["apcer_highlight"] == pytest.approx(wanted)
    line = found["det"][0]
    assert all(a >= b for a, b in zip(line["apcer"], line["apcer"][1:], strict=False))
    assert all(lo <= hi for lo, hi in zip(line["lo"], line["hi"], strict=True))
    for shares in found["densities"]["shares"].values():
        assert sum(shares) == pytest.approx(1.0, abs=1e-3)
    assert sum(found["reliability"]["counts"]) == int(world.test.answered.sum())
    json.dumps(found, allow_nan=False)


def test_tables_for_people_say_what_carries_a_claim(numbers):
    rows = summary_table(numbers)
    assert any(row["metric"] == "APCER" and row["slice"] == "generator example_swap" for row in rows)
    assert any(row["status"] == "under-powered" for row in rows)
    text = markdown_table(numbers)
    assert text.count("\n") == len(rows) + 2
    assert rich_table(numbers).row_count == len(rows)


def test_metrics_file_holds_numbers_and_the_synthetic_mark(world, numbers, tmp_path):
    write_metrics(numbers, tmp_path / "metrics.json", table=world.test, seed=0)
    value = json.loads((tmp_path / "metrics.json").read_text())
    assert value["synthetic"] is True
    assert value["scores_sha256"] == world.test.hash
    assert [n["id"] for n in value["numbers"]] == [n.id for n in numbers]


def test_fractions_get_logit_t_and_bits_widened_percentiles(world, numbers):
    methods = {n.metric: n.ci["method"] for n in numbers if n.ci and n.slice.get("nonresponse") == LEFT_OUT}
    assert methods["auc"] == methods["eer"] == "bootstrap_cluster_logit_t"
    assert methods["cllr"] == methods["act_dcf"] == "bootstrap_cluster_expanded"
    old = measure(world.test, operating_points=world.points, replicates=50, method="percentile")
    assert {n.ci["method"] for n in old if n.ci} <= {"bootstrap_cluster_percentile", "clopper_pearson"}
    first = {n.id: n.value for n in old}
    assert first.items() <= {n.id: n.value for n in numbers}.items(), "the method moves intervals, never values"


def test_perfect_separation_is_bounded_and_not_taken_for_certainty():
    apart = made_world(silent=0.0, means={"example_swap": 60.0}, people=(2, 30, 41))
    found = measure(apart.test, operating_points=apart.points, replicates=50)
    number = find(found, "auc")
    assert number.value == 1.0
    assert number.ci["method"] == "clopper_pearson"
    assert number.ci["n_clusters"] == 20
    assert (number.ci["lo"], number.ci["hi"]) == (pytest.approx(0.025 ** (1 / 20)), 1.0)
    assert find(found, "eer").ci is None
    assert "overlap" in find(found, "eer").no_ci_reason
