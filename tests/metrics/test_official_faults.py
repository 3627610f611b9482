"""Where the official code is wrong (W1 to W6): its value, ours, and why ours."""

import numpy as np
import pytest

from deepassay.adapters.asvspoof import read_scores
from deepassay.metrics.calibration import cllr
from deepassay.metrics.decision import ASVSPOOF5_COST, act_dcf, apcer, bpcer
from deepassay.metrics.ranking import eer
from deepassay.metrics.tandem import AsvRates, asv_rates, asv_rates_at_eer, min_tdcf, t_eer


def test_w1_ties_in_the_walk(toys):
    """Walking tied trials one by one, real ones first, invents operating points that no threshold can reach."""
    constant, want = toys["constant"]
    assert want["asvspoof_official_eer"] == 1.0
    assert eer(constant.label, constant.score, "E1") == 1.0
    assert eer(constant.label, constant.score) == 0.5  # chance, which constant scores are
    tied, want = toys["ties"]
    assert want["asvspoof_official_eer"] == eer(tied.label, tied.score, "E1") == 0.3875
    assert eer(tied.label, tied.score) == 0.25
    # The walk depends on which class is called positive first within a tie; ours does not.
    assert eer(1 - tied.label, -tied.score) == pytest.approx(0.25, abs=1e-12)


def test_w2_rejected_spoofs_taken_for_accepted_ones(asvspoof5, expected):
    """Index 2 of the package's ASV rates is the share of spoofs rejected; the cost needs the share accepted."""
    want = expected("asvspoof_official")["package_call_track2"]
    asv, more = asvspoof5.more["asv"], asvspoof5.more
    rates = asv_rates_at_eer(asv[more["target"]], asv[more["nontarget"]], asv[asvspoof5.label == 1])
    mixed_up = AsvRates(miss=rates.miss, false_alarm=rates.false_alarm, false_alarm_spoof=rates.miss_spoof)
    as_coded = min_tdcf(asvspoof5.label, asvspoof5.score, asv=mixed_up)
    correct = min_tdcf(asvspoof5.label, asvspoof5.score, asv=rates)
    assert as_coded == pytest.approx(want["with_own_asv_scores_as_coded"]["min_tdcf"], abs=1e-9)
    assert correct == pytest.approx(want["min_tdcf_correct_pfa_spoof"], abs=1e-9)
    assert correct - as_coded > 0.025


def test_w3_less_or_equal_against_less():
    """The DET walk rejects at s <= tau and actual DCF at s < tau. Here flagged iff score >= threshold, everywhere."""
    at = ASVSPOOF5_COST.threshold
    labels, llr = np.array([0, 0, 1, 1]), np.array([at, at - 1, at, at + 1])  # a real and a fake trial on the threshold
    assert bpcer(labels, llr, at) == 0.5
    assert apcer(labels, llr, at) == 0.0
    strict = (0.95 * (llr[labels == 0] > at).mean() + 0.5 * (llr[labels == 1] <= at).mean()) / 0.5
    assert strict == pytest.approx(0.5)  # what the official `<` gives
    assert act_dcf(labels, llr) == pytest.approx(0.95)  # what the stored inequality gives
    # A verifier accepts at or above its threshold.
    rates = asv_rates([1.0, 2.0], [0.0, 1.0], [1.0], threshold=1.0)
    assert (rates.miss, rates.false_alarm, rates.false_alarm_spoof) == (0.0, 0.5, 1.0)


def test_w4_cllr_overflows(expected):
    """log2(1 + exp(-l)) is infinite beyond |l| of about 709; logaddexp is not."""
    want = expected("asvspoof_official")["cllr_overflow"]
    spoof = want["spoof"]
    for key, official, value in (
        ("bona", want["official"], want["official"]),
        ("bona_neg", np.inf, want["stable_neg"]),
    ):
        bona = np.array(want[key], dtype=float)
        with np.errstate(over="ignore"):
            naive = np.mean([np.log2(1 + np.exp(-bona)).mean(), np.log2(1 + np.exp(np.array(spoof, float))).mean()])
        assert naive == pytest.approx(official)
        ours = cllr(np.array([0, 0, 1, 1]), -np.concatenate([bona, spoof]))
        assert ours == pytest.approx(value, abs=1e-9)
    assert want["official_neg"] == "inf"


def test_w5_units(asvspoof5, expected):
    """The package prints EER as a fraction and t-EER in percent; here every rate is a fraction."""
    want = expected("asvspoof_official")
    assert 0 < want["asvspoof5_track1"]["eer"] < 0.01 < 1 < want["asvspoof5_t_eer_percent"]
    ours = t_eer(asvspoof5.label, asvspoof5.score, target=asvspoof5.more["target"], asv_scores=asvspoof5.more["asv"])
    assert ours == pytest.approx(want["asvspoof5_t_eer_percent"] / 100, abs=1e-11)


def test_w6_label_numbers_are_not_guessed(golden, expected, tmp_path):
    """The fusion tool's README says spoof is 3 and its file says 0: a number as label needs an explicit map."""
    kinds = np.genfromtxt(golden / "asvspoof5_fusion_dev_scores_label.csv.gz", delimiter=",", skip_header=1, usecols=2)
    assert sorted(set(kinds)) == [0, 1, 2]
    assert (kinds == 0).sum() == expected("asvspoof_official")["n"]["spoof_trials"]
    from deepassay.adapters.csv_scores import Columns, read_csv_scores
    from deepassay.errors import ScoreError

    file = tmp_path / "scores.csv"
    file.write_text("id,cm,kind\na,1.5,1\nb,-2,0\nc,0.5,2\n")
    columns = Columns(id="id", score="cm", label="kind")
    with pytest.raises(ScoreError, match="neither real nor fake"):
        read_csv_scores(file, columns, higher="real")
    words = {"0": "fake", "1": "real", "2": "real"}
    (answers,) = read_csv_scores(file, columns, higher="real", label_words=words)
    assert [answers.trials[i].label for i in "abc"] == [0, 1, 0]
    assert answers.scores["b"] == 2.0


def test_negation_at_the_door(tmp_path):
    """ASVspoof files grow with bona fide: the adapter, not the metric, turns them round."""
    file = tmp_path / "cm.txt"
    file.write_text("LA_E_1 - bonafide 3.5\nLA_E_2 A07 spoof -1.25\n")
    answers = read_scores(file)
    assert answers.scores == {"LA_E_1": -3.5, "LA_E_2": 1.25}
