"""explain: where a trained face detector looks, measured for faithfulness; pictures only of the samples asked for."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from deepassay.errors import ConfigError
from deepassay.files import write_json, write_text
from deepassay.labels import FAKE, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.metrics.intervals import FEWEST_CLUSTERS
from deepassay.modality.views import Modality, Views
from deepassay.pipelines.build import build, take
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.prepare import ensure_finder
from deepassay.pipelines.terminal import terminal
from deepassay.store import Store

if TYPE_CHECKING:
    from deepassay.models.explain import Explainer

log = logging.getLogger(__name__)
KEYS = {"run", "samples", "methods", "split", "per_generator", "views", "steps", "replicates", "seed", "name"}
MEASURES = {"deletion": "lower_better", "insertion": "higher_better"}
VERSION = "1"


def explain(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay explain run=...`: faithfulness.json and .md, and PNG of the samples named in ``samples``.

    Raises:
        ConfigError: a run without weights, a detector without maps, an unknown sample or method, or split=test.
    """
    settings = take(config, KEYS, verb="explain")
    from deepassay.models.explain import Explainer
    from deepassay.models.weights import load_weights

    console = terminal()
    run = RunFolder.open(settings["run"])
    ensure_finder(run.config["modality"])
    modality = run.modality()
    detector = build(run.config["detector"])
    load_weights(detector, run.weights)
    explainer = Explainer(detector)
    methods = list(settings["methods"] or explainer.methods)
    strange = [m for m in methods if m not in explainer.methods]
    if strange:
        raise ConfigError(
            f"the detector of {run.path} does not offer {strange[0]!r}", hint=f"it offers {list(explainer.methods)}"
        )
    manifest, store = run.manifest(), run.store(modality)
    views = int(settings["views"])
    if settings["samples"]:
        pictures(explainer, manifest, store, modality, list(settings["samples"]), methods, views, folder, console)
    if int(settings["per_generator"]):
        table = faithfulness_table(
            explainer, manifest, store, modality, methods, split=str(settings["split"]), views=views,
            per_generator=int(settings["per_generator"]), steps=int(settings["steps"]), seed=int(settings["seed"]),
            replicates=int(settings["replicates"]),
        )  # fmt: skip
        record = {
            "schema": "1", "run": run.path.name, "config_fingerprint": run.fingerprint,
            "weights_epoch": _epoch(run), "manifest_sha256": manifest.hash, **table,
        }  # fmt: skip
        write_json(folder / "faithfulness.json", record)
        write_text(folder / "faithfulness.md", markdown(record))
        show(record, console)
        console.print(f"  {folder / 'faithfulness.md'} and faithfulness.json")
    return 0


def _epoch(run: RunFolder) -> int | None:
    import json

    path = run.weights.with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8")).get("epoch") if path.is_file() else None


def pictures(
    explainer: "Explainer", manifest: Manifest, store: Store, modality: Modality, ids: Sequence[str],
    methods: Sequence[str], views: int, folder: Path, console: Console,
) -> list[Path]:  # fmt: skip
    """Write one PNG per sample: a row per view, the view beside its maps. They show faces: keep them as the media are.

    Raises:
        ConfigError: a sample that the run's manifest does not hold, or that has no views.
    """
    from deepassay.files import fingerprint, slug
    from deepassay.media.image import write_image

    known = {sample.sample_id: sample for sample in manifest}
    out = []
    for sample_id in ids:
        if sample_id not in known:
            raise ConfigError(
                f"the run has no sample {sample_id!r}", hint="ids are those of the run's manifest.parquet and scores"
            )
        try:
            drawn = modality.draw(store.views(sample_id), views)
        except Unusable as outcome:
            raise ConfigError(f"sample {sample_id!r} has no views: {outcome}", hint="choose another sample") from None
        maps = [explainer.maps(method, drawn.data) for method in methods]
        rows = [
            np.concatenate([_strip(view), *(_strip(_heat(view, m[i])) for m in maps)], axis=1)
            for i, view in enumerate(drawn.data)
        ]
        path = folder / "explanations" / f"{slug(sample_id)}_{fingerprint(sample_id)[:8]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.concatenate(rows))
        logits = explainer.logits(drawn.data)
        console.print(
            f"  {path}: {', '.join(['view', *methods])}; rows at {', '.join(f'{s:.2f} s' for s in drawn.start_s)}; "
            f"logits {', '.join(f'{v:.2f}' for v in logits)}, pooled {modality.pool(logits, drawn):.2f}"
        )
        out.append(path)
    return out


