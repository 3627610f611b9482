"""Committed score tables: a study or a bundle's scores, small, without names of files or people, and read back."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from deepassay.errors import ConfigError, ScoreError
from deepassay.files import atomic_path, sha256_bytes, write_json
from deepassay.labels import REAL
from deepassay.metrics.decision import threshold_at_bpcer
from deepassay.pipelines.study_plan import Training, run_folder
from deepassay.pipelines.study_report import CHOSEN, GroupTrials
from deepassay.scores import SCHEMA, ScoreTable

SCHEMA_VERSION = "1"
_DEV_OF = "dev of "
_AGAIN = "restore it from version control, or build the tables again (scripts/build_reference.py)"
_ABSOLUTE = re.compile(r"(?<![\w.~$}/:])/(?:[\w.@+-]+/)*(?=[\w.@+-]+)")
_CHANNELS = pa.schema(
    [("sample_id", pa.string()), ("training", pa.string()), ("channel", pa.string()), ("strength", pa.float32()),
     ("score", pa.float32())]
)  # fmt: skip


def placeless(value: Any) -> Any:
    """The same JSON value with the folders of absolute paths replaced by FOLDER: what anyone can put in their own."""
    if isinstance(value, Mapping):
        return {key: placeless(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [placeless(item) for item in value]
    return _ABSOLUTE.sub("FOLDER/", value) if isinstance(value, str) else value


def typed(provenance: Mapping[str, Any]) -> str:
    """The command of a provenance record as one would type it: no quotes about the verb, no single stages."""
    command = re.sub(r"^[\"'](deepassay \w+)[\"']", r"\1", str(provenance.get("command", "")))
    return re.sub(r" stages=\S+", "", command)


def pseudonyms(names: Sequence[str], letter: str) -> dict[str, str]:
    """Name -> a letter and a number, counted in the order of their hashes, so that the order tells nothing either."""
    known = sorted(set(names), key=lambda name: sha256_bytes(name.encode()))
    return {name: f"{letter}{number:05d}" for number, name in enumerate(known, start=1)}


# --- studies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyTables:
    """A study as its committed tables hold it.

    Args:
        facts: name, modality, arms, baselines, choices, notes, design, how it is measured; plain JSON.
        groups: trials of every left-out group with the scores of every system, counted from dev thresholds.
        kept: view -> group -> which trials (n,).
        nuisances: pseudonym -> name -> value.
        channels: group -> Parquet file of scores through channels.
        thresholds: (training, group) -> threshold that dev fixed, for the channels.
    """

    facts: Mapping[str, Any]
    groups: list[GroupTrials]
    kept: dict[str, dict[str, np.ndarray]]
    nuisances: dict[str, dict[str, float]]
    channels: dict[str, Path]
    thresholds: dict[tuple[str, str], float]

    @property
    def chosen(self) -> dict[str, str]:
        """Group -> arm that the nested rule chose; the only arm where there is one."""
        return _chosen(self.facts["arms"], self.facts["groups"], self.facts["choices"])


def _chosen(arms: Iterable[str], groups: Iterable[str], choices: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    known = list(arms)
    if len(known) == 1:
        return dict.fromkeys(groups, known[0])
    return {choice["group"]: choice["chosen"] for choice in choices}


def study_files(scores: Path) -> list[Path]:
    """Facts of every committed study in a folder."""
    return sorted(scores.glob("study-*.json"))


def pack_study(study: str | Path, scores: str | Path, name: str) -> Path:
    """Write a finished study as ``study-NAME.json``, ``study-NAME.parquet`` and ``channels-NAME.GROUP.parquet``.

    Args:
        study: folder that `deepassay study` wrote, its report included.
        scores: folder to write to.

    Returns:
        the JSON file.

    Raises:
        ConfigError: not a study, or one without its report.
    """
    folder, target = Path(study), Path(scores)
    for needed in ("config.yaml", "study_results.json", "nuisances.json"):
        if not (folder / needed).is_file():
            raise ConfigError(
                f"{folder} has no {needed}: not a finished study",
                hint="run the same `deepassay study` command to its end, the report included",
            )
    settings = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    result = json.loads((folder / "study_results.json").read_text(encoding="utf-8"))
    by, seeds = str(settings["by"]), [int(seed) for seed in settings["seeds"]]
    rows, systems, channel_words = _read_rows(folder, settings, result, seeds, by)
    ids = pseudonyms([row["id"] for row in rows], "s")
    clusters = pseudonyms([row["cluster"] for row in rows], "c")
    nuisances = json.loads((folder / "nuisances.json").read_text(encoding="utf-8"))["values"]
    gone = {str(subject) for subject in settings.get("without_subjects") or ()}
    names = sorted({key for row in rows for key in nuisances.get(row["id"], {})})
    columns: dict[str, Any] = {
        "group": _words(row["group"] for row in rows),
        "part": _words(row["part"] for row in rows),
        "id": pa.array([ids[row["id"]] for row in rows]),
        "label": pa.array([row["label"] for row in rows], pa.int8()),
        "cluster": _words(clusters[row["cluster"]] for row in rows),
        "generator": _words(row["generator"] for row in rows),
        "place": _words(row["place"] for row in rows),
    }
    if gone:
        columns["kept"] = pa.array([not gone & row["subjects"] for row in rows])
    for key in names:
        columns[f"nuisance/{key}"] = _floats(
            nuisances.get(row["id"], {}).get(key) if row["part"] == "test" else None for row in rows
        )
    for system in systems:
        columns[f"score/{system}"] = _floats(row["scores"].get(system) for row in rows)
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"channels-{name}.*.parquet"):
        old.unlink()
    _write(target / f"study-{name}.parquet", pa.table(columns))
    for group in settings["groups"]:
        path = folder / "robustness" / f"{group}.parquet"
        if path.is_file() and channel_words:
            held = [{**row, "sample_id": ids[row["sample_id"]]} for row in pq.read_table(path).to_pylist()]
            # Steps stay in the order of their ladder, mildest first; within a step by id, which is small on disk.
            steps = {key: place for place, key in enumerate(dict.fromkeys(map(_step, held)))}
            held.sort(key=lambda row: (steps[_step(row)], row["sample_id"]))
            _write(target / f"channels-{name}.{group}.parquet", pa.Table.from_pylist(held, schema=_CHANNELS))
    facts = {
        "schema": SCHEMA_VERSION,
        "name": name,
        "study": settings["name"],
        "modality": settings["modality"],
        "synthetic": bool(result["synthetic"]),
        "by": by,
        "arms": list(settings["arms"]),
        "seeds": seeds,
        "baselines": [b for b in settings["baselines"] if b in systems],
        "groups": {
            group: {
                "generators": list(node["generators"]), "reals": list(node.get("reals") or ()),
                **result["design"].get(group, {}),
            }
            for group, node in settings["groups"].items()
        },
        "view": f"without {', '.join(sorted(gone))}" if gone else "",
        "dev_bpcer": float(settings["dev_bpcer"]),
        "replicates": int(settings["replicates"]),
        "shortcut_replicates": int(settings["shortcut_replicates"]),
        "choices": [_choice(choice) for choice in result["choice"]],
        "notes": result["notes"],
        "channel_trainings": channel_words,
        "command": _command(folder),
        "created": result["created"],
        "code": result["code"],
        "manifest_sha256": result["manifest_sha256"],
        "table_sha256s": {run: facts["tables"] for run, facts in result["tables"].items() if facts.get("tables")},
    }  # fmt: skip
    write_json(target / f"study-{name}.json", placeless(facts))
    return target / f"study-{name}.json"


def _step(row: Mapping[str, Any]) -> tuple[str, str, float]:
    return row["training"], row["channel"], row["strength"]


def _read_rows(
    folder: Path, settings: Mapping[str, Any], result: Mapping[str, Any], seeds: Sequence[int], by: str
) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Rows of the dev reals and of all trials, with the scores of every system; systems; words of the channels."""
    chosen = _chosen(settings["arms"], settings["groups"], result["choice"])
    node = settings.get("robustness") or {}
    variant = dict(node.get("variant") or {})
    variant_word = str(variant.get("word") or "variant") if variant else ""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    systems: dict[str, None] = {}
    words: dict[str, None] = {}
    for group in settings["groups"]:
        for arm in settings["arms"]:
            for seed in seeds:
                run = run_folder(folder, Training("outer", arm, (group,), seed)) / "scores"
                files = {"test": run / "test.parquet", "dev": run / "dev.parquet"}
                _add_scores(rows, systems, group, f"{arm}/{seed}", files, by)
        for baseline in settings["baselines"]:
            place = folder / "baselines" / baseline
            files = {part: place / f"{group}.{part}.parquet" for part in ("test", "dev")}
            _add_scores(rows, systems, group, baseline, files, by)
        if group in chosen and (folder / "robustness" / f"{group}.parquet").is_file():
            words[str(node.get("word") or "as chosen")] = None
            if variant_word:
                run = run_folder(folder, Training("variant", chosen[group], (group,), seeds[0], variant_word))
                dev = {"dev": run / "scores" / "dev.parquet"}
                if _add_scores(rows, systems, group, f"{_DEV_OF}{variant_word}", dev, by):
                    words[variant_word] = None
    if not rows:
        raise ConfigError(f"{folder} holds no scores", hint="run the stages outer and baselines of the study")
    return list(rows.values()), list(systems), list(words)


