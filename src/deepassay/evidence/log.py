"""The assessment log: one versioned JSON document from which a dossier follows; what no dossier may say is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from deepassay.errors import AssayError
from deepassay.files import write_json

SCHEMA_VERSION = "0.3"
# Bootstrap method of `evaluation.measure` behind the intervals of each version that is still read.
INTERVALS = {"0.1": "percentile", "0.2": "auto", "0.3": "auto"}
SCHEMA_FILE = Path(__file__).with_name("dossier.schema.json")
CHECK_IDS = tuple(f"F{number:02d}" for number in range(1, 13))

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
CheckId = Annotated[str, StringConstraints(pattern=r"^F[0-9]{2}")]
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
SINCE_0_2 = ("bootstrap_cluster_logit_t", "bootstrap_cluster_expanded", "korn_graubard")
SINCE_0_3 = ("permutation_of_labels",)


class LogError(AssayError):
    """An assessment log that breaks a rule of its schema."""


class _Record(BaseModel):
    # Defaults of optional fields are never written: a log is dumped with what was set, null where null means.
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Record):
    """A confidence interval with the method and the unit that was resampled or counted."""

    level: Annotated[float, Field(gt=0, lt=1)]
    method: Literal[
        "wilson", "clopper_pearson", "jeffreys", "delong", "delong_logit", "bootstrap_cluster_percentile",
        "bootstrap_cluster_bca", "bootstrap_twoway", "rule_of_3", "bootstrap_cluster_logit_t",
        "bootstrap_cluster_expanded", "korn_graubard", "permutation_of_labels",
    ]  # fmt: skip
    lo: Finite | None
    hi: Finite | None
    cluster_unit: str | None = None
    n_clusters: Annotated[int, Field(ge=1)] | None = None
    replicates: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.lo is not None and self.hi is not None and self.lo > self.hi:
            raise ValueError(f"the interval runs backwards: {self.lo} to {self.hi}")
        if self.method.startswith("bootstrap") and (self.cluster_unit is None or self.n_clusters is None):
            raise ValueError("a bootstrap interval names its cluster_unit and n_clusters (check F06)")
        return self


class Fraction(_Record):
    """k of n."""

    k: Count
    n: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"{self.k} of {self.n} is more than all")
        return self


class Support(_Record):
    """How many samples and clusters stand behind a number."""

    n_bona: Count
    n_attack: Count
    n_clusters: Count
    n_nonresponse: Count = 0
    count: Fraction = None  # pyright: ignore[reportAssignmentType]


class Number(_Record):
    """One measured value (law 5). Without an interval it must say why there is none."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "if": {"properties": {"ci": {"type": "null"}}},
            "then": {"required": ["no_ci_reason"]},
        },
    )
    id: str
    metric: str
    definition: str
    direction: Literal["higher_better", "lower_better", "descriptive"]
    unit: Literal["fraction", "bits", "cost", "count", "seconds", "db"] = "fraction"
    value: Finite | None
    ci: Interval | None
    no_ci_reason: str = ""
    support: Support
    slice: dict[str, str]
    detector: str = ""
    operating_point: str = ""
    scores_sha256: Sha256 = ""
    status: Literal["confirmatory", "exploratory", "under_powered", "not_reported"]

    @model_validator(mode="after")
    def _interval_or_reason(self) -> Self:
        if self.ci is None and not self.no_ci_reason.strip():
            raise ValueError(f"number {self.id} has neither an interval nor a reason for having none")
        return self


class Issuer(_Record):
    """Who wrote the dossier, and how independent of the tool's provider they are."""

    name: str
    role: Literal["self_assessment", "commissioned_professional_institution", "research"]
    independence: str
    independence_zh: str = ""


class Scope(_Record):
    """What is claimed and what is not."""

    claim: str
    non_claims: Annotated[list[str], Field(min_length=1)]
    claim_zh: str = ""
    non_claims_zh: list[str] = []
    limitations_zh: list[str] = []


