"""Every planted leak and shortcut is found, named and blocking; a clean set gives no block."""

import argparse
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepassay import audit as room
from deepassay.audit import AuditError, AuditReport, audit
from deepassay.audit.duplicates import near_duplicates
from deepassay.audit.looking import Looked
from deepassay.corpora.table import TableCorpus
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import Status, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.media.sound import read_sound, write_sound
from deepassay.media.video import write_video
from deepassay.modality.views import Views
from deepassay.splits import SubjectSplit

SPLIT_OF = ("train", "train", "train", "dev", "test")


@lru_cache(maxsize=1000)
def texture(seed: int, size: int = 64) -> np.ndarray:
    """A picture of random waves, unlike every other seed's."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    out = np.zeros((size, size, 3))
    for _ in range(30):
        fx, fy = rng.normal(0, 9, 2)
        out += np.sin(2 * np.pi * (fx * x + fy * y) + rng.uniform(0, 7))[..., None] * rng.uniform(0.3, 1, 3)
    out = (out - out.min()) / np.ptp(out)
    return (out * 255).astype(np.uint8)


@lru_cache(maxsize=1000)
def murmur(seed: int, seconds: float = 1.2) -> np.ndarray:
    """A signal of random bursts of random tones, unlike every other seed's; (T,) at 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16_000)) / 16_000
    out = rng.normal(0, 0.003, len(t))
    for _ in range(25):
        start, length, pitch = rng.uniform(0, seconds - 0.1), rng.uniform(0.05, 0.25), rng.uniform(180, 3000)
        inside = np.clip(np.minimum(t - start, start + length - t) / 0.01, 0, 1)
        out += inside * np.sin(2 * np.pi * pitch * t) * rng.uniform(0.2, 1)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def save_jpeg(path: Path, image: np.ndarray, quality: int = 90) -> None:
    Image.fromarray(image).save(path, quality=quality)


def person(n: int, label: int, suffix: str, media: str, modality: str, **more) -> Sample:
    """Sample n of subject n // 2; a subject has one split and both labels."""
    subject = n // 2
    values = {
        "sample_id": f"s{n}", "path": f"s{n}{suffix}", "media": media, "modality": modality, "label": label,
        "subjects": (f"p{subject}",), "split": SPLIT_OF[subject % 5], "generator": "toy" if label else "",
    }  # fmt: skip
    return Sample(**{**values, **more})


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> tuple[Path, list[Sample]]:
    root = tmp_path_factory.mktemp("faces")
    samples = [person(n, n % 2, ".jpg", "image", "face") for n in range(120)]
    for n in range(len(samples)):
        save_jpeg(root / f"s{n}.jpg", texture(n))
    return root, samples


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> tuple[Path, list[Sample]]:
    root = tmp_path_factory.mktemp("voices")
    samples = [person(n, n % 2, ".wav", "audio", "voice") for n in range(80)]
    for n in range(len(samples)):
        write_sound(root / f"s{n}.wav", murmur(n), 16_000)
    return root, samples


def check(root: Path, samples: list[Sample], **options) -> AuditReport:
    # The views of what is said to be synthetic are not probed.
    info = {"name": "toy", "synthetic": "modality" not in options, **options.pop("info", {})}
    return audit(Manifest.from_samples(samples, root, info), **{"replicates": 100, **options})


def blocks(report: AuditReport) -> set[str]:
    return {f.id for f in report.blocks}


def finding(report: AuditReport, name: str) -> room.AuditFinding:
    return next(f for f in report.findings if f.id == name)


@pytest.mark.parametrize("which", ["faces", "voices"])
def test_a_clean_set_is_not_blocked(which, request):
    report = check(*request.getfixturevalue(which))
    assert blocks(report) == set()
    assert {f.severity for f in report.findings} <= {room.PASS, room.SKIP}
    assert report.near_duplicates is not None
    assert report.near_duplicates["pairs_across_splits"] == 0
    assert finding(report, "near_duplicates").statistic["pairs"] == 0
    assert report.overlap_counts["subject"] == 0
    report.raise_on_block()


