"""Score tables and manifests with known properties, drawn from a seed: no media, no network, quick."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from deepassay.calibrator import Calibration, OperatingPoint, calibrate, fit_calibration, fit_operating_points
from deepassay.evidence.protocol import Protocol, Register
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import Manifest, Sample
from deepassay.scores import Scored, ScoreTable

# Mean score of each generator; real samples have mean 0; everything varies by 1, and each person by a shift of theirs.
GENERATORS = {"example_swap": 4.0, "local_warp": 2.2, "blend_easy": 5.0}


def made_manifest(
    *, seed=0, people=(10, 60, 60), per_person=2, media="image", generators=GENERATORS, synthetic=True, size_gap=0
) -> Manifest:
    rng = np.random.Generator(np.random.PCG64(seed))
    samples = []
    for split, n in zip(("train", "dev", "test"), people, strict=True):
        for person in range(n):
            subject = f"{split}-{person}"
            for label, generator in [(REAL, ""), *((FAKE, g) for g in generators)]:
                for shot in range(per_person):
                    sample_id = f"{subject}/{generator or 'real'}/{shot}"
                    samples.append(
                        Sample(
                            sample_id=sample_id,
                            path=f"{sample_id}.bin",
                            media=media,
                            modality="voice" if media == "audio" else "face",
                            label=label,
                            source_id=f"{subject}-source",
                            subjects=(subject,),
                            generator=generator,
                            generator_family="swap" if generator == "example_swap" else ("other" if generator else ""),
                            corpus="made-up",
                            split=split,
                            attributes={"gender": "f" if person % 2 else "m"},
                            licence="CC0",
                            sha256=hashlib.sha256(f"{seed}{sample_id}".encode()).hexdigest(),
                            bytes=int(max(1000, rng.normal(20000, 3000) + size_gap * label)),
                            width=None if media == "audio" else 224,
                            height=None if media == "audio" else 224,
                            rate_hz=16000 if media == "audio" else None,
                            codec="flac" if media == "audio" else "jpeg",
                            duration_s=None if media == "image" else float(rng.uniform(2, 5)),
                        )
                    )
    return Manifest.from_samples(
        samples, Path(), {"name": "made-up", "synthetic": synthetic, "licence": "CC0", "version": "1"}
    )


def made_scores(manifest: Manifest, split: str, *, seed=0, means=GENERATORS, silent=0.02, personal=0.5) -> ScoreTable:
    part = manifest.split(split)
    rng = np.random.Generator(np.random.PCG64([seed, len(split)]))
    shift: dict[str, float] = {}
    scored = {}
    for sample in part:
        own = shift.setdefault(sample.cluster, rng.normal(0, personal))
        noise, dice = rng.normal(0, 1), rng.random()
        if dice < silent:
            scored[sample.sample_id] = Scored(status=Status.NO_FACE, reason="no face found")
        else:
            mean = means[sample.generator] if sample.label == FAKE else 0.0
            scored[sample.sample_id] = Scored(score=float(mean + own + noise), n_views=1, n_tracks=1)
    return ScoreTable.from_scored(part, scored, {"detector": "toy", "bundle_sha256": "b" * 64})


@dataclass(frozen=True)
class World:
    """A split manifest, calibrated dev and test tables, and what was fixed on dev."""

    manifest: Manifest
    dev: ScoreTable
    test: ScoreTable
    calibration: Calibration
    points: list[OperatingPoint]

    @property
    def bundle(self) -> dict:
        """As `evidence.assess.bundle_info` gives it."""
        return {
            "name": "toy",
            "bundle_sha256": "b" * 64,
            "weights_sha256": "a" * 64,
            "calibration": self.calibration,
            "operating_points": self.points,
            "generators_seen": ["local_warp", "blend_easy"],
            "licence_chain": [{"name": "toy", "licence": "Apache-2.0"}],
            "scope": {"statement": "made-up scores"},
            "manifest_sha256s": {"made-up": self.manifest.hash},
            "created_utc": "2026-01-01T00:00:00+00:00",
            "synthetic": self.manifest.synthetic,
        }


def made_world(*, silent=0.02, means=GENERATORS, **choices) -> World:
    manifest = made_manifest(generators=means, **choices)
    dev = made_scores(manifest, "dev", seed=1, means=means, silent=silent)
    calibration = fit_calibration(dev)
    dev = calibrate(dev, calibration)
    test = calibrate(made_scores(manifest, "test", seed=2, means=means, silent=silent), calibration)
    return World(manifest, dev, test, calibration, fit_operating_points(dev))


# Condition -> how far the scores of fakes fall; recoding and trimming change nothing but noise.
STEPS = {"recode:jpeg@75": 0.0, "jpeg@90": 0.2, "jpeg@30": 1.5, "noise@20": 3.0}


def made_conditions(world: World, steps=STEPS, *, tool="example_swap", seed=5, real_shift=0.0):
    """Conditions and the scores under them: fakes lose what ``steps`` says, real samples move by ``real_shift``."""
    from deepassay.evidence.conditions import Condition, ConditionScores

    test, tables, conditions = world.test, {}, []
    for position, (name, loss) in enumerate(steps.items()):
        kind = name.partition(":")[0] if name.startswith(("recode", "trim")) else "ladder"
        label, generator = test.column("label"), test.column("generator")
        part = test if kind != "ladder" else test.select((label == REAL) | (generator == tool))
        rng = np.random.Generator(np.random.PCG64([seed, position]))
        move = rng.normal(0, 0.05, len(part)) + np.where(part.column("label") == FAKE, -loss, real_shift)
        rows = part.table.to_pylist()
        for row, shift in zip(rows, move, strict=True):
            row["score"] = None if row["score"] is None else row["score"] + float(shift)
        tables[name] = ScoreTable(type(part.table).from_pylist(rows, schema=part.table.schema), part.meta)
        ladder, _, strength = name.rpartition(":")[2].partition("@")
        conditions.append(
            Condition(name=name, kind=kind, ladder=ladder, strength=float(strength or 0), title=ladder, unit="quality",
                      coder="made up")
        )  # fmt: skip
    return conditions, ConditionScores.collect(tables)


NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PROVENANCE = {
    "code": {"kind": "commit", "id": "c" * 40, "dirty": False},
    "command": "deepassay assess run=runs/x tool=y",
    "config_sha256": "d" * 64,
    "lock_sha256": "e" * 64,
    "environment_sha256": "f" * 64,
    "seeds": [0],
    "hardware": "made-up machine",
    "packages": {"numpy": "2.0"},
}

CLAIMS = (
    {"id": "C1", "metric": "apcer", "operating_point": "bpcer_5", "side": "at_most", "theta": 0.25,
     "text": {"en": "At most {theta} of the outputs of {tool} are missed.", "zh": "{tool} 的漏检比例不超过 {theta}。"}},
    {"id": "C2", "metric": "auc", "side": "at_least", "theta": 0.8, "text": {"en": "AUC of {tool} at least {theta}."}},
    {"id": "C3", "metric": "bpcer", "about": "all", "operating_point": "bpcer_5", "side": "at_most", "theta": 0.0001,
     "text": {"en": "At most {theta} of real samples are flagged."}},
)  # fmt: skip


def make_protocol(**changes):
    values = {
        "name": "test", "version": "1",
        "headline": {"en": "{tool} {version} was measured.", "zh": "测量了 {tool} {version}。"},
        "claims": CLAIMS, "replicates": 200, "slices": ("generator", "gender"),
    }  # fmt: skip
    return Protocol(**{**values, **changes})


def make_tool(**changes):
    values = {
        "name": "Example swap", "version": "1", "provider": "somebody", "functions": ["face_swap"], "modality": "face",
        "media": "image", "generator": "example_swap", "seen_by_detectors": "no", "drawn_by": "assessor",
    }  # fmt: skip
    return ToolUnderAssessment(**{**values, **changes})


def register(folder, protocol, test):
    book = Register(folder)
    book.freeze(protocol, now=NOON - timedelta(hours=1))
    book.record_opening(test.hash, now=NOON - timedelta(minutes=30))
    return book.record()