class Stratum(_Record):
    """Samples of one generator or of the real class in the measured table."""

    name: str
    label: Literal["real", "fake"]
    n: Count
    n_nonresponse: Count
    n_clusters: Count


class Sampling(_Record):
    """How the outputs of the tool were drawn."""

    drawn_by: str
    rule: str
    rule_zh: str = ""
    seed: int | None = None
    refusals: int | None = None
    strata: list[Stratum] = []


class Tool(_Record):
    """The editing tool, bound to one version."""

    name: str
    version: str
    functions: list[
        Literal[
            "face_generation", "face_swap", "face_attribute_edit", "face_reenactment", "lip_sync", "pose", "tts",
            "voice_conversion", "voice_attribute_edit", "other",
        ]
    ]  # fmt: skip
    modality: Literal["image", "video", "audio", "audiovisual"]
    artefact_sha256: Sha256 | None
    outputs_manifest_sha256: Sha256
    seen_by_detectors: Literal["no", "yes", "unknown"] = "unknown"
    biometric: Literal["face", "voice"] = None  # pyright: ignore[reportAssignmentType]
    provider: str = ""
    generator: str = ""
    settings: dict[str, str] = {}
    sampling: Sampling = None  # pyright: ignore[reportAssignmentType]


class LegalRow(_Record):
    """One provision and what this dossier has to do with it."""

    instrument: str
    provision: str
    status: Literal["measured", "audited_document", "not_technical", "out_of_scope"]
    evidence_ids: list[str]
    text_source: str = ""
    text_sha256: Sha256 = ""
    note: str = ""
    instrument_zh: str = ""
    provision_zh: str = ""
    note_zh: str = ""


class Opening(_Record):
    """One opening of the test labels."""

    opened_utc: str
    table_sha256: Sha256
    protocol_sha256: Sha256


class Preregistration(_Record):
    """The frozen protocol and when the test labels were read."""

    protocol_sha256: Sha256
    frozen_utc: str
    test_opened_utc: str
    deviations: list[str]
    deviations_zh: list[str] = []
    protocol_name: str = ""
    protocol_version: str = ""
    openings: list[Opening] = []
    self_kept: bool = True


class Distribution(_Record):
    """One nuisance variable: shares per bin of real and fake samples; edges (bins + 1) or one label per bin."""

    name: str
    unit: str
    bins: list[Finite] | list[str]
    real: list[Finite]
    fake: list[Finite]


class Dataset(_Record):
    """Data used, with licence and consent basis."""

    name: str
    version: str
    licence: str
    licence_allows_this_use: bool
    source: str
    manifest_sha256: Sha256
    n_items: int
    consent_basis: str
    languages_or_regions: list[str]
    role: str = ""
    n_real: int = 0
    n_fake: int = 0
    distributions: list[Distribution] = []
    consent_basis_zh: str = ""


class NearDuplicates(_Record):
    """How near-duplicates were looked for, and how many pairs cross splits."""

    method: str
    threshold: float
    pairs_across_splits: int
    method_zh: str = ""


class Splits(_Record):
    """Proof that splits share nothing."""

    manifest_sha256: Sha256
    disjoint_on: list[
        Literal[
            "file_sha256", "speaker", "identity", "source_video", "generator", "session", "near_duplicate_cluster"
        ]
    ]  # fmt: skip
    overlap_counts: dict[str, Count]
    near_duplicate_audit: NearDuplicates
    counts: dict[str, dict[str, int]] = {}


class Detector(_Record):
    """A detector and everything that is needed to draw its figures again."""

    id: str
    weights_sha256: Sha256
    training_data: list[str]
    score_semantics: Literal["llr_fake_vs_bona", "uncalibrated_higher_is_fake"]
    calibration: dict[str, Any] = {}
    name: str = ""
    bundle_sha256: Sha256 = ""
    scope: dict[str, Any] = {}
    generators_seen: list[str] = []
    licence_chain: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}


