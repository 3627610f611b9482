"""Splits keep people, sources and copies apart, drop and count what ties them, and are a function of content alone."""

import contextlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deepassay.corpora.table import TableCorpus
from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.splits import (
    LEFT_OUT,
    TIED,
    FoldSplit,
    GroupHoldout,
    LeaveGeneratorsOut,
    OfficialSplit,
    SubjectSplit,
    assert_disjoint,
)

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def real(number: Any, *subjects: str, **values) -> Sample:
    facts: dict[str, Any] = {"media": "image", "modality": "face", "label": REAL, "subjects": subjects}
    return Sample(sample_id=f"r{number}", path=f"r{number}.png", **{**facts, **values})


def fake(number: Any, *subjects: str, generator: str = "G", **values) -> Sample:
    facts: dict[str, Any] = {"media": "image", "modality": "face", "label": FAKE, "subjects": subjects}
    return Sample(sample_id=f"f{number}", path=f"f{number}.png", generator=generator, **{**facts, **values})


def manifest(samples) -> Manifest:
    return Manifest.from_samples(samples, "r", {"name": "toy"})


def people(n: int = 60) -> list[Sample]:
    """Each person: two real pictures and one fake by one of two generators."""
    out = []
    for k in range(n):
        out += [real(f"{k}a", f"p{k}"), real(f"{k}b", f"p{k}"), fake(k, f"p{k}", generator=f"G{k % 2}")]
    return out


def placed(m: Manifest) -> dict[str, str]:
    return {s.sample_id: s.split for s in m}


def test_shares_are_kept_in_samples_labels_and_generators():
    out = SubjectSplit().apply(manifest(people()))
    assert_disjoint(out)
    assert out.info["split"]["counts"] == {
        "train": {"real": 72, "fake": 36, "unlabelled": 0},
        "dev": {"real": 24, "fake": 12, "unlabelled": 0},
        "test": {"real": 24, "fake": 12, "unlabelled": 0},
    }
    assert out.info["split"]["clusters"] == {"train": 36, "dev": 12, "test": 12}
    assert out.info["split"]["generators"]["G0"] == {"dev": 6, "test": 6, "train": 18}
    assert out.info["split"]["n_dropped"] == 0


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    rows = people()
    one = placed(SubjectSplit(seed=3).apply(manifest(rows)))
    random.Random(1).shuffle(rows)
    assert placed(SubjectSplit(seed=3).apply(manifest(rows))) == one
    assert placed(SubjectSplit(seed=4).apply(manifest(rows))) != one


def ring(n: int) -> list[Sample]:
    return [real(k, f"p{k}") for k in range(n)] + [fake(k, f"p{k}", f"p{(k + 1) % n}") for k in range(n)]


def test_swaps_in_a_ring_do_not_make_one_component():
    out = SubjectSplit().apply(manifest(ring(200)))
    assert_disjoint(out)
    facts = out.info["split"]
    assert facts["n_dropped"] == facts["dropped"][TIED]["G"] <= 20, "only the swaps across a cut are lost"
    for split, share in (("train", 0.6), ("dev", 0.2), ("test", 0.2)):
        assert abs(facts["counts"][split]["real"] / 200 - share) <= 0.06
        assert facts["counts"][split]["fake"] >= 0.7 * share * 200


def test_swaps_among_everybody_lose_only_fakes_and_count_them():
    n = 24
    pairs = [(a, b) for a in range(n) for b in range(n) if a != b]
    rows = [real(k, f"p{k}") for k in range(n)] + [fake(f"{a}-{b}", f"p{a}", f"p{b}") for a, b in pairs]
    out = SubjectSplit().apply(manifest(rows))
    assert_disjoint(out)
    cells = out.info["split"]["counts"].values()
    assert sum(c["real"] for c in cells) == n
    assert sum(c["fake"] for c in cells) + out.info["split"]["n_dropped"] == len(pairs)
    assert out.info["dropped"] == {f"split: {TIED}": out.info["split"]["n_dropped"]}


