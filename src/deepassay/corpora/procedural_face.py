"""A procedural face: seeded identities and captures, ray-cast on a deformed ellipsoid, with known landmarks.

The head is an ellipsoid with a shaped jaw and Gaussian bumps (nose, eye sockets, cheeks, lips, chin), seen
orthographically and solved per pixel in closed form; eyes, brows, lips, wrinkles, hair, beard and glasses are painted
in the head's own frontal coordinates, so that they move with pose. Shading is Lambert and Blinn-Phong in linear light;
the camera adds blur, white balance, vignetting and noise. The faces fool nobody; they are made to be found by a real
face finder and to carry the traces that real captures carry (sensor noise, skin texture, one light for the whole
picture).

Head frame: x to the picture's right, y down, z towards the camera; the unit is half a head's height.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

RENDERER_VERSION = "1"
SKIN_TONES = 6
HAIR_STYLES = ("short", "crop", "long", "curly", "fringe", "receding", "bald")

# sRGB anchors from lightest to darkest, chosen by eye; tone classes cut this line evenly.
_SKIN = np.array(
    [(247, 226, 212), (236, 200, 174), (216, 170, 134), (184, 134, 98), (142, 98, 68), (102, 68, 48), (74, 50, 38)],
    dtype=np.float32,
)
_HAIR = np.array(
    [(24, 20, 18), (44, 30, 22), (76, 50, 32), (120, 84, 50), (170, 130, 80), (206, 176, 124),
     (120, 54, 28), (150, 148, 146)],
    dtype=np.float32,
)  # fmt: skip
_IRIS = np.array(
    [(52, 32, 20), (78, 50, 28), (96, 84, 48), (76, 104, 74), (84, 118, 150), (108, 120, 128)], dtype=np.float32
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What stays the same in every picture of one (invented) person; lengths in half head heights, linear colours."""

    seed: int
    tone: float  # 0 lightest .. 1 darkest
    skin: tuple[float, float, float]
    hair_colour: tuple[float, float, float]
    brow_colour: tuple[float, float, float]
    iris: tuple[float, float, float]
    lip: tuple[float, float, float]
    clothes: tuple[float, float, float]
    width: float
    depth: float
    jaw: float
    chin: float
    eye_x: float
    eye_y: float
    eye_w: float
    eye_open: float
    eye_tilt: float
    brow_gap: float
    brow_thick: float
    brow_arch: float
    nose_len: float
    nose_w: float
    nose_h: float
    mouth_y: float
    mouth_w: float
    lip_upper: float
    lip_lower: float
    cheek: float
    ear: float
    neck: float
    hair: str
    hairline: float
    age: float
    freckles: float
    beard: float
    glasses: bool
    glasses_round: float

    @property
    def tone_class(self) -> str:
        """``tone-1`` (lightest) to ``tone-6`` (darkest), as generated; not an estimate of any published scale."""
        return f"tone-{min(int(self.tone * SKIN_TONES), SKIN_TONES - 1) + 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What changes between pictures of one identity. Angles in radians, places as fractions of the picture's side."""

    seed: int
    noise_seed: int
    yaw: float
    pitch: float
    roll: float
    scale: float  # half head height / picture side
    cx: float
    cy: float
    light: tuple[float, float, float]
    light_colour: tuple[float, float, float]
    ambient: float
    exposure: float
    smile: float
    mouth_open: float
    eye_open: float  # 1 open .. 0 shut
    gaze: tuple[float, float]
    brow_raise: float
    blur: float  # px at a 256 px picture
    noise: float  # standard deviation at mid grey, of 1
    vignette: float
    white_balance: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture with what the renderer knows of it.

    Args:
        image: (size, size, 3) uint8 RGB.
        landmarks: (5, 2) float32 pixels: eye on the picture's left, eye on its right, nose tip, mouth corners left and
            right; the order of MTCNN.
        hull: (m, 2) float32 pixels: brows, temples, jaw and chin, counter-clockwise from the left temple.
    """

    image: np.ndarray
    landmarks: np.ndarray
    hull: np.ndarray


def _linear(srgb: np.ndarray) -> np.ndarray:
    return (np.asarray(srgb, dtype=np.float32) / 255.0) ** 2.2


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    r, g, b = (float(v) for v in values)
    return r, g, b


def _between(table: np.ndarray, position: float) -> np.ndarray:
    place = np.clip(position, 0.0, 1.0) * (len(table) - 1)
    low = min(int(place), len(table) - 2)
    return table[low] + (table[low + 1] - table[low]) * (place - low)


def draw_identity(seed: int, tone: float) -> Identity:
    """An identity from a seed; the skin tone (0 lightest .. 1 darkest) is given, so that a corpus can spread it."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0xFACE]))
    u, n = rng.uniform, rng.normal
    skin_srgb = _between(_SKIN, tone) * (1.0 + np.array([n(0, 0.02), n(0, 0.02), n(0, 0.035)]))
    skin = _linear(np.clip(skin_srgb, 20, 252))
    dark_hair = rng.random() < 0.35 + 0.6 * tone
    hair_srgb = _HAIR[rng.integers(0, 2)] if dark_hair else _HAIR[rng.integers(1, len(_HAIR) - 1)]
    age = float(np.clip(rng.beta(1.3, 1.8), 0, 1))
    if age > 0.75 and rng.random() < 0.5:
        hair_srgb = _HAIR[7]
    hair = _linear(np.clip(hair_srgb * u(0.85, 1.15), 8, 235))
    brow = np.minimum(hair, skin * 0.35) * u(0.6, 1.0)
    iris_srgb = _IRIS[rng.integers(0, 2)] if rng.random() < 0.3 + 0.65 * tone else _IRIS[rng.integers(0, len(_IRIS))]
    lip = skin * np.array([u(0.66, 0.86), u(0.42, 0.6), u(0.44, 0.64)], dtype=np.float32)
    clothes = _linear(rng.uniform(25, 225, 3) * u(0.5, 1.0))
    masculine = rng.random()
    weights = np.array([0.26, 0.16, 0.2, 0.13, 0.12, 0.08, 0.05])
    return Identity(
        seed=seed, tone=float(tone), skin=_triple(skin), hair_colour=_triple(hair), brow_colour=_triple(brow),
        iris=_triple(_linear(iris_srgb)), lip=_triple(lip), clothes=_triple(clothes),
        width=u(0.66, 0.78), depth=u(0.78, 0.92), jaw=n(0.02, 0.05) + 0.05 * masculine, chin=u(0.0, 0.07),
        eye_x=u(0.27, 0.335), eye_y=u(-0.06, 0.03), eye_w=u(0.125, 0.165), eye_open=u(0.042, 0.068),
        eye_tilt=n(0.0, 0.07), brow_gap=u(0.13, 0.19), brow_thick=u(0.022, 0.05), brow_arch=u(0.0, 0.06),
        nose_len=u(0.33, 0.42), nose_w=u(0.11, 0.18), nose_h=u(0.11, 0.2),
        mouth_y=u(0.58, 0.66), mouth_w=u(0.2, 0.28), lip_upper=u(0.025, 0.055), lip_lower=u(0.035, 0.075),
        cheek=u(0.0, 0.05), ear=u(0.14, 0.2), neck=u(0.4, 0.52),
        hair=str(rng.choice(HAIR_STYLES, p=weights / weights.sum())), hairline=u(-0.68, -0.54), age=age,
        freckles=float(u(0.3, 1.0) if rng.random() < 0.25 else 0.0),
        beard=float(u(0.25, 1.0) if masculine > 0.6 and rng.random() < 0.55 else 0.0),
        glasses=bool(rng.random() < 0.15), glasses_round=u(2.0, 4.5),
    )  # fmt: skip


