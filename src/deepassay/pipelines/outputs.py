"""A tool's outputs, given as files or made by its command from real test samples: a run folder ready to be assessed."""

import contextlib
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from deepassay.errors import ConfigError
from deepassay.evidence.language import LANGUAGES, Words
from deepassay.evidence.protocol import Protocol, Register
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.evidence.tool_command import FAILED, MADE, REFUSED, Made, ToolCommand, run_tool
from deepassay.files import fingerprint, sha256_file, slug, write_json
from deepassay.labels import FAKE, REAL, Unusable
from deepassay.manifest import Manifest, Sample, join
from deepassay.marks.sample import files_below
from deepassay.media.probe import probe
from deepassay.modality.views import Modality, Views
from deepassay.pipelines.folder import RunFolder
from deepassay.screening.bundle import Bundle
from deepassay.store import Store, prepare_store

FOLDER = "assessments"
JOURNAL = "journal.jsonl"
_WORD = {FAILED: "failed_run"}
_NOTES = (".txt", ".md", ".csv", ".json", ".log", ".yaml")  # beside outputs, and none themselves


class BothStores:
    """Prepared views of a run's samples and of the tool's outputs, behind the one method that scoring needs."""

    def __init__(self, first: Store, second: Store) -> None:
        self.first, self.second = first, second
        self.fingerprint = first.fingerprint

    def views(self, sample_id: str) -> Views:
        """As `Store.views`."""
        return (self.second if sample_id in self.second else self.first).views(sample_id)


@dataclass(frozen=True)
class AssessmentFolder(RunFolder):
    """A run's detector and data with one tool's outputs among the test samples."""

    def store(self, modality: Modality) -> Any:
        """Views of both."""
        return BothStores(
            super().store(modality), Store.open(self.path / "outputs" / self.facts["outputs_store"], modality=modality)
        )