def test_pairs_of_people_stay_whole_so_no_swap_is_lost():
    rows = [real(k, f"p{k}") for k in range(80)]
    rows += [fake(k, f"p{k}", f"p{k ^ 1}") for k in range(80)]
    assert SubjectSplit().apply(manifest(rows)).info["split"]["n_dropped"] == 0


def test_a_source_seen_in_fakes_only_follows_its_person():
    rows = [real(k, f"p{k}") for k in range(20)]
    rows += [fake(f"{k}-{j}", f"p{k}", source_id=f"sentence {k}-{j % 3}") for k in range(20) for j in range(40)]
    out = SubjectSplit(largest_tie=0.01).apply(manifest(rows))
    assert out.info["split"]["n_dropped"] == 0
    assert_disjoint(out)


def test_a_sentence_that_two_fake_speakers_share_stays_on_one_side():
    rows = [real(k, f"p{k}") for k in range(12)]
    rows += [fake(f"{k}-{j}", f"p{k}", source_id=f"sentence {j}") for k in range(12) for j in range(4)]
    out = SubjectSplit(largest_tie=0.05).apply(manifest(rows))
    assert_disjoint(out)
    assert out.info["split"]["n_dropped"] > 0


def test_copies_of_a_file_and_shared_real_sources_stay_together():
    rows = [
        *people(30),
        real("x", "q1", sha256="ab"),
        real("y", "q2", sha256="ab", source_id="s"),
        real("z", source_id="s"),
    ]
    where = placed(SubjectSplit().apply(manifest(rows)))
    assert where["rx"] == where["ry"] == where["rz"]


def test_blank_subjects_are_their_own_sources():
    rows = [real(k) for k in range(50)] + [fake(k) for k in range(50)]
    out = SubjectSplit().apply(manifest(rows))
    assert out.info["split"]["clusters"] == {"train": 60, "dev": 20, "test": 20}


def test_left_out_generators_occur_in_their_split_only():
    out = SubjectSplit(leave_out={"test": ["G1"]}, claim_subjects=True).apply(manifest(people()))
    assert out.info["split"]["generators"]["G1"] == {"test": 30}
    assert out.info["split"]["n_dropped"] == 0
    loose = SubjectSplit(leave_out={"test": ["G1"]}).apply(manifest(people()))
    facts = loose.info["split"]
    assert set(facts["generators"]["G1"]) == {"test"}
    assert facts["dropped"][LEFT_OUT]["G1"] == 30 - facts["generators"]["G1"]["test"]
    assert facts["counts"]["train"]["real"] >= 60, "real samples of those people stay in training"


def test_a_family_can_be_left_out_and_invented_people_follow_their_generator():
    rows = people() + [fake(f"n{k}", f"invented{k}", generator=f"N{k}", generator_family="GAN") for k in range(10)]
    out = SubjectSplit(leave_out={"dev": ["GAN"]}).apply(manifest(rows))
    assert {s.split for s in out if s.generator_family == "GAN"} == {"dev"}
    assert out.info["split"]["n_dropped"] == 0


def test_two_splits_that_claim_one_person():
    rows = [*people(), fake("t", "p0", generator="T"), fake("d", "p0", generator="D")]
    out = SubjectSplit(leave_out={"dev": ["D"], "test": ["T"]}, claim_subjects=True, fractions=None)
    with pytest.raises(ManifestError, match="left-out generator 'nobody'"):
        SubjectSplit(leave_out={"test": ["nobody"]}).apply(manifest(people()))
    done = out.apply(manifest(rows))
    assert done.info["split"]["dropped"][LEFT_OUT] == {"D": 1}, "test claims before dev"


def test_assigned_subjects_and_attributes_go_where_they_are_told():
    rows = [replace(s, attributes={"repository": "web" if i < 30 else "lab"}) for i, s in enumerate(people())]
    out = SubjectSplit(assign={"train": ["repository=web"], "test": ["p50"]}).apply(manifest(rows))
    assert {s.split for s in out if s.attributes["repository"] == "web"} == {"train"}
    assert {s.split for s in out if s.subjects == ("p50",)} == {"test"}
    with pytest.raises(ManifestError, match="'p999'"):
        SubjectSplit(assign={"test": ["p999"]}).apply(manifest(rows))


