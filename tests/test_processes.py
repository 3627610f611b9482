"""Processes that belong together: workers end with the parent that was killed, and deaths are told in words."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from deepassay.processes import how_it_ended

PARENT = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from deepassay.processes import die_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer={initializer})
    print(*{{pool.submit(os.getpid).result() for _ in range(4)}}, flush=True)
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def orphans(tmp_path: Path, initializer: str) -> list[int]:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(initializer=initializer))
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    workers = [int(word) for word in process.stdout.readline().split()]
    assert workers
    assert all(alive(w) for w in workers)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(w) for w in workers) and time.monotonic() < deadline and initializer != "None":
        time.sleep(0.05)
    left = [w for w in workers if alive(w)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    return left


def test_workers_end_with_a_killed_parent(tmp_path):
    assert orphans(tmp_path, "die_with_parent") == []


def test_without_it_they_would_stay(tmp_path):
    """The canary: a pool's workers alone never notice."""
    assert orphans(tmp_path, "None")


def test_ends_in_words():
    assert how_it_ended(3) == "exit code 3"
    assert how_it_ended(-signal.SIGKILL).startswith("SIGKILL (killed")
    assert how_it_ended(-signal.SIGSEGV) == "SIGSEGV"
    assert how_it_ended(-250) == "signal 250"
    assert how_it_ended(None) == "no exit code"
