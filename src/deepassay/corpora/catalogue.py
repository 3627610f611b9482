"""Ledger and doors side by side: what `deepassay corpus list` and `data/README.md` say of every public corpus."""

import inspect
from collections import Counter
from collections.abc import Sequence

from deepassay.corpora.doors import DOORS
from deepassay.corpora.inventory import PublicCorpus
from deepassay.corpora.record import USES, CorpusRecord
from deepassay.corpora.records import ARCHIVES, CORPORA, PARENTS

BEGIN = "<!-- written from the ledger (src/deepassay/corpora/records*.py) by scripts/write_data_readme.py: begin -->"
END = "<!-- written from the ledger: end -->"
_USE = {"research": "research", "commercial": "commerce", "redistribution": "passing on"}


def entries() -> list[tuple[CorpusRecord, type[PublicCorpus]]]:
    """Every corpus of the ledger with its door, faces first, in the order of the ledger."""
    return [(record, DOORS[record.name]) for record in CORPORA.values()]


def tree_of(record: CorpusRecord, door: type[PublicCorpus]) -> tuple[str, ...]:
    """What lies below the root: the ledger's lines, else the literal block of the door's docstring."""
    if record.tree:
        return record.tree
    lines = (inspect.getdoc(door) or "").splitlines()
    start = next((n for n, line in enumerate(lines) if line.endswith("::")), None)
    out: list[str] = []
    for line in lines[start + 1 :] if start is not None else ():
        if line.strip() and not line.startswith("    "):
            break
        if line.strip():
            out.append(line[4:])
    return tuple(out)


def facts(record: CorpusRecord, door: type[PublicCorpus]) -> list[tuple[str, str]]:
    """Label and text of everything known of a corpus, in reading order; what is not known is left out."""
    counts = ", ".join(f"{what} {n:,}" for what, n in door.published_counts.items())
    status = {
        "verified": "verified: held against an official list",
        "unverified": "unverified: written from documentation only, never met a real copy",
    }[door.status]
    rows = [
        ("content", record.content),
        ("version", door.version),
        ("size", record.size),
        ("published counts", counts),
        ("licence or terms", door.licence),
        ("permits", "; ".join(f"{_USE[use]}: {record.permits[use]}" for use in USES)),
        ("how to obtain", record.obtain),
        ("consent", record.consent),
        ("stems from", ", ".join(_titled(parent) for parent in record.parents)),
        ("beware", record.traps),
        ("citation", record.citation),
        ("door", status),
        ("documented at", "; ".join(door.documented_at)),
        ("open download", ", ".join(d.part for d in record.downloads)),
    ]
    return [(label, text) for label, text in rows if text]


def _titled(name: str) -> str:
    if name in CORPORA:
        return CORPORA[name].title
    return f"{name} (archive)" if name in ARCHIVES else name if name in PARENTS else name.replace("_", " ")


def markdown() -> str:
    """The generated part of ``data/README.md``."""
    out = [BEGIN, ""]
    titles = [record.title for record, _ in entries()]
    links = dict(zip(titles, _anchors(titles), strict=True))
    verified = sum(door.status == "verified" for _, door in entries())
    out += [
        f"{len(CORPORA)} corpora have a door; {verified} of the doors are verified. *Permits* is this project's "
        "reading of each licence for research / commerce / passing on, and no legal advice: **read the corpus's own "
        "terms before you apply.** A licence on a file does not settle the rights of the people in it. What could not "
        "be established is left out, not guessed.",
        "",
    ]
    for title, modality in (("Faces, and picture with sound", "face"), ("Voices", "voice")):
        out += [f"### {title}", "", "| corpus | `corpus=` | door | size on disk | permits |", "|---|---|---|---|---|"]
        for record, door in entries():
            if door.modality == modality:
                allowed = " / ".join(record.permits[use] for use in USES)
                link = f"[{record.title}](#{links[record.title]})"
                out.append(f"| {link} | `{record.name}` | {door.status} | {record.size or '-'} | {allowed} |")
        out.append("")
    for record, door in entries():
        out += [f"#### {record.title}", ""]
        out += [f"- **{label}**: {text}" for label, text in facts(record, door)]
        tree = tree_of(record, door)
        if tree:
            out += ["- **expected below the root**:", "", "  ```", *(f"  {line}" for line in tree), "  ```", ""]
        if record.downloads:
            out.append(f"- **fetch what is open**: `deepassay corpus download {record.name} ROOT`")
        out += [f"- **verify**: `deepassay corpus verify {record.name} ROOT`", ""]
    return "\n".join([*out, END])


def _anchors(headings: Sequence[str]) -> list[str]:
    """The anchors that GitHub makes of a page's headings: letters, digits and dashes; one met again gets a number."""
    out: list[str] = []
    met: Counter[str] = Counter()
    for heading in headings:
        plain = "".join(c for c in heading.lower() if c.isalnum() or c in " -_").replace(" ", "-")
        out.append(f"{plain}-{met[plain]}" if met[plain] else plain)
        met[plain] += 1
    return out


def replaced(text: str) -> str:
    """A page with its generated part written anew.

    Raises:
        ValueError: the page has no such part.
    """
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError("the page has no part between the ledger's marks")
    return before + markdown() + after
