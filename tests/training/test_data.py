"""The data module: nothing leaks in, epochs are functions of their number, loader processes change nothing."""

import itertools
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deepassay.augment.face import FaceAugment
from deepassay.augment.forge import CrossBlended, Forged, SelfBlended
from deepassay.augment.none import NoAugment
from deepassay.augment.voice import VoiceAugment
from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Sample
from deepassay.store import prepare_store
from deepassay.training.data import ViewsDataModule
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


def test_randomness_is_a_function_of_its_names():
    assert stable_seed("a", 1) == stable_seed("a", 1) != stable_seed("a", 2)
    assert stable_seed("a", 12) != stable_seed("a1", 2)
    one, two = sample_rng(0, 1, "x"), sample_rng(0, 1, "x")
    assert one.random() == two.random() != sample_rng(0, 1, "x", repeat=1).random()


def test_a_lonely_last_view_is_dropped(parts):
    data = ViewsDataModule(**parts, batch_size=3)
    assert [len(b.label) for b in data._train_loader()] == [3, 3, 3]
    assert data.steps_per_epoch == 3


@pytest.fixture
def faces(tmp_path):
    modality = Patches()
    train = write_samples(tmp_path / "media", modality, 12, split="train", views=3)
    dev = write_samples(tmp_path / "media", modality, 6, split="dev", views=3)
    store = prepare_store(join(train, dev), modality, tmp_path / "store", progress=False)
    return {"train": train, "dev": dev, "store": store, "modality": modality}


def real_only(manifest):
    return manifest.select(lambda s: s.label == REAL)


class Marking:
    """A forge whose fakes carry the value 255 in one corner, and whose partner is seen in another."""

    names = ("marked",)

    def __init__(self, needs_partner=False):
        self.needs_partner = needs_partner
        self.seen = []

    def __call__(self, views, rng, partner=None):
        fake = views.data.copy()
        fake[:, 0, 0] = 255
        mask = np.zeros(views.data.shape[:3], np.float32)
        mask[:, 0, 0] = 1
        self.seen.append((views.data[0].tobytes(), None if partner is None else partner.data[0].tobytes()))
        return Forged(views.data, fake, mask)

    def describe(self, views):
        return np.array([views.data.mean()], np.float32)


def test_real_samples_alone_are_enough_for_a_forge_and_for_nothing_else(faces):
    parts = {**faces, "train": real_only(faces["train"])}
    with pytest.raises(ManifestError, match=r"train has no fake sample.*\nhint.*forge=sbi"):
        ViewsDataModule(**parts)
    with pytest.raises(ManifestError, match="train has no fake sample"):
        ViewsDataModule(**parts, forge=Marking(), forge_share=0.5)
    data = ViewsDataModule(**parts, forge=Marking())
    assert Counter(label for _, labels in epoch(data, 0) for label in labels) == {0: 6, 1: 6}
    only_dev = {**parts, "dev": real_only(faces["dev"])}
    with pytest.raises(ManifestError, match="dev has no fake sample"):
        ViewsDataModule(**only_dev, forge=Marking())
    assert ViewsDataModule(**only_dev, forge=Marking(), dev_forge=True).dev_labels.tolist() == [0] * 3 + [1] * 3


def test_forged_batches_hold_pairs_and_their_masks(faces):
    data = ViewsDataModule(**faces, forge=Marking(), masks=True, views=2, batch_size=6, augment=NoAugment())
    assert len(data.order) == 12  # six real samples, a pair of each
    assert data.left_out["train"] == {"replaced_by_forged": {"real": 0, "fake": 6}}
    data.order.epoch = lambda: 0
    batches = list(data._train_loader())
    assert [len(b.label) for b in batches] == [12, 12]
    for batch in batches:
        assert batch.label.tolist() == [0, 0, 1, 1] * 3
        fake = batch.label == 1
        assert (batch.views[fake][:, 0, 0] == 255).all()
        assert torch.equal(batch.views[fake][:, 1:], batch.views[~fake][:, 1:])  # the pair is one picture
        assert (batch.mask[fake][:, 0, 0] == 1).all()
        assert batch.mask.sum() == fake.sum()
        assert batch.mask.dtype == torch.float32


