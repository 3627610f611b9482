"""A tool by command over a run: the same draw for every version, every outcome counted, nothing scored twice."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from deepassay.cli import main
from deepassay.errors import ConfigError
from deepassay.evidence.protocol import Register
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.evidence.tool_command import MADE, ToolCommand
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest
from deepassay.pipelines import outputs
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.labelling import labelling_of
from deepassay.pipelines.outputs import AssessmentFolder, draw, with_outputs
from deepassay.pipelines.terminal import terminal
from deepassay.store import prepare_store
from score_worlds import make_protocol
from stand_ins import Patches, join, write_samples

SCRIPT = """
import sys
data = open(sys.argv[1], 'rb').read()
kind = sum(data) % 10
if kind == 0: sys.exit(7)
if kind == 1: sys.exit('no face')
if kind == 2: sys.exit(0)
open(sys.argv[2], 'wb').write(bytes(255 - b for b in data))
open(sys.argv[3], 'a').write('x')
"""


class FakeBundle:
    """The two things that adding outputs asks of a bundle."""

    hash = "b" * 64

    @staticmethod
    def modality():
        return Patches()

    @classmethod
    def load(cls, path):
        return cls()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder of stand-in pictures, half of the real test samples of either gender."""
    monkeypatch.setattr(outputs, "Bundle", FakeBundle)
    root = tmp_path / "corpus"
    manifest = join(write_samples(root, Patches(), 8, split="train"), write_samples(root, Patches(), 60, split="test"))
    samples = [replace_sample(s, i) for i, s in enumerate(manifest)]
    manifest = Manifest.from_samples(samples, root, {"name": "stand-in", "synthetic": True, "licence": "none needed"})
    folder = RunFolder(tmp_path / "run")
    (folder.path / "bundle").mkdir(parents=True)
    (folder.path / "config.yaml").write_text("seed: 0\n")
    (folder.path / "provenance.json").write_text("{}")
    folder.keep_data(manifest, prepare_store(manifest, Patches(), tmp_path / "store", progress=False))
    return folder


def replace_sample(sample, i):
    values = {name: getattr(sample, name) for name in sample.__slots__}
    return type(sample)(**{**values, "attributes": {"gender": "f" if i % 4 < 2 else "m"}})


@pytest.fixture
def tool(tmp_path):
    command = ToolCommand(
        command=[sys.executable, "-c", SCRIPT, "{input}", "{output}", str(tmp_path / "count")], output_suffix=".bin",
        per_stratum=12, strata=["gender"], refusal_codes=[7], timeout_s=30.0,
    )  # fmt: skip
    return ToolUnderAssessment(
        name="Invert", version="1", provider="p", functions=["face_swap"], modality="face", media="image",
        generator="invert", seen_by_detectors="no", command=command, sampling={"en": "As agreed.", "zh": "按约定。"},
    )  # fmt: skip


def add(run, tool, **keywords):
    return with_outputs(run, tool, **{"allow_command": True, "console": terminal(), **keywords})


def test_a_tool_without_a_command_changes_nothing(run, tool):
    plain = replace(tool, command=None)
    assert add(run, plain) == (run, plain)


def test_nothing_runs_without_leave(run, tool, tmp_path):
    with pytest.raises(ConfigError, match="--allow-command"):
        add(run, tool, allow_command=False)
    assert not (tmp_path / "count").exists()