def draw_capture(rng: np.random.Generator) -> Capture:
    """One picture-taking: pose, place, light, expression and camera, all from one generator."""
    u, n = rng.uniform, rng.normal
    azimuth, height = u(-1.1, 1.1), u(-0.15, 0.95)
    light = (np.cos(height) * np.sin(azimuth), -np.sin(height), np.cos(height) * np.cos(azimuth))
    warm = n(0.0, 0.07)
    cast = n(0.0, 0.035, 3)
    return Capture(
        seed=int(rng.integers(2**31)), noise_seed=int(rng.integers(2**31)),
        yaw=float(np.clip(n(0, 0.2), -0.5, 0.5)), pitch=float(np.clip(n(0, 0.1), -0.26, 0.26)),
        roll=float(np.clip(n(0, 0.09), -0.3, 0.3)),
        scale=u(0.29, 0.39), cx=0.5 + u(-0.06, 0.06), cy=0.5 + u(-0.05, 0.05),
        light=_triple(np.array(light)), light_colour=(1.0 + warm, 1.0, 1.0 - warm), ambient=u(0.3, 0.65),
        exposure=float(np.exp(n(0, 0.14))), smile=float(np.clip(n(0.3, 0.5), -0.6, 1.0)),
        mouth_open=float(max(0.0, n(-0.2, 0.5))), eye_open=float(np.clip(n(1.0, 0.12), 0.62, 1.25)),
        gaze=(float(np.clip(n(0, 0.35), -1, 1)), float(np.clip(n(0, 0.25), -1, 1))), brow_raise=float(n(0, 0.012)),
        blur=u(0.3, 0.6), noise=u(0.014, 0.028), vignette=u(0.0, 0.3),
        white_balance=_triple(1.0 + cast),
    )  # fmt: skip


def animate(first: Capture, frames: int, fps: float, rng: np.random.Generator) -> list[Capture]:
    """Captures of one clip: smooth head motion, one or two blinks, a talking mouth; light and camera stay."""
    time = np.arange(frames) / fps
    wave = lambda low, high: np.sin(  # noqa: E731
        2 * np.pi * rng.uniform(low, high) * time + rng.uniform(0, 2 * np.pi)
    )
    yaw, pitch, roll = 0.16 * wave(0.2, 0.6), 0.06 * wave(0.2, 0.7), 0.04 * wave(0.2, 0.6)
    dx, dy = 0.012 * wave(0.2, 0.8), 0.008 * wave(0.3, 0.9)
    talk = np.maximum(0.0, 0.45 * (wave(1.5, 2.5) + 0.6 * wave(2.5, 4.0)))
    blink = np.ones(frames)
    for at in rng.uniform(0.1, max(0.2, time[-1]), size=int(rng.integers(1, 3))):
        blink = np.minimum(blink, np.clip(np.abs(time - at) / 0.14, 0.08, 1.0))
    return [
        replace(
            first,
            noise_seed=(first.noise_seed + 7919 * (i + 1)) % 2**31,
            yaw=float(first.yaw * 0.6 + yaw[i]), pitch=float(first.pitch * 0.7 + pitch[i]),
            roll=float(first.roll * 0.7 + roll[i]), cx=float(first.cx + dx[i]), cy=float(first.cy + dy[i]),
            mouth_open=float(0.3 * first.mouth_open + talk[i]), eye_open=float(first.eye_open * blink[i]),
        )
        for i in range(frames)
    ]  # fmt: skip


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head-to-camera rotation (3, 3): pitch about x, then yaw about y, then roll about z."""
    sy, cy, sp, cp, sr, cr = np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch), np.sin(roll), np.cos(roll)
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def _jaw(identity: Identity, y: np.ndarray) -> np.ndarray:
    """Width factor of the head at height y: fuller jaw near the mouth, a narrower chin below."""
    return 1.0 + identity.jaw * np.exp(-(((y - 0.55) / 0.28) ** 2)) - identity.chin * np.clip((y - 0.6) / 0.4, 0, 1)


def _bumps(identity: Identity, mouth_open: float) -> list[tuple[float, float, float, float, float]]:
    """Gaussian reliefs (height, |x|, y, sigma x, sigma y); those with |x| > 0 stand on both sides."""
    nose_y = identity.eye_y + identity.nose_len
    return [
        (identity.nose_h * 0.55, 0.0, identity.eye_y + 0.5 * identity.nose_len, 0.055, 0.15),
        (identity.nose_h, 0.0, nose_y - 0.03, identity.nose_w * 0.5, 0.075),
        (identity.nose_h * 0.4, identity.nose_w * 0.62, nose_y + 0.005, 0.04, 0.045),
        (-0.075, identity.eye_x * 0.98, identity.eye_y, 0.13, 0.085),
        (0.035, identity.eye_x * 0.8, identity.eye_y - identity.brow_gap - 0.01, 0.2, 0.06),
        (0.02 + identity.cheek, 0.38, identity.eye_y + 0.3, 0.13, 0.11),
        (0.045, 0.0, identity.mouth_y - 0.035, 0.17, 0.04),
        (0.045, 0.0, identity.mouth_y + 0.055 + 0.1 * mouth_open, 0.15, 0.04),
        (-0.03, 0.0, identity.mouth_y + 0.13 + 0.1 * mouth_open, 0.12, 0.03),
        (0.05, 0.0, 0.88, 0.14, 0.08),
    ]


def _relief(bumps: list, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height and its two derivatives of a sum of Gaussians at (x, y)."""
    side, mirrored = np.sign(x), np.abs(x)
    h, hx, hy = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for height, x0, y0, sx, sy in bumps:
        dx = (mirrored - x0) if x0 else x
        dy = y - y0
        g = height * np.exp(dx * dx * (-0.5 / sx**2) + dy * dy * (-0.5 / sy**2))
        h += g
        g_dx = g * dx * (1.0 / sx**2)
        hx -= g_dx * side if x0 else g_dx
        hy -= g * dy * (1.0 / sy**2)
    return h, hx, hy


