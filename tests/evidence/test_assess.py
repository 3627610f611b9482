"""Assessments: verdicts follow intervals and checks, every number is traceable, and what bars support shows."""

from datetime import timedelta

import pytest

from deepassay.errors import LeakError, ScoreError
from deepassay.evidence import assess as room
from deepassay.evidence.protocol import Register
from score_worlds import CLAIMS, NOON, PROVENANCE, made_conditions, made_world, make_protocol, make_tool

AUDIT = {"method": "made up", "threshold": 6, "pairs_across_splits": 0}


@pytest.fixture(scope="module")
def sound(make_log, world):
    """A function that assesses with everything done that checks ask for; nothing is replaced."""

    def run(**changes):
        conditions, scores = made_conditions(changes.get("world", world))
        plan = changes.pop("protocol", None) or make_protocol(ladders={"face": ["jpeg", "noise"]}, replicates=100)
        values = {"near_duplicates": AUDIT, "conditions": conditions, "condition_scores": scores, "protocol": plan}
        return make_log(**{**values, **changes})

    return run


def test_with_everything_done_and_passed_a_claim_is_supported(sound):
    log = sound()
    assert verdicts(log) == {"C1": "supported", "C2": "supported", "C3": "not_supported"}
    assert {c.id for c in log.checks if c.outcome == "fail" or (c.outcome == "not_run" and c.applicable)} == set()
    assert {c.name for c in log.conditions} == {"recode:jpeg@75", "jpeg@90", "jpeg@30", "noise@20"}
    assert {n.slice.get("condition") for n in log.results} >= {"jpeg@30", "noise@20"}
    assert log.power
    assert not any("re-encoding and" in text for text in log.limitations)


def planted(world):
    """Check -> what is changed so that it fails, and nothing else."""
    from dataclasses import replace

    from deepassay.audit import AuditFinding, AuditReport

    samples = list(world.manifest)
    swap = next(s for s in samples if s.split == "test" and s.generator == "example_swap")
    other = [*samples[1:], replace(samples[0], subjects=("test-0",))]
    copied = [*samples[1:], replace(samples[0], sha256=swap.sha256)]
    size = {"auc": 0.9, "ci": {"lo": 0.85, "hi": 0.95}, "eer": 0.2, "n_real": 9, "n_fake": 9, "auc_of_each_alone": {}}
    found = AuditFinding("shortcut.container", "F03", "block", "made up", size)
    report = AuditReport("x", "0" * 64, True, 240, 240, (found,), {}, AUDIT)
    flipped = [{**p.to_dict(), "dev_table_sha256": "9" * 64} for p in world.points]
    short = world.test.select([i != 3 for i in range(len(world.test))])
    halved = world.test.column("score").astype("float16").astype("float64")
    return {
        "F01": {"bundle_info": {**world.bundle, "operating_points": flipped}},
        "F02": {"manifest": world.manifest.replace_samples(other)},
        "F03": {"audit": report},
        "F05": {"near_duplicates": {**AUDIT, "pairs_across_splits": 1}},
        "F09": {"test": scored_again(world, halved)},
        "F10": {"test": short},
        "F12": {"bundle_info": {**world.bundle, "generators_seen": ["example_swap"]}},
        "F12 by file": {"manifest": world.manifest.replace_samples(copied)},
    }


def scored_again(world, scores):
    import numpy as np
    import pyarrow as pa

    from deepassay.calibrator import calibrate
    from deepassay.scores import SCHEMA, ScoreTable

    at = SCHEMA.get_field_index("score")
    values = pa.array([None if np.isnan(s) else float(s) for s in scores], pa.float64())
    return calibrate(ScoreTable(world.test.table.set_column(at, SCHEMA.field(at), values), world.test.meta),
                     world.calibration)  # fmt: skip


@pytest.mark.parametrize("name", ["F01", "F02", "F03", "F05", "F09", "F10", "F12", "F12 by file"])
def test_a_planted_fault_takes_support_away_and_is_named(name, sound, world, tmp_path):
    changes = planted(world)[name]
    if "test" in changes:
        from score_worlds import register

        plan = make_protocol(ladders={"face": ["jpeg", "noise"]}, replicates=100)
        changes |= {"protocol": plan, "record": register(tmp_path, plan, changes["test"])}
        if name == "F10":
            changes |= {"conditions": (), "condition_scores": None}
    log = sound(**changes)
    check = {c.id: c for c in log.checks}[name[:3]]
    assert (check.outcome, check.severity) == ("fail", "B")
    assert verdicts(log)["C1"] == "inconclusive"
    assert name[:3] in log.claims[0].blocked_by


