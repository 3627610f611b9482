"""The dossier: self-contained, escaped, in two languages, marked where synthetic, and a function of its log."""

import copy
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deepassay.errors import ConfigError
from deepassay.evidence.dossier import LETTERS, render_dossier, write_dossier
from deepassay.evidence.language import LANGUAGES, Words, legal_texts
from deepassay.evidence.log import parse_log, read_log
from score_worlds import made_conditions, made_world, make_protocol, make_tool

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "line", "rect", "circle", "use"}


class Balance(HTMLParser):
    """Tags that are opened and closed in order, and the text between them."""

    def __init__(self):
        super().__init__()
        self.stack, self.faults, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.stack or self.stack.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "title", "desc"):
            self.text.append(data)


def read(page):
    parser = Balance()
    parser.feed(page)
    assert not parser.faults
    assert not parser.stack
    return " ".join(" ".join(parser.text).split())


@pytest.fixture(scope="module")
def pages(log):
    return {language: render_dossier(log, language) for language in LANGUAGES}


@pytest.fixture(scope="module")
def real_log(make_log):
    return make_log(world=made_world(synthetic=False))


def test_pages_are_well_formed_and_have_every_section(pages):
    for page in pages.values():
        read(page)
        for letter in LETTERS:
            assert f'id="{letter}"' in page


def test_nothing_is_fetched_and_nothing_runs(pages):
    for page in pages.values():
        assert "<script" not in page
        assert "default-src 'none'" in page
        assert not re.search(r'(?:src|href)="(?!#)', page)
        assert "@import" not in page
        assert not re.search(r"url\((?!#)", page)
        for address in re.findall(r"https?://[^\"'<> ]+", page):
            assert address.startswith("http://www.w3.org/")


def test_no_page_says_compliant(pages):
    for page in pages.values():
        assert "complian" not in page.lower()
        assert "合规" not in page


def test_every_verdict_interval_and_count_is_on_the_page(log, pages):
    text = read(pages["en"])
    for claim in log.claims:
        number = {n.id: n for n in log.results}[claim.number_ids[0]]
        assert claim.text in text
        assert Words("en")(f"verdict.{claim.verdict}") in text
        if number.support.count is not None:
            assert f"{number.support.count.k} / {number.support.count.n}" in text
    for check in log.checks:
        assert check.reason in text
    for subject in log.integrity.subjects:
        assert subject.digest.sha256 in text


def test_synthetic_is_marked_on_every_printed_page_and_in_the_data(log, pages, real_log):
    assert log.synthetic
    page = pages["en"]
    assert page.count("SYNTHETIC DATA") >= 5
    assert 'class="watermark"' in page
    assert re.search(r'@top-center \{ content: "SYNTHETIC DATA', page)
    assert "虚拟数据" in pages["zh"]
    real = render_dossier(real_log)
    assert "SYNTHETIC" not in real
    assert 'class="watermark"' not in real
    assert re.search(r'@top-center \{ content: "";', real)


def test_removing_the_mark_from_the_data_removes_it_from_the_page(log):
    """The canary of the mark: it comes from the log, and from nothing else."""
    document = copy.deepcopy(log.to_json())
    document["synthetic"] = False
    assert 'class="watermark"' not in render_dossier(parse_log(document))


def test_rooms_that_were_not_measured_say_so(pages):
    text = read(pages["en"])
    for key in ("H.robust", "I.text", "J.text"):
        assert Words("en")(key) in text
        assert Words("zh")(key) in read(pages["zh"])


def test_the_conclusion_is_an_empty_slot_or_the_assessors_words(log, pages, make_log):
    assert Words("en")("A.conclusion_empty") in read(pages["en"])
    own = {"text": "My own <words>.", "name": "A. Assessor", "date": "2026-11-24"}
    page = render_dossier(make_log(human_conclusion=own))
    assert "My own &lt;words&gt;." in page
    assert Words("en")("A.conclusion_empty") not in page


NASTY = '<script>alert("x")</script>'


def test_names_from_outside_are_escaped_everywhere(make_log):
    name = f"{NASTY}$a$_"
    world = made_world(means={"example_swap": 4.0, name: 3.0})
    tool = make_tool(name=NASTY, provider=NASTY, settings={NASTY: NASTY}, version='1"} body{display:none} @import "x')
    log = make_log(world=world, tool=tool)
    for language in LANGUAGES:
        page = render_dossier(log, language)
        read(page)
        assert "<script" not in page
        style = page[page.index("<style>") : page.index("</style>")]
        assert "@import" not in re.sub(r'content: "[^"]*"', "", style)
        assert style.count("{") == style.count("}")
        assert "&lt;script&gt;" in page


def test_languages_have_the_same_keys_and_the_same_places_to_fill():
    words = {language: Words(language) for language in LANGUAGES}
    assert words["en"].keys() == words["zh"].keys()
    for key in sorted(words["en"].keys()):
        places = {language: set(re.findall(r"\{(\w+)\}", words[language]._words[key])) for language in LANGUAGES}
        assert places["en"] == places["zh"], key
        assert isinstance(words["zh"]._words[key], str)
    for instrument in legal_texts():
        for row in instrument["provisions"]:
            assert set(row["note"]) == set(row["provision"]) == {"en", "zh"}


