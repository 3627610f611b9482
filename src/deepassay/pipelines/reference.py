"""reference: finished runs and studies to the reference bundles, their committed tables, cards and the results page."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from deepassay.errors import AssayError, BundleError, ConfigError
from deepassay.evidence.protocol import Register
from deepassay.files import write_json, write_text
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality, view_count
from deepassay.pipelines.build import build
from deepassay.pipelines.evaluate import score_with_bundle
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.prepare import ensure_finder, open_store
from deepassay.pipelines.reference_cards import CardInput, card_files, render_reference_card
from deepassay.pipelines.reference_licensed import TABLES, empty_csv
from deepassay.pipelines.reference_numbers import measure_scores, measure_study, rates_by
from deepassay.pipelines.reference_pages import results_page, robustness_figure
from deepassay.pipelines.reference_tables import pack_scores, placeless, read_scores, read_study, study_files
from deepassay.provenance import collect
from deepassay.scores import ScoreTable
from deepassay.screening.bundle import FACTS, Bundle
from deepassay.store import Store

NAMES = {"face": "face-reference", "voice": "voice-reference"}
BY = "repository"
MOST_BYTES = 40_000_000  # both bundles together
DEV, TEST = "dev", "test"
SPEED = "speed.json"


def build_bundle(
    run: RunFolder, models: Path, *, modality: str, console: Console, precision: str = "fp32", parity_files: int = 200,
    parity_on: Path | None = None, media: Path | None = None, by: str = BY,
) -> Bundle:  # fmt: skip
    """Export a finished run as a reference bundle, with its parity report and the scores of its dev and test parts.

    Args:
        run: trained. models: folder of the reference wheel. modality: that the run must have.
        precision: of the graph that ships; fp32 is made in any case, and compared.
        parity_files: most real files in the parity report. parity_on: a manifest of them; by default the dev part.
        media: where the media of a run that was trained elsewhere lie here; its views are prepared again.
        by: attribute that names the place of a sample.

    Raises:
        ConfigError: a run of another modality or without weights. BundleError: the parity gate refused, or the bundle
            would hold a path of this machine or be too large.
    """
    from deepassay.export import export_bundle

    name, config = NAMES[modality], run.config
    ensure_finder(config["modality"])
    views = run.modality()
    if views.name != modality:
        raise ConfigError(f"{run.path} is a run of {views.name}s", hint=f"give it as --{views.name}")
    console.print(f"[bold]{name}[/] from {run.path}")
    manifest, store = _data(run, views, media)
    with tempfile.TemporaryDirectory(prefix="deepassay-reference-") as place:
        _, report = export_bundle(
            detector=build(config["detector"]), weights=run.weights, modality=views, manifest=manifest,
            store=store, folder=Path(place) / name, parity_path=Path(place) / "parity.json",
            operating_points=[float(t) for t in config["operating_points"]],
            views=view_count(config["views"]["score"], views), config_fingerprint=run.fingerprint,
            provenance=placeless(run.provenance), licence_use="research", name=name,
            variants=tuple(dict.fromkeys(["fp32", precision])), parity_files=parity_files,
            parity_on=None if parity_on is None else _manifest(parity_on),
        )  # fmt: skip
        made = {Bundle.load(one.path).precision: one.path for one in report.variants}
        shipped = made[precision]
        _refuse_paths(
            shipped, [str(manifest.root.resolve()), str(run.path.resolve()), str(Path.cwd()), str(Path.home())]
        )
        target = models / name
        if target.exists():
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(shipped, target)
        facts = json.loads((Path(place) / "parity.json").read_text(encoding="utf-8"))
    for variant in facts["variants"]:
        variant["bundle"] = Path(variant["bundle"]).name
    write_json(models / "parity" / f"{name}.json", placeless(facts))
    bundle = Bundle.load(target)
    _refuse_size(models)
    for old in (models / "scores").glob(f"{name}.*.parquet"):
        old.unlink()  # scores of another bundle
    for split in (DEV, TEST):
        rows = manifest.split(split)
        if not len(rows):
            continue
        table = score_with_bundle(rows, bundle, store=store, config_fingerprint=run.fingerprint)
        assert table is not None  # only a work list can be unfinished
        if split == TEST:
            register = Register(run.protocol)
            register.record_opening(table.hash, before_protocol=not register.frozen)
        keep_scores(table, bundle, models, split, by=by)
        console.print(f"  {split}: {len(table)} samples scored with the bundle")
    return bundle


def keep_scores(table: ScoreTable, bundle: Bundle, models: Path, name: str, *, by: str = BY) -> Path:
    """Commit a set's scores by a reference bundle as ``scores/BUNDLE.NAME.parquet``.

    Raises:
        ConfigError: scores of another bundle.
    """
    if table.meta.get("bundle_sha256") != bundle.hash:
        raise ConfigError(
            f"the scores {name!r} are of another bundle than {bundle.name} {bundle.hash[:12]}",
            hint=f"deepassay evaluate bundle={models / bundle.name} corpus=... name=...",
        )
    path = models / "scores" / f"{bundle.name}.{name}.parquet"
    about = {"set": name, "bundle_name": bundle.name, "bundle_sha256": bundle.hash}
    pack_scores(table, path, by=by, about=about)
    return path


def _data(run: RunFolder, views: Modality, media: Path | None) -> tuple[Manifest, Store]:
    """The split manifest of a run and its prepared views; prepared again where the media lie in another folder."""
    if media is None:
        return run.manifest(), run.store(views)
    if not media.is_dir():
        raise ConfigError(f"{media} is not a folder", hint="give the folder that the corpus was read from")
    manifest = Manifest.read_parquet(run.path / "manifest.parquet", media)
    return manifest, open_store({**run.config["store"], "store_folder": None}, manifest, views)


def compare_training(run: RunFolder, models: Path, *, modality: str, media: Path | None = None) -> dict[str, Any]:
    """How far the dev scores of the same training, done again, are from those of the shipped bundle.

    Args:
        media: see `build_bundle`.

    Returns:
        ``n``, ``max_difference`` of logits, ``point`` and ``flips`` (files decided otherwise there), ``machine``.

    Raises:
        ConfigError: another dev part, or another configuration than the bundle's.
    """
    from deepassay.pipelines.study_trials import predictor
    from deepassay.scoring import score_manifest

    bundle = Bundle.load(models / NAMES[modality])
    views = run.modality()
    whole, store = _data(run, views, media)
    manifest = whole.split(DEV)
    if bundle.facts["provenance"].get("config_fingerprint") != run.fingerprint:
        raise ConfigError(
            f"{run.path} was not trained with the configuration of {bundle.name}", hint="repeat the command in its card"
        )
    again = score_manifest(
        manifest, views, predictor(run.config, run.weights), views=bundle.views, store=store, progress=False
    )
    shipped = score_with_bundle(manifest, bundle, store=store)
    assert shipped is not None
    one, two = (table.column("score") for table in (shipped, again))
    both = np.isfinite(one) & np.isfinite(two)
    point = bundle.operating_points[0]
    flags = [point.flags(bundle.calibration.llr(values)) for values in (one, two)]
    hardware = run.provenance.get("hardware", {})
    return {
        "n": int(both.sum()), "max_difference": float(np.abs(one - two)[both].max(initial=0.0)), "point": point.name,
        "flips": int((flags[0] != flags[1]).sum()),
        "machine": ", ".join(map(str, [hardware.get("cpu", "another machine"), *hardware.get("gpus", [])])),
    }  # fmt: skip


def measure_speed(models: Path, *, rounds: int = 30, threads: int = 1) -> list[dict[str, Any]]:
    """Size of the graph and milliseconds per view of every reference bundle, and of AASIST and AASIST-L beside them.

    All take turns on the same thread count, one view at a time, as screening does on a CPU; medians. The two published
    networks are timed with random weights, which changes nothing about their speed.
    """
    import time

    import onnxruntime

    from deepassay.export import export_detector

    graphs: dict[str, tuple[bytes, str]] = {}
    for name in NAMES.values():
        if (models / name).is_dir():
            bundle = Bundle.load(models / name)
            graphs[name] = (bundle.graph, _of_view(bundle.facts["modality"]))
    with tempfile.TemporaryDirectory(prefix="deepassay-speed-") as place:
        for name, size in (("AASIST", "base"), ("AASIST-L", "light")):
            node = {"_target_": "deepassay.models.aasist.AASIST", "size": size, "window_samples": 64600}
            path = export_detector(build(node), Path(place) / f"{name}.onnx", (64600,))
            graphs[name] = (path.read_bytes(), "4.04 s of sound")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    sessions = {
        name: onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for name, (graph, _) in graphs.items()
    }
    rng, seconds = np.random.default_rng(0), {name: [] for name in sessions}
    views = {}
    for name, session in sessions.items():
        given = session.get_inputs()[0]
        noise = rng.uniform(-0.1, 0.1, (1, *given.shape[1:])).astype(np.float32)
        views[name] = (128 + 1000 * noise).astype(np.uint8) if "uint8" in given.type else noise
    for _ in range(rounds):
        for name, session in sessions.items():
            begin = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: views[name]})
            seconds[name].append(time.perf_counter() - begin)
    rows = [
        {"name": name, "view": of, "graph_mb": round(len(graph) / 1e6, 2), "threads": threads,
         "ms_per_view": round(1e3 * float(np.median(seconds[name][1:])), 2)}
        for name, (graph, of) in graphs.items()
    ]  # fmt: skip
    write_json(models / "scores" / SPEED, {"cpu": collect(config={}, seeds=[])["hardware"].get("cpu"), "rows": rows})
    return rows


def _of_view(facts: Mapping[str, Any]) -> str:
    shape = facts["input_shape"]
    if facts["name"] == "face":
        return f"{shape[-3]} x {shape[-2]} px"
    return f"{shape[0] / facts['contract']['settings']['rate_hz']:.2f} s of sound"


def note(models: Path, modality: str, **facts: Any) -> None:
    """Remember what a card says that no table holds, in ``scores/BUNDLE.json``."""
    path = models / "scores" / f"{NAMES[modality]}.json"
    write_json(path, {**_notes(models, NAMES[modality]), **facts})


def pages(models: Path, docs: Path) -> dict[Path, str]:
    """Every page and figure as it follows from the committed tables: path -> text. Writes nothing.

    Raises:
        ScoreError: a table that cannot be read. BundleError: an altered bundle.
    """
    studies = [(study.facts, measure_study(study)) for study in map(read_study, study_files(models / "scores"))]
    out: dict[Path, str] = {docs / "results" / f"{table.name}.csv": empty_csv(table) for table in TABLES}
    figures = {}
    for facts, numbers in studies:
        if numbers["channels"]:
            figures[facts["name"]] = f"results/{facts['name']}-channels.svg"
            out[docs / figures[facts["name"]]] = robustness_figure(facts, numbers)
    rows = []
    for modality, name in NAMES.items():
        if not (models / name).is_dir():
            continue
        bundle = Bundle.load(models / name)
        given = _card_input(models, bundle, [s for s in studies if s[0]["modality"] == modality])
        for language, file in card_files(name).items():
            out[models / "cards" / file] = render_reference_card(given, language)
        rows.append(
            {**given.parity, "name": name, "architecture": bundle.facts["architecture"], "precision": bundle.precision,
             "bundle_mb": bundle.n_bytes / 1e6}
        )  # fmt: skip
    path = models / "scores" / SPEED
    speed = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    out[docs / "results.md"] = results_page(studies, rows, figures, speed)
    return out


def write_pages(models: Path, docs: Path) -> list[Path]:
    """Write what `pages` gives; returns the paths whose text changed."""
    changed = []
    for path, text in pages(models, docs).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            changed.append(path)
        write_text(path, text)
    return changed


def differing(models: Path, docs: Path) -> list[Path]:
    """Committed pages and figures that are not what the committed tables give."""
    return [
        path
        for path, text in pages(models, docs).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def _card_input(
    models: Path, bundle: Bundle, studies: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> CardInput:
    notes = _notes(models, bundle.name)
    wanted = notes.get("study")
    study = next((s for s in studies if wanted in (None, s[0]["name"])), None)
    if wanted and study is None:
        raise ConfigError(
            f"{bundle.name}: there is no study {wanted!r}", hint="pack it, or choose another with --study"
        )
    if study is not None and notes.get("recipe") and notes["recipe"] not in study[1]["systems"]:
        raise ConfigError(
            f"{bundle.name}: the study has no recipe {notes['recipe']!r}",
            hint=f"one of {', '.join(study[1]['systems'])}",
        )
    path = models / "parity" / f"{bundle.name}.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"variants": []}
    parity = next((v for v in report["variants"] if v["bundle_sha256"] == bundle.hash), None)
    if parity is None:
        raise BundleError(f"{path} is not the parity report of {bundle.name}", hint="build the bundle again")
    sets = []
    for file in sorted(
        (models / "scores").glob(f"{bundle.name}.*.parquet"), key=lambda p: (f".{TEST}." not in p.name, p)
    ):
        table, facts = read_scores(file)
        if facts["bundle_sha256"] != bundle.hash:
            raise BundleError(f"{file} holds scores of another bundle than {bundle.name}", hint="score it again")
        if facts["set"] == DEV:
            continue
        labels = table.column("label")
        counts = {"real": int((labels == REAL).sum()), "fake": int((labels == FAKE).sum())}
        counts["silent"] = len(table) - int(table.answered.sum())
        numbers = measure_scores(table, bundle.operating_points)
        sets.append((facts["set"], numbers, rates_by(table, bundle.operating_points[0], facts["by"]), counts))
    return CardInput(
        facts=bundle.facts, identity=bundle.hash, n_bytes=bundle.n_bytes, parity=parity, notes=notes, study=study,
        sets=sets,
    )  # fmt: skip


def _notes(models: Path, name: str) -> dict[str, Any]:
    path = models / "scores" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _manifest(path: Path) -> Manifest:
    read = Manifest.read_parquet if path.suffix == ".parquet" else Manifest.read_csv
    return read(path, path.parent)


def _refuse_paths(bundle: Path, places: Sequence[str]) -> None:
    """Raises BundleError where a text of a bundle names a folder of this machine, or holds any absolute path."""
    for name in (FACTS, "card.md"):
        text = (bundle / name).read_text(encoding="utf-8")
        found = next((place for place in places if len(place) > 1 and place in text), None)
        if found is None and name == FACTS:
            found = next((word for word in _texts(json.loads(text)) if placeless(word) != word), None)
        if found is not None:
            raise BundleError(
                f"{name} of the bundle would name the folder {found}",
                hint="train again with paths relative to the project",
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _refuse_size(models: Path) -> None:
    size = sum(f.stat().st_size for name in NAMES.values() for f in (models / name).rglob("*") if f.is_file())
    if size > MOST_BYTES:
        raise AssayError(
            f"the reference bundles have {size / 1e6:.1f} MB together, more than {MOST_BYTES / 1e6:g}",
            hint="ship a lower precision (--precision face=fp16) or a smaller network",
        )