def test_outputs_join_the_test_split_with_their_inputs_sources(run, tool, tmp_path):
    folder, told = add(run, tool)
    manifest = folder.manifest()
    made = [s for s in manifest if s.generator == "invert"]
    journal = [json.loads(line) for line in (folder.path / "outputs" / "journal.jsonl").read_text().splitlines()[1:]]
    assert len(journal) == 24
    assert {row["outcome"] for row in journal} == {"made", "refused", "failed", "nothing"}
    assert len(made) == sum(row["outcome"] == MADE for row in journal) == len((tmp_path / "count").read_text())
    before = run.manifest()
    known = {s.sample_id: s for s in before}
    for sample in made:
        source = known[sample.sample_id.removeprefix("invert:")]
        assert (sample.label, sample.split) == (FAKE, "test")
        assert (sample.source_id, sample.subjects) == (source.source_id, source.subjects)
        assert source.label == REAL
        assert manifest.file(sample).read_bytes() == bytes(255 - b for b in before.file(source).read_bytes())
        assert len(sample.sha256) == 64
    assert len(manifest) == len(known) + len(made)
    assert manifest.info["licence"] == "none needed"
    assert manifest.synthetic
    refused = sum(row["outcome"] == "refused" for row in journal)
    silent = len(journal) - refused - len(made)
    assert (told.refusals, told.drawn_by, told.sampling_seed) == (refused, "assessor", 0)
    assert told.sampling["en"].startswith("As agreed. 24 inputs were drawn by seed 0 from 30 real test samples")
    assert f"made {len(made)} outputs of them and refused {refused}" in told.sampling["en"]
    assert f"{silent} inputs gave no output" in told.sampling["en"]
    assert "gender" in told.sampling["zh"]
    assert str(Path(sys.executable).parent) not in told.settings["command"]


def test_views_come_from_both_stores(run, tool):
    folder, _ = add(run, tool)
    assert isinstance(folder, AssessmentFolder)
    store = folder.store(Patches())
    for sample in folder.manifest().split("test"):
        raw = folder.manifest().file(sample).read_bytes()
        assert store.views(sample.sample_id).data.tobytes() == raw
    assert store.fingerprint == Patches().fingerprint


def test_finished_outputs_are_kept_and_a_cut_line_is_done_again(run, tool, tmp_path):
    folder, first = add(run, tool)
    journal = folder.path / "outputs" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    made = len((tmp_path / "count").read_text())
    at = next(i for i, line in enumerate(lines) if i and json.loads(line)["outcome"] == MADE)
    journal.write_text("".join([*lines[:at], *lines[at + 1 :], lines[at][:20]]))
    again, told = add(run, tool)
    assert len((tmp_path / "count").read_text()) == made + 1
    assert told == first
    assert again.manifest().hash == folder.manifest().hash


def test_the_next_version_gets_the_same_inputs(run, tool):
    folder, _ = add(run, tool)
    later, _ = add(run, replace(tool, version="2"))
    assert later.path != folder.path
    ids = [{s.sample_id for s in one.manifest() if s.generator == "invert"} for one in (folder, later)]
    assert ids[0] == ids[1]
    other = replace(tool, command=replace(tool.command, seed=1))
    assert {s.sample_id for s in draw(run.manifest(), other)[0]} != {s.sample_id for s in draw(run.manifest(), tool)[0]}


def test_another_command_under_the_same_version_is_refused(run, tool):
    add(run, tool)
    with pytest.raises(ConfigError, match="another command"):
        add(run, replace(tool, command=replace(tool.command, environment={"A": "b"})))


def test_more_outputs_drop_the_scores_of_fewer(run, tool):
    folder, _ = add(run, tool)
    (folder.path / "scores").mkdir()
    folder.scores("test").write_text("old")
    (folder.path / "metrics.json").write_text("{}")
    add(run, tool)
    assert folder.scores("test").exists()
    add(run, replace(tool, command=replace(tool.command, per_stratum=14)))
    assert not folder.scores("test").exists()
    assert not (folder.path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"generator": "stripes"}, "in the run's data already"),
        ({"media": "video"}, "no real face sample of medium video"),
    ],
)
def test_what_cannot_be_drawn_is_said(change, said, run, tool):
    with pytest.raises(ConfigError, match=said):
        add(run, replace(tool, **change))


def test_an_unknown_stratum_and_a_command_that_makes_nothing(run, tool):
    with pytest.raises(ConfigError, match="stratum 'age'"):
        add(run, replace(tool, command=replace(tool.command, strata=["age"])))
    mute = replace(tool.command, command=[sys.executable, "-c", "", "{input}", "{output}"])
    with pytest.raises(ConfigError, match="made no output"):
        add(run, replace(tool, version="3", command=mute))


