"""Fuzz screening: mutated pictures, films, sounds and bundles; no crash, no hang, no verdict where decoding fails.

    python scripts/fuzz_screening.py --inputs 20000 --workers 2

Seeds are made here (no media from elsewhere). Every input goes through `Crew`, as `deepassay screen` does, so a crash
of a decoder is seen as a worker that had to be replaced. Exit code 1 where anything was found; the inputs that did it
are kept in --keep.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))


def graph(shape: tuple[int, ...], kind: int) -> bytes:
    """ONNX: logit = mean of the view."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["views"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["logit"], keepdims=0),
    ]
    axes = numpy_helper.from_array(np.arange(1, 1 + len(shape), dtype=np.int64), "axes")
    made = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("views", kind, ["n", *shape])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"])],
        [axes],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def bundles(folder: Path) -> list[Path]:
    """A face and a voice bundle with the real modalities and a graph that averages."""
    from onnx import TensorProto

    from deepassay.calibrator import Calibration, OperatingPoint
    from deepassay.modality.face import FaceModality
    from deepassay.modality.voice import VoiceModality
    from deepassay.models.mtcnn import export_finder_graphs
    from deepassay.screening.bundle import write_bundle

    export_finder_graphs(folder / "finder")
    nothing = "0" * 64
    modalities = (
        (FaceModality(finder_folder=str(folder / "finder"), size=64), TensorProto.UINT8, ["image", "video"]),
        (VoiceModality(window_samples=8000), TensorProto.FLOAT, ["audio", "video"]),
    )
    out = []
    for modality, kind, media in modalities:
        write_bundle(
            folder / f"{modality.name}.zip",
            name=f"fuzz {modality.name}",
            detector_onnx=graph(modality.input_shape, kind),
            modality=modality,
            calibration=Calibration(
                scale=1.0, offset=0.0, dev_table_sha256=nothing, n_real=0, n_fake=0, informative=False, warning="fuzz"
            ),
            operating_points=[
                OperatingPoint(
                    name="bpcer_5",
                    target_bpcer=0.05,
                    threshold=0.0,
                    dev_table_sha256=nothing,
                    realised_bpcer=0.0,
                    n_real=0,
                    n_clusters=0,
                    supported=False,
                )
            ],
            scope={"statement": "fuzzing only", "media": media},
            licence_chain=[{"name": "none", "licence": "Apache-2.0"}],
            generators_seen=[],
            manifest_sha256s={},
            synthetic=True,
            card_md="# fuzz\n",
            provenance={},
        )
        out.append(folder / f"{modality.name}.zip")
    return out