class OperatingPoint(_Record):
    """A threshold; `fitted_on` can only be dev."""

    id: str
    detector: str
    rule: str
    fitted_on: Literal["dev"]
    threshold: Finite
    inequality: Literal["flag_if_score_ge", "flag_if_score_gt"]
    dev_table_sha256: Sha256 = ""
    target_bpcer: float = None  # pyright: ignore[reportAssignmentType]
    realised_dev_bpcer: float = None  # pyright: ignore[reportAssignmentType]
    n_real_dev: int = 0
    n_clusters_dev: int = 0
    supported_on_dev: bool = True


class Claim(_Record):
    """A declared claim, its rule and its three-state verdict."""

    id: str
    text: str
    rule: str
    verdict: Literal["supported", "not_supported", "inconclusive"]
    number_ids: list[str]
    blocked_by: list[str] = []
    text_zh: str = ""
    rule_zh: str = ""
    reason: str = ""
    reason_zh: str = ""
    theta: float = None  # pyright: ignore[reportAssignmentType]
    side: Literal["at_most", "at_least"] = None  # pyright: ignore[reportAssignmentType]


class Condition(_Record):
    """A way in which the test files were changed and scored again (schema 0.3)."""

    name: str
    kind: Literal["ladder", "recode", "trim"]
    ladder: str = ""
    strength: Finite = 0.0
    title: str = ""
    unit: str = ""
    coder: str = ""
    n_real: Count
    n_fake: Count
    n_nonresponse: Count


class Comparison(_Record):
    """A difference that the protocol declared, with its p-value before and after Holm (schema 0.3)."""

    id: str
    number_id: str
    metric: str
    operating_point: str = ""
    first: str
    second: str
    value_first: Finite
    value_second: Finite
    p: Annotated[float, Field(ge=0, le=1)] | None
    p_holm: Annotated[float, Field(ge=0, le=1)] | None = None
    family: Count


class Power(_Record):
    """What the test could have shown about a claim, at the sizes that it had (schema 0.3)."""

    claim: str
    theta: Finite
    n: Annotated[int, Field(ge=1)]
    n_clusters: Count
    design_effect: Annotated[float, Field(ge=0)]
    n_effective: Annotated[int, Field(ge=1)]
    power_at_half_theta: Annotated[float, Field(ge=0, le=1)]
    largest_rate: Finite | None
    n_needed: Count


class PreviousVersion(_Record):
    """The dossier of the same tool that this one is compared with (schema 0.3)."""

    dossier_id: str
    statement_sha256: Sha256
    version: str
    created_utc: str
    same_detector: bool
    same_thresholds: bool
    same_inputs: Count
    shared_clusters: Count
    comparisons: list[Comparison]


class Labelling(_Record):
    """The labelling annex (Art. 12 of the Labelling Measures)."""

    rules_version: str
    explicit: list[Number]
    implicit: list[Number]
    survival: list[Number]


class Check(_Record):
    """One automatic check F01-F12."""

    id: CheckId
    outcome: Literal["pass", "warn", "fail", "not_run"]
    statistic: dict[str, Any]
    severity: Literal["B", "W"] = "B"
    threshold: str = ""
    threshold_zh: str = ""
    reason: str = ""
    reason_zh: str = ""
    applicable: bool = True

    @property
    def blocks(self) -> bool:
        """Whether it forbids ``supported``: it failed, or it applies and was not run."""
        return self.outcome == "fail" or (self.outcome == "not_run" and self.applicable and self.severity == "B")


class Code(_Record):
    """Identity of the code that measured."""

    kind: Literal["commit", "wheel"]
    id: str
    dirty: bool


class Reproducibility(_Record):
    """How to do it again."""

    command: str
    config_sha256: Sha256
    environment_lock_sha256: Sha256
    seeds: list[int]
    hardware: str
    determinism: Literal["bitwise", "within_tolerance", "statistical"]
    tolerance: float = 0.0
    code: Code
    packages: dict[str, str] = {}


