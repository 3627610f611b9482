"""Train once per generator with that one left out, and tabulate what each detector says of the one it never saw.

    python scripts/leave_one_generator_out.py name=lo corpus=faceforensics corpus.root=... -- Deepfakes Face2Face

After `--` the generators (or families) to leave out, one training each; metrics.md names them. For choosing among
recipes on left-out generators without seeing the test, use `deepassay study`.
"""

import subprocess
import sys

from deepassay.cli import main
from deepassay.files import slug


def run() -> int:
    """Train all, then tabulate."""
    words = sys.argv[1:]
    name = next((word.removeprefix("name=") for word in words if word.startswith("name=")), None)
    if "--" not in words or name is None or not words[words.index("--") + 1 :]:
        print(__doc__)
        return 2
    cut = words.index("--")
    shared, generators = [w for w in words[:cut] if not w.startswith("name=")], words[cut + 1 :]
    failed = []
    for generator in generators:
        arguments = [
            *shared,
            f"name={name}/{slug(generator)}",
            "split=leave_generators_out",
            f"split.test=['{generator}']",
        ]
        print("$ deepassay train " + " ".join(arguments), flush=True)
        if subprocess.run([sys.executable, "-m", "deepassay.cli", "train", *arguments], check=False).returncode:
            failed.append(arguments)
    code = main(["runs", "table", f"runs/{name}", "--slices"]) if len(failed) < len(generators) else 2
    for arguments in failed:
        print("failed; to try just that again: deepassay train " + " ".join(arguments), file=sys.stderr)
    return 2 if failed else code


if __name__ == "__main__":
    sys.exit(run())