def test_a_planted_shared_speaker_is_named(voices):
    root, samples = voices
    planted = [*samples[:-1], replace(samples[-1], split="train" if samples[-1].split == "test" else "test")]
    report = check(root, planted, look=False)
    assert blocks(report) == {"overlap.subject"}
    assert finding(report, "overlap.subject").examples[0]["subject"] == "p39"
    assert report.overlap_counts["subject"] == 1
    with pytest.raises(AuditError, match=r"overlap\.subject"):
        report.raise_on_block()


def test_a_swap_counts_with_both_subjects(faces):
    root, samples = faces
    swap = person(1, 1, ".jpg", "image", "face", subjects=("p0", "p4"))  # p0 is train, p4 is test
    report = check(root, [samples[0], swap, *samples[2:]], look=False)
    assert finding(report, "overlap.subject").examples[0]["subject"] == "p4"


def test_source_and_path_and_linking_attributes(faces):
    root, samples = faces
    tied = [replace(s, source_id=f"v{n % 7}", attributes={"session": f"k{n % 3}"}) for n, s in enumerate(samples)]
    report = check(root, tied, look=False)
    assert "overlap.source" in blocks(report)
    assert finding(report, "overlap.session").severity == room.WARN
    again = [*samples, person(160, 0, ".jpg", "image", "face", path="s0.jpg", subjects=("q",), split="test")]
    assert "overlap.path" in blocks(check(root, again, look=False))


def test_a_reencoded_smaller_face_across_splits_is_found(faces):
    root, samples = faces
    copy = Image.open(root / "s0.jpg").resize((40, 40))
    save_jpeg(root / "copy.jpg", np.asarray(copy), quality=60)
    planted = person(161, 0, ".jpg", "image", "face", path="copy.jpg", subjects=("stranger",), split="test")
    report = check(root, [*samples, planted])
    assert blocks(report) == {"near_duplicates"}
    assert set(finding(report, "near_duplicates").examples[0]["samples"].values()) == {"s0", "s161"}
    assert report.near_duplicates is not None
    assert report.near_duplicates["pairs_across_splits"] == 1


@pytest.mark.parametrize("kind", ["mp3", "opus", "later", "louder with noise"])
def test_a_reencoded_voice_across_splits_is_found(voices, kind):
    root, samples = voices
    signal = murmur(0)
    suffix = {"mp3": ".mp3", "opus": ".opus"}.get(kind, ".wav")
    if kind == "later":
        signal = signal[2345:]
    elif kind == "louder with noise":
        signal = np.clip(1.6 * signal + np.random.default_rng(5).normal(0, 0.01, len(signal)), -1, 1).astype(np.float32)
    write_sound(root / f"copy{suffix}", signal, 16_000)
    planted = person(121, 0, suffix, "audio", "voice", path=f"copy{suffix}", subjects=("stranger",), split="test")
    report = check(root, [*samples, planted])
    assert "near_duplicates" in blocks(report)
    assert set(finding(report, "near_duplicates").examples[0]["samples"].values()) == {"s0", "s121"}


def test_a_reencoded_video_across_splits_is_found(tmp_path):
    samples = []
    for n in range(4):
        clip = np.stack([np.roll(texture(n % 3), 2 * k, axis=1) for k in range(6)])
        write_video(tmp_path / f"s{n}.mp4", clip, 25, crf=18 + 5 * n)
        split = "test" if n == 3 else "train"
        samples.append(person(n, 0, ".mp4", "video", "face", subjects=(f"q{n}",), split=split))
    found = finding(check(tmp_path, samples), "near_duplicates")
    assert found.severity == room.BLOCK
    assert set(found.examples[0]["samples"].values()) == {"s0", "s3"}
    assert found.statistic["clusters_across_splits"] == 1


