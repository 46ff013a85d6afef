"""Planted leaks are caught; what the harness itself uses passes the same checks."""

from functools import partial

import numpy as np
import pytest
import torch
from harness_cases import CENTROIDS, write_data
from scipy import sparse

from difformer.data import datasets
from difformer.data.instances import Instances
from difformer.data.splits import given
from difformer.experiments.harness.answers import LeakError
from difformer.experiments.harness.cell import Cell, pose
from difformer.experiments.harness.leaks import (
    check_objective,
    check_preparation,
    check_selection,
)
from difformer.experiments.harness.preparation import PREPARATIONS
from difformer.experiments.methods import METHODS
from difformer.training.objectives import cross_entropy, mean_squared_error

CELL = Cell(data="texas", protocol="geom-gcn-48-32-20")
QUICK = {"epochs": 8}


@pytest.fixture
def data(tmp_path, monkeypatch):
    write_data(tmp_path, ("texas",))
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    return datasets.load("texas")


def split_of(data):
    return given(data.masks, 0, "geom_")


def chosen_seed(data, split, rows):
    """A choice by the score on some rows: on validation rows that is what a search does."""
    task, _ = pose(CELL, data, split, final=False)

    def score(seed):
        answers = CENTROIDS.fit_predict(task, seed, {"blur": 3.0}).argmax(1)
        return (answers == data.y)[rows].mean()

    return max(range(30), key=score)


def test_settings_chosen_by_test_labels_are_caught(data):
    split = split_of(data)
    check_selection(lambda d, s: chosen_seed(d, s, s.val), data, split)
    with pytest.raises(LeakError, match="labels of the test rows"):
        check_selection(lambda d, s: chosen_seed(d, s, s.test), data, split)


def test_a_method_that_was_shown_test_labels_is_caught(data):
    def peeks(data, split):
        task, _ = pose(CELL, data, split, final=True)
        return CENTROIDS.fit_predict(task, 0, {"blur": 0.0})[:, 0] + (data.y[split.test] == 0).sum()

    with pytest.raises(LeakError, match="labels of the test rows"):
        check_selection(peeks, data, split_of(data))


@pytest.mark.parametrize("name", METHODS)
def test_no_method_depends_on_test_labels(data, name):
    row = METHODS[name]
    if row.extra is not None:
        pytest.importorskip({"pyg": "torch_geometric", "classics": "graphlearning"}[row.extra])
    settings = {key: value for key, value in QUICK.items() if key in row.defaults}

    def predict(data, split):
        task, _ = pose(CELL, data, split, final=True)
        return row.fit_predict(task, 0, settings)

    check_selection(predict, data, split_of(data))


def standardised_with_all_rows(x, train):
    dense = np.asarray(x.todense()) if sparse.issparse(x) else x
    return (dense - dense.mean(0)) / dense.std(0)


def test_features_prepared_with_test_rows_are_caught(data):
    with pytest.raises(LeakError, match="test rows"):
        check_preparation(standardised_with_all_rows, data.x, split_of(data))


@pytest.mark.parametrize("name", PREPARATIONS)
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_no_preparation_looks_at_test_rows(data, name, kind):
    x = data.x if kind == "sparse" else np.asarray(data.x.todense())
    check_preparation(PREPARATIONS[name], x, split_of(data))


def broadcasting_error(outputs, y, mask):
    """The fault of the released forecasting scripts: (N, 1) less (N,)."""
    return (outputs - y).square().mean()


def test_a_loss_that_broadcasts_is_caught():
    with pytest.raises(LeakError, match="it broadcasts"):
        check_objective(broadcasting_error)


@pytest.mark.parametrize(
    "objective", [mean_squared_error, cross_entropy, partial(cross_entropy, label_smoothing=0.1)]
)
def test_no_loss_of_ours_broadcasts(objective):
    check_objective(objective)


def test_the_check_itself_changes_nothing(data):
    before = data.y.copy(), data.x.copy()
    check_selection(lambda d, s: 0, data, split_of(data))
    check_preparation(PREPARATIONS["standard"], data.x, split_of(data))
    assert np.array_equal(before[0], data.y)
    assert abs(before[1] - data.x).max() == 0
    assert isinstance(data, Instances)
    assert torch.get_num_threads() >= 1
