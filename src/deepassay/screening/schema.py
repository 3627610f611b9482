"""Schema of bundle.json as pydantic models: checked at export and by `bundle verify`, published as JSON Schema."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, StringConstraints, ValidationError

from deepassay.errors import BundleError

# Screening never loads this file (pydantic takes a tenth of a second): at load `bundle._check_facts` looks at the same
# keys by hand, and a test holds the two together.
SCHEMA_FILE = Path(__file__).with_name("bundle.schema.json")
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Record(BaseModel):
    """Unknown keys are errors, and no value is bent to fit."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ModalityFacts(Record):
    """What turns files into views."""

    name: Literal["face", "voice"]
    contract: dict[str, JsonValue] = Field(description="view contract, as the modality wrote it; rebuilds it")
    fingerprint: Text = Field(description="SHA-256 of the contract and of the finder's graphs")
    input_shape: Annotated[list[Size], Field(min_length=1)] = Field(description="of one view, without the batch")


class CalibrationFacts(Record):
    """llr = scale * score + offset, natural log, fake : real, fitted on dev."""

    scale: Annotated[FiniteFloat, Field(gt=0)]
    offset: FiniteFloat
    dev_table_sha256: str
    n_real: Count
    n_fake: Count
    informative: bool
    n_real_unanswered: Count = 0
    n_fake_unanswered: Count = 0
    warning: str = ""


class OperatingPointFacts(Record):
    """Flag iff llr >= threshold."""

    name: Text
    target_bpcer: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    threshold: FiniteFloat
    dev_table_sha256: str
    realised_bpcer: Share = Field(description="on answered real dev files")
    n_real: Count
    n_clusters: Count
    supported: bool = Field(description="rule of 3: at least 3 / target_bpcer independent real dev files")
    inequality: Literal["flag_if_score_ge"] = "flag_if_score_ge"
    n_real_unanswered: Count = 0


class LimitFacts(Record):
    """Files below `least` are not judged."""

    name: Text
    least: FiniteFloat
    unit: str
    dev_least: FiniteFloat
    dev_median: FiniteFloat


class DistanceFacts(Record):
    """Files farther than `most` from the dev files' statistics are not judged."""

    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    whitening: list[list[FiniteFloat]]
    most: FiniteFloat
    dev_most: FiniteFloat
    dev_median: FiniteFloat


class AbstentionFacts(Record):
    """Limits learnt on dev beyond which a file is not judged."""

    modality: Literal["face", "voice"]
    version: Literal[1]
    n_files: Count
    slack: FiniteFloat
    limits: list[LimitFacts]
    distance: DistanceFacts | None
    missing: str = Field(description="why there are none, or empty")


class ScopeFacts(Record):
    """What the bundle may be asked about."""

    statement: Annotated[str, StringConstraints(pattern=r"\S")]
    media: Annotated[list[Literal["image", "video", "audio"]], Field(min_length=1)]
    not_for: list[str]
    limits: dict[str, JsonValue]


class LicenceFacts(BaseModel):
    """One link of the licence chain; further keys are for readers."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Text
    licence: Text
    kind: str | None = None
    commercial: Literal["yes", "no", "unknown"] | None = Field(
        default=None, description="`bundle verify --commercial` refuses anything but yes"
    )


class BundleFacts(Record):
    """bundle.json of a deepassay bundle, version 2. Its SHA-256 is the bundle's identity."""

    model_config = ConfigDict(title="deepassay bundle", protected_namespaces=())

    schema_name: Literal["deepassay.bundle"] = Field(alias="schema")
    schema_version: Literal["2"]
    name: Text
    architecture: str
    created: str
    synthetic: bool = Field(description="trained on built-in synthetic data: says nothing of real files")
    modality: ModalityFacts
    precision: Literal["fp32", "fp16", "int8"]
    views: Size = Field(description="most views per file")
    pooling: str
    calibration: CalibrationFacts
    operating_points: list[OperatingPointFacts]
    abstention: AbstentionFacts
    scope: ScopeFacts
    generators_seen: list[str]
    licence_chain: list[LicenceFacts]
    manifest_sha256s: dict[str, Sha256]
    provenance: dict[str, JsonValue]
    files: dict[str, Sha256] = Field(description="every file of the bundle but bundle.json, SHA256SUMS, signature.json")


class BundleFactsV1(BundleFacts):
    """Version 1: neither precision nor abstention limits."""

    schema_version: Literal["1"]  # type: ignore[assignment]
    precision: None = None  # type: ignore[assignment]
    abstention: None = None  # type: ignore[assignment]


def check_schema(facts: Mapping[str, Any], place: str) -> None:
    """Compare facts with the schema of their version.

    Raises:
        BundleError: names the first key that is wrong.
    """
    model = BundleFactsV1 if facts.get("schema_version") == "1" else BundleFacts
    try:
        model.model_validate_json(json.dumps(dict(facts), allow_nan=False))
    except (ValidationError, ValueError, TypeError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        where = ".".join(str(part) for part in first["loc"]) if first else "facts"
        said = first["msg"] if first else str(error)
        raise BundleError(
            f"{place}: bundle.json does not keep its schema: {where}: {said}",
            hint="`deepassay bundle schema` prints the schema; export the bundle again",
        ) from error


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of bundle.json, version 2."""
    schema = BundleFacts.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:deepassay:bundle:2", **schema}


def schema_text() -> str:
    """The text of the published schema file."""
    return json.dumps(json_schema(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
