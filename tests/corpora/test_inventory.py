"""A copy is counted against what was published: every difference by name, and let pass only knowingly."""

import os
from pathlib import Path

import pytest

from deepassay.corpora.inventory import Inventory, PublicCorpus, one_of
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def inventory(root: Path, **options) -> Inventory:
    return Inventory("toy", root, progress=False, **options)


def test_files_are_listed_below_a_folder_by_suffix(tmp_path):
    tree(tmp_path, "b/2.wav", "b/1.WAV", "b/x.txt", "a/3.wav", ".hidden/4.wav", "b/.DS_Store")
    found = inventory(tmp_path)
    assert found.files() == ["a/3.wav", "b/1.WAV", "b/2.wav", "b/x.txt"]
    assert found.files("b", (".wav",)) == ["b/1.WAV", "b/2.wav"]
    assert found.files("none") == []
    with pytest.raises(ManifestError, match=r"no folder.*nowhere"):
        inventory(tmp_path / "nowhere").files()


def test_links_inside_are_followed_once_and_links_out_are_problems(tmp_path):
    root, outside = tree(tmp_path / "root", "a/1.wav"), tree(tmp_path / "outside", "2.wav")
    os.symlink(outside, root / "out")
    os.symlink(outside / "2.wav", root / "a" / "out.wav")
    os.symlink(root / "a", root / "a" / "loop")
    os.symlink("gone", root / "dead")
    found = inventory(root)
    assert found.files() == ["a/1.wav"]
    with pytest.raises(ManifestError) as caught:
        found.finish()
    assert "link: out is a link out of the corpus's folder" in str(caught.value)
    assert "a/out.wav is a link out" in str(caught.value)
    assert "dead is a link to nothing" in str(caught.value)


def test_a_root_that_is_itself_a_link_is_fine(tmp_path):
    tree(tmp_path / "real", "1.wav")
    os.symlink(tmp_path / "real", tmp_path / "root")
    assert inventory(tmp_path / "root").files() == ["1.wav"]


def test_every_difference_is_named_and_totals_told(tmp_path):
    found = inventory(tmp_path)
    there = found.expect(["a.wav", "b.wav", "c.wav"], found=["c.wav", "a.wav", "z.wav"], what="train")
    assert there == ["a.wav", "c.wav"]
    found.count("train files", 2, 3)
    found.count("speakers", 7, None)
    found.unparsable("list.txt", 12, "too few words")
    with pytest.raises(ManifestError) as caught:
        found.finish()
    text = str(caught.value)
    for said in (
        "missing: train: b.wav", "extra: train: z.wav", "count: train files: 2 found, 3 published",
        "unparsable: list.txt, line 12: too few words", "speakers 7", "hint: ", "allow_partial",
    ):  # fmt: skip
        assert said in text


def test_a_partial_copy_goes_on_knowingly_and_is_recorded(tmp_path):
    found = inventory(tmp_path, allow_partial=True)
    found.expect([f"{n}.wav" for n in range(1000)], found=["1.wav"], what="train")
    record = found.finish()
    assert record["partial"] is True
    assert record["numbers"] == {"missing": 999}
    assert record["problems"][0] == "missing: train: 0.wav"
    assert len(record["problems"]) == 100, "the first hundred by name, the others by number"


def test_a_whole_copy_has_nothing_to_say(tmp_path):
    found = inventory(tmp_path)
    found.expect(["a.wav"], found={"a.wav"}, what="train")
    found.count("train", 1, 1)
    assert found.finish() == {"partial": False, "problems": [], "numbers": {}, "totals": {"train": 1}}


def test_a_path_listed_twice_is_a_problem(tmp_path):
    found = inventory(tmp_path, allow_partial=True)
    assert found.expect(["a", "a"], found=["a"], what="x") == ["a"]
    assert found.finish()["problems"] == ["unparsable: x: a is listed twice"]


def test_lists_are_read_with_their_line_numbers(tmp_path):
    (tmp_path / "l.txt").write_text("\ufeffone\n\n two \n", encoding="utf-8")
    found = inventory(tmp_path)
    assert found.lines("l.txt") == [(1, "one"), (3, "two")]
    assert found.lines("none.txt") == []
    with pytest.raises(ManifestError, match=r"missing: list none\.txt"):
        found.finish()


class Toy(PublicCorpus):
    name, modality, status = "toy", "voice", "unverified"
    documented_at = ("a paper",)
    published_counts = {"files": 2}  # noqa: RUF012
    version, licence = "1", "CC0"

    def samples(self, inventory):
        found = inventory.files(suffixes=(".wav",))
        inventory.count("files", len(found), self.published_counts["files"])
        for path in found:
            fake = path.startswith("fake/")
            yield self.sample(path, label=FAKE if fake else REAL, generator="G" if fake else "")


def test_a_door_gives_a_manifest_with_all_that_was_checked(tmp_path):
    tree(tmp_path, "real/1.wav", "fake/1.wav")
    m = Toy(root=str(tmp_path), progress=False).prepare()
    assert [s.sample_id for s in m] == ["toy/fake/1.wav", "toy/real/1.wav"], "never a bare file name"
    assert {(s.corpus, s.modality, s.media, s.licence) for s in m} == {("toy", "voice", "audio", "CC0")}
    assert m.info["status"] == "unverified"
    assert m.info["inventory"]["totals"] == {"files": 2}
    assert m.info["documented_at"] == ["a paper"]
    hashed = Toy(root=str(tmp_path), progress=False, hash_files=True, probe=True).prepare()
    assert all(s.sha256 for s in hashed)
    assert hashed.info["unreadable_headers"] == 2


def test_a_door_refuses_a_partial_an_empty_and_a_missing_copy(tmp_path):
    tree(tmp_path, "real/1.wav")
    with pytest.raises(ManifestError, match="1 found, 2 published"):
        Toy(root=str(tmp_path), progress=False).prepare()
    assert Toy(root=str(tmp_path), progress=False, allow_partial=True).prepare().info["inventory"]["partial"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="none of its files"):
        Toy(root=str(tmp_path / "empty"), progress=False, allow_partial=True).prepare()
    with pytest.raises(ManifestError, match="there is no folder"):
        Toy(root=str(tmp_path / "none"), progress=False, allow_partial=True).prepare()


def test_words_of_options_are_checked():
    assert one_of("c23", ["c23", "c40"], what="compression") == "c23"
    with pytest.raises(ConfigError, match="compression is 'c99'"):
        one_of("c99", ["c23", "c40"], what="compression")
