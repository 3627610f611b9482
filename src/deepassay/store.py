"""Store: prepared views on disk, written one finished Arrow file at a time, resumable, read through memory maps."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepassay.errors import AssayError, ConfigError, ManifestError, MissingDependencyError
from deepassay.files import (
    atomic_path,
    cache_folder,
    fingerprint,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_json,
)
from deepassay.labels import Status, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Modality, Views
from deepassay.processes import die_with_parent
from deepassay.remote import Remote, RemoteError, is_url

SCHEMA_VERSION = "1"
ENCODINGS = ("raw", "png", "jpeg")
PLAN = "plan.json"
INDEX = "index.arrow"
HEAD = "store.json"

# One record batch per sample, in the streaming format, which is also what Hugging Face `datasets` reads
# (Dataset.from_file).
RECORD = pa.schema(
    [
        ("sample_id", pa.string()), ("key", pa.string()), ("status", pa.string()), ("reason", pa.string()),
        ("dtype", pa.string()), ("shape", pa.list_(pa.int32())), ("data", pa.large_binary()),
        ("pictures", pa.list_(pa.large_binary())), ("start_s", pa.list_(pa.float64())),
        ("quality", pa.list_(pa.float32())), ("track", pa.list_(pa.int32())),
        ("landmarks", pa.list_(pa.float32())), ("size", pa.list_(pa.float32())),
    ]
)  # fmt: skip
INDEX_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()), ("key", pa.string()), ("shard", pa.int32()), ("row", pa.int32()),
        ("status", pa.string()), ("reason", pa.string()), ("n_views", pa.int32()),
    ]
)  # fmt: skip


def sample_key(sample: Sample) -> str:
    """Hash of what decides a sample's prepared views: id, path, medium, modality, file hash. Not its label or split."""
    return fingerprint([sample.sample_id, sample.path, sample.media, sample.modality, sample.sha256])


@dataclass(frozen=True, slots=True)
class _Encoding:
    name: str
    quality: int

    def check(self, modality: Modality) -> None:
        if self.name not in ENCODINGS:
            raise ConfigError(f"encoding is {self.name!r}", hint=f"use one of {list(ENCODINGS)}")
        if self.name != "raw" and modality.name != "face":
            raise ConfigError(f"encoding {self.name} is for pictures, not for {modality.name}", hint="use encoding=raw")

    @property
    def lossless(self) -> bool:
        return self.name != "jpeg"

    def write(self, picture: np.ndarray) -> bytes:
        from PIL import Image

        stream = io.BytesIO()
        if self.name == "png":
            Image.fromarray(picture).save(stream, "PNG", compress_level=4)
        else:
            Image.fromarray(picture).save(stream, "JPEG", quality=self.quality, subsampling=0)
        return stream.getvalue()


