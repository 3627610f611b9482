"""Prepared views: resumable, accounted for, the same whatever the workers, refused where not the ones meant."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import AssayError, ConfigError, ManifestError
from deepassay.files import sha256_file
from deepassay.labels import Status, Unusable
from deepassay.manifest import Manifest
from deepassay.store import Store, merge_stores, prepare_store

TESTS = Path(__file__).parent
sys.path.append(str(TESTS))  # spawned workers import the stand-ins by name

from stand_ins import TRICKS, Patches, Tones, join, write_samples  # noqa: E402


def quiet(manifest, modality, folder, **options):
    return prepare_store(manifest, modality, folder, progress=False, **{"shard_samples": 4, **options})


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return write_samples(tmp_path / "media", Patches(), 10, split="train", views=3)


def with_tricks(manifest: Manifest, tricks=TRICKS) -> Manifest:
    samples = list(manifest)
    for sample, word in zip(samples[1:], tricks, strict=False):
        manifest.file(sample).write_bytes(word.encode())
    return manifest


@pytest.mark.parametrize("modality", [Patches(), Tones()], ids=["face", "voice"])
def test_views_come_back_as_prepared(tmp_path, modality):
    manifest = write_samples(tmp_path / "media", modality, 6, split="train", views=3)
    store = quiet(manifest, modality, tmp_path / "store")
    assert store.complete
    assert len(store) == 6
    assert store.lossless
    assert store.synthetic
    for sample in manifest:
        fresh = modality.prepare(manifest.file(sample))
        kept = store.views(sample.sample_id)
        assert kept.data.dtype == fresh.data.dtype
        for name in ("data", "start_s", "quality", "track", "landmarks", "size"):
            a, b = getattr(fresh, name), getattr(kept, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
        assert store.n_views(sample.sample_id) == 3
    store.verify()


def test_every_sample_is_accounted_for(tmp_path, manifest):
    manifest = with_tricks(manifest, ("silent", "boom"))
    store = quiet(manifest, Patches(), tmp_path / "store")
    ids = list(manifest.column("sample_id"))
    assert store.status(ids[0]) == Status.OK
    assert store.status(ids[1]) == Status.NO_FACE
    assert store.reason(ids[1]) == "nothing to see"
    assert store.status(ids[2]) == Status.ERROR
    assert store.reason(ids[2]) == "ValueError: cannot read the file"  # no path of this machine
    assert store.counts == {"error": 1, "no_face": 1, "ok": 8}
    with pytest.raises(Unusable) as caught:
        store.views(ids[1])
    assert caught.value.status == Status.NO_FACE
    with pytest.raises(ManifestError, match="not in the store"):
        store.views("nobody")


def test_workers_and_shards_do_not_change_a_byte(tmp_path, manifest):
    manifest = with_tricks(manifest, ("silent", "boom"))
    quiet(manifest, Patches(), tmp_path / "alone")
    for workers in (1, 2, 4):
        quiet(manifest, Patches(), tmp_path / f"{workers}", workers=workers)
        assert tree(tmp_path / "alone") == tree(tmp_path / f"{workers}")
    for part in (2, 0, 1):
        quiet(manifest, Patches(), tmp_path / "thirds", shard=(part, 3))
    assert tree(tmp_path / "alone") == tree(tmp_path / "thirds")


def test_parts_made_in_folders_of_their_own_are_merged(tmp_path, manifest):
    quiet(manifest, Patches(), tmp_path / "whole")
    folders = [tmp_path / f"part{i}" for i in range(3)]
    for i in (0, 2):
        assert not quiet(manifest, Patches(), folders[i], shard=(i, 3)).complete
    with pytest.raises(ConfigError, match=r"part1: no store"):
        merge_stores(manifest, Patches(), tmp_path / "merged", folders, shard_samples=4)
    with pytest.raises(AssayError, match=r"1 of 3 files of views are missing, the first is 00001-of-00003"):
        merge_stores(manifest, Patches(), tmp_path / "merged", [folders[0], folders[2]], shard_samples=4)
    assert not (tmp_path / "merged" / "store.json").exists()
    quiet(manifest, Patches(), folders[1], shard=(1, 3))
    assert merge_stores(manifest, Patches(), tmp_path / "merged", folders, shard_samples=4).complete
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")
    other = tmp_path / "other"
    quiet(manifest, Patches(version="2"), other, shard=(1, 3))
    with pytest.raises(ConfigError, match="another preparation fingerprint"):
        merge_stores(manifest, Patches(), tmp_path / "merged2", [folders[0], other], shard_samples=4)


def test_a_part_is_prepared_by_one_process_at_a_time(tmp_path, manifest):
    class Meddling(Patches):
        def prepare(self, path):
            if not caught:
                caught.append(None)
                with pytest.raises(AssayError, match=r"another process is preparing part 1 of 1") as error:
                    quiet(manifest, Patches(), tmp_path / "store")
                caught[0] = error
            return super().prepare(path)

    caught: list = []
    assert quiet(manifest, Meddling(), tmp_path / "store").complete
    assert caught[0] is not None


def test_a_dying_or_endless_worker_costs_one_sample(tmp_path, manifest):
    manifest = with_tricks(manifest)
    store = quiet(manifest, Patches(), tmp_path / "store", workers=2, timeout_s=3)
    ids = list(manifest.column("sample_id"))
    assert store.counts == {"error": 3, "no_face": 1, "ok": 6}
    assert "exit code 7" in store.reason(ids[3])
    assert "within 3 s" in store.reason(ids[4])


def test_shards_of_several_machines_make_one_store(tmp_path, manifest):
    quiet(manifest, Patches(), tmp_path / "whole")
    part = quiet(manifest, Patches(), tmp_path / "parts", shard=(1, 2))
    assert not part.complete
    with pytest.raises(ConfigError, match="not finished"):
        Store.open(tmp_path / "parts")
    assert quiet(manifest, Patches(), tmp_path / "parts", shard=(0, 2)).complete
    assert tree(tmp_path / "whole") == tree(tmp_path / "parts")


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from deepassay.manifest import Manifest
from deepassay.store import prepare_store
from stand_ins import Patches
if __name__ == "__main__":
    manifest = Manifest.read_parquet({table!r}, {root!r})
    prepare_store(manifest, Patches(journal={journal!r}), {store!r}, workers={workers}, shard_samples=2, progress=False)
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_killed_run_goes_on_where_it_stopped(tmp_path, manifest, workers):
    slow = list(manifest)[5]
    whole = manifest.file(slow).read_bytes()
    manifest.file(slow).write_bytes(b"slow")
    manifest.to_parquet(tmp_path / "manifest.parquet")
    journal = tmp_path / "journal"
    script = tmp_path / "go.py"
    script.write_text(
        SCRIPT.format(
            tests=str(TESTS), table=str(tmp_path / "manifest.parquet"), root=str(manifest.root), journal=str(journal),
            store=str(tmp_path / "store"), workers=workers,
        )
    )  # fmt: skip
    process = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (journal.is_file() and "005.bin" in journal.read_text()):
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p.name for p in (tmp_path / "store" / "shards").glob("*.arrow")}
    assert done == {"00000-of-00005.arrow", "00001-of-00005.arrow"}
    manifest.file(slow).write_bytes(whole)
    journal.unlink()
    store = quiet(manifest, Patches(journal=str(journal)), tmp_path / "store", shard_samples=2)
    assert journal.read_text().split() == [f"{i:03d}.bin" for i in range(5, 10)]  # nothing twice, nothing lost
    assert store.counts == {"ok": 10}
    quiet(manifest, Patches(), tmp_path / "fresh", shard_samples=2)
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


RANDOM = """
import sys, time
sys.path.insert(0, {tests!r})
from deepassay.manifest import Manifest
from deepassay.store import prepare_store
from stand_ins import Patches

