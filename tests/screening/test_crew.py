"""The crew: order, crashes, hangs and temporary files, with real processes."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import BundleError, ConfigError
from deepassay.files import sha256_file
from deepassay.screening.bundle import write_bundle
from deepassay.screening.crew import Crew
from deepassay.screening.screener import Screener


@pytest.fixture
def box(tmp_path, square, bundle_parts, monkeypatch) -> Path:
    from PIL import Image

    write_bundle(tmp_path / "face", **bundle_parts(square))
    for i in range(12):
        Image.fromarray(np.full((64, 64, 3), 20 * i, np.uint8)).save(tmp_path / f"{i:02}.png")
    prepare = type(square).prepare

    def trapped(self, path):
        if "crash" in Path(path).name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in Path(path).name:
            time.sleep(60)
        return prepare(self, path)

    monkeypatch.setattr(type(square), "prepare", trapped)
    for name in ("crash.png", "hang.png"):
        Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(tmp_path / name)
    return tmp_path


def crew(box: Path, **more) -> Crew:
    return Crew({"bundles": [str(box / "face")]}, start_method="fork", **more)


def timeless(verdict) -> dict:
    return {key: value for key, value in verdict.to_dict().items() if key != "seconds"}


@pytest.mark.parametrize("workers", [1, 3])
def test_verdicts_are_those_of_the_screener_in_the_order_of_the_paths(box, workers):
    paths = [str(box / f"{i:02}.png") for i in (5, 0, 11, 3, 7, 1, 9)] + [str(box / "gone.png")]
    with crew(box, workers=workers, hash_inputs=True) as hands:
        got = list(hands.screen(paths))
    assert [one.path for one in got] == paths
    screener = Screener([box / "face"])
    for one in got:
        assert [timeless(v) for v in one.verdicts] == [timeless(v) for v in screener.screen(one.path)]
    assert got[0].input_sha256 == sha256_file(paths[0])
    assert got[-1].input_sha256 is None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_loses_one_file(box, workers):
    paths = [str(box / name) for name in ("01.png", "crash.png", "02.png", "03.png", "crash.png", "04.png")]
    with crew(box, workers=workers) as hands:
        got = list(hands.screen(paths))
        assert hands.replaced == 2
    assert [one.path for one in got] == paths
    lost = [one.verdicts[0] for one in got if "crash" in Path(one.path).name]
    assert all(v.decision == "abstain" and v.status == "error" and "SIGSEGV" in v.reason for v in lost)
    assert all(one.verdicts[0].status == "ok" for one in got if "crash" not in Path(one.path).name)


def test_a_hang_loses_one_file_after_the_limit(box):
    begin = time.monotonic()
    with crew(box, workers=1, timeout_s=1.0) as hands:
        got = list(hands.screen([str(box / name) for name in ("hang.png", "05.png")]))
    assert time.monotonic() - begin < 30
    assert "longer than 1 seconds" in got[0].verdicts[0].reason
    assert got[1].verdicts[0].status == "ok"


def test_a_bundle_that_is_refused_shows_before_any_file(box):
    (box / "face" / "card.md").write_text("other")
    with pytest.raises(BundleError, match="altered"), crew(box, workers=2):
        pass


def test_no_process_and_no_temporary_file_stays(box, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(box / "tmp"))
    (box / "tmp").mkdir()
    with crew(box, workers=2, timeout_s=1.0) as hands:
        list(hands.screen([str(box / name) for name in ("01.png", "crash.png", "hang.png", "02.png")]))
        pids = [worker.process.pid for worker in hands._workers]
        assert list((box / "tmp").iterdir())
    assert not list((box / "tmp").iterdir())
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_callers_break_ends_the_workers(box):
    with crew(box, workers=2) as hands:
        for _ in hands.screen(str(box / f"{i:02}.png") for i in range(12)):
            break
    assert hands._workers == []


def test_settings_that_make_no_sense(box):
    with pytest.raises(ConfigError, match="workers 0"):
        crew(box, workers=0)