def _read_picture(data: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _floats(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else np.asarray(values, dtype=np.float32).ravel().tolist()


def _record(sample: Sample, views: Views | None, status: Status, reason: str, encoding: _Encoding) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(RECORD.names)
    row |= {"sample_id": sample.sample_id, "key": sample_key(sample), "status": str(status), "reason": reason}
    if views is None:
        return row
    data = np.ascontiguousarray(views.data)
    row |= {
        "dtype": data.dtype.str, "shape": list(data.shape), "start_s": np.asarray(views.start_s, np.float64).tolist(),
        "quality": _floats(views.quality), "track": np.asarray(views.track, np.int32).tolist(),
        "landmarks": _floats(views.landmarks), "size": _floats(views.size),
    }  # fmt: skip
    if encoding.name == "raw":
        row["data"] = data.tobytes()
    else:
        row["pictures"] = [encoding.write(picture) for picture in data]
    return row


def _prepare_one(sample: Sample, root: Path, modality: Modality, encoding: _Encoding) -> dict[str, Any]:
    """One sample's record. Raises only what is wrong with the installation or configuration, not with the file."""
    path = root / sample.path
    try:
        views = modality.prepare(path)
        if len(views) == 0:
            return _record(sample, None, Status.ERROR, "the modality prepared nothing and gave no reason", encoding)
        return _record(sample, views, Status.OK, "", encoding)
    except Unusable as outcome:
        return _record(sample, None, outcome.status, outcome.reason, encoding)
    except (MissingDependencyError, ConfigError):
        raise
    except Exception as error:  # a file must never end the batch: it is accounted for as an error
        text = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else ''}".replace(str(path), "the file")[:300]
        return _record(sample, None, Status.ERROR, reason, encoding)


def _work(connection: Connection, modality: Modality, root: Path, encoding: _Encoding) -> None:
    """Body of a worker process: samples in, records out, until the parent closes the line."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send("ready")
    while True:
        try:
            sample = connection.recv()
        except EOFError:
            return
        try:
            connection.send(_prepare_one(sample, root, modality, encoding))
        except AssayError as error:
            connection.send(error)
        except BrokenPipeError:
            return


class _Worker:
    """One process and the sample it is busy with."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
        # One thread each: the parallelism is across files, and results must not depend on how many cores there are.
        limits: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        before = {name: os.environ.get(name) for name in limits}
        os.environ.update(limits)
        try:
            self.process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        self.ready = False
        self.task: int | None = None
        self.since = 0.0

    def end(self) -> int | None:
        self.connection.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        return self.process.exitcode


def _prepare_in_processes(
    samples: Sequence[Sample], root: Path, modality: Modality, encoding: _Encoding, workers: int, timeout_s: float
) -> Iterator[dict[str, Any]]:
    """Records in the order of the samples, whichever process finishes first; a dying process costs one sample."""
    arguments = (modality, root, encoding)
    pool = [_Worker(arguments) for _ in range(min(workers, len(samples)))]
    done: dict[int, dict[str, Any]] = {}
    given = emitted = 0
    try:
        while emitted < len(samples):
            for worker in pool:
                # The window keeps one slow file from filling the memory with its successors.
                if worker.ready and worker.task is None and given < min(len(samples), emitted + 8 * workers):
                    worker.task, worker.since = given, time.monotonic()
                    worker.connection.send(samples[given])
                    given += 1
            for connection in wait([w.connection for w in pool], timeout=1.0):
                position = next(i for i, w in enumerate(pool) if w.connection is connection)
                worker = pool[position]
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    code = worker.end()
                    if not worker.ready:
                        raise AssayError(
                            f"a worker process ended with code {code} before it could start",
                            hint="guard the script with `if __name__ == '__main__':`, or use workers=0",
                        ) from None
                    pool[position] = _Worker(arguments)
                    if worker.task is not None:
                        reason = f"the process that was preparing it died (exit code {code})"
                        done[worker.task] = _record(samples[worker.task], None, Status.ERROR, reason, encoding)
                    continue
                if message == "ready":
                    worker.ready = True
                elif isinstance(message, AssayError):
                    raise message
                else:
                    assert worker.task is not None
                    done[worker.task], worker.task = message, None
            for position, worker in enumerate(pool):
                if worker.task is not None and time.monotonic() - worker.since > timeout_s:
                    worker.end()
                    reason = f"it was not prepared within {timeout_s:g} s"
                    done[worker.task] = _record(samples[worker.task], None, Status.ERROR, reason, encoding)
                    pool[position] = _Worker(arguments)
            while emitted in done:
                yield done.pop(emitted)
                emitted += 1
    finally:
        for worker in pool:
            worker.end()


@contextmanager
def _progress(total: int, done: int, title: str, show: bool) -> Iterator[Any]:
    """A function to call once per sample: a bar on a terminal, a line every ten seconds elsewhere."""
    if not show or total == 0:
        yield lambda: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, completed=done)
            yield lambda: bar.advance(task)
    else:
        state = {"n": done, "last": time.monotonic()}

        def step() -> None:
            state["n"] += 1
            if state["n"] == total or time.monotonic() - state["last"] > 10:
                state["last"] = time.monotonic()
                print(f"{title}: {state['n']:.0f} of {total}", file=sys.stderr, flush=True)

        yield step