class Privacy(_Record):
    """What of people is inside; faces or voices only with consent references."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "if": {"properties": {"contains_faces_or_voices": {"const": True}}},
            "then": {"required": ["consent_refs"], "properties": {"consent_refs": {"minItems": 1}}},
        },
    )
    contains_faces_or_voices: bool
    consent_refs: list[str] = []
    pseudonymisation: str
    pseudonymisation_zh: str = ""
    retention_until: str
    retention_until_zh: str = ""
    salted_ids: bool = False

    @model_validator(mode="after")
    def _consent(self) -> Self:
        if self.contains_faces_or_voices and not self.consent_refs:
            raise ValueError("faces or voices are included without a consent reference")
        return self


class Digest(_Record):
    """SHA-256 of one subject."""

    sha256: Sha256


class Subject(_Record):
    """A named artefact that the dossier speaks of."""

    name: str
    digest: Digest


class Integrity(_Record):
    """What is hashed, and by whom it is signed, if at all."""

    canonicalisation: Literal["RFC8785"]
    statement_type: Literal["https://in-toto.io/Statement/v1"]
    predicate_type: str
    subjects: Annotated[list[Subject], Field(min_length=1)]
    previous_head_sha256: Sha256 | None = None
    signature: dict[str, Any] | None = None


class AssessmentLog(_Record):
    """One tool version, one modality, one protocol. Build with `parse_log`, which turns violations into `LogError`."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:deepassay:assessment-log:{SCHEMA_VERSION}",
        },
        title="Technical evidence for a safety assessment of a biometric editing tool",
    )
    schema_version: Literal["0.1", "0.2", "0.3"]
    dossier_id: str
    supersedes: str | None = None
    created_utc: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")]
    issuer: Issuer
    scope: Scope
    tool_under_assessment: Tool
    legal_map: list[LegalRow]
    preregistration: Preregistration
    datasets: Annotated[list[Dataset], Field(min_length=1)]
    splits: Splits
    detectors: Annotated[list[Detector], Field(min_length=1)]
    operating_points: list[OperatingPoint]
    claims: Annotated[list[Claim], Field(min_length=1)]
    results: Annotated[list[Number], Field(min_length=1)]
    labelling: Labelling
    checks: Annotated[list[Check], Field(min_length=12)]
    limitations: Annotated[list[str], Field(min_length=3)]
    reproducibility: Reproducibility
    privacy: Privacy
    integrity: Integrity
    human_conclusion: dict[str, Any] | None = None
    expires_utc: str | None = None
    synthetic: bool
    conditions: list[Condition] = []
    comparisons: list[Comparison] = []
    power: list[Power] = []
    previous_version: PreviousVersion | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        missing = sorted(set(CHECK_IDS) - {check.id for check in self.checks})
        if missing:
            raise ValueError(f"checks are missing: {', '.join(missing)}")
        numbers = {number.id: number for number in self.results}
        if len(numbers) != len(self.results):
            raise ValueError("two numbers share an id")
        self._of_its_time()
        detectors = {detector.id for detector in self.detectors}
        points = {point.id: point for point in self.operating_points}
        # A calibrated test table has another hash than it had before calibration, when dev tables are named.
        test = {check.statistic.get("test_table_sha256") for check in self.checks if check.id == "F01"} - {None, ""}
        for point in self.operating_points:
            if point.dev_table_sha256 in test:
                raise ValueError(f"operating point {point.id} was fitted on the test table")
        for number in self.results:
            if number.detector and number.detector not in detectors:
                raise ValueError(f"number {number.id} names detector {number.detector!r}, which is not described")
            if number.operating_point and number.operating_point not in points:
                raise ValueError(
                    f"number {number.id} names operating point {number.operating_point!r}, which is unknown"
                )
            point = points.get(number.operating_point)
            if point is not None and point.dev_table_sha256 and point.dev_table_sha256 == number.scores_sha256:
                raise ValueError(f"number {number.id}: its threshold was fitted on the table that it measures")
        for claim in self.claims:
            unknown = [name for name in claim.number_ids if name not in numbers]
            if unknown:
                raise ValueError(f"claim {claim.id} rests on unknown numbers {unknown}")
            if claim.verdict == "supported":
                self._may_be_supported(claim, [numbers[name] for name in claim.number_ids])
        return self

    def _of_its_time(self) -> None:
        """Nothing in a log is younger than its schema version."""
        unknown = {"0.1": (*SINCE_0_2, *SINCE_0_3), "0.2": SINCE_0_3}.get(self.schema_version, ())
        late = [n.id for n in self.results if n.ci is not None and n.ci.method in unknown]
        if late:
            raise ValueError(f"schema {self.schema_version} knows no interval like that of number {late[0]}")
        young = {"conditions", "comparisons", "power", "previous_version"} & self.model_fields_set
        if self.schema_version in ("0.1", "0.2") and (young or self.privacy.salted_ids):
            raise ValueError(f"schema {self.schema_version} has no {', '.join(sorted(young)) or 'salted_ids'}")
        known = {condition.name for condition in self.conditions}
        loose = sorted({n.slice["condition"] for n in self.results if "condition" in n.slice} - known)
        if loose:
            raise ValueError(f"numbers are of condition {loose[0]!r}, which is not described")
        numbers = {number.id for number in self.results}
        family = [*self.comparisons, *(self.previous_version.comparisons if self.previous_version else ())]
        lost = sorted({one.number_id for one in family} - numbers)
        if lost:
            raise ValueError(f"a comparison rests on unknown number {lost[0]}")

    def _may_be_supported(self, claim: Claim, numbers: list[Number]) -> None:
        bars = [f"{name} overlap {n}" for name, n in self.splits.overlap_counts.items() if n > 0]
        if self.splits.near_duplicate_audit.pairs_across_splits > 0:
            bars.append("near-duplicates across splits")
        if self.reproducibility.code.dirty:
            bars.append("the source tree was dirty")
        bars += [f"check {check.id} {check.outcome}" for check in self.checks if check.blocks]
        bars += [f"number {n.id} is {n.status}" for n in numbers if n.status in ("under_powered", "not_reported")]
        bars += [f"number {n.id} has no interval" for n in numbers if n.ci is None]
        if not numbers:
            bars.append("it rests on no number")
        if bars:
            raise ValueError(f"claim {claim.id} cannot be supported: {'; '.join(bars)}")

    def to_json(self) -> dict[str, Any]:
        """The document as plain JSON values, with the keys that were set."""
        return self.model_dump(mode="json", exclude_unset=True)