def _add_scores(
    rows: dict[tuple[str, str, str], dict[str, Any]], systems: dict[str, None], group: str, system: str,
    files: Mapping[str, Path], by: str,
) -> bool:  # fmt: skip
    """Put the scores of one system for one group into the rows; of dev the reals alone, which thresholds rest on."""
    if not all(path.is_file() for path in files.values()):
        return False
    fields = ("sample_id", "label", "cluster", "generator", "subjects", "attributes", "score")
    for part, path in files.items():
        table = ScoreTable.read(path)
        for values in zip(*(table.column(name) for name in fields), strict=True):
            row = dict(zip(fields, values, strict=True))
            if part == "dev" and row["label"] != REAL:
                continue
            held = rows.setdefault(
                (group, part, row["sample_id"]),
                {
                    "group": group, "part": part, "id": row["sample_id"], "label": int(row["label"]),
                    "cluster": str(row["cluster"]), "generator": str(row["generator"] or ""),
                    "place": str(dict(row["attributes"] or []).get(by, "")), "subjects": set(row["subjects"] or ()),
                    "scores": {},
                },
            )  # fmt: skip
            held["scores"][system] = None if np.isnan(row["score"]) else float(row["score"])
    systems[system] = None
    return True


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: choice[key] for key in ("group", "chosen", "means", "by", "on", "written_at", "scored_before", "sha256")
    }


