"""Screener: files in, verdicts out, by exported bundles; without torch, and never a score for what cannot be judged."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepassay.calibrator import INEQUALITY
from deepassay.errors import ConfigError, MediaError
from deepassay.labels import Status, Unusable
from deepassay.modality.views import EVERY
from deepassay.scoring import FileScore, describe_fault, score_file
from deepassay.screening.bundle import CPU, Bundle
from deepassay.screening.site import SiteRule, flags_right

FAKE, NO_EVIDENCE, ABSTAIN = "fake", "no evidence of manipulation", "abstain"
_JUDGED_BY = {"image": ("face",), "audio": ("voice",), "video": ("face", "voice")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What screening says of one file and one modality; every line of output has every field, null where unknown.

    Args:
        path: as given.
        modality: ``face`` or ``voice``; None where the file's kind is unknown.
        media: ``image``, ``video``, ``audio``; None where unknown.
        status: ``ok``, or why there is no score (`labels.Status`).
        reason: one sentence where status is not ok, else empty.
        decision: ``fake`` (llr at or above the threshold), ``no evidence of manipulation``, ``abstain`` (no score).
        llr: calibrated log-likelihood ratio fake : real, natural log.
        score: pooled logit, higher = more likely fake.
        posterior: probability of fake at the stated prior; None where no prior was stated.
        prior: the stated probability of fake before looking, or None.
        operating_point: name, threshold (llr), inequality, target_bpcer, dev_bpcer (of a site rule: on the site's own
            genuine files), supported, and flags_right, the largest share of flags that can be right where 1 file in
            10, 100 or 1,000 is fake, of the rule applied.
        timeline: per view start_s, end_s (windows of sound), track and score; scores of single views are logits and not
            calibrated.
        n_views: views that the score rests on.
        n_tracks: face tracks among them.
        bundle: hash of the bundle, None where no bundle fits the file.
        detector: name of the detector.
        synthetic: the detector was trained on built-in synthetic data and says nothing of real files (law 10).
        warnings: what a reader of the decision must know.
        seconds: wall time spent on it.
    """

    path: str
    modality: str | None
    media: str | None
    status: Status
    reason: str
    decision: str
    llr: float | None
    score: float | None
    posterior: float | None
    prior: float | None
    operating_point: dict[str, Any] | None
    timeline: list[dict[str, float]]
    n_views: int
    n_tracks: int
    bundle: str | None
    detector: str | None
    synthetic: bool | None
    warnings: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form, one line of `deepassay screen`."""
        out = {name: getattr(self, name) for name in self.__slots__}
        return {**out, "status": str(self.status), "seconds": round(self.seconds, 4)}


class Screener:
    """Judges files by at most one face bundle and one voice bundle.

    Args:
        bundles: bundles, or paths of them; None: the installed ones (`installed.default_bundles`).
        operating_point: name of the rule that decides; every bundle must have it.
        views: most views per file; by default as many as each bundle's thresholds were fixed with.
        prior: probability of fake before looking; only then verdicts carry a posterior.
        threads: onnxruntime threads for bundles given by path.
        site: site rules (`deepassay calibrate`), at most one per bundle, that decide in place of its operating point.
        remote: modality -> address of its graph on an inference server, for bundles given by path (`kserve`).
        limits: abstain beyond the limits that a bundle learnt on dev (`abstention`); without them a verdict says so.
        key: a public key, PEM: every bundle must be signed by it.
        provider: onnxruntime execution provider, for bundles given by path; one that is not there is an error.
        max_bytes: larger files are not opened (status out_of_scope); decoding has limits of its own (`media.limits`).

    Raises:
        BundleError: a bundle that is refused, is not signed by the key, or lacks the operating point.
        ConfigError: no bundle given or installed, two of one modality, a prior outside (0, 1), or a site rule of
            another bundle.
        MissingDependencyError: the provider is not there.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle | str | Path] | None = None,
        operating_point: str = "bpcer_5",
        views: int | None = None,
        prior: float | None = None,
        *,
        threads: int | None = None,
        site: Sequence[SiteRule | str | Path] = (),
        remote: Mapping[str, str] | None = None,
        limits: bool = True,
        key: str | Path | None = None,
        provider: str = CPU,
        max_bytes: int | None = None,
    ) -> None:
        if prior is not None and not 0 < prior < 1:
            raise ConfigError(f"prior {prior}", hint="give the probability of fake, between 0 and 1, such as 0.01")
        if views is not None and views < 1:
            raise ConfigError(f"views {views}", hint="give at least 1")
        if max_bytes is not None and max_bytes < 1:
            raise ConfigError(f"max_bytes {max_bytes}", hint="give at least 1")
        if bundles is None:
            from deepassay.screening.installed import default_bundles

            bundles = [one.path for one in default_bundles()]
        self._bundles: dict[str, Bundle] = {}
        for given in bundles:
            bundle = given if isinstance(given, Bundle) else _load(given, threads, remote or {}, provider)
            if bundle.modality_name in self._bundles:
                raise ConfigError(
                    f"two {bundle.modality_name} bundles: {self._bundles[bundle.modality_name].path} and {bundle.path}",
                    hint="screen with one bundle per modality; run again with the other and compare",
                )
            self._bundles[bundle.modality_name] = bundle
        if not self._bundles:
            raise ConfigError("no bundle", hint="name one: --bundle runs/<name>/bundle")
        for bundle in self._bundles.values():  # what is wrong with a bundle shows now, not in the middle of a batch
            if key is not None:
                bundle.require_signature(key)
            bundle.check()
            bundle.modality()
        strange = sorted(set(remote or {}) - set(self._bundles))
        if strange:
            raise ConfigError(f"remote {strange[0]}: no bundle of that modality", hint="write face=URL or voice=URL")
        self._site = _site_rules(site, self._bundles.values())
        for bundle in self._bundles.values():
            if bundle.hash not in self._site:
                bundle.operating_point(operating_point)
        self._rule = operating_point
        self._views = views
        self._prior = prior
        self._limits = limits
        self._max_bytes = max_bytes

    def screen(self, path: str | Path) -> list[Verdict]:
        """Verdicts on one file: one for an image or sound, one per modality that can be judged for a video.

        Never raises for what is wrong with the file; that is the verdict's status and reason.
        """
        from deepassay.media.probe import sniff

        begin = time.perf_counter()
        try:
            if self._max_bytes is not None and (size := Path(path).stat().st_size) > self._max_bytes:
                raise Unusable(Status.OUT_OF_SCOPE, f"{size} bytes, more than the {self._max_bytes} that were allowed")
            media = sniff(path)
            judges = self._judges(path, media)
        except Unusable as unusable:
            return [self._abstain(path, None, unusable.status, unusable.reason, begin)]
        except MediaError as error:
            return [self._abstain(path, None, Status.ERROR, error.message.removeprefix(f"{path}: "), begin)]
        except Exception as error:  # whatever a damaged file makes a decoder do, the batch goes on
            return [self._abstain(path, None, Status.ERROR, describe_fault(error, Path(path)), begin)]
        if isinstance(judges, str):
            return [self._abstain(path, media, Status.OUT_OF_SCOPE, judges, begin)]
        out = []
        for bundle in judges:
            out.append(self._judge(path, media, bundle, begin))
            begin = time.perf_counter()
        return out

    def refuse(self, path: str | Path, reason: str) -> Verdict:
        """The verdict on something that is not a file: abstention with status error."""
        return self._abstain(path, None, Status.ERROR, reason, time.perf_counter())

    def _judges(self, path: str | Path, media: str) -> list[Bundle] | str:
        """The bundles that judge a file, or why none does."""
        wanted = _JUDGED_BY[media]
        judges = [self._bundles[name] for name in wanted if name in self._bundles]
        if not judges:
            return f"judging {media} needs a {' or '.join(wanted)} bundle, and none was given"
        if media == "video" and "voice" in self._bundles:
            from deepassay.media.probe import probe

            if probe(path)["rate_hz"] is None:
                judges = [bundle for bundle in judges if bundle.modality_name != "voice"]
                if not judges:
                    return "the video has no sound, and no face bundle was given"
        return judges

    def _judge(self, path: str | Path, media: str, bundle: Bundle, begin: float) -> Verdict:
        if media not in bundle.scope.media:
            reason = f"the bundle's scope is {', '.join(bundle.scope.media)}; {media} is outside it"
            return self._verdict(path, media, bundle, FileScore(status=Status.OUT_OF_SCOPE, reason=reason), begin)
        outcome = score_file(
            bundle.modality(limits=self._limits), bundle.predict, path, views=self._views or bundle.views
        )
        return self._verdict(path, media, bundle, outcome, begin)

    def _abstain(self, path: str | Path, media: str | None, status: Status, reason: str, begin: float) -> Verdict:
        wanted = set(_JUDGED_BY[media]) if media else {"face", "voice"}
        judges = [bundle for name, bundle in self._bundles.items() if name in wanted]
        # With a single bundle it is clear whose abstention this is; with two, of an unknown file, it is not.
        bundle = judges[0] if len(judges) == 1 else None
        return self._verdict(path, media, bundle, FileScore(status=status, reason=reason), begin)

    def _verdict(
        self, path: str | Path, media: str | None, bundle: Bundle | None, outcome: FileScore, begin: float
    ) -> Verdict:
        decision, llr, posterior, rule, warnings = ABSTAIN, None, None, None, []
        if bundle is not None:
            point = self._site.get(bundle.hash) or bundle.operating_point(self._rule)
            rule = {
                "name": point.name,
                "threshold": point.threshold,
                "inequality": INEQUALITY,
                "target_bpcer": point.target_bpcer,
                "dev_bpcer": point.realised_bpcer,
                "supported": point.supported,
                "flags_right": flags_right(point.target_bpcer),
            }
            if outcome.score is not None:
                llr = float(bundle.calibration.llr(outcome.score))
                decision = FAKE if llr >= point.threshold else NO_EVIDENCE
                posterior = None if self._prior is None else _posterior(llr, self._prior)
                warnings = [*self._warnings(bundle), *_length_warning(bundle, outcome), *outcome.notes]
        modality = bundle.modality_name if bundle else None
        if modality is None and media is not None and len(_JUDGED_BY[media]) == 1:
            modality = _JUDGED_BY[media][0]
        return Verdict(
            path=str(path),
            modality=modality,
            media=media,
            status=outcome.status,
            reason=outcome.reason,
            decision=decision,
            llr=llr,
            score=outcome.score,
            posterior=posterior,
            prior=self._prior,
            operating_point=rule,
            timeline=_timeline(outcome),
            n_views=outcome.n_views,
            n_tracks=outcome.n_tracks,
            bundle=bundle.hash if bundle else None,
            detector=bundle.name if bundle else None,
            synthetic=bundle.synthetic if bundle else None,
            warnings=warnings,
            seconds=time.perf_counter() - begin,
        )

    def _dev_words(self, bundle: Bundle) -> str:
        point = bundle.operating_point(self._rule)
        return f"{point.n_real} real dev samples of {point.n_clusters} clusters"

    def _warnings(self, bundle: Bundle) -> list[str]:
        out = []
        if bundle.synthetic:
            out.append("the detector was trained on built-in synthetic data and says nothing of real files")
        if not bundle.calibration.informative:
            out.append(f"the detector is not informative: {bundle.calibration.warning}")
        own = self._site.get(bundle.hash)
        point = own or bundle.operating_point(self._rule)
        if not point.supported:
            rests = f"{own.n} genuine files of this site" if own else self._dev_words(bundle)
            out.append(
                f"{point.name} rests on {rests}, fewer than the "
                f"{math.ceil(3 / point.target_bpcer - 1e-9)} that such a false-alarm rate needs (rule of 3)"
            )
        if bundle.abstention and not self._limits:
            out.append("the bundle's abstention limits were not asked: the file may be unlike any that it was fixed on")
        if self._views is not None and self._views != bundle.views:
            most = "every view" if bundle.views >= EVERY else str(bundle.views)
            out.append(f"at most {self._views} views per file, and the threshold was fixed with {most}")
        return out


