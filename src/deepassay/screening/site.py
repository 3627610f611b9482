"""Site rules: a threshold fixed on an operator's own genuine traffic at a chosen false-alarm rate."""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.errors import ConfigError, ScoreError
from deepassay.files import write_json

FORMAT, VERSION = "deepassay.site", 1
EPILOG = """\
Genuine files of the kind that will be screened: at least 3 / target of them, of many people and devices, and none that
was chosen because of what a detector said of it. The bundle stays as it is; use the rule with

  deepassay screen inbox/ --bundle face.zip --site site.json

example:
  deepassay calibrate --bundle face.zip --bona-fide genuine/ --target 0.01 --output site.json
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRule:
    """A threshold of one site for one bundle: flag iff llr >= threshold.

    Args:
        name: ``site_1`` for a target of 1 %.
        bundle: hash of the bundle it was fixed for. detector, modality: of that bundle.
        target_bpcer: the highest false-alarm rate on the site's files that was allowed.
        threshold: llr, natural log.
        n: answered files. n_flagged: of those, at or above the threshold. n_unanswered: files without a score.
        bpcer_lo, bpcer_hi: 95 % interval of the false-alarm rate on further files of the same kind, if files are
            independent: the rate at an order statistic of n is Beta(k, n - k + 1) (David and Nagaraja, Order
            Statistics, 3rd ed., section 2.3).
        supported: rule of 3: n is at least 3 / target.
        published_bpcer: what the bundle's own operating point of the same target flags of these files, or None.
        created: ISO 8601.
    """

    name: str
    bundle: str
    detector: str
    modality: str
    target_bpcer: float
    threshold: float
    n: int
    n_flagged: int
    n_unanswered: int
    bpcer_lo: float
    bpcer_hi: float
    supported: bool
    published_bpcer: float | None
    created: str

    @property
    def realised_bpcer(self) -> float:
        """False-alarm rate on the site's own files."""
        return self.n_flagged / self.n

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, {"format": FORMAT, "version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: str | Path) -> "SiteRule":
        """Read what `write` wrote. Raises ConfigError where it is something else."""
        try:
            values = json.loads(Path(path).read_text())
            if values.pop("format") != FORMAT or values.pop("version") != VERSION:
                raise ValueError("another format or version")
            if set(values) != {f.name for f in fields(cls)}:
                raise ValueError("missing or unknown keys")
            rule = cls(**values)
            if not all(map(math.isfinite, (rule.threshold, rule.target_bpcer))) or rule.n < 1:
                raise ValueError("numbers out of range")
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"{path}: is no site rule ({error})", hint="give the file that `deepassay calibrate` wrote"
            ) from error
        return rule


