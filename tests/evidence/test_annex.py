"""The labelling annex: counts with intervals by source, annotations matched, survival drawn by seed, both pages."""

import copy
import html
import json
import re
from types import SimpleNamespace

import pytest
from PIL import Image, PngImagePlugin

from deepassay.errors import ConfigError, ScoreError
from deepassay.evidence import annex as annex_module
from deepassay.evidence.annex import Output, labelling_annex, missed_mutations
from deepassay.evidence.assess import legal_rows
from deepassay.evidence.checks import f12_independence
from deepassay.evidence.dossier import render_dossier
from deepassay.evidence.language import LANGUAGES, Words
from deepassay.evidence.log import Labelling, parse_log
from deepassay.marks.explicit import Annotation, judge
from deepassay.marks.gb45438 import validate_mark
from deepassay.marks.lab import LABEL, SOURCES
from deepassay.marks.mark import GB45438, Carrier
from deepassay.marks.survival import PIPELINES
from score_worlds import make_tool


def picture(path, *labels):
    info = PngImagePlugin.PngInfo()
    for text in labels:
        info.add_text("AIGC", text)
    Image.new("RGB", (24, 16)).save(path, pnginfo=info)
    return path


def label(number, **changes):
    fields = {**json.loads(LABEL), "ProduceID": f"P-{number:04d}", **changes}
    return json.dumps({key: value for key, value in fields.items() if value is not None})


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Thirty outputs of ten sources: most labelled well, some not, one twice, one with an id of another."""
    folder = tmp_path_factory.mktemp("outputs")
    texts = {i: [label(i)] for i in range(30)}
    texts[3] = []
    texts[7] = [label(7), label(7)]
    texts[9] = [label(9, ReservedCode1=None)]
    texts[11] = [label(12)]
    texts[13] = [label(13, ContentProducer="Acme Faces")]
    out = [Output(f"{i}.png", picture(folder / f"{i}.png", *texts[i]), f"source{i % 10}") for i in range(30)]
    (folder / "junk.png").write_bytes(b"not a picture")
    return [*out, Output("junk.png", folder / "junk.png", "source0")]


@pytest.fixture(scope="module")
def judgements():
    rows = [
        Annotation(file=f"{i}.png", media="image", present=i != 4, text="AI生成" if i else "AI", places=("corner",),
                   height_px=4.0 if i != 2 else 0.9, shortest_side_px=16.0)
        for i in range(8)
    ]  # fmt: skip
    return [judge(row) for row in rows]


@pytest.fixture(scope="module")
def annex(outputs, judgements, tmp_path_factory):
    clean = tmp_path_factory.mktemp("real")
    real = [Output(f"r{i}", picture(clean / f"{i}.png"), f"r{i}") for i in range(3)]
    return labelling_annex(outputs, judgements=judgements, real=real, survival_files=4)


def counts(numbers):
    return {(n.metric, *sorted(v for k, v in n.slice.items() if k != "reader")): n.count for n in numbers}


def test_every_output_is_counted(annex):
    found = counts(annex.implicit)
    assert found["implicit_found",] == (29, 31)
    assert found["implicit_one",] == (28, 31)
    assert found["implicit_schema",] == (28, 29)
    assert found["implicit_place",] == (29, 29)
    assert found["implicit_provider_code",] == (28, 29)
    assert found["implicit_provider_name",] == (1, 29)
    assert found["implicit_unique",] == (27, 29)
    assert found["implicit_broken", "missing_field"] == (1, 29)
    assert found["implicit_disputed", "empty_propagator"] == (29, 29)
    assert found["mark_false_hit",] == (0, 3)
    assert next(n for n in annex.implicit if n.metric == "implicit_found").n_nonresponse == 1


def test_intervals_are_by_source_and_few_sources_are_under_powered(annex):
    number = next(n for n in annex.implicit if n.metric == "implicit_found")
    assert number.ci is not None
    assert (number.ci["cluster_unit"], number.ci["n_clusters"]) == ("source of the output", 10)
    assert number.status == "under_powered"
    assert number.ci["lo"] < 29 / 31 < number.ci["hi"]


def test_one_source_has_no_interval_and_says_why(outputs):
    alone = [Output(one.name, one.path, "same") for one in outputs[:5]]
    number = labelling_annex(alone, survival=False).implicit[0]
    assert number.ci is None
    assert "one source" in number.no_ci_reason


def test_explicit_labels_count_what_was_annotated(annex):
    found = counts(annex.explicit)
    assert found["explicit_annotated",] == (8, 31)
    assert found["explicit_present",] == (7, 8)
    assert found["explicit_elements",] == (6, 7)
    assert found["explicit_height",] == (6, 6)  # a disputed outcome counts neither way
    assert found["explicit_disputed", "height"] == (1, 7)
    least = next(n for n in annex.explicit if n.metric == "explicit_height_least")
    assert least.value == pytest.approx(0.9 / 16)
    assert least.no_ci_reason


def test_an_annotation_of_an_unknown_file_is_refused(outputs):
    stray = judge(Annotation(file="other.png", media="image", present=True))
    with pytest.raises(ConfigError, match=r"other\.png"):
        labelling_annex(outputs[:2], judgements=[stray], survival=False)
    with pytest.raises(ScoreError, match="no output"):
        labelling_annex([])


def test_survival_takes_a_draw_of_files_with_one_label(annex, outputs):
    files = {one.file for one in annex.outcomes}
    assert len(files) == 4
    assert not files & {"3.png", "7.png", "junk.png"}
    again = labelling_annex(outputs, survival_files=4)
    assert {one.file for one in again.outcomes} == files
    other = labelling_annex(outputs, survival_files=4, seed=1)
    assert {one.file for one in other.outcomes} != files
    assert counts(annex.survival)["label_survival", "PNG", "save_again"] == (0, 4)


def test_survival_of_sound_is_given_per_pipeline(tmp_path):
    SOURCES["w.mp3"][1](tmp_path / "a.mp3")
    found = labelling_annex([Output("a.mp3", tmp_path / "a.mp3", "a")])
    kept = {n.slice["pipeline"]: n.count for n in found.survival if n.metric == "label_survival"}
    assert kept == {"mp3": (1, 1), "wav": (0, 1), "flac": (1, 1), "opus": (1, 1), "m4a": (0, 1)}


def test_the_record_is_valid_in_the_log_and_on_both_pages(annex, make_log):
    Labelling.model_validate(annex.record())
    log = make_log(labelling=clean(annex.record()))
    assert [row.status for row in log.legal_map if row.provision == "Art. 12"] == ["measured"]
    assert "faults" in next(check for check in log.checks if check.id == "F12").statistic["mark_evidence"]
    for language in LANGUAGES:
        words = Words(language)
        page = render_dossier(log, language)
        text = html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))
        assert words("I.text") not in page
        for key in ("mark.implicit_caption", "mark.explicit_caption", "mark.survival_caption", "mark.disputed"):
            assert words(key) in text
        for row in ("29 / 31", "28 / 29", "6 / 6", "0 / 4"):
            assert row in text
        assert words("mark.dispute.empty_propagator") in text
        assert words("limit.labels") not in text


def test_what_was_not_measured_is_said(outputs, log, tmp_path):
    def page(annex):
        return render_dossier(parse_log({**log.to_json(), "labelling": annex.record()}))

    words = Words("en")
    plain = [Output("a", picture(tmp_path / "a.png"), "a"), Output("b", picture(tmp_path / "b.png"), "b")]
    bare = page(labelling_annex(plain))
    assert words("mark.no_explicit") in bare
    assert words("mark.nothing_survives") in bare
    assert words("mark.no_survival") in page(labelling_annex(outputs[:5], survival=False))


def test_every_pipeline_rule_and_disputed_point_has_words():
    words = Words("en")
    assert [name for name in PIPELINES if f"mark.pipe.{name}" not in words] == []
    odd = [
        "{}", "x", '{"Label":1,"Label":1}', '{"AIGC":{"Label":"9","ContentProducer":"","ProduceID":"a b","Z":""}}',
        label(1, ContentProducer="0" * 28),
    ]  # fmt: skip
    from deepassay.marks.gb45438 import parse

    for text in odd:
        for place, standard in (("PNG tEXt", True), ("WAV LIST/INFO", False)):
            for finding in validate_mark(parse(Carrier(GB45438, place, "AIGC", text.encode(), "", standard), "PNG")):
                if finding.outcome == "fail":
                    assert f"mark.rule.{finding.rule}" in words, finding.rule
                elif finding.outcome == "disputed":
                    assert f"mark.dispute.{finding.rule}" in words, finding.rule


# What rests on the annex: check F12 and the legal map -----------------------------------------------------------


def clean(record):
    """The record with both parsers in full agreement and no false hit."""
    out = copy.deepcopy(record)
    for number in (*out["implicit"], *out["survival"]):
        count = number["support"].get("count")
        if number["metric"] in ("implicit_read_back", "survival_read_back"):
            count["k"] = count["n"]
        if number["metric"] == "mark_false_hit":
            count["k"] = 0
    return out


def f12(labelling):
    return f12_independence(
        SimpleNamespace(tool=make_tool(), generators_seen=["other"], manifest=None, labelling=labelling)  # pyright: ignore[reportArgumentType]
    )


def test_label_evidence_that_holds_leaves_f12_alone(annex):
    check = f12(clean(annex.record()))
    assert check.outcome == "pass"
    assert check.statistic["mark_evidence"]["faults"] == []
    assert check.statistic["mark_evidence"]["mutations_missed"] == []
    assert "no statement" in f12(None).statistic["mark_evidence"]


@pytest.mark.parametrize("metric", ["implicit_read_back", "survival_read_back", "mark_false_hit"])
def test_label_evidence_that_fails_makes_f12_fail(metric, annex):
    record = clean(annex.record())
    number = next(n for n in (*record["implicit"], *record["survival"]) if n["metric"] == metric)
    number["support"]["count"]["k"] += 1 if metric == "mark_false_hit" else -1
    check = f12(record)
    assert (check.outcome, check.blocks) == ("fail", True)
    assert check.statistic["mark_evidence"]["faults"] == [metric]
    assert metric in Words("en")(check.code, **check.values)
    assert metric in Words("zh")(check.code, **check.values)


def test_a_validator_that_misses_damage_makes_f12_fail(annex, monkeypatch):
    assert missed_mutations() == []
    monkeypatch.setattr(annex_module, "validate_marks", lambda marks: [])
    assert len(missed_mutations()) == 5
    assert f12(clean(annex.record())).outcome == "fail"


def test_provisions_on_labels_are_measured_only_where_labels_were(annex):
    def status(record, start):
        rows = legal_rows(["C1"], record)
        return [row["status"] for row in rows if row["provision"].startswith(start) and "I" in row["evidence_ids"]]

    full = annex.record()
    for provision in ("Art. 16", "Art. 17", "Art. 4, 5", "Art. 12", "whole standard"):
        assert status(None, provision) == ["out_of_scope"]
        assert status(full, provision) == ["measured"]
    assert status({**full, "explicit": []}, "Art. 17") == ["out_of_scope"]
    for row in legal_rows(["C1"], full):
        assert row["note"]
        assert row["note_zh"]
