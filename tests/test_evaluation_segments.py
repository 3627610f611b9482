"""Evaluation by segment and by length: where a file is fake, and what length does to error rates."""

import numpy as np
import pyarrow as pa
import pytest

from deepassay.errors import ScoreError
from deepassay.evaluation import AS_ERROR, LEFT_OUT, LENGTHS, SegmentedFile, measure, measure_segments, segmented_file
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import Sample
from deepassay.scores import COLUMNS, SCHEMA, Scored, ScoreTable
from deepassay.scoring import FileScore


def files(n: int = 24, noise: float = 0.3, sign: float = 1.0) -> list[SegmentedFile]:
    """Half are fake from second 2 to 4 of 6; windows of 1 s see it with some noise."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        fake = bool(i % 2)
        start = np.arange(0, 5.01, 0.5)
        inside = np.clip(np.minimum(start + 1, 4) - np.maximum(start, 2), 0, None) * fake
        scores = sign * (inside + rng.normal(0, noise, len(start)))
        segments = np.array([[2.0, 4.0]] if fake else []).reshape(-1, 2)
        out.append(
            SegmentedFile(
                duration_s=6.0, segments=segments, start_s=start, end_s=start + 1, scores=scores, cluster=f"s{i // 2}",
                generator="splice" if fake else "",
            )
        )  # fmt: skip
    return out


def values(numbers, convention=AS_ERROR):
    return {n.metric: n for n in numbers if n.slice["nonresponse"] == convention}


def test_a_timeline_that_tells_where_gets_a_low_eer_and_a_flipped_one_a_high_one():
    good = values(measure_segments(files(), resolution_s=0.1, replicates=50))
    flipped = values(measure_segments(files(sign=-1.0), resolution_s=0.1, replicates=50))
    assert good["eer"].value < 0.12
    assert good["auc"].value > 0.95
    assert flipped["auc"].value == pytest.approx(1 - good["auc"].value, abs=1e-9)
    assert good["eer"].slice["cells"] == "0.1 s"
    assert good["eer"].n_attack == 12 * 20
    assert good["eer"].n_bona == 24 * 60 - 12 * 20
    assert good["eer"].n_clusters == 12
    assert good["eer"].status == "under_powered"
    assert good["eer"].ci["lo"] <= good["eer"].value <= good["eer"].ci["hi"]


def test_cells_without_a_score_count_as_errors_and_are_left_out_in_the_second_set():
    rows = files(noise=0.0)
    silent = rows[1]
    nothing = np.zeros(0)
    rows[1] = SegmentedFile(
        duration_s=6.0, segments=silent.segments, start_s=nothing, end_s=nothing, scores=nothing, cluster="s0"
    )
    numbers = measure_segments(rows, resolution_s=0.5, replicates=20)
    counted, left = values(numbers), values(numbers, LEFT_OUT)
    assert counted["auc"].n_nonresponse == 12
    assert left["auc"].n_nonresponse == 0
    assert counted["auc"].value < left["auc"].value


def test_what_cannot_be_evaluated_by_segment_is_refused():
    with pytest.raises(ScoreError, match="no file"):
        measure_segments([])
    with pytest.raises(ScoreError, match="real and 0 fake"):
        measure_segments(files()[::2], replicates=10)
    outcome = FileScore(score=0.0, start_s=np.zeros(1), end_s=np.ones(1), logits=np.zeros(1))
    real = dict(sample_id="a", path="a.wav", media="audio", modality="voice", label=REAL, duration_s=1.0)
    assert len(segmented_file(Sample(**real), outcome).segments) == 0
    about = {"fake_segments": "0.1-0.3"}
    fake = {**real, "label": FAKE, "generator": "g", "attributes": about}
    assert segmented_file(Sample(**fake), outcome).segments.tolist() == [[0.1, 0.3]]
    silent = FileScore(status=Status.NO_SPEECH, reason="nothing")
    assert len(segmented_file(Sample(**fake), silent).scores) == 0
    for wrong in ({**fake, "attributes": {}}, {**real, "attributes": about}, {**real, "duration_s": None}):
        with pytest.raises(ScoreError, match="fake_segments"):
            segmented_file(Sample(**wrong), outcome)


def table(durations) -> ScoreTable:
    rng = np.random.default_rng(0)
    rows = []
    for i, seconds in enumerate(durations):
        for label in (REAL, FAKE):
            sample = Sample(
                sample_id=f"{label}-{i}", path="a", media="audio", modality="voice", label=label, source_id=f"s{i}",
                generator="g" if label else "", corpus="c", duration_s=seconds,
            )  # fmt: skip
            rows.append((sample, Scored(score=float(rng.normal(label, 1)), n_views=1)))
    return ScoreTable.from_rows(rows, {"calibrated": False})


def test_slices_by_length_use_the_named_bins_in_order():
    durations = [0.5, 0.5, 1.0, 3.0, 4.0, 9.9, 45.0, 700.0, 7200.0, None]
    numbers = measure(table(durations), slices=("length",), replicates=20)
    found = [n for n in numbers if "length" in n.slice and n.slice["nonresponse"] == AS_ERROR and n.metric == "auc"]
    counts = {n.slice["length"]: n.n_bona for n in found}
    assert counts == {
        "(not annotated)": 1, "under 1 s": 2, "1 to 2 s": 1, "2 to 4 s": 1, "4 to 10 s": 2, "30 s to 2 min": 1,
        "10 to 60 min": 1, "1 h and more": 1,
    }  # fmt: skip
    order = [name for name in counts if name in LENGTHS.values()]
    assert order == [name for name in LENGTHS.values() if name in counts]


def test_a_slice_by_length_needs_lengths():
    with pytest.raises(ScoreError, match="probe=true"):
        measure(table([None, None]), slices=("length",), replicates=5)
    assert "duration_s" in COLUMNS
    assert SCHEMA.field("duration_s").type == pa.float64()