class Slow(Patches):
    def prepare(self, path):
        time.sleep(0.02)
        return super().prepare(path)

if __name__ == "__main__":
    manifest = Manifest.read_parquet({table!r}, {root!r})
    prepare_store(manifest, Slow(journal={journal!r}), {store!r}, workers={workers}, shard_samples=7, progress=False)
"""


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.full)])
def test_killed_at_random_moments_the_store_is_the_same(tmp_path, workers):
    manifest = write_samples(tmp_path / "media", Patches(), 60, split="train", views=3)
    manifest.to_parquet(tmp_path / "manifest.parquet")
    journal, script = tmp_path / "journal", tmp_path / "go.py"
    script.write_text(
        RANDOM.format(
            tests=str(TESTS), table=str(tmp_path / "manifest.parquet"), root=str(manifest.root), journal=str(journal),
            store=str(tmp_path / "store"), workers=workers,
        )
    )  # fmt: skip
    rng, kills = np.random.default_rng(workers), 0
    while True:
        before = len(journal.read_text().split()) if journal.is_file() else 0
        process = subprocess.Popen([sys.executable, str(script)])
        while process.poll() is None and (not journal.is_file() or len(journal.read_text().split()) == before):
            time.sleep(0.01)
        try:
            process.wait(timeout=float(rng.uniform(0.05, 0.5)))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert process.returncode == 0
    assert kills >= 2
    counts = [journal.read_text().split().count(f"{i:03d}.bin") for i in range(60)]
    assert min(counts) >= 1  # none lost
    assert sum(counts) - 60 <= kills * max(1, 8 * workers)  # none redone but those that were under way
    quiet(manifest, Patches(), tmp_path / "fresh", shard_samples=7)
    assert tree(tmp_path / "store") == tree(tmp_path / "fresh")


@pytest.mark.parametrize("keep", [0, 5, 700, -300, -12, -3])
def test_a_part_file_cut_anywhere_is_gone_on_with(tmp_path, manifest, keep):
    quiet(manifest, Patches(), tmp_path / "fresh")
    store = tmp_path / "store"
    shutil.copytree(tmp_path / "fresh", store)
    shard = store / "shards" / "00001-of-00003.arrow"
    data = shard.read_bytes()
    shard.unlink()
    shard.with_name(f".{shard.name}.part").write_bytes(data[:keep] if keep else b"")
    quiet(manifest, Patches(), store)
    assert tree(store) == tree(tmp_path / "fresh")


@pytest.mark.parametrize("workers", [0, 1])
def test_only_what_failed_is_prepared_again(tmp_path, workers):
    modality = Patches(journal=str(tmp_path / "journal"))
    manifest = write_samples(tmp_path / "media", modality, 12, split="train")
    good = manifest.file(manifest[5]).read_bytes()
    manifest.file(manifest[5]).write_bytes(b"boom")
    manifest.file(manifest[6]).write_bytes(b"silent")
    store = prepare_store(manifest, modality, tmp_path / "store", progress=False, shard_samples=4)
    assert store.counts == {"error": 1, "no_face": 1, "ok": 10}
    (tmp_path / "journal").unlink()
    manifest.file(manifest[5]).write_bytes(good)
    store = prepare_store(
        manifest, modality, tmp_path / "store", progress=False, shard_samples=4, retry=True, workers=workers
    )
    assert (tmp_path / "journal").read_text().split() == ["005.bin"]  # and not what has no face
    assert store.counts == {"no_face": 1, "ok": 11}
    store.verify()
    whole = prepare_store(manifest, modality, tmp_path / "whole", progress=False, shard_samples=4)
    assert [s["sha256"] for s in whole.head["shards"]] == [s["sha256"] for s in store.head["shards"]]


def test_another_preparation_is_refused_by_name(tmp_path, manifest):
    quiet(manifest, Patches(), tmp_path / "store")
    other = Patches(version="2")
    with pytest.raises(ConfigError, match=other.fingerprint[:12]):
        Store.open(tmp_path / "store", modality=other)
    with pytest.raises(ConfigError, match="another preparation fingerprint"):
        quiet(manifest, other, tmp_path / "store")
    with pytest.raises(ConfigError, match="another shard size"):
        quiet(manifest, Patches(), tmp_path / "store", shard_samples=5)
    with pytest.raises(ConfigError, match="no store"):
        Store.open(tmp_path / "nowhere")


def test_labels_and_splits_may_change_but_files_may_not(tmp_path, manifest):
    quiet(manifest, Patches(), tmp_path / "store")
    moved = manifest.replace_samples(replace(s, split="dev", label=None, generator="") for s in manifest)
    assert Store.open(tmp_path / "store", manifest=moved.select(lambda s: s.sample_id.endswith("3"))).complete
    altered = manifest.replace_samples(replace(s, sha256="00") for s in manifest)
    with pytest.raises(ManifestError, match="another path or file"):
        Store.open(tmp_path / "store", manifest=altered)
    more = join(manifest, write_samples(manifest.root, Patches(), 2, split="dev"))
    with pytest.raises(ManifestError, match="is not in the store"):
        Store.open(tmp_path / "store", manifest=more)


def test_altered_and_missing_files_are_named(tmp_path, manifest):
    quiet(manifest, Patches(), tmp_path / "store")
    shard = tmp_path / "store" / "shards" / "00001-of-00003.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(AssayError, match="00001-of-00003"):
        Store.open(tmp_path / "store").verify()
    shard.write_bytes(data[:100])
    with pytest.raises(AssayError, match="00001-of-00003"):
        Store.open(tmp_path / "store")
    quiet(manifest, Patches(), tmp_path / "store").verify()  # the remedy in the hint: prepare again
    index = tmp_path / "store" / "index.arrow"
    index.write_bytes(index.read_bytes()[:-4] + b"abcd")
    with pytest.raises(AssayError, match=r"index\.arrow"):
        Store.open(tmp_path / "store")


def test_files_that_are_not_there_stop_the_work_before_it_begins(tmp_path, manifest):
    manifest.file(list(manifest)[2]).unlink()
    with pytest.raises(ManifestError, match=r"1 of 10 files are missing, the first is 'train/002.bin'"):
        quiet(manifest, Patches(), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_full_disk_is_seen_before_long_work(tmp_path, manifest, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 20_000))  # type: ignore[attr-defined]
    with pytest.raises(AssayError, match="are free"):
        quiet(manifest, Patches(), tmp_path / "store")


def test_picture_encodings(tmp_path, manifest):
    raw = quiet(manifest, Patches(), tmp_path / "raw")
    png = quiet(manifest, Patches(), tmp_path / "png", encoding="png")
    jpeg = quiet(manifest, Patches(), tmp_path / "jpeg", encoding="jpeg")
    for i in manifest.column("sample_id"):
        np.testing.assert_array_equal(raw.views(i).data, png.views(i).data)
        difference = np.abs(raw.views(i).data.astype(int) - jpeg.views(i).data.astype(int))
        assert 0 < difference.mean() < 6
    assert png.lossless
    assert not jpeg.lossless
    with pytest.raises(ConfigError, match="for pictures"):
        quiet(manifest, Tones(), tmp_path / "png2", encoding="png")
    with pytest.raises(ConfigError, match="encoding is 'gif'"):
        quiet(manifest, Patches(), tmp_path / "gif", encoding="gif")


def test_the_wrong_modality_and_bad_arguments_are_refused(tmp_path, manifest):
    with pytest.raises(ManifestError, match="of modality face, not voice"):
        quiet(manifest, Tones(), tmp_path / "store")
    with pytest.raises(ConfigError, match="shard is"):
        quiet(manifest, Patches(), tmp_path / "store", shard=(2, 2))
    with pytest.raises(ManifestError, match="no samples"):
        quiet(manifest.select(lambda s: False), Patches(), tmp_path / "store")


def test_a_store_travels_to_loader_processes(tmp_path, manifest):
    store = quiet(manifest, Patches(), tmp_path / "store")
    first = manifest[0].sample_id
    expected = store.views(first).data.copy()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).views(first).data, expected)


def test_hugging_face_datasets_reads_a_shard(tmp_path, manifest):
    datasets = pytest.importorskip("datasets")
    quiet(manifest, Patches(), tmp_path / "store")
    rows = datasets.Dataset.from_file(str(tmp_path / "store" / "shards" / "00000-of-00003.arrow"))
    assert rows["sample_id"][:4] == [s.sample_id for s in manifest][:4]


def test_progress_is_shown_off_terminals_too(tmp_path, manifest, capsys):
    prepare_store(manifest, Patches(), tmp_path / "store")
    assert "preparing face views: 10 of 10" in capsys.readouterr().err
    assert json.loads((tmp_path / "store" / "store.json").read_text())["counts"] == {"ok": 10}
    assert os.listdir(tmp_path / "store" / "shards") == ["00000-of-00001.arrow"]