def _load(path: str | Path, threads: int | None, remote: Mapping[str, str], provider: str) -> Bundle:
    bundle = Bundle.load(path, threads=threads, provider=provider)
    address = remote.get(bundle.modality_name)
    return bundle if address is None else Bundle.load(path, sha256=bundle.hash, threads=threads, remote=address)


def _site_rules(rules: Sequence[SiteRule | str | Path], bundles: Iterable[Bundle]) -> dict[str, SiteRule]:
    """The rules by bundle hash. Raises ConfigError for a rule that fits no bundle here, or two that fit one."""
    hashes = {bundle.hash: bundle for bundle in bundles}
    out: dict[str, SiteRule] = {}
    for given in rules:
        rule = given if isinstance(given, SiteRule) else SiteRule.read(given)
        if rule.bundle not in hashes or rule.bundle in out:
            raise ConfigError(
                f"the site rule {rule.name} is of bundle {rule.bundle[:12]} ({rule.detector}), "
                + ("which has a rule already" if rule.bundle in out else "which is not among those given"),
                hint="run `deepassay calibrate` for this bundle, and give one rule per bundle",
            )
        out[rule.bundle] = rule
    return out


def abstention(path: str | Path, status: Status, reason: str, *, seconds: float = 0.0) -> Verdict:
    """A verdict on something that no bundle came to judge."""
    return Verdict(
        path=str(path), modality=None, media=None, status=status, reason=reason, decision=ABSTAIN, llr=None, score=None,
        posterior=None, prior=None, operating_point=None, timeline=[], n_views=0, n_tracks=0, bundle=None,
        detector=None, synthetic=None, warnings=[], seconds=seconds,
    )  # fmt: skip


