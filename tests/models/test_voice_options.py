"""Every voice detector in configs: builds, learns eight samples by heart, exports, and screens files without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from deepassay.calibrator import Calibration, OperatingPoint
from deepassay.cli import config_root
from deepassay.export import export_detector, parity
from deepassay.modality.voice import VoiceModality
from deepassay.models.losses import WeightedBCE
from deepassay.models.losses_voice import AdditiveMarginSoftmax, OneClassSoftmax
from deepassay.pipelines.build import build
from deepassay.screening.bundle import write_bundle

sys.path.append(str(Path(__file__).parents[1]))

from tiny_encoders import save_tiny_encoder

WINDOW = 8000
QUICK = {"lcnn_tiny"}  # the other families have small members in the catalogue, which every test run takes
BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'torch', 'lightning', 'transformers', 'peft', 'onnx', 'librosa'}:
            raise ImportError('not in the base install: ' + name)
sys.meta_path.insert(0, Blocker())
from deepassay.cli import main
sys.exit(main(sys.argv[1:]))
"""


def voice_options() -> list[str]:
    found = []
    for path in sorted((config_root() / "detector").glob("*.yaml")):
        target = str(yaml.safe_load(path.read_text()).get("_target_", ""))
        if target.rsplit(".", 1)[-1] in ("LCNN", "AASIST", "RawNet2", "SpectralStatistics", "SSLDetector"):
            found.append(path.stem)
    return found


OPTIONS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in voice_options()]


def node(option: str, place: Path, **more) -> dict:
    """The option with a short window, without dropout, and with a tiny encoder where it needs one."""
    out = yaml.safe_load((config_root() / "detector" / f"{option}.yaml").read_text())
    short = {"window_samples": WINDOW, "drop_rate": 0.0, "drop_factor": 0.0, "recurrent": 64, "recurrent_layers": 1}
    out |= {k: v for k, v in short.items() if k in out}
    if "folder" in out:
        out["folder"] = str(save_tiny_encoder(place / "encoder", "wavlm" if "wavlm" in option else "wav2vec2"))
    if out.get("tune") == "frozen":  # random frozen features tell nothing apart; test_ssl_detector has that case
        out["tune"] = "full"
    return {**out, **more}


def sounds(n: int = 8, seed: int = 0) -> np.ndarray:
    """Tones of their own pitch in noise, so that there is something to remember."""
    rng = np.random.default_rng(seed)
    pitch = 200.0 * 1.5 ** np.arange(n)[:, None]
    tone = np.sign(np.sin(2 * np.pi * pitch * np.arange(WINDOW) / 16_000 + 1e-3))
    return (0.1 * tone + 0.01 * rng.standard_normal((n, WINDOW))).astype(np.float32)


def overfit(detector, loss, steps: int = 60, rate: float = 3e-3) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=rate, weight_decay=0)
    views, label = torch.from_numpy(sounds()), torch.tensor([0, 1] * 4)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(detector.train()(views), label)
        value.backward()
        optimizer.step()
        losses.append(value.item())
        if value.item() < 0.02:
            break
    return losses


def test_all_voice_detectors_are_found():
    assert {
        "aasist",
        "aasist_l",
        "rawnet2",
        "lcnn",
        "lcnn_logmel",
        "lfcc_statistics",
        "xlsr_sls",
        "xlsr_aasist",
        "wavlm_lora",
    } <= set(voice_options())


@pytest.mark.parametrize("option", OPTIONS)
def test_it_learns_eight_samples_and_its_graph_says_the_same(option, tmp_path):
    torch.manual_seed(0)
    options = node(option, tmp_path)
    detector = build(options)
    rate = 1e-3 if options.get("tune") == "full" else 3e-2 if option == "lfcc_statistics" else 3e-3
    losses = overfit(detector, WeightedBCE(), rate=rate)
    assert min(losses) < 0.25 * losses[0], losses
    path = export_detector(detector, tmp_path / "d.onnx", (WINDOW,))
    report = parity(detector, path, {"real": sounds()})
    report.check()
    assert {"digital silence", "constant", "noise, batch of 2", "noise, batch of 5"} <= {c.name for c in report.cases}
    assert np.ptp([case.max_logit for case in report.cases]) > 1e-3  # it does listen


