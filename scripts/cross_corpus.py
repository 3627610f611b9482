"""Every trained run on every corpus: a matrix of AUC and EER with intervals, from exported bundles.

    python scripts/cross_corpus.py runs/a runs/b -- "corpus=celebdf_v2 corpus.root=..." "corpus=dfdc corpus.root=..."

Each corpus is scored whole, or its test split where `split=...` is given in its words. What is scored already is kept.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from deepassay.files import fingerprint, slug
from deepassay.runs import number_text


def cell(folder: Path, metric: str) -> str:
    """A number of a whole table, non-responses counted as errors."""
    found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    stack = [found]
    while stack:
        node = stack.pop(0)
        if isinstance(node, dict) and node.get("metric") == metric and "value" in node:
            if (node.get("slice") or {}) in ({}, {"nonresponse": "counted_as_error"}):
                return number_text(node)
        else:
            stack.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else [])
    return "-"


def run() -> int:
    """Evaluate what is missing, then print one table per metric."""
    words = sys.argv[1:]
    if "--" not in words:
        print(__doc__)
        return 2
    runs, corpora = [Path(w) for w in words[: words.index("--")]], words[words.index("--") + 1 :]
    titles = [next((w.split("=", 1)[1] for w in shlex.split(c) if w.startswith("corpus=")), c) for c in corpora]
    folders: dict[tuple[int, int], Path] = {}
    failed = []
    for i, trained in enumerate(runs):
        for j, corpus in enumerate(corpora):
            name = (
                f"cross/{slug(trained.name)}_on_{slug(titles[j])}_{fingerprint([str(trained.resolve()), corpus])[:8]}"
            )
            folder = Path("runs") / name
            if not (folder / "metrics.json").is_file():
                command = ["evaluate", f"bundle={trained / 'bundle'}", *shlex.split(corpus), f"name={name}"]
                print("$ deepassay " + " ".join(command), flush=True)
                if subprocess.run([sys.executable, "-m", "deepassay.cli", *command], check=False).returncode:
                    failed.append(command)
                    continue
            folders[i, j] = folder
    for metric in ("auc", "eer"):
        print(f"\n{metric}: trained (rows) on tested (columns)\n")
        print("| | " + " | ".join(titles) + " |\n|---|" + "---|" * len(titles))
        for i, trained in enumerate(runs):
            cells = [cell(folders[i, j], metric) if (i, j) in folders else "failed" for j in range(len(corpora))]
            print(f"| {trained.name} | " + " | ".join(cells) + " |")
    for command in failed:
        print("failed; to try just that again: deepassay " + shlex.join(command), file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
