"""ASVspoof's doors: miniature trees, right and broken; the real LA evaluation list; exchanged keys are caught."""

import csv
import gzip
from collections import Counter
from pathlib import PurePosixPath

import pytest

from deepassay.adapters.asvspoof import read_key
from deepassay.corpora.asvspoof import (
    ATTACKS_5,
    ATTACKS_2019,
    ASVspoof5,
    ASVspoof2019LA,
    ASVspoof2019PA,
    ASVspoof2021DF,
    ASVspoof2021LA,
)
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def tree(root, lists, names, folder, suffix=".flac"):
    """Lists with their lines and empty sound files."""
    for path, lines in lists.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(f"{line}\n" for line in lines))
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / folder / f"{name}{suffix}").touch()


def door(kind, root, monkeypatch, counts=None, **options):
    monkeypatch.setattr(kind, "published_counts", counts or {})
    return kind(root=str(root), progress=False, **options)


LA_EVAL = "LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.eval.trl.txt"
LA_ENROL = "LA/ASVspoof2019_LA_asv_protocols/ASVspoof2019.LA.asv.eval.female.trn.txt"
LA_LINES = [
    "LA_0001 LA_E_1 - - bonafide",
    "LA_0002 LA_E_2 - A07 spoof",
    "LA_0002 LA_E_3 - A17 spoof",
    "LA_0001 LA_E_4 - A13 spoof",
]
LA_COUNTS = {"eval bona fide": 1, "eval spoofed": 3, "eval speakers": 2, "eval attacks": 3}


def la(root, lines=LA_LINES, names=("LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4"), **lists):
    tree(root, {LA_EVAL: lines, **lists}, names, "LA/ASVspoof2019_LA_eval/flac")


def test_every_attack_has_a_family():
    assert set(ATTACKS_2019) == {f"A{n:02d}" for n in range(1, 20)}
    assert set(ATTACKS_5) == {f"A{n:02d}" for n in range(1, 33)}
    assert Counter("adversarial" in family for family in ATTACKS_5.values())[True] == 7


def test_2019_la_translates_labels_attacks_speakers_and_split(tmp_path, monkeypatch):
    la(tmp_path)
    manifest = door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"]).prepare()
    found = {s.sample_id: s for s in manifest}
    real = found["asvspoof2019_la/LA/ASVspoof2019_LA_eval/flac/LA_E_1.flac"]
    assert (real.label, real.generator, real.subjects, real.split) == (REAL, "", ("LA_0001",), "test")
    fakes = [s for s in manifest if s.label == FAKE]
    assert {(s.generator, s.generator_family) for s in fakes} == {
        ("ASVspoof2019-A07", "TTS"), ("ASVspoof2019-A17", "VC"), ("ASVspoof2019-A13", "TTS-VC"),
    }  # fmt: skip
    assert {s.attributes["waveform_generator"] for s in fakes} == {
        "vocoder and GAN", "waveform filtering", "waveform concatenation and filtering",
    }  # fmt: skip
    assert {s.media for s in manifest} == {"audio"}
    assert manifest.info["status"] == "verified"
    assert manifest.info["inventory"]["partial"] is False


def test_2019_la_files_may_lie_anywhere_below_the_root(tmp_path, monkeypatch):
    tree(tmp_path, {"ASVspoof2019.LA.cm.eval.trl.txt": LA_LINES}, ["LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4"], "flac")
    assert len(door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"]).prepare()) == 4


def test_2019_la_with_exchanged_keys_is_refused(tmp_path, monkeypatch):
    flipped = [line.replace("bonafide", "?").replace("spoof", "bonafide").replace("?", "spoof") for line in LA_LINES]
    la(tmp_path, flipped)
    with pytest.raises(ManifestError, match="bona fide, yet of attack 'A07'") as caught:
        door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"]).prepare()
    assert "spoofed, yet of no attack" in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "names", "said"),
    [
        (LA_LINES, ("LA_E_1", "LA_E_2", "LA_E_3"), "missing: .*LA_E_4.flac"),
        (LA_LINES, ("LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4", "LA_E_9"), "extra: .*LA_E_9.flac"),
        ([*LA_LINES[:3], "LA_0001 LA_E_4 A13 spoof"], ("LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4"), "line 4: 4 columns"),
        ([*LA_LINES[:3], "LA_0001 LA_E_4 - A99 spoof"], ("LA_E_1", "LA_E_2", "LA_E_3"), "unknown attack 'A99'"),
        ([*LA_LINES[:3], "LA_0001 LA_E_4 - A13 fake"], ("LA_E_1", "LA_E_2", "LA_E_3"), "key 'fake' is none of"),
        (LA_LINES[:3], ("LA_E_1", "LA_E_2", "LA_E_3"), "eval spoofed: 2 found, 3 published"),
        ([*LA_LINES, LA_LINES[3]], ("LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4"), "LA_E_4.flac is listed twice"),
    ],
)
def test_2019_la_names_what_is_wrong(tmp_path, monkeypatch, lines, names, said):
    la(tmp_path, lines, names)
    with pytest.raises(ManifestError, match=said):
        door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"]).prepare()


