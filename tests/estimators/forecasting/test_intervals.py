"""Intervals cover as often as they say, and follow a series that drifts."""

import numpy as np
import pytest

from difformer.errors import ConfigError
from difformer.estimators.forecasting.intervals import MOST_SCORES, Conformal


def errors(windows, nodes=6, horizon=2, seed=0):
    draw = np.random.default_rng(seed)
    scale = np.linspace(1, 5, nodes)[:, None, None]
    return draw.normal(size=(windows, nodes, 1, horizon)) * scale * np.array([1.0, 2.0])


def test_a_half_width_is_the_conformal_quantile():
    truth = errors(20)
    found = Conformal.fit(np.zeros_like(truth), truth)
    scores = np.sort((np.abs(truth) / found.scale).reshape(-1, 1, 2), axis=0)
    rank = int(np.ceil((120 + 1) * 0.8)) - 1
    np.testing.assert_allclose(found.half_width(0.8), found.scale * scores[rank])


def test_it_covers_new_errors():
    found = Conformal.fit(np.zeros((4_000, 6, 1, 2)), errors(4_000))
    for level in (0.5, 0.8, 0.95):
        inside = np.abs(errors(8_000, seed=1)) <= found.half_width(level)
        assert np.abs(inside.mean((0, 2)) - level).max() < 0.03  # every node at every step
        assert abs(inside.mean() - level) < 0.015


def test_missing_truths_count_for_nothing():
    truth = errors(40)
    truth[::3, 2] = np.nan
    found = Conformal.fit(np.zeros_like(truth), truth)
    assert np.isfinite(found.half_width(0.9)).all()
    assert (found.count == np.isfinite(truth).sum((0, 1))).all()


def test_many_scores_are_thinned():
    truth = errors(3_000)
    found = Conformal.fit(np.zeros_like(truth), truth)
    assert found.scores.shape == (1, 2, MOST_SCORES)
    scores = np.abs(truth) / found.scale
    for level in (0.3, 0.8, 0.99):
        expected = np.quantile(scores.reshape(-1, 2), level, axis=0)
        np.testing.assert_allclose(
            found.half_width(level)[0, 0] / found.scale[0, 0], expected, rtol=0.01
        )


def test_widths_follow_a_series_whose_errors_grow():
    found = Conformal.fit(np.zeros((50, 6, 1, 2)), errors(50))
    truth = errors(400, seed=2) * np.linspace(1, 6, 400)[:, None, None, None]
    forecast = np.zeros_like(truth)
    half = found.half_width(0.8)
    fixed = (np.abs(truth) <= half).mean()
    width = found.widths(forecast, truth, 0.8)
    assert width.shape == (401, 2)
    inside = np.abs(truth) <= half * width[:-1, None, None]
    assert fixed < 0.6
    assert np.abs(inside.mean((0, 1, 2)) - 0.8).max() < 0.03


def test_a_width_knows_no_truth_that_is_not_over_yet():
    found = Conformal.fit(np.zeros((50, 6, 1, 2)), errors(50))
    truth = errors(30, seed=3)
    before = found.widths(np.zeros_like(truth), truth, 0.8)
    for changed in (7, 20):
        other = truth.copy()
        other[changed] *= 1e6
        after = found.widths(np.zeros_like(truth), other, 0.8)
        for step in range(2):  # forecast `changed`, step ahead, is known one step later each
            known = changed + step + 1
            np.testing.assert_array_equal(before[:known, step], after[:known, step])
            assert after[known, step] > before[known, step]


@pytest.mark.parametrize("level", [0, 1, 1.5, "high", True])
def test_a_level_is_a_share(level):
    with pytest.raises(ConfigError, match="level must lie between 0 and 1"):
        Conformal.fit(np.zeros((5, 6, 1, 2)), errors(5)).half_width(level)
