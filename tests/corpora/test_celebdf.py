"""Celeb-DF: its list calls real 1; a label against its folder, a missing video and a foreign name are found."""

import pytest

from deepassay.corpora.celebdf import CelebDFv1, CelebDFv2, CelebDFv3
from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.splits import OfficialSplit

REALS = ("Celeb-real/id0_0000.mp4", "Celeb-real/id1_0003.mp4", "YouTube-real/00170.mp4", "YouTube-real/00171.mp4")
FAKES = ("Celeb-synthesis/id0_id1_0000.mp4", "Celeb-synthesis/id1_id0_0003.mp4")
LINES = ("1 YouTube-real/00170.mp4", "1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4")


def tree(root, paths=(*REALS, *FAKES), lines=LINES):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "List_of_testing_videos.txt").write_text("\n".join(lines) + "\n")
    return root


def prepare(kind, root, **options):
    return kind(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


@pytest.mark.parametrize("kind", [CelebDFv1, CelebDFv2])
def test_labels_people_and_the_test_list(tmp_path, kind):
    out = prepare(kind, tree(tmp_path))
    rows = {s.path: s for s in out}
    assert problems(out) == []
    assert {p: s.label for p, s in rows.items()} == {**dict.fromkeys(REALS, REAL), **dict.fromkeys(FAKES, FAKE)}
    fake = rows["Celeb-synthesis/id0_id1_0000.mp4"]
    assert fake.subjects == (f"{kind.people}/id0", f"{kind.people}/id1")
    assert fake.source_id == rows["Celeb-real/id0_0000.mp4"].source_id
    assert (fake.split, fake.generator, fake.generator_family) == ("test", "Celeb-DF", "face_swap")
    assert {p: s.split for p, s in rows.items() if s.split == "test"}.keys() == {line[2:] for line in LINES}
    assert rows["Celeb-real/id1_0003.mp4"].split == "train"
    assert fake.sample_id == f"{kind.name}/Celeb-synthesis/id0_id1_0000.mp4"
    assert {s.split for s in prepare(kind, tmp_path, rest="unsplit")} == {"test", ""}
    with pytest.raises(LeakError):  # the published test list shares celebrities with the rest
        OfficialSplit().apply(out)


def test_a_flipped_list_fails(tmp_path):
    flipped = [("0" if line[0] == "1" else "1") + line[1:] for line in LINES]
    tree(tmp_path, lines=flipped)
    with pytest.raises(ManifestError, match="lies among the real videos") as caught:
        CelebDFv2(root=str(tmp_path), progress=False).prepare()
    assert "3 label" in str(caught.value)
    # Going on knowingly still labels by folder.
    assert {s.path for s in prepare(CelebDFv2, tmp_path) if s.label == REAL} == set(REALS)


def test_missing_foreign_and_unparsable_are_named(tmp_path):
    tree(
        tmp_path,
        paths=(*REALS, *FAKES, "Celeb-synthesis/odd.mp4", "Celeb-real/00001.mp4"),
        lines=(*LINES, "1 Celeb-real/id9_0000.mp4", "x", "1 YouTube-real/00170.mp4"),
    )
    assert problems(prepare(CelebDFv2, tmp_path)) == [
        "missing: test list: Celeb-real/id9_0000.mp4",
        "unparsable: List_of_testing_videos.txt, line 5: 'x' is not '<1 real or 0 fake> <path>'",
        "unparsable: List_of_testing_videos.txt, line 6: YouTube-real/00170.mp4 is listed twice (first in line 1)",
        "unparsable: Celeb-real/00001.mp4: a real video is named id<n>_<recording> or <number>",
        "unparsable: Celeb-synthesis/odd.mp4: a fake is named id<target>_id<source>_<recording>",
    ]


def test_the_published_counts_are_counted_against(tmp_path):
    with pytest.raises(ManifestError, match=r"2 found, 5,639 published|2 found, 590 published"):
        CelebDFv2(root=str(tree(tmp_path)), progress=False).prepare()
    whole = tmp_path / "whole"
    paths = [
        *(f"Celeb-real/id{k % 13}_{k:04d}.mp4" for k in range(158)),
        *(f"YouTube-real/{k:05d}.mp4" for k in range(250)),
        *(f"Celeb-synthesis/id{k % 13}_id{(k + 1) % 13}_{k:04d}.mp4" for k in range(795)),
    ]
    tree(whole, paths, lines=[f"1 {paths[0]}", f"0 {paths[-1]}"])
    out = CelebDFv1(root=str(whole), progress=False).prepare()
    assert len(out) == 1203
    assert out.info["inventory"]["partial"] is False


def test_without_the_list_the_copy_is_partial(tmp_path):
    (tree(tmp_path) / "List_of_testing_videos.txt").unlink()
    out = prepare(CelebDFv2, tmp_path)
    assert problems(out) == ["missing: list List_of_testing_videos.txt"]


def v3_paths():
    folders = CelebDFv3(root="nowhere").fake_folders()
    assert len(folders) == 22
    paths = list(REALS)
    for folder, (_, family) in folders.items():
        name = "id0_0000_test_id7_0001.mp4" if family == "talking_face" else "id0_id1_0000.mp4"
        paths.append(f"{folder}/{name}")
    return paths


def test_v3_has_22_methods_of_three_families(tmp_path):
    lines = (*LINES[:2], "0 Celeb-synthesis/FaceSwap/GHOST/id0_id1_0000.mp4")
    out = prepare(CelebDFv3, tree(tmp_path, v3_paths(), lines))
    assert problems(out) == []
    fakes = [s for s in out if s.label == FAKE]
    assert len({s.generator for s in fakes}) == 22
    families = {f: sum(s.generator_family == f for s in fakes) for f in ("face_swap", "reenactment", "talking_face")}
    assert families == {"face_swap": 8, "reenactment": 7, "talking_face": 7}
    talking = next(s for s in fakes if s.generator == "SadTalker")
    assert (talking.subjects, talking.source_id) == (("celebdf/id0",), "celebdf/id0_0000")
    assert [s.generator for s in fakes if s.split == "test"] == ["GHOST"]
    # The same file name under 22 methods: 22 ids.
    assert len({s.sample_id for s in out}) == len(out)


def test_v3_names_missing_and_unknown_method_folders(tmp_path):
    paths = [p.replace("/Celeb-DF/", "/Celeb-DF-v2/").replace("/LIA/", "/NewMethod/") for p in v3_paths()]
    assert problems(prepare(CelebDFv3, tree(tmp_path, paths, LINES[:2]))) == [
        "extra: folders of fakes: Celeb-synthesis/FaceReenact/NewMethod",
        "missing: folders of fakes: Celeb-synthesis/FaceReenact/LIA",
    ]


def test_unknown_words_are_refused():
    with pytest.raises(ConfigError, match="rest"):
        CelebDFv2(root="nowhere", rest="dev")
