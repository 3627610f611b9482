"""Downloads resume and end with the pinned hash or not at all; archives that would do harm are refused unopened."""

import hashlib
import io
import os
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deepassay.corpora.download import ArchiveLimits, DownloadError, download_corpus, fetch, members, unpack
from deepassay.corpora.record import CorpusRecord, Download, permits
from deepassay.errors import ConfigError

BODY = bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Shop:
    """What the loopback server hands out, and how badly it behaves."""

    def __init__(self) -> None:
        self.body, self.tag = BODY, '"one"'
        self.break_after: list[int] = []  # bytes after which a connection is cut, one per answer
        self.ranges = True
        self.status = 200
        self.to = ""
        self.asked: list[str] = []


@pytest.fixture
def shop():
    state = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            if state.status != 200:
                self.send_response(state.status)
                if state.to:
                    self.send_header("Location", state.to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if self.headers.get("If-Range", state.tag) != state.tag or not state.ranges:
                start = 0
            if start >= len(state.body) and wanted:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            part = state.body[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}")
            self.send_header("ETag", state.tag)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if state.break_after:
                self.wfile.write(part[: state.break_after.pop(0)])
                self.wfile.flush()
                self.close_connection = True
            else:
                self.wfile.write(part)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # a client that hangs up is part of the test
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/corpus.bin"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def wanted(shop, **values) -> Download:
    facts = {"url": shop.url, "name": "corpus.bin", "part": "all", "sha256": SHA, "source": "this test"}
    return Download(**{**facts, **values})


def get(shop, root, attempts=5, **values):
    return fetch(wanted(shop, **values), root, attempts=attempts, pause_s=0, progress=False)


def test_a_whole_file_comes_with_its_hash(shop, tmp_path):
    path = get(shop, tmp_path)
    assert path.read_bytes() == BODY
    assert os.listdir(tmp_path) == ["corpus.bin"]
    assert get(shop, tmp_path) == path
    assert len(shop.asked) == 1, "a file that is there is verified, not fetched again"


def test_a_broken_connection_is_taken_up_where_it_stopped(shop, tmp_path):
    shop.break_after = [300_000, 200_000]
    assert get(shop, tmp_path).read_bytes() == BODY
    assert shop.asked == ["", "bytes=300000-", "bytes=500000-"]


def test_an_interrupted_run_goes_on_in_the_next_one(shop, tmp_path):
    shop.break_after = [300_000]
    with pytest.raises(DownloadError, match=r"300,000 bytes are there[\s\S]*goes on where this one stopped"):
        get(shop, tmp_path, attempts=1)
    assert not (tmp_path / "corpus.bin").exists()
    assert get(shop, tmp_path).read_bytes() == BODY
    assert shop.asked[-1] == "bytes=300000-"


@pytest.mark.parametrize("how", ["changed", "no ranges"])
def test_a_file_that_changed_meanwhile_is_fetched_anew(shop, tmp_path, how):
    shop.break_after = [300_000]
    with pytest.raises(DownloadError):
        get(shop, tmp_path, attempts=1)
    if how == "changed":
        shop.body, shop.tag = BODY[::-1], '"two"'
    else:
        shop.ranges = False
    got = get(shop, tmp_path, sha256=hashlib.sha256(shop.body).hexdigest())
    assert got.read_bytes() == shop.body


def test_a_part_that_is_whole_already_only_needs_its_hash(shop, tmp_path):
    (tmp_path / ".corpus.bin.part").write_bytes(BODY)
    assert get(shop, tmp_path).read_bytes() == BODY
    (tmp_path / "corpus.bin").unlink()
    (tmp_path / ".corpus.bin.part").write_bytes(BODY + b"more than there is")
    assert get(shop, tmp_path).read_bytes() == BODY


def test_a_wrong_hash_is_refused_and_removed(shop, tmp_path):
    with pytest.raises(DownloadError, match=f"has sha256 {SHA}, pinned is {'0' * 64}"):
        get(shop, tmp_path, sha256="0" * 64)
    assert os.listdir(tmp_path) == []
    with pytest.raises(DownloadError, match="md5"):
        get(shop, tmp_path, sha256="", md5="0" * 32)
    assert get(shop, tmp_path, sha256="", md5=hashlib.md5(BODY).hexdigest()).is_file()


def test_another_file_of_that_name_is_not_overwritten(shop, tmp_path):
    (tmp_path / "corpus.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="move it away"):
        get(shop, tmp_path)
    assert (tmp_path / "corpus.bin").read_bytes() == b"mine"
    assert shop.asked == []


def test_a_page_that_is_gone_is_not_asked_again(shop, tmp_path):
    shop.status = 404
    with pytest.raises(DownloadError, match="404"):
        get(shop, tmp_path)
    assert len(shop.asked) == 1


@pytest.mark.parametrize("url", ["http://example.org/a.zip", "ftp://example.org/a.zip", "file:///etc/hostname"])
def test_only_https_and_only_https_after_a_redirect(shop, tmp_path, url):
    with pytest.raises(DownloadError, match="not an https address"):
        get(shop, tmp_path, url=url)
    shop.status, shop.to = 302, url
    with pytest.raises(DownloadError):
        get(shop, tmp_path)


def test_a_full_disk_is_said_before_it_is_full(shop, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda p: type("U", (), {"free": 1000})())
    with pytest.raises(DownloadError, match="bytes of room"):
        get(shop, tmp_path)


def test_a_download_without_a_hash_cannot_be_written_down():
    with pytest.raises(ConfigError, match="no pinned hash"):
        Download(url="https://example.org/a", name="a", part="all", source="nowhere")


# --- archives ---


def tar(path: Path, *infos: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as out:
        for info, content in infos:
            info.size = len(content) if info.isfile() else 0
            out.addfile(info, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zipped(path: Path, *items: tuple[zipfile.ZipInfo | str, bytes], method=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as out:
        for info, content in items:
            out.writestr(info, content, method)
    return path


def link_in_zip(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


GOOD = [("set/a.wav", b"one"), ("set/deep/b.wav", b"two")]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_a_good_archive_is_unpacked(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        zipped(path, ("set/", b""), *GOOD)
    else:
        mode = "w" if kind == "tar" else f"w:{kind.removeprefix('tar.')}"
        items = [(entry(n), c) for n, c in GOOD]
        tar(path, (entry("./", tarfile.DIRTYPE), b""), (entry("set", tarfile.DIRTYPE), b""), *items, mode=mode)
    assert unpack(path, tmp_path / "out", progress=False) == 2
    assert (tmp_path / "out/set/deep/b.wav").read_bytes() == b"two"
    (tmp_path / "out/set/a.wav").unlink()
    assert unpack(path, tmp_path / "out", progress=False) == 2
    assert (tmp_path / "out/set/a.wav").read_bytes() == b"one"


BAD = {
    "parent folder": ("leads out", lambda p: tar(p, (entry("set/ok"), b"x"), (entry("set/../../evil"), b"x"))),
    "absolute path": ("absolute", lambda p: tar(p, (entry("ok"), b"x"), (entry("/tmp/evil"), b"x"))),
    "symlink out": ("is a link", lambda p: tar(p, (entry("ok"), b"x"), (entry("l", tarfile.SYMTYPE, "/etc"), b""))),
    "symlink in": ("is a link", lambda p: tar(p, (entry("ok"), b"x"), (entry("l", tarfile.SYMTYPE, "ok"), b""))),
    "hard link": ("is a link", lambda p: tar(p, (entry("ok"), b"x"), (entry("l", tarfile.LNKTYPE, "../x"), b""))),
    "device": ("no plain file", lambda p: tar(p, (entry("ok"), b"x"), (entry("d", tarfile.CHRTYPE), b""))),
    "fifo": ("no plain file", lambda p: tar(p, (entry("ok"), b"x"), (entry("d", tarfile.FIFOTYPE), b""))),
    "twice": ("stands in it twice", lambda p: tar(p, (entry("ok"), b"x"), (entry("ok"), b"y"))),
    "bomb": ("fill the disk", lambda p: tar(p, (entry("ok"), b"x"), (entry("zeros"), bytes(30_000_000)))),
    "zip parent": ("leads out", lambda p: zipped(p, ("ok", b"x"), ("../evil", b"x"))),
    "zip absolute": ("absolute", lambda p: zipped(p, ("ok", b"x"), ("/evil", b"x"))),
    "zip windows": ("absolute or foreign", lambda p: zipped(p, ("ok", b"x"), ("C:/evil", b"x"))),
    "zip backslash": ("absolute or foreign", lambda p: zipped(p, ("ok", b"x"), ("..\\evil", b"x"))),
    "zip symlink": ("is a link", lambda p: zipped(p, ("ok", b"x"), (link_in_zip("l"), b"/etc"))),
    "zip bomb": ("fill the disk", lambda p: zipped(p, ("ok", b"x"), ("zeros", bytes(30_000_000)))),
    "no archive": ("not a readable", lambda p: p.write_bytes(b"<html>please log in</html>" * 50)),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_is_refused_before_anything_is_written(tmp_path, case):
    said, make = BAD[case]
    path = tmp_path / "x.archive"
    make(path)
    with pytest.raises(DownloadError, match=said):
        unpack(path, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_canary_the_bomb_is_a_thousandfold(tmp_path):
    path = BAD["zip bomb"][1](tmp_path / "x.zip")
    assert 30_000_000 / path.stat().st_size > 900
    assert len(members(path, ArchiveLimits(max_ratio=2000))) == 2


def test_limits_on_number_and_bytes(tmp_path):
    path = zipped(tmp_path / "x.zip", *((f"f{n}", b"x" * 100) for n in range(20)), method=zipfile.ZIP_STORED)
    with pytest.raises(DownloadError, match="more than 10 members"):
        members(path, ArchiveLimits(max_members=10))
    with pytest.raises(DownloadError, match="would become more than 1,000"):
        members(path, ArchiveLimits(max_bytes=1000))


def test_a_link_that_was_there_before_is_not_written_through(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "set").symlink_to(elsewhere)
    path = zipped(tmp_path / "x.zip", *GOOD)
    with pytest.raises(DownloadError, match="leads out of"):
        unpack(path, out, progress=False)
    assert os.listdir(elsewhere) == []


def test_a_zip_that_lies_about_a_size_writes_no_file(tmp_path):
    path = zipped(tmp_path / "x.zip", ("a.bin", bytes(5000)), method=zipfile.ZIP_STORED)
    raw = bytearray(path.read_bytes())
    for at in (raw.find(b"PK\x03\x04") + 22, raw.find(b"PK\x01\x02") + 24):
        raw[at : at + 4] = (6000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_corpus_is_fetched_checked_and_unpacked(shop, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        out.writestr("Toy/a.wav", b"one")
    shop.body = buffer.getvalue()
    download = wanted(shop, name="toy.zip", sha256=hashlib.sha256(shop.body).hexdigest())
    record = CorpusRecord(
        name="toy", title="Toy", content="a toy", obtain="ask", citation="none", permits=permits("yes", "yes", "yes"),
        downloads=(download,),
    )  # fmt: skip
    said = download_corpus(record, tmp_path / "root", progress=False)
    assert "1 files" in said[0]
    assert (tmp_path / "root/Toy/a.wav").read_bytes() == b"one"
    assert sorted(os.listdir(tmp_path / "root")) == ["Toy"]
    assert "sha256 as pinned" in download_corpus(record, tmp_path / "two", unpacked=False, progress=False)[0]
    with pytest.raises(DownloadError, match="no part 'train'"):
        download_corpus(record, tmp_path, ["train"], progress=False)
    closed = CorpusRecord(**{**{f: getattr(record, f) for f in record.__dataclass_fields__}, "downloads": ()})
    with pytest.raises(DownloadError, match="hint: ask"):
        download_corpus(closed, tmp_path, progress=False)
