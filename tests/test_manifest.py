"""Manifests: validated, hashed by content, the same after a trip through Parquet or CSV."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import COLUMNS, Manifest, Sample, with_split


def sample(number: int = 0, **values) -> Sample:
    facts = {
        "sample_id": f"c/{number}",
        "path": f"d/{number}.flac",
        "media": "audio",
        "modality": "voice",
        "label": REAL,
    }
    return Sample(**{**facts, **values})


def manifest(*samples: Sample, root="r", **info) -> Manifest:
    return Manifest.from_samples(samples, root, {"name": "c", **info})


FULL = (
    sample(0, subjects=("anna",), attributes={"language": "pl", "age band": "20-30"}, duration_s=1.25, rate_hz=16000),
    sample(
        1, label=FAKE, generator="G 1", generator_family="GAN", subjects=("anna", "bea"), split="dev", licence="MIT"
    ),
    sample(2, label=None, source_id="tape 3", bytes=12, channel="mp3, 64 kbit/s", sha256="ab"),
)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"sample_id": ""}, "no sample_id"),
        ({"sample_id": "c/0"}, "'c/0' occurs more than once"),
        ({"media": "film"}, "media 'film'"),
        ({"modality": "gait"}, "modality 'gait'"),
        ({"split": "validation"}, "split 'validation'"),
        ({"path": "/etc/passwd"}, "'/etc/passwd'"),
        ({"path": "../up.wav"}, "'../up.wav'"),
        ({"path": ""}, "path ''"),
        ({"label": 2}, "label 2"),
        ({"generator": "G"}, "is real but names generator 'G'"),
        ({"duration_s": float("nan")}, "duration_s nan"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(bad, said):
    with pytest.raises(ManifestError) as caught:
        manifest(sample(0), sample(1, **bad))
    assert said in str(caught.value)
    assert "\nhint: " in str(caught.value)


def test_attribute_values_are_text():
    with pytest.raises(ManifestError, match="c/0"):
        manifest(sample(0, attributes={"age": 31}))


def test_hash_is_of_content_alone():
    one = manifest(*FULL)
    assert one.hash == manifest(*reversed(FULL), root="elsewhere").hash
    assert one.hash != manifest(replace(FULL[0], label=FAKE), *FULL[1:]).hash
    assert one.hash != manifest(*FULL[:2]).hash


CHANGES = {
    "sample_id": "c/other", "path": "b/x.png", "media": "video", "modality": "face", "label": None, "source_id": "s9",
    "subjects": ("a", "c"), "generator": "H", "generator_family": "f2", "corpus": "d", "split": "dev", "channel": "q",
    "attributes": {"k": "w"}, "licence": "MIT", "sha256": "1" * 64, "bytes": 8, "duration_s": 1.25, "width": 3,
    "height": 3, "fps": 24.0, "rate_hz": 8000, "codec": "x",
}  # fmt: skip


@pytest.mark.parametrize("column", COLUMNS)
def test_hash_changes_with_every_cell(column):
    rows = [sample(n, label=FAKE, subjects=("a", "b"), attributes={"k": "v"}, duration_s=1.0) for n in range(3)]
    assert manifest(*rows).hash != manifest(rows[0], replace(rows[1], **{column: CHANGES[column]}), rows[2]).hash


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"corpus": "ab", "split": ""}, {"corpus": "a", "channel": "b"}),
        ({"subjects": ("ab",)}, {"subjects": ("a", "b")}),
        ({"subjects": ("",)}, {"subjects": ()}),
        ({"attributes": {"k": ""}}, {"attributes": {}}),
        ({"attributes": {"k": "ab"}}, {"attributes": {"ka": "b"}}),
        ({"bytes": 0}, {"bytes": None}),
        ({"licence": None}, {"licence": ""}),
    ],
)
def test_hash_tells_apart_what_only_looks_alike(one, two):
    assert manifest(sample(0, **{"corpus": "c", **one})).hash != manifest(sample(0, **{"corpus": "c", **two})).hash


def test_hash_does_not_know_of_chunks_and_of_the_order_of_attributes():
    rows = [sample(n, subjects=("a",) * (n % 3), attributes={"k": str(n), "a": "b"}) for n in range(50)]
    whole = manifest(*rows)
    parts = [whole.table.slice(n, 7) for n in range(0, 50, 7)]
    assert Manifest(pa.concat_tables(parts), Path("r"), {}).hash == whole.hash
    turned = [replace(r, attributes=dict(reversed(r.attributes.items()))) for r in rows]
    assert manifest(*turned).hash == whole.hash


def test_whole_columns_are_replaced_and_checked():
    before = manifest(*FULL)
    after = before.replace_columns({"split": ["train"] * len(before), "label": [FAKE] * len(before)}, note="n")
    assert [s.split for s in after] == ["train"] * len(before)
    assert after.info["note"] == "n"
    assert after.hash != before.hash
    with pytest.raises(ManifestError, match="split must be one of"):
        before.replace_columns({"split": ["eval"] * len(before)})
    with pytest.raises(ManifestError, match="cannot hold"):
        before.replace_columns({"bytes": ["many"] * len(before)})


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_files_give_back_what_they_were_given(tmp_path, form):
    before = manifest(*FULL, synthetic=True)
    path = tmp_path / f"m.{form}"
    getattr(before, f"to_{form}")(path)
    after = getattr(Manifest, f"read_{form}")(path, "r")
    assert list(after) == list(before)
    assert after.hash == before.hash
    if form == "parquet":
        assert after.synthetic
        assert after.name == "c"


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=8)


@settings(max_examples=30, deadline=None)
@given(
    subjects=st.lists(text.filter(lambda t: "|" not in t), max_size=3),
    attributes=st.dictionaries(text, text, max_size=3),
    label=st.sampled_from([None, REAL, FAKE]),
    licence=text,
)
def test_csv_round_trip_of_any_text(tmp_path_factory, subjects, attributes, label, licence):
    path = tmp_path_factory.mktemp("csv") / "m.csv"
    before = manifest(sample(0, subjects=tuple(subjects), attributes=attributes, label=label, licence=licence))
    before.to_csv(path)
    assert Manifest.read_csv(path, "r").hash == before.hash


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_text("text")
    with pytest.raises(ManifestError, match="not a readable Parquet"):
        Manifest.read_parquet(tmp_path / "x.parquet", "r")
    with pytest.raises(ManifestError, match="hint"):
        Manifest.read_parquet(tmp_path / "absent.parquet", "r")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "y.parquet")
    with pytest.raises(ManifestError, match="not a deepassay manifest"):
        Manifest.read_parquet(tmp_path / "y.parquet", "r")


def test_a_manifest_of_another_schema_is_refused(tmp_path):
    manifest(*FULL).to_parquet(tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet")
    head = {b"deepassay.manifest": json.dumps({"schema": "99", "info": {}}).encode()}
    pq.write_table(table.replace_schema_metadata(head), tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="schema 99"):
        Manifest.read_parquet(tmp_path / "m.parquet", "r")


HEAD = "sample_id,path,media,modality,label"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("sample_id,path\na,b", "columns missing: ['media', 'modality']"),
        (f"{HEAD}\na,a.wav,audio,voice,1", "line 2: '1' is a number"),
        (f"{HEAD}\na,a.wav,audio,voice,real\nb,b.wav,audio,voice,maybe", "line 3: unknown label word 'maybe'"),
        (f"{HEAD},duration_s\na,a.wav,audio,voice,real,long", "duration_s is 'long'"),
        (f"{HEAD},duration_s\na,a.wav,audio,voice,real,nan", "duration_s is 'nan'"),
        (f"{HEAD},bytes\na,a.wav,audio,voice,real,1.5", "bytes is '1.5'"),
        (f"{HEAD}\na,,audio,voice,real", "empty ['path']"),
        (f"{HEAD}\na,a.wav,audio,voice,real,and,more", "line 2: more cells than columns"),
    ],
)
def test_csv_errors_name_the_line(tmp_path, rows, said):
    (tmp_path / "m.csv").write_text(rows)
    with pytest.raises(ManifestError) as caught:
        Manifest.read_csv(tmp_path / "m.csv", "r")
    assert said in str(caught.value)


def test_a_missing_csv_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(ManifestError, match="hint"):
        Manifest.read_csv(tmp_path / "no.csv", "r")


def test_whole_numbers_that_a_spreadsheet_wrote_as_floats_are_read(tmp_path):
    (tmp_path / "m.csv").write_text(f"{HEAD},bytes,width\na,a.wav,audio,voice,real,12.0,256.0")
    row = Manifest.read_csv(tmp_path / "m.csv", "r")[0]
    assert (row.bytes, row.width) == (12, 256)


def test_columns_counts_splits_and_selection():
    whole = manifest(*FULL)
    assert set(COLUMNS) >= {"sample_id", "sha256", "duration_s"}
    assert whole.column("label").tolist() == [0, 1, -1]
    assert whole.column("cluster").tolist() == ["anna", "anna", "tape 3"]
    assert whole.counts()["dev"] == {"real": 0, "fake": 1, "unlabelled": 0}
    assert [s.sample_id for s in whole.split("dev")] == ["c/1"]
    assert [s.sample_id for s in whole.select(lambda s: s.label == REAL)] == ["c/0"]
    assert len(whole.select([False, True, True])) == 2
    with pytest.raises(ManifestError, match="no split 'val'"):
        whole.split("val")
    moved = whole.replace_samples((with_split(s, "test") for s in whole), note="x")
    assert moved.info["note"] == "x"
    assert moved.info["name"] == "c"
    assert set(moved.column("split")) == {"test"}


def test_order_of_iteration_is_order_of_rows_even_across_batches():
    numbers = list(range(9000))
    random.Random(0).shuffle(numbers)
    big = manifest(*(sample(n) for n in numbers))
    assert [s.sample_id for s in big] == [f"c/{n}" for n in numbers]
    assert big[8500].sample_id == f"c/{numbers[8500]}"
