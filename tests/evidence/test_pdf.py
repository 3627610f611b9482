"""PDF of a page: by the renderer that is there, whole or not at all; without one, a sentence that says what to do."""

import stat
import sys

import pytest

from deepassay.errors import AssayError, ConfigError, MissingDependencyError
from deepassay.evidence import pdf
from deepassay.evidence.pdf import Renderer, find_renderer, render_pdf
from deepassay.pipelines.paper import print_pages
from deepassay.pipelines.terminal import terminal


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "face.en.html"
    path.write_text("<!DOCTYPE html><meta charset='utf-8'><style>@page{size:A4}</style><h1>Dossier 报告</h1>")
    return path


def fake(tmp_path, script):
    """A browser that only understands where the PDF goes."""
    path = tmp_path / "browser"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "out = next(a.split('=', 1)[1] for a in sys.argv if a.startswith('--print-to-pdf='))\n" + script
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Renderer("browser", str(path))


def without(monkeypatch):
    monkeypatch.setattr(pdf, "BROWSERS", ())
    monkeypatch.delenv(pdf.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "weasyprint", None)


def test_a_page_becomes_pdf_where_a_renderer_is_there(page, tmp_path):
    if find_renderer() is None:
        pytest.skip("neither weasyprint nor Chromium is installed")
    render_pdf(page, tmp_path / "out.pdf")
    data = (tmp_path / "out.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(data) > 1000


def test_the_browser_gets_no_network_and_a_profile_of_its_own(page, tmp_path):
    seen = tmp_path / "arguments"
    one = fake(tmp_path, f"open(out, 'wb').write(b'%PDF-1.4'); open({str(seen)!r}, 'w').write(repr(sys.argv))")
    render_pdf(page, tmp_path / "out.pdf", one)
    text = seen.read_text()
    assert "MAP * ~NOTFOUND" in text
    assert "--user-data-dir=" in text
    assert page.resolve().as_uri() in text


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sys.exit('cannot start')", "cannot start"),
        ("", "could not print"),
        ("open(out, 'w').write('x')", "made no PDF"),
    ],
)
def test_a_renderer_that_fails_leaves_nothing_behind(script, said, page, tmp_path):
    with pytest.raises(AssayError, match=said):
        render_pdf(page, tmp_path / "out.pdf", fake(tmp_path, script))
    assert not (tmp_path / "out.pdf").exists()


def test_no_renderer_is_a_sentence_unless_pdf_was_asked_for(page, tmp_path, monkeypatch, capsys):
    without(monkeypatch)
    assert find_renderer() is None
    with pytest.raises(MissingDependencyError, match=r"deepassay\[pdf\]"):
        render_pdf(page, tmp_path / "out.pdf")
    assert print_pages({"en": page}, ["en"], "auto", terminal()) == {}
    assert "no PDF" in capsys.readouterr().out
    with pytest.raises(MissingDependencyError):
        print_pages({"en": page}, ["en"], True, terminal())
    assert print_pages({"en": page}, ["en"], False, terminal()) == {}
    with pytest.raises(ConfigError, match="auto, true or false"):
        print_pages({"en": page}, ["en"], "maybe", terminal())


def test_a_browser_can_be_named(tmp_path, monkeypatch):
    without(monkeypatch)
    one = fake(tmp_path, "open(out, 'wb').write(b'%PDF-1.4')")
    monkeypatch.setenv(pdf.VARIABLE, one.path)
    assert find_renderer() == one
    page = tmp_path / "face.zh.html"
    page.write_text("x")
    paths = print_pages({"zh": page}, ["zh"], "auto", terminal())
    assert paths["pdf zh"].name == "face.zh.pdf"
    assert paths["pdf zh"].read_bytes() == b"%PDF-1.4"


def test_a_renderer_that_fails_ends_nothing_unless_pdf_was_asked_for(page, tmp_path, monkeypatch, capsys):
    without(monkeypatch)
    monkeypatch.setenv(pdf.VARIABLE, fake(tmp_path, "sys.exit('no sandbox')").path)
    assert print_pages({"en": page}, ["en"], "auto", terminal()) == {}
    assert "no sandbox" in capsys.readouterr().out
    with pytest.raises(AssayError, match="no sandbox"):
        print_pages({"en": page}, ["en"], True, terminal())
