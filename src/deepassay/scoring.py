"""Anything that maps views to logits, applied to a manifest: a complete score table with statuses and journal."""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from deepassay.errors import (
    AssayError,
    BundleError,
    ConfigError,
    LeakError,
    ManifestError,
    MissingDependencyError,
    ScoreError,
)
from deepassay.files import fingerprint
from deepassay.labels import Status, Unusable
from deepassay.modality.views import EVERY, EvenViews, Guarded, Modality, Streams, Views
from deepassay.processes import die_with_parent

if TYPE_CHECKING:  # screening scores single files through this module and must start quickly, without Arrow
    from concurrent.futures import Executor, Future

    from deepassay.manifest import Manifest, Sample
    from deepassay.scores import Scored, ScoreTable

Predict = Callable[[np.ndarray], np.ndarray]
JOURNAL_VERSION = 1
# Faults of the set-up, not of a file: they end the batch instead of becoming the status of every row.
SETUP_ERRORS = (BundleError, ConfigError, LeakError, ManifestError, MissingDependencyError)
# A detector that fails on each of this many files, and on nothing else so far, is broken; the files are not.
_HOPELESS = 4
# A file with more views than this is scored by itself, so many views at a time: memory does not grow with its length.
_PART = 16
_log = logging.getLogger(__name__)


class PreparedSource(Protocol):
    """What scoring needs of a store of prepared views (`store.Store`)."""

    def views(self, sample_id: str) -> Views:
        """Prepared views of one sample. Raises labels.Unusable with the stored status and reason."""
        ...


@dataclass(frozen=True, slots=True)
class FileScore:
    """What became of one file.

    Args:
        score: pooled score, higher = more likely fake; None unless status is ok.
        status: ok, or why there is no score.
        reason: one sentence for people; empty where status is ok.
        start_s: (k,) float64 seconds, where each view starts. end_s: where it ends; None where it is one instant.
        track: (k,) int32 face track of each view.
        logits: (k,) float64, one per view.
        seconds: wall time from file to score, the detector's share included.
        notes: what a reader of the score must know of the file, one sentence each.
    """

    score: float | None = None
    status: Status = Status.OK
    reason: str = ""
    start_s: np.ndarray | None = None
    track: np.ndarray | None = None
    logits: np.ndarray | None = None
    seconds: float = 0.0
    end_s: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_views(self) -> int:
        """Views that the score rests on."""
        return 0 if self.logits is None else len(self.logits)

    @property
    def n_tracks(self) -> int:
        """Face tracks among them; 1 for a voice."""
        return 0 if self.track is None else len(np.unique(self.track))


@dataclass(frozen=True, slots=True)
class _Cut:
    """Views drawn from one file, or those of a long file yet to be cut, or why there are none."""

    views: Views | None
    outcome: FileScore
    seconds: float
    long: EvenViews | None = None


def score_file(modality: Modality, predict: Predict, path: str | Path, *, views: int = 8) -> FileScore:
    """Score one file, as `score_manifest` does for every sample of a manifest.

    Args:
        modality: turns the file into views.
        predict: data (n, *shape) -> logits (n,).
        path: the file.
        views: most views drawn from it, spread evenly. However many there are, memory does not grow with the length of
            a file whose modality streams (`Streams`: voices).

    Raises:
        AssayError: the set-up is at fault (`SETUP_ERRORS`); whatever is wrong with the file becomes its status.
    """
    return _judge(modality, predict, [_cut(modality, None, "", Path(path), views)], batch_size=32)[0]


def score_timelines(
    manifest: "Manifest",
    modality: Modality,
    predict: Predict,
    *,
    views: int = EVERY,
    store: PreparedSource | None = None,
) -> Iterator[tuple["Sample", FileScore]]:
    """Each sample of a manifest with the score of every view, for evaluation by segment; one file at a time.

    Args:
        manifest, modality, predict, store: as for `score_manifest`.
        views: most views per sample; all of them by default.
    """
    _same_preparation(store, modality)
    for sample in manifest:
        cut = _cut_sample(modality, store, sample, manifest.file(sample), views)
        yield sample, _judge(modality, predict, [cut], batch_size=32)[0]


