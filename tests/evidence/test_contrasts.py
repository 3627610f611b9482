"""Pairs, controls, comparisons, power, gaps, versions, pseudonyms: planted effects are found, absent ones are not."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from deepassay.calibrator import calibrate
from deepassay.errors import ConfigError, ScoreError
from deepassay.evaluation import AS_ERROR, LEFT_OUT, measure
from deepassay.evidence.comparisons import measure_comparisons
from deepassay.evidence.controls import holds, measure_controls
from deepassay.evidence.measuring import group_gaps, measure_all
from deepassay.evidence.pairs import matched, measure_pairs
from deepassay.evidence.power import power_statements
from deepassay.evidence.protocol import Protocol
from deepassay.evidence.pseudonyms import PseudonymError, Pseudonyms, named_hashes
from deepassay.evidence.versions import Earlier, compare_versions
from deepassay.labels import FAKE, REAL
from deepassay.metrics.comparison import holm
from deepassay.scores import SCHEMA, ScoreTable
from score_worlds import CLAIMS, made_conditions, make_protocol, make_tool

OPTIONS = {"replicates": 200, "level": 0.95, "seed": 0, "minimum_clusters": 20}
SALT = Pseudonyms(bytes(range(32)))


def with_column(table, name, values):
    at = SCHEMA.get_field_index(name)
    return ScoreTable(table.table.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type)), table.meta)


def shifted(world, keep, by):
    """The test table with scores of some rows moved, calibrated again."""
    scores = [None if np.isnan(s) else float(s + by * k) for s, k in zip(world.test.column("score"), keep, strict=True)]
    return calibrate(with_column(world.test, "score", scores), world.calibration)


def by_id(numbers):
    return {number.id: number for number in numbers}


# Pairs ---------------------------------------------------------------------------------------------------------------


def test_outputs_meet_their_own_originals(world):
    found = matched(world.test, "example_swap")
    source = world.test.column("source_id")
    assert len(found) == 120
    assert all(source[i] == source[j] for i, rows in found for j in rows)
    share, _, gap = measure_pairs(world.test, "example_swap", **OPTIONS, minimum_attack=59)
    assert share.count is not None
    k, n = share.count
    assert n == 120
    assert k / n > 0.85
    assert share.ci["method"] == "korn_graubard"
    assert share.ci["n_clusters"] == 60
    assert gap.unit == "bits"
    assert gap.ci["lo"] < gap.value < gap.ci["hi"]
    assert gap.slice["nonresponse"] == LEFT_OUT


def test_an_edit_that_changes_nothing_ranks_half_of_its_pairs(world):
    tool = (world.test.column("label") == FAKE) & (world.test.column("generator") == "example_swap")
    same = shifted(world, tool, -4.0)
    share, _, gap = measure_pairs(same, "example_swap", **OPTIONS, minimum_attack=59)
    assert share.ci["lo"] < 0.5 < share.ci["hi"]
    assert gap.ci["lo"] < 0 < gap.ci["hi"]


def test_silence_on_either_side_of_a_pair_is_an_error(world):
    status = world.test.table.column("status").to_pylist()
    label = world.test.column("label")
    mute = with_column(
        world.test, "status", ["no_face" if k == REAL else s for k, s in zip(label, status, strict=True)]
    )
    found = by_id(measure_pairs(mute, "example_swap", **OPTIONS, minimum_attack=59))
    assert found[f"pair_rank/pairs=example_swap/nonresponse={AS_ERROR}"].value == 0.0


def test_originals_can_be_named(world):
    ids = world.test.column("sample_id")
    original = next(i for i, label in zip(ids, world.test.column("label"), strict=True) if label == REAL)
    fakes = world.test.column("generator") == "example_swap"
    rows = [[("original", original)] if fake else [] for fake in fakes]
    found = matched(with_column(world.test, "attributes", rows), "example_swap")
    assert {tuple(r) for _, r in found} == {(int(np.flatnonzero(ids == original)[0]),)}
    bare = with_column(world.test, "source_id", [""] * len(world.test))
    assert matched(bare, "example_swap") == []
    assert measure_pairs(bare, "example_swap", **OPTIONS, minimum_attack=59) == []


# Controls ------------------------------------------------------------------------------------------------------------


def controls(test, world, **plan):
    numbers = measure_controls(
        test, world.dev, plan, operating_points=world.points, **OPTIONS, minimum_attack=59
    )  # fmt: skip
    return {(n.slice["control"], n.metric, n.operating_point): n for n in numbers if n.slice["nonresponse"] == AS_ERROR
            or n.metric == "auc"}  # fmt: skip


def test_controls_come_out_as_they_must(world):
    found = controls(world.test, world)
    for kind in ("real_halves", "permuted_labels"):
        number = found[kind, "auc", ""]
        assert holds(number), number
        assert number.ci["lo"] < 0.5 < number.ci["hi"]
    easy = found["easy_fake", "auc", ""]
    assert easy.slice["generator"] == "blend_easy", "dev ranks it highest"
    assert holds(easy)
    assert found["easy_fake", "apcer", "bpcer_5"].count is not None
    assert found["permuted_labels", "auc", ""].slice["exchanged"] == "within clusters"


def test_a_detector_of_sources_fails_the_control(world):
    gender = [dict(a)["gender"] for a in world.test.table.column("attributes").to_pylist()]
    real = world.test.column("label") == REAL
    tilted = shifted(world, real & (np.array(gender) == "f"), 2.0)
    found = [
        n for n in measure_controls(tilted, world.dev, {"real_by": "gender"}, operating_points=world.points, **OPTIONS,
                                    minimum_attack=59)
        if n.slice["control"] == "real_against_real"
    ]  # fmt: skip
    assert {n.slice["group"] for n in found} == {"f", "m"}
    assert [holds(n) for n in found] == [False, False]
    fair = measure_controls(world.test, world.dev, {"real_by": "gender"}, operating_points=world.points, **OPTIONS,
                            minimum_attack=59)  # fmt: skip
    assert all(holds(n) for n in fair if n.slice["control"] == "real_against_real")


def test_labels_are_exchanged_between_clusters_that_hold_one_class_each(world):
    label = world.test.column("label")
    cluster = [f"{c}-{k}" for c, k in zip(world.test.column("cluster"), label, strict=True)]
    found = controls(with_column(world.test, "cluster", cluster), world)
    number = found["permuted_labels", "auc", ""]
    assert number.slice["exchanged"] == "between clusters"
    assert holds(number)


def test_controls_of_what_is_not_there_are_errors(world):
    with pytest.raises(ConfigError, match="real_by"):
        controls(world.test, world, real_by="nothing")
    with pytest.raises(ConfigError, match="easy"):
        controls(world.test, world, easy="nothing")


# Comparisons ---------------------------------------------------------------------------------------------------------

FAMILY = (
    {"id": "K1", "metric": "auc", "first": "tool", "second": "generator:local_warp"},
    {"id": "K2", "metric": "apcer", "operating_point": "bpcer_5", "first": "tool", "second": "tool@jpeg@30"},
    {"id": "K3", "metric": "bpcer", "operating_point": "bpcer_5", "first": "real", "second": "real@jpeg@30"},
)


def compared(world, family=FAMILY):
    _, scores = made_conditions(world)
    tables = {name: scores.under(name, world.test, world.calibration) for name in scores.names}
    return measure_comparisons(
        family, world.test, tables, "example_swap", operating_points=world.points, **OPTIONS
    )  # fmt: skip


def test_declared_differences_have_paired_intervals_and_holm(world):
    one, two, three = compared(world)
    assert one.number.value > 0
    assert one.number.ci["lo"] > 0
    assert one.p < 0.05
    assert two.number.value < 0, "processing hides outputs of the tool"
    assert abs(three.number.value) < 0.05
    assert three.p is None or three.p > 0.05
    tested = [c for c in (one, two, three) if c.p is not None]
    assert [c.p_holm for c in tested] == pytest.approx(list(holm([c.p for c in tested])))
    assert {c.family for c in tested} == {len(tested)}


def test_the_same_samples_are_paired(world):
    """Before and after differ little for each sample, so that the interval is far narrower than between two groups."""
    _, two, _ = compared(world)
    clean = {n.id: n for n in measure(world.test, operating_points=world.points, replicates=200)}
    alone = clean[f"apcer/bpcer_5/nonresponse={AS_ERROR}/generator=example_swap"]
    paired = compared(world, [{**FAMILY[1], "second": "tool@jpeg@90"}])[0]
    assert paired.number.ci is None or paired.number.ci["hi"] - paired.number.ci["lo"] < alone.ci["hi"] - alone.ci["lo"]
    assert two.number.n_clusters == 60


def test_sides_that_do_not_exist_are_errors(world):
    for side in ("generator:nobody", "somebody", "tool@jpeg@1"):
        with pytest.raises((ConfigError, ScoreError), match=r"comparison side|no samples"):
            compared(world, [{**FAMILY[0], "second": side}])


def test_a_protocol_refuses_what_it_cannot_mean():
    for bad in (
        {"comparisons": [{**FAMILY[0], "metric": "eer"}]},
        {"comparisons": [{**FAMILY[1], "operating_point": ""}]},
        {"comparisons": [FAMILY[0], FAMILY[0]]},
        {"comparisons": [FAMILY[1]]},  # its ladder is not declared
        {"ladders": {"smell": ["jpeg"]}},
        {"ladders": {"face": "jpeg"}},
        {"ladder_samples": -1},
        {"controls": {"unknown": "x"}},
        {"claims": [{**CLAIMS[0], "condition": "jpeg@30"}]},
    ):
        with pytest.raises(ConfigError):
            make_protocol(**bad)


def test_plans_without_the_newer_parts_keep_their_hash():
    plain = make_protocol()
    assert not {"ladders", "comparisons", "controls"} & set(plain.to_json())
    assert "condition" not in plain.to_json()["claims"][0]
    more = make_protocol(ladders={"face": ["jpeg"]}, comparisons=FAMILY[:2])
    again = Protocol(**{k: v for k, v in more.to_json().items() if k != "schema"})
    assert again.sha256 == more.sha256 != plain.sha256


def test_a_claim_about_a_condition_rests_on_its_number(world):
    claim = {**CLAIMS[0], "id": "C9", "condition": "jpeg@30"}
    plan = make_protocol(claims=[claim, CLAIMS[1]], ladders={"face": ["jpeg", "noise"]}, replicates=60)
    conditions, scores = made_conditions(world)
    found = measure_all(
        world.test, world.dev, plan, world.points, make_tool(), generators_seen=None, scores=scores,
        kinds={c.name: c.kind for c in conditions}, calibration=world.calibration,
    )  # fmt: skip
    number = found.chosen["C9"]
    assert number.slice["condition"] == "jpeg@30"
    assert number.status == "confirmatory"
    clean = found.numbers[
        [n.id for n in found.numbers].index(f"apcer/bpcer_5/nonresponse={AS_ERROR}/generator=example_swap")
    ]
    assert number.value > clean.value
    assert number.scores_sha256 == found.conditions["jpeg@30"].hash != world.test.hash


# Power and gaps ------------------------------------------------------------------------------------------------------


def test_power_says_what_could_have_been_shown(world):
    plan = make_protocol(replicates=200)
    found = measure_all(world.test, world.dev, plan, world.points, make_tool(), generators_seen=None)
    statements = {one["claim"]: one for one in power_statements(plan, found.chosen)}
    assert set(statements) == {"C1", "C3"}, "an AUC has no such statement"
    one, hopeless = statements["C1"], statements["C3"]
    assert one["n"] == 120
    assert one["n_clusters"] == 60
    assert 1 <= one["design_effect"] < 3
    assert one["n_effective"] <= 120
    assert one["power_at_half_theta"] > 0.5
    assert 0 < one["largest_rate"] < 0.25
    assert hopeless["largest_rate"] is None
    assert hopeless["n_needed"] > 10_000


def test_gaps_between_groups_are_read_from_the_groups(world):
    numbers = measure(world.test, operating_points=world.points, slices=("gender",), replicates=50)
    gaps = {n.id: n for n in group_gaps(numbers)}
    found = gaps[f"gap_bpcer/bpcer_5/gap_over=gender/nonresponse={AS_ERROR}"]
    rates = [n.value for n in numbers if n.metric == "bpcer" and n.operating_point == "bpcer_5" and "gender" in n.slice
             and n.slice["nonresponse"] == AS_ERROR]  # fmt: skip
    assert found.value == pytest.approx(max(rates) - min(rates))
    assert found.ci is None
    assert "biased" in found.no_ci_reason
    few = [replace(n, n_clusters=4) if n.slice.get("gender") == "f" else n for n in numbers]
    assert not group_gaps(few), "groups of fewer than five persons take no part"


# Versions ------------------------------------------------------------------------------------------------------------


def test_two_versions_are_compared_on_equal_inputs(world, make_log):
    """The new version's outputs are harder to find; inputs and persons are the same."""
    old = make_log(protocol=make_protocol(replicates=60))
    tool = (world.test.column("label") == FAKE) & (world.test.column("generator") == "example_swap")
    harder = shifted(world, tool, -2.0)
    plan = make_protocol(replicates=200)
    earlier = Earlier(log=old, test=world.test, statement_sha256="a" * 64)
    record, numbers = compare_versions(earlier, harder, make_tool(version="2"), plan, world.points, "b" * 64)
    assert record["same_detector"]
    assert record["same_thresholds"]
    assert record["same_inputs"] == 60
    assert record["shared_clusters"] == 60
    found = {one["id"]: (one, number) for one, number in zip(record["comparisons"], numbers, strict=True)}
    auc, apcer = found["auc"], found["apcer/bpcer_5"]
    assert auc[1].value < 0
    assert auc[1].ci["hi"] < 0
    assert apcer[1].value > 0.1
    assert apcer[0]["p_holm"] < 0.05
    assert apcer[0]["second"] == "Example swap 1"
    same, _ = compare_versions(earlier, world.test, make_tool(version="2"), plan, world.points, "c" * 64)
    assert not same["same_detector"]
    assert all(one["p"] is None for one in same["comparisons"]), "equal tables differ nowhere"


