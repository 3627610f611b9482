"""The command line: exit codes, hints, and errors that a user meets first."""

import pytest

from deepassay.cli import COMPOSED, PLAIN, main


def test_no_verb_prints_usage(capsys):
    assert main([]) == 2
    assert "usage: deepassay VERB" in capsys.readouterr().out
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in (*COMPOSED, *PLAIN):
        assert verb in text


def test_unknown_verb_names_the_known_ones(capsys):
    assert main(["trian"]) == 2
    error = capsys.readouterr().err
    assert "there is no verb 'trian'" in error
    assert "hint: use one of" in error
    assert "train" in error


@pytest.mark.parametrize("verb", sorted(PLAIN))
def test_plain_verbs_explain_themselves(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: deepassay {verb}" in capsys.readouterr().out


def test_unknown_config_key_is_an_error_with_a_hint(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "no_such_key=1"]) == 2
    error = capsys.readouterr().err
    assert "no_such_key" in error
    assert "hint: " in error


def test_an_appended_unknown_key_is_refused_too(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "+no_such_key=1", "name=x"]) == 2
    error = capsys.readouterr().err
    assert "unknown config key 'no_such_key'" in error
    assert "hint: " in error


def test_training_refuses_a_test_set(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "+test=some/manifest.parquet", "name=x"]) == 2
    error = capsys.readouterr().err
    assert "must never see" in error
    assert "deepassay evaluate" in error
    assert not (tmp_path / "runs" / "x" / "config.yaml").exists()


def test_a_missing_value_says_which(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "name=x"]) == 2
    error = capsys.readouterr().err
    assert "run" in error
    assert "hint: " in error


def test_an_unknown_trainer_key_is_refused_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "+trainer.epochs=3", "name=x"]) == 2
    error = capsys.readouterr().err
    assert "trainer: unknown key 'epochs'" in error
    assert "max_epochs" in error


def test_a_sweeper_is_told_what_dev_said_of_a_training(tmp_path):
    from deepassay.cli import _objective
    from deepassay.files import write_json

    assert _objective(tmp_path) is None
    facts = {"monitor": "dev_eer", "dev": {"dev_loss": 0.7, "dev_auc": 0.8, "dev_eer": 0.25}}
    write_json(tmp_path / "checkpoints" / "best.json", facts)
    assert _objective(tmp_path) == 0.25
