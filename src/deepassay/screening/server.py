"""A small reference service: files in over HTTP, verdicts out; bounded, authenticated, observable."""

import argparse
import asyncio
import contextlib
import hmac
import ipaddress
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepassay import __version__
from deepassay.errors import AssayError, ConfigError, MissingDependencyError
from deepassay.screening.crew import Crew, Screened

KEYS_VARIABLE = "DEEPASSAY_API_KEYS"
START_METHOD = "spawn"  # this process has threads, and a fork of those is not safe
PAGE = Path(__file__).parent / "page"
MEDIA_TYPES = ("application/octet-stream", "image/", "audio/", "video/")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
}
EPILOG = f"""\
POST /v1/screen takes one file, as the body or as the part "file" of a form, and answers with its verdicts.
API keys come from the environment variable {KEYS_VARIABLE} (separated by commas); without one the service listens on
this machine only. Put a reverse proxy with TLS in front of it.

examples:
  deepassay serve --bundle face.zip --bundle voice.zip
  curl -F file=@photo.jpg http://127.0.0.1:8080/v1/screen
  {KEYS_VARIABLE}=$(openssl rand -hex 24) deepassay serve --bundle face.zip --host 0.0.0.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """What a service may take and how long it may wait.

    Args:
        screener: keyword arguments of `Screener`; bundles by path.
        workers: files judged at a time, each in a process of its own.
        queue: further requests that may wait; one more gets 429.
        max_upload_bytes: larger uploads get 413, before they are read where their length is announced.
        upload_s: longest time for an upload to arrive; then 408.
        timeout_s: longest time for judging one file; then an abstention with status error.
        keys: accepted API keys; empty means open.
        journal: a file that gets every verdict, or None.
    """

    screener: Mapping[str, Any]
    workers: int = 1
    queue: int = 16
    max_upload_bytes: int = 256 << 20
    upload_s: float = 60.0
    timeout_s: float = 120.0
    keys: tuple[str, ...] = field(default=(), repr=False)
    journal: str | None = None

    def __post_init__(self) -> None:
        if min(self.workers, self.max_upload_bytes) < 1 or self.queue < 0 or min(self.upload_s, self.timeout_s) <= 0:
            raise ConfigError(
                f"service with workers {self.workers}, queue {self.queue}, {self.max_upload_bytes} bytes, "
                f"{self.upload_s} s and {self.timeout_s} s",
                hint="workers and bytes start at 1, the queue at 0, times are above 0",
            )
        if any(len(key) < 16 for key in self.keys):
            raise ConfigError(
                f"an API key in {KEYS_VARIABLE} has fewer than 16 characters",
                hint="make one with `openssl rand -hex 24`",
            )


def check_exposure(host: str, keys: Sequence[str]) -> None:
    """Refuse an open service on anything but the loopback interface. Raises ConfigError."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not keys:
        raise ConfigError(
            f"--host {host} can be reached from outside, and there is no API key",
            hint=f"set {KEYS_VARIABLE}, or listen on 127.0.0.1",
        )


