"""`deepassay seal`: keys, settings of `assess`, and errors that come before any test label is opened."""

import argparse

import pytest

from deepassay.errors import AssayError, ConfigError
from deepassay.pipelines import seal


def arguments(*words):
    parser = argparse.ArgumentParser()
    seal.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_keygen_writes_a_pair_once(tmp_path, capsys):
    place = tmp_path / "keys" / "issuer"
    assert seal.main(arguments("keygen", place)) == 0
    assert "keyid" in capsys.readouterr().out
    assert place.is_file()
    assert place.with_name("issuer.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    before = place.read_bytes()
    with pytest.raises(AssayError, match="exists already"):
        seal.main(arguments("keygen", place))
    assert place.read_bytes() == before


def test_settings_are_checked_before_anything_else(tmp_path):
    seal.main(arguments("keygen", tmp_path / "k"))
    assert seal.seal_settings(None) == (None, None)
    assert seal.seal_settings({"key": None, "previous": None}) == (None, None)
    assert seal.seal_settings({"key": str(tmp_path / "k")}) == (tmp_path / "k", None)
    for given, words in (
        ({"kee": 1}, "unknown keys"),
        ({"previous": "x.zip"}, "without seal.key"),
        ({"key": str(tmp_path / "none")}, "no readable key"),
        ({"key": str(tmp_path / "k"), "previous": str(tmp_path / "none.zip")}, "no such file"),
    ):
        with pytest.raises(AssayError, match=words):
            seal.seal_settings(given)


def test_a_run_without_a_dossier_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "dossier").mkdir()
    with pytest.raises(ConfigError, match="deepassay assess run="):
        seal.main(arguments("run", tmp_path, "--key", tmp_path / "k"))
