"""`deepassay corpus`: the ledger, one corpus, a copy counted, manifests audited together."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from deepassay.corpora.doors import DOORS
from deepassay.corpora.download import DownloadError
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample, join
from deepassay.pipelines import corpus


def call(capsys, *arguments: str) -> tuple[int, str]:
    parser = argparse.ArgumentParser()
    corpus.add_arguments(parser)
    code = corpus.main(parser.parse_args(list(arguments)))
    return code, capsys.readouterr().out


def test_list_prints_the_ledger(capsys):
    code, text = call(capsys, "list")
    assert code == 0
    assert f"{len(DOORS)} corpora" in text
    rows = json.loads(call(capsys, "list", "--json")[1])
    assert {r["name"] for r in rows} == set(DOORS)
    assert all(r["licence"] and r["status"] and r["permits"]["commercial"] for r in rows)


@pytest.mark.parametrize("name", DOORS)
def test_show_tells_what_to_sign_and_how_to_verify(capsys, name):
    code, text = call(capsys, "show", name)
    assert code == 0
    for said in ("how to obtain", "licence or terms", "expected below the root", f"corpus verify {name} ROOT"):
        assert said in text.replace("\n", " ")


@pytest.fixture
def ljspeech(tmp_path) -> Path:
    root = tmp_path / "root"
    (root / "LJSpeech-1.1/wavs").mkdir(parents=True)
    rows = []
    for n in range(3):
        (root / f"LJSpeech-1.1/wavs/LJ001-{n:04d}.wav").touch()
        rows.append(f"LJ001-{n:04d}|text|text")
    (root / "LJSpeech-1.1/metadata.csv").write_text("\n".join(rows))
    return root


def test_verify_refuses_a_partial_copy_and_writes_it_knowingly(capsys, tmp_path, ljspeech):
    with pytest.raises(ManifestError, match=r"clips: 3 found, 13,100 published[\s\S]*--allow-partial"):
        call(capsys, "verify", "ljspeech", str(ljspeech))
    out = tmp_path / "lj.parquet"
    code, text = call(capsys, "verify", "ljspeech", str(ljspeech), "--allow-partial", "--output", str(out))
    assert code == 0
    assert "partial copy" in text
    assert "this door is unverified" in text
    kept = Manifest.read_parquet(out, ljspeech)
    assert len(kept) == 3
    assert kept.info["inventory"]["partial"] is True
    report = json.loads(call(capsys, "verify", "ljspeech", str(ljspeech), "--allow-partial", "--json")[1])
    assert report["samples"] == 3


def test_verify_hands_options_to_the_door(capsys, ljspeech):
    with pytest.raises(ConfigError, match="it accepts"):
        call(capsys, "verify", "ljspeech", str(ljspeech), "--option", "compression=c40")
    with pytest.raises(ConfigError, match="compression"):
        call(capsys, "verify", "faceforensics", str(ljspeech), "--option", "compression=c99")
    with pytest.raises(ConfigError, match="not KEY=VALUE"):
        call(capsys, "verify", "ljspeech", str(ljspeech), "--option", "x")
    with pytest.raises(ConfigError, match="end it in"):
        call(capsys, "verify", "ljspeech", str(ljspeech), "--output", "x.txt")
    with pytest.raises(ConfigError, match="no corpus 'lj'"):
        call(capsys, "verify", "lj", str(ljspeech))


def test_download_of_what_is_not_open_says_how_to_get_it(capsys, tmp_path):
    with pytest.raises(DownloadError, match="hint: Fill in the form"):
        call(capsys, "download", "faceforensics", str(tmp_path))
    with pytest.raises(DownloadError, match="parts: dev-clean"):
        call(capsys, "download", "librispeech", str(tmp_path), "dev-dirty")


def manifest(tmp_path: Path, name: str, people: range, **values) -> Path:
    root = tmp_path / name
    root.mkdir()
    samples = []
    for n, who in enumerate(people):
        sound = np.random.default_rng(who).normal(0, 0.05, 8000)
        soundfile.write(root / f"{n}.wav", sound, 16_000)
        label = FAKE if n % 2 else REAL
        samples.append(
            Sample(
                sample_id=f"{name}/{n}", path=f"{n}.wav", media="audio", modality="voice", label=label,
                subjects=(f"p{who}",), generator="G" if label else "", corpus=values.get("corpus", name),
            )
        )  # fmt: skip
    out = Manifest.from_samples(samples, root, {"name": name})
    out.to_parquet(root / "m.parquet")
    return root / "m.parquet"


def test_two_manifests_are_audited_together(capsys, tmp_path):
    one, two = manifest(tmp_path, "one", range(8)), manifest(tmp_path, "two", range(6, 12))
    code, text = call(capsys, "audit", f"train={one}", f"test={two}", "--json")
    report = json.loads(text)[0]
    assert code == 1
    blocks = {f["id"] for f in report["findings"] if f["severity"] == "block"}
    assert "overlap.subject" in blocks
    assert "copies" in blocks, "person 6 and 7 sound alike in both"
    code, text = call(
        capsys, "audit", f"train={one}", f"test={two}", "--no-files", "--allow", "overlap.subject"
    )  # fmt: skip
    assert code == 0
    assert "overlap.subject" in text
    assert call(capsys, "audit", str(one), "--no-files")[0] == 0


def test_roots_go_with_their_manifests(capsys, tmp_path):
    one, two = manifest(tmp_path, "one", range(4)), manifest(tmp_path, "two", range(6, 10))
    moved = tmp_path / "elsewhere.parquet"
    one.rename(moved)
    roots = ["--root", str(tmp_path / "one"), "--root", str(tmp_path / "two")]
    assert call(capsys, "audit", f"train={moved}", f"test={two}", *roots)[0] == 0
    with pytest.raises(ManifestError, match="files are missing"):
        call(capsys, "audit", f"train={moved}", f"test={two}")
    with pytest.raises(ConfigError, match="2 manifests and 1 roots"):
        call(capsys, "audit", str(moved), str(two), "--root", "x")


def test_a_modality_probes_the_views(capsys, tmp_path):
    one = manifest(tmp_path, "one", range(4))
    config = tmp_path / "voice.yaml"
    config.write_text("_target_: deepassay.modality.voice.VoiceModality\n")
    report = json.loads(call(capsys, "audit", str(one), "--modality", str(config), "--json")[1])[0]
    assert any(f["id"] == "view" for f in report["findings"])


def test_joined_manifests_keep_paths_and_tell_equal_ids_apart(tmp_path):
    one, two = manifest(tmp_path, "one", range(2)), manifest(tmp_path, "two", range(2))
    a, b = Manifest.read_parquet(one, tmp_path / "one"), Manifest.read_parquet(two, tmp_path / "two")
    both = join([a, b])
    assert [s.path for s in both] == ["one/0.wav", "one/1.wav", "two/0.wav", "two/1.wav"]
    assert all(both.file(s).is_file() for s in both)
    assert [p["samples"] for p in both.info["parts"]] == [2, 2]
    again = join([a, a])
    assert [s.sample_id for s in again] == ["1:one/0", "1:one/1", "2:one/0", "2:one/1"]
    assert [s.path for s in again][:1] == ["0.wav"]
    with pytest.raises(ManifestError, match="no manifest to join"):
        join([])
