"""The release check: a version that differs, a wheel that lacks or brings what it should not, and the real build."""

import importlib.util
import shutil
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("check_release", ROOT / "scripts" / "check_release.py")
assert _spec is not None
assert _spec.loader is not None
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)
VERSION = release.version_texts(ROOT)["pyproject.toml"]


@pytest.fixture
def copy(tmp_path) -> Path:
    """The files that carry a version, in a folder of their own."""
    (tmp_path / "src" / "deepassay").mkdir(parents=True)
    for name in ("pyproject.toml", "CHANGELOG.md", "CITATION.cff", "requirements.lock", "src/deepassay/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_versions_agree_here(copy):
    assert VERSION in release.check_versions(ROOT)
    assert VERSION in release.check_versions(copy)


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("pyproject.toml", f'version = "{VERSION}"'),
        ("src/deepassay/__init__.py", f'__version__ = "{VERSION}"'),
        ("CHANGELOG.md", f"## {VERSION}"),
        ("CITATION.cff", f"version: {VERSION}"),
    ],
)
def test_a_version_that_differs_is_found(copy, name, old):
    edit(copy / name, old, old.replace(VERSION, "9.9.9"))
    with pytest.raises(release.Failed, match=r"versions differ.*9\.9\.9"):
        release.check_versions(copy)


def test_a_package_that_is_not_locked_is_found(copy):
    edit(copy / "pyproject.toml", '"numpy>=2.0",', '"numpy>=2.0",\n  "not-a-package>=1",')
    with pytest.raises(release.Failed, match="not-a-package"):
        release.check_versions(copy)


def test_the_citation_is_whole(copy):
    assert "1 author" in release.check_citation(ROOT)
    edit(copy / "CITATION.cff", "authors:\n", "writers:\n")
    with pytest.raises(release.Failed, match="lacks authors"):
        release.check_citation(copy)
    edit(copy / "CITATION.cff", "writers:\n", "colour: red\nauthors:\n")
    with pytest.raises(release.Failed, match="colour"):
        release.check_citation(copy)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    return release.build(ROOT, tmp_path_factory.mktemp("dist"), ("sdist", "wheel"))


def test_the_wheel_is_good_and_the_same_from_the_sdist(built, tmp_path):
    assert "packages in the base install" in release.check_wheel(built["wheel"], VERSION)
    assert "same wheel" in release.check_sdist(built["sdist"], built["wheel"], tmp_path)


def changed(wheel: Path, target: Path, *, drop: str = "", add: dict[str, str] | None = None, swap=("", "")) -> Path:
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("METADATA") and swap[0]:
                assert swap[0].encode() in data
                data = data.replace(swap[0].encode(), swap[1].encode(), 1)
            if not drop or drop not in info.filename:
                new.writestr(info.filename, data)
        for name, text in (add or {}).items():
            new.writestr(name, text)
    return target


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ({"drop": "configs/train.yaml"}, "lacks deepassay/configs/train.yaml"),
        ({"drop": "licenses/LICENSE"}, "lacks its licence"),
        ({"drop": "entry_points.txt"}, "no command"),
        ({"add": {"deepassay/face.onnx": "x"}}, "media, weights"),
        ({"add": {"tests/test_x.py": "x"}}, "outside its package"),
        ({"swap": ("Requires-Dist: rich", "Requires-Dist: torch\nRequires-Dist: rich")}, "brings torch"),
        ({"swap": ("License-Expression: Apache-2.0", "License-Expression: MIT")}, "licence is MIT"),
        ({"swap": (f"Version: {VERSION}", "Version: 9.9.9")}, "9.9.9"),
    ],
)
def test_a_bad_wheel_is_found(built, tmp_path, how, found):
    bad = changed(built["wheel"], tmp_path / built["wheel"].name, **how)
    with pytest.raises(release.Failed, match=found):
        release.check_wheel(bad, VERSION)


def test_a_reference_wheel_is_held_to_its_rules(tmp_path):
    info = "deepassay_reference-0.1.0.dist-info"
    good = {
        f"{info}/METADATA": "Metadata-Version: 2.4\nName: deepassay-reference\nVersion: 0.1.0\n",
        f"{info}/entry_points.txt": "[deepassay.bundles]\nface-reference = deepassay_reference:FACE\n",
        f"{info}/licenses/LICENSE": "research use",
        "deepassay_reference/face-reference/detector.onnx": "x",
        "deepassay_reference/voice-reference/detector.onnx": "x",
    }

    def wheel(files: dict[str, str]) -> Path:
        with zipfile.ZipFile(tmp_path / "one.whl", "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return tmp_path / "one.whl"

    assert "unpacked" in release.check_reference(wheel(good))
    with pytest.raises(release.Failed, match="files of deepassay"):
        release.check_reference(wheel({**good, "deepassay/cli.py": ""}))
    for name, found in (("entry_points", "no bundle"), ("LICENSE", "no licence"), ("face-reference", "fewer than two")):
        with pytest.raises(release.Failed, match=found):
            release.check_reference(wheel({k: v for k, v in good.items() if name not in k}))


def test_the_readme_names_verbs_that_exist():
    from deepassay.cli import COMPOSED, PLAIN

    verbs = release.readme_verbs()
    assert {"train", "screen", "assess"} <= set(verbs)
    assert set(verbs) <= {*COMPOSED, *PLAIN}


def test_a_failed_step_makes_the_exit_code(monkeypatch, capsys):
    def bad(root=ROOT) -> str:
        raise release.Failed("versions differ: planted")

    monkeypatch.setattr(release, "check_versions", bad)
    monkeypatch.setattr(release, "build", lambda *arguments: release.require(False, "not built here"))
    assert release.main(["--build-only"]) == 1
    out = capsys.readouterr().out
    assert "FAIL  versions" in out
    assert "planted" in out
    assert "2 failed: versions, build" in out or "3 failed" in out


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_the_whole_check_holds():
    """Installs the base environment from the configured index and runs the README's commands in it."""
    assert release.main([]) == 0
