"""The survival lab: made-up media with a made-up label in every carrier, through every pipeline; and where it differs.

The published lab looked for the label's bytes anywhere in the output; here a parser has to find it.
"""

import json
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.errors import ConfigError
from deepassay.marks.gb45438 import FIELDS
from deepassay.marks.second import read_back, same_label
from deepassay.marks.survival import Outcome, Pipeline, pipelines_for, survives
from deepassay.marks.xmp import NAMESPACE

# The provider code is well formed and belongs to nobody.
LABEL = json.dumps(
    dict(zip(FIELDS, ("1", "001191110100000000000010001", "P-0001", "", "", "", ""), strict=True)),
    separators=(",", ":"),
)
AS_MADE = "as written"
_RATE_HZ, _SECONDS, _FPS = 16_000, 2, 10


@dataclass(frozen=True, slots=True)
class LabRow:
    """One source through one operation: ``present`` here, and ``published`` where the published lab had the row."""

    source: str
    operation: str
    present: bool
    published: bool | None = None
    reader: str = ""

    @property
    def differs(self) -> bool:
        """Both have the row and disagree."""
        return self.published is not None and self.published != self.present


def _picture() -> Any:
    from PIL import Image

    y, x = np.mgrid[0:96, 0:128]
    return Image.fromarray(np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8))


def _packet() -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:TC260="{NAMESPACE}"><TC260:AIGC>{LABEL}</TC260:AIGC></rdf:Description></rdf:RDF></x:xmpmeta>'
        "<?xpacket end='w'?>"
    ).encode()


def _still(form: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from PIL.PngImagePlugin import PngInfo

        if form == "PNG":
            info = PngInfo()
            if "itxt" in path.name:
                info.add_itxt("XML:com.adobe.xmp", _packet().decode())
            else:
                info.add_text("AIGC", LABEL)
            _picture().save(path, "PNG", pnginfo=info)
        else:
            _picture().save(path, form, xmp=_packet())

    return make


def _clip(form: str, video: str, audio: str, *, tags: bool = False) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import av

        options = {"movflags": "use_metadata_tags"} if tags else {}
        with av.open(str(path), "w", format=form, options=options) as box:
            box.metadata["AIGC"] = LABEL
            picture: Any = None
            if video:
                picture = box.add_stream(video, rate=_FPS)
                picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            sound: Any = box.add_stream(audio, rate=48_000 if audio == "libopus" else _RATE_HZ)
            sound.layout = "mono"
            for index in range(_FPS * _SECONDS if video else 0):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * index, np.uint8), format="rgb24")
                frame.pts = index
                box.mux(picture.encode(frame))
            if video:
                box.mux(picture.encode(None))
            wave = (3000 * np.sin(np.arange(_RATE_HZ * _SECONDS) / 9)).astype(np.int16)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            samples.sample_rate, samples.pts = _RATE_HZ, 0
            size = sound.codec_context.frame_size or 1024
            fit = av.AudioResampler(sound.format, sound.layout, sound.codec_context.sample_rate, frame_size=size)
            for part in [*fit.resample(samples), *fit.resample(None), None]:
                box.mux(sound.encode(part))

    return make


def _wave(path: Path) -> None:
    """A RIFF file by hand: no tool at hand puts a chunk AIGC into one."""
    wave = (3000 * np.sin(np.arange(_RATE_HZ * _SECONDS) / 9)).astype("<i2").tobytes()
    head = struct.pack("<HHIIHH", 1, 1, _RATE_HZ, 2 * _RATE_HZ, 2, 16)
    chunks = ((b"fmt ", head), (b"data", wave), (b"AIGC", LABEL.encode()))
    body = b"".join(n + struct.pack("<I", len(d)) + d + b"\x00" * (len(d) % 2) for n, d in chunks)
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)


