"""Images: what is read is what people see, and what cannot be read says why."""

import io
import os
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageOps

from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.image import decode_image, encode_image, read_image, write_image
from deepassay.media.limits import Limits


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 90)], axis=2).astype(np.uint8)


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("format", "limit"), [("jpeg", 3.0), ("png", 0.0), ("webp", 4.0), ("avif", 4.0)])
def test_formats_round_trip(format, limit):
    back = decode_image(encode_image(picture(), format, 95))
    assert back.dtype == np.uint8
    assert back.shape == (40, 60, 3)
    assert np.abs(back.astype(int) - picture()).mean() <= limit


def test_quality_matters():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_image(noise, "jpeg", 30)) < len(encode_image(noise, "jpeg", 90)) / 2
    assert encode_image(noise, "jpeg", 80) == encode_image(noise, "jpeg", 80)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_as_pillow_undoes_it(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(picture()), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_image(data), expected)


def test_orientation_changes_the_shape():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(saved(Image.fromarray(picture()), "JPEG", exif=exif)).shape == (60, 40, 3)


def test_grey_palette_cmyk_alpha_and_16_bit():
    grey = picture()[..., 0]
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(grey), "PNG"))[..., 2], grey)

    flat = np.zeros((8, 8, 3), np.uint8)
    flat[:, 4:] = (200, 10, 30)
    palette = Image.fromarray(flat).quantize(4)
    np.testing.assert_array_equal(decode_image(saved(palette, "PNG")), flat)

    ink = decode_image(saved(Image.fromarray(flat).convert("CMYK"), "JPEG", quality=100, subsampling=0))
    assert np.abs(ink.astype(int) - flat).mean() < 6

    rgba = np.dstack([np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 128, np.uint8)])
    rgba[0, 0, 3] = 0
    seen = decode_image(saved(Image.fromarray(rgba), "PNG"))
    assert seen[0, 0].tolist() == [255, 255, 255]
    assert seen[1, 1].tolist() == [127, 127, 127]

    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(deep), "PNG"))[..., 0].ravel(), np.arange(256))


def test_palette_transparency_lies_on_white():
    image = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P")
    data = saved(image, "PNG", transparency=0)
    assert decode_image(data).min() == 255


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_truncated_is_undecodable(format, keep):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    data = encode_image(noise, format)
    with pytest.raises(Unusable) as caught:
        decode_image(data[: int(len(data) * keep)])
    assert caught.value.status == Status.UNDECODABLE


@pytest.mark.parametrize("data", [b"", b"hello, I am text" * 40, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_not_an_image_is_undecodable(tmp_path, data):
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(Unusable) as caught:
        read_image(tmp_path / "x.jpg")
    assert caught.value.status == Status.UNDECODABLE
    assert "x.jpg" not in caught.value.reason


def test_random_damage_never_escapes_as_another_error():
    rng = np.random.default_rng(1)
    for format in ("jpeg", "png", "webp"):
        good = np.frombuffer(encode_image(picture(), format), np.uint8)
        for _ in range(40):
            bad = good.copy()
            bad[rng.integers(4, len(bad), 12)] = rng.integers(0, 256, 12)
            with suppress(Unusable):
                assert decode_image(bad.tobytes()).shape[2] == 3


def test_limits_hold_before_pixels_are_decoded(tmp_path):
    write_image(tmp_path / "a.png", picture())
    with pytest.raises(Unusable) as caught:
        read_image(tmp_path / "a.png", Limits(max_pixels=40 * 60 - 1))
    assert caught.value.status == Status.OUT_OF_SCOPE
    assert read_image(tmp_path / "a.png", Limits(max_pixels=40 * 60)).shape == (40, 60, 3)
    with pytest.raises(Unusable, match="bytes is over"):
        read_image(tmp_path / "a.png", Limits(max_bytes=10))


def test_a_bomb_is_out_of_scope():
    header = b"\x89PNG\r\n\x1a\n"
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    data = header + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(Unusable) as caught:
        decode_image(data)
    assert caught.value.status == Status.OUT_OF_SCOPE


def test_heic_is_named():
    with pytest.raises(Unusable, match="HEIC"):
        decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100)


def test_writing_is_atomic_and_knows_its_suffix(tmp_path):
    write_image(tmp_path / "deep" / "a.webp", picture(), 80)
    assert read_image(tmp_path / "deep" / "a.webp").shape == (40, 60, 3)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.webp"]
    with pytest.raises(MediaError, match="hint"):
        write_image(tmp_path / "a.xyz", picture())
    with pytest.raises(MediaError, match="uint8"):
        write_image(tmp_path / "a.png", picture().astype(np.float32))
    with pytest.raises(MediaError, match="outside"):
        encode_image(picture(), "jpeg", 0)


def test_missing_file_folder_and_pipe_are_errors_with_a_hint(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(MediaError, match="hint"):
            read_image(path)
