"""A tool by command: limits hold, escapes are refused, refusals and failures are told apart; nothing runs unasked."""

import os
import sys
import time
from pathlib import Path

import pytest

from deepassay.errors import ConfigError
from deepassay.evidence import tool_command
from deepassay.evidence.tool_command import (
    ESCAPED,
    FAILED,
    MADE,
    NOTHING,
    REFUSED,
    TIMED_OUT,
    TOO_LARGE,
    ToolCommand,
    run_tool,
)

COPY = "import sys, shutil; shutil.copyfile(sys.argv[1], sys.argv[2])"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    return path


def tool(script=COPY, *more, **changes):
    values = {"command": [sys.executable, "-c", script, "{input}", "{output}", *more], "output_suffix": ".png",
              "timeout_s": 20.0}  # fmt: skip
    return ToolCommand(**{**values, **changes})


def run(source, one, **keywords):
    target = source.parent / "out" / "o.png"
    made = run_tool(one, source, target, allow_command=True, **keywords)
    assert target.exists() == (made.outcome == MADE)
    return made, target


def test_an_output_is_made_from_a_copy(source):
    made, target = run(source, tool())
    assert made.outcome == MADE
    assert target.read_bytes() == b"picture"
    eats = tool("import sys, os; os.rename(sys.argv[1], sys.argv[2])")
    assert run(source, eats)[0].outcome == MADE
    assert source.read_bytes() == b"picture"


def test_nothing_runs_without_leave(source):
    mark = source.parent / "ran"
    one = tool(f"open({str(mark)!r}, 'w')")
    with pytest.raises(ConfigError, match="--allow-command"):
        run_tool(one, source, source.parent / "o.png")
    assert not mark.exists()


def test_a_command_that_hangs_is_ended_with_its_children(source):
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(sys.argv[3], 'w').write(str(p.pid))\n"
        "time.sleep(60)"
    )
    note = source.parent / "pid"
    begin = time.monotonic()
    made, _ = run(source, tool(script, str(note), timeout_s=1.5))
    assert made.outcome == TIMED_OUT
    assert time.monotonic() - begin < 20
    child = int(note.read_text())
    for _ in range(50):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("a child of the command is still running")


@pytest.mark.parametrize(
    "script",
    [
        "import sys\nf = open(sys.argv[2], 'wb')\nwhile True: f.write(bytes(1 << 20))",
        "import sys, os\nfor i in range(1000): open(os.path.join(os.path.dirname(sys.argv[2]), str(i)), 'w')",
        "import sys, os, time\nfor i in range(6):\n open(f'{i}', 'wb').write(bytes(900000))\n"
        "time.sleep(30)",
    ],
)  # fmt: skip
def test_a_command_that_writes_too_much_is_ended(script, source):
    made, _ = run(source, tool(script, output_mb=2))
    assert made.outcome in (TOO_LARGE, FAILED)  # Python turns the signal at the size limit into an error of its own
    assert made.seconds < 25


def test_memory_is_limited(source):
    made, _ = run(source, tool("x = bytearray(600 << 20)", memory_mb=400))
    assert made.outcome == FAILED
    assert "MemoryError" in made.reason


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys, os; os.symlink(sys.argv[3], sys.argv[2])", "link"),
        ("import sys, os; os.link(sys.argv[3], sys.argv[2])", "second name"),
        ("import sys, os; os.mkfifo(sys.argv[2])", "plain file"),
        ("import sys, os; os.mkdir(sys.argv[2])", ""),
        (
            "import sys, os, shutil\nw = os.path.dirname(sys.argv[2])\nos.rename(w, w + 'x')\n"
            "os.symlink(os.path.dirname(sys.argv[3]), w)",
            "replaced by a link",
        ),
    ],
)
def test_outputs_that_lead_out_of_the_folder_are_refused(script, said, source):
    secret = source.parent / "output.png"
    secret.write_bytes(b"secret")
    if os.stat(source.parent).st_dev != os.stat("/tmp").st_dev and "os.link" in script:
        pytest.skip("a hard link needs one file system")
    made, _ = run(source, tool(script, str(secret)))
    assert made.outcome == ESCAPED
    assert said in made.reason
    assert secret.read_bytes() == b"secret"


def test_refusals_failures_and_silence_are_told_apart(source):
    ends = "import sys; sys.exit(int(sys.argv[3]))"
    assert run(source, tool(ends, "7", refusal_codes=[7]))[0].outcome == REFUSED
    failed, _ = run(source, tool("import sys; sys.stderr.write('no face found'); sys.exit(3)"))
    assert failed.outcome == FAILED
    assert "exit code 3: no face found" in failed.reason
    assert run(source, tool(ends, "0"))[0].outcome == NOTHING
    assert run(source, tool("import sys; open(sys.argv[2], 'w')"))[0].outcome == NOTHING


def test_the_environment_is_clean_and_there_is_no_shell(source, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    script = "import sys, os, json; json.dump(dict(os.environ), open(sys.argv[2], 'w'))"
    _, target = run(source, tool(script, environment={"MODEL": "m"}))
    text = target.read_text()
    assert "SECRET_TOKEN" not in text
    assert '"MODEL": "m"' in text
    named = tool("import sys; open(sys.argv[2], 'w').write(sys.argv[3])", "$(id); {seed}", seed=5)
    assert run(source, named, number=2)[1].read_text() == "$(id); 7"


def test_the_program_is_the_one_named(source, tmp_path):
    with pytest.raises(ConfigError, match="not there"):
        run(source, ToolCommand(command=["no-such-tool", "{input}", "{output}"], output_suffix=".png"))
    with pytest.raises(ConfigError, match="not the program whose hash"):
        run(source, tool(program_sha256="0" * 64))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": "swap {input} {output}"}, "give a list"),
        ({"command": []}, "give a list"),
        ({"command": ["swap", "{input}"]}, r"no \{output\}"),
        ({"output_suffix": "png"}, "output_suffix"),
        ({"output_suffix": "./../x"}, "output_suffix"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"per_stratum": 0}, "per_stratum"),
        ({"refusal_codes": [0]}, "success"),
    ],
)
def test_values_that_cannot_be_used(changes, said):
    with pytest.raises(ConfigError, match=said):
        tool(**changes)


def test_many_scratch_files_are_allowed_within_the_limit():
    assert tool_command.MOST_FILES >= 100
