"""Protocols by name: the splits that they draw, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difformer.data import splits
from difformer.data.folds import by_scaffold, k_fold, temporal
from difformer.data.instances import Instances
from difformer.data.protocols import FAMILIES, FIXED, Population, protocol
from difformer.errors import ConfigError, DataError

Y = np.repeat(np.arange(4), 500)
ROWS = Instances(np.ones((len(Y), 1)), y=Y)


def sizes(split):
    return int(split.train.sum()), int(split.val.sum()), int(split.test.sum())


def test_a_fresh_split_is_the_draw_of_its_seed():
    fresh = protocol("class-balanced-fresh").split(ROWS, 2)
    np.testing.assert_array_equal(fresh.train, splits.class_balanced_fresh(Y, 2).train)
    assert not np.array_equal(fresh.train, protocol("class-balanced-fresh").split(ROWS, 3).train)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("class-balanced-fresh", (80, 500, 1000)),
        ("class-balanced-fresh-10-1000", (40, 1000, 960)),
        ("per-class", (80, 0, 1920)),
        ("per-class-5", (20, 0, 1980)),
        ("random-50-25-25", (1000, 500, 500)),
        ("k-fold-10", (1600, 200, 200)),
    ],
)
def test_numbers_in_a_name(name, expected):
    found = protocol(name)
    split = found.split(ROWS, 1)
    assert sizes(split) == expected
    assert split.protocol == found.name == name or name == "k-fold-10"
    assert found.split_seed(3) == 3


def test_shipped_splits_are_taken_in_turn():
    masks = {f"geom_{part}": np.eye(3, 2000, k, bool) for k, part in enumerate(PARTS)}
    found = protocol("geom-gcn-48-32-20")
    assert [found.split_seed(run) for run in (0, 9, 10)] == [0, 9, 0]
    split = found.split(Population(2000, Y, masks), 2)
    assert np.flatnonzero(split.train).tolist() == [2]
    assert protocol("planetoid-public").ranges_over == "initialisations"
    assert protocol("planetoid-public").split_seed(7) == 0


PARTS = ("train", "val", "test")


@pytest.mark.parametrize(
    "name", ["mine", "random", "random-50-25", "per-class-1-2", "k-fold-x", "temporal-20-20-60-1"]
)
def test_other_names_are_refused_with_all_that_there_are(name):
    with pytest.raises(ConfigError, match="protocol must be one of") as error:
        protocol(name)
    assert all(known in str(error.value) for known in (*FIXED, *FAMILIES))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="add up to 100"):
        protocol("random-50-25-20")
    with pytest.raises(DataError, match="needs labels"):
        protocol("per-class").split(Instances(np.ones((2, 1)), name="bare"))
    with pytest.raises(DataError, match="needs families"):
        protocol("scaffold-80-10-10").split(Population(5, name="plain"))
    with pytest.raises(ConfigError, match="needs a snapshot"):
        temporal(2, 0.2, 0.2)
    with pytest.raises(ConfigError, match="leave a test part"):
        temporal(10, 0.5, 0.5)
    with pytest.raises(ConfigError, match="fold must lie"):
        k_fold(Y, 10, 10)
    with pytest.raises(DataError, match="one has 1"):
        k_fold(np.array([0, 0, 0, 1]), 3, 0)


@pytest.mark.parametrize(("count", "expected"), [(517, (103, 103, 311)), (53, (10, 10, 33))])
def test_the_published_cuts_in_time(count, expected):
    """Chickenpox with 4 lags and England Covid with 8."""
    split = protocol("temporal-20-20-60").split(Population(count))
    assert sizes(split) == expected
    assert split.train.argmin() == expected[0]  # in the order of time
    assert split.test[-expected[2] :].all()


def test_every_graph_is_tested_once_and_chosen_with_once():
    found = protocol("k-fold-5")
    y = np.array([0, 1] * 20 + [-1] * 3)
    drawn = [found.split(Population(len(y), y), run) for run in range(5)]
    for part in ("val", "test"):
        total = np.sum([getattr(split, part) for split in drawn], axis=0)
        assert total.tolist() == [1] * 40 + [0] * 3
    again = found.split(Population(len(y), y), 5)  # the next repetition draws other folds
    assert not np.array_equal(again.test, drawn[0].test)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=60))
def test_families_stay_together_and_the_first_parts_keep_their_size(groups):
    split = by_scaffold(groups, 0.6, 0.2)
    for name in set(groups):
        rows = np.array(groups) == name
        assert sum(bool(getattr(split, part)[rows].any()) for part in PARTS) == 1
    assert split.train.sum() <= 0.6 * len(groups) + 1e-9
    assert (split.train | split.val).sum() <= 0.8 * len(groups) + 1e-9
    assert (split.train | split.val | split.test).all()
