"""CrossHoldout: groups, their people and their places stay out of training; nothing is lost without being counted."""

import numpy as np
import pytest

from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.splits import HELD_OUT, KIN, UNWANTED, CrossHoldout, assert_disjoint

GROUPS = {
    "a": {"generators": ["A1", "A2"], "reals": ["north"]},
    "b": {"generators": ["familyB"], "reals": ["south"]},
    "c": {"generators": ["*"], "subjects": ["star"]},
}


def sample(number, label, generator="", family="", subject=None, place="east"):
    return Sample(
        sample_id=f"s{number:03}", path=f"{number}.jpg", media="image", modality="face", label=label,
        subjects=(subject or f"p{number}",), generator=generator, generator_family=family,
        attributes={"repository": place},
    )  # fmt: skip


@pytest.fixture
def manifest():
    rows, n = [], 0
    for place in ("north", "south", "east"):
        for _ in range(20):
            rows.append(sample(n, REAL, place=place))
            n += 1
    for generator, family in (("A1", ""), ("A2", ""), ("B1", "familyB"), ("B2", "familyB"), ("C1", "familyC")):
        for _ in range(12):
            rows.append(sample(n, FAKE, generator, family))
            n += 1
    rows.append(sample(n, REAL, subject="tied"))
    rows.append(sample(n + 1, FAKE, "A1", subject="tied"))
    rows.append(sample(n + 2, FAKE, "B1", "familyB", subject="tied"))
    rows.append(sample(n + 3, FAKE, "A2", subject="star"))
    rows.append(sample(n + 4, REAL, subject="star"))
    for k in range(12):
        rows.append(sample(n + 5 + k, FAKE, "self-made/x", subject=f"p{k * 5}"))
    return Manifest.from_samples(rows, root=".", info={"name": "t"})


def split(manifest, **options):
    out = CrossHoldout(groups=GROUPS, **{"test": ["a"], **options}).apply(manifest)
    assert_disjoint(out)
    return out


def test_a_group_takes_its_places_and_people_along(manifest):
    out = split(manifest)
    test, rest = out.split("test"), out.select(out.column("split") != "test")
    assert set(test.column("generator")[test.column("label") == FAKE]) == {"A1", "A2"}
    assert not {"A1"} & set(rest.column("generator"))
    places = [dict(s.attributes)["repository"] for s in test if s.label == REAL]
    assert places.count("north") == 20
    assert "south" not in places
    assert any(s.subjects == ("tied",) and s.label == REAL for s in test), "the tested person's real sample"
    dropped = out.info["split"]["dropped"]
    assert dropped[HELD_OUT]["B1"] == 1
    assert sum(sum(cell.values()) for cell in dropped.values()) + len(out) == len(manifest)


def test_a_person_may_belong_to_a_group_whatever_made_the_sample(manifest):
    star = [s for s in split(manifest) if s.subjects == ("star",)]
    assert {s.split for s in star} <= {"train", "dev"}
    star = [s for s in split(manifest, test=["c"]) if s.subjects == ("star",)]
    assert [s.split for s in star] == ["test", "test"]


def test_two_groups_left_out_hold_both_tests(manifest):
    both = {s.sample_id for s in split(manifest, test=["a", "b"]).split("test")}
    for one in ("a", "b"):
        assert {s.sample_id for s in split(manifest, test=[one]).split("test")} <= both


def test_self_made_fakes_are_never_tested_and_follow_their_people(manifest):
    out = split(manifest)
    made = [s for s in out if s.generator.startswith("self-made/")]
    assert made
    assert "test" not in {s.split for s in made}
    tested = {p for s in out.split("test") for p in s.subjects}
    assert not tested & {p for s in made for p in s.subjects}
    assert not [s for s in split(manifest, self_made=False) if s.generator.startswith("self-made/")]


def test_training_may_do_without_given_fakes(manifest):
    out = split(manifest, given_fakes=False)
    kept = {s.generator for s in out if s.split != "test" and s.label == FAKE}
    assert kept == {"self-made/x"}
    assert out.info["split"]["dropped"][UNWANTED]["B2"] == 12
    assert {s.sample_id for s in out.split("test")} == {s.sample_id for s in split(manifest).split("test")}


def test_kin_of_the_left_out_generators_is_dropped_where_asked(manifest):
    kin = {"network": ["A1", "familyB"]}
    out = split(manifest, kin=kin, leave_kin_out=["a"])
    assert {s.generator for s in out if s.split != "test" and s.label == FAKE} == {"C1", "A2", "self-made/x"}
    assert out.info["split"]["dropped"][KIN]["B1"] == 12
    same = split(manifest, kin=kin, leave_kin_out=["b"])
    np.testing.assert_array_equal(same.column("split"), split(manifest).column("split"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"test": []}, "no group is left out"),
        ({"test": ["z"]}, "no group is named 'z'"),
        ({"groups": {"a": {"reals": ["north"]}}}, "neither generators nor subjects"),
        ({"groups": {"a": {"generators": ["A1"], "what": 1}}}, "'what'"),
        ({"groups": {"a": {"generators": ["A1"]}, "b": {"generators": ["A1"]}}}, "in group a and in b"),
    ],
)
def test_groups_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        CrossHoldout(**{"groups": GROUPS, "test": ["a"], **options})


def test_every_generator_and_every_name_must_be_accounted_for(manifest):
    groups = {"a": {"generators": ["A1", "A2", "familyB"]}}
    with pytest.raises(ManifestError, match="no group claims generator 'C1'"):
        CrossHoldout(groups=groups, test=["a"]).apply(manifest)
    groups = {"a": {"generators": ["*"], "reals": ["nowhere"]}}
    with pytest.raises(ManifestError, match="'nowhere'"):
        CrossHoldout(groups=groups, test=["a"]).apply(manifest)
