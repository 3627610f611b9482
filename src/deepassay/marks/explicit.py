"""Explicit labels as people annotated them in a CSV, against the rules of GB 45438-2025 that sources report; no OCR.

The reader of a picture or of a sound is a person: a program that guesses would measure its own reading. Rules are those
of clauses 5.2 (image), 5.3 (audio) and 5.4 (video), as secondary sources quote them.
"""

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepassay.errors import ConfigError, MediaError
from deepassay.labels import Unusable
from deepassay.media.probe import probe

PASS, FAIL, DISPUTED = "pass", "fail", "disputed"
AI_WORDS = ("人工智能", "AI")
SYNTHESIS_WORDS = ("生成", "合成")
SMALLEST_HEIGHT = 0.05  # of the shortest side, clauses 5.2 and 5.4
SHORTEST_S = 2.0  # clause 5.4, at normal speed
EM_TO_GLYPH = 1.3  # em box over glyph box: what "height" means is an open question
RHYTHM = "short-long short-short"  # clause 5.3, Morse A I
NORMAL_SPEED = (120.0, 160.0)  # Chinese characters a minute, clause 5.3 note 4
COLUMNS = (
    "file", "media", "present", "form", "text", "place", "height_px", "shortest_side_px", "height_of", "duration_s",
    "legible", "chars_per_minute", "annotator",
)  # fmt: skip
MEDIA = ("image", "video", "audio")
FORMS = {"image": ("text",), "video": ("text",), "audio": ("voice", "rhythm")}
PLACES = {
    "image": ("edge", "corner", "inside"),
    "video": ("start_frame", "around_playback", "middle", "end"),
    "audio": ("start", "middle", "end", "interface"),
}
HEIGHT_OF = ("glyph", "cap", "em", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One row: what a person saw or heard on one output.

    Args:
        file: name of the output as the CSV has it.
        media: image, video or audio.
        present: whether there is an explicit label at all.
        form: text, voice or rhythm.
        text: the words, as read; for rhythm the pattern, such as ``short-long short-short``.
        places: words of `PLACES`.
        height_px: height of the text; ``height_of`` says of which box (glyph, cap, em; empty: not said).
        shortest_side_px: of the picture.
        duration_s: how long it shows at normal speed.
        legible: None where nobody judged it.
        chars_per_minute: of a spoken label.
        annotator: pseudonym.
    """

    file: str
    media: str
    present: bool
    form: str = ""
    text: str = ""
    places: tuple[str, ...] = ()
    height_px: float | None = None
    shortest_side_px: float | None = None
    height_of: str = ""
    duration_s: float | None = None
    legible: bool | None = None
    chars_per_minute: float | None = None
    annotator: str = ""

    @property
    def height_ratio(self) -> float | None:
        """Height of the text over the shortest side, as annotated."""
        if self.height_px is None or not self.shortest_side_px:
            return None
        return self.height_px / self.shortest_side_px


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules say of one annotation: outcome by rule; a rule that nobody annotated is absent, never passed.

    Args:
        annotation: the row.
        outcomes: ``pass``, ``fail`` or ``disputed`` by rule: present, elements, form, place, legible, height, duration.
        notes: sentences on what is no rule.
    """

    annotation: Annotation
    outcomes: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def judge(row: Annotation) -> Judgement:
    """Check one annotation; an output without an explicit label fails ``present`` and nothing else is said of it."""
    if not row.present:
        return Judgement(row, {"present": FAIL})
    out = {"present": PASS}
    notes: list[str] = []
    if row.form:
        out["form"] = PASS if row.form in FORMS[row.media] else FAIL
    if row.form == "rhythm":
        out["elements"] = PASS if _pattern(row.text) == _pattern(RHYTHM) else FAIL
    elif row.text:
        # A bare "AI" badge fails: both elements are needed.
        words = row.text.upper()
        both = any(word in words for word in AI_WORDS) and any(word in words for word in SYNTHESIS_WORDS)
        out["elements"] = PASS if both else FAIL
    if row.places:
        out["place"] = _place(row)
    if row.legible is not None:
        out["legible"] = PASS if row.legible else FAIL
    if row.media != "audio" and row.height_ratio is not None:
        out["height"] = _height(row.height_ratio, row.height_of)
    if row.media == "video" and row.duration_s is not None:
        out["duration"] = PASS if row.duration_s >= SHORTEST_S else FAIL
    low, high = NORMAL_SPEED
    if row.form == "voice" and row.chars_per_minute is not None and not low <= row.chars_per_minute <= high:
        notes.append(f"spoken at {row.chars_per_minute:g} characters a minute; note 4 names about {low:g} to {high:g}")
    return Judgement(row, out, tuple(notes))


def _pattern(text: str) -> list[str]:
    return text.lower().replace("-", " ").replace("短", " short ").replace("长", " long ").split()


def _place(row: Annotation) -> str:
    if row.media == "image":
        return PASS if set(row.places) & {"edge", "corner"} else FAIL
    if row.media == "video":
        return PASS if "start_frame" in row.places else FAIL
    return PASS if set(row.places) & {"start", "middle", "end", "interface"} else FAIL


def _height(ratio: float, height_of: str) -> str:
    """Disputed where the outcome hangs on which box "height" means."""
    if height_of == "em":
        smaller, larger = ratio / EM_TO_GLYPH, ratio
    elif height_of in ("glyph", "cap"):
        smaller, larger = ratio, ratio * EM_TO_GLYPH
    else:
        smaller, larger = ratio / EM_TO_GLYPH, ratio * EM_TO_GLYPH
    if smaller >= SMALLEST_HEIGHT:
        return PASS
    return FAIL if larger < SMALLEST_HEIGHT else DISPUTED


def read_annotations(
    path: str | os.PathLike[str], media_folder: str | os.PathLike[str] | None = None
) -> list[Judgement]:
    """Every row of a CSV with a header of `COLUMNS` (``file`` and ``present`` are needed), judged.

    Args:
        media_folder: where the files lie; media and shortest side are then taken from a file where a row leaves them
            out. The CSV's own folder where None.

    Raises:
        ConfigError: a missing column, an unknown word, a number that is none, a file annotated twice.
    """
    place = Path(path)
    folder = Path(media_folder) if media_folder is not None else place.parent
    try:
        with open(place, "rb") as stream:
            text = stream.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: annotations cannot be read ({error})", hint="give a UTF-8 CSV file") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = list(reader.fieldnames or ())
    missing, unknown = [n for n in ("file", "present") if n not in names], [n for n in names if n not in COLUMNS]
    if missing or unknown:
        what = f"has no column {missing[0]!r}" if missing else f"has a column {unknown[0]!r} that is unknown"
        raise ConfigError(f"{place}: {what}", hint=f"columns are {', '.join(COLUMNS)}")
    out: list[Judgement] = []
    seen: set[str] = set()
    for number, row in enumerate(reader, start=2):
        where = f"{place}, line {number}"
        values = {str(key): (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        if not values["file"] or values["file"] in seen:
            what = f"{values['file']} is annotated twice" if values["file"] else "names no file"
            raise ConfigError(f"{where}: {what}", hint="one row per output; settle disagreements before")
        seen.add(values["file"])
        out.append(judge(_annotation(values, folder, where)))
    if not out:
        raise ConfigError(f"{place}: holds no annotation", hint="one row per output, with present = yes or no")
    return out


def _annotation(values: Mapping[str, str], folder: Path, where: str) -> Annotation:
    media, side = values.get("media", ""), _number(values, "shortest_side_px", where)
    present = _flag(values["present"], "present", where)
    if present is None:
        raise ConfigError(f"{where}: present is empty", hint="write yes or no")
    if not media or (side is None and values.get("height_px")):
        facts = _facts(folder / values["file"], where)
        media = media or str(facts["media"])
        if side is None and facts["width"] and facts["height"]:
            side = float(min(facts["width"], facts["height"]))
    _word(media, MEDIA, "media", where)
    places = tuple(values.get("place", "").replace("+", " ").replace(";", " ").split())
    for word in places:
        _word(word, PLACES[media], "place", where)
    form = values.get("form", "")
    if form:
        _word(form, ("text", "voice", "rhythm"), "form", where)
    _word(values.get("height_of", ""), HEIGHT_OF, "height_of", where)
    return Annotation(
        file=values["file"], media=media, present=present, form=form, text=values.get("text", ""), places=places,
        height_px=_number(values, "height_px", where), shortest_side_px=side, height_of=values.get("height_of", ""),
        duration_s=_number(values, "duration_s", where),
        legible=_flag(values.get("legible", ""), "legible", where),
        chars_per_minute=_number(values, "chars_per_minute", where), annotator=values.get("annotator", ""),
    )  # fmt: skip


def _facts(path: Path, where: str) -> Mapping[str, Any]:
    try:
        return probe(path)
    except (MediaError, Unusable) as error:
        raise ConfigError(
            f"{where}: media or shortest_side_px is empty and {path.name} cannot be read",
            hint="fill in the columns media and shortest_side_px, or give the folder of the outputs",
        ) from error


def _number(values: Mapping[str, str], name: str, where: str) -> float | None:
    text = values.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise ConfigError(f"{where}: {name} is {text!r}", hint="write a positive number, or nothing")
    return value


def _flag(text: str, name: str, where: str) -> bool | None:
    if not text:
        return None
    known = {"yes": True, "no": False, "1": True, "0": False, "true": True, "false": False, "是": True, "否": False}
    if text.lower() not in known:
        raise ConfigError(f"{where}: {name} is {text!r}", hint="write yes or no")
    return known[text.lower()]


def _word(word: str, known: tuple[str, ...], name: str, where: str) -> None:
    if word not in known:
        raise ConfigError(f"{where}: {name} is {word!r}", hint=f"use one of {', '.join(k for k in known if k)}")
