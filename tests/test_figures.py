"""Figures: self-contained, deterministic, described, without global state, and safe against names from files."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from deepassay import figures as draw

GRID = np.linspace(0.01, 0.9, 30)


def every_figure(title="Plain title"):
    edges = np.linspace(-4, 4, 21)
    shares = np.full(20, 0.05)
    falling = 1 - GRID
    lines = [draw.Curve("a", GRID, falling, 0.9 * falling, np.minimum(1, 1.1 * falling)), draw.Curve("b", GRID, GRID)]
    groups = {"real": shares, "fake": shares, "tool": shares}
    rates = [
        draw.Rate("tool", 0.4, 0.3, 0.5, "4/10", highlight=True),
        draw.Rate("few", 0.1, 0.0, 0.9, "1/9", weak=True),
        draw.Rate("none", None),
    ]
    panels = [
        draw.Panel("size", "KiB", edges, shares, shares),
        draw.Panel("codec", "", ["jpeg", "png"], [0.9, 0.1], [0.2, 0.8]),
    ]
    ladder = [draw.Curve("detected", [0, 1, 2], [0.9, 0.8, 0.6], [0.8, 0.7, 0.5], [1, 0.9, 0.7])]
    return {
        "det": draw.det_figure(lines, [("BPCER 5 %", 0.05, 0.4)], title=title),
        "densities": draw.score_densities(edges, groups, thresholds=[("t", 0.5)], title=title),
        "rates": draw.per_generator_rates(rates, limit=("limit", 0.25), title=title),
        "reliability": draw.reliability([0.1, 0.9], [0.2, 0.8], [5, 7], lo=[0.1, 0.7], hi=[0.3, 0.9], title=title),
        "tippett": draw.tippett([-1, 0, 1], [0.9, 0.2, 0.0], [1.0, 0.8, 0.3], title=title),
        "nuisance": draw.nuisance_distributions(panels, title=title),
        "robustness": draw.robustness_curve(["none", "q70", "q30"], ladder, title=title),
        "ladders": draw.robustness_panels(
            [draw.Ladder(name, "quality", ["as is", "90", "30"], ladder) for name in ("JPEG", "$x$", "noise")],
            title=title,
        ),
        "entropy": draw.cross_entropy([-1, 0, 1], [0.4, 0.7, 0.4], [0.3, 0.6, 0.3], [0.5, 1.0, 0.5], title=title),
        "counts": draw.sample_counts([("real", 100, 3), ("fake", 50, 0)], title=title),
    }


@pytest.fixture(scope="module")
def drawn():
    return every_figure()


def test_each_is_well_formed_titled_and_self_contained(drawn):
    for name, svg in drawn.items():
        root = ET.fromstring(svg)
        assert root.tag.endswith("svg"), name
        words = [child.text for child in root if child.tag.endswith(("title", "desc"))]
        assert words[0] == "Plain title"
        assert words[1], f"{name} says nothing to those who cannot see it"
        assert root.get("role") == "img"
        for address in re.findall(r"https?://[^\"' ]+", svg):
            assert address in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
        assert "<metadata" not in svg
        assert "<style" not in svg, "a style element would apply to the whole page"
        assert re.search(r"\d{4}-\d\d-\d\d", svg) is None, "no date"


def test_drawing_twice_gives_the_same_bytes(drawn):
    assert every_figure() == drawn


def test_ids_of_two_figures_on_one_page_do_not_collide(drawn):
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in every_figure("one").values()]
    others = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in every_figure("two").values()]
    for one, two in zip(ids, others, strict=True):
        assert not one & two


def test_axes_are_labelled_with_units(drawn):
    assert "BPCER (%)" in drawn["det"]
    assert "natural log" in drawn["densities"]
    assert "APCER (%)" in drawn["rates"]
    assert "size (KiB)" in drawn["nuisance"]
    assert "Samples" in drawn["counts"]


def test_curves_differ_in_more_than_colour(drawn):
    lines = re.findall(r'style="(fill: none;[^"]*stroke-width: 1.5[^"]*)"', drawn["det"])
    patterns = {re.sub(r"#[0-9a-f]{6}", "any", line) for line in lines}
    assert len(patterns) == 2, "one solid, one dashed"


def test_words_of_another_language_are_drawn():
    svg = draw.sample_counts([("真实", 3, 0)], title="样本", words={"samples": "样本数"})
    assert "样本数" in svg
    assert "<title" in svg
    assert "Samples" not in svg


def test_names_from_files_cannot_break_out():
    svg = draw.per_generator_rates([draw.Rate("<script>alert(1)</script>", 0.5, 0.4, 0.6)], title="<b>&")
    ET.fromstring(svg)
    assert "<script" not in svg
    assert "<b>" not in svg


def test_no_global_state_is_left_behind():
    import matplotlib

    before = dict(matplotlib.rcParams)
    every_figure()
    assert dict(matplotlib.rcParams) == before