def fit_site_rule(llrs: np.ndarray, *, target: float, bundle: Any, n_unanswered: int = 0) -> SiteRule:
    """The smallest threshold at which at most ``target`` of genuine files are flagged.

    Args:
        llrs: (n,) of answered genuine files. target: a fraction in (0, 1). bundle: `Bundle` that gave them.

    Raises:
        ScoreError: no file, or an llr that is not finite. ConfigError: a target outside (0, 1).
    """
    from scipy.stats import beta

    from deepassay.calibrator import operating_point_name
    from deepassay.metrics.decision import threshold_at_bpcer

    llrs = np.asarray(llrs, dtype=np.float64)
    if not 0 < target < 1:
        raise ConfigError(f"target {target}", hint="give a false-alarm rate between 0 and 1, such as 0.01")
    if not len(llrs) or not np.isfinite(llrs).all():
        raise ScoreError(
            f"{len(llrs)} genuine files with a score, {int((~np.isfinite(llrs)).sum())} of them not finite",
            hint="give a folder of genuine files that the bundle can judge",
        )
    threshold = threshold_at_bpcer(np.zeros(len(llrs), dtype=np.int64), llrs, target)
    n, k = len(llrs), int((llrs >= threshold).sum())
    lo, hi = (beta.ppf([0.025, 0.975], k, n - k + 1) if k else (0.0, beta.ppf(0.95, 1, n))) if k < n else (0.0, 1.0)
    own = [p for p in bundle.operating_points if math.isclose(p.target_bpcer, target)]
    return SiteRule(
        name=operating_point_name(target).replace("bpcer", "site"),
        bundle=bundle.hash,
        detector=bundle.name,
        modality=bundle.modality_name,
        target_bpcer=float(target),
        threshold=float(threshold),
        n=n,
        n_flagged=k,
        n_unanswered=n_unanswered,
        bpcer_lo=float(lo),
        bpcer_hi=float(hi),
        supported=n >= 3 / target - 1e-9,
        published_bpcer=float(np.mean(own[0].flags(llrs))) if own else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def flags_right(bpcer: float, rates: tuple[float, ...] = (0.1, 0.01, 0.001)) -> Mapping[str, float]:
    """The largest share of flags that can be right, were every fake flagged, by base rate of fakes (Bayes' rule)."""
    return {f"1 in {round(1 / rate)}": rate / (rate + (1 - rate) * bpcer) for rate in rates}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `deepassay calibrate`."""
    parser.epilog = EPILOG
    parser.add_argument("--bundle", required=True, metavar="B", help="exported bundle, a folder or zip")
    parser.add_argument(
        "--bona-fide", required=True, action="append", metavar="PATH", help="genuine files: folder, file, glob, @LIST"
    )
    parser.add_argument("--target", type=float, default=0.01, metavar="P", help="false-alarm rate (default: 0.01)")
    parser.add_argument("--output", required=True, metavar="FILE", help="the rule, as JSON")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds for one file (default: 600)")


def main(args: argparse.Namespace) -> int:
    """Score the genuine files and write the rule.

    Raises:
        AssayError: a bundle or target that cannot be used, or no file that can be judged.
    """
    from deepassay.screening.bundle import Bundle
    from deepassay.screening.crew import Crew
    from deepassay.screening.inputs import expand

    if not 0 < args.target < 1:
        raise ConfigError(f"--target {args.target}", hint="give a false-alarm rate between 0 and 1, such as 0.01")
    bundle = Bundle.load(args.bundle)
    if not bundle.operating_points:
        raise ConfigError(f"{args.bundle} has no operating point", hint="export it again with dev data")
    settings = {"bundles": [args.bundle], "operating_point": bundle.operating_points[0].name}
    inputs = list(expand(args.bona_fide))
    refused = [one for one in inputs if one.refusal]
    paths = [one.path for one in inputs if not one.refusal]
    live = sys.stderr.isatty()
    llrs, statuses = [], {"refused": len(refused)} if refused else {}
    with Crew(settings, workers=args.workers, timeout_s=args.timeout) as crew:
        for number, screened in enumerate(crew.screen(paths), start=1):
            verdict = screened.verdicts[0]
            if verdict.llr is None:
                statuses[str(verdict.status)] = statuses.get(str(verdict.status), 0) + 1
            else:
                llrs.append(verdict.llr)
            if live:
                print(f"\rscored {number} of {len(paths)}", end="", file=sys.stderr, flush=True)
    if live:
        print(file=sys.stderr)
    rule = fit_site_rule(np.array(llrs), target=args.target, bundle=bundle, n_unanswered=sum(statuses.values()))
    rule.write(args.output)
    print(f"{rule.name}: flag from llr {rule.threshold:.4f}, for {rule.detector} ({rule.modality})")
    print(
        f"  {rule.n_flagged} of {rule.n} genuine files flagged; on further files of the kind expect "
        f"{100 * rule.bpcer_lo:.2g} to {100 * rule.bpcer_hi:.2g} % (95 %, if files are independent)"
    )
    if rule.published_bpcer is not None:
        print(
            f"  the bundle's own threshold for {100 * args.target:g} % flags {100 * rule.published_bpcer:.3g} % of them"
        )
    if statuses:
        print("  without a score: " + ", ".join(f"{n} {name}" for name, n in sorted(statuses.items())))
    if not rule.supported:
        need = math.ceil(3 / args.target - 1e-9)
        print(f"  NOT SUPPORTED: {rule.n} files, and {100 * args.target:g} % needs at least {need} (rule of 3)")
    right = ", ".join(f"{100 * share:.0f} % at {rate}" for rate, share in flags_right(args.target).items())
    print(f"  of its flags at most this share is right, by how common fakes are: {right}")
    return 0
