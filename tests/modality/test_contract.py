"""Contracts: what a modality says of itself rebuilds it exactly, or is refused by name."""

import json

import pytest

from deepassay.errors import BundleError, MissingDependencyError
from deepassay.modality.contract import modality_from_contract
from deepassay.modality.face import FaceModality
from deepassay.modality.finder import GRAPHS
from deepassay.modality.voice import VoiceModality


def through_json(contract):
    return json.loads(json.dumps(contract))


def test_round_trip(finder, tmp_path):
    voice = VoiceModality(window_samples=8000, min_speech_s=0.25)
    again = modality_from_contract(through_json(voice.contract), tmp_path)
    assert (again.name, again.fingerprint, again.input_shape) == ("voice", voice.fingerprint, (8000,))
    face = FaceModality(finder_folder=str(finder), size=96, align="similarity", thresholds=(0.5, 0.6, 0.7))
    again = modality_from_contract(through_json(face.contract), finder)
    assert (again.name, again.fingerprint, again.input_shape) == ("face", face.fingerprint, (96, 96, 3))


def test_fingerprints_differ_where_views_would():
    prints = {
        VoiceModality().fingerprint,
        VoiceModality(hop_samples=1000).fingerprint,
        VoiceModality(rate_hz=8000).fingerprint,
    }
    assert len(prints) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"modality": "gait"},
        {"version": 2},
        {"settings": {"rate_hz": 16000, "surprise": 1}},
        {"settings": {"rate_hz": -1}},
        {"settings": None},
        {"pool": "maximum"},
        {"surprise": 1},
    ],
)
def test_what_this_version_does_not_mean_is_refused(change):
    contract = through_json(VoiceModality().contract) | change
    with pytest.raises(BundleError, match="hint"):
        modality_from_contract(contract, None)


def test_other_or_missing_graphs_are_refused(finder, tmp_path, monkeypatch):
    contract = through_json(FaceModality(finder_folder=str(finder)).contract)
    for name in GRAPHS:
        (tmp_path / name).write_bytes((finder / name).read_bytes())
    assert modality_from_contract(contract, tmp_path).fingerprint
    (tmp_path / "pnet.onnx").write_bytes((finder / "pnet.onnx").read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"pnet\.onnx"):
        modality_from_contract(contract, tmp_path)
    (tmp_path / "onet.onnx").unlink()
    with pytest.raises(BundleError, match=r"onet\.onnx"):
        modality_from_contract(contract, tmp_path)
    monkeypatch.setenv("DEEPASSAY_CACHE", str(tmp_path / "nothing"))
    with pytest.raises(MissingDependencyError, match="doctor"):
        modality_from_contract(contract, None)