@pytest.mark.parametrize(
    ("head", "loss"), [("one_class", OneClassSoftmax()), ("margin", AdditiveMarginSoftmax())], ids=lambda v: str(v)[:9]
)
@pytest.mark.parametrize("option", ["lcnn_tiny", pytest.param("aasist_l", marks=pytest.mark.full)])
def test_heads_with_centres_learn_and_ship_one_logit(option, head, loss, tmp_path):
    torch.manual_seed(0)
    detector = build(node(option, tmp_path, head=head))
    losses = overfit(detector, loss, steps=80)
    assert losses[-1] < 0.5 * losses[0], losses
    path = export_detector(detector, tmp_path / "d.onnx", (WINDOW,))
    parity(detector, path, {"real": sounds()}).check()


def odd_files(place: Path) -> dict[str, Path]:
    """Files that users have: very short, of other rates and formats, and broken in their samples."""
    rng = np.random.default_rng(1)
    t = np.arange(3 * 16_000) / 16_000
    voice = 0.2 * np.sin(2 * np.pi * 150 * t) * (1 + np.sin(2 * np.pi * 3 * t)) + 0.02 * rng.standard_normal(len(t))
    nan = voice.astype(np.float32)
    nan[1000:1010] = np.nan
    cases = {
        "tenth": (voice[:1600], 16_000, "PCM_16"), "half": (voice[:8000], 16_000, "PCM_16"),
        "telephone": (voice[::2], 8000, "PCM_16"), "stereo": (np.stack([voice, 0.5 * voice], 1), 44_100, "PCM_16"),
        "deep": (voice, 48_000, "PCM_24"), "float": (voice, 16_000, "FLOAT"), "nan": (nan, 16_000, "FLOAT"),
        "offset": (voice + 0.4, 16_000, "PCM_16"), "silent": (0 * voice, 16_000, "PCM_16"),
        "clipped": (np.clip(8 * voice, -1, 1), 16_000, "PCM_16"), "hot": (5 * voice, 16_000, "FLOAT"),
    }  # fmt: skip
    out = {}
    for name, (signal, rate, subtype) in cases.items():
        out[name] = place / f"{name}.wav"
        soundfile.write(out[name], signal, rate, subtype=subtype)
    return out


def bundle(folder: Path, graph: Path) -> Path:
    point = {"dev_table_sha256": "d" * 64, "n_real": 100, "n_clusters": 100}
    write_bundle(
        folder, name="voice", detector_onnx=graph, modality=VoiceModality(window_samples=WINDOW),
        calibration=Calibration(
            scale=1.0, offset=0.0, dev_table_sha256="d" * 64, n_real=100, n_fake=90, informative=True
        ),
        operating_points=[
            OperatingPoint(
                name="bpcer_5", target_bpcer=0.05, threshold=0.0, realised_bpcer=0.04, supported=True, **point
            )
        ],
        scope={"statement": "a test", "media": ["audio", "video"]}, licence_chain=[{"name": "w", "licence": "none"}],
        generators_seen=[], manifest_sha256s={"train": "a" * 64}, synthetic=True, card_md="# a test\n",
        provenance={"created_utc": "2026-01-01T00:00:00+00:00"},
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("option", OPTIONS)
def test_every_odd_clip_gets_a_score_or_its_status_without_torch(option, tmp_path):
    torch.manual_seed(0)
    detector = build(node(option, tmp_path))
    overfit(detector, WeightedBCE(), steps=3)
    made = bundle(tmp_path / "bundle", export_detector(detector, tmp_path / "d.onnx", (WINDOW,)))
    files = odd_files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "screen", "--quiet", *map(str, files.values()), "--bundle", str(made)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "not in the base install" not in done.stderr, done.stderr
    lines = {Path(line["path"]).stem: line for line in map(json.loads, done.stdout.splitlines())}
    assert set(lines) == set(files)
    expected = {"tenth": "too_short", "silent": "no_speech", "nan": "undecodable"}
    for name, line in lines.items():
        assert line["status"] == expected.get(name, "ok"), (name, line["status"], line["reason"])
        if line["status"] == "ok":
            assert np.isfinite(line["llr"])
            assert line["decision"] in ("fake", "no evidence of manipulation")
        else:
            assert line["reason"]
            assert line["llr"] is None
            assert line["decision"] == "abstain"
