"""ScoreTable: one row per sample of a manifest, scored or not; the waist where any detector's output is judged."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepassay.errors import ScoreError
from deepassay.files import atomic_path, canonical_json, sha256_bytes
from deepassay.labels import Status
from deepassay.manifest import Manifest, Sample

SCHEMA_VERSION = "1"
KEYS = (
    "sample_id", "label", "media", "modality", "cluster", "source_id", "subjects", "generator", "generator_family",
    "corpus", "split", "channel", "attributes", "duration_s",
)  # fmt: skip
_TYPES: dict[str, pa.DataType] = {
    "label": pa.int8(),
    "subjects": pa.list_(pa.string()),
    "attributes": pa.map_(pa.string(), pa.string()),
    "duration_s": pa.float64(),
    "score": pa.float64(),
    "llr": pa.float64(),
    "n_views": pa.int32(),
    "n_tracks": pa.int32(),
    "seconds": pa.float64(),
}
COLUMNS = (*KEYS, "score", "llr", "status", "reason", "n_views", "n_tracks", "seconds")
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a detector said of one sample: a score (higher = more likely fake), or a status and reason instead."""

    score: float | None = None
    status: Status = Status.OK
    reason: str = ""
    n_views: int = 0
    n_tracks: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ScoreTable:
    """Rows for every sample, in manifest order, with what is known about how they came to be.

    Args:
        table: Arrow table with exactly `SCHEMA`; ``score`` is null unless status is ok.
        meta: ``detector`` (name), ``detector_sha256``, ``bundle_sha256``, ``manifest_sha256``, ``config_fingerprint``,
            ``code`` (provenance), ``calibrated`` (bool), ``dev_table_sha256`` (calibration's), ``synthetic`` (bool),
            ``corpus`` (name). JSON values only.
    """

    table: pa.Table
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_scored(
        cls, manifest: Manifest, scored: Mapping[str, Scored], meta: Mapping[str, Any] | None = None
    ) -> "ScoreTable":
        """Join detector output to a manifest by sample_id.

        Raises:
            ScoreError: a sample without an entry, an entry without a sample, a score that is not finite, or a
                non-response that carries a score.
        """
        return cls.from_rows(
            ((sample, scored.get(sample.sample_id)) for sample in manifest),
            {
                "manifest_sha256": manifest.hash,
                "synthetic": manifest.synthetic,
                "corpus": manifest.name,
                **(meta or {}),
            },
            extra=set(scored) - set(manifest.column("sample_id")),
        )

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[tuple[Sample, Scored | None]],
        meta: Mapping[str, Any],
        *,
        extra: Iterable[str] = (),
    ) -> "ScoreTable":
        """Build from (sample, outcome) pairs; see `from_scored`."""
        out = []
        for sample, outcome in rows:
            if outcome is None:
                raise ScoreError(
                    f"sample {sample.sample_id!r} of the manifest has no entry in the scores",
                    hint="every sample needs a score or a status; add the row with a status such as error",
                )
            if (outcome.score is None) == (outcome.status == Status.OK):
                raise ScoreError(
                    f"sample {sample.sample_id!r} has score {outcome.score} and status {outcome.status}",
                    hint="a score belongs to status ok and to nothing else",
                )
            if outcome.score is not None and not np.isfinite(outcome.score):
                raise ScoreError(
                    f"sample {sample.sample_id!r} has score {outcome.score}",
                    hint="find out why the detector returned it; report the sample with status error until then",
                )
            row: dict[str, Any] = {name: getattr(sample, name) for name in KEYS}
            row["subjects"] = list(sample.subjects)
            row["attributes"] = sorted(sample.attributes.items())
            row |= {
                "score": outcome.score, "llr": None, "status": str(outcome.status), "reason": outcome.reason,
                "n_views": outcome.n_views, "n_tracks": outcome.n_tracks, "seconds": outcome.seconds,
            }  # fmt: skip
            out.append(row)
        left = sorted(extra)
        if left:
            raise ScoreError(
                f"{len(left)} scored ids are not in the manifest, the first is {left[0]!r}",
                hint="score the manifest you evaluate on, or correct the ids",
            )
        return cls(pa.Table.from_pylist(out, schema=SCHEMA), dict(meta))

    def patched(self, other: "ScoreTable") -> "ScoreTable":
        """This table with the rows of another in place of its own of the same ids: what was scored again.

        Raises:
            ScoreError: an id that this table does not have, or scores of another detector or calibration.
        """
        place = {name: i for i, name in enumerate(self.table.column("sample_id").to_pylist())}
        strange = [name for name in other.table.column("sample_id").to_pylist() if name not in place]
        about = [{k: v for k, v in t.meta.items() if k not in ("manifest_sha256", "code")} for t in (self, other)]
        if strange or about[0] != about[1]:
            raise ScoreError(
                f"rows of another table cannot be put in: {strange[:1] or 'they were scored differently'}",
                hint="score the whole manifest again with one detector, bundle and setting",
            )
        both = pa.concat_tables([self.table, other.table])
        order = np.arange(len(self))
        for i, name in enumerate(other.table.column("sample_id").to_pylist()):
            order[place[name]] = len(self) + i
        return ScoreTable(both.take(pa.array(order)).combine_chunks(), self.meta)

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> np.ndarray:
        """A column (n,): floats with NaN for null in score, llr, duration_s, seconds; labels with -1; else objects."""
        values = self.table.column(name).to_pylist()
        if name in ("score", "llr", "duration_s", "seconds"):
            return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        if name == "label":
            return np.array([-1 if v is None else v for v in values], dtype=np.int8)
        if name in ("n_views", "n_tracks"):
            return np.array([0 if v is None else v for v in values], dtype=np.int32)
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out

    @property
    def answered(self) -> np.ndarray:
        """Boolean (n,): status is ok."""
        return self.column("status") == str(Status.OK)

    @property
    def synthetic(self) -> bool:
        """True where the samples come from the built-in synthetic corpora (law 10)."""
        return bool(self.meta.get("synthetic", False))

    @property
    def hash(self) -> str:
        """Content hash of ids, labels, scores, llrs, statuses and clusters; independent of order and of timings."""
        names = ("sample_id", "label", "cluster", "generator", "split", "score", "llr", "status")
        columns = [self.table.column(name).to_pylist() for name in names]
        rows = sorted(canonical_json(list(row)) for row in zip(*columns, strict=True))
        return sha256_bytes(b"\n".join([SCHEMA_VERSION.encode(), *rows]))

    def select(self, keep: np.ndarray) -> "ScoreTable":
        """Rows where a boolean mask (n,) is true."""
        return ScoreTable(self.table.filter(pa.array(np.asarray(keep, dtype=bool).tolist(), pa.bool_())), self.meta)

    def with_llr(self, llr: np.ndarray, *, dev_table_sha256: str) -> "ScoreTable":
        """A copy with calibrated llrs (n,), NaN where there is no score, naming the dev table they were fitted on.

        Raises:
            ScoreError: not one llr per row, an infinite one, or one where there is no score.
        """
        llr = np.asarray(llr, dtype=np.float64)
        if llr.shape != (len(self),) or np.isinf(llr).any() or (~np.isnan(llr) & np.isnan(self.column("score"))).any():
            raise ScoreError(
                f"{llr.size} llrs for {len(self)} rows, or llrs that are infinite or stand where there is no score",
                hint="calibrate the table's own score column; rows without a score keep NaN",
            )
        values = [None if np.isnan(v) else float(v) for v in llr]
        table = self.table.set_column(COLUMNS.index("llr"), SCHEMA.field("llr"), pa.array(values, pa.float64()))
        return ScoreTable(table, {**self.meta, "calibrated": True, "dev_table_sha256": dev_table_sha256})

    def write(self, path: str | Path) -> None:
        """Write Parquet atomically with the metadata and the content hash inside."""
        meta = {
            b"deepassay.scores": json.dumps(
                {"schema": SCHEMA_VERSION, "meta": dict(self.meta), "hash": self.hash}
            ).encode()
        }
        with atomic_path(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata(meta), temporary)

    @classmethod
    def read(cls, path: str | Path) -> "ScoreTable":
        """Read what `write` wrote.

        Raises:
            ScoreError: not such a file, or its rows do not match the content hash recorded in it.
        """
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise ScoreError(f"{path}: not a readable Parquet file ({error})", hint="evaluate again") from error
        raw = (table.schema.metadata or {}).get(b"deepassay.scores")
        if raw is None or tuple(table.column_names) != COLUMNS:
            raise ScoreError(
                f"{path}: not a deepassay score table", hint="import other people's scores with an adapter"
            )
        head = json.loads(raw)
        if head.get("schema") != SCHEMA_VERSION:
            raise ScoreError(
                f"{path}: a score table of schema {head.get('schema')}, this version reads {SCHEMA_VERSION}",
                hint="evaluate again with this version",
            )
        out = cls(table.replace_schema_metadata(None).cast(SCHEMA), head["meta"])
        if out.hash != head["hash"]:
            raise ScoreError(
                f"{path}: rows were changed after the table was written", hint="restore the file or evaluate again"
            )
        return out