def with_outputs(
    run: RunFolder,
    tool: ToolUnderAssessment,
    *,
    allow_command: bool,
    console: Console,
    protocol: Protocol | None = None,
) -> tuple[RunFolder, ToolUnderAssessment]:
    """Take the outputs of a tool, or make them where it is a command, and add them to the run's test samples.

    The same inputs are drawn for every version of a tool, as long as run, strata and seed stay the same; finished
    outputs are kept, so an interrupted run goes on. Openings of the run's test labels that are on record come along:
    the real samples are the same.

    Args:
        protocol: of the assessment; frozen already in the run, it keeps the time of that.

    Returns:
        The folder to assess and the tool with what is now known of its draw; both as given where its outputs are part
        of the run's data.

    Raises:
        ConfigError: commands are not allowed, there is nothing to draw from, another command was used under this
            version, or no input gave an output.
    """
    if tool.command is None and tool.outputs is None:
        return run, tool
    manifest = run.manifest()
    if tool.generator in set(manifest.column("generator")):
        raise ConfigError(
            f"generator {tool.generator!r} is in the run's data already",
            hint="give the outputs that the command makes a generator name of their own",
        )
    place = run.path / FOLDER / f"{slug(tool.name)}_{slug(tool.version)}"
    if tool.command is None:
        given, matched = given_outputs(manifest, tool)
        console.print(f"  outputs: {len(given)} given, {matched} of them matched to a real sample of the run")
        (place / "outputs").mkdir(parents=True, exist_ok=True)
        _carry_openings(run, place, protocol)
        return _folder(run, manifest, given, place, {}), _told(tool, len(given), matched)
    inputs, pool = draw(manifest, tool)
    console.print(f"  outputs: {len(inputs)} of {pool} real test samples go through {tool.command.command[0]}")
    made = make_outputs(manifest, inputs, tool, place / "outputs", allow_command=allow_command, console=console)
    counts = Counter(one.outcome for one in made.values())
    console.print("  outputs: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.most_common()))
    if not counts[MADE]:
        first = next(iter(made.values()))
        raise ConfigError(
            f"the command of {tool.name} made no output ({first.outcome}: {first.reason})",
            hint="run it by hand on one file; raise its limits where they were reached",
        )
    _carry_openings(run, place, protocol)
    outputs = _manifest(manifest, inputs, made, tool, place / "outputs")
    return _folder(run, manifest, outputs, place, made), _described(tool, tool.command, inputs, pool, counts)


def _carry_openings(run: RunFolder, place: Path, protocol: Protocol | None) -> None:
    before, after = Register(run.protocol), AssessmentFolder(place).protocol
    if after.exists() or not before.openings():
        return
    after.mkdir(parents=True)
    names = ["openings.jsonl"]
    if protocol is not None and before.frozen and _frozen(run) == protocol.sha256:
        names.append("protocol.json")
    for name in names:
        shutil.copyfile(run.protocol / name, after / name)


def _frozen(run: RunFolder) -> str:
    return str(json.loads((run.protocol / "protocol.json").read_text(encoding="utf-8"))["sha256"])


def given_outputs(manifest: Manifest, tool: ToolUnderAssessment) -> tuple[Manifest, int]:
    """The outputs that the tool's YAML names, as fake test samples, and how many have their original in the run.

    Raises:
        ConfigError: nothing there, or rows that are not outputs of this tool.
        ManifestError: a CSV that is no manifest.
    """
    assert tool.outputs is not None
    path = Path(tool.outputs)
    originals = _originals(manifest)
    if path.is_dir():
        files = [one for one in files_below([path]) if not one.name.startswith(".") and one.suffix not in _NOTES]
        rows = [_one_given(one, path, tool, originals) for one in files]
        root = path
    elif path.is_file():
        root = path.parent
        rows = [_one_row(sample, tool, originals) for sample in Manifest.read_csv(path, root)]
    else:
        raise ConfigError(f"{path}: no outputs of {tool.name} there", hint="give a folder of outputs or a CSV of them")
    if not rows:
        raise ConfigError(f"{path} holds no output of {tool.name}", hint="give a folder of outputs or a CSV of them")
    known = {str(source) for source in manifest.column("source_id")} - {""}
    matched = sum(sample.source_id in known for sample in rows)
    return Manifest.from_samples(rows, root, {"name": tool.name, "synthetic": manifest.synthetic}), matched


def _originals(manifest: Manifest) -> dict[str, Sample]:
    """Real samples of any split by id and by file name without its ending; names that two files share are left out.

    An output of a training sample is matched too, so that the overlap is found and not hidden.
    """
    out: dict[str, Sample] = {}
    twice: set[str] = set()
    for sample in manifest:
        if sample.label != REAL:
            continue
        for name in {sample.sample_id, Path(sample.path).stem}:
            if name in out:
                twice.add(name)
            out[name] = sample
    return {name: sample for name, sample in out.items() if name not in twice}


def _one_given(path: Path, root: Path, tool: ToolUnderAssessment, originals: Mapping[str, Sample]) -> Sample:
    name = path.relative_to(root).as_posix()
    own = originals.get(path.stem)
    facts: dict[str, Any] = {}
    with contextlib.suppress(Unusable):
        facts = {k: v for k, v in probe(path).items() if k not in ("media", "container") and v is not None}
    return Sample(
        sample_id=f"{tool.generator}:{name}", path=name, media=tool.media, modality=tool.modality, label=FAKE,
        source_id=(own.source_id or own.sample_id) if own else f"{tool.generator}:{path.stem}",
        subjects=own.subjects if own else (), generator=tool.generator, generator_family=tool.generator,
        corpus=own.corpus if own else tool.name, split="test", attributes=own.attributes if own else {},
        licence=own.licence if own else "", sha256=sha256_file(path), **facts,
    )  # fmt: skip


def _one_row(sample: Sample, tool: ToolUnderAssessment, originals: Mapping[str, Sample]) -> Sample:
    if sample.label == REAL or sample.generator not in ("", tool.generator):
        kind = "is real" if sample.label == REAL else f"comes from {sample.generator!r}"
        raise ConfigError(
            f"{tool.outputs}: sample {sample.sample_id!r} {kind}, not from {tool.generator!r}",
            hint="name outputs of this tool only; real samples come from the run",
        )
    own = originals.get(sample.source_id) or originals.get(Path(sample.path).stem)
    values = {name: getattr(sample, name) for name in sample.__slots__}
    changes = {
        "sample_id": f"{tool.generator}:{sample.sample_id}", "label": FAKE, "split": "test",
        "generator": tool.generator, "generator_family": sample.generator_family or tool.generator,
    }  # fmt: skip
    if own is not None:
        changes |= {"source_id": own.source_id or own.sample_id, "subjects": sample.subjects or own.subjects}
    return Sample(**{**values, **changes})


def _told(tool: ToolUnderAssessment, n: int, matched: int) -> ToolUnderAssessment:
    sampling = {}
    for language in LANGUAGES:
        given = str(tool.sampling.get(language) or "").strip()
        sampling[language] = f"{given} {Words(language)('tool.given', n=n, matched=matched)}".strip()
    return replace(tool, sampling=sampling)


def draw(manifest: Manifest, tool: ToolUnderAssessment) -> tuple[list[Sample], int]:
    """Inputs from the real test samples: so many per stratum, in the order of a hash of seed and id.

    Returns:
        The inputs in the order of their ids, and how many samples there were to draw from.

    Raises:
        ConfigError: no real test sample of the tool's modality and medium, or an unknown stratum.
    """
    command = tool.command
    assert command is not None
    pool = [
        sample
        for sample in manifest.split("test")
        if sample.label == REAL and sample.modality == tool.modality and sample.media == tool.media
    ]
    if not pool:
        raise ConfigError(
            f"the run's test split has no real {tool.modality} sample of medium {tool.media}",
            hint="assess with a run whose corpus holds such samples",
        )
    strata: dict[tuple[str, ...], list[tuple[str, Sample]]] = {}
    for sample in pool:
        key = tuple(_value(sample, name) for name in command.strata)
        order = hashlib.sha256(f"{command.seed}/{sample.sample_id}".encode()).hexdigest()
        strata.setdefault(key, []).append((order, sample))
    chosen = [
        sample for rows in strata.values() for _, sample in sorted(rows, key=lambda row: row[0])[: command.per_stratum]
    ]
    return sorted(chosen, key=lambda sample: sample.sample_id), len(pool)


def _value(sample: Sample, name: str) -> str:
    if name in sample.attributes:
        return str(sample.attributes[name])
    if name in ("corpus", "channel", "source_id", "codec", "licence"):
        return str(getattr(sample, name))
    known = sorted({*sample.attributes, "corpus", "channel", "source_id", "codec", "licence"})
    raise ConfigError(f"stratum {name!r} is not known of sample {sample.sample_id!r}", hint=f"use some of {known}")


def make_outputs(
    manifest: Manifest,
    inputs: Sequence[Sample],
    tool: ToolUnderAssessment,
    folder: Path,
    *,
    allow_command: bool,
    console: Console,
) -> dict[str, Made]:
    """Run the command on every input that has no outcome yet.

    Returns:
        Outcome by id of the input.

    Raises:
        ConfigError: not allowed, or the folder holds outputs of another command.
    """
    command = tool.command
    assert command is not None
    if not allow_command:
        raise ConfigError(
            f"tool {tool.name} wants to run {command.command[0]!r} on {len(inputs)} files",
            hint="read its command, and allow it with --allow-command",
        )
    head = {"journal": 1, "command": fingerprint(_identity(command)), "tool": tool.name, "version": tool.version}
    done = _finished(folder / JOURNAL, head)
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    with open(folder / JOURNAL, "a", encoding="utf-8") as journal, Progress(console=console, transient=True) as bar:
        if not done and journal.tell() == 0:
            journal.write(json.dumps(head) + "\n")
        task = bar.add_task(f"{tool.name} {tool.version}", total=len(inputs), completed=len(done))
        for number, sample in enumerate(inputs):
            if sample.sample_id in done:
                continue
            target = files / _name(sample, command)
            outcome = run_tool(command, manifest.file(sample), target, number=number, allow_command=allow_command)
            done[sample.sample_id] = outcome
            journal.write(json.dumps({"input": sample.sample_id, **asdict(outcome)}, ensure_ascii=False) + "\n")
            journal.flush()
            bar.advance(task)
    return {sample.sample_id: done[sample.sample_id] for sample in inputs}


def _identity(command: ToolCommand) -> dict[str, Any]:
    """What makes outputs other outputs: not the limits, and not how many inputs there are."""
    values = asdict(command)
    return {
        **{name: values[name] for name in ("command", "output_suffix", "seed", "environment")},
        "program": sha256_file(command.program()),
    }


def _finished(path: Path, head: Mapping[str, Any]) -> dict[str, Made]:
    """Outcomes that an earlier run wrote; a line that was cut off is left out and its input done again."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        cut = lines.pop()
        with open(path, "r+b") as stream:
            stream.truncate(path.stat().st_size - len(cut.encode()))
    if not lines:
        return {}
    if json.loads(lines[0]) != dict(head):
        raise ConfigError(
            f"{path.parent} holds outputs of another command or program under the same version",
            hint="give the new version a version of its own, or remove that folder",
        )
    out = {}
    for line in lines[1:]:
        row = json.loads(line)
        name = row.pop("input")
        out[name] = Made(**row)
    return out


def _name(sample: Sample, command: ToolCommand) -> str:
    return f"{hashlib.sha256(sample.sample_id.encode()).hexdigest()[:24]}{command.output_suffix}"


def _manifest(
    manifest: Manifest, inputs: Sequence[Sample], made: Mapping[str, Made], tool: ToolUnderAssessment, folder: Path
) -> Manifest:
    """Outputs as fake test samples of their inputs' sources and subjects."""
    command = tool.command
    assert command is not None
    out = []
    for sample in inputs:
        if made[sample.sample_id].outcome != MADE:
            continue
        path = folder / "files" / _name(sample, command)
        facts: dict[str, Any] = {}
        with contextlib.suppress(Unusable):  # it stays, and its row in the score table will say what it is
            facts = {k: v for k, v in probe(path).items() if k not in ("media", "container") and v is not None}
        out.append(
            Sample(
                sample_id=f"{tool.generator}:{sample.sample_id}",
                path=f"files/{path.name}",
                media=sample.media,
                modality=sample.modality,
                label=FAKE,
                source_id=sample.source_id or sample.sample_id,
                subjects=sample.subjects,
                generator=tool.generator,
                generator_family=tool.generator,
                corpus=sample.corpus,
                split="test",
                attributes=sample.attributes,
                licence=sample.licence,
                sha256=sha256_file(path),
                **facts,
            )
        )
    return Manifest.from_samples(out, folder, {"name": tool.name, "synthetic": manifest.synthetic})


def _folder(
    run: RunFolder, manifest: Manifest, outputs: Manifest, place: Path, made: Mapping[str, Made]
) -> AssessmentFolder:
    taken = set(manifest.column("sample_id")) & set(outputs.column("sample_id"))
    if taken:
        raise ConfigError(
            f"sample {min(taken)!r} is in the run's data already", hint="give the tool another generator name"
        )
    bundle = Bundle.load(run.bundle)
    store = f"store-{outputs.hash[:12]}"
    for old in (place / "outputs").glob("store-*"):
        if old.name != store:
            shutil.rmtree(old)
    prepare_store(outputs, bundle.modality(), place / "outputs" / store)
    both = join([manifest, outputs], name=manifest.name)
    both = Manifest(both.table, both.root, {**manifest.info, "outputs_manifest_sha256": outputs.hash})
    for name in ("config.yaml", "provenance.json"):
        shutil.copyfile(run.path / name, place / name)
    if not (place / "bundle").exists() or Bundle.load(place / "bundle").hash != bundle.hash:
        shutil.rmtree(place / "bundle", ignore_errors=True)
        shutil.copytree(run.bundle, place / "bundle")
    if (place / "run.json").is_file() and json.loads((place / "run.json").read_text())["manifest_sha256"] != both.hash:
        # Scores of another set of outputs; scoring again is a second opening of the test, and recorded as one.
        for old in (place / "metrics.json", *(place / "scores").glob("*.parquet")):
            old.unlink(missing_ok=True)
    both.to_parquet(place / "manifest.parquet")
    facts = {
        **run.facts, "manifest_sha256": both.hash, "root": str(both.root.resolve()), "counts": both.counts(),
        "assessed_from": str(run.path.resolve()), "outputs_store": store,
        "outcomes": dict(Counter(one.outcome for one in made.values())),
    }  # fmt: skip
    write_json(place / "run.json", facts)
    return AssessmentFolder(place)


def _described(
    tool: ToolUnderAssessment, command: ToolCommand, inputs: Sequence[Sample], pool: int, counts: Mapping[str, int]
) -> ToolUnderAssessment:
    """The tool with its draw in words; the assessor drew it, refusals are counted."""
    failed = {name: n for name, n in counts.items() if name not in (MADE, REFUSED)}
    sampling: dict[str, str] = {}
    for language in LANGUAGES:
        words = Words(language)
        strata = ("、" if language == "zh" else ", ").join(command.strata) or words("tool.no_strata")
        text = words(
            "tool.drawn", n=len(inputs), seed=command.seed, pool=pool, per=command.per_stratum, strata=strata,
            made=counts.get(MADE, 0), refused=counts.get(REFUSED, 0),
        )  # fmt: skip
        if failed:
            reasons = ("、" if language == "zh" else ", ").join(
                f"{words(f'tool.{_WORD.get(name, name)}')} {n}" for name, n in sorted(failed.items())
            )
            text += words("tool.failed", n=sum(failed.values()), reasons=reasons)
        given = str(tool.sampling.get(language) or "").strip()
        sampling[language] = f"{given} {text}".strip()
    return replace(
        tool, sampling=sampling, sampling_seed=command.seed, drawn_by="assessor", refusals=counts.get(REFUSED, 0),
        settings={**tool.settings, "command": " ".join(_shown(word) for word in command.command)},
    )  # fmt: skip


def _shown(word: str) -> str:
    """An argument without the folders of this machine."""
    return Path(word).name if word.startswith("/") else word
