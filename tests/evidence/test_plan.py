"""Planning: numbers follow from exact power, minima are kept, and a plan that is met gives the power it promises."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import AssayError, ConfigError
from deepassay.evidence.plan import plan, power_of
from deepassay.metrics.intervals import clopper_pearson
from deepassay.pipelines import protocol as command
from score_worlds import make_protocol

DEFAULT = Path(__file__).parents[2] / "configs" / "protocol" / "default.yaml"


def test_a_plan_that_is_met_gives_the_power_it_promises():
    """Drawn outcomes, judged by the two-sided interval that decides a claim."""
    protocol = make_protocol()
    need = plan(protocol, true_rates={"C1": 0.1}, power=0.8)[0]
    rng = np.random.Generator(np.random.PCG64(0))
    hits = rng.binomial(need.samples, 0.1, 4000)
    shown = np.array([clopper_pearson(k, need.samples).hi <= need.theta for k in range(hits.max() + 1)])
    assert shown[hits].mean() == pytest.approx(
        power_of(need, protocol, samples=need.samples, per_person=1, correlation=0.3), abs=0.03
    )
    assert shown[hits].mean() > 0.76


def test_samples_of_one_person_are_worth_less():
    protocol = make_protocol()
    one = plan(protocol, true_rates={"C1": 0.15}, per_person=1)[0]
    many = plan(protocol, true_rates={"C1": 0.15}, per_person=8, correlation=0.3)[0]
    alike = plan(protocol, true_rates={"C1": 0.15}, per_person=8, correlation=0.0)[0]
    assert many.samples > 2.5 * one.samples
    assert many.samples == many.clusters * 8
    assert alike.clusters == 20
    assert "minimum of 20 persons" in alike.reason
    assert alike.samples < many.samples / 2


def test_minima_are_kept_and_named():
    protocol = make_protocol(claims=[{"id": "C1", "metric": "apcer", "operating_point": "bpcer_5", "side": "at_most",
                                      "theta": 0.9, "text": {"en": "x"}},
                                     {"id": "C2", "metric": "bpcer", "about": "all", "operating_point": "bpcer_1",
                                      "side": "at_most", "theta": 0.5, "text": {"en": "x"}}])  # fmt: skip
    outputs, real = plan(protocol, true_rates={"C1": 0.01, "C2": 0.01}, per_person=2)
    assert outputs.samples == 59
    assert "minimum of 59 outputs" in outputs.reason
    assert outputs.clusters >= 20
    assert real.samples == 300
    assert "rule of 3" in real.reason


def test_what_cannot_be_planned_says_so():
    needs = plan(make_protocol(), true_rates={})
    assert needs[0].true_rate == needs[0].theta / 2
    assert "half of theta" in needs[0].reason
    assert needs[1].samples is None
    assert "no plan for auc" in needs[1].reason
    with pytest.raises(ConfigError, match="no plan"):
        power_of(needs[1], make_protocol(), samples=10, per_person=1, correlation=0)
    with pytest.raises(ConfigError, match="no claim 'C9'"):
        plan(make_protocol(), true_rates={"C9": 0.1})
    with pytest.raises(AssayError, match="cannot be shown"):
        plan(make_protocol(), true_rates={"C1": 0.3})


def arguments(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_the_command_plans_and_freezes_once(tmp_path, capsys):
    assert command.main(arguments("plan", DEFAULT, "--rate", "C1=0.1", "--per-person", "4")) == 0
    text = capsys.readouterr().out
    assert "C1:" in text
    assert "with half as many" in text
    assert command.main(arguments("plan", DEFAULT, "--json")) == 0
    assert [need["claim"] for need in json.loads(capsys.readouterr().out)] == ["C1", "C2", "C3"]
    assert command.main(arguments("freeze", DEFAULT, tmp_path / "protocol")) == 0
    mark = command.read_protocol(DEFAULT).sha256
    assert mark in capsys.readouterr().out
    other = tmp_path / "other.yaml"
    other.write_text(DEFAULT.read_text().replace("theta: 0.25", "theta: 0.5"))
    with pytest.raises(ConfigError, match="another protocol is frozen"):
        command.main(arguments("freeze", other, tmp_path / "protocol"))
    for text, words in (("{", "not a readable YAML"), ("a: 1", "not a protocol")):
        other.write_text(text)
        with pytest.raises(ConfigError, match=words):
            command.read_protocol(other)
    with pytest.raises(ConfigError, match="--rate C1"):
        command.main(arguments("plan", DEFAULT, "--rate", "C1"))
