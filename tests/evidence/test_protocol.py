"""Protocols are frozen once, openings are kept, and claims are decided by their interval alone."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from deepassay.errors import ConfigError
from deepassay.evaluation import Number
from deepassay.evidence.protocol import Claim, Register, decide
from score_worlds import CLAIMS, NOON, make_protocol

TABLE = "1" * 64


def number(lo, hi, status="confirmatory"):
    ci = {
        "level": 0.95,
        "method": "bootstrap_cluster_percentile",
        "lo": lo,
        "hi": hi,
        "cluster_unit": "x",
        "n_clusters": 40,
    }
    return Number(
        id="n", metric="apcer", definition="m:apcer@1", direction="lower_better", value=(lo + hi) / 2, ci=ci, n_bona=0,
        n_attack=100, n_clusters=40, status=status,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lo", "hi", "side", "verdict"),
    [
        (0.05, 0.20, "at_most", "supported"),
        (0.05, 0.25, "at_most", "supported"),
        (0.20, 0.26, "at_most", "inconclusive"),
        (0.25, 0.40, "at_most", "inconclusive"),
        (0.26, 0.40, "at_most", "not_supported"),
        (0.30, 0.40, "at_least", "supported"),
        (0.25, 0.40, "at_least", "supported"),
        (0.20, 0.26, "at_least", "inconclusive"),
        (0.10, 0.24, "at_least", "not_supported"),
    ],
)
def test_three_states(lo, hi, side, verdict):
    claim = Claim(id="C", metric="apcer", theta=0.25, side=side, text={"en": "x"})
    assert decide(claim, number(lo, hi)) == verdict
    assert decide(claim, number(lo, hi, "under_powered")) == "inconclusive"
    assert decide(claim, None) == "inconclusive"


def test_any_word_of_the_plan_changes_its_hash():
    plan = make_protocol()
    assert plan.sha256 == make_protocol().sha256
    for change in ({"seed": 1}, {"name": "other"}, {"claims": [{**CLAIMS[0], "theta": 0.26}]}, {"level": 0.9}):
        assert make_protocol(**change).sha256 != plan.sha256


def test_freeze_open_record(tmp_path):
    book, plan = Register(tmp_path), make_protocol()
    with pytest.raises(ConfigError, match="no protocol is frozen"):
        book.record_opening(TABLE)
    book.freeze(plan, now=NOON)
    book.freeze(plan, now=NOON + timedelta(hours=3))
    with pytest.raises(ConfigError, match="never opened"):
        book.record()
    book.record_opening(TABLE, now=NOON + timedelta(hours=1))
    record = book.record()
    assert record["frozen_utc"].startswith("2026-11-23T12:00:00")
    assert record["protocol_sha256"] == plan.sha256
    assert record["deviations"] == []
    assert record["self_kept"] is True


def test_a_second_opening_shows(tmp_path):
    book = Register(tmp_path)
    book.freeze(make_protocol(), now=NOON)
    for hours in (1, 2):
        book.record_opening(str(hours) * 64, now=NOON + timedelta(hours=hours))
    record = book.record()
    assert "2 times" in record["deviations"][0]
    assert "2 次" in record["deviations_zh"][0]


def test_a_late_protocol_shows(tmp_path):
    book = Register(tmp_path)
    book.record_opening(TABLE, now=NOON - timedelta(hours=1), before_protocol=True)
    book.freeze(make_protocol(), now=NOON)
    book.record_opening(TABLE, now=NOON + timedelta(hours=1))
    text = " ".join(book.record()["deviations"])
    assert "not before the test was opened" in text
    assert "2 times" in text
    assert "without this protocol" in text


def test_another_protocol_in_the_same_place_is_refused(tmp_path):
    book = Register(tmp_path)
    book.freeze(make_protocol())
    with pytest.raises(ConfigError, match="another protocol is frozen"):
        book.freeze(make_protocol(seed=1))


def test_an_edited_frozen_protocol_is_refused(tmp_path):
    book = Register(tmp_path)
    book.freeze(make_protocol())
    path = tmp_path / "protocol.json"
    value = json.loads(path.read_text())
    value["protocol"]["claims"][0]["theta"] = 0.9
    path.write_text(json.dumps(value))
    with pytest.raises(ConfigError, match="changed after it was frozen"):
        book.record_opening(TABLE)


def test_a_damaged_opening_is_named_with_its_line(tmp_path):
    book = Register(tmp_path)
    book.freeze(make_protocol())
    book.record_opening(TABLE)
    with open(tmp_path / "openings.jsonl", "a") as stream:
        stream.write("{}\n")
    with pytest.raises(ConfigError, match="line 2"):
        book.openings()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"claims": []}, "declares no claim"),
        ({"claims": [{**CLAIMS[0], "side": "around"}]}, "side 'around'"),
        ({"claims": [{**CLAIMS[0], "about": "everything"}]}, "everything"),
        ({"claims": [{**CLAIMS[0], "surprise": 1}]}, "cannot be read"),
        ({"claims": [CLAIMS[0], CLAIMS[0]]}, "share an id"),
        ({"claims": [{**CLAIMS[0], "operating_point": "bpcer_7"}]}, "not declared"),
        ({"claims": [{**CLAIMS[0], "text": {"zh": "无"}}]}, "no English text"),
        ({"minimum_clusters": 5}, "law 4"),
    ],
)
def test_plans_that_cannot_be_used_say_why(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_protocol(**changes)


def test_the_default_plan_reads(tmp_path):
    yaml = pytest.importorskip("yaml")
    path = Path(__file__).resolve().parents[2] / "configs" / "protocol" / "default.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    del values["_target_"]
    plan = make_protocol(**values)
    assert [claim.about for claim in plan.claims] == ["tool", "all", "tool"]
    assert all({"en", "zh"} <= set(claim.text) for claim in plan.claims)