def _timeline(outcome: FileScore) -> list[dict[str, float]]:
    if outcome.logits is None or outcome.start_s is None or outcome.track is None:
        return []
    rows = zip(outcome.start_s.tolist(), outcome.track.tolist(), outcome.logits.tolist(), strict=True)
    out = [{"start_s": round(start, 4), "track": track, "score": score} for start, track, score in rows]
    if outcome.end_s is not None:
        out = [
            {"start_s": row["start_s"], "end_s": round(end, 4), "track": row["track"], "score": row["score"]}
            for row, end in zip(out, outcome.end_s.tolist(), strict=True)
        ]
    return out


def _length_warning(bundle: Bundle, outcome: FileScore) -> list[str]:
    """A file with far more views than any that the threshold was fixed on."""
    most = bundle.scope.limits.get("dev_views_most")
    if not isinstance(most, int) or outcome.n_views <= 2 * most:
        return []
    return [
        f"the score is pooled over {outcome.n_views} views and the threshold was fixed on files of at most {most}: "
        "the false-alarm rate at this length is not known; see the timeline"
    ]


def _posterior(llr: float, prior: float) -> float:
    """Probability of fake by Bayes' rule, stable for llrs of any size."""
    log_odds = llr + math.log(prior) - math.log1p(-prior)
    return 1 / (1 + math.exp(-log_odds)) if log_odds >= 0 else math.exp(log_odds) / (1 + math.exp(log_odds))
