"""demo: the whole job on the built-in corpora, one printed command after the other, for faces and for voices."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from deepassay.errors import AssayError
from deepassay.pipelines.terminal import terminal

# modality -> (experiment, built-in tool under assessment)
JOBS = {"face": ("demo_face", "example_swap"), "voice": ("demo_voice", "example_vocoder")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay demo`."""
    parser.add_argument("--modality", choices=(*JOBS, "both"), default="both", help="which half to run (default: both)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for runs (default: runs)")
    parser.add_argument("override", nargs="*", help="overrides for `deepassay train`, for example corpus.strength=0")


def commands(modality: str, runs: Path, overrides: list[str]) -> list[list[str]]:
    """The commands of one half, as a user would type them after ``deepassay``."""
    experiment, tool = JOBS[modality]
    run = runs / experiment
    return [
        # The test split stays shut until `assess` has frozen its protocol.
        ["train", f"experiment={experiment}", f"hydra.run.dir={run}", "then=[export]", *overrides],
        ["assess", f"run={run}", f"tool={tool}", f"hydra.run.dir={run}"],
    ]


def _call(console: Console, arguments: list[str], *, accept: tuple[int, ...] = (0,)) -> None:
    console.print(f"\n[bold]$ deepassay {' '.join(arguments)}[/]", highlight=False, soft_wrap=True)
    sys.stdout.flush()
    done = subprocess.run([sys.executable, "-m", "deepassay", *arguments], check=False)
    if done.returncode in (130, 143, -2, -15):
        raise KeyboardInterrupt
    if done.returncode not in accept:
        raise AssayError(
            f"`deepassay {' '.join(arguments)}` ended with code {done.returncode}",
            hint="see the message above; `deepassay doctor` says what this machine lacks",
        )


def _examples(run: Path) -> list[str]:
    """One real and one fake test file per medium, to show a verdict on."""
    from deepassay.manifest import Manifest
    from deepassay.pipelines.folder import RunFolder

    manifest: Manifest = RunFolder.open(run).manifest().split("test")
    chosen: dict[tuple[str, int | None], str] = {}
    for sample in manifest:
        chosen.setdefault((sample.media, sample.label), str(manifest.file(sample)))
    return list(chosen.values())


def main(args: argparse.Namespace) -> int:
    """Run the demo; prints the dossiers' paths at the end."""
    console = terminal()
    begin = time.perf_counter()
    pages: list[Path] = []
    for modality in JOBS if args.modality == "both" else (args.modality,):
        console.print(Rule(f"{modality}s, on the built-in synthetic corpus"))
        for command in commands(modality, args.runs, args.override):
            _call(console, command)
        run = args.runs / JOBS[modality][0]
        # 3: a file was not judged, for example a picture in which no face is found; its line says so.
        _call(
            console,
            ["screen", "--bundle", str(run / "bundle"), "--format", "table", *_examples(run)],
            accept=(0, 3),
        )
        pages += sorted((run / "dossier").glob("*.html"))
    console.print(Rule("done"))
    console.print(f"{time.perf_counter() - begin:.0f} s. All of it is SYNTHETIC: it shows that the machinery works.\n")
    for page in pages:
        console.print(f"dossier  {page}", highlight=False, soft_wrap=True)
    console.print("\nnext: your own files (README, 'Your own files'), or `deepassay --help`")
    return 0
