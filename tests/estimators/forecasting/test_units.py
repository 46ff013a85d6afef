"""Units lead there and back, are told by the training part, and seasons do not count themselves."""

import numpy as np
import pytest

from difformer.errors import ConfigError, DataError
from difformer.estimators.forecasting.units import TRANSFORMS, Season, Units


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_there_and_back(transform):
    values = np.random.default_rng(0).gamma(2, 3, size=(30, 4, 2))
    units = Units.fit(values[:20], transform)
    back = units.invert(np.moveaxis(units.apply(values), 0, -1))
    np.testing.assert_allclose(np.moveaxis(back, -1, 0), values, atol=1e-10)


def test_nodes_have_their_own_scale():
    values = np.random.default_rng(0).normal(size=(50, 3, 1)) * [[1], [10], [100]] + 5
    moved = Units.fit(values, "none").apply(values)
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(moved.std(0), 1)


def test_a_constant_node_and_missing_values_stay_finite():
    values = np.ones((10, 2, 1))
    values[3, 1] = np.nan
    moved = Units.fit(values, "none").apply(values)
    assert np.isnan(moved[3, 1])
    np.testing.assert_array_equal(np.delete(moved, 3, axis=0), 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 3, 5, 9], "sqrt"),  # counts with a zero
        ([1, 50, 2, 400], "sqrt"),  # spread above the mean
        ([60, 61, 65, 70], "none"),  # far from zero
        ([-1, 0, 1, 2], "none"),
        ([np.nan, np.nan, 1, 2], "none"),
    ],
)
def test_what_looks_like_counts(values, expected):
    assert Units.fit(np.array(values, dtype=float).reshape(4, 1, 1)).transform == expected


def test_negative_values_have_no_root():
    with pytest.raises(DataError, match="values of 0 or more, found -1"):
        Units.fit(np.array([-1.0, 2]).reshape(2, 1, 1), "sqrt")
    with pytest.raises(ConfigError, match="transform must be one of"):
        Units.fit(np.ones((2, 1, 1)), "log")


def test_what_is_usual_leaves_the_step_itself_out():
    values = np.arange(9.0).reshape(9, 1, 1)
    values[4] = np.nan
    season = Season.fit(values, 3)
    steps = np.arange(-3, 12)
    assert season.usual(steps)[:, 0, 0].tolist() == [3, 4, 5, *[3, 4, 5] * 3, 3, 4, 5][:15]
    own = season.usual(np.arange(9), values)[:, 0, 0]
    # phases hold 0, 3, 6 and 1, 7 (4 is missing) and 2, 5, 8
    assert own.tolist() == [4.5, 7, 6.5, 3, 4, 5, 1.5, 1, 3.5]


def test_two_seasons_are_needed():
    with pytest.raises(ConfigError, match="at most half the 5 steps"):
        Season.fit(np.zeros((5, 1, 1)), 3)