def _hit(origin: list[np.ndarray], along: np.ndarray, inverse_squares: list) -> tuple[np.ndarray, list[np.ndarray]]:
    """Discriminant and nearest points of parallel rays on an ellipsoid with (varying) inverse squared radii."""
    mx, my, mz = inverse_squares
    ox, oy, oz = origin
    dx, dy, dz = (float(v) for v in along)
    a = mx * (dx * dx) + my * (dy * dy) + mz * (dz * dz)
    b = mx * ox * dx + my * oy * dy + mz * oz * dz
    c = mx * ox * ox + my * oy * oy + mz * oz * oz - 1.0
    disc = b * b - a * c
    t = (np.sqrt(np.maximum(disc, 0.0)) - b) / a
    return disc / a, [ox + t * dx, oy + t * dy, oz + t * dz]


def _fractal(rng: np.random.Generator, side: int, sizes: tuple[int, ...], weights: tuple[float, ...]) -> np.ndarray:
    """Noise of unit variance (side, side) as a weighted sum of smooth noises with the given numbers of cells."""
    total = np.zeros((side, side), dtype=np.float32)
    for cells, weight in zip(sizes, weights, strict=True):
        grid = rng.standard_normal((cells, cells), dtype=np.float32)
        if cells != side:
            grid = np.asarray(Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC))
        total += weight * grid / max(float(grid.std()), 1e-6)
    return total / max(float(total.std()), 1e-6)


