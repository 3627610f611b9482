"""Scoring as a folder of parts: any process on any machine takes the next, goes on with a dead one's, or merges."""

import functools
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from deepassay.errors import AssayError, ConfigError, ScoreError
from deepassay.files import check_space, fingerprint, write_json
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality
from deepassay.processes import die_with_parent, how_it_ended
from deepassay.scores import ScoreTable
from deepassay.scoring import Predict, PreparedSource, score_manifest

PLAN = "worklist.json"
_log = logging.getLogger(__name__)


def score_worklist(
    manifest: Manifest, modality: Modality, make_predict: Callable[[], Predict], folder: str | Path, *, views: int = 8,
    store: PreparedSource | None = None, batch_size: int = 32, part_samples: int = 256, processes: int = 1,
    finish: bool = True, meta: Mapping[str, Any] | None = None, progress: bool = True, poll_s: float = 1.0,
) -> ScoreTable | None:  # fmt: skip
    """Score a manifest together with whoever else works in the same folder; the table is that of `score_manifest`.

    Parts are whole groups of ``batch_size`` samples in manifest order, so that batches, and with them the scores, are
    the same to the bit whatever the number of processes. A part is taken by a lock that ends with its process; a part
    that a dead process has begun is gone on with from its journal. Folder and files must be on a file system that all
    share and that has locks.

    Args:
        manifest, modality, views, store, batch_size, meta: as for `scoring.score_manifest`.
        make_predict: gives the detector; called once in every process, importable (or a partial) for more than one.
        folder: of the parts; made if absent. Delete it once the table is written.
        part_samples: samples per part, rounded up to whole groups.
        processes: that work here; 1 is this one.
        finish: wait for parts that others are working on, and merge; False: return when no part is free.
        poll_s: how often to look whether a part that another process holds has become free.

    Returns:
        the whole table; None where others are still at work and ``finish`` is false.

    Raises:
        ScoreError: the folder holds the parts of another job; a part does not fit the manifest.
        ConfigError: settings that make no sense, or a detector that cannot be handed to another process.
        AssayError: a process died; what is finished is kept.
    """
    if processes < 1 or part_samples < 1:
        raise ConfigError(f"processes {processes}, part_samples {part_samples}", hint="both are at least 1")
    folder = Path(folder)
    facts = {"views": views, "modality_fingerprint": modality.fingerprint, **(meta or {})}
    rows = -(-part_samples // batch_size) * batch_size
    plan = {
        "manifest_sha256": manifest.hash, "batch_size": batch_size, "rows_per_part": rows,
        "parts": max(1, -(-len(manifest) // rows)), "facts_sha256": fingerprint(facts),
    }  # fmt: skip
    _same_plan(folder, plan)
    check_space(folder, 500.0 * len(manifest), what="scores")
    job = (manifest, modality, make_predict, folder, rows, plan["parts"])
    options = {"views": views, "store": store, "batch_size": batch_size, "meta": meta}
    if processes > 1:
        _spread(processes, job, options)
    _work(job, options, progress)
    while not all(_done(folder, part).is_file() for part in range(plan["parts"])):
        if not finish:
            return None
        time.sleep(poll_s)
        _work(job, options, progress)  # a part whose process has died is free again
    return _merge(manifest, folder, plan["parts"], rows, facts)


def _same_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    path = folder / PLAN
    if not path.is_file():
        write_json(path, plan)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    differing = sorted(key for key in plan if before.get(key) != plan[key])
    if differing:
        raise ScoreError(
            f"{folder} holds the parts of another scoring job (differs in {', '.join(differing)})",
            hint="delete that folder, or give another",
        )


def _done(folder: Path, part: int) -> Path:
    return folder / f"part-{part:05d}.parquet"


def _work(job: tuple[Any, ...], options: Mapping[str, Any], progress: bool) -> None:
    """Take parts until none is free."""
    manifest, modality, make_predict, folder, rows, parts = job
    predict: Callable[[], Predict] = functools.cache(make_predict)  # made by who finds something to do
    begin = os.getpid() % parts  # not all at the same end
    for number in range(parts):
        part = (begin + number) % parts
        if _done(folder, part).is_file():
            continue
        with _lock(folder / f".part-{part:05d}.lock") as mine:
            if not mine or _done(folder, part).is_file():
                continue
            journal = folder / f"part-{part:05d}.jsonl"
            table = score_manifest(
                _slice(manifest, part, rows), modality, predict(), progress=progress, resume_path=journal, **options
            )
            table.write(_done(folder, part))
            journal.unlink(missing_ok=True)


def _slice(manifest: Manifest, part: int, rows: int) -> Manifest:
    return Manifest(manifest.table.slice(part * rows, rows), manifest.root, manifest.info)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether the lock is ours; it ends with this process, however that ends."""
    with open(path, "a", encoding="utf-8") as stream:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _merge(manifest: Manifest, folder: Path, parts: int, rows: int, facts: Mapping[str, Any]) -> ScoreTable:
    import pyarrow as pa

    tables = []
    for part in range(parts):
        table = ScoreTable.read(_done(folder, part))
        if list(table.column("sample_id")) != list(_slice(manifest, part, rows).column("sample_id")):
            raise ScoreError(
                f"{_done(folder, part)}: holds other samples than its part of the manifest",
                hint="delete that file and run the same command again",
            )
        tables.append(table.table)
    about = {"manifest_sha256": manifest.hash, "synthetic": manifest.synthetic, "corpus": manifest.name}
    return ScoreTable(pa.concat_tables(tables).combine_chunks(), {**about, **facts})


def _spread(processes: int, job: tuple[Any, ...], options: Mapping[str, Any]) -> None:
    """Work in new processes until none finds a free part."""
    import pickle

    try:
        pickle.dumps((job, dict(options)))
    except Exception as error:
        raise ConfigError(
            f"the detector, modality or store cannot be handed to another process ({error})",
            hint="use processes=1, or functions of a module instead of lambdas",
        ) from error
    context = get_context("spawn")
    running: dict[Any, tuple[Any, Connection]] = {}
    for _ in range(min(processes, job[-1])):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_worker, args=(job, dict(options), theirs))
        process.start()
        theirs.close()
        running[process.sentinel] = (process, ours)
    failure: AssayError | None = None
    try:
        while running:
            for sentinel in wait(list(running)):
                process, line = running.pop(sentinel)
                process.join()
                try:
                    said = line.recv()
                except EOFError:  # nothing went wrong, or it died
                    said = None
                if isinstance(said, AssayError):
                    failure = failure or said
                elif process.exitcode:
                    _log.warning(
                        "a scoring process ended with %s; its part is gone on with", how_it_ended(process.exitcode)
                    )
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()
    if failure is not None:
        raise failure


def _worker(job: tuple[Any, ...], options: Mapping[str, Any], line: Connection) -> None:
    die_with_parent()
    try:
        _work(job, options, progress=False)
    except AssayError as error:
        line.send(error)
