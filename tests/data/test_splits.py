import numpy as np
import pytest

from difformer.data import splits
from difformer.errors import ConfigError, DataError

Y = np.repeat([0, 1, 2, -1], [400, 700, 900, 300])
Y = Y[np.random.default_rng(5).permutation(len(Y))]

DRAWS = {
    "per-class": lambda seed: splits.per_class(Y, 5, seed, val=50),
    "fresh": lambda seed: splits.class_balanced_fresh(Y, seed),
    "proportional": lambda seed: splits.proportional(Y, 0.5, 0.25, seed),
    "unstratified": lambda seed: splits.proportional(Y, 0.5, 0.25, seed, stratify=False),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_parts_are_disjoint_labelled_and_decided_by_the_seed_alone(draw):
    first = draw(3)
    np.random.seed(0)  # noqa: NPY002  global state must not matter
    second, other = draw(3), draw(4)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))
        assert not np.array_equal(getattr(first, part), getattr(other, part))
        assert not getattr(first, part)[Y < 0].any()
    assert (first.train.astype(int) + first.val + first.test).max() == 1
    assert first.seed == 3


def test_per_class_takes_n_of_each_class_and_tests_on_all_the_rest():
    split = splits.per_class(Y, 7, seed=0, val=100)
    assert np.bincount(Y[split.train]).tolist() == [7, 7, 7]
    assert split.val.sum() == 100
    assert (split.train | split.val | split.test).sum() == (Y >= 0).sum()
    assert split.protocol == "per-class"


def test_fresh_is_20_a_class_500_and_1000():
    split = splits.class_balanced_fresh(Y, seed=0)
    assert (split.train.sum(), split.val.sum(), split.test.sum()) == (60, 500, 1000)
    assert split.protocol == "class-balanced-fresh"


def test_every_row_can_be_drawn():
    y = np.array([0, 0, 0, 1, 1, 1])
    drawn = np.any([splits.per_class(y, 1, seed).train for seed in range(40)], axis=0)
    assert drawn.all()


def test_a_small_class_is_named():
    with pytest.raises(DataError, match="at least 3 labelled rows, class 1 has 2"):
        splits.per_class(np.array([0, 0, 0, 1, 1]), 3, seed=0)


def test_too_few_rows_for_validation_and_test():
    with pytest.raises(DataError, match="9 validation and test rows were asked for, 3"):
        splits.per_class(np.array([0, 0, 0, 1, 1]), 1, seed=0, val=4, test=5)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"val": -1}, {"test": -1}])
def test_wrong_counts(wrong):
    with pytest.raises(ConfigError, match="at least 1"):
        splits.per_class(Y, **{"n": 1, "seed": 0, **wrong})


def test_proportional_keeps_the_share_of_each_class():
    split = splits.proportional(Y, 0.5, 0.25, seed=0)
    assert np.bincount(Y[split.train]).tolist() == [200, 350, 450]
    assert np.bincount(Y[split.val]).tolist() == [100, 175, 225]
    assert split.protocol == "random-50-25-25"


def test_proportional_trains_on_every_class():
    y = np.array([0] * 20 + [1])
    assert set(y[splits.proportional(y, 0.1, 0.4, seed=0).train]) == {0, 1}


@pytest.mark.parametrize("fractions", [(0.0, 0.5), (0.6, 0.5), (0.5, -0.1)])
def test_wrong_fractions(fractions):
    with pytest.raises(ConfigError, match="fractions"):
        splits.proportional(Y, *fractions, seed=0)


def test_hold_out_is_stratified_and_leaves_each_class_a_row():
    held = splits.hold_out(Y, 0.25)
    assert np.bincount(Y[held]).tolist() == [100, 175, 225]
    assert not held[Y < 0].any()
    few = np.array([0, 0, 0, 0, 1])
    assert few[splits.hold_out(few, 0.99)].tolist() == [0, 0, 0]


def test_hold_out_holds_out_something_if_it_can():
    assert splits.hold_out(np.array([0, 0, 1, 1, 1]), 0.1).sum() == 1
    assert splits.hold_out(np.array([0, 1]), 0.5).sum() == 0
    assert splits.hold_out(np.array([-1, -1]), 0.5).sum() == 0
    with pytest.raises(ConfigError, match="between 0 and 1"):
        splits.hold_out(Y, 1.0)


def masks():
    parts = np.eye(3, dtype=bool)
    several = np.stack([parts[[0, 1, 2]], parts[[1, 2, 0]]])
    return {f"g_{part}": several[:, i] for i, part in enumerate(("train", "val", "test"))}


def test_given_takes_one_of_several():
    split = splits.given(masks(), 1, "g_", "mine")
    assert split.train.tolist() == [False, True, False]
    assert (split.protocol, split.seed) == ("mine", 1)


@pytest.mark.parametrize("index", [None, -1, 2])
def test_given_needs_a_number_in_range(index):
    with pytest.raises(ConfigError, match="one of the 2 given splits"):
        splits.given(masks(), index, "g_")


def test_given_without_masks_and_without_validation():
    with pytest.raises(DataError, match="found g_test, g_train, g_val"):
        splits.given(masks(), 0)
    train = np.array([True, False])
    split = splits.given({"train": train, "test": ~train})
    assert not split.val.any()
    assert split.seed is None


def test_shared_rows_and_unequal_lengths_are_refused():
    row = np.array([True, False])
    with pytest.raises(DataError, match="share rows"):
        splits.Split(row, row, ~row)
    with pytest.raises(DataError, match="one length"):
        splits.Split(row, row[:1], ~row)
