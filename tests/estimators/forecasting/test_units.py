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
        ([0, 3, 5, 9], "sqrt"),  # counts with zeros
        ([1, 50, 2, 400], "sqrt"),  # widely spread
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


def test_two_seasons_are_needed():
    with pytest.raises(ConfigError, match="at most half the 5 steps"):
        Season.fit(np.zeros((5, 1, 1)), 3)


def test_what_is_lost_by_going_back_is_given_again():
    """The mean of a square is more than the square of a mean."""
    draw = np.random.default_rng(0)
    for transform, values in (
        ("sqrt", draw.poisson(2.0, size=(4_000, 3, 1)).astype(float)),
        ("log1p", np.expm1(draw.normal(1.5, 0.3, size=(4_000, 3, 1)).clip(0))),
    ):
        units = Units.fit(values, transform)
        moved = units.apply(values)
        centre = moved.mean(0)[..., None]
        error = moved.std(0).mean(0)[..., None]
        truth = values.mean(0)[..., None]
        np.testing.assert_allclose(units.mean(centre, error), truth, rtol=0.02)
        assert (units.invert(centre) < 0.97 * truth).all()
        nothing = np.zeros_like(error)
        np.testing.assert_allclose(units.mean(centre, nothing), units.invert(centre))


def test_nodes_of_other_sizes_keep_their_own_scale():
    draw = np.random.default_rng(0)
    alike = draw.poisson(5.0, size=(200, 6, 1)).astype(float)
    assert np.ptp(Units.fit(alike, "sqrt").spread) == 0
    mixed = np.concatenate([alike[:, :3], 1e5 * (1 + 0.2 * draw.normal(size=(200, 3, 1)))], 1)
    assert np.ptp(Units.fit(mixed, "sqrt").spread) > 0


def test_one_odd_value_makes_no_counts():
    values = 100 + np.random.default_rng(0).normal(size=(400, 2, 1))
    values[390, 0] = 1e5
    assert Units.fit(values).transform == "none"