def test_2019_la_goes_on_with_a_partial_copy_and_says_so(tmp_path, monkeypatch):
    la(tmp_path, names=("LA_E_1", "LA_E_2"))
    manifest = door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"], allow_partial=True).prepare()
    record = manifest.info["inventory"]
    assert len(manifest) == 2
    assert record["partial"]
    assert record["numbers"] == {"missing": 2}


def test_2019_la_enrolment_files_are_no_trials(tmp_path, monkeypatch):
    names = ("LA_E_1", "LA_E_2", "LA_E_3", "LA_E_4", "LA_E_7", "LA_E_8")
    la(tmp_path, names=names, **{LA_ENROL: ["LA_0015 LA_E_7,LA_E_8"]})
    assert len(door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"]).prepare()) == 4
    (tmp_path / "LA/ASVspoof2019_LA_eval/flac/LA_E_8.flac").unlink()
    with pytest.raises(ManifestError, match=r"enrolment: .*LA_E_8\.flac"):
        door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS, subsets=["eval"]).prepare()


def test_2019_la_missing_list_is_named_as_published(tmp_path, monkeypatch):
    la(tmp_path)
    with pytest.raises(ManifestError, match=r"list ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt"):
        door(ASVspoof2019LA, tmp_path, monkeypatch, LA_COUNTS).prepare()


def test_unknown_subset_and_missing_folder_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="subset is 'evaluation'"):
        ASVspoof2019LA(root=str(tmp_path), subsets=["evaluation"])
    with pytest.raises(ConfigError, match="subsets is empty"):
        ASVspoof2019LA(root=str(tmp_path), subsets=[])
    with pytest.raises(ManifestError, match="there is no folder"):
        ASVspoof2019LA(root=str(tmp_path / "nowhere"), progress=False).prepare()


def test_2019_la_evaluation_list_as_published(tmp_path, shared):
    """The protocol rebuilt from real trials gives the published numbers (no published count is replaced here)."""
    with gzip.open(shared / "golden" / "asvspoof2019_la_eval_scores.csv.gz", "rt") as stream:
        trials = list(csv.DictReader(stream))
    attacks = ["-" if t["attack"] == "A00" else t["attack"] for t in trials]  # the score file's word for bona fide
    lines = [f"{t['speaker']} {t['utterance']} - {a} {t['key']}" for t, a in zip(trials, attacks, strict=True)]
    tree(tmp_path, {LA_EVAL: lines}, [t["utterance"] for t in trials], "LA/ASVspoof2019_LA_eval/flac")
    manifest = ASVspoof2019LA(root=str(tmp_path), subsets=["eval"], progress=False).prepare()
    labels = manifest.column("label")
    assert len(manifest) == 71_237
    assert int((labels == REAL).sum()) == 7_355
    assert len(set(manifest.column("cluster"))) == 67
    assert set(manifest.column("generator")) - {""} == {f"ASVspoof2019-A{n:02d}" for n in range(7, 20)}
    assert set(manifest.column("split")) == {"test"}
    truth = {t["utterance"]: REAL if t["key"] == "bonafide" else FAKE for t in trials}
    ids = [p.rsplit("/", 1)[1].removesuffix(".flac") for p in manifest.column("path")]
    assert all(truth[i] == label for i, label in zip(ids, labels, strict=True))


PA_LINES = ["PA_0079 PA_T_1 aaa - bonafide", "PA_0079 PA_T_2 abc BC spoof", "PA_0080 PA_T_3 aaa AA spoof"]
PA_LIST = "ASVspoof2019_PA_cm_protocols/ASVspoof2019.PA.cm.train.trn.txt"


def test_2019_pa_tells_environment_and_replay(tmp_path, monkeypatch):
    tree(tmp_path, {PA_LIST: PA_LINES}, ["PA_T_1", "PA_T_2", "PA_T_3"], "ASVspoof2019_PA_train/flac")
    manifest = door(ASVspoof2019PA, tmp_path, monkeypatch, {"train spoofed": 2}, subsets=["train"]).prepare()
    fake = next(s for s in manifest if s.path.endswith("PA_T_2.flac"))
    assert (fake.label, fake.generator, fake.generator_family) == (FAKE, "ASVspoof2019-PA-BC", "replay")
    assert (fake.channel, fake.split) == ("abc", "train")
    assert fake.attributes["attacker_to_talker"] == "50-100 cm"
    assert fake.attributes["replay_device"] == "low"
    tree(tmp_path, {PA_LIST: [*PA_LINES[:2], "PA_0080 PA_T_3 aaa AD spoof"]}, [], "x")
    with pytest.raises(ManifestError, match="unknown attack 'AD'"):
        door(ASVspoof2019PA, tmp_path, monkeypatch, subsets=["train"]).prepare()


