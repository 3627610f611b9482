"""Golden inputs, negated at the door: those files grow with bona fide, ours with fake."""

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class Trials:
    """Labels and scores in our polarity, and what else a golden file knows."""

    label: np.ndarray
    score: np.ndarray
    more: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="session")
def expected(golden: Path):
    def read(name: str) -> Any:
        return json.loads((golden / f"{name}_expected.json").read_text())

    return read


def toy(entry: dict[str, Any]) -> Trials:
    real, fake = -np.array(entry["bonafide"]), -np.array(entry["spoof"])
    return Trials(np.repeat([0, 1], [real.size, fake.size]), np.concatenate([real, fake]), {})


@pytest.fixture(scope="session")
def toys(expected) -> dict[str, tuple[Trials, dict[str, Any]]]:
    return {name: (toy(entry), entry["expected"]) for name, entry in expected("toy_scores").items()}


@pytest.fixture(scope="session")
def clustered(golden: Path) -> Trials:
    with open(golden / "synthetic_clustered.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return Trials(
        np.array([row["label"] != "bonafide" for row in rows]).astype(int),
        -np.array([float(row["score_a"]) for row in rows]),
        {
            "score_b": -np.array([float(row["score_b"]) for row in rows]),
            "speaker": np.array([row["speaker"] for row in rows], dtype=object),
            "group": np.array([row["group"] for row in rows], dtype=object),
            "generator": np.array([row["species"] for row in rows], dtype=object),
        },
    )


@pytest.fixture(scope="session")
def asvspoof5(golden: Path) -> Trials:
    """Detector scores; ``target`` marks target trials, ``asv`` are similarities that grow with the target speaker."""
    asv, cm, kind = np.genfromtxt(golden / "asvspoof5_fusion_dev_scores_label.csv.gz", delimiter=",", skip_header=1).T
    return Trials((kind == 0).astype(int), -cm, {"asv": asv, "target": kind == 1, "nontarget": kind == 2})


@pytest.fixture(scope="session")
def la2019(golden: Path) -> Trials:
    with gzip.open(golden / "asvspoof2019_la_eval_scores.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    systems = {name: -np.array([float(row[name]) for row in rows]) for name in ("ocsoftmax", "amsoftmax", "softmax")}
    return Trials(
        np.array([row["key"] == "spoof" for row in rows]).astype(int),
        systems["ocsoftmax"],
        {
            **systems,
            "speaker": np.array([row["speaker"] for row in rows], dtype=object),
            "generator": np.array([row["attack"] for row in rows], dtype=object),
        },
    )