def _shard_name(index: int, count: int) -> str:
    return f"shards/{index:05d}-of-{count:05d}.arrow"


def _batches(path: Path) -> list[pa.RecordBatch]:
    """Record batches of a shard, memory-mapped. Raises AssayError where the file is damaged."""
    try:
        source = pa.memory_map(str(path))
        with pa.ipc.open_stream(source) as reader:
            if not reader.schema.equals(RECORD):
                raise pa.ArrowInvalid("another schema")
            return list(reader)
    except (OSError, pa.ArrowInvalid) as error:
        raise AssayError(
            f"{path}: damaged shard of a store ({error})", hint="delete that file and run the same prepare again"
        ) from error


def _part(path: Path) -> Path:
    """Where a shard grows until it is whole."""
    return path.with_name(f".{path.name}.part")


def _salvage(path: Path, samples: Sequence[Sample]) -> tuple[int, int]:
    """How many of a shard's samples an unfinished run left behind whole, and where in its part file they end."""
    part, done, end = _part(path), 0, 0
    if not part.is_file():
        return 0, 0
    with pa.OSFile(str(part), "rb") as source:
        try:
            if not pa.ipc.read_schema(source).equals(RECORD):
                return 0, 0
            end = source.tell()
            for sample in samples:
                batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), RECORD)
                if batch.num_rows != 1 or batch.column("key")[0].as_py() != sample_key(sample):
                    break
                done, end = done + 1, source.tell()
        except (OSError, EOFError, pa.ArrowInvalid):
            return done, end  # the rest was being written when the run ended
    return done, end


def _finished(path: Path, samples: Sequence[Sample]) -> bool:
    """Whether a shard is there and holds exactly these samples; a damaged one counts as not there and is made again."""
    if not path.is_file():
        return False
    try:
        keys = [batch.column("key")[0].as_py() for batch in _batches(path)]
    except AssayError:
        return False
    return keys == [sample_key(s) for s in samples]