def parse_log(document: Mapping[str, Any], *, where: str = "assessment log") -> AssessmentLog:
    """Validate a document of any schema version that this package knows.

    Raises:
        LogError: names every violated rule and where it lies.
    """
    version = document.get("schema_version")
    if version not in INTERVALS:
        raise LogError(
            f"{where}: schema version {version!r} is unknown", hint=f"this release reads {', '.join(INTERVALS)}"
        )
    try:
        return AssessmentLog.model_validate(dict(document))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'document'}: {fault['msg']}" for fault in error.errors()
        )
        raise LogError(
            f"{where}: {faults}", hint="correct what the assessment was given; the log is never edited by hand"
        ) from error


def read_log(path: str | Path) -> AssessmentLog:
    """Read a log. Raises LogError where it is not JSON or breaks a rule."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LogError(f"{path}: not a readable JSON file ({error})", hint="assess the tool again") from error
    if not isinstance(document, dict):
        raise LogError(f"{path}: not an assessment log", hint="give the JSON file that `deepassay assess` wrote")
    return parse_log(document, where=str(path))


def write_log(log: AssessmentLog, path: str | Path) -> None:
    """Write atomically as indented JSON."""
    write_json(path, log.to_json())


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the log; `dossier.schema.json` beside this file is its committed copy."""
    return AssessmentLog.model_json_schema()