def test_near_duplicates_inside_a_split_do_not_block(faces):
    root, samples = faces
    save_jpeg(root / "inside.jpg", np.asarray(Image.open(root / "s0.jpg")), quality=50)
    planted = person(162, 0, ".jpg", "image", "face", path="inside.jpg", subjects=("stranger",), split="train")
    report = check(root, [*samples, planted])
    assert finding(report, "near_duplicates").statistic["pairs"] == 1
    assert blocks(report) == set()


def test_byte_copies_and_contradictory_labels(faces):
    root, samples = faces
    twin = person(163, 1, ".jpg", "image", "face", path="twin.jpg", subjects=("stranger",), split="test")
    (root / "twin.jpg").write_bytes((root / "s0.jpg").read_bytes())
    report = check(root, [*samples, twin])
    assert {"copies", "near_duplicates"} <= blocks(report)
    assert report.overlap_counts["sha256"] == 1
    hashed = [replace(samples[0], sha256="a" * 64), replace(twin, sha256="a" * 64), *samples[1:]]
    report = check(root, hashed, look=False)
    assert blocks(report) == {"overlap.sha256", "labels"}


def test_left_out_generators_are_held_to_the_claim(faces):
    root, samples = faces
    named = [
        replace(s, generator=("blend" if n % 4 == 1 else "warp") if s.label else "") for n, s in enumerate(samples)
    ]
    broken = check(root, named, look=False, leave_out={"test": ["blend"]})
    assert blocks(broken) == {"overlap.generator"}
    kept = [s for s in named if s.generator != "blend" or s.split == "test"]
    info = {"split": {"leave_out": {"test": ["blend"]}}}  # what a split records
    assert finding(check(root, kept, look=False, info=info), "overlap.generator").severity == room.PASS
    assert "overlap.generator" in blocks(check(root, named, look=False, info=info))
    missing = finding(check(root, kept, look=False, leave_out={"test": ["blnd"]}), "overlap.generator")
    assert missing.severity == room.WARN


@pytest.mark.parametrize(
    ("family", "spoil"),
    [
        ("container", lambda root, n: save_jpeg(root / f"s{n}.jpg", texture(n), 60 if n % 2 else 90)),
        ("geometry", lambda root, n: save_jpeg(root / f"s{n}.jpg", texture(n, 72 if n % 2 else 64))),
        ("sharpness", lambda root, n: save_jpeg(root / f"s{n}.jpg", blurred(texture(n)) if n % 2 else texture(n))),
    ],
)
def test_a_nuisance_that_follows_the_label_blocks_and_is_named_for_faces(tmp_path, faces, family, spoil: Callable):
    _, samples = faces
    for n in range(len(samples)):
        spoil(tmp_path, n)
    report = check(tmp_path, samples)
    found = finding(report, f"shortcut.{family}")
    assert found.severity == room.BLOCK
    assert found.statistic["ci"]["lo"] > 0.6
    assert "shortcut.all" in blocks(report)


def blurred(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.float32)
    for axis in (0, 1):
        values = (np.roll(values, 1, axis) + 2 * values + np.roll(values, -1, axis)) / 4
    return values.astype(np.uint8)


def test_a_container_format_that_follows_the_label_is_named(tmp_path, faces):
    _, samples = faces
    mixed = [replace(s, path=f"s{n}{'.png' if s.label else '.jpg'}") for n, s in enumerate(samples)]
    for n, s in enumerate(mixed):
        Image.fromarray(texture(n)).save(tmp_path / s.path)
    found = finding(check(tmp_path, mixed), "shortcut.container")
    assert found.severity == room.BLOCK
    assert next(iter(found.statistic["auc_of_each_alone"])) in ("suffix", "container", "codec")
    assert found.failure == "F03"


