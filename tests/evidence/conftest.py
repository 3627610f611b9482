"""One made-up assessment, at noon, with everything that could pass passing."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from deepassay.evidence.assess import assess
from score_worlds import NOON, PROVENANCE, made_world, make_protocol, make_tool, register


@pytest.fixture(scope="session")
def world():
    return made_world()


@pytest.fixture(scope="session")
def make_log(world, tmp_path_factory):
    """A function that assesses, with some of the ingredients changed."""

    def run(*, world=world, tool=None, protocol=None, record=None, **changes):
        plan = protocol or make_protocol()
        values = {
            "tool": tool or make_tool(),
            "protocol": plan,
            "preregistration": record or register(tmp_path_factory.mktemp("register"), plan, world.test),
            "dev": world.dev,
            "test": world.test,
            "bundle_info": world.bundle,
            "manifest": world.manifest,
            "provenance": PROVENANCE,
            "now": NOON,
        }
        return assess(**{**values, **changes})

    return run


@pytest.fixture(scope="session")
def log(make_log):
    return make_log()
