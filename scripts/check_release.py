"""Builds the wheels, looks into them, installs them into a fresh environment and runs the README's commands from there.

    python scripts/check_release.py                 # the base install: no torch
    python scripts/check_release.py --train         # also `deepassay train` from an environment with the train extra
    python scripts/check_release.py --build-only    # versions, wheels and their content; installs nothing

Run it with the project's own environment, in which a small bundle for screening is trained. Packages come from the
index that is configured, in the versions of requirements.lock. One line a step; exit code 1 where any failed.
"""

import argparse
import email
import email.message
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "timm", "lightning", "transformers", "librosa", "facenet-pytorch", "onnx")
MOST_BYTES, MOST_REFERENCE_BYTES = 5_000_000, 40_000_000
NEEDED = (
    "deepassay/py.typed",
    "deepassay/configs/train.yaml",
    "deepassay/evidence/dossier.schema.json",
    "deepassay/screening/bundle.schema.json",
)
FOREIGN = {
    ".onnx", ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".jpg", ".png", ".mp4", ".wav", ".flac", ".mp3", ".pyc",
}  # fmt: skip
Step = Callable[[], str]


class Failed(Exception):
    """A step that did not hold; its text says why."""


def require(good: object, text: str) -> None:
    """Raise `Failed` with the text where something does not hold."""
    if not good:
        raise Failed(text)


def version_texts(root: Path) -> dict[str, str]:
    """Where a version is written, and which one stands there."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    out = {"pyproject.toml": str(project["version"])}
    for name, place, pattern in (
        ("src/deepassay/__init__.py", "src/deepassay/__init__.py", r'^__version__ = "([^"]+)"'),
        ("CHANGELOG.md", "CHANGELOG.md", r"^## \[?([0-9][^\] (]*)"),
        ("CITATION.cff", "CITATION.cff", r"^version: *[\"']?([^\"'\s]+)"),
    ):
        found = re.search(pattern, (root / place).read_text(encoding="utf-8"), re.MULTILINE)
        out[name] = found[1] if found else "no version"
    return out


def check_versions(root: Path = ROOT) -> str:
    """One version everywhere, and a lock file that has every package of the base install."""
    texts = version_texts(root)
    require(len(set(texts.values())) == 1, "versions differ: " + ", ".join(f"{k} {v}" for k, v in texts.items()))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(pins(root))
    missing = [name for name in map(plain_name, project["dependencies"]) if name not in locked]
    require(not missing, f"requirements.lock lacks {', '.join(missing)}; make lock")
    heading = re.search(r"^## .*$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    return f"{texts['pyproject.toml']} in {', '.join(texts)}; CHANGELOG says {heading[0][3:] if heading else ''!r}"


def plain_name(requirement: str) -> str:
    """The name of a requirement, normalised."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;@(]", requirement.strip(), maxsplit=1)[0]).lower()


def pins(root: Path = ROOT) -> dict[str, str]:
    """Package -> its line of requirements.lock, without hashes."""
    text = (root / "requirements.lock").read_text(encoding="utf-8")
    lines = [line.split(" \\")[0].strip() for line in text.splitlines() if re.match(r"^[A-Za-z0-9].*==", line)]
    return {plain_name(line): line for line in lines}


def check_citation(root: Path = ROOT) -> str:
    """CITATION.cff has what version 1.2.0 of its schema requires."""
    import yaml

    facts = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    require(isinstance(facts, dict), "CITATION.cff is no mapping")
    missing = [key for key in ("cff-version", "message", "title", "authors") if not facts.get(key)]
    require(not missing, f"CITATION.cff lacks {', '.join(missing)}")
    require(str(facts["cff-version"]) == "1.2.0", f"CITATION.cff is of version {facts['cff-version']}")
    person = {"family-names", "given-names", "name-particle", "name-suffix", "alias"}
    for author in facts["authors"]:
        require(
            isinstance(author, dict) and ("name" in author or person & set(author)),
            f"an author without a name: {author}",
        )
    known = {
        "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
        "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
        "repository-code", "title", "type", "url", "version",
    }  # fmt: skip
    require(set(facts) <= known, f"CITATION.cff has unknown keys: {sorted(set(facts) - known)}")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    require(facts.get("license") == project["license"], f"licence {facts.get('license')} is not that of pyproject.toml")
    return f"{facts['title']}, {len(facts['authors'])} author(s)"


