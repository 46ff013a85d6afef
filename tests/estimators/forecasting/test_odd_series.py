"""Series as they are: late starters, holes, outliers, counts, mixed sizes, other columns."""

import numpy as np
import pandas as pd
import pytest
from forecasting_cases import waves

from difformer import DIFFormerForecaster
from difformer.errors import ConfigError, DataError


def model(**settings):
    return DIFFormerForecaster(**{"lags": 5, "horizon": 3, "encoder": "decoupled", **settings})


def width(fitted):
    lower, upper = fitted.predict_interval(0.8)
    return (upper - lower)[0]


@pytest.mark.parametrize("before", [np.nan, 0.0])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_node_that_starts_late_does_not_widen_the_others(before, scale):
    values = 1_000 + 30 * np.random.default_rng(0).normal(size=(350, 5))
    usual = width(model().fit(values * scale))
    values[:300, 3] = before
    found = width(model(transform="none").fit(values * scale))
    others = [0, 1, 2, 4]
    np.testing.assert_allclose(found[others], usual[others], rtol=0.35)
    assert found[3] < 40 * usual[3]


def test_references_do_without_complete_windows():
    values = 5 + np.random.default_rng(0).normal(size=(120, 3))
    values[6::7] = np.nan  # closed on Sundays: each window of seven steps has a hole
    found = model(horizon=7).fit(values[:90]).backtest(values, compare=True)
    for words in found.references:
        assert np.isfinite(found.references[words]).all(), words
    short = waves(30, 1)
    short[::4] = np.nan
    found = model(horizon=2).fit(short[:22]).backtest(short, compare=True)
    assert all(np.isfinite(f).all() for f in found.references.values())


def test_a_node_without_any_value_is_named():
    values = waves(60, 3)
    values[:, 1] = np.nan
    with pytest.raises(DataError, match="found none of 'b'; leave such nodes out"):
        model().fit(pd.DataFrame(values, columns=["a", "b", "c"]))


def test_covariates_of_fewer_steps_than_the_horizon_say_the_same():
    draw = np.random.default_rng(0)
    known = 10 + draw.normal(size=(203, 1))
    values = 3 * known[:200] + 0.1 * draw.normal(size=(200, 2))
    fitted = model().fit(values, covariates=known[:200])
    whole = fitted.predict(covariates=known[200:203])
    one = fitted.predict(steps=1, covariates=known[200:201])
    np.testing.assert_allclose(one[0], whole[0], atol=0.5)
    np.testing.assert_allclose(whole, np.repeat(3 * known[200:203], 2, 1), atol=1)


@pytest.mark.parametrize("rate", [0.8, 2.0, 20.0])
def test_forecasts_of_counts_are_means(rate):
    values = np.random.default_rng(0).poisson(rate, size=(400, 10))
    fitted = model(transform="sqrt").fit(values[:300])
    found = fitted.backtest(values)
    assert found.forecast.mean() == pytest.approx(rate, rel=0.06)
    assert found.errors()[0]["rmse"] < 1.1 * np.sqrt(rate)


def test_nodes_of_other_sizes_are_all_covered():
    draw = np.random.default_rng(0)
    small = draw.poisson(5, size=(400, 2))
    large = 1e5 * np.exp(0.2 * draw.normal(size=(400, 2)))
    values = np.concatenate([small, large], axis=1)
    found = model().fit(values[:300]).backtest(values)
    lower, upper = found.intervals[0.8]
    inside = ((found.truth >= lower) & (found.truth <= upper)).mean((0, 1))
    assert np.abs(inside - 0.8).max() < 0.12


def test_one_wrong_value_leaves_healthy_nodes_alone():
    values = 100 + np.random.default_rng(0).normal(size=(200, 4))
    values[195, 0] = 1e5
    fitted = model().fit(values)
    assert np.abs(fitted.predict()[:, 1:] - 100).max() < 20


def test_fitted_steps_in_a_history_narrow_nothing():
    values = waves(120, 4, noise=0.4)
    fitted = model().fit(values)
    for start in (0, None):
        for one, two in zip(
            fitted.predict_interval(0.8),
            fitted.predict_interval(0.8, values, start=start),
            strict=True,
        ):
            np.testing.assert_allclose(one, two)


def test_new_steps_in_a_history_do_change_widths():
    values = waves(160, 4, noise=0.2)
    values[100:] += 3 * np.random.default_rng(1).normal(size=(60, 4))
    fitted = model().fit(values[:100])
    usual = width(fitted)
    lower, upper = fitted.predict_interval(0.8, values, start=0)
    assert ((upper - lower)[0] > 2 * usual).all()


def test_a_silent_node_is_remembered():
    values = 10 + np.cumsum(np.random.default_rng(0).normal(size=(200, 3)), 0)
    values[180:, 1] = np.nan
    fitted = model(lags=6).fit(values)
    last = values[179, 1]
    assert abs(fitted.predict()[0, 1] - last) < 3
    same = fitted.backtest(np.concatenate([values, np.full((3, 3), np.nan)])).forecast[0]
    np.testing.assert_allclose(fitted.predict(), same, atol=1e-8)


def test_columns_are_known_by_their_names():
    frame = pd.DataFrame(waves(80, 3), columns=["a", "b", "c"])
    fitted = model().fit(frame)
    turned = frame[["c", "a", "b"]]
    np.testing.assert_array_equal(fitted.predict(turned), fitted.predict(frame))
    with pytest.raises(DataError, match="found no 'b'"):
        fitted.predict(frame.rename(columns={"b": "x"}))


def test_small_mistakes_are_one_sentence():
    values = waves(80, 3)
    fitted = model(season=8).fit(values)
    for start in (2.5, "2"):
        with pytest.raises(ConfigError, match="start must be a whole number"):
            fitted.predict(values, start=start)
    with pytest.raises(DataError):
        model().fit(values, edge_index=[])
    with pytest.raises(ConfigError, match="first must be at least 80"):
        fitted.backtest(values, first=40)


def test_a_change_after_the_fit_asks_for_another_one():
    fitted = model().fit(waves(80, 3)).set_params(horizon=5)
    with pytest.raises(ConfigError, match="horizon was 3 in fit, found 5"):
        fitted.predict()


def test_a_horizon_that_leaves_no_window_before_the_validation_part():
    values = waves(69, 3)
    fitted = model(lags=4, horizon=30).fit(values)
    assert not fitted.has_intervals
    assert np.isfinite(fitted.predict()).all()
    with pytest.raises(ConfigError, match="at least horizon = 30 of 36 windows"):
        model(lags=4, horizon=30, validation=10).fit(values)
