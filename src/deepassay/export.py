"""Trained detector to ONNX to screening bundle: the parity gate, and calibration with the graph that ships."""

import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from deepassay.corpora.ledger import LEDGER, LicenceEntry, chain, refuse_non_commercial
from deepassay.errors import BundleError, ConfigError, ManifestError
from deepassay.files import atomic_path, sha256_file, write_json
from deepassay.labels import FAKE, LABEL_WORDS, REAL, Unusable
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality, Views
from deepassay.models.detector import Detector, count_parameters
from deepassay.models.weights import load_weights
from deepassay.store import Store
from deepassay.training.predictor import TorchPredictor

if TYPE_CHECKING:
    from deepassay.scores import ScoreTable
    from deepassay.screening.bundle import Bundle

TOLERANCE = 1e-3
OPSET = 20
BATCH_SIZES = (1, 2, 5)
INPUT, OUTPUT = "views", "logit"
_log = logging.getLogger(__name__)


class _LogitOnly(nn.Module):
    """The detector without its auxiliaries."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, views: Tensor) -> Tensor:
        return self.detector(views).logit


def export_detector(detector: Detector, path: str | Path, input_shape: Sequence[int]) -> Path:
    """Write a detector as one self-contained ONNX file: ``views`` (n, *input_shape) in, ``logit`` (n,) out, n free.

    Args:
        detector: a copy of it is put into evaluation mode on the CPU, its adapters folded in.
        path: of the file, written whole or not at all.
        input_shape: of one view, as the modality draws it.

    Raises:
        BundleError: the exporter cannot express the network, or fixes the batch size; says what it said.
    """
    import onnx

    model = _LogitOnly(copy.deepcopy(detector.folded())).eval().cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = torch.zeros((2, *input_shape), dtype=torch.uint8 if detector.modality == "face" else torch.float32)
    with atomic_path(path) as temporary:
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # deprecations inside the exporter
                program = torch.onnx.export(
                    model, (example,), dynamo=True, external_data=False, opset_version=OPSET, verbose=False,
                    input_names=[INPUT], output_names=[OUTPUT],
                    dynamic_shapes={"views": {0: torch.export.Dim.DYNAMIC}},
                )  # fmt: skip
            assert program is not None
            proto = program.model_proto
        except Exception as error:  # the exporter raises classes of many packages
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise BundleError(
                f"{type(detector).__name__} cannot be exported: {lines[0][:300] if lines else type(error).__name__}",
                hint="use operations that torch.export and ONNX know, and let the batch size stay free",
            ) from error
        _strip(proto)
        onnx.checker.check_model(proto, full_check=True)
        dims = proto.graph.input[0].type.tensor_type.shape.dim
        if dims[0].HasField("dim_value") or [d.dim_value for d in dims[1:]] != list(input_shape):
            raise BundleError(
                f"{type(detector).__name__}: the exported graph does not take a free batch of {tuple(input_shape)}",
                hint="do not use the batch size as a Python number inside forward",
            )
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
    return Path(path)


def _strip(proto: Any) -> None:
    """Remove source lines and paths of the machine that exported, which the exporter notes at every node."""
    del proto.metadata_props[:]
    proto.doc_string = ""
    for graph in (proto.graph, *proto.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for item in (*graph.node, *graph.value_info):
            item.doc_string = ""
            del item.metadata_props[:]
    for item in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        item.doc_string = ""
        del item.metadata_props[:]


def onnx_predictor(path: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """An exported graph as a function: views (n, *shape) -> logits (n,) float32, on the CPU with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(data: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([OUTPUT], {INPUT: np.ascontiguousarray(data)})[0])

    return predict


@dataclass(frozen=True, slots=True)
class ParityCase:
    """One kind of input: its name, how many views, the largest difference of logits and the largest logit."""

    name: str
    n: int
    max_difference: float
    max_logit: float


