"""Verify a sealed dossier without media, torch or trust: hashes, signature, chain, and every number computed again."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.calibrator import (
    Calibration,
    OperatingPoint,
    calibrate,
    dev_table_hash,
    fit_calibration,
    fit_operating_points,
)
from deepassay.errors import AssayError
from deepassay.evaluation import Number, strata
from deepassay.evidence.assess import (
    bars_of,
    check_record,
    claim_record,
    condition_record,
    legal_rows,
    number_record,
    outputs_sha256,
    plain_json,
    point_record,
)
from deepassay.evidence.canonical import canonical
from deepassay.evidence.checks import CHECKS, ROUNDING, Material, re_encoding, refit_difference, trimming
from deepassay.evidence.conditions import Condition, ConditionScores
from deepassay.evidence.dossier import render_dossier
from deepassay.evidence.envelope import PublicKey, SealError
from deepassay.evidence.language import LANGUAGES, Words
from deepassay.evidence.log import AssessmentLog, parse_log
from deepassay.evidence.measuring import PLAIN_VERSIONS, Measured, drawn_from, measure_all
from deepassay.evidence.protocol import Protocol, Register
from deepassay.evidence.pseudonyms import named_hashes
from deepassay.evidence.seal import (
    BUNDLE,
    CARD,
    CONDITIONS,
    DEV,
    FACTS,
    OPENINGS,
    PREDICATE_TYPE,
    PROTOCOL,
    PUBLIC,
    STATEMENT_TYPE,
    SUMS,
    TEST,
    Sealed,
    link,
    log_name,
    page_name,
    read_sealed,
    renderer,
    same_tool,
    statement_of,
    sums,
)
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.evidence.versions import KEY, Earlier, compare_versions
from deepassay.files import sha256_bytes
from deepassay.labels import FAKE
from deepassay.scores import ScoreTable

GOOD, WRONG, UNCHECKED = "good", "wrong", "not checked"
RELATIVE = 1e-9  # of values and interval ends: the same seed draws the same clusters on every machine
ROUNDED = 2e-6  # curves are kept to six decimals
SHOWN = 6
MOST_REPLICATES = 200_000
# Checks that follow from the tables, the protocol and the bundle's facts; the others need the manifest or the media.
FROM_TABLES = ("F01", "F06", "F07", "F08", "F09", "F11")
_UNREADABLE = (AssayError, ValueError, KeyError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)
_FIGURE = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``part``, ``outcome`` (good, wrong, not checked) and a sentence."""

    part: str
    outcome: str
    text: str


def verify_dossier(
    path: str | Path,
    *,
    key: PublicKey | None = None,
    previous: Sequence[str | Path] = (),
    seal_only: bool = False,
) -> list[Finding]:
    """Everything that can be found out about a sealed dossier from its zip.

    Args:
        key: the issuer's public key, had from the issuer; without it, who signed stays unknown.
        previous: the older dossiers of the chain, the newest of them first.
        seal_only: hashes, signature and chain, and nothing of what the dossier says.

    Returns:
        Findings in the order of the work; the dossier is verified where none is ``wrong``.

    Raises:
        SealError: the file is no sealed dossier, so that there is nothing to verify.
    """
    case = _Case(read_sealed(path))
    case.older = [read_sealed(one) for one in previous]
    case.hashes()
    case.signature(key)
    case.chain(case.older, key)
    if seal_only:
        case.say("contents", UNCHECKED, "whether anything in it is true: only the seal was looked at")
        return case.findings
    with tempfile.TemporaryDirectory(prefix="deepassay-verify-") as place:
        case.unpack(Path(place))
        for part in (
            case.read_log, case.statement, case.protocol, case.tables, case.bundle, case.thresholds, case.numbers,
            case.figures, case.checks, case.claims, case.pages,
        ):  # fmt: skip
            with case.reading(part.__name__.removeprefix("read_")):
                part()
    case.beyond()
    return case.findings