class _Pool:
    """Crews of one worker each; a request borrows one, so that a slow file holds up nobody but itself."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.free: asyncio.Queue[Crew] = asyncio.Queue()
        self.crews: list[Crew] = []
        self.waiting = 0

    async def open(self) -> None:
        threads = self.settings.screener.get("threads") or max(1, (os.cpu_count() or 1) // self.settings.workers)
        for _ in range(self.settings.workers):
            crew = Crew(
                {**self.settings.screener, "threads": threads},
                timeout_s=self.settings.timeout_s,
                hash_inputs=self.settings.journal is not None,
                start_method=START_METHOD,
            )
            self.crews.append(crew)
            await asyncio.to_thread(crew.__enter__)
            self.free.put_nowait(crew)

    async def close(self) -> None:
        for crew in self.crews:
            await asyncio.to_thread(crew.close)

    @property
    def replaced(self) -> int:
        return sum(crew.replaced for crew in self.crews)

    async def screen(self, path: str) -> Screened:
        crew = await self.free.get()
        try:
            return await asyncio.to_thread(lambda: next(iter(crew.screen([path]))))
        finally:
            self.free.put_nowait(crew)


class Refusal(Exception):
    """A request that gets an error answer.

    Args:
        code: HTTP status. kind: short name for programs. text: for people. headers: further ones.
    """

    def __init__(self, code: int, kind: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.code, self.kind, self.text, self.headers = code, kind, text, dict(headers or {})


def create_app(settings: ServiceSettings) -> Any:
    """The ASGI application.

    Routes: ``POST /v1/screen``, ``GET /healthz``, ``/readyz``, ``/metrics``, ``/openapi.json`` and ``/``, a page for
    people.

    Raises:
        MissingDependencyError: FastAPI or the Prometheus client is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import FileResponse, JSONResponse, Response
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
        from starlette.requests import ClientDisconnect
    except ImportError as error:
        raise MissingDependencyError(
            f"the service needs {error.name}, which is not installed", hint="pip install 'deepassay[serve]'"
        ) from error

    collector = CollectorRegistry()
    requests = Counter("deepassay_requests", "Answers to POST /v1/screen", ["code"], registry=collector)
    verdicts = Counter("deepassay_verdicts", "Verdicts given", ["modality", "decision", "status"], registry=collector)
    seconds = Histogram(
        "deepassay_screen_seconds", "From the whole upload to the verdicts", registry=collector,
        buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
    )  # fmt: skip
    uploaded = Counter("deepassay_uploaded_bytes", "Bytes of files taken in", registry=collector)
    in_flight = Gauge("deepassay_in_flight", "Requests that were let in", registry=collector)
    replaced = Gauge("deepassay_workers_replaced", "Workers that crashed or hung and were replaced", registry=collector)
    pool = _Pool(settings)
    state: dict[str, Any] = {"ready": False, "folder": None, "journal": None, "in": 0}

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="deepassay-serve-") as folder:
            state["folder"] = folder
            if settings.journal is not None:
                from deepassay.screening.journal import Journal

                state["journal"] = Journal(settings.journal)
            try:
                await pool.open()
                state["ready"] = True
                yield
            finally:
                state["ready"] = False
                await pool.close()

    app = FastAPI(
        title="deepassay", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Screens images, videos and sound with exported detectors. Measured evidence, not proof.",
    )  # fmt: skip

    def answer(request: Request, code: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        return JSONResponse(body, code, {**(headers or {}), "X-Request-ID": request.state.id})

    @app.middleware("http")
    async def frame(request: Request, call_next: Any) -> Any:
        given = request.headers.get("x-request-id", "")
        request.state.id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("X-Request-ID", request.state.id)
        return response

    def authorise(request: Request) -> None:
        if not settings.keys:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        # Every key is compared, each in constant time, so that the time taken tells nothing.
        good = [hmac.compare_digest(given.encode(), key.encode()) for key in settings.keys]
        if not any(good):
            raise Refusal(401, "unauthorised", "an API key is needed", {"WWW-Authenticate": "Bearer"})

    async def receive(request: Request, target: Path) -> int:
        """Write the uploaded file; returns its size."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        announced = request.headers.get("content-length", "")
        limit = settings.max_upload_bytes
        too_large = Refusal(413, "too_large", f"the file is over the limit of {limit} bytes")
        if kind != "multipart/form-data" and not kind.startswith(MEDIA_TYPES):
            raise Refusal(
                415,
                "wrong_type",
                "send the file as the body (application/octet-stream) or as the part 'file' of a form",
            )
        if announced.isdigit() and int(announced) > limit + (1 << 16):
            raise too_large
        size = 0
        if kind != "multipart/form-data":
            with open(target, "wb") as out:
                async for block in request.stream():
                    size += len(block)
                    if size > limit:
                        raise too_large
                    out.write(block)
        else:
            size = await _form_file(request, target, limit, too_large)
        if size == 0:
            raise Refusal(422, "empty", "no file was sent")
        return size

    # The body is described by hand, because it is streamed and never parsed into memory.
    body = {
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {"file": {"type": "string", "format": "binary", "minLength": 1}},
                    }
                },
            },
        }
    }
    fault = {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["error", "message", "request_id"],
                    "properties": {key: {"type": "string"} for key in ("error", "message", "request_id")},
                }
            }
        }
    }
    answers: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "Verdicts, one per modality that was judged",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["request_id", "verdicts"],
                        "properties": {
                            "request_id": {"type": "string"},
                            "verdicts": {"type": "array", "minItems": 1, "items": {"type": "object"}},
                        },
                    }
                }
            },
        },
        400: {"description": "A form that cannot be read", **fault},
        401: {"description": "API key missing or wrong", **fault},
        408: {"description": "The upload took too long", **fault},
        413: {"description": "The file is too large", **fault},
        415: {"description": "Neither a file nor a form", **fault},
        422: {"description": "No file in the request", **fault},
        429: {"description": "Too many requests wait; try again", **fault},
        503: {"description": "Starting or stopping", **fault},
    }

    @app.post("/v1/screen", openapi_extra=body, responses=answers, summary="Screen one file")
    async def screen(request: Request) -> Response:
        try:
            result = await admitted(request)
        except Refusal as refusal:
            requests.labels(str(refusal.code)).inc()
            text = {"error": refusal.kind, "message": refusal.text, "request_id": request.state.id}
            # What was not read of an upload would be taken for the next request.
            return answer(request, refusal.code, text, {**refusal.headers, "Connection": "close"})
        requests.labels("200").inc()
        return answer(request, 200, {"request_id": request.state.id, "verdicts": result})

    async def admitted(request: Request) -> list[dict[str, Any]]:
        authorise(request)
        if not state["ready"]:
            raise Refusal(503, "not_ready", "the service is starting or stopping", {"Retry-After": "1"})
        if state["in"] >= settings.workers + settings.queue:
            raise Refusal(429, "busy", "too many requests wait; try again in a second", {"Retry-After": "1"})
        state["in"] += 1
        in_flight.inc()
        target = Path(state["folder"]) / uuid.uuid4().hex
        try:
            try:
                async with asyncio.timeout(settings.upload_s):
                    uploaded.inc(await receive(request, target))
            except TimeoutError:
                raise Refusal(408, "slow_upload", f"the upload took over {settings.upload_s:g} seconds") from None
            except ClientDisconnect:
                raise Refusal(400, "gone", "the upload was broken off") from None
            begin = time.monotonic()
            outcome = await pool.screen(str(target))
            seconds.observe(time.monotonic() - begin)
            replaced.set(pool.replaced)
            return await asyncio.to_thread(report, outcome)
        finally:
            target.unlink(missing_ok=True)
            in_flight.dec()
            state["in"] -= 1

    def report(outcome: Screened) -> list[dict[str, Any]]:
        out = []
        for verdict in outcome.verdicts:
            verdicts.labels(verdict.modality or "none", verdict.decision, str(verdict.status)).inc()
            if state["journal"] is not None:
                from deepassay.screening.journal import verdict_record

                record = verdict_record(verdict, state["journal"], input_sha256=outcome.input_sha256)
                state["journal"].append({**record, "name": None})
            row = verdict.to_dict()
            del row["path"]  # a name on this machine, and none of the sender's business
            out.append({**row, "reason": row["reason"].replace(verdict.path, "the file")})
        return out

    @app.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Files can be screened", responses={503: {"description": "Starting or stopping"}})
    async def readyz() -> Response:
        ready = bool(state["ready"])
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics(request: Request) -> Response:
        try:
            authorise(request)
        except Refusal as refusal:
            text = {"error": refusal.kind, "message": refusal.text, "request_id": request.state.id}
            return answer(request, refusal.code, text, refusal.headers)
        return Response(generate_latest(collector), media_type="text/plain; version=0.0.4; charset=utf-8")

    def page(name: str, kind: str) -> None:
        @app.get("/" if name == "index.html" else f"/{name}", include_in_schema=False)
        async def file() -> Response:
            return FileResponse(PAGE / name, media_type=kind)

    for name, kind in (("index.html", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")):
        page(name, kind)
    app.state.pool = pool
    return app


async def _form_file(request: Any, target: Path, limit: int, too_large: Refusal) -> int:
    """Stream the part ``file`` of a form to disk; other parts are ignored. Returns its size."""
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refusal(400, "bad_form", "the form has no boundary")
    part = {"name": b"", "value": b"", "headers": {}, "wanted": False, "size": 0, "seen": 0}
    with open(target, "wb") as out:

        def begin() -> None:
            part.update(name=b"", value=b"", headers={}, wanted=False)

        def name(data: bytes, start: int, end: int) -> None:
            part["name"] += data[start:end]

        def value(data: bytes, start: int, end: int) -> None:
            part["value"] += data[start:end]
            if len(part["value"]) > 4096:
                raise Refusal(400, "bad_form", "a header of the form is too long")

        def header_end() -> None:
            part["headers"][part["name"].lower()] = part["value"]
            part.update(name=b"", value=b"")

        def headers_finished() -> None:
            _, disposition = parse_options_header(part["headers"].get(b"content-disposition", b""))
            part["wanted"] = disposition.get(b"name") == b"file"
            part["seen"] += part["wanted"]
            if part["seen"] > 1:
                raise Refusal(422, "two_files", "send one file per request")

        def data(block: bytes, start: int, end: int) -> None:
            if part["wanted"]:
                part["size"] += end - start
                if part["size"] > limit:
                    raise too_large
                out.write(block[start:end])

        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": name,
                "on_header_value": value,
                "on_header_end": header_end,
                "on_headers_finished": headers_finished,
                "on_part_data": data,
            },
        )
        total = 0
        try:
            async for block in request.stream():
                total += len(block)
                if total > limit + (1 << 16):
                    raise too_large
                parser.write(block)
            parser.finalize()
        except Refusal:
            raise
        except Exception as error:
            from python_multipart.exceptions import FormParserError

            if not isinstance(error, FormParserError):
                raise
            raise Refusal(400, "bad_form", "the form cannot be read") from error
    return int(part["size"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay serve`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--bundle", action="append", metavar="B", help="a folder or zip; one per modality (default: the installed ones)"
    )
    parser.add_argument("--operating-point", default="bpcer_5", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--site", action="append", default=[], metavar="FILE", help="a rule of `deepassay calibrate`")
    parser.add_argument(
        "--remote", action="append", default=[], metavar="MODALITY=URL", help="graph on an inference server, see screen"
    )
    parser.add_argument("--signed-by", metavar="KEY", help="public key, PEM: refuse a bundle that it did not sign")
    parser.add_argument("--provider", metavar="NAME", help="onnxruntime provider (default: the CPU's)")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="files judged at a time (default: 1)")
    parser.add_argument("--queue", type=int, default=16, metavar="N", help="requests that may wait (default: 16)")
    parser.add_argument("--max-upload-mb", type=float, default=256, metavar="MB", help="default: %(default)g")
    parser.add_argument("--upload-timeout", type=float, default=60, metavar="S", help="default: %(default)g")
    parser.add_argument("--timeout", type=float, default=120, metavar="S", help="for judging one file (default: 120)")
    parser.add_argument("--journal", metavar="FILE", help="append every verdict to a journal (a hash chain)")


def keys_from_environment(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The API keys in `KEYS_VARIABLE`."""
    return tuple(key.strip() for key in environment.get(KEYS_VARIABLE, "").split(",") if key.strip())


def main(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; requests that were let in are answered first.

    Raises:
        AssayError: a bundle that is refused, no key on a public interface, or a package that is missing.
    """
    from deepassay.screening.command import remotes
    from deepassay.screening.installed import named_or_installed

    keys = keys_from_environment()
    check_exposure(args.host, keys)
    settings = ServiceSettings(
        screener={
            "bundles": named_or_installed(args.bundle, tell=sys.stderr),
            "operating_point": args.operating_point,
            "site": args.site,
            "remote": remotes(args.remote),
            "key": args.signed_by,
            **({"provider": args.provider} if args.provider else {}),
        },
        workers=args.workers,
        queue=args.queue,
        max_upload_bytes=int(args.max_upload_mb * (1 << 20)),
        upload_s=args.upload_timeout,
        timeout_s=args.timeout,
        keys=keys,
        journal=args.journal,
    )
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError(
            f"the service needs {error.name}, which is not installed", hint="pip install 'deepassay[serve]'"
        ) from error
    from deepassay.screening.screener import Screener

    Screener(**settings.screener)  # a bundle that is refused shows here, with its hint
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings), host=args.host, port=args.port, log_level="warning", access_log=False,
            timeout_keep_alive=5, timeout_graceful_shutdown=int(args.timeout) + 5, server_header=False,
            h11_max_incomplete_event_size=16 << 10,
        )
    )  # fmt: skip
    print(
        f"screening at http://{args.host}:{args.port}/  ({'keys' if keys else 'open'}, {args.workers} workers)",
        flush=True,
    )
    server.run()
    if not server.started:
        raise AssayError(
            f"{args.host}:{args.port} could not be served", hint="is the port taken? give another one with --port"
        )
    return 0
