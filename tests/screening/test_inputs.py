"""Which files the words of a command line name, in which order, and that nothing is skipped silently."""

import io
import os
from pathlib import Path

import pytest

from deepassay.errors import ConfigError
from deepassay.screening.inputs import Input, expand


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.jpg", "in/a.jpg", "in/sub/c.mp4", "in/.hidden.wav", "in/notes.txt", "z.png", "odd [1].png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def names(*words: str, stdin: bytes = b"") -> list[str]:
    return [one.path for one in expand(words, io.BytesIO(stdin))]


def test_order_is_as_given_and_by_name_inside(tree):
    assert names("z.png", "in") == ["z.png", "in/.hidden.wav", "in/a.jpg", "in/b.jpg", "in/notes.txt", "in/sub/c.mp4"]
    assert names("in/*.jpg", "z.png") == ["in/a.jpg", "in/b.jpg", "z.png"]
    assert names("in/**") == [f"in/{n}" for n in (".hidden.wav", "a.jpg", "b.jpg", "notes.txt", "sub/c.mp4")]
    assert names("in/s*") == ["in/sub/c.mp4"]
    assert names("odd [1].png") == ["odd [1].png"]
    assert names("z.png", "z.png") == ["z.png", "z.png"]


def test_lists_come_from_files_and_standard_input(tree):
    (tree / "list").write_bytes(b"z.png\r\n\nin/sub\nin/*.jpg\n")
    assert names("@list") == ["z.png", "in/sub/c.mp4", "in/*.jpg"]
    assert names("-", stdin=b"a\nb.png\0z.png\0") == ["a\nb.png", "z.png"]
    assert names("-", stdin=b"caf\xff.png\n") == [os.fsdecode(b"caf\xff.png")]
    with pytest.raises(ConfigError, match=r"'nothing' cannot be read.*\n.*\./@NAME"):
        names("@nothing")


def test_what_is_no_file_is_named_with_its_reason(tree):
    (tree / "empty").mkdir()
    (tree / "in" / "loop").symlink_to(tree / "in")
    (tree / "in" / "broken").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    reasons = {one.path: one.refusal for one in expand(["in", "empty", "gone.jpg", "*.gif", "pipe"]) if one.refusal}
    assert reasons == {
        "in/loop": "a link to a folder is not followed; give the folder itself",
        "in/broken": "no such file",
        "empty": "the folder is empty",
        "gone.jpg": "no such file",
        "*.gif": "no file matches the pattern",
        "pipe": "no plain file (a device, pipe or socket)",
    }
    assert next(expand(["z.png"])) == Input("z.png")