def test_labels_are_looked_for_in_the_outputs_alone(run, tool):
    folder, told = add(run, tool)
    console = terminal()
    annex = labelling_of(folder.manifest(), told, {"real_files": 5}, console)
    assert annex is not None
    made = sum(s.generator == "invert" for s in folder.manifest())
    found = {number.metric: number.count for number in annex.implicit}
    assert found["implicit_found"] == (0, made)
    assert found["mark_false_hit"] == (0, 5)
    assert labelling_of(folder.manifest(), told, {"enabled": False}, console) is None
    assert labelling_of(run.manifest(), told, None, console) is None
    with pytest.raises(ConfigError, match="unknown key 'ocr'"):
        labelling_of(folder.manifest(), told, {"ocr": True}, console)


def test_openings_of_the_runs_test_labels_come_along(run, tool):
    plan = make_protocol()
    assert not add(run, tool, protocol=plan)[0].protocol.exists()
    register = Register(run.protocol)
    register.freeze(plan)
    register.record_opening("a" * 64)
    same = Register(add(run, replace(tool, version="2"), protocol=plan)[0].protocol)
    assert same.frozen
    assert len(same.openings()) == 1
    other = Register(add(run, replace(tool, version="3"), protocol=make_protocol(seed=9))[0].protocol)
    assert not other.frozen  # it will be frozen later than the test was opened, and check F11 says so
    assert len(other.openings()) == 1


def given(run, tool, folder, n=6):
    """Files of a stranger's tool: half of them named like real test samples."""
    folder.mkdir(parents=True)
    before = run.manifest()
    real = [s for s in before.split("test") if s.label == REAL][:n]
    for i, sample in enumerate(real):
        name = sample.sample_id if i % 2 else f"other{i}"
        (folder / f"{name}.bin").write_bytes(bytes(255 - b for b in before.file(sample).read_bytes()))
    (folder / "README.txt").write_text("how they were made")
    return real, replace(tool, command=None, outputs=str(folder))


def test_a_folder_of_outputs_is_matched_by_name(run, tool, tmp_path):
    real, told = given(run, tool, tmp_path / "given")
    folder, known = with_outputs(run, told, allow_command=False, console=terminal())
    made = {s.path.rsplit("/", 1)[-1]: s for s in folder.manifest() if s.generator == "invert"}
    assert len(made) == 6
    sources = {s.sample_id: s for s in real}
    for name, sample in made.items():
        own = sources.get(name.removesuffix(".bin"))
        assert (sample.label, sample.split) == (FAKE, "test")
        assert sample.source_id == (own.source_id if own else f"invert:{name.removesuffix('.bin')}")
        assert sample.subjects == (own.subjects if own else ())
    assert "6 outputs were given as files; 3 of them are matched" in known.sampling["en"]
    assert (known.drawn_by, known.refusals) == (told.drawn_by, None)
    store = folder.store(Patches())
    assert all(len(store.views(sample.sample_id)) for sample in made.values())


def test_a_csv_of_outputs_names_originals(run, tool, tmp_path):
    real, told = given(run, tool, tmp_path / "given")
    rows = ["sample_id,path,media,modality,source_id"]
    for i, path in enumerate(sorted((tmp_path / "given").glob("*.bin"))):
        rows.append(f"o{i},{path.name},image,face,{real[i].sample_id}")
    table = tmp_path / "given" / "outputs.csv"
    table.write_text("\n".join(rows))
    folder, _ = add(run, replace(told, outputs=str(table)))
    made = {s.sample_id: s for s in folder.manifest() if s.generator == "invert"}
    assert {made[f"invert:o{i}"].source_id for i in range(6)} == {s.source_id for s in real}
    table.write_text("\n".join([rows[0] + ",label", *(f"{row},real" for row in rows[1:])]))
    with pytest.raises(ConfigError, match="is real, not from 'invert'"):
        add(run, replace(told, version="9", outputs=str(table)))


def test_outputs_that_are_not_there(run, tool, tmp_path):
    (tmp_path / "empty").mkdir()
    plain = replace(tool, command=None)
    with pytest.raises(ConfigError, match="holds no output"):
        add(run, replace(plain, outputs=str(tmp_path / "empty")))
    with pytest.raises(ConfigError, match="no outputs of Invert there"):
        add(run, replace(plain, outputs=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="both a command and outputs"):
        replace(tool, outputs="x")


def test_the_flag_reaches_the_verb(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["assess", "run=none", "tool=example_command", "--allow-command"]) == 2
    assert "none is not a run folder" in capsys.readouterr().err
