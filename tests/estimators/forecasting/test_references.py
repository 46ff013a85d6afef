"""Reference points equal their definitions and learn from training windows alone."""

import numpy as np
import pytest
from forecasting_cases import waves

from difformer.estimators.forecasting.references import (
    REFERENCES,
    ReferenceTask,
    reference_forecasts,
)

LAGS, HORIZON, SEASON = 4, 3, 5


@pytest.fixture
def task():
    values = waves(60, 3)
    return ReferenceTask(values, LAGS, HORIZON, np.arange(54) < 30, SEASON)


def test_simple_ones(task):
    found = reference_forecasts(task)
    values = task.values
    for window in range(54):
        now = window + LAGS  # the first step that is forecast
        for step in range(HORIZON):
            at = found["constant zero"], found["last value"]
            assert (at[0][window, :, step] == 0).all()
            np.testing.assert_array_equal(at[1][window, :, step], values[now - 1])
            mean = values[now - 1].mean()
            np.testing.assert_allclose(
                found["last value averaged over nodes"][window, :, step], mean
            )
            before = now + step - SEASON
            expected = values[before] if before >= 0 else values[now - 1]
            np.testing.assert_array_equal(found["value a season before"][window, :, step], expected)


def test_a_short_season_is_repeated_from_what_is_known():
    task = ReferenceTask(np.arange(12.0)[:, None], 4, 3, np.ones(6, dtype=bool), 2)
    found = REFERENCES["seasonal"][1](task)
    assert found[0, 0].tolist() == [2, 3, 2]  # steps 4, 5 and 6; only steps up to 3 are known


def test_pooled_regression(task):
    x = np.stack([task.values[w : w + LAGS] for w in range(54)])  # (W, L, N)
    for step in range(HORIZON):
        rows = np.concatenate([np.c_[x[w].T, np.ones(3)] for w in range(30)])
        y = np.concatenate([task.values[w + LAGS + step] for w in range(30)])
        weights = np.linalg.lstsq(rows, y, rcond=None)[0]
        expected = np.einsum("wln,l->wn", x, weights[:-1]) + weights[-1]
        np.testing.assert_allclose(REFERENCES["pooled-ar"][1](task)[..., step], expected, atol=1e-8)


@pytest.mark.parametrize("name", REFERENCES)
def test_none_looks_at_what_follows(task, name):
    other = task.values.copy()
    other[45:] += 100
    changed = ReferenceTask(other, LAGS, HORIZON, task.train, SEASON)
    before, after = (REFERENCES[name][1](t) for t in (task, changed))
    np.testing.assert_allclose(before[: 45 - LAGS + 1], after[: 45 - LAGS + 1], atol=1e-9)


def test_missing_values_are_no_harm(task):
    values = task.values.copy()
    values[np.random.default_rng(0).uniform(size=values.shape) < 0.2] = np.nan
    for found in reference_forecasts(
        ReferenceTask(values, LAGS, HORIZON, task.train, SEASON)
    ).values():
        assert np.isfinite(found).all()
