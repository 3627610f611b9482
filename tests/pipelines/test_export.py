"""`deepassay export`: its words reach the exporter, and the refusals come before any work."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from deepassay.errors import ConfigError, ManifestError
from deepassay.manifest import Manifest, Sample
from deepassay.pipelines import export as verb

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "export.yaml"


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The verb's defaults; what `export_run` was called with is kept in ``seen``."""
    seen: dict = {}
    monkeypatch.setattr(verb, "export_run", lambda run, **given: seen.update(given))
    monkeypatch.setattr(verb.RunFolder, "open", lambda path: SimpleNamespace(path=Path(path)))
    config = {k: v for k, v in yaml.safe_load(CONFIG.read_text()).items() if k in verb.KEYS}
    return {**config, "run": str(tmp_path), "name": "x"}, seen


def test_the_configuration_and_the_verb_know_the_same_keys(words):
    assert set(words[0]) == set(verb.KEYS)


def test_commercial_and_variants_reach_the_exporter(words, tmp_path):
    config, seen = words
    assert verb.export({**config, "commercial": True, "variants": ["fp32", "int8"], "parity_files": 200}, tmp_path) == 0
    assert (seen["licence_use"], seen["variants"], seen["parity_files"]) == ("commercial", ("fp32", "int8"), 200)
    verb.export(config, tmp_path)
    assert (seen["licence_use"], seen["variants"], seen["sign"]) == (None, ("fp32",), None)
    with pytest.raises(ConfigError, match="layout"):
        verb.export({**config, "layout": "tower"}, tmp_path)


def test_parity_files_come_from_a_manifest_of_either_form(tmp_path):
    sample = Sample(sample_id="a", path="a.jpg", media="image", modality="face", label=0, source_id="a", corpus="c")
    manifest = Manifest.from_samples([sample], tmp_path, {"name": "c"})
    manifest.to_csv(tmp_path / "m.csv")
    manifest.to_parquet(tmp_path / "m.parquet")
    for name in ("m.csv", "m.parquet"):
        (read,) = verb._manifest(tmp_path / name)
        assert verb._manifest(tmp_path / name).file(read) == tmp_path / "a.jpg"
    with pytest.raises(ManifestError):
        verb._manifest(tmp_path / "none.csv")
