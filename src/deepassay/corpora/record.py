"""The form of a ledger entry: what a person must know of a public corpus before applying for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deepassay.errors import ConfigError

USES = ("research", "commercial", "redistribution")
ANSWERS = ("yes", "no", "conditions", "unknown")


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file that anybody may fetch, with the hash that it must have.

    Args:
        url: where its owner publishes it.
        name: file name below the root.
        sha256: of the file, or empty.
        md5: as its owner publishes it, where no SHA-256 is known; it finds damage, not malice.
        part: what it holds; `deepassay corpus download NAME ROOT PART` takes it alone.
        source: where the hash was read.
    """

    url: str
    name: str
    part: str
    source: str
    sha256: str = ""
    md5: str = ""

    def __post_init__(self) -> None:
        if (len(self.sha256), len(self.md5)) not in ((64, 0), (0, 32), (64, 32)):
            raise ConfigError(
                f"download {self.name!r} has no pinned hash", hint="give sha256 (64 hex digits), or its owner's md5"
            )


@dataclass(frozen=True, kw_only=True)
class CorpusRecord:
    """One corpus as its own pages describe it; what could not be established is empty, never guessed.

    Licence, version, published counts, status and sources stand at the corpus's door (`deepassay.corpora.doors`).

    Args:
        name: of its door and config.
        title: as people call it.
        content: what it holds, in one line.
        size: on disk, as published or as hosts show it.
        permits: research, commercial, redistribution -> ``yes``, ``no``, ``conditions`` or ``unknown``; a reading of
            the licence by this project, no legal advice.
        obtain: what to sign and where to get it.
        citation: paper.
        consent: what is known of the consent of the people seen or heard.
        tree: what lies below the root, one line each.
        traps: known defects and surprises.
        parents: corpora (records or plain names) that its media stem from.
        aliases: other spellings found in tables.
        downloads: files that are open to all, with pinned hashes.
    """

    name: str
    title: str
    content: str
    permits: Mapping[str, str] = field(default_factory=dict)
    obtain: str
    citation: str
    size: str = ""
    consent: str = ""
    tree: tuple[str, ...] = ()
    traps: str = ""
    parents: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()

    def __post_init__(self) -> None:
        if set(self.permits) != set(USES) or not set(self.permits.values()) <= set(ANSWERS):
            raise ConfigError(
                f"ledger entry {self.name!r}: permits {dict(self.permits)}",
                hint=f"answer each of {list(USES)} with one of {list(ANSWERS)}",
            )


def permits(research: str, commercial: str, redistribution: str) -> dict[str, str]:
    """The three answers by name."""
    return dict(zip(USES, (research, commercial, redistribution), strict=True))