def differences(
    said: Any, found: Any, where: str = "", *, relative: float = RELATIVE, absolute: float = 0.0
) -> Iterator[str]:
    """Sentences, one for each place at which two JSON values differ by more than rounding."""
    if isinstance(said, Mapping) and isinstance(found, Mapping):
        for name in [*said, *(name for name in found if name not in said)]:
            place = f"{where}.{name}" if where else str(name)
            if name not in found or name not in said:
                yield f"{place}: {'not recomputed' if name in said else 'missing'}"
            else:
                yield from differences(said[name], found[name], place, relative=relative, absolute=absolute)
    elif isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        for i, (one, other) in enumerate(zip(said, found, strict=True)):
            yield from differences(one, other, f"{where}[{i}]", relative=relative, absolute=absolute)
    elif isinstance(said, int | float) and isinstance(found, int | float) and bool not in (type(said), type(found)):
        if abs(said - found) > max(absolute, relative * max(abs(said), abs(found))):
            yield f"{where}: says {said!r}, recomputed {found!r}"
    elif said != found or isinstance(said, bool) != isinstance(found, bool):
        yield f"{where}: says {_short(said)}, recomputed {_short(found)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 90 else f"{text[:87]}..."


@dataclass
class _Case:
    """One dossier on the bench; every step reads what earlier ones left, and says so where that is missing."""

    sealed: Sealed
    findings: list[Finding] = field(default_factory=list)
    place: Path = Path()
    log: AssessmentLog | None = None
    plan: Protocol | None = None
    dev: ScoreTable | None = None
    test: ScoreTable | None = None
    facts: Mapping[str, Any] | None = None
    points: list[OperatingPoint] | None = None
    calibration: Calibration | None = None
    found: list[Number] | None = None
    older: Sequence[Sealed] = ()
    scores: ConditionScores | None = None
    outcome: Measured | None = None
    chosen: dict[str, Number | None] = field(default_factory=dict)

    # Saying -----------------------------------------------------------------------------------------------------------

    def say(self, part: str, outcome: str, text: str) -> None:
        self.findings.append(Finding(part, outcome, text))

    def compare(self, part: str, faults: Iterator[str] | Sequence[str], good: str) -> bool:
        """One finding per difference, the first few; or the good news."""
        found = list(faults)
        for text in found[:SHOWN]:
            self.say(part, WRONG, text)
        if len(found) > SHOWN:
            self.say(part, WRONG, f"and {len(found) - SHOWN} more differences")
        if not found:
            self.say(part, GOOD, good)
        return not found

    @contextmanager
    def reading(self, part: str) -> Iterator[None]:
        """Whatever an altered file makes of a step is a finding about that part, never a crash."""
        try:
            yield
        except _Missing as error:
            self.say(part, UNCHECKED, str(error))
        except _UNREADABLE as error:
            text = error.message if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"
            self.say(part, WRONG, f"cannot be worked out ({text})")

    # The envelope -----------------------------------------------------------------------------------------------------

    def hashes(self) -> None:
        with self.reading("hashes"):
            faults = _altered(self.sealed)
            own = {name: data for name, data in self.sealed.files.items() if name != SUMS}
            if not faults and self.sealed.files.get(SUMS) != sums(own):
                faults = [f"{SUMS} names other files or hashes"]
            self.compare("hashes", faults, f"{len(self.sealed.files)} files are those that the statement names")

    def signature(self, key: PublicKey | None) -> None:
        with self.reading("signature"):
            carried = self.sealed.carried_key()
            if not self.sealed.envelope.signed_by(carried):
                self.say("signature", WRONG, f"the statement is not signed by the key that lies beside it ({PUBLIC})")
            elif key is None:
                self.say("signature", GOOD, f"the statement is signed by the key beside it, {carried.keyid[:16]}")
                self.say("signature", UNCHECKED, "whose key that is: give the issuer's with --key")
            if key is not None:
                good = self.sealed.envelope.signed_by(key)
                text = f"signed by the key given, {key.keyid[:16]}"
                other = f"not signed by the key given ({key.keyid[:16]}); beside it lies {carried.keyid[:16]}"
                self.say("signature", GOOD if good else WRONG, text if good else other)

    def chain(self, older: Sequence[Sealed], key: PublicKey | None) -> None:
        newer = self.sealed
        for one in older:
            with self.reading("chain"):
                self._link(newer, one, key)
            newer = one
        with self.reading("chain"):
            before = newer.facts["previous"]
            if before is None:
                text = f"{newer.path.name} is the first of its chain"
                self.say("chain", GOOD if newer.facts["sequence"] == 1 else WRONG, text)
            else:
                text = f"{newer.path.name} follows {before['dossier_id']}, which was not given (--previous)"
                self.say("chain", UNCHECKED, text)

    def _link(self, newer: Sealed, older: Sealed, key: PublicKey | None) -> None:
        faults = [f"{older.path.name}: {text}" for text in _altered(older)]
        signer = key or older.carried_key()
        if not older.envelope.signed_by(signer):
            faults.append(f"{older.path.name}: not signed by {signer.keyid[:16]}")
        before = newer.facts["previous"]
        if before is None or before["statement_sha256"] != older.statement_sha256:
            named = "no dossier" if before is None else f"{before['dossier_id']} of {before['created_utc']}"
            faults.append(f"order: {newer.path.name} follows {named}, not {older.path.name}")
        else:
            faults += [f"{newer.path.name} on {older.path.name}: {t}" for t in differences(before, link(older))]
        if not same_tool(newer.facts, older.facts):
            faults.append(f"{older.path.name} is about another tool")
        times = [datetime.fromisoformat(str(one.facts["created_utc"])) for one in (older, newer)]
        if times[0] >= times[1]:
            faults.append(f"order: {older.path.name} was written at {times[0]}, not before {times[1]}")
        self.compare("chain", faults, f"{newer.path.name} follows {older.path.name}")

    def unpack(self, place: Path) -> None:
        """The files that readers of files need, under names of our own."""
        self.place = place
        for name in (DEV, TEST, CONDITIONS, PROTOCOL, OPENINGS):
            if name in self.sealed.files:
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_bytes(self.sealed.files[name])

    # The contents -----------------------------------------------------------------------------------------------------

    def read_log(self) -> None:
        names = [n for n in self.sealed.files if re.fullmatch(r"dossier/[^/]+\.json", n) and n != "dossier/audit.json"]
        if len(names) != 1:
            raise SealError(f"{len(names)} logs in dossier/, not one", hint="get the sealed dossier again")
        self.log = parse_log(json.loads(self.sealed.files[names[0]]), where=names[0])
        if names[0] != log_name(self.log):
            self.say("log", WRONG, f"{names[0]} is called otherwise than its contents, {log_name(self.log)}")
        self.say("log", GOOD, f"reads as schema {self.log.schema_version}: {self.log.dossier_id}")

    def statement(self) -> None:
        log, said = self._log(), self.sealed.statement
        if canonical(said) != self.sealed.envelope.payload:
            self.say("statement", WRONG, "the payload is not in canonical form (RFC 8785)")
        if (said.get("_type"), said.get("predicateType")) != (STATEMENT_TYPE, PREDICATE_TYPE):
            self.say("statement", WRONG, f"of type {said.get('_type')}, {said.get('predicateType')}")
        digests = {one["name"]: one["digest"]["sha256"] for one in said["subject"]}
        before = self.sealed.facts["previous"]
        made = statement_of(log, digests, before, self.sealed.facts["renderer"])
        faults = [text.replace(f"predicate.{FACTS}.", "") for text in differences(said, made)]
        head = None if before is None else before["statement_sha256"]
        if log.integrity.previous_head_sha256 != head:
            faults.append(f"the log names {log.integrity.previous_head_sha256} as the previous head, the seal {head}")
        if (log.integrity.signature or {}).get("keyid") != self.sealed.carried_key().keyid:
            faults.append("the log names another key than the one beside it")
        self.compare("statement", faults, "says of the log what follows from it")

    def protocol(self) -> None:
        log = self._log()
        record = Register(self.place / "protocol").record()
        value = json.loads(self.sealed.files[PROTOCOL])["protocol"]
        self.plan = Protocol(**{name: entry for name, entry in value.items() if name != "schema"})
        said = log.preregistration.model_dump(mode="json")
        faults = list(differences(said, record, "preregistration"))
        if self.plan.sha256 != record["protocol_sha256"]:
            faults.append(
                f"the protocol has hash {self.plan.sha256[:16]}, and {record['protocol_sha256'][:16]} is named"
            )
        frozen, opened = (datetime.fromisoformat(record[name]) for name in ("frozen_utc", "test_opened_utc"))
        late = next(check for check in log.checks if check.id == "F11").outcome == "fail"
        if frozen >= opened and not late:
            faults.append(f"frozen {frozen}, not before the test was opened at {opened}, and check F11 does not say so")
        text = "frozen before the test labels were opened" if frozen < opened else "frozen late, as check F11 says"
        self.compare("protocol", faults, f"{text}; {len(record['openings'])} opening(s) on record")

    def tables(self) -> None:
        log = self._log()
        tables = {name: ScoreTable.read(self.place / name) for name in (DEV, TEST)}
        self.dev, self.test = tables[DEV], tables[TEST]
        named = {subject.name: subject.digest.sha256 for subject in log.integrity.subjects}
        faults = [
            f"{file}: its contents have hash {value[:16]}, the log names {str(named.get(subject))[:16]}"
            for file, subject, value in (
                (TEST, "scores/test (content)", self.test.hash),
                (DEV, "scores/dev (content, before calibration)", dev_table_hash(self.dev)),
                *self._conditions(),
            )
            if named.get(subject) != value
        ]
        other = sorted({n.scores_sha256 for n in log.results if "condition" not in n.slice} - {self.test.hash})
        faults += [f"{TEST}: numbers of the log were measured on another table, {sha[:16]}" for sha in other[:1]]
        shared = set(self.dev.column("sample_id")) & set(self.test.column("sample_id"))
        if shared:
            faults.append(f"{len(shared)} samples lie in both tables, such as {min(shared)}")
        if (self.dev.synthetic or self.test.synthetic) and not log.synthetic:
            faults.append("the tables are of synthetic data, and the log does not say so")
        salted = [named_hashes(table)[0] != table.hash for table in (self.dev, self.test)]
        if log.privacy.salted_ids != all(salted) or any(salted) != all(salted):
            faults.append("the log says otherwise than the tables whether their ids are pseudonyms")
        text = f"{len(self.dev)} dev and {len(self.test)} test rows"
        text += (
            "" if self.scores is None else f", {len(self.scores.table)} rows under {len(self.scores.names)} conditions"
        )
        self.compare("tables", faults, f"{text}, as the log names them")
        if all(salted):
            self.say(
                "tables", UNCHECKED, "that the tables are, under other ids, those that bundle and register name: only "
                "the issuer's salt can show it"
            )  # fmt: skip

    def _conditions(self) -> list[tuple[str, str, str]]:
        """The enclosed scores under conditions, to be compared like the other tables."""
        log = self._log()
        if CONDITIONS in self.sealed.files:
            self.scores = ConditionScores.read(self.place / CONDITIONS)
            return [(CONDITIONS, "scores/conditions (content)", self.scores.hash)]
        return [(CONDITIONS, "scores/conditions (content)", "missing")] if log.conditions else []

    def bundle(self) -> None:
        log, data = self._log(), self.sealed.files
        facts: dict[str, Any] = json.loads(data[BUNDLE])
        detector = log.detectors[0]
        mine = {
            "bundle_sha256": sha256_bytes(data[BUNDLE]),
            "weights_sha256": facts["files"]["detector.onnx"],
            "generators_seen": list(facts["generators_seen"]),
            "licence_chain": [dict(one) for one in facts["licence_chain"]],
            "calibration": facts["calibration"],
        }
        faults = list(differences({name: getattr(detector, name) for name in mine}, mine, "detector"))
        if facts["files"].get("card.md") != sha256_bytes(data[CARD]):
            faults.append(f"{CARD} is not the one that the bundle names")
        if facts["synthetic"] and not log.synthetic:
            faults.append("the bundle is of synthetic data, and the log does not say so")
        self.facts = facts
        self.compare("bundle", faults, f"{detector.name or detector.id}: facts and card as the log names them")

    def thresholds(self) -> None:
        log, dev, test, facts = self._log(), self._table("dev"), self._table("test"), self._facts()
        stated = Calibration.from_dict(facts["calibration"])
        given = {p["name"]: OperatingPoint.from_dict(p) for p in facts["operating_points"]}
        named = [given[point.id] for point in log.operating_points]
        self.calibration, self.points = stated, named
        faults: list[str] = []
        for name, table in (("dev", dev), ("test", test)):
            expected, there = stated.llr(table.column("score")), table.column("llr")
            off = ~np.isclose(there, expected, rtol=RELATIVE, atol=1e-12, equal_nan=True)
            for i in np.flatnonzero(off)[:2]:
                one = table.column("sample_id")[i]
                faults.append(f"{name} sample {one}: llr {there[i]!r} is not that of its score, {expected[i]!r}")
        known_as = named_hashes(dev)[1]
        drift = None
        if stated.dev_table_sha256 != known_as:
            drift = refit_difference(dev, stated, named)
        if drift is not None and drift <= ROUNDING:
            for point in log.operating_points:
                record = plain_json(point_record(given[point.id], point.detector))
                faults += differences(point.model_dump(mode="json"), record, f"operating point {point.id}")
            text = (
                f"calibration and thresholds follow from the dev table within {drift:.1g} (scored on another machine)"
            )
            self.compare("thresholds", faults, text)
            return
        if stated.dev_table_sha256 != known_as:
            if next(check for check in log.checks if check.id == "F01").outcome != "fail":
                faults.append("calibration and thresholds were fitted on another dev table than the one enclosed")
            self.compare("thresholds", faults, "llrs follow from the scores")
            self.say("thresholds", UNCHECKED, "thresholds: the dev table behind them is not enclosed")
            return
        again = replace(fit_calibration(dev), dev_table_sha256=known_as)
        faults += differences(stated.to_dict(), again.to_dict(), "calibration", relative=1e-8)
        targets = [point.target_bpcer for point in named]
        made = fit_operating_points(calibrate(dev, stated), targets, where_supported=())
        fitted = {point.name: replace(point, dev_table_sha256=known_as) for point in made}
        self.points = [fitted[point.name] for point in named]
        for point in log.operating_points:
            record = plain_json(point_record(fitted[point.id], point.detector))
            faults += differences(point.model_dump(mode="json"), record, f"operating point {point.id}")
            faults += differences(given[point.id].to_dict(), fitted[point.id].to_dict(), f"bundle's {point.id}")
        names = ", ".join(point.id for point in log.operating_points)
        self.compare("thresholds", faults, f"calibration and {names} follow from the dev table")

    def numbers(self) -> None:
        log, plan, test = self._log(), self._plan(), self._table("test")
        if self.points is None:
            raise _Missing("numbers: no operating points to measure at")
        if plan.replicates > MOST_REPLICATES:
            raise _Missing(f"numbers: {plan.replicates} replicates would take too long")
        exposed = any("exposure" in number.slice for number in log.results)
        kinds = {condition.name: condition.kind for condition in log.conditions}
        outcome = measure_all(
            test, self._table("dev"), plan, self.points, self._tool(), scores=self.scores, kinds=kinds,
            calibration=self.calibration, version=log.schema_version,
            generators_seen=list(log.detectors[0].generators_seen) if exposed else None,
        )  # fmt: skip
        self.outcome, self.found, self.chosen = outcome, outcome.numbers, outcome.chosen
        versions = self._versions(plan, self.points)
        said = {number.id: number.model_dump(mode="json", exclude_unset=True) for number in log.results}
        everything = [*self.found, *versions]
        made = {n.id: plain_json(number_record(n, log.detectors[0].id)) for n in everything}
        if log.previous_version is not None and not versions:
            said = {name: value for name, value in said.items() if KEY not in value["slice"]}
        intervals = sum(number.ci is not None for number in everything)
        text = f"{len(made)} numbers and {intervals} intervals recomputed, equal to {RELATIVE:g}"
        faults = list(differences(said, made))
        if log.schema_version not in PLAIN_VERSIONS:
            there = log.model_dump(mode="json")
            faults += differences(
                {name: there[name] for name in ("comparisons", "power")},
                plain_json({"comparisons": [one.to_json() for one in outcome.comparisons], "power": outcome.power}),
            )
            records = {
                name: plain_json(condition_record(self._condition(name), table))
                for name, table in outcome.conditions.items()
            }
            faults += differences({one["name"]: one for one in there["conditions"]}, records, "conditions")
        self.compare("numbers", faults, text)

    def _condition(self, name: str) -> Condition:
        """What the log says of a condition; how many files it holds is counted again."""
        found = next((one for one in self._log().conditions if one.name == name), None)
        if found is None:
            return Condition(name=name, kind="ladder")
        return Condition(**found.model_dump(include={"name", "kind", "ladder", "strength", "title", "unit", "coder"}))

    def _versions(self, plan: Protocol, points: Sequence[OperatingPoint]) -> list[Number]:
        """Differences from the dossier before, made again where that one was given."""
        log = self._log()
        said = log.previous_version
        if said is None:
            return []
        before = next((one for one in self.older if one.statement_sha256 == said.statement_sha256), None)
        if before is None:
            self.say("versions", UNCHECKED, f"the comparison with {said.dossier_id}, which was not given (--previous)")
            return []
        record, numbers = compare_versions(
            read_earlier(before), self._table("test"), self._tool(), plan, points, log.detectors[0].bundle_sha256
        )
        faults = differences(said.model_dump(mode="json"), plain_json(record), "previous_version")
        self.compare("versions", faults, f"the comparison with {said.dossier_id} made again")
        return numbers

    def figures(self) -> None:
        log, plan, test = self._log(), self._plan(), self._table("test")
        tool = log.tool_under_assessment
        made = drawn_from(
            test, self.points or [], tool.generator, level=plan.level, seed=plan.seed, version=log.schema_version
        )
        faults = list(differences(log.detectors[0].curves, plain_json(made), "curves", absolute=ROUNDED))
        outputs = (test.column("label") == FAKE) & (test.column("generator") == tool.generator)
        if outputs_sha256(test, outputs) != tool.outputs_manifest_sha256:
            faults.append("the tool's outputs are not those of the test table")
        if tool.sampling is not None:
            said = [layer.model_dump(mode="json") for layer in tool.sampling.strata]
            faults += differences(said, plain_json(strata(test)), "strata")
        self.compare("figures", faults, "curves, densities and sample counts behind the figures recomputed")

    def checks(self) -> None:
        log, plan = self._log(), self._plan()
        if self.found is None:
            raise _Missing("checks: the numbers could not be recomputed")
        facts = self._facts()
        material = Material(
            tool=self._tool(), protocol=plan, dev=self._table("dev"), test=self._table("test"), numbers=self.found,
            operating_points=self.points or [], calibration=self.calibration,
            preregistration=log.preregistration.model_dump(mode="json"), detector=log.detectors[0].id,
            bundle_sha256=log.detectors[0].bundle_sha256, bundle_created_utc=str(facts["created"]), seed=plan.seed,
        )  # fmt: skip
        english, chinese = Words("en"), Words("zh")
        faults: list[str] = []
        for check in log.checks:
            if check.id in FROM_TABLES:
                made = plain_json(check_record(CHECKS[check.id](material), english, chinese))
                faults += differences(check.model_dump(mode="json", include=set(made)), made, check.id)
        halves = {"F03": ("re_encoding", re_encoding(self.found)), "F04": ("trimmed_scores", trimming(self.found))}
        for check in log.checks:
            name, made = halves.get(check.id, ("", None))
            if made is not None and name in check.statistic:
                faults += differences(check.statistic[name], plain_json(made), f"{check.id}.{name}")
        names = ", ".join(FROM_TABLES)
        self.compare("checks", faults, f"{names} made again with the same outcome")
        rest = ", ".join(check.id for check in log.checks if check.id not in FROM_TABLES)
        self.say("checks", UNCHECKED, f"{rest}: they need the manifest or the media, which are not enclosed")

    def claims(self) -> None:
        log, plan = self._log(), self._plan()
        if self.found is None:
            raise _Missing("claims: the numbers could not be recomputed")
        splits, code = log.splits.model_dump(mode="json"), log.reproducibility.code.model_dump(mode="json")
        bars = bars_of(log.checks, splits, code)
        english, chinese = Words("en"), Words("zh")
        said = {claim.id: claim.model_dump(mode="json") for claim in log.claims}
        made = {
            claim.id: plain_json(claim_record(claim, self.chosen[claim.id], bars, self._tool(), plan, english, chinese))
            for claim in plan.claims
        }
        fill = {"tool": log.tool_under_assessment.name, "version": log.tool_under_assessment.version}
        faults = list(differences(said, made))
        faults += differences(log.scope.claim, plan.headline["en"].format(**fill), "scope.claim")
        verdicts = ", ".join(f"{claim.id} {claim.verdict.replace('_', ' ')}" for claim in log.claims)
        self.compare("claims", faults, f"verdicts follow from numbers, rules and checks: {verdicts}")
        if [row.model_dump(mode="json", exclude_unset=True) for row in log.legal_map] != legal_rows(
            list(made), log.labelling.model_dump(mode="json")
        ):
            self.say("claims", UNCHECKED, "the legal map: this version of deepassay has another one")

    def pages(self) -> None:
        log, files = self._log(), self.sealed.files
        said, here = self.sealed.facts["renderer"], renderer()
        mark = sha256_bytes(files[log_name(log)])
        known = {page_name(log, language): language for language in LANGUAGES}
        there = [name for name in files if name.endswith(".html")]
        if not there or any(name not in known for name in there):
            self.say("pages", WRONG, f"dossier/ holds {there or 'no page'}, and may hold {sorted(known)}")
        for name in [name for name in there if name in known]:
            made, given = render_dossier(log, known[name], log_sha256=mark), files[name].decode()
            faults = list(_page_differences(name, given, made))
            if said == here or not faults:
                self.compare("pages", faults, f"{name} is, to the byte, what the log gives")
            else:
                text = f"{name}: another version of deepassay or matplotlib drew it; render it again with --render"
                self.say("pages", UNCHECKED, text)

    def beyond(self) -> None:
        """What no zip can show."""
        if self.log is not None and self.log.labelling.implicit:
            self.say("labelling", UNCHECKED, "what labels the outputs carry and what survives: they are not enclosed")
        for part, text in (
            ("media", "that the scores come from the media, with this detector: neither is enclosed"),
            ("training", "what the detector was trained on, beyond what its bundle says of itself"),
            ("labels", "that labels, consent, licences and the tool's identity are as stated"),
            ("times", "that times are true: the register is self-kept unless a third party time-stamps it"),
        ):
            self.say(part, UNCHECKED, text)

    # What earlier steps left ------------------------------------------------------------------------------------------

    def _log(self) -> AssessmentLog:
        if self.log is None:
            raise _Missing("the log cannot be read")
        return self.log

    def _plan(self) -> Protocol:
        if self.plan is None:
            raise _Missing("the protocol cannot be read")
        return self.plan

    def _table(self, which: str) -> ScoreTable:
        table = self.dev if which == "dev" else self.test
        if table is None:
            raise _Missing("the score tables cannot be read")
        return table

    def _facts(self) -> Mapping[str, Any]:
        if self.facts is None:
            raise _Missing("the bundle's facts cannot be read")
        return self.facts

    def _tool(self) -> ToolUnderAssessment:
        return tool_of(self._log())


