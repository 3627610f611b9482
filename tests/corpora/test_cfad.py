"""CFAD's door: version, part, label and method by folder; readers of AISHELL by file name."""

import pytest

from deepassay.corpora.cfad import CFAD
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def version(root, name, word):
    for part in ("train", "dev", "test_seen", "test_unseen"):
        lead = f"CFAD/{name}_version/{part}_{word}"
        touch(root, f"{lead}/fake_{word}/lpcnet/SSB09660003_lpcnet_m4a.wav",
              f"{lead}/real_{word}/aishell1/BAC009S0002W0122.wav", f"{lead}/real_{word}/thchs30/A11_0.wav")  # fmt: skip


def test_folders_tell_everything(tmp_path):
    version(tmp_path, "clean", "clean")
    version(tmp_path, "codec", "codec")
    version(tmp_path, "noisy", "noise")
    manifest = CFAD(root=str(tmp_path), progress=False).prepare()
    assert {s.attributes["version"] for s in manifest} == {"clean"}
    fake = next(s for s in manifest if s.label == FAKE and s.attributes["part"] == "test_unseen")
    assert (fake.generator, fake.split, fake.subjects, fake.source_id) == (
        "CFAD-lpcnet", "test", ("SSB0966",), "SSB09660003",
    )  # fmt: skip
    assert {s.subjects for s in manifest if s.label == REAL} == {("aishell1/S0002",), ()}
    assert {s.label for s in manifest if "/real_" in s.path} == {REAL}
    whole = CFAD(root=str(tmp_path), version="all", progress=False).prepare()
    assert len(whole) == 36
    coded = next(s for s in whole if s.label == FAKE and s.channel == "codec")
    assert coded.attributes["codec"] == "m4a"


def test_an_empty_part_a_stray_file_and_a_wrong_version(tmp_path):
    version(tmp_path, "clean", "clean")
    (tmp_path / "CFAD/clean_version/dev_clean/fake_clean/lpcnet/SSB09660003_lpcnet_m4a.wav").unlink()
    touch(tmp_path, "CFAD/clean_version/dev_clean/stray.wav")
    with pytest.raises(ManifestError, match="no file in clean_version, dev, fake") as caught:
        CFAD(root=str(tmp_path), progress=False).prepare()
    assert "extra: cfad: CFAD/clean_version/dev_clean/stray.wav" in str(caught.value)
    with pytest.raises(ConfigError, match="version is 'raw'"):
        CFAD(root=str(tmp_path), version="raw")


def test_a_wrong_count_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(CFAD, "published_counts", {"clean train real": 3})
    version(tmp_path, "clean", "clean")
    with pytest.raises(ManifestError, match="clean train real: 2 found, 3 published"):
        CFAD(root=str(tmp_path), progress=False).prepare()
