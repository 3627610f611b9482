"""The labelling annex: what a tool's outputs carry as marks, and what ordinary processing leaves of it, as numbers."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepassay.errors import ConfigError, ScoreError
from deepassay.evaluation import MINIMUM_CLUSTERS, Number
from deepassay.marks.explicit import DISPUTED, PASS, Judgement
from deepassay.marks.gb45438 import parse, validate_marks
from deepassay.marks.lab import LABEL
from deepassay.marks.mark import GB45438, Carrier
from deepassay.marks.sample import CODE, NAME, FileReport, SampleReport, inspect_sample
from deepassay.marks.survival import MEDIA_OF, Outcome, measure_survival
from deepassay.metrics.intervals import clustered_proportion

RULES_VERSION = "gb45438-2025/digest-1"
CLUSTER_UNIT = "source of the output"
SURVIVAL_FILES = 24  # per carrier: what becomes of a label depends on carrier and pipeline, hardly on the file
EXPLICIT_RULES = ("elements", "form", "place", "legible", "height", "duration")
SMALLEST = "the smallest of all annotated values, not an estimate"


@dataclass(frozen=True, slots=True)
class Output:
    """One output of the tool, or one unmarked real file.

    Args:
        name: as annotations call it (path relative to its root, or file name).
        path: where it lies.
        cluster: unit of independence: its source or subject.
    """

    name: str
    path: Path
    cluster: str


@dataclass(frozen=True, slots=True)
class Annex:
    """Numbers of the three tables, and the reports behind them.

    Args:
        explicit, implicit, survival: records, in the order of the tables.
        files: report on each output. outcomes: of each file through each pipeline. judgements: of annotations.
    """

    explicit: tuple[Number, ...] = ()
    implicit: tuple[Number, ...] = ()
    survival: tuple[Number, ...] = ()
    files: SampleReport = field(default_factory=lambda: SampleReport(()))
    outcomes: tuple[Outcome, ...] = ()
    judgements: tuple[Judgement, ...] = ()

    def record(self) -> dict[str, Any]:
        """``labelling`` of the assessment log."""
        return {
            "rules_version": RULES_VERSION,
            "explicit": [number.to_json() for number in self.explicit],
            "implicit": [number.to_json() for number in self.implicit],
            "survival": [number.to_json() for number in self.survival],
        }


def labelling_annex(
    outputs: Sequence[Output],
    *,
    judgements: Sequence[Judgement] = (),
    real: Sequence[Output] = (),
    survival: bool = True,
    survival_files: int = SURVIVAL_FILES,
    trust_anchors: str | os.PathLike[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
    done: Callable[[], object] = lambda: None,
) -> Annex:
    """Look through every output; process a drawn part of the labelled ones; count.

    Args:
        outputs: every one of the tool's outputs that was drawn, labelled or not.
        judgements: of `marks.explicit.read_annotations`.
        real: unmarked real files, on which the readers must find nothing.
        survival: whether to run the named pipelines.
        survival_files: labelled files per carrier that go through them, drawn by ``seed``.
        trust_anchors: PEM file of certificates trusted to sign C2PA manifests.
        done: called after each file, for a progress bar.

    Raises:
        ScoreError: no output.
        ConfigError: an annotation of a file that is not among the outputs.
        MissingDependencyError: an encoder that a pipeline needs is not there.
    """
    if not outputs:
        raise ScoreError("the tool has no output to look for labels in", hint="give the folder of its outputs")
    files = inspect_sample((one.path for one in outputs), trust_anchors=trust_anchors, done=done)
    judged = _matched(judgements, outputs)
    clean = inspect_sample((one.path for one in real), done=done)
    outcomes: list[Outcome] = []
    owners: list[str] = []
    if survival:
        chosen = _drawn(files.files, outputs, survival_files, seed)
        with tempfile.TemporaryDirectory(prefix="deepassay-survival-") as folder:
            for report, output in chosen:
                rows = measure_survival([(output.path, _media(report))], folder)
                outcomes += rows
                owners += [output.cluster] * len(rows)
                done()
    return Annex(
        explicit=tuple(_explicit(judged, len(outputs), outputs, level)),
        implicit=tuple(_implicit(files, outputs, clean, real, level, trust_anchors is not None)),
        survival=tuple(_survival(outcomes, owners, level)),
        files=files, outcomes=tuple(outcomes), judgements=tuple(one for one, _ in judged),
    )  # fmt: skip


def _media(report: FileReport) -> str:
    """An MP4 file without a video stream is sound (M4A); Ogg may hold either."""
    kind = MEDIA_OF[report.container]
    if report.container in ("MP4", "MOV", "Matroska", "WebM", "Ogg"):
        from deepassay.labels import Unusable
        from deepassay.media.containers import sniff

        try:
            return sniff(report.path)
        except Unusable:
            return kind
    return kind


def _drawn(
    files: Sequence[FileReport], outputs: Sequence[Output], most: int, seed: int
) -> list[tuple[FileReport, Output]]:
    """Up to ``most`` files with exactly one label per carrier, in the order of a hash of seed and name."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for index, report in enumerate(files):
        if report.one and report.container in MEDIA_OF:
            key = hashlib.sha256(f"{seed}/{outputs[index].name}".encode()).hexdigest()
            groups.setdefault(report.container, []).append((key, index))
    keep = [index for name in sorted(groups) for _, index in sorted(groups[name])[:most]]
    return [(files[index], outputs[index]) for index in keep]


