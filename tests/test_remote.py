"""Stores behind a URL: fetched once, checked, patient with a server that stops, and never taken with altered bytes."""

import pickle
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import AssayError
from deepassay.manifest import Manifest
from deepassay.remote import Remote, RemoteError, is_url
from deepassay.store import HEAD, Store, prepare_store

sys.path.append(str(Path(__file__).parent))

from s3_server import S3Server
from stand_ins import Tones, join, write_samples


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A store in a bucket, and the credentials that any S3 client reads."""
    train = write_samples(tmp_path / "media", Tones(), 16, split="train", strength=0.5)
    dev = write_samples(tmp_path / "media", Tones(), 8, split="dev", strength=0.5)
    local = prepare_store(join(train, dev), Tones(), tmp_path / "local", progress=False, shard_samples=6)
    shutil.copytree(tmp_path / "local", tmp_path / "s3" / "bucket" / "store")
    train.to_parquet(tmp_path / "s3" / "bucket" / "train.parquet")
    server = S3Server(tmp_path / "s3")
    server.start()
    for key, value in {
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_ENDPOINT_URL": server.url,
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "DEEPASSAY_PATIENCE_S": "30",
        "DEEPASSAY_CACHE": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    yield {"train": train, "dev": dev, "local": local, "server": server, "bucket": tmp_path / "s3" / "bucket"}
    server.stop()


def url(world, kind: str) -> str:
    if kind == "s3":
        pytest.importorskip("pyarrow.fs")
        return "s3://bucket/store"
    if kind == "http":
        pytest.importorskip("aiohttp")
        return f"{world['server'].url}/bucket/store"
    return f"file://{world['bucket']}/store"


@pytest.mark.parametrize("kind", ["s3", "http", "file"])
def test_views_are_those_of_the_local_store_and_are_fetched_once(world, kind, tmp_path):
    store = Store.open(url(world, kind), modality=Tones(), manifest=world["train"])
    assert store.complete
    assert not list((tmp_path / "cache").rglob("*-of-*.arrow"))  # nothing is fetched before it is read
    for sample in world["train"]:
        views = store.views(sample.sample_id)
        np.testing.assert_array_equal(views.data, world["local"].views(sample.sample_id).data)
    asked = world["server"].requests
    again = pickle.loads(pickle.dumps(store))
    again.views("train-000")
    assert world["server"].requests == asked
    store.verify()
    pinned = Store.open(store.source)
    assert pinned.head == store.head


def test_a_manifest_is_read_from_a_url(world):
    assert Manifest.read_parquet("s3://bucket/train.parquet", world["train"].root).hash == world["train"].hash


def test_a_server_that_stops_is_waited_for(world):
    store = Store.open("s3://bucket/store")
    store.views("train-000")
    world["server"].stop()
    timer = threading.Timer(2.0, world["server"].start)
    timer.start()
    np.testing.assert_array_equal(store.views("train-015").data, world["local"].views("train-015").data)
    timer.join()


def test_a_server_that_stays_away_is_an_error_with_a_remedy(world, monkeypatch):
    monkeypatch.setenv("DEEPASSAY_PATIENCE_S", "0.3")
    store = Store.open("s3://bucket/store")
    world["server"].stop()
    with pytest.raises(RemoteError, match=r"(?s)not reached in .* s .*hint: check the network"):
        store.views("train-000")


def test_altered_bytes_are_refused_and_nothing_of_them_is_kept(world, tmp_path):
    store = Store.open("s3://bucket/store")
    shard = world["bucket"] / "store" / store.head["shards"][0]["name"]
    whole = shard.read_bytes()
    for altered in (whole[:-100] + bytes(100), whole[:-8], whole + b"more"):
        shard.write_bytes(altered)
        with pytest.raises(RemoteError, match=r"(?s)altered; its SHA-256 is.*hint: nothing of it is used"):
            store.views("train-000")
        assert not list((tmp_path / "cache").rglob("00000-of-*"))
    shard.write_bytes(whole)
    store.views("train-000")


def test_another_store_in_the_old_ones_place_is_refused(world):
    source = Store.open("s3://bucket/store").source
    head = world["bucket"] / "store" / HEAD
    head.write_text(head.read_text().replace("stand-in", "stand-on"))
    with pytest.raises(RemoteError, match=r"(?s)store\.json: altered.*another store lies there now"):
        Store.open(source)
    head.write_text("{}")
    with pytest.raises(RemoteError, match="not the head of a store"):
        Store.open("s3://bucket/store")


def test_what_is_not_there_is_said_at_once(world):
    with pytest.raises(RemoteError, match=r"store\.json: there is no such file"):
        Store.open("s3://bucket/nothing")
    with pytest.raises(AssayError, match="nonsense"):
        Remote("nonsense://x").read("y")


def test_paths_are_no_urls():
    assert is_url("s3://a/b")
    assert not any(is_url(place) for place in ("a/b", "C:\\x", Path("s3://a"), None))


@pytest.mark.parametrize("workers", [0, 1])
def test_training_reads_from_the_bucket_through_a_stop(world, tmp_path, workers):
    """The same weights as from the local store, though the server is away for a while in the first epoch."""
    from deepassay.files import sha256_file
    from deepassay.models.lcnn import LCNN
    from deepassay.training.fit import fit
    from deepassay.training.loggers import NoLog

    def run(store, folder):
        return fit(
            detector=lambda: LCNN(width=0.125, hop_s=0.02, drop_rate=0.3), modality=Tones(), train=world["train"],
            dev=world["dev"], store=store, folder=folder, max_epochs=2, batch_size=4, progress=False, logger=NoLog(),
            accelerator="cpu", num_workers=workers,
        )  # fmt: skip

    store = Store.open("s3://bucket/store")
    world["server"].stop()
    timer = threading.Timer(1.5, world["server"].start)
    timer.start()
    remote = run(store, tmp_path / "remote")
    local = run(world["local"], tmp_path / "near")
    assert sha256_file(remote.best_weights) == sha256_file(local.best_weights)


def test_moto_serves_the_same_store(world, monkeypatch):
    """An independent S3 server, where it is installed (extra ``dev``)."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="other")
        base = world["bucket"] / "store"
        for file in base.rglob("*"):
            if file.is_file():
                client.put_object(Bucket="other", Key=f"store/{file.relative_to(base)}", Body=file.read_bytes())
        store = Store.open("s3://other/store")
        store.verify()
        name = store.head["shards"][0]["name"]
        client.put_object(Bucket="other", Key=f"store/{name}", Body=b"else")
        shutil.rmtree(store.folder / "shards")
        with pytest.raises(RemoteError, match="altered"):
            store.views("train-000")
    finally:
        server.stop()
