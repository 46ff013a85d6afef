"""LabelledKFold: unlabelled rows always learn, labelled ones are judged once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score

from difformer import DIFFormerClassifier, LabelledKFold
from difformer.errors import ConfigError, DataError


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=12, max_size=60), st.integers(2, 4), st.booleans())
def test_folds_divide_the_labelled_rows_and_keep_the_others(labels, folds, shuffle):
    y = np.array(labels)
    counts = np.bincount(y[y >= 0], minlength=1)
    splitter = LabelledKFold(folds, shuffle=shuffle)
    if not (y >= 0).any() or counts[counts > 0].min() < folds:
        with pytest.raises(DataError, match="folds need at least as many"):
            list(splitter.split(None, y))
        return
    drawn = list(splitter.split(None, y))
    tested = np.concatenate([test for _, test in drawn])
    assert sorted(tested) == np.flatnonzero(y >= 0).tolist()
    for train, test in drawn:
        assert (y[test] >= 0).all()
        assert set(np.flatnonzero(y < 0)) <= set(train)
        assert not set(train) & set(test)
        assert len(train) + len(test) == len(y)
        assert set(y[test]) == set(y[y >= 0])  # every class in every fold


@pytest.mark.parametrize(
    "y",
    [
        ["a", "b", "a", "b", "", ""],
        np.array(["a", "b", "a", "b", None, None], dtype=object),
        pd.Series([0.0, 1.0, 0.0, 1.0, np.nan, np.nan]),
        pd.Series(["a", "b", "a", "b", pd.NA, None]),
    ],
    ids=["texts", "objects", "floats", "pandas"],
)
def test_every_way_to_say_unlabelled(y):
    for train, test in LabelledKFold(2).split(None, y):
        assert {4, 5} <= set(train)
        assert len(test) == 2


def test_numbers_with_decimals_are_targets_and_minus_one_is_one_of_them():
    y = np.array([0.5, -1.0, 2.5, np.nan, 1.5, np.nan])
    drawn = list(LabelledKFold(2).split(None, y))
    assert sorted(np.concatenate([test for _, test in drawn])) == [0, 1, 2, 4]
    assert all({3, 5} <= set(train) for train, _ in drawn)


def test_a_seed_decides_the_folds():
    y = np.arange(40) % 2
    first, again, other = (
        [test.tolist() for _, test in LabelledKFold(4, random_state=seed).split(None, y)]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_what_is_missing_is_refused():
    with pytest.raises(ConfigError, match="needs y"):
        next(LabelledKFold().split(None))
    with pytest.raises(ConfigError, match="n_splits"):
        LabelledKFold(1)
    assert LabelledKFold(3).get_n_splits() == 3
    assert repr(LabelledKFold(3)) == "LabelledKFold(n_splits=3, shuffle=True, random_state=0)"


def test_scikit_learn_takes_it():
    x, truth = load_digits(n_class=3, return_X_y=True)
    x, truth = x[:150], truth[:150]
    y = np.where(np.arange(150) % 5 == 0, truth, -1)
    model = DIFFormerClassifier(training={"epochs": 20})
    scores = cross_val_score(model, x, y, cv=LabelledKFold(3))
    assert scores.min() > 0.8  # and no row without a label was judged
    search = GridSearchCV(model, {"encoder": ["decoupled"]}, cv=LabelledKFold(3)).fit(x, y)
    assert search.best_score_ == pytest.approx(scores.mean())
