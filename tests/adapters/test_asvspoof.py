"""Score and key formats of the three challenges, line by line."""

import gzip

import pytest

from deepassay.adapters.asvspoof import looks_like_scores, read_asv_scores, read_key, read_scores
from deepassay.errors import ScoreError


def write(folder, text, name="file.txt"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("asvspoof2019", "E_1 - bonafide 2.5\nE_2 A07 spoof -1.5\n\nE_3 A09 spoof 0.25\n"),
        ("asvspoof2021", "E_1 2.5\nE_2 -1.5\nE_3 0.25\n"),
        ("asvspoof5", "filename\tcm-score\nE_1\t2.5\nE_2\t-1.5\nE_3\t0.25\n"),
        ("asvspoof5", "S_1 E_1 2.5 bonafide\nS_2 E_2 -1.5 spoof\nS_2 E_3 0.25 spoof\n"),
        (
            "asvspoof5",
            "spk filename cm-score asv-score sasv-score\nS_1 E_1 2.5 0 1\nS_2 E_2 -1.5 1 2\nS_2 E_3 0.25 1 2\n",
        ),
    ],
)
def test_scores_are_negated(tmp_path, format, text):
    path = write(tmp_path, text)
    assert looks_like_scores(path)
    answers = read_scores(path)
    assert answers.format == format
    assert answers.scores == {"E_1": -2.5, "E_2": 1.5, "E_3": -0.25}
    assert (answers.higher, answers.notes) == ("real", [])
    assert read_scores(path, higher="fake").scores == {"E_1": 2.5, "E_2": -1.5, "E_3": 0.25}
    zipped = tmp_path / "file.gz"
    zipped.write_bytes(gzip.compress(text.encode()))
    assert read_scores(zipped).scores == answers.scores


def test_what_a_score_file_itself_knows(tmp_path):
    old = read_scores(write(tmp_path, "E_1 - bonafide 2.5\nE_2 A07 spoof -1.5\n")).trials
    assert (old["E_1"].label, old["E_1"].generator, old["E_2"].label, old["E_2"].generator) == (
        0, "", 1, "ASVspoof2019-A07"
    )  # fmt: skip
    new = read_scores(write(tmp_path, "S_1 E_1 2.5 nontarget\nS_2 E_2 -1.5 spoof\n")).trials
    assert (new["E_1"].label, new["E_1"].cluster, new["E_2"].label) == (0, "S_1", 1)


@pytest.mark.parametrize(
    ("text", "real", "fake"),
    [
        (  # 2019 LA
            "LA_0039 E_1 - - bonafide\nLA_0014 E_2 - A11 spoof\n", ("LA_0039", "", ""),
            ("LA_0014", "ASVspoof2019-A11", "")
        ),
        (  # 2019 PA: environment in column 3
            "PA_0028 E_1 aaa - bonafide\nPA_0028 E_2 aab AB spoof\n", ("PA_0028", "", "aaa"),
            ("PA_0028", "ASVspoof2019-PA-AB", "aab")
        ),
        (  # 2021 LA
            "LA_0009 E_1 alaw ita_tx bonafide bonafide notrim eval\nLA_0009 E_2 none - A07 spoof trim eval\n",
            ("LA_0009", "", "alaw ita_tx"), ("LA_0009", "ASVspoof2019-A07", "none"),
        ),
        (  # 2021 DF
            "LA_0023 E_1 nocodec asvspoof - bonafide notrim eval - - - - -\n"
            "LA_0043 E_2 mp3m4a vcc2020 A09 spoof notrim eval traditional_vocoder - - - -\n",
            ("LA_0023", "", "nocodec"), ("LA_0043", "VCC2020-A09", "mp3m4a"),
        ),
        (  # 2021 PA
            "PA_0010 E_1 R1 M3 d4 - - - - bonafide notrim eval\nPA_0010 E_2 R1 M3 d4 r1 m1 s4 c4 spoof notrim eval\n",
            ("PA_0010", "", "R1 M3 d4"), ("PA_0010", "ASVspoof2021-PA-r1-m1-s4-c4", "R1 M3 d4"),
        ),
        (  # 5, protocol
            "D_1 E_1 F - - - - bonafide bonafide -\nD_2 E_2 M C05 3 E_9 AC1 A18 spoof -\n",
            ("D_1", "", ""), ("D_2", "ASVspoof5-A18", "C05 3"),
        ),
        (  # 5, full key
            "tar_spk_anon trial_anon asv-label cm-label attack_anon codec\n"
            "S_1 E_1 target bonafide bonafide -\nS_2 E_2 spoof spoof A30 C01\n",
            ("S_1", "", ""), ("S_2", "ASVspoof5-A30", "C01"),
        ),
        ("filename\tcm-label\nE_1\tbonafide\nE_2\tspoof\n", ("", "", ""), ("", "", "")),
    ],
)  # fmt: skip
def test_keys(tmp_path, text, real, fake):
    key = read_key(write(tmp_path, text))
    assert (key["E_1"].label, key["E_2"].label) == (0, 1)
    for trial, want in ((key["E_1"], real), (key["E_2"], fake)):
        assert (trial.cluster, trial.generator, trial.channel) == want


