"""Every plot, drawn from numbers as SVG text in one typographic system; read in grey as well as in colour."""

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, PALE = "#1b1f24", "#59636e", "#d3d8de", "#eef1f4"
REAL_COLOUR, FAKE_COLOUR, TOOL_COLOUR = "#1f5f8b", "#c2703d", "#8c1d18"
# Line styles and markers come first, so that curves stay apart without colour.
_STYLES: tuple[tuple[str, Any, str], ...] = (
    (REAL_COLOUR, "-", "o"),
    (TOOL_COLOUR, (0, (5, 2)), "s"),
    (FAKE_COLOUR, (0, (1.2, 1.4)), "D"),
    ("#4b7f52", (0, (6, 1.6, 1.2, 1.6)), "^"),
    ("#6b4c8a", (0, (3, 1, 1, 1, 1, 1)), "v"),
    (MUTED, (0, (8, 2)), "P"),
)
FONT_STACK = "'Inter','Helvetica Neue',Arial,'PingFang SC','Noto Sans CJK SC','Microsoft YaHei',sans-serif"
_FULL, _HALF = 6.8, 3.3  # inches: the text column of an A4 page, and half of it

WORDS: Mapping[str, str] = {
    "bpcer": "False alarms on real samples, BPCER (%)",
    "apcer": "Missed fakes, APCER (%)",
    "miss": "Missed fakes (%)",
    "eer_line": "equal error",
    "score": "Score (higher = more likely fake)",
    "llr": "Log-likelihood ratio fake : real (natural log)",
    "density": "Share of samples per unit",
    "real": "real",
    "fake": "fake",
    "all_fakes": "all fakes",
    "threshold": "threshold",
    "rate": "Error rate (%)",
    "under_powered": "too few samples or clusters for a claim",
    "predicted": "Predicted share of fakes (flat prior)",
    "observed": "Observed share of fakes",
    "perfect": "perfect calibration",
    "tippett_x": "Log10 likelihood ratio fake : real",
    "tippett_y": "Share of samples with a larger ratio (%)",
    "share": "Share of samples (%)",
    "samples": "Samples",
    "answered": "scored",
    "non_response": "no response",
    "tpr": "detected fakes",
    "fpr": "false alarms",
    "severity": "Severity",
    "band": "95 % cluster band",
    "ece_x": "Prior log10 odds of fake",
    "ece_y": "Empirical cross-entropy (bits)",
    "ece_observed": "llr as given",
    "ece_pav": "best calibration of these scores",
    "ece_neutral": "no evidence",
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line with an optional band: arrays x, y, lo, hi (n,) in the unit of the figure that takes it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    lo: Sequence[float] | None = None
    hi: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """One row of a dot-and-interval plot: fractions in [0, 1], a note at the edge, whether too weak to claim on."""

    label: str
    value: float | None
    lo: float | None = None
    hi: float | None = None
    note: str = ""
    weak: bool = False
    highlight: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One nuisance variable: shares per bin of real and fake samples, with (bins + 1) edges or one label per bin."""

    name: str
    unit: str
    bins: Sequence[float] | Sequence[str]
    real: Sequence[float]
    fake: Sequence[float]


@dataclass(frozen=True, slots=True)
class Ladder:
    """One kind of processing: names of its levels, mild to harsh, and curves whose x indexes them, as fractions."""

    name: str
    unit: str
    levels: Sequence[str]
    curves: Sequence[Curve]


def _new(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    return figure


def _dress(axes: "Axes", *, x: str, y: str, grid: str = "both") -> None:
    axes.set_xlabel(x, fontsize=8.5, color=INK, labelpad=5)
    axes.set_ylabel(y, fontsize=8.5, color=INK, labelpad=5)
    axes.tick_params(labelsize=7.5, colors=MUTED, length=3, width=0.6)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
        spine.set_linewidth(0.7)
    if grid != "none":
        axes.grid(axis=grid, color=RULE, linewidth=0.5)  # pyright: ignore[reportArgumentType]
    axes.set_axisbelow(True)


def _legend(axes: "Axes", **where: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles, labels, fontsize=7.5, frameon=False, labelcolor=INK, handlelength=2.6, **where)


def _svg(figure: "Figure", *, title: str, description: str) -> str:
    """Deterministic, self-contained SVG: no date, stable ids, text kept as text, title and description inside."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    salt = hashlib.sha256(f"{title}\n{description}".encode()).hexdigest()[:12]
    stream = io.StringIO()
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.family": ["DejaVu Sans"],
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(rc=settings), warnings.catch_warnings():
        # Chinese words are measured with a font that lacks them; browsers draw them with a font that has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(
            stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # group names repeat between figures of one page
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"'DejaVu Sans'(?:, [^;\"]*)?", FONT_STACK, text)
    text = re.sub(
        r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL
    )  # it would style the whole page
    width, height = (72 * float(size) for size in figure.get_size_inches())
    body = text[text.index(">") + 1 :]
    return (
        f'<svg role="img" aria-labelledby="t{salt} d{salt}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width:g} {height:g}" '
        f'style="width:100%;max-width:{width * 4 / 3:.0f}px;stroke-linejoin:round;stroke-linecap:butt">\n'
        f' <title id="t{salt}">{escape(title)}</title>\n <desc id="d{salt}">{escape(description)}</desc>{body}'
    )


