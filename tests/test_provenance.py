"""Provenance says which code, packages, configuration and hardware ran, and never who or where."""

import getpass
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deepassay import provenance

SRC = Path(provenance.__file__).resolve().parents[1]


def test_collect_is_json_and_has_the_fields_a_dossier_needs(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc")
    record = provenance.collect(
        config={"lr": 0.1}, seeds=[1, 2], files={"input": tmp_path / "a.bin"}, command=["x", "y=1"]
    )
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["files"] == {"input": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert re.fullmatch("[0-9a-f]{64}", record["config_sha256"])
    assert record["seeds"] == [1, 2]
    assert record["code"]["kind"] in ("commit", "wheel", "tree")
    assert record["packages"]["numpy"]
    assert record["created_utc"].endswith("+00:00")
    assert record["hardware"]["cores"] >= 1
    assert str(record["hardware"]["cores"]) in provenance.describe_hardware(record["hardware"])
    assert record["config_sha256"] != provenance.collect(config={"lr": 0.2})["config_sha256"]


def test_absent_package_is_recorded_as_absent():
    assert provenance.package_versions(["no-such-distribution-at-all"]) == {"no-such-distribution-at-all": None}


def test_no_user_host_home_or_secret_in_the_command(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setattr(provenance, "_user", lambda: "ada")
    monkeypatch.setattr(socket, "gethostname", lambda: "lab-7")
    text = provenance.command_line(
        ["/home/ada/bin/deepassay", "train", "root=/home/ada/data", "x=/scratch/ada/b", "ssh://lab-7/z",
         "hub_token=abc", "a b", "canada=1", "/home/adam/y"]
    )  # fmt: skip
    assert text == (
        'deepassay train root=~/data x=/scratch/<user>/b ssh://<host>/z hub_token=<hidden> "a b" canada=1 /home/adam/y'
    )


def test_the_command_can_be_pasted_into_a_shell():
    import shlex

    words = ["deepassay assess", "run=runs/x", 'tool.generator="StyleGAN2(TPDNE)"', "+protocol.controls={real_by: a}"]
    text = provenance.command_line(words)
    assert text.startswith("deepassay assess run=runs/x ")
    assert shlex.split(text) == ["deepassay", "assess", *words[1:]]


def test_the_whole_record_names_neither_host_nor_home():
    text = json.dumps(provenance.collect(command=["deepassay", str(Path.home() / "x")]))
    assert str(Path.home() / "x") not in text
    assert socket.gethostname() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def _project(folder: Path) -> tuple[Path, dict[str, str]]:
    """A small checkout whose package is a copy of the modules under test."""
    package = folder / "src" / "deepassay"
    package.mkdir(parents=True)
    for name in ("__init__", "errors", "files", "provenance"):
        shutil.copy(SRC / "deepassay" / f"{name}.py", package)
    (folder / "pyproject.toml").write_text('[project]\nname = "deepassay"\n')
    (folder / ".gitignore").write_text("__pycache__/\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder)}
    return folder, env


def _identity(env: dict[str, str], cwd: Path) -> dict:
    code = "import json; from deepassay import provenance as p; print(json.dumps(p.code_identity()))"
    out = subprocess.run([sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def _git(folder: Path, env: dict[str, str], *arguments: str) -> str:
    prefix = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run([*prefix, *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs the git command")
def test_checkout_gives_commit_and_dirty_flag(tmp_path):
    folder, env = _project(tmp_path / "clone")
    _git(folder, env, "init", "-q")
    _git(folder, env, "add", ".")
    _git(folder, env, "commit", "-qm", "first")
    commit = _git(folder, env, "rev-parse", "HEAD").strip()
    clean = _identity(env, tmp_path)
    assert (clean["kind"], clean["id"], clean["dirty"]) == ("commit", commit, False)
    with open(folder / "src/deepassay/errors.py", "a") as stream:
        stream.write("# changed\n")
    dirty = _identity(env, tmp_path)
    assert (dirty["id"], dirty["dirty"]) == (commit, True)
    assert dirty["source_sha256"] != clean["source_sha256"]
    _git(folder, env, "checkout", "-q", ".")
    (folder / "src/deepassay/extra.py").write_text("")
    assert _identity(env, tmp_path)["dirty"] is True, "an untracked source file can shadow what the commit says"


def test_copied_folder_is_never_clean(tmp_path):
    folder, env = _project(tmp_path / "copy")
    found = _identity(env, tmp_path)
    assert found["kind"] == "tree"
    assert found["dirty"] is True
    assert found["id"] == found["source_sha256"]
    # Inside somebody else's repository it is still not a commit of this project.
    (folder / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert _identity(env, tmp_path)["kind"] == "tree"


def test_wheel_identity_is_the_record_and_alteration_shows(tmp_path):
    import base64
    import hashlib

    folder, env = _project(tmp_path / "site")
    site = folder / "src"
    info = site / "deepassay-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deepassay\nVersion: 9.9\n")
    rows = []
    for path in sorted((site / "deepassay").glob("*.py")):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        rows.append(f"deepassay/{path.name},sha256={digest},{path.stat().st_size}")
    (info / "RECORD").write_text("\n".join(rows) + "\n")
    found = _identity(env, tmp_path)
    assert (found["kind"], found["dirty"], found["version"]) == ("wheel", False, "9.9")
    assert found["id"] == hashlib.sha256((info / "RECORD").read_bytes()).hexdigest()
    with open(site / "deepassay/errors.py", "a") as stream:
        stream.write("# changed\n")
    assert _identity(env, tmp_path)["dirty"] is True


def test_torch_is_never_imported():
    code = "import sys; from deepassay import provenance as p; p.collect(); print([m in sys.modules for m in NAMES])"
    code = code.replace("NAMES", "('torch', 'numpy')")
    env = {**os.environ, "PYTHONPATH": str(SRC)}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[False, False]"
    assert importlib.util.find_spec("numpy") is not None