def _check_space(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise AssayError(
            f"{folder}: about {needed / 1e9:.1f} GB are still to be written and {free / 1e9:.1f} GB are free",
            hint="free some space, use another disk, or encoding=png (lossless) or jpeg; finished work is kept",
        )


def _plan(samples: Sequence[Sample], modality: Modality, encoding: _Encoding, shard_samples: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "modality": modality.name,
        "preparation": modality.fingerprint,
        "contract": modality.contract,
        "content": fingerprint([sample_key(s) for s in samples]),
        "n_samples": len(samples),
        "shard_samples": shard_samples,
        "n_shards": -(-len(samples) // shard_samples),
        "encoding": encoding.name,
        "quality": encoding.quality if encoding.name == "jpeg" else None,
        "lossless": encoding.lossless,
    }


def prepare_store(
    manifest: Manifest, modality: Modality, folder: str | Path, *, workers: int = 0, shard: tuple[int, int] = (0, 1),
    encoding: str = "raw", quality: int = 95, shard_samples: int = 64, timeout_s: float = 600.0, progress: bool = True,
    retry: bool = False,
) -> "Store":  # fmt: skip
    """Prepare every sample of a manifest once, and keep the outcome: views, or a status with its reason.

    Work goes on where an earlier run was killed; what that run finished is not redone, only the samples that it had
    under way. The files are the same, byte for byte, whatever ``workers`` and ``shard`` are.

    Args:
        manifest: samples of one modality, in any split, labelled or not; labels are not stored.
        modality: turns a file into views; must be picklable for ``workers``.
        folder: of the store; made if absent.
        workers: processes beside this one; 0 works here. A process that dies costs one sample (status error).
        shard: (i, n): make only every n-th file, beginning with the i-th, so that n machines share the work; whoever
            comes last closes the store.
        encoding: "raw" or "png" (both lossless), or "jpeg" at ``quality`` (lossy, and recorded as such); pictures only.
        shard_samples: samples per file.
        timeout_s: with workers, how long one file may take before it is given status error.
        retry: prepare samples of status error again, in files that are finished; everything else stays as it is.

    Returns:
        the store; `Store.complete` is false while other machines' files are missing.

    Raises:
        ManifestError: files are missing, or the manifest is of another modality.
        ConfigError: the folder holds a store of another preparation, content or encoding; or an argument is out of
        range.
        AssayError: the disk is too small.
    """
    coder = _Encoding(encoding, quality)
    coder.check(modality)
    part, parts = shard
    if not 0 <= part < parts:
        raise ConfigError(f"shard is {shard}", hint="give (i, n) with 0 <= i < n")
    if workers < 0 or shard_samples < 1:
        raise ConfigError(f"workers {workers}, shard_samples {shard_samples}", hint="workers >= 0, shard_samples >= 1")
    folder = Path(folder)
    samples = list(manifest)
    _check_samples(manifest, samples, modality)
    plan = _plan(samples, modality, coder, shard_samples)
    _check_plan(folder, plan)
    write_json(folder / PLAN, plan)
    groups = [samples[i : i + shard_samples] for i in range(0, len(samples), shard_samples)]
    names = [_shard_name(i, len(groups)) for i in range(len(groups))]
    with _alone(folder, part, parts):
        mine = range(part, len(groups), parts)
        todo = [i for i in mine if not _finished(folder / names[i], groups[i])]
        whole = {i: _salvage(folder / names[i], groups[i]) for i in todo}
        queue = [sample for i in todo for sample in groups[i][whole[i][0] :]]
        itemsize = 1 if modality.name == "face" else 4
        least = float(np.prod(modality.input_shape)) * itemsize if coder.name == "raw" else 0.0
        _check_space(folder, least * len(queue))
        if todo:
            if workers and queue:
                records = _prepare_in_processes(queue, manifest.root, modality, coder, workers, timeout_s)
            else:
                records = (_prepare_one(sample, manifest.root, modality, coder) for sample in queue)
            total = sum(len(groups[i]) for i in mine)
            written = made = 0
            with _progress(total, total - len(queue), f"preparing {modality.name} views", progress) as step:
                for i in todo:
                    count, end = whole[i]
                    _write_shard(folder / names[i], end, (next(records) for _ in groups[i][count:]), step)
                    written += (folder / names[i]).stat().st_size - end
                    made += len(groups[i]) - count
                    _check_space(folder, written / max(1, made) * (len(queue) - made))
        if retry:
            again = [(folder / names[i], groups[i]) for i in mine if i not in todo]
            _retry(again, manifest.root, modality, coder, workers, timeout_s)
    if all((folder / name).is_file() for name in names):
        _close(folder, plan, names, manifest)
    return Store.open(folder, modality=modality, manifest=manifest, incomplete=parts > 1)


@contextmanager
def _alone(folder: Path, part: int, parts: int) -> Iterator[None]:
    """Refuse a second run of the same part at the same time: both would write the same file."""
    path = folder / f".{part}-of-{parts}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AssayError(
                f"{folder}: another process is preparing part {part + 1} of {parts} of this store",
                hint="wait for it, or give each process another shard=i/n",
            ) from error
        yield
    path.unlink(missing_ok=True)


def _retry(
    shards: Sequence[tuple[Path, Sequence[Sample]]], root: Path, modality: Modality, encoding: _Encoding, workers: int,
    timeout_s: float,
) -> None:  # fmt: skip
    """Prepare the samples of status error again, each shard in place of its former self once it is whole."""
    failed = {
        path: {i for i, batch in enumerate(_batches(path)) if batch.column("status")[0].as_py() == Status.ERROR}
        for path, _ in shards
    }
    queue = [sample for path, group in shards for i, sample in enumerate(group) if i in failed[path]]
    if not queue:
        return
    if workers:
        records = _prepare_in_processes(queue, root, modality, encoding, workers, timeout_s)
    else:
        records = (_prepare_one(sample, root, modality, encoding) for sample in queue)
    for path, _ in shards:
        if not failed[path]:
            continue
        part = _part(path)
        with open(part, "wb", buffering=0) as sink:
            _put(sink, RECORD.serialize())
            for i, batch in enumerate(_batches(path)):
                new = pa.RecordBatch.from_pylist([next(records)], schema=RECORD) if i in failed[path] else batch
                _put(sink, new.serialize())
            _put(sink, _END)
            os.fsync(sink.fileno())
        os.replace(part, path)


_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # of an Arrow stream


def _write_shard(path: Path, end: int, records: Iterator[dict[str, Any]], step: Any) -> None:
    """Go on with a part file where what it holds ends, and give it its name when it is whole.

    Every record is written out when it comes, so that a killed run loses only what it was working on.
    """
    part = _part(path)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "r+b" if part.is_file() else "wb", buffering=0) as sink:
            sink.truncate(end)
            sink.seek(end)
            if not end:
                _put(sink, RECORD.serialize())
            for record in records:
                _put(sink, pa.RecordBatch.from_pylist([record], schema=RECORD).serialize())
                step()
            _put(sink, _END)
            os.fsync(sink.fileno())
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise AssayError(
            f"{path}: no space left on the disk",
            hint="free some space and run the same command again, finished work is kept",
        ) from error
    os.replace(part, path)


