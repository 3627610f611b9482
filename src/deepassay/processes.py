"""Processes that belong together: who this one is among several, dying with one's parent, and telling why one died."""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Which of several processes this is.

    Args:
        rank: 0 to ``ranks`` - 1; what only one may do is done by rank 0.
        ranks: processes that work together, on all machines.
        job: a name that they share and another start does not have.
    """

    rank: int = 0
    ranks: int = 1
    job: str = ""

    @classmethod
    def here(cls, environment: Mapping[str, str] | None = None) -> "Place":
        """As torchrun (``RANK``, ``WORLD_SIZE``) or ``srun`` (``SLURM_PROCID``, ``SLURM_NTASKS``) say; else alone."""
        env = os.environ if environment is None else environment
        if "TORCHELASTIC_RUN_ID" in env and int(env.get("WORLD_SIZE", "1")) > 1:
            job = f"{env['TORCHELASTIC_RUN_ID']}-{env.get('TORCHELASTIC_RESTART_COUNT', '0')}-{env.get('MASTER_PORT')}"
            return cls(int(env["RANK"]), int(env["WORLD_SIZE"]), job)
        # A shell inside an allocation has SLURM_NTASKS, too; only srun gives each process a number and a step.
        if "SLURM_PROCID" in env and "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", "1")) > 1:
            job = f"{env.get('SLURM_JOB_ID')}.{env['SLURM_STEP_ID']}-{env.get('SLURM_RESTART_COUNT', '0')}"
            return cls(int(env["SLURM_PROCID"]), int(env["SLURM_NTASKS"]), job)
        return cls()


def die_with_parent() -> None:
    """Have this process end when the process that started it is gone; call it first in every spawned worker.

    Queues do not tell: all workers of a pool hold both ends of its pipe, so that none ever sees it close. On Linux the
    kernel kills; elsewhere a thread looks after the parent. Without a parent known to multiprocessing nothing happens.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        from multiprocessing.connection import wait

        wait([parent.sentinel])
        os._exit(1)

    # A thread and not PR_SET_PDEATHSIG: that fires when the parent's *thread* ends, which a pool's may do.
    threading.Thread(target=watch, name="die with parent", daemon=True).start()


def how_it_ended(code: int | None) -> str:
    """An exit code in words: ``exit code 3``, or ``SIGKILL (...)`` where a signal ended the process."""
    if code is None:
        return "no exit code"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if sys.platform != "win32" and -code == signal.SIGKILL:
        return f"{name} (killed: by hand, by the scheduler, or by the kernel for lack of memory)"
    return name
