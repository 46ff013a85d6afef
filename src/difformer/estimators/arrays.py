"""Tables and edges as users give them, checked; what a fit keeps is copied: nobody can change it.

Shapes: N rows, F columns, E edges.
"""

from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from difformer.errors import DataError


def checked_table(estimator: BaseEstimator, X: Any, reset: bool) -> Any:
    """A finite float32 array or CSR matrix, (N, F).

    Args:
        estimator: Whose ``n_features_in_`` and ``feature_names_in_`` are set, or must be met.
        X: What was given.
        reset: Whether they are set: in ``fit``.

    Raises:
        DataError: If it is no table of finite numbers, or not the table of the fit.
        TypeError: If an entry is an object of another kind.
    """
    try:
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and is found below
            x = validate_data(
                estimator,
                X,
                reset=reset,
                accept_sparse="csr",
                dtype=np.float32,
                order="C",
                copy=reset,  # what is fitted is kept
                ensure_all_finite=False,
            )
    except ValueError as error:
        raise DataError(f"X cannot be used: {' '.join(str(error).split())}") from None
    if sparse.issparse(x):
        x = sparse.csr_matrix(x)
        if not (x.has_canonical_format and x.data.flags.writeable):
            x = x.copy()
            x.sum_duplicates()
    else:
        x = np.require(x, requirements="W")  # torch wants no other, though nothing is written
    if not np.isfinite(x.data if sparse.issparse(x) else x).all():
        raise DataError("X must be finite, found NaN or infinity; impute missing values first.")
    return x


def checked_edges(edge_index: Any, edge_weight: Any) -> tuple[Tensor | None, Tensor | None]:
    """Edges (2, E) and their weights (E,), or None.

    Raises:
        DataError: If they are not whole numbers, or weights not finite. Which rows there are is
            not known here.
    """
    if edge_index is None:
        if edge_weight is not None:
            raise DataError("edge_weight needs edge_index, found none.")
        return None, None
    given = np.asarray(edge_index)
    if given.size and given.dtype.kind not in "iu":
        raise DataError(f"edge_index must hold whole numbers, found {given.dtype}.")
    index = torch.from_numpy(given.astype(np.int64))
    if edge_weight is None:
        return index, None
    try:
        weight = np.array(edge_weight, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"edge_weight must hold numbers, found something else ({error}).") from None
    if not np.isfinite(weight).all():
        raise DataError("edge_weight must be finite, found NaN or infinity.")
    return index, torch.from_numpy(weight)
