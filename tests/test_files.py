"""Files are whole or absent, hashes are of content, names are safe."""

import hashlib
import json

import pytest

from deepassay import files
from deepassay.errors import AssayError


def write_half(opened, error):
    with opened as temporary:
        (temporary / "two" if temporary.is_dir() else temporary).write_text("half")
        raise error


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "a.json"
    files.write_json(target, {"x": 1})
    with pytest.raises(RuntimeError, match="stop"):
        write_half(files.atomic_path(target), RuntimeError("stop"))
    assert json.loads(target.read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(AssayError, match="hint: free some space"):
        write_half(files.atomic_path(tmp_path / "a"), OSError(28, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_only_on_success(tmp_path):
    target = tmp_path / "f"
    with files.atomic_folder(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(RuntimeError):
        write_half(files.atomic_folder(target), RuntimeError())
    assert [p.name for p in target.iterdir()] == ["one"]
    with files.atomic_folder(target) as temporary:
        (temporary / "three").write_text("3")
    assert [p.name for p in target.iterdir()] == ["three"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_folder_comes_back_where_the_last_step_of_its_replacement_fails(tmp_path, monkeypatch):
    target = tmp_path / "f"
    with files.atomic_folder(target) as temporary:
        (temporary / "one").write_text("1")
    real = files.os.replace

    def fail(source, goal):
        if goal == target and ".part" in str(source):
            raise OSError(5, "Input/output error")
        real(source, goal)

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="Input/output"), files.atomic_folder(target) as temporary:
        (temporary / "two").write_text("2")
    assert [p.name for p in target.iterdir()] == ["one"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_hashes(tmp_path):
    data = b"deepassay" * 1000
    (tmp_path / "x").write_bytes(data)
    assert files.sha256_file(tmp_path / "x") == files.sha256_bytes(data) == hashlib.sha256(data).hexdigest()
    assert files.fingerprint({"b": 1, "a": [1, 2]}) == files.fingerprint({"a": [1, 2], "b": 1})
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": 1.5})
    with pytest.raises(ValueError):
        files.canonical_json(float("nan"))


def test_json_refuses_what_json_has_not(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "x.json", {"x": float("inf")})
    assert not list(tmp_path.iterdir())


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPASSAY_CACHE", str(tmp_path / "own"))
    assert files.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("DEEPASSAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "deepassay"


@pytest.mark.parametrize(("text", "safe"), [("FF++ / c23", "FF_c23"), ("../..", "unnamed"), ("a-b_c.1", "a-b_c.1")])
def test_slug(text, safe):
    assert files.slug(text) == safe
