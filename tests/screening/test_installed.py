"""Bundles of installed packages: found by entry point, used where none is named, and never a riddle where they fail."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from deepassay.cli import main
from deepassay.errors import BundleError, ConfigError
from deepassay.media.image import write_image
from deepassay.screening.bundle import Bundle, write_bundle
from deepassay.screening.installed import GROUP, default_bundles, installed_bundles
from deepassay.screening.screener import Screener


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    """Only what a test installs counts, whatever this environment has."""
    from deepassay.screening import installed

    real = installed.entry_points
    held = {point.value for point in real(group=GROUP)}
    monkeypatch.setattr(installed, "entry_points", lambda **asked: [p for p in real(**asked) if p.value not in held])


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that puts a package with a bundle on the path, as pip would leave it."""
    here = tmp_path / "site-packages"
    here.mkdir()
    monkeypatch.syspath_prepend(here)

    def put(package: str, bundle: Path | None, name: str = "FACE", version: str = "1.2") -> None:
        module = package.replace("-", "_")
        (here / module).mkdir()
        text = "" if bundle is None else f"{name} = {str(bundle)!r}\n"
        (here / module / "__init__.py").write_text(text)
        info = here / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{package}-bundle = {module}:{name}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


@pytest.fixture
def box(tmp_path, monkeypatch, square, bundle_parts) -> Path:
    """A folder with one bundle and one picture."""
    write_bundle(tmp_path / "face", **bundle_parts(square))
    write_image(tmp_path / "photo.png", np.full((8, 8, 3), 220, np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_named_bundle_the_installed_one_judges_and_is_named(box, install, capfd):
    install("some-bundles", box / "face")
    assert main(["screen", "photo.png"]) == 0
    out, err = capfd.readouterr()
    verdict = json.loads(out)
    assert verdict["bundle"] == Bundle.load(box / "face").hash
    assert verdict["decision"] in ("fake", "no evidence of manipulation")
    assert "some-bundles-bundle (some-bundles 1.2" in err
    assert main(["screen", "photo.png", "--quiet"]) == 0
    assert capfd.readouterr().err == ""
    assert Screener().screen("photo.png")[0].llr == verdict["llr"]
    assert main(["bundle", "list"]) == 0
    assert str(box / "face") in capfd.readouterr().out


def test_research_use_is_said_where_the_licence_chain_does_not_allow_more(box, install, square, bundle_parts):
    parts = bundle_parts(square)
    for name, word in (("open", "yes"), ("closed", "no"), ("silent", "unknown")):
        parts["licence_chain"] = [{"name": "corpus", "licence": "as stated", "commercial": word}]
        write_bundle(box / name, **parts)
        install(name, box / name)
    said = {one.package: one.restricted for one in installed_bundles()}
    assert said == {"open": False, "closed": True, "silent": True}
    assert "for research use" in str(next(one for one in installed_bundles() if one.restricted))


def test_none_installed_is_an_error_that_says_what_to_do(box, capfd):
    assert installed_bundles() == []
    assert main(["screen", "photo.png"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "no bundle was named, and none is installed" in err
    assert "hint: name one: --bundle" in err
    assert main(["bundle", "list"]) == 0
    assert "no bundle is installed" in capfd.readouterr().out
    with pytest.raises(ConfigError, match="none is installed"):
        Screener()
    assert main(["serve"]) == 2
    assert "none is installed" in capfd.readouterr().err


def test_two_for_one_modality_must_be_told_apart_by_name(box, install):
    install("one", box / "face")
    assert [one.package for one in default_bundles()] == ["one"]
    install("other", box / "face")
    with pytest.raises(ConfigError, match="two installed bundles judge faces") as caught:
        default_bundles()
    assert str(box / "face") in str(caught.value.hint)


def test_an_installed_bundle_can_be_named(box, install, capfd):
    install("one", box / "face")
    assert main(["screen", "photo.png", "--bundle", "one-bundle", "--quiet"]) == 0
    assert main(["bundle", "verify", "one-bundle"]) == 0
    capfd.readouterr()
    assert main(["bundle", "show", "one-bundle"]) == 0
    assert Bundle.load(box / "face").hash in capfd.readouterr().out
    assert main(["screen", "photo.png", "--bundle", "none-such", "--quiet"]) == 2
    assert "none-such: no such bundle" in capfd.readouterr().err


def test_a_package_whose_bundle_is_gone_is_named(box, install, capfd):
    install("empty", None)
    assert main(["screen", "photo.png"]) == 2
    assert "empty 1.2 offers the bundle empty-bundle" in capfd.readouterr().err
    assert main(["screen", "photo.png", "--bundle", "face", "--quiet"]) == 0, "a named bundle does without the others"


def test_what_is_no_bundle_is_named(box, install):
    (box / "wrong").mkdir()
    install("wrong", box / "wrong")
    with pytest.raises(BundleError, match=r"wrong 1\.2: wrong-bundle"):
        installed_bundles()


def test_an_altered_installed_bundle_is_refused(box, install, capfd):
    install("altered", box / "face")
    with (box / "face" / "detector.onnx").open("ab") as stream:
        stream.write(b"x")
    assert main(["screen", "photo.png"]) == 2
    assert "detector.onnx was altered" in capfd.readouterr().err