def score_manifest(
    manifest: "Manifest",
    modality: Modality,
    predict: Predict,
    *,
    views: int = 8,
    store: PreparedSource | None = None,
    batch_size: int = 32,
    progress: bool | Callable[[int, int], None] = True,
    meta: Mapping[str, Any] | None = None,
    workers: int = 0,
    worker_kind: str = "thread",
    resume_path: str | Path | None = None,
) -> "ScoreTable":
    """Score every sample of a manifest; each gets a row, scored or with a status and reason (law 2).

    Samples go through in groups of ``batch_size`` in manifest order, whatever the number of workers and wherever a
    batch was resumed, so the same inputs give the same bits.

    Args:
        manifest: the samples; those of another modality get status out_of_scope.
        modality: turns files into views; a store must have been prepared with the same one.
        predict: data (n, *shape) -> logits (n,), n at most ``batch_size``.
        views: most views drawn per sample, spread evenly.
        store: prepared views; without it files are decoded here.
        batch_size: most views per call of ``predict``, and samples per group.
        progress: a bar on stderr, none, or a function of (finished, total).
        meta: for `ScoreTable.meta` (detector, hashes, code); also tells journals of two detectors apart.
        workers: threads or processes that prepare views ahead of the detector; 0 prepares in this thread.
        worker_kind: ``thread``, or ``process`` where the modality can be pickled.
        resume_path: append-only journal of finished groups (JSON lines); an interrupted batch goes on from there. It
            stays when the batch is done: delete it once the table is written.

    Raises:
        ScoreError: a journal of another batch, a detector that fails on everything or returns the wrong shape.
        ConfigError: settings that make no sense.
        AssayError: the set-up is at fault (`SETUP_ERRORS`).
    """
    from deepassay.scores import ScoreTable

    if views < 1 or batch_size < 1 or workers < 0 or worker_kind not in ("thread", "process"):
        raise ConfigError(
            f"scoring with views={views}, batch_size={batch_size}, workers={workers}, worker_kind={worker_kind!r}",
            hint="views and batch_size start at 1, workers at 0, worker_kind is thread or process",
        )
    _same_preparation(store, modality)
    samples = list(manifest)
    facts = {"views": views, "modality_fingerprint": modality.fingerprint, **(meta or {})}
    head = {
        "deepassay_scoring_journal": JOURNAL_VERSION,
        "manifest_sha256": manifest.hash,
        "batch_size": batch_size,
        "meta_sha256": fingerprint(facts),
    }
    groups = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    journal = None if resume_path is None else _Journal(Path(resume_path), head, groups)
    scored: dict[str, Scored] = {} if journal is None else dict(journal.finished)
    left = groups if journal is None else groups[journal.groups_finished :]
    if scored:
        _log.info("%d of %d samples are finished already (%s)", len(scored), len(samples), resume_path)
    ever_answered = any(entry.status == Status.OK for entry in scored.values())
    with (
        _progress(progress, len(samples), len(scored)) as advance,
        _cuts(left, manifest, modality, store, views, workers, worker_kind) as cuts,
    ):
        for group, cut in zip(left, cuts, strict=True):
            outcomes = _judge(modality, predict, cut, batch_size=batch_size, hopeful=ever_answered)
            ever_answered = ever_answered or any(outcome.status == Status.OK for outcome in outcomes)
            rows = {sample.sample_id: _row(outcome) for sample, outcome in zip(group, outcomes, strict=True)}
            if journal is not None:
                journal.append(rows)
            scored.update(rows)
            advance(len(group))
    failed = [entry for entry in scored.values() if entry.status == Status.ERROR]
    if failed:
        _log.warning("%d of %d samples ended in an error, the first: %s", len(failed), len(samples), failed[0].reason)
    return ScoreTable.from_scored(manifest, scored, facts)


def _same_preparation(store: PreparedSource | None, modality: Modality) -> None:
    stored = getattr(store, "fingerprint", None)
    if stored is not None and stored != modality.fingerprint:
        raise ConfigError(
            f"the store was prepared with modality {stored[:12]}, not {modality.name} {modality.fingerprint[:12]}",
            hint="prepare the store again with this configuration, or score without it",
        )


def _row(outcome: FileScore) -> "Scored":
    from deepassay.scores import Scored

    return Scored(
        score=outcome.score,
        status=outcome.status,
        reason=outcome.reason,
        n_views=outcome.n_views,
        n_tracks=outcome.n_tracks,
        seconds=outcome.seconds,
    )


