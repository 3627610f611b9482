"""The built-in face corpus: found by the real finder, balanced, one encoder chain, resumable, deterministic."""

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml

import deepassay.corpora.synthetic_faces as corpus
from deepassay.corpora.procedural_face import animate, draw_capture, draw_identity, render_face
from deepassay.corpora.synthetic_faces import SyntheticFaces, prepare_synthetic_faces
from deepassay.errors import ConfigError
from deepassay.files import sha256_file
from deepassay.manipulation.face import GENERATORS
from deepassay.media.image import read_image
from deepassay.media.video import read_frames

SMALL = {"identities": 6, "per_identity": 4, "videos": 4, "size": 128, "frames": 5, "progress": False}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return prepare_synthetic_faces(tmp_path_factory.mktemp("faces"), **SMALL)


def test_manifest_is_complete_and_true_of_the_files(small):
    assert len(small) == 6 * 4 + 4
    assert small.synthetic
    assert small.info["strength"] == 1.0
    assert small.info["licence"] == "CC0-1.0 (generated)"
    for sample in small:
        file = small.file(sample)
        assert sha256_file(file) == sample.sha256
        assert file.stat().st_size == sample.bytes
        assert (sample.width, sample.height) == (128, 128)
        assert sample.modality == "face"
        assert sample.licence.startswith("CC0")
        assert (sample.label == 1) == bool(sample.generator) == bool(sample.generator_family)
        assert (len(sample.subjects) == 2) == (sample.generator == "blend_swap")
        if sample.media == "video":
            assert sample.codec == "h264"
            assert sample.fps == pytest.approx(12.0)
            assert len(read_frames(file, 5).images) == 5
            assert sample.channel.startswith("h264-crf")
        else:
            assert sample.codec == "jpeg"
            assert read_image(file).shape == (128, 128, 3)
            assert sample.channel.startswith("jpeg-q")


def test_identity_and_attributes_tell_nothing_of_the_label(small):
    by_subject = defaultdict(Counter)
    keys = set()
    for sample in small:
        by_subject[(sample.cluster, sample.media)][sample.label] += 1
        keys.add((sample.label, tuple(sorted(sample.attributes))))
    assert all(counts[0] == counts[1] for counts in by_subject.values())
    assert len({names for _, names in keys}) == 1
    assert set(small.column("generator")) == {"", *GENERATORS}


def test_every_sample_is_a_recording_of_its_own(small):
    sources = small.column("source_id")
    assert len(set(sources)) == len(small)
    assert len(set(small.column("sha256"))) == len(small)


def test_splits_hold_target_and_donor_together_and_cover_all(small):
    where = defaultdict(set)
    for sample in small:
        for subject in sample.subjects:
            where[subject].add(sample.split)
    assert all(len(splits) == 1 for splits in where.values())
    assert set(small.column("split")) == {"train", "dev", "test"}
    share = Counter(corpus.official_split(3, i) for i in range(400))
    assert (share["train"], share["dev"], share["test"]) == (240, 80, 80)


def test_ids_name_seed_person_and_generator_and_do_not_depend_on_size_of_the_corpus(small, tmp_path):
    more = prepare_synthetic_faces(tmp_path, **{**SMALL, "identities": 2, "per_identity": 6, "videos": 2})
    shared_ids = set(small.column("sample_id")) & set(more.column("sample_id"))
    assert len(shared_ids) == 2 * 4 + 2
    here, there = ({s.sample_id: s.sha256 for s in m} for m in (small, more))
    assert all(here[i] == there[i] for i in shared_ids)
    assert all("p0" in i and "-s0-" in i for i in shared_ids)


