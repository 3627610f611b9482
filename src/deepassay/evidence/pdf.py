"""The dossier as PDF, where a renderer is there: weasyprint (extra `pdf`), else Chromium; nothing is fetched."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deepassay.errors import AssayError, MissingDependencyError
from deepassay.files import write_bytes

VARIABLE = "DEEPASSAY_CHROMIUM"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
TIMEOUT_S = 180.0
HINT = (
    "pip install 'deepassay[pdf]' (needs Pango, and a CJK font for Chinese), or install Chromium; or print the HTML "
    "page from a browser: it is laid out for A4"
)


@dataclass(frozen=True, slots=True)
class Renderer:
    """A program or package that turns the page into PDF.

    Args:
        name: weasyprint, or the browser's name.
        path: of the browser; empty for weasyprint.
    """

    name: str
    path: str = ""


def find_renderer() -> Renderer | None:
    """The first renderer that works here; None where there is none.

    ``$DEEPASSAY_CHROMIUM`` names a browser that is not on the path.
    """
    own = os.environ.get(VARIABLE)
    if own and shutil.which(own):
        return Renderer(Path(own).name, shutil.which(own) or own)
    try:
        import weasyprint  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError):  # OSError: installed, without Pango
        pass
    else:
        return Renderer(f"weasyprint {weasyprint.__version__}")
    for name in BROWSERS:
        path = shutil.which(name)
        if path:
            return Renderer(name, path)
    return None


def render_pdf(page: str | Path, target: str | Path, renderer: Renderer | None = None) -> Renderer:
    """Print a self-contained page to PDF, atomically.

    Args:
        page: HTML file. target: PDF file. renderer: `find_renderer` where None.

    Raises:
        MissingDependencyError: there is no renderer.
        AssayError: it fails, or writes no PDF.
    """
    chosen = renderer or find_renderer()
    if chosen is None:
        raise MissingDependencyError(f"{target}: there is no program here that makes PDF", hint=HINT)
    data = _by_browser(Path(page), chosen) if chosen.path else _by_weasyprint(Path(page))
    if not data.startswith(b"%PDF-"):
        raise AssayError(f"{chosen.name} made no PDF of {page}", hint=HINT)
    write_bytes(target, data)
    return chosen


def _by_weasyprint(page: Path) -> bytes:
    import weasyprint  # pyright: ignore[reportMissingImports]

    def refuse(url: str, *arguments: object, **keywords: object) -> dict[str, object]:
        raise ValueError(f"a dossier fetches nothing, and this page asks for {url[:80]}")

    document = weasyprint.HTML(string=page.read_text(encoding="utf-8"), url_fetcher=refuse)
    return bytes(document.write_pdf() or b"")


def _by_browser(page: Path, renderer: Renderer) -> bytes:
    with tempfile.TemporaryDirectory(prefix="deepassay-pdf-", ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "page.pdf"
        arguments = [
            renderer.path, "--headless", "--disable-gpu", "--no-first-run", "--no-default-browser-check",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}/profile", "--no-pdf-header-footer",
            "--disable-dev-shm-usage", "--hide-scrollbars",
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")  # the browser refuses to start as root otherwise; the page is our own
        arguments += [f"--print-to-pdf={out}", page.resolve().as_uri()]
        try:
            done = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False,
                env={**os.environ, "HOME": folder},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AssayError(f"{renderer.name} could not print {page} ({error})", hint=HINT) from error
        if done.returncode != 0 or not out.is_file():
            tail = done.stderr.decode("utf-8", "replace").strip()[-300:]
            raise AssayError(f"{renderer.name} could not print {page} (code {done.returncode}): {tail}", hint=HINT)
        return out.read_bytes()
