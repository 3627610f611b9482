"""WaveFake's door: folders are generators, sources tie fakes to recordings, deeper repeats are passed over."""

import pytest

from deepassay.corpora.wavefake import FOLDERS, WaveFake
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL

NAMES = {"ljspeech_waveglow": "LJ001-0001.wav", "ljspeech_hifiGAN": "LJ001-0001_generated.wav"}
TTS = "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech"


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    for folder in FOLDERS:
        name = NAMES.get(folder, "BASIC5000_0001_gen.wav" if folder.startswith("jsut") else "LJ001-0001_gen.wav")
        touch(tmp_path, f"generated_audio/{folder}/{'gen_0.wav' if folder == TTS else name}")
    touch(tmp_path, f"generated_audio/{TTS}/again/gen_0.wav", "LJSpeech-1.1/wavs/LJ001-0001.wav")
    touch(tmp_path, "jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav")
    counts = {k: 1 for k in WaveFake.published_counts}
    monkeypatch.setattr(WaveFake, "published_counts", counts)
    return tmp_path


def test_published_counts_cover_what_is_established():
    assert WaveFake.published_counts["ljspeech_melgan"] == 13100
    assert WaveFake.published_counts["jsut_parallel_wavegan"] == 5000
    assert TTS not in WaveFake.published_counts


def test_fakes_recordings_and_sources(copy):
    manifest = WaveFake(root=str(copy), progress=False).prepare()
    assert manifest.counts() == {"unsplit": {"real": 2, "fake": 10, "unlabelled": 0}}
    fakes = [s for s in manifest if s.label == FAKE]
    assert {s.generator for s in fakes if "melgan" in s.path} == {
        "WaveFake-MelGAN", "WaveFake-MelGAN-large", "WaveFake-FullBand-MelGAN", "WaveFake-MultiBand-MelGAN",
    }  # fmt: skip
    assert {s.generator_family for s in fakes} == {"vocoder", "TTS"}
    real = next(s for s in manifest if s.label == REAL and s.subjects == ("LJ",))
    same = [s for s in fakes if s.source_id == real.source_id]
    assert len(same) == 7
    assert {s.cluster for s in same} == {"LJ"}
    assert next(s for s in fakes if TTS in s.path).source_id == ""
    assert len({s.sample_id for s in manifest}) == 12
    assert manifest.info["inventory"]["totals"][f"{TTS}, deeper (passed over)"] == 1


def test_recordings_are_left_out_only_when_asked(copy):
    (copy / "jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav").unlink()
    with pytest.raises(ManifestError, match=r"recordings of JSUT below jsut_ver1\.1 \(jsut=null leaves them out\)"):
        WaveFake(root=str(copy), progress=False).prepare()
    manifest = WaveFake(root=str(copy), jsut=None, progress=False).prepare()
    assert manifest.counts()["unsplit"]["real"] == 1


def test_missing_extra_and_misnamed_files_are_named(copy):
    (copy / "generated_audio/ljspeech_melgan/LJ001-0001_gen.wav").rename(
        copy / "generated_audio/ljspeech_melgan/other.wav"
    )
    touch(copy, "generated_audio/stray.wav")
    (copy / "generated_audio/ljspeech_waveglow/LJ001-0001.wav").unlink()
    with pytest.raises(ManifestError, match="ljspeech_waveglow: 0 found, 1 published") as caught:
        WaveFake(root=str(copy), progress=False).prepare()
    assert "generated_audio/stray.wav is in no folder" in str(caught.value)
    assert "ljspeech_melgan/other.wav names no utterance of LJ" in str(caught.value)
