"""An outside detector behind a command line: it is given files and prints one score per file."""

import csv
import io
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from deepassay.adapters.rows import check_higher
from deepassay.errors import ConfigError, ScoreError
from deepassay.labels import Status
from deepassay.manifest import Manifest, Sample
from deepassay.scores import Scored, ScoreTable

_TAIL = 400


class CommandDetector:
    """Runs a command on files in batches and reads ``path,score`` lines from its standard output.

    The command gets the absolute paths where its arguments say ``{files}`` (as separate arguments) or, without that
    word, one path per line on standard input. It must print a header ``path,score`` and one line per file; an empty
    score means that it gives none. What it prints on standard error is shown when it fails.

    Args:
        command: program and arguments, never a shell line.
        higher: ``fake`` or ``real``: what a higher score means to it.
        name: for tables.
        batch_size: files per run.
        timeout_s: for one run.
        allow_command: must be True: a configuration alone may not start programs.
        sha256: hash of the program or weights, kept as the detector's identity.

    Raises:
        ConfigError: not allowed, or an empty command.
    """

    def __init__(
        self,
        *,
        command: Sequence[str],
        higher: str,
        name: str = "outside command",
        batch_size: int = 64,
        timeout_s: float = 600.0,
        allow_command: bool = False,
        sha256: str = "",
    ) -> None:
        if not command or isinstance(command, str):
            raise ConfigError(
                f"command is {command!r}", hint="give a list: the program and each argument as one string"
            )
        if batch_size < 1 or timeout_s <= 0:
            raise ConfigError(f"batch_size {batch_size} and timeout_s {timeout_s}", hint="both must be above 0")
        self.command, self.name, self.batch_size = list(command), name, batch_size
        self.timeout_s, self.allow_command, self.sha256 = timeout_s, allow_command, sha256
        self.higher = check_higher(higher, Path(command[0]))

    def score(self, paths: Sequence[Path]) -> dict[Path, float | None]:
        """Scores in our polarity (higher = more likely fake) by file; None where the command gives none.

        Raises:
            ConfigError: commands are not allowed.
            ScoreError: the command fails, takes too long, or prints something else than one line per file.
        """
        if not self.allow_command:
            raise ConfigError(
                f"detector {self.name!r} wants to run {self.command[0]!r}",
                hint="read the command, and allow it with --allow-command",
            )
        files = [str(Path(p).resolve()) for p in paths]
        if any("\n" in f for f in files):
            raise ScoreError("a file name holds a line break", hint="rename the file")
        inline = "{files}" in self.command
        arguments = [part for word in self.command for part in (files if word == "{files}" else [word])]
        try:
            done = subprocess.run(
                arguments,
                input=None if inline else "\n".join(files) + "\n",
                stdin=subprocess.DEVNULL if inline else None,
                capture_output=True,
                text=True,
                timeout=self.timeout_s,
                check=False,
            )
        except OSError as error:
            raise ScoreError(
                f"{self.name}: {self.command[0]!r} cannot be started ({error})", hint="check the path and the rights"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ScoreError(
                f"{self.name}: no answer within {self.timeout_s:g} s for {len(files)} files",
                hint="raise timeout_s or lower batch_size",
            ) from error
        if done.returncode != 0:
            raise ScoreError(
                f"{self.name}: the command ended with code {done.returncode}: {done.stderr.strip()[-_TAIL:]}",
                hint="run it by hand on one file",
            )
        return self._read(done.stdout, files)

    def _read(self, text: str, files: Sequence[str]) -> dict[Path, float | None]:
        reader = csv.DictReader(io.StringIO(text))
        if not {"path", "score"} <= set(reader.fieldnames or ()):
            raise ScoreError(
                f"{self.name}: the command printed no header 'path,score' but {text.strip()[:80]!r}",
                hint="print a header and one line per file on standard output, everything else on standard error",
            )
        wanted, out = set(files), {}
        for row in reader:
            file = str(Path(row["path"] or "").resolve())
            if file not in wanted or Path(file) in out:
                raise ScoreError(
                    f"{self.name}: a line for {row['path']!r}, which it was not asked about or has answered already",
                    hint="print exactly one line per given file, with its path as given",
                )
            word = (row["score"] or "").strip()
            try:
                value = float(word) if word else None
            except ValueError as error:
                raise ScoreError(
                    f"{self.name}: score {word!r} is not a number", hint="print a number or nothing"
                ) from error
            out[Path(file)] = None if value is None else value if self.higher == "fake" else 0.0 - value
        if len(out) != len(wanted):
            raise ScoreError(
                f"{self.name}: {len(wanted) - len(out)} of {len(wanted)} files got no line",
                hint="print a line with an empty score where there is no answer",
            )
        return out

    def score_manifest(self, manifest: Manifest, meta: Mapping[str, object] | None = None) -> ScoreTable:
        """A score table with one row per sample; no or a non-finite score becomes status ``error`` with a reason."""
        scored: dict[str, Scored] = {}
        for samples in _batches(iter(manifest), self.batch_size):
            by_file = {manifest.file(s).resolve(): s for s in samples}
            for file, value in self.score(list(by_file)).items():
                scored[by_file[file].sample_id] = _scored(value)
            for sample in samples:  # two samples may be one file
                scored.setdefault(sample.sample_id, scored[by_file[manifest.file(sample).resolve()].sample_id])
        identity = {"detector": self.name, "detector_sha256": self.sha256, "higher_in_file": self.higher}
        return ScoreTable.from_scored(manifest, scored, {**identity, **(meta or {})})


def _scored(value: float | None) -> Scored:
    if value is None:
        return Scored(status=Status.ERROR, reason="the detector gave no score")
    if value != value or value in (float("inf"), float("-inf")):
        return Scored(status=Status.ERROR, reason=f"the detector said {value}")
    return Scored(score=value, n_views=1)


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    while batch := list(islice(samples, size)):
        yield batch
