"""Exact k-nearest neighbours on a CPU, with ties to the lower row number.

Distances are first estimated tile by tile through one matrix product, |a|^2 + |b|^2 - 2 a.b. The
best candidates are then measured exactly in float64 as sums of squared differences, so that equal
rows are at distance 0 and d(i, j) equals d(j, i) to the last bit. Where a row left out could
still tie with or beat a candidate, given the rounding error of the estimate, every row in
question is measured. So the answer is that of sorting all rows by (distance, row number).

Letters: N rows asked for, M rows searched, F features, k neighbours.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from difformer.data.instances import Features
from difformer.errors import ConfigError, DataError, one_of

NONE = -1  # row number that stands where there are fewer than k neighbours
_TILE = 1 << 22  # numbers in one tile of estimated distances: 32 MiB
_PAIRS = 1 << 21  # numbers in one block of exact differences: 16 MiB
_SPARE = 8  # candidates beyond k, so that few rows need a second look
_LARGEST = 1e150  # beyond it, squares overflow float64

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest rows of each of N rows, nearest first.

    Parameters
    ----------
    index : int64 ndarray, (N, k)
        Row numbers; -1 where there are fewer than k neighbours.
    squared_distance : float64 ndarray, (N, k)
        Squared distances, ascending; infinite where ``index`` is -1.
    """

    index: Rows
    squared_distance: Floats


def search(
    x: Features,
    k: int,
    metric: str = "euclidean",
    keys: Features | None = None,
    exclude_self: bool = True,
    batch: ArrayLike | None = None,
    keys_batch: ArrayLike | None = None,
) -> Neighbors:
    """Find the k nearest rows of each row of ``x``, exactly.

    Parameters
    ----------
    x : ndarray or scipy CSR, (N, F)
        Rows to find neighbours for; finite.
    k : int
        Neighbours a row, at least 1.
    metric : {"euclidean", "cosine"}, default "euclidean"
        "cosine" measures d^2 = 2 - 2 cos, the squared distance of rows scaled to norm 1. A row of
        zeros stays zero: at d^2 = 1 from all others, 0 from other rows of zeros.
    keys : ndarray or scipy CSR, (M, F), optional
        Rows to search among. Default: ``x`` itself.
    exclude_self : bool, default True
        A row is not its own neighbour. Without effect if ``keys`` is given.
    batch : array of int, (N,), optional
        Number of the graph of each row, in any order: neighbours come from the same graph only.
    keys_batch : array of int, (M,), optional
        The same for ``keys``; needed if and only if both ``batch`` and ``keys`` are given.

    Returns
    -------
    Neighbors
        Ordered by (squared distance, row number): ties go to the lower row number.

    Raises
    ------
    ConfigError
        For a wrong ``k``, ``metric`` or combination of arguments.
    DataError
        If shapes do not fit, or values are not finite or so large that squares overflow.

    Notes
    -----
    Time O(N M F) (O(M nnz) for CSR), memory O((N + M) (F + k)) and one tile of 32 MiB, whatever N
    and M are. Many equal distances cost more, up to one exact distance a pair.

    Examples
    --------
    >>> import numpy as np
    >>> found = search(np.array([[0.0], [1.0], [2.0], [5.0]]), k=2)
    >>> found.index.tolist()
    [[1, 2], [0, 2], [1, 0], [2, 1]]
    >>> found.squared_distance[3].tolist()
    [9.0, 16.0]
    """
    _check_arguments(k, batch, keys, keys_batch)
    one_of(metric, ("euclidean", "cosine"), "metric")
    queries = _Points(_prepare(x, metric, "x"))
    others = queries if keys is None else _Points(_prepare(keys, metric, "keys"))
    queries, others = queries.alike(others), others.alike(queries)
    if queries.features != others.features:
        raise DataError(
            f"keys must have the {queries.features} columns of x, found {others.features}."
        )
    skip_self = exclude_self and keys is None
    if batch is None:
        return _search(queries, others, k, skip_self)
    graphs = _graph_ids(batch, queries.count, "batch")
    if keys_batch is None:
        return _search_by_graph(queries, others, k, skip_self, graphs, graphs)
    key_graphs = _graph_ids(keys_batch, others.count, "keys_batch")
    return _search_by_graph(queries, others, k, skip_self, graphs, key_graphs)


class _Points:
    """Rows in float64, dense or canonical CSR, with what the search asks of them."""

    def __init__(self, x: Features) -> None:
        self.x = x
        self.count, self.features = (int(size) for size in x.shape)
        self.sparse = bool(sparse.issparse(x))
        squares = x.multiply(x) if self.sparse else x * x
        self.squared_norm: Floats = np.asarray(squares.sum(axis=1), dtype=np.float64).ravel()

    def take(self, rows: Rows | slice) -> "_Points":
        return _Points(self.x[rows])

    def alike(self, other: "_Points") -> "_Points":
        """These rows in sparse form if ``other`` is sparse."""
        if self.sparse or not other.sparse:
            return self
        return _Points(sparse.csr_matrix(self.x))

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


