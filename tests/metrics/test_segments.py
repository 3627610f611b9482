"""Cells along a recording: labels from segments, scores from windows that overlap."""

import numpy as np
import pytest

from deepassay.errors import ScoreError
from deepassay.metrics.segments import cell_labels, cell_scores


def test_a_cell_is_fake_where_any_of_it_is():
    assert cell_labels([[0.2, 0.4]], 1.0, 0.1).tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert cell_labels([[0.25, 0.31], [0.9, 5.0]], 1.0, 0.1).tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 1]
    assert cell_labels([[0.25, 0.31]], 1.0, 0.5).tolist() == [1, 0]
    assert cell_labels([], 1.01, 0.5).tolist() == [0, 0, 0]


def test_labels_of_exact_edges_survive_rounding():
    for resolution in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64):
        cells = np.random.default_rng(0).integers(0, 2, 50)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells, [0]]))).reshape(-1, 2) * resolution
        np.testing.assert_array_equal(cell_labels(edges, 50 * resolution, resolution), cells)


def test_scores_are_means_of_the_windows_that_hold_the_middle():
    found = cell_scores([0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [1.0, 2.0, 6.0], 2.5, 0.5)
    np.testing.assert_allclose(found, [1.0, 1.5, 4.0, 6.0, np.nan])
    assert np.isnan(cell_scores([], [], [], 1.0, 0.3)).all()


def test_scores_equal_the_slow_definition():
    rng = np.random.default_rng(1)
    start = np.sort(rng.uniform(0, 60, 40))
    end, scores = start + 4.0, rng.normal(size=40)
    found = cell_scores(start, end, scores, 61.3, 0.16)
    middle = np.minimum((np.arange(len(found)) + 0.5) * 0.16, 61.3)
    for m, value in zip(middle, found, strict=True):
        held = scores[(start <= m) & (m <= end)]
        np.testing.assert_allclose(value, held.mean() if len(held) else np.nan, atol=1e-9)


def test_lengths_that_make_no_sense_are_refused():
    for duration, resolution in ((0.0, 0.1), (1.0, 0.0), (np.inf, 0.1), (1.0, -1.0)):
        with pytest.raises(ScoreError, match="hint"):
            cell_labels([], duration, resolution)
    with pytest.raises(ScoreError, match="hint"):
        cell_scores([0.0], [1.0, 2.0], [1.0], 1.0, 0.1)