@pytest.mark.parametrize(
    ("family", "feature", "spoil"),
    [
        ("silence", "leading_silence", lambda x: np.concatenate([np.zeros(2400, np.float32), x[:-2400]])),
        ("duration", "duration", lambda x: x[:-3200]),
        ("channel", "level", lambda x: 0.5 * x),
    ],
)
def test_a_nuisance_that_follows_the_label_blocks_and_is_named_for_voices(tmp_path, voices, family, feature, spoil):
    _, samples = voices
    for n in range(len(samples)):
        signal = murmur(n)
        write_sound(tmp_path / f"s{n}.wav", spoil(signal) if n % 2 else signal, 16_000)
    report = check(tmp_path, samples)
    found = finding(report, f"shortcut.{family}")
    assert found.severity == room.BLOCK
    alone = found.statistic["auc_of_each_alone"]
    assert alone[feature] > 0.75
    assert found.hint


def test_an_mp3_that_follows_the_label_is_found(tmp_path, voices):
    _, samples = voices
    mixed = [replace(s, path=f"s{n}{'.mp3' if s.label else '.wav'}") for n, s in enumerate(samples)]
    for n, s in enumerate(mixed):
        write_sound(tmp_path / s.path, murmur(n), 16_000)
    assert "shortcut.container" in blocks(check(tmp_path, mixed))


def test_few_clusters_warn_instead_of_claiming(tmp_path, faces):
    _, samples = faces
    few = [replace(s, subjects=(f"p{n // 2 % 15}",), split="train") for n, s in enumerate(samples)]
    for n in range(len(few)):
        save_jpeg(tmp_path / f"s{n}.jpg", texture(n), 60 if n % 2 else 90)
    found = finding(check(tmp_path, few), "shortcut.container")
    assert found.severity == room.WARN
    assert "15 groups" in found.message


def test_too_few_files_are_said_to_be_skipped(faces):
    root, samples = faces
    report = check(root, samples[:30])
    assert finding(report, "shortcut").severity == room.SKIP
    one = check(root, [replace(s, split="") for s in samples[:30]])
    assert finding(one, "overlap").severity == room.SKIP
    assert finding(one, "near_duplicates").severity == room.SKIP


def test_damaged_files_are_counted_and_missing_ones_refused(tmp_path, faces):
    root, samples = faces
    (tmp_path / "s0.jpg").write_bytes((root / "s0.jpg").read_bytes()[:300])
    (tmp_path / "s1.jpg").write_bytes((root / "s1.jpg").read_bytes())
    report = check(tmp_path, samples[:2])
    assert finding(report, "readable").severity == room.WARN
    assert finding(report, "readable").statistic["undecodable"] == {"real": 1}
    with pytest.raises(ManifestError, match="118 of 120 files are missing"):
        check(tmp_path, samples)
    with pytest.raises(ManifestError, match="nothing to audit"):
        check(tmp_path, [])


def test_a_sample_of_files_is_drawn_and_said(faces):
    root, samples = faces
    report = check(root, samples, max_files=50)
    assert report.looked_at == 50
    again = check(root, list(reversed(samples)), max_files=50)
    assert finding(again, "near_duplicates").statistic == finding(report, "near_duplicates").statistic


def test_the_report_is_json_without_subjects_and_blocks_can_be_allowed(faces):
    root, samples = faces
    planted = [*samples[:-1], replace(samples[-1], split="train")]
    report = check(root, planted, look=False)
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert '"p59"' not in text
    assert "subject-" in text
    assert report.to_dict()["synthetic"] is True
    report.raise_on_block(allow=["overlap.subject"])
    with pytest.raises(AuditError, match="hint: "):
        report.raise_on_block(allow=["near_duplicates"])


@given(st.integers(0, 2**32), st.integers(0, 8))
@settings(max_examples=25, deadline=None)
def test_near_hashes_equal_a_search_over_all_pairs(seed, radius):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**63, 40, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(0, 64, (40, 7), dtype=np.uint64)
    near = base.copy()
    for k in range(7):
        near = np.where(rng.random(40) < 0.7, near ^ flips[:, k], near)
    hashes = np.concatenate([base, near, base[:5]])
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None, :])
    i, j = np.nonzero(np.triu(apart <= radius, 1))
    assert {tuple(p) for p in room.near_hashes(hashes, radius).tolist()} == set(
        zip(i.tolist(), j.tolist(), strict=True)
    )