def _search(queries: _Points, keys: _Points, k: int, skip_self: bool) -> Neighbors:
    index = np.full((queries.count, k), NONE, dtype=np.int64)
    squared = np.full((queries.count, k), np.inf)
    step = max(1, _TILE // max(keys.count, 1))
    found = min(k, keys.count - skip_self)
    for start in range(0, queries.count if found > 0 else 0, step):
        rows = np.arange(start, min(start + step, queries.count))
        estimate = _estimate(queries, keys, rows)
        if skip_self:
            estimate[np.arange(len(rows)), rows] = np.inf
        tile = _nearest_in_tile(queries, keys, rows, estimate, found)
        index[rows, :found], squared[rows, :found] = tile
    return Neighbors(index, squared)


def _search_by_graph(
    queries: _Points, keys: _Points, k: int, skip_self: bool, graphs: Rows, key_graphs: Rows
) -> Neighbors:
    index = np.full((queries.count, k), NONE, dtype=np.int64)
    squared = np.full((queries.count, k), np.inf)
    members = _members(graphs)
    key_members = members if key_graphs is graphs else _members(key_graphs)
    for graph, rows in members.items():
        if graph not in key_members:
            continue
        # Rows stay in ascending order, so the lower row number still wins a tie.
        columns = key_members[graph]
        own = queries.take(rows)
        found = _search(own, own if skip_self else keys.take(columns), k, skip_self)
        index[rows] = np.where(found.index == NONE, NONE, columns[found.index])
        squared[rows] = found.squared_distance
    return Neighbors(index, squared)


def _members(graphs: Rows) -> dict[int, Rows]:
    """Row numbers of each graph, ascending."""
    order = np.argsort(graphs, kind="stable")
    names, starts = np.unique(graphs[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=False))


def _estimate(queries: _Points, keys: _Points, rows: Rows) -> Floats:
    """Squared distances up to rounding, (rows, M)."""
    own = queries.x[rows[0] : rows[-1] + 1]
    if keys.sparse:
        dense = own.toarray() if queries.sparse else own
        products = np.ascontiguousarray((keys.x @ dense.T).T)
    else:
        products = own @ keys.x.T
    products *= -2.0
    products += queries.squared_norm[rows, None]
    products += keys.squared_norm
    return np.asarray(products)


def _nearest_in_tile(
    queries: _Points, keys: _Points, rows: Rows, estimate: Floats, k: int
) -> tuple[Rows, Floats]:
    """The k nearest of each row of a tile, given estimates; at least k of them are finite."""
    count = min(keys.count, k + _SPARE)
    if count < keys.count:
        candidates = np.argpartition(estimate, count - 1, axis=1)[:, :count]
    else:
        candidates = np.broadcast_to(np.arange(keys.count), estimate.shape)
    candidates = np.sort(candidates, axis=1)
    estimated = np.take_along_axis(estimate, candidates, axis=1)
    exact = _exact(queries, keys, np.repeat(rows, count), candidates.ravel())
    exact = np.where(np.isinf(estimated), np.inf, exact.reshape(candidates.shape))
    # Candidates stand in ascending order: a stable sort breaks ties by row number.
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    index = np.take_along_axis(candidates, order, axis=1)
    squared = np.take_along_axis(exact, order, axis=1)
    if count < keys.count:
        error = _rounding(queries, keys, rows)
        # Whatever was left out has an estimate of at least the worst candidate's.
        unsure = squared[:, -1] >= estimated.max(axis=1) - error
        for at in np.flatnonzero(unsure):
            limit = squared[at, -1] + error[at]
            index[at], squared[at] = _settle(queries, keys, rows[at], estimate[at], limit, k)
    return index, squared


def _settle(
    queries: _Points, keys: _Points, row: int, estimate: Floats, limit: float, k: int
) -> tuple[Rows, Floats]:
    """Measure every row whose estimate does not rule it out, each distinct one once."""
    columns = np.flatnonzero(estimate <= limit)
    if queries.exact_products and keys.exact_products:
        exact = estimate[columns]
    else:
        distinct, place = np.unique(keys.twin[columns], return_inverse=True)
        exact = _exact(queries, keys, np.full(len(distinct), row), distinct)[place]
    order = np.argsort(exact, kind="stable")[:k]
    return columns[order], exact[order]


def _rounding(queries: _Points, keys: _Points, rows: Rows) -> Floats:
    """Bound on |estimate - exact| for each row, (rows,)."""
    if queries.exact_products and keys.exact_products:
        return np.zeros(len(rows))
    scale = queries.squared_norm[rows] + keys.squared_norm.max(initial=0)
    float64 = np.finfo(np.float64)
    return np.asarray(8 * (queries.features + 8) * (float64.eps * scale + float64.tiny))


def _exact(queries: _Points, keys: _Points, left: Rows, right: Rows) -> Floats:
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


def _prepare(x: Features, metric: str, what: str) -> Any:
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


def _graph_ids(batch: ArrayLike, count: int, what: str) -> Rows:
    graphs = np.asarray(batch)
    if graphs.shape != (count,) or (count and graphs.dtype.kind not in "iu"):
        raise DataError(
            f"{what} must hold one whole number for each of {count} rows, "
            f"found {graphs.dtype} {graphs.shape}."
        )
    return graphs.astype(np.int64)


def _check_arguments(k: Any, batch: Any, keys: Any, keys_batch: Any) -> None:
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise ConfigError(f"k must be a whole number of at least 1, found {k!r}.")
    if (keys_batch is not None) != (batch is not None and keys is not None):
        raise ConfigError("keys_batch is needed if and only if both batch and keys are given.")
