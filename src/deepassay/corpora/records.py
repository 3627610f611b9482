"""What is known of every public corpus: version, size, licence, how to obtain, citation, consent, parents, traps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from deepassay.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class CorpusRecord:
    """One corpus as its own pages describe it; what could not be established is empty, never guessed.

    Args:
        name: of its door and config.
        title: as people call it.
        modality: ``face``, ``voice`` or ``face and voice``.
        version: release the facts are about.
        size: in samples, hours, people, bytes, as published.
        licence: its own words, or SPDX.
        permits: use -> ``yes``, ``no``, ``conditions`` or ``unknown``, for research, commercial and redistribution.
        obtain: what to sign and where to get it.
        citation: paper.
        consent: what is known of the consent of the people seen or heard.
        tree: where files are expected below the root, one line each.
        traps: known defects and surprises.
        parents: corpora (records or plain names) that its media stem from.
        aliases: other spellings found in tables.
        sources: where these facts were read.
    """

    name: str
    title: str
    modality: str
    version: str = ""
    size: str = ""
    licence: str = ""
    permits: Mapping[str, str] = field(default_factory=dict)
    obtain: str = ""
    citation: str = ""
    consent: str = ""
    tree: tuple[str, ...] = ()
    traps: str = ""
    parents: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


RECORDS: tuple[CorpusRecord, ...] = (
    CorpusRecord(name="wavefake", title="WaveFake", modality="voice", parents=("ljspeech", "jsut")),
    CorpusRecord(name="ljspeech", title="LJSpeech", modality="voice", parents=("librivox",)),
    CorpusRecord(name="vctk", title="VCTK", modality="voice"),
    CorpusRecord(name="asvspoof2019_la", title="ASVspoof 2019 LA", modality="voice", parents=("vctk",)),
    CorpusRecord(name="dfadd", title="DFADD", modality="voice", parents=("vctk",)),
    CorpusRecord(name="in_the_wild", title="In-the-Wild", modality="voice"),
    CorpusRecord(name="librispeech", title="LibriSpeech", modality="voice", parents=("librivox",)),
)
CORPORA: dict[str, CorpusRecord] = {record.name: record for record in RECORDS}


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
    return re.sub(r"[^a-z0-9]+", "", name.lower())


def _known(name: str) -> CorpusRecord | None:
    key = _plain(name)
    for record in CORPORA.values():
        if key in {_plain(n) for n in (record.name, record.title, *record.aliases)}:
            return record
    return None


def ancestors(name: str) -> frozenset[str]:
    """A corpus and all that it stems from, by plain names; empty where the ledger knows nothing of it.

    Args:
        name: of a record, its title or an alias; case and punctuation do not matter.
    """
    first = _known(name)
    if first is None:
        return frozenset()
    out: set[str] = set()
    waiting = [first.name]
    while waiting:
        here = waiting.pop()
        record = _known(here)
        key = record.name if record else here
        if key not in out:
            out.add(key)
            waiting += record.parents if record else ()
    return frozenset(out)
