"""Journal: append-only JSON lines in which every record holds the hash of the one before; safe with several writers."""

import argparse
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepassay.errors import AssayError, MissingDependencyError
from deepassay.files import canonical_json, sha256_bytes

FORMAT, VERSION = "deepassay.journal", 1
GENESIS = "0" * 64
MAX_RECORD_BYTES = 1 << 20
_HEAD_KEYS = ("n", "size", "sha256")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a journal.

    Args:
        line: number of the line in the file, from 1; 0 where it concerns the whole file.
        kind: changed | missing | reordered | truncated | torn | foreign.
        text: one sentence for people.
    """

    line: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class JournalReport:
    """What `verify` found.

    Args:
        records: whole records, the first one (the journal's own facts) not counted.
        lost: records that a killed writer left half written; their bytes stay in the file, named by a later record.
        findings: what is wrong, in the order of the file; empty for a valid journal.
        head: SHA-256 of the last record. Kept elsewhere, it shows a truncation that the head file was adapted to.
        first, last: times of the first and last record, ISO 8601.
    """

    records: int
    lost: int
    findings: tuple[Finding, ...]
    head: str
    first: str = ""
    last: str = ""

    @property
    def valid(self) -> bool:
        """Nothing is wrong."""
        return not self.findings


def _seal(record: Mapping[str, Any]) -> bytes:
    """The line of a record: canonical JSON that ends with the hash of everything before it."""
    body = canonical_json(record)
    return body[:-1] + b',"sha256":"' + sha256_bytes(body).encode() + b'"}'


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Journal:
    """Appends records to a journal; any number of processes may write to the same one.

    Layout: ``NAME`` holds one record per line (canonical JSON). Each has its number ``n``, the time, ``prev`` (SHA-256
    of the record before) and ``sha256`` (of its own canonical form without that key). ``NAME.head`` holds number, size
    and hash of the last record; ``NAME.salt`` (mode 0600) the key of hashed file names. A writer holds an exclusive
    lock on the journal while it appends. A writer that is killed within its write leaves an unfinished last line; the
    next one ends that line and writes a record that names its length and hash, so that nothing is ever erased.

    What it shows: a record that was changed, dropped, moved or cut off by somebody who does not recompute everything
    after it. Somebody who can write all three files can write another history: keep heads elsewhere
    (`JournalReport.head`).

    Args:
        path: the journal; begun where it is not there.
        names: True writes file names as they are; by default they are hashed with the journal's own salt.
        sync: wait for the disk after every record (power cuts; a killed process loses nothing either way).

    Raises:
        AssayError: the file is no journal, or is not what its head file says.
        MissingDependencyError: the system has no POSIX file locks.
    """

    def __init__(self, path: str | os.PathLike[str], *, names: bool = False, sync: bool = True) -> None:
        try:
            import fcntl
        except ImportError as error:
            raise MissingDependencyError(
                "journals need POSIX file locks, and this system has none", hint="write the journal on Linux or macOS"
            ) from error
        self._lockf = fcntl.flock
        self._exclusive, self._unlock = fcntl.LOCK_EX, fcntl.LOCK_UN
        self.path, self.names, self.sync = Path(path), names, sync
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as handle:
            if os.fstat(handle).st_size == 0:
                self._append(handle, 0, GENESIS, {"format": FORMAT, "version": VERSION})
            else:
                self._tail(handle)
        self._salt = self._read_salt()

    def append(self, record: Mapping[str, Any]) -> str:
        """Add one record; returns its SHA-256.

        Raises:
            AssayError: the journal was altered since, the disk is full (nothing of the record stays), or the record
            is too large.
            ValueError: the record uses a key of the journal's own.
        """
        taken = {"n", "time", "prev", "sha256", "format", "version", "lost"} & set(record)
        if taken:
            raise ValueError(f"{sorted(taken)[0]!r} is a key of the journal's own")
        with self._locked() as handle:
            n, _, last = self._tail(handle)
            return self._append(handle, n + 1, last, record)

    def name(self, path: str) -> str:
        """What a record says of a file name: the name itself, or its salted hash (HMAC-SHA-256, 32 hex digits)."""
        if self.names:
            return path
        return hmac.new(self._salt, os.fsencode(path), hashlib.sha256).hexdigest()[:32]

    @contextmanager
    def _locked(self) -> Iterator[int]:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lockf(handle, self._exclusive)
            yield handle
        finally:
            os.close(handle)  # gives the lock back

    def _append(self, handle: int, n: int, prev: str, record: Mapping[str, Any], *, before: bytes = b"") -> str:
        line = _seal({**record, "n": n, "prev": prev, "time": _now()})
        if len(line) > MAX_RECORD_BYTES:
            raise AssayError(
                f"{self.path}: a record of {len(line)} bytes is over the limit of {MAX_RECORD_BYTES}",
                hint="screen with fewer views, or leave the timeline out",
            )
        size = os.fstat(handle).st_size
        try:
            written = os.pwrite(handle, before + line + b"\n", size)
            if written != len(before) + len(line) + 1:
                raise OSError(28, "no space left")
            if self.sync:
                os.fsync(handle)
        except OSError as error:
            os.ftruncate(handle, size)  # our own unfinished record, under our own lock
            raise AssayError(
                f"{self.path}: the record could not be written ({error.strerror})",
                hint="free some space and run the same command again; the journal is as it was before this record",
            ) from error
        digest = sha256_bytes(line[: line.rindex(b',"sha256"')] + b"}")
        self._write_head(n, size + len(before) + len(line) + 1, digest)
        return digest

    def _write_head(self, n: int, size: int, digest: str) -> None:
        # Fixed length and one small write: a kill leaves the old head or the new one.
        text = f'{{"n":{n:>20},"size":{size:>20},"sha256":"{digest}"}}\n'.encode()
        handle = os.open(f"{self.path}.head", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, text, 0)
        finally:
            os.close(handle)

    def _tail(self, handle: int) -> tuple[int, int, str]:
        """Number, size and hash of the last whole record; mends what a killed writer left."""
        size = os.fstat(handle).st_size
        head = read_head(self.path)
        if head is None:
            report = verify(self.path, head_file=False)
            whole = [f for f in report.findings if f.kind != "torn"]
            if whole:
                raise AssayError(
                    f"{self.path}: line {whole[0].line}: {whole[0].text}",
                    hint="it is no valid journal; begin another one, and keep this one as it is",
                )
            head = {"n": _last_number(self.path), "size": _whole_size(self.path), "sha256": report.head}
        if size == head["size"]:
            return head["n"], size, head["sha256"]
        if size < head["size"]:
            raise AssayError(
                f"{self.path} has {size} bytes, and its head file says {head['size']}: records were cut off",
                hint="restore it, or begin another journal and keep this one as it is",
            )
        rest = os.pread(handle, size - head["size"], head["size"])
        n, end, last = head["n"], head["size"], head["sha256"]
        while rest:  # a writer was killed between its record and its head, or within its record
            line, newline, after = rest.partition(b"\n")
            record = _parse(line) if newline else None
            if record is None or record["n"] != n + 1 or record["prev"] != last:
                break
            n, end, last, rest = n + 1, end + len(line) + 1, record["sha256"], after
        if not rest:
            self._write_head(n, end, last)
            return n, end, last
        lost = rest.removesuffix(b"\n")
        if any(_is_json(line) for line in lost.split(b"\n")):  # an unfinished record never is
            raise AssayError(
                f"{self.path}: something other than a journal wrote after record {n}",
                hint="run `deepassay journal verify`; begin another journal and keep this one as it is",
            )
        what = {"lost": {"bytes": len(lost), "sha256": sha256_bytes(lost)}}
        last = self._append(handle, n + 1, last, what, before=b"" if rest.endswith(b"\n") else b"\n")
        return n + 1, os.fstat(handle).st_size, last

    def _read_salt(self) -> bytes:
        place = Path(f"{self.path}.salt")
        with self._locked():
            if not place.exists():
                handle = os.open(f"{place}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                try:
                    os.write(handle, secrets.token_hex(32).encode())
                finally:
                    os.close(handle)
                os.replace(f"{place}.part", place)
            return bytes.fromhex(place.read_text().strip())


def read_head(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the head file says, or None where there is none. Raises AssayError where it cannot be read."""
    place = Path(f"{os.fspath(path)}.head")
    try:
        values = json.loads(place.read_bytes())
        if set(values) != set(_HEAD_KEYS):
            raise ValueError("other keys")
        return {"n": int(values["n"]), "size": int(values["size"]), "sha256": str(values["sha256"])}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise AssayError(
            f"{place} cannot be read ({error})", hint="move it away: the next writer makes it again from the journal"
        ) from error


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _parse(line: bytes) -> dict[str, Any] | None:
    """A record whose own hash and form are right, else None."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict) or not isinstance(record.get("n"), int) or isinstance(record["n"], bool):
            return None
        body = {key: value for key, value in record.items() if key != "sha256"}
        good = _seal(body) == line and isinstance(record.get("prev"), str) and isinstance(record.get("time"), str)
        return record if good else None
    except (ValueError, RecursionError):
        return None


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes, bool]]:
    """Number, content and wholeness of every line; lines over the limit come cut, so that memory stays bounded."""
    number = 0
    try:
        with open(path, "rb") as stream:
            while line := stream.readline(MAX_RECORD_BYTES + 2):
                number += 1
                yield number, line.rstrip(b"\n"), line.endswith(b"\n")
                while not line.endswith(b"\n") and (line := stream.readline(MAX_RECORD_BYTES + 2)):
                    pass
    except OSError as error:
        raise AssayError(
            f"{path}: cannot be read ({error.strerror})", hint="give the journal that --journal wrote"
        ) from error


def _last_number(path: Path) -> int:
    numbers = [record["n"] for _, line, whole in _lines(path) if whole and (record := _parse(line)) is not None]
    return numbers[-1] if numbers else 0


def _whole_size(path: Path) -> int:
    return sum(len(line) + 1 for _, line, whole in _lines(path) if whole)


def verify(path: str | os.PathLike[str], *, head: str | None = None, head_file: bool = True) -> JournalReport:
    """Read a whole journal and find records that were changed, dropped, moved or cut off.

    Args:
        path: the journal.
        head: SHA-256 of the last record as somebody else kept it; anything after that record is new, anything of it
            missing is a truncation. None to go by the head file alone.
        head_file: compare with ``NAME.head``.

    Raises:
        AssayError: the file cannot be read, or does not begin as a journal.
    """
    findings: list[Finding] = []
    expected, prev, count, lost = 0, GENESIS, 0, 0
    first = last = ""
    met_head = head is None
    unread: list[tuple[int, bytes]] = []  # lines that are no records, until the next record accounts for them
    at_head_size = None
    offset = 0
    known = read_head(path) if head_file else None
    for number, line, whole in _lines(path):
        offset += len(line) + whole
        record = _parse(line)
        if number == 1 and (record is None or record.get("format") != FORMAT):
            raise AssayError(f"{path}: is no journal", hint="give the file that `deepassay screen --journal` wrote")
        if number == 1 and record is not None and record.get("version") != VERSION:
            raise AssayError(
                f"{path}: journal version {record.get('version')!r}; this version reads {VERSION}",
                hint="use the version of deepassay that wrote it",
            )
        if record is None and whole:
            unread.append((number, line))
            continue
        if record is None:
            findings.append(
                Finding(number, "torn", f"the last record is unfinished ({len(line)} bytes): its writer was killed")
            )
            lost += 1
            continue
        if unread:
            bytes_ = b"\n".join(line for _, line in unread)
            if record.get("lost") == {"bytes": len(bytes_), "sha256": sha256_bytes(bytes_)}:
                lost += 1  # a killed writer's unfinished record, and the next writer said so
            else:
                findings += [Finding(i, "changed", "the record is not what its hash says") for i, _ in unread]
                expected, prev = expected + len(unread), ""
            unread = []
        n = record["n"]
        if n > expected:
            missing = f"record {expected}" if n == expected + 1 else f"records {expected} to {n - 1}"
            findings.append(Finding(number, "missing", f"{missing} should stand before record {n}"))
        elif n < expected:
            findings.append(Finding(number, "reordered", f"record {n} stands after record {expected - 1}"))
        elif prev and record["prev"] != prev:
            findings.append(Finding(number, "changed", f"record {n} does not follow from the record before it"))
        expected, prev = n + 1, record["sha256"]
        count += n > 0 and "lost" not in record
        first, last = first or record["time"], record["time"]
        met_head = met_head or record["sha256"] == head
        if known is not None and offset == known["size"]:
            at_head_size = (n, record["sha256"])
    findings += [Finding(i, "changed", "the record is not what its hash says") for i, _ in unread]
    if count == 0 and not first:
        raise AssayError(f"{path}: is empty", hint="give the file that `deepassay screen --journal` wrote")
    if known is not None and at_head_size != (known["n"], known["sha256"]):
        what = "truncated" if offset < known["size"] else "foreign"
        findings.append(
            Finding(0, what, f"the head file says {known['n']} records in {known['size']} bytes, the file has {offset}")
        )
    if not met_head:
        findings.append(Finding(0, "truncated", f"no record has the expected hash {head}"))
    return JournalReport(count, lost, tuple(findings), prev, first, last)


def verdict_record(
    verdict: Any, journal: Journal, *, input_sha256: str | None, timeline: bool = False
) -> dict[str, Any]:
    """What the journal keeps of a verdict: no media, no timeline unless asked, the name hashed unless asked.

    Args:
        verdict: `screener.Verdict`. journal: whose salt hashes the name.
        input_sha256: of the file's bytes; None where it could not be read.
        timeline: keep per-view scores too.
    """
    values = verdict.to_dict()
    for key in ("path", "seconds", *(() if timeline else ("timeline",))):
        values.pop(key)
    if not journal.names:
        values["reason"] = values["reason"].replace(verdict.path, "the file")
    return {"name": journal.name(verdict.path), "input_sha256": input_sha256, "verdict": values}


EPILOG = """\
exit codes: 0 the journal is valid; 1 it is not, every finding is printed; 2 it cannot be read.

A journal shows what was changed, dropped, moved or cut off by somebody who could not write everything again. Print its
head now and then, keep it elsewhere, and give it to --head: then a rewritten or shortened journal shows too.

examples:
  deepassay journal head verdicts.journal
  deepassay journal verify verdicts.journal --head 3b1f...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay journal`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "action", choices=("verify", "head"), help="check a journal, or print the hash of its last record"
    )
    parser.add_argument("journal", metavar="FILE", help="what `deepassay screen --journal` wrote")
    parser.add_argument("--head", metavar="SHA256", help="hash of a record that was kept elsewhere")


def main(args: argparse.Namespace) -> int:
    """Check a journal; returns 0 where it is valid and 1 where it is not."""
    report = verify(args.journal, head=args.head)
    if args.action == "head":
        print(report.head)
        return 0 if report.valid else 1
    for finding in report.findings:
        where = f"line {finding.line}" if finding.line else "whole file"
        print(f"{where}: {finding.kind}: {finding.text}")
    lost = f", {report.lost} lost to killed writers" if report.lost else ""
    print(f"{args.journal}: {'valid' if report.valid else 'NOT VALID'}, {report.records} records{lost}")
    print(f"  from {report.first} to {report.last}, head {report.head}")
    return 0 if report.valid else 1
