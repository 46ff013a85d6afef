"""Exact k-nearest neighbours, with ties to the lower row number.

A library proposes candidates (``difformer.data.candidates``). They are then measured exactly in
float64 as sums of squared differences, so that equal rows are at distance 0 and d(i, j) equals
d(j, i) to the last bit. Where a row left out could still tie with or beat a candidate, given the
rounding error of the library's estimate, every row in question is measured. So the answer is that
of sorting all rows by (distance, row number), whichever library it was.

Letters: N rows asked for, M rows searched, F features, k neighbours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from difformer.data.candidates import Propose, propose, rounding
from difformer.data.instances import Features
from difformer.data.points import Floats, Points, Rows, aligned, distances, estimates
from difformer.errors import ConfigError, DataError

NONE = -1  # row number that stands where there are fewer than k neighbours
_TILE = 1 << 22  # numbers in one block of distances: 32 MiB
_SPARE = 8  # candidates beyond k, so that few rows need a second look
_SMALL = 64  # rows among which calling a library costs more than measuring all


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
    candidates: Propose = propose,
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
    candidates : callable, default: faiss where installed and rows are dense, else scikit-learn
        Who proposes candidates; the answer does not depend on it.

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
    Time O(N M F) (O(M nnz) for CSR), memory O((N + M) (F + k)) and blocks of 32 MiB, whatever N
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
    queries, others = aligned(x, keys, metric)
    skip_self = exclude_self and keys is None
    if batch is None:
        return search_points(queries, others, k, skip_self, candidates)
    graphs = _graph_ids(batch, queries.count, "batch")
    if keys_batch is None:
        return _search_by_graph(queries, others, k, skip_self, graphs, graphs, candidates)
    key_graphs = _graph_ids(keys_batch, others.count, "keys_batch")
    return _search_by_graph(queries, others, k, skip_self, graphs, key_graphs, candidates)


def search_points(
    queries: Points, keys: Points, k: int, skip_self: bool, candidates: Propose
) -> Neighbors:
    """As :func:`search`, of rows that are prepared already."""
    index = np.full((queries.count, k), NONE, dtype=np.int64)
    squared = np.full((queries.count, k), np.inf)
    found = min(k, keys.count - skip_self)
    wanted = found + skip_self + _SPARE
    count = wanted if keys.count > max(wanted, _SMALL) else keys.count
    step = max(1, _TILE // max(count, 1))
    for start in range(0, queries.count if found > 0 else 0, step):
        rows = np.arange(start, min(start + step, queries.count))
        if count < keys.count:
            near, beyond = candidates(queries.x[rows], keys.x, count)
        else:
            near = np.broadcast_to(np.arange(count), (len(rows), count))
            beyond = np.full(len(rows), np.inf)
        nearest = _nearest(queries, keys, rows, np.sort(near, axis=1), found, skip_self)
        index[rows, :found], squared[rows, :found] = nearest
        unsure = rows[squared[rows, found - 1] >= beyond]
        _settle(queries, keys, unsure, found, skip_self, index, squared)
    return Neighbors(index, squared)


def _search_by_graph(
    queries: Points,
    keys: Points,
    k: int,
    skip_self: bool,
    graphs: Rows,
    key_graphs: Rows,
    candidates: Propose,
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
        searched = own if skip_self else keys.take(columns)
        found = search_points(own, searched, k, skip_self, candidates)
        index[rows] = np.where(found.index == NONE, NONE, columns[found.index])
        squared[rows] = found.squared_distance
    return Neighbors(index, squared)


def _members(graphs: Rows) -> dict[int, Rows]:
    """Row numbers of each graph, ascending."""
    order = np.argsort(graphs, kind="stable")
    names, starts = np.unique(graphs[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=False))


def _nearest(
    queries: Points, keys: Points, rows: Rows, near: Rows, k: int, skip_self: bool
) -> tuple[Rows, Floats]:
    """The k nearest among the candidates of each row, which stand in ascending order."""
    exact = distances(queries, keys, np.repeat(rows, near.shape[1]), near.ravel())
    exact = exact.reshape(near.shape)
    if skip_self:
        exact[near == rows[:, None]] = np.inf
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]  # stable: ties by row number
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(exact, order, axis=1)


def _settle(
    queries: Points,
    keys: Points,
    unsure: Rows,
    k: int,
    skip_self: bool,
    index: Rows,
    squared: Floats,
) -> None:
    """Measure every row that an estimate does not rule out, for rows that are not sure yet."""
    whole = queries.exact_products and keys.exact_products if len(unsure) else False
    scale = queries.squared_norm[unsure] + keys.squared_norm.max(initial=0)
    error = rounding(queries.features, scale, np.float64) * (not whole)
    step = max(1, _TILE // max(keys.count, 1))
    for start in range(0, len(unsure), step):
        rows = unsure[start : start + step]
        estimate = estimates(queries, keys, rows)
        if skip_self:
            estimate[np.arange(len(rows)), rows] = np.inf
        for at, row in enumerate(rows):
            limit = squared[row, k - 1] + error[start + at]
            columns = np.flatnonzero(estimate[at] <= limit)
            exact = estimate[at, columns] if whole else _measured(queries, keys, row, columns)
            order = np.argsort(exact, kind="stable")[:k]
            index[row, :k], squared[row, :k] = columns[order], exact[order]


def _measured(queries: Points, keys: Points, row: int, columns: Rows) -> Floats:
    """Exact distances from one row, each distinct key measured once."""
    distinct, place = np.unique(keys.twin[columns], return_inverse=True)
    return distances(queries, keys, np.full(len(distinct), row), distinct)[place]


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