def _words(words: Mapping[str, str] | None) -> Mapping[str, str]:
    return WORDS if words is None else {**WORDS, **words}


def _deviate(rate: np.ndarray | Sequence[float] | float, lowest: float) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri(np.clip(np.asarray(rate, dtype=np.float64), lowest, 1.0 - lowest))


def det_figure(
    curves: Sequence[Curve],
    points: Iterable[tuple[str, float, float]] = (),
    *,
    title: str = "Detection error trade-off",
    lowest: float = 0.002,
    words: Mapping[str, str] | None = None,
) -> str:
    """Detection error trade-off on normal-deviate axes (Martin et al. 1997).

    Args:
        curves: x = BPCER, y = APCER as fractions (n,); lo and hi are the band of y.
        points: operating points to mark: (name, BPCER, APCER), fractions.
        lowest: smallest rate on both axes; rates beyond it are drawn on the edge.
    """
    say = _words(words)
    marked = list(points)
    figure = _new(_FULL * 0.72, _FULL * 0.64)
    axes = figure.add_subplot()
    ticks = np.array([0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99])
    ticks = ticks[(ticks >= lowest) & (ticks <= 0.95)]
    limits = _deviate([lowest, 0.95], lowest)
    axes.plot(limits, limits, color=RULE, linewidth=0.8, zorder=1)
    axes.annotate(
        say["eer_line"], (limits[0], limits[0]), xytext=(10, 3), textcoords="offset points", fontsize=6.5, color=MUTED,
        rotation=45, rotation_mode="anchor",
    )  # fmt: skip
    for position, curve in enumerate(curves):
        colour, style, _ = _STYLES[position % len(_STYLES)]
        x = _deviate(curve.x, lowest)
        if curve.lo is not None and curve.hi is not None:
            axes.fill_between(
                x, _deviate(curve.lo, lowest), _deviate(curve.hi, lowest), color=colour, alpha=0.13, linewidth=0,
                zorder=2, label=say["band"] if position == 0 else None,
            )  # fmt: skip
        axes.plot(
            x, _deviate(curve.y, lowest), color=colour, linestyle=style, linewidth=1.5, label=curve.name, zorder=3
        )
    for position, (name, false_alarm, miss) in enumerate(marked):
        axes.plot(
            _deviate(false_alarm, lowest), _deviate(miss, lowest), linestyle="none", marker="os^D"[position % 4],
            markersize=6, markerfacecolor="white", markeredgecolor=INK, markeredgewidth=1.2, label=name, zorder=5,
            clip_on=False,
        )  # fmt: skip
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    places = _deviate(ticks, lowest)
    names = [f"{100 * t:g}" for t in ticks]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    _dress(axes, x=say["bpcer"], y=say["miss"])
    axes.set_aspect("equal")
    _legend(axes, loc="upper right")
    summary = "; ".join(f"{name}: BPCER {100 * a:.1f} %, APCER {100 * b:.1f} %" for name, a, b in marked)
    return _svg(figure, title=title, description=f"{len(curves)} curves. {summary}")


