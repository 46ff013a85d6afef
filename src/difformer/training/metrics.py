"""How good predictions are. Arrays or tensors in, floats out; shapes must fit, never broadcast.

Letters: N rows, C classes. ``y_true`` holds class numbers 0 to C - 1 of the rows to be judged;
leave unlabelled rows out before. Where scikit-learn has the metric, it is the one that computes it.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from difformer.errors import ConfigError

Values = ArrayLike | Tensor
Floats = NDArray[np.float64]

# For people: what each figure of ``classification_metrics`` is called, and which are shares.
NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss, nats",
    "expected_calibration_error": "calibration error",
}
SHARES = ("accuracy", "balanced_accuracy", "expected_calibration_error")


def accuracy(y_true: Values, y_pred: Values) -> float:
    """Share of right predictions, in 0 to 1. Shapes: both (N,)."""
    truth, predicted = _pair(y_true, y_pred)
    return float(np.mean(truth == predicted))


def balanced_accuracy(y_true: Values, y_pred: Values) -> float:
    """Mean over the classes that occur in ``y_true`` of their recall. Shapes: both (N,)."""
    truth, predicted = _pair(y_true, y_pred)
    score = sklearn_metrics.recall_score(
        truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
    )
    return float(score)


def macro_f1(y_true: Values, y_pred: Values) -> float:
    """Mean F1 of the classes that occur in either; 0 where it is undefined. Shapes: both (N,)."""
    truth, predicted = _pair(y_true, y_pred)
    return float(sklearn_metrics.f1_score(truth, predicted, average="macro", zero_division=0))


def confusion_matrix(
    y_true: Values, y_pred: Values, classes: int | None = None
) -> NDArray[np.int64]:
    """Counts with true classes as rows and predicted ones as columns.

    Args:
        y_true: Class numbers (N,).
        y_pred: Class numbers (N,).
        classes: C. Default: the largest number that occurs, plus 1.

    Returns:
        (C, C) counts.
    """
    truth, predicted = _pair(y_true, y_pred)
    count = int(max(truth.max(), predicted.max())) + 1 if classes is None else classes
    matrix = sklearn_metrics.confusion_matrix(truth, predicted, labels=np.arange(count))
    return np.asarray(matrix, dtype=np.int64)


def log_loss(y_true: Values, probabilities: Values) -> float:
    """Mean negative log-likelihood in nats; a probability counts as at least 1e-15.

    Shapes:
        y_true (N,); probabilities (N, C).
    """
    truth, table = _labels_and_table(y_true, probabilities)
    likelihood = table[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(likelihood, 1e-15, 1)).mean())


def expected_calibration_error(y_true: Values, probabilities: Values, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy, over ``bins`` equal bins of confidence.

    The confidence is the largest probability of a row; each bin counts by its rows. In 0 to 1.

    Shapes:
        y_true (N,); probabilities (N, C).

    Reference:
        Guo et al., On calibration of modern neural networks, ICML 2017, equation 3.
    """
    truth, table = _labels_and_table(y_true, probabilities)
    confidence, right = table.max(axis=1), table.argmax(axis=1) == truth
    # bins are open on the left and closed on the right, as in the paper
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(truth))


def roc_auc(y_true: Values, probabilities: Values) -> float:
    """Area under the ROC curve; with more than two classes the mean of one against the rest.

    Classes that do not occur in ``y_true`` have no curve and are left out of the mean.

    Shapes:
        y_true (N,); probabilities (N, C).

    Raises:
        ConfigError: All rows are of one class.
    """
    truth, table = _labels_and_table(y_true, probabilities)
    present = np.unique(truth)
    if len(present) < 2:
        raise ConfigError(f"ROC-AUC needs rows of two classes, found class {present[0]} only.")
    columns = [1] if table.shape[1] == 2 else present
    scores = [sklearn_metrics.roc_auc_score(truth == c, table[:, c]) for c in columns]
    return float(np.mean(scores))


def mean_roc_auc(y_true: Values, scores: Values) -> float:
    """Mean area under the ROC curve over marks that occur both ways. Shapes: both (N, T)."""
    truth, table = _pair(y_true, scores)
    found = [
        float(sklearn_metrics.roc_auc_score(mark, score))
        for mark, score in zip(truth.T, table.T, strict=True)
        if 0 < mark.sum() < len(mark)
    ]
    if not found:
        raise ConfigError("ROC-AUC needs a mark that occurs both ways, found none.")
    return float(np.mean(found))


def classification_metrics(y_true: Values, probabilities: Values) -> dict[str, float | None]:
    """All single figures for class probabilities, by name; ``roc_auc`` is None with one class.

    Shapes:
        y_true (N,); probabilities (N, C).
    """
    truth, table = _labels_and_table(y_true, probabilities)
    predicted = table.argmax(axis=1)
    return {
        "accuracy": accuracy(truth, predicted),
        "balanced_accuracy": balanced_accuracy(truth, predicted),
        "macro_f1": macro_f1(truth, predicted),
        "log_loss": log_loss(truth, table),
        "expected_calibration_error": expected_calibration_error(truth, table),
        "roc_auc": roc_auc(truth, table) if len(np.unique(truth)) > 1 else None,
    }


def mean_absolute_error(y_true: Values, y_pred: Values) -> float:
    """Mean absolute difference of all entries. Shapes: equal, (N,) or (N, ...)."""
    truth, predicted = _pair(y_true, y_pred)
    return float(np.abs(truth - predicted).mean())


def root_mean_squared_error(y_true: Values, y_pred: Values) -> float:
    """Root of the mean squared difference of all entries. Shapes: equal, (N,) or (N, ...)."""
    truth, predicted = _pair(y_true, y_pred)
    return float(np.sqrt(np.square(truth - predicted).mean()))


def _array(values: Values) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def _pair(y_true: Values, y_pred: Values) -> tuple[NDArray[Any], NDArray[Any]]:
    truth, predicted = _array(y_true), _array(y_pred)
    if truth.shape != predicted.shape:
        raise ConfigError(
            f"Shapes must be equal, found y_true {truth.shape}, y_pred {predicted.shape}."
        )
    if truth.size == 0:
        raise ConfigError("A metric needs at least one row, found none.")
    return truth, predicted


def _labels_and_table(y_true: Values, probabilities: Values) -> tuple[NDArray[np.int64], Floats]:
    truth, table = _array(y_true), _array(probabilities).astype(np.float64)
    if table.ndim != 2 or truth.shape != table.shape[:1] or table.size == 0:
        raise ConfigError(
            "Expected y_true (N,) and probabilities (N, C) with N of at least 1, "
            f"found {truth.shape} and {table.shape}."
        )
    if truth.min() < 0 or truth.max() >= table.shape[1]:
        found = f"{truth.min()} to {truth.max()}"
        raise ConfigError(f"y_true must be in 0 to {table.shape[1] - 1}, found {found}.")
    if (table < 0).any() or not np.allclose(table.sum(axis=1), 1, atol=1e-3):
        raise ConfigError("Each row of probabilities must be non-negative and sum to 1.")
    return truth.astype(np.int64), table