def test_strata_are_spread():
    rows = [replace(s, attributes={"place": f"x{int(s.subjects[0][1:]) % 3}"}) for s in people(90)]
    out = SubjectSplit(stratify=["place"]).apply(manifest(rows))
    seen = Counter((s.split, s.attributes["place"]) for s in out if s.label == REAL)
    for place in ("x0", "x1", "x2"):
        assert abs(seen["test", place] - 12) <= 2


def test_groups_can_be_kept_whole_as_well():
    rows = [replace(s, attributes={"device": f"d{int(s.subjects[0][1:]) % 12}"}) for s in people()]
    out = SubjectSplit(by="device").apply(manifest(rows))
    homes = {}
    for s in out:
        assert homes.setdefault(s.attributes["device"], s.split) == s.split
    assert set(homes.values()) == {"train", "dev", "test"}


def test_every_split_gets_both_labels_where_that_is_possible():
    rows = [real(k, f"p{k}") for k in range(40)] + [fake(k, f"q{k % 3}") for k in range(30)]
    counts = SubjectSplit().apply(manifest(rows)).info["split"]["counts"]
    assert all(cell["real"] and cell["fake"] for cell in counts.values())


def test_a_split_without_a_class_is_an_error_that_says_what_to_do():
    rows = [real(k, f"p{k}") for k in range(40)] + [fake(k, "q") for k in range(30)]
    with pytest.raises(ManifestError, match=r"0 fake samples.*\nhint: give the split"):
        SubjectSplit().apply(manifest(rows))


@pytest.mark.parametrize(
    "options",
    [
        {"fractions": {"train": 0.5, "dev": 0.2}},
        {"fractions": {"train": 1.0, "dev": 0.0}},
        {"fractions": {"train": 0.5, "validation": 0.5}},
        {"leave_out": {"validation": ["G"]}},
        {"leave_out": {"test": "G"}},
        {"leave_out": {"test": ["G"], "dev": ["G"]}},
        {"fractions": {"train": 0.5, "dev": 0.5}, "leave_out": {"test": ["G"]}},
        {"largest_tie": 0},
    ],
)
def test_contradictory_options_are_refused(options):
    with pytest.raises(ConfigError, match="hint: "):
        SubjectSplit(**options)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_the_ties_nothing_leaks_and_nothing_is_lost_silently(data):
    n = data.draw(st.integers(12, 30))
    rows = [real(k, f"p{k % (n - 4)}", source_id=f"s{k}" if k % 3 else "") for k in range(n)]
    for k in range(data.draw(st.integers(12, 60))):
        who = data.draw(st.lists(st.integers(0, n), min_size=0, max_size=2, unique=True))
        source = data.draw(st.sampled_from(["", f"s{k % n}", f"t{k % 5}"]))
        rows.append(fake(k, *(f"p{w}" for w in who), generator=f"G{k % 3}", source_id=source))
    before = manifest(rows)
    out = None
    with contextlib.suppress(ManifestError):  # so tangled that a split would stay without a class
        out = SubjectSplit(leave_out={"test": ["G2"]}, claim_subjects=data.draw(st.booleans())).apply(before)
    assume(out is not None)
    assert out is not None
    assert_disjoint(out)
    assert len(out) + out.info["split"]["n_dropped"] == len(before)
    assert sum(s.label == REAL for s in out) == n
    assert {s.split for s in out if s.generator == "G2"} <= {"test"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subjects": ("p0",)}, "subject 'p0'"),
        ({"source_id": "tape"}, "source 'tape'"),
        ({"sha256": "ab"}, "sha256 'ab'"),
    ],
)
def test_canary_the_guard_fires_on_every_kind_of_leak(change, said):
    clean = [real(0, "p0", source_id="tape", sha256="ab", split="train"), real(1, "p1", split="test")]
    assert_disjoint(manifest(clean))
    with pytest.raises(LeakError) as caught:
        assert_disjoint(manifest([clean[0], replace(clean[1], **change)]))
    assert said in str(caught.value)
    assert "'train'" in str(caught.value)
    assert "'test'" in str(caught.value)