def test_given_and_forged_fakes_share_a_batch_as_asked(faces):
    data = ViewsDataModule(
        **faces, forge=Marking(), forge_share=0.5, masks=True, batch_size=4, augment=NoAugment(), epoch_samples=24
    )
    data.order.epoch = lambda: 1
    batches = list(data._train_loader())
    assert [len(b.label) for b in batches] == [4] * 6
    forged = given = 0
    for batch in batches:
        assert batch.label.sum() == 2
        unknown = batch.mask.isnan().all(dim=(1, 2))
        assert (batch.label[unknown] == 1).all()
        assert not batch.mask[~unknown].isnan().any()
        given += int(unknown.sum())
        forged += int(((batch.label == 1) & ~unknown).sum())
    assert (forged, given) == (6, 6)
    plain = ViewsDataModule(**faces, forge=Marking())
    assert plain.train_set[plain.order.order(0)[0]][3] is None  # masks only where they are asked for


def test_both_halves_of_a_pair_are_augmented_by_the_same_draws(faces):
    data = ViewsDataModule(**faces, forge=Marking(), batch_size=4, augment=FaceAugment(crop=(1, 1)))
    data.order.epoch = lambda: 0
    differing = []
    for batch in data._train_loader():
        real, fake = batch.views[batch.label == 0].int(), batch.views[batch.label == 1].int()
        differing += [(r - f).abs().float().mean().item() for r, f in zip(real, fake, strict=True)]
    assert max(differing) < 4  # other noise, crop or light would differ by far more
    apart = FaceAugment(crop=(1, 1))
    view = batch.views[:1].numpy()
    others = [apart(view, np.random.default_rng(i)).astype(int) for i in range(12)]
    assert np.mean([np.abs(a - b).mean() for a, b in itertools.pairwise(others)]) > 8


@pytest.mark.parametrize("forge", [SelfBlended(), CrossBlended()], ids=["sbi", "blend"])
def test_a_forged_epoch_is_a_function_of_seed_and_number(faces, forge):
    options = {"augment": FaceAugment(), "batch_size": 4, "forge": forge}
    first = epoch(ViewsDataModule(**faces, **options), 2)
    assert epoch(ViewsDataModule(**faces, **options, num_workers=2), 2) == first
    assert epoch(ViewsDataModule(**faces, **options), 3) != first
    assert epoch(ViewsDataModule(**faces, **options, seed=1), 2) != first


def test_partners_are_other_people_of_training(faces):
    forge = Marking(needs_partner=True)
    data = ViewsDataModule(**faces, forge=forge, forge_share=0.5, batch_size=4, epoch_samples=48)
    owner = {}
    for name in ("train", "dev"):
        for sample in faces[name]:
            for view in faces["store"].views(sample.sample_id).data:
                owner[view.tobytes()] = sample
    epoch(data, 0)
    assert len(forge.seen) == 12
    for mine, theirs in forge.seen:
        assert owner[theirs].split == "train"
        assert owner[theirs].label == REAL
        assert not set(owner[mine].subjects) & set(owner[theirs].subjects)
    one_person = faces["train"].replace_samples([replace(s, subjects=("somebody",)) for s in faces["train"]])
    with pytest.raises(ManifestError, match="no two real samples of different subjects"):
        ViewsDataModule(**{**faces, "train": one_person}, forge=Marking(needs_partner=True))
    nobody = faces["train"].replace_samples([replace(s, subjects=(), source_id="") for s in faces["train"]])
    ViewsDataModule(**{**faces, "train": nobody}, forge=Marking(needs_partner=True))  # a blank ties nobody


def test_partners_look_alike(tmp_path):
    from deepassay.training.data import _Partners

    class Described(Marking):
        def describe(self, views):
            return np.array([views], np.float32)

    class Numbers:
        def views(self, sample_id):
            return float(sample_id[1:])

    samples = [
        Sample(
            sample_id=f"r{i}",
            path="x",
            media="audio",
            modality="voice",
            label=0,
            source_id=f"r{i}",
            subjects=(f"r{i}",),
        )
        for i in range(60)
    ]
    partners = _Partners(samples, Numbers(), Described(needs_partner=True), nearest=3)
    away = [abs(partners.pick(30, np.random.default_rng(i)) - 30) for i in range(40)]
    assert set(away) == {1, 2}  # three nearest of all: two at one step, one at two
    assert partners.pick(30, np.random.default_rng(0)) == partners.pick(30, np.random.default_rng(0))