def test_workers_do_not_change_the_files(small, tmp_path):
    settings = {**SMALL, "identities": 2, "videos": 2}
    alone, together = (prepare_synthetic_faces(tmp_path / str(n), **settings, workers=n) for n in (0, 2))
    assert alone.hash == together.hash


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from deepassay.corpora.synthetic_faces import prepare_synthetic_faces\n"
        f"prepare_synthetic_faces({str(tmp_path / 'out')!r}, identities=2, per_identity=4, videos=0, size=96,"
        " workers=2, progress=False)\n"
    )
    paths = os.pathsep.join([str(Path(corpus.__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    out = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert out.returncode != 0
    assert "hint: in a script of your own, start below `if __name__ == '__main__':`" in out.stderr


def test_seed_changes_everything(small, tmp_path):
    other = prepare_synthetic_faces(tmp_path, **{**SMALL, "identities": 2, "per_identity": 4, "videos": 0, "seed": 1})
    assert not set(other.column("sha256")) & set(small.column("sha256"))
    assert not set(other.column("sample_id")) & set(small.column("sample_id"))


def test_finished_corpus_is_found_not_made_again(small, monkeypatch):
    monkeypatch.setattr(corpus, "_make", lambda *a: pytest.fail("made again"))
    assert prepare_synthetic_faces(small.root.parent, **SMALL).hash == small.hash


def test_damaged_and_missing_files_are_made_again(tmp_path):
    settings = {**SMALL, "identities": 2, "videos": 0}
    first = prepare_synthetic_faces(tmp_path, **settings)
    damaged, gone = first.file(first[0]), first.file(first[3])
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    gone.unlink()
    untouched = first.file(first[1])
    before = untouched.stat().st_mtime_ns
    again = prepare_synthetic_faces(tmp_path, **settings)
    assert again.hash == first.hash
    assert sha256_file(damaged) == first[0].sha256
    assert gone.is_file()
    assert untouched.stat().st_mtime_ns == before


def test_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    settings = {**SMALL, "identities": 2, "videos": 0}
    make, done = corpus._make, []

    def three_then_stop(*args):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(args[2]["sample_id"])
        return make(*args)

    monkeypatch.setattr(corpus, "_make", three_then_stop)
    with pytest.raises(KeyboardInterrupt):
        prepare_synthetic_faces(tmp_path, **settings)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "corpus.json").exists()
    with open(folder / "journal.jsonl", "a", encoding="utf-8") as journal:
        journal.write('{"recipe": "torn li')
    # A journalled file that changed afterwards is not believed.
    first = next(folder.rglob(f"{done[0]}.jpg"))
    first.write_bytes(first.read_bytes()[:-10])

    later = []
    monkeypatch.setattr(corpus, "_make", lambda *args: later.append(args[2]["sample_id"]) or make(*args))
    whole = prepare_synthetic_faces(tmp_path, **settings)
    assert set(later) == (set(whole.column("sample_id")) - set(done)) | {done[0]}
    assert (folder / "corpus.json").exists()
    assert not (folder / "journal.jsonl").exists()
    monkeypatch.setattr(corpus, "_make", make)
    assert whole.hash == prepare_synthetic_faces(tmp_path / "other", **settings).hash


def test_settings_live_in_folders_of_their_own(tmp_path):
    settings = {**SMALL, "identities": 2, "videos": 0}
    full = prepare_synthetic_faces(tmp_path, **settings)
    none = prepare_synthetic_faces(tmp_path, **settings, strength=0.0)
    assert full.root != none.root
    assert full.file(full[0]).is_file()
    # Reals are the same files; fakes are others, under other ids.
    for a, b in zip(full, none, strict=True):
        assert (a.sha256 == b.sha256) == (a.label == 0)
        assert (a.sample_id == b.sample_id) == (a.label == 0)


def test_at_strength_zero_a_fake_is_a_real_picture_with_the_wrong_label(tmp_path, monkeypatch):
    """The whole chain of a fake equals, byte for byte, that of a real sample of the same capture."""
    settings = {**SMALL, "identities": 2, "videos": 2}
    fakes = prepare_synthetic_faces(tmp_path / "fakes", **settings, strength=0.0)
    plan = corpus._plan
    monkeypatch.setattr(corpus, "_plan", lambda recipe: [{**task, "generator": ""} for task in plan(recipe)])
    reals = prepare_synthetic_faces(tmp_path / "reals", **settings, strength=0.0)
    assert set(reals.column("label")) == {0}
    assert list(fakes.column("sha256")) == list(reals.column("sha256"))


def test_encoder_settings_are_drawn_alike_for_both_classes():
    """Final JPEG quality: the draw is of identity and capture only, spread alike over both parities."""
    draw = lambda i, k: int(corpus._rng(0, "chain", i, k, 1).integers(84, 98))  # noqa: E731
    real = [draw(i, k) for i in range(60) for k in range(0, 20, 2)]
    fake = [draw(i, k) for i in range(60) for k in range(1, 20, 2)]
    assert abs(np.mean(real) - np.mean(fake)) < 0.6
    assert set(real) == set(fake)


def test_skin_tones_spread_evenly_whatever_the_seed():
    for seed in (0, 1, 2):
        tones = Counter(corpus.corpus_identity(seed, i).tone_class for i in range(60))
        assert len(tones) == 6
        assert min(tones.values()) >= 5
        darkest, lightest = (
            np.mean([corpus.corpus_identity(seed, i).skin for i in range(60)
                     if corpus.corpus_identity(seed, i).tone_class == t])
            for t in ("tone-6", "tone-1")
        )  # fmt: skip
        assert darkest < 0.2 * lightest


def test_renderer_is_deterministic_and_identities_differ():
    capture = draw_capture(np.random.default_rng(0))
    one, two = draw_identity(1, 0.4), draw_identity(2, 0.4)
    first = render_face(one, capture, 96)
    assert np.array_equal(first.image, render_face(draw_identity(1, 0.4), capture, 96).image)
    assert np.abs(first.image.astype(float) - render_face(two, capture, 96).image).mean() > 4
    assert first.image.dtype == np.uint8
    assert first.landmarks.shape == (5, 2)
    assert first.hull.ndim == 2


def test_clips_move_smoothly_and_blink():
    start = draw_capture(np.random.default_rng(5))
    frames = animate(start, 24, 12.0, np.random.default_rng(5))
    yaw = np.array([c.yaw for c in frames])
    assert np.ptp(yaw) > 0.03
    assert np.abs(np.diff(yaw)).max() < 0.1
    assert min(c.eye_open for c in frames) < 0.6 * max(c.eye_open for c in frames)
    assert np.ptp([c.mouth_open for c in frames]) > 0.1
    assert len({c.seed for c in frames}) == 1  # one background
    assert len({c.noise_seed for c in frames}) == 24  # new sensor noise in each


def found_share(n: int, root: Path) -> tuple[int, float, float]:
    """How many of n final files of both classes MTCNN finds, over identities of every tone; and its landmark error."""
    facenet = pytest.importorskip("facenet_pytorch", reason="the real face finder comes with the extra 'train'")
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        finder = facenet.MTCNN(min_face_size=20, device="cpu")
        made = prepare_synthetic_faces(root, identities=n // 2, per_identity=2, videos=0, progress=False)
        errors, found = [], 0
        for sample in made:
            image = read_image(made.file(sample))
            _, _, points = finder.detect(image, landmarks=True)
            if points is None:
                continue
            found += 1
            if sample.label == 0:
                known = known_landmarks(sample)
                near = np.min([np.abs(np.asarray(p, dtype=float) - known).mean() for p in points])
                errors.append(near / np.hypot(*(known[1] - known[0])))
        return found, found / n, float(np.median(errors))
    finally:
        torch.set_num_threads(threads)


def known_landmarks(sample) -> np.ndarray:
    index, k = int(sample.cluster.rsplit("p", 1)[1]), int(sample.source_id.rsplit("recording", 1)[1])
    capture = draw_capture(corpus._rng(0, "capture", index, k))
    from deepassay.corpora.procedural_face import landmarks_of

    return landmarks_of(corpus.corpus_identity(0, index), capture, 256)[0]


def test_real_finder_finds_the_faces_where_the_renderer_put_them(tmp_path):
    _, share, error = found_share(60, tmp_path)
    assert share >= 0.95
    assert error < 0.08  # of the distance between the eyes


@pytest.mark.full
def test_real_finder_finds_95_percent_of_500(tmp_path):
    _, share, _ = found_share(500, tmp_path)
    assert share >= 0.95


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identities": 3}, "identities"),
        ({"identities": 0}, "identities"),
        ({"per_identity": 5}, "per_identity"),
        ({"videos": 1}, "videos"),
        ({"size": 127}, "size"),
        ({"size": 32}, "size"),
        ({"frames": 1}, "frames"),
        ({"fps": 0}, "fps"),
        ({"seed": -1}, "seed"),
        ({"strength": 1.5}, "strength"),
        ({"strength": "high"}, "strength"),
        ({"generators": []}, "generators"),
        ({"generators": ["blend_swap", "blend_swap"]}, "generators"),
        ({"generators": ["morph"]}, "morph"),
        ({"workers": -1}, "workers"),
        ({"identities": 2, "per_identity": 2}, "2 fakes for 4 generators"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_written(change, words, tmp_path):
    with pytest.raises(ConfigError, match=words) as caught:
        prepare_synthetic_faces(tmp_path / "new", **{**SMALL, **change})
    assert "hint:" in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_door_has_the_settings_of_its_config(tmp_path, monkeypatch):
    path = Path(__file__).resolve().parents[2] / "configs" / "corpus" / "synthetic_faces.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.pop("_target_") == "deepassay.corpora.synthetic_faces.SyntheticFaces"
    door = SyntheticFaces(**config)
    assert sorted(config["generators"]) == sorted(GENERATORS)
    assert door.settings == {key: value for key, value in config.items() if key != "root"}
    monkeypatch.setenv("DEEPASSAY_CACHE", str(tmp_path))
    assert SyntheticFaces().root == tmp_path / "corpora" / "synthetic_faces"
    with pytest.raises(TypeError):
        SyntheticFaces(identites=4)  # type: ignore[call-arg]


def test_door_prepares_what_the_function_prepares(small, tmp_path):
    made = SyntheticFaces(root=str(tmp_path), **SMALL).prepare()
    assert made.hash == small.hash
    record = json.loads((made.root / "corpus.json").read_text(encoding="utf-8"))
    assert record["recipe_hash"] == made.info["recipe"]
