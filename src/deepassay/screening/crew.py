"""Crew: screeners in processes of their own, so that a crash or a hang of a codec loses one file and not the batch."""

import faulthandler
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import connection, get_context
from types import TracebackType
from typing import TYPE_CHECKING, Any

from deepassay.errors import AssayError, ConfigError

if TYPE_CHECKING:  # the parent stays light: it forks before anything heavy is loaded
    from deepassay.screening.screener import Verdict

_AHEAD = 64  # finished files that may wait for a slow one before them, per worker
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Screened:
    """What became of one path.

    Args:
        path: as given.
        verdicts: at least one, see `Screener.screen`.
        input_sha256: of the file's bytes; None where it was not asked for or cannot be read.
    """

    path: str
    verdicts: "list[Verdict]"
    input_sha256: str | None = None


class Crew(AbstractContextManager["Crew"]):
    """Some screeners at work side by side; results come in the order of the paths, whatever the number of workers.

    A worker that dies (a decoder's crash, the kernel out of memory) or takes longer than ``timeout_s`` for a file is
    replaced; its file becomes an abstention with status ``error`` that says so. All temporary files of the workers lie
    in one folder that goes when the crew ends.

    Args:
        settings: keyword arguments of `Screener`; bundles by path.
        workers: processes.
        timeout_s: longest time for one file, from its being handed over.
        hash_inputs: also give each file's SHA-256.
        start_method: of the processes; by default a fork where nothing heavy has been loaded yet, else a new process.

    Raises:
        AssayError: what `Screener` raises for the settings, on entering.
    """

    def __init__(
        self, settings: Mapping[str, Any], *, workers: int = 1, timeout_s: float = 600.0, hash_inputs: bool = False,
        start_method: str | None = None,
    ) -> None:  # fmt: skip
        if workers < 1 or not timeout_s > 0:
            raise ConfigError(
                f"workers {workers}, timeout {timeout_s}", hint="give at least one worker and a time above 0 seconds"
            )
        self.settings, self.timeout_s, self.hash_inputs = dict(settings), timeout_s, hash_inputs
        if self.settings.get("threads") is None and workers > 1:
            self.settings["threads"] = max(1, _cores() // workers)
        self.n, self.start_method = workers, start_method
        self.replaced = 0
        self._workers: list[_Worker] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "Crew":
        self._context: Any = get_context(self.start_method or _start_method())
        self._folder = tempfile.TemporaryDirectory(prefix="deepassay-screen-")
        try:
            self._workers = [self._start() for _ in range(self.n)]
            for worker in self._workers:
                worker.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers and remove their temporary files."""
        for worker in self._workers:
            worker.kill()
        self._workers = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def screen(self, paths: Iterable[str]) -> Iterator[Screened]:
        """Verdicts on every path, in order; never raises for what is wrong with a file."""
        waiting: dict[int, Screened] = {}
        todo = enumerate(paths)
        begun = given = 0
        exhausted = False
        while True:
            for i, worker in enumerate(self._workers):
                if exhausted or worker.path is not None or begun - given >= _AHEAD * self.n:
                    continue
                entry = next(todo, None)
                if entry is None:
                    exhausted = True
                    break
                begun += 1
                try:
                    worker.hand(*entry)
                except OSError:  # it died since its last file
                    worker = self._workers[i] = self._replace(worker)
                    worker.hand(*entry)
            busy = [worker for worker in self._workers if worker.path is not None]
            if busy:
                self._collect(busy, waiting)
            while given in waiting:
                yield waiting.pop(given)
                given += 1
            if exhausted and not busy and not waiting:
                return

    def _collect(self, busy: "list[_Worker]", waiting: dict[int, Screened]) -> None:
        left = min(worker.deadline for worker in busy) - time.monotonic()
        ready = connection.wait([worker.pipe for worker in busy], timeout=max(0.0, left))
        for worker in busy:
            path = worker.path
            assert path is not None
            if worker.pipe in ready:
                try:
                    verdicts, digest = worker.pipe.recv()
                    waiting[worker.index] = Screened(path, verdicts, digest)
                    worker.path = None
                    continue
                except (EOFError, OSError):
                    fault = worker.death()
            elif time.monotonic() >= worker.deadline:
                fault = f"it took longer than {self.timeout_s:g} seconds"
            else:
                continue
            waiting[worker.index] = Screened(path, [self._lost(path, fault)])
            self._workers[self._workers.index(worker)] = self._replace(worker)

    def _lost(self, path: str, fault: str) -> "Verdict":
        from deepassay.labels import Status
        from deepassay.screening.screener import abstention

        return abstention(path, Status.ERROR, fault, seconds=self.timeout_s if "longer" in fault else 0.0)

    def _start(self) -> "_Worker":
        assert self._folder is not None
        others = [worker.pipe for worker in self._workers]
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work,
            args=(theirs, ours, others if self._context.get_start_method() == "fork" else [], self.settings),
            kwargs={"folder": self._folder.name, "hash_inputs": self.hash_inputs},
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, self.timeout_s)

    def _replace(self, worker: "_Worker") -> "_Worker":
        worker.kill()
        self.replaced += 1
        fresh = self._start()
        fresh.wait_ready()
        return fresh


class _Worker:
    """One process and what it is busy with."""

    def __init__(self, process: Any, pipe: Any, timeout_s: float) -> None:
        self.process, self.pipe, self.timeout_s = process, pipe, timeout_s
        self.index = -1
        self.path: str | None = None
        self.deadline = float("inf")

    def wait_ready(self) -> None:
        try:
            if not self.pipe.poll(_START_S):
                raise AssayError(f"a screener did not start within {_START_S:g} s", hint="try with fewer workers")
            answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise AssayError(
                f"a screener ended while it started ({self.death()})", hint="try --workers 1; see the system's log"
            ) from error
        if answer is not None:
            raise answer

    def hand(self, index: int, path: str) -> None:
        self.pipe.send(path)
        self.index, self.path, self.deadline = index, path, time.monotonic() + self.timeout_s

    def death(self) -> str:
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"the process that read it was ended by {signal.Signals(-code).name}"
        return f"the process that read it ended with exit code {code}"

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.process.close()


def _start_method() -> str:
    # A fork takes two milliseconds, a new process a third of a second; it is safe while no thread pool was started.
    heavy = any(name in sys.modules for name in ("onnxruntime", "torch"))
    return "spawn" if heavy or not hasattr(os, "fork") else "fork"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work(
    pipe: Any, parents_end: Any, others: list[Any], settings: Mapping[str, Any], *, folder: str, hash_inputs: bool
) -> None:
    """Life of a worker: paths in, verdicts out, until the pipe closes."""
    for end in (parents_end, *others):  # a fork holds copies; the pipe must end when the parent does
        end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()  # a crash becomes a verdict, not a stack on the operator's terminal
    tempfile.tempdir = folder
    try:
        from deepassay.screening.screener import Screener

        screener = Screener(**settings)
    except AssayError as error:
        pipe.send(error)
        return
    pipe.send(None)
    # Native decoders write about every damaged byte to standard error, which is the operator's terminal.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while True:
        try:
            path = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send((screener.screen(path), _digest(path) if hash_inputs else None))


def _digest(path: str) -> str | None:
    import stat

    from deepassay.files import sha256_file

    try:
        return sha256_file(path) if stat.S_ISREG(os.stat(path).st_mode) else None
    except OSError:
        return None