def test_canary_a_left_out_generator_moved_into_training_is_noticed():
    out = SubjectSplit(leave_out={"test": ["G1"]}, claim_subjects=True).apply(manifest(people()))
    rows = [replace(s, split="train") if s.subjects == ("p1",) else s for s in out]
    with pytest.raises(LeakError, match="'G1' is left out for 'test'"):
        assert_disjoint(out.replace_samples(rows))


def test_official_splits_are_kept_and_proved():
    rows = [replace(s, split=("train", "dev", "test")[int(s.subjects[0][1:]) % 3]) for s in people()]
    out = OfficialSplit().apply(manifest(rows))
    assert placed(out) == placed(manifest(rows))
    assert out.info["split"]["method"] == "official"
    bare = [replace(rows[0], split=""), *rows[1:]]
    with pytest.raises(ManifestError, match="1 of 180 samples have no official split"):
        OfficialSplit().apply(manifest(bare))
    assert OfficialSplit(unsplit="drop").apply(manifest(bare)).info["split"]["n_dropped"] == 1
    tied = [*rows, fake("x", "p0", "p1", split="train")]
    with pytest.raises(LeakError, match="'p1'"):
        OfficialSplit().apply(manifest(tied))
    assert OfficialSplit(ties="drop_fakes").apply(manifest(tied)).info["split"]["dropped"] == {TIED: {"G": 1}}
    with pytest.raises(ConfigError):
        OfficialSplit(ties="ignore")


def test_whole_groups_are_held_out():
    rows = [replace(s, attributes={"repository": f"x{int(s.subjects[0][1:]) % 4}"}) for s in people()]
    rows.append(real("again", "p3", attributes={"repository": "x0"}))
    out = GroupHoldout(test=["x3"]).apply(manifest(rows))
    assert_disjoint(out)
    assert {s.attributes["repository"] for s in out if s.split == "test"} == {"x3"}
    assert out.info["split"]["dropped"] == {"subject or source also occurs in a held-out group": {"real": 1}}
    assert out.info["split"]["counts"]["dev"]["fake"] == pytest.approx(9, abs=1)
    both = GroupHoldout(test=["x3"], dev=["x2"], leave_out={"test": ["G1"]}).apply(manifest(rows))
    assert {s.attributes["repository"] for s in both if s.split == "dev"} == {"x2"}
    assert set(both.info["split"]["generators"]["G1"]) == {"test"}
    with pytest.raises(ManifestError, match=r"'y'\n.*x0, x1, x2, x3"):
        GroupHoldout(test=["y"]).apply(manifest(rows))
    with pytest.raises(ConfigError, match="x0, x1, x2, x3"):
        GroupHoldout().apply(manifest(rows))


def options(path: str, **values):
    node = yaml.safe_load((CONFIGS / path).read_text())
    node.pop("_target_")
    return {**node, **values}


@pytest.mark.parametrize("kind", ["faces", "voices"])
def test_the_real_corpora_split_with_at_least_three_generators_out_of_training(shared, kind):
    corpus = TableCorpus(
        **options(
            f"corpus/real_{kind}.yaml", root=str(shared / "data" / kind), hash_files=False, probe=False, progress=False
        )
    )
    out = SubjectSplit(**options(f"split/real_{kind}.yaml")).apply(corpus.prepare())
    assert_disjoint(out)
    facts = out.info["split"]
    unseen = [g for g, where in facts["generators"].items() if set(where) == {"test"}]
    assert len(unseen) >= 3
    assert facts["n_dropped"] <= 10
    for split in ("dev", "test"):
        assert facts["counts"][split]["real"] >= 60, "fewer cannot support a 5 % operating point"
        assert facts["counts"][split]["fake"] >= 20
    assert facts["counts"]["train"]["fake"] >= 300


def crowd(n: int) -> list[Sample]:
    """Two real and one fake sample a person, and a swap of every person with the next but one."""
    out = []
    for k in range(n):
        out += [real(f"{k}a", f"p{k}", source_id=f"s{k}a"), real(f"{k}b", f"p{k}", source_id=f"s{k}b")]
        out += [fake(f"{k}c", f"p{k}", source_id=f"s{k}a"), fake(f"{k}d", f"p{k}", f"p{(k + 2) % n}", generator="H")]
    return out


