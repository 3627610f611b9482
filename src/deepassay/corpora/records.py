"""The ledger of public corpora, and who stems from whom."""

import re
from collections.abc import Mapping

from deepassay.corpora.record import CorpusRecord
from deepassay.corpora.records_face import FACE_RECORDS
from deepassay.corpora.records_voice import VOICE_RECORDS
from deepassay.errors import ConfigError

CORPORA: dict[str, CorpusRecord] = {record.name: record for record in (*FACE_RECORDS, *VOICE_RECORDS)}

# Corpora without a door that others stem from.
PARENTS: Mapping[str, tuple[str, ...]] = {
    "libritts": ("librispeech",),
    "librittsr": ("librispeech",),
    "librilight": ("librivox",),
    "mls": ("librivox",),
    "m_ailabs": ("librivox",),
    "jsut": (),
    "voxceleb1": ("youtube",),
    "voxceleb2": ("youtube",),
    "lrs3": ("youtube",),
    "cmu_arctic": (),
    "thchs30": (),
    "magicdata": (),
    "aishell1": (),
    "vcc2018": (),
    "vcc2020": (),
    "voxforge": (),
}
# So large that two corpora from there need not share anybody.
ARCHIVES = frozenset({"librivox", "youtube", "web_celebrities"})


def corpus_record(name: str) -> CorpusRecord:
    """The record of a corpus.

    Raises:
        ConfigError: the ledger has none of that name.
    """
    if name not in CORPORA:
        raise ConfigError(
            f"the ledger has no corpus {name!r}", hint=f"`deepassay corpus list` names all: {', '.join(CORPORA)}"
        )
    return CORPORA[name]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", re.sub(r"\((real only|[^)]*et al\.?)\)", "", name.lower().replace("+", "p")))


_BY_SPELLING: dict[str, str] = {_plain(name): name for name in (*PARENTS, *ARCHIVES)}
for _record in CORPORA.values():
    for _spelling in (_record.name, _record.title, *_record.aliases):
        _BY_SPELLING.setdefault(_plain(_spelling), _record.name)


def ancestors(name: str) -> frozenset[str]:
    """A corpus and all that it stems from; empty where the ledger knows nothing of it.

    Args:
        name: of a record or parent, a title or an alias; case and punctuation do not matter.
    """
    first = _BY_SPELLING.get(_plain(name))
    out: set[str] = set()
    waiting = [first] if first else []
    while waiting:
        here = waiting.pop()
        if here not in out:
            out.add(here)
            waiting += CORPORA[here].parents if here in CORPORA else PARENTS.get(here, ())
    return frozenset(out)
