"""study: recipes measured on tools, people and places that they never saw, beside plain baselines on the same trials.

One command, resumable: every training is a run folder below ``runs/``; what is finished is skipped. In this order:
trainings that leave out two groups (to choose with), the choice per left-out group, written before anything else is
scored; trainings that leave out one group; baselines; channels; then tables from score files alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from deepassay.errors import ConfigError
from deepassay.files import fingerprint, write_json, write_text
from deepassay.labels import REAL
from deepassay.manifest import Manifest
from deepassay.metrics.decision import threshold_at_bpcer, worst_case_scores
from deepassay.metrics.ranking import auc, eer
from deepassay.modality.views import Modality
from deepassay.pipelines.build import build, config_fingerprint, take
from deepassay.pipelines.prepare import ensure_finder, open_store, read_corpus
from deepassay.pipelines.study_baselines import run_baseline
from deepassay.pipelines.study_nuisances import trial_nuisances
from deepassay.pipelines.study_plan import (
    Arm,
    Design,
    Training,
    compose_train,
    inner_trainings,
    outer_trainings,
    read_arms,
    run_folder,
    training_config,
)
from deepassay.pipelines.study_report import (
    AS_ERROR,
    CHOSEN,
    LEFT_OUT,
    RANKING,
    GroupTrials,
    markdown,
    measure_groups,
    shortcuts,
    slices,
    spread_of_seeds,
)
from deepassay.pipelines.study_robustness import measure_channels, score_channels
from deepassay.pipelines.study_trials import (
    DONE,
    FACTS,
    IMPOSSIBLE,
    StudyInterrupted,
    facts_of,
    finished,
    run_jobs,
    table_of,
    train_and_score,
)
from deepassay.pipelines.terminal import terminal
from deepassay.provenance import code_identity
from deepassay.scores import ScoreTable
from deepassay.store import Store

KEYS = {
    "name", "root", "overrides", "base", "arms", "groups", "by", "kin", "leave_kin_out", "dev_fraction", "split_seed",
    "seeds", "inner", "choose_by", "baselines", "metrics", "without_subjects", "views", "dev_bpcer", "replicates",
    "shortcut_replicates", "robustness", "store", "workers", "threads", "keep_checkpoints", "stages", "modality",
}  # fmt: skip
# What may not change while a study goes on.
PLAN = (
    "overrides", "base", "arms", "groups", "by", "kin", "leave_kin_out", "dev_fraction", "split_seed", "inner",
    "choose_by", "modality",
)  # fmt: skip
STAGES = ("inner", "outer", "baselines", "robustness", "report")
CHOOSE_BY: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auc": auc,
    "eer": lambda labels, scores: -eer(labels, scores),
}


@dataclass
class Study:
    """Everything that the stages of one study share."""

    settings: Mapping[str, Any]
    folder: Path
    console: Console
    arms: dict[str, Arm]
    design: Design
    configs: dict[str, dict[str, Any]]
    base: dict[str, Any]
    manifest: Manifest
    folds: dict[str, Manifest]
    modality: Modality
    store: Store

    @property
    def test_ids(self) -> dict[str, set[str]]:
        """Ids of the trials of every group."""
        return {name: set(fold.split("test").column("sample_id")) for name, fold in self.folds.items()}

    def config(self, training: Training) -> dict[str, Any]:
        """The configuration of one training."""
        word = training.arm if training.stage == "outer" else f"{training.arm}:{training.stage}"
        arm = self.arms[training.arm]
        return training_config(self.configs[word], training, arm, self.design, self.settings["store"])

    def run(self, trainings: Sequence[Training], title: str) -> None:
        """Train and score what is not finished yet."""
        jobs = []
        for training in trainings:
            folder, config = run_folder(self.folder, training), self.config(training)
            if not finished(folder, config):
                arguments = (config, folder, int(self.settings["views"]), bool(self.settings["keep_checkpoints"]))
                jobs.append((training.name, train_and_score, arguments))
        skipped = len(trainings) - len(jobs)
        self.console.print(f"[bold]{title}[/]  {len(jobs)} to do{f', {skipped} finished before' if skipped else ''}")
        self.jobs(jobs, title)

    def jobs(self, jobs: Sequence[tuple[str, Any, tuple[Any, ...]]], title: str) -> None:
        """Run jobs in this study's worker processes."""
        workers, threads = int(self.settings["workers"]), int(self.settings["threads"])
        run_jobs(jobs, workers=workers, threads=threads, console=self.console, title=title)

    def tables(self, training: Training) -> tuple[ScoreTable, ScoreTable] | None:
        """Dev and test scores of a finished training; None where it was impossible or is missing."""
        folder = run_folder(self.folder, training)
        if not (folder / FACTS).is_file() or facts_of(folder)["status"] != DONE:
            return None
        return table_of(folder, "dev"), table_of(folder, "test")


