"""Score tables: every sample accounted for, scores only where there was an answer, tampering noticed."""

import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import Manifest, Sample
from deepassay.scores import Scored, ScoreTable


def samples() -> list[Sample]:
    facts: dict[str, Any] = {"media": "image", "modality": "face"}
    return [
        Sample(sample_id="a", path="a.png", label=REAL, subjects=("p",), split="dev", **facts),
        Sample(sample_id="b", path="b.png", label=FAKE, generator="G", split="dev", attributes={"tone": "1"}, **facts),
        Sample(sample_id="c", path="c.png", label=None, split="dev", **facts),
    ]


def manifest() -> Manifest:
    return Manifest.from_samples(samples(), "r", {"name": "c", "synthetic": True})


def scored(**changes) -> dict[str, Scored]:
    rows = {
        "a": Scored(score=-1.5, n_views=4, seconds=0.1),
        "b": Scored(status=Status.NO_FACE, reason="no face of 40 px"),
        "c": Scored(score=2.0),
    }
    return {**rows, **changes}


def table(**changes) -> ScoreTable:
    return ScoreTable.from_scored(manifest(), scored(**changes), {"detector": "d"})


def test_every_sample_is_a_row_and_carries_what_is_known_of_it():
    out = table()
    assert len(out) == 3
    assert out.column("score").tolist()[0] == -1.5
    assert np.isnan(out.column("score")[1])
    assert out.column("status").tolist() == ["ok", "no_face", "ok"]
    assert out.column("reason")[1] == "no face of 40 px"
    assert out.column("label").tolist() == [0, 1, -1]
    assert out.column("cluster").tolist() == ["p", "b", "c"]
    assert out.column("n_views").tolist() == [4, 0, 0]
    assert out.answered.tolist() == [True, False, True]
    assert out.synthetic
    assert out.meta["manifest_sha256"] == manifest().hash
    assert out.meta["detector"] == "d"


def test_missing_and_foreign_ids_are_refused():
    rows = scored()
    del rows["b"]
    with pytest.raises(ScoreError, match="'b' of the manifest has no entry"):
        ScoreTable.from_scored(manifest(), rows)
    with pytest.raises(ScoreError, match="'z'"):
        table(z=Scored(score=0.0))


@pytest.mark.parametrize(
    "row",
    [
        Scored(score=None),
        Scored(score=1.0, status=Status.ERROR),
        Scored(score=float("nan")),
        Scored(score=float("inf")),
    ],
)
def test_a_score_and_an_answer_belong_together(row):
    with pytest.raises(ScoreError, match="hint"):
        table(a=row)


def test_hash_ignores_order_and_timing_but_no_score():
    one = table()
    assert one.hash == table(a=Scored(score=-1.5, seconds=9.0)).hash
    assert one.hash == one.select(np.array([True, True, True])).hash
    assert one.hash != table(a=Scored(score=-1.4)).hash
    assert one.hash != table(b=Scored(status=Status.ERROR)).hash


def test_write_and_read(tmp_path):
    before = table().with_llr(np.array([-2.0, np.nan, 3.0]), dev_table_sha256="ff")
    before.write(tmp_path / "s.parquet")
    after = ScoreTable.read(tmp_path / "s.parquet")
    assert after.hash == before.hash
    assert after.meta == dict(before.meta)
    assert after.meta["calibrated"] is True
    assert after.column("llr")[2] == 3.0
    assert after.table.equals(before.table)


def test_changed_rows_are_noticed(tmp_path):
    table().write(tmp_path / "s.parquet")
    raw = pq.read_table(tmp_path / "s.parquet")
    column = raw.column_names.index("score")
    changed = raw.set_column(column, raw.schema.field("score"), [[-9.0, None, 2.0]])
    pq.write_table(changed, tmp_path / "s.parquet")
    with pytest.raises(ScoreError, match="rows were changed"):
        ScoreTable.read(tmp_path / "s.parquet")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x").write_text("no")
    with pytest.raises(ScoreError, match="not a readable Parquet"):
        ScoreTable.read(tmp_path / "x")
    manifest().to_parquet(tmp_path / "m.parquet")
    with pytest.raises(ScoreError, match="not a deepassay score table"):
        ScoreTable.read(tmp_path / "m.parquet")
    table().write(tmp_path / "s.parquet")
    raw = pq.read_table(tmp_path / "s.parquet")
    head = json.loads(raw.schema.metadata[b"deepassay.scores"])
    pq.write_table(
        raw.replace_schema_metadata({b"deepassay.scores": json.dumps({**head, "schema": "99"}).encode()}),
        tmp_path / "s.parquet",
    )
    with pytest.raises(ScoreError, match="schema 99"):
        ScoreTable.read(tmp_path / "s.parquet")


@pytest.mark.parametrize("llr", [np.zeros(2), np.array([0.0, 1.0, 2.0]), np.array([np.inf, np.nan, 0.0])])
def test_an_llr_stands_only_where_a_score_does(llr):
    with pytest.raises(ScoreError, match="hint"):
        table().with_llr(llr, dev_table_sha256="ff")
