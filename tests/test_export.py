"""Export: one file, free batch, equal logits on hard inputs, and refusal of a graph that is not."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deepassay.errors import BundleError, ConfigError
from deepassay.export import TOLERANCE, export_bundle, export_detector, hard_inputs, onnx_predictor, parity
from deepassay.models.catalogue import FAMILIES
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.lcnn import LCNN
from deepassay.models.losses import WeightedBCE
from deepassay.models.weights import save_weights
from deepassay.store import prepare_store

sys.path.append(str(Path(__file__).parent))

from stand_ins import Tones, join, write_samples


def views_for(modality: str, shape, n: int = 4, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if modality == "face":
        return rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    return rng.normal(0, 0.1, (n, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, id=name, marks=[pytest.mark.full] if f.full else []) for name, f in FAMILIES.items()],
)
def test_every_family_exports_with_parity_and_runs(family, tmp_path):
    import onnx

    torch.manual_seed(0)
    detector = family.build()
    # A few steps, so that batch norm has statistics and the logits a scale of their own.
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    data = views_for(family.modality, family.input_shape, 8)
    for _ in range(3):
        optimizer.zero_grad()
        WeightedBCE()(detector(torch.from_numpy(data)), torch.tensor([0, 1] * 4)).backward()
        optimizer.step()
    path = export_detector(detector, tmp_path / "detector.onnx", family.input_shape)
    assert [p.name for p in tmp_path.iterdir()] == ["detector.onnx"]  # no weights beside it
    assert detector.training  # the detector itself is left as it was
    report = parity(detector, path, {"real": data})
    assert report.passed, report.worst
    assert {case.n for case in report.cases} >= {1, 2, 5, 8}
    predict = onnx_predictor(path)
    assert predict(data).shape == (8,)
    np.testing.assert_allclose(predict(data[:3]), predict(data)[:3], atol=1e-4)
    proto = onnx.load(path)
    assert [o.name for o in proto.graph.output] == ["logit"]
    for weights in proto.graph.initializer:  # random bytes may spell anything
        weights.ClearField("raw_data")
    raw = proto.SerializeToString()
    assert b".py" not in raw  # no source lines or paths of the exporting machine
    assert str(Path.home()).encode() not in raw


class LogOfTinySum(Detector):
    """The classic trap: right on noise, -inf on silence once the exporter has dropped the constant."""

    modality = "voice"

    def __init__(self, floor: float = 1e-10) -> None:
        super().__init__()
        self.floor = floor
        self.linear = torch.nn.Linear(10, 1)

    def forward(self, views: torch.Tensor) -> DetectorOutput:
        energy = views.reshape(views.shape[0], 10, -1).square().mean(-1)
        return DetectorOutput(self.linear(torch.log(energy + self.floor)).squeeze(-1))


def test_a_graph_that_breaks_on_silence_is_refused_by_that_name(tmp_path):
    torch.manual_seed(0)
    detector = LogOfTinySum()
    path = export_detector(detector, tmp_path / "trap.onnx", (4000,))
    noise = views_for("voice", (4000,))
    np.testing.assert_allclose(  # noise alone would let it pass
        onnx_predictor(path)(noise), detector.eval()(torch.from_numpy(noise)).logit.detach().numpy(), atol=1e-4
    )
    report = parity(detector, path, {"real": noise})
    assert not report.passed
    assert "silence" in report.worst.name
    assert not json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"]
    with pytest.raises(BundleError, match=r"on input 'digital silence"):
        report.check()


def test_another_networks_graph_is_refused(tmp_path):
    torch.manual_seed(0)
    one, two = LCNN(width=0.125).eval(), LCNN(width=0.125).eval()
    path = export_detector(one, tmp_path / "one.onnx", (4000,))
    real = {"real": views_for("voice", (4000,))}
    assert parity(one, path, real).passed
    with pytest.raises(BundleError, match=r"gate 0\.001"):
        parity(two, path, real).check()
    with pytest.raises(BundleError, match="cannot be run"):
        parity(one, path, {"shorter": views_for("voice", (3000,))})
    with pytest.raises(ConfigError, match="no real views"):
        parity(one, path, {})


class CountsItsBatch(Detector):
    modality = "voice"

    def forward(self, views: torch.Tensor) -> DetectorOutput:
        n = int(views.shape[0])
        return DetectorOutput(views.mean(1) + (1.0 if n == 2 else 0.0))


def test_a_network_that_fixes_its_batch_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"cannot be exported|free batch"):
        export_detector(CountsItsBatch(), tmp_path / "d.onnx", (1000,))
    assert not list(tmp_path.iterdir())


def test_hard_inputs_cover_what_graphs_trip_over():
    voice, face = hard_inputs("voice", (4000,)), hard_inputs("face", (16, 16, 3))
    assert not voice["digital silence"].any()
    assert np.abs(voice["full-scale square wave"]).min() == 1
    assert voice["least bit"].max() == np.float32(1 / 32768)
    assert set(np.unique(face["full-scale checks"])) == {0, 255}
    assert {len(v) for v in voice.values()} >= {1, 2, 3, 5}
    assert all(v.dtype == np.float32 for v in voice.values())
    assert all(v.dtype == np.uint8 for v in face.values())


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A voice corpus of stand-ins, and a detector that tells its classes apart a little."""
    modality = Tones()
    # Files are judged by the bundle too, which rebuilds its modality from the contract.
    monkeypatch.setattr("deepassay.modality.contract.modality_from_contract", lambda contract, folder: Tones())
    parts = [write_samples(tmp_path / "media", modality, n, split=s) for s, n in (("train", 12), ("dev", 16))]
    manifest = join(*parts)
    store = prepare_store(manifest, modality, tmp_path / "store", progress=False)
    torch.manual_seed(0)
    detector = LCNN(width=0.125, drop_rate=0)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    data = np.concatenate([store.views(s.sample_id).data for s in parts[0]])
    label = torch.tensor([s.label for s in parts[0] for _ in range(2)])
    for _ in range(30):
        optimizer.zero_grad()
        WeightedBCE()(detector(torch.from_numpy(data)), label).backward()
        optimizer.step()
    weights = tmp_path / "best.safetensors"
    save_weights(detector.state_dict(), weights)
    weights.with_suffix(".json").write_text(json.dumps({"modality_fingerprint": modality.fingerprint}))
    return {
        "detector": LCNN(width=0.125, drop_rate=0), "weights": weights, "modality": modality, "manifest": manifest,
        "store": store, "folder": tmp_path / "bundle", "name": "stand-in", "parity_path": tmp_path / "parity.json",
        "views": 2, "progress": False,
    }  # fmt: skip


