"""`deepassay metrics`: what it prints, writes, warns about and refuses."""

import gzip
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from deepassay.adapters.reading import read_key, read_scores
from deepassay.cli import main
from deepassay.errors import ScoreError
from deepassay.pipelines.metrics import diagnose, label_words

N = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A key of 30 speakers and two attacks, and score files of a good and a poor system, in ASVspoof's formats."""
    path = tmp_path_factory.mktemp("scores")
    rng = np.random.default_rng(0)
    fake = np.arange(N) % 2
    attack = np.where(fake == 1, np.where(np.arange(N) % 4 == 1, "A07", "A08"), "-")
    key = [f"S{i % 30:02} E_{i:04} - {attack[i]} {'spoof' if fake[i] else 'bonafide'}" for i in range(N)]
    (path / "key.txt").write_text("\n".join(key) + "\n")
    shared = rng.normal(size=N)
    for name, shift in (("good", 3.0), ("poor", 1.0)):
        scores = shared - shift * fake  # grow with bona fide
        (path / f"{name}.txt").write_text("".join(f"E_{i:04} {scores[i]:.6f}\n" for i in range(N)))
        if name == "good":
            rows = ["utt,speaker,attack,truth,score"] + [
                f"E_{i:04},S{i % 30:02},{'ASVspoof2019-' * fake[i]}{attack[i]},"
                f"{'spoof' if fake[i] else 'bonafide'},{scores[i]:.6f}"
                for i in range(N)
            ]
            (path / "good.csv").write_text("\n".join(rows) + "\n")
    return path


def run(capsys, *words) -> tuple[int, str, str]:
    code = main(["metrics", *map(str, words), "--replicates", "200"])
    told = capsys.readouterr()
    return code, re.sub(r"\s+", " ", told.out), told.err


