"""The readout equals a bounded least-squares problem, and its errors those of its forecasts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from difformer.estimators.forecasting.readout import Moments, solve, total
from difformer.estimators.forecasting.states import Columns

HORIZON = 2


def columns_of(width, channels, rising):
    own = tuple(range(width - rising))
    falls = own[-channels:]
    rises = tuple(range(width - rising, width))
    return Columns({"own": own, "simple": rises}, falls, rises, width)


def data(seed, width, channels, missing=0.0, windows=9, nodes=4):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(windows, nodes, width)) * draw.uniform(0.1, 10, width)
    y = x @ draw.normal(size=(width, channels * HORIZON)) + draw.normal(
        size=(windows, nodes, channels * HORIZON)
    )
    y[draw.uniform(size=y.shape) < missing] = np.nan
    return x, y


def by_bounds(x, y, columns, use, alpha, target, channel):
    """The definition, by a general solver."""
    rows, goal = x.reshape(-1, x.shape[-1])[:, use], y.reshape(-1, y.shape[-1])[:, target]
    known = np.isfinite(goal)
    rows, goal = rows[known], goal[known]
    scale = np.sqrt((rows**2).mean(0))
    penalty = np.sqrt(alpha * known.sum()) * np.eye(len(use))
    lower, upper = np.full(len(use), -np.inf), np.full(len(use), np.inf)
    for at, column in enumerate(use):
        if column in columns.rises:
            lower[at] = 0
        if column == columns.falls[channel]:
            upper[at] = 0
    found = optimize.lsq_linear(
        np.concatenate([rows / scale, penalty]),
        np.concatenate([goal, np.zeros(len(use))]),
        (lower, upper),
        method="bvls",
        tol=1e-14,
    )
    return found.x / scale


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.integers(3, 7),
    st.integers(1, 2),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([1e-3, 0.1]),
)
def test_it_is_the_bounded_ridge(seed, width, channels, rising, missing, alpha):
    columns = columns_of(width + rising, channels, rising)
    x, y = data(seed, columns.width, channels, missing)
    use = list(range(columns.width))
    found = solve(Moments.of(x, y), columns, use, alpha)
    for target in range(y.shape[-1]):
        expected = by_bounds(x, y, columns, use, alpha, target, target // HORIZON)
        np.testing.assert_allclose(found[:, target], expected, atol=1e-7, rtol=1e-6)


def test_signs_matter_somewhere():
    """Otherwise the test above could pass without them."""
    columns = columns_of(6, 1, 2)
    bounded = 0
    for seed in range(20):
        x, y = data(seed, 6, 1)
        found = solve(Moments.of(x, y), columns, range(6), 0.01)
        assert (found[list(columns.rises)] >= 0).all()
        assert (found[list(columns.falls)] <= 0).all()
        bounded += int((found[list(columns.rises)] == 0).sum())
    assert bounded > 5


def test_columns_that_are_not_used_have_no_weight():
    columns = columns_of(6, 1, 2)
    x, y = data(0, 6, 1)
    found = solve(Moments.of(x, y), columns, columns.groups["own"], 0.01)
    assert not found[list(columns.groups["simple"])].any()
    np.testing.assert_allclose(
        found[:4], solve(Moments.of(x[..., :4], y), columns_of(4, 1, 0), range(4), 0.01)
    )


def test_a_column_of_zeros_does_no_harm():
    columns = columns_of(5, 1, 1)
    x, y = data(0, 5, 1)
    x[..., 0] = 0
    assert np.isfinite(solve(Moments.of(x, y), columns, range(5), 0.01)).all()


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_moments_add_up_and_know_the_error(missing):
    x, y = data(3, 5, 2, missing)
    whole = Moments.of(x, y)
    parts = total(Moments.of(x[a:b], y[a:b]) for a, b in ((0, 4), (4, 5), (5, 9)))
    weights = np.random.default_rng(1).normal(size=(5, 4))
    expected = np.nansum((y - x @ weights) ** 2, axis=(0, 1))
    for moments in (whole, parts):
        np.testing.assert_allclose(moments.error(weights), expected)
        np.testing.assert_allclose(moments.count, np.isfinite(y).sum((0, 1)))
        assert moments.windows == 9