LA21 = [
    "LA_0009 LA_E_21 alaw ita_tx A07 spoof notrim eval",
    "LA_0040 LA_E_22 none loc_tx bonafide bonafide notrim eval",
    "LA_0040 LA_E_23 pstn mad_tx bonafide bonafide trim hidden",
    "LA_0009 LA_E_24 g722 loc_tx A19 spoof notrim progress",
]
LA21_NAMES = ("LA_E_21", "LA_E_22", "LA_E_23", "LA_E_24")
DF21 = [
    "LA_0023 DF_E_1 nocodec asvspoof A14 spoof notrim progress traditional_vocoder - - - -",
    "TEF2 DF_E_2 low_m4a vcc2020 Task1-team20 spoof notrim eval neural_vocoder_nonautoregressive Task1 team20 FF E",
    "VCC2TF1 DF_E_3 mp3m4a vcc2018 HUB-B01 spoof notrim eval traditional_vocoder HUB B01 - -",
    "LA_0023 DF_E_4 high_ogg asvspoof - bonafide notrim eval bonafide - - - -",
]
DF21_NAMES = ("DF_E_1", "DF_E_2", "DF_E_3", "DF_E_4")


def both_2021(root):
    """LA and DF beside each other, with the speaker verification keys that must not be taken for the others."""
    tree(root, {"keys/LA/CM/trial_metadata.txt": LA21, "keys/LA/ASV/trial_metadata.txt": ["x"]}, LA21_NAMES,
         "ASVspoof2021_LA_eval/flac")  # fmt: skip
    tree(root, {"keys/DF/CM/trial_metadata.txt": DF21}, DF21_NAMES[:2], "ASVspoof2021_DF_eval_part00/x/flac")
    tree(root, {}, DF21_NAMES[2:], "ASVspoof2021_DF_eval_part01/x/flac")


def test_2021_la_subsets_codecs_and_split(tmp_path, monkeypatch):
    both_2021(tmp_path)
    counts = {"all bona fide": 2, "all spoofed": 2, "eval bona fide": 1, "eval spoofed": 1}
    manifest = door(ASVspoof2021LA, tmp_path, monkeypatch, counts).prepare()
    assert {(s.attributes["subset"], s.split) for s in manifest} == {("eval", "test"), ("hidden", ""), ("progress", "")}
    fake = next(s for s in manifest if s.path.endswith("LA_E_21.flac"))
    assert (fake.label, fake.generator, fake.generator_family) == (FAKE, "ASVspoof2019-A07", "TTS")
    assert (fake.channel, fake.attributes["codec"], fake.subjects) == ("alaw ita_tx", "alaw", ("LA_0009",))
    real = next(s for s in manifest if s.path.endswith("LA_E_22.flac"))
    assert (real.label, real.generator) == (REAL, "")
    assert "codec" not in real.attributes
    evaluation = door(ASVspoof2021LA, tmp_path, monkeypatch, counts, subsets=["eval"]).prepare()
    assert len(evaluation) == 2
    assert set(evaluation.column("split")) == {"test"}


def test_2021_df_names_generators_of_three_sources(tmp_path, monkeypatch):
    both_2021(tmp_path)
    manifest = door(ASVspoof2021DF, tmp_path, monkeypatch).prepare()
    assert {(s.generator, s.generator_family) for s in manifest} == {
        ("ASVspoof2019-A14", "TTS-VC"), ("VCC2020-Task1-team20", "VC"), ("VCC2018-HUB-B01", "VC"), ("", ""),
    }  # fmt: skip
    fake = next(s for s in manifest if s.path.endswith("DF_E_2.flac"))
    assert (fake.channel, fake.attributes["vocoder"]) == ("low_m4a", "neural_vocoder_nonautoregressive")
    assert fake.attributes["target_language"] == "E"
    assert fake.split == "test"


def test_2021_keys_outside_the_root_and_broken_keys(tmp_path, monkeypatch):
    root, keys = tmp_path / "audio", tmp_path / "elsewhere.txt"
    tree(root, {}, LA21_NAMES, "ASVspoof2021_LA_eval/flac")
    with pytest.raises(ManifestError, match=r"list keys/LA/CM/trial_metadata\.txt"):
        door(ASVspoof2021LA, root, monkeypatch).prepare()
    keys.write_text("\n".join(LA21))
    assert len(door(ASVspoof2021LA, root, monkeypatch, keys=str(keys)).prepare()) == 4
    keys.write_text("\n".join([*LA21[:3], LA21[3].replace("progress", "training")]))
    with pytest.raises(ManifestError, match="subset 'training' is none of"):
        door(ASVspoof2021LA, root, monkeypatch, keys=str(keys)).prepare()
    keys.write_text("\n".join(LA21).replace("A07 spoof", "A07 bonafide"))
    with pytest.raises(ManifestError, match="bona fide, yet of attack 'A07'"):
        door(ASVspoof2021LA, root, monkeypatch, keys=str(keys)).prepare()


