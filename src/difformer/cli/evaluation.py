"""Judging predictions on rows whose labels were not seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.errors import DataError
from difformer.training.metrics import NAMES, SHARES, classification_metrics, confusion_matrix


def judge(
    how: str, truth: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Any
) -> dict[str, Any]:
    """Metrics and the confusion matrix, as JSON can hold them.

    Args:
        how: Which rows these are, in words.
        truth: Class numbers, (n,).
        probabilities: (n, C).
        classes: Names, (C,).

    Raises:
        DataError: If there is no row to judge.
    """
    if len(truth) == 0:
        raise DataError(f"There is no labelled row to judge on: {how}")
    confusion = confusion_matrix(truth, probabilities.argmax(axis=1), len(classes))
    return {
        "how": how,
        "count": len(truth),
        "metrics": classification_metrics(truth, probabilities),
        "classes": [str(name) for name in classes],
        "confusion": np.asarray(confusion).tolist(),
    }


def class_positions(names: Sequence[str], classes: Any) -> NDArray[np.int64]:
    """Where each class of a table stands among the classes of a fitted model.

    The orders differ: a table sorts numbers by value, a model sorts all names as texts.

    Raises:
        DataError: If the model does not know a class.
    """
    known = {str(name): index for index, name in enumerate(classes)}
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(f"class {missing[0]!r} has no visible label; show more labels.")
    return np.array([known[name] for name in names], dtype=np.int64)


def describe(result: dict[str, Any]) -> list[str]:
    """The metrics in lines for a person."""
    lines = [f"Judged on {result['how']}"]
    for key, value in result["metrics"].items():
        if value is None:
            continue
        shown = f"{100 * value:.1f} %" if key in SHARES else f"{value:.3f}"
        lines.append(f"  {NAMES.get(key, key):27s} {shown}")
    return lines
