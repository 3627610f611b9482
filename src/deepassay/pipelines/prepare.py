"""prepare: read a corpus, split it, look for leaks and prepare its views once for everything that follows."""

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from deepassay.errors import ConfigError, ManifestError
from deepassay.files import cache_folder, slug, write_json
from deepassay.labels import Status
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality
from deepassay.pipelines.build import build, take
from deepassay.pipelines.terminal import terminal
from deepassay.remote import is_url
from deepassay.splits import assert_disjoint
from deepassay.store import Store, merge_stores, prepare_store

log = logging.getLogger(__name__)
KEYS = {"corpus", "modality", "split", "store", "seed", "name", "shard", "merge", "retry"}


def ensure_finder(modality: Mapping[str, Any]) -> None:
    """Export the face finder's graphs into the cache on first use; nothing to do for voices."""
    if "face" not in str(modality.get("_target_", "")).lower() or modality.get("finder_folder"):
        return
    from deepassay.modality.finder import finder_ready

    folder = cache_folder() / "finder"
    if not finder_ready(folder):
        from deepassay.models.mtcnn import export_finder_graphs

        log.info("exporting the face finder's graphs from facenet-pytorch into the cache (once)")
        export_finder_graphs(folder)


def read_corpus(config: Mapping[str, Any], modality: Modality) -> Manifest:
    """The corpus as a manifest of the modality that will be used.

    Raises:
        ManifestError: the corpus is empty or of the other modality.
    """
    manifest: Manifest = build(config).prepare()
    if not len(manifest):
        raise ManifestError(f"{manifest.name}: the corpus has no samples", hint="look at its root folder and list")
    others = sorted(set(manifest.column("modality")) - {modality.name})
    if others:
        raise ManifestError(
            f"{manifest.name}: holds {others[0]} samples and the modality is {modality.name}",
            hint=f"use modality={others[0]}, or a corpus of {modality.name}s",
        )
    return manifest


def split_corpus(config: Mapping[str, Any], manifest: Manifest, *, real_only: Collection[str] = ()) -> Manifest:
    """Apply the split and prove that nothing lies on both sides.

    Args:
        real_only: of "train" and "dev", what may hold real samples alone because a forge makes its fakes.

    Raises:
        LeakError: a subject, source or file lies in two splits.
        ManifestError: train or dev lacks a class.
    """
    out: Manifest = build(config).apply(manifest)
    assert_disjoint(out)
    counts = out.counts()
    for split in ("train", "dev"):
        cell = counts.get(split, {})
        for label in ("real", "fake"):
            if not cell.get(label) and (label == "real" or split not in real_only):
                raise ManifestError(
                    f"{out.name}: split {split} has no {label} samples",
                    hint="change split.fractions, split.seed or split.leave_out, or add data",
                )
    return out


def open_store(
    config: Mapping[str, Any], manifest: Manifest, modality: Modality, *, shard: tuple[int, int] = (0, 1),
    retry: bool = False,
) -> Store:  # fmt: skip
    """Prepare every sample's views, or go on with, or reuse, what an earlier command prepared.

    Args:
        shard: (i, n) with 0 <= i < n: only the i-th of n parts; the store is complete when all were made.
        retry: prepare samples of status error again.
    """
    folder, options = _store_options(config, manifest, modality)
    place = config.get("store_folder")
    if is_url(place):  # it has been prepared, and copied there
        return Store.open(f"{str(place).rstrip('/')}/{folder.name}", modality=modality, manifest=manifest)
    workers = int(config.get("workers", 0))
    return prepare_store(manifest, modality, folder, workers=workers, shard=shard, retry=retry, **options)


def _store_options(config: Mapping[str, Any], manifest: Manifest, modality: Modality) -> tuple[Path, dict[str, Any]]:
    """The store's folder, and what shapes its files."""
    encoding = str(config.get("encoding", "raw"))
    name = f"{slug(manifest.name)}-{manifest.hash[:12]}-{modality.fingerprint[:12]}-{encoding}"
    folder = Path(config.get("store_folder") or cache_folder() / "stores") / name
    options = {key: int(config[key]) for key in ("quality", "shard_samples") if config.get(key) is not None}
    return folder, {"encoding": encoding, **options}


def read_shard(text: str) -> tuple[int, int]:
    """(i - 1, n) from "i/n". Raises ConfigError where that is not a part of a whole."""
    match = re.fullmatch(r"(\d+)/(\d+)", str(text).strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"shard={text} is not a part of a whole", hint="give shard=1/3, shard=2/3 and shard=3/3")
    return int(match[1]) - 1, int(match[2])


def prepare(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay prepare`: corpus, split and store; prints where they lie."""
    settings = take(config, KEYS, verb="prepare")
    ensure_finder(settings["modality"])
    modality: Modality = build(settings["modality"])
    manifest = read_corpus(settings["corpus"], modality)
    part, parts = read_shard(settings.get("shard") or "1/1")
    if merge := settings.get("merge"):
        folder_of_store, options = _store_options(settings["store"], manifest, modality)
        parts_made = [] if merge is True else [Path(place) for place in merge]
        store = merge_stores(manifest, modality, folder_of_store, parts_made, **options)
    else:
        again = bool(settings.get("retry"))
        store = open_store(settings["store"], manifest, modality, shard=(part, parts), retry=again)
    split = split_corpus(settings["split"], manifest)
    split.to_parquet(folder / "manifest.parquet")
    console = terminal()
    console.print(f"manifest {folder / 'manifest.parquet'}  ({len(split)} samples, hash {split.hash[:12]})")
    for name, cell in sorted(split.counts().items()):
        console.print(f"  {name:<8} real {cell['real']:>6}  fake {cell['fake']:>6}  unlabelled {cell['unlabelled']:>6}")
    console.print(f"store    {store.folder}")
    if not store.complete:
        made, files = store.progress
        console.print(f"  part {part + 1} of {parts} is done; {made} of {files} files of views are there")
        console.print(
            "  the store is closed by whoever comes last; elsewhere, bring the parts together with merge=[...]"
        )
    for status, n in sorted(store.counts.items()):
        console.print(f"  {status:<12} {n:>6}")
    _list_failures(store, manifest, folder, console)
    return 0


def _list_failures(store: Store, manifest: Manifest, folder: Path, console: Any) -> None:
    """Say what ended in an error, write it to ``failed.json``, and how to try just that again."""
    if not store.complete:
        return
    names = [s.sample_id for s in manifest if store.status(s.sample_id) == Status.ERROR]
    if not names:
        (folder / "failed.json").unlink(missing_ok=True)
        return
    failed = [{"sample_id": name, "reason": store.reason(name)} for name in names]
    remedy = "the same `deepassay prepare` command with retry=true"
    write_json(folder / "failed.json", {"schema": "1", "step": "prepare", "command": remedy, "failed": failed})
    console.print(
        f"[yellow]{len(names)} samples ended in an error[/], listed in {folder / 'failed.json'}; the first: "
        f"{names[0]}: {failed[0]['reason']}\n  to try just those again: {remedy}"
    )
