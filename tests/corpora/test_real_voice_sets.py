"""Doors of genuine speech: every sample is real, held against the transcripts and lists of the release."""

import pytest

from deepassay.corpora.real_voice_sets import AISHELL3, VCTK, CommonVoice, LibriSpeech, LJSpeech
from deepassay.errors import ConfigError, ManifestError


def put(root, files):
    """Files with their text, or empty ones."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


SPEAKERS = "; READER | SEX\n84   | F | dev-clean  |  8.02 | A. Reader\n61 | M | test-clean | 8.03 | B. Reader\n"
LIBRI = {
    "LibriSpeech/SPEAKERS.TXT": SPEAKERS,
    "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt": "84-121123-0000 GO\n84-121123-0001 DO YOU HEAR\n",
    "LibriSpeech/dev-clean/84/121123/84-121123-0000.flac": "",
    "LibriSpeech/dev-clean/84/121123/84-121123-0001.flac": "",
    "LibriSpeech/test-clean/61/70968/61-70968.trans.txt": "61-70968-0000 HE BEGAN\n",
    "LibriSpeech/test-clean/61/70968/61-70968-0000.flac": "",
}


def libri(root, monkeypatch, changes=None, readers=None, **options):
    put(root, LIBRI | (changes or {}))
    monkeypatch.setattr(LibriSpeech, "published_counts", {"dev-clean": 2, "test-clean": 1, "dev-other": 7})
    monkeypatch.setattr(LibriSpeech, "published_readers", readers or {})
    return LibriSpeech(root=str(root), progress=False, **options)


def test_librispeech_as_published():
    assert sum(LibriSpeech.published_counts.values()) == 292_367
    assert sum(LibriSpeech.published_readers.values()) == 2_484
    assert LibriSpeech.published_readers.keys() == LibriSpeech.published_counts.keys()


def test_librispeech_reader_chapter_split_and_sex(tmp_path, monkeypatch):
    manifest = libri(tmp_path, monkeypatch).prepare()
    assert manifest.counts() == {
        "dev": {"real": 2, "fake": 0, "unlabelled": 0}, "test": {"real": 1, "fake": 0, "unlabelled": 0},
    }  # fmt: skip
    one = next(s for s in manifest if s.path.endswith("84-121123-0001.flac"))
    assert (one.cluster, one.source_id) == ("librispeech/84", "librispeech/84/121123")
    assert one.attributes == {
        "language": "en", "parent": "LibriSpeech", "subset": "dev-clean", "gender": "female",
    }  # fmt: skip
    assert len(libri(tmp_path, monkeypatch, subsets=["test-clean"]).prepare()) == 1


def test_librispeech_names_what_is_wrong(tmp_path, monkeypatch):
    door = libri(tmp_path, monkeypatch, {
        "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt": "84-121123-0000 GO\n84-999-0001 NO\n84-121123-0002 X\n",
        "LibriSpeech/SPEAKERS.TXT": "84 | F | dev-clean\n61 | M | test-clean | 8.03 | B. Reader\n",
    })  # fmt: skip
    with pytest.raises(ManifestError, match=r"missing: .*84-121123-0002\.flac") as caught:
        door.prepare()
    said = str(caught.value)
    assert "'84-999-0001' is no utterance of 84-121123" in said
    assert "extra: librispeech dev-clean: LibriSpeech/dev-clean/84/121123/84-121123-0001.flac" in said
    assert "SPEAKERS.TXT, line 1: expected READER" in said
    with pytest.raises(ManifestError, match="dev-other: 0 found, 7 published"):
        libri(tmp_path, monkeypatch, subsets=["dev-other"]).prepare()


def test_librispeech_counts_readers(tmp_path, monkeypatch):
    with pytest.raises(ManifestError, match="dev-clean readers: 1 found, 40 published"):
        libri(tmp_path, monkeypatch, readers={"dev-clean": 40}, subsets=["dev-clean"]).prepare()


def test_librispeech_refuses_an_unknown_subset(tmp_path):
    with pytest.raises(ConfigError, match="subset is 'train-clean'"):
        LibriSpeech(root=str(tmp_path), subsets=["train-clean"])


def test_ljspeech_clips_of_the_list(tmp_path, monkeypatch):
    monkeypatch.setattr(LJSpeech, "published_counts", {"clips": 2})
    lines = "LJ001-0001|Printing|Printing\nLJ001-0002|in|in\n"
    put(tmp_path, {"LJSpeech-1.1/metadata.csv": lines, "LJSpeech-1.1/wavs/LJ001-0001.wav": "",
                   "LJSpeech-1.1/wavs/LJ001-0002.wav": ""})  # fmt: skip
    manifest = LJSpeech(root=str(tmp_path), progress=False).prepare()
    assert [(s.label, s.cluster, s.source_id) for s in manifest] == [(0, "LJ", "LJ001-0001"), (0, "LJ", "LJ001-0002")]
    put(tmp_path, {"LJSpeech-1.1/metadata.csv": lines + "LJ1|x|x\n", "LJSpeech-1.1/wavs/LJ009-0009.wav": ""})
    with pytest.raises(ManifestError, match=r"extra: ljspeech: .*LJ009-0009\.wav") as caught:
        LJSpeech(root=str(tmp_path), progress=False).prepare()
    assert "'LJ1' is no clip id" in str(caught.value)


INFO = "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English    Southern  England\ns5  18  M  British\n"


def test_vctk_of_both_releases(tmp_path, monkeypatch):
    monkeypatch.setattr(VCTK, "published_counts", {"0.92 mic1 readers": 2, "0.92 mic2 readers": 1, "0.80 readers": 1})
    new, old = tmp_path / "new", tmp_path / "old"
    put(new, {"speaker-info.txt": INFO, **{f"wav48_silence_trimmed/{p}": "" for p in (
        "p225/p225_001_mic1.flac", "p225/p225_001_mic2.flac", "s5/s5_001_mic1.flac", "log.txt")}})  # fmt: skip
    manifest = VCTK(root=str(new), progress=False).prepare()
    assert {(s.cluster, s.source_id, s.channel) for s in manifest} == {
        ("p225", "p225_001", "mic1"), ("s5", "s5_001", "mic1"),
    }  # fmt: skip
    assert manifest[0].attributes["accent"] == "English"
    assert len(VCTK(root=str(new), microphone="mic2", progress=False).prepare()) == 1
    put(old, {"VCTK-Corpus/speaker-info.txt": INFO.replace("p225", "225"), "VCTK-Corpus/wav48/p225/p225_001.wav": ""})
    manifest = VCTK(root=str(old), release="0.80", progress=False).prepare()
    assert manifest[0].attributes["gender"] == "female"
    put(old, {"VCTK-Corpus/wav48/p225/p226_001.wav": "", "VCTK-Corpus/wav48/p225/hello.wav": ""})
    with pytest.raises(ManifestError, match="lies in another reader's folder") as caught:
        VCTK(root=str(old), release="0.80", progress=False).prepare()
    assert "hello.wav is no wav48 file of release 0.80" in str(caught.value)
    with pytest.raises(ConfigError, match=r"release is '0\.91'"):
        VCTK(root=str(old), release="0.91")


def test_vctk_counts_readers(tmp_path):
    put(tmp_path, {"speaker-info.txt": INFO, "wav48_silence_trimmed/p225/p225_001_mic1.flac": ""})
    with pytest.raises(ManifestError, match=r"0\.92 mic1 readers: 1 found, 110 published"):
        VCTK(root=str(tmp_path), progress=False).prepare()


def test_aishell3_parts_are_its_split(tmp_path, monkeypatch):
    monkeypatch.setattr(AISHELL3, "published_counts", {"utterances": 2, "readers": 2})
    files = {
        "spk-info.txt": "# name; age; gender; accent\nSSB0005\tB\tfemale\tnorth\nSSB0009\tC\tmale\tsouth\n",
        "train/content.txt": "SSB00050001.wav\t\u5e7f guang3\n", "train/wav/SSB0005/SSB00050001.wav": "",
        "test/content.txt": "SSB00090001.wav\t\u5e7f guang3\n", "test/wav/SSB0009/SSB00090001.wav": "",
    }  # fmt: skip
    put(tmp_path, files)
    manifest = AISHELL3(root=str(tmp_path), progress=False).prepare()
    assert {(s.cluster, s.split, s.attributes["age_band"]) for s in manifest} == {
        ("SSB0005", "train", "14-25"), ("SSB0009", "test", "26-40"),
    }  # fmt: skip
    put(
        tmp_path,
        {"train/content.txt": "SSB00050001.wav\tx\nSSB00050002.wav\tx\nSSB5.wav\tx\n", "spk-info.txt": "SSB0005\n"},
    )
    with pytest.raises(ManifestError, match=r"missing: aishell3 train: train/wav/SSB0005/SSB00050002\.wav") as caught:
        AISHELL3(root=str(tmp_path), progress=False).prepare()
    assert "'SSB5.wav' is no utterance" in str(caught.value)
    assert "spk-info.txt, line 1: expected READER" in str(caught.value)


CV = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\n"


def test_common_voice_lists_are_its_split(tmp_path):
    files = {f"cv-corpus-1/en/{name}.tsv": CV for name in ("train", "dev", "test", "validated")}
    files["cv-corpus-1/en/train.tsv"] = CV + 'aa\tc_1.mp3\tHe said "hi\t2\t0\tthirties\tmale_masculine\t\ten\n'
    files["cv-corpus-1/en/test.tsv"] = CV + "bb\tc_2.mp3\tHello\t2\t0\t\t\tScottish\ten\n"
    files["cv-corpus-1/en/validated.tsv"] = CV + "cc\tc_3.mp3\tHello\t2\t0\t\t\t\ten\n"
    put(tmp_path, files | {f"cv-corpus-1/en/clips/c_{n}.mp3": "" for n in (1, 2, 3)})
    manifest = CommonVoice(root=str(tmp_path), language="en", progress=False).prepare()
    assert {(s.cluster, s.split, s.label) for s in manifest} == {("aa", "train", 0), ("bb", "test", 0)}
    assert manifest[0].attributes == {
        "language": "en", "parent": "Common Voice", "age": "thirties", "gender": "male",
    }  # fmt: skip
    alone = CommonVoice(root=str(tmp_path), language="en", lists=["validated"], progress=False).prepare()
    assert [(s.cluster, s.split) for s in alone] == [("cc", "")]
    (tmp_path / "cv-corpus-1/en/clips/c_2.mp3").unlink()
    (tmp_path / "cv-corpus-1/en/dev.tsv").write_text("client_id\tpath\nx\ty.mp3\n")
    with pytest.raises(ManifestError, match=r"missing: common_voice test: .*c_2\.mp3") as caught:
        CommonVoice(root=str(tmp_path), language="en", progress=False).prepare()
    assert "columns ['sentence'] are missing" in str(caught.value)
    with pytest.raises(ConfigError, match=r"or \[validated\] alone"):
        CommonVoice(root=str(tmp_path), language="en", lists=["train", "validated"])