def _command(folder: Path) -> str:
    """What was typed, as the first finished training recorded it."""
    for path in sorted((folder / "runs").rglob("provenance.json")):
        return typed(json.loads(path.read_text(encoding="utf-8")))
    return ""


def _words(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.string()).dictionary_encode()


def _floats(values: Iterable[float | None]) -> pa.Array:
    return pa.array(list(values), pa.float32())


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19)


def read_study(facts_path: str | Path) -> StudyTables:
    """What `pack_study` wrote.

    Raises:
        ScoreError: a file of it is missing or of another schema.
    """
    path = Path(facts_path)
    facts = _facts(path)
    name, target = facts["name"], float(facts["dev_bpcer"])
    table = _table(path.with_suffix(".parquet"))
    columns = {key: np.array(table.column(key).to_pylist(), dtype=object) for key in table.column_names}
    seeds, systems = facts["seeds"], [key.removeprefix("score/") for key in columns if key.startswith("score/")]
    scores = {system: columns[f"score/{system}"].astype(np.float64) for system in systems}
    groups: list[GroupTrials] = []
    thresholds: dict[tuple[str, str], float] = {}
    kept: dict[str, dict[str, np.ndarray]] = {"all trials": {}}
    chosen = _chosen(facts["arms"], facts["groups"], facts["choices"])
    for group in facts["groups"]:
        here = columns["group"] == group
        parts = {part: here & (columns["part"] == part) for part in ("dev", "test")}
        if not parts["test"].any():
            continue

        def pair(system: str, parts: Mapping[str, np.ndarray] = parts) -> tuple[ScoreTable, ScoreTable] | None:
            if system not in scores or not np.isfinite(scores[system][parts["test"]]).any():
                return None
            dev, test = (_score_table(columns, parts[word], scores[system], facts["by"]) for word in ("dev", "test"))
            return dev, test

        trials = GroupTrials(group, _score_table(columns, parts["test"], None, facts["by"]))
        for arm in facts["arms"]:
            pairs = [found for seed in seeds if (found := pair(f"{arm}/{seed}")) is not None]
            if pairs:
                trials.add(arm, pairs, target)
                if chosen.get(group) == arm:
                    trials.add(CHOSEN, pairs, target)
        for baseline in facts["baselines"]:
            if (found := pair(baseline)) is not None:
                trials.add(baseline, [found], target)
        groups.append(trials)
        kept["all trials"][group] = np.ones(len(trials.ids), dtype=bool)
        if facts["view"]:
            kept.setdefault(facts["view"], {})[group] = columns["kept"][parts["test"]].astype(bool)
        arm = chosen.get(group, facts["arms"][0])
        for position, word in enumerate(facts["channel_trainings"]):
            dev = scores.get(f"{arm}/{seeds[0]}" if position == 0 else f"{_DEV_OF}{word}", np.array([]))
            values = dev[parts["dev"]] if dev.size else dev
            values = values[np.isfinite(values)]
            if values.size:
                thresholds[word, group] = threshold_at_bpcer(np.zeros(values.size, dtype=int), values, target)
    nuisances: dict[str, dict[str, float]] = {}
    named = [key for key in columns if key.startswith("nuisance/")]
    for row in np.flatnonzero(columns["part"] == "test"):
        found = {key.removeprefix("nuisance/"): columns[key][row] for key in named if columns[key][row] is not None}
        if found:
            nuisances[columns["id"][row]] = {key: float(value) for key, value in found.items()}
    channels = {g.name: path.with_name(f"channels-{name}.{g.name}.parquet") for g in groups}
    channels = {group: file for group, file in channels.items() if file.is_file()}
    return StudyTables(facts, groups, kept, nuisances, channels, thresholds)


