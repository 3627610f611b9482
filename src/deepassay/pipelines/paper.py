"""PDF beside the dossier's pages, where a renderer is there or one is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from deepassay.errors import AssayError, ConfigError
from deepassay.evidence.pdf import HINT, find_renderer, render_pdf


def print_pages(pages: Mapping[str, Path], languages: Sequence[str], wanted: Any, console: Console) -> dict[str, Path]:
    """PDF files by ``pdf LANGUAGE``; none, with a sentence, where no renderer works and none was asked for.

    Args:
        pages: HTML files by language. wanted: ``auto``, true or false.

    Raises:
        ConfigError: another value. MissingDependencyError: asked for, and there is no renderer. AssayError: asked for,
            and the renderer fails.
    """
    if wanted is False:
        return {}
    if wanted not in (True, "auto"):
        raise ConfigError(f"pdf is {wanted!r}", hint="use auto, true or false")
    renderer = find_renderer()
    if renderer is None and wanted == "auto":
        console.print(f"  no PDF: {escape(HINT)}")
        return {}
    out = {}
    for language in languages:
        target = pages[language].with_suffix(".pdf")
        try:
            used = render_pdf(pages[language], target, renderer)
        except AssayError as error:
            if wanted is True:
                raise
            # The assessment is done and its pages are written: a renderer that fails takes nothing of that away.
            console.print(f"  no PDF: {escape(error.message)}")
            return out
        out[f"pdf {language}"] = target
        console.print(f"  printed with {used.name}")
    return out
