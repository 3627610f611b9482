"""Tools are described in the words of Art. 23, or refused with the words there are."""

from pathlib import Path

import pytest
import yaml

from deepassay.errors import ConfigError
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.pipelines.build import build
from score_worlds import make_tool

TOOLS = sorted((Path(__file__).resolve().parents[2] / "configs" / "tool").glob("*.yaml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"functions": ["magic"]}, "face_swap"),
        ({"functions": []}, "at least one"),
        ({"modality": "smell"}, "modality"),
        ({"media": "audio"}, "voices are audio"),
        ({"seen_by_detectors": True}, "quote"),
        ({"generator": ""}, "names no generator"),
    ],
)
def test_bad_descriptions_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        make_tool(**changes)


@pytest.mark.parametrize("path", TOOLS, ids=lambda p: p.stem)
def test_the_example_tools_read(path):
    tool = build(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert isinstance(tool, ToolUnderAssessment)
    assert {"en", "zh"} <= set(tool.sampling) or tool.command is not None
    assert len(TOOLS) >= 2


def test_a_command_that_was_not_built_is_refused():
    with pytest.raises(ConfigError, match="_target_"):
        make_tool(command={"command": ["x"]})


def test_a_version_that_yaml_made_a_number_is_refused():
    with pytest.raises(ConfigError, match=r"version is 1\.1, not text"):
        make_tool(version=1.10)