def test_dev_pairs_are_forged_once_and_for_all(faces):
    options = {"forge": SelfBlended(), "dev_forge": True, "augment": FaceAugment(), "score_views": 2}
    data = ViewsDataModule(**faces, **options)
    assert data.dev_labels.tolist() == [0] * 3 + [1] * 3
    assert data.left_out["dev"] == {"replaced_by_forged": {"real": 0, "fake": 3}}
    first, second = ([b.views for b in data.val_dataloader()] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    views = {p: v for b in data.val_dataloader() for p, v in zip([m[0] for m in b.members for _ in range(m[1])], b.views, strict=True)}  # noqa: E501  # fmt: skip
    assert sorted(views) == list(range(6))
    assert not any(torch.equal(views[i], views[i + 3]) for i in range(3))
    helped = ViewsDataModule(**faces, **options, num_workers=1)
    assert all(torch.equal(a, b.views) for a, b in zip(first, helped.val_dataloader(), strict=True))


def test_contradicting_forge_settings_are_refused(faces):
    for options, message in (
        ({"dev_forge": True}, "no forge"), ({"forge": Marking(), "forge_share": 0.0}, "forge_share"),
        ({"forge": Marking(), "batch_size": 5}, "pairs"),
        ({"masks": True, "augment": VoiceAugment()}, "cannot take them along"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            ViewsDataModule(**faces, **options)


def test_windows_of_a_partly_fake_recording_are_fake_where_it_is(tmp_path):
    from deepassay.manifest import Manifest, Sample
    from deepassay.media.sound import write_sound
    from deepassay.modality.voice import VoiceModality

    modality = VoiceModality(window_samples=8000)
    rng = np.random.default_rng(0)
    (tmp_path / "media").mkdir()
    samples = []
    for split in ("train", "dev"):
        for i, label in enumerate((REAL, FAKE, REAL, FAKE)):
            name = f"{split}{i}.wav"
            ramp = np.linspace(0.05, 0.5, 64000, dtype=np.float32)  # the level tells where a window comes from
            write_sound(tmp_path / "media" / name, ramp * rng.choice([-1, 1], 64000).astype(np.float32), 16000)
            samples.append(
                Sample(
                    sample_id=name, path=name, media="audio", modality="voice", label=label, source_id=name,
                    subjects=(name,), generator="splice" if label == FAKE else "", corpus="c", split=split,
                    attributes={"fake_segments": "0-1;3-4"} if label == FAKE else {},
                )
            )  # fmt: skip
    manifest = Manifest.from_samples(samples, root=tmp_path / "media", info={"name": "c"})
    store = prepare_store(manifest, modality, tmp_path / "store", progress=False)
    both = {"train": manifest.split("train"), "dev": manifest.split("dev"), "store": store, "modality": modality}

    def labels(**options):
        data = ViewsDataModule(**both, views=24, batch_size=4, **options)
        (batch,) = list(data._train_loader())
        at = (batch.views.abs().mean(1).numpy() - 0.05) / 0.45 * 4  # seconds, of the middle of the window
        return at, batch.label.numpy()

    at, whole = labels()
    assert (whole == FAKE).sum() == 48
    at, parted = labels(min_fake_s=0.1)
    inside = (at < 1.1) | (at > 2.9)
    outside = (at > 1.2) & (at < 2.8)
    assert ((parted == FAKE) <= (whole == FAKE)).all()
    assert (parted[(whole == FAKE) & inside] == FAKE).all()
    assert (parted[(whole == FAKE) & outside] == REAL).all()
    assert ((whole == FAKE) & outside).sum() > 5
    with pytest.raises(ConfigError, match="min_fake_s"):
        labels(min_fake_s=0.0)


def test_targets_by_segment_are_for_views_that_lie_in_time(parts):
    with pytest.raises(ConfigError, match="min_fake_s"):
        ViewsDataModule(**parts, min_fake_s=0.5)