@pytest.mark.parametrize("seed", [0, 1])
def test_hashed_units_stay_where_they_are_when_rows_are_added(seed):
    small, large = manifest(crowd(40)), manifest(crowd(40)[:-2] + [real(f"x{k}", f"q{k}") for k in range(300)])
    split = SubjectSplit(assignment="hash", seed=seed)
    before, after = placed(split.apply(small)), placed(split.apply(large))
    both = before.keys() & after.keys()
    assert len(both) > 100
    assert all(before[k] == after[k] for k in both)


def test_canary_dealt_units_do_move_when_rows_are_added():
    small, large = manifest(crowd(40)), manifest(crowd(40) + [real(f"x{k}", f"q{k}") for k in range(300)])
    before, after = placed(SubjectSplit().apply(small)), placed(SubjectSplit().apply(large))
    assert any(before[k] != after[k] for k in before.keys() & after.keys())


def test_hashed_swaps_are_kept_where_both_people_are_and_the_others_counted():
    rows = crowd(200)
    out = SubjectSplit(assignment="hash").apply(manifest(rows))
    assert_disjoint(out)
    where = {s.subjects[0]: s.split for s in out if s.label == REAL}
    kept = placed(out)
    agree = {s.sample_id for s in rows if len({where[p] for p in s.subjects}) == 1}
    assert set(kept) == agree
    assert sum(out.info["split"]["dropped"][TIED].values()) == len(rows) - len(agree)
    shares = {k: sum(v.values()) / len(out) for k, v in out.counts().items()}
    assert shares["train"] == pytest.approx(0.6, abs=0.15)


@pytest.mark.parametrize("assignment", ["balanced", "hash"])
def test_every_person_is_in_test_in_one_fold_and_in_dev_in_one(assignment):
    tests, devs = [], []
    for fold in range(4):
        out = FoldSplit(folds=4, fold=fold, assignment=assignment).apply(manifest(people(80)))
        assert_disjoint(out)
        tests += sorted({s.cluster for s in out.split("test")})
        devs.append({s.cluster for s in out.split("dev")})
    assert sorted(tests) == sorted({s.cluster for s in manifest(people(80))})
    assert not devs[0] & devs[1]


def test_a_fold_keeps_swaps_of_people_who_all_train():
    out = FoldSplit(folds=5, assignment="hash").apply(manifest(crowd(200)))
    where = {s.subjects[0]: s.split for s in out if s.label == REAL}
    lost = [s for s in crowd(200) if len({where[p] for p in s.subjects}) > 1]
    assert sum(out.info["split"]["dropped"][TIED].values()) == len(lost)
    assert_disjoint(out)


@pytest.mark.parametrize("values", [{"folds": 2}, {"fold": 5}, {"fold": -1}, {"assignment": "luck"}])
def test_folds_that_do_not_exist_are_refused(values):
    with pytest.raises(ConfigError, match="hint: "):
        FoldSplit(**values)


def test_leaving_generators_out_asks_for_one_and_keeps_it_out():
    rows = people(60) + [fake(f"n{k}", f"p{k}", generator="New") for k in range(60)]
    with pytest.raises(ConfigError, match="New"):
        LeaveGeneratorsOut().apply(manifest(rows))
    out = LeaveGeneratorsOut(test=["New"]).apply(manifest(rows))
    assert {s.split for s in out if s.generator == "New"} == {"test"}
    assert_disjoint(out)


def test_assigned_words_that_clash_do_not_depend_on_the_order_of_rows():
    rows = [real(k, f"p{k}", attributes={"place": "x" if k % 2 else "y"}) for k in range(40)]
    rows += [fake(f"f{k}", f"p{k}") for k in range(40)]
    split = SubjectSplit(assign={"train": ["p1"], "test": ["place=x"]})
    assert placed(split.apply(manifest(rows))) == placed(split.apply(manifest(rows[::-1])))
    assert placed(split.apply(manifest(rows)))[rows[1].sample_id] == "test"
