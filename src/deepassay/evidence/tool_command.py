"""The tool under assessment as a command: one output per input, run with limits, every outcome counted.

The command gets a copy of the input and the name of the output in a fresh folder of its own. What limits can hold, they
hold: time, memory, size and number of files, a cleaned environment, no shell, no standard input, its own process group.
They are no jail: a program that means harm can still read what its user can read and use the network. Only run a tool
that you would run by hand, as a user that may do nothing else.
"""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepassay.errors import ConfigError
from deepassay.files import atomic_path, sha256_file

INPUT, OUTPUT, SEED = "{input}", "{output}", "{seed}"
MADE, REFUSED, FAILED, TIMED_OUT, TOO_LARGE, NOTHING, ESCAPED = (
    "made", "refused", "failed", "timed_out", "too_large", "nothing", "escaped",
)  # fmt: skip
OUTCOMES = (MADE, REFUSED, FAILED, TIMED_OUT, TOO_LARGE, NOTHING, ESCAPED)
MOST_FILES = 200  # in the command's folder, scratch files included
_LOOK_S = 0.05
_TAIL = 300
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCommand:
    """How one version of a tool makes an output from an input.

    Args:
        command: program and arguments, never a shell line; ``{input}``, ``{output}`` and, where it takes one,
            ``{seed}`` stand for the file names and the number given to each run.
        output_suffix: ending of the output's name, with its dot: ``.png``.
        per_stratum: inputs drawn from each stratum of the real test samples.
        strata: columns or attributes of the manifest that part the inputs (``gender``, ``channel``); none: one stratum.
        seed: of the draw; also what ``{seed}`` begins with.
        timeout_s, memory_mb, output_mb: limits of one run; ``output_mb`` holds for all files in its folder.
        refusal_codes: exit codes by which the tool says that it refuses the input; they are counted, not failures.
        environment: variables that the tool needs, beside PATH, HOME, TMPDIR and LANG.
        program_sha256: hash of the program; a run with another one is refused.

    Raises:
        ConfigError: a value that cannot be used.
    """

    command: Sequence[str]
    output_suffix: str
    per_stratum: int = 60
    strata: Sequence[str] = ()
    seed: int = 0
    timeout_s: float = 120.0
    memory_mb: int = 8192
    output_mb: int = 256
    refusal_codes: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    program_sha256: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.command, str) or not self.command or not all(isinstance(w, str) for w in self.command):
            raise ConfigError(
                f"the tool's command is {self.command!r}", hint="give a list: the program and each argument as text"
            )
        for word in (INPUT, OUTPUT):
            if not any(word in part for part in self.command[1:]):
                raise ConfigError(
                    f"the tool's command has no {word}", hint=f"write {word} where the file's name belongs"
                )
        suffix = self.output_suffix
        if not suffix.startswith(".") or not suffix[1:].isalnum():
            raise ConfigError(f"output_suffix is {suffix!r}", hint="write the file's ending, such as .png")
        if self.per_stratum < 1 or min(self.timeout_s, self.memory_mb, self.output_mb) <= 0:
            raise ConfigError(
                f"per_stratum {self.per_stratum}, timeout_s {self.timeout_s}, memory_mb {self.memory_mb}, "
                f"output_mb {self.output_mb}",
                hint="all of them are above 0",
            )
        if 0 in self.refusal_codes:
            raise ConfigError("refusal_codes holds 0, which means success", hint="name the codes of refusals only")
        object.__setattr__(self, "command", tuple(self.command))
        object.__setattr__(self, "strata", tuple(self.strata))
        object.__setattr__(self, "refusal_codes", tuple(int(code) for code in self.refusal_codes))
        object.__setattr__(self, "environment", {str(k): str(v) for k, v in self.environment.items()})

    def program(self) -> Path:
        """The program's file.

        Raises:
            ConfigError: there is none, or its hash is not the one given.
        """
        found = shutil.which(self.command[0])
        if found is None:
            raise ConfigError(
                f"the tool's program {self.command[0]!r} is not there or may not be run",
                hint="give its path, and check that it is executable",
            )
        if self.program_sha256 is not None and sha256_file(found) != self.program_sha256:
            raise ConfigError(
                f"{found} is not the program whose hash the tool names",
                hint="assess the version that the hash names, or give the new version and its hash",
            )
        return Path(found)


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one input: ``outcome`` of `OUTCOMES`, seconds, and why where nothing was made."""

    outcome: str
    seconds: float
    reason: str = ""


def run_tool(tool: ToolCommand, source: Path, target: Path, *, number: int = 0, allow_command: bool = False) -> Made:
    """Run the command on one input; ``target`` exists afterwards exactly where the outcome is ``made``.

    Args:
        source: the input; the command sees a copy.
        target: where the output goes.
        number: of the input within the draw; ``{seed}`` is the draw's seed plus this.
        allow_command: must be True: a configuration alone may not start programs.

    Raises:
        ConfigError: not allowed, no program, or a system without the limits.
    """
    if not allow_command:
        raise ConfigError(
            f"the tool wants to run {tool.command[0]!r}", hint="read its command, and allow it with --allow-command"
        )
    if sys.platform == "win32":
        raise ConfigError("limits of a command are not there on Windows", hint="run the assessment on Linux or macOS")
    program = tool.program()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="deepassay-tool-", ignore_cleanup_errors=True) as name:
        room = Path(os.path.realpath(name))
        work, errors = room / "work", room / "stderr"
        work.mkdir()
        given = work / f"input{source.suffix}"
        shutil.copyfile(source, given)
        out = work / f"output{tool.output_suffix}"
        arguments = [str(program)] + [
            part.replace(INPUT, str(given)).replace(OUTPUT, str(out)).replace(SEED, str(tool.seed + number))
            for part in tool.command[1:]
        ]
        fault = _watched(tool, arguments, work, errors)
        seconds = time.monotonic() - begin
        if fault is not None:
            return Made(fault[0], seconds, fault[1])
        fault = _take(out, work, target, tool.output_mb * _MIB)
        return Made(MADE, seconds) if fault is None else Made(fault[0], seconds, fault[1])


def _watched(tool: ToolCommand, arguments: Sequence[str], work: Path, errors: Path) -> tuple[str, str] | None:
    """Run to the end within the limits; what went wrong, or None."""
    scratch = work / "tmp"
    scratch.mkdir()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath), "HOME": str(work), "TMPDIR": str(scratch), "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1", **tool.environment,
    }  # fmt: skip
    with open(errors, "wb") as stream:
        try:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stream, cwd=work,
                env=environment, start_new_session=True, close_fds=True, preexec_fn=_limits(tool),
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"the tool's program {arguments[0]!r} cannot be started ({error})", hint="run it by hand on one file"
            ) from error
        end = time.monotonic() + tool.timeout_s
        fault: tuple[str, str] | None = None
        try:
            while process.poll() is None:
                if time.monotonic() > end:
                    fault = (TIMED_OUT, f"no end within {tool.timeout_s:g} s")
                    break
                fault = _overfull(work, tool.output_mb * _MIB)
                if fault is not None:
                    break
                time.sleep(_LOOK_S)
        finally:
            # Whatever it left running goes with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if fault is None:
        fault = _overfull(work, tool.output_mb * _MIB)
    if fault is not None:
        return fault
    if process.returncode in tool.refusal_codes:
        return REFUSED, f"exit code {process.returncode}"
    if process.returncode == -getattr(signal, "SIGXFSZ", -1):
        return TOO_LARGE, f"a file of more than {tool.output_mb} MiB"
    if process.returncode == -getattr(signal, "SIGXCPU", -1):
        return TIMED_OUT, f"more than {tool.timeout_s:g} s of processor time"
    if process.returncode != 0:
        tail = errors.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
        return FAILED, f"exit code {process.returncode}: {' '.join(tail.split())}".rstrip(": ")
    return None


def _limits(tool: ToolCommand) -> Callable[[], None]:
    import resource

    memory, largest = tool.memory_mb * _MIB, tool.output_mb * _MIB
    processor = int(tool.timeout_s * (os.cpu_count() or 1)) + 1

    def apply() -> None:
        for what, value in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_FSIZE, largest),
            (resource.RLIMIT_CPU, processor),
            (resource.RLIMIT_CORE, 0),
        ):
            _, most = resource.getrlimit(what)
            bound = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(what, (bound, bound))
        os.umask(0o077)

    return apply


def _overfull(folder: Path, most: int) -> tuple[str, str] | None:
    """Whether the folder holds more than allowed; links are counted and never followed."""
    files, size = 0, 0
    stack = [folder]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > MOST_FILES:
                        return TOO_LARGE, f"more than {MOST_FILES} files"
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(Path(entry.path))
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
        except OSError:  # it went away while we looked
            continue
        if size > most:
            return TOO_LARGE, f"more than {most // _MIB} MiB"
    return None


def _take(out: Path, work: Path, target: Path, most: int) -> tuple[str, str] | None:
    """Copy the output where it is a plain file of the command's own folder; links are never followed."""
    if os.path.realpath(work) != str(work) or os.path.realpath(out.parent) != str(work):
        return ESCAPED, "its folder was replaced by a link"
    try:
        handle = os.open(out, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return NOTHING, "no output was written"
    except OSError:
        kind = "a link" if out.is_symlink() else "unreadable"
        return ESCAPED, f"the output is {kind}"
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        os.close(handle)
        return ESCAPED, "the output is no plain file"
    with os.fdopen(handle, "rb") as stream:
        if facts.st_nlink != 1:
            return ESCAPED, "the output is a second name of another file"
        if facts.st_size == 0:
            return NOTHING, "the output is empty"
        if facts.st_size > most:
            return TOO_LARGE, f"more than {most // _MIB} MiB"
        with atomic_path(target) as temporary, open(temporary, "wb") as copy:
            shutil.copyfileobj(stream, copy)
    return None