def tool_of(log: AssessmentLog) -> ToolUnderAssessment:
    """The tool under assessment as its log describes it."""
    tool = log.tool_under_assessment
    return ToolUnderAssessment(
        name=tool.name, version=tool.version, provider=tool.provider, functions=tool.functions,
        modality=tool.biometric, media=tool.modality, generator=tool.generator,
        seen_by_detectors=tool.seen_by_detectors, settings=tool.settings,
    )  # fmt: skip


def read_earlier(sealed: Sealed) -> Earlier:
    """Log and test table of an older dossier. Raises SealError, LogError or ScoreError where they cannot be read."""
    names = [n for n in sealed.files if re.fullmatch(r"dossier/(face|voice|[a-z]+)\.json", n) and "audit" not in n]
    if len(names) != 1 or TEST not in sealed.files:
        raise SealError(f"{sealed.path}: it holds {len(names)} logs, or no test table", hint="give a sealed dossier")
    log = parse_log(json.loads(sealed.files[names[0]]), where=f"{sealed.path}: {names[0]}")
    with tempfile.TemporaryDirectory(prefix="deepassay-earlier-") as place:
        path = Path(place, "test.parquet")
        path.write_bytes(sealed.files[TEST])
        return Earlier(log=log, test=ScoreTable.read(path), statement_sha256=sealed.statement_sha256)