# Names are those of the published lab. Its w.ogg was of another coder: which one does not matter to the comment header.
SOURCES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a_itxt.png": ("image", _still("PNG")),
    "a_text.png": ("image", _still("PNG")),
    "a.jpg": ("image", _still("JPEG")),
    "a.webp": ("image", _still("WEBP")),
    "v_flag.mp4": ("video", _clip("mp4", "libx264", "aac", tags=True)),
    "v.mkv": ("video", _clip("matroska", "libx264", "aac")),
    "w.wav": ("audio", _wave),
    "w.mp3": ("audio", _clip("mp3", "", "libmp3lame")),
    "w.flac": ("audio", _clip("flac", "", "flac")),
    "w.ogg": ("audio", _clip("ogg", "", "flac")),
    "w.opus": ("audio", _clip("opus", "", "libopus")),
    "w.m4a": ("audio", _clip("ipod", "", "aac", tags=True)),
}
# What becomes of FFmpeg's own -metadata AIGC=... by container: operation of the published lab and how it is done here.
WRITES: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "v_flag.mp4": ("v0.mp4", "ffmpeg write label -> v_flag.mp4 +use_metadata_tags", SOURCES["v_flag.mp4"][1]),
    "v_noflag.mp4": ("v0.mp4", "ffmpeg write label -> v_noflag.mp4", _clip("mp4", "libx264", "aac")),
    "v.mkv": ("v0.mp4", "ffmpeg write label -> v.mkv", SOURCES["v.mkv"][1]),
    "v.mov": ("v0.mp4", "ffmpeg write label -> v.mov +use_metadata_tags", _clip("mov", "libx264", "aac", tags=True)),
    "v.avi": ("v0.mp4", "ffmpeg write label -> v.avi", _clip("avi", "mpeg4", "aac")),
    "v.flv": ("v0.mp4", "ffmpeg write label -> v.flv", _clip("flv", "libx264", "aac")),
    "w_ffmeta.wav": ("w0.wav", "ffmpeg -metadata AIGC to wav", _clip("wav", "", "pcm_s16le")),
}


def run_lab(
    published: str | Path | None = None,
    *,
    sources: Sequence[str] | None = None,
    done: Callable[[], object] = lambda: None,
) -> list[LabRow]:
    """Every source through every pipeline, beside the published lab where it is given.

    Args:
        published: JSON of the published lab: ``results`` with source, operation, label_present.
        sources: names of `SOURCES`; all, and the rows about writing, where None.
        done: called once per source.

    Raises:
        ConfigError: the published lab cannot be read.
        MissingDependencyError: an encoder is not there.
    """
    known = {} if published is None else _published(Path(published))
    rows: list[LabRow] = []

    def add(source: str, operation: str, present: bool, reader: str) -> None:
        rows.append(LabRow(source, operation, present, known.get((source, operation)), reader))

    with tempfile.TemporaryDirectory(prefix="deepassay-lab-") as name:
        folder = Path(name)
        for file, (source, operation, make) in WRITES.items() if sources is None else ():
            path = folder / f"w_{file}"
            make(path)
            back = read_back(path)
            add(source, operation, any(same_label(LABEL, text) for text in back.texts), back.reader)
        for source, (media, make) in SOURCES.items():
            if sources is not None and source not in sources:
                continue
            path = folder / source
            make(path)
            back = read_back(path)
            if media != "video":
                add(source, AS_MADE, any(same_label(LABEL, text) for text in back.texts), back.reader)
            for pipeline in pipelines_for(media):
                outcome = survives(path, pipeline, folder / "out")
                add(source, pipeline.lab, bool(_answer(outcome, pipeline)), outcome.reader)
            done()
    return rows


def _answer(outcome: Outcome, pipeline: Pipeline) -> bool:
    if outcome.survived is None:
        raise ConfigError(
            f"lab: {outcome.file} through {pipeline.name} failed ({outcome.error})",
            hint="the lab's own files always convert; check the installed PyAV and Pillow",
        )
    return outcome.survived


def not_repeated(published: str | Path, rows: Sequence[LabRow]) -> list[tuple[str, str]]:
    """Rows that only the published lab has: dropping metadata on purpose is no ordinary processing."""
    mine = {(row.source, row.operation) for row in rows}
    return [key for key in _published(Path(published)) if key not in mine]


def _published(path: Path) -> Mapping[tuple[str, str], bool]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
        return {(row["source"], row["operation"]): bool(row["label_present"]) for row in results}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a published survival lab ({type(error).__name__})",
            hint="give a JSON file with results: source, operation, label_present",
        ) from error
