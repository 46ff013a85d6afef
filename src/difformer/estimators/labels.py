"""Labels as users give them: which rows are unlabelled, and what the classes are called."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.errors import DataError

UNLABELLED = -1


def encode_labels(y: Any, rows: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sort out classes and class numbers.

    Unlabelled is -1 among numbers, and None or NaN among objects and floats.

    Returns:
        The classes, sorted, (C,), and the class number of each row, -1 unlabelled, (N,).

    Raises:
        DataError: On a wrong length, no label, a single class, or labels -1 and 1, where -1 may
            have been meant as a class.
    """
    given = np.asarray(y)
    if given.ndim != 1 or len(given) != rows:
        raise DataError(f"y must hold one label for each of {rows} rows, found {given.shape}.")
    known = ~_missing(given)
    values = given[known]
    if len(values) == 0:
        raise DataError(f"y must label at least one row of each class, found {rows} unlabelled.")
    if values.dtype.kind == "O":
        values = values.astype(str)
    elif values.dtype.kind == "f":
        values = _whole(values)
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        if given.dtype.kind in "if" and classes[0] == 1:
            raise DataError(
                "y holds only 1 and -1, and -1 means unlabelled: number two classes 0 and 1."
            )
        raise DataError(f"y must hold at least two classes, found only {classes[0]!r}.")
    encoded = np.full(rows, UNLABELLED, dtype=np.int64)
    encoded[known] = numbers
    return classes, encoded


def _missing(given: NDArray[Any]) -> NDArray[np.bool_]:
    if given.dtype.kind == "O":
        return np.array([v is None or v != v for v in given], dtype=bool)
    if given.dtype.kind == "f":
        return np.asarray(np.isnan(given) | (given == UNLABELLED))
    if given.dtype.kind == "i":
        return np.asarray(given == UNLABELLED)
    return np.zeros(len(given), dtype=bool)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    rounded = np.round(values)
    if not np.array_equal(rounded, values):
        first = values[rounded != values][0]
        raise DataError(
            f"y must hold classes, found the number {first}: is it a regression target?"
        )
    return rounded.astype(np.int64)
