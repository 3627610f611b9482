"""Corpora made from one another: fakes of one and bona fide recordings of another may hold the same people."""

from itertools import combinations
from typing import Any

import numpy as np
import pyarrow.compute

from deepassay.audit.report import BLOCK, PASS, SHOWN, SKIP, WARN, AuditFinding
from deepassay.corpora.records import ARCHIVES, ancestors
from deepassay.labels import FAKE, REAL
from deepassay.manifest import SPLITS, Manifest
from deepassay.splits import distinct, id_columns, split_numbers, text_values

pc: Any = pyarrow.compute


def shared_parents(manifest: Manifest) -> list[AuditFinding]:
    """Pairs of corpora that stem from one parent, one giving fakes and the other bona fide samples.

    What a corpus stems from is read from the ledger and from the samples' own attribute ``parent``.
    Speaker and video ids of two corpora are not comparable, so that neither splits nor intervals see that they hold the
    same people. Across splits that is a leak (block), inside one it makes clusters too small (warn); where the two
    share ids in this manifest, the id checks see it and this one passes. A parent as large as LibriVox or YouTube only
    warns: two corpora from there need not share anybody.
    """
    coded = pc.fill_null(manifest.table.column("corpus"), "").combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    code = coded.indices.to_numpy().astype(np.int64)
    trees = {k: set(ancestors(name)) for k, name in enumerate(names) if name}
    for k, parent in _named_parents(manifest, code):
        if k in trees:
            trees[k] |= ancestors(parent) or {parent.lower()}
    known = [k for k, tree in trees.items() if tree]
    if len(trees) < 2 or not known:
        why = "one corpus only" if len(trees) < 2 else "the ledger knows none of these corpora"
        return [AuditFinding("parents", "F02", SKIP, why)]
    label, where = manifest.column("label"), split_numbers(manifest)
    tied = _tied(manifest, code)
    found: list[tuple[str, str, dict[str, Any]]] = []
    for a, b in combinations(sorted(trees), 2):
        common = sorted(trees[a] & trees[b])
        if not common or (a, b) in tied:
            continue
        opposite = [
            (one, two)
            for one, two in ((a, b), (b, a))
            if (label[code == one] == FAKE).any() and (label[code == two] == REAL).any()
        ]
        if not opposite:
            continue
        places = [set(where[(code == k) & (where >= 0)].tolist()) for k in (a, b)]
        apart = any(p != q for p in places[0] for q in places[1]) and not set(common) <= ARCHIVES
        text = f"{names[a]} and {names[b]} stem from {', '.join(common)}"
        splits = {
            names[k]: sorted(SPLITS[p] for p in place) or ["no split"] for k, place in zip((a, b), places, strict=True)
        }
        found.append((BLOCK if apart else WARN, text, {"corpora": text, **splits}))
    statistic = {"pairs": len(found), "across_splits": sum(s == BLOCK for s, _, _ in found)}
    if not found:
        return [AuditFinding("parents", "F02", PASS, "no corpora of one parent, or ids tie them", statistic)]
    worst = BLOCK if statistic["across_splits"] else WARN
    found.sort(key=lambda f: f[0] != BLOCK)
    side = "in different splits" if worst == BLOCK else "with ids that cannot be compared"
    message = f"{'; '.join(text for _, text, _ in found[:SHOWN])}: {side}"
    hint = "Put corpora of one parent on one side, or give both the parent's ids of people and recordings."
    return [AuditFinding("parents", "F02", worst, message, statistic, tuple(e for _, _, e in found[:SHOWN]), hint)]


def _named_parents(manifest: Manifest, corpus: np.ndarray) -> list[tuple[int, str]]:
    """Corpus number and the parents that its samples name themselves (attribute ``parent``)."""
    coded = text_values(manifest, "parent").dictionary_encode()
    words = coded.dictionary.to_pylist()
    cells = distinct(corpus * max(len(words), 1) + coded.indices.to_numpy())
    return [(int(c // len(words)), words[c % len(words)]) for c in cells.tolist() if words[c % len(words)]]


def _tied(manifest: Manifest, corpus: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of corpora that share a subject or source id."""
    out: set[tuple[int, int]] = set()
    for kind, rows, values in id_columns(manifest):
        if kind == "sha256" or not len(rows):
            continue
        number = values.dictionary_encode().indices.to_numpy().astype(np.int64)
        width = int(corpus.max()) + 1
        cells = distinct(number * width + corpus[rows])
        value, of = cells // width, cells % width
        _, starts, sizes = np.unique(value, return_index=True, return_counts=True)
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            out.update(combinations(of[start : start + size].tolist(), 2))
    return out
