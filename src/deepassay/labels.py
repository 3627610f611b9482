"""The law of polarity (REAL = 0, FAKE = 1; every score grows with FAKE) and the statuses a sample can have."""

from enum import StrEnum

from deepassay.errors import ManifestError

REAL = 0
FAKE = 1
LABEL_WORDS = ("real", "fake")

# Words met in public corpora. "spoof" and "bonafide" are ASVspoof's; numbers are refused: corpora disagree on them.
_WORDS = {
    "real": REAL,
    "bonafide": REAL,
    "bona-fide": REAL,
    "bona_fide": REAL,
    "bona fide": REAL,
    "genuine": REAL,
    "original": REAL,
    "pristine": REAL,
    "fake": FAKE,
    "spoof": FAKE,
    "spoofed": FAKE,
    "deepfake": FAKE,
    "manipulated": FAKE,
    "synthetic": FAKE,
}


def parse_label(word: str | None, *, where: str = "label") -> int | None:
    """Translate a corpus's word into REAL, FAKE or None (unlabelled).

    Raises:
        ManifestError: the word is unknown, or a bare number (0 and 1 mean opposite things in different corpora).
    """
    if word is None or not str(word).strip():
        return None
    key = str(word).strip().lower()
    if key in _WORDS:
        return _WORDS[key]
    if key.lstrip("+-").replace(".", "", 1).isdigit():
        raise ManifestError(
            f"{where}: {word!r} is a number, and corpora disagree on which number means fake",
            hint="map it explicitly in the corpus config, for example label_words: {'0': real, '1': fake}",
        )
    raise ManifestError(
        f"{where}: unknown label word {word!r}",
        hint=f"use one of {sorted(_WORDS)}, or add label_words: {{{word}: real}} (or fake) to the corpus config",
    )


class Status(StrEnum):
    """What became of a sample; everything but OK is a non-response and stays a row of the score table."""

    OK = "ok"
    NO_FACE = "no_face"
    NO_SPEECH = "no_speech"
    TOO_SHORT = "too_short"
    OUT_OF_SCOPE = "out_of_scope"
    UNDECODABLE = "undecodable"
    ERROR = "error"


class Unusable(Exception):
    """Raised while turning a file into views: the file is accounted for with this status, never dropped.

    Args:
        status: any Status but OK.
        reason: one sentence for people, without personal content.
    """

    def __init__(self, status: Status, reason: str) -> None:
        if status == Status.OK:
            raise ValueError("an unusable file cannot have status ok")
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.status, self.reason)
