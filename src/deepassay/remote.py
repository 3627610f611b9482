"""Files at a URL (s3://, gs://, hf://, https:// and whatever else fsspec knows), read with patience and checked."""

import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from deepassay.errors import AssayError, MissingDependencyError
from deepassay.files import atomic_path, check_space

PATIENCE_S = 600.0
_BLOCK = 1 << 20
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class RemoteError(AssayError):
    """A file at a URL that is not there, cannot be reached, or is not what it should be."""


def is_url(place: object) -> bool:
    """Whether a place is a URL and not a path: ``s3://bucket/folder``, but neither ``C:\\x`` nor ``a/b``."""
    return isinstance(place, str) and "://" in place


def _arrow_filesystem(url: str) -> Any:
    """Arrow's own S3 or GCS client in fsspec's dress, where s3fs or gcsfs are not installed."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    parts = urlsplit(url)
    if parts.scheme == "s3":
        options: dict[str, Any] = {"connect_timeout": 10, "request_timeout": 60}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            where = urlsplit(endpoint)
            options |= {"endpoint_override": where.netloc, "scheme": where.scheme}
        if os.environ.get("AWS_DEFAULT_REGION"):
            options["region"] = os.environ["AWS_DEFAULT_REGION"]
        return ArrowFSWrapper(fs.S3FileSystem(**options))
    return ArrowFSWrapper(fs.FileSystem.from_uri(url)[0])


class Remote:
    """A folder at a URL; cheap to send to other processes, each of which connects for itself.

    Args:
        url: of the folder. Credentials and endpoint come from the environment, as the store's own tools read them
            (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL`` ...).
        patience_s: how long a file that cannot be reached is tried again, at growing distances; by default
            ``$DEEPASSAY_PATIENCE_S``, else ten minutes.
    """

    def __init__(self, url: str, *, patience_s: float | None = None) -> None:
        self.url = url.rstrip("/")
        own = os.environ.get("DEEPASSAY_PATIENCE_S")
        self.patience_s = patience_s if patience_s is not None else float(own) if own else PATIENCE_S
        self._fs: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fs": None}

    @property
    def _filesystem(self) -> Any:
        # Connections do not survive a fork: every process makes its own.
        if self._fs is None or self._fs[0] != os.getpid():
            try:
                import fsspec
            except ModuleNotFoundError as error:
                raise MissingDependencyError(
                    "reading from a URL needs fsspec", hint="pip install 'deepassay[train]'"
                ) from error
            try:
                made = fsspec.core.url_to_fs(self.url)[0]
            except ImportError as error:
                if urlsplit(self.url).scheme not in ("s3", "gs", "gcs"):
                    raise MissingDependencyError(
                        f"{self.url}: {error}", hint="install the fsspec package that the message names"
                    ) from error
                made = _arrow_filesystem(self.url)
            except ValueError as error:
                raise RemoteError(f"{self.url}: {error}", hint="use a protocol that fsspec knows") from error
            self._fs = os.getpid(), made
        return self._fs[1]

    def _path(self, name: str) -> str:
        url = f"{self.url}/{name}" if name else self.url
        return url if urlsplit(url).scheme in ("http", "https") else url.split("://", 1)[1]

    def _patiently(self, what: str, action: Callable[[], _T]) -> _T:
        begin, wait = time.monotonic(), 0.2
        while True:
            try:
                return action()
            except FileNotFoundError as error:
                raise RemoteError(
                    f"{self.url}/{what}: there is no such file", hint="check the URL and that the copy is complete"
                ) from error
            except AssayError:
                raise
            except Exception as error:  # every backend has errors of its own for a server that does not answer
                if isinstance(error, PermissionError) or time.monotonic() - begin + wait > self.patience_s:
                    first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
                    raise RemoteError(
                        f"{self.url}/{what}: not reached in {time.monotonic() - begin:.0f} s ({first})",
                        hint="check the network, the credentials and the server; the same command then goes on",
                    ) from error
                _log.warning("%s/%s: %s; tried again", self.url, what, type(error).__name__)
                time.sleep(wait)
                wait = min(wait * 2, 30.0)
                self._fs = None

    def read(self, name: str) -> bytes:
        """A small file. Raises RemoteError."""
        return self._patiently(name, lambda: self._filesystem.cat_file(self._path(name)))

    def fetch(self, name: str, target: Path, *, sha256: str, size: int) -> Path:
        """Copy a file here, whole or not at all.

        Raises:
            RemoteError: it is not there, cannot be reached, or its bytes are not those of ``sha256``.
            AssayError: the disk is too small.
        """
        check_space(target.parent, size, what=f"{name} of {self.url}")

        def copy() -> str:
            seen = hashlib.sha256()
            with self._filesystem.open(self._path(name), "rb") as source, open(temporary, "wb") as sink:
                while block := source.read(_BLOCK):
                    seen.update(block)
                    sink.write(block)
                    if sink.tell() > size:
                        break
            return seen.hexdigest()

        with atomic_path(target) as temporary:
            found = self._patiently(name, copy)
            if found != sha256:
                raise RemoteError(
                    f"{self.url}/{name}: altered; its SHA-256 is {found[:16]}..., recorded was {sha256[:16]}...",
                    hint="nothing of it is used: copy the store there again, and find out who changed it",
                )
        return target