def build(root: Path, folder: Path, targets: Sequence[str] = ("wheel",)) -> dict[str, Path]:
    """Build with hatchling, offline; the same sources give the same bytes."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    for target in targets:
        command += ["-t", target]
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        command,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    require(done.returncode == 0, f"hatchling in {root.name}: {tail(done)}")
    kinds = {"wheel": "*.whl", "sdist": "*.tar.gz"}
    out = {target: next(iter(folder.glob(kinds[target])), None) for target in targets}
    require(all(out.values()), f"hatchling wrote {[p.name for p in folder.iterdir()]}")
    return {target: path for target, path in out.items() if path is not None}


def tail(done: subprocess.CompletedProcess[str], most: int = 600) -> str:
    """The end of what a command said."""
    return f"code {done.returncode}: " + (done.stdout + done.stderr).strip()[-most:]


def metadata(wheel: Path) -> tuple[email.message.Message, dict[str, int], str]:
    """METADATA, file -> size, and entry_points.txt of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        name = next((n for n in sizes if n.endswith(".dist-info/METADATA")), "")
        require(name, f"{wheel.name} has no METADATA")
        doors = name.replace("METADATA", "entry_points.txt")
        return (
            email.message_from_bytes(archive.read(name)), sizes, archive.read(doors).decode() if doors in sizes else ""
        )  # fmt: skip


def check_wheel(wheel: Path, version: str) -> str:
    """Metadata and content of the main wheel."""
    facts, sizes, doors = metadata(wheel)
    require(
        (facts["Name"], facts["Version"]) == ("deepassay", version),
        f"{facts['Name']} {facts['Version']}, not {version}",
    )
    require(facts["License-Expression"] == "Apache-2.0", f"licence is {facts['License-Expression']}")
    require(facts["Requires-Python"], "no Requires-Python")
    require("deepassay = deepassay.cli:main" in doors, "no command deepassay")
    require("# deepassay" in str(facts.get_payload()), "the README is not its description")
    base = {plain_name(r) for r in facts.get_all("Requires-Dist") or [] if "extra ==" not in r}
    heavy = sorted(base & set(HEAVY))
    require(not heavy, f"the base install brings {', '.join(heavy)}")
    extras = set(facts.get_all("Provides-Extra") or [])
    require({"train", "serve"} <= extras, f"extras are {sorted(extras)}")
    lacking = [name for name in NEEDED if name not in sizes]
    require(not lacking, f"lacks {', '.join(lacking)}")
    require(any(n.endswith("licenses/LICENSE") for n in sizes), "lacks its licence")
    outside = [n for n in sizes if not n.startswith(("deepassay/", f"deepassay-{version}.dist-info/"))]
    require(not outside, f"holds {outside[:3]} outside its package")
    foreign = [n for n in sizes if Path(n).suffix.lower() in FOREIGN]
    require(not foreign, f"holds media, weights or caches: {foreign[:3]}")
    require(wheel.stat().st_size <= MOST_BYTES, f"{wheel.stat().st_size:,} bytes, at most {MOST_BYTES:,}")
    return f"{wheel.name}, {len(sizes)} files, {wheel.stat().st_size:,} bytes, {len(base)} packages in the base install"


