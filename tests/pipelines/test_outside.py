"""Somebody else's scores: joined to dev and test, calibrated on dev, assessed, sealed and verified like our own."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1]))

from deepassay.errors import ConfigError, ScoreError
from deepassay.evidence.assess import assess, enclosed
from deepassay.evidence.envelope import make_key
from deepassay.evidence.protocol import Register
from deepassay.evidence.pseudonyms import Pseudonyms
from deepassay.evidence.verify import verify_dossier
from deepassay.files import write_json
from deepassay.pipelines.conditions import write_enclosed
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.outside import Outside
from deepassay.pipelines.seal import seal_run
from deepassay.scores import ScoreTable
from score_worlds import PROVENANCE, made_world, make_protocol, make_tool

PLAN = make_protocol(slices=("generator",), replicates=60)


@pytest.fixture(scope="module")
def world():
    return made_world(people=(4, 30, 30))


@pytest.fixture
def run(tmp_path, world):
    """A run folder that holds a split manifest and nothing of a detector."""
    place = tmp_path / "run"
    place.mkdir()
    (place / "config.yaml").write_text(yaml.safe_dump({"seed": 0}))
    world.manifest.to_parquet(place / "manifest.parquet")
    write_json(place / "run.json", {"root": str(tmp_path), "manifest_sha256": world.manifest.hash})
    return RunFolder.open(place)


def csv(world, path, *, sign=1.0, drop=0):
    lines = ["file,points"]
    for table in (world.dev, world.test):
        for one, score in list(zip(table.column("sample_id"), table.column("score"), strict=True))[drop:]:
            lines.append(f"{one},{'' if score != score else sign * score}")
    path.write_text("\n".join(lines))
    return path


def read(run, path, **changes):
    settings = {
        "csv": str(path),
        "name": "Their detector",
        "higher": "fake",
        "id": "file",
        "score": "points",
        **changes,
    }
    return Outside.read(settings, run, PLAN)


def test_their_scores_are_calibrated_on_dev_and_judged_like_ours(run, world, tmp_path):
    outside = read(run, csv(world, tmp_path / "s.csv"), generators_seen=["local_warp"])
    assert outside.run.path == run.path / "outside" / "Their_detector"
    test = ScoreTable.read(outside.run.scores("test"))
    assert len(test) == len(world.test)
    assert test.column("llr") == pytest.approx(world.test.column("llr"), nan_ok=True)
    assert [p.threshold for p in outside.info["operating_points"]] == pytest.approx([p.threshold for p in world.points])
    assert outside.info["generators_seen"] == ["local_warp"]
    assert not Register(outside.run.protocol).openings(), "laying scores down opens nothing"


def test_scores_that_grow_with_real_are_turned_and_never_guessed(run, world, tmp_path):
    turned = read(run, csv(world, tmp_path / "s.csv", sign=-1.0), higher="real")
    assert ScoreTable.read(turned.run.scores("test")).column("llr") == pytest.approx(
        world.test.column("llr"), nan_ok=True
    )
    with pytest.raises(ScoreError, match="not known what a higher score means"):
        read(run, tmp_path / "s.csv", higher=None)


def test_a_sample_without_a_line_and_unknown_keys_are_errors(run, world, tmp_path):
    with pytest.raises(ScoreError, match="no line for 3"):
        read(run, csv(world, tmp_path / "s.csv", drop=3))
    with pytest.raises(ConfigError, match="no name"):
        read(run, tmp_path / "s.csv", name=None)
    with pytest.raises(ConfigError, match="unknown key"):
        read(run, tmp_path / "s.csv", hihger="fake")
    assert Outside.read({"csv": None}, run, PLAN) is None


def test_earlier_openings_of_the_test_labels_stay_on_record(run, world, tmp_path):
    book = Register(run.protocol)
    book.freeze(PLAN)
    book.record_opening("f" * 64)
    outside = read(run, csv(world, tmp_path / "s.csv"))
    outside.open_test()
    outside.open_test()
    assert len(Register(outside.run.protocol).openings()) == 2


def test_their_dossier_is_sealed_and_verified(run, world, tmp_path):
    outside = read(run, csv(world, tmp_path / "s.csv"))
    own = outside.run
    Register(own.protocol).freeze(PLAN)
    outside.open_test()
    dev, test = ScoreTable.read(own.scores("dev")), ScoreTable.read(own.scores("test"))
    salt = Pseudonyms(bytes(32))
    log = assess(
        tool=make_tool(), protocol=PLAN, preregistration=Register(own.protocol).record(), dev=dev, test=test,
        bundle_info=outside.info, manifest=run.manifest(), provenance=PROVENANCE, salt=salt, now=datetime.now(UTC),
    )  # fmt: skip
    outcomes = {check.id: check.outcome for check in log.checks}
    assert outcomes["F01"] == "pass"
    assert outcomes["F12"] == "not_run", "nobody said what it was trained on"
    assert log.detectors[0].name == "Their detector"
    assert log.claims[0].verdict != "supported"
    write_enclosed(own, enclosed(test, dev, None, PLAN, salt))
    key = make_key(tmp_path / "key")
    out = seal_run(own, log, key=tmp_path / "key", languages=("en",))
    wrong = [f for f in verify_dossier(out, key=key.public) if f.outcome == "wrong"]
    assert not wrong, wrong