def test_tables_files_and_plots(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(capsys, folder / "good.txt", "--key", folder / "key.txt", "--out", tmp_path / "r", "--llr")
    assert code == 0
    for text in (
        "300 real and 300 fake trials of 2 generators, 30 clusters (speaker)", "negated", "EER (E3, interpolated)",
        "unit: speaker", "Cllr", "A07", "good by generator", "descriptive",
    ):  # fmt: skip
        assert text in out, text
    report = json.loads((tmp_path / "r" / "metrics.json").read_text())
    numbers = {n["id"]: n for n in report["systems"]["good"]["numbers"]}
    assert numbers["auc"]["ci"]["cluster_unit"] == "speaker"
    assert numbers["auc"]["ci"]["n_clusters"] == 30
    assert 0.95 < numbers["auc"]["value"] < 1
    assert numbers["eer_e1"]["ci"] is None
    assert numbers["eer_e1"]["no_ci_reason"]
    assert report["definitions"]["eer"]["definition"] == "eer@1"
    assert {p.name for p in (tmp_path / "r").iterdir()} == {
        "metrics.json", "det.svg", "densities.svg", "reliability.svg", "tippett.svg"
    }  # fmt: skip
    for picture in (tmp_path / "r").glob("*.svg"):
        assert picture.read_text().startswith("<svg")


def test_the_same_trials_give_the_same_numbers_from_every_format(folder, capsys, tmp_path):
    csv = [folder / "good.csv", "--id", "utt", "--label", "truth", "--cluster", "speaker", "--generator", "attack"]
    assert run(capsys, *csv, "--higher", "real", "--out", tmp_path / "csv")[0] == 0
    assert run(capsys, folder / "good.txt", "--key", folder / "key.txt", "--out", tmp_path / "txt")[0] == 0
    one, two = (
        {
            n["id"]: n["value"]
            for n in json.loads((tmp_path / f / "metrics.json").read_text())["systems"]["good"]["numbers"]
        }
        for f in ("csv", "txt")
    )
    assert one == two
    code, _, err = run(capsys, *csv)
    assert code == 2
    assert "--higher real" in err


def test_our_own_calibrated_table(folder, capsys, tmp_path):
    """A table of ours brings polarity, labels, clusters and llrs along: nothing needs to be said."""
    ((table, _),) = read_scores(folder / "good.txt", key=read_key(folder / "key.txt"))
    llr = 3.0 * table.column("score") - 4.5  # normal scores 0 and 3 with unit variance
    table.with_llr(llr, dev_table_sha256="0" * 64).write(tmp_path / "test.parquet")
    code, out, _ = run(capsys, tmp_path / "test.parquet", "--out", tmp_path / "r")
    assert code == 0
    assert "30 clusters (speaker)" in out
    assert "higher = more likely fake" in out  # it was negated when it was imported, and is not again
    assert "treat them as scores" not in out
    numbers = {
        n["id"]: n for n in json.loads((tmp_path / "r" / "metrics.json").read_text())["systems"]["test"]["numbers"]
    }
    assert numbers["calibration_loss"]["value"] < 0.1
    assert numbers["cllr"]["ci"]["method"] == "bootstrap_cluster_expanded"
    assert (tmp_path / "r" / "tippett.svg").is_file()


def test_paired_comparison(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run(
        capsys, folder / "good.txt", "--key", folder / "key.txt", "--baseline", folder / "poor.txt", "--out", tmp_path
    )
    assert code == 0
    assert "good - poor" in out
    assert "p (Holm)" in out
    assert "draws of 30 clusters (unit: speaker)" in out
    assert "Holm over these 3 tests" in out
    found = json.loads((tmp_path / "metrics.json").read_text())["comparisons"]
    assert {d["metric"] for d in found} == {"auc", "eer", "min_dcf"}
    assert all(d["family"] == 3 and d["p_adjusted"] >= d["p"] for d in found)
    assert next(d for d in found if d["metric"] == "auc")["difference"] > 0


def test_reversed_polarity_is_called_out(folder, capsys):
    code, out, _ = run(capsys, folder / "good.txt", "--key", folder / "key.txt", "--higher", "fake")
    assert code == 0
    assert "below 0.5: the polarity looks reversed" in out


def test_missing_trials_count_as_errors(folder, capsys, tmp_path):
    lines = (folder / "good.txt").read_text().splitlines()
    part = tmp_path / "part.txt"
    part.write_text("\n".join([*lines[60:], "E_9999 1.0"]) + "\n")
    code, out, _ = run(capsys, part, "--key", folder / "key.txt", "--out", tmp_path / "r")
    assert code == 0
    assert "60 of 600 trials of the key are not in the score file" in out
    assert "1 scored trials are not in the key" in out
    assert "without its 60 non-responses" in out
    system = json.loads((tmp_path / "r" / "metrics.json").read_text())["systems"]["part"]
    assert system["nonresponse"] == {"real": [30, 300], "fake": [30, 300]}
    numbers = {n["id"]: n["value"] for n in system["numbers"]}
    assert numbers["auc"] < numbers["auc/nonresponse=left_out"] - 0.05


def test_thresholds_from_development_scores(folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    lines = (folder / "good.txt").read_text().splitlines()
    for name, rows in (("dev.txt", lines[:300]), ("test.txt", lines[300:])):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    for name, part in (("dev", slice(0, 300)), ("test", slice(300, 600))):
        key = (folder / "key.txt").read_text().splitlines()[part]
        (tmp_path / f"{name}_key.txt").write_text("\n".join(key) + "\n")
    words = [tmp_path / "test.txt", "--key", tmp_path / "test_key.txt", "--dev", tmp_path / "dev.txt"]
    code, out, _ = run(capsys, *words, "--dev-key", tmp_path / "dev_key.txt", "--threshold", "-1.5")
    assert code == 0
    assert "BPCER 5 % on dev" in out
    assert "score <= " in out
    assert "given -1.5 score <= -1.5" in out
    measured = [tmp_path / "test.txt", "--key", tmp_path / "test_key.txt", "--dev-key", tmp_path / "test_key.txt"]
    code, _, err = run(capsys, *measured, "--dev", tmp_path / "test.txt")
    assert code == 2
    assert "thresholds must come from other trials" in err
    copy = tmp_path / "copy.txt"
    copy.write_text((tmp_path / "test.txt").read_text() + "\n")
    code, _, err = run(capsys, *measured, "--dev", copy)
    assert code == 2
    assert "are also measured" in err


def test_refusals(folder, capsys, tmp_path):
    only_real = tmp_path / "real.txt"
    only_real.write_text("E_1 - bonafide 1\nE_2 - bonafide 2\n")
    assert "no fake trial" in run(capsys, only_real)[2]
    assert "have no label" in run(capsys, folder / "good.txt")[2]
    assert "no such file" in run(capsys, tmp_path / "nowhere")[2]
    (tmp_path / "key2.txt").write_text("S X_1 - - bonafide\n")
    assert "none of its 600 trials" in run(capsys, folder / "good.txt", "--key", tmp_path / "key2.txt")[2]
    words = [folder / "good.txt", "--key", folder / "key.txt"]
    assert "--compare bpcer" in run(capsys, *words, "--compare", "bpcer")[2]
    assert "--label-words" in run(capsys, *words, "--label-words", "1=spoof")[2]


def diagnosed(labels, scores, **more) -> set[str]:
    return {
        w.code for w in diagnose(np.array(labels), np.array(scores), **{"n_clusters": 50, "clustered": True, **more})
    }


def test_warnings_fire_and_are_silent_on_good_scores():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 500)
    good = rng.normal(size=1000) + 2.0 * labels
    assert diagnosed(labels, good) == set()
    assert diagnosed(labels, np.zeros(1000)) == {"constant"}
    assert diagnosed(labels, -good) == {"reversed"}
    assert diagnosed(labels, np.round(good)) >= {"ties"}
    assert diagnosed(labels, np.clip(good, -9.0, 2.0)) >= {"saturation"}
    apart = np.where(labels == 1, 10.0, 0.0) + np.round(rng.random(1000), 1)
    assert "few_distinct" in diagnosed(labels, apart)
    assert diagnosed(labels, good, clustered=False) == {"unclustered"}
    assert diagnosed(labels, good, n_clusters=12) == {"few_clusters"}
    with pytest.raises(ScoreError):
        diagnosed(np.zeros(1000, int), good)


def test_llrs_that_are_none_are_called_scores(folder, capsys):
    code, out, _ = run(capsys, folder / "good.txt", "--key", folder / "key.txt", "--llr")
    assert code == 0
    assert "treat them as scores" in out


def test_label_words():
    assert label_words(["1=fake", "a=b=real"]) == {"1": "fake", "a=b": "real"}
    assert label_words([]) is None


def test_stays_free_of_torch(folder):
    """Canary beside it: importing torch makes the same probe fail."""
    probe = (
        "import sys, deepassay.pipelines.metrics, deepassay.metrics.intervals\n{}\n"
        "sys.exit(any(m.split('.')[0] in ('torch', 'lightning') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", probe.format("")], check=False).returncode == 0
    poisoned = probe.format("sys.modules['torch'] = sys")
    assert subprocess.run([sys.executable, "-c", poisoned], check=False).returncode == 1


def test_metrics_import_numpy_only():
    """Scoring loops and screening import metrics: SciPy, scikit-learn and matplotlib wait until they are needed."""
    probe = (
        "import sys\nimport deepassay.metrics.intervals, deepassay.metrics.comparison, deepassay.metrics.planning\n"
        "import deepassay.metrics.subgroups\n"
        "print([m for m in ('scipy', 'sklearn', 'matplotlib', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_golden_la_file(shared, capsys, tmp_path, monkeypatch):
    """The real score file, cut to every 20th trial here: three systems, t-DCF, Holm."""
    monkeypatch.setenv("COLUMNS", "200")
    folder = shared / "golden"
    with gzip.open(folder / "asvspoof2019_la_eval_scores.csv.gz", "rt") as stream:
        lines = stream.read().splitlines()
    (tmp_path / "la.csv").write_text("\n".join([lines[0], *lines[1::20]]) + "\n")
    code, out, _ = run(
        capsys, tmp_path / "la.csv", "--id", "utterance", "--label", "key", "--cluster", "speaker",
        "--generator", "attack", "--higher", "real", "--score", "ocsoftmax", "amsoftmax", "softmax", "--asv-scores",
        folder / "asvspoof2019_la_eval_asv_scores.txt.gz",
    )  # fmt: skip
    assert code == 0
    assert "min t-DCF (2019, legacy)" in out
    assert "clusters (speaker)" in out
    assert "Holm over these 9 tests" in out
    assert "spoofs accepted 76.0652%" in out
