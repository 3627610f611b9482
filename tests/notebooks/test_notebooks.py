"""Notebooks are cleared, define nothing, hold no machine's paths, begin with a question and say where to go on."""

import copy
import importlib.util
import itertools
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

_spec = importlib.util.spec_from_file_location("check_notebooks", ROOT / "scripts" / "check_notebooks.py")
assert _spec is not None
assert _spec.loader is not None
check = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(check)


def a_good_one() -> dict:
    return json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_keeps_the_rules(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert check.problems(notebook, path.parent) == []


def test_every_question_of_the_first_hour_has_one():
    names = " ".join(path.stem for path in NOTEBOOKS)
    for topic in (
        "corpus_and_audit", "views_and_augmentations", "training_and_learning_curves", "det_and_intervals", "eers",
        "calibration_and_operating_points", "robustness", "explanations_and_timelines", "assessing", "screening",
    ):  # fmt: skip
        assert topic in names


def test_each_leads_to_the_next():
    for one, after in itertools.pairwise(NOTEBOOKS):
        last = "".join(json.loads(one.read_text(encoding="utf-8"))["cells"][-1]["source"])
        assert f"({after.name})" in last


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def useful(x):\n    return x", "defines useful"),
        ("async def useful():\n    pass", "defines useful"),
        ("class Useful:\n    pass", "defines Useful"),
        ("if True:\n    def useful():\n        pass", "defines useful"),
        ("useful = lambda x: x", "gives a lambda a name"),
        ("open('/ho" + "me/somebody/x')", "path of a machine"),
        ("!ls", "not plain Python"),
        ("%matplotlib inline", "not plain Python"),
    ],
)
def test_the_rules_can_fail_on_code(source, found):
    notebook = a_good_one()
    notebook["cells"][1]["source"] = source
    assert any(found in text for text in check.problems(notebook))


def test_a_lambda_that_sorts_is_allowed():
    notebook = a_good_one()
    notebook["cells"][1]["source"] = "sorted([2, 1], key=lambda n: -n)"
    assert check.problems(notebook) == []


def test_the_rules_can_fail_on_outputs_words_and_links():
    good = a_good_one()
    assert check.problems(good) == []
    code = next(i for i, cell in enumerate(good["cells"]) if cell["cell_type"] == "code")

    def changed(cell: int, **values) -> str:
        other = copy.deepcopy(good)
        other["cells"][cell].update(values)
        return " ".join(check.problems(other))

    assert "has an output" in changed(code, outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}])
    assert "has an output" in changed(code, execution_count=3)
    assert "attachment" in changed(0, attachments={"a.png": {}})
    assert "asks the question" in changed(0, source="# A statement. Synthetic.")
    assert "asks the question" in changed(0, cell_type="code", source="1", outputs=[], execution_count=None)
    assert "synthetic" in changed(0, source="# What is it?")
    assert "Read next" in changed(-1, source="The end.")
    assert "not there" in changed(-1, source="**Read next:** [x](99_nothing.ipynb)")
    other = copy.deepcopy(good)
    other["metadata"]["where"] = "/ro" + "ot/x"
    assert "metadata" in " ".join(check.problems(other))


def test_clear_takes_outputs_out_and_says_so(tmp_path, capsys):
    notebook = a_good_one()
    before = copy.deepcopy(notebook)
    notebook["cells"][1].update(
        outputs=[{"output_type": "stream", "name": "stdout", "text": "secret"}], execution_count=1
    )
    notebook["cells"][1]["metadata"] = {"editor": "x"}
    for path in NOTEBOOKS[1:]:
        (tmp_path / path.name).write_text("{}")  # what links lead to
    target = tmp_path / "one.ipynb"
    target.write_text(json.dumps(notebook))
    assert check.main([str(target)]) == 1
    assert "has an output" in capsys.readouterr().out
    assert check.main(["--clear", str(target)]) == 1
    assert "outputs cleared" in capsys.readouterr().out
    assert json.loads(target.read_text()) == before
    assert check.main(["--clear", str(target)]) == 0
