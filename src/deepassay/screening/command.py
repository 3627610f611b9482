"""`deepassay screen`: verdicts on files, folders, globs and lists; on stdout machine output and nothing else."""

import argparse
import sys

EPILOG = """\
PATH is a file, a folder (searched recursively), a glob, @LIST (a file of paths) or - (paths on standard input).

output: one JSON object per file and modality, one per line, on standard output. A file that cannot be judged gets
decision "abstain" with its status and reason, never a score, and the batch goes on.

exit codes:
  0    every file was judged (whatever the decisions)
  2    nothing was judged: wrong usage, or a bundle that is refused
  3    at least one file was not judged; its line says why
  4    with --fail-on-fake only: at least one file was flagged as fake (also where others were not judged)
  130  interrupted; the lines that were written are whole

examples:
  deepassay screen photo.jpg --bundle runs/mine/bundle
  deepassay screen inbox/ --bundle face.zip --bundle voice.zip --output verdicts.jsonl
  find inbox -newer stamp -type f -print0 | deepassay screen - --bundle face.zip --format table
"""
EXIT_JUDGED, EXIT_NOT_JUDGED, EXIT_FLAGGED = 0, 3, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.epilog = EPILOG
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, @LIST or -")
    parser.add_argument(
        "--bundle",
        action="append",
        required=True,
        metavar="B",
        help="exported bundle, a folder or zip; one per modality",
    )
    parser.add_argument(
        "--operating-point", default="bpcer_5", metavar="NAME", help="the rule that decides (default: %(default)s)"
    )
    parser.add_argument(
        "--prior", type=float, metavar="P", help="probability of fake before looking, such as 0.01: adds a posterior"
    )
    parser.add_argument("--format", choices=("jsonl", "table"), default="jsonl", help="default: %(default)s")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    parser.add_argument(
        "--views",
        type=_count,
        metavar="N|all",
        help="most views per file (default: as many as the thresholds were fixed with)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the detector (default: cores, at most 4)")
    parser.add_argument("--fail-on-fake", action="store_true", help="exit with 4 where a file was flagged")
    parser.add_argument("--quiet", action="store_true", help="no progress and no summary on standard error")


def _count(word: str) -> int:
    """Views per file: a number, or ``all``."""
    if word == "all":
        from deepassay.modality.views import EVERY

        return EVERY
    return int(word)


def main(args: argparse.Namespace) -> int:
    """Screen what the arguments name; returns the exit code that `EPILOG` describes.

    Raises:
        AssayError: a bundle or setting that cannot be used, before any line is written.
    """
    import contextlib
    import os
    import time
    from collections import Counter

    from deepassay.errors import ConfigError
    from deepassay.screening.inputs import expand

    if args.threads is not None and args.threads < 1:
        raise ConfigError(f"--threads {args.threads}", hint="give at least 1")
    inputs = list(expand(args.paths))
    if not inputs:
        raise ConfigError("the lists name no file", hint="give at least one path")

    from deepassay.screening.screener import FAKE, Screener

    screener = Screener(args.bundle, args.operating_point, args.views, args.prior, threads=args.threads)
    formatted = _json_line if args.format == "jsonl" else _table_line
    decisions, statuses = Counter[str](), Counter[str]()
    last = time.monotonic()
    live = sys.stderr.isatty() and not args.quiet and len(inputs) > 1
    end = "\n" if live else ""
    with contextlib.ExitStack() as stack:
        part = f"{args.output}.part" if args.output else None
        try:
            out = stack.enter_context(open(part, "wb")) if part else sys.stdout.buffer
        except OSError as error:
            raise ConfigError(
                f"{args.output}: cannot be written ({error.strerror})", hint="give a file in a folder that is yours"
            ) from error
        try:
            if args.format == "table":
                out.write(TABLE_HEAD.encode())
            for number, one in enumerate(inputs, start=1):
                verdicts = [screener.refuse(one.path, one.refusal)] if one.refusal else screener.screen(one.path)
                for verdict in verdicts:
                    decisions[verdict.decision] += 1
                    statuses[str(verdict.status)] += 1
                    # A path may hold bytes that are no text; the escape keeps the line valid JSON.
                    out.write(formatted(verdict).encode("utf-8", "backslashreplace"))
                out.flush()
                if live:
                    print(f"\rscreened {number} of {len(inputs)}", end="", file=sys.stderr, flush=True)
                elif not args.quiet and time.monotonic() - last > 10:
                    last = time.monotonic()
                    print(f"screened {number} of {len(inputs)}", file=sys.stderr, flush=True)
        except BaseException:
            if part:
                print(f"{end}not finished: the lines so far are in {part}", file=sys.stderr)
            raise
    if part:
        os.replace(part, args.output)
    if not args.quiet:
        print(end + _summary(len(inputs), decisions, statuses), file=sys.stderr)
    if args.fail_on_fake and decisions[FAKE]:
        return EXIT_FLAGGED
    return EXIT_NOT_JUDGED if set(statuses) != {"ok"} else EXIT_JUDGED


TABLE_HEAD = f"{'decision':<28}{'llr':>8}  {'modality':<9}{'status':<14}{'path'}\n"


def _json_line(verdict) -> str:
    import json

    return json.dumps(verdict.to_dict(), ensure_ascii=False, allow_nan=False) + "\n"


def _table_line(verdict) -> str:
    llr = "" if verdict.llr is None else f"{verdict.llr:.2f}"
    path = "".join(c if c.isprintable() else "?" for c in verdict.path)
    reason = f"  ({verdict.reason})" if verdict.reason else ""
    return f"{verdict.decision:<28}{llr:>8}  {verdict.modality or '':<9}{verdict.status!s:<14}{path}{reason}\n"


def _summary(n_files: int, decisions, statuses) -> str:
    parts = [f"{count} {name}" for name, count in sorted(decisions.items())]
    why = ", ".join(f"{count} {name}" for name, count in sorted(statuses.items()) if name != "ok")
    files = "1 file" if n_files == 1 else f"{n_files} files"
    return f"{files}: {', '.join(parts)}{f' ({why})' if why else ''}"