def test_near_hashes_of_nothing():
    assert room.near_hashes(np.zeros(0, np.uint64)).shape == (0, 2)


def test_flat_pictures_are_not_duplicates_of_each_other(tmp_path):
    samples = []
    for n in range(4):
        save_jpeg(tmp_path / f"s{n}.jpg", np.full((48, 48, 3), 40 * n, np.uint8))
        samples.append(person(n, 0, ".jpg", "image", "face", subjects=(f"q{n}",), split=SPLIT_OF[n + 1]))
    assert "near_duplicates" not in blocks(check(tmp_path, samples))


def call(capsys, *arguments: str) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    room.add_arguments(parser)
    code = room.main(parser.parse_args([*arguments, "--replicates", "100"]))
    return code, capsys.readouterr().out


def test_the_door_reads_parquet_csv_and_runs(tmp_path, faces, capsys):
    root, samples = faces
    manifest = Manifest.from_samples(samples, root, {"name": "toy", "synthetic": True})
    manifest.to_parquet(tmp_path / "m.parquet")
    code, text = call(capsys, str(tmp_path / "m.parquet"), "--root", str(root))
    assert code == 0
    assert "SYNTHETIC" in text
    assert "nothing blocks" in text
    leaky = [*samples[:-1], replace(samples[-1], split="train")]
    Manifest.from_samples(leaky, root).to_csv(root / "m.csv")
    code, text = call(capsys, str(root / "m.csv"), "--no-files", "--json")
    assert code == 1
    assert json.loads(text)["overlap_counts"]["subject"] == 1
    assert call(capsys, str(root / "m.csv"), "--no-files", "--allow", "overlap.subject")[0] == 0
    run = tmp_path / "run"
    run.mkdir()
    manifest.to_parquet(run / "manifest.parquet")
    (run / "run.json").write_text(json.dumps({"root": str(root)}))
    code, text = call(capsys, str(run), "--json", "--max-files", "40", "--leave-out", "test=toy")
    report = json.loads(text)
    assert code == 1
    assert report["looked_at"] == 40
    assert report["overlap_counts"]["generator"] > 0


def test_the_door_refuses_what_it_cannot_read(tmp_path, capsys):
    with pytest.raises(ManifestError, match="no such file"):
        call(capsys, str(tmp_path / "none.parquet"))
    (tmp_path / "m.csv").write_text("sample_id,path,media,modality\na,a.jpg,image,face\n")
    with pytest.raises(ManifestError, match="SPLIT=GENERATOR"):
        call(capsys, str(tmp_path / "m.csv"), "--leave-out", "x")


def test_show_prints_every_finding(faces):
    from rich.console import Console

    root, samples = faces
    report = check(root, [*samples[:-1], replace(samples[-1], split="train")], look=False)
    out = io.StringIO()
    room.show(report, console=Console(file=out, width=200))
    for item in report.findings:
        assert item.id in out.getvalue()
    assert "blocked by overlap.subject" in out.getvalue()


def test_a_voice_played_faster_at_its_own_pitch_and_reencoded_is_found(voices):
    root, samples = voices
    signal = np.concatenate([murmur(0), murmur(500), murmur(501)])
    write_sound(root / "long.wav", signal, 16_000)
    long = person(0, 0, ".wav", "audio", "voice", path="long.wav")
    write_sound(root / "faster.mp3", faster(signal, 1.03), 16_000)
    planted = person(122, 0, ".mp3", "audio", "voice", path="faster.mp3", subjects=("stranger",), split="test")
    report = check(root, [long, *samples[1:], planted])
    assert "near_duplicates" in blocks(report)
    assert set(finding(report, "near_duplicates").examples[0]["samples"].values()) == {"s0", "s122"}