class _Missing(Exception):
    """A step that cannot be taken, because an earlier one failed."""


def _altered(sealed: Sealed) -> list[str]:
    """Files that are not those whose hashes the statement names."""
    named = {str(one["name"]): str(one["digest"]["sha256"]) for one in sealed.statement["subject"]}
    out = [f"{name} is missing" for name in sorted(set(named) - set(sealed.files))]
    out += [f"{name} is not named in the statement" for name in sorted(set(sealed.files) - set(named))]
    return out + [
        f"{name} was altered"
        for name, digest in sorted(named.items())
        if name in sealed.files and sha256_bytes(sealed.files[name]) != digest
    ]


def _page_differences(name: str, given: str, made: str) -> Iterator[str]:
    """Which figures of a page differ, and where its text does."""
    if given == made:
        return
    there, here = _FIGURE.findall(given), _FIGURE.findall(made)
    if len(there) != len(here):
        yield f"{name}: {len(there)} figures, and the log gives {len(here)}"
    for number, (one, other) in enumerate(zip(there, here, strict=False), start=1):
        if one != other:
            title = re.search(r"<title[^>]*>(.*?)</title>", other, re.DOTALL)
            yield f"{name}: drawing {number} ({title[1].strip() if title else 'untitled'}) is not what the log gives"
    rest, whole = (_FIGURE.sub("", text).splitlines() for text in (given, made))
    for number, (one, other) in enumerate(zip(rest, whole, strict=False), start=1):
        if one != other:
            yield f"{name}: text line {number} reads {_short(one.strip())}, the log gives {_short(other.strip())}"
            return
    if len(rest) != len(whole):
        yield f"{name}: {len(rest)} lines of text, and the log gives {len(whole)}"
