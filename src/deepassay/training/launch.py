"""One training in several processes of this machine: start them, hand signals on, end all when one dies."""

import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any
from uuid import uuid4

import torch

from deepassay.errors import AssayError, ConfigError
from deepassay.processes import die_with_parent, how_it_ended

# What the others may take to say how they ended, once one has failed.
_GRACE_S = 15.0


class PeerLostError(AssayError):
    """Another rank went away: what happened to it is the cause, and this is not."""


def local_processes(accelerator: str, devices: int | str | list[int]) -> int:
    """How many processes a training takes on one machine: one per device.

    Raises:
        ConfigError: ``devices`` is no number of devices.
    """
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    if isinstance(devices, list | tuple):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    if str(devices) in ("auto", "-1"):
        return max(1, torch.cuda.device_count()) if on_gpu else 1
    try:
        count = int(devices)
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigError(f"devices is {devices!r}", hint="give a number of devices, a list of them, or auto")
    return count


def run_ranks(function: Callable[..., Any], arguments: Mapping[str, Any], ranks: int) -> Any:
    """Call a function in ``ranks`` new processes that find one another through ``torch.distributed``.

    Args:
        function: importable by its name; called with ``arguments`` on every rank, where `Place.here` tells the rank.

    Returns:
        what rank 0 returns.

    Raises:
        ConfigError: arguments that cannot be handed to another process.
        AssayError: what a rank raised, or that one died; the others are ended.
    """
    try:
        pickle.dumps((function, dict(arguments)))
    except Exception as error:
        raise ConfigError(
            f"{ranks} devices need their own processes, and an argument cannot be handed to one ({error})",
            hint="give functions of a module (functools.partial) instead of lambdas, or start with torchrun",
        ) from error
    context = get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    threads = max(1, torch.get_num_threads() // ranks)
    job = uuid4().hex
    processes: list[SpawnProcess] = []
    lines: list[Connection] = []
    with _handed_on(processes):
        for rank in range(ranks):
            ours, theirs = context.Pipe(duplex=False)
            body = (function, dict(arguments), rank, ranks, port, job, threads, theirs)
            process = context.Process(target=_rank, args=body, name=f"rank {rank}")
            process.start()
            theirs.close()
            processes.append(process)
            lines.append(ours)
        return _gather(processes, lines)


def _gather(processes: list[SpawnProcess], lines: list[Connection]) -> Any:
    said: dict[int, tuple[str, Any]] = {}
    end: float | None = None
    try:
        while len(said) < len(lines) and (end is None or time.monotonic() < end):
            open_lines = [line for rank, line in enumerate(lines) if rank not in said]
            for line in wait(open_lines, timeout=None if end is None else max(0.0, end - time.monotonic())):
                rank = lines.index(line)  # type: ignore[arg-type]
                try:
                    said[rank] = lines[rank].recv()
                except (EOFError, OSError):
                    processes[rank].join()
                    said[rank] = ("dead", how_it_ended(processes[rank].exitcode))
                if said[rank][0] != "result" and end is None:
                    end = time.monotonic() + _GRACE_S
    finally:
        if end is not None or len(said) < len(lines):
            for process in processes:
                if process.is_alive():
                    process.kill()
        for process in processes:
            process.join()
    for kind in ("dead", "error", "crash", "lost"):  # the cause before what it brought about
        for rank, (word, value) in sorted(said.items()):
            if word != kind:
                continue
            if kind in ("error", "lost"):
                raise value
            what = f"ended with {value}" if kind == "dead" else f"failed:\n{value}"
            raise AssayError(
                f"the process of rank {rank} of {len(lines)} {what}",
                hint="the same command goes on from the last saved state; see above for what it printed",
            )
    return said[0][1]


@contextmanager
def _handed_on(processes: list[SpawnProcess]) -> Iterator[None]:
    """Hand SIGTERM and Ctrl-C on to the ranks, which save and end; and a launcher's signals, such as SIGUSR2."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    for name in ("SIGUSR1", "SIGUSR2"):
        number = getattr(signal, name, None)
        if number is not None and callable(signal.getsignal(number)):
            numbers.append(number)
    before = {number: signal.getsignal(number) for number in numbers}
    arrived: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        for process in processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, signal.SIGTERM if number not in numbers[:2] else number)

    for number in numbers:
        signal.signal(number, hand_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in arrived[:1]:
        if number not in numbers[:2]:
            signal.raise_signal(number)  # the launcher's: everything is saved, it requeues


def _rank(
    function: Callable[..., Any], arguments: dict[str, Any], rank: int, ranks: int, port: int, job: str, threads: int,
    line: Connection,
) -> None:  # fmt: skip
    """Body of one process."""
    die_with_parent()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is the parent's to hand on
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), GROUP_RANK="0",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID=job, NODE_RANK="0",
    )  # fmt: skip
    if not torch.cuda.is_available():
        torch.set_num_threads(threads)
    try:
        result = function(**arguments)
        message = ("result", result if rank == 0 else None)
    except AssayError as error:
        message = ("lost" if isinstance(error, PeerLostError) else "error", error)
    except BaseException:
        message = ("crash", traceback.format_exc())
    line.send(message)
    line.close()
    if torch.distributed.is_available() and torch.distributed.is_initialized() and message[0] == "result":
        torch.distributed.destroy_process_group()