def faster(signal: np.ndarray, tempo: float) -> np.ndarray:
    """Overlap-add with a search for the best splice, so that the pitch stays (WSOLA)."""
    window, hop, reach = 1024, 512, 256
    shape = np.hanning(window)
    out, place = np.zeros(int(len(signal) / tempo) + window), 0
    for start in range(0, len(out) - window, hop):
        aim = int(start * tempo)
        if aim + window + reach > len(signal):
            break
        follow = signal[place + hop : place + hop + window] if start else signal[:window]
        shifts = range(-min(reach, aim), reach, 8)
        place = aim + max(shifts, key=lambda d: float(follow @ signal[aim + d : aim + d + len(follow)]))
        out[start : start + window] += shape * signal[place : place + window]
    return out.astype(np.float32)


def parted(samples: list[Sample], **values) -> list[Sample]:
    """The fakes belong to one corpus, the real samples to another, with ids of their own."""
    out = []
    for s in samples:
        corpus = values["fakes"] if s.label else values["reals"]
        subject = f"{corpus}-{s.subjects[0]}"
        out.append(replace(s, corpus=corpus, subjects=(subject,), split=values.get("split", {}).get(s.label, s.split)))
    return out


def test_corpora_of_one_parent_on_both_sides_block(voices):
    root, samples = voices
    apart = parted(samples, fakes="wavefake", reals="ljspeech", split={0: "test", 1: "train"})
    found = finding(check(root, apart, look=False), "parents")
    assert found.severity == room.BLOCK
    assert found.failure == "F02"
    assert "ljspeech" in found.message
    assert found.examples[0]["ljspeech"] == ["test"]
    beside = parted(samples, fakes="wavefake", reals="ljspeech", split={0: "train", 1: "train"})
    assert finding(check(root, beside, look=False), "parents").severity == room.WARN


@pytest.mark.parametrize(
    ("fakes", "reals", "outcome"),
    [
        ("wavefake", "my own", "pass"),
        ("mine", "yours", "skip"),
        ("asvspoof2019_la", "VCTK", "block"),
        ("dfadd", "asvspoof2019_la", "block"),
        ("in_the_wild", "librispeech", "pass"),
    ],
)
def test_the_ledger_knows_who_stems_from_whom(voices, fakes, reals, outcome):
    root, samples = voices
    mixed = parted(samples, fakes=fakes, reals=reals, split={0: "test", 1: "train"})
    assert finding(check(root, mixed, look=False), "parents").severity == outcome


def test_parents_that_the_samples_name_count_as_well(voices):
    root, samples = voices
    mixed = parted(samples, fakes="mine", reals="yours", split={0: "test", 1: "train"})
    named = [replace(s, attributes={"parent": "LJ Speech" if s.label else "ljspeech"}) for s in mixed]
    assert finding(check(root, named, look=False), "parents").severity == room.BLOCK


def test_an_archive_that_two_corpora_stem_from_only_warns(voices):
    root, samples = voices
    mixed = parted(samples, fakes="wavefake", reals="librispeech", split={0: "test", 1: "train"})
    assert finding(check(root, mixed, look=False), "parents").severity == room.WARN


def test_ids_that_tie_two_corpora_are_left_to_the_id_checks(voices):
    root, samples = voices
    tied = [replace(s, corpus="wavefake" if s.label else "ljspeech") for s in samples]
    assert finding(check(root, tied, look=False), "parents").severity == room.PASS


def test_a_place_or_a_person_that_stands_for_a_class_is_a_warning(voices):
    root, samples = voices
    places = [replace(s, attributes={"repository": f"r{s.label}{n % 3}"}) for n, s in enumerate(samples)]
    found = finding(check(root, places, look=False), "origin")
    assert found.severity == room.WARN
    assert "100% of the samples come from a repository" in found.message
    one = [replace(s, subjects=("lj",)) if s.label and n % 4 else s for n, s in enumerate(samples)]
    assert "one subject makes" in finding(check(root, one, look=False), "origin").message
    mixed = [replace(s, attributes={"repository": f"r{n // 2 % 3}"}) for n, s in enumerate(samples)]
    assert finding(check(root, mixed, look=False), "origin").severity == room.PASS


