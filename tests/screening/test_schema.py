"""The schema of bundle.json: published, kept in step with its models, and as strict as the check at load."""

import copy
import json
import subprocess
import sys

import pytest

from deepassay.errors import BundleError
from deepassay.screening.bundle import Bundle, _check_facts, write_bundle
from deepassay.screening.schema import SCHEMA_FILE, check_schema, json_schema, schema_text


@pytest.fixture
def facts(tmp_path, square, bundle_parts):
    return copy.deepcopy(dict(write_bundle(tmp_path / "b", **bundle_parts(square)).facts))


def test_the_published_schema_is_the_models(facts):
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), "run: python -m deepassay.screening.schema"
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    validator.validate(facts)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**facts, "colour": "blue"})


def test_the_verb_prints_it(capsys):
    import argparse

    from deepassay.screening import bundle_command

    assert bundle_command.main(argparse.Namespace(action="schema")) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == "urn:deepassay:bundle:2"


def point(facts, **change):
    return {"operating_points": [{**facts["operating_points"][0], **change}]}


CHANGES = {
    "an unknown key": lambda f: {"colour": "blue"},
    "another schema": lambda f: {"schema": "other.bundle"},
    "no name": lambda f: {"name": ""},
    "a word for a truth": lambda f: {"synthetic": "no"},
    "views that are none": lambda f: {"views": 0},
    "a truth for a number": lambda f: {"views": True},
    "another precision": lambda f: {"precision": "fp4"},
    "a third modality": lambda f: {"modality": {**f["modality"], "name": "gait"}},
    "a shape of nothing": lambda f: {"modality": {**f["modality"], "input_shape": []}},
    "a key of the modality": lambda f: {"modality": {**f["modality"], "colour": 1}},
    "a falling calibration": lambda f: {"calibration": {**f["calibration"], "scale": -1.0}},
    "a key of the calibration": lambda f: {"calibration": {**f["calibration"], "shape": 1}},
    "a number beyond all": lambda f: {"calibration": {**f["calibration"], "offset": 10**400}},
    "a limit beyond all": lambda f: {"abstention": {**f["abstention"], "slack": 10**400}},
    "the other inequality": lambda f: point(f, inequality="flag_if_score_gt"),
    "a threshold in words": lambda f: point(f, threshold="low"),
    "no statement": lambda f: {"scope": {**f["scope"], "statement": " "}},
    "a medium nobody knows": lambda f: {"scope": {**f["scope"], "media": ["smell"]}},
    "a licence without words": lambda f: {"licence_chain": [{"name": "weights", "licence": ""}]},
    "a hash that is none": lambda f: {"files": {**f["files"], "card.md": "abc"}},
    "limits of another version": lambda f: {"abstention": {**f["abstention"], "version": 9}},
    "limits with a key more": lambda f: {"abstention": {**f["abstention"], "colour": 1}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_both_checks_refuse(facts, name):
    changed = {**facts, **CHANGES[name](facts)}
    with pytest.raises(BundleError):
        _check_facts(changed, "a bundle")
    with pytest.raises(BundleError):
        check_schema(changed, "a bundle")


@pytest.mark.parametrize("key", ["name", "precision", "abstention", "scope", "files"])
def test_both_checks_miss_a_missing_key(facts, key):
    rest = {k: v for k, v in facts.items() if k != key}
    with pytest.raises(BundleError, match=key):
        _check_facts(rest, "a bundle")
    with pytest.raises(BundleError, match=key):
        check_schema(rest, "a bundle")


def test_version_1_is_still_read(facts):
    old = {k: v for k, v in facts.items() if k not in ("precision", "abstention")} | {"schema_version": "1"}
    _check_facts(old, "a bundle")
    check_schema(old, "a bundle")
    for key in ("precision", "abstention"):
        with pytest.raises(BundleError, match=key):
            _check_facts({**old, key: facts[key]}, "a bundle")


def test_screening_loads_neither_pydantic_nor_scipy(tmp_path, square, bundle_parts):
    bundle = write_bundle(tmp_path / "light", **bundle_parts(square))
    code = (
        "import sys; from deepassay.screening.bundle import Bundle; from deepassay.screening.screener import Screener; "
        "import deepassay.screening.command; b = Bundle.load(sys.argv[1]); b.check(); "
        "print([m for m in ('pydantic', 'scipy', 'sklearn', 'pyarrow', 'torch', 'cryptography') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    canary = subprocess.run(
        [sys.executable, "-c", code.replace("import sys;", "import sys, pydantic;"), str(bundle.path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "pydantic" in canary.stdout
    assert Bundle.load(bundle.path).hash == bundle.hash
