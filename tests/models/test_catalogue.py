"""Every detector YAML has a family, and every family of faces gives verdicts in a process without torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from deepassay.calibrator import Calibration, OperatingPoint
from deepassay.cli import config_root
from deepassay.export import export_detector
from deepassay.media.image import write_image
from deepassay.modality.face import FaceModality
from deepassay.models.catalogue import FAMILIES
from deepassay.screening.bundle import Scope, write_bundle

SCREEN = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'torchvision', 'timm', 'lightning', 'transformers', 'peft', 'onnx'}:
            raise ImportError('not in the base install: ' + name)
sys.meta_path.insert(0, Blocker())
from deepassay.cli import main
sys.exit(main(['screen', '--quiet', *sys.argv[1:]]))
"""


def node(option: str) -> dict[str, Any]:
    """A detector option with those that it is made of."""
    own = yaml.safe_load((config_root() / "detector" / f"{option}.yaml").read_text())
    below = [name for name in own.pop("defaults", []) if name != "_self_"]
    return {key: value for part in (*map(node, below), own) for key, value in part.items()}


OPTIONS = sorted(p.stem for p in (config_root() / "detector").glob("*.yaml"))
FACES = [o for o in OPTIONS if node(o)["_target_"].split(".")[-2] in ("timm_detector", "clip_detector")]


@pytest.fixture(scope="module")
def classes() -> set[str]:
    """Names of the classes that the families are made of."""
    torch.manual_seed(0)
    return {type(family.build()).__name__ for family in FAMILIES.values()}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_a_family_that_is_tested(option, classes):
    # Speech encoders come from a local folder only: test_ssl_detector makes one and goes over them.
    assert node(option)["_target_"].rpartition(".")[2] in {*classes, "SSLDetector"}


@pytest.mark.parametrize("option", FACES)
def test_face_options_say_what_they_cost_and_never_start_random_in_silence(option):
    text = (config_root() / "detector" / f"{option}.yaml").read_text()
    header = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for word in ("Cost:", "Expected:", "deepassay train"):
        assert word in header, f"{option}.yaml: the header has no {word!r}"
    assert option in FAMILIES or option == "clip_folder"  # which needs a folder: see test_vision_folder
    if node(option)["pretrained"] == "none":
        assert option == "timm_any"
        assert "from random weights" in header
    assert node(option)["pretrained"] != "hub", "a download is for the user to ask for"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="module")
def finder(place) -> Path:
    from deepassay.models.mtcnn import export_finder_graphs

    export_finder_graphs(place / "finder")
    return place / "finder"


@pytest.fixture(scope="module")
def face(place, finder) -> Path:
    """A drawn face that the finder sees."""
    from deepassay.corpora.procedural_face import draw_capture, draw_identity, render_face

    modality = FaceModality(finder_folder=str(finder), size=32)
    drawn = (render_face(draw_identity(i, 0.3), draw_capture(np.random.default_rng(i))).image for i in range(20))
    write_image(place / "face.png", next(picture for picture in drawn if len(modality.find(picture))))
    return place / "face.png"


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(f, id=name, marks=[pytest.mark.full] if f.full else [])
        for name, f in FAMILIES.items()
        if f.modality == "face"  # of voices: test_voice_options
    ],
)
def test_every_family_of_faces_gives_verdicts_without_torch(family, face, finder, tmp_path):
    torch.manual_seed(0)
    detector = family.build().eval()
    clip = len(family.input_shape) == 4
    modality = FaceModality(
        finder_folder=str(finder), size=family.input_shape[-2], clip_frames=family.input_shape[0] if clip else 0
    )
    assert modality.input_shape == family.input_shape
    views = modality.draw(modality.prepare(face), 4)
    with torch.no_grad():
        score = modality.pool(detector(torch.from_numpy(views.data)).logit.numpy(), views)
    write_bundle(
        tmp_path / "bundle", name=family.name, modality=modality, views=4, architecture=family.name,
        detector_onnx=export_detector(detector, tmp_path / "detector.onnx", family.input_shape),
        calibration=Calibration(
            scale=1.0, offset=0.0, dev_table_sha256="d" * 64, n_real=100, n_fake=100, informative=True
        ),
        operating_points=[
            OperatingPoint(
                name="bpcer_5", target_bpcer=0.05, threshold=score + 1, realised_bpcer=0.05, supported=True,
                dev_table_sha256="d" * 64, n_real=100, n_clusters=100,
            )
        ],
        scope=Scope(
            statement="a network of this test", media=("image", "video"),
            not_for=("anything",), limits={},
        ),
        licence_chain=[], generators_seen=["none"], manifest_sha256s={"train": "e" * 64}, synthetic=True,
        card_md="# card", provenance={},
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SCREEN, str(face), "--bundle", str(tmp_path / "bundle")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "not in the base install" not in done.stderr, done.stderr
    verdict = json.loads(done.stdout.splitlines()[0])
    assert verdict["llr"] == pytest.approx(score, abs=2e-3), "from file to logit, torch against the shipped graph"
