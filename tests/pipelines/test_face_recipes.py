"""Face recipes: unchanged from one corpus to another, and real pictures alone where a forge makes the fakes."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deepassay.cli import config_root
from deepassay.errors import ManifestError
from deepassay.manifest import Manifest
from deepassay.pipelines.build import build
from deepassay.pipelines.prepare import split_corpus
from deepassay.pipelines.train import _forged_splits

sys.path.append(str(Path(__file__).parents[1]))

from stand_ins import Patches, join, write_samples

RECIPES = {"face_sbi": {"train", "dev"}, "face_supervised": set(), "face_mixed": set()}


def composed(*overrides: str) -> dict:
    with initialize_config_dir(str(config_root()), version_base="1.3"):
        node = compose(config_name="train", overrides=list(overrides))
    return OmegaConf.to_container(node, resolve=False)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_is_the_same_on_any_corpus(recipe):
    here = composed(f"experiment={recipe}", "corpus.root=x")
    there = composed(f"experiment={recipe}", "corpus=faceforensics", "split=official", "corpus.root=x")
    assert there["corpus"]["_target_"].endswith("FaceForensics")
    for key in set(here) - {"corpus", "split"}:
        assert here[key] == there[key], key
    assert _forged_splits(build(here["forge"]), here["trainer"]) == RECIPES[recipe]
    large = composed(
        f"experiment={recipe}", "corpus.root=x", "detector=timm_any", "detector.backbone=tf_efficientnet_b4",
        "detector.size=224", "modality.size=224",
    )  # fmt: skip
    assert large["detector"]["size"] == large["modality"]["size"] == 224


def test_a_split_without_fakes_needs_a_forge(tmp_path):
    modality = Patches()
    whole = join(*(write_samples(tmp_path, modality, 6, split=s) for s in ("train", "dev", "test")))
    reals = Manifest.from_samples([s for s in whole if s.label == 0], tmp_path, whole.info)
    for split in ({"_target_": "deepassay.splits.OfficialSplit"}, {"_target_": "deepassay.splits.SubjectSplit"}):
        with pytest.raises(ManifestError, match="split train has no fake"):
            split_corpus(split, reals)
        with pytest.raises(ManifestError, match="split dev has no fake"):
            split_corpus(split, reals, real_only={"train"})
        done = split_corpus(split, reals, real_only={"train", "dev"})
        assert len(done) == len(reals)
        assert set(done.counts()) == {"train", "dev", "test"}
    some = Manifest.from_samples([s for s in whole if s.label == 0 or s.split == "test"], tmp_path, whole.info)
    with pytest.raises(ManifestError, match="'train' has 3 real and 0 fake"):  # fakes are there, in the wrong place
        split_corpus({"_target_": "deepassay.splits.OfficialSplit"}, some, real_only={"train", "dev"})
