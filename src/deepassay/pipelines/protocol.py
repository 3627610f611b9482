"""`deepassay protocol`: how many samples a plan needs, and freezing it before any test label is read."""

import argparse
import json
from pathlib import Path

import yaml

from deepassay.errors import ConfigError
from deepassay.evidence.plan import plan, power_of
from deepassay.evidence.protocol import Protocol, Register
from deepassay.pipelines.build import build

EPILOG = """\
A protocol is a YAML like configs/protocol/default.yaml. Freeze it into the folder `protocol` of the run that will be
assessed; `deepassay assess` refuses another plan there, and a plan that was frozen after the test was opened shows.

examples:
  deepassay protocol plan configs/protocol/default.yaml --rate C1=0.1 --rate C2=0.05 --per-person 4 --correlation 0.3
  deepassay protocol freeze my_protocol.yaml runs/NAME/protocol
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay protocol`."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ask = actions.add_parser("plan", help="outputs, real samples and persons that each claim needs")
    ask.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml")
    ask.add_argument("--rate", action="append", default=[], metavar="CLAIM=RATE", help="the error rate you expect")
    ask.add_argument("--per-person", type=float, default=1.0, metavar="M", help="samples of one person (default: 1)")
    ask.add_argument(
        "--correlation", type=float, default=0.3, metavar="RHO", help="of errors within a person (default: 0.3)"
    )
    ask.add_argument("--power", type=float, default=0.8, help="chance of support that is wanted (default: 0.8)")
    ask.add_argument("--json", action="store_true", help="the plan as JSON")
    freeze = actions.add_parser("freeze", help="write the protocol, its hash and the time; once")
    freeze.add_argument("protocol", type=Path, metavar="PROTOCOL.yaml")
    freeze.add_argument("folder", type=Path, metavar="FOLDER", help="register of the run: runs/NAME/protocol")


def main(args: argparse.Namespace) -> int:
    """Plan or freeze; prints the outcome."""
    protocol = read_protocol(args.protocol)
    if args.action == "freeze":
        register = Register(args.folder)
        mark = register.freeze(protocol)
        print(f"protocol {protocol.name} {protocol.version} frozen in {args.folder}\nsha256 {mark}")
        if register.openings():
            print("the test labels were opened before: the dossier will say that this protocol came late")
        return 0
    rates = {}
    for word in args.rate:
        name, _, value = word.partition("=")
        try:
            rates[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"--rate {word}", hint="write --rate C1=0.1") from error
    needs = plan(protocol, true_rates=rates, per_person=args.per_person, correlation=args.correlation, power=args.power)
    if args.json:
        print(json.dumps([need.to_json() for need in needs], indent=2, ensure_ascii=False))
        return 0
    print(
        f"{protocol.name} {protocol.version}: chance {args.power:g} of support, {100 * protocol.level:g} % intervals, "
        f"{args.per_person:g} samples a person, correlation {args.correlation:g}"
    )
    for need in needs:
        if need.samples is None:
            print(f"  {need.claim}: {need.reason}: {need.clusters} of each class")
            continue
        print(
            f"  {need.claim}: {need.samples} {need.stratum} of {need.clusters} persons (expected rate "
            f"{need.true_rate:.3g}, theta {need.theta:g}){f'; {need.reason}' if need.reason else ''}"
        )
        half, double = (
            power_of(need, protocol, samples=n, per_person=args.per_person, correlation=args.correlation)
            for n in (need.samples // 2, need.samples * 2)
        )
        print(f"      with half as many the chance is {half:.2f}, with twice as many {double:.2f}")
    return 0


def read_protocol(path: Path) -> Protocol:
    """A protocol from YAML. Raises ConfigError where it cannot be read or is none."""
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: not a readable YAML ({error})", hint="start from configs/protocol/default.yaml"
        ) from error
    found = build(value)
    if not isinstance(found, Protocol):
        raise ConfigError(
            f"{path}: not a protocol", hint="its first key is _target_: deepassay.evidence.protocol.Protocol"
        )
    return found
