"""The reference wheel's content from finished runs and studies: bundles, score tables, cards, docs/results.md.

    python scripts/build_reference.py --face runs/face --voice runs/voice \\
        --study faces=runs/study_faces --study voices=runs/study_voices      # everything
    python scripts/build_reference.py --face runs/face --precision face=fp16 # one bundle, in fp16
    python scripts/build_reference.py --elsewhere face:NAME=runs/x/scores/test.parquet   # scores of a shipped bundle
    python scripts/build_reference.py --repeat face=runs/face_again          # the same training, done again
    python scripts/build_reference.py --speed                                # graphs timed, AASIST beside them
    python scripts/build_reference.py --tables-only                          # cards and results page, from the tables
    python scripts/build_reference.py --check                                # exit 1 where they do not follow from them

Any option alone does just that, and then writes cards, figures and docs/results.md anew.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from deepassay.errors import AssayError, ConfigError  # noqa: E402
from deepassay.pipelines import reference  # noqa: E402
from deepassay.pipelines.folder import RunFolder  # noqa: E402
from deepassay.pipelines.reference_tables import pack_study  # noqa: E402
from deepassay.pipelines.terminal import terminal  # noqa: E402
from deepassay.scores import ScoreTable  # noqa: E402
from deepassay.screening.bundle import Bundle  # noqa: E402


def pair(word: str) -> tuple[str, str]:
    """``NAME=VALUE`` as two words."""
    name, sign, value = word.partition("=")
    if not sign or not name or not value:
        raise argparse.ArgumentTypeError(f"{word!r} is not NAME=VALUE")
    return name, value


def of_modality(word: str) -> tuple[str, str]:
    """``face=VALUE`` or ``voice=VALUE`` as two words."""
    name, value = pair(word)
    if name.partition(":")[0] not in reference.NAMES:
        raise argparse.ArgumentTypeError(f"{word!r} begins with neither face nor voice")
    return name, value


def folder_of(given: list[tuple[str, str]], modality: str) -> Path | None:
    """The folder named for a modality, or None."""
    folder = dict(given).get(modality)
    return None if folder is None else Path(folder)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for modality in reference.NAMES:
        parser.add_argument(f"--{modality}", metavar="RUN", help="a finished run to export as the reference bundle")
    many = {"action": "append", "default": []}
    parser.add_argument(
        "--precision", type=of_modality, **many, metavar="MODALITY=P", help="fp32 (default), fp16, int8"
    )
    parser.add_argument("--parity-files", type=int, default=200, metavar="N", help="default: %(default)s")
    parser.add_argument("--parity-on", type=of_modality, **many, metavar="MODALITY=MANIFEST", help="default: dev files")
    parser.add_argument("--media", type=of_modality, **many, metavar="MODALITY=FOLDER", help="where a run from "
                        "elsewhere finds its media here; its views are prepared again")  # fmt: skip
    parser.add_argument("--study", type=pair, **many, metavar="NAME=FOLDER", help="a finished study to pack")
    parser.add_argument(
        "--recipe", type=of_modality, **many, metavar="MODALITY=ARM", help="the bundle's arm in its study"
    )
    parser.add_argument("--of-study", type=of_modality, **many, metavar="MODALITY=NAME", help="where there are several")
    parser.add_argument(
        "--elsewhere", type=of_modality, **many, metavar="MODALITY:NAME=PARQUET", help="scores by the bundle"
    )
    parser.add_argument(
        "--repeat", type=of_modality, **many, metavar="MODALITY=RUN", help="the same training, done again"
    )
    parser.add_argument(
        "--speed", action="store_true", help="time the bundles' graphs, AASIST and AASIST-L beside them"
    )
    parser.add_argument("--tables-only", action="store_true", help="write cards and pages from the committed tables")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page does not follow")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    return parser.parse_args()


def run() -> int:
    """Do what the options say, then write the pages."""
    args, console = arguments(), terminal()
    if args.check:
        wrong = reference.differing(args.models, args.docs)
        for path in wrong:
            console.print(f"does not follow from the tables: {path}", highlight=False)
        return 1 if wrong else 0
    asked = (args.face, args.voice, args.study, args.recipe, args.of_study, args.elsewhere, args.repeat, args.speed)
    if args.tables_only == any(asked):
        raise ConfigError("nothing to do, or too much", hint="give runs, studies or scores; or --tables-only alone")
    for modality in reference.NAMES:
        if getattr(args, modality):
            chosen = dict(args.parity_on).get(modality)
            bundle = reference.build_bundle(
                RunFolder.open(getattr(args, modality)), args.models, modality=modality, console=console,
                precision=dict(args.precision).get(modality, "fp32"), parity_files=args.parity_files,
                parity_on=None if chosen is None else Path(chosen), media=folder_of(args.media, modality),
            )  # fmt: skip
            console.print(
                f"  {bundle.n_bytes / 1e6:.1f} MB, {bundle.precision}, identity {bundle.hash}", highlight=False
            )
    for name, folder in args.study:
        console.print(f"study {name}: {pack_study(folder, args.models / 'scores', name)}", highlight=False)
    for modality, arm in args.recipe:
        reference.note(args.models, modality, recipe=arm)
    for modality, name in args.of_study:
        reference.note(args.models, modality, study=name)
    for words, path in args.elsewhere:
        modality, _, name = words.partition(":")
        if not name:
            raise ConfigError(f"--elsewhere {words}", hint="write face:NAME=SCORES.parquet")
        bundle = Bundle.load(args.models / reference.NAMES[modality])
        console.print(f"scores {reference.keep_scores(ScoreTable.read(path), bundle, args.models, name)}")
    for modality, folder in args.repeat:
        found = reference.compare_training(
            RunFolder.open(folder), args.models, modality=modality, media=folder_of(args.media, modality)
        )
        reference.note(args.models, modality, repeat=found)
        console.print(f"{modality}, trained again: {found}", highlight=False)
    if args.speed:
        for row in reference.measure_speed(args.models):
            console.print(f"speed {row}", highlight=False)
    for path in reference.write_pages(args.models, args.docs):
        console.print(f"written {path}", highlight=False)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(run())
    except AssayError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
