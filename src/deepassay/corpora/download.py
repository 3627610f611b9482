"""Fetching what is open to all: on request only, with a pinned hash, resumable; and unpacking archives safely."""

import hashlib
import http.client
import json
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from deepassay.corpora.record import CorpusRecord, Download
from deepassay.errors import AssayError
from deepassay.files import write_json

_BLOCK = 1 << 20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class DownloadError(AssayError):
    """A download that cannot be had, is not what was pinned, or an archive that is not safe to unpack."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may become.

    Args:
        max_members: files and folders.
        max_bytes: of all its files together.
        max_ratio: unpacked to packed bytes; archives under 1 MiB unpacked are let pass.
    """

    max_members: int = 5_000_000
    max_bytes: int = 4 << 40
    max_ratio: float = 100.0


DEFAULT_ARCHIVE_LIMITS = ArchiveLimits()


# --- fetching ---


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise DownloadError(f"{url} is not an https address", hint="use the https address of its owner")


def fetch(
    download: Download, root: str | Path, *, attempts: int = 5, pause_s: float = 2.0, progress: bool = True
) -> Path:
    """Fetch one file below ``root``, or go on with an interrupted one; nothing stands there before its hash is right.

    Args:
        attempts: how often a broken connection is taken up again.
        pause_s: before each new attempt, times its number.

    Returns:
        The file's path.

    Raises:
        DownloadError: no connection, no room, or a file with another hash than the pinned one (which is removed).
    """
    _check_url(download.url)
    target = Path(root) / download.name
    if target.exists():
        _verify(target, download, keep=True)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shown = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=not progress,
    )  # fmt: skip
    with shown:
        task = shown.add_task(download.name, total=None)
        for attempt in range(1, attempts + 1):
            try:
                _continue(download.url, part, lambda done, total: shown.update(task, completed=done, total=total))
                break
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if attempt == attempts or refused:
                    have = part.stat().st_size if part.exists() else 0
                    raise DownloadError(
                        f"{download.url}: {error} ({have:,} bytes are there)",
                        hint="look at its page in a browser; the same command goes on where this one stopped",
                    ) from error
                time.sleep(pause_s * attempt)
    _verify(part, download, keep=False)
    os.replace(part, target)
    part.with_suffix(".json").unlink(missing_ok=True)
    return target


