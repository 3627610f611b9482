"""The assessment log: what it accepts, and each thing that no dossier may say."""

import copy
import json
from pathlib import Path

import pytest

from deepassay.evidence.dossier import render_dossier
from deepassay.evidence.log import (
    CHECK_IDS,
    INTERVALS,
    SCHEMA_FILE,
    SCHEMA_VERSION,
    SINCE_0_2,
    SINCE_0_3,
    LogError,
    json_schema,
    parse_log,
    read_log,
    write_log,
)

GOLDEN = Path(__file__).with_name("golden")

ZERO = "0" * 64


@pytest.fixture
def example(shared):
    return json.loads((shared / "reference" / "dossier.example.json").read_text())


@pytest.fixture
def document(log):
    return copy.deepcopy(log.to_json())


def test_the_reference_example_is_read_and_written_back_unchanged(example):
    assert parse_log(example).to_json() == example


def test_our_logs_satisfy_the_reference_schema(document, shared):
    """Besides what versions 0.2 and 0.3 added: their numbers, the names of four intervals, and five entries."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((shared / "reference" / "dossier.schema.json").read_text())
    document["schema_version"] = "0.1"
    for name in ("conditions", "comparisons", "power", "previous_version"):
        del document[name]
    del document["privacy"]["salted_ids"]
    for number in document["results"]:
        if number["ci"] and number["ci"]["method"] in (*SINCE_0_2, *SINCE_0_3):
            number["ci"]["method"] = "bootstrap_cluster_percentile"
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_committed_schema_is_the_model(document, example):
    jsonschema = pytest.importorskip("jsonschema")
    committed = json.loads(SCHEMA_FILE.read_text())
    assert committed == json_schema(), "write it again: python -c 'from deepassay.evidence.log import ...'"
    validator = jsonschema.Draft202012Validator(committed)
    validator.check_schema(committed)
    validator.validate(document)
    validator.validate(example)


def fitted_on_test(doc):
    doc["operating_points"][0]["fitted_on"] = "test"


def no_interval_no_reason(doc):
    doc["results"][0]["ci"] = None
    doc["results"][0].pop("no_ci_reason", None)


def faces_without_consent(doc):
    doc["privacy"].pop("consent_refs", None)
    doc["privacy"]["contains_faces_or_voices"] = True


def no_non_claim(doc):
    doc["scope"]["non_claims"] = []


def eleven_checks(doc):
    doc["checks"] = doc["checks"][:11]


def unknown_key(doc):
    doc["something_else"] = 1


SIX = (fitted_on_test, no_interval_no_reason, faces_without_consent, no_non_claim, eleven_checks, unknown_key)


@pytest.mark.parametrize("spoil", SIX, ids=lambda f: f.__name__)
def test_the_six_violations_are_refused_by_model_and_schema(document, spoil):
    jsonschema = pytest.importorskip("jsonschema")
    schema = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    parse_log(document)
    assert schema.is_valid(document)
    spoil(document)
    with pytest.raises(LogError, match="hint:"):
        parse_log(document)
    assert not schema.is_valid(document)


def overlap(doc):
    doc["splits"]["overlap_counts"]["speaker"] = 1


def near_duplicates(doc):
    doc["splits"]["near_duplicate_audit"]["pairs_across_splits"] = 2


def dirty(doc):
    doc["reproducibility"]["code"]["dirty"] = True


def failed_check(doc):
    doc["checks"][2]["outcome"] = "fail"


def check_not_run(doc):
    doc["checks"][4]["outcome"] = "not_run"


def under_powered(doc):
    doc["results"][0]["status"] = "under_powered"


def no_number(doc):
    doc["claims"][0]["number_ids"] = []


@pytest.mark.parametrize(
    "spoil", [overlap, near_duplicates, dirty, failed_check, check_not_run, under_powered, no_number],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_supported_is_refused_beside_what_bars_it(example, spoil):
    assert parse_log(example).claims[0].verdict == "supported"
    spoil(example)
    with pytest.raises(LogError, match="cannot be supported"):
        parse_log(example)
    example["claims"][0]["verdict"] = "inconclusive"
    assert parse_log(example).claims[0].verdict == "inconclusive"


def test_a_check_that_does_not_apply_bars_nothing(example):
    example["checks"][3] |= {"outcome": "not_run", "applicable": False}
    assert parse_log(example).claims[0].verdict == "supported"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["results"][0].update(operating_point="nowhere"), "operating point 'nowhere'"),
        (lambda d: d["results"][0].update(detector="nobody"), "detector 'nobody'"),
        (lambda d: d["claims"][0].update(number_ids=["N9"]), "unknown numbers"),
        (lambda d: d["results"].append(d["results"][0]), "share an id"),
        (lambda d: d["results"][0]["ci"].update(lo=0.9), "backwards"),
        (lambda d: d["results"][0]["ci"].update(cluster_unit=None), "F06"),
        (lambda d: d["results"][0]["support"]["count"].update(k=500), "more than all"),
        (lambda d: d["results"][0].update(value=float("nan")), "results.0.value"),
        (lambda d: d["operating_points"][0].update(dev_table_sha256=ZERO), "fitted on the table"),
        (lambda d: d["checks"][11].update(id="F11"), "checks are missing: F12"),
        (lambda d: d.update(schema_version="9"), "schema version '9'"),
    ],
)
def test_contradictions_are_refused_by_name(example, change, words):
    change(example)
    with pytest.raises(LogError, match=words):
        parse_log(example)


def test_files_are_read_back_and_damage_is_named(log, tmp_path):
    path = tmp_path / "log.json"
    write_log(log, path)
    assert read_log(path).to_json() == log.to_json()
    path.write_text("{")
    with pytest.raises(LogError, match="not a readable JSON"):
        read_log(path)
    path.write_text("[]")
    with pytest.raises(LogError, match="not an assessment log"):
        read_log(path)


def test_there_are_twelve_checks():
    assert CHECK_IDS[0] == "F01"
    assert CHECK_IDS[-1] == "F12"
    assert len(CHECK_IDS) == 12


@pytest.mark.parametrize("version", [v for v in INTERVALS if v != SCHEMA_VERSION])
def test_logs_of_past_versions_still_read_and_render(version):
    """Written by the release that had this version as its own, from invented scores; never written again."""
    path = GOLDEN / f"log-{version}.json"
    log = read_log(path)
    assert log.schema_version == version
    assert log.to_json() == json.loads(path.read_text())
    assert log.tool_under_assessment.name in render_dossier(log, "en")


@pytest.mark.parametrize("version", [v for v in INTERVALS if v != SCHEMA_VERSION])
def test_an_old_version_knows_nothing_younger(document, version):
    document["schema_version"] = version
    with pytest.raises(LogError, match=r"knows no interval|has no"):
        parse_log(document)


def test_numbers_of_an_undescribed_condition_are_refused(document):
    document["results"].append({**document["results"][0], "id": "x", "slice": {"condition": "jpeg@1"}})
    with pytest.raises(LogError, match="condition 'jpeg@1'"):
        parse_log(document)


def test_a_comparison_without_its_number_is_refused(document):
    one = {"id": "K1", "number_id": "nowhere", "metric": "auc", "first": "a", "second": "b", "value_first": 0.5,
           "value_second": 0.5, "p": 1.0, "family": 1}  # fmt: skip
    document["comparisons"] = [one]
    with pytest.raises(LogError, match="unknown number nowhere"):
        parse_log(document)


def test_a_point_fitted_on_the_test_table_is_refused(document):
    f01 = next(check for check in document["checks"] if check["id"] == "F01")
    document["operating_points"][0]["dev_table_sha256"] = f01["statistic"]["test_table_sha256"]
    with pytest.raises(LogError, match="fitted on the test table"):
        parse_log(document)


def test_what_was_put_together_past_the_rules_is_not_rendered(log):
    """Canaries of the law: copies made without validation."""
    bare = log.results[0].model_copy(update={"ci": None, "no_ci_reason": ""})
    point = log.operating_points[0].model_copy(update={"fitted_on": "test"})
    leak = next(check for check in log.checks if check.id == "F01").statistic["test_table_sha256"]
    leaked = log.operating_points[0].model_copy(update={"dev_table_sha256": leak})
    for change, words in (
        ({"results": [bare, *log.results[1:]]}, "neither an interval nor a reason"),
        ({"operating_points": [point, *log.operating_points[1:]]}, "fitted_on"),
        ({"operating_points": [leaked, *log.operating_points[1:]]}, "fitted on the test table"),
    ):
        with pytest.raises(LogError, match=words):
            render_dossier(log.model_copy(update=change))
