"""A user's own folder: where a file lies says what it is."""

import numpy as np
import pytest

from deepassay.corpora.folder import FolderCorpus
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.media.sound import write_sound


def fill(root, *names):
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".wav"):
            write_sound(root / name, 0.1 * np.sin(np.arange(4000 + k) / 9).astype(np.float32), 16000)
        else:
            (root / name).write_text("notes")
    return root


def corpus(root, **options) -> FolderCorpus:
    return FolderCorpus(**{"root": str(root), "modality": "voice", "progress": False, **options})


def test_real_and_fake_by_place(tmp_path):
    fill(
        tmp_path,
        "real/id1_a.wav",
        "real/deep/id2_b.wav",
        "fake/VC 1/id1_c.wav",
        "fake/VC 1/x/id2_d.wav",
        "readme.txt",
        ".hid.wav",
    )
    out = corpus(tmp_path, name="mine", subject_pattern=r"(?P<subject>id\d+)_").prepare()
    rows = {s.path: s for s in out}
    assert {p: s.label for p, s in rows.items()} == {
        "real/id1_a.wav": REAL, "real/deep/id2_b.wav": REAL, "fake/VC 1/id1_c.wav": FAKE, "fake/VC 1/x/id2_d.wav": FAKE,
    }  # fmt: skip
    assert rows["fake/VC 1/x/id2_d.wav"].generator == "VC 1"
    assert rows["fake/VC 1/x/id2_d.wav"].subjects == ("id2",)
    assert rows["real/id1_a.wav"].sample_id == "mine/real/id1_a.wav"
    assert rows["real/id1_a.wav"].duration_s == 0.25
    assert out.info["ignored"] == {".txt": 1}


def test_an_unlabelled_heap_is_for_scoring(tmp_path):
    out = corpus(fill(tmp_path, "a.wav", "real/b.wav"), labelled=False).prepare()
    assert [s.label for s in out] == [None, None]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["real/a.wav"], "there is no fake sample"),
        (["fake/G/a.wav"], "there is no real sample"),
        (["real/a.wav", "fake/a.wav"], "fake/a.wav is neither"),
        (["real/a.wav", "fake/G/a.wav", "b.wav"], "b.wav is neither"),
        (["real/a.txt"], "no voice files (1 of other kinds: {'.txt': 1})"),
    ],
)
def test_mistakes_are_named(tmp_path, names, said):
    with pytest.raises(ManifestError) as caught:
        corpus(fill(tmp_path, *names)).prepare()
    assert said in str(caught.value)
    assert "\nhint: " in str(caught.value)


def test_a_pattern_that_misses_a_file_says_which(tmp_path):
    fill(tmp_path, "real/id1_a.wav", "fake/G/other.wav")
    with pytest.raises(ManifestError, match=r"fake/G/other\.wav"):
        corpus(tmp_path, subject_pattern=r"(?P<subject>id\d+)_").prepare()


@pytest.mark.parametrize("options", [{"modality": "gait"}, {"subject_pattern": "("}, {"subject_pattern": "id.*"}])
def test_options_that_make_no_sense(tmp_path, options):
    with pytest.raises(ConfigError, match="hint: "):
        corpus(tmp_path, **options)


def test_folder_and_modality_are_asked_for(tmp_path):
    with pytest.raises(ManifestError, match="no such folder"):
        corpus(tmp_path / "no").prepare()
    with pytest.raises(ConfigError, match=r"corpus\.modality"):
        corpus(tmp_path, modality=None).prepare()