def score_densities(
    edges: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    *,
    thresholds: Iterable[tuple[str, float]] = (),
    unit: str = "llr",
    title: str = "Score distributions",
    words: Mapping[str, str] | None = None,
) -> str:
    """Histograms of scores, one outline per group.

    Args:
        edges: bin edges (b + 1,), in the unit of the scores.
        shares: per group the share of its samples in each bin (b,); keys ``real`` and ``fake`` are translated.
        thresholds: (name, value) of operating points, drawn as vertical lines.
        unit: ``llr`` or ``score``: which axis label.
    """
    say = _words(words)
    figure = _new(_FULL, 2.65)
    axes = figure.add_subplot()
    places = np.asarray(edges, dtype=np.float64)
    widths = np.diff(places)
    looks = {"real": _STYLES[0], "fake": _STYLES[2]}
    spare = iter((_STYLES[1], *_STYLES[3:]))
    top = 0.0
    for group, values in shares.items():
        colour, style, _ = looks[group] if group in looks else next(spare, _STYLES[5])
        density = np.asarray(values, dtype=np.float64) / widths
        key = "all_fakes" if group == "fake" and len(shares) > 2 else group
        name = say[key] if group in looks else group
        top = max(top, float(density.max(initial=0.0)))
        axes.stairs(density, places, color=colour, linewidth=1.4, linestyle=style, label=name, zorder=3)
        axes.stairs(density, places, color=colour, fill=True, alpha=0.12, linewidth=0, zorder=2)
    marked = sorted(thresholds, key=lambda pair: pair[1])
    for place, (name, value) in enumerate(marked):
        if places[0] <= value <= places[-1]:
            axes.axvline(value, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=4)
            left = place == 0 or value > places[0] + 0.8 * (places[-1] - places[0])
            axes.annotate(
                name, (value, top * (1.04 + 0.13 * (len(marked) - place))), xytext=(-4 if left else 4, 0),
                textcoords="offset points", ha="right" if left else "left", fontsize=7, color=INK, va="top",
            )  # fmt: skip
    axes.set_ylim(0, top * (1.06 + 0.13 * len(marked)) if top > 0 else 1)
    axes.set_xlim(places[0], places[-1])
    _dress(axes, x=say[unit], y=say["density"], grid="y")
    _legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    marks = ", ".join(f"{name} at {value:.3g}" for name, value in marked)
    return _svg(figure, title=title, description=f"Groups: {', '.join(shares)}. Thresholds: {marks or 'none'}.")