def check_sdist(sdist: Path, wheel: Path, folder: Path) -> str:
    """The wheel built from the sdist has the content of the wheel built from the checkout."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (root,) = (folder / "unpacked").iterdir()
    again = build(root, folder / "again")["wheel"]
    contents = []
    for one in (wheel, again):
        with zipfile.ZipFile(one) as archive:
            contents.append({i.filename: i.CRC for i in archive.infolist()})
    differing = sorted(set(contents[0].items()) ^ set(contents[1].items()))
    require(not differing, f"the wheel from the sdist differs in {differing[0][0] if differing else ''}")
    return f"{sdist.name} gives the same wheel"


def check_reference(wheel: Path) -> str:
    """The second wheel: bundles, and no code of deepassay."""
    facts, sizes, doors = metadata(wheel)
    require(facts["Name"] == "deepassay-reference", f"is called {facts['Name']}")
    require("[deepassay.bundles]" in doors, "offers no bundle to `deepassay screen`")
    require(not [n for n in sizes if n.startswith("deepassay/")], "holds files of deepassay")
    require(any(n.endswith("LICENSE") for n in sizes), "has no licence of its own")
    require(sum(n.endswith("detector.onnx") for n in sizes) >= 2, "has fewer than two detectors")
    total = sum(sizes.values())
    require(total <= MOST_REFERENCE_BYTES, f"{total:,} bytes unpacked, at most {MOST_REFERENCE_BYTES:,}")
    return f"{wheel.name}, {total:,} bytes unpacked"


def readme_verbs(root: Path = ROOT) -> list[str]:
    """Verbs of every ``deepassay VERB`` in the code of the README, in order."""
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return list(dict.fromkeys(re.findall(r"^deepassay ([a-z]+)", "".join(blocks), re.MULTILINE)))


class Environment:
    """A fresh virtual environment, apart from this one.

    Args:
        folder: to be made.
        wheels: to be installed, with an extra where ``extra`` is given.
        lock: where versions come from.
    """

    def __init__(self, folder: Path, wheels: Sequence[Path], *, extra: str = "", lock: Mapping[str, str]) -> None:
        self.folder = folder
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        constraints = folder.with_suffix(".constraints.txt")
        constraints.write_text("\n".join(lock.values()) + "\n", encoding="utf-8")
        targets = [str(wheels[0]) + (f"[{extra}]" if extra else ""), *map(str, wheels[1:])]
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
        python, uv = (
            str(self.bin / "python"),
            shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv"),
        )
        install = (
            [uv, "pip", "install", "--quiet", "--python", python] if uv else [python, "-m", "pip", "install", "--quiet"]
        )
        done = subprocess.run([*install, "-c", str(constraints), *targets], capture_output=True, text=True, check=False)
        require(done.returncode == 0, f"could not be installed, {tail(done)}")

    def run(self, *command: str, accept: Sequence[int] = (0,), cwd: Path | None = None) -> str:
        """Run a program of this environment, away from the checkout; its output, or `Failed`."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]], cwd=cwd or self.folder.parent, capture_output=True, text=True,
            check=False, env={**clean, "DEEPASSAY_CACHE": str(self.folder.parent / "cache"), "COLUMNS": "120"},
        )  # fmt: skip
        require(done.returncode in accept, f"`{' '.join(command)}` ended with {tail(done)}")
        return done.stdout + done.stderr

    def packages(self) -> dict[str, str]:
        """Installed package -> version."""
        code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        return {plain_name(name): version for name, version in json.loads(self.run("python", "-c", code)).items()}


