"""Tools are described in the words of Art. 23, or refused with the words there are."""

from pathlib import Path

import pytest
import yaml

from deepassay.errors import ConfigError
from deepassay.evidence.tool import ToolUnderAssessment
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
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert values.pop("_target_") == "deepassay.evidence.tool.ToolUnderAssessment"
    tool = ToolUnderAssessment(**values)
    assert {"en", "zh"} <= set(tool.sampling)
    assert len(TOOLS) >= 2