def test_subset_of_a_2021_key(tmp_path):
    path = write(tmp_path, "S E_1 - - - bonafide notrim progress\nS E_2 - - A07 spoof notrim eval\n")
    assert set(read_key(path, subset="eval")) == {"E_2"}
    assert [t.split for t in read_key(path).values()] == ["", "test"], "progress has the speakers of eval"
    with pytest.raises(ScoreError, match="no trial of subset 'hidden'"):
        read_key(path, subset="hidden")


def test_asv_scores_grow_with_the_target_speaker(tmp_path):
    path = write(tmp_path, "bonafide target 7.98\nbonafide nontarget -3\nA07 spoof 1.2\nA07 spoof 1.4\n")
    target, nontarget, spoof = read_asv_scores(path)
    assert (target.tolist(), nontarget.tolist(), spoof.tolist()) == ([7.98], [-3.0], [1.2, 1.4])
    with pytest.raises(ScoreError, match="no spoof trial"):
        read_asv_scores(write(tmp_path, "bonafide target 1\nbonafide nontarget 2\n"))
    with pytest.raises(ScoreError, match="line 1"):
        read_asv_scores(write(tmp_path, "bonafide genuine 1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("E_1 2.5\nE_2\n", "line 2: 1 columns"),
        ("E_1 2.5\nE_2 high\n", "score 'high' is not a number"),
        ("E_1 2.5\nE_1 2.6\n", "occurs again"),
        ("E_1 - genuine 2.5\n", "no ASVspoof score"),
        ("E_1 - bonafide 2.5\nE_2 A07 sp00f 1\n", "'sp00f' is not one of"),
        ("one two three\n", "no ASVspoof score"),
        ("filename cm-label\nE_1 bonafide\n", "filename and cm-score"),
    ],
)
def test_bad_scores(tmp_path, text, message):
    with pytest.raises(ScoreError, match=message):
        read_scores(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S E_1 - bonafide\n", "no ASVspoof key"),
        ("S E_1 - - bonafide\nS E_2 - A07 fake\n", "'fake' is not one of"),
        ("S E_1 - - bonafide\nS E_1 - A07 spoof\n", "has two keys"),
        ("S E_1 - - bonafide\nS E_2 A07 spoof\n", "line 2: 4 columns"),
        ("filename asv-label\nE_1 target\n", "needs filename"),
    ],
)
def test_bad_keys(tmp_path, text, message):
    with pytest.raises(ScoreError, match=message):
        read_key(write(tmp_path, text))


def test_no_answer_and_broken_answers_are_told_apart(tmp_path):
    answers = read_scores(write(tmp_path, "E_1 1.0\nE_2 -\nE_3 nan\nE_4 inf\nE_1 1.0\n"))
    assert answers.scores == {"E_1": -1.0, "E_2": None, "E_3": None, "E_4": None}
    assert answers.reasons["E_3"] == "the score file says nan"
    text = " ".join(answers.notes)
    assert "1 lines repeat a trial" in text
    assert "2 scores are NaN or infinite" in text
    assert "1 trials have no score" in text


def test_real_files(shared):
    target, nontarget, spoof = read_asv_scores(shared / "golden" / "asvspoof2019_la_eval_asv_scores.txt.gz")
    assert min(target.size, nontarget.size, spoof.size) > 1000