def per_generator_rates(
    rows: Sequence[Rate],
    *,
    axis: str = "apcer",
    limit: tuple[str, float] | None = None,
    title: str = "Missed fakes per generator",
    words: Mapping[str, str] | None = None,
) -> str:
    """Dot and interval per row, in the order given; hollow dots carry no claim.

    Args:
        rows: rates as fractions; ``note`` (for example ``12/48``) is printed at the right edge.
        axis: key of the axis label in `WORDS`.
        limit: (name, fraction) of a declared limit, drawn as a vertical line.
    """
    say = _words(words)
    figure = _new(_FULL, max(1.35, 0.62 + 0.245 * len(rows)))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        if row.value is None:
            continue
        colour = TOOL_COLOUR if row.highlight else REAL_COLOUR
        if row.lo is not None and row.hi is not None:
            axes.plot([100 * row.lo, 100 * row.hi], [place, place], color=colour, linewidth=1.6, zorder=3,
                      linestyle=(0, (2, 1.5)) if row.weak else "-", solid_capstyle="butt")  # fmt: skip
        axes.plot(
            100 * row.value, place, marker="s" if row.highlight else "o", markersize=5.5, color=colour,
            linestyle="none", markerfacecolor="white" if row.weak else colour, markeredgewidth=1.3, zorder=4,
            clip_on=False,
        )  # fmt: skip
    for place, row in enumerate(rows):
        axes.annotate(
            row.note, (1.0, place), xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
            fontsize=7.5, color=MUTED, va="center", annotation_clip=False,
        )  # fmt: skip
    if limit is not None:
        axes.axvline(100 * limit[1], color=INK, linewidth=0.9, linestyle=(0, (2, 2)), zorder=2)
        axes.annotate(
            limit[0], (100 * limit[1], -0.75), xytext=(3, 0), textcoords="offset points", fontsize=7, color=INK,
            va="center", annotation_clip=False,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -1.05 if limit else -0.6)
    axes.set_xlim(0, 100)
    _dress(axes, x=say[axis], y="", grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    if any(row.weak for row in rows):
        axes.plot([], [], marker="o", linestyle="none", markerfacecolor="white", markeredgecolor=REAL_COLOUR,
                  markersize=5.5, label=say["under_powered"])  # fmt: skip
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", fontsize=7, frameon=False)
    told = "; ".join(f"{r.label} {100 * r.value:.1f} %" for r in rows if r.value is not None)
    return _svg(figure, title=title, description=told or "no rates")


def reliability(
    predicted: Sequence[float],
    observed: Sequence[float],
    counts: Sequence[int],
    *,
    lo: Sequence[float] | None = None,
    hi: Sequence[float] | None = None,
    title: str = "Reliability",
    words: Mapping[str, str] | None = None,
) -> str:
    """Observed against predicted share of fakes per bin, as fractions (b,) at a flat prior; counts size the dots."""
    say = _words(words)
    figure = _new(_HALF, _HALF * 0.97)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), label=say["perfect"])
    x, y = np.asarray(predicted, dtype=float), np.asarray(observed, dtype=float)
    if lo is not None and hi is not None:
        axes.vlines(x, lo, hi, color=REAL_COLOUR, linewidth=1.1)
    total = max(1, int(np.sum(counts)))
    axes.scatter(x, y, s=14 + 220 * np.asarray(counts, dtype=float) / total, color=REAL_COLOUR, alpha=0.85, zorder=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    _dress(axes, x=say["predicted"], y=say["observed"])
    axes.set_aspect("equal")
    _legend(axes, loc="upper left")
    told = "; ".join(f"{a:.2f} predicted, {b:.2f} observed" for a, b in zip(x, y, strict=True))
    return _svg(figure, title=title, description=told or "no bins")


def tippett(
    grid: Sequence[float],
    real: Sequence[float],
    fake: Sequence[float],
    *,
    title: str = "Tippett plot",
    words: Mapping[str, str] | None = None,
) -> str:
    """Share of real and fake samples whose log10 LR exceeds each value of a grid (n,); shares are fractions (n,)."""
    say = _words(words)
    figure = _new(_HALF, _HALF * 0.97)
    axes = figure.add_subplot()
    x = np.asarray(grid, dtype=float)
    axes.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    for name, shares, (colour, style, _) in (("real", real, _STYLES[0]), ("fake", fake, _STYLES[2])):
        axes.plot(
            x, 100 * np.asarray(shares, dtype=float), color=colour, linestyle=style, linewidth=1.5, label=say[name]
        )
    axes.set_ylim(0, 100)
    axes.set_xlim(x[0], x[-1])
    axes.locator_params(axis="x", nbins=5)
    _dress(axes, x=say["tippett_x"], y=say["tippett_y"])
    _legend(axes, loc="lower left")
    return _svg(figure, title=title, description=f"{len(x)} points from {x[0]:.2f} to {x[-1]:.2f}")


def nuisance_distributions(
    panels: Sequence[Panel], *, title: str = "What differs besides the label", words: Mapping[str, str] | None = None
) -> str:
    """Small multiples of what could give a label away: shares of real (solid) and fake (dotted) samples per bin."""
    say = _words(words)
    columns = min(3, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = _new(_FULL * columns / 3 if columns < 3 else _FULL, 1.85 * rows + 0.15)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        real, fake = 100 * np.asarray(panel.real, dtype=float), 100 * np.asarray(panel.fake, dtype=float)
        if len(panel.bins) == len(real) + 1:
            edges = np.asarray(panel.bins, dtype=float)
            axes.stairs(real, edges, color=REAL_COLOUR, fill=True, alpha=0.14, linewidth=0)
            axes.stairs(real, edges, color=REAL_COLOUR, linewidth=1.3, label=say["real"])
            axes.stairs(fake, edges, color=FAKE_COLOUR, linewidth=1.3, linestyle=(0, (1.2, 1.4)), label=say["fake"])
        else:
            x = np.arange(len(real), dtype=float)
            axes.bar(x - 0.19, real, 0.36, color=REAL_COLOUR, label=say["real"])
            axes.bar(x + 0.19, fake, 0.36, facecolor="white", edgecolor=FAKE_COLOUR, hatch="////", label=say["fake"])
            axes.set_xticks(x, [str(name) for name in panel.bins], rotation=0 if len(x) < 4 else 30)
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=4)
        name = f"{panel.name} ({panel.unit})" if panel.unit else panel.name
        _dress(axes, x=name, y=say["share"] if place % columns == 0 else "", grid="y")
        if place == 0:
            _legend(axes, loc="best")
    return _svg(figure, title=title, description=", ".join(panel.name for panel in panels) or "no panels")


def robustness_curve(
    levels: Sequence[str],
    curves: Sequence[Curve],
    *,
    axis: str = "",
    title: str = "Robustness",
    words: Mapping[str, str] | None = None,
) -> str:
    """Rates (fractions) over named severities, the threshold kept; x of each curve indexes ``levels``."""
    say = _words(words)
    figure = _new(_FULL, 2.7)
    axes = figure.add_subplot()
    for position, curve in enumerate(curves):
        colour, style, marker = _STYLES[position % len(_STYLES)]
        x, y = np.asarray(curve.x, dtype=float), 100 * np.asarray(curve.y, dtype=float)
        if curve.lo is not None and curve.hi is not None:
            axes.fill_between(
                x, 100 * np.asarray(curve.lo, dtype=float), 100 * np.asarray(curve.hi, dtype=float), color=colour,
                alpha=0.13, linewidth=0,
            )  # fmt: skip
        axes.plot(x, y, color=colour, linestyle=style, marker=marker, markersize=4.5, linewidth=1.4, label=curve.name)
    axes.set_xticks(range(len(levels)), list(levels))
    axes.set_ylim(0, 100)
    _dress(axes, x=axis or say["severity"], y=say["rate"])
    _legend(axes, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _svg(figure, title=title, description=f"{', '.join(c.name for c in curves)} over {', '.join(levels)}")


def robustness_panels(
    ladders: Sequence[Ladder], *, title: str = "Robustness", words: Mapping[str, str] | None = None
) -> str:
    """Small multiples, one per ladder: rates at the kept threshold over levels from mild to harsh, with bands."""
    say = _words(words)
    # Seven in rows of four leave half a page free, seven in rows of three fill a whole one.
    columns = 4 if len(ladders) in (4, 7, 8) else min(3, max(1, len(ladders)))
    rows = max(1, -(-len(ladders) // columns))
    figure = _new(_FULL * columns / 3 if columns < 3 else _FULL, (1.85 if columns == 4 else 2.05) * rows + 0.35)
    told = []
    for place, ladder in enumerate(ladders):
        axes = figure.add_subplot(rows, columns, place + 1)
        for curve, (colour, style, marker) in zip(ladder.curves, (_STYLES[1], _STYLES[0], *_STYLES[2:]), strict=False):
            x, y = np.asarray(curve.x, dtype=float), 100 * np.asarray(curve.y, dtype=float)
            if curve.lo is not None and curve.hi is not None:
                lo, hi = (100 * np.asarray(end, dtype=float) for end in (curve.lo, curve.hi))
                axes.fill_between(x, lo, hi, color=colour, alpha=0.13, linewidth=0)
            axes.plot(
                x, y, color=colour, linestyle=style, marker=marker, markersize=3.8, linewidth=1.3, label=curve.name,
                clip_on=False, zorder=4,
            )  # fmt: skip
            told.append(f"{ladder.name}, {curve.name}: {', '.join(f'{v:.0f} %' for v in y)}")
        axes.set_xticks(range(len(ladder.levels)), list(ladder.levels))
        if len(ladder.levels) > 4 and columns > 2:
            axes.tick_params(axis="x", rotation=35)
        axes.set_xlim(-0.15, len(ladder.levels) - 0.85)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 25, 50, 75, 100])
        _dress(axes, x=ladder.unit, y=say["rate"] if place % columns == 0 else "", grid="y")
        axes.set_title(ladder.name, fontsize=8.5, color=INK, loc="left", pad=5)
    if ladders:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", fontsize=7.5, frameon=False, ncols=2, handlelength=2.6
        )
    return _svg(figure, title=title, description="; ".join(told) or "no ladders")


def cross_entropy(
    prior_log10_odds: Sequence[float],
    observed: Sequence[float],
    after_pav: Sequence[float],
    neutral: Sequence[float],
    *,
    title: str = "Empirical cross-entropy",
    words: Mapping[str, str] | None = None,
) -> str:
    """Empirical cross-entropy in bits over the prior log-odds of fake (q,): as given, at best, and knowing nothing.

    Ramos and Gonzalez-Rodriguez, Reliable support, Forensic Science International 230 (2013).
    """
    say = _words(words)
    figure = _new(_HALF, _HALF * 0.97)
    axes = figure.add_subplot()
    x = np.asarray(prior_log10_odds, dtype=float)
    for name, values, (colour, style) in (
        ("ece_observed", observed, (_STYLES[1][0], "-")),
        ("ece_pav", after_pav, (_STYLES[0][0], (0, (5, 2)))),
        ("ece_neutral", neutral, (MUTED, (0, (1.2, 1.4)))),
    ):
        axes.plot(x, np.asarray(values, dtype=float), color=colour, linestyle=style, linewidth=1.5, label=say[name])
    axes.axvline(0.0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)))
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(
        0, 1.5 * max(1.0, float(np.max(neutral)), float(np.max(observed)))
    )  # the legend stands above the curves
    _dress(axes, x=say["ece_x"], y=say["ece_y"])
    _legend(axes, loc="upper right")
    middle = int(np.argmin(np.abs(x)))
    return _svg(
        figure, title=title, description=f"At even odds {observed[middle]:.3f} bits, at best {after_pav[middle]:.3f}."
    )


