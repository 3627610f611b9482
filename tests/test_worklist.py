"""A work list: the same table whatever the processes; dead workers' parts are gone on with; another job is refused."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import ConfigError, ScoreError
from deepassay.scoring import score_manifest
from deepassay.worklist import _lock, score_worklist

sys.path.append(str(Path(__file__).parent))

from scoring_worlds import Windows, linear, world


@pytest.fixture
def corpus(tmp_path):
    """23 samples, two of which fail: no number of processes below divides them."""
    return world(tmp_path / "media", 23)


OPTIONS = {"views": 3, "batch_size": 4, "part_samples": 4, "progress": False, "poll_s": 0.05}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_table_is_that_of_one_process(corpus, tmp_path, processes):
    alone = score_manifest(corpus, Windows(), linear(), views=3, batch_size=4, progress=False, meta={"detector": "x"})
    table = score_worklist(
        corpus, Windows(), linear, tmp_path / "list", processes=processes, meta={"detector": "x"}, **OPTIONS
    )
    assert table.hash == alone.hash
    assert table.meta == alone.meta
    ours, theirs = (t.table.drop_columns(["seconds"]) for t in (table, alone))
    assert ours.equals(theirs)
    assert sorted(alone.column("status").tolist()).count("error") == 2


def killing(at: int):
    """A detector whose process is killed in its n-th batch."""
    calls, plain = [], linear()

    def predict(data: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(data)

    return predict


def test_what_a_killed_process_leaves_is_gone_on_with(corpus, tmp_path):
    context = __import__("multiprocessing").get_context("spawn")
    options = {**OPTIONS, "part_samples": 12}  # three groups a part
    for _ in range(2):  # each leaves the journal of one part behind, with one group finished
        child = context.Process(
            target=score_worklist, args=(corpus, Windows(), partial(killing, 2), tmp_path / "list"), kwargs=options
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "list").glob("*.jsonl"))) >= 1
    table = score_worklist(corpus, Windows(), linear, tmp_path / "list", **options)
    assert table.hash == score_manifest(corpus, Windows(), linear(), views=3, batch_size=4, progress=False).hash
    assert not list((tmp_path / "list").glob("*.jsonl"))


def test_others_at_work_are_left_alone(corpus, tmp_path):
    folder = tmp_path / "list"
    folder.mkdir()
    with _lock(folder / ".part-00002.lock") as mine:
        assert mine
        assert score_worklist(corpus, Windows(), linear, folder, finish=False, **OPTIONS) is None
        assert len(list(folder.glob("*.parquet"))) == 5
    assert score_worklist(corpus, Windows(), linear, folder, finish=False, **OPTIONS) is not None


def test_another_job_and_mixed_up_parts_are_refused(corpus, tmp_path):
    folder = tmp_path / "list"
    score_worklist(corpus, Windows(), linear, folder, **OPTIONS)
    with pytest.raises(ScoreError, match=r"another scoring job \(differs in facts_sha256\)"):
        score_worklist(corpus, Windows(), linear, folder, **{**OPTIONS, "views": 2})
    (folder / "part-00001.parquet").write_bytes((folder / "part-00002.parquet").read_bytes())
    with pytest.raises(ScoreError, match=r"part-00001\.parquet: holds other samples"):
        score_worklist(corpus, Windows(), linear, folder, **OPTIONS)


def test_what_cannot_be_handed_over_is_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match="cannot be handed"):
        score_worklist(corpus, Windows(), lambda: linear(), tmp_path / "list", processes=2, **OPTIONS)
    with pytest.raises(ConfigError, match="processes 0"):
        score_worklist(corpus, Windows(), linear, tmp_path / "list", processes=0, **OPTIONS)


def test_what_failed_is_scored_again_and_put_in_its_place(corpus, tmp_path):
    table = score_manifest(corpus, Windows(), linear(), views=3, batch_size=4, progress=False)
    failed = table.column("status") == "error"
    for sample in corpus.select(failed):
        corpus.file(sample).write_bytes(np.ones(16, np.float32).tobytes())
    again = score_manifest(corpus.select(failed), Windows(), linear(), views=3, batch_size=4, progress=False)
    whole = table.patched(again)
    assert whole.answered.all()
    assert list(whole.column("sample_id")) == list(table.column("sample_id"))
    once = score_manifest(corpus, Windows(), linear(), views=3, batch_size=4, progress=False)
    np.testing.assert_allclose(whole.column("score"), once.column("score"), rtol=1e-6)  # other batches, other bits
    with pytest.raises(ScoreError, match="scored differently"):
        table.patched(score_manifest(corpus, Windows(), linear(), views=2, progress=False))
