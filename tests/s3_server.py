"""A small S3-compatible server on loopback: buckets are folders; it can be stopped, started again, and made to lie."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class S3Server:
    """GET (also of ranges), HEAD and ListObjectsV2 of what lies below a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.port, self.requests = root, 0, 0
        self.server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        owner = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def send(self, code: int, data: bytes, body: bool, **headers: str) -> None:
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Last-Modified", "Tue, 24 Nov 2026 00:00:00 GMT")
                self.end_headers()
                if body:
                    self.wfile.write(data)

            def answer(self, body: bool) -> None:
                if owner.server is not self.server:  # stopped: what is connected still hears nothing more
                    self.close_connection = True
                    return
                owner.requests += 1
                parts = urlsplit(self.path)
                query, path = parse_qs(parts.query), unquote(parts.path).strip("/")
                if "list-type" in query:
                    self.send(
                        200, owner.listing(path, query.get("prefix", [""])[0]), body, Content_Type="application/xml"
                    )
                    return
                file = owner.root / path
                if not file.is_file():
                    code = f"<Error><Code>NoSuchKey</Code><Key>{escape(path)}</Key></Error>".encode()
                    self.send(404, code, body, Content_Type="application/xml")
                    return
                data, span = file.read_bytes(), self.headers.get("Range")
                if span:
                    first, last = span.removeprefix("bytes=").split("-")
                    end = min(int(last) if last else len(data) - 1, len(data) - 1)
                    part = data[int(first) : end + 1]
                    self.send(206, part, body, Content_Range=f"bytes {first}-{end}/{len(data)}", ETag='"x"')
                else:
                    self.send(200, data, body, ETag='"x"', Accept_Ranges="bytes")

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Door)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def listing(self, bucket: str, prefix: str) -> bytes:
        base = self.root / bucket
        keys = sorted(p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file()) if base.is_dir() else []
        found = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{(base / k).stat().st_size}</Size>"
            "<LastModified>2026-11-24T00:00:00Z</LastModified></Contents>"
            for k in keys
            if k.startswith(prefix)
        )
        return (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        ).encode()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