def _cut(modality: Modality, store: PreparedSource | None, sample_id: str, path: Path, k: int) -> _Cut:
    """Prepare and draw; everything that a file can do wrong becomes a status."""
    begin = time.perf_counter()
    views, outcome = None, FileScore()
    try:
        if isinstance(modality, Streams):
            even = modality.choose(path if store is None else store.views(sample_id), k)
            outcome = FileScore(notes=even.notes)
            if len(even) > _PART:
                return _Cut(None, outcome, time.perf_counter() - begin, even)
            views = next(even.parts(_PART))
        else:
            views = modality.draw(modality.prepare(path) if store is None else store.views(sample_id), k)
        if not len(views):
            views, outcome = None, FileScore(status=Status.ERROR, reason="no view was drawn from the file")
    except Unusable as unusable:
        outcome = FileScore(status=unusable.status, reason=_without_path(unusable.reason, path))
    except SETUP_ERRORS:
        raise
    except Exception as error:
        if store is not None and isinstance(error, AssayError):
            raise  # a damaged store is no property of a sample
        outcome = FileScore(status=Status.ERROR, reason=describe_fault(error, path))
    return _Cut(views, outcome, time.perf_counter() - begin)


def _judge(
    modality: Modality, predict: Predict, cuts: Sequence[_Cut], *, batch_size: int, hopeful: bool = True
) -> list[FileScore]:
    """Scores of a group; where the detector fails on it, file by file, so that one file cannot spoil the others."""
    present = [i for i, cut in enumerate(cuts) if cut.views is not None]
    begin = time.perf_counter()
    logits: dict[int, np.ndarray] = {}
    failures: dict[int, str] = {}
    last: Exception | None = None
    try:
        logits = _predict(predict, cuts, present, batch_size)
    except (*SETUP_ERRORS, ScoreError):
        raise
    except Exception:
        for i in present:
            try:
                logits |= _predict(predict, cuts, [i], batch_size)
            except (*SETUP_ERRORS, ScoreError):
                raise
            except Exception as error:
                failures[i], last = f"detector: {describe_fault(error)}", error
        if not hopeful and not logits and len(failures) >= _HOPELESS:
            raise ScoreError(
                f"the detector failed on all of the first {len(failures)} files ({next(iter(failures.values()))})",
                hint="the detector or its device is at fault, not the files: see the error above",
            ) from last
    each = (time.perf_counter() - begin) / max(1, sum(_count(cuts[i]) for i in present))
    out = []
    for i, cut in enumerate(cuts):
        seconds = cut.seconds + each * _count(cut)
        if cut.long is not None:
            out.append(_judge_long(modality, predict, cut, cut.long, batch_size))
        elif cut.views is None:
            out.append(replace(cut.outcome, seconds=seconds))
        elif i in failures:
            out.append(FileScore(status=Status.ERROR, reason=failures[i], seconds=seconds))
        else:
            out.append(_pool(modality, logits[i], cut.views, seconds, cut.outcome.notes))
    return out


def _judge_long(modality: Modality, predict: Predict, cut: _Cut, even: EvenViews, batch_size: int) -> FileScore:
    """A file with many views, cut and predicted part by part."""
    begin = time.perf_counter()
    kept: list[Views] = []
    logits: list[np.ndarray] = []
    facts: list[np.ndarray] = []
    where: Path | None = getattr(even, "path", None)
    parts = even.parts(_PART)
    while True:
        try:
            part = next(parts, None)
        except Exception as error:
            seconds = cut.seconds + time.perf_counter() - begin
            if isinstance(error, Unusable):
                return FileScore(status=error.status, reason=error.reason, seconds=seconds)
            return FileScore(status=Status.ERROR, reason=describe_fault(error, where), seconds=seconds)
        if part is None:
            break
        try:
            logits.append(_logits(predict, part.data, batch_size))
            if isinstance(modality, Guarded):
                facts.append(modality.facts(part))
        except (*SETUP_ERRORS, ScoreError):
            raise
        except Exception as error:
            seconds = cut.seconds + time.perf_counter() - begin
            return FileScore(status=Status.ERROR, reason=f"detector: {describe_fault(error)}", seconds=seconds)
        kept.append(replace(part, data=part.data[:, :0].copy(), landmarks=None))
    ends = [part.end_s for part in kept if part.end_s is not None]
    sizes = [part.size for part in kept if part.size is not None]
    views = Views(
        data=np.concatenate([part.data for part in kept]),
        start_s=np.concatenate([part.start_s for part in kept]),
        quality=np.concatenate([part.quality for part in kept]),
        track=np.concatenate([part.track for part in kept]),
        size=np.concatenate(sizes) if len(sizes) == len(kept) else None,
        end_s=np.concatenate(ends) if len(ends) == len(kept) else None,
    )
    seconds = cut.seconds + time.perf_counter() - begin
    known = np.concatenate(facts) if facts else None
    return _pool(modality, np.concatenate(logits), views, seconds, cut.outcome.notes, known)


