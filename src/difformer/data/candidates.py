"""Which rows may be among the nearest: a library's estimate, to be measured exactly afterwards.

scikit-learn searches dense and CSR rows in float64. faiss, where it is installed (``pip install
difformer[knn]``), searches dense rows in float32, about twice as fast. Either tells which rows are
near and, by a bound on its rounding error, how near any other row can be at most. So the exact
search on top (``difformer.data.neighbors``) gives the same answer whichever was used.

Letters: N rows asked for, M rows searched, F features, c candidates.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.data.instances import Features

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Rows = NDArray[np.int64]


class Candidates(NamedTuple):
    """Rows that may be nearest, and how near the others can be."""

    rows: Rows  # (N, c), in any order
    beyond: Floats  # (N,): no other row is at a smaller squared distance


Propose = Callable[[Features, Features, int], Candidates]  # rows asked for, rows searched, c < M


def propose(queries: Features, keys: Features, count: int) -> Candidates:
    """Candidates by the fastest library at hand."""
    if sparse.issparse(keys) or not _has_faiss():
        return by_sklearn(queries, keys, count)
    return by_faiss(queries, keys, count)


@cache
def _has_faiss() -> bool:
    return find_spec("faiss") is not None


def by_sklearn(queries: Features, keys: Features, count: int) -> Candidates:
    """Candidates by scikit-learn, in float64; both dense or both CSR."""
    from sklearn.neighbors import NearestNeighbors  # heavy: imported where it is used

    if keys.shape[1] == 0:  # scikit-learn wants a column
        queries, keys = np.zeros((queries.shape[0], 1)), np.zeros((keys.shape[0], 1))
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(keys)
    distance, index = search.kneighbors(queries)
    scale = squared_norms(queries) + squared_norms(keys).max(initial=0)
    error = rounding(keys.shape[1], scale, np.float64)
    return Candidates(index.astype(np.int64), np.square(distance).max(axis=1) - error)


def by_faiss(queries: Floats, keys: Floats, count: int) -> Candidates:
    """Candidates by faiss, in float32."""
    import faiss

    def nearest(q: Singles, k: Singles, count: int) -> tuple[Any, Any]:
        index = faiss.IndexFlatL2(k.shape[1])
        index.add(k)
        squared, found = index.search(q, count)
        return found, squared

    return in_float32(queries, keys, count, nearest)


def in_float32(
    queries: Floats,
    keys: Floats,
    count: int,
    nearest: Callable[[Singles, Singles, int], tuple[Any, Any]],
) -> Candidates:
    """Candidates by a search in float32: ``nearest(q, k, count)`` gives index and distance."""
    if keys.shape[1] == 0:
        queries, keys = np.zeros((len(queries), 1)), np.zeros((len(keys), 1))
    queries, keys, unit = common_scale(queries, keys)
    index, squared = nearest(queries.astype(np.float32), keys.astype(np.float32), count)
    scale = squared_norms(queries) + squared_norms(keys).max(initial=0)
    farthest = np.asarray(squared, dtype=np.float64).max(axis=1)
    beyond = farthest - rounding(keys.shape[1], scale, np.float32)
    return Candidates(np.asarray(index, dtype=np.int64), beyond * unit * unit)


def common_scale(queries: Floats, keys: Floats) -> tuple[Floats, Floats, float]:
    """Rows moved to a common origin and divided by the largest number, and that number.

    Then neither a far origin nor huge or tiny values spoil what digits float32 has.
    """
    centre = keys.mean(axis=0)
    queries, keys = queries - centre, keys - centre
    unit = float(max(np.abs(queries).max(initial=0), np.abs(keys).max(initial=0))) or 1.0
    return queries / unit, keys / unit, unit


def squared_norms(x: Features) -> Floats:
    """Squared length of each row, (N,)."""
    squares = x.multiply(x) if sparse.issparse(x) else x * x
    return np.asarray(squares.sum(axis=1), dtype=np.float64).ravel()


def rounding(features: int, scale: Floats, dtype: type[np.floating[Any]]) -> Floats:
    """Bound on the error of |a|^2 + |b|^2 - 2 a.b, where that sum of squares is at most scale."""
    kind = np.finfo(dtype)
    return np.asarray(8 * (features + 8) * (float(kind.eps) * scale + float(kind.tiny)))