def _strip(view: np.ndarray) -> np.ndarray:
    """A picture as it is; a clip (frames, H, W, 3) as its frames side by side."""
    return view if view.ndim == 3 else np.concatenate(list(view), axis=1)


def _heat(view: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """The view in grey under a map from blue (0) over yellow to red (1)."""
    stops = np.array([[40, 60, 160], [60, 170, 180], [250, 220, 60], [230, 40, 30]], np.float32)
    place = importance.clip(0, 1) * (len(stops) - 1)
    low = np.minimum(place.astype(np.int64), len(stops) - 2)
    part = (place - low)[..., None]
    colour = stops[low] * (1 - part) + stops[low + 1] * part
    grey = view.astype(np.float32).mean(axis=-1, keepdims=True)
    return (0.5 * grey + 0.5 * colour).round().clip(0, 255).astype(np.uint8)


def chosen(manifest: Manifest, store: Store, split: str, per_generator: int, seed: int) -> list[Sample]:
    """Fakes of a split that have views, up to so many of each generator, drawn by the seed.

    Raises:
        ConfigError: the test split (law 3: explanations are looked at while a detector is being made), or no fakes.
    """
    if split not in ("train", "dev"):
        raise ConfigError(
            f"split={split}: faithfulness is measured on dev or train", hint="test labels are for evaluate and assess"
        )
    groups: dict[str, list[Sample]] = {}
    for sample in manifest.split(split):
        if sample.label == FAKE and store.n_views(sample.sample_id):
            groups.setdefault(sample.generator, []).append(sample)
    if not groups:
        raise ConfigError(f"{split} has no fake with views", hint="use split=train or another run")
    out: list[Sample] = []
    for name in sorted(groups):
        rng = np.random.Generator(np.random.Philox([seed, len(out)]))
        picked = rng.permutation(len(groups[name]))[:per_generator]
        out += [groups[name][i] for i in sorted(picked.tolist())]
    return out


def faithfulness_table(
    explainer: "Explainer", manifest: Manifest, store: Store, modality: Modality, methods: Sequence[str], *,
    split: str = "dev", per_generator: int = 10, views: int = 1, steps: int = 16, seed: int = 0, replicates: int = 2000,
) -> dict[str, Any]:  # fmt: skip
    """Deletion and insertion of every method and of maps that know nothing, on the same views of fakes.

    Returns:
        JSON: ``rows`` with method, measure, value (mean over samples), ci, and the paired difference to the random map
        with its own ci; ``n_samples``, ``n_clusters``, ``called_fake`` (how many of them score above 0).
    """
    from deepassay.models.explain import REFERENCES, faithfulness

    samples = chosen(manifest, store, split, per_generator, seed)
    names = [*methods, *REFERENCES]
    values = np.zeros((len(samples), len(names), len(MEASURES)))
    called = 0
    for i, sample in enumerate(samples):
        drawn: Views = modality.draw(store.views(sample.sample_id), views)
        called += modality.pool(explainer.logits(drawn.data), drawn) > 0
        for j, name in enumerate(names):
            maps = explainer.maps(name, drawn.data)
            found = [faithfulness(explainer.logits, v, m, steps=steps) for v, m in zip(drawn.data, maps, strict=True)]
            values[i, j] = [np.mean([getattr(f, measure) for f in found]) for measure in MEASURES]
        log.debug("explained %d of %d", i + 1, len(samples))
    clusters = [sample.cluster for sample in samples]
    chance = names.index("random")
    rows = []
    for k, (measure, direction) in enumerate(MEASURES.items()):
        for j, name in enumerate(names):
            row = {
                "method": name, "measure": measure, "version": VERSION, "direction": direction,
                "value": float(values[:, j, k].mean()),
                "ci": mean_interval(values[:, j, k], clusters, replicates, seed), "against_random": None,
            }  # fmt: skip
            if name != "random":
                away = values[:, j, k] - values[:, chance, k]
                row["against_random"] = {
                    "value": float(away.mean()), "ci": mean_interval(away, clusters, replicates, seed)
                }  # fmt: skip
            rows.append(row)
    return {
        "rows": rows, "split": split, "n_samples": len(samples), "n_clusters": len(set(clusters)),
        "called_fake": int(called), "per_generator": per_generator, "views": views, "steps": steps,
        "status": "exploratory" if len(set(clusters)) >= FEWEST_CLUSTERS else "under_powered",
        "generators": {g: sum(s.generator == g for s in samples) for g in sorted({s.generator for s in samples})},
        "synthetic": manifest.synthetic,
        "reference": "Petsiuk et al., RISE, BMVC 2018: deletion to the mean colour, insertion into a blur, of P(fake)",
    }  # fmt: skip


def mean_interval(values: np.ndarray, clusters: Sequence[str], replicates: int, seed: int) -> dict[str, Any]:
    """95 % percentile interval of a mean, resampling clusters; ``reliable`` is false under 20 of them."""
    names, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = rng.integers(len(names), size=(replicates, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    lo, hi = np.quantile(means, [0.025, 0.975])
    return {
        "level": 0.95, "method": "bootstrap_cluster_percentile", "lo": float(lo), "hi": float(hi),
        "cluster_unit": "cluster", "n_clusters": len(names), "replicates": replicates, "seed": seed,
        "reliable": len(names) >= FEWEST_CLUSTERS,
    }  # fmt: skip


def _cells(row: Mapping[str, Any]) -> tuple[str, str]:
    def text(value: float, ci: Mapping[str, Any]) -> str:
        return f"{value:.3f} ({ci['lo']:.3f} to {ci['hi']:.3f}){'' if ci['reliable'] else '*'}"

    away = row["against_random"]
    return text(row["value"], row["ci"]), "-" if away is None else text(away["value"], away["ci"])


def markdown(record: Mapping[str, Any]) -> str:
    """The faithfulness table as Markdown; it holds numbers and no picture."""
    lines = [
        f"# Faithfulness of explanations, run {record['run']}", "",
        *(["Synthetic data: these numbers say that the machinery works, and nothing about real media.", ""]
          if record["synthetic"] else []),
        f"{record['n_samples']} fakes of {record['split']} ({record['n_clusters']} clusters), of which "
        f"{record['called_fake']} score above 0; {record['steps']} steps. {record['reference']}. Deletion: lower is "
        "better; insertion: higher is better. A map that is no better than the random one explains nothing.", "",
        "| measure | map | mean (95 % interval) | difference to random |", "|---|---|---|---|",
        *(f"| {r['measure']} | {r['method']} | {' | '.join(_cells(r))} |" for r in record["rows"]), "",
        "Intervals resample clusters; * fewer than 20 clusters: no claim rests on it.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def show(record: Mapping[str, Any], console: Console) -> None:
    """The table on a terminal."""
    mark = "   [bold]SYNTHETIC DATA[/]" if record["synthetic"] else ""
    console.print(
        f"[bold]faithfulness[/] {record['n_samples']} fakes of {record['split']}, {record['n_clusters']} clusters{mark}"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for title in ("  measure", "map", "mean (95 % interval)", "difference to random"):
        table.add_column(title)
    for row in record["rows"]:
        table.add_row(f"  {row['measure']}", row["method"], *_cells(row))
    console.print(table)
    console.print("  deletion: lower is better; insertion: higher is better; * fewer than 20 clusters")
