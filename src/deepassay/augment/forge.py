"""Forges: fakes made from real faces while training, one pair at a time, with the mask of what was blended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from deepassay.augment.face import probability, span
from deepassay.errors import ConfigError
from deepassay.manipulation.blending import (
    RATIOS,
    Fit,
    Restyle,
    check_hulls,
    check_ratios,
    deform,
    describe_face,
    fit_mean_face,
    hull_points,
    match_colours,
    place,
    soft_mask,
    warp,
)
from deepassay.manipulation.face import similarity
from deepassay.modality.views import Views


@dataclass(frozen=True, slots=True)
class Forged:
    """A pair for each of k views.

    Args:
        real: (k, *shape), to be learnt as real: the views themselves, or a copy changed as a whole. Clips keep their
            axis of frames, here and in the masks.
        fake: (k, *shape), equal to ``real`` where the mask is 0.
        mask: (k, h, w) float32 in [0, 1], the weight of what was blended in; None where there is no such thing.
    """

    real: np.ndarray
    fake: np.ndarray
    mask: np.ndarray | None = None


class Forge(Protocol):
    """Makes fakes of real views.

    Attributes:
        names: of the generators, as they stand in records (``generator``); empty: makes nothing.
        needs_partner: whether it wants views of another person.
    """

    names: tuple[str, ...]
    needs_partner: bool

    def __call__(self, views: Views, rng: np.random.Generator, partner: Views | None = None) -> Forged:
        """A pair for each of the views; all randomness comes from ``rng``."""
        ...

    def describe(self, views: Views) -> np.ndarray:
        """What a partner is chosen by, (d,) float32: the nearer, the better."""
        ...


class NoForge:
    """Makes nothing: training uses the fakes that are given."""

    names: tuple[str, ...] = ()
    needs_partner = False

    def __call__(self, views: Views, rng: np.random.Generator, partner: Views | None = None) -> Forged:
        """Never called. Raises ConfigError."""
        raise ConfigError("there is no forge to make fakes with", hint="choose forge=sbi or forge=blend")

    def describe(self, views: Views) -> np.ndarray:
        """Never called. Raises ConfigError."""
        raise ConfigError("there is no forge that would need partners", hint="choose forge=blend")


def _landmarks(views: Views) -> np.ndarray:
    if views.landmarks is None or views.data.dtype != np.uint8 or views.data.ndim not in (4, 5):
        raise ConfigError(
            f"views {views.data.dtype} {views.data.shape} without landmarks cannot be blended",
            hint="forges of this kind need faces with five landmarks (modality=face); use forge=none for voices",
        )
    return views.landmarks


class _Blended:
    """What both blends share: the settings of hulls and masks."""

    def __init__(
        self, *, hulls: Mapping[str, float], grow: Sequence[float], elastic: Sequence[float], erode: Sequence[float],
        blur: Sequence[float], ratios: Sequence[float], restyle: Mapping[str, object] | None,
    ) -> None:  # fmt: skip
        self.hulls, self.hull_weights = check_hulls(hulls)
        self.grow = span("grow", grow, 0.3, 1.5)
        self.elastic = span("elastic", elastic, 0, 0.3)
        self.erode, self.blur = span("erode", erode, 0, 0.5), span("blur", blur, 0, 0.5)
        self.ratios = check_ratios(ratios)
        values = dict(restyle or {})
        for name in ("soften", "sharpen"):
            if name in values:
                values[name] = span(name, values[name], 0, 16)  # type: ignore[arg-type]
        try:
            self.restyle = Restyle(**values)  # type: ignore[arg-type]
        except TypeError as error:
            known = ", ".join(Restyle.__dataclass_fields__)
            raise ConfigError(f"forge: restyle has a wrong key: {error}", hint=f"it accepts {known}") from error
        if self.restyle.soften[0] < 1:
            raise ConfigError(
                f"forge: soften is {list(self.restyle.soften)}", hint="factors of reduction are 1 or more"
            )

    def _mask(self, fit: Fit, size: tuple[int, int], rng: np.random.Generator, move: np.ndarray | None) -> Image.Image:
        """A hull, deformed, moved by an affine map (2, 3), softened and scaled to a blending ratio."""
        hull = self.hulls[int(rng.choice(len(self.hulls), p=self.hull_weights))]
        points = hull_points(hull, grow=rng.uniform(*self.grow))
        points = place(deform(points, rng.uniform(*self.elastic), rng), fit)
        if move is not None:
            points = points @ move[:, :2].T + move[:, 2]
        erode, blur = rng.uniform(*self.erode) * fit.scale, rng.uniform(*self.blur) * fit.scale
        ratio = self.ratios[int(rng.integers(len(self.ratios)))]
        return soft_mask(points, size, erode_px=erode, blur_px=blur, ratio=ratio)


def _pair(target: Image.Image, source: Image.Image, mask: Image.Image) -> "Pair":
    fake = Image.composite(source, target, mask)
    return np.asarray(target), np.asarray(fake), np.asarray(mask, np.float32) / np.float32(255)


Pair = tuple[np.ndarray, np.ndarray, np.ndarray]  # real, fake, mask


def _stack(pairs: list[Pair]) -> Pair:
    real, fake, mask = zip(*pairs, strict=True)
    return np.stack(real), np.stack(fake), np.stack(mask)


def _each_frame(clip: np.ndarray, rng: np.random.Generator, make: Callable[[int, np.random.Generator], Pair]) -> Pair:
    """The frames of a clip (frames, H, W, 3) forged by the same draws, so that the blend moves with the face."""
    seed = int(rng.integers(2**63))
    return _stack([make(i, np.random.Generator(np.random.Philox(seed))) for i in range(len(clip))])


class SelfBlended(_Blended):
    """Self-blended images: a face blended onto itself after one of the two copies was changed.

    K. Shiohara and T. Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022, section 3. One of two
    copies, drawn evenly, is changed in colours (RGB shift, hue, saturation, brightness, contrast) and frequencies
    (reduced and regrown, or sharpened). The source copy is resized and translated; its mask, a hull of the landmarks,
    is deformed elastically, eroded and blurred, and blended at a ratio drawn from {1/4, 1/2, 3/4, 1, 1, 1}. The real
    half of the pair is the target copy, so that a change of the whole picture tells nothing.

    Differences: the hull is a mean face's on MTCNN's five points (the paper: convex hull of 68 or 81 landmarks), drawn
    from four shapes; lengths are relative to the distance between the eyes (the paper: pixels of a crop of about
    256 px); reduction is by 1.25 to 3 and not 2 to 4, because these views are smaller.

    Args:
        hulls: weights of "full" (brows to chin), "high" (with forehead), "inner" and "lower".
        grow: [from, to] scale of the hull.
        elastic: [from, to] RMS displacement of its outline; erode, blur: [from, to] of its edge; in eye distances.
        ratios: blending ratios, drawn evenly.
        zoom: largest relative change of size of the source. shift_x, shift_y: its largest translation, in view sides.
        restyle: keys of `manipulation.blending.Restyle` to change.

    Raises:
        ConfigError: a value out of range.
    """

    names: tuple[str, ...] = ("sbi",)
    needs_partner = False

    def __init__(
        self, *, hulls: Mapping[str, float] = {"full": 0.4, "high": 0.25, "inner": 0.2, "lower": 0.15},
        grow: Sequence[float] = (0.9, 1.05), elastic: Sequence[float] = (0.0, 0.06),
        erode: Sequence[float] = (0.03, 0.16), blur: Sequence[float] = (0.03, 0.16), ratios: Sequence[float] = RATIOS,
        zoom: float = 0.05, shift_x: float = 0.03, shift_y: float = 0.015,
        restyle: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hulls=hulls, grow=grow, elastic=elastic, erode=erode, blur=blur, ratios=ratios, restyle=restyle
        )
        self.zoom = span("zoom", (0, zoom), 0, 0.3)[1]
        self.shift = np.array([span("shift_x", (0, shift_x), 0, 0.2)[1], span("shift_y", (0, shift_y), 0, 0.2)[1]])

    def __call__(self, views: Views, rng: np.random.Generator, partner: Views | None = None) -> Forged:
        """See `Forge`. Raises ConfigError where views have no landmarks."""
        return Forged(*_stack([self._one(v, p, rng) for v, p in zip(views.data, _landmarks(views), strict=True)]))

    def _one(self, view: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> Pair:
        if view.ndim == 4:
            return _each_frame(view, rng, lambda i, same: self._one(view[i], points[i], same))
        height, width = view.shape[:2]
        fit = fit_mean_face(points, (height, width))
        on_source, smooth = rng.random() < 0.5, rng.random() < 0.5
        factor = float(np.exp(rng.uniform(-1, 1) * np.log1p(self.zoom)))
        shift = rng.uniform(-self.shift, self.shift) * (width, height)
        centre = np.array([width - 1, height - 1]) / 2
        move = np.concatenate([factor * np.eye(2), ((1 - factor) * centre + shift)[:, None]], axis=1)
        plain = Image.fromarray(np.ascontiguousarray(view))
        styled = self.restyle(plain, rng)
        source, target = (styled, plain) if on_source else (plain, styled)
        moved = warp(np.asarray(source), move, (height, width), smooth=smooth)
        return _pair(target, moved, self._mask(fit, (height, width), rng, move))

    def describe(self, views: Views) -> np.ndarray:
        """Not needed. Raises ConfigError."""
        raise ConfigError("self-blending needs no partner", hint="ask only forges with needs_partner")


class CrossBlended(_Blended):
    """Blends of two people who look alike: a classical swap, made anew at every step.

    After L. Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020, section 3.2: a partner with
    similar landmarks is aligned to the target, takes on its colours, and is blended through a deformed and blurred
    hull; the mask comes along. The partner comes from other subjects and sources of the training data and is chosen by
    the distance of `describe` (five points after a similarity, and colours of the inner face).

    Args:
        hulls, grow, elastic, erode, blur, ratios, restyle: as in `SelfBlended`.
        match: [from, to] completeness of the colour transfer.
        restyled: probability that the donor is also changed as a self-blended source would be.

    Raises:
        ConfigError: a value out of range.
    """

    names: tuple[str, ...] = ("blend",)
    needs_partner = True

    def __init__(
        self, *, hulls: Mapping[str, float] = {"full": 0.5, "high": 0.2, "inner": 0.2, "lower": 0.1},
        grow: Sequence[float] = (0.85, 1.0), elastic: Sequence[float] = (0.0, 0.06),
        erode: Sequence[float] = (0.03, 0.16), blur: Sequence[float] = (0.03, 0.16),
        ratios: Sequence[float] = (0.5, 0.75, 1.0, 1.0, 1.0), match: Sequence[float] = (0.6, 1.0),
        restyled: float = 0.5, restyle: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            hulls=hulls, grow=grow, elastic=elastic, erode=erode, blur=blur, ratios=ratios, restyle=restyle
        )
        self.match, self.restyled = span("match", match, 0, 1), probability("restyled", restyled)

    def __call__(self, views: Views, rng: np.random.Generator, partner: Views | None = None) -> Forged:
        """See `Forge`; view i is blended with view i of the partner, modulo their number.

        Raises:
            ConfigError: views without landmarks, or no partner.
        """
        if partner is None or not len(partner):
            raise ConfigError(
                "a blend of two people needs a partner's views", hint="train with at least two real people"
            )
        points, others = _landmarks(views), _landmarks(partner)
        pairs = []
        for i, view in enumerate(views.data):
            j = i % len(partner)
            pairs.append(self._one(view, points[i], partner.data[j], others[j], rng))
        return Forged(*_stack(pairs))

    def _one(
        self, view: np.ndarray, points: np.ndarray, donor: np.ndarray, donor_points: np.ndarray,
        rng: np.random.Generator,
    ) -> Pair:  # fmt: skip
        if view.ndim == 4:
            n = len(donor)
            return _each_frame(
                view, rng, lambda i, same: self._one(view[i], points[i], donor[i % n], donor_points[i % n], same)
            )
        height, width = view.shape[:2]
        fit = fit_mean_face(points, (height, width))
        restyled, smooth, completeness = rng.random() < self.restyled, rng.random() < 0.5, rng.uniform(*self.match)
        source = Image.fromarray(np.ascontiguousarray(donor))
        if restyled:
            source = self.restyle(source, rng)
        forward = self._align(donor_points, points, fit, donor)
        mask = self._mask(fit, (height, width), rng, None)
        target = Image.fromarray(np.ascontiguousarray(view))
        moved = warp(np.asarray(source), forward, (height, width), smooth=smooth)
        if mask.getbbox() is not None:
            moved = match_colours(moved, target, mask, completeness)
        return _pair(target, moved, mask)

    @staticmethod
    def _align(donor_points: np.ndarray, points: np.ndarray, fit: Fit, donor: np.ndarray) -> np.ndarray:
        """A similarity of the five points; of the two fitted mean faces where the points would blow the donor up."""
        forward = similarity(np.asarray(donor_points, np.float64), np.asarray(points, np.float64))
        other = fit_mean_face(donor_points, (donor.shape[0], donor.shape[1]))
        wanted = fit.scale / other.scale
        if not 0.5 * wanted <= float(np.hypot(forward[0, 0], forward[1, 0])) <= 2 * wanted:
            middle = np.array([0.0, 0.5])
            here = other.matrix[:, :2] @ middle + other.matrix[:, 2]
            there = fit.matrix[:, :2] @ middle + fit.matrix[:, 2]
            forward = np.concatenate([wanted * np.eye(2), (there - wanted * here)[:, None]], axis=1)
        return forward

    def describe(self, views: Views) -> np.ndarray:
        """See `manipulation.blending.describe_face`, of the middle view."""
        middle = len(views) // 2
        return describe_face(views.data[middle], _landmarks(views)[middle])


class MixedForge:
    """Draws one of several forges for every pair.

    Args:
        forges: built forges. weights: of each, any positive scale; equal where None.

    Raises:
        ConfigError: no forge, one that makes nothing, or weights that do not fit.
    """

    def __init__(self, *, forges: Sequence[Forge], weights: Sequence[float] | None = None) -> None:
        share = np.array(weights if weights is not None else [1.0] * len(forges), np.float64)
        if not forges or len(share) != len(forges) or (share <= 0).any() or not all(f.names for f in forges):
            raise ConfigError(
                f"{len(forges)} forges with weights {share.tolist()}",
                hint="give at least one forge that makes something, and a positive weight for each",
            )
        self.forges, self.share = list(forges), share / share.sum()
        self.names = tuple(name for forge in self.forges for name in forge.names)
        self.needs_partner = any(forge.needs_partner for forge in self.forges)

    def __call__(self, views: Views, rng: np.random.Generator, partner: Views | None = None) -> Forged:
        """See `Forge`."""
        return self.forges[int(rng.choice(len(self.forges), p=self.share))](views, rng, partner)

    def describe(self, views: Views) -> np.ndarray:
        """As the first forge that needs partners."""
        return next(forge for forge in self.forges if forge.needs_partner).describe(views)