@dataclass(frozen=True)
class ParityReport:
    """How far the exported graph is from the network it came from.

    Args:
        cases: by kind of input. tolerance: of the gate. onnx_sha256: of the graph.
        store_difference: largest difference of logits between views from files and the same views from the store (0
            where the store is lossless), None where it was not measured.
    """

    cases: tuple[ParityCase, ...]
    tolerance: float
    onnx_sha256: str
    store_difference: float | None = None

    @property
    def worst(self) -> ParityCase:
        """The case with the largest difference; one that is not a number is worse than any."""
        return max(self.cases, key=lambda case: np.inf if np.isnan(case.max_difference) else case.max_difference)

    @property
    def max_difference(self) -> float:
        """Largest |difference of logits| over all cases."""
        return self.worst.max_difference

    @property
    def n_inputs(self) -> int:
        """Views compared."""
        return sum(case.n for case in self.cases)

    @property
    def passed(self) -> bool:
        """Every difference is a number within the tolerance."""
        return bool(self.max_difference <= self.tolerance)

    def check(self) -> None:
        """Raises BundleError naming the worst input where the gate is not passed."""
        if not self.passed:
            worst = self.worst
            raise BundleError(
                f"the exported graph differs from the network by {worst.max_difference:.3g} in the logit on input "
                f"{worst.name!r} (gate {self.tolerance:g}); nothing was exported",
                hint="look for what the exporter changes on that input, such as log(x + tiny); use clamp_min",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON form; a difference that is not finite becomes null."""
        cases = [asdict(case) for case in self.cases]
        for case in cases:
            case |= {k: None for k, v in case.items() if isinstance(v, float) and not np.isfinite(v)}
        return {
            "tolerance": self.tolerance, "passed": self.passed, "worst": self.worst.name, "cases": cases,
            "max_difference": self.max_difference if np.isfinite(self.max_difference) else None,
            "n_inputs": self.n_inputs, "store_difference": self.store_difference, "onnx_sha256": self.onnx_sha256,
        }  # fmt: skip


def hard_inputs(modality: str, input_shape: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs on which exported graphs are known to go wrong: silence or black, constants, noise, full scale.

    Args:
        modality: "face" (uint8) or "voice" (float32 in [-1, 1]).
        input_shape: of one view.

    Returns:
        name -> views (n, *input_shape), n of several sizes.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(input_shape)
    if modality == "face":
        checks = np.indices(shape[-3:-1]).sum(0) % 2 * 255  # a clip has an axis of frames before these
        out = {
            "black": np.zeros((1, *shape)), "white": np.full((1, *shape), 255), "grey": np.full((2, *shape), 127),
            "full-scale checks": np.broadcast_to(checks[:, :, None], (1, *shape)),
        }  # fmt: skip
        out |= {f"noise, batch of {n}": rng.integers(0, 256, (n, *shape)) for n in BATCH_SIZES}
        return {name: value.astype(np.uint8) for name, value in out.items()}
    square = np.where(np.arange(shape[0]) // 40 % 2, 1.0, -1.0)
    burst = np.zeros(shape)
    burst[shape[0] // 2 :] = 0.1 * rng.standard_normal(shape[0] - shape[0] // 2)
    out = {
        "digital silence": np.zeros((1, *shape)), "digital silence, batch of 3": np.zeros((3, *shape)),
        "constant": np.full((1, *shape), 0.25), "full-scale constant": np.ones((1, *shape)),
        "full-scale square wave": square[None], "least bit": np.where(square > 0, 1, 0)[None] / 32768,
        "silence, then noise": burst[None], "full-scale noise": rng.uniform(-1, 1, (1, *shape)),
    }  # fmt: skip
    out |= {f"noise, batch of {n}": 0.05 * rng.standard_normal((n, *shape)) for n in BATCH_SIZES}
    return {name: value.astype(np.float32) for name, value in out.items()}


def parity(
    detector: Detector, onnx_path: str | Path, views: Mapping[str, np.ndarray], *, tolerance: float = TOLERANCE
) -> ParityReport:
    """Compare a network with its exported graph, in fp32 on the CPU.

    Args:
        detector: the network. onnx_path: its graph.
        views: name -> real views (n, *shape), all of one shape; `hard_inputs` of that shape are added.

    Returns:
        a report; call its `check` to refuse a graph that differs.

    Raises:
        BundleError: the graph cannot be run at all.
    """
    if not views:
        raise ConfigError("parity was given no real views", hint="pass views of a few files, drawn by the modality")
    shape = next(iter(views.values())).shape[1:]
    cases = []
    torch_predict = TorchPredictor(copy.deepcopy(detector), device="cpu")
    try:
        graph_predict = onnx_predictor(onnx_path)
        for name, data in {**views, **hard_inputs(detector.modality, shape)}.items():
            ours, theirs = torch_predict(data).astype(np.float64), graph_predict(data).astype(np.float64)
            # A logit that is not finite on both sides is no agreement.
            difference = np.abs(ours - theirs)
            worst = float(np.nan if np.isnan(difference).any() else difference.max())
            cases.append(ParityCase(name, len(data), worst, float(np.abs(ours).max())))
    except BundleError:
        raise
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise BundleError(
            f"{onnx_path}: the exported graph cannot be run ({str(error).splitlines()[0][:200]})",
            hint="export again; a graph that fails on one batch size has fixed something that must be free",
        ) from error
    return ParityReport(tuple(cases), tolerance, sha256_file(onnx_path))


def _file_views(
    manifest: Manifest, modality: Modality, store: Store, views: int, per_class: int
) -> tuple[dict[str, tuple[str, Views]], Manifest]:
    """Even views of a few dev files of each class, prepared from the files and not from the store."""
    dev = manifest.split("dev")
    out: dict[str, tuple[str, Views]] = {}
    for label in (REAL, FAKE):
        found = 0
        for sample in dev:
            if found < per_class and sample.label == label and store.n_views(sample.sample_id):
                try:
                    prepared = modality.prepare(dev.file(sample))
                except Unusable as outcome:
                    raise BundleError(
                        f"dev sample {sample.sample_id!r} has views in the store, and its file now gives {outcome}",
                        hint="the file or the decoder has changed since; prepare again and train again",
                    ) from outcome
                found += 1
                out[f"file of a {LABEL_WORDS[label]} sample ({found})"] = (
                    sample.sample_id,
                    modality.draw(prepared, views),
                )
        if not found:
            raise ManifestError(f"dev has no {LABEL_WORDS[label]} sample with views", hint="change the split")
    return out, dev


def _store_difference(
    detector: Detector, modality: Modality, store: Store, files: Mapping[str, tuple[str, Views]], views: int
) -> float:
    predict = TorchPredictor(copy.deepcopy(detector), device="cpu")
    worst = 0.0
    for sample_id, fresh in files.values():
        kept = modality.draw(store.views(sample_id), views)
        if len(kept) != len(fresh):
            raise BundleError(
                f"sample {sample_id!r} gives {len(fresh)} views from its file and {len(kept)} from the store",
                hint="the file or the decoder has changed since the store was made; prepare again and train again",
            )
        worst = max(worst, float(np.abs(predict(fresh.data) - predict(kept.data)).max()))
    if store.lossless and worst > 0:
        raise BundleError(
            f"views from files and from the lossless store differ by {worst:.3g} in the logit",
            hint="the files or a decoder have changed since the store was made; prepare again and train again",
        )
    return worst


def licence_links(detector: Detector, manifest: Manifest, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The licence chain of a trained detector: its starting weights, face finder, corpora and run-time libraries."""
    name, licence = detector.weight_origin
    links: list[str | LicenceEntry] = ["deepassay"]
    if name in LEDGER:
        links.append(name)
    else:
        links.append(LicenceEntry(name=name, kind="weights", licence=licence, commercial="unknown"))
    if facts.get("warm_start_sha256"):
        links.append(
            LicenceEntry(
                name="warm-start weights", kind="weights", licence="not stated", commercial="unknown",
                files={"weights": str(facts["warm_start_sha256"])},
                note="what those weights were trained on is not known here",
            )
        )  # fmt: skip
    if detector.modality == "face":
        links.append("mtcnn")
    used = manifest.select([s in ("train", "dev") for s in manifest.column("split")])
    return chain(links, manifests=[used])


def export_bundle(
    *, detector: Detector, weights: str | Path, modality: Modality, manifest: Manifest, store: Store,
    folder: str | Path, name: str, parity_path: str | Path | None = None,
    operating_points: Sequence[float] = (0.05, 0.01), views: int = 8,
    config_fingerprint: str = "", provenance: Mapping[str, Any] | None = None, licence_use: str = "research",
    per_class: int = 4, progress: bool = True,
) -> tuple["Bundle", ParityReport]:  # fmt: skip
    """Export trained weights as a screening bundle, or refuse to.

    The graph passes the parity gate on files, then scores the dev split itself; calibration and operating points are
    fixed on those scores, so they belong to the artefact that ships.

    Args:
        detector: of the architecture of the weights, which are loaded into it. weights: safetensors, as `fit` leaves
            them.
        modality: what the views of training were prepared with. manifest: split; test rows are not looked at.
        store: prepared views. A lossy store is compared with the files, reported, and not used for calibration.
        folder: of the bundle, or a name ending in .zip. name: of the detector, as verdicts show it.
        parity_path: where to write the parity report as JSON, also where the gate refuses.
        operating_points: BPCER targets. views: even views per file in calibration and screening.
        config_fingerprint, provenance: what they say of the run.
        licence_use: "research", or "commercial" to refuse a chain with a non-commercial or unknown link.
        per_class: dev files of each class in the parity check.

    Returns:
        the bundle and its parity report.

    Raises:
        BundleError: the parity gate refused; names the input. LicenceError: the chain refused; names the links.
        ConfigError: weights that do not fit, or an unknown use.
    """
    from deepassay.calibrator import calibrate, fit_calibration, fit_operating_points
    from deepassay.scoring import score_manifest
    from deepassay.screening.bundle import Scope, write_bundle

    if licence_use not in ("research", "commercial"):
        raise ConfigError(f"licence_use is {licence_use!r}", hint="use research or commercial")
    load_weights(detector, weights)
    facts_path = Path(weights).with_suffix(".json")
    facts = json.loads(facts_path.read_text(encoding="utf-8")) if facts_path.is_file() else {}
    if facts.get("modality_fingerprint", modality.fingerprint) != modality.fingerprint:
        raise ConfigError(
            f"{weights}: trained on views of {facts['modality_fingerprint'][:12]}, not {modality.fingerprint[:12]}",
            hint="export with the modality config of the run",
        )
    links = licence_links(detector, manifest, facts)
    if licence_use == "commercial":
        refuse_non_commercial(links)
    files, dev = _file_views(manifest, modality, store, views, per_class)
    with tempfile.TemporaryDirectory(prefix="deepassay-export-") as place:
        graph = export_detector(detector, Path(place) / "detector.onnx", modality.input_shape)
        report = parity(detector, graph, {label: v.data for label, (_, v) in files.items()})
        difference = _store_difference(detector, modality, store, files, views) if report.passed else None
        report = replace(report, store_difference=difference)
        if parity_path is not None:
            write_json(parity_path, report.to_dict())
        report.check()
        architecture = f"{type(detector).__name__}, {count_parameters(detector):,} parameters"
        meta = {
            "detector": name, "detector_sha256": report.onnx_sha256, "config_fingerprint": config_fingerprint,
            "calibrated": False,
        }  # fmt: skip
        scores = score_manifest(
            dev, modality, onnx_predictor(graph), views=views, store=store if store.lossless else None, meta=meta,
            progress=progress,
        )  # fmt: skip
        calibration = fit_calibration(scores)
        points = fit_operating_points(calibrate(scores, calibration), operating_points)
        train = manifest.split("train")
        forged = facts.get("forge") or {"names": [], "share": 0.0}
        # With a forge of all fakes, the given ones were left aside: the detector has not seen their generators.
        learnt = train if forged["share"] < 1 else train.select(lambda sample: sample.label != FAKE)
        given = {s.generator for s in learnt if s.label == FAKE and s.generator}
        generators = sorted({*given, *(f"forged/{word}" for word in forged["names"])})
        media = sorted(set(train.column("media")))
        scope = Scope(
            statement=_statement(detector, learnt, dev, generators, media),
            media=("image", "video") if modality.name == "face" else ("audio", "video"),  # a video: its soundtrack
            not_for=(
                "decisions about a person without review by a person",
                "generators and channels unlike those named",
            ),
            limits={
                "media_trained_on": media,
                "views_per_file": views,
                # How long the files were that calibration and thresholds rest on.
                "dev_views_most": int(scores.column("n_views").max(initial=0)),
            },
        )
        bundle = write_bundle(
            folder, name=name, detector_onnx=graph, modality=modality, calibration=calibration,
            operating_points=points, scope=scope, licence_chain=links, generators_seen=generators,
            manifest_sha256s={"all": manifest.hash, "train": train.hash, "dev": dev.hash},
            synthetic=manifest.synthetic,
            card_md=_card(name, architecture, scope.statement, train, dev, scores, report, links),
            provenance={
                **(provenance or {}), "config_fingerprint": config_fingerprint, "parity": report.to_dict(),
                "weights_sha256": sha256_file(weights), "training": facts, "store_lossless": store.lossless,
                "licence_use": licence_use,
            },
            views=views, architecture=architecture,
        )  # fmt: skip
    _log.info("bundle %s (%s)", bundle.path, bundle.hash[:12])
    return bundle, report


def _statement(
    detector: Detector, train: Manifest, dev: Manifest, generators: Sequence[str], media: Sequence[str]
) -> str:
    counts = train.counts().get("train", {})
    forged = [name.removeprefix("forged/") for name in generators if name.startswith("forged/")]
    made = f", and on fakes made of the real ones while training ({', '.join(forged)})" if forged else ""
    mark = "SYNTHETIC corpus computed by this package, no real person. " if train.synthetic else ""
    return (
        f"{mark}Detects manipulated {detector.modality}s. Trained on {counts.get('real', 0)} real and "
        f"{counts.get('fake', 0)} fake {'/'.join(media)} samples of {train.name} with "
        f"{len(generators) - len(forged)} generator(s){made}; "
        f"weights, calibration and thresholds were chosen on {len(dev)} dev samples of the same corpus. Error rates on "
        "other corpora, generators and channels are not known from this bundle."
    )


def _card(
    name: str, architecture: str, statement: str, train: Manifest, dev: Manifest, scores: "ScoreTable",
    report: ParityReport, links: Sequence[Mapping[str, Any]],
) -> str:  # fmt: skip
    answered = int(scores.answered.sum())
    lines = [
        f"# {name}", "",
        *(["**Synthetic: trained on a corpus that this package computes. Nothing here holds for real media.**", ""]
          if train.synthetic else []),
        statement, "", f"- Architecture: {architecture}", f"- Modality: {scores.column('modality')[0]}",
        f"- Dev samples with a score: {answered} of {len(dev)}",
        f"- Parity of the exported graph: {report.max_difference:.2e} at most in the logit, {report.n_inputs} views",
        f"- Lossy training store: largest difference of logits {report.store_difference:.3g}"
        if report.store_difference else "- Training store: lossless",
        "", "## Licence chain", "", "| link | kind | licence | commercial use |", "|---|---|---|---|",
        *(f"| {k['name']} | {k['kind']} | {k['licence']} | {k['commercial']} |" for k in links), "",
        "Scores are log-likelihood ratios after calibration on dev; a decision needs an operating point. Error rates "
        "belong to a test set: `deepassay evaluate` and `deepassay assess` report them, this card does not.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
