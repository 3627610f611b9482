"""`deepassay screen`: verdicts on files, folders, globs and lists; on stdout machine output and nothing else."""

import argparse
import sys
from collections.abc import Iterator

EPILOG = """\
PATH is a file, a folder (searched recursively), a glob, @LIST (a file of paths) or - (paths on standard input).

output: one JSON object per file and modality, one per line, on standard output. A file that cannot be judged gets
decision "abstain" with its status and reason, never a score, and the batch goes on: also where a decoder crashes on it
or takes longer than --timeout, because files are read in processes of their own.

exit codes:
  0    every file was judged (whatever the decisions)
  2    nothing was judged: wrong usage, or a bundle that is refused
  3    at least one file was not judged; its line says why
  4    with --fail-on-fake only: at least one file was flagged as fake (also where others were not judged)
  130  interrupted; the lines that were written are whole

examples:
  deepassay screen photo.jpg clip.mp4 voice.wav            # with installed bundles, such as deepassay-reference
  deepassay screen photo.jpg --bundle runs/mine/bundle
  deepassay screen inbox/ --bundle face.zip --bundle voice.zip --output verdicts.jsonl --workers 4
  deepassay screen inbox/ --bundle face.zip --bundle voice.zip --output verdicts.jsonl --workers 4 --resume
  find inbox -newer stamp -type f -print0 | deepassay screen - --bundle face.zip --format table
"""
EXIT_JUDGED, EXIT_NOT_JUDGED, EXIT_FLAGGED = 0, 3, 4
_CSV = (
    "path", "modality", "media", "status", "reason", "decision", "llr", "score", "posterior", "operating_point",
    "threshold", "n_views", "n_tracks", "bundle", "detector", "synthetic", "warnings", "seconds",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.epilog = EPILOG
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, glob, @LIST or -")
    parser.add_argument(
        "--bundle",
        action="append",
        metavar="B",
        help="exported bundle, a folder, zip or installed name; one per modality (default: the installed ones)",
    )
    parser.add_argument(
        "--operating-point", default="bpcer_5", metavar="NAME", help="the rule that decides (default: %(default)s)"
    )
    parser.add_argument(
        "--site",
        action="append",
        default=[],
        metavar="FILE",
        help="a rule of `deepassay calibrate` that decides instead, for its bundle",
    )
    parser.add_argument(
        "--prior", type=float, metavar="P", help="probability of fake before looking, such as 0.01: adds a posterior"
    )
    parser.add_argument("--format", choices=("jsonl", "csv", "table"), default="jsonl", help="default: %(default)s")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    parser.add_argument(
        "--resume", action="store_true", help="go on with an unfinished --output of the same command (jsonl)"
    )
    parser.add_argument(
        "--views",
        type=_count,
        metavar="N|all",
        help="most views per file (default: as many as the thresholds were fixed with)",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="files judged at a time (default: 1)")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="seconds for one file (default: %(default)g)"
    )
    parser.add_argument("--max-mb", type=float, metavar="MB", help="larger files are not opened (default: no limit)")
    parser.add_argument(
        "--provider", metavar="NAME", help="onnxruntime provider, such as CUDAExecutionProvider (default: the CPU's)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each detector (default: cores, at most 4)")
    parser.add_argument(
        "--remote",
        action="append",
        default=[],
        metavar="MODALITY=URL",
        help="let an inference server run a bundle's graph, such as face=http://host:8000/v2/models/name",
    )
    parser.add_argument("--journal", metavar="FILE", help="also append every verdict to a journal (a hash chain)")
    parser.add_argument(
        "--journal-names", action="store_true", help="file names in the journal as they are, not as salted hashes"
    )
    parser.add_argument(
        "--ignore-limits", action="store_true", help="judge files beyond the bundle's abstention limits too, and say so"
    )
    parser.add_argument("--signed-by", metavar="KEY", help="public key, PEM: refuse a bundle that it did not sign")
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
    from deepassay.screening.crew import Crew
    from deepassay.screening.inputs import Input, expand
    from deepassay.screening.installed import named_or_installed

    if args.threads is not None and args.threads < 1:
        raise ConfigError(f"--threads {args.threads}", hint="give at least 1")
    if args.resume and (not args.output or args.format != "jsonl"):
        raise ConfigError("--resume needs --output, and --format jsonl", hint="name the file that was not finished")
    inputs = list(expand(args.paths))
    if not inputs:
        raise ConfigError("the lists name no file", hint="give at least one path")
    settings = {
        "bundles": named_or_installed(args.bundle, tell=None if args.quiet else sys.stderr),
        "operating_point": args.operating_point,
        "views": args.views,
        "prior": args.prior,
        "threads": args.threads,
        "site": args.site,
        "remote": remotes(args.remote),
        "limits": not args.ignore_limits,
        "key": args.signed_by,
        **({"provider": args.provider} if args.provider else {}),
        **({"max_bytes": int(args.max_mb * (1 << 20))} if args.max_mb is not None else {}),
    }
    writer = {"jsonl": _json_line, "csv": _csv_line, "table": _table_line}[args.format]
    decisions, statuses = Counter[str](), Counter[str]()
    rules: dict[tuple[str, str], dict[str, float]] = {}  # (modality, rule) -> share of its flags that can be right
    last = time.monotonic()
    live = sys.stderr.isatty() and not args.quiet and len(inputs) > 1
    end = "\n" if live else ""
    crew = Crew(settings, workers=args.workers, timeout_s=args.timeout, hash_inputs=bool(args.journal))
    with contextlib.ExitStack() as stack:
        stack.enter_context(crew)
        part = f"{args.output}.part" if args.output else None
        done: set[str] = set()
        try:
            if args.resume and part is not None:
                done = _resume(part, settings, decisions, statuses)
            out = stack.enter_context(open(part, "ab" if done else "wb")) if part else sys.stdout.buffer
        except OSError as error:
            raise ConfigError(
                f"{args.output}: cannot be written ({error.strerror})", hint="give a file in a folder that is yours"
            ) from error
        journal = None
        if args.journal:
            from deepassay.screening.journal import Journal, verdict_record

            journal = Journal(args.journal, names=args.journal_names)
        left = [one for one in inputs if one.path not in done]
        files = crew.screen(one.path for one in left if not one.refusal)

        def screened(one: Input):
            if not one.refusal:
                return next(files)
            from deepassay.labels import Status
            from deepassay.screening.crew import Screened
            from deepassay.screening.screener import abstention

            return Screened(one.path, [abstention(one.path, Status.ERROR, one.refusal)])

        try:
            if part and not done:
                _write_settings(part, settings)
            if not done:
                out.write({"table": TABLE_HEAD, "csv": ",".join(_CSV) + "\r\n"}.get(args.format, "").encode())
            for number, one in enumerate(left, start=1 + len(inputs) - len(left)):
                outcome = screened(one)
                for verdict in outcome.verdicts:
                    decisions[verdict.decision] += 1
                    statuses[str(verdict.status)] += 1
                    rule = verdict.operating_point
                    if verdict.decision == "fake" and verdict.modality and rule:
                        rules[verdict.modality, rule["name"]] = rule["flags_right"]
                    if journal is not None:
                        journal.append(verdict_record(verdict, journal, input_sha256=outcome.input_sha256))
                # A path may hold bytes that are no text; the escape keeps the line valid JSON. One write per file, so
                # that an interruption leaves all of its lines or none.
                out.write("".join(map(writer, outcome.verdicts)).encode("utf-8", "backslashreplace"))
                out.flush()
                if live:
                    print(f"\rscreened {number} of {len(inputs)}", end="", file=sys.stderr, flush=True)
                elif not args.quiet and time.monotonic() - last > 10:
                    last = time.monotonic()
                    print(f"screened {number} of {len(inputs)}", file=sys.stderr, flush=True)
        except BaseException:
            if part:
                print(f"{end}not finished: the lines so far are in {part}; go on with --resume", file=sys.stderr)
            raise
    if part:
        os.replace(part, args.output)
        os.unlink(f"{part}.settings")
    if not args.quiet:
        print(end + _summary(len(inputs), decisions, statuses), file=sys.stderr)
        for (modality, name), right in sorted(rules.items()):
            shares = ", ".join(f"{100 * share:.0f} % at {rate}" for rate, share in right.items())
            print(
                f"  of {modality} flags at {name} at most this share is right, by how common fakes are: {shares}",
                file=sys.stderr,
            )
        if journal is not None:
            print(f"journal {args.journal}: keep its head {_head(args.journal)} elsewhere", file=sys.stderr)
    if args.fail_on_fake and decisions["fake"]:
        return EXIT_FLAGGED
    return EXIT_NOT_JUDGED if set(statuses) != {"ok"} else EXIT_JUDGED


