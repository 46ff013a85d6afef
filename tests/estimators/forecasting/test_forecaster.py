"""DIFFormerForecaster: shapes, what it may know, what it refuses, and what it is good for."""

import numpy as np
import pandas as pd
import pytest
from forecasting_cases import random_graph, ring, waves
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from difformer import DIFFormerForecaster
from difformer.errors import ConfigError, DataError

QUICK = {"epochs": 3, "batch_size": 16}
SMALL = {"hidden_channels": 8, "node_channels": 2}


def model(**settings):
    return DIFFormerForecaster(**{"lags": 4, "horizon": 3, "encoder": "decoupled", **settings})


def trained(**settings):
    return model(encoder="trained", training=QUICK, options=SMALL, **settings)


@pytest.mark.parametrize("make", [model, trained])
def test_shapes(make):
    flat = waves(80, 5)
    fitted = make().fit(flat, ring())
    assert fitted.predict().shape == (3, 5)
    assert fitted.predict(steps=8).shape == (8, 5)
    assert fitted.predict(flat[:10], steps=1).shape == (1, 5)
    lower, upper = fitted.predict_interval(0.9, flat[:30])
    assert lower.shape == upper.shape == (3, 5)
    channels = np.stack([flat, flat**2], axis=2)
    assert make().fit(channels).predict(steps=4).shape == (4, 5, 2)
    one = make(diffusivity="identity").fit(flat[:, 0])
    assert one.predict().shape == (3, 1)


@pytest.mark.parametrize("make", [model, trained])
def test_nothing_looks_ahead(make):
    values = waves(120, 4)
    fitted = make().fit(values[:80], ring(4))
    other = values.copy()
    other[100:] += np.random.default_rng(0).normal(size=(20, 4))
    before = fitted.backtest(values, first=85, compare=True)
    after = fitted.backtest(other, first=85, compare=True)
    known = before.origin <= 100
    assert known.sum() == 16
    np.testing.assert_array_equal(before.forecast[known], after.forecast[known])
    for words, forecast in before.references.items():
        np.testing.assert_allclose(forecast[known], after.references[words][known], atol=1e-12)
    for level, bounds in before.intervals.items():
        for one, two in zip(bounds, after.intervals[level], strict=True):
            np.testing.assert_array_equal(one[known], two[known])
    assert not np.allclose(before.forecast, after.forecast)


@pytest.mark.parametrize("make", [model, trained])
@pytest.mark.parametrize("season", [None, 7])
def test_a_backtest_says_what_predict_would_have_said(make, season):
    values = waves(110, 4)
    fitted = make(season=season).fit(values[:80], ring(4))
    found = fitted.backtest(values, first=80)
    assert found.forecast.shape == (28, 3, 4)
    for at, origin in enumerate(found.origin):
        start = 0 if season else None
        expected = fitted.predict(values[:origin], start=start)
        np.testing.assert_allclose(found.forecast[at], expected, atol=1e-5)
        np.testing.assert_array_equal(found.truth[at], values[origin : origin + 3])
    np.testing.assert_allclose(found.forecast[0], fitted.predict(), atol=1e-5)


def test_steps_beyond_the_horizon_are_forecast_from_forecasts():
    values = waves(80, 4)
    fitted = model().fit(values)
    first = fitted.predict()
    then = fitted.predict(np.concatenate([values, first]))
    np.testing.assert_allclose(fitted.predict(steps=5), np.concatenate([first, then])[:5])