def _matched(judgements: Sequence[Judgement], outputs: Sequence[Output]) -> list[tuple[Judgement, str]]:
    known: dict[str, str] = {}
    for one in outputs:
        known[one.name] = known[one.path.name] = one.cluster
    out = []
    for one in judgements:
        name = one.annotation.file
        if name not in known:
            raise ConfigError(
                f"annotations name {name!r}, which is not among the tool's outputs",
                hint="write the column file as the outputs' names or paths below their folder",
            )
        out.append((one, known[name]))
    return out


# Numbers --------------------------------------------------------------------------------------------------------------


def _share(
    metric: str,
    hits: Iterable[bool],
    clusters: Iterable[str],
    level: float,
    *,
    where: Mapping[str, str] | None = None,
    direction: str = "higher_better",
    silent: int = 0,
    real: bool = False,
) -> list[Number]:
    """k of n with an interval that respects clusters; nothing where there is nothing to count."""
    good, units = list(hits), list(clusters)
    if not good:
        return []
    n_clusters = len(set(units))
    ci, reason = None, ""
    if n_clusters < 2:
        reason = "all files stem from one source: an interval needs at least two"
    else:
        ci = clustered_proportion(good, units, level, cluster_unit=CLUSTER_UNIT).as_record()
    where = dict(where or {})
    words = re.sub(r"[^a-z0-9]+", "_", "_".join(v for k, v in where.items() if k != "reader").lower()).strip("_")
    return [
        Number(
            id="_".join(part for part in ("mark", metric, words) if part), metric=metric, definition=f"l:{metric}@1",
            direction=direction, value=sum(good) / len(good), ci=ci, no_ci_reason=reason,
            n_bona=len(good) if real else 0, n_attack=0 if real else len(good), n_clusters=n_clusters,
            n_nonresponse=silent, count=(sum(good), len(good)), slice=where,
            status="under_powered" if n_clusters < MINIMUM_CLUSTERS else "exploratory",
        )
    ]  # fmt: skip


def _least(metric: str, values: Sequence[float], clusters: Sequence[str], unit: str) -> list[Number]:
    if not values:
        return []
    return [
        Number(
            id=f"mark_{metric}", metric=metric, definition=f"l:{metric}@1", direction="higher_better",
            value=min(values), ci=None, no_ci_reason=SMALLEST, n_bona=0, n_attack=len(values),
            n_clusters=len(set(clusters)), unit=unit, slice={}, status="exploratory",
        )
    ]  # fmt: skip