ASV5 = [
    "E_0001 E_0000000001 F - 0 - - bonafide bonafide -",
    "E_0002 E_0000000002 M C05 3 E_0000000003 AC1 A18 spoof -",
    "E_0002 E_0000000003 M - 0 - AC1 A18 spoof -",
]
ASV5_LIST = "ASVspoof5_protocols/ASVspoof5.eval.track_1.tsv"


def test_asvspoof5_ties_coded_copies_to_their_source(tmp_path, monkeypatch):
    names = [f"E_000000000{n}" for n in (1, 2, 3, 4)]
    lists = {ASV5_LIST: ASV5, "ASVspoof5_protocols/ASVspoof5.eval.track_2.enroll.tsv": ["E_0003 E_0000000004"]}
    tree(tmp_path, lists, names, "flac_E_eval")
    counts = {"eval bona fide": 1, "eval spoofed": 2, "eval files": 4}
    manifest = door(ASVspoof5, tmp_path, monkeypatch, counts, subsets=["eval"]).prepare()
    assert len(manifest) == 3
    coded = next(s for s in manifest if s.path.endswith("2.flac"))
    assert (coded.source_id, coded.channel, coded.generator_family) == ("E_0000000003", "C05 3", "adversarial TTS")
    assert coded.generator == "ASVspoof5-A18"
    assert coded.attributes["codec"] == "mp3 wide band"
    real = next(s for s in manifest if s.label == REAL)
    assert (real.channel, real.source_id, real.attributes["gender"]) == ("", "E_0000000001", "female")
    with pytest.raises(ManifestError, match="eval files: 4 found, 5 published"):
        door(ASVspoof5, tmp_path, monkeypatch, {"eval files": 5}, subsets=["eval"]).prepare()


def test_asvspoof5_refuses_unknown_codecs_and_exchanged_keys(tmp_path, monkeypatch):
    tree(tmp_path, {ASV5_LIST: [ASV5[0], ASV5[1].replace("C05", "C99"), ASV5[2].replace("spoof", "bonafide")]},
         ["E_0000000001"], "flac_E_eval")  # fmt: skip
    with pytest.raises(ManifestError, match="unknown codec condition 'C99'") as caught:
        door(ASVspoof5, tmp_path, monkeypatch, subsets=["eval"]).prepare()
    assert "bona fide, yet of attack 'A18'" in str(caught.value)


def test_keys_read_as_scores_agree_with_the_doors(tmp_path, monkeypatch):
    """A table that the adapter makes joins a manifest that the door makes."""
    la(tmp_path / "a")
    tree(tmp_path / "p", {PA_LIST: PA_LINES}, ["PA_T_1", "PA_T_2", "PA_T_3"], "ASVspoof2019_PA_train/flac")
    both_2021(tmp_path / "b")
    tree(tmp_path / "c", {ASV5_LIST: ASV5}, ["E_0000000001", "E_0000000002", "E_0000000003"], "flac_E_eval")
    doors = {
        tmp_path / "a" / LA_EVAL: door(ASVspoof2019LA, tmp_path / "a", monkeypatch, subsets=["eval"]),
        tmp_path / "p" / PA_LIST: door(ASVspoof2019PA, tmp_path / "p", monkeypatch, subsets=["train"]),
        tmp_path / "b/keys/LA/CM/trial_metadata.txt": door(ASVspoof2021LA, tmp_path / "b", monkeypatch),
        tmp_path / "b/keys/DF/CM/trial_metadata.txt": door(ASVspoof2021DF, tmp_path / "b", monkeypatch),
        tmp_path / "c" / ASV5_LIST: door(ASVspoof5, tmp_path / "c", monkeypatch, subsets=["eval"]),
    }
    seen = set()
    for key, corpus in doors.items():
        trials = read_key(key)
        for sample in corpus.prepare():
            trial = trials[PurePosixPath(sample.path).stem]
            assert (trial.label, trial.generator, trial.channel, trial.cluster) == (
                sample.label, sample.generator, sample.channel, sample.subjects[0],
            )  # fmt: skip
            if "2021" in corpus.name:  # the others give their split by the file's name, which a key does not know
                assert trial.split == sample.split
            seen.add(trial.generator.partition("-")[0])
    assert seen == {"", "ASVspoof2019", "VCC2018", "VCC2020", "ASVspoof5"}
