"""prepare: parts made one by one or elsewhere are the store that one run makes; what is not a part is refused."""

from pathlib import Path

import pytest

from deepassay.errors import AssayError, ConfigError
from deepassay.files import sha256_file
from deepassay.pipelines.prepare import prepare, read_shard


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("voices")
    return {
        "name": "x",
        "seed": 0,
        "corpus": {
            "_target_": "deepassay.corpora.synthetic_voices.SyntheticVoices",
            "root": str(root),
            "speakers": 8,
            "per_speaker": 2,
        },
        "modality": {"_target_": "deepassay.modality.voice.VoiceModality"},
        "split": {"_target_": "deepassay.splits.SubjectSplit", "fractions": {"train": 0.5, "dev": 0.5}},
    }


def run(config, place: Path, **options) -> Path:
    """The store's folder after a run."""
    (place / "run").mkdir(parents=True, exist_ok=True)
    store = {"store_folder": str(place), "encoding": "raw", "workers": 0, "shard_samples": 3}
    assert prepare({**config, "store": store, **options}, place / "run") == 0
    return next(p for p in place.iterdir() if p.name != "run")


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_parts_give_the_same_store(config, tmp_path, capsys):
    whole = run(config, tmp_path / "whole")
    for part in ("2/3", "3/3"):
        shared = run(config, tmp_path / "shared", shard=part)
        assert "files of views are there" in capsys.readouterr().out
    with pytest.raises(AssayError, match="files of views are missing"):
        run(config, tmp_path / "shared", merge=True)
    run(config, tmp_path / "shared", shard="1/3")
    run(config, tmp_path / "shared", merge=True)
    assert tree(shared) == tree(whole)

    apart = [run(config, tmp_path / f"machine{i}", shard=f"{i}/2") for i in (1, 2)]
    with pytest.raises(AssayError, match="files of views are missing"):
        run(config, tmp_path / "merged", merge=[str(apart[0])])
    assert tree(run(config, tmp_path / "merged", merge=[str(p) for p in apart])) == tree(whole)
    assert (tmp_path / "merged" / "run" / "manifest.parquet").is_file()


def test_what_is_not_a_part_is_refused():
    assert [read_shard(t) for t in ("1/1", "2/3", " 3/3 ")] == [(0, 1), (1, 3), (2, 3)]
    for text in ("0/3", "4/3", "1", "a/b", "1/0", "-1/3"):
        with pytest.raises(ConfigError, match="shard=1/3"):
            read_shard(text)