def _implicit(
    files: SampleReport, outputs: Sequence[Output], clean: SampleReport, real: Sequence[Output], level: float,
    trust_list: bool,
) -> list[Number]:  # fmt: skip
    reports, units = files.files, [one.cluster for one in outputs]
    out: list[Number] = []

    def add(metric: str, rows: Sequence[tuple[bool, str]], **keywords: Any) -> None:
        out.extend(_share(metric, [hit for hit, _ in rows], [unit for _, unit in rows], level, **keywords))

    pairs = list(zip(reports, units, strict=True))
    unread = sum(not r.looked_through and not r.labels for r in reports)
    add("implicit_found", [(bool(r.labels), u) for r, u in pairs], silent=unread)
    add("implicit_one", [(r.one, u) for r, u in pairs], silent=unread)
    carriers = sorted({r.container for r in reports if r.container})
    if len(carriers) > 1:
        for name in carriers:
            add("implicit_found", [(bool(r.labels), u) for r, u in pairs if r.container == name],
                where={"carrier": name})  # fmt: skip
    marked = [(r, u) for r, u in pairs if r.labels]
    add("implicit_place", [(r.standard_place, u) for r, u in marked])
    add("implicit_schema", [(r.schema_valid, u) for r, u in marked])
    add("implicit_provider_code", [(r.provider == CODE, u) for r, u in marked])
    if any(r.provider == NAME for r, _ in marked):
        add("implicit_provider_name", [(r.provider == NAME, u) for r, u in marked], direction="descriptive")
    add("implicit_unique", [(bool(files.unique(r)), u) for r, u in marked if r.produce_id is not None])
    add("implicit_read_back", [(bool(r.parsers_agree), u) for r, u in pairs if r.parsers_agree is not None])
    broken = sorted({f.rule for r, _ in marked for f in r.findings if f.outcome == "fail"})
    for rule in broken:
        add("implicit_broken", [(not r.keeps([rule]), u) for r, u in marked], where={"rule": rule},
            direction="lower_better")  # fmt: skip
    for rule in sorted({rule for r, _ in marked for rule in r.disputed}):
        add("implicit_disputed", [(rule in r.disputed, u) for r, u in marked], where={"rule": rule},
            direction="descriptive")  # fmt: skip
    add("c2pa_found", [(r.c2pa, u) for r, u in pairs], direction="descriptive", silent=unread)
    signed = [(r.manifest, u) for r, u in pairs if r.manifest is not None]
    add("c2pa_valid", [(m.state == "valid", u) for m, u in signed])
    if trust_list:
        add("c2pa_trusted", [(m.trust == "trusted", u) for m, u in signed])
    add("mark_false_hit", [(bool(r.labels), o.cluster) for r, o in zip(clean.files, real, strict=True)],
        direction="lower_better", real=True)  # fmt: skip
    return out


def _explicit(
    judged: Sequence[tuple[Judgement, str]], total: int, outputs: Sequence[Output], level: float
) -> list[Number]:
    if not judged:
        return []
    out = _share("explicit_annotated", [True] * len(judged) + [False] * (total - len(judged)),
                 [one.cluster for one in outputs], level, direction="descriptive")  # fmt: skip
    units = [unit for _, unit in judged]
    out += _share("explicit_present", [j.outcomes["present"] == PASS for j, _ in judged], units, level)
    for rule in EXPLICIT_RULES:
        rows = [(j.outcomes[rule], u) for j, u in judged if rule in j.outcomes]
        settled = [(o, u) for o, u in rows if o != DISPUTED]
        out += _share(f"explicit_{rule}", [o == PASS for o, _ in settled], [u for _, u in settled], level)
        if any(o == DISPUTED for o, _ in rows):
            out += _share("explicit_disputed", [o == DISPUTED for o, _ in rows], [u for _, u in rows], level,
                          where={"rule": rule}, direction="descriptive")  # fmt: skip
    heights = [(j.annotation.height_ratio, u) for j, u in judged if "height" in j.outcomes]
    out += _least(
        "explicit_height_least", [h for h, _ in heights if h is not None], [u for _, u in heights], "fraction"
    )
    times = [(j.annotation.duration_s, u) for j, u in judged if "duration" in j.outcomes]
    out += _least("explicit_duration_least", [t for t, _ in times if t is not None], [u for _, u in times], "seconds")
    return out


