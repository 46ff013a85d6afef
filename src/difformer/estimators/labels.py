"""Labels as users give them: which rows are unlabelled, and what the classes are called."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import column_or_1d

from difformer.errors import DataError

UNLABELLED = -1
LARGEST = 2**53  # below it, floats tell whole numbers apart


def encode_labels(y: Any, rows: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sort out classes and class numbers.

    Unlabelled is -1 where the labels are numbers, "" where they are texts, and None, NaN or
    pandas' NA anywhere.

    Returns:
        The classes, sorted, (C,), and the class number of each row, -1 unlabelled, (N,).

    Raises:
        DataError: On a wrong length, no label, a single class, or labels -1 and 1, where -1 may
            have been meant as a class.
    """
    given = np.array(y, dtype=object) if isinstance(y, (list, tuple)) else np.asarray(y)
    if given.ndim == 2 and given.shape[1] == 1:
        given = column_or_1d(given, warn=True)
    if given.ndim != 1 or len(given) != rows:
        raise DataError(f"y must hold one label for each of {rows} rows, found {given.shape}.")
    known = ~_missing(given)
    values = _typed(given[known])
    marked = _marked(values)
    known[known] = ~marked
    values = values[~marked]
    if len(values) == 0:
        raise DataError(f"y must label at least one row of each class, found {rows} unlabelled.")
    if values.dtype.kind == "f":
        values = _whole(values)
    classes, numbers = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        if marked.any() and classes[0] == 1:
            raise DataError(
                "y holds only 1 and -1, and -1 means unlabelled: number two classes 0 and 1."
            )
        raise DataError(
            f"y must hold at least two classes, found one class, {classes.tolist()[0]!r}."
        )
    encoded = np.full(rows, UNLABELLED, dtype=np.int64)
    encoded[known] = numbers
    return classes, encoded


def holds_marks(y: Any) -> bool:
    """Whether labels come in several columns, dense or sparse."""
    if sparse.issparse(y):
        return bool(y.shape[1] > 1)
    given = np.asarray(y, dtype=object) if isinstance(y, (list, tuple)) else np.asarray(y)
    return given.ndim == 2 and given.shape[1] > 1


def encode_marks(y: Any, rows: int) -> NDArray[np.float32]:
    """Marks of each row, (N, C): 1 there, 0 not there, NaN unknown (as -1 and None are).

    Raises:
        DataError: On a wrong length, another number, or nothing known.
    """
    given = y.toarray() if sparse.issparse(y) else np.asarray(y)
    try:
        marks = given.astype(np.float32)
    except (TypeError, ValueError):
        raise DataError("y of several columns must hold marks, 1 or 0, found texts.") from None
    if len(marks) != rows:
        raise DataError(f"y must hold a row of marks for each of {rows} rows, found {len(marks)}.")
    marks[marks == UNLABELLED] = np.nan
    other = ~np.isin(marks, (0, 1)) & ~np.isnan(marks)
    if other.any():
        raise DataError(
            "Unknown label type: y of several columns must hold marks, 1 or 0 (-1 unknown), "
            f"found {marks[other][0]:g}."
        )
    if np.isnan(marks).all():
        raise DataError(f"y must mark at least one row, found {rows} unlabelled.")
    return marks


def encode_numbers(y: Any, rows: int) -> NDArray[np.float64]:
    """Numbers of each row, (N,) or (N, T); NaN unknown.

    Raises:
        DataError: On a wrong shape, texts, infinity, or nothing known.
    """
    try:
        numbers = np.array(y, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("y must hold numbers, found something else.") from None
    if numbers.ndim not in (1, 2) or len(numbers) != rows or numbers.size == 0:
        raise DataError(f"y must hold numbers for each of {rows} rows, found {numbers.shape}.")
    if np.isinf(numbers).any():
        raise DataError("y must be finite, or NaN where unknown, found infinity.")
    if np.isnan(numbers).all():
        raise DataError(f"y must hold at least one number, found {rows} unknown rows.")
    return numbers


def labelled_rows(given: NDArray[Any]) -> NDArray[np.bool_]:
    """Which labels (N,) say something: neither missing nor -1, shape (N,).

    Example:
        >>> labelled_rows(np.array([0, -1, 2])).tolist()
        [True, False, True]
    """
    known = ~_missing(given)
    known[known] = ~_marked(_typed(given[known]))
    return known


def _missing(given: NDArray[Any]) -> NDArray[np.bool_]:
    if given.dtype.kind == "O":
        return np.array([_is_missing(value) for value in given], dtype=bool)
    if given.dtype.kind == "f":
        return np.asarray(np.isnan(given))
    if given.dtype.kind == "U":
        return np.asarray(given == "")
    return np.zeros(len(given), dtype=bool)


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value) or (isinstance(value, str) and not value)
    except TypeError:  # pandas' NA has no truth value
        return True


def _typed(values: NDArray[Any]) -> NDArray[Any]:
    """Objects as numbers if all are, else as texts."""
    if values.dtype.kind != "O":
        return values
    if all(isinstance(value, (Real, np.bool_)) for value in values):
        return np.array(list(values))
    return values.astype(str)


def _marked(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a number says "unlabelled"."""
    if values.dtype.kind in "if":
        return np.asarray(values == UNLABELLED)
    return np.zeros(len(values), dtype=bool)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    whole = (np.abs(values) < LARGEST) & (np.round(values) == values)
    if not whole.all():
        raise DataError(
            f"Unknown label type: y must hold classes, found the number {values[~whole][0]}: is it "
            "a continuous target, for regression?"
        )
    return values.astype(np.int64)
