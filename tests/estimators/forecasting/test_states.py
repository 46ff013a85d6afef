"""The columns that a readout sees equal their definitions, window by window."""

import numpy as np
import pytest
import torch
from forecasting_cases import past_of, random_graph

from difformer import DIFFormerForecaster
from difformer.diffusion import Neighbourhood, reference, resolve
from difformer.estimators.forecasting.states import Design, Seasonal, joined
from difformer.estimators.forecasting.units import Season

LAGS, HORIZON = 3, 2


def state_of(past, window):
    """What diffuses: a window without its level, and the level, (N, F L + F)."""
    own = past.values[window : window + LAGS].transpose(1, 2, 0)  # (N, F, L)
    level = own.mean(-1)
    return np.concatenate([(own - level[..., None]).reshape(len(own), -1), level], axis=1), level


def dense_graph(graph, nodes):
    """Rows of sum 1; who hears nobody hears itself."""
    weights = np.zeros((nodes, nodes))
    for (sender, receiver), weight in zip(graph[0].T.tolist(), graph[1].tolist(), strict=True):
        weights[receiver, sender] += weight
    for node in range(nodes):
        if not weights[node].any():
            weights[node, node] = 1
    return weights / weights.sum(1, keepdims=True)


def expected_columns(design, past, window, matrices):
    state, level = state_of(past, window)
    parts = [state, np.ones((len(state), 1))]
    for matrix in matrices:
        heard = matrix @ state
        heard[:, -level.shape[1] :] -= level
        parts.append(heard)
    return np.concatenate(parts, axis=1), level


def pairwise(name, state):
    term = resolve(name)
    z = torch.from_numpy(state).unsqueeze(1)
    return reference.matrix(z, z, term.penalty, term.sphere)[0].numpy()


@pytest.mark.parametrize("name", ["simple", "sigmoid", "welsch"])
def test_all_pairs_of_a_moment(name):
    past = past_of()
    design = Design([resolve(name)], LAGS, HORIZON, None)
    found, levels = design.rows(past, range(2, 6))
    for at, window in enumerate(range(2, 6)):
        state, _ = state_of(past, window)
        expected, level = expected_columns(design, past, window, [pairwise(name, state)])
        np.testing.assert_allclose(found[at], expected, atol=1e-12)
        np.testing.assert_allclose(levels[at], level)


@pytest.mark.parametrize("several", [False, True])
def test_the_observed_graph_of_the_last_step(several):
    nodes, steps = 4, 12
    graphs = tuple(random_graph(nodes, 6, seed) for seed in range(steps if several else 1))
    past = past_of(steps, nodes, graphs=graphs)
    design = Design([resolve("graph")], LAGS, HORIZON, None)
    found, _ = design.rows(past, range(5))
    for window in range(5):
        graph = graphs[window + LAGS - 1] if several else graphs[0]
        matrix = dense_graph(graph, nodes)
        expected, _ = expected_columns(design, past, window, [matrix])
        np.testing.assert_allclose(found[window], expected, atol=1e-12)


def test_nodes_whose_past_runs_alike():
    rule = Neighbourhood(k=2, weights="self-tuned", bandwidth=2, self_loops=False)
    lines = np.random.default_rng(1).normal(size=(5, 30))
    past = past_of(nodes=5)
    design = Design([resolve(rule)], LAGS, HORIZON, lines)
    found, _ = design.rows(past, range(3))
    z = torch.from_numpy(lines).unsqueeze(1)
    weights = reference.local_weights(reference.squared_distance(z, z, True)[0], rule).numpy()
    matrix = weights / weights.sum(1, keepdims=True)
    for window in range(3):
        expected, _ = expected_columns(design, past, window, [matrix])
        np.testing.assert_allclose(found[window], expected, atol=1e-12)


def test_columns_name_what_they_are():
    past = past_of(graphs=(random_graph(4, 6, 0),))
    design = Design([resolve("graph"), resolve("simple"), resolve("simple")], LAGS, HORIZON, None)
    columns = design.columns(past)
    found, level = design.rows(past, range(4))
    assert found.shape[-1] == columns.width
    assert list(columns.groups) == ["own", "drift", "graph", "simple", "simple-2"]
    together = sorted(c for group in columns.groups.values() for c in group)
    assert together == list(range(columns.width))
    np.testing.assert_array_equal(found[..., list(columns.falls)], level)
    np.testing.assert_array_equal(found[..., list(columns.groups["drift"])], 1)
    assert set(columns.rises) < set(range(columns.width)) - set(columns.groups["own"])
    np.testing.assert_array_equal(
        found[..., list(columns.groups["simple"])], found[..., list(columns.groups["simple-2"])]
    )