def _count(cut: _Cut) -> int:
    return 0 if cut.views is None else len(cut.views)


def _pool(
    modality: Modality,
    logits: np.ndarray,
    views: Views,
    seconds: float,
    notes: tuple[str, ...] = (),
    facts: np.ndarray | None = None,
) -> FileScore:
    if not np.isfinite(logits).all():
        reason = (
            f"the detector returned {int((~np.isfinite(logits)).sum())} logits of {len(logits)} that are not finite"
        )
        return FileScore(status=Status.ERROR, reason=reason, seconds=seconds)
    score = float(modality.pool(logits, views))
    if not np.isfinite(score):
        return FileScore(status=Status.ERROR, reason=f"pooling gave {score}", seconds=seconds)
    if isinstance(modality, Guarded):
        reason = modality.refuse(modality.facts(views) if facts is None else facts, logits, views)
        if reason:
            return FileScore(status=Status.OUT_OF_SCOPE, reason=reason, seconds=seconds, notes=notes)
    return FileScore(
        score=score,
        start_s=np.asarray(views.start_s, dtype=np.float64),
        track=np.asarray(views.track, dtype=np.int32),
        logits=logits,
        seconds=seconds,
        end_s=None if views.end_s is None else np.asarray(views.end_s, dtype=np.float64),
        notes=notes,
    )


def _predict(predict: Predict, cuts: Sequence[_Cut], which: Sequence[int], batch_size: int) -> dict[int, np.ndarray]:
    """Logits (k,) float64 of each listed cut, computed in batches over all of them."""
    blocks = [views.data for i in which if (views := cuts[i].views) is not None]
    if not blocks:
        return {}
    ends = np.cumsum([len(block) for block in blocks])
    return dict(zip(which, np.split(_logits(predict, np.concatenate(blocks), batch_size), ends[:-1]), strict=True))


def _logits(predict: Predict, data: np.ndarray, batch_size: int) -> np.ndarray:
    """Logits (n,) float64 of views (n, *shape)."""
    parts = []
    for begin in range(0, len(data), batch_size):
        batch = data[begin : begin + batch_size]
        values = np.asarray(predict(batch), dtype=np.float64)
        if values.shape != (len(batch),):
            raise ScoreError(
                f"the detector returned shape {values.shape} for {len(batch)} views",
                hint="predict must return one logit per view, shape (n,), higher = more likely fake",
            )
        parts.append(values)
    return np.concatenate(parts)


def describe_fault(error: BaseException, path: Path | None = None) -> str:
    """Class and first line of an error, without its hint and without where the file lies: fit for a score table."""
    text = error.message if isinstance(error, AssayError) else str(error)
    line = text.strip().splitlines()[0] if text.strip() else ""
    return _without_path(f"{type(error).__name__}: {line}" if line else type(error).__name__, path)


def _without_path(text: str, path: Path | None) -> str:
    if path is not None:
        for form in {str(path), os.path.abspath(path)} - {"", "."}:
            text = text.replace(form, "the file")
    return re.sub(r"(?<![\w.])/(?:[^\s'\":,/]+/)+", "", text)[:300]


@contextmanager
def _cuts(
    groups: Sequence[Sequence["Sample"]],
    manifest: "Manifest",
    modality: Modality,
    store: PreparedSource | None,
    k: int,
    workers: int,
    worker_kind: str,
) -> Iterator[Iterator[list[_Cut]]]:
    """The cuts of every group in order, prepared ahead by workers where there are any."""
    if not workers:
        yield ([_cut_sample(modality, store, sample, manifest.file(sample), k) for sample in group] for group in groups)
        return
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor

    pool: Executor
    if worker_kind == "process":
        import multiprocessing
        import pickle

        try:
            pickle.dumps((modality, store))
        except Exception as error:
            raise ConfigError(
                f"this modality or store cannot be handed to another process ({error})",
                hint="use worker_kind=thread",
            ) from error
        pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_adopt, initargs=(modality, store)
        )
    else:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")

    def submit(group: Sequence["Sample"]) -> list["Future[_Cut]"]:
        if worker_kind == "process":
            return [pool.submit(_cut_adopted, sample, manifest.file(sample), k) for sample in group]
        return [pool.submit(_cut_sample, modality, store, sample, manifest.file(sample), k) for sample in group]

    def run() -> Iterator[list[_Cut]]:
        ahead: list[list[Future[_Cut]]] = []
        waiting = iter(groups)
        for _ in range(2):  # one group in work, one ahead: bounded memory
            ahead.extend(submit(group) for group in (next(waiting, None),) if group is not None)
        while ahead:
            current = ahead.pop(0)
            try:
                done = [future.result() for future in current]
            except BrokenExecutor as error:
                raise ScoreError(
                    "a process that prepares views died, by lack of memory or a crash inside a decoder",
                    hint="run with workers=0 and a resume_path: the journal then ends just before the file",
                ) from error
            ahead.extend(submit(group) for group in (next(waiting, None),) if group is not None)
            yield done

    try:
        yield run()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cut_sample(modality: Modality, store: PreparedSource | None, sample: "Sample", path: Path, k: int) -> _Cut:
    if sample.modality != modality.name:
        reason = f"a {sample.modality} sample, and the detector judges a {modality.name}"
        return _Cut(None, FileScore(status=Status.OUT_OF_SCOPE, reason=reason), 0.0)
    return _cut(modality, store, sample.sample_id, path, k)