def _put(sink: Any, data: Any) -> None:
    """Write all of it: an unbuffered file may take less than it is given."""
    left = memoryview(data)
    while len(left):
        left = left[sink.write(left) :]


def merge_stores(
    manifest: Manifest, modality: Modality, folder: str | Path, parts: Sequence[str | Path], *,
    encoding: str = "raw", quality: int = 95, shard_samples: int = 64,
) -> "Store":  # fmt: skip
    """Put together what several machines prepared with ``shard=i/n`` in folders of their own, or check and close what
    they prepared in one; nothing is prepared here.

    Args:
        manifest, modality, encoding, quality, shard_samples: as given to `prepare_store` there.
        folder: of the whole store; made if absent.
        parts: folders of the partial stores; their files are linked where that is possible and else copied.

    Raises:
        ConfigError: a part is of another preparation, content or encoding; names which.
        AssayError: files are still missing; names them.
    """
    coder = _Encoding(encoding, quality)
    coder.check(modality)
    folder, samples = Path(folder), list(manifest)
    plan = _plan(samples, modality, coder, shard_samples)
    for place in [folder, *map(Path, parts)]:
        if place != folder and not (place / PLAN).is_file():
            raise ConfigError(
                f"{place}: no store of prepared views there", hint="name the folders that prepare printed"
            )
        _check_plan(place, plan)
    write_json(folder / PLAN, plan)
    groups = [samples[i : i + shard_samples] for i in range(0, len(samples), shard_samples)]
    names = [_shard_name(i, len(groups)) for i in range(len(groups))]
    missing: list[str] = []
    for name, group in zip(names, groups, strict=True):
        if _finished(folder / name, group):
            continue
        found = next((Path(p) / name for p in parts if _finished(Path(p) / name, group)), None)
        if found is None:
            missing.append(Path(name).name)
            continue
        with atomic_path(folder / name) as temporary:
            temporary.unlink(missing_ok=True)
            try:
                os.link(found, temporary)
            except OSError:  # another disk, or one without links
                shutil.copyfile(found, temporary)
    if missing:
        raise AssayError(
            f"{folder}: {len(missing)} of {len(names)} files of views are missing, the first is {missing[0]}",
            hint="run prepare with the shards that are not done yet (shard=i/n), then merge again",
        )
    _close(folder, plan, names, manifest)
    return Store.open(folder, modality=modality, manifest=manifest)


def _check_samples(manifest: Manifest, samples: Sequence[Sample], modality: Modality) -> None:
    if not samples:
        raise ManifestError(f"{manifest.name}: no samples to prepare", hint="check the corpus config and its filters")
    other = next((s for s in samples if s.modality != modality.name), None)
    if other is not None:
        raise ManifestError(
            f"{manifest.name}: sample {other.sample_id!r} is of modality {other.modality}, not {modality.name}",
            hint="select one modality before preparing, or choose the other modality config",
        )
    missing = [s for s in samples if not manifest.file(s).is_file()]
    if missing:
        raise ManifestError(
            f"{manifest.name}: {len(missing)} of {len(samples)} files are missing, the first is {missing[0].path!r}",
            hint=f"check that the corpus root is right ({manifest.root}) and that the download is complete",
        )