def small_bundle(folder: Path) -> tuple[Path, Path]:
    """A bundle and a recording, made by the environment that runs this script."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    overrides = (
        "experiment=demo_voice", "detector=lcnn_tiny", f"corpus.root={folder}/voices", "corpus.speakers=8",
        "corpus.per_speaker=4", f"store.store_folder={folder}/stores", "store.workers=0", "trainer.max_epochs=1",
        "trainer.progress=false", "then=[export]", f"hydra.run.dir={folder}/run",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "deepassay.cli", "train", *overrides], cwd=folder, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    require(done.returncode == 0, f"no bundle could be made, {tail(done)}")
    return folder / "run" / "bundle", next((folder / "voices").rglob("*.flac"))


def base_steps(place: Environment, work: Path, version: str, reference: bool) -> Iterator[tuple[str, Step]]:
    """What an operator and an assessor do with the base install."""

    def light() -> str:
        found = place.packages()
        heavy = sorted(set(found) & set(HEAVY))
        require(not heavy, f"the base install brought {', '.join(heavy)}")
        return f"{len(found)} packages, none of {', '.join(HEAVY[:4])} ..."

    def says_version() -> str:
        text = place.run("deepassay", "--version").strip()
        require(text == f"deepassay {version}", f"says {text!r}")
        return text

    def helps() -> str:
        text = place.run("deepassay", "--help")
        verbs = readme_verbs()
        unknown = [verb for verb in verbs if not re.search(rf"^  {verb} ", text, re.MULTILINE)]
        require(not unknown, f"the README names verbs that are not there: {unknown}")
        for verb in verbs:
            place.run("deepassay", verb, "--help")
        return f"--help, and --help of the {len(verbs)} verbs of the README"

    def doctor() -> str:
        facts = json.loads(place.run("deepassay", "doctor", "--json", accept=(0, 1)))
        return f"doctor answers ({', '.join(sorted(facts))[:60]})"

    def screens() -> str:
        bundle, recording = small_bundle(work)
        command = ("deepassay", "screen", str(recording), "--bundle", str(bundle), "--quiet")
        verdict = json.loads(place.run(*command).splitlines()[-1])
        require(verdict["status"] == "ok" and verdict["llr"] is not None, f"the verdict is {verdict}")
        broken = work / "broken.flac"
        broken.write_bytes(recording.read_bytes()[:99])
        text = place.run("deepassay", "screen", str(broken), "--bundle", str(bundle), "--quiet", accept=(3,))
        require(json.loads(text.splitlines()[-1])["llr"] is None, "a broken file got a score")
        journal = work / "verdicts.journal"
        place.run(*command, "--journal", str(journal), "--output", str(work / "verdicts.jsonl"))
        place.run("deepassay", "journal", "verify", str(journal))
        place.run("deepassay", "bundle", "show", str(bundle))
        place.run("deepassay", "bundle", "verify", str(bundle))
        code = (
            "from deepassay.screening.bundle import Bundle; from deepassay.screening.screener import Screener; "
            f"print(Screener([Bundle.load({str(bundle)!r})]).screen({str(recording)!r})[0].decision)"
        )
        decision = place.run("python", "-c", code).strip()
        require(decision == verdict["decision"], f"Python says {decision!r}, the command {verdict['decision']!r}")
        return f"a recording ({verdict['decision']}), a broken file (abstains, code 3), journal, bundle show and verify"

    def measures() -> str:
        rows = "\n".join(f"u{i},{('real', 'fake')[i % 2]},{(i * 37 % 100) / 50 + i % 2},s{i % 30}" for i in range(120))
        (work / "scores.csv").write_text("id,label,score,speaker\n" + rows + "\n", encoding="utf-8")
        columns = ("--id", "id", "--label", "label", "--score", "score", "--cluster", "speaker")
        text = place.run("deepassay", "metrics", str(work / "scores.csv"), "--higher", "fake", *columns)
        require("AUC" in text, "metrics prints no AUC")
        return "metrics of a CSV of scores"

    def others() -> str:
        place.run("deepassay", "corpus", "list")
        import_of_plan = "from deepassay.cli import config_root; print(config_root() / 'protocol' / 'default.yaml')"
        place.run("deepassay", "protocol", "plan", place.run("python", "-c", import_of_plan).strip())
        key = work / "release.key"
        place.run("deepassay", "seal", "keygen", str(key))
        return "corpus list, protocol plan, seal keygen"

    def refuses() -> str:
        text = place.run("deepassay", "train", "experiment=demo_voice", f"hydra.run.dir={work}/no", accept=(2,))
        require("deepassay[train]" in text, f"train without its extra says {text[-300:]!r}")
        return "train without its extra ends with a hint"

    def screens_by_default() -> str:
        place.run("deepassay", "bundle", "list")
        recording = next((work / "voices").rglob("*.flac"))
        verdict = json.loads(
            place.run("deepassay", "screen", str(recording), "--quiet", accept=(0, 3)).splitlines()[-1]
        )
        require(verdict["bundle"], f"no reference bundle judged it: {verdict}")
        return f"screen without --bundle, by {verdict['detector']}"

    yield "base: light", light
    yield "base: version", says_version
    yield "base: help", helps
    yield "base: doctor", doctor
    yield "base: screen", screens
    yield "base: metrics", measures
    yield "base: other verbs", others
    yield "base: no train", refuses
    if reference:
        yield "reference: screen", screens_by_default


def train_step(place: Environment, work: Path) -> str:
    """A training in the environment with the extra, from the wheel's own configs."""
    place.run(
        "deepassay", "train", "experiment=demo_voice", "detector=lcnn_tiny", f"corpus.root={work}/train_voices",
        "corpus.speakers=12", "corpus.per_speaker=4", f"store.store_folder={work}/train_stores", "store.workers=0",
        "trainer.max_epochs=1", "replicates=100", f"hydra.run.dir={work}/train_run",
    )  # fmt: skip
    require((work / "train_run" / "metrics.json").is_file(), "no metrics.json")
    return "train, export and evaluate from the wheel"


