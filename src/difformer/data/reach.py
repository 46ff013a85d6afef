"""The nearest keys of new rows, and the keys that hold a new row within their own reach.

The union rule for neighbours wants both. Each key has a squared distance up to which it takes rows
in, such as that of its k-th neighbour among the keys. One product of matrices in float32 proposes
the nearest and rules almost every other pair out; what it cannot rule out is measured exactly
(``difformer.data.neighbors``, ``difformer.data.points``). So both answers are those of measuring
all pairs.

Letters: N rows asked for, M keys, F features, P pairs found.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.data.candidates import Candidates, by_sklearn, common_scale, rounding, squared_norms
from difformer.data.instances import Features
from difformer.data.neighbors import Neighbors, search_points
from difformer.data.points import Floats, Points, Rows, aligned, distances, estimates

_TILE = 1 << 20  # products in one block: 4 MiB
_GROUP = 8  # keys of which the nearest stands for all while a bound is sought


class Reached(NamedTuple):
    """Pairs of a row and a key that holds it within reach."""

    row: Rows  # (P,)
    key: Rows  # (P,)
    squared_distance: Floats  # (P,)


def joined(
    x: Features, keys: Features, k: int, reach: Floats, metric: str = "euclidean"
) -> tuple[Neighbors, Reached]:
    """The k nearest keys of each row, and all pairs no farther apart than the reach of the key.

    Parameters
    ----------
    x : ndarray or scipy CSR, (N, F)
        Rows, finite.
    keys : ndarray or scipy CSR, (M, F)
        Finite.
    k : int
        Neighbours a row.
    reach : float64 ndarray, (M,)
        Largest squared distance of each key, finite.
    metric : {"euclidean", "cosine"}, default "euclidean"
        As in :func:`difformer.data.neighbors.search`.

    Raises
    ------
    ConfigError, DataError
        As :func:`difformer.data.neighbors.search`.

    Notes
    -----
    Time O(N M F) in float32 for dense rows, and O(P F); memory O((N + M) F + N k + P).

    Examples
    --------
    >>> import numpy as np
    >>> keys, reach = np.array([[0.0], [10.0]]), np.array([1.0, 16.0])
    >>> near, pairs = joined(np.array([[1.0], [6.0], [20.0]]), keys, 1, reach)
    >>> near.index.ravel().tolist(), pairs.row.tolist(), pairs.key.tolist()
    ([0, 1, 1], [0, 1], [0, 1])
    """
    walk = _Walk(reach)
    queries, others = aligned(x, keys, metric)
    near = search_points(queries, others, k, False, walk)
    row, key = walk.pairs(queries.count, others.count)
    squared = distances(queries, others, row, key)
    kept = squared <= reach[key]
    return near, Reached(row[kept], key[kept], squared[kept])


class _Walk:
    """Proposes the nearest, as the search asks it to; remembers which pairs may be within reach."""

    def __init__(self, reach: Floats) -> None:
        self.reach, self.rows = reach, 0  # rows asked for so far
        self._found: list[tuple[Rows, Rows]] = []

    def __call__(self, queries: Features, keys: Features, count: int) -> Candidates:
        walk = self._sparse if sparse.issparse(keys) else self._dense
        found = walk(queries, keys, count)
        self.rows += queries.shape[0]
        return found

    def pairs(self, rows: int, keys: int) -> tuple[Rows, Rows]:
        """Pairs that no estimate ruled out; all, where keys are so few that nobody asked."""
        if self.rows < rows or not rows:
            return np.divmod(np.arange(rows * keys), max(keys, 1))
        row, key = (np.concatenate(part) for part in zip(*self._found, strict=True))
        return row, key

    def _sparse(self, queries: Features, keys: Features, count: int) -> Candidates:
        own, others = Points(queries), Points(keys)
        scale = own.squared_norm + others.squared_norm.max(initial=0)
        error = rounding(own.features, scale, np.float64)
        step = max(1, _TILE // others.count)
        for start in range(0, own.count, step):
            rows = np.arange(start, min(start + step, own.count))
            near = estimates(own, others, rows) <= self.reach + error[rows, None]
            row, key = np.nonzero(near)
            self._found.append((row + start + self.rows, key))
        return by_sklearn(queries, keys, count)

    def _dense(self, queries: Floats, keys: Floats, count: int) -> Candidates:
        """In tiles, of which each thread takes its own."""
        from threadpoolctl import ThreadpoolController  # looks at all libraries when it is made

        tiles = _Tiles(queries, keys, self.reach, count)
        step = max(1, _TILE // len(keys))
        starts = range(0, len(queries), step)
        blas = ThreadpoolController().select(user_api="blas")
        threads = max([1, *(library.num_threads for library in blas.lib_controllers)])
        with blas.limit(limits=1), ThreadPoolExecutor(min(threads, len(starts))) as pool:
            done = list(pool.map(lambda start: tiles.visit(slice(start, start + step)), starts))
        rows, beyond = (np.concatenate(part) for part in zip(*(d[:2] for d in done), strict=True))
        self._found += [
            (row + start + self.rows, key)
            for start, (*_, (row, key)) in zip(starts, done, strict=True)
        ]
        return Candidates(rows, beyond)


class _Tiles:
    """Products of rows and keys in float32, at a common scale.

    s = q.k - |k|^2 / 2 orders the keys of a row: the squared distance is |q|^2 - 2 s.
    """

    def __init__(self, queries: Floats, keys: Floats, reach: Floats, count: int) -> None:
        self.count = count
        q, k, self.unit = common_scale(queries, keys)
        # What underflowed may have been up to the smallest normal number.
        reach = (reach + np.finfo(np.float64).tiny) / self.unit / self.unit
        self.own, other = squared_norms(q), squared_norms(k)
        scale = self.own + np.maximum(other, reach).max(initial=0)
        self.error = rounding(keys.shape[1] + 1, scale, np.float32)
        self.left = np.column_stack([q, np.ones(len(q))]).astype(np.float32)
        self.right = np.column_stack([k, other / -2]).astype(np.float32).T.copy()
        self.within = (reach / -2).astype(np.float32)

    def visit(self, rows: slice) -> tuple[Rows, Floats, tuple[Rows, Rows]]:
        """Candidates for the nearest, (B, count); the bound on others, (B,); pairs within reach."""
        products = self.left[rows] @ self.right
        chosen, last = _largest(products, self.count)
        farthest = self.own[rows] - 2 * last.astype(np.float64)
        beyond = (farthest - self.error[rows]) * self.unit * self.unit
        # |q|^2 - 2 s <= c + error is s - (|q|^2 - error) / 2 >= -c / 2.
        products -= ((self.own[rows] - self.error[rows]) / 2).astype(np.float32)[:, None]
        pairs = np.divmod(np.flatnonzero(products >= self.within), products.shape[1])
        return chosen, beyond, pairs


def _largest(values: NDArray[np.float32], count: int) -> tuple[Rows, NDArray[np.float32]]:
    """Columns of the largest values of each row, (B, count), and the smallest of these, (B,).

    The largest of each group of columns is a value of its own, so that the count-th of them is a
    bound that few values exceed, and only those are sorted.
    """
    rows, columns = values.shape
    groups = columns // _GROUP
    if groups < count:
        place = np.argpartition(values, columns - count, axis=1)[:, columns - count :]
        return place, np.take_along_axis(values, place, axis=1).min(axis=1)
    best = values[:, : groups * _GROUP].reshape(rows, _GROUP, groups).max(axis=1)
    bound = np.partition(best, groups - count, axis=1)[:, groups - count]
    row, column = np.divmod(np.flatnonzero(values >= bound[:, None]), columns)
    order = np.lexsort((-values[row, column], row))
    starts = np.searchsorted(row, np.arange(rows))  # rows stay in their order
    place = order[starts[:, None] + np.arange(count)]
    return column[place], values[row[place[:, -1]], column[place[:, -1]]]