def _survival(outcomes: Sequence[Outcome], owners: Sequence[str], level: float) -> list[Number]:
    groups: dict[tuple[str, str], list[tuple[Outcome, str]]] = {}
    for one, owner in zip(outcomes, owners, strict=True):
        groups.setdefault((one.container, one.pipeline), []).append((one, owner))
    out: list[Number] = []
    for (container, pipeline), rows in groups.items():
        answered = [(bool(one.survived), owner) for one, owner in rows if one.survived is not None]
        readers = sorted({one.reader for one, _ in rows if one.reader})
        where = {"carrier": container, "pipeline": pipeline, "reader": ", ".join(readers)}
        if not answered:
            out.append(_none(container, pipeline, len(rows)))
            continue
        out += _share("label_survival", [hit for hit, _ in answered], [owner for _, owner in answered], level,
                      where=where, silent=len(rows) - len(answered))  # fmt: skip
    told = [(bool(one.first_agrees), owner) for one, owner in zip(outcomes, owners, strict=True)
            if one.first_agrees is not None]  # fmt: skip
    return out + _share("survival_read_back", [hit for hit, _ in told], [owner for _, owner in told], level)


def _none(container: str, pipeline: str, failed: int) -> Number:
    """A pipeline that failed on every file: said, not left out."""
    return Number(
        id=f"mark_label_survival_{container}_{pipeline}".lower(), metric="label_survival",
        definition="l:label_survival@1", direction="higher_better", value=None, ci=None,
        no_ci_reason="the pipeline failed on every file", n_bona=0, n_attack=0, n_clusters=0, n_nonresponse=failed,
        slice={"carrier": container, "pipeline": pipeline}, status="not_reported",
    )  # fmt: skip


def label_evidence(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What check F12 asks of statements about labels: read back by a second parser, no false hit, mutations caught.

    Args:
        record: ``labelling`` of the log; None where labels were not looked at.

    Returns:
        ``read_back``, ``survival_read_back`` and ``false_hits`` as [k, n], ``mutations_missed``, and ``faults``: which
        of them does not hold. Empty where nothing is stated about labels.
    """
    if record is None or not record.get("implicit"):
        return {}
    counts = {
        number["metric"]: (number["support"]["count"]["k"], number["support"]["count"]["n"])
        for number in (*record["implicit"], *record["survival"])
        if number["metric"] in ("implicit_read_back", "survival_read_back", "mark_false_hit")
    }
    missed = missed_mutations()
    agreed = {name: pair for name, pair in counts.items() if name != "mark_false_hit"}
    faults = [name for name, (k, n) in agreed.items() if k < n]
    faults += ["mark_false_hit"] if counts.get("mark_false_hit", (0, 0))[0] else []
    faults += ["mutations"] if missed else []
    return {
        "read_back": list(counts.get("implicit_read_back", ())),
        "survival_read_back": list(counts.get("survival_read_back", ())),
        "false_hits": list(counts.get("mark_false_hit", ())),
        "mutations_missed": missed,
        "faults": faults,
    }


def missed_mutations() -> list[str]:
    """Which damaged labels the validator would let pass: a field taken out, two labels, a wrong value, a wrong type."""
    good = json.loads(LABEL)
    damaged = {
        "field deleted": [{name: value for name, value in good.items() if name != "ProduceID"}],
        "two labels": [good, good],
        "wrong value": [{**good, "Label": "4"}],
        "wrong type": [{**good, "Label": 1}],
        "bad code": [{**good, "ContentProducer": "0" * 30}],
    }
    out = []
    for name, labels in damaged.items():
        marks = [parse(Carrier(GB45438, "JPEG APP1 XMP", "AIGC", json.dumps(one).encode()), "JPEG") for one in labels]
        if not any(finding.outcome == "fail" for finding in validate_marks(marks)):
            out.append(name)
    return out
