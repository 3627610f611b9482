"""Trained detector to ONNX to screening bundles: parity gates, precisions, calibration with the graph that ships."""

import copy
import json
import logging
import tempfile
import time
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
from deepassay.models.precision import PRECISIONS, lower_precision
from deepassay.models.weights import load_weights
from deepassay.store import Store
from deepassay.training.predictor import TorchPredictor

if TYPE_CHECKING:
    from deepassay.scores import ScoreTable
    from deepassay.screening.bundle import Bundle, Scope

TOLERANCE = 1e-3
OPSET = 20
BATCH_SIZES = (1, 2, 5)
INPUT, OUTPUT = "views", "logit"
# Training views that give int8 the ranges of its activations.
RANGE_VIEWS = 64
_TIMED_S = 1.0
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


def onnx_predictor(path: str | Path, batch_size: int | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """An exported graph as a function: views (n, *shape) -> logits (n,) float32, on the CPU with onnxruntime.

    Args:
        path: of the graph. batch_size: views at a time; all at once where None.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(data: np.ndarray) -> np.ndarray:
        data, size = np.ascontiguousarray(data), batch_size or max(1, len(data))
        parts = [data[i : i + size] for i in range(0, len(data), size)] or [data]
        return np.concatenate([np.asarray(session.run([OUTPUT], {INPUT: part})[0]) for part in parts])

    return predict


@dataclass(frozen=True, slots=True)
class ParityCase:
    """One kind of input: its name, how many views, the largest difference of logits and the largest logit."""

    name: str
    n: int
    max_difference: float
    max_logit: float


@dataclass(frozen=True, kw_only=True)
class FileParity:
    """How far a bundle's verdicts on files are from those of the network in PyTorch, from file to decision.

    Both sides read every file by themselves; the network's llrs come from the fp32 bundle's calibration and its
    decisions from that bundle's thresholds, the bundle's from its own.

    Args:
        precision: of the graph. n_files: compared. n_scored: with a score on both sides.
        n_other_status: with a score on one side only, or for another reason without one.
        max_logit_difference: largest over all views. max_llr_difference: largest over files.
        worst: id of the file with the largest difference of logits.
        eer_network, eer_bundle: equal error rate of the pooled scores; None where a class is missing.
        flips: operating point -> files whose decision differs.
        graph_bytes, bundle_bytes: sizes.
        tolerance: of the gate that fp32 must pass.
        ms_per_view, network_ms_per_view: of the graph and of the network, in batches as screening cuts them, median.
        ms_per_file, network_ms_per_file: whole path, median.
        threads: that both computed with.
    """

    precision: str
    n_files: int
    n_scored: int
    n_other_status: int
    max_logit_difference: float
    max_llr_difference: float
    worst: str
    eer_network: float | None
    eer_bundle: float | None
    flips: Mapping[str, int]
    graph_bytes: int
    bundle_bytes: int
    tolerance: float = TOLERANCE
    ms_per_view: float | None = None
    network_ms_per_view: float | None = None
    ms_per_file: float | None = None
    network_ms_per_file: float | None = None
    threads: int | None = None

    @property
    def eer_change(self) -> float | None:
        """Of the bundle, less that of the network."""
        if self.eer_network is None or self.eer_bundle is None:
            return None
        return self.eer_bundle - self.eer_network

    def check(self) -> None:
        """Raises BundleError where an fp32 bundle differs by more than the tolerance, or any bundle fails on files."""
        wrong = ""
        if not np.isfinite(self.max_logit_difference):
            wrong = "gives logits that are not finite"
        elif self.n_other_status:
            wrong = f"ends in another status on {self.n_other_status} files"
        elif self.precision == "fp32" and self.max_logit_difference > self.tolerance:
            wrong = f"differs by {self.max_logit_difference:.3g} in the logit (gate {self.tolerance:g})"
        if wrong:
            raise BundleError(
                f"the {self.precision} bundle {wrong} over {self.n_files} files, worst {self.worst!r}",
                hint="leave this variant out" if self.precision != "fp32" else "look at that file, from views to logit",
            )

    def to_dict(self, *, timing: bool = True) -> dict[str, Any]:
        """JSON form. Without timing it is the same on every machine, as what a bundle carries must be."""
        out = asdict(self) | {"eer_change": self.eer_change, "flips": dict(self.flips)}
        if not timing:
            out = {key: value for key, value in out.items() if "ms_per" not in key and key != "threads"}
        return out


@dataclass(frozen=True)
class Variant:
    """One exported precision: where its bundle lies, its hash, and its parity over files."""

    path: Path
    sha256: str
    files: FileParity


@dataclass(frozen=True)
class ParityReport:
    """How far the exported graph is from the network it came from.

    Args:
        cases: by kind of input. tolerance: of the gate. onnx_sha256: of the graph.
        store_difference: largest difference of logits between views from files and the same views from the store (0
            where the store is lossless), None where it was not measured.
        variants: what was exported, fp32 first, each with its parity over files.
    """

    cases: tuple[ParityCase, ...]
    tolerance: float
    onnx_sha256: str
    store_difference: float | None = None
    variants: tuple[Variant, ...] = ()

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
            "variants": [
                {"bundle": str(one.path), "bundle_sha256": one.sha256, **one.files.to_dict()} for one in self.variants
            ],
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


def file_parity(
    detector: Detector, modality: Modality, bundle: "Bundle", samples: Sequence[tuple[str, int | None, Path]],
    *, reference: "Bundle | None" = None, progress: bool = False,
) -> FileParity:  # fmt: skip
    """Judge files twice, by the network in PyTorch and by a bundle, each from the file on.

    Args:
        detector, modality: of the network. bundle: made of it.
        samples: id, label (None where unknown) and file of each.
        reference: the fp32 bundle, whose calibration and thresholds the network is given; by default ``bundle``.

    Raises:
        ConfigError: no file.
    """
    from deepassay.metrics.ranking import eer
    from deepassay.scoring import score_file

    if not samples:
        raise ConfigError("parity over no file", hint="give files to compare on")
    reference = reference or bundle
    network, mine = TorchPredictor(copy.deepcopy(detector), device="cpu"), bundle.modality(limits=False)
    rows: list[tuple[int | None, float, float]] = []
    seconds: list[tuple[float, float]] = []
    worst, name, other = -1.0, "", 0
    last = time.monotonic()
    for number, (sample_id, label, path) in enumerate(samples, start=1):
        ours = score_file(modality, network, path, views=bundle.views)
        theirs = score_file(mine, bundle.predict, path, views=bundle.views)
        if ours.status != theirs.status or ours.n_views != theirs.n_views:
            other, name = other + 1, sample_id
        elif ours.score is not None and theirs.score is not None:
            assert ours.logits is not None
            assert theirs.logits is not None
            difference = float(np.abs(ours.logits - theirs.logits).max())
            if not difference <= worst:
                worst, name = difference, sample_id if not other else name
            rows.append((label, ours.score, theirs.score))
            seconds.append((ours.seconds, theirs.seconds))
        if progress and time.monotonic() - last > 10:
            last = time.monotonic()
            _log.info("parity: %d of %d files", number, len(samples))
    labels = np.array([-1 if label is None else label for label, _, _ in rows])
    scores = np.array([(a, b) for _, a, b in rows], dtype=np.float64).reshape(-1, 2)
    both = {REAL, FAKE} <= set(labels.tolist())
    known = labels >= 0
    llr = np.stack([reference.calibration.llr(scores[:, 0]), bundle.calibration.llr(scores[:, 1])])
    flips = {
        point.name: int((point.flags(llr[0]) != bundle.operating_point(point.name).flags(llr[1])).sum())
        for point in reference.operating_points
    }
    ms_per_view, network_ms = _speeds(bundle, network)
    return FileParity(
        precision=bundle.precision, n_files=len(samples), n_scored=len(rows), n_other_status=other,
        max_logit_difference=worst if rows else float("nan"),
        max_llr_difference=float(np.abs(llr[0] - llr[1]).max(initial=0.0)), worst=name,
        eer_network=float(eer(labels[known], scores[known, 0])) if both else None,
        eer_bundle=float(eer(labels[known], scores[known, 1])) if both else None,
        flips=flips, graph_bytes=len(bundle.graph), bundle_bytes=bundle.n_bytes,
        ms_per_view=ms_per_view, network_ms_per_view=network_ms,
        ms_per_file=1e3 * float(np.median([b for _, b in seconds])) if rows else None,
        network_ms_per_file=1e3 * float(np.median([a for a, _ in seconds])) if rows else None,
        threads=torch.get_num_threads(),
    )  # fmt: skip


def _speeds(bundle: "Bundle", network: TorchPredictor) -> tuple[float, float]:
    """Milliseconds per view of a bundle's graph and of the network, in batches of at most 8, taken in turn."""
    shape = bundle.facts["modality"]["input_shape"]
    data = next(v for key, v in hard_inputs(bundle.modality_name, shape).items() if "batch of 5" in key)
    times: tuple[list[float], list[float]] = ([], [])
    begin = time.monotonic()
    while len(times[0]) < 4 or (time.monotonic() - begin < _TIMED_S and len(times[0]) < 50):
        for predict, kept in zip((bundle.predict, network), times, strict=True):
            start = time.perf_counter()
            predict(data)
            kept.append(time.perf_counter() - start)
    mine, theirs = (1e3 * float(np.median(kept[1:])) / len(data) for kept in times)
    return mine, theirs


def spread_samples(manifest: Manifest, most: int) -> list[tuple[str, int | None, Path]]:
    """At most so many samples of a manifest, both classes alike where it has them, spread evenly over its order."""
    groups = [[s for s in manifest if s.label == label] for label in (REAL, FAKE, None)]
    groups = [group for group in groups if group]
    chosen: set[str] = set()
    for number, group in enumerate(sorted(groups, key=len)):
        share = (most - len(chosen)) // (len(groups) - number)
        where = np.unique(np.linspace(0, len(group) - 1, min(share, len(group))).round().astype(int)) if share else []
        chosen |= {group[i].sample_id for i in where}
    return [(s.sample_id, s.label, manifest.file(s)) for s in manifest if s.sample_id in chosen]


def export_bundle(
    *, detector: Detector, weights: str | Path, modality: Modality, manifest: Manifest, store: Store,
    folder: str | Path, name: str, parity_path: str | Path | None = None,
    operating_points: Sequence[float] = (0.05, 0.01), views: int = 8,
    config_fingerprint: str = "", provenance: Mapping[str, Any] | None = None, licence_use: str = "research",
    per_class: int = 4, progress: bool = True, variants: Sequence[str] = ("fp32",),
    parity_files: int = 64, parity_on: Manifest | None = None, sign: str | Path | None = None,
) -> tuple["Bundle", ParityReport]:  # fmt: skip
    """Export trained weights as screening bundles, or refuse to.

    The graph passes the parity gate on views, then scores the dev split itself; calibration, operating points and
    abstention limits are fixed on those scores, so they belong to the artefact that ships. Then each bundle judges
    files beside the network (`file_parity`); fp32 must agree within the tolerance, other precisions are reported.

    Args:
        detector: of the architecture of the weights, which are loaded into it. weights: safetensors, as `fit` leaves
            them.
        modality: what the views of training were prepared with. manifest: split; test rows are not looked at.
        store: prepared views. A lossy store is compared with the files, reported, and not used for calibration.
        folder: of the bundle, or a name ending in .zip; other precisions lie beside it as NAME-fp16, NAME-int8.
        name: of the detector, as verdicts show it.
        parity_path: where to write the parity report as JSON, also where the gate refuses.
        operating_points: BPCER targets. views: even views per file in calibration and screening.
        config_fingerprint, provenance: what they say of the run.
        licence_use: "research", or "commercial" to refuse a chain with a non-commercial or unknown link.
        per_class: dev files of each class in the parity check of views.
        variants: precisions; fp32 is always made.
        parity_files: most files in the parity over files. parity_on: of which manifest; by default the dev split.
        sign: a private key that signs every bundle.

    Returns:
        the fp32 bundle and the parity report, which names the others.

    Raises:
        BundleError: a parity gate refused; names the input. LicenceError: the chain refused; names the links.
        ConfigError: weights that do not fit, an unknown use or precision.
    """
    if licence_use not in ("research", "commercial"):
        raise ConfigError(f"licence_use is {licence_use!r}", hint="use research or commercial")
    strange = [word for word in variants if word not in PRECISIONS]
    if strange or parity_files < 1:
        raise ConfigError(
            f"variants {list(variants)}, parity_files {parity_files}",
            hint=f"variants are of {', '.join(PRECISIONS)}; at least one file",
        )
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
    compared = spread_samples(dev if parity_on is None else parity_on, parity_files)
    made: list[Variant] = []
    reference: Bundle | None = None
    with tempfile.TemporaryDirectory(prefix="deepassay-export-") as place:
        graph = export_detector(detector, Path(place) / "detector.onnx", modality.input_shape)
        report = parity(detector, graph, {label: v.data for label, (_, v) in files.items()})
        difference = _store_difference(detector, modality, store, files, views) if report.passed else None
        report = replace(report, store_difference=difference)
        if parity_path is not None:
            write_json(parity_path, report.to_dict())
        report.check()
        train = manifest.split("train")
        forged = facts.get("forge") or {"names": [], "share": 0.0}
        # With a forge of all fakes, the given ones were left aside: the detector has not seen their generators.
        learnt = train if forged["share"] < 1 else train.select(lambda sample: sample.label != FAKE)
        given = {s.generator for s in learnt if s.label == FAKE and s.generator}
        common: dict[str, Any] = {
            "name": name, "modality": modality, "licence_chain": links, "synthetic": manifest.synthetic,
            "generators_seen": sorted({*given, *(f"forged/{word}" for word in forged["names"])}),
            "manifest_sha256s": {"all": manifest.hash, "train": train.hash, "dev": dev.hash}, "views": views,
            "architecture": f"{type(detector).__name__}, {count_parameters(detector):,} parameters",
        }  # fmt: skip
        base_facts = {
            **(provenance or {}), "config_fingerprint": config_fingerprint, "weights_sha256": sha256_file(weights),
            "training": facts, "store_lossless": store.lossless, "licence_use": licence_use,
            "parity": {key: value for key, value in report.to_dict().items() if key != "variants"},
        }  # fmt: skip
        for precision in ("fp32", *(word for word in PRECISIONS[1:] if word in variants)):
            if precision != "fp32":
                low = Path(place) / f"{precision}.onnx"
                graph = lower_precision(
                    Path(place) / "detector.onnx", low, precision, _range_views(modality, store, train)
                )
            bundle, measured = _make(
                graph, precision, detector, common, base_facts, dev, learnt, store, compared, reference,
                target=_beside(Path(folder), precision), operating_points=operating_points,
                config_fingerprint=config_fingerprint, progress=progress, draft=Path(place) / f"draft-{precision}",
            )  # fmt: skip
            if sign is not None:
                bundle = bundle.sign(sign)
            made.append(Variant(bundle.path, bundle.hash, measured))
            reference = reference or bundle
            _log.info("bundle %s (%s)", bundle.path, bundle.hash[:12])
        report = replace(report, variants=tuple(made))
        if parity_path is not None:
            write_json(parity_path, report.to_dict())
    assert reference is not None
    return reference, report


def _beside(folder: Path, precision: str) -> Path:
    if precision == "fp32":
        return folder
    ending = folder.suffix if folder.suffix == ".zip" else ""
    return folder.with_name(f"{folder.name.removesuffix(ending)}-{precision}{ending}")


def _range_views(modality: Modality, store: Store, train: Manifest) -> np.ndarray:
    """One even view of each of some training files, spread over the split."""
    held = [s.sample_id for s in train if store.n_views(s.sample_id)]
    where = np.unique(np.linspace(0, len(held) - 1, min(RANGE_VIEWS, len(held))).round().astype(int)) if held else []
    drawn = [modality.draw(store.views(held[i]), 1).data for i in where]
    return np.concatenate(drawn) if drawn else np.zeros((0, *modality.input_shape))


def _make(
    graph: Path, precision: str, detector: Detector, common: Mapping[str, Any], base_facts: Mapping[str, Any],
    dev: Manifest, learnt: Manifest, store: Store, compared: Sequence[tuple[str, int | None, Path]],
    reference: "Bundle | None", *, target: Path, operating_points: Sequence[float], config_fingerprint: str,
    progress: bool, draft: Path,
) -> tuple["Bundle", FileParity]:  # fmt: skip
    """Calibrate one graph on dev, compare a draft of its bundle over files, then write it with the report."""
    from deepassay.calibrator import calibrate, fit_calibration, fit_operating_points
    from deepassay.scoring import score_manifest
    from deepassay.screening.abstention import guarded, learn_limits
    from deepassay.screening.bundle import write_bundle
    from deepassay.screening.card import render_card

    modality, views = common["modality"], common["views"]
    meta = {
        "detector": common["name"], "detector_sha256": sha256_file(graph), "config_fingerprint": config_fingerprint,
        "calibrated": False,
    }  # fmt: skip
    predict = onnx_predictor(graph, batch_size=1)  # as `Bundle.predict` does on a CPU
    recorder = guarded(modality, None)
    scores = score_manifest(
        dev, recorder, predict, views=views, store=store if store.lossless else None, meta=meta, progress=progress
    )  # fmt: skip
    calibration = fit_calibration(scores)
    points = fit_operating_points(calibrate(scores, calibration), operating_points)
    limits = learn_limits(modality.name, recorder.seen, scores.column("cluster")[scores.answered].tolist())
    parts = {
        **common, "detector_onnx": graph, "precision": precision, "calibration": calibration,
        "operating_points": points, "abstention": limits, "card_md": render_card,
        "scope": _scope(detector, learnt, dev, common["generators_seen"], scores, views),
    }  # fmt: skip
    shown = {**base_facts, "data": _data(learnt, dev, scores)}
    provisional = write_bundle(draft, **parts, provenance=shown)
    measured = file_parity(detector, modality, provisional, compared, reference=reference, progress=progress)
    measured.check()
    final = {**shown, "parity_over_files": measured.to_dict(timing=False)}
    return write_bundle(target, **parts, provenance=final), measured


def _scope(
    detector: Detector, learnt: Manifest, dev: Manifest, generators: Sequence[str], scores: "ScoreTable", views: int
) -> "Scope":
    from deepassay.screening.bundle import Scope

    media = sorted(set(learnt.column("media")))
    return Scope(
        statement=_statement(detector, learnt, dev, generators, media),
        media=("image", "video") if detector.modality == "face" else ("audio", "video"),  # a video: its soundtrack
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


def _data(learnt: Manifest, dev: Manifest, scores: "ScoreTable") -> dict[str, Any]:
    """What the model card says of the data."""

    def count(part: Manifest) -> dict[str, int]:
        labels = part.column("label")
        return {word: int((labels == label).sum()) for label, word in enumerate(LABEL_WORDS)}

    return {
        "corpus": learnt.name, "media": sorted(set(learnt.column("media"))), "train": count(learnt), "dev": count(dev),
        "dev_scored": int(scores.answered.sum()),
    }  # fmt: skip


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
