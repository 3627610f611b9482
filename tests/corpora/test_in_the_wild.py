"""In-the-Wild's door: rows of meta.csv against the files, polarity, and what is wrong by name."""

import pytest

from deepassay.corpora.in_the_wild import InTheWild
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL

ROWS = ["file,speaker,label", "0.wav,Ada,spoof", "1.wav,Ada,bona-fide", '2.wav,"Babbage, C.",spoof']
COUNTS = {"all bona fide": 1, "all spoofed": 2}


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(InTheWild, "published_counts", COUNTS)

    def build(rows=ROWS, files=("0.wav", "1.wav", "2.wav"), folder="release_in_the_wild", **options):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "meta.csv").write_text("\n".join(rows))
        for name in files:
            (tmp_path / folder / name).touch()
        return InTheWild(root=str(tmp_path), progress=False, **options).prepare()

    return build


@pytest.mark.parametrize("folder", ["release_in_the_wild", "."])
def test_rows_become_samples(make, folder):
    found = {s.path.rsplit("/", 1)[-1]: s for s in make(folder=folder)}
    assert {n: s.label for n, s in found.items()} == {"0.wav": FAKE, "1.wav": REAL, "2.wav": FAKE}
    assert found["0.wav"].cluster == found["1.wav"].cluster == "in_the_wild/Ada"
    assert found["2.wav"].subjects == ("in_the_wild/Babbage, C.",)
    assert found["1.wav"].generator == ""
    assert found["0.wav"].generator == "InTheWild-unknown"
    assert {s.split for s in found.values()} == {""}


def test_exchanged_labels_miss_the_published_numbers(make):
    flipped = [r.replace("bona-fide", "?").replace("spoof", "bona-fide").replace("?", "spoof") for r in ROWS]
    with pytest.raises(ManifestError, match="all bona fide: 2 found, 1 published"):
        make(flipped)


@pytest.mark.parametrize(
    ("rows", "files", "said"),
    [
        (ROWS, ("0.wav", "1.wav"), r"missing: in_the_wild: release_in_the_wild/2\.wav"),
        (ROWS, ("0.wav", "1.wav", "2.wav", "3.wav"), r"extra: in_the_wild: release_in_the_wild/3\.wav"),
        ([*ROWS[:3], "2.wav,Ada"], ("0.wav", "1.wav"), "line 4: 2 columns instead of 3"),
        ([*ROWS[:3], "2.wav,Ada,fake"], ("0.wav", "1.wav"), "key 'fake' is none of"),
        ([*ROWS[:3], "2.wav,,spoof"], ("0.wav", "1.wav"), "line 4: no speaker"),
        (["file,label", "0.wav,spoof"], ("0.wav",), r"columns \['speaker'\] are missing"),
        (ROWS[:3], ("0.wav", "1.wav"), "all spoofed: 1 found, 2 published"),
    ],
)
def test_what_is_wrong_is_named(make, rows, files, said):
    with pytest.raises(ManifestError, match=said):
        make(rows, files)


def test_a_folder_without_the_list_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"list release_in_the_wild/meta\.csv"):
        InTheWild(root=str(tmp_path), progress=False).prepare()


def test_partial_copy_is_recorded(make):
    manifest = make(files=("0.wav", "1.wav"), allow_partial=True)
    assert len(manifest) == 2
    assert manifest.info["inventory"]["numbers"] == {"missing": 1}
