"""METRICS: the one list of metrics that tests, tables, intervals and the dossier read.

A new metric is one function and one row here. A row says what the metric needs, which way is better, which definition
and version it is, and, so that replicates cost little, how it follows from a ROC staircase (``of_curve`` for many
replicates at once, ``of_hull`` for one) or from class means of per-trial terms (``terms`` and ``combine``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics import calibration, decision, ranking, tandem
from deepassay.metrics.trials import Floats

VALUES = ("scores", "llr", "silence")  # what a metric's second argument is
Direction = Literal["higher_better", "lower_better", "descriptive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: how it is called, what it needs and where its definition stands.

    Args:
        name: stable id, in snake case.
        title: for tables, with the definition where names are ambiguous.
        function: ``function(labels, scores, weights=None, **parameters) -> float``.
        direction: ``higher_better``, ``lower_better`` or ``descriptive`` (its threshold is picked on the test trials).
        needs: beyond labels: ``scores``, ``llr`` or ``silence`` (1 where a trial got no answer, else 0), and what must
            be passed by keyword: ``threshold``, ``generators``, ``asv``, ``target``, ``asv_scores``.
        unit: ``fraction``, ``bits``, ``nats`` or ``cost``.
        version: goes up when the definition changes; a stored number names it.
        reference: paper, equation or clause.
        parameters: defaults that are part of the definition (a target, a cost model, a number of bins).
        ranking: True where no rising map of the scores changes the value.
        of_curve: (fpr (b, p), fnr (b, p), **parameters) -> (b,), on the corners of ROC polylines.
        of_hull: (flagged real (h,), flagged fake (h,), **parameters) -> float, on the corners of one ROC convex hull.
        terms: (labels, values, **parameters) -> (n,), per-trial quantities whose class means `combine` takes.
        combine: (real (b,), fake (b,), **parameters) -> (b,); where ``by_generator``, fake is (b, g), NaN where absent.
        classes: the classes it needs trials of.
    """

    name: str
    title: str
    function: Callable[..., float]
    direction: Direction
    needs: tuple[str, ...]
    unit: Literal["fraction", "bits", "nats", "cost"]
    reference: str
    version: str = "1"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ranking: bool = False
    of_curve: Callable[..., Floats] | None = None
    of_hull: Callable[..., float] | None = None
    terms: Callable[..., Floats] | None = None
    combine: Callable[..., Floats] | None = None
    by_generator: bool = False
    classes: tuple[int, ...] = (REAL, FAKE)

    @property
    def definition(self) -> str:
        """Pointer that a stored number carries: ``name@version``."""
        return f"{self.name}@{self.version}"

    def __call__(
        self, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, **parameters: Any
    ) -> float:
        """The value on trials.

        Raises:
            ScoreError: a keyword that the metric needs is missing, or no honest number exists.
        """
        return float(self.function(labels, scores, weights=weights, **self.arguments(parameters)))

    def arguments(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Its own defaults and the given parameters together; refuses unknown and missing ones."""
        wanted = {n for n in self.needs if n not in VALUES}
        unknown = sorted(set(parameters) - wanted - set(self.parameters))
        missing = sorted(wanted - set(parameters))
        if unknown or missing:
            raise ScoreError(
                f"metric {self.name} " + (f"takes no {unknown}" if unknown else f"needs {missing}"),
                hint=f"its keywords are {sorted(wanted | set(self.parameters))}",
            )
        return {**self.parameters, **parameters}


def _eer(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, definition: str) -> float:
    return ranking.eer(labels, scores, definition, weights)


def _hull_eer(hull_real: Floats, hull_fake: Floats) -> float:
    return float(ranking.crossing_of(hull_real / hull_real[-1], 1 - hull_fake / hull_fake[-1]))


def _standardised_partial_auc_of(fpr: Floats, fnr: Floats, max_fpr: float) -> Floats:
    return ranking.standardise_partial_auc(ranking.partial_auc_of(fpr, fnr, max_fpr), max_fpr)


def _flagged(labels: ArrayLike, scores: ArrayLike, threshold: float, **_: Any) -> Floats:
    return (np.asarray(scores) >= threshold).astype(np.float64)


def _real_only(real: Floats, fake: Floats, **_: Any) -> Floats:
    return real


def _missed(real: Floats, fake: Floats, **_: Any) -> Floats:
    return 1 - fake


def _flagged_by_bayes(labels: ArrayLike, llr: ArrayLike, cost: decision.DetectionCost) -> Floats:
    return (np.asarray(llr) >= cost.threshold).astype(np.float64)


def _worst(real: Floats, fake: Floats, **_: Any) -> Floats:
    return np.nanmax(1 - fake, axis=-1)


def _mean_missed(real: Floats, fake: Floats, **_: Any) -> Floats:
    return np.nanmean(1 - fake, axis=-1)


def _fake_only(real: Floats, fake: Floats, **_: Any) -> Floats:
    return fake


def _silence(labels: ArrayLike, silence: ArrayLike, **_: Any) -> Floats:
    return np.asarray(silence, dtype=np.float64)


def _at_prior(real: Floats, fake: Floats, prior: float) -> Floats:
    return (1 - prior) * real + prior * fake


def _spf(against: str) -> dict[str, Any]:
    return {"against": against, "definition": "E3"}


_ISO = "ISO/IEC 30107-3, as defined there"

_ROWS = (
    Metric(
        name="auc", title="AUC", function=ranking.auc, direction="higher_better", needs=("scores",), unit="fraction",
        reference="Mann-Whitney U / (n_real n_fake), ties one half; Hanley and McNeil 1982", ranking=True,
        of_curve=ranking.auc_of,
    ),
    Metric(
        name="partial_auc", title="partial AUC, raw, FPR <= 10 %", function=ranking.partial_auc,
        direction="higher_better", needs=("scores",), unit="fraction",
        reference="integral of TPR over FPR in [0, max_fpr]; McClish 1989",
        parameters={"max_fpr": 0.1}, ranking=True, of_curve=ranking.partial_auc_of,
    ),
    Metric(
        name="partial_auc_standardised", title="partial AUC, McClish-standardised, FPR <= 10 %",
        function=ranking.standardised_partial_auc, direction="higher_better", needs=("scores",), unit="fraction",
        reference="McClish 1989, Medical Decision Making 9", parameters={"max_fpr": 0.1}, ranking=True,
        of_curve=_standardised_partial_auc_of,
    ),
    Metric(
        name="eer", title="EER (E3, interpolated)", function=partial(_eer, definition="E3"), direction="descriptive",
        needs=("scores",), unit="fraction", reference="crossing of the piecewise linear ROC with FPR = FNR",
        ranking=True,
        of_curve=ranking.crossing_of,
    ),
    Metric(
        name="eer_e1", title="EER (E1, ASVspoof walk)", function=partial(_eer, definition="E1"),
        direction="descriptive", needs=("scores",), unit="fraction",
        reference="ASVspoof 2019/2021/5 evaluation packages; unsafe with ties",
        ranking=True,
    ),
    Metric(
        name="eer_e2", title="EER (E2, distinct thresholds)", function=partial(_eer, definition="E2"),
        direction="descriptive", needs=("scores",), unit="fraction",
        reference="point of least |FPR - FNR| among distinct thresholds, mean of both (torchmetrics)", ranking=True,
    ),
    Metric(
        name="eer_e4", title="EER (E4, convex hull)", function=partial(_eer, definition="E4"), direction="descriptive",
        needs=("scores",), unit="fraction", reference="ROCCH-EER; Brummer and de Villiers 2013 (BOSARIS)", ranking=True,
        of_hull=_hull_eer,
    ),
    Metric(
        name="eer_e5", title="EER (E5, interval midpoint)", function=partial(_eer, definition="E5"),
        direction="descriptive", needs=("scores",), unit="fraction", reference="Maio et al. 2002 (FVC2000)",
        ranking=True,
    ),
    Metric(
        name="average_precision", title="average precision (fake positive, prevalence as in the trials)",
        function=ranking.average_precision, direction="higher_better", needs=("scores",), unit="fraction",
        reference="sum (R_i - R_(i-1)) P_i without interpolation", ranking=True,
    ),
    Metric(
        name="tpr_at_fpr_1", title="TPR at FPR <= 1 %", function=decision.tpr_at_fpr, direction="descriptive",
        needs=("scores",), unit="fraction", reference="largest achievable TPR, no interpolation",
        parameters={"target": 0.01}, ranking=True, of_curve=decision.tpr_at_fpr_of,
    ),
    Metric(
        name="bpcer_at_apcer_5", title="BPCER at pooled APCER <= 5 %", function=decision.bpcer_at_apcer,
        direction="descriptive", needs=("scores",), unit="fraction",
        reference=f"BPCER20, {_ISO}, but over pooled generators", parameters={"target": 0.05}, ranking=True,
        of_curve=decision.bpcer_at_apcer_of,
    ),
    Metric(
        name="min_dcf", title="min DCF (ASVspoof 5 costs)", function=decision.min_dcf, direction="descriptive",
        needs=("scores",), unit="cost", reference="ASVspoof 5 evaluation plan, track 1",
        parameters={"cost": decision.ASVSPOOF5_COST}, ranking=True, of_curve=decision.min_dcf_of,
    ),
    Metric(
        name="act_dcf", title="actual DCF (ASVspoof 5 costs)", function=decision.act_dcf, direction="lower_better",
        needs=("llr",), unit="cost", reference="ASVspoof 5 evaluation plan, track 1; Bayes threshold on the llr",
        parameters={"cost": decision.ASVSPOOF5_COST}, terms=_flagged_by_bayes,
        combine=lambda real, fake, cost: cost.of(real, 1 - fake),
    ),
    Metric(
        name="bpcer", title="BPCER", function=decision.bpcer, direction="lower_better", needs=("scores", "threshold"),
        unit="fraction", reference=_ISO, terms=_flagged, combine=_real_only, classes=(REAL,),
    ),
    Metric(
        name="apcer_pooled", title="APCER pooled over generators (not ISO)", function=decision.apcer,
        direction="lower_better", needs=("scores", "threshold"), unit="fraction",
        reference="share of all fakes missed; ISO/IEC 30107-3 takes the worst generator instead", terms=_flagged,
        combine=_missed, classes=(FAKE,),
    ),
    Metric(
        name="apcer", title="APCER, worst generator", function=decision.worst_apcer, direction="lower_better",
        needs=("scores", "threshold", "generators"), unit="fraction", reference=_ISO, terms=_flagged, combine=_worst,
        by_generator=True, classes=(FAKE,),
    ),
    Metric(
        name="acer", title="ACER, worst generator", function=decision.acer, direction="lower_better",
        needs=("scores", "threshold", "generators"), unit="fraction",
        reference="(worst APCER + BPCER) / 2; withdrawn from ISO/IEC 30107-3", terms=_flagged,
        combine=lambda real, fake, **_: (_worst(real, fake) + real) / 2, by_generator=True,
    ),
    Metric(
        name="macro_apcer", title="APCER, mean over generators", function=decision.macro_apcer,
        direction="lower_better", needs=("scores", "threshold", "generators"), unit="fraction",
        reference="mean over generators of APCER, ISO/IEC 30107-3, as defined there; never the headline",
        terms=_flagged, combine=_mean_missed, by_generator=True, classes=(FAKE,),
    ),
    Metric(
        name="bpnrr", title="non-response, real", function=partial(decision.silent_share, label=REAL),
        direction="lower_better", needs=("silence",), unit="fraction",
        reference="bona fide non-response rate, ISO/IEC 30107-3, as defined there", terms=_silence,
        combine=_real_only, classes=(REAL,),
    ),
    Metric(
        name="apnrr", title="non-response, fake", function=partial(decision.silent_share, label=FAKE),
        direction="lower_better", needs=("silence",), unit="fraction",
        reference="attack non-response rate, ISO/IEC 30107-3, as defined there", terms=_silence,
        combine=_fake_only, classes=(FAKE,),
    ),
    Metric(
        name="cllr", title="Cllr", function=calibration.cllr, direction="lower_better", needs=("llr",), unit="bits",
        reference="Brummer and du Preez 2006, Computer Speech and Language 20", terms=calibration.cllr_terms,
        combine=lambda real, fake: (real + fake) / 2,
    ),
    Metric(
        name="min_cllr", title="min Cllr", function=calibration.min_cllr, direction="descriptive", needs=("scores",),
        unit="bits", reference="Brummer and du Preez 2006; pool-adjacent-violators on the evaluation labels",
        ranking=True, of_hull=calibration.min_cllr_of,
    ),
    Metric(
        name="calibration_loss", title="Cllr - min Cllr", function=calibration.calibration_loss,
        direction="lower_better", needs=("llr",), unit="bits", reference="Brummer and du Preez 2006",
    ),
    Metric(
        name="brier", title="Brier score at prior 0.5", function=calibration.brier, direction="lower_better",
        needs=("llr",), unit="fraction", reference="Brier 1950, classes weighted by the stated prior",
        parameters={"prior": 0.5}, terms=calibration.brier_terms, combine=_at_prior,
    ),
    Metric(
        name="log_loss", title="log-loss at prior 0.5", function=calibration.log_loss, direction="lower_better",
        needs=("llr",), unit="nats", reference="mean -ln p(label), classes weighted by the stated prior",
        parameters={"prior": 0.5}, terms=calibration.log_loss_terms, combine=_at_prior,
    ),
    Metric(
        name="ece_width", title="expected calibration error, 15 bins of equal width",
        function=calibration.expected_calibration_error, direction="lower_better", needs=("llr",), unit="fraction",
        reference="Naeini et al. 2015; depends on binning and class sizes",
        parameters={"bins": 15, "scheme": "equal_width", "prior": 0.5},
    ),
    Metric(
        name="ece_mass", title="expected calibration error, 15 bins of equal mass",
        function=calibration.expected_calibration_error, direction="lower_better", needs=("llr",), unit="fraction",
        reference="Nguyen and O'Connor 2015; depends on binning and class sizes",
        parameters={"bins": 15, "scheme": "equal_mass", "prior": 0.5},
    ),
    Metric(
        name="min_tdcf", title="min t-DCF (2021)", function=tandem.min_tdcf, direction="descriptive",
        needs=("scores", "asv"), unit="cost", reference="Kinnunen et al. 2020, IEEE/ACM TASLP 28; ASVspoof 2021",
        parameters={"cost": tandem.ASVSPOOF_TANDEM, "version": "2021"}, ranking=True, of_curve=tandem.tdcf_of,
    ),
    Metric(
        name="min_tdcf_2019", title="min t-DCF (2019, legacy)", function=tandem.min_tdcf, direction="descriptive",
        needs=("scores", "asv"), unit="cost", reference="ASVspoof 2019 evaluation plan; not comparable with 2021",
        parameters={"cost": tandem.ASVSPOOF_TANDEM, "version": "2019"}, ranking=True, of_curve=tandem.tdcf_of,
    ),
    Metric(
        name="a_dcf", title="min a-DCF (ASVspoof 5 costs)", function=tandem.a_dcf, direction="descriptive",
        needs=("scores", "target"), unit="cost", reference="Shim et al. 2024, Odyssey; joint scores grow with reject",
        parameters={"cost": tandem.ASVSPOOF_TANDEM}, ranking=True,
    ),
    Metric(
        name="t_eer", title="t-EER, concurrent", function=tandem.t_eer, direction="descriptive",
        needs=("scores", "target", "asv_scores"), unit="fraction", reference="Kinnunen et al. 2023, IEEE TPAMI",
        ranking=True,
    ),
    Metric(
        name="sasv_eer", title="SASV-EER (E3)", function=tandem.sasv_eer, direction="descriptive",
        needs=("scores", "target"), unit="fraction", reference="SASV challenge 2022", parameters=_spf("both"),
        ranking=True,
    ),
    Metric(
        name="sv_eer", title="SV-EER (E3)", function=tandem.sasv_eer, direction="descriptive",
        needs=("scores", "target"), unit="fraction", reference="SASV challenge 2022", parameters=_spf("nontarget"),
        ranking=True,
    ),
    Metric(
        name="spf_eer", title="SPF-EER (E3)", function=tandem.sasv_eer, direction="descriptive",
        needs=("scores", "target"), unit="fraction", reference="SASV challenge 2022", parameters=_spf("spoof"),
        ranking=True,
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


def find_metric(metric: str | Metric) -> Metric:
    """A row of `METRICS` by name, or the metric itself.

    Raises:
        ScoreError: no such name.
    """
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        raise ScoreError(f"there is no metric {metric!r}", hint=f"use one of {sorted(METRICS)}")
    return METRICS[metric]