@pytest.mark.parametrize("make", [model, trained])
def test_saved_and_loaded_is_the_same_to_the_last_bit(make, tmp_path):
    values = waves(100, 4)
    fitted = make(season=5).fit(values[:80], ring(4), np.full(4, 2.0))
    fitted.save(tmp_path / "run")
    again = DIFFormerForecaster.load(tmp_path / "run")
    np.testing.assert_array_equal(fitted.predict(steps=7), again.predict(steps=7))
    for one, two in zip(fitted.predict_interval(), again.predict_interval(), strict=True):
        np.testing.assert_array_equal(one, two)
    before, after = (m.backtest(values, first=82) for m in (fitted, again))
    np.testing.assert_array_equal(before.forecast, after.forecast)
    assert again.get_params() == fitted.get_params()
    assert (again.encoder_, again.decisions_, again.nodes_) == (
        fitted.encoder_,
        fitted.decisions_,
        fitted.nodes_,
    )
    assert "DIFFormerForecaster.load" in (tmp_path / "run" / "README.md").read_text()
    again.save(tmp_path / "other")
    third = DIFFormerForecaster.load(tmp_path / "other")
    np.testing.assert_array_equal(third.predict(), fitted.predict())


def test_the_order_of_nodes_says_nothing():
    values = waves(80, 6, noise=0.4)
    graph, weight = random_graph(6, 12, 0)
    order = np.array([3, 0, 5, 1, 4, 2])
    place = np.argsort(order)
    fitted = model().fit(values, graph.numpy(), weight.numpy())
    moved = model().fit(values[:, order], place[graph.numpy()], weight.numpy())
    np.testing.assert_allclose(moved.predict(), fitted.predict()[:, order], atol=1e-9)


def test_one_graph_a_step_that_never_changes_is_one_graph():
    values = waves(60, 5)
    one = model().fit(values, ring())
    many = model().fit(values, [ring()] * 60, [np.ones(5)] * 60)
    np.testing.assert_allclose(one.predict(), many.predict(), atol=1e-12)
    trained_one = trained().fit(values, ring(), np.ones(5))
    trained_many = trained().fit(values, [ring()] * 60, [np.ones(5)] * 60)
    np.testing.assert_allclose(trained_one.predict(), trained_many.predict(), atol=1e-5)


def test_missing_values_are_left_out():
    values = waves(100, 4)
    holes = values.copy()
    holes[np.random.default_rng(0).uniform(size=values.shape) < 0.1] = np.nan
    holes[:6, 2] = np.nan
    fitted = model().fit(holes[:80])
    found = fitted.backtest(holes, first=80)
    assert np.isfinite(found.forecast).all()
    errors = found.errors()
    assert errors[0]["count"] < 18 * 4
    assert errors[0]["rmse"] < 0.8
    assert np.isfinite(trained().fit(holes[:80]).predict()).all()


def test_covariates_tell_what_is_to_come():
    draw = np.random.default_rng(0)
    holiday = (draw.uniform(size=(140, 1)) < 0.3).astype(float)
    values = draw.normal(size=(140, 3)) * 0.1 + 2 * holiday
    plain = model(horizon=2).fit(values[:100])
    told = model(horizon=2).fit(values[:100], covariates=holiday[:100])
    errors = [
        m.backtest(values, covariates=c).errors()[0]["rmse"]
        for m, c in ((plain, None), (told, holiday))
    ]
    assert errors[1] < 0.3 * errors[0]
    ahead = told.predict(covariates=holiday[100:104], steps=4)
    assert np.abs(ahead - 2 * holiday[100:104]).max() < 0.5
    with pytest.raises(DataError, match="covariates must have 1 columns, found 0"):
        told.predict()
    with pytest.raises(DataError, match=r"of shape \(2, K\)"):
        told.predict(covariates=holiday[:3], steps=2)


def test_auto_takes_a_network_where_it_is_better():
    draw = np.random.default_rng(0)
    values = np.zeros((300, 4))
    values[0] = draw.uniform(size=4)
    for t in range(1, 300):  # a map that no line follows
        values[t] = 3.9 * values[t - 1] * (1 - values[t - 1])
    options = {"hidden_channels": 32, "node_channels": 0}
    training = {"epochs": 20, "learning_rate": 0.01, "batch_size": 16}
    fitted = DIFFormerForecaster(2, 1, options=options, training=training).fit(values[:200])
    assert fitted.encoder_ == "trained"
    assert "Encoder: trained" in fitted.decisions_[-1]
    linear = DIFFormerForecaster(2, 1, encoder="decoupled").fit(values[:200])
    errors = [m.backtest(values).errors()[0]["rmse"] for m in (fitted, linear)]
    assert errors[0] < 0.6 * errors[1]
    noise = DIFFormerForecaster(2, 1, training=QUICK).fit(draw.normal(size=(100, 4)))
    assert noise.encoder_ == "decoupled"


