"""What the table alone tells: ids on both sides of a split, broken claims, contradictions, lopsided origins."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from deepassay.audit.report import BLOCK, PASS, SHOWN, SKIP, WARN, AuditFinding
from deepassay.labels import FAKE, LABEL_WORDS, REAL
from deepassay.manifest import SPLITS, Manifest
from deepassay.splits import distinct, id_columns, split_numbers, text_values

pc: Any = pyarrow.compute

LINKING_ATTRIBUTES = ("pair_id", "session", "utterance_id", "video_id", "repository")
ORIGINS = ("corpus", "repository")
DOMINANT = 0.5


def overlaps(manifest: Manifest, leave_out: Mapping[str, Sequence[str]]) -> tuple[list[AuditFinding], dict[str, int]]:
    """Values of every id column that lie in two splits, and the claims about left-out generators.

    Returns:
        findings, and id column -> how many values lie in more than one split.
    """
    where = split_numbers(manifest)
    if len(set(where[where >= 0].tolist())) < 2:
        why = "the manifest has fewer than two splits: nothing can lie on both sides"
        return [AuditFinding("overlap", "F02", SKIP, why)], {}
    columns = [(kind, BLOCK, rows, values) for kind, rows, values in id_columns(manifest)]
    columns.append(("path", BLOCK, np.arange(len(manifest)), manifest.table.column("path").combine_chunks()))
    attributes = manifest.table.column("attributes").combine_chunks()
    keys = set(pc.unique(attributes.keys).to_pylist()) if len(attributes) else set()
    for key in LINKING_ATTRIBUTES:
        if key in keys:
            values = text_values(manifest, key)
            some = pc.not_equal(values, "")
            columns.append((key, WARN, np.flatnonzero(some.to_numpy(zero_copy_only=False)), values.filter(some)))
    findings: list[AuditFinding] = []
    counts: dict[str, int] = {}
    for name, severity, rows, values in columns:
        if not len(rows):
            findings.append(AuditFinding(f"overlap.{name}", "F02", SKIP, f"no sample names its {name}"))
            continue
        found = _overlap(manifest, name, severity, rows, values, where)
        counts[name] = int(found.statistic["shared_values"])
        findings.append(found)
    if leave_out:
        findings.append(_left_out(manifest, leave_out, where))
        counts["generator"] = int(findings[-1].statistic["outside"])
    return findings, counts


def _overlap(
    manifest: Manifest, name: str, severity: str, rows: np.ndarray, values: Any, where: np.ndarray
) -> AuditFinding:
    coverage = len(distinct(rows)) / len(manifest)
    inside = where[rows] >= 0
    coded = values.dictionary_encode()
    code, row = coded.indices.to_numpy()[inside].astype(np.int64), rows[inside]
    cells, first = np.unique(code * len(SPLITS) + where[row], return_index=True)
    known, splits_of = np.unique(cells // len(SPLITS), return_counts=True)
    shared = known[splits_of > 1]
    statistic = {"shared_values": len(shared), "values": len(known), "coverage": round(coverage, 4)}
    note = "" if coverage == 1 else f" ({coverage:.0%} of the samples name it)"
    if not len(shared):
        return AuditFinding(f"overlap.{name}", "F02", PASS, f"no value of {name} lies in two splits{note}", statistic)
    words = coded.dictionary.take(pa.array(shared)).to_pylist()
    ids = manifest.table.column("sample_id")
    examples = []
    for word, number in sorted(zip(words, shared.tolist(), strict=True))[:SHOWN]:
        at = np.flatnonzero(cells // len(SPLITS) == number)
        places = {SPLITS[int(cells[k] % len(SPLITS))]: ids[int(row[first[k]])].as_py() for k in at}
        examples.append({name: word, "samples": dict(sorted(places.items()))})
    message = f"{len(shared)} of {len(known)} values of {name} lie in more than one split{note}"
    hint = "Split by subject and source, or correct the ids." if severity == BLOCK else "See whether it links samples."
    return AuditFinding(f"overlap.{name}", "F02", severity, message, statistic, tuple(examples), hint)


def _left_out(manifest: Manifest, leave_out: Mapping[str, Sequence[str]], where: np.ndarray) -> AuditFinding:
    home = {name: SPLITS.index(split) for split, names in leave_out.items() for name in names}
    seen: set[str] = set()
    outside: dict[int, str] = {}
    for column in ("generator", "generator_family"):
        coded = pc.fill_null(manifest.table.column(column), "").combine_chunks().dictionary_encode()
        words = coded.dictionary.to_pylist()
        seen.update(set(words) & set(home))
        wanted = np.array([home.get(word, -1) for word in words] or [-1])[coded.indices.to_numpy()]
        for row in np.flatnonzero((wanted >= 0) & (wanted != where)).tolist():
            outside.setdefault(row, words[coded.indices[row].as_py()])
    statistic = {"outside": len(outside), "claimed": sorted(home), "absent": sorted(set(home) - seen)}
    if outside:
        examples = []
        for row in sorted(outside)[:SHOWN]:
            sample = manifest[row]
            examples.append({"generator": outside[row], "sample": sample.sample_id, "split": sample.split})
        message = f"{len(outside)} samples of left-out generators lie outside the split they were left out for"
        hint = "Apply the split again instead of editing the split column."
        return AuditFinding("overlap.generator", "F02", BLOCK, message, statistic, tuple(examples), hint)
    if statistic["absent"]:
        message = f"left-out generators that no sample has: {', '.join(statistic['absent'])}"
        return AuditFinding("overlap.generator", "F02", WARN, message, statistic, hint="Check the spelling.")
    return AuditFinding("overlap.generator", "F02", PASS, "left-out generators occur in their split only", statistic)


def contradictions(manifest: Manifest) -> AuditFinding:
    """Files that are listed as real and as fake."""
    label = manifest.column("label")
    rows, values = next((rows, values) for kind, rows, values in id_columns(manifest) if kind == "sha256")
    known = label[rows] >= 0
    if not known.any():
        return AuditFinding("labels", "", SKIP, "no labelled sample carries a file hash")
    code = values.dictionary_encode().indices.to_numpy()[known].astype(np.int64)
    row = rows[known]
    cells, first = np.unique(code * 2 + label[row], return_index=True)
    files, labels_of = np.unique(cells // 2, return_counts=True)
    both = files[labels_of > 1]
    statistic = {"files_with_both_labels": len(both)}
    if not len(both):
        return AuditFinding("labels", "", PASS, "no file is listed as real and as fake", statistic)
    ids = manifest.table.column("sample_id")
    at = {int(cell): int(row[k]) for cell, k in zip(cells.tolist(), first.tolist(), strict=True)}
    pairs = sorted((at[2 * n + REAL], at[2 * n + FAKE]) for n in both.tolist())[:SHOWN]
    examples = tuple({"real": ids[a].as_py(), "fake": ids[b].as_py()} for a, b in pairs)
    message = f"{len(both)} files are listed as real and as fake"
    return AuditFinding("labels", "", BLOCK, message, statistic, examples, "Correct the labels.")


def origins(manifest: Manifest) -> AuditFinding:
    """Whether real and fake samples come from different places, or one subject makes up most of a class."""
    label = manifest.column("label")
    n = {word: int((label == number).sum()) for number, word in enumerate(LABEL_WORDS)}
    if not all(n.values()):
        return AuditFinding("origin", "F03", SKIP, "there is only one class")
    lines: list[str] = []
    statistic: dict[str, Any] = {}
    for name in ORIGINS:
        coded = text_values(manifest, name).dictionary_encode()
        words = coded.dictionary.to_pylist()
        code = coded.indices.to_numpy().astype(np.int64)
        table = np.stack([np.bincount(code[label == k], minlength=len(words)) for k in (REAL, FAKE)])
        if "" in words:
            table[:, words.index("")] = 0
        if (table.sum(axis=0) > 0).sum() < 2:
            continue
        pure = table[:, (table > 0).sum(axis=0) == 1].sum()
        share = float(pure) / max(int(table.sum()), 1)
        statistic[f"share_of_samples_whose_{name}_has_one_class"] = round(share, 4)
        if share > DOMINANT:
            lines.append(f"{share:.0%} of the samples come from a {name} that holds one class only")
    kind, rows, values = id_columns(manifest)[0]
    coded = values.dictionary_encode()
    for number, word in enumerate(LABEL_WORDS):
        here = label[rows] == number
        if not here.any():
            continue
        counts = np.bincount(coded.indices.to_numpy()[here])
        share = float(counts.max()) / n[word]
        statistic[f"largest_{kind}_share_of_{word}"] = round(share, 4)
        if share > DOMINANT:
            lines.append(f"one {kind} makes {share:.0%} of the {word} samples")
    if not lines:
        return AuditFinding("origin", "F03", PASS, "no place or person stands for a class", statistic)
    hint = "Report by origin and leave generators, places and people out in turn: a detector can learn the place."
    return AuditFinding("origin", "F03", WARN, "; ".join(lines), statistic, hint=hint)
