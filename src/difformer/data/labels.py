"""From the target column to class numbers."""

import numpy as np
from numpy.typing import NDArray

from difformer.data.cells import Cells
from difformer.data.instances import UNLABELLED
from difformer.data.notices import Notice
from difformer.errors import DataError

MOST_FRACTIONS = 20  # distinct numbers with a fraction; more look like a quantity
MOST_CLASSES = 50  # beyond it, classes must repeat: two rows each on average


def fit_classes(cells: Cells) -> tuple[str, ...]:
    """Find the classes of a target column.

    Parameters
    ----------
    cells : Cells
        Texts or numbers; an empty cell is unlabelled.

    Returns
    -------
    tuple of str
        Names in ascending order, of numbers if all are numbers. A whole number is written
        without a fraction.

    Raises
    ------
    DataError
        If there is no label, only one class, or the column looks like a quantity or a name.
    """
    values = cells.values
    if not values:
        raise DataError(f"{cells.where} must hold labels, found only empty cells.")
    if len(values) == 1:
        raise DataError(
            f"{cells.where} must hold at least two classes, found only {values[0][:40]!r}."
        )
    numbers = _numbers(values)
    if numbers is not None and len(values) > MOST_FRACTIONS and (numbers % 1 != 0).any():
        raise DataError(
            f"{cells.where} must hold classes, found {len(values)} different numbers with "
            "fractions: this looks like a regression target, which classification does not serve."
        )
    labelled = int((~cells.missing).sum())
    if len(values) > MOST_CLASSES and len(values) > labelled / 2:
        raise DataError(
            f"{cells.where} must hold classes that repeat, found {len(values)} different values "
            f"in {labelled} labelled rows: this looks like a name or a quantity."
        )
    if numbers is None:
        return tuple(sorted(values))
    return tuple(values[place] for place in np.argsort(numbers, kind="stable"))


def class_numbers(
    cells: Cells, classes: tuple[str, ...], strict: bool
) -> tuple[NDArray[np.int64], Notice | None]:
    """Number each label by its place in ``classes``; -1 where empty.

    Parameters
    ----------
    cells : Cells
        The target column.
    classes : tuple of str
        Names of the fitted classes.
    strict : bool
        A label outside ``classes`` is an error; otherwise it counts as unlabelled.

    Returns
    -------
    y : int64 ndarray, (N,)
    notice : Notice or None
        If labels are unknown.

    Raises
    ------
    DataError
        If ``strict`` and a label is not one of the classes.
    """
    places = {name: number for number, name in enumerate(classes)}
    numbers = [places.get(value, UNLABELLED) for value in cells.values]
    y = np.array([*numbers, UNLABELLED], dtype=np.int64)[cells.codes]
    unknown = (y < 0) & ~cells.missing
    if not unknown.any():
        return y, None
    known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    message = f"{cells.where} must hold the classes fitted ({known}), found {cells.first(unknown)}"
    if strict:
        raise DataError(message + ".")
    count = int(unknown.sum())
    return y, Notice("labels", f"{message}; such rows (", count, ") count as unlabelled.")


def _numbers(values: list[str]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
