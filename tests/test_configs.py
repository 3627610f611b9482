"""Every YAML composes, and every object it names can be built from it; unknown keys are errors that say what to do."""

import sys
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from deepassay.cli import COMPOSED, config_root
from deepassay.errors import ConfigError
from deepassay.pipelines.build import build, config_fingerprint, locate

sys.path.append(str(Path(__file__).parent))

from tiny_encoders import save_tiny_encoder

ROOT = config_root()
GROUPS = sorted(p.name for p in ROOT.iterdir() if p.is_dir() and p.name not in {"hydra", "experiment", "study"})
OPTIONS = [(g, p.stem) for g in GROUPS for p in sorted((ROOT / g).glob("*.yaml"))]
EXPERIMENTS = sorted(p.stem for p in (ROOT / "experiment").glob("*.yaml"))
# What has no default because only the user knows it, with a value good enough to build (not to run).
FILL = {"root": "somewhere", "csv": "somewhere.csv", "run": "runs/x", "output": "somewhere", "pretrained": "none"}


@pytest.fixture(scope="session", autouse=True)
def weights_folder(tmp_path_factory):
    """A tiny image network as timm saves it, for options that read a local folder."""
    import timm
    from timm.models import save_for_hf

    FILL["weights"] = str(tmp_path_factory.mktemp("weights") / "vit")
    save_for_hf(timm.create_model("test_vit", num_classes=2), FILL["weights"], safe_serialization=True)


def values(verb: str, overrides: list[str]) -> dict:
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        config = compose(config_name=verb, overrides=overrides)
    return OmegaConf.to_container(config, resolve=False)


def fill(node):
    if isinstance(node, dict):
        return {k: FILL[k] if v == "???" and k in FILL else fill(v) for k, v in node.items()}
    return node


@pytest.mark.parametrize("verb", sorted(COMPOSED))
def test_every_verb_composes(verb):
    assert values(verb, [])


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=lambda v: v)
def test_every_option_says_what_it_is_and_builds(group, option, tmp_path):
    text = (ROOT / group / f"{option}.yaml").read_text()
    assert text.lstrip().startswith("#"), "the first line of a config says what it is"
    node = fill(yaml.safe_load(text))
    if isinstance(node, dict) and "defaults" in node:  # made of other options: only Hydra can put it together
        node = fill(values("train", [f"{group}={option}"])[group])
    if not isinstance(node, dict) or "_target_" not in node:
        assert group in {"trainer", "logger", "augment", "hydra"}, (
            "an option without a _target_ belongs to trainer or logger"
        )
        return
    assert locate(node["_target_"])
    if node.get("folder") == "???":  # a speech encoder that lies with the user
        node["folder"] = str(save_tiny_encoder(tmp_path / "encoder", "wavlm" if "wavlm" in option else "wav2vec2"))
    built = build({k: v for k, v in node.items() if not (isinstance(v, str) and v.startswith("${"))})
    assert built is not None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_with_train(experiment):
    composed = values("train", [f"experiment={experiment}"])
    for key in ("corpus", "modality", "split", "detector", "loss", "optimizer"):
        assert locate(composed[key]["_target_"])


def test_an_unknown_key_of_an_object_is_refused_with_the_known_ones():
    node = yaml.safe_load((ROOT / "modality" / "voice.yaml").read_text())
    with pytest.raises(ConfigError, match="hint: it accepts"):
        build({**node, "no_such_key": 1})


def test_targets_outside_the_allow_list_are_refused():
    with pytest.raises(ConfigError, match="allow-list"):
        build({"_target_": "os.system", "command": "true"})
    with pytest.raises(ConfigError, match="allow-list"):
        build(
            {"_target_": "deepassay.splits.SubjectSplit", "fractions": {"_target_": "subprocess.run", "args": ["true"]}}
        )


def test_the_fingerprint_ignores_names_and_places_but_not_values():
    one = {"seed": 0, "name": "a", "store": {"workers": 1, "encoding": "raw"}}
    assert config_fingerprint(one) == config_fingerprint(
        {"seed": 0, "name": "b", "store": {"workers": 4, "encoding": "raw"}}
    )
    assert config_fingerprint(one) != config_fingerprint({**one, "seed": 1})


def test_config_folder_is_the_one_beside_the_package():
    assert (ROOT / "train.yaml").is_file()
    assert Path(ROOT).name == "configs"