def test_chunks_are_the_rows_of_their_windows(monkeypatch):
    monkeypatch.setattr("difformer.estimators.forecasting.states.CHUNK", 60)
    past = past_of()
    design = Design([resolve("simple")], LAGS, HORIZON, None)
    parts = list(design.chunks(past, range(1, 9)))
    assert len(parts) > 2
    whole, level = design.rows(past, range(1, 9))
    np.testing.assert_allclose(np.concatenate([x for _, x, _ in parts]), whole, atol=1e-12)
    np.testing.assert_array_equal(np.concatenate([lv for *_, lv in parts]), level)
    assert [w for part, *_ in parts for w in part] == list(range(1, 9))


def test_joined_graphs_do_not_hear_each_other():
    first, second = random_graph(3, 4, 0), (torch.tensor([[0], [1]]), None)
    index, weight = joined([first, second], 3)
    assert index[:, 4:].tolist() == [[3], [4]]
    assert weight.tolist() == [*first[1].tolist(), 1.0]
    assert joined([second, second], 3)[1] is None


def test_what_is_usual_knows_nothing_of_the_window_itself():
    """Slowly: the mean over all steps of the phase that are not in the window."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(20, 2, 1))
    values[4, 1] = np.nan
    period, length = 3, 7
    season = Season.fit(values, period)
    phase = np.arange(20) % period
    sums, counts = season.sums[phase], season.counts[phase]
    seasonal = Seasonal(period, sums, counts, values, np.arange(20))
    found = seasonal.usual(length, slice(None))
    assert found.shape == (14, 2, 1, length)
    for window in range(14):
        inside = np.arange(window, window + length)
        for at, step in enumerate(inside):
            others = [s for s in range(20) if s % period == step % period and s not in inside]
            with np.errstate(all="ignore"):
                expected = np.nan_to_num(
                    np.array(
                        [
                            [v[np.isfinite(v)].mean() if np.isfinite(v).any() else 0.0]
                            for v in values[others][..., 0].T
                        ]
                    )
                )
            np.testing.assert_allclose(found[window, ..., at], expected, atol=1e-12)


def test_noise_with_a_season_is_not_learnt_by_heart():
    """Two means of one phase must not tell the value that is to be forecast."""
    values = np.random.default_rng(0).normal(size=(150, 3))
    errors = []
    for season in (None, 24):
        model = DIFFormerForecaster(24, 1, season=season, encoder="decoupled").fit(values)
        found = model.backtest(values, first=24, fitted_too=True)
        errors.append(found.errors()[0]["rmse"])
    assert errors[1] > 0.85 * errors[0]


@pytest.mark.parametrize(("period", "waves"), [(2, 1), (4, 1), (5, 2), (7, 3), (288, 3)])
def test_harmonics_tell_the_phase_of_the_first_step_ahead(period, waves):
    steps = np.arange(5, 25)
    none = np.zeros((20, 2, 1))
    seasonal = Seasonal(period, none, none, none, steps)
    found = seasonal.harmonics(3, slice(2, 6), 2)
    assert found.shape == (4, 2, 2 * waves)
    for at, window in enumerate(range(2, 6)):
        angle = 2 * np.pi * steps[window + 3] / period
        for k in range(1, waves + 1):
            np.testing.assert_allclose(found[at, :, 2 * k - 2], np.sin(k * angle), atol=1e-9)
            np.testing.assert_allclose(found[at, :, 2 * k - 1], np.cos(k * angle), atol=1e-9)


def test_a_season_that_all_share_is_learnt_from_few_windows():
    draw = np.random.default_rng(0)
    week = np.array([0, 2, 1, 0, -1, -3, 1.0])
    values = week[np.arange(42) % 7][:, None] + draw.normal(size=(42, 30))
    errors = []
    for season in (None, 7):
        model = DIFFormerForecaster(3, 1, season=season, encoder="decoupled").fit(values[:28])
        errors.append(model.backtest(values).errors()[0]["rmse"])
    assert errors[1] < 0.85 * errors[0]
