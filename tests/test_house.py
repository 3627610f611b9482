"""The house polices itself: floors, the torch-free zone, first lines, names, and what must not be written down."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "deepassay"
MODULES = sorted(PACKAGE.rglob("*.py"))
BANNED = ("torch", "torchvision", "lightning", "timm", "facenet_pytorch", "hydra", "omegaconf")

# Every door that screening and evidence use. A new torch-free module is found by walking the folders below.
TORCH_FREE = sorted(
    "deepassay." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in MODULES
    if path.relative_to(PACKAGE).parts[0]
    in {
        "errors.py", "labels.py", "files.py", "provenance.py", "metrics", "media", "manifest.py", "scores.py",
        "processes.py", "remote.py", "worklist.py",
        "manipulation", "marks", "splits.py", "corpora", "adapters", "modality", "calibrator.py", "figures.py",
        "audit", "audit.py", "scoring.py", "evaluation.py", "screening", "evidence", "runs.py", "doctor.py",
        "pipelines", "cli.py",
    }
)  # fmt: skip

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {banned!r}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocker())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
loaded = sorted(set(m.split('.')[0] for m in sys.modules) & set({banned!r}))
assert not loaded, loaded
print('clean', len({modules!r}))
"""


def run_blocked(modules: list[str], extra: str = "") -> subprocess.CompletedProcess[str]:
    code = BLOCKER.format(banned=BANNED, modules=modules) + extra
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_torch_free_modules_import_without_torch_or_hydra():
    done = run_blocked(TORCH_FREE)
    assert done.returncode == 0, done.stderr
    assert len(TORCH_FREE) > 40


def test_torch_free_test_can_fail():
    done = run_blocked(["deepassay.models.detector"])
    assert done.returncode != 0
    assert "blocked: torch" in done.stderr


def test_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_import_contracts_can_fail(tmp_path):
    """A planted upward import is named by the same contracts."""
    copy = tmp_path / "src" / "deepassay"
    shutil.copytree(PACKAGE, copy)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    labels = copy / "labels.py"
    labels.write_text(labels.read_text() + "\nimport deepassay.scores\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
    )
    assert done.returncode != 0
    assert "deepassay.labels -> deepassay.scores" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_first_line_says_what_the_file_is(path):
    text = path.read_text()
    assert text.startswith('"""'), "a file begins with one sentence that says what it is"
    first = ast.get_docstring(ast.parse(text)).splitlines()[0]
    assert len(first) > 15


def test_nothing_is_called_utils():
    banned = re.compile(r"^_?(utils?|helpers?|common|base|managers?|handlers?|misc)$")
    names = [p.stem for p in MODULES] + [p.name for p in PACKAGE.rglob("*") if p.is_dir()]
    assert not [name for name in names if banned.match(name)]


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_media_weights_or_machine_paths_in_git():
    files = tracked()
    heavy = {".jpg", ".jpeg", ".png", ".mp4", ".wav", ".flac", ".mp3", ".pt", ".pth", ".ckpt", ".npz"}
    assert not [f for f in files if f.suffix.lower() in heavy]
    marks = ("/wo" + "rk/", "index" + "-url =", "/ro" + "ot/", "py" + "pi.org")
    for file in files:
        if file.name in {"requirements.lock", "setup.lock"} or file.stat().st_size > 2_000_000:
            continue
        text = file.read_text(errors="ignore")
        for mark in marks:
            assert mark not in text, f"{file.name} holds {mark!r}"


def test_no_swallowed_exception():
    """An except block that only passes hides a failure."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and all(isinstance(s, ast.Pass) for s in node.body):
                name = node.type.id if isinstance(node.type, ast.Name) else None
                broad = node.type is None or name in {"Exception", "BaseException"}
                assert not broad, f"{path.name}:{node.lineno} swallows every exception"