# Pseudonyms ----------------------------------------------------------------------------------------------------------


def test_no_id_of_the_corpus_is_left_in_a_table(world, tmp_path):
    hidden = SALT.table(world.test, ["gender"])
    hidden.write(tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    for word in (b"test-", b"-source", b"no face found"):
        assert word in _bytes(world.test, tmp_path)
        assert word not in data
    assert dict(hidden.table.column("attributes").to_pylist()[0]).keys() == {"gender"}
    assert len(set(hidden.column("cluster"))) == len(set(world.test.column("cluster")))
    assert named_hashes(hidden) == named_hashes(world.test)
    assert hidden.hash != world.test.hash
    order = hidden.column("sample_id")
    assert list(order) == sorted(order), "rows keep no order that a public list would give away"


def _bytes(table, folder):
    table.write(folder / "plain.parquet")
    return (folder / "plain.parquet").read_bytes()


def test_pseudonyms_change_no_rate_and_hardly_an_interval(world):
    plan = make_protocol(slices=("generator",), replicates=300)
    plain = by_id(measure_all(world.test, world.dev, plan, world.points, make_tool(), generators_seen=None).numbers)
    hidden = by_id(
        measure_all(SALT.table(world.test), SALT.table(world.dev), plan, world.points, make_tool(),
                    generators_seen=None).numbers
    )  # fmt: skip
    assert plain.keys() == hidden.keys()
    for name, number in plain.items():
        if "control" not in number.slice:
            assert hidden[name].value == pytest.approx(number.value)
            assert hidden[name].count == number.count


def test_a_salt_is_kept_private_and_used_again(tmp_path):
    first = Pseudonyms.keep(tmp_path / "salt")
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    assert Pseudonyms.keep(tmp_path / "salt")("anna") == first("anna")
    assert first("anna") != SALT("anna")
    assert first("") == ""
    (tmp_path / "bad").write_text("xyz")
    with pytest.raises(PseudonymError, match="not a salt"):
        Pseudonyms.keep(tmp_path / "bad")