def remotes(words: list[str]) -> dict[str, str]:
    """Modality -> address from words like ``face=http://...``. Raises ConfigError for another form."""
    from deepassay.errors import ConfigError

    out = {}
    for word in words:
        modality, _, address = word.partition("=")
        if modality not in ("face", "voice") or not address or modality in out:
            raise ConfigError(f"--remote {word}", hint="write face=http://HOST:PORT/v2/models/NAME, once per modality")
        out[modality] = address
    return out


def _head(path: str) -> str:
    from deepassay.screening.journal import read_head

    head = read_head(path)
    return head["sha256"] if head else ""


def _settings_hash(settings: dict) -> str:
    """What two commands must have in common for their lines to stand in one file."""
    from deepassay.files import fingerprint, sha256_file
    from deepassay.screening.bundle import Bundle

    rest = {key: settings[key] for key in ("operating_point", "views", "prior")}
    rest |= {"limits": settings.get("limits", True), "max_bytes": settings.get("max_bytes")}
    site = [sha256_file(path) for path in settings["site"]]
    return fingerprint({**rest, "bundles": [Bundle.load(path).hash for path in settings["bundles"]], "site": site})


def _write_settings(part: str, settings: dict) -> None:
    from deepassay.files import write_text

    write_text(f"{part}.settings", _settings_hash(settings) + "\n")