def _check_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    if not (folder / PLAN).is_file():
        return
    old = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    for name, meaning in (
        ("schema", "store format"), ("modality", "modality"), ("preparation", "preparation fingerprint"),
        ("content", "samples"), ("shard_samples", "shard size"), ("encoding", "encoding"), ("quality", "JPEG quality"),
    ):  # fmt: skip
        if old.get(name) != plan[name]:
            raise ConfigError(
                f"{folder} holds a store of another {meaning}: {old.get(name)!r} there, {plan[name]!r} asked for",
                hint="give another folder, or delete this one if it is no longer needed",
            )


def _close(folder: Path, plan: Mapping[str, Any], names: Sequence[str], manifest: Manifest) -> None:
    """Write the index and, last of all, the head that makes the store a store."""
    rows: list[dict[str, Any]] = []
    shards = []
    counts: dict[str, int] = {}
    for number, name in enumerate(names):
        for row, batch in enumerate(_batches(folder / name)):
            value = {key: batch.column(key)[0].as_py() for key in ("sample_id", "key", "status", "reason", "shape")}
            shape = value.pop("shape")
            rows.append({**value, "shard": number, "row": row, "n_views": shape[0] if shape else 0})
            counts[value["status"]] = counts.get(value["status"], 0) + 1
        shards.append({"name": name, "bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)})
    with (
        atomic_path(folder / INDEX) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_stream(sink, INDEX_SCHEMA) as writer,
    ):
        writer.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
    head = {
        **plan, "manifest": manifest.name, "manifest_sha256": manifest.hash, "synthetic": manifest.synthetic,
        "counts": dict(sorted(counts.items())), "shards": shards, "index_sha256": sha256_file(folder / INDEX),
    }  # fmt: skip
    write_json(folder / HEAD, head)


class Store:
    """Prepared views, read through memory maps; cheap to send to loader processes. Made by `prepare_store`, read by
    `open`.

    Args:
        folder: of the store.
        head: contents of its ``store.json``, or of its plan while incomplete.
        index: one row per sample, `INDEX_SCHEMA`.
        remote: where shards that are not in the folder yet are fetched from, and checked.
    """

    def __init__(self, folder: Path, head: Mapping[str, Any], index: pa.Table, remote: Remote | None = None) -> None:
        self.folder = folder
        self.remote = remote
        self.head = dict(head)
        ids, shards, rows, statuses, reasons, n_views = (
            index.column(name).to_pylist() for name in ("sample_id", "shard", "row", "status", "reason", "n_views")
        )
        self._where = {i: (s, r) for i, s, r in zip(ids, shards, rows, strict=True)}
        self._status = {i: (Status(s), why, n) for i, s, why, n in zip(ids, statuses, reasons, n_views, strict=True)}
        self._keys = dict(zip(ids, index.column("key").to_pylist(), strict=True))
        self._open: dict[int, list[pa.RecordBatch]] = {}

    @classmethod
    def open(
        cls, folder: str | Path, *, modality: Modality | None = None, fingerprint: str | None = None,
        manifest: Manifest | None = None, incomplete: bool = False,
    ) -> "Store":  # fmt: skip
        """Open a finished store and check that it is the one that is meant.

        Args:
            folder: a folder, or the URL of one (see `source`): its shards are then fetched when they are first read,
                checked against the hashes in ``store.json``, and kept in the cache folder.
            modality, fingerprint: refuse a store that another preparation made.
            manifest: refuse a store that lacks a sample of it, or holds it from another file; it may be a part of
                what was prepared, and labels and splits may have changed since.
            incomplete: accept one whose other shards are still being made elsewhere.

        Raises:
            ConfigError: no store, unfinished, or of another preparation; names both fingerprints.
            ManifestError: samples are not in it.
            AssayError: a file is missing or damaged; names it.
        """
        remote: Remote | None = None
        if is_url(folder):
            folder, remote = _fetch_head(str(folder))
        folder = Path(folder)
        if not (folder / PLAN).is_file():
            raise ConfigError(f"{folder}: no store of prepared views there", hint="run prepare first")
        if (folder / HEAD).is_file():
            head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
            index = _read_index(folder, head, here=remote is None)
        elif incomplete:
            head = json.loads((folder / PLAN).read_text(encoding="utf-8"))
            index = pa.Table.from_pylist([], schema=INDEX_SCHEMA)
        else:
            raise ConfigError(
                f"{folder}: the store is not finished", hint="run the same prepare again, it goes on where it stopped"
            )
        if head.get("schema") != SCHEMA_VERSION:
            raise ConfigError(
                f"{folder}: store format {head.get('schema')!r}, known is {SCHEMA_VERSION!r}", hint="prepare again"
            )
        wanted = modality.fingerprint if modality is not None else fingerprint
        if wanted is not None and head["preparation"] != wanted:
            raise ConfigError(
                f"{folder} was prepared as {head['preparation'][:12]} ({head['modality']}), this configuration is "
                f"{wanted[:12]}",
                hint="prepare again into another folder, or use the modality config that the store was made with",
            )
        store = cls(folder, head, index, remote)
        if manifest is not None and store.complete:
            store.check(manifest)
        return store

    @property
    def source(self) -> str:
        """What `open` opens this store with again: its folder, or its URL with the hash of ``store.json``."""
        if self.remote is None:
            return str(self.folder.resolve())
        return f"{self.remote.url}#{sha256_file(self.folder / HEAD)}"

    @property
    def complete(self) -> bool:
        """All shards are there and the index is closed."""
        return "shards" in self.head

    @property
    def progress(self) -> tuple[int, int]:
        """Files of views that are there, and how many make the whole."""
        count = int(self.head["n_shards"])
        return sum((self.folder / _shard_name(i, count)).is_file() for i in range(count)), count

    @property
    def fingerprint(self) -> str:
        """The preparation's fingerprint: the modality's."""
        return self.head["preparation"]

    @property
    def lossless(self) -> bool:
        """Whether the views are exactly what the modality prepared."""
        return bool(self.head["lossless"])

    @property
    def synthetic(self) -> bool:
        """Whether it was prepared from the built-in synthetic corpora (law 10)."""
        return bool(self.head.get("synthetic", False))

    @property
    def counts(self) -> dict[str, int]:
        """Samples by status word."""
        return dict(self.head.get("counts", {}))

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._where

    def check(self, manifest: Manifest) -> None:
        """Raises ManifestError where a sample is not in the store, or was prepared from another file."""
        for sample in manifest:
            key = self._keys.get(sample.sample_id)
            if key != sample_key(sample):
                what = "is not in" if key is None else "was prepared from another path or file in"
                raise ManifestError(
                    f"sample {sample.sample_id!r} {what} the store {self.folder}",
                    hint="prepare this manifest into a folder of its own",
                )

    def status(self, sample_id: str) -> Status:
        """What became of a sample. Raises ManifestError on an unknown id."""
        return self._entry(sample_id)[0]

    def reason(self, sample_id: str) -> str:
        """Why a sample has no views; empty where it has. Raises ManifestError on an unknown id."""
        return self._entry(sample_id)[1]

    def n_views(self, sample_id: str) -> int:
        """How many prepared views a sample has, 0 where none. Raises ManifestError on an unknown id."""
        return self._entry(sample_id)[2]

    def views(self, sample_id: str) -> Views:
        """A sample's prepared views; raw data are read-only arrays on the memory map.

        Raises:
            Unusable: the sample has none; status and reason as recorded.
            ManifestError: an unknown id.
            AssayError: its shard is damaged.
        """
        status, reason, _ = self._entry(sample_id)
        if status != Status.OK:
            raise Unusable(status, reason)
        number, row = self._where[sample_id]
        if number not in self._open:
            self._open[number] = _batches(self._shard(self.head["shards"][number]))
        batch = self._open[number][row]
        cell = {name: batch.column(name)[0] for name in RECORD.names}
        shape = cell["shape"].as_py()
        if cell["data"].is_valid:
            data = np.frombuffer(cell["data"].as_buffer(), dtype=cell["dtype"].as_py()).reshape(shape)
        else:
            data = np.stack([_read_picture(p) for p in cell["pictures"].as_py()])
        return Views(
            data,
            _array(cell["start_s"], np.float64),
            _array(cell["quality"], np.float32),
            _array(cell["track"], np.int32),
            _array(cell["landmarks"], np.float32).reshape(shape[0], 5, 2) if cell["landmarks"].is_valid else None,
            _array(cell["size"], np.float32) if cell["size"].is_valid else None,
        )

    def _shard(self, entry: Mapping[str, Any]) -> Path:
        path = self.folder / entry["name"]
        if self.remote is not None and not path.is_file():
            self.remote.fetch(entry["name"], path, sha256=entry["sha256"], size=int(entry["bytes"]))
        return path

    def verify(self) -> None:
        """Read every file and compare hashes. Raises AssayError naming the first that was altered."""
        for entry in [*self.head["shards"], {"name": INDEX, "sha256": self.head["index_sha256"]}]:
            path = self._shard(entry) if "bytes" in entry else self.folder / entry["name"]
            if not path.is_file() or sha256_file(path) != entry["sha256"]:
                raise AssayError(f"{path}: missing or altered", hint="delete that file and run the same prepare again")

    def _entry(self, sample_id: str) -> tuple[Status, str, int]:
        try:
            return self._status[sample_id]
        except KeyError:
            raise ManifestError(
                f"sample {sample_id!r} is not in the store {self.folder}",
                hint="prepare the manifest that it belongs to",
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}


def _array(cell: pa.Scalar, kind: type[np.generic]) -> np.ndarray:
    return np.asarray(cell.values.to_numpy(zero_copy_only=False), dtype=kind)  # type: ignore[attr-defined]


def _fetch_head(url: str) -> tuple[Path, Remote]:
    """The small files of a store at a URL, in a folder of the cache that belongs to exactly this state of it."""
    place, _, pinned = url.partition("#")
    remote = Remote(place)
    head = remote.read(HEAD)
    found = sha256_bytes(head)
    if pinned and found != pinned:
        raise RemoteError(
            f"{place}/{HEAD}: altered; its SHA-256 is {found[:16]}..., recorded was {pinned[:16]}...",
            hint="another store lies there now: give the one that was used, or begin a new run",
        )
    folder = cache_folder() / "remote" / sha256_bytes(place.encode())[:16] / found[:16]
    try:
        facts = json.loads(head)
        index_sha256, rows = str(facts["index_sha256"]), int(facts["n_samples"])
    except (ValueError, KeyError, TypeError) as error:
        raise RemoteError(f"{place}/{HEAD}: not the head of a store ({error})", hint="check the URL") from error
    if not (folder / INDEX).is_file():
        # An index row is far below a kilobyte; its own hash says whether it is whole.
        remote.fetch(INDEX, folder / INDEX, sha256=index_sha256, size=1024 * rows + 65536)
    write_bytes(folder / PLAN, head)
    write_bytes(folder / HEAD, head)
    return folder, remote


def _read_index(folder: Path, head: Mapping[str, Any], *, here: bool = True) -> pa.Table:
    for entry in head["shards"] if here else ():
        path = folder / entry["name"]
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise AssayError(
                f"{path}: missing or of another size than recorded",
                hint="delete that file and run the same prepare again",
            )
    path = folder / INDEX
    if not path.is_file() or sha256_file(path) != head["index_sha256"]:
        raise AssayError(f"{path}: missing or altered", hint=f"delete {HEAD} and run the same prepare again")
    with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
        return reader.read_all()
