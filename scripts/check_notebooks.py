"""Says what is wrong with notebooks (outputs, definitions, paths, no question, no end); --clear takes outputs out."""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
# Written in pieces, so that this file does not hold what it looks for.
MACHINE = re.compile(
    "|".join(("/ho" + "me/", "/ro" + "ot/", "/Us" + "ers/", "/wo" + "rk/", "/tm" + "p/", r"[A-Z]:\\\\"))
)
LINK = re.compile(r"\]\(([^)#:]+\.ipynb)\)")


def problems(notebook: dict[str, Any], folder: Path = FOLDER) -> list[str]:
    """What is wrong with one notebook, one sentence each; ``folder`` is where its links lead to."""
    cells = notebook["cells"]
    if not cells:
        return ["it has no cells"]
    out = [f"cell {n}: {text}" for n, cell in enumerate(cells) for text in _cell(cell, folder)]
    first, last = "".join(cells[0]["source"]), "".join(cells[-1]["source"])
    title = first.splitlines()[0] if first else ""
    if cells[0]["cell_type"] != "markdown" or not title.startswith("# ") or "?" not in title:
        out.append("cell 0: does not begin with a Markdown heading that asks the question it answers")
    if "synthetic" not in first.lower():
        out.append("cell 0: does not say that its data are synthetic")
    if cells[-1]["cell_type"] != "markdown" or "**Read next:**" not in last:
        out.append(f"cell {len(cells) - 1}: does not end with **Read next:**")
    if MACHINE.search(json.dumps(notebook["metadata"])):
        out.append("metadata: holds a path of a machine")
    return out


def _cell(cell: dict[str, Any], folder: Path) -> Iterator[str]:
    text = "".join(cell["source"])
    if MACHINE.search(text):
        yield "holds a path of a machine"
    if cell.get("attachments"):
        yield "has an attachment; draw the picture in a code cell"
    if cell["cell_type"] != "code":
        yield from (
            f"links to {name}, which is not there" for name in LINK.findall(text) if not (folder / name).is_file()
        )
        return
    if cell.get("outputs") or cell.get("execution_count") is not None:
        yield "has an output; run scripts/check_notebooks.py --clear"
    try:
        tree = ast.parse(text)
    except SyntaxError:
        yield "is not plain Python (shell lines and magics work in some places only)"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield f"defines {node.name}; what is worth a name belongs into the library"
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and isinstance(node.value, ast.Lambda):
            yield "gives a lambda a name; what is worth a name belongs into the library"


def cleared(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without outputs, counts of execution, attachments and metadata of editors."""
    cells = []
    for cell in notebook["cells"]:
        kept = {key: value for key, value in cell.items() if key in ("cell_type", "id", "source")}
        empty = {"execution_count": None, "outputs": []} if cell["cell_type"] == "code" else {}
        cells.append({**kept, "metadata": {}, **empty})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {**notebook, "cells": cells, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}}


def main(arguments: list[str] | None = None) -> int:
    """Check the notebooks named, by default all of them; 1 where something is wrong or was cleared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all)")
    parser.add_argument("--clear", action="store_true", help="write them without outputs; what else is wrong stays")
    args = parser.parse_args(arguments)
    bad = False
    for path in args.paths or sorted(FOLDER.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if args.clear and any(
            "has an output" in text or "attachment" in text for text in problems(notebook, path.parent)
        ):
            notebook = cleared(notebook)
            path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(f"{path}: outputs cleared")
            bad = True
        for text in problems(notebook, path.parent):
            print(f"{path}: {text}")
            bad = True
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