def test_recoding_that_moves_the_scores_takes_support_away(sound, world):
    conditions, scores = made_conditions(world, {"recode:jpeg@75": 2.5, "jpeg@30": 1.0})
    log = sound(conditions=conditions, condition_scores=scores)
    assert {c.id: c.outcome for c in log.checks}["F03"] == "fail"
    assert log.claims[0].blocked_by == ["F03"]


def looked_at_silence():
    """An audit that opened the files and found nothing in their silence."""
    from deepassay.audit import AuditFinding, AuditReport

    chance = {"auc": 0.5, "ci": {"lo": 0.44, "hi": 0.56}, "eer": 0.5, "n_real": 120, "n_fake": 360,
              "auc_of_each_alone": {}}  # fmt: skip
    found = [
        AuditFinding(f"shortcut.{n}", f, "pass", "made up", chance)
        for n, f in (("silence", "F04"), ("container", "F03"))
    ]
    return AuditReport("x", "0" * 64, True, 480, 480, tuple(found), {}, AUDIT)


@pytest.mark.parametrize(("loss", "outcome", "verdict"), [(0.0, "pass", "supported"), (2.5, "fail", "inconclusive")])
def test_voices_whose_scores_rest_on_silence_lose_support(loss, outcome, verdict, sound):
    voices = made_world(media="audio")
    conditions, scores = made_conditions(voices, {"recode:aac@64": 0.0, "trim": loss})
    tool = make_tool(modality="voice", media="audio", functions=["tts"])
    log = sound(world=voices, tool=tool, audit=looked_at_silence(), conditions=conditions, condition_scores=scores,
                protocol=make_protocol(replicates=100))  # fmt: skip
    assert {c.id: c.outcome for c in log.checks}["F04"] == outcome
    assert verdicts(log)["C1"] == verdict
    assert log.claims[0].blocked_by == ([] if outcome == "pass" else ["F04"])


def test_scores_the_wrong_way_round_support_nothing(sound):
    """Numbers on real samples alone would still be good: the check bars them."""
    wrong = made_world(means={"example_swap": -4.0, "local_warp": -2.2, "blend_easy": -5.0})
    claim = {**CLAIMS[2], "id": "C9", "theta": 0.25}
    log = sound(world=wrong, protocol=make_protocol(claims=[claim], replicates=100), conditions=(),
                condition_scores=None)  # fmt: skip
    assert {c.id: c.outcome for c in log.checks}["F08"] == "fail"
    assert log.claims[0].verdict == "inconclusive"
    assert "F08" in log.claims[0].blocked_by


def test_pooled_claims_fall_where_one_generator_dominates(sound):
    lone = made_world(means={"example_swap": 4.0, "useless": 0.0})
    plan = make_protocol(claims=[{**CLAIMS[1], "about": "all", "theta": 0.55}, CLAIMS[0]], replicates=100)
    log = sound(world=lone, protocol=plan, conditions=(), condition_scores=None)
    assert {c.id: c.outcome for c in log.checks}["F07"] == "fail"
    assert "F07" in log.claims[1].blocked_by or log.claims[1].verdict != "supported"


def test_salted_logs_say_so_and_name_nobody(sound, world):
    import json

    from deepassay.evidence.pseudonyms import Pseudonyms

    log = sound(salt=Pseudonyms(bytes(32)))
    assert log.privacy.salted_ids
    assert "salt stays with the issuer" in log.privacy.pseudonymisation
    assert verdicts(log)["C1"] == "supported", "pseudonyms change no check"
    text = json.dumps(log.to_json())
    assert "test-0" not in text
    assert "-source" not in text


@pytest.fixture
def all_checks_run(monkeypatch):
    """Everything that an assessment cannot run yet, run elsewhere and passed."""
    run = room.run_checks

    def passed(material):
        from dataclasses import replace

        return [replace(c, outcome="pass") if c.outcome == "not_run" and c.applicable else c for c in run(material)]

    monkeypatch.setattr(room, "run_checks", passed)


def verdicts(log):
    return {claim.id: claim.verdict for claim in log.claims}


def test_a_blocker_that_was_not_run_holds_support_back(log):
    claim = log.claims[1]
    assert claim.verdict == "inconclusive"
    assert {"F03", "F05"} <= set(claim.blocked_by)
    assert "F03" in claim.reason
    assert "F03" in claim.reason_zh
    assert log.claims[2].verdict == "not_supported", "bars forbid support, nothing else"


def test_with_all_checks_run_the_interval_decides(make_log, all_checks_run):
    log = make_log(near_duplicates=AUDIT)
    assert verdicts(log) == {"C1": "supported", "C2": "supported", "C3": "not_supported"}
    number = {n.id: n for n in log.results}[log.claims[0].number_ids[0]]
    assert number.status == "confirmatory"
    assert number.ci is not None
    assert number.ci.hi is not None
    assert number.ci.hi <= 0.25
    assert dict(number.slice) == {"nonresponse": "counted_as_error", "generator": "example_swap"}