def study(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay study study=faces root=FOLDER`: returns 0, or 130 where an interruption left a resumable study.

    Raises:
        ConfigError: an unknown key, arm, stage, baseline or metric; a folder that holds another study.
        ManifestError: see `CrossHoldout`.
        AssayError: a training failed; the others are kept.
    """
    settings = take(config, KEYS, verb="study")
    unknown = (
        [s for s in settings["stages"] if s not in STAGES]
        + [m for m in settings["metrics"] if m not in RANKING]
        + ([] if settings["choose_by"] in CHOOSE_BY else [settings["choose_by"]])
    )
    if unknown:
        raise ConfigError(
            f"study: there is no stage or metric {unknown[0]!r}",
            hint=f"stages: {', '.join(STAGES)}; metrics: {', '.join(RANKING)}; choose_by: {', '.join(CHOOSE_BY)}",
        )
    console = terminal()
    made = _open(settings, folder, console)
    stages = settings["stages"]
    try:
        if "inner" in stages and len(made.arms) > 1:
            made.run(inner_trainings(made.design, made.arms, settings["inner"]["seeds"]), "inner trainings")
            _choose(made)
        if "outer" in stages:
            made.run(outer_trainings(made.design, made.arms, settings["seeds"]), "outer trainings")
        if "baselines" in stages:
            _baselines(made)
        if "robustness" in stages and settings["robustness"]:
            _robustness(made)
    except (StudyInterrupted, KeyboardInterrupt):
        console.print(f"interrupted; the same command goes on from here (study {folder})")
        return 130
    if "report" in stages:
        _report(made)
    return 0


def _open(settings: Mapping[str, Any], folder: Path, console: Console) -> Study:
    arms = read_arms(settings["arms"])
    design = Design(
        groups=settings["groups"], by=str(settings["by"]), kin=settings["kin"],
        leave_kin_out=settings["leave_kin_out"], dev_fraction=float(settings["dev_fraction"]),
        seed=int(settings["split_seed"]),
    )  # fmt: skip
    plan = {k: settings[k] for k in PLAN}
    before = folder / "plan.json"
    if before.is_file() and json.loads(before.read_text(encoding="utf-8"))["fingerprint"] != fingerprint(plan):
        raise ConfigError(
            f"{folder} holds a study with another plan", hint="choose another name=..., or remove that folder"
        )
    shared = [str(o) for o in settings["overrides"]]
    console.print(f"[bold]study[/] {settings['name']}: {len(arms)} arms, {len(design.groups)} groups")
    configs: dict[str, dict[str, Any]] = {}
    variant = [str(o) for o in (settings["robustness"] or {}).get("variant", {}).get("overrides", [])]
    for name, arm in arms.items():
        own = [*shared, *arm.overrides]
        configs[name] = compose_train(own)
        if "inner" in settings["stages"] and len(arms) > 1:
            configs[f"{name}:inner"] = compose_train([*own, *map(str, settings["inner"].get("overrides") or [])])
        if variant:
            configs[f"{name}:variant"] = compose_train([*own, *variant])
    base = compose_train([*shared, *map(str, settings["base"])])
    ensure_finder(base["modality"])
    modality: Modality = build(base["modality"])
    manifest = read_corpus(base["corpus"], modality)
    folds = design.folds(manifest)
    mark = "  [bold]SYNTHETIC DATA[/]" if manifest.synthetic else ""
    console.print(f"[bold]corpus[/] {manifest.name}, {len(manifest)} samples{mark}")
    for name, fold in folds.items():
        info = fold.info["split"]
        cells = "  ".join(f"{s} {c['real']}+{c['fake']}" for s, c in sorted(info["counts"].items()))
        console.print(f"  without {name:<18} {cells}  (real+fake)  dropped {info['n_dropped']}")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))
    write_json(before, {"fingerprint": fingerprint(plan), "plan": plan, "manifest_sha256": manifest.hash})
    store = _prepare(configs, base, settings, manifest, modality, console)
    return Study(settings, folder, console, arms, design, configs, base, manifest, folds, modality, store)


def _prepare(
    configs: Mapping[str, Mapping[str, Any]], base: Mapping[str, Any], settings: Mapping[str, Any],
    manifest: Manifest, modality: Modality, console: Console,
) -> Store:  # fmt: skip
    """Prepare every corpus and modality that occurs once, before workers meet in the same store."""
    wanted = {**dict(base["store"]), **dict(settings["store"])}
    console.print("[bold]store[/]  preparing what is not prepared yet")
    store = open_store(wanted, manifest, modality)
    seen = {fingerprint([base["corpus"], base["modality"]])}
    for config in configs.values():
        mark = fingerprint([config["corpus"], config["modality"]])
        if mark not in seen:
            seen.add(mark)
            own: Modality = build(config["modality"])
            open_store(wanted, read_corpus(config["corpus"], own), own)
    return store


# --- choosing -------------------------------------------------------------------------------------------------------


def _value(table: ScoreTable, ids: set[str], choose_by: str) -> float:
    keep = np.array([i in ids for i in table.column("sample_id")])
    labels, score = table.column("label")[keep], table.column("score")[keep]
    filled = worst_case_scores(labels, score, np.isfinite(score))
    return CHOOSE_BY[choose_by](labels, filled)


def _choose(made: Study) -> None:
    """For every group the arm that is best on the other groups, among trainings that never saw either.

    The choice is written, with its time and hash, before any training that leaves out this group alone is scored. It
    is made on the other groups for which every arm could be trained.
    """
    ids, settings = made.test_ids, made.settings
    trainings = inner_trainings(made.design, made.arms, settings["inner"]["seeds"])
    values: dict[tuple[str, str, str], list[float]] = {}
    hashes: dict[Training, str] = {}
    for training in trainings:
        tables = made.tables(training)
        if tables is None:
            continue
        hashes[training] = tables[1].hash
        for outer, held in (training.groups, training.groups[::-1]):
            value = _value(tables[1], ids[held], settings["choose_by"])
            values.setdefault((outer, training.arm, held), []).append(value)
    for group in made.design.groups:
        path = made.folder / "choices" / f"{group}.json"
        others = [h for h in made.design.groups if h != group and all((group, a, h) in values for a in made.arms)]
        if not others:
            raise ConfigError(
                f"no inner training left out {group} and another group for every arm",
                hint="see study.json in the run folders below runs/inner for why; merge groups, or drop an arm",
            )
        means = {a: float(np.mean([np.mean(values[group, a, h]) for h in others])) for a in made.arms}
        chosen = max(made.arms, key=lambda a: means[a])
        record = {
            "group": group, "chosen": chosen, "means": means, "by": settings["choose_by"], "on": others,
            "not_on": [h for h in made.design.groups if h != group and h not in others],
            "values": {a: {h: float(np.mean(values[group, a, h])) for h in others} for a in made.arms},
            "tables": {t.name: mark for t, mark in hashes.items() if group in t.groups},
        }  # fmt: skip
        mark = fingerprint(record)
        if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["sha256"] == mark:
            continue
        opened = [t.name for t in outer_trainings(made.design, made.arms, settings["seeds"])
                  if t.groups == (group,) and made.tables(t) is not None]  # fmt: skip
        write_json(path, {**record, "sha256": mark, "written_at": datetime.now(UTC).isoformat(),
                          "scored_before": opened})  # fmt: skip
        made.console.print(
            f"  choice without {group}: {chosen}  ({', '.join(f'{a} {v:.3f}' for a, v in means.items())})"
        )


def read_choices(folder: Path) -> list[dict[str, Any]]:
    """Choices as they were written, by group."""
    found = sorted((folder / "choices").glob("*.json")) if (folder / "choices").is_dir() else []
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


# --- baselines and channels -----------------------------------------------------------------------------------------


def _baselines(made: Study) -> None:
    jobs = []
    for name, node in made.settings["baselines"].items():
        node = dict(node)
        if node.get("kind") == "published":
            overrides = [str(o) for o in node.pop("overrides", [])]
            shared = [str(o) for key in ("overrides", "base") for o in made.settings[key]]
            node["config"] = compose_train([*shared, *overrides])
        folder = made.folder / "baselines" / name
        mark = fingerprint(
            [node, config_fingerprint(made.base), made.manifest.hash, made.design.split(list(made.folds))]
        )
        facts = folder / FACTS
        if facts.is_file() and (folder / mark[:16]).is_file():
            continue
        arguments = (name, node, made.base, made.design, str(made.store.folder), folder, int(made.settings["views"]))
        jobs.append((name, run_baseline, arguments))
        folder.mkdir(parents=True, exist_ok=True)
        facts.unlink(missing_ok=True)
        write_text(folder / mark[:16], mark)
    made.console.print(f"[bold]baselines[/]  {len(jobs)} to do")
    made.jobs(jobs, "baselines")


def _variants(made: Study, chosen: Mapping[str, str]) -> dict[str, list[Training]]:
    """Trainings whose trials go through channels: word -> one per group, of the first seed."""
    node, seed = made.settings["robustness"], int(made.settings["seeds"][0])
    out = {str(node.get("word") or "as chosen"): [Training("outer", a, (g,), seed) for g, a in chosen.items()]}
    if node.get("variant"):
        word = str(node["variant"].get("word") or "variant")
        out[word] = [Training("variant", a, (g,), seed, word) for g, a in chosen.items()]
    return out


def _channel_path(made: Study, group: str) -> Path:
    return made.folder / "robustness" / f"{group}.parquet"


def _robustness(made: Study) -> None:
    chosen = _chosen(made)
    if not chosen:
        made.console.print("[bold]channels[/]  no recipe is chosen yet: left out")
        return
    node = made.settings["robustness"]
    variants = _variants(made, chosen)
    for word, trainings in variants.items():
        if trainings[0].stage == "variant":
            made.run(trainings, f"trainings {word}")
    jobs = []
    for group in chosen:
        runs = {
            word: str(run_folder(made.folder, training))
            for word, trainings in variants.items()
            for training in trainings
            if training.groups == (group,) and made.tables(training) is not None
        }
        path = _channel_path(made, group)
        if runs and not path.with_suffix(".json").is_file():
            arguments = (
                runs, list(node["ladders"]), int(node.get("strengths", 3)), node.get("per_class"),
                int(node.get("views") or made.settings["views"]), int(made.settings["split_seed"]), str(path),
            )  # fmt: skip
            jobs.append((group, score_channels, arguments))
    made.console.print(f"[bold]channels[/]  {len(jobs)} to do")
    made.jobs(jobs, "channels")


def _chosen(made: Study) -> dict[str, str]:
    """Chosen arm by group; the only arm where there is one."""
    if len(made.arms) == 1:
        return dict.fromkeys(made.design.groups, next(iter(made.arms)))
    return {c["group"]: c["chosen"] for c in read_choices(made.folder)}


# --- tables ---------------------------------------------------------------------------------------------------------


def _trials(made: Study) -> tuple[list[GroupTrials], list[str], list[str]]:
    """Groups with what every system says; systems in the order of the tables; baselines."""
    settings, chosen = made.settings, _chosen(made)
    target = float(settings["dev_bpcer"])
    groups: list[GroupTrials] = []
    for name in made.design.groups:
        by_arm = {}
        for arm in made.arms:
            pairs = [made.tables(Training("outer", arm, (name,), int(seed))) for seed in settings["seeds"]]
            by_arm[arm] = [pair for pair in pairs if pair is not None]
        baselines = {b: made.folder / "baselines" / b for b in settings["baselines"]}
        whole = [b for b, path in baselines.items() if (path / FACTS).is_file()]
        if not any(by_arm.values()) and not whole:
            continue
        first = next((pairs[0][1] for pairs in by_arm.values() if pairs), None)
        table = first if first is not None else ScoreTable.read(baselines[whole[0]] / f"{name}.test.parquet")
        trials = GroupTrials(name, table)
        for arm, pairs in by_arm.items():
            if pairs:
                trials.add(arm, pairs, target)
        if by_arm.get(chosen.get(name, "")):
            trials.add(CHOSEN, by_arm[chosen[name]], target)
        for b in whole:
            dev, test = (ScoreTable.read(baselines[b] / f"{name}.{split}.parquet") for split in ("dev", "test"))
            trials.add(b, [(dev, test)], target)
        groups.append(trials)
    order = [
        CHOSEN,
        f"{CHOSEN} (single)",
        *(w for a in made.arms for w in (a, f"{a} (single)")),
        *settings["baselines"],
    ]
    systems = [s for s in order if groups and all(s in g.systems for g in groups)]
    return groups, systems, [s for s in settings["baselines"] if s in systems]


def _report(made: Study) -> None:
    settings = made.settings
    groups, systems, baselines = _trials(made)
    if not groups or not systems:
        raise ConfigError("there is nothing to report yet", hint="run the stages inner, outer and baselines first")
    replicates, metrics = int(settings["replicates"]), list(settings["metrics"])
    choices = read_choices(made.folder)
    headline = CHOSEN if CHOSEN in systems else next((s for s in systems if s in made.arms), systems[0])
    everyone = {g.name: np.ones(len(g.ids), dtype=bool) for g in groups}
    views: dict[str, dict[str, np.ndarray]] = {"all trials": everyone}
    gone = set(settings["without_subjects"])
    if gone:
        named = f"without {', '.join(sorted(gone))}"
        views[named] = {g.name: np.array([not gone & set(p or ()) for p in g.subjects]) for g in groups}
    silent = any(not np.isfinite(v).all() for g in groups for s in systems for v in g.systems[s])
    made.console.print(f"[bold]report[/]  {len(systems)} systems, {len(groups)} groups, {replicates} replicates")
    results = []
    for view, keep in views.items():
        for nonresponse in (AS_ERROR, LEFT_OUT) if silent and view == "all trials" else (AS_ERROR,):
            block = measure_groups(
                groups, systems, metrics, keep=keep, view=view, nonresponse=nonresponse, replicates=replicates,
                seed=0, baselines=baselines, headline=headline,
            )  # fmt: skip
            results.append({"view": view, "nonresponse": nonresponse, **block})
    few = int(settings["shortcut_replicates"])
    shown = [headline, *baselines]
    inside, single = slices(groups, shown, str(settings["by"]), keep=everyone, replicates=few, seed=0)
    cache = made.folder / "nuisances.json"
    mark = [made.manifest.hash, made.modality.fingerprint]
    held = json.loads(cache.read_text(encoding="utf-8")) if cache.is_file() else {}
    if held.get("of") != mark:
        held = {"of": mark, "values": trial_nuisances(made.manifest, made.modality, made.store)}
        write_json(cache, held)
    arms = [a for a in made.arms if a in systems]
    result = {
        "schema": "1",
        "name": settings["name"],
        "created": datetime.now(UTC).isoformat(),
        "code": code_identity(),
        "synthetic": made.manifest.synthetic,
        "manifest_sha256": made.manifest.hash,
        "by": settings["by"],
        "headline": headline,
        "notes": _notes(made, groups, headline, choices),
        "design": {name: _counts(fold) for name, fold in made.folds.items()},
        "choice": choices,
        "results": results,
        "seeds": spread_of_seeds(groups, [*([CHOSEN] if CHOSEN in systems else []), *arms], metrics, everyone),
        "within_source": inside,
        "generators": single,
        "shortcuts": shortcuts(
            groups, shown, str(settings["by"]), held["values"], keep=everyone, replicates=few, seed=0
        ),
        "robustness": _channels(made, groups),
        "tables": _hashes(made),
    }  # fmt: skip
    write_json(made.folder / "study_results.json", result)
    text = markdown(result)
    write_text(made.folder / "study_results.md", text)
    made.console.print(f"  tables {made.folder / 'study_results.md'}, numbers {made.folder / 'study_results.json'}")
    _show(results[0], headline, baselines, made.console)


def _show(block: Mapping[str, Any], headline: str, baselines: Sequence[str], console: Console) -> None:
    from deepassay.pipelines.study_report import MACRO, MACRO_ALL, TITLES, cell

    for group in (MACRO, MACRO_ALL):
        rows = [n for n in block["numbers"] if n["group"] == group and n["metric"] in ("auc", "eer")]
        for row in rows:
            if row["system"] in (headline, *baselines):
                console.print(f"  {group}  {row['system']:<24} {TITLES[row['metric']]} {cell(row)}")
        for row in block["differences"]:
            if row["group"] == group and row["metric"] == "auc":
                console.print(f"  {group}  {headline} minus {row['second']}: AUC {cell(row)}")


def _channels(made: Study, groups: Sequence[GroupTrials]) -> list[dict[str, Any]]:
    chosen = _chosen(made)
    if not made.settings["robustness"] or not chosen:
        return []
    thresholds: dict[tuple[str, str], float] = {}
    for word, trainings in _variants(made, chosen).items():
        for training in trainings:
            tables = made.tables(training)
            if tables is not None:
                labels, score = tables[0].column("label"), tables[0].column("score")
                real = (labels == REAL) & np.isfinite(score)
                target = float(made.settings["dev_bpcer"])
                thresholds[word, training.groups[0]] = threshold_at_bpcer(labels[real], score[real], target)
    found = {g.name: _channel_path(made, g.name) for g in groups if _channel_path(made, g.name).is_file()}
    if not found:
        return []
    by_name = {g.name: g for g in groups}
    few = int(made.settings["shortcut_replicates"])
    return measure_channels(by_name, found, thresholds, replicates=few, seed=0)


def _counts(fold: Manifest) -> dict[str, Any]:
    info = fold.info["split"]
    return {"counts": info["counts"], "clusters": info["clusters"], "dropped": info["dropped"]}


def _hashes(made: Study) -> dict[str, Any]:
    out = {}
    for training in outer_trainings(made.design, made.arms, made.settings["seeds"]):
        folder = run_folder(made.folder, training)
        if (folder / FACTS).is_file():
            facts = facts_of(folder)
            out[training.name] = {k: facts.get(k) for k in ("status", "reason", "tables", "finished_at", "seconds")}
    return out


def _notes(
    made: Study, groups: Sequence[GroupTrials], headline: str, choices: Sequence[Mapping[str, Any]]
) -> list[str]:
    seeds = len(made.settings["seeds"])
    out = [
        f"Headline: {headline}, scores averaged over {seeds} seed(s) per trial; '(single)' is the mean of the metric "
        "over single trainings.",
        "Every group's generators, and with them the real samples of its sources, were left out of training and dev. "
        f"Thresholds: BPCER {100 * float(made.settings['dev_bpcer']):g} % on dev's real samples.",
        "Intervals: 95 %, cluster bootstrap (subject, else source) with the same draws for all systems and groups.",
    ]
    late = [c["group"] for c in choices if c["scored_before"]]
    if choices and not late:
        out.append("The recipe of every group was chosen on the other groups and written before this group was scored.")
    if late:
        out.append(f"NOT NESTED: the choice for {', '.join(late)} was written after scores of that group existed.")
    few = [g.name for g in groups if not _powered(g)]
    if few:
        out.append(f"Under-powered (fewer than 20 clusters of a class), outside the headline macro: {', '.join(few)}.")
    every = inner_trainings(made.design, made.arms, made.settings["inner"]["seeds"])
    every += outer_trainings(made.design, made.arms, made.settings["seeds"])
    began = [t for t in every if (run_folder(made.folder, t) / FACTS).is_file()]
    short = [t.name for t in began if facts_of(run_folder(made.folder, t))["status"] == IMPOSSIBLE]
    if short:
        out.append(f"Trainings for which too little was left: {', '.join(short)}.")
    return out


def _powered(group: GroupTrials) -> bool:
    part = group.part([next(iter(group.systems))], np.ones(len(group.ids), dtype=bool), AS_ERROR)
    return part is not None and part.powered
