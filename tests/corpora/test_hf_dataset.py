"""Data sets in Arrow and Parquet give the manifest that their columns describe; their numbers are never guessed."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from deepassay.corpora.hf_dataset import HfDataset
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def sound(seed: int, form: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.random.default_rng(seed).normal(0, 0.1, 800), 16_000, format=form)
    return out.getvalue()


def table(n: int = 4, start: int = 0, *, names: list[str] | None = None, path: bool = True) -> pa.Table:
    rows = [
        {
            "audio": {"bytes": sound(start + k), "path": f"clip{start + k}.wav" if path else None},
            "key": k % 2,
            "speaker": f"p{(start + k) // 2}",
            "system": "" if k % 2 else "XTTS",
        }
        for k in range(n)
    ]
    features = {"key": {"_type": "ClassLabel", "names": names or ["spoof", "bonafide"]}}
    meta = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pa.schema(
        [
            ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("key", pa.int64()),
            ("speaker", pa.string()), ("system", pa.string()),
        ],
        metadata=meta,
    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=schema)


def save(folder: Path, *tables: pa.Table) -> None:
    """As `Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    files = []
    for k, part in enumerate(tables):
        name = f"data-{k:05d}-of-{len(tables):05d}.arrow"
        with pa.OSFile(str(folder / name), "wb") as stream, pa.ipc.new_stream(stream, part.schema) as writer:
            writer.write_table(part)
        files.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))


def read(root: Path, **options):
    columns = {"label": "key", "subjects": "speaker", "generator": "system"}
    facts = {"root": str(root), "modality": "voice", "columns": columns, "progress": False, **options}
    return HfDataset(**facts).prepare()


@pytest.fixture
def saved(tmp_path) -> Path:
    root = tmp_path / "set"
    save(root / "train", table(4), table(4, 4))
    save(root / "validation", table(4, 8))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation"]}))
    return root


def test_a_saved_set_is_read_with_its_class_names_and_splits(saved):
    m = read(saved)
    assert len(m) == 12
    first = m[0]
    assert first.label == FAKE, "0 is spoof in this set, whatever 0 means elsewhere"
    assert first.generator == "XTTS"
    assert m[1].label == REAL
    assert m[1].generator == ""
    assert first.subjects == ("p0",)
    assert m.counts() == {
        "train": {"real": 4, "fake": 4, "unlabelled": 0}, "dev": {"real": 2, "fake": 2, "unlabelled": 0}
    }  # fmt: skip
    assert first.attributes["hf_split"] == "train"
    assert (first.rate_hz, first.sha256 != "") == (16_000, True)
    assert len({s.sample_id for s in m}) == 12
    assert read(saved).hash == m.hash, "media are written once, ids stay"


def test_canary_a_flipped_list_of_class_names_flips_every_label(tmp_path, saved):
    save(tmp_path / "flipped", table(4, names=["bonafide", "spoof"]))
    m = read(tmp_path / "flipped", columns={"label": "key", "subjects": "speaker"})
    assert [s.label for s in m] == [REAL, FAKE, REAL, FAKE]
    with pytest.raises(ManifestError, match="is real but names generator"):
        read(tmp_path / "flipped")


def test_parquet_shards_and_bytes_without_a_name(tmp_path):
    root = tmp_path / "set" / "data"
    root.mkdir(parents=True)
    pq.write_table(table(4, path=False), root / "train-00000-of-00002.parquet")
    pq.write_table(table(4, 4, path=False), root / "train-00001-of-00002.parquet")
    pq.write_table(table(2, 8, path=False), root / "test.parquet")
    m = read(tmp_path / "set")
    assert {k: sum(v.values()) for k, v in m.counts().items()} == {"train": 8, "test": 2}
    assert all(s.path.endswith(".wav") for s in m)
    assert len(list((tmp_path / "set/media/train").iterdir())) == 8


def test_paths_outside_the_table_and_plain_words(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    for k in range(2):
        (root / f"c{k}.wav").write_bytes(sound(k))
    rows = pa.table({"file": ["c0.wav", "c1.wav"], "label": ["genuine", "fake"], "speakers": [["a"], ["a", "b"]]})
    pq.write_table(rows, root / "all.parquet")
    m = HfDataset(root=str(root), modality="voice", columns={"subjects": "speakers"}, progress=False).prepare()
    assert [(s.path, s.label, s.subjects) for s in m] == [("c0.wav", REAL, ("a",)), ("c1.wav", FAKE, ("a", "b"))]
    (root / "c1.wav").unlink()
    with pytest.raises(ManifestError, match=r"1 of 2 files are missing.*c1\.wav"):
        HfDataset(root=str(root), modality="voice", columns={"subjects": "speakers"}, progress=False).prepare()


def test_a_name_inside_the_table_cannot_lead_out(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    rows = table(2).to_pylist()
    rows[0]["audio"]["path"] = "../../../evil.wav"
    pq.write_table(pa.Table.from_pylist(rows, schema=table(2).schema), root / "train.parquet")
    m = read(root)
    assert m[0].path == "media/train/00000000-evil.wav"
    rows = pa.table({"file": ["../x.wav", "y.wav"], "label": ["real", "fake"]})
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "x.wav").write_bytes(sound(0))
    (other / "y.wav").write_bytes(sound(1))
    pq.write_table(rows, other / "train.parquet")
    with pytest.raises(ManifestError, match="stay inside"):
        HfDataset(root=str(other), modality="voice", progress=False).prepare()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": {"label": "verdict"}}, "there is no column 'verdict'"),
        ({"media_column": "video"}, "no media column video"),
        ({"columns": {}}, "no label"),
    ],
)
def test_what_is_not_there_is_named(saved, options, said):
    with pytest.raises(ManifestError, match=said):
        read(saved, **options)


def test_numbers_without_names_are_refused(tmp_path):
    save(tmp_path / "set", table(4).replace_schema_metadata(None))
    with pytest.raises(ManifestError, match="is a number, and corpora disagree"):
        read(tmp_path / "set")
    m = read(tmp_path / "set", label_words={"0": "fake", "1": "real"})
    assert m[0].label == FAKE


def test_folders_of_something_else_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="neither a saved data set"):
        read(tmp_path / "empty")
    with pytest.raises(ManifestError, match="no such folder"):
        read(tmp_path / "none")
    (tmp_path / "empty/train.parquet").write_bytes(b"no table")
    with pytest.raises(ManifestError, match="not a readable table"):
        read(tmp_path / "empty")
    with pytest.raises(ConfigError, match="right of the colon"):
        HfDataset(root="x", splits={"eval": "evaluation"})


def test_the_package_itself_writes_what_is_read_here(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the datasets package belongs to the train extra")
    features = datasets.Features(
        {"audio": datasets.Value("string"), "key": datasets.ClassLabel(names=["fake", "real"])}
    )
    for k in range(2):
        (tmp_path / f"c{k}.wav").write_bytes(sound(k))
    made = datasets.Dataset.from_dict({"audio": ["../c0.wav", "../c1.wav"], "key": [0, 1]}, features=features)
    datasets.DatasetDict(train=made).save_to_disk(str(tmp_path / "set"))
    for k in range(2):
        (tmp_path / f"set/c{k}.wav").write_bytes(sound(k))
    with pytest.raises(ManifestError, match="stay inside"):
        read(tmp_path / "set", columns={"label": "key"})
    made = datasets.Dataset.from_dict({"audio": ["c0.wav", "c1.wav"], "key": [0, 1]}, features=features)
    datasets.DatasetDict(train=made).save_to_disk(str(tmp_path / "set2"))
    for k in range(2):
        (tmp_path / f"set2/c{k}.wav").write_bytes(sound(k))
    assert [s.label for s in read(tmp_path / "set2", columns={"label": "key"})] == [FAKE, REAL]