def _score_table(columns: Mapping[str, np.ndarray], some: np.ndarray, score: np.ndarray | None, by: str) -> ScoreTable:
    """Rows as a `ScoreTable`, with what is known of them."""
    n = int(some.sum())
    values = np.full(n, np.nan) if score is None else score[some]
    known = {
        "sample_id": columns["id"][some].tolist(), "label": columns["label"][some].tolist(),
        "cluster": columns["cluster"][some].tolist(), "generator": columns["generator"][some].tolist(),
        "subjects": [[]] * n,
        "attributes": [[(by, place)] if place else [] for place in columns["place"][some]],
        "score": [float(v) if np.isfinite(v) else None for v in values],
        "status": ["ok" if np.isfinite(v) else "error" for v in values],
    }  # fmt: skip
    arrays = [pa.array(known.get(field.name, [None] * n), field.type) for field in SCHEMA]
    return ScoreTable(pa.Table.from_arrays(arrays, schema=SCHEMA), {})


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["schema"] != SCHEMA_VERSION:
            raise ValueError(f"schema {facts['schema']!r}, this version reads {SCHEMA_VERSION}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoreError(f"{path}: cannot be read ({error})", hint=_AGAIN) from error
    return facts


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ScoreError(f"{path}: not a readable Parquet file ({error})", hint=_AGAIN) from error


# --- scores of a bundle ---------------------------------------------------------------------------------------------


def pack_scores(table: ScoreTable, path: str | Path, *, by: str, about: Mapping[str, Any]) -> None:
    """Write a bundle's calibrated scores as Parquet: pseudonyms, label, generator, place, duration, status, score, llr.

    Args:
        table: calibrated. path: to write. by: attribute that names a sample's place.
        about: plain facts that the card shows: set, bundle, command ...

    Raises:
        ScoreError: the table is not calibrated.
    """
    if not table.meta.get("calibrated"):
        raise ScoreError(f"{path}: scores without llr", hint="score with a bundle: `deepassay evaluate`")
    ids = pseudonyms(table.column("sample_id").tolist(), "s")
    clusters = pseudonyms([str(c) for c in table.column("cluster")], "c")
    columns = {
        "id": pa.array([ids[i] for i in table.column("sample_id")]),
        "label": pa.array(table.column("label").tolist(), pa.int8()),
        "cluster": _words(clusters[str(c)] for c in table.column("cluster")),
        "generator": _words(str(g or "") for g in table.column("generator")),
        "place": _words(str(dict(a or []).get(by, "")) for a in table.column("attributes")),
        "status": _words(map(str, table.column("status"))),
        # In full: an llr may lie on a threshold.
        "score": pa.array([None if np.isnan(v) else float(v) for v in table.column("score")], pa.float64()),
        "llr": pa.array([None if np.isnan(v) else float(v) for v in table.column("llr")], pa.float64()),
    }
    facts = placeless({**about, "schema": SCHEMA_VERSION, "by": by, "table_sha256": table.hash})
    meta = {b"deepassay.reference": json.dumps(facts, sort_keys=True).encode()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _write(Path(path), pa.table(columns).replace_schema_metadata(meta))


def read_scores(path: str | Path) -> tuple[ScoreTable, dict[str, Any]]:
    """What `pack_scores` wrote, and its facts.

    Raises:
        ScoreError: not such a file.
    """
    table = _table(Path(path))
    raw = (table.schema.metadata or {}).get(b"deepassay.reference")
    if raw is None:
        raise ScoreError(f"{path}: not a table of a bundle's scores", hint=_AGAIN)
    facts = json.loads(raw)
    columns = {key: np.array(table.column(key).to_pylist(), dtype=object) for key in table.column_names}
    every = np.ones(table.num_rows, dtype=bool)
    out = _score_table(columns, every, columns["score"].astype(np.float64), facts["by"]).table
    for name in ("status", "llr"):
        held = pa.array(columns[name].tolist(), SCHEMA.field(name).type)
        out = out.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), held)
    return ScoreTable(out, {"calibrated": True, "detector": facts.get("bundle_name", "")}), facts
