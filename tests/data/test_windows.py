"""Windows, missing values, and signals of torch_geometric_temporal."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difformer.data.signals import graphs_of, is_signal, lags_of, series_of
from difformer.data.windows import Windows, checked_series, filled
from difformer.errors import DataError


@given(
    st.integers(1, 12), st.integers(1, 3), st.integers(1, 2), st.integers(1, 5), st.integers(1, 4)
)
def test_windows_are_what_slices_say(steps, nodes, channels, lags, horizon):
    values = np.random.default_rng(steps).normal(size=(steps, nodes, channels))
    windows = Windows(values, lags, horizon)
    count = max(steps - lags - horizon + 1, 0)
    assert len(windows) == count
    if count:
        assert windows.history.shape == (count, nodes, channels, lags)
        assert windows.target.shape == (count, nodes, channels, horizon)
    for w in range(count):
        for lag in range(lags):
            np.testing.assert_array_equal(windows.history[w, ..., lag], values[w + lag])
        for step in range(horizon):
            np.testing.assert_array_equal(windows.target[w, ..., step], values[w + lags + step])
        assert windows.origin[w] == w + lags


def test_missing_values_are_the_last_ones_seen():
    values = np.array([[np.nan, 1], [2, np.nan], [np.nan, np.nan], [4, 5]])[..., None]
    found = filled(values, np.array([[7.0], [8.0]]))[..., 0]
    np.testing.assert_array_equal(found, [[7, 1], [2, 1], [2, 1], [4, 5]])
    assert np.isnan(values[0, 0, 0]), "what was given must not change"


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ([["a", "b"]], "must hold numbers"),
        (np.zeros((0, 3)), "none of them 0"),
        (np.zeros((2, 3, 4, 5)), r"found \(2, 3, 4, 5\)"),
        ([[1.0, np.inf]], "found infinity"),
    ],
)
def test_what_is_no_series_is_refused(series, said):
    with pytest.raises(DataError, match=said):
        checked_series(series)


def test_one_series_has_one_node():
    assert checked_series([1, 2, 3]).shape == (3, 1, 1)


def signal(values, lags, horizon, **more):
    """As torch_geometric_temporal's loaders make them."""
    windows = Windows(values[..., None], lags, horizon)
    target = windows.target[:, :, 0]
    return SimpleNamespace(
        features=list(windows.history[:, :, 0].copy()),
        targets=list(target[..., 0] if horizon == 1 else target),
        **more,
    )


@pytest.mark.parametrize(("lags", "horizon"), [(4, 1), (1, 1), (3, 2)])
def test_the_series_behind_a_signal(lags, horizon):
    values = np.random.default_rng(0).normal(size=(20, 3))
    given_signal = signal(values, lags, horizon)
    assert is_signal(given_signal)
    assert lags_of(given_signal) == lags
    np.testing.assert_array_equal(series_of(given_signal)[..., 0], values)


def test_channels_of_a_signal_and_its_first_one_alone_as_target():
    values = np.random.default_rng(0).normal(size=(9, 2, 3))
    windows = Windows(values, 4, 1)
    given_signal = SimpleNamespace(
        features=list(windows.history), targets=list(windows.target[:, :, 0])
    )
    found = series_of(given_signal)
    np.testing.assert_array_equal(found[:8], values[:8])
    np.testing.assert_array_equal(found[8, :, 0], values[8, :, 0])
    assert np.isnan(found[8, :, 1:]).all()


def test_features_that_are_no_windows_are_refused():
    given_signal = signal(np.random.default_rng(0).normal(size=(20, 3)), 4, 1)
    given_signal.features[5] = given_signal.features[5] + 1
    with pytest.raises(DataError, match="windows of one series"):
        series_of(given_signal)


def test_the_graph_of_a_snapshot_is_that_of_its_last_step():
    graphs = [np.array([[0], [k]]) for k in range(5)]
    weights = [np.array([float(k)]) for k in range(5)]
    dynamic = SimpleNamespace(edge_indices=graphs, edge_weights=weights)
    index, weight = graphs_of(dynamic, 3, 8)
    assert [int(i[1, 0]) for i in index] == [0, 0, 0, 1, 2, 3, 4, 4]
    assert [float(w[0]) for w in weight] == [0, 0, 0, 1, 2, 3, 4, 4]
    static = SimpleNamespace(edge_index=graphs[1], edge_weight=None)
    assert graphs_of(static, 3, 8) == (graphs[1], None)
