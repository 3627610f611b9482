"""Scoring a manifest: every sample accounted for, same bits whatever the workers, journal, faults of one or of all."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepassay.errors import AssayError, ConfigError, MissingDependencyError, ScoreError
from deepassay.labels import Status, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Views
from deepassay.scoring import score_file, score_manifest


class Numbers:
    """A stand-in modality: a text file of numbers; each number is one view of three samples."""

    name = "voice"
    input_shape = (3,)
    contract: dict[str, Any] = {"kind": "numbers"}  # noqa: RUF012
    fingerprint = "f" * 64

    def prepare(self, path: str | Path) -> Views:
        text = Path(path).read_text()
        if not text:
            raise Unusable(Status.NO_SPEECH, "nothing is said")
        if text == "setup":
            raise MissingDependencyError("no finder", hint="fetch it")
        values = np.array([float(word) for word in text.split()], dtype=np.float32)
        n = len(values)
        return Views(np.repeat(values[:, None], 3, 1), np.arange(n) / 2, np.ones(n, np.float32), np.zeros(n, np.int32))

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        return prepared.take(np.unique(np.linspace(0, len(prepared) - 1, k).round().astype(int)))

    def pool(self, logits: np.ndarray, views: Views) -> float:
        return float(np.mean(logits))


def predict(data: np.ndarray) -> np.ndarray:
    return data.astype(np.float64).mean(1) * 2


def corpus(folder: Path, texts: list[str], **more: Any) -> Manifest:
    samples = []
    for i, text in enumerate(texts):
        (folder / f"{i}.txt").write_text(text)
        samples.append(
            Sample(**{
                "sample_id": f"s{i}", "path": f"{i}.txt", "media": "audio", "modality": "voice", "label": i % 2,
                "split": "dev", **more,
            })
        )  # fmt: skip
    return Manifest.from_samples(samples, folder, {"name": "numbers", "synthetic": True})


def test_every_sample_gets_a_row_in_manifest_order(tmp_path):
    manifest = corpus(tmp_path, ["1 2 3", "", "not a number", "4"])
    (tmp_path / "3.txt").unlink()
    out = score_manifest(manifest, Numbers(), predict, progress=False, meta={"detector": "mean"})
    assert list(out.column("sample_id")) == ["s0", "s1", "s2", "s3"]
    assert list(out.column("status")) == ["ok", "no_speech", "error", "error"]
    assert out.column("score")[0] == 4.0
    assert np.isnan(out.column("score")[1:]).all()
    assert list(out.column("n_views")) == [3, 0, 0, 0]
    assert list(out.column("n_tracks")) == [1, 0, 0, 0]
    assert out.column("reason")[1] == "nothing is said"
    assert out.column("reason")[2].startswith("ValueError: could not convert")
    assert out.column("reason")[3].startswith("FileNotFoundError")
    assert str(tmp_path) not in "".join(out.column("reason"))
    assert (out.column("seconds") > 0).all()
    assert out.meta["detector"] == "mean"
    assert out.meta["views"] == 8
    assert out.synthetic


@pytest.mark.parametrize("options", [{"workers": 3}, {"workers": 2, "worker_kind": "process"}, {"batch_size": 2}])
def test_workers_change_nothing(tmp_path, options, monkeypatch):
    head = (
        "from pathlib import Path\nfrom typing import Any\nimport numpy as np\n"
        "from deepassay.errors import MissingDependencyError\nfrom deepassay.labels import Status, Unusable\n"
        "from deepassay.modality.views import Views\n"
    )
    (tmp_path / "stand_in_numbers.py").write_text(head + inspect.getsource(Numbers))  # importable by other processes
    monkeypatch.syspath_prepend(tmp_path)
    modality = importlib.import_module("stand_in_numbers").Numbers()
    texts = [" ".join(str(i * 10 + j) for j in range(1 + i % 5)) for i in range(12)]
    texts[4] = ""
    manifest = corpus(tmp_path, texts)
    alone = score_manifest(
        manifest, Numbers(), predict, views=3, batch_size=options.get("batch_size", 4), progress=False
    )
    other = score_manifest(manifest, modality, predict, views=3, **{"batch_size": 4, **options}, progress=False)
    monkeypatch.delitem(sys.modules, "stand_in_numbers")
    assert other.hash == alone.hash
    assert alone.column("n_views").max() == 3


def test_the_detector_never_sees_more_than_a_batch(tmp_path):
    seen = []

    def watch(data: np.ndarray) -> np.ndarray:
        seen.append(len(data))
        return predict(data)

    manifest = corpus(tmp_path, ["1 2 3 4 5"] * 7)
    out = score_manifest(manifest, Numbers(), watch, batch_size=4, progress=False)
    assert max(seen) == 4
    assert sum(seen) == 35
    assert set(out.column("score")) == {6.0}


def test_one_file_that_breaks_the_detector_does_not_spoil_its_batch(tmp_path):
    def fragile(data: np.ndarray) -> np.ndarray:
        if (data == 13).any():
            raise RuntimeError(f"bad luck with {tmp_path}/13.txt")
        return np.where(data[:, 0] == 7, np.nan, predict(data))

    out = score_manifest(corpus(tmp_path, ["1", "13", "7", "2"]), Numbers(), fragile, progress=False)
    assert list(out.column("status")) == ["ok", "error", "error", "ok"]
    assert out.column("reason")[1] == "detector: RuntimeError: bad luck with 13.txt"
    assert "not finite" in out.column("reason")[2]


def test_a_detector_that_fails_on_everything_is_an_error_not_a_table(tmp_path):
    def broken(data: np.ndarray) -> np.ndarray:
        raise RuntimeError("no device")

    with pytest.raises(ScoreError, match="failed on all of the first 5 files"):
        score_manifest(corpus(tmp_path, ["1"] * 5), Numbers(), broken, progress=False)
    with pytest.raises(ScoreError, match="shape"):
        score_manifest(corpus(tmp_path, ["1"]), Numbers(), lambda data: data, progress=False)


def test_faults_of_the_set_up_end_the_batch(tmp_path):
    with pytest.raises(MissingDependencyError, match="fetch it"):
        score_manifest(corpus(tmp_path, ["1", "setup"]), Numbers(), predict, progress=False)
    with pytest.raises(ConfigError, match="views=0"):
        score_manifest(corpus(tmp_path, ["1"]), Numbers(), predict, views=0)
    unpicklable = Numbers()
    unpicklable.extra = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="another process"):
        score_manifest(corpus(tmp_path, ["1"]), unpicklable, predict, workers=1, worker_kind="process", progress=False)


def test_a_sample_of_the_other_modality_is_out_of_scope(tmp_path):
    out = score_manifest(corpus(tmp_path, ["1"], modality="face", media="video"), Numbers(), predict, progress=False)
    assert list(out.column("status")) == ["out_of_scope"]
    assert "face sample" in out.column("reason")[0]


class Cupboard:
    """A stand-in store."""

    fingerprint = Numbers.fingerprint

    def views(self, sample_id: str) -> Views:
        if sample_id == "s1":
            raise Unusable(Status.TOO_SHORT, "0.1 s of speech")
        return Views(np.full((1, 3), 5.0, np.float32), np.zeros(1), np.ones(1, np.float32), np.zeros(1, np.int32))


def test_a_store_is_read_instead_of_files_and_must_be_of_the_same_modality(tmp_path):
    manifest = corpus(tmp_path, ["", ""])
    out = score_manifest(manifest, Numbers(), predict, store=Cupboard(), progress=False)
    assert list(out.column("status")) == ["ok", "too_short"]
    assert out.column("score")[0] == 10.0

    class Damaged(Cupboard):
        def views(self, sample_id: str) -> Views:
            raise AssayError("a shard is damaged", hint="prepare it again")

    with pytest.raises(AssayError, match="shard"):
        score_manifest(manifest, Numbers(), predict, store=Damaged(), progress=False)
    stale = Cupboard()
    stale.fingerprint = "0" * 64
    with pytest.raises(ConfigError, match="prepared with modality 000"):
        score_manifest(manifest, Numbers(), predict, store=stale, progress=False)


def test_an_interrupted_batch_goes_on_and_ends_with_the_same_table(tmp_path):
    manifest = corpus(tmp_path, [f"{i} {i + 1}" if i != 5 else "" for i in range(11)])
    whole = score_manifest(manifest, Numbers(), predict, batch_size=3, progress=False)
    journal = tmp_path / "run" / "journal.jsonl"
    calls = 0

    def interrupted(data: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise KeyboardInterrupt
        return predict(data)

    with pytest.raises(KeyboardInterrupt):
        score_manifest(manifest, Numbers(), interrupted, batch_size=3, progress=False, resume_path=journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) in (4, 7)
    journal.write_bytes(b"".join(lines) + lines[-1][:20])  # a torn tail, as a power cut leaves it
    finished_calls = []

    def rest(data: np.ndarray) -> np.ndarray:
        finished_calls.append(len(data))
        return predict(data)

    again = score_manifest(manifest, Numbers(), rest, batch_size=3, progress=False, resume_path=journal)
    assert again.hash == whole.hash
    assert list(again.column("reason")) == list(whole.column("reason"))
    assert sum(finished_calls) < 20
    assert all(json.loads(line) for line in journal.read_text().splitlines())
    third = score_manifest(manifest, Numbers(), interrupted, batch_size=3, progress=False, resume_path=journal)
    assert third.table.equals(again.table)


def test_a_journal_of_something_else_is_refused_and_kept(tmp_path):
    manifest = corpus(tmp_path, ["1", "2"])
    journal = tmp_path / "journal.jsonl"
    score_manifest(manifest, Numbers(), predict, progress=False, resume_path=journal, meta={"detector": "a"})
    with pytest.raises(ScoreError, match="another batch"):
        score_manifest(manifest, Numbers(), predict, progress=False, resume_path=journal, meta={"detector": "b"})
    for content in (b"my diary", b"my\ndiary\n", b"[1]\n"):
        journal.write_bytes(content)
        with pytest.raises(ScoreError, match="not a journal"):
            score_manifest(manifest, Numbers(), predict, progress=False, resume_path=journal)
        assert journal.read_bytes() == content


def test_progress_reaches_the_total(tmp_path):
    seen = []
    score_manifest(
        corpus(tmp_path, ["1"] * 5),
        Numbers(),
        predict,
        batch_size=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_one_file_is_scored_like_a_row(tmp_path):
    (tmp_path / "a.txt").write_text("1 2 3")
    one = score_file(Numbers(), predict, tmp_path / "a.txt", views=2)
    assert one.score == 4.0
    assert one.n_views == 2
    assert one.start_s is not None
    assert list(one.start_s) == [0.0, 1.0]
    gone = score_file(Numbers(), predict, tmp_path / "b.txt")
    assert (gone.status, gone.score) == (Status.ERROR, None)


def test_scoring_one_file_needs_no_arrow():
    code = (
        "import sys, deepassay.scoring;"
        "bad = {'pyarrow', 'scipy', 'torch', 'rich'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
