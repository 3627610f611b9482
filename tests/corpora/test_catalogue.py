"""The ledger and the doors agree, and data/README.md says what they say."""

import re
from pathlib import Path

import pytest
import yaml

from deepassay.corpora import catalogue
from deepassay.corpora.doors import DOORS, collect
from deepassay.corpora.inventory import PublicCorpus
from deepassay.corpora.record import CorpusRecord, permits
from deepassay.corpora.records import ARCHIVES, CORPORA, PARENTS, ancestors, corpus_record
from deepassay.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "data" / "README.md"
FIRST_DOZEN = (
    "faceforensics", "celebdf_v2", "dfdc", "df40", "deeperforensics", "fakeavceleb", "asvspoof2019_la",
    "asvspoof2021_la", "asvspoof2021_df", "asvspoof5", "in_the_wild", "wavefake", "librispeech",
)  # fmt: skip


def test_every_door_is_in_the_ledger_and_the_other_way_round():
    assert set(DOORS) == set(CORPORA)
    assert len(DOORS) >= 30
    assert set(FIRST_DOZEN) <= set(DOORS)


@pytest.mark.parametrize("name", DOORS)
def test_every_corpus_says_what_one_must_know(name):
    record, door = corpus_record(name), DOORS[name]
    assert door.status in ("verified", "unverified")
    assert door.modality in ("face", "voice")
    assert door.documented_at, "where the layout is documented"
    assert door.licence, "what the licence or the terms are called"
    assert record.obtain.endswith((".", ")"))
    assert record.citation
    assert record.consent, "what is known of the people's consent"
    assert catalogue.tree_of(record, door), "what lies below the root"
    assert all(n > 0 for n in door.published_counts.values())
    config = yaml.safe_load((ROOT / "configs" / "corpus" / f"{name}.yaml").read_text())
    assert config["_target_"] == f"{door.__module__}.{door.__name__}"
    assert config["root"] == "???"


def test_the_page_is_in_step_with_the_ledger():
    text = PAGE.read_text(encoding="utf-8")
    assert catalogue.replaced(text) == text, "run python scripts/write_data_readme.py"


def test_canary_a_page_out_of_step_is_noticed():
    text = PAGE.read_text(encoding="utf-8")
    stale = text.replace("71,237", "71,238").replace("FaceForensics terms of use", "MIT")
    assert stale != text
    assert catalogue.replaced(stale) == text
    with pytest.raises(ValueError, match="no part"):
        catalogue.replaced("a page of something else")


def test_links_of_the_page_lead_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    headings = [h.strip() for h in re.findall(r"^#+ (.*)$", text.replace("`", ""), re.MULTILINE)]
    anchors = catalogue._anchors(headings)
    assert len(set(anchors)) == len(headings), "every heading has its own"
    for target in re.findall(r"\]\(#([^)]*)\)", text):
        assert target in anchors, target


def test_two_headings_that_differ_in_signs_only_are_told_apart():
    assert catalogue._anchors(["AV-Deepfake1M", "Splits", "AV-Deepfake1M++"]) == [
        "av-deepfake1m", "splits", "av-deepfake1m-1"
    ]  # fmt: skip
    assert "[AV-Deepfake1M++](#av-deepfake1m-1)" in PAGE.read_text(encoding="utf-8")


def test_every_parent_is_known_by_its_name():
    for record in CORPORA.values():
        for parent in record.parents:
            assert parent in CORPORA or parent in PARENTS or parent in ARCHIVES or "_" in parent, parent


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("PartialSpoof", {"partialspoof", "asvspoof2019_la", "vctk"}),
        ("ASVspoof 2021 LA", {"asvspoof2021_la", "asvspoof2019_la", "vctk"}),
        ("Celeb-DF++", {"celebdf_v3", "celebdf_v2", "celebdf_celebrities", "youtube"}),
        ("LibriTTS", {"libritts", "librispeech", "librivox"}),
        ("CodecFake (Wu et al.)", {"codecfake_wu", "vctk"}),
        ("somebody's own", set()),
    ],
)
def test_ancestors_by_any_spelling(name, stems):
    assert ancestors(name) == stems


def test_downloads_are_pinned_and_open():
    found = [d for record in CORPORA.values() for d in record.downloads]
    assert found
    for download in found:
        assert download.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{64}", download.sha256) or re.fullmatch("[0-9a-f]{32}", download.md5)
        assert "/" not in download.name
        assert download.source


def test_a_name_that_is_not_there_lists_those_that_are():
    with pytest.raises(ConfigError, match="librispeech"):
        corpus_record("librespeech")


def test_answers_outside_the_four_words_are_refused():
    with pytest.raises(ConfigError, match="permits"):
        CorpusRecord(
            name="x", title="X", content="x", obtain="x", citation="x", permits=permits("yes", "maybe", "no")
        )  # fmt: skip


def test_two_doors_of_one_name_are_a_mistake(monkeypatch):
    class Twin(PublicCorpus):
        name = "lfw"

        def samples(self, inventory):
            return []

    monkeypatch.setattr("deepassay.corpora.doors._found", lambda: iter([DOORS["lfw"], Twin]))
    with pytest.raises(ValueError, match="both define corpus 'lfw'"):
        collect()
