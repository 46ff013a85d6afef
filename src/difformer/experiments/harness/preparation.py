"""How features are prepared: the same for all methods of a cell, from the training rows alone.

A preparation is fitted on the rows that are learnt from and applied to all. Nothing about a test
row may enter another row; ``leaks.check_preparation`` tries it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import StandardScaler, normalize

from difformer.data.instances import Features
from difformer.experiments.task import as_float32, one_scale

Prepare = Callable[[Features, NDArray[np.bool_]], Features]


def _raw(x: Features, train: NDArray[np.bool_]) -> Features:
    return x


def _rows_of_sum_1(x: Features, train: NDArray[np.bool_]) -> Features:
    return normalize(x, norm="l1")


def _rows_of_norm_1(x: Features, train: NDArray[np.bool_]) -> Features:
    return normalize(x, norm="l2")


def _one_scale(x: Features, train: NDArray[np.bool_]) -> Features:
    """A root mean square norm of 4, see ``task.scaled``: what classic methods see in any case."""
    return as_float32(one_scale(x, train))


def _standard(x: Features, train: NDArray[np.bool_]) -> Features:
    """Columns of mean 0 and variance 1; sparse ones keep their zeros."""
    scaler = StandardScaler(with_mean=not sparse.issparse(x)).fit(x[train])
    out: Any = scaler.transform(x)
    return out.astype(x.dtype)


PREPARATIONS: dict[str, Prepare] = {
    "raw": _raw,
    "rows-l1": _rows_of_sum_1,
    "rows-l2": _rows_of_norm_1,
    "one-scale": _one_scale,
    "standard": _standard,
}