@functools.lru_cache(maxsize=16)
def _textures(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Skin mottling, skin grain, strands (vertical) and freckles of an identity: four (256, 256) float32 sheets."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x7E47]))
    mottle = _fractal(rng, 256, (8, 16, 32, 64), (1.0, 0.8, 0.6, 0.5))
    grain = _fractal(rng, 256, (128, 256), (0.8, 0.8))
    strands = rng.standard_normal((24, 256), dtype=np.float32)
    strands = np.asarray(Image.fromarray(strands).resize((256, 256), Image.Resampling.BICUBIC))
    strands = strands / strands.std() + 0.5 * _fractal(rng, 256, (16, 64), (1.0, 0.6))
    dots = (rng.random((256, 256)) < 0.006).astype(np.float32)
    spots = ndimage.gaussian_filter(dots, 1.1)
    spots = np.clip(spots / 0.1, 0.0, 1.0)
    return mottle, grain, strands, spots


def _look(sheet: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Nearest texel of a sheet that repeats over [-1, 1] squared."""
    side = sheet.shape[0]
    i = (y * (side / 2.0) + side * 2.0).astype(np.int32) % side
    j = (x * (side / 2.0) + side * 2.0).astype(np.int32) % side
    return sheet[i, j]


def _over(under: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> None:
    """Paint a colour (3,) or (n, 3) over ``under`` (n, 3) in place with alpha (n,)."""
    under += (colour - under) * alpha[:, None]


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A wall, a blurred room, a gradient or bokeh: (side, side, 3) linear light."""
    kind = int(rng.integers(0, 4))
    first, second = _linear(rng.uniform(40, 235, 3)), _linear(rng.uniform(25, 225, 3))
    first, second = (c.mean() + (c - c.mean()) * rng.uniform(0.1, 0.65) for c in (first, second))
    yy, xx = np.mgrid[0:64, 0:64].astype(np.float32) / 63.0
    turn = rng.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + (xx - 0.5) * np.cos(turn) + (yy - 0.5) * np.sin(turn), 0, 1)
    if kind == 0:
        weight = ramp
    elif kind == 1:
        weight = np.clip(0.5 + 0.35 * _fractal(rng, 64, (3, 6, 12), (1.0, 0.7, 0.4)), 0, 1)
    elif kind == 2:
        weight = 0.15 * ramp
        for _ in range(int(rng.integers(2, 7))):
            at, wide = rng.uniform(0, 1), rng.uniform(0.02, 0.25)
            weight = weight + rng.uniform(-0.6, 0.6) * ((xx if rng.random() < 0.7 else yy) > at) * (
                (xx if rng.random() < 0.7 else yy) < at + wide + 0.3
            )
        weight = ndimage.gaussian_filter(weight, rng.uniform(0.3, 2.0))
    else:
        weight = 0.3 * ramp
        for _ in range(int(rng.integers(5, 16))):
            px, py, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.04, 0.16)
            weight = weight + rng.uniform(0.1, 0.5) * (np.hypot(xx - px, yy - py) < radius)
        weight = ndimage.gaussian_filter(weight, 1.0)
    weight = np.asarray(Image.fromarray(weight.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC))
    out = first + (second - first) * np.clip(weight, 0.0, 1.0)[..., None]
    texture = rng.standard_normal((side // 2, side // 2), dtype=np.float32)
    texture = np.asarray(Image.fromarray(texture).resize((side, side), Image.Resampling.BILINEAR))
    return (out * (1.0 + 0.03 * texture[..., None])).astype(np.float32)


def _paint_face(
    identity: Identity, capture: Capture, x: np.ndarray, y: np.ndarray, px: float
) -> tuple[np.ndarray, ...]:
    """Albedo (n, 3), gloss (n,) and emissive glint (n,) of the face at frontal coordinates; px is pixels per unit."""
    mottle, grain, strands, spots = _textures(identity.seed)
    one = identity
    cover = lambda distance: np.clip(0.5 - distance * px, 0.0, 1.0)  # noqa: E731
    bell = lambda dx, dy, sx, sy: np.exp(dx * dx * (-0.5 / sx**2) + dy * dy * (-0.5 / sy**2))  # noqa: E731
    mx = np.abs(x)
    skin = np.array(one.skin, dtype=np.float32)
    fine = _look(grain, x, y)
    albedo = skin * (1.0 + 0.055 * _look(mottle, x, y) + 0.08 * fine)[:, None]
    flush = bell(mx - 0.36, y - one.eye_y - 0.34, 0.16, 0.13) + 0.8 * bell(x, y - one.eye_y - one.nose_len, 0.1, 0.07)
    albedo *= 1.0 - (flush * 0.2)[:, None] * np.array([0.1, 0.8, 0.7], dtype=np.float32)
    if one.freckles:
        zone = bell(mx - 0.3, y - one.eye_y - 0.25, 0.22, 0.14) + 0.5 * bell(x, y + 0.4, 0.4, 0.15)
        albedo *= (1.0 - 0.5 * one.freckles * _look(spots, x, y) * np.clip(zone, 0, 1))[:, None]
    nose_y = one.eye_y + one.nose_len
    # Occlusion that the local shading model cannot give: sockets, under the nose, under the lip.
    dark = 0.3 * bell(mx - one.eye_x + 0.03, y - one.eye_y + 0.05, 0.12, 0.06)
    dark += 0.2 * bell(mx - one.eye_x * 0.85, y - one.eye_y - 0.09, 0.1, 0.035) * (0.5 + one.age)
    dark += 0.32 * bell(x, y - nose_y - 0.055, one.nose_w * 0.75, 0.03)
    dark += 0.28 * bell(mx - one.nose_w * 0.95, y - nose_y + 0.01, 0.028, 0.05)
    lower = one.mouth_y + one.lip_lower + 0.13 * capture.mouth_open
    dark += 0.22 * bell(x, y - lower - 0.035, 0.12, 0.025)
    fold_x = one.nose_w + 0.05 + (y - nose_y) * 0.42
    fold = bell(mx - fold_x, y - 0.5 * (nose_y + one.mouth_y), 0.018, 0.09)
    dark += (0.1 + 0.3 * one.age + 0.15 * max(capture.smile, 0.0)) * fold
    if one.age > 0.35:
        lines = np.sin((y + 0.04 * np.cos(3 * x + one.seed % 7)) * 62.0) ** 8
        dark += 0.3 * (one.age - 0.3) * lines * bell(x, y + 0.42, 0.3, 0.09)
        rays = np.sin(np.arctan2(y - one.eye_y, mx - one.eye_x) * 14.0) ** 6
        dark += 0.35 * (one.age - 0.3) * rays * bell(mx - one.eye_x - one.eye_w - 0.05, y - one.eye_y, 0.04, 0.05)
    albedo *= (1.0 - np.clip(dark, 0, 0.75))[:, None]
    gloss = 0.12 + 0.1 * bell(x, y - nose_y + 0.04, 0.07, 0.12) + 0.08 * bell(x, y + 0.4, 0.3, 0.12)
    gloss += 0.02 * fine
    glint = np.zeros_like(x)

    if one.beard:
        smile_free = np.hypot(x / (one.mouth_w * 1.1), (y - one.mouth_y - 0.02) / 0.1)
        zone = np.clip((y - 0.47 + 0.35 * (0.62 - mx).clip(0) * (mx > 0.2) - 0.12 * (mx < 0.2)) / 0.1, 0, 1)
        zone = zone * np.clip((smile_free - 0.75) * 4.0, 0, 1)
        hairs = np.clip(0.62 + 0.3 * _look(strands, x, y) + 0.25 * fine, 0, 1)
        _over(albedo, np.array(one.brow_colour, dtype=np.float32), np.clip(zone * hairs * one.beard, 0, 0.95))
        gloss = gloss * (1.0 - 0.8 * zone * one.beard)

    # Mouth: two lips about a curved line, opened by the lower lip.
    reach = x / one.mouth_w
    inside = np.clip(1.0 - reach * reach, 0.0, 1.0)
    line = one.mouth_y - 0.06 * capture.smile * (reach * reach - 0.35)
    opening = 0.11 * capture.mouth_open * inside
    bow = 1.0 - 0.28 * np.exp(-((x / 0.035) ** 2))
    top = line - one.lip_upper * np.sqrt(inside) * bow
    bottom = line + opening + one.lip_lower * np.sqrt(inside)
    lips = cover(top - y) * cover(y - bottom) * (np.abs(reach) < 1)
    lip = np.array(one.lip, dtype=np.float32) * (1.0 + 0.06 * _look(strands, x, y))[:, None]
    lip = lip * np.where(y < line, 0.8, 1.0)[:, None]
    _over(albedo, lip, 0.9 * lips)
    gloss += 0.18 * lips * (y > line)
    gap = cover(line - y - 0.004) * cover(y - line - opening - 0.008) * (np.abs(reach) < 0.98)
    _over(albedo, np.array([0.02, 0.006, 0.006], dtype=np.float32), 0.92 * gap)
    if capture.mouth_open > 0.25:
        teeth = gap * cover(y - line - 0.45 * opening) * (np.abs(reach) < 0.75)
        shade = 0.55 - 0.3 * np.abs(reach) + 0.05 * (np.sin(x * 95.0) > 0.93) * -4.0
        _over(albedo, np.clip(shade, 0.05, 1)[:, None] * np.array([0.95, 0.9, 0.82], dtype=np.float32), 0.85 * teeth)
    corner = bell(mx - one.mouth_w, y - one.mouth_y + 0.039 * capture.smile, 0.022, 0.018)
    albedo *= (1.0 - 0.45 * corner)[:, None]

    nostril = np.hypot((mx - one.nose_w * 0.42) / 0.034, (y - nose_y - 0.035) / 0.017)
    _over(albedo, skin * 0.06, 0.85 * np.clip((1.15 - nostril) * 4.0, 0, 1))

    # Eyes: an almond between two parabolas, iris and pupil behind it, lids and lashes on its edge.
    side = np.sign(x)
    ex, ey = mx - one.eye_x, y - one.eye_y + one.eye_tilt * (mx - one.eye_x)
    lid = np.clip(1.0 - (ex / one.eye_w) ** 2, 0.0, 1.0)
    upper = -one.eye_open * 1.15 * capture.eye_open * lid**0.8
    under = one.eye_open * 0.75 * (0.25 + 0.75 * min(capture.eye_open, 1.0)) * lid
    almond = cover(upper - ey) * cover(ey - under) * (np.abs(ex) < one.eye_w)
    white = (
        np.array([0.66, 0.61, 0.58], dtype=np.float32)
        * (1.0 - 0.5 * one.tone)
        * (1.0 - 0.35 * (ex / one.eye_w) ** 2)[:, None]
    )
    white = white * (0.45 + 0.55 * np.clip((ey - upper) / 0.045, 0, 1))[:, None]
    _over(albedo, white, almond)
    gx, gy = ex * side - 0.035 * capture.gaze[0], ey + 0.008 - 0.015 * capture.gaze[1]
    radius = np.hypot(gx, gy)
    r_iris = 0.3 * one.eye_w + 0.022
    ring = np.array(one.iris, dtype=np.float32) * (0.6 + 0.9 * np.clip(radius / r_iris, 0, 1))[:, None]
    ring = ring * np.where(radius > 0.82 * r_iris, 0.35, 1.0)[:, None]
    _over(albedo, ring, almond * cover(radius - r_iris))
    _over(albedo, np.full(3, 0.006, dtype=np.float32), almond * cover(radius - 0.45 * r_iris))
    lx, ly = capture.light[0] * 0.02, capture.light[1] * 0.02
    glint += 0.9 * almond * cover(np.hypot(gx - lx, gy - ly) - 0.013)
    gloss = gloss * (1.0 - almond) + 0.25 * almond
    lash = np.clip(1.0 - np.abs(ey - upper) / (0.011 + 0.006 * (ex > 0)), 0, 1) * (np.abs(ex) < one.eye_w * 1.05)
    _over(albedo, skin * 0.035, 0.92 * lash)
    rim = np.clip(1.0 - np.abs(ey - under) / 0.007, 0, 1) * (np.abs(ex) < one.eye_w)
    _over(albedo, skin * 0.2, 0.55 * rim)
    crease = np.clip(1.0 - np.abs(ey + one.eye_open * 1.15 * lid**0.7 + 0.03) / 0.01, 0, 1) * (np.abs(ex) < one.eye_w)
    albedo *= (1.0 - 0.4 * crease * (lid > 0.05))[:, None]

    bx = (mx - one.eye_x + 0.02) / (one.eye_w * 1.35)
    brow_y = one.eye_y - one.brow_gap - capture.brow_raise - one.brow_arch * (1 - (bx - 0.25) ** 2) + 0.035 * bx * bx
    thick = one.brow_thick * np.clip(1.1 - 0.55 * bx, 0.25, 1.3) * np.sqrt(np.clip(1.0 - bx * bx, 0.0, 1.0))
    brow = np.clip(1.35 - np.abs(y - brow_y) / np.maximum(thick, 1e-3), 0, 1) * (np.abs(bx) < 1)
    hairs = np.clip(0.78 + 0.25 * _look(strands, y * 1.5 + x * side, x * 2.0), 0.3, 1)
    _over(albedo, np.array(one.brow_colour, dtype=np.float32), 0.9 * brow * hairs)

    if one.glasses:
        wide, tall, power = one.eye_w * 1.55, one.eye_w * 1.15, one.glasses_round
        rim_r = (np.abs((mx - one.eye_x) / wide) ** power + np.abs((y - one.eye_y - 0.02) / tall) ** power) ** (
            1 / power
        )
        frame = np.clip(1.0 - (np.abs(rim_r - 1.0) * tall - 0.011) * px * 0.7, 0, 1)
        bridge = cover(np.abs(y - one.eye_y + 0.02) - 0.011) * (mx < one.eye_x - wide + 0.005)
        temple = cover(np.abs(y - one.eye_y + 0.02) - 0.012) * (mx > one.eye_x + wide - 0.005)
        frame = np.clip(frame + bridge + temple, 0, 1)
        colour = _linear(np.array([28, 24, 24]) if one.seed % 3 else np.array([120, 96, 66]))
        lens = rim_r < 1.0
        albedo *= np.where(lens, 0.93, 1.0)[:, None]
        glint += 0.06 * lens * (np.sin((x + y) * 9.0 + capture.light[0] * 6.0) > 0.85)
        _over(albedo, colour, frame)
    return albedo, gloss, glint


def _shade(
    albedo: np.ndarray, gloss: np.ndarray | float, normal: list[np.ndarray], capture: Capture, wrap: float = 0.25
) -> np.ndarray:
    """Linear light (n, 3) of a surface under the capture's key light and sky; camera-frame unit normals."""
    light = np.array(capture.light, dtype=np.float32)
    half = light + np.array([0, 0, 1], dtype=np.float32)
    half /= np.linalg.norm(half)
    nx, ny, nz = normal
    lambert = np.clip((nx * light[0] + ny * light[1] + nz * light[2] + wrap) / (1.0 + wrap), 0, None)
    sky = capture.ambient * (0.72 - 0.28 * ny)
    key = np.array(capture.light_colour, dtype=np.float32)
    shine = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1)
    shine = shine**14 * gloss * 0.55
    return albedo * (sky[:, None] + (1.05 * lambert)[:, None] * key) + shine[:, None] * key


def _camera(light: np.ndarray, capture: Capture, size: int) -> np.ndarray:
    """Linear picture to uint8 sRGB: optics, sensor, white balance, tone curve, noise."""
    sigma = capture.blur * size / 256.0
    image = np.clip(light, 0.0, 4.0)
    yy, xx = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    fall = 1.0 - capture.vignette * 2.0 * (xx * xx + yy * yy)
    gains = np.array(capture.white_balance, dtype=np.float32) * capture.exposure
    image = image * gains * fall[..., None]
    image = ndimage.gaussian_filter(image, (sigma, sigma, 0), truncate=3.0)
    image = image / (1.0 + 0.25 * image * image)  # soft shoulder instead of clipped highlights
    rng = np.random.default_rng(np.random.SeedSequence([capture.noise_seed, 0x401]))
    noise = rng.standard_normal((size, size, 3), dtype=np.float32)
    noise = 0.75 * noise + 0.5 * noise.mean(axis=2, keepdims=True)
    # Photon noise grows with the root of light; after the tone curve it is strongest in the shadows.
    image = np.clip(image, 0.0, 1.0) ** (1 / 2.2)
    image += noise * capture.noise * (1.25 - 0.5 * image)
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def _to_picture(points: np.ndarray, turn: np.ndarray, capture: Capture, size: int) -> np.ndarray:
    """Head-frame points (n, 3) to pixel-centre coordinates (n, 2)."""
    seen = points @ turn.T
    return np.stack(
        [
            (capture.cx + capture.scale * seen[:, 0]) * size - 0.5,
            (capture.cy + capture.scale * seen[:, 1]) * size - 0.5,
        ],
        axis=1,
    ).astype(np.float32)


def _surface_points(identity: Identity, capture: Capture, xy: np.ndarray) -> np.ndarray:
    """Lift frontal coordinates (n, 2) onto the head: (n, 3)."""
    x, y = xy[:, 0].astype(np.float32), xy[:, 1].astype(np.float32)
    width = identity.width * _jaw(identity, y)
    z = identity.depth * np.sqrt(np.clip(1.0 - (x / width) ** 2 - y * y, 0.0, 1.0))
    return np.stack([x, y, z + _relief(_bumps(identity, capture.mouth_open), x, y)[0]], axis=1)


def landmarks_of(identity: Identity, capture: Capture, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Five landmarks (5, 2) and face hull (m, 2) in pixels; see `Rendering`."""
    one, turn = identity, rotation(capture.yaw, capture.pitch, capture.roll)
    mouth = one.mouth_y - 0.039 * capture.smile
    five = np.array(
        [
            (-one.eye_x, one.eye_y), (one.eye_x, one.eye_y), (0.0, one.eye_y + one.nose_len - 0.03),
            (-one.mouth_w * 0.95, mouth), (one.mouth_w * 0.95, mouth),
        ]
    )  # fmt: skip
    brow = one.eye_y - one.brow_gap - one.brow_arch - one.brow_thick
    half = np.array(
        [(0.86, one.eye_y), (0.88, 0.3), (0.84, 0.5), (0.72, 0.7), (0.4, 0.88), (0.0, 0.95)], dtype=np.float32
    )
    rim = one.width * half[:, 0] * np.sqrt(np.clip(1 - half[:, 1] ** 2, 0.05, 1.0))
    left = np.stack([-rim, half[:, 1]], axis=1)
    right = np.stack([rim[:-1], half[:-1, 1]], axis=1)[::-1]
    top = np.array([(0.8 * one.width, brow + 0.03), (one.eye_x, brow), (0.0, brow), (-one.eye_x, brow), (-0.8 * one.width, brow + 0.03)])  # fmt: skip  # noqa: E501
    hull = np.concatenate([left, right, top])
    return (
        _to_picture(_surface_points(one, capture, five), turn, capture, size),
        _to_picture(_surface_points(one, capture, hull), turn, capture, size),
    )


def render_face(identity: Identity, capture: Capture, size: int = 256, supersample: float = 1.0) -> Rendering:
    """Draw one picture.

    Args:
        identity: who.
        capture: pose, light, expression and camera.
        size: side of the square picture in pixels.
        supersample: rays per pixel and axis.

    Returns:
        The picture and its landmarks; the same arguments give the same bytes.
    """
    side = round(size * supersample)
    rng = np.random.default_rng(np.random.SeedSequence([capture.seed, 0xBAC6]))
    canvas = _background(rng, side) * (0.5 + 0.5 * capture.ambient)
    turn = rotation(capture.yaw, capture.pitch, capture.roll)
    px = capture.scale * side
    column = ((np.arange(side, dtype=np.float32) + 0.5) / side - capture.cx) / capture.scale
    row = ((np.arange(side, dtype=np.float32) + 0.5) / side - capture.cy) / capture.scale
    one = identity
    _, grain, strands, _ = _textures(one.seed)
    hair_colour = np.array(one.hair_colour, dtype=np.float32)
    skin = np.array(one.skin, dtype=np.float32)

    def box(low_u: float, high_u: float, low_v: float, high_v: float):
        js = slice(*(int(v) for v in np.searchsorted(column, (low_u, high_u))))
        rows = slice(*(int(v) for v in np.searchsorted(row, (low_v, high_v))))
        vv, uu = np.meshgrid(row[rows], column[js], indexing="ij")
        return rows, js, uu.ravel(), vv.ravel()

    def put(rows: slice, js: slice, colour: np.ndarray, alpha: np.ndarray) -> None:
        patch = canvas[rows, js]
        patch += (colour.reshape(patch.shape) - patch) * alpha.reshape(*patch.shape[:2], 1)

    # Behind the head, in the picture plane: long hair, shoulders, neck, ears.
    sr, cr = np.sin(capture.roll * 0.5), np.cos(capture.roll * 0.5)
    if one.hair in ("long", "fringe"):
        rows, js, u, v = box(-1.3, 1.3, -1.3, 2.0)
        ru = u * cr + v * sr + 0.1 * np.sin(capture.yaw)
        rv = v * cr - u * sr
        length = 1.25 if one.hair == "long" else 0.6
        edge = one.width * 1.2 + 0.06 * np.sin(rv * 3.0 + one.seed % 5) - np.abs(ru)
        edge = np.minimum(edge, (length - rv) + 0.1 * _look(strands, u, v * 0.2))
        edge = np.minimum(edge, 0.9 * (1.0 - np.hypot(ru / (one.width * 1.22), np.minimum(rv + 0.1, 0.0) / 1.0)))
        strand = _look(strands, u * 1.3 + 0.1 * np.sin(2 * v), v * 0.4)
        colour = hair_colour * np.clip(0.55 + 0.2 * strand, 0.1, 1.5)[:, None] * (capture.ambient + 0.35)
        put(rows, js, colour, np.clip(edge * px * 0.4, 0, 1))
    rows, js, u, v = box(-2.2, 2.2, 0.8, 3.0)
    if u.size:
        drop = 1.22 + 0.32 * (np.abs(u) / 1.2) ** 2.2
        folds = 1.0 + 0.12 * _look(strands, u * 0.5 + 0.2 * v, v * 0.2) + 0.05 * _look(grain, u, v)
        shape = np.clip(0.9 - 0.2 * np.abs(u) + 0.3 * capture.light[0] * u, 0.3, 1.4) * (capture.ambient + 0.45)
        colour = np.array(one.clothes, dtype=np.float32) * (folds * shape)[:, None]
        put(rows, js, colour, np.clip((v - drop) * px * 0.5 + 0.5, 0, 1))
    rows, js, u, v = box(-0.8, 0.8, 0.5, 1.75)
    if u.size:
        middle = 0.12 * np.sin(capture.yaw) * np.clip(1.2 - v, 0, 1)
        across = (u - middle) / (one.neck * (1.0 + 0.25 * np.clip(v - 1.1, 0, 1) ** 2 * 4))
        nx = np.clip(across, -0.98, 0.98)
        normal = [nx, np.full_like(nx, 0.1), np.sqrt(1 - nx * nx)]
        shadow = 0.45 + 0.55 * np.clip((v - 0.95) / 0.5, 0, 1)
        lit = _shade(skin * shadow[:, None] * (1 + 0.04 * _look(grain, u, v))[:, None], 0.05, normal, capture)
        collar = 1.36 - 0.5 * (1 - np.clip(np.abs(u) / 0.6, 0, 1)) * 0.3
        alpha = np.clip((1 - np.abs(across)) * px * one.neck, 0, 1) * np.clip((collar - v) * px * 0.5, 0, 1)
        put(rows, js, lit, alpha)
    for way in (-1.0, 1.0):
        spot = np.array([[way * one.width * 0.99, one.eye_y + 0.14, -0.05]], dtype=np.float32) @ turn.T
        eu, ev = float(spot[0, 0]), float(spot[0, 1])
        rows, js, u, v = box(eu - 0.25, eu + 0.25, ev - 0.3, ev + 0.3)
        if not u.size:
            continue
        ru, rv = (u - eu) / (one.ear * 0.55 + 0.05 * abs(np.sin(capture.yaw))), (v - ev) / (one.ear * 1.25)
        far = np.hypot(ru, rv)
        inner = np.exp(-((np.hypot(ru * 1.5, rv * 1.3) - 0.45) ** 2) / 0.05)
        normal = [np.full_like(u, way * 0.5), np.full_like(u, 0.0), np.full_like(u, 0.86)]
        lit = _shade(
            skin * np.array([1.0, 0.88, 0.86], dtype=np.float32) * (1 - 0.45 * inner)[:, None], 0.05, normal, capture
        )
        put(rows, js, lit, np.clip((1 - far) * px * one.ear * 0.7, 0, 1))

    # The head itself.
    rows, js, u, v = box(-1.08, 1.08, -1.12, 1.12)
    bumps = _bumps(one, capture.mouth_open)
    origin: list[Any] = [u * turn[0, k] + v * turn[1, k] for k in range(3)]
    along = turn[2]
    inverse: list[Any] = [1.0 / one.width**2, 1.0, 1.0 / one.depth**2]
    disc, point = _hit(origin, along, inverse)
    keep = disc > -0.05
    u, v, origin = u[keep], v[keep], [o[keep] for o in origin]
    width = one.width * _jaw(one, point[1][keep])
    inverse[0] = 1.0 / (width * width)
    disc, point = _hit(origin, along, inverse)
    relief, _, _ = _relief(bumps, point[0], point[1])
    front = np.clip(point[2] * 4.0, 0.0, 1.0)
    _, point = _hit([origin[0], origin[1], origin[2] - relief * front], along, inverse)
    x, y, z = point
    relief, hx, hy = _relief(bumps, x, y)
    front = np.clip(z * 4.0, 0.0, 1.0)
    n = [x * inverse[0], y * 1.0, z * inverse[2]]
    n[0] = n[0] - n[2] * hx * front
    n[1] = n[1] - n[2] * hy * front
    norm = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2) + 1e-6
    n = [c / norm for c in n]
    seen = [n[0] * turn[k, 0] + n[1] * turn[k, 1] + n[2] * turn[k, 2] for k in range(3)]
    albedo, gloss, glint = _paint_face(one, capture, x, y, px)
    lit = _shade(albedo, gloss, seen, capture) + glint[:, None]
    alpha = np.clip(disc * px * 0.6 + 0.5, 0, 1)
    patch = canvas[rows, js]
    flat = patch.reshape(-1, 3)
    index = np.flatnonzero(keep)
    flat[index] += (lit - flat[index]) * alpha[:, None]
    canvas[rows, js] = flat.reshape(patch.shape)

    if one.hair != "bald":
        _comb(canvas, one, capture, box, turn, px)

    # Auto-exposure meets dark and light skin half way, as cameras do.
    meter = float(np.median(lit.mean(axis=1))) if len(lit) else 0.3
    canvas *= (0.34 / max(meter, 0.02)) ** 0.55
    image = canvas
    if side != size:
        image = np.stack(
            [np.asarray(Image.fromarray(canvas[..., k]).resize((size, size), Image.Resampling.BOX)) for k in range(3)],
            axis=2,
        )
    landmarks, hull = landmarks_of(one, capture, size)
    return Rendering(_camera(image, capture, size), landmarks, hull)


def _comb(canvas: np.ndarray, one: Identity, capture: Capture, box, turn: np.ndarray, px: float) -> None:
    """Lay the hair, a slightly larger shell of the head cut at the hairline, over the canvas in place."""
    mottle, grain, strands, _ = _textures(one.seed)
    volume = {"short": 0.07, "crop": 0.03, "long": 0.1, "curly": 0.2, "fringe": 0.09, "receding": 0.05}[one.hair]
    rows, js, u, v = box(-1.25, 1.25, -1.45, 0.8)
    if not u.size:
        return
    back = np.array([0.0, 0.03, 0.06], dtype=np.float32)  # the shell sits a little up and behind the head
    origin = [u * turn[0, k] + v * turn[1, k] + back[k] for k in range(3)]
    puff = 1.0 + volume + (0.05 * _look(mottle, u, v) if one.hair == "curly" else 0.012 * _look(strands, u * 2, v * 2))
    inverse = [1 / (one.width * puff) ** 2, 1 / puff**2, 1 / (one.depth * puff) ** 2]
    disc, (x, y, z) = _hit(origin, turn[2], inverse)
    reach = np.abs(x) / one.width
    wisps = 0.035 * _look(strands, x * 2.0, y * 0.3) + (
        0.03 * _look(mottle, x * 2, y * 2) if one.hair == "curly" else 0
    )
    line = one.hairline + {"fringe": 0.24, "receding": -0.1, "crop": 0.02}.get(one.hair, 0.0)
    line = line + 0.45 * np.clip(reach - 0.45, 0, 1) ** 1.2 * (1.6 if one.hair != "receding" else 1.0)
    if one.hair == "receding":
        line = line - 0.15 * np.exp(-(((reach - 0.45) / 0.18) ** 2))
    line = np.where(reach > 0.93, 0.12, line)
    edge = line + wisps - y
    edge = np.where(z < -0.05, np.maximum(edge, 0.45 - y), edge)
    keep = (disc > -0.02) & (edge > -0.05)
    if one.hair == "crop":
        softness = 0.09
    else:
        softness = 0.03
    index = np.flatnonzero(keep)
    x, y, z, edge, disc = x[keep], y[keep], z[keep], edge[keep], disc[keep]
    norm = np.sqrt((x / one.width**2) ** 2 + y * y + (z / one.depth**2) ** 2) + 1e-6
    n = [x / one.width**2 / norm, y / norm, z / one.depth**2 / norm]
    seen = [n[0] * turn[k, 0] + n[1] * turn[k, 1] + n[2] * turn[k, 2] for k in range(3)]
    if one.hair == "curly":
        strand = 1.1 * _look(mottle, x * 3, y * 3) + 0.5 * _look(grain, x, y)
    else:
        strand = _look(strands, x * 1.6 + 0.25 * y * np.sign(x), y * 0.25 + 0.5 * z) + 0.3 * _look(grain, x, y)
    colour = np.array(one.hair_colour, dtype=np.float32) * np.clip(0.9 + 0.3 * strand, 0.15, 1.9)[:, None]
    lit = _shade(colour, 0.12 * np.clip(0.6 + 0.4 * strand, 0, 2), seen, capture, wrap=0.4)
    alpha = np.clip(disc * px * 0.5 + 0.5, 0, 1) * np.clip(edge / softness + 0.5, 0, 1)
    if one.hair == "crop":
        alpha = alpha * np.clip(0.8 + 0.2 * _look(grain, x, y), 0.4, 1)
    patch = canvas[rows, js]
    flat = patch.reshape(-1, 3)
    flat[index] += (lit - flat[index]) * alpha[:, None]
    canvas[rows, js] = flat.reshape(patch.shape)
