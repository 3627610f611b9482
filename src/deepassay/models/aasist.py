"""AASIST and AASIST-L: spectro-temporal graph attention on raw sound, from scratch or with the published weights."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.files import cache_folder, sha256_file
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.frontends import SincBank
from deepassay.models.voice_heads import CentreHead, make_head
from deepassay.models.weights import load_weights, save_weights

WINDOW = 64_600
# An exported encoder runs its first blocks piece by piece (see `AASIST.encode`): how many blocks, how many pieces.
PIECED, PIECES = 2, 12
# Weights below this change no output, but subnormal numbers slow multiplication a hundredfold.
_NEGLIGIBLE = 1e-30
# Pickles of the authors' release (MIT), the only ones that are ever opened.
PUBLISHED = {
    "51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0": "AASIST",
    "814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a": "AASIST-L",
}


@dataclass(frozen=True)
class Size:
    """Widths of a variant: channels of the encoder, of the graphs, and what pooling keeps of their nodes."""

    channels: tuple[int, int, int]
    graph: int
    stacked: int
    keep_spectral: float
    keep_temporal: float
    keep_stacked: float


SIZES = {
    "base": Size((32, 32, 64), 64, 32, 0.5, 0.7, 0.5),
    "light": Size((32, 32, 24), 24, 32, 0.4, 0.5, 0.7),
}


class ResidualBlock(nn.Module):
    """Two convolutions of 2 x 3 with a short cut, then a maximum over ``shrink`` steps of time.

    Of the pre-activation block of RawGAT-ST and AASIST this is what the published network computes: its first
    normalisation is stored with the weights but takes no part in the forward pass (the golden logits show it).
    """

    def __init__(self, inside: int, out: int, *, shrink: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, out, (2, 3), padding=(1, 1))
        self.norm = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, (2, 3), padding=(0, 1))
        self.short_cut = nn.Conv2d(inside, out, (1, 3), padding=(0, 1)) if inside != out else nn.Identity()
        self.shrink = shrink

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, S, T) -> (n, out, S, T // shrink)."""
        y = self.conv2(F.selu(self.norm(self.conv1(x)))) + self.short_cut(x)
        return F.max_pool2d(y, (1, self.shrink)) if self.shrink > 1 else y