_adopted: list[Any] = []


def _adopt(modality: Modality, store: PreparedSource | None) -> None:
    die_with_parent()
    _adopted[:] = [modality, store]


def _cut_adopted(sample: "Sample", path: Path, k: int) -> _Cut:
    modality, store = _adopted
    return _cut_sample(modality, store, sample, path, k)


class _Journal:
    """Append-only JSON lines: a head that names the batch, then whole groups of rows; a torn tail is cut off."""

    def __init__(self, path: Path, head: Mapping[str, Any], groups: Sequence[Sequence["Sample"]]) -> None:
        self.path = path
        self.finished: dict[str, Scored] = {}
        self.groups_finished = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        first = json.dumps(head, sort_keys=True).encode() + b"\n"
        content = path.read_bytes() if path.exists() else b""
        if first.startswith(content):  # new, or torn within the head
            path.write_bytes(first)
            return
        whole = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        try:
            keep = len(whole[0])
            if "deepassay_scoring_journal" not in json.loads(whole[0]):
                raise ValueError("the first line is not a journal's")
            if whole[0] != first:
                raise ScoreError(
                    f"{path} is the journal of another batch (other samples, settings or detector)",
                    hint="give another resume_path, or delete the file to score from the beginning",
                )
            position = 1
            for group in groups:
                chunk = whole[position : position + len(group)]
                if len(chunk) < len(group):
                    break
                rows = dict(self._read(json.loads(line)) for line in chunk)
                if list(rows) != [sample.sample_id for sample in group]:
                    raise KeyError("the samples are not those of the batch")
                self.finished.update(rows)
                self.groups_finished += 1
                position += len(group)
                keep += sum(len(line) for line in chunk)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ScoreError(
                f"{path}: not a journal of scoring, or damaged ({error})",
                hint="give another resume_path, or delete the file to score from the beginning",
            ) from error
        os.truncate(path, keep)

    @staticmethod
    def _read(row: Mapping[str, Any]) -> "tuple[str, Scored]":
        from deepassay.scores import Scored

        values = dict(row)
        sample_id = values.pop("sample_id")
        return sample_id, Scored(**{**values, "status": Status(values["status"])})

    def append(self, rows: Mapping[str, "Scored"]) -> None:
        """Add one finished group in a single write."""
        lines = [
            json.dumps(
                {
                    "sample_id": sample_id,
                    "score": row.score,
                    "status": str(row.status),
                    "reason": row.reason,
                    "n_views": row.n_views,
                    "n_tracks": row.n_tracks,
                    "seconds": row.seconds,
                }
            )
            for sample_id, row in rows.items()
        ]
        with open(self.path, "ab") as stream:
            stream.write(("\n".join(lines) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _progress(wanted: bool | Callable[[int, int], None], total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A function that advances: a bar on a terminal, a line every ten seconds elsewhere, or the caller's own."""
    if callable(wanted):
        count, report = done, wanted

        def tell(n: int) -> None:
            nonlocal count
            count += n
            report(count, total)

        yield tell
    elif not wanted:
        yield lambda n: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("scoring", total=total, completed=done)
            yield lambda n: bar.advance(task, n)
    else:
        count, last = done, time.monotonic()

        def line(n: int) -> None:
            nonlocal count, last
            count += n
            if time.monotonic() - last > 10:
                last = time.monotonic()
                print(f"scored {count} of {total} samples", file=sys.stderr, flush=True)

        yield line