def seeds(folder: Path) -> dict[str, bytes]:
    """One small valid file of every kind."""
    import av
    import soundfile
    from PIL import Image

    from deepassay.corpora.procedural_face import draw_capture, draw_identity, render_face

    face = render_face(draw_identity(0, 0.4), draw_capture(np.random.default_rng(0)), 128).image
    out: dict[str, bytes] = {}
    for name, options in (
        ("jpg", {"format": "JPEG", "quality": 85}),
        ("png", {"format": "PNG"}),
        ("webp", {"format": "WEBP", "quality": 80}),
        ("gif", {"format": "GIF"}),
        ("tif", {"format": "TIFF"}),
        ("bmp", {"format": "BMP"}),
        ("avif", {"format": "AVIF", "quality": 60}),
    ):
        buffer = io.BytesIO()
        Image.fromarray(face).save(buffer, **options)
        out[name] = buffer.getvalue()
    exif = io.BytesIO()
    data = Image.Exif()
    data[0x0112] = 6
    Image.fromarray(face).save(exif, "JPEG", exif=data, progressive=True)
    out["exif.jpg"] = exif.getvalue()
    time_ = np.arange(16000) / 16000
    sound = (0.3 * np.sin(2 * np.pi * 180 * time_) * (1 + np.sin(2 * np.pi * 3 * time_)) / 2).astype(np.float32)
    for name, fmt, subtype in (
        ("wav", "WAV", "PCM_16"),
        ("24.wav", "WAV", "PCM_24"),
        ("flac", "FLAC", "PCM_16"),
        ("ogg", "OGG", "VORBIS"),
        ("mp3", "MP3", "MPEG_LAYER_III"),
        ("aiff", "AIFF", "PCM_16"),
    ):
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, 16000, format=fmt, subtype=subtype)
        out[name] = buffer.getvalue()
    for name, fmt, codec, voice in (
        ("mp4", "mp4", "libx264", "aac"),
        ("mkv", "matroska", "libx264", "libopus"),
        ("avi", "avi", "mpeg4", "mp3"),
    ):
        place = folder / f"seed.{name}"
        with av.open(str(place), "w", format=fmt) as container:
            picture = container.add_stream(codec, rate=10)
            picture.width = picture.height = 128
            picture.pix_fmt = "yuv420p"
            track = container.add_stream(voice, rate=48000 if voice == "libopus" else 16000)
            for _ in range(8):
                container.mux(picture.encode(av.VideoFrame.from_ndarray(face, format="rgb24")))
            container.mux(picture.encode())
            if voice != "libopus":
                frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
                frame.rate = 16000
                resampler = av.AudioResampler(track.codec_context.format, track.codec_context.layout, 16000)
                fifo = av.AudioFifo()
                for part in resampler.resample(frame):
                    fifo.write(part)
                while part := fifo.read(track.codec_context.frame_size or 1024, partial=True):
                    container.mux(track.encode(part))
                container.mux(track.encode())
        out[name] = place.read_bytes()
    return out