def test_a_bundle_is_calibrated_with_the_graph_that_ships(trained):
    bundle, report = export_bundle(**trained)
    assert report.max_difference <= TOLERANCE
    assert report.store_difference == 0
    assert json.loads(trained["parity_path"].read_text())["passed"]
    assert bundle.synthetic
    assert bundle.generators_seen == ("stripes",)
    assert bundle.calibration.informative
    assert [p.target_bpcer for p in bundle.operating_points][:2] == [0.05, 0.01]
    names = {link["name"] for link in bundle.licence_chain}
    assert {"random-initialisation", "onnxruntime", "stand-in"} <= names
    assert "SYNTHETIC" in bundle.card
    assert "合成数据" in bundle.card
    found = report.variants[0].files
    assert (found.precision, found.n_files, found.n_scored, found.n_other_status) == ("fp32", 16, 16, 0)
    assert found.max_logit_difference <= TOLERANCE
    assert set(found.flips.values()) == {0}
    assert found.eer_change == 0
    stated = bundle.facts["provenance"]["parity_over_files"]
    assert stated["flips"] == dict(found.flips)
    assert not [key for key in stated if "ms_per" in key]  # times are of one machine, and a bundle is of none
    assert bundle.abstention.missing.startswith("16 dev files")
    views = views_for("voice", (8000,))
    np.testing.assert_allclose(
        bundle.predict(views),
        trained["detector"].eval()(torch.from_numpy(views)).logit.detach().numpy(),
        atol=TOLERANCE,
    )
    assert bundle.facts["provenance"]["parity"]["n_inputs"] == report.n_inputs
    dev_llr = bundle.calibration.llr(bundle.predict(trained["store"].views("dev-001").data).mean())
    assert dev_llr > bundle.calibration.llr(bundle.predict(trained["store"].views("dev-000").data).mean())


@pytest.mark.parametrize(("share", "seen"), [(1.0, ("forged/sbi",)), (0.5, ("forged/sbi", "stripes"))])
def test_a_bundle_names_what_the_detector_has_seen(trained, share, seen):
    facts = {"modality_fingerprint": trained["modality"].fingerprint, "forge": {"names": ["sbi"], "share": share}}
    trained["weights"].with_suffix(".json").write_text(json.dumps(facts))
    bundle, _ = export_bundle(**trained)
    assert bundle.generators_seen == seen
    fakes = 6 if share < 1 else 0
    assert f"Trained on 6 real and {fakes} fake" in bundle.card
    assert "fakes made of the real ones while training (sbi)" in bundle.card


