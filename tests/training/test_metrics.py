"""Metrics equal scikit-learn's or hand-made values, and no shape is ever broadcast."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from difformer.errors import ConfigError
from difformer.training import metrics

RNG = np.random.default_rng(0)
TABLE = RNG.dirichlet(np.ones(4), size=60)
TRUTH = RNG.integers(0, 4, size=60)
PREDICTED = TABLE.argmax(1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", sklearn_metrics.accuracy_score(TRUTH, PREDICTED)),
        ("balanced_accuracy", sklearn_metrics.balanced_accuracy_score(TRUTH, PREDICTED)),
        ("macro_f1", sklearn_metrics.f1_score(TRUTH, PREDICTED, average="macro")),
        ("log_loss", sklearn_metrics.log_loss(TRUTH, TABLE)),
        ("roc_auc", sklearn_metrics.roc_auc_score(TRUTH, TABLE, multi_class="ovr")),
    ],
)
def test_scikit_learn_agrees(name, expected):
    assert metrics.classification_metrics(TRUTH, TABLE)[name] == pytest.approx(expected)


def test_tensors_and_arrays_are_the_same():
    tensors = torch.tensor(TRUTH), torch.tensor(TABLE, dtype=torch.float32, requires_grad=True)
    expected = metrics.classification_metrics(TRUTH, TABLE)
    assert metrics.classification_metrics(*tensors) == pytest.approx(expected, abs=1e-6)


def test_the_binary_roc_auc_is_that_of_the_second_class():
    table = np.array([[0.9, 0.1], [0.4, 0.6], [0.65, 0.35], [0.2, 0.8]])
    assert metrics.roc_auc([0, 0, 1, 1], table) == 0.75


def test_roc_auc_leaves_out_classes_that_do_not_occur():
    table = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    assert metrics.roc_auc([0, 1, 0], table) == 1.0


def test_one_class_has_no_roc_auc():
    with pytest.raises(ConfigError, match="rows of two classes, found class 0 only"):
        metrics.roc_auc([0, 0], np.array([[0.5, 0.5], [0.5, 0.5]]))
    assert metrics.classification_metrics([0], np.array([[0.5, 0.5]]))["roc_auc"] is None


def test_rare_classes_raise_no_warnings():
    assert metrics.balanced_accuracy([0, 0, 1], [0, 2, 1]) == 0.75
    assert metrics.macro_f1([0, 0], [1, 1]) == 0.0


def test_confusion_has_true_classes_as_rows():
    assert metrics.confusion_matrix([0, 0, 2], [0, 1, 2]).tolist() == [
        [1, 1, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]
    assert metrics.confusion_matrix([0], [0], classes=2).tolist() == [[1, 0], [0, 0]]


def test_calibration_error_by_hand():
    # two bins: confidence 0.6 right in 1 of 2 rows, confidence 0.9 right in 2 of 2
    table = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]])
    error = metrics.expected_calibration_error([0, 1, 0, 1], table, bins=4)
    assert error == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)


def test_calibration_error_of_sure_rows():
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert metrics.expected_calibration_error([0, 0], sure) == 0
    assert metrics.expected_calibration_error([1, 1], sure) == 1
    assert metrics.log_loss([1, 1], sure) == pytest.approx(-np.log(1e-15))


def test_regression_by_hand():
    assert metrics.mean_absolute_error([[1.0, 2.0]], [[2.0, 4.0]]) == 1.5
    assert metrics.root_mean_squared_error([0.0, 0.0], [3.0, 4.0]) == pytest.approx(12.5**0.5)


@pytest.mark.parametrize(
    "name",
    [
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "confusion_matrix",
        "mean_absolute_error",
        "root_mean_squared_error",
    ],
)
def test_pairs_are_never_broadcast(name):
    metric = getattr(metrics, name)
    with pytest.raises(ConfigError, match=r"found y_true \(3,\), y_pred \(3, 1\)"):
        metric(np.zeros(3, int), np.zeros((3, 1), int))
    with pytest.raises(ConfigError, match="at least one row"):
        metric(np.zeros(0, int), np.zeros(0, int))


@pytest.mark.parametrize("name", ["log_loss", "expected_calibration_error", "roc_auc"])
@pytest.mark.parametrize(
    ("truth", "table", "message"),
    [
        ([[0], [1]], np.full((2, 2), 0.5), r"found \(2, 1\) and \(2, 2\)"),
        ([0, 1], np.full(2, 0.5), "probabilities"),
        ([0], np.full((2, 2), 0.5), "Expected y_true"),
        ([0, 2], np.full((2, 2), 0.5), "in 0 to 1, found 0 to 2"),
        ([0, -1], np.full((2, 2), 0.5), "in 0 to 1, found -1 to 0"),
        ([0, 1], np.full((2, 2), 0.7), "sum to 1"),
        ([0, 1], np.array([[1.5, -0.5], [0, 1]]), "non-negative"),
    ],
)
def test_tables_are_checked(name, truth, table, message):
    with pytest.raises(ConfigError, match=message):
        getattr(metrics, name)(truth, table)
