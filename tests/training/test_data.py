"""The data module: nothing leaks in, epochs are functions of their number, loader processes change nothing."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deepassay.augment.voice import VoiceAugment
from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE
from deepassay.store import prepare_store
from deepassay.training.data import EpochOrder, ViewsDataModule
from deepassay.training.randomness import sample_rng, stable_seed

sys.path.append(str(Path(__file__).parents[1]))

from stand_ins import Patches, Tones, join, write_samples


@pytest.fixture
def parts(tmp_path):
    modality = Tones()
    train = write_samples(tmp_path / "media", modality, 10, split="train", views=3)
    dev = write_samples(tmp_path / "media", modality, 6, split="dev", views=3)
    store = prepare_store(join(train, dev), modality, tmp_path / "store", progress=False)
    return {"train": train, "dev": dev, "store": store, "modality": modality}


def change(manifest, **values):
    first, *others = manifest
    return manifest.replace_samples([replace(first, **values), *others])


def test_test_rows_are_refused_by_name(parts):
    with pytest.raises(LeakError, match=r"train-000.*split 'test'.*given as train data"):
        ViewsDataModule(**{**parts, "train": change(parts["train"], split="test")})
    with pytest.raises(LeakError, match="given as dev data"):
        ViewsDataModule(**{**parts, "dev": change(parts["dev"], split="test")})
    with pytest.raises(LeakError, match="split 'dev'"):
        ViewsDataModule(**{**parts, "train": change(parts["train"], split="dev")})


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("subject", {"subjects": ("somebody-else", "train-person-1")}), ("source", {"source_id": "train-source-001"}),
        ("sample", {"sample_id": "train-001"}),
    ],
)  # fmt: skip
def test_what_lies_on_both_sides_is_refused(parts, what, values):
    with pytest.raises(LeakError, match=rf"1 {what}\(s\) lie in both"):
        ViewsDataModule(**{**parts, "dev": change(parts["dev"], **values)})


def test_unlabelled_and_one_sided_data_are_refused(parts):
    with pytest.raises(ManifestError, match="has no label"):
        ViewsDataModule(**{**parts, "dev": change(parts["dev"], label=None)})
    only = parts["train"].select(lambda s: s.label == FAKE)
    with pytest.raises(ManifestError, match="train has no real sample"):
        ViewsDataModule(**{**parts, "train": only})


def test_a_store_of_another_preparation_is_refused(parts):
    with pytest.raises(ConfigError, match="the store was prepared as"):
        ViewsDataModule(**{**parts, "modality": Patches()})


def test_samples_without_views_are_left_out_and_counted(tmp_path):
    modality = Tones()
    train = write_samples(tmp_path / "media", modality, 6, split="train")
    dev = write_samples(tmp_path / "media", modality, 4, split="dev")
    train.file(train[0]).write_bytes(b"silent")
    train.file(train[1]).write_bytes(b"boom")
    store = prepare_store(join(train, dev), modality, tmp_path / "store", progress=False)
    data = ViewsDataModule(train=train, dev=dev, store=store, modality=modality)
    assert data.left_out["train"] == {"no_face": {"real": 1, "fake": 0}, "error": {"real": 0, "fake": 1}}
    for i in (2, 4):
        train.file(train[i]).write_bytes(b"silent")
    store = prepare_store(join(train, dev), modality, tmp_path / "store2", progress=False)
    with pytest.raises(ManifestError, match="no real sample has views"):
        ViewsDataModule(train=train, dev=dev, store=store, modality=modality)


def epoch(data: ViewsDataModule, number: int) -> list[tuple[bytes, list[int]]]:
    data.order.epoch = lambda: number
    return [(batch.views.numpy().tobytes(), batch.label.tolist()) for batch in data._train_loader()]


def test_an_epoch_is_a_function_of_seed_and_number(parts):
    options = {"augment": VoiceAugment(), "views": 2, "batch_size": 4}
    data = ViewsDataModule(**parts, **options, seed=3)
    torch.manual_seed(0)
    first = epoch(data, 4)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert epoch(data, 4) == first
    assert epoch(data, 5) != first
    assert epoch(ViewsDataModule(**parts, **options, seed=4), 4) != first
    assert [len(labels) for _, labels in first] == [8, 8, 4]


def test_loader_processes_change_nothing(parts):
    options = {"augment": VoiceAugment(), "batch_size": 4}
    alone = ViewsDataModule(**parts, **options)
    helped = ViewsDataModule(**parts, **options, num_workers=2)
    assert epoch(alone, 1) == epoch(helped, 1)
    for one, two in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert torch.equal(one.views, two.views)
        assert [m[:2] for m in one.members] == [m[:2] for m in two.members]


def test_dev_views_are_even_and_every_sample_comes_once(parts):
    data = ViewsDataModule(**parts, score_views=2, batch_size=5)
    seen = {}
    for batch in data.val_dataloader():
        at = 0
        for position, n, views in batch.members:
            seen[position] = batch.views[at : at + n].numpy()
            assert len(views) == n == 2
            at += n
    assert sorted(seen) == list(range(6))
    sample = data.dev_samples[3]
    expected = parts["modality"].draw(parts["store"].views(sample.sample_id), 2).data
    np.testing.assert_array_equal(seen[3], expected)


def uneven(n_real: int, generators: dict[str, int]):
    base = list(write_uneven(n_real, generators))
    return base


def write_uneven(n_real, generators):
    from deepassay.manifest import Sample

    for i in range(n_real):
        yield Sample(sample_id=f"r{i}", path="x", media="audio", modality="voice", label=0)
    for name, n in generators.items():
        for i in range(n):
            yield Sample(sample_id=f"{name}{i}", path="x", media="audio", modality="voice", label=1, generator=name)


def test_balanced_epochs():
    samples = uneven(90, {"a": 8, "b": 2})
    plain = EpochOrder(samples, balance="none", seed=0)
    assert sorted(d.index for d in plain.order(0)) == list(range(100))
    by_label = EpochOrder(samples, balance="label", seed=0).order(0)
    assert Counter(samples[d.index].label for d in by_label) == {0: 50, 1: 50}
    times = Counter(d.index for d in by_label if d.index >= 90)
    assert set(times.values()) == {5}  # no fake comes again before all have come
    assert len({(d.index, d.repeat) for d in by_label}) == 100  # and each time with randomness of its own
    by_generator = EpochOrder(samples, balance="generator", seed=0).order(0)
    assert Counter(samples[d.index].generator for d in by_generator) == {"": 50, "a": 25, "b": 25}
    assert by_label != EpochOrder(samples, balance="label", seed=0).order(1)
    with pytest.raises(ConfigError, match="balance is"):
        EpochOrder(samples, balance="luck", seed=0)


def test_ranks_share_one_epoch():
    samples = uneven(5, {"a": 6})
    order = EpochOrder(samples, balance="none", seed=0)
    whole = order.order(0)
    shares = []
    for rank in range(3):
        order.rank, order.ranks = rank, 3
        shares.append(list(order))
        assert len(shares[-1]) == len(order) == 4
    assert {d for share in shares for d in share} == set(whole)


def test_randomness_is_a_function_of_its_names():
    assert stable_seed("a", 1) == stable_seed("a", 1) != stable_seed("a", 2)
    assert stable_seed("a", 12) != stable_seed("a1", 2)
    one, two = sample_rng(0, 1, "x"), sample_rng(0, 1, "x")
    assert one.random() == two.random() != sample_rng(0, 1, "x", repeat=1).random()


def test_a_lonely_last_view_is_dropped(parts):
    data = ViewsDataModule(**parts, batch_size=3)
    assert [len(b.label) for b in data._train_loader()] == [3, 3, 3]
    assert data.steps_per_epoch == 3
