"""The same training with several seeds, and a table of means and spreads over them.

python scripts/seeds.py 5 name=mine experiment=demo_voice
python scripts/seeds.py 5 --launcher submitit_slurm name=mine experiment=demo_voice
"""

import subprocess
import sys

from deepassay.cli import main


def run() -> int:
    """Train, then tabulate the runs below runs/NAME."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit():
        print(__doc__)
        return 2
    seeds, rest = int(sys.argv[1]), sys.argv[2:]
    launcher: list[str] = []
    if rest[0] == "--launcher":
        launcher, rest = [f"hydra/launcher={rest[1]}"], rest[2:]
    name = next((word.removeprefix("name=") for word in rest if word.startswith("name=")), None)
    if name is None:
        print("give name=..., the folder of these runs below runs/", file=sys.stderr)
        return 2
    # A process of its own: Hydra keeps state, and the table needs none of it.
    sweep = [*launcher, *rest, f"seed={','.join(map(str, range(seeds)))}"]
    code = subprocess.run(
        [sys.executable, "-m", "deepassay.cli", "train", "--multirun", *sweep], check=False
    ).returncode
    return code or main(["runs", "table", f"runs/{name}", "--by", "seed"])


if __name__ == "__main__":
    sys.exit(run())
