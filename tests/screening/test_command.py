"""`deepassay screen`: one JSON line per file on stdout, the batch goes on, the exit code tells; and it stays light."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import BundleError, ConfigError
from deepassay.screening import command
from deepassay.screening.bundle import write_bundle

SETTINGS = {"operating_point": "bpcer_5", "views": None, "prior": None, "site": []}


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def box(tmp_path, monkeypatch, square, bundle_parts) -> Path:
    from PIL import Image

    write_bundle(tmp_path / "face", **bundle_parts(square))
    (tmp_path / "in").mkdir()
    for name, level in (("a_light.png", 250), ("b_dim.png", 60)):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_line_per_file_in_order_and_nothing_else_on_stdout(box, capfd):
    assert run("in", "--bundle", "face") == 0
    out, err = capfd.readouterr()
    rows = lines(out)
    assert [(row["path"], row["decision"]) for row in rows] == [
        ("in/a_light.png", "fake"),
        ("in/b_dim.png", "no evidence of manipulation"),
    ]
    assert set(rows[0]) == {
        "path", "modality", "media", "status", "reason", "decision", "llr", "score", "posterior", "prior",
        "operating_point", "timeline", "n_views", "n_tracks", "bundle", "detector", "synthetic", "warnings", "seconds",
    }  # fmt: skip
    assert rows[0]["operating_point"]["name"] == "bpcer_5"
    first, second = err.strip().splitlines()
    assert first == "2 files: 1 fake, 1 no evidence of manipulation"
    assert "at most this share is right, by how common fakes are: 69 % at 1 in 10, 17 % at 1 in 100" in second


def test_a_bad_file_does_not_stop_the_batch_and_the_exit_code_tells(box, capfd):
    (box / "in" / "a.mp4").write_text("no film")
    (box / "in" / "empty").mkdir()
    assert run("gone.jpg", "in", "--bundle", "face", "--prior", "0.5") == 3
    out, err = capfd.readouterr()
    rows = lines(out)
    assert [(row["path"], row["status"]) for row in rows] == [
        ("gone.jpg", "error"),
        ("in/a.mp4", "undecodable"),
        ("in/a_light.png", "ok"),
        ("in/b_dim.png", "ok"),
        ("in/empty", "error"),
    ]
    assert all(row["reason"] for row in rows if row["status"] != "ok")
    assert rows[2]["prior"] == 0.5
    assert 0.5 < rows[2]["posterior"] < 1
    assert "3 abstain" in err
    assert "(2 error, 1 undecodable)" in err


def test_flags_change_the_exit_code_only_when_asked(box, capfd):
    assert run("in", "--bundle", "face", "--fail-on-fake", "--quiet") == 4
    assert run("in/b_dim.png", "--bundle", "face", "--fail-on-fake", "--quiet") == 0
    assert run("in", "gone", "--bundle", "face", "--fail-on-fake", "--quiet") == 4
    assert capfd.readouterr().err == ""


def test_bundles_and_settings_that_cannot_be_used_are_errors_before_any_line(box, capfd):
    with pytest.raises(BundleError, match="no such bundle"):
        run("in", "--bundle", "nowhere", "--output", "out.jsonl")
    with pytest.raises(BundleError, match="no operating point"):
        run("in", "--bundle", "face", "--operating-point", "eer")
    (box / "list").write_text("\n")
    with pytest.raises(ConfigError, match="name no file"):
        run("@list", "--bundle", "face")
    with pytest.raises(ConfigError, match="cannot be written"):
        run("in", "--bundle", "face", "--output", "no/such/folder/out.jsonl")
    with pytest.raises(ConfigError, match="--threads 0"):
        run("in", "--bundle", "face", "--threads", 0)
    assert capfd.readouterr().out == ""
    assert not list(box.glob("out*"))


def test_output_appears_under_its_name_only_when_it_is_whole(box, capfd, monkeypatch):
    assert run("in", "--bundle", "face", "--output", "out.jsonl") == 0
    assert len(lines((box / "out.jsonl").read_text())) == 2
    assert capfd.readouterr().out == ""
    from deepassay.screening.crew import Crew

    screen = Crew.screen

    def interrupted(self, paths):
        yield next(screen(self, paths))
        raise KeyboardInterrupt

    monkeypatch.setattr(Crew, "screen", interrupted)
    (box / "out.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        run("in", "--bundle", "face", "--output", "out.jsonl")
    assert not (box / "out.jsonl").exists()
    assert [row["path"] for row in lines((box / "out.jsonl.part").read_text())] == ["in/a_light.png"]
    assert "the lines so far are in out.jsonl.part" in capfd.readouterr().err
    with open(box / "out.jsonl.part", "a") as stream:
        stream.write('{"path": "in/b_d')  # a kill in the middle of a line
    monkeypatch.setattr(Crew, "screen", screen)
    assert run("in", "--bundle", "face", "--output", "out.jsonl", "--resume") == 0
    assert [row["path"] for row in lines((box / "out.jsonl").read_text())] == ["in/a_light.png", "in/b_dim.png"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_batch_goes_on_with_no_file_twice_or_missing(box, capfd, workers):
    from PIL import Image

    for i in range(30):
        Image.fromarray(np.full((64, 64, 3), 8 * i, np.uint8)).save(box / "in" / f"c{i:02}.png")
    words = ("in", "gone.jpg", "--bundle", "face", "--workers", workers, "--output")
    run(*words, "whole.jsonl")
    whole = (box / "whole.jsonl").read_text()
    written = whole.splitlines(keepends=True)
    (box / "out.jsonl.part").write_text("".join(written[:17]) + written[17][:40])
    (box / "out.jsonl.part.settings").write_text(command._settings_hash(SETTINGS | {"bundles": ["face"]}) + "\n")
    assert run(*words, "out.jsonl", "--resume") == 3
    assert not list(box.glob("out.jsonl.*"))
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in lines(text)]
        for text in (whole, (box / "out.jsonl").read_text())
    ]
    assert timeless[0] == timeless[1]
    assert any(line.startswith("33 files: ") for line in capfd.readouterr().err.splitlines()[-2:])


def test_an_unfinished_output_of_other_settings_is_not_continued(box):
    (box / "out.jsonl.part").write_text("")
    (box / "out.jsonl.part.settings").write_text("0\n")
    with pytest.raises(ConfigError, match="other bundles or settings"):
        run("in", "--bundle", "face", "--output", "out.jsonl", "--resume")
    with pytest.raises(ConfigError, match="needs --output"):
        run("in", "--bundle", "face", "--resume")


def test_csv_opens_in_a_spreadsheet_and_runs_nothing_there(box, capfd):
    import csv

    (box / "=cmd.png").write_bytes((box / "in" / "a_light.png").read_bytes())
    run("=cmd.png", "in", "--bundle", "face", "--format", "csv")
    rows = list(csv.DictReader(capfd.readouterr().out.splitlines()))
    assert [row["path"] for row in rows] == ["'=cmd.png", "in/a_light.png", "in/b_dim.png"]
    assert float(rows[2]["llr"]) < 0
    assert {row["operating_point"] for row in rows} == {"bpcer_5"}


def test_the_journal_holds_every_verdict_and_no_name(box, capfd):
    from deepassay.files import sha256_file
    from deepassay.screening.journal import verify

    for _ in range(2):
        run("in", "gone.jpg", "--bundle", "face", "--journal", "j", "--quiet")
    assert verify("j").valid
    records = [json.loads(line) for line in (box / "j").read_text().splitlines()][1:]
    assert len(records) == 6
    assert records[0]["input_sha256"] == sha256_file(box / "in" / "a_light.png")
    assert records[2]["input_sha256"] is None
    assert records[0]["verdict"]["decision"] == "fake"
    assert records[0]["name"] == records[3]["name"] != records[1]["name"]
    assert "light" not in (box / "j").read_text()
    assert "gone" not in (box / "j").read_text()


def test_table_is_for_people(box, capfd):
    run("in", "gone\x1b31m.jpg", "--bundle", "face", "--format", "table")
    head, light, dim, gone = capfd.readouterr().out.splitlines()
    assert head.split() == ["decision", "llr", "modality", "status", "path"]
    assert light.split() == ["fake", "0.48", "face", "ok", "in/a_light.png"]
    assert dim.startswith("no evidence of manipulation")
    assert "no such file" in gone
    assert "\x1b" not in gone


def test_names_that_are_no_text_stay_valid_json(box, capfd):
    odd = os.fsdecode(b"in/caf\xe9 \xff.png")
    try:
        os.rename("in/b_dim.png", odd)
    except OSError:
        pytest.skip("this file system refuses such names")
    run("in", "--bundle", "face")
    out = capfd.readouterr().out
    out.encode("ascii", "strict")
    assert [row["path"] for row in lines(out)][1] == odd


HEAVY = ("torch", "lightning", "pyarrow", "sklearn", "scipy", "hydra", "omegaconf", "matplotlib", "pydantic", "rich")


def loaded_after(code: str, folder: Path) -> set[str]:
    """Names of the heavy packages that a fresh process has loaded once the code has run."""
    end = f"\nimport sys, json\nprint(json.dumps(sorted({set(HEAVY)!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code + end], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


SCREEN = """
import sys
sys.path.insert(0, {tests!r})
import conftest as stand_ins
import deepassay.modality.contract
deepassay.modality.contract.modality_from_contract = lambda values, folder: stand_ins.Square(folder, values["limit"])
from deepassay.cli import main
assert main(["screen", "in", "--bundle", "face", "--quiet"]) == 0
"""


def test_screening_never_loads_torch_or_anything_heavy(box):
    code = SCREEN.format(tests=str(Path(__file__).parent))
    assert loaded_after(code, box) == set()


def test_canary_the_check_above_sees_a_heavy_import(box):
    code = SCREEN.format(tests=str(Path(__file__).parent)) + "\nimport deepassay.scores"
    assert "pyarrow" in loaded_after(code, box)


def test_the_help_explains_exit_codes(capsys):
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    said = capsys.readouterr().out
    assert "exit codes:" in said
    assert "at least one file was not judged" in said


@pytest.fixture(scope="module")
def real_bundles(tmp_path_factory) -> Path:
    """Bundles of both real modalities around graphs that read brightness and level."""
    pytest.importorskip("facenet_pytorch", reason="the finder's graphs are exported from facenet-pytorch's wheel")
    from deepassay.modality.face import FaceModality
    from deepassay.modality.voice import VoiceModality
    from deepassay.models.mtcnn import export_finder_graphs

    folder = tmp_path_factory.mktemp("bundles")
    export_finder_graphs(folder / "finder")
    spec = importlib.util.spec_from_file_location("stand_ins", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    stand_ins = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_ins)
    face = FaceModality(finder_folder=str(folder / "finder"), size=64)
    write_bundle(folder / "face.zip", **stand_ins.parts(face))
    write_bundle(folder / "voice", **stand_ins.parts(VoiceModality(window_samples=16000)))
    return folder


def test_real_files_of_every_kind_through_the_command_in_a_process_without_torch(real_bundles, tmp_path):
    import soundfile

    from deepassay.corpora.procedural_face import draw_capture, draw_identity, render_face
    from deepassay.media.image import write_image

    rendering = render_face(draw_identity(0, 0.4), draw_capture(np.random.default_rng(0)), 256)
    write_image(tmp_path / "face.jpg", rendering.image, quality=95)
    whole = (tmp_path / "face.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no film " * 100)
    write_image(tmp_path / "wall.jpg", np.full((256, 256, 3), 128, np.uint8), quality=95)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.flac", 0.2 * rng.standard_normal(48000).clip(-3, 3), 16000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(48000), 16000)
    code = (
        "import sys\nfrom deepassay.cli import main\n"
        f"code = main(['screen', '.', '--bundle', {str(real_bundles / 'face.zip')!r}, '--bundle', "
        f"{str(real_bundles / 'voice')!r}, '--output', '../out.jsonl', '--quiet'])\nassert code == 3, code"
    )
    assert loaded_after(code, tmp_path) == set()
    rows = {Path(row["path"]).name: row for row in lines((tmp_path.parent / "out.jsonl").read_text())}
    assert {name: row["status"] for name, row in rows.items()} == {
        "cut.jpg": "undecodable",
        "empty.png": "undecodable",
        "face.jpg": "ok",
        "noise.flac": "ok",
        "silent.wav": "no_speech",
        "text.mp4": "undecodable",
        "wall.jpg": "no_face",
    }
    assert all((row["decision"] == "abstain") == (row["status"] != "ok") for row in rows.values())
    assert all(row["reason"] for row in rows.values() if row["status"] != "ok")
    assert rows["noise.flac"]["modality"] == "voice"
    assert rows["noise.flac"]["n_views"] > 1
    assert rows["face.jpg"]["modality"] == "face"


def test_scoring_a_manifest_and_screening_its_files_agree(real_bundles, tmp_path):
    import soundfile

    from deepassay.calibrator import calibrate
    from deepassay.manifest import Manifest, Sample
    from deepassay.scoring import score_manifest
    from deepassay.screening.bundle import Bundle
    from deepassay.screening.screener import Screener

    rng = np.random.default_rng(1)
    samples = []
    for i in range(5):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * i * rng.standard_normal(20000 + 9000 * i).clip(-2, 2), 16000)
        samples.append(Sample(sample_id=f"v{i}", path=f"{i}.wav", media="audio", modality="voice", label=i % 2))
    bundle = Bundle.load(real_bundles / "voice")
    manifest = Manifest.from_samples(samples, tmp_path, {"name": "noises"})
    table = score_manifest(manifest, bundle.modality(), bundle.predict, views=bundle.views, progress=False)
    llr = calibrate(table, bundle.calibration).column("llr")
    screener = Screener([bundle])
    for i, status in enumerate(table.column("status")):
        (verdict,) = screener.screen(tmp_path / f"{i}.wav")
        assert str(verdict.status) == status
        assert verdict.reason == table.column("reason")[i]
        if status == "ok":
            assert verdict.llr == pytest.approx(llr[i], abs=1e-6)
    assert list(table.column("status")).count("ok") == 4
