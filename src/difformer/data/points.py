"""Rows as the exact searches see them: float64, dense or sparse, with their exact distances.

Letters: N and M rows, F features.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.data.candidates import squared_norms
from difformer.data.instances import Features
from difformer.errors import DataError, one_of

_PAIRS = 1 << 17  # numbers in one block of exact differences: 1 MiB, for the cache
_LARGEST = 1e150  # beyond it, squares overflow float64

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Points:
    """Rows (count, features) in float64, dense or canonical CSR, and what a search asks of them."""

    def __init__(self, x: Features) -> None:
        self.x = x
        self.count, self.features = (int(size) for size in x.shape)
        self.sparse = bool(sparse.issparse(x))
        self.squared_norm = squared_norms(x)

    def take(self, rows: Rows | slice) -> "Points":
        """Some of them."""
        return Points(self.x[rows])

    def alike(self, other: "Points") -> "Points":
        """These rows in sparse form if ``other`` is sparse."""
        if self.sparse or not other.sparse:
            return self
        return Points(sparse.csr_matrix(self.x))

    @cached_property
    def exact_products(self) -> bool:
        """Whole numbers so small that sums of products are exact in float64."""
        values = self.x.data if self.sparse else self.x
        whole = bool((values == np.rint(values)).all())
        return whole and 4 * self.squared_norm.max(initial=0) < 2**53

    @cached_property
    def twin(self) -> Rows:
        """For each row, the lowest row that equals it, (count,)."""
        first: dict[bytes, int] = {}
        return np.array([first.setdefault(self._bytes(i), i) for i in range(self.count)], np.int64)

    def _bytes(self, row: int) -> bytes:
        if not self.sparse:
            return bytes(self.x[row].tobytes())
        start, stop = self.x.indptr[row : row + 2]
        return bytes(self.x.indices[start:stop].tobytes() + self.x.data[start:stop].tobytes())


def aligned(x: Features, keys: Features | None, metric: str) -> tuple[Points, Points]:
    """Rows and the keys searched for them, both dense or both sparse; without keys, x twice.

    Raises
    ------
    ConfigError
        For another metric than "euclidean" and "cosine".
    DataError
        If shapes do not fit, or values are not finite or so large that squares overflow.
    """
    one_of(metric, ("euclidean", "cosine"), "metric")
    queries = Points(prepared(x, metric, "x"))
    others = queries if keys is None else Points(prepared(keys, metric, "keys"))
    queries, others = queries.alike(others), others.alike(queries)
    if queries.features != others.features:
        raise DataError(
            f"keys must have the {queries.features} columns of x, found {others.features}."
        )
    return queries, others


def prepared(x: Features, metric: str, what: str) -> Any:
    """Float64 rows, unit rows for cosine; never the caller's own memory if it is changed."""
    if sparse.issparse(x):
        rows = sparse.csr_matrix(x, dtype=np.float64, copy=True)
        rows.sum_duplicates()
        rows.eliminate_zeros()
        values = rows.data
    else:
        rows = np.ascontiguousarray(x, dtype=np.float64)
        values = rows
    if rows.ndim != 2:
        raise DataError(f"{what} must have two dimensions (N, F), found shape {rows.shape}.")
    # A NaN fails this comparison too.
    if not (np.abs(values) < _LARGEST).all():
        raise DataError(f"{what} must be finite and below {_LARGEST:g}, found other values.")
    return _unit_rows(rows) if metric == "cosine" else rows


def _unit_rows(x: Any) -> Any:
    # Scaling by the largest entry first keeps tiny rows from underflowing to zero.
    if sparse.issparse(x):
        largest = np.asarray(abs(x).max(axis=1).todense()).ravel() if x.shape[1] else np.zeros(0)
        x = sparse.csr_matrix(sparse.diags(_inverse(largest)) @ x)
        norm = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
        return sparse.csr_matrix(sparse.diags(_inverse(norm)) @ x)
    x = x * _inverse(np.abs(x).max(axis=1, initial=0))[:, None]
    return x * _inverse(np.sqrt((x * x).sum(axis=1)))[:, None]


def _inverse(values: Floats) -> Floats:
    """1 / values, and 0 where a value is 0 or its inverse overflows."""
    safe = np.where(values > np.finfo(np.float64).tiny, values, np.inf)
    return np.asarray(1.0 / safe)


def estimates(queries: Points, keys: Points, rows: Rows) -> Floats:
    """Squared distances up to rounding, (rows, M)."""
    own = queries.x[rows]
    products = (keys.x @ own.toarray().T).T if keys.sparse else own @ keys.x.T
    products = np.ascontiguousarray(products)
    products *= -2.0
    products += queries.squared_norm[rows, None]
    products += keys.squared_norm
    return np.asarray(products)


def distances(queries: Points, keys: Points, left: Rows, right: Rows) -> Floats:
    """Squared distances of pairs as sums of squared differences, (pairs,)."""
    result = np.empty(len(left))
    width = queries.features
    if queries.sparse:
        width = 1 + (queries.x.nnz + keys.x.nnz) // max(1, queries.count + keys.count)
    step = max(1, _PAIRS // max(1, width))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        difference = queries.x[left[part]] - keys.x[right[part]]
        if queries.sparse:
            difference = sparse.csr_matrix(difference)
            difference.data *= difference.data
            result[part] = np.asarray(difference.sum(axis=1)).ravel()
        else:
            result[part] = np.square(difference).sum(axis=1)
    return result