class Report:
    """Steps and their outcomes, printed one a line."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def step(self, name: str, what: Step) -> bool:
        """Do one step and print what came of it."""
        begin = time.monotonic()
        try:
            text, mark = what(), "pass"
        except Failed as failure:
            text, mark = str(failure), "FAIL"
            self.failed.append(name)
        print(f"{mark}  {name:<18} {time.monotonic() - begin:6.1f} s  {text}", flush=True)
        return mark == "pass"


def main(arguments: list[str] | None = None) -> int:
    """Run the steps; 1 where any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, help="keep what was built there (default: thrown away)")
    parser.add_argument("--build-only", action="store_true", help="install nothing")
    parser.add_argument("--train", action="store_true", help="also an environment with the train extra (several GB)")
    args = parser.parse_args(arguments)
    report = Report()
    report.step("versions", check_versions)
    report.step("citation", check_citation)
    version = version_texts(ROOT)["pyproject.toml"]
    with tempfile.TemporaryDirectory(prefix="deepassay-release-") as name:
        folder = Path(name)
        dist = args.dist or folder / "dist"
        built: dict[str, Path] = {}
        reference: dict[str, Path] = {}
        kinds = ("sdist", "wheel")
        report.step(
            "build", lambda: ", ".join(p.name for p in (built.update(build(ROOT, dist, kinds)) or built).values())
        )
        if built:
            report.step("wheel", lambda: check_wheel(built["wheel"], version))
            report.step("sdist", lambda: check_sdist(built["sdist"], built["wheel"], folder))
        if (ROOT / "models" / "face-reference" / "bundle.json").is_file():
            made = folder / "reference"
            report.step(
                "reference: build",
                lambda: str((reference.update(build(ROOT / "models", made)) or reference)["wheel"].name),
            )
            if reference:
                report.step("reference: wheel", lambda: check_reference(reference["wheel"]))
                if args.dist:
                    shutil.copy(reference["wheel"], dist)
        else:
            print("skip  reference: build           models/ holds no bundles yet")
        if built and not args.build_only:
            _installed(report, folder, built["wheel"], reference.get("wheel"), version, train=args.train)
    print(f"{len(report.failed)} failed: {', '.join(report.failed)}" if report.failed else "everything holds")
    return int(bool(report.failed))


def _installed(report: Report, folder: Path, wheel: Path, reference: Path | None, version: str, *, train: bool) -> None:
    """The steps that need fresh environments."""
    places: dict[str, Environment] = {}
    work = folder / "work"
    work.mkdir()
    lock = pins()

    def install(name: str, extra: str) -> str:
        wheels = [wheel, *([reference] if reference is not None else [])]
        places[name] = Environment(folder / name, wheels, extra=extra, lock=lock)
        return f"{len(places[name].packages())} packages in the versions of requirements.lock"

    if report.step("base: install", lambda: install("base", "")):
        for name, what in base_steps(places["base"], work, version, reference is not None):
            report.step(name, what)
    if train and report.step("train: install", lambda: install("full", "train")):
        report.step("train: run", lambda: train_step(places["full"], work))


if __name__ == "__main__":
    sys.exit(main())