def sample_counts(
    rows: Sequence[tuple[str, int, int]], *, title: str = "Samples", words: Mapping[str, str] | None = None
) -> str:
    """Bars of samples per stratum: (label, scored, without response)."""
    say = _words(words)
    figure = _new(_FULL, max(1.35, 0.62 + 0.245 * len(rows)))
    axes = figure.add_subplot()
    places = np.arange(len(rows), dtype=float)
    scored = np.array([row[1] for row in rows], dtype=float)
    silent = np.array([row[2] for row in rows], dtype=float)
    axes.barh(places, scored, 0.62, color=REAL_COLOUR, label=say["answered"])
    if silent.any():
        axes.barh(places, silent, 0.62, left=scored, facecolor="white", edgecolor=TOOL_COLOUR, hatch="////",
                  label=say["non_response"])  # fmt: skip
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", fontsize=7, frameon=False, ncols=2)
    for place, (_, good, bad) in enumerate(rows):
        note = f"{good}" if not bad else f"{good} + {bad}"
        axes.annotate(note, (good + bad, place), xytext=(4, 0), textcoords="offset points", fontsize=7.5, color=MUTED,
                      va="center")  # fmt: skip
    axes.set_yticks(places, [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.1 * max(1.0, float((scored + silent).max(initial=1.0))))
    _dress(axes, x=say["samples"], y="", grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    told = "; ".join(f"{label}: {good} scored, {bad} without response" for label, good, bad in rows)
    return _svg(figure, title=title, description=told or "no samples")