def test_commercial_use_is_refused_while_a_link_is_not_cleared(trained):
    from deepassay.corpora.ledger import LicenceError

    with pytest.raises(LicenceError, match="stand-in"):
        export_bundle(**trained, licence_use="commercial")
    assert not trained["folder"].exists()
    with pytest.raises(ConfigError, match="licence_use"):
        export_bundle(**trained, licence_use="any")


def test_files_that_changed_since_the_store_was_made_are_refused(trained):
    manifest = trained["manifest"]
    for sample in manifest.split("dev"):
        path = manifest.file(sample)
        path.write_bytes(np.roll(np.frombuffer(path.read_bytes(), np.float32), 100).tobytes())
    with pytest.raises(BundleError, match="lossless store differ"):
        export_bundle(**trained)
    assert not trained["folder"].exists()


def test_weights_of_another_preparation_are_refused(trained):
    trained["weights"].with_suffix(".json").write_text(json.dumps({"modality_fingerprint": "f" * 64}))
    with pytest.raises(ConfigError, match="trained on views of ffffffffffff"):
        export_bundle(**trained)


def test_every_precision_has_its_own_bundle_and_report(trained, tmp_path):
    from deepassay.screening.bundle import Bundle
    from deepassay.screening.envelope import make_key

    make_key(tmp_path / "maker.key")
    trained["provenance"] = {"created_utc": "2026-01-01T00:00:00+00:00"}
    bundle, report = export_bundle(**trained, variants=("int8", "fp16", "fp32"), sign=tmp_path / "maker.key")
    assert [one.files.precision for one in report.variants] == ["fp32", "fp16", "int8"]
    assert [one.path.name for one in report.variants] == ["bundle", "bundle-fp16", "bundle-int8"]
    others = [Bundle.load(one.path, key=tmp_path / "maker.key.pub") for one in report.variants]
    assert [other.precision for other in others] == ["fp32", "fp16", "int8"]
    assert len({other.hash for other in others}) == 3
    # Thresholds and calibration belong to the graph that ships.
    assert len({other.calibration.dev_table_sha256 for other in others}) == 3
    for other, one in zip(others[1:], report.variants[1:], strict=True):
        assert 0 < one.files.max_logit_difference < 1
        assert other.facts["provenance"]["parity_over_files"]["precision"] == other.precision
        assert f"{one.files.max_logit_difference:.2g}" in other.card
    written = json.loads(trained["parity_path"].read_text())["variants"]
    assert [row["precision"] for row in written] == ["fp32", "fp16", "int8"]
    assert all(row["ms_per_view"] > 0 and row["graph_bytes"] > 0 for row in written)
    with pytest.raises(ConfigError, match="fp4"):
        export_bundle(**trained, variants=("fp4",))
    # The same weights give the same bytes.
    again, _ = export_bundle(**{**trained, "folder": tmp_path / "again"}, variants=("fp32", "int8"))
    assert again.hash == bundle.hash
    assert Bundle.load(tmp_path / "again-int8").hash == others[2].hash


def test_a_bundle_that_disagrees_on_files_is_refused(trained, monkeypatch):
    from deepassay.screening.bundle import Bundle

    honest = Bundle.predict
    monkeypatch.setattr(Bundle, "predict", lambda self, data: honest(self, data) + 0.01)
    with pytest.raises(BundleError, match=r"the fp32 bundle differs by 0\.01 .* over 16 files"):
        export_bundle(**trained)
    assert not trained["folder"].exists()


def test_fp32_is_kept_where_precision_is_needed():
    import onnx
    from onnx import helper

    from deepassay.models.precision import kept_nodes

    nodes = [
        helper.make_node("Conv", ["x", "a"], ["spectrum"], "stft"),
        helper.make_node("Log", ["spectrum"], ["log"], "log"),
        helper.make_node("Conv", ["log", "b"], ["one"], "first"),
        helper.make_node("Relu", ["one"], ["on"], "relu"),
        helper.make_node("Conv", ["on", "c"], ["two"], "second"),
    ]
    model = onnx.ModelProto(graph=helper.make_graph(nodes, "g", [], []))
    assert kept_nodes(model, first_layer=False) == ["log", "stft"]
    assert kept_nodes(model, first_layer=True) == ["log", "stft", "first"]


def test_parity_takes_both_classes_alike(tmp_path):
    from deepassay.export import spread_samples

    manifest = write_samples(tmp_path, Tones(), 40, split="dev")
    few = manifest.select(lambda sample: sample.label == 0 or sample.sample_id in ("dev-001", "dev-003"))
    assert [label for _, label, _ in spread_samples(manifest, 8)].count(1) == 4
    assert [label for _, label, _ in spread_samples(few, 8)].count(1) == 2  # no more are there
    assert len(spread_samples(few, 8)) == 8
    assert len(spread_samples(manifest, 400)) == 40