def mutate(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """One to four changes: flipped bits, set bytes, cut, repeated, spliced, swapped, edited lengths."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            break
        kind, at = int(rng.integers(9)), int(rng.integers(len(out)))
        if rng.random() < 0.5:  # headers hold what hurts
            at = int(rng.integers(min(len(out), 512)))
        n = int(rng.integers(1, 64))
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at : at + n] = rng.integers(0, 256, min(n, len(out) - at), dtype=np.uint8).tobytes()
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            del out[at : at + n]
        elif kind == 4:
            out[at:at] = out[at : at + n] * int(rng.integers(1, 20))
        elif kind == 5:
            other = others[int(rng.integers(len(others)))]
            start = int(rng.integers(len(other)))
            out[at:] = other[start:]
        elif kind == 6:
            value = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)[int(rng.integers(9))]
            size = int(rng.choice([1, 2, 4, 8]))
            out[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big" if rng.random() < 0.5 else "little")
        elif kind == 7:
            out[at : at + n] = bytes(len(out[at : at + n]))
        else:
            other = int(rng.integers(len(out)))
            out[at : at + n], out[other : other + n] = out[other : other + n], out[at : at + n]
    return bytes(out[: 4 << 20])


def media_inputs(folder: Path, made: dict[str, bytes], n: int, seed: int) -> Iterator[str]:
    """Paths of mutated media, each written when it is asked for."""
    rng = np.random.default_rng(seed)
    names = sorted(made)
    others = [made[name] for name in names]
    for i in range(n):
        name = names[i % len(names)]
        path = folder / f"{i:06}.{names[int(rng.integers(len(names)))] if rng.random() < 0.1 else name}"
        path.write_bytes(mutate(made[name], others, rng))
        yield str(path)


def fuzz_media(box: Path, made: dict[str, bytes], args: argparse.Namespace, found: list[str]) -> Counter[str]:
    """Screen mutated media; statuses counted."""
    from deepassay.screening.crew import Crew

    statuses = Counter[str]()
    settings = {"bundles": [str(box / "face.zip"), str(box / "voice.zip")], "threads": 1}
    inbox = box / "inbox"
    inbox.mkdir()
    begin = time.monotonic()
    with Crew(settings, workers=args.workers, timeout_s=args.timeout) as crew:
        before = 0
        for number, one in enumerate(crew.screen(media_inputs(inbox, made, args.inputs, args.seed)), start=1):
            wrong = ""
            for verdict in one.verdicts:
                statuses[str(verdict.status)] += 1
                answered = verdict.status == "ok"
                if answered != (verdict.llr is not None) or answered == (verdict.decision == "abstain"):
                    wrong = f"status {verdict.status} with decision {verdict.decision} and llr {verdict.llr}"
                if verdict.status == "error" and "ended" in verdict.reason:
                    wrong = verdict.reason
                if "longer than" in verdict.reason and "limit of" not in verdict.reason:
                    wrong = verdict.reason
                try:
                    json.dumps(verdict.to_dict(), allow_nan=False)
                except ValueError as error:
                    wrong = f"verdict that is no JSON: {error}"
            if not one.verdicts:
                wrong = "no verdict"
            if crew.replaced > before and not wrong:
                wrong = "a worker was replaced"
            before = crew.replaced
            if wrong:
                keep(one.path, wrong, args.keep, found)
            os.unlink(one.path)
            if number % 1000 == 0:
                rate = number / (time.monotonic() - begin)
                print(f"  {number} of {args.inputs}, {rate:.0f} a second, {len(found)} found", flush=True)
    return statuses


def fuzz_bundles(box: Path, args: argparse.Namespace, found: list[str]) -> Counter[str]:
    """Load mutated bundle zips, and bundle.json mutated inside valid ones; only BundleError may come out."""
    from deepassay.errors import BundleError
    from deepassay.files import sha256_bytes
    from deepassay.screening.bundle import Bundle, _sums

    rng = np.random.default_rng(args.seed + 1)
    whole = (box / "voice.zip").read_bytes()
    known = Bundle.load(box / "voice.zip").hash
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    outcomes = Counter[str]()
    for i in range(args.bundles):
        place = box / "mutated.zip"
        if i % 2:
            place.write_bytes(mutate(whole, [whole, members["bundle.json"]], rng))
        else:  # a forger's way: altered facts under right sums
            files = {**members, "bundle.json": mutate(members["bundle.json"], [members["card.md"]], rng)}
            files["SHA256SUMS"] = _sums({n: sha256_bytes(c) for n, c in files.items() if n != "SHA256SUMS"})
            with zipfile.ZipFile(place, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        try:
            loaded = Bundle.load(place)
            loaded.check()
            loaded.modality()
            outcomes["accepted, unaltered" if loaded.hash == known else "accepted, another bundle"] += 1
        except BundleError:
            outcomes["refused"] += 1
        except Exception as error:
            keep(str(place), f"bundle: {type(error).__name__}: {error}", args.keep, found)
    return outcomes


def keep(path: str, why: str, folder: str | None, found: list[str]) -> None:
    """Record a finding, and a copy of its input."""
    found.append(f"{Path(path).name}: {why}")
    print(f"  FOUND {found[-1]}", flush=True)
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            (Path(folder) / f"{len(found):03}_{Path(path).name}").write_bytes(Path(path).read_bytes())


def main() -> int:
    """Fuzz, print, and say whether anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000, help="media files (default: %(default)s)")
    parser.add_argument("--bundles", type=int, default=2_000, help="bundles (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds for one file (default: %(default)g)")
    parser.add_argument("--keep", help="folder for inputs that found something")
    args = parser.parse_args()
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="deepassay-fuzz-") as name:
        box = Path(name)
        bundles(box)
        made = seeds(box)
        print(f"{len(made)} kinds: {', '.join(sorted(made))}")
        statuses = fuzz_media(box, made, args, found)
        outcomes = fuzz_bundles(box, args, found)
    print(f"{args.inputs} media: " + ", ".join(f"{n} {key}" for key, n in statuses.most_common()))
    print(f"{args.bundles} bundles: " + ", ".join(f"{n} {key}" for key, n in outcomes.most_common()))
    print(f"{len(found)} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
