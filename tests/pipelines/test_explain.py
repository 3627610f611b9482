"""explain writes numbers by default and pictures only of samples that were named, and never looks at test labels."""

import json

import numpy as np
import pytest
import torch
import yaml

from deepassay.cli import config_root
from deepassay.corpora.synthetic_faces import SyntheticFaces
from deepassay.errors import ConfigError
from deepassay.media.image import read_image
from deepassay.models.weights import save_weights
from deepassay.pipelines.build import build
from deepassay.pipelines.explain import KEYS, explain, mean_interval
from deepassay.pipelines.folder import RunFolder
from deepassay.splits import SubjectSplit
from deepassay.store import prepare_store


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """A run whose detector has random weights and a mask head."""
    from deepassay.models.mtcnn import export_finder_graphs

    place = tmp_path_factory.mktemp("explained")
    export_finder_graphs(place / "finder")
    config = {
        "modality": {
            "_target_": "deepassay.modality.face.FaceModality", "finder_folder": str(place / "finder"), "size": 64,
        },
        "detector": {
            "_target_": "deepassay.models.timm_detector.TimmDetector", "backbone": "mobilenetv3_small_050", "size": 64,
            "mask_head": 8,
        },
        "seed": 0,
    }  # fmt: skip
    corpus = SyntheticFaces(
        root=str(place / "corpus"), identities=6, per_identity=4, videos=0, size=160, workers=0, progress=False
    )
    manifest = SubjectSplit(fractions={"train": 0.3, "dev": 0.4, "test": 0.3}).apply(corpus.prepare())
    modality = build(config["modality"])
    store = prepare_store(manifest, modality, place / "store", progress=False)
    run = RunFolder.start(place / "run", config, resume=False)
    run.keep_data(manifest, store)
    torch.manual_seed(0)
    (run.path / "checkpoints").mkdir()
    save_weights(build(config["detector"]).state_dict(), run.path / "checkpoints" / "best.safetensors")
    return run


def settings(run: RunFolder, **more) -> dict:
    values = yaml.safe_load((config_root() / "explain.yaml").read_text())
    values.pop("defaults")
    return {**values, "run": str(run.path), "per_generator": 1, "steps": 4, "replicates": 50, "name": "x", **more}


def test_by_default_there_are_numbers_and_no_picture(run, tmp_path, capsys):
    assert explain(settings(run), tmp_path) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["faithfulness.json", "faithfulness.md"]
    record = json.loads((tmp_path / "faithfulness.json").read_text())
    assert record["synthetic"]
    assert record["status"] == "under_powered"
    assert record["n_samples"] == len(record["generators"]) > 0
    rows = {(r["measure"], r["method"]): r for r in record["rows"]}
    assert set(rows) == {
        (m, s) for m in ("deletion", "insertion") for s in ("grad_cam", "mask_head", "random", "centre")
    }
    for (_, method), row in rows.items():
        assert row["ci"]["lo"] <= row["value"] <= row["ci"]["hi"]
        assert (row["against_random"] is None) == (method == "random")
    one = rows["deletion", "grad_cam"]
    assert one["against_random"]["value"] == pytest.approx(one["value"] - rows["deletion", "random"]["value"])
    text = (tmp_path / "faithfulness.md").read_text()
    assert "Synthetic data" in text
    assert "| insertion | mask_head |" in text
    assert "SYNTHETIC DATA" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_numbers(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        explain(settings(run, methods=["grad_cam"]), tmp_path / name)
    one, two = ((tmp_path / n / "faithfulness.json").read_text() for n in ("a", "b"))
    assert one == two


def test_pictures_are_written_of_the_samples_named_and_of_no_others(run, tmp_path, capsys):
    manifest, store = run.manifest(), run.store(run.modality())
    wanted = [s.sample_id for s in manifest if store.n_views(s.sample_id)][:2]
    assert explain(settings(run, samples=wanted, per_generator=0), tmp_path) == 0
    files = sorted((tmp_path / "explanations").iterdir())
    assert len(files) == 2
    assert not (tmp_path / "faithfulness.json").exists()
    picture = read_image(files[0])
    assert picture.shape == (64, 3 * 64, 3), "the view, and two maps"
    views = [run.modality().draw(store.views(i), 1).data[0] for i in wanted]
    assert any(np.array_equal(picture[:, :64], view) for view in views)
    assert "logits" in capsys.readouterr().out


def test_what_cannot_be_done_is_refused(run, tmp_path):
    for wrong, text in (
        ({"split": "test"}, "dev or train"),
        ({"samples": ["nobody"]}, "no sample 'nobody'"),
        ({"methods": ["lime"]}, "does not offer 'lime'"),
        ({"colour": "red"}, "unknown config key 'colour'"),
    ):
        with pytest.raises(ConfigError, match=text):
            explain(settings(run, **wrong), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_config_holds_every_key_of_the_verb():
    values = yaml.safe_load((config_root() / "explain.yaml").read_text())
    assert set(values) - {"defaults"} == KEYS


def test_intervals_resample_clusters():
    values = np.repeat([0.0, 1.0], 50)
    few = mean_interval(values, ["a"] * 50 + ["b"] * 50, 500, 0)
    many = mean_interval(values, [str(i) for i in range(100)], 500, 0)
    assert (few["lo"], few["hi"]) == (0, 1), "two clusters, however many samples"
    assert many["hi"] - many["lo"] < 0.25
    assert (few["reliable"], many["reliable"]) == (False, True)