def test_a_dirty_tree_forbids_support(make_log, all_checks_run):
    code = {**PROVENANCE["code"], "dirty": True}
    log = make_log(near_duplicates=AUDIT, provenance={**PROVENANCE, "code": code})
    assert verdicts(log)["C1"] == "inconclusive"
    assert log.claims[0].blocked_by == ["dirty_tree"]


def test_a_leak_forbids_support(make_log, world, all_checks_run):
    from dataclasses import replace

    samples = list(world.manifest)
    samples[0] = replace(samples[0], subjects=("test-0",))
    log = make_log(near_duplicates=AUDIT, manifest=world.manifest.replace_samples(samples))
    assert log.splits.overlap_counts["identity"] == 1
    assert verdicts(log)["C1"] == "inconclusive"
    assert "F02" in log.claims[0].blocked_by


def test_a_late_protocol_forbids_support(make_log, world, tmp_path, all_checks_run):
    plan = make_protocol()
    book = Register(tmp_path)
    book.record_opening(world.test.hash, now=NOON - timedelta(hours=9), before_protocol=True)
    book.freeze(plan, now=NOON - timedelta(hours=1))
    log = make_log(near_duplicates=AUDIT, protocol=plan, record=book.record())
    assert verdicts(log)["C1"] == "inconclusive"
    assert log.claims[0].blocked_by == ["F11"]
    assert log.preregistration.deviations


def test_too_little_data_is_inconclusive_and_says_so(make_log, all_checks_run):
    log = make_log(world=made_world(people=(10, 40, 12)), near_duplicates=AUDIT)
    assert set(verdicts(log).values()) == {"inconclusive"}
    assert "too few" in log.claims[0].reason.lower()
    assert any("carry no claim" in text for text in log.limitations)


def test_every_number_names_its_table_detector_and_point(log, world):
    known = {point.id for point in log.operating_points}
    for number in log.results:
        assert number.scores_sha256 == world.test.hash
        assert number.detector == log.detectors[0].id
        assert not number.operating_point or number.operating_point in known
    assert {point.fitted_on for point in log.operating_points} == {"dev"}


def test_the_log_says_synthetic_and_what_limits_it(log):
    assert log.synthetic
    text = " ".join(log.limitations)
    for words in ("invented by a program", "Detectability is not safety", "F03", "re-encoding"):
        assert words in text
    assert len(log.limitations) == len(log.scope.limitations_zh)
    assert len(log.scope.non_claims) == len(log.scope.non_claims_zh) >= 4


def test_real_data_are_not_called_synthetic_nor_licensed(make_log):
    log = make_log(world=made_world(synthetic=False))
    assert not log.synthetic
    assert not log.datasets[0].licence_allows_this_use
    assert any("licence" in text for text in log.limitations)


def test_nobody_writes_the_conclusion_but_the_assessor(log, make_log):
    assert log.human_conclusion is None
    own = {"text": "In my view ...", "name": "A. Assessor", "date": "2026-11-24"}
    assert make_log(human_conclusion=own).human_conclusion == own


def test_the_same_inputs_give_the_same_log(log, make_log):
    assert make_log().to_json() == log.to_json()


def test_a_tool_without_outputs_is_an_error_that_lists_the_generators(make_log):
    with pytest.raises(ScoreError, match="local_warp"):
        make_log(tool=make_tool(generator="not_there"))


def test_a_declared_point_that_is_not_there_is_an_error(make_log):
    with pytest.raises(ScoreError, match=r"bpcer_0\.1"):
        make_log(protocol=make_protocol(operating_points=("bpcer_5", "bpcer_1", "bpcer_0.1")))


def test_thresholds_fitted_on_test_cannot_be_assessed(make_log, world):
    from deepassay.calibrator import dev_table_hash

    points = [{**p.to_dict(), "dev_table_sha256": dev_table_hash(world.test)} for p in world.points]
    with pytest.raises(LeakError, match="very table"):
        make_log(bundle_info={**world.bundle, "operating_points": points})


def test_without_a_manifest_less_is_shown_and_nothing_supported(make_log, all_checks_run):
    log = make_log(manifest=None)
    assert log.splits.disjoint_on == []
    assert log.datasets[0].distributions == []


def test_worst_generator_claims_rest_on_the_worst(make_log):
    claim = {**CLAIMS[0], "about": "worst_generator"}
    log = make_log(protocol=make_protocol(claims=[claim]))
    number = {n.id: n for n in log.results}[log.claims[0].number_ids[0]]
    assert number.slice["worst_generator"] == "local_warp"
