"""Site rules: order statistics of genuine traffic, the rule of 3, and verdicts that follow them."""

import argparse

import numpy as np
import pytest

from deepassay.errors import ConfigError, ScoreError
from deepassay.screening import site
from deepassay.screening.bundle import write_bundle
from deepassay.screening.screener import Screener
from deepassay.screening.site import SiteRule, fit_site_rule, flags_right


@pytest.fixture
def face(tmp_path, square, bundle_parts):
    return write_bundle(tmp_path / "face", **bundle_parts(square))


def test_the_threshold_flags_at_most_the_target(face):
    llrs = np.random.default_rng(0).normal(size=1000)
    rule = fit_site_rule(llrs, target=0.01, bundle=face)
    assert (rule.name, rule.n, rule.n_flagged, rule.supported) == ("site_1", 1000, 10, True)
    assert rule.threshold == np.sort(llrs)[-10]
    assert rule.published_bpcer == pytest.approx(np.mean(llrs >= 0.3))  # the stand-in's bpcer_1 lies at 0.3


def test_the_interval_covers_the_rate_on_further_files(face):
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        rule = fit_site_rule(rng.normal(size=300), target=0.05, bundle=face)
        hits += rule.bpcer_lo <= norm.sf(rule.threshold) <= rule.bpcer_hi
    assert 0.92 <= hits / 400 <= 0.98


def test_too_few_files_are_said_to_be_too_few(face):
    rule = fit_site_rule(np.arange(50.0), target=0.01, bundle=face)
    assert not rule.supported
    assert rule.n_flagged == 0
    assert rule.bpcer_hi == pytest.approx(1 - 0.05 ** (1 / 50))
    with pytest.raises(ScoreError, match="0 genuine files"):
        fit_site_rule(np.array([]), target=0.01, bundle=face)
    with pytest.raises(ConfigError, match="target"):
        fit_site_rule(np.arange(5.0), target=1.0, bundle=face)


def test_flags_right_is_bayes_rule():
    assert flags_right(0.01)["1 in 100"] == pytest.approx(0.01 / (0.01 + 0.99 * 0.01))


def picture(path, level):
    from PIL import Image

    Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(path)


def test_calibrate_writes_a_rule_that_decides_and_leaves_the_published_ones(face, tmp_path, capsys):
    (tmp_path / "genuine").mkdir()
    for level in range(100, 160):
        picture(tmp_path / "genuine" / f"{level}.png", level)
    picture(tmp_path / "genuine" / "dark.png", 0)
    parser = argparse.ArgumentParser()
    site.add_arguments(parser)
    words = ["--bundle", face.path, "--bona-fide", tmp_path / "genuine", "--target", "0.05", "--output"]
    assert site.main(parser.parse_args([str(word) for word in (*words, tmp_path / "site.json")])) == 0
    text = capsys.readouterr().out
    assert "3 of 60 genuine files flagged" in text
    assert "without a score: 1 no_face" in text
    rule = SiteRule.read(tmp_path / "site.json")
    assert rule.published_bpcer == pytest.approx(32 / 60)  # levels of 128 and more have an llr of 0 or more
    picture(tmp_path / "x.png", 150)
    published = Screener([face]).screen(tmp_path / "x.png")[0]
    local = Screener([face], site=[tmp_path / "site.json"]).screen(tmp_path / "x.png")[0]
    assert (published.decision, local.decision) == ("fake", "no evidence of manipulation")
    assert local.operating_point["name"] == "site_5"
    assert local.llr == published.llr


def test_a_rule_of_another_bundle_is_refused(face, tmp_path, square, bundle_parts):
    rule = fit_site_rule(np.arange(50.0), target=0.05, bundle=face)
    other = write_bundle(tmp_path / "other", **{**bundle_parts(square), "name": "other"})
    with pytest.raises(ConfigError, match="not among those given"):
        Screener([other], site=[rule])
    with pytest.raises(ConfigError, match="has a rule already"):
        Screener([face], site=[rule, rule])
    rule.write(tmp_path / "r.json")
    assert SiteRule.read(tmp_path / "r.json") == rule
    for text in ("{}", "x", '{"format": "deepassay.site", "version": 1}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ConfigError, match="no site rule"):
            SiteRule.read(tmp_path / "bad.json")


def test_a_rule_that_rests_on_too_few_files_warns(face, tmp_path):
    rule = fit_site_rule(np.arange(-50.0, 0.0), target=0.01, bundle=face)
    picture(tmp_path / "x.png", 150)
    warnings = Screener([face], site=[rule]).screen(tmp_path / "x.png")[0].warnings
    assert any("50 genuine files of this site" in text for text in warnings)