def test_a_missing_string_is_an_error_not_a_blank():
    with pytest.raises(KeyError):
        Words("en")("no.such.key")
    with pytest.raises(ConfigError, match="fr"):
        Words("fr")


def test_the_chinese_page_is_chinese(pages):
    text = read(pages["zh"])
    for term in (
        "互联网信息服务深度合成管理规定",
        "第十五条第二款",
        "单独同意",
        "隐式标识",
        "漏检率 APCER",
        "置信区间",
        "技术证据报告",
    ):
        assert term in text
    english = re.findall(r"(?:[A-Za-z]{3,} ){5,}", text)
    assert not english, f"sentences that nobody translated: {english[:3]}"


def test_rendering_is_a_pure_function_of_the_log(log, pages):
    again = parse_log(json.loads(json.dumps(log.to_json())))
    assert render_dossier(again, "en") == pages["en"]


def test_the_reference_example_renders(shared):
    log = read_log(shared / "reference" / "dossier.example.json")
    for language in LANGUAGES:
        read(render_dossier(log, language))


def test_files_are_written_together_and_the_page_names_its_twin(log, tmp_path):
    paths = write_dossier(log, tmp_path)
    assert {p.name for p in paths.values()} == {"face.json", "face.en.html", "face.zh.html"}
    digest = hashlib.sha256(paths["json"].read_bytes()).hexdigest()
    assert digest in paths["en"].read_text(encoding="utf-8")
    assert digest in paths["zh"].read_text(encoding="utf-8")
    assert read_log(paths["json"]).to_json() == log.to_json()
    assert not list(Path(tmp_path).glob(".*"))


def test_few_people_are_not_counted_out(make_log):
    log = make_log()
    document = copy.deepcopy(log.to_json())
    document["tool_under_assessment"]["sampling"]["strata"][1]["n_clusters"] = 3
    assert "fewer than 5" in read(render_dossier(parse_log(document)))


@pytest.fixture(scope="module")
def full_log(make_log, world):
    conditions, scores = made_conditions(world)
    family = [
        {"id": "K1", "metric": "apcer", "operating_point": "bpcer_5", "first": "tool", "second": "tool@jpeg@30"},
        {"id": "K2", "metric": "auc", "first": "tool", "second": "generator:local_warp"},
    ]
    plan = make_protocol(ladders={"face": ["jpeg", "noise"]}, replicates=60, comparisons=family)
    return make_log(conditions=conditions, condition_scores=scores, protocol=plan)


def test_conditions_pairs_controls_comparisons_and_power_are_on_the_page(full_log):
    text = read(render_dossier(full_log, "en"))
    words = Words("en")
    for key in ("C.power", "G.pairs", "G.controls", "G.comparisons", "H.halves", "K.gaps", "G.figure_ece"):
        assert words(key) in text
    for key in ("H.robust", "G.no_controls", "G.no_pairs"):
        assert words(key) not in text
    assert "the tool, JPEG quality 30" in text
    number = next(
        n for n in full_log.results
        if n.slice.get("condition") == "jpeg@30" and n.metric == "apcer" and n.operating_point == "bpcer_5"
    )  # fmt: skip
    assert f"{number.support.count.k} / {number.support.count.n}" in text
    chinese = read(render_dossier(full_log, "zh"))
    for term in ("统计效力", "对照", "漏检率", "JPEG 压缩", "统一转码", "配对"):
        assert term in chinese
    assert not re.findall(r"(?:[A-Za-z]{3,} ){5,}", chinese)


def test_every_ladder_and_unit_has_a_name_in_both_languages():
    from deepassay.media.channels import SOUND_LADDERS
    from deepassay.media.processing import PICTURE_LADDERS

    for language in LANGUAGES:
        words = Words(language)
        for biometric, ladders in (("face", PICTURE_LADDERS), ("voice", SOUND_LADDERS)):
            for name, ladder in ladders.items():
                assert f"ladder.{biometric}.{name}" in words
                assert f"unit.{ladder.unit}" in words


def test_the_phrases_of_the_audit_are_known_in_both_languages():
    """Its own words, so that a change there is seen here."""
    from deepassay.audit import DETAIL_COSINE, HAMMING, MEL_COSINE
    from deepassay.audit.duplicates import STRETCHED_COSINE

    voice = f"aligned log-mel cosine >= {MEL_COSINE}, or >= {STRETCHED_COSINE} at another tempo"
    picture = f"perceptual hash distance <= {HAMMING} confirmed by detail cosine >= {DETAIL_COSINE}"
    for text in (voice, picture):
        whole = f"{text}; clustered transitively; 480 files"
        assert Words("en").method(whole) == whole
        assert "480 个文件" in Words("zh").method(whole)
    assert Words("zh").method("made up") == "made up"


def test_groups_of_few_persons_are_not_printed(make_log):
    log = make_log(world=made_world(people=(10, 60, 8)))
    text = read(render_dossier(log, "en"))
    assert Words("en")("small_cell") in text