def _continue(url: str, part: Path, report: Any) -> None:
    """Append to ``part`` what it lacks; start again where the server no longer has the same file."""
    notes = part.with_suffix(".json")
    have = part.stat().st_size if part.exists() else 0
    mark = json.loads(notes.read_text()).get("mark", "") if have and notes.exists() else ""
    headers = {"User-Agent": "deepassay", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark:
            headers["If-Range"] = mark
    opener = urllib.request.build_opener(_SafeRedirects())
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch, or the file has shrunk: its hash will tell
            whole = str(error.headers.get("Content-Range") or "").rpartition("/")[2]
            if whole == str(have):
                return
            part.unlink()
            _continue(url, part, report)
            return
        raise
    with answer:
        if answer.status == 206:
            span = str(answer.headers.get("Content-Range") or "")
            if not span.startswith(f"bytes {have}-"):
                raise http.client.HTTPException(f"the server answered with {span!r} to a range from {have}")
        else:
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None:
            free = shutil.disk_usage(part.parent).free
            if total - have > free:
                raise DownloadError(
                    f"{url}: {total - have:,} bytes to come and {free:,} bytes of room in {part.parent}",
                    hint="free some space, or name a root on another disk",
                )
        tag = answer.headers.get("ETag") or ""
        mark = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified") or ""
        write_json(notes, {"url": url, "mark": mark})
        with open(part, "ab" if have else "wb") as stream:
            done = have
            while block := answer.read(_BLOCK):
                stream.write(block)
                done += len(block)
                report(done, total)
        if total is not None and done < total:
            raise http.client.IncompleteRead(b"", total - done)


def _verify(path: Path, download: Download, *, keep: bool) -> None:
    kind, wanted = ("sha256", download.sha256) if download.sha256 else ("md5", download.md5)
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
    if found == wanted.lower():
        return
    if keep:
        raise DownloadError(
            f"{path}: its {kind} is {found}, pinned is {wanted} ({download.source})",
            hint="it is another or a damaged file: move it away and run the same command again",
        )
    path.unlink()
    path.with_suffix(".json").unlink(missing_ok=True)
    raise DownloadError(
        f"{download.url}: what came has {kind} {found}, pinned is {wanted} ({download.source}); it was removed",
        hint="try again later; if it stays so, the owner has changed the file: read their page, and do not use it as "
        "the published one",
    )


# --- unpacking ---


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    folder: bool


def _member(raw: str, size: int, folder: bool, problem: str, where: Path) -> _Member:
    name = raw.rstrip("/") if folder else raw
    path = PurePosixPath(name)
    if not problem:
        if not name or "\0" in name or name.endswith("/"):
            problem = "has no proper name"
        elif path.is_absolute() or "\\" in name or (len(name) > 1 and name[1] == ":"):
            problem = "is an absolute or foreign path"
        elif ".." in path.parts:
            problem = "leads out of the folder (..)"
    if problem:
        raise DownloadError(
            f"{where}: member {raw!r} {problem}; nothing was unpacked",
            hint="do not unpack it by other means without looking inside; get it from its owner",
        )
    return _Member(path.as_posix(), size, folder)


def _tar_problem(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"is a link to {info.linkname!r}"
    return "" if info.isfile() or info.isdir() else "is no plain file or folder"


def _zip_problem(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "is a link"
    if info.flag_bits & 0x1:
        return "is encrypted"
    kind = stat.S_IFMT(mode)
    return "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "is no plain file or folder"


def members(archive: str | Path, limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS) -> list[_Member]:
    """What an archive holds, after every name, kind, number and size was looked at; nothing is written.

    Raises:
        DownloadError: a member outside the folder, a link or device, a name that stands twice, too many members or
            bytes, an expansion beyond the limits, or no archive at all.
    """
    path = Path(archive)
    packed = max(path.stat().st_size, 1)
    most = min(limits.max_bytes, int(max(limits.max_ratio * packed, 1 << 20)))
    out: list[_Member] = []
    seen: set[str] = set()
    total = 0
    try:
        for member in _listed(path):
            total += member.size
            if total > most:
                raise DownloadError(
                    f"{path}: {packed:,} bytes would become more than {most:,}; nothing was unpacked",
                    hint="an archive of media hardly shrinks: this one is damaged or made to fill the disk",
                )
            if len(out) >= limits.max_members:
                raise DownloadError(
                    f"{path}: more than {limits.max_members:,} members; nothing was unpacked",
                    hint="raise the limit if its owner publishes so many",
                )
            if member.name in seen and not member.folder:
                raise DownloadError(
                    f"{path}: member {member.name!r} stands in it twice; nothing was unpacked",
                    hint="one would overwrite the other: get it from its owner",
                )
            seen.add(member.name)
            out.append(member)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise DownloadError(
            f"{path}: not a readable tar or zip archive ({error})", hint="fetch it again; its hash tells damage"
        ) from error
    return out


def _listed(path: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as source:
            for info in source.infolist():
                yield _member(info.filename, info.file_size, info.is_dir(), _zip_problem(info), path)
        return
    with tarfile.open(path, "r|*") as source:
        for info in source:
            if info.isdir() and PurePosixPath(info.name) == PurePosixPath("."):
                continue
            yield _member(info.name, info.size if info.isfile() else 0, info.isdir(), _tar_problem(info), path)


def unpack(
    archive: str | Path,
    target: str | Path,
    *,
    limits: ArchiveLimits = DEFAULT_ARCHIVE_LIMITS,
    progress: bool = True,
) -> int:
    """Unpack an archive below ``target`` after `members` let it pass; files that are there in full are kept.

    Returns:
        Number of files.

    Raises:
        DownloadError: see `members`; or a link in ``target`` that leads out of it.
    """
    path, root = Path(archive), Path(target)
    expected = {m.name: m for m in members(path, limits)}
    root.mkdir(parents=True, exist_ok=True)
    top = os.path.realpath(root)
    safe: set[str] = {""}
    done = 0
    shown = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,} of {task.total:,} files"),
        console=Console(stderr=True), transient=True, disable=not progress,
    )  # fmt: skip
    with shown:
        task = shown.add_task(f"unpacking {path.name}", total=sum(not m.folder for m in expected.values()))
        for name, stream in _contents(path):
            member = expected[name]
            parent = "" if member.folder and "/" not in name else str(PurePosixPath(name).parent)
            folder = name if member.folder else ("" if parent == "." else parent)
            if folder not in safe:
                (root / folder).mkdir(parents=True, exist_ok=True)
                real = os.path.realpath(root / folder)
                if real != top and not real.startswith(top + os.sep):
                    raise DownloadError(
                        f"{root / folder} leads out of {root} through a link that was there before",
                        hint="remove the link, or name another root",
                    )
                safe.add(folder)
            if member.folder:
                continue
            try:
                with stream() as content:
                    _write(root / name, content, member.size)
            except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
                raise DownloadError(
                    f"{path}: member {name!r} cannot be unpacked ({error})",
                    hint="the archive is damaged: fetch it again; what was unpacked before it is whole",
                ) from error
            done += 1
            shown.update(task, completed=done)
    return done


def _write(path: Path, content: IO[bytes], size: int) -> None:
    if path.is_file() and not path.is_symlink() and path.stat().st_size == size:
        return
    part = path.with_name(f".{path.name}.part")  # not `atomic_path`: a sync per file makes a million files hours
    written = 0
    try:
        with open(part, "wb") as stream:
            while written <= size and (block := content.read(_BLOCK)):
                written += len(block)
                stream.write(block)
        if written != size:
            raise EOFError(f"{size:,} bytes announced, {written:,} found")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _contents(path: Path) -> Iterator[tuple[str, Any]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as source:
            for info in source.infolist():
                yield PurePosixPath(info.filename).as_posix(), lambda info=info: source.open(info)
        return
    with tarfile.open(path, "r|*") as source:
        for info in source:
            if info.isdir() and PurePosixPath(info.name) == PurePosixPath("."):
                continue
            yield PurePosixPath(info.name).as_posix(), lambda info=info: _opened(source, info)


@contextmanager
def _opened(source: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    stream = source.extractfile(info)
    if stream is None:
        raise DownloadError(f"{info.name} has no content", hint="the archive is damaged: fetch it again")
    with stream:
        yield stream


def download_corpus(
    record: CorpusRecord,
    root: str | Path,
    parts: Sequence[str] = (),
    *,
    unpacked: bool = True,
    keep: bool = False,
    progress: bool = True,
) -> list[str]:
    """Fetch the open files of a corpus, check their hashes and unpack them below ``root``.

    Args:
        parts: which ones; all by default.
        unpacked: False leaves the archives as they are.
        keep: keep archives after unpacking.

    Returns:
        One sentence per part.

    Raises:
        DownloadError: the corpus is not open to all, an unknown part, or what `fetch` and `unpack` refuse.
    """
    if not record.downloads:
        raise DownloadError(f"{record.name} is not downloaded by this program", hint=record.obtain)
    known = {d.part: d for d in record.downloads}
    unknown = sorted(set(parts) - set(known))
    if unknown:
        raise DownloadError(f"{record.name} has no part {unknown[0]!r}", hint=f"parts: {', '.join(known)}")
    out = []
    for part in parts or known:
        download = known[part]
        path = fetch(download, root, progress=progress)
        kind = "sha256" if download.sha256 else "md5"
        if not unpacked:
            out.append(f"{part}: {path} ({kind} as pinned)")
            continue
        n = unpack(path, root, progress=progress)
        if not keep:
            path.unlink()
        out.append(f"{part}: {n:,} files below {root} ({kind} as pinned)")
    return out
