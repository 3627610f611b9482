"""F01-F12: a planted case makes each fire at its severity, a clean case does not."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from deepassay.calibrator import calibrate, fit_calibration, fit_operating_points
from deepassay.evaluation import AS_ERROR, measure
from deepassay.evidence import checks
from deepassay.evidence.checks import CHECKS, Material, overlap_counts, run_checks
from deepassay.evidence.protocol import Register
from deepassay.manifest import with_split
from deepassay.scores import ScoreTable
from score_worlds import CLAIMS, NOON, made_manifest, made_scores, made_world, make_protocol, make_tool, register


@pytest.fixture(scope="module")
def clean(world, tmp_path_factory):
    protocol = make_protocol()
    return Material(
        tool=make_tool(),
        protocol=protocol,
        dev=world.dev,
        test=world.test,
        numbers=measure(world.test, operating_points=world.points, replicates=200),
        operating_points=world.points,
        calibration=world.calibration,
        preregistration=register(tmp_path_factory.mktemp("register"), protocol, world.test),
        manifest=world.manifest,
        generators_seen=["local_warp", "blend_easy"],
        detector="toy",
        bundle_sha256="b" * 64,
        bundle_created_utc="2026-01-01T00:00:00+00:00",
        near_duplicates={"method": "made up", "threshold": 6, "pairs_across_splits": 0},
    )


def outcome(name, material, **changes):
    result = CHECKS[name](replace(material, **changes))
    assert result.id == name
    return result


def test_all_twelve_run_in_order_on_clean_material(clean):
    results = {r.id: r for r in run_checks(clean)}
    assert list(results) == [f"F{n:02d}" for n in range(1, 13)]
    assert {name for name, r in results.items() if r.outcome == "pass"} >= {
        "F01", "F02", "F05", "F06", "F08", "F09", "F10", "F11", "F12",
    }  # fmt: skip
    assert not any(r.outcome == "fail" for r in results.values())
    assert [name for name, r in results.items() if r.blocks] == ["F03"], "its second half cannot be run yet"


def test_f01_thresholds_from_elsewhere(clean, world):
    wrong = [replace(world.points[0], dev_table_sha256="9" * 64), world.points[1]]
    result = outcome("F01", clean, operating_points=wrong)
    assert result.outcome == "fail"
    assert result.statistic["not_fitted_on_dev"] == ["bpcer_5"]
    late = outcome("F01", clean, bundle_created_utc=(NOON + timedelta(days=1)).isoformat())
    assert late.outcome == "fail"
    assert outcome("F01", clean, operating_points=[], calibration=None).outcome == "not_run"


def test_f01_another_machine_rounds_otherwise(clean, world):
    """The dev table scored again elsewhere: another hash, the same thresholds; other thresholds are still found."""
    scores = [None if np.isnan(s) else float(s) + 1e-7 for s in world.dev.column("score")]
    index = world.dev.table.column_names.index("score")
    moved = ScoreTable(world.dev.table.set_column(index, "score", pa.array(scores, pa.float64())), world.dev.meta)
    again = calibrate(moved, world.calibration)
    result = outcome("F01", clean, dev=again)
    assert (result.outcome, result.code) == ("pass", "f01.rounded")
    assert 0 < result.statistic["refit_difference"] < 1e-6
    points = [replace(p, threshold=p.threshold - 0.01) for p in world.points]
    assert outcome("F01", clean, dev=again, operating_points=points).outcome == "fail"
    assert outcome("F01", clean, dev=world.test.select(np.arange(len(world.test)) > 3)).outcome == "fail"


def test_f01_suspiciously_exact_rates(clean):
    def exact(number):
        if number.metric != "bpcer" or dict(number.slice) != {"nonresponse": AS_ERROR}:
            return number
        return replace(number, count=({"bpcer_5": 6, "bpcer_1": 1}[number.operating_point], 120))

    result = outcome("F01", clean, numbers=[exact(n) for n in clean.numbers])
    assert (result.outcome, result.severity) == ("warn", "W")


def test_f02_a_person_in_two_splits(clean):
    samples = list(clean.manifest)
    leaked = clean.manifest.replace_samples([with_split(samples[0], "test"), *samples[1:]])
    result = outcome("F02", clean, manifest=leaked)
    assert result.outcome == "fail"
    assert overlap_counts(leaked)["identity"] == 1
    assert result.blocks


def test_f02_the_donor_of_a_swap_counts_too(clean):
    samples = list(clean.manifest)
    train = next(n for n, s in enumerate(samples) if s.split == "train" and s.generator == "example_swap")
    samples[train] = replace(samples[train], subjects=(*samples[train].subjects, "test-0"))
    assert outcome("F02", clean, manifest=clean.manifest.replace_samples(samples)).outcome == "fail"


def test_f02_without_manifest_or_persons_proves_nothing(clean):
    assert outcome("F02", clean, manifest=None).outcome == "not_run"
    bare = clean.manifest.replace_samples([replace(s, subjects=(), source_id="") for s in clean.manifest])
    assert outcome("F02", clean, manifest=bare).outcome == "warn"


def test_f03_file_size_tells_the_label(clean):
    result = outcome("F03", clean, manifest=made_manifest(size_gap=9000))
    assert result.outcome == "fail"
    assert result.statistic["probe"]["lo"] > checks.PROBE_AUC
    half = outcome("F03", clean)
    assert half.outcome == "not_run"
    assert half.statistic["probe"]["lo"] < checks.PROBE_AUC
    assert half.blocks
    assert outcome("F03", clean, manifest=None).outcome == "not_run"


def under(number, condition, **changes):
    """A number as it came out under a condition."""
    where = {"condition": condition, **number.slice}
    return replace(number, id=f"{number.id}/{condition}", slice=where, **changes)


def pooled(clean, metric):
    return next(n for n in clean.numbers if n.metric == metric and dict(n.slice) == {"nonresponse": AS_ERROR})


def test_f03_scores_that_change_with_the_coder(clean):
    area = pooled(clean, "auc")
    same = outcome("F03", clean, numbers=[*clean.numbers, under(area, "recode:jpeg@75", value=area.value - 1e-4)])
    assert same.outcome == "pass"
    assert same.statistic["re_encoding"]["within"]
    assert not same.blocks
    for value in (area.ci["lo"] - 0.01, min(1.0, area.ci["hi"] + 0.01)):
        fell = outcome("F03", clean, numbers=[*clean.numbers, under(area, "recode:jpeg@75", value=value)])
        assert fell.outcome == "fail"
        assert fell.severity == "B"
        assert fell.code == "f03.recoded"


def heard(auc=0.5, lo=0.45, eer=0.5):
    """An audit that looked at silence."""
    from deepassay.audit import AuditFinding, AuditReport

    statistic = {"auc": auc, "ci": {"lo": lo, "hi": auc + 0.05}, "eer": eer, "n_real": 120, "n_fake": 120,
                 "auc_of_each_alone": {"leading": auc}}  # fmt: skip
    finding = AuditFinding("shortcut.silence", "F04", "pass", "made up", statistic)
    return AuditReport("x", "0" * 64, True, 240, 240, (finding,), {}, None)


def test_f04_scores_that_rest_on_silence(clean):
    tool = make_tool(modality="voice", media="audio", functions=["tts"])
    voices = made_manifest(media="audio")
    rate = pooled(clean, "eer")
    changes = {"tool": tool, "manifest": voices, "audit": heard()}
    same = outcome("F04", clean, **changes, numbers=[*clean.numbers, under(rate, "trim", value=rate.value + 0.03)])
    assert same.outcome == "pass"
    assert not same.blocks
    rose = outcome("F04", clean, **changes, numbers=[*clean.numbers, under(rate, "trim", value=rate.value + 0.06)])
    assert rose.outcome == "fail"
    assert rose.severity == "B"
    assert rose.code == "f04.trimmed"
    assert outcome("F04", clean, **changes).outcome == "not_run", "nothing was scored again"
    silent = {**changes, "audit": heard(auc=0.9, lo=0.85, eer=0.15)}
    assert outcome("F04", clean, **silent).outcome == "fail"
    unheard = {**changes, "audit": None}
    half = outcome("F04", clean, **unheard, numbers=[*clean.numbers, under(rate, "trim")])
    assert half.outcome == "not_run"
    assert half.blocks
    clip = make_tool(media="video")
    assert outcome("F04", clean, tool=clip, manifest=made_manifest(media="video")).outcome == "pass"


def test_f04_duration_tells_the_label(clean):
    voices = made_manifest(media="audio")
    tool = make_tool(modality="voice", media="audio", functions=["tts"])
    assert outcome("F04", clean, tool=tool, manifest=voices).outcome == "not_run"
    long = voices.replace_samples([replace(s, duration_s=s.duration_s + 4 * s.label) for s in voices])
    assert outcome("F04", clean, tool=tool, manifest=long).outcome == "fail"
    still = outcome("F04", clean)
    assert not still.applicable
    assert not still.blocks


def test_f05_copies_and_near_duplicates(clean):
    assert outcome("F05", clean, near_duplicates=None).outcome == "not_run"
    audit = {"method": "made up", "threshold": 6, "pairs_across_splits": 3}
    assert outcome("F05", clean, near_duplicates=audit).outcome == "fail"
    samples = list(clean.manifest)
    samples[0] = replace(samples[0], sha256=samples[-1].sha256)
    assert samples[0].split != samples[-1].split
    assert outcome("F05", clean, manifest=clean.manifest.replace_samples(samples)).outcome == "fail"


def test_f06_intervals_without_clusters_and_bold_claims(clean):
    number = next(n for n in clean.numbers if n.ci)
    naked = replace(number, ci={**number.ci, "cluster_unit": None})
    assert outcome("F06", clean, numbers=[naked]).outcome == "fail"
    bold = replace(number, ci={**number.ci, "n_clusters": 12}, status="confirmatory")
    assert outcome("F06", clean, numbers=[bold]).outcome == "fail"
    modest = replace(bold, status="under_powered")
    assert outcome("F06", clean, numbers=[modest]).outcome == "pass"
    assert outcome("F06", clean).statistic["widest"] > 0


def test_f07_one_generator_dominates(clean):
    easy = made_world(means={"example_swap": 4.0, "useless": 0.0})
    numbers = measure(easy.test, operating_points=easy.points, replicates=50)
    changes = {"test": easy.test, "dev": easy.dev, "numbers": numbers, "operating_points": easy.points}
    warned = outcome("F07", clean, **changes)
    assert warned.outcome == "warn"
    assert not warned.blocks
    pooled = make_protocol(claims=[{**CLAIMS[1], "about": "all"}])
    assert outcome("F07", clean, **changes, protocol=pooled).outcome == "fail"


def test_f08_scores_the_wrong_way_round(clean, world):
    raw = made_scores(world.manifest, "dev", seed=1)
    turned = pa.array([None if v is None else -v for v in raw.table.column("score").to_pylist()], pa.float64())
    index = raw.table.column_names.index("score")
    upside = ScoreTable(raw.table.set_column(index, "score", turned), raw.meta)
    result = outcome("F08", clean, dev=calibrate(upside, fit_calibration(upside)))
    assert result.outcome == "fail"
    assert result.statistic["dev_auc"] < 0.5


def test_f08_llrs_that_are_none(clean, world):
    boasting = world.test.with_llr(20 * world.test.column("llr"), dev_table_sha256="1" * 64)
    result = outcome("F08", clean, test=boasting)
    assert (result.outcome, result.severity) == ("warn", "W")
    assert result.statistic["calibration_loss_bits"] > checks.CALIBRATION_LOSS_BITS


def change_scores(table, function):
    scores = table.column("score")
    values = pa.array([None if np.isnan(v) else float(function(v)) for v in scores], pa.float64())
    return ScoreTable(table.table.set_column(table.table.column_names.index("score"), "score", values), table.meta)


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda v: np.round(v), "ties"),
        (lambda v: np.clip(v, 1.0, 2.0), "saturation"),
        (lambda v: float(np.float16(v)), "float16"),
        (lambda v: np.inf if v > 6 else v, "not_finite"),
    ],
)
def test_f09_damaged_scores(clean, world, function, fault):
    result = outcome("F09", clean, test=change_scores(world.test, function))
    assert result.outcome == "fail"
    assert fault in result.statistic["faults"]


def test_f09_a_sample_twice(clean, world):
    twice = ScoreTable(pa.concat_tables([world.test.table, world.test.table.slice(0, 3)]), world.test.meta)
    assert outcome("F09", clean, test=twice).statistic["repeated_samples"] == 3


def test_f10_rows_left_out_silently(clean, world):
    keep = np.arange(len(world.test)) >= 5
    result = outcome("F10", clean, test=world.test.select(keep))
    assert result.outcome == "fail"
    assert result.statistic["missing_from_table"] == 5
    one_table = [n for n in clean.numbers if n.slice.get("nonresponse") == AS_ERROR]
    assert outcome("F10", clean, numbers=one_table).outcome == "fail"
    assert outcome("F10", clean, manifest=None).outcome == "not_run"


def test_f10_nonresponse_that_differs_by_class(clean, world):
    label = world.test.column("label")
    status = world.test.table.column("status").to_pylist()
    spoilt = ["no_face" if one == 1 and n % 3 == 0 else s for n, (one, s) in enumerate(zip(label, status, strict=True))]
    index = world.test.table.column_names.index("status")
    table = ScoreTable(world.test.table.set_column(index, "status", pa.array(spoilt)), world.test.meta)
    assert outcome("F10", clean, test=table).outcome == "warn"


def test_f11_late_protocol_second_opening_undeclared_detector(clean, world, tmp_path):
    plan = clean.protocol
    late = Register(tmp_path / "late")
    late.record_opening(world.test.hash, now=NOON - timedelta(hours=5), before_protocol=True)
    late.freeze(plan, now=NOON)
    assert outcome("F11", clean, preregistration=late.record()).outcome == "fail"

    again = Register(tmp_path / "again")
    again.freeze(plan, now=NOON - timedelta(hours=2))
    for hour in (1, 2):
        again.record_opening(world.test.hash, now=NOON + timedelta(hours=hour))
    result = outcome("F11", clean, preregistration=again.record())
    assert (result.outcome, result.severity) == ("warn", "W")

    strict = make_protocol(detectors=["somebody else"])
    record = register(tmp_path / "strict", strict, world.test)
    assert outcome("F11", clean, protocol=strict, preregistration=record).statistic["undeclared_detector"]
    other = make_protocol(seed=7)
    assert outcome("F11", clean, protocol=other).outcome == "fail", "not the plan that was frozen"

    never = register(tmp_path / "never", plan, world.dev)
    assert outcome("F11", clean, preregistration=never).statistic["table_never_opened"]


def test_f12_exposure_that_the_training_data_contradict(clean):
    result = outcome("F12", clean, generators_seen=["example_swap"])
    assert result.outcome == "fail"
    assert (
        outcome("F12", clean, generators_seen=["example_swap"], tool=make_tool(seen_by_detectors="yes")).outcome
        == "warn"
    )
    assert outcome("F12", clean, tool=make_tool(seen_by_detectors="unknown")).outcome == "warn"
    assert outcome("F12", clean, generators_seen=None).outcome == "not_run"


def test_f12_an_output_of_the_tool_among_the_training_files(clean):
    samples = list(clean.manifest)
    output = next(s for s in samples if s.split == "test" and s.generator == "example_swap")
    samples[0] = replace(samples[0], sha256=output.sha256)
    assert samples[0].split == "train"
    result = outcome("F12", clean, manifest=clean.manifest.replace_samples(samples))
    assert result.outcome == "fail"
    assert result.statistic["files_in_training"] == 1


def test_a_second_look_finds_the_same(clean, world):
    assert [r.outcome for r in run_checks(clean)] == [r.outcome for r in run_checks(clean)]
    assert fit_operating_points(world.dev) == world.points