def _resume(part: str, settings: dict, decisions, statuses) -> set[str]:
    """Paths whose lines are in an unfinished output, and their counts; an unfinished last line is cut off."""
    import json
    import os

    from deepassay.errors import ConfigError

    if not os.path.exists(part):
        return set()
    try:
        with open(f"{part}.settings", encoding="ascii") as stream:
            same = stream.read().strip() == _settings_hash(settings)
    except OSError:
        same = False
    if not same:
        raise ConfigError(
            f"{part} was begun with other bundles or settings",
            hint="give the same command as before, or move it away to begin anew",
        )
    done: set[str] = set()
    whole = 0
    for line in _whole_lines(part):
        row = json.loads(line)
        done.add(row["path"])
        decisions[row["decision"]] += 1
        statuses[row["status"]] += 1
        whole += len(line)
    with open(part, "r+b") as stream:
        stream.truncate(whole)
    return done


def _whole_lines(path: str) -> Iterator[bytes]:
    with open(path, "rb") as stream:
        yield from (line for line in stream if line.endswith(b"\n"))


def _cell(value) -> str:
    """A value as text; what is not ours and begins like a formula is quoted, because a spreadsheet would run it."""
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "@", "+", "-", "\t", "\r") else text


def _csv_line(verdict) -> str:
    import csv
    import io

    row = verdict.to_dict()
    rule = row["operating_point"] or {}
    row |= {
        "operating_point": rule.get("name"),
        "threshold": rule.get("threshold"),
        "warnings": "; ".join(row["warnings"]),
    }
    cells = [_cell(row[key]) for key in _CSV]
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


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
