"""Images: bounded decoding to upright 8-bit RGB, and encoding to JPEG, PNG, WebP and AVIF."""

import io
import os
import warnings
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from deepassay import files
from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.containers import Container, identify_bytes, open_media
from deepassay.media.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from PIL import Image

ImageFormat = Literal["jpeg", "png", "webp", "avif"]
BACKGROUND = 255  # what transparent pixels are laid on: white, as most viewers do


def read_image(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode one image file as people see it.

    EXIF orientation is applied; transparency is laid on white; grey, palette, CMYK and other colour models become RGB
    (colour profiles are not applied); 16-bit values are scaled to 8 bits; of an animation the first frame is read.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        Unusable: UNDECODABLE where empty, truncated, damaged or not an image; OUT_OF_SCOPE over a limit.
        MediaError: no such file.
    """
    with open_media(path, limits) as (stream, container):
        return _decode(stream, container, limits)


def decode_image(data: bytes, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    """Like `read_image`, from bytes in memory."""
    limits.check_bytes(len(data))
    container = identify_bytes(data[:4096])
    if container is None:
        raise Unusable(Status.UNDECODABLE, "not an image format that is read here")
    return _decode(io.BytesIO(data), container, limits)


def image_size(stream: BinaryIO, container: Container, limits: Limits) -> tuple[int, int]:
    """(width, height) as seen, after EXIF orientation, without decoding the pixels."""
    with _opened(stream, container, limits) as image:
        width, height = image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def _opened(stream: BinaryIO, container: Container, limits: Limits) -> "Image.Image":
    from PIL import Image

    if container.pillow is None:
        raise Unusable(Status.UNDECODABLE, f"a {container.name} file is not an image")
    try:
        with warnings.catch_warnings():
            # Our own limit decides on size; Pillow's advisory warning would only repeat it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(stream, formats=[container.pillow])
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(Status.OUT_OF_SCOPE, f"more pixels than the limit of {limits.max_pixels}") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged bytes
        raise _broken(container, error) from error
    limits.check_pixels(*image.size)
    return image


def _broken(container: Container, error: Exception) -> Unusable:
    detail = str(error) if isinstance(error, OSError) and "truncated" in str(error) else type(error).__name__
    return Unusable(Status.UNDECODABLE, f"the {container.name} image is damaged or incomplete ({detail})")


def _orientation(image: "Image.Image") -> int:
    """EXIF tag 0x0112 in 1..8; unreadable metadata counts as upright, because the pixels are still whole."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode(stream: BinaryIO, container: Container, limits: Limits) -> np.ndarray:
    with _opened(stream, container, limits) as image:
        orientation = _orientation(image)
        try:
            image.load()
            pixels = _rgb(image)
        except (MemoryError, Unusable):
            raise
        except Exception as error:  # as above
            raise _broken(container, error) from error
    return np.ascontiguousarray(_upright(pixels, orientation))


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (Exif 2.32, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _rgb(image: "Image.Image") -> np.ndarray:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if mode.startswith("I"):
        # 16-bit grey arrives as I;16 or, from some files, as 32-bit I.
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise Unusable(Status.UNDECODABLE, "32-bit integer pixels, whose white level is not stated")
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if mode == "F":
        raise Unusable(Status.UNDECODABLE, "floating-point pixels, whose white level is not stated")
    if "transparency" in image.info or mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)
        alpha = rgba[..., 3:]
        return ((rgba[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def encode_image(
    array: np.ndarray,
    format: ImageFormat = "jpeg",
    quality: int = 95,
    *,
    subsampling: str = "4:2:0",
    lossless: bool = False,
) -> bytes:
    """Encode RGB pixels.

    Args:
        array: (H, W, 3) or (H, W) uint8.
        format: jpeg, png (quality is not used), webp or avif.
        quality: 1..100 as the encoder means it.
        subsampling: chroma sampling of JPEG and AVIF: 4:4:4, 4:2:2 or 4:2:0.
        lossless: WebP only.

    Raises:
        MediaError: wrong array, unknown format, or an encoder that this Pillow was built without.
    """
    from PIL import Image, features

    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or not array.size
    ):
        raise MediaError(
            f"an image to encode must be uint8 (H, W, 3) or (H, W), not {array.dtype} {array.shape}",
            hint="convert it to 8-bit RGB first",
        )
    options: dict[str, object]
    if format == "jpeg":
        options = {"quality": quality, "subsampling": subsampling}
    elif format == "png":
        options = {"compress_level": 6}
    elif format == "webp":
        options = {"quality": quality, "lossless": lossless, "method": 4}
    elif format == "avif":
        options = {"quality": quality, "subsampling": subsampling, "speed": 6, "max_threads": 1}
    else:
        raise MediaError(f"unknown image format {format!r}", hint="use jpeg, png, webp or avif")
    if format in ("webp", "avif") and not features.check(format):
        raise MediaError(f"this Pillow was built without {format}", hint="install Pillow's own wheel (11.3 or newer)")
    if not 1 <= quality <= 100:
        raise MediaError(f"image quality {quality} is outside 1..100", hint="give a quality between 1 and 100")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format=format.upper(), **options)
    return buffer.getvalue()


_SUFFIXES: dict[str, ImageFormat] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".avif": "avif"}


def write_image(
    path: str | os.PathLike[str], array: np.ndarray, quality: int = 95, *, subsampling: str = "4:2:0"
) -> None:
    """Write (H, W, 3) uint8 RGB atomically, in the format of the file's suffix (.jpg, .png, .webp, .avif).

    Raises:
        MediaError: unknown suffix, or as `encode_image`.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _SUFFIXES:
        raise MediaError(f"{path}: no image format has the suffix {suffix!r}", hint=f"use one of {sorted(_SUFFIXES)}")
    files.write_bytes(path, encode_image(array, _SUFFIXES[suffix], quality, subsampling=subsampling))