class Whole:
    """A modality that takes a whole file as its one view."""

    name, contract, fingerprint, input_shape = "face", {}, "", (64, 64, 3)

    def __init__(self, spoil: Callable | None = None) -> None:
        self.spoil = spoil

    def prepare(self, path):
        if str(path).endswith(".jpg"):
            data = np.asarray(Image.open(path).convert("RGB"))
        else:
            data = read_sound(path, 16_000)
        if self.spoil is not None and int(Path(path).stem[1:]) % 2:
            data = self.spoil(data)
        if not data.any():
            raise Unusable(Status.NO_SPEECH, "nothing is heard")
        return Views(data[None], np.zeros(1), np.ones(1, np.float32), np.zeros(1, np.int32))

    def draw(self, prepared, k, rng=None):
        return prepared

    def pool(self, logits, views):
        return float(np.mean(logits))


@pytest.mark.parametrize(
    ("which", "family", "spoil"),
    [
        ("faces", "sharpness", lambda image: blurred(image)),
        ("faces", "tone", lambda image: np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8)),
        ("voices", "silence", lambda x: np.concatenate([np.zeros(2400, np.float32), x[:-2400]])),
        ("voices", "silence", lambda x: np.concatenate([x[: len(x) // 2]] * 2)),
        ("voices", "channel", lambda x: 0.5 * x),
    ],
    ids=["blur", "brightness", "silence", "repeated", "level"],
)
def test_a_nuisance_that_only_the_views_have_is_found_there(which, family, spoil, request):
    root, samples = request.getfixturevalue(which)
    clean = check(root, samples, modality=Whole())
    assert not [f.id for f in clean.blocks if f.id.startswith("view.")]
    assert finding(clean, f"view.{family}").severity == room.PASS
    spoilt = check(root, samples, modality=Whole(spoil))
    assert f"view.{family}" in blocks(spoilt)
    assert not [name for name in blocks(spoilt) if name.startswith("shortcut.")]


def test_files_without_views_are_said(voices):
    root, samples = voices
    report = check(root, samples, modality=Whole(np.zeros_like))
    assert finding(report, "view").severity == room.SKIP
    report = check(root, [s for s in samples if s.label], modality=Whole(np.zeros_like))
    assert "none of 40 files has usable views" in finding(report, "view").message


def test_views_that_lie_prepared_are_not_prepared_again(faces):
    root, samples = faces
    asked = []

    def views(sample: Sample) -> Views:
        asked.append(sample.sample_id)
        return Whole(lambda view: view // 2).prepare(root / sample.path)  # spoils fakes, which are odd

    class Unprepared(Whole):
        def prepare(self, path):
            pytest.fail("the file is opened")

    report = check(root, samples, modality=Unprepared(), views=views)
    assert "view.tone" in blocks(report)
    assert sorted(asked) == sorted(s.sample_id for s in samples)


def test_the_views_of_a_built_in_synthetic_corpus_are_not_held_against_it(faces):
    root, samples = faces
    report = check(root, samples, modality=Whole(lambda view: view // 2), info={"synthetic": True})
    assert blocks(report) == set()
    assert finding(report, "view").severity == room.SKIP
    assert "by construction" in finding(report, "view").message


def test_training_is_refused_on_a_block_and_goes_on_knowingly(faces):
    root, samples = faces
    planted = [*samples[:-1], replace(samples[-1], split="train")]
    manifest = Manifest.from_samples(planted, root, {"name": "toy"})
    with pytest.raises(AuditError, match=r"overlap\.subject"):
        room.audit_for_training(manifest, [], replicates=100)
    report = room.audit_for_training(manifest, ["overlap.subject"], replicates=100)
    assert report.record(["overlap.subject"])["allowed"] == ["overlap.subject"]
    assert json.dumps(report.record(), allow_nan=False)
    with pytest.raises(ConfigError, match=r"overlap\.speaker"):
        room.audit_for_training(manifest, ["overlap.subject", "overlap.speaker"], replicates=100)
    small = Manifest.from_samples(planted[:30], root, {"name": "toy"})
    room.audit_for_training(small, ["shortcut.container"], replicates=100)  # a check that was skipped may be allowed
    with pytest.raises(ConfigError, match="write a list"):
        room.audit_for_training(manifest, "overlap.subject")


def test_every_finding_that_blocks_can_be_allowed_by_its_id(faces, voices):
    for (root, samples), modality in ((faces, Whole()), (voices, Whole())):
        info = {"split": {"leave_out": {"test": ["toy"]}}}
        report = check(root, samples, info=info, modality=modality)
        told = {f.id for f in report.findings} - {"readable", "origin"}
        assert told <= set(room.BLOCKING) | {"shortcut", "view", "overlap"}


def test_a_million_ids_are_audited_by_column_not_by_row(faces, monkeypatch):
    root, samples = faces
    monkeypatch.setattr(Manifest, "__iter__", lambda self: pytest.fail("the table is read row by row"))
    report = check(root, [*samples[:-1], replace(samples[-1], split="train")], look=False)
    assert blocks(report) == {"overlap.subject"}


@given(st.integers(0, 2**32), st.integers(0, 9), st.sampled_from([3, 40, 400]))
@settings(max_examples=25, deadline=None)
def test_clusters_of_hashes_are_the_components_of_all_near_pairs(seed, radius, crowd):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, max(crowd // 20, 2), dtype=np.uint64)[rng.integers(0, max(crowd // 20, 2), crowd)]
    for _ in range(5):
        hashes = hashes ^ (np.uint64(1) << rng.integers(0, 64, crowd).astype(np.uint64)) * (rng.random(crowd) < 0.7)
    label = list(range(crowd))
    for a, b in zip(*np.nonzero(np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= radius), strict=True):
        old, new = label[b], label[a]
        label = [new if x == old else x for x in label]
    found = room.cluster_hashes(hashes, radius).tolist()
    assert len(set(zip(label, found, strict=True))) == len(set(label)) == len(set(found))


def test_many_frames_of_one_hash_are_not_compared_pair_by_pair():
    details = np.eye(576, dtype=np.float32)[np.arange(3000) % 3]
    looked = [
        Looked(person(n, 0, ".png", "image", "face", split="train"), hashes=np.array([7], np.uint64),
               details=details[n : n + 1])
        for n in range(3000)
    ]  # fmt: skip
    found, _ = near_duplicates(looked)
    assert found.statistic["clusters"] == 3
    assert found.statistic["largest_cluster"] == 1000
    assert found.statistic["pairs"] < 10_000


@pytest.mark.full
@pytest.mark.parametrize(
    ("kind", "blocking"), [("faces", {"shortcut.container"}), ("voices", {"shortcut.container", "shortcut.channel"})]
)
def test_the_shortcuts_of_the_real_corpora_block_and_their_origins_warn(shared, kind, blocking):
    root = Path(__file__).resolve().parents[1] / "configs"
    corpus = yaml.safe_load((root / f"corpus/real_{kind}.yaml").read_text())
    split = yaml.safe_load((root / f"split/real_{kind}.yaml").read_text())
    for node in (corpus, split):
        node.pop("_target_")
    manifest = TableCorpus(
        **{**corpus, "root": str(shared / "data" / kind), "probe": False, "progress": False}
    ).prepare()
    report = audit(SubjectSplit(**split).apply(manifest), max_files=2000, replicates=200)
    assert blocking <= blocks(report), "these pictures and voices do give their label away by such things"
    assert not [name for name in blocks(report) if name.startswith(("overlap", "near", "copies", "labels"))]
    assert finding(report, "origin").severity == room.WARN
    if kind == "voices":
        assert "one subject makes 80% of the fake" in finding(report, "origin").message