def _normed(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Batch norm over the features of nodes (n, nodes, d), then SELU."""
    return F.selu(norm(x.flatten(0, 1)).unflatten(0, x.shape[:2]))


class GraphAttention(nn.Module):
    """Graph attention over a complete graph (AASIST section 2.1, after RawGAT-ST, Tak et al. 2021).

    The weight of node j for node i is ``softmax_j(a . tanh(W (x_i * x_j) + b) / temperature)``.
    """

    def __init__(self, inside: int, out: int, *, temperature: float, drop_rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.pair = nn.Linear(inside, out)
        self.weigh = nn.Linear(out, 1, bias=False)
        self.gathered = nn.Linear(inside, out)
        self.own = nn.Linear(inside, out)
        self.norm = nn.BatchNorm1d(out)
        self.temperature = temperature
        nn.init.xavier_normal_(self.weigh.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Nodes (n, nodes, inside) -> (n, nodes, out)."""
        x = self.drop(x)
        pairs = torch.tanh(self.pair(x.unsqueeze(2) * x.unsqueeze(1)))
        attention = torch.softmax(self.weigh(pairs).squeeze(-1) / self.temperature, dim=-1)
        return _normed(self.norm, self.gathered(attention @ x) + self.own(x))


class StackAttention(nn.Module):
    """Heterogeneous stacking graph attention with a stack node (AASIST section 2.2, equations 4 to 6).

    Pairs of temporal nodes, pairs of spectral nodes and mixed pairs have attention vectors of their own; the stack
    node gathers from all nodes and gives nothing back.
    """

    def __init__(self, inside: int, out: int, *, temperature: float, drop_rate: float) -> None:
        super().__init__()
        self.into_first = nn.Linear(inside, inside)
        self.into_second = nn.Linear(inside, inside)
        self.drop = nn.Dropout(drop_rate)
        self.pair = nn.Linear(inside, out)
        self.weigh_first = nn.Linear(out, 1, bias=False)
        self.weigh_second = nn.Linear(out, 1, bias=False)
        self.weigh_mixed = nn.Linear(out, 1, bias=False)
        self.gathered = nn.Linear(inside, out)
        self.own = nn.Linear(inside, out)
        self.norm = nn.BatchNorm1d(out)
        self.stack_pair = nn.Linear(inside, out)
        self.stack_weigh = nn.Linear(out, 1, bias=False)
        self.stack_gathered = nn.Linear(inside, out)
        self.stack_own = nn.Linear(inside, out)
        self.temperature = temperature
        for layer in (self.weigh_first, self.weigh_second, self.weigh_mixed, self.stack_weigh):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, first: Tensor, second: Tensor, stack: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes (n, a, inside) and (n, b, inside) and the stack node (n or 1, 1, inside) -> the same with out."""
        a = first.shape[1]
        x = self.drop(torch.cat([self.into_first(first), self.into_second(second)], dim=1))
        pairs = torch.tanh(self.pair(x.unsqueeze(2) * x.unsqueeze(1)))
        upper = torch.cat([self.weigh_first(pairs[:, :a, :a]), self.weigh_mixed(pairs[:, :a, a:])], dim=2)
        lower = torch.cat([self.weigh_mixed(pairs[:, a:, :a]), self.weigh_second(pairs[:, a:, a:])], dim=2)
        attention = torch.softmax(torch.cat([upper, lower], dim=1).squeeze(-1) / self.temperature, dim=-1)
        with_stack = self.stack_weigh(torch.tanh(self.stack_pair(x * stack))).transpose(1, 2)
        gathered = torch.softmax(with_stack / self.temperature, dim=-1) @ x
        stack = self.stack_gathered(gathered) + self.stack_own(stack)
        x = _normed(self.norm, self.gathered(attention @ x) + self.own(x))
        return x[:, :a], x[:, a:], stack


class GraphPool(nn.Module):
    """Keeps the highest-scored share of the nodes, each multiplied by its score (Gao and Ji, Graph U-Nets, 2019)."""

    def __init__(self, width: int, keep: float, *, drop_rate: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(drop_rate)
        self.rate = nn.Linear(width, 1)
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        """(n, nodes, d) -> (n, max(1, int(keep * nodes)), d). The count is fixed in an exported graph."""
        score = torch.sigmoid(self.rate(self.drop(x)))
        kept = max(1, int(self.keep * x.shape[1]))
        _, index = torch.topk(score, kept, dim=1)
        return torch.gather(x * score, 1, index.expand(-1, -1, x.shape[2]))


class _Branch(nn.Module):
    """One of the two competing branches: stack attention, pooling, stack attention again."""

    def __init__(self, inside: int, out: int, keep: float, drop_factor: float) -> None:
        super().__init__()
        temperature = 100.0
        self.stack = nn.Parameter(torch.randn(1, 1, inside))
        self.first = StackAttention(inside, out, temperature=temperature, drop_rate=0.2 * drop_factor)
        self.pool_spectral = GraphPool(out, keep, drop_rate=0.3 * drop_factor)
        self.pool_temporal = GraphPool(out, keep, drop_rate=0.3 * drop_factor)
        self.second = StackAttention(out, out, temperature=temperature, drop_rate=0.2 * drop_factor)

    def forward(self, temporal: Tensor, spectral: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        t, s, stack = self.first(temporal, spectral, self.stack)
        t, s = self.pool_temporal(t), self.pool_spectral(s)
        more_t, more_s, more_stack = self.second(t, s, stack)
        return t + more_t, s + more_s, stack + more_stack


class SpectroTemporalGraphs(nn.Module):
    """The graph half of AASIST: a map of features to one embedding by two graphs, their union and a readout.

    Args:
        inside: channels of the map. rows: its height, spectral nodes. size: widths and shares kept.
        drop_factor: multiplies all dropout rates (0.2 on nodes, 0.3 before pooling, 0.5 on the readout).
    """

    def __init__(self, *, inside: int, rows: int, size: Size, drop_factor: float = 1.0) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, rows, inside))
        self.spectral = GraphAttention(inside, size.graph, temperature=2.0, drop_rate=0.2 * drop_factor)
        self.temporal = GraphAttention(inside, size.graph, temperature=2.0, drop_rate=0.2 * drop_factor)
        self.pool_spectral = GraphPool(size.graph, size.keep_spectral, drop_rate=0.3 * drop_factor)
        self.pool_temporal = GraphPool(size.graph, size.keep_temporal, drop_rate=0.3 * drop_factor)
        self.branches = nn.ModuleList(
            _Branch(size.graph, size.stacked, size.keep_stacked, drop_factor) for _ in range(2)
        )
        self.drop_way = nn.Dropout(0.2 * drop_factor)
        self.drop = nn.Dropout(0.5 * drop_factor)
        self.features = 5 * size.stacked

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (n, inside, rows, T) -> embedding (n, features)."""
        size = maps.abs()
        spectral = self.pool_spectral(self.spectral(size.amax(dim=3).transpose(1, 2) + self.place))
        temporal = self.pool_temporal(self.temporal(size.amax(dim=2).transpose(1, 2)))
        one, two = (branch(temporal, spectral) for branch in self.branches)
        t, s, stack = (torch.maximum(self.drop_way(a), self.drop_way(b)) for a, b in zip(one, two, strict=True))
        readout = [t.abs().amax(dim=1), t.mean(dim=1), s.abs().amax(dim=1), s.mean(dim=1), stack.squeeze(1)]
        return self.drop(torch.cat(readout, dim=1))


class AASIST(Detector):
    """Audio anti-spoofing with integrated spectro-temporal graph attention (Jung et al., ICASSP 2022).

    Fixed sinc filters, six residual blocks (RawNet2's encoder on a map of filters by time), a spectral and a temporal
    graph, and two branches of heterogeneous stacking attention whose outputs compete.

    Args:
        size: "base" (AASIST, 0.30 million parameters) or "light" (AASIST-L, 0.085 million).
        weights: None for random weights; the authors' ``AASIST.pth`` or ``AASIST-L.pth`` (recognised by SHA-256, read
            without code and converted once into the cache); or a .safetensors file of this network.
        head: "linear" (as published), "one_class" or "margin", see `voice_heads`. Published weights fill a linear
            head; another head begins anew.
        drop_factor: multiplies the published dropout rates; 0 switches dropout off.
        window_samples: must equal the modality's. Trained weights belong to 64,600; pooling fixes it in a graph.

    Raises:
        ConfigError: an option out of range, weights of the other size, or a pickle of unknown hash.
        MissingDependencyError: the weights file is not there.
    """

    modality = "voice"

    def __init__(
        self, *, size: str = "base", weights: str | None = None, head: str = "linear", drop_factor: float = 1.0,
        window_samples: int = WINDOW,
    ) -> None:  # fmt: skip
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"size is {size!r}", hint=f"use one of {list(SIZES)}")
        if not 0 <= drop_factor < 2:
            raise ConfigError(f"drop_factor is {drop_factor}", hint="use 0 (no dropout) to below 2; 1 is as published")
        shape = SIZES[size]
        self.size = size
        self.window_samples = window_samples
        self.pieces = 1
        self.sinc = SincBank(n_filters=70, width=129)
        rows, steps = self.sinc.n_filters // 3, (window_samples - self.sinc.width + 1) // 3
        if steps // 3**6 < 2:
            raise ConfigError(
                f"window_samples is {window_samples}, seven maxima over three steps leave {steps // 3**6} of it",
                hint="use at least 4,502 samples; 64,600 is the published length",
            )
        widths = [1, *shape.channels[:2], *(shape.channels[2],) * 4]
        self.stem_norm = nn.BatchNorm2d(1)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in itertools.pairwise(widths)))
        self.graphs = SpectroTemporalGraphs(inside=shape.channels[2], rows=rows, size=shape, drop_factor=drop_factor)
        # Two outputs, fake and bona fide, as published; the logit is their difference.
        self.classifier = nn.Linear(self.graphs.features, 2) if head == "linear" else make_head(
            head, self.graphs.features
        )  # fmt: skip
        self.origin = ("random-initialisation", "none needed")
        if weights is not None:
            self._load(weights)

    def _load(self, weights: str) -> None:
        path = published_safetensors(weights)
        published = read_origin(path)
        if isinstance(self.classifier, CentreHead) and published:
            linear = AASIST(size=self.size, weights=str(path), window_samples=self.window_samples)
            own = {k: v for k, v in self.state_dict().items() if k.startswith("classifier.")}
            body = {k: v for k, v in linear.state_dict().items() if not k.startswith("classifier.")}
            self.load_state_dict({**body, **own})
        else:
            load_weights(self, path)
        self.origin = ("aasist", "") if published else ("AASIST weights file", "not stated")

    @property
    def weight_origin(self) -> tuple[str, str]:
        """The ledger's entry of the published weights; unknown for another file."""
        return self.origin

    def head_parameters(self) -> list[nn.Parameter]:
        """The classifier, where the rest comes from a file; everything otherwise."""
        return list((self if self.origin[0] == "random-initialisation" else self.classifier).parameters())

    def folded(self) -> Detector:
        """A copy in the form that ships: the same function, a tenth to a third faster in onnxruntime.

        The encoder runs in pieces, and weights that weight decay has brought below 1e-30 become zero: in the published
        networks that is most of the stacking attention, which has thereby become uniform.
        """
        out = copy.deepcopy(self)
        out.pieces = max(1, min(PIECES, self.window_samples // 4000))
        with torch.no_grad():
            for parameter in out.parameters():
                parameter[parameter.abs() < _NEGLIGIBLE] = 0
        return out

    def encode(self, views: Tensor) -> Tensor:
        """Sound (n, window_samples) -> maps (n, channels, 23, steps).

        In pieces, the first ``PIECED`` blocks run over overlapping stretches of sound, whose results are joined: the
        maps of the whole window (66 MB a clip) leave every cache, those of a piece do not. Each block spoils at most
        one step at a border that is not the window's own (two convolutions reach two steps, three steps make one), so
        a margin of one step of the last block, cut off afterwards, makes the result exact.
        """
        pieces = 1 if self.training else self.pieces
        first, rest = self.blocks[:PIECED], self.blocks[PIECED:]
        shrink = 3 ** (PIECED + 1)
        total = (views.shape[1] - self.sinc.width + 1) // 3 // 3**PIECED
        bounds = [round(total * i / pieces) for i in range(pieces + 1)]
        done = []
        for low, high in itertools.pairwise(bounds):
            left, right = min(low, 1), int(high < total)
            end = (high + right) * shrink + self.sinc.width - 1 if right else views.shape[1]
            x = F.max_pool2d(self.sinc(views[:, (low - left) * shrink : end]).abs().unsqueeze(1), 3)
            x = first(F.selu(self.stem_norm(x)))
            done.append(x[..., left : left + high - low])
        return rest(torch.cat(done, dim=-1) if pieces > 1 else done[0])

    def forward(self, views: Tensor) -> DetectorOutput:
        """Sound float32 (n, window_samples) -> logit (n,), ``features`` (n, 160) and, with a linear head, ``classes``
        (n, 2): fake and bona fide in this order, as published; the logit is the first minus the second.
        """
        if views.shape[1] != self.window_samples:
            raise ConfigError(
                f"the detector takes windows of {self.window_samples} samples, these have {views.shape[1]}",
                hint="set detector.window_samples and modality.window_samples to the same number",
            )
        features = self.graphs(self.encode(views))
        if isinstance(self.classifier, nn.Linear):
            classes = self.classifier(features).float()
            return DetectorOutput(classes[:, 0] - classes[:, 1], {"features": features, "classes": classes})
        logit, more = self.classifier.score(features)
        return DetectorOutput(logit, {"features": features, **more})


_RENAMED: Sequence[tuple[str, str]] = (
    ("first_bn.", "stem_norm."),
    ("pos_S", "graphs.place"),
    ("GAT_layer_S.", "graphs.spectral."),
    ("GAT_layer_T.", "graphs.temporal."),
    ("pool_S.", "graphs.pool_spectral."),
    ("pool_T.", "graphs.pool_temporal."),
    ("out_layer.", "classifier."),
    *((f"encoder.{i}.0.", f"blocks.{i}.") for i in range(6)),
    *((f"master{b}", f"graphs.branches.{b - 1}.stack") for b in (1, 2)),
    *((f"HtrgGAT_layer_ST{b}1.", f"graphs.branches.{b - 1}.first.") for b in (1, 2)),
    *((f"HtrgGAT_layer_ST{b}2.", f"graphs.branches.{b - 1}.second.") for b in (1, 2)),
    *((f"pool_hS{b}.", f"graphs.branches.{b - 1}.pool_spectral.") for b in (1, 2)),
    *((f"pool_hT{b}.", f"graphs.branches.{b - 1}.pool_temporal.") for b in (1, 2)),
)
_RENAMED_INSIDE = {
    "bn2": "norm", "conv_downsample": "short_cut", "bn": "norm", "att_proj": "pair", "att_weight": "weigh.weight",
    "proj_with_att": "gathered", "proj_without_att": "own", "proj_type1": "into_first", "proj_type2": "into_second",
    "att_weight11": "weigh_first.weight", "att_weight22": "weigh_second.weight",
    "att_weight12": "weigh_mixed.weight", "att_weightM": "stack_weigh.weight", "att_projM": "stack_pair",
    "proj_with_attM": "stack_gathered", "proj_without_attM": "stack_own", "proj": "rate",
}  # fmt: skip


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under the names of `AASIST`.

    Left out are the first normalisations of the blocks, which the published forward pass does not use.

    Raises:
        ConfigError: a tensor that the published networks do not have.
    """
    out = {}
    for name, value in state.items():
        prefix, ours = next(((p, o) for p, o in _RENAMED if name.startswith(p)), (None, ""))
        if prefix is None:
            raise ConfigError(f"tensor {name!r} is not one of AASIST's", hint="give the authors' AASIST(-L).pth")
        part, _, leaf = name[len(prefix) :].partition(".")
        if part == "bn1":
            continue
        inside = _RENAMED_INSIDE.get(part, part)
        tail = f"{inside}.{leaf}" if leaf else inside
        out[ours + tail] = value.T.contiguous() if part.startswith("att_weight") else value
    return out


def published_safetensors(weights: str | Path) -> Path:
    """The safetensors form of a weights file: itself, or the converted copy of a published pickle in the cache.

    Raises:
        MissingDependencyError: no such file. ConfigError: a pickle whose hash is not one of `PUBLISHED`.
    """
    path = Path(weights)
    if not path.is_file():
        raise MissingDependencyError(
            f"{path}: no such weights file",
            hint="get models/weights/AASIST.pth or AASIST-L.pth of github.com/clovaai/aasist (MIT) and give its path "
            "as detector.weights, or set detector.weights=null to train from random weights",
        )
    if path.suffix == ".safetensors":
        return path
    digest = sha256_file(path)
    if digest not in PUBLISHED:
        raise ConfigError(
            f"{path}: SHA-256 {digest[:12]}... is not that of the published AASIST or AASIST-L weights; not opened",
            hint="a pickle of another hash is never read; convert your own weights to safetensors",
        )
    converted = cache_folder() / "weights" / f"{PUBLISHED[digest]}-{digest[:12]}.safetensors"
    if not converted.is_file():
        state = torch.load(path, map_location="cpu", weights_only=True)
        save_weights(renamed(state), converted, {"origin": PUBLISHED[digest], "sha256": digest})
    return converted


def read_origin(path: Path) -> str:
    """ "AASIST" or "AASIST-L" where a safetensors file says that it was converted from that release, else empty."""
    import json

    from safetensors import safe_open

    with safe_open(str(path), framework="pt", device="cpu") as stream:
        facts = json.loads((stream.metadata() or {}).get("deepassay", "{}"))
    return str(facts.get("origin", "")) if facts.get("sha256") in PUBLISHED else ""