def test_seeds_decide_and_nothing_else_is_drawn():
    values = waves(80, 4)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one, two = (trained().fit(values).predict() for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, trained(random_state=1).fit(values).predict())
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_intervals_cover_a_test_part():
    values = waves(700, 6, noise=0.3)
    found = model().fit(values[:400], ring(6)).backtest(values)
    for level, shares in found.coverage().items():
        assert np.abs(np.array(shares) - level).max() < 0.03


def test_dataframes_name_nodes():
    frame = pd.DataFrame(waves(60, 3), columns=["a", "b", "c"])
    fitted = model().fit(frame)
    assert fitted.nodes_ == ["a", "b", "c"]
    np.testing.assert_array_equal(fitted.predict(), model().fit(frame.to_numpy()).predict())


def test_scikit_learn_may_clone_it():
    params = model(season=3).get_params()
    assert clone(model(season=3)).get_params() == params


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lags": 0}, "lags must be a whole number of at least 1"),
        ({"horizon": 1.5}, "horizon must be"),
        ({"encoder": "best"}, "encoder must be one of 'auto', 'decoupled', 'trained'"),
        ({"season": 1}, "season must be a whole number of at least 2"),
        ({"season": 50}, "season must be at most half"),
        ({"validation": 1.0}, "validation must be a share"),
        ({"validation": -1}, "validation must be a share"),
        ({"validation": 74}, "validation must leave windows to learn from: below 74, found 74"),
        ({"diffusivity": "grph"}, "diffusivity must be one of"),
        ({"diffusivity": "graph"}, "diffusivity 'graph' needs edge_index"),
        ({"transform": "log"}, "transform must be one of"),
        ({"options": {"layers": 2}}, "each key of options must be one of"),
        ({"training": {"epoch": 2}}, "epoch"),
        ({"encoder": "trained", "validation": 0}, "needs validation windows"),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        model(**settings).fit(waves(80, 3))


@pytest.mark.parametrize(
    ("series", "more", "said"),
    [
        (waves(7, 3), {}, "at least lags . horizon . 1 = 8 steps, found 7"),
        (np.full((50, 3), np.nan), {}, "found none of 0; leave such nodes out"),
        (waves(50, 3), {"edge_index": [[0], [5]]}, "5"),
        (waves(50, 3), {"edge_index": [ring(3)] * 49}, "one for each of 50 steps"),
        (waves(50, 3), {"edge_weight": [1.0]}, "edge_weight needs edge_index"),
        (waves(50, 3), {"covariates": np.ones((49, 1))}, r"of shape \(50, K\)"),
        (waves(50, 3), {"covariates": np.full((50, 1), np.nan)}, "covariates must be finite"),
    ],
)
def test_data_that_do_not_fit_are_refused(series, more, said):
    with pytest.raises(DataError, match=said):
        model().fit(series, **more)


def test_predictions_that_cannot_be_are_refused():
    values = waves(60, 3)
    with pytest.raises(NotFittedError):
        model().predict()
    fitted = model().fit(values)
    with pytest.raises(DataError, match="at least lags = 4 steps, found 3"):
        fitted.predict(values[:3])
    with pytest.raises(DataError, match="3 nodes and 1 channels was fitted, found 2 and 1"):
        fitted.predict(values[:, :2])
    with pytest.raises(DataError, match="edge_index was not given in fit"):
        fitted.predict(values, edge_index=ring(3))
    with pytest.raises(DataError, match="at least horizon = 3 steps from step 60 on"):
        fitted.backtest(values)
    with pytest.raises(ConfigError, match="start must say"):
        model(season=4).fit(values).predict(values)
    with pytest.raises(ConfigError, match="at least 5 validation windows"):
        model(validation=0).fit(values).predict_interval()
