"""Hooks run offline from the project's own environment, and templates, citation and policies say what is true."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]

_spec = importlib.util.spec_from_file_location("check_files", ROOT / "scripts" / "check_files.py")
assert _spec is not None
assert _spec.loader is not None
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)


def test_hooks_need_no_network():
    for repository in HOOKS:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            program = hook["entry"].split()[0]
            assert program == "python" or (BIN / program).exists(), program
            for word in hook["entry"].split():
                assert not word.startswith("scripts/") or (ROOT / word).is_file()


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A small repository with the hooks, their scripts and one notebook."""
    for name in (".pre-commit-config.yaml", "pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "scripts").mkdir()
    for name in ("check_notebooks.py", "check_files.py"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts" / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    return tmp_path


def git(folder: Path, *command: str) -> None:
    subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


def run_hooks(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PRE_COMMIT_HOME": str(folder / ".hooks"),
        "PYTHONPATH": str(folder / "src"),
    }  # fmt: skip
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_hooks_pass_here_and_find_what_is_planted(checkout):
    done = run_hooks(checkout)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Passed") == sum(len(r["hooks"]) for r in HOOKS)
    (checkout / "loose.py").write_text("import os,sys\n")
    (checkout / "face.jpg").write_bytes(b"\xff\xd8")
    notebook = checkout / "notebooks" / "06_calibration_and_operating_points.ipynb"
    notebook.write_text(notebook.read_text().replace('"execution_count": null', '"execution_count": 1', 1))
    labels = checkout / "src" / "deepassay" / "labels.py"
    labels.write_text(labels.read_text() + "\nimport deepassay.scores  # noqa: E402, F401\n")
    git(checkout, "add", "-A")
    done = run_hooks(checkout)
    assert done.returncode != 0
    assert done.stdout.count("Failed") == sum(len(r["hooks"]) for r in HOOKS), done.stdout
    assert "outputs cleared" in done.stdout
    assert "deepassay.labels -> deepassay.scores" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.py", b"x" * 600_000, "bytes, at most"),
        ("models/a.onnx", b"x" * 600_000, None),
        ("a.wav", b"RIFF", "media or weights"),
        ("a.txt", b"-----BEGIN " + b"PRIVATE KEY-----\n", "private key"),
        ("a.txt", b"<" * 7 + b" HEAD\n", "unfinished merge"),
        ("a.txt", b"plain words", None),
    ],
)
def test_files_that_must_not_be_committed(tmp_path, name, content, found):
    path = tmp_path / Path(name).name
    path.write_bytes(content)
    said = " ".join(files.problems(path, name))
    assert (found in said) if found else not said


def test_templates_are_forms_that_can_be_filled_in():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [path for path in sorted(folder.glob("*.yml")) if path.name != "config.yml"]
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"]
        assert form["description"]
        ids = [item["id"] for item in form["body"] if item["type"] != "markdown"]
        assert len(ids) == len(set(ids))
        for item in form["body"]:
            assert item["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
            assert item["attributes"].get("value") if item["type"] == "markdown" else item["attributes"]["label"]
            assert item["type"] not in {"dropdown", "checkboxes"} or item["attributes"]["options"]
    request = (ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    assert "make test" in request
    assert "CHANGELOG.md" in request


def test_policies_invent_no_address():
    for name in ("SECURITY.md", "CONTRIBUTING.md", "CITATION.cff"):
        assert not re.search(r"[\w.]+@[\w-]+\.\w+", (ROOT / name).read_text(encoding="utf-8")), name


def test_security_names_the_limits_that_hold():
    from deepassay.corpora.download import DEFAULT_ARCHIVE_LIMITS
    from deepassay.evidence import seal
    from deepassay.media.limits import DEFAULT_LIMITS
    from deepassay.screening import bundle

    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert f"({DEFAULT_LIMITS.max_pixels // 1_000_000} million a frame)" in text
    assert f"frames ({DEFAULT_LIMITS.max_frames:,})" in text
    assert f"length ({DEFAULT_LIMITS.max_seconds / 3600:g} hours)" in text
    assert f"bytes ({DEFAULT_LIMITS.max_bytes >> 30} GiB" in text
    assert f"At most {bundle.MAX_FILES} files and {bundle.MAX_BYTES >> 30} GiB" in text
    assert f"At most {seal.MAX_FILES} files and {seal.MAX_BYTES >> 30} GiB" in text
    assert f"at most {DEFAULT_ARCHIVE_LIMITS.max_ratio:g} bytes for one packed" in text


def test_contributing_names_floors_and_targets_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in re.findall(r"\bmake ([a-z-]+)", text):
        assert target in targets, target
    rooms = set(re.findall(r"`([a-z_]+)`", text.split("| floor |")[1].split("\n\n")[0]))
    package = ROOT / "src" / "deepassay"
    there = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/__init__.py")}
    assert rooms <= there
    assert there - rooms <= {"__init__", "__main__", "deepassay"}, sorted(there - rooms)
    for script in re.findall(r"scripts/\w+\.py", text):
        assert (ROOT / script).is_file(), script
