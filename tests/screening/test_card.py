"""Model cards: two languages that say the same, every number of the facts, and nothing that breaks out of its line."""

import copy
import re

import pytest

from deepassay.screening.bundle import Bundle, write_bundle
from deepassay.screening.card import WORDS, needed, refused_targets, render_card

PARITY = {
    "precision": "fp32", "n_files": 200, "max_logit_difference": 2.5e-6, "eer_change": 0.0015,
    "flips": {"bpcer_5": 3}, "graph_bytes": 13_400_000, "bundle_bytes": 15_000_000,
}  # fmt: skip


@pytest.fixture
def facts(tmp_path, square, bundle_parts):
    more = {
        "card_md": render_card,
        "provenance": {
            "data": {
                "corpus": "squares", "media": ["image"], "train": {"real": 40, "fake": 41},
                "dev": {"real": 20, "fake": 22}, "dev_scored": 39,
            },
            "parity": {"n_inputs": 64, "max_difference": 1.5e-5, "store_difference": 0.0},
            "parity_over_files": PARITY,
        },
        "licence_chain": [{"name": "mtcnn", "kind": "weights", "licence": "MIT", "commercial": "yes"}],
    }  # fmt: skip
    return write_bundle(tmp_path / "b", **bundle_parts(square, **more)).facts


def test_both_languages_hold_every_number(facts, tmp_path):
    card = Bundle.load(tmp_path / "b").card
    english, chinese = card.split("## 中文")
    numbers = ["40", "41", "20", "22", "39", "0.300", "2.5e-06", "1.5e-05", "+0.15 %", "13.4", "15.0", "mtcnn", "fp32"]
    for part in (english, chinese):
        for number in numbers:
            assert number in part, number
        assert "bpcer_5".replace("_", "\\_") in part
        assert "3000" in part  # what 0.1 % would need
    assert "NOT SUPPORTED: 100 independent real dev files, 300 needed" in english
    assert "Refused by the rule of 3: bpcer_0.1" in english
    assert "SYNTHETIC" in english
    assert "合成数据" in chinese
    assert re.findall(r"\d+\.\d %", english) == re.findall(r"\d+\.\d %", chinese)


def test_the_languages_have_the_same_words_to_fill_in():
    assert set(WORDS["en"]) == set(WORDS["zh"])
    for key, text in WORDS["en"].items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", WORDS["zh"][key])), key


def test_names_cannot_break_the_table(facts):
    changed = copy.deepcopy(dict(facts))
    changed["licence_chain"] = [{"name": "x | y\n# heading <b>", "licence": "a`b"}]
    card = render_card(changed)
    line = next(line for line in card.splitlines() if "heading" in line)
    assert line.startswith("| x \\| y")
    assert "\\<b\\>" in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 5


def test_what_is_missing_is_said(facts):
    bare = copy.deepcopy(dict(facts))
    bare["provenance"], bare["operating_points"], bare["generators_seen"] = {}, [], []
    card = render_card(bare)
    assert "No limits were learnt" in card
    assert "没有学习界限" in card
    assert "Generators of fakes it was trained on: none" in card


def test_the_rule_of_3():
    assert [needed(t) for t in (0.05, 0.01, 0.001)] == [60, 300, 3000]
    point = {"n_real": 5000, "n_clusters": 400, "target_bpcer": 0.05}
    assert refused_targets([point]) == [0.001]  # 400 clusters support 1 %
    assert refused_targets([{**point, "target_bpcer": 0.001}]) == []
    assert refused_targets([]) == []
