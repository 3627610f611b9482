"""The journal: what was changed, dropped, moved or cut off is found; several writers and a kill do no harm."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepassay.errors import AssayError
from deepassay.screening import journal as room
from deepassay.screening.journal import Journal, verify

SRC = str(Path(__file__).resolve().parents[2] / "src")


@pytest.fixture
def book(tmp_path) -> Path:
    path = tmp_path / "verdicts.journal"
    journal = Journal(path, sync=False)
    for i in range(6):
        journal.append({"decision": "fake" if i % 2 else "abstain", "i": i})
    return path


def kinds(path, **more) -> list[tuple[int, str]]:
    return [(finding.line, finding.kind) for finding in verify(path, **more).findings]


def rewrite(path: Path, change) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))


def test_a_journal_as_it_was_written_is_valid(book):
    report = verify(book)
    assert report.valid
    assert (report.records, report.lost) == (6, 0)
    assert report.head == json.loads(book.read_bytes().splitlines()[-1])["sha256"]
    assert verify(book, head=report.head).valid


def test_a_changed_record_is_named(book):
    rewrite(
        book, lambda lines: [line.replace(b'"fake"', b'"abst"') if i == 2 else line for i, line in enumerate(lines)]
    )
    assert (3, "changed") in kinds(book)


def test_a_record_that_was_changed_and_sealed_again_is_named(book):
    def change(lines):
        record = json.loads(lines[2])
        del record["sha256"]
        record["decision"] = "abstain"
        return [*lines[:2], room._seal(record) + b"\n", *lines[3:]]

    rewrite(book, change)
    assert (4, "changed") in kinds(book)  # its successor holds the hash of what stood there


def test_a_dropped_record_is_named(book):
    rewrite(book, lambda lines: lines[:3] + lines[4:])
    found = verify(book).findings
    assert (found[0].line, found[0].kind) == (4, "missing")
    assert "record 3" in found[0].text


def test_swapped_records_are_named(book):
    rewrite(book, lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]])
    assert {"missing", "reordered"} <= {kind for _, kind in kinds(book)}


@pytest.mark.parametrize("left", [1, 4, 6])
def test_a_truncated_journal_is_found_by_its_head_file(book, left):
    rewrite(book, lambda lines: lines[:left])
    assert kinds(book) == [(0, "truncated")]
    with pytest.raises(AssayError, match="cut off"):
        Journal(book)


def test_a_truncation_with_an_adapted_head_file_is_found_by_a_head_kept_elsewhere(book):
    kept = verify(book).head
    rewrite(book, lambda lines: lines[:4])
    Path(f"{book}.head").unlink()
    Journal(book, sync=False)
    assert verify(book).valid  # this is what the journal alone cannot show
    assert kinds(book, head=kept) == [(0, "truncated")]


def test_lines_of_somebody_else_are_found_and_nothing_is_written_after_them(book):
    with open(book, "ab") as stream:
        stream.write(b'{"decision":"fake"}\n')
    assert (8, "changed") in kinds(book)
    with pytest.raises(AssayError, match="other than a journal"):
        Journal(book)


def test_a_killed_writers_half_record_is_kept_named_and_the_rest_is_valid(book):
    half = b'{"decision":"fake","i":6,"n'
    with open(book, "ab") as stream:
        stream.write(half)
    assert kinds(book)[0] == (8, "torn")
    Journal(book, sync=False).append({"i": 7})
    report = verify(book)
    assert report.valid
    assert (report.records, report.lost) == (7, 1)
    assert half in book.read_bytes()


def test_a_writer_killed_while_it_says_what_was_lost_is_mended_too(book):
    for torn in (b'{"decision":"fake","i":6,"n', b"\n", b'{"lost":{"by'):
        with open(book, "ab") as stream:
            stream.write(torn)
    Journal(book, sync=False).append({"i": 7})
    report = verify(book)
    assert report.valid
    assert (report.records, report.lost) == (7, 1)


def test_a_half_record_that_was_altered_later_is_found(book):
    with open(book, "ab") as stream:
        stream.write(b'{"decision":"fake","i":6,"n')
    Journal(book, sync=False).append({"i": 7})
    rewrite(book, lambda lines: [line.replace(b'"i":6', b'"i":9') for line in lines])
    assert (8, "changed") in kinds(book)


def test_a_writer_killed_between_record_and_head_is_mended(book):
    head = Path(f"{book}.head").read_bytes()
    Journal(book, sync=False).append({"i": 6})
    Path(f"{book}.head").write_bytes(head)
    assert kinds(book) == []  # the head lies on the chain, one record behind
    Journal(book, sync=False).append({"i": 7})
    assert verify(book).records == 8


def test_a_journal_without_its_head_file_goes_on_only_where_it_is_whole(book):
    Path(f"{book}.head").unlink()
    Journal(book, sync=False).append({"i": 6})
    assert verify(book).records == 7
    Path(f"{book}.head").unlink()
    rewrite(book, lambda lines: lines[:3] + lines[4:])
    with pytest.raises(AssayError, match="record 3 should stand"):
        Journal(book)


def test_something_else_is_no_journal(tmp_path):
    for content in (b"", b"hello\n", b"{}\n"):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(AssayError):
            verify(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"hello\n")
    with pytest.raises(AssayError, match="no journal"):
        Journal(tmp_path / "x")
    with pytest.raises(AssayError, match="cannot be read"):
        verify(tmp_path / "gone")


def test_names_are_hashed_with_a_salt_of_the_journals_own(tmp_path):
    one, two = Journal(tmp_path / "a", sync=False), Journal(tmp_path / "b", sync=False)
    assert one.name("anna.jpg") == Journal(tmp_path / "a").name("anna.jpg") != two.name("anna.jpg")
    assert Journal(tmp_path / "a", names=True).name("anna.jpg") == "anna.jpg"
    assert os.stat(tmp_path / "a.salt").st_mode & 0o077 == 0


def test_own_keys_and_oversized_records_are_refused(book):
    with pytest.raises(ValueError, match="prev"):
        Journal(book).append({"prev": "x"})
    with pytest.raises(AssayError, match="over the limit"):
        Journal(book).append({"x": "x" * room.MAX_RECORD_BYTES})
    assert verify(book).records == 6


def test_a_full_disk_leaves_the_journal_as_it_was(book, monkeypatch):
    before = book.read_bytes()
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: real(handle, data[:10], at))
    with pytest.raises(AssayError, match="could not be written"):
        Journal(book, sync=False).append({"i": 6})
    monkeypatch.undo()
    assert book.read_bytes() == before
    assert verify(book).valid


def _write(path: str, who: int, n: int) -> None:
    journal = Journal(path, sync=False)
    for i in range(n):
        journal.append({"who": who, "i": i})


@pytest.mark.parametrize("n", [250, pytest.param(5000, marks=pytest.mark.full)])
def test_eight_writers_lose_nothing(tmp_path, n):
    path = tmp_path / "shared.journal"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(path), who, n)) for who in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    report = verify(path)
    assert report.valid
    assert report.records == 8 * n
    seen = {(r["who"], r["i"]) for line in path.read_bytes().splitlines() if "who" in (r := json.loads(line))}
    assert len(seen) == 8 * n


def test_sigkill_at_any_moment_loses_at_most_the_record_being_written(tmp_path):
    path = tmp_path / "killed.journal"
    script = (
        "import sys; from deepassay.screening.journal import Journal; j = Journal(sys.argv[1], sync=False)\n"
        "i = 0\nwhile True:\n    print(j.append({'i': i, 'pad': 'x' * 5000}), flush=True); i += 1\n"
    )
    acknowledged: list[str] = []
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": SRC}
        )
        assert process.stdout is not None
        acknowledged.append(process.stdout.readline().decode().strip())
        time.sleep(0.01 * round_)
        process.send_signal(signal.SIGKILL)
        acknowledged += [line.decode().strip() for line in process.stdout.readlines() if line.endswith(b"\n")]
        process.wait()
    Journal(path, sync=False)  # the next writer says what was lost
    report = verify(path)
    assert report.valid
    assert report.lost <= 4
    hashes = {json.loads(line)["sha256"] for line in path.read_bytes().splitlines() if line.endswith(b"}")}
    assert set(acknowledged) - {""} <= hashes
