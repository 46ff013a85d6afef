"""Divide instances into parts for mini-batches, and a graph with them.

Edges between parts are left out for as long as the division lasts; the next one draws others.
Instances get other numbers here and nowhere else: row i of a piece is instance ``rows[i]`` of the
whole, whatever order the rows have.

Letters: N instances, E edges, n rows and e edges of a piece.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from difformer.errors import MissingExtraError

CLUSTERS = 10  # in one part on average, drawn anew each time (Chiang et al., KDD 2019)


class Piece(NamedTuple):
    """A part and the edges within it, in its own numbers."""

    rows: NDArray[np.int64]  # (n,), instances of the whole
    edge_index: NDArray[np.int64] | None  # (2, e)
    edge_weight: NDArray[Any] | None  # (e,)


def divide(
    count: int, size: int, seed: tuple[int, ...], clusters: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The part of each of N instances, (N,): of about equal sizes, ``size`` at most.

    Args:
        count: N.
        size: Instances a part at most; about so many where clusters stay together.
        seed: What the division is drawn from.
        clusters: A number for each instance, (N,): those of one cluster get into one part.

    Example:
        >>> sorted(np.bincount(divide(7, 3, (0,))).tolist())
        [2, 2, 3]
    """
    parts = max(1, -(-count // size))
    draw = np.random.default_rng(seed)
    if clusters is None:
        part = np.arange(count) % parts
        draw.shuffle(part)
        return part
    groups = np.arange(int(clusters.max(initial=0)) + 1) % parts
    draw.shuffle(groups)
    found: NDArray[np.int64] = groups[clusters]
    return found


def find_clusters(edge_index: NDArray[np.int64], count: int, size: int) -> NDArray[np.int64]:
    """Clusters of N instances with few edges between them, (N,), for parts of ``size``.

    By METIS (Karypis and Kumar, 1998), on the graph without directions and weights. O(N + E).

    Raises:
        MissingExtraError: The package pymetis is not installed (extra ``clusters``).
    """
    try:
        import pymetis
    except ImportError as error:
        raise MissingExtraError("clusters") from error
    from scipy import sparse

    wanted = min(count, CLUSTERS * max(1, -(-count // size)))
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    ones = np.ones(len(source), dtype=bool)
    graph = sparse.csr_matrix((ones, (source, target)), shape=(count, count))
    graph = graph + graph.T
    if wanted < 2 or not graph.nnz:
        return np.arange(count)
    lists = pymetis.CSRAdjacency(graph.indptr.tolist(), graph.indices.tolist())
    found: NDArray[np.int64] = np.asarray(pymetis.part_graph(wanted, lists)[1], dtype=np.int64)
    return found


def pieces(
    part: NDArray[np.int64],
    edge_index: NDArray[np.int64] | None = None,
    edge_weight: NDArray[Any] | None = None,
) -> Iterator[Piece]:
    """The parts one after the other, without empty ones. Cost O(N log N + E log E) for all.

    Args:
        part: Of each instance, (N,).
        edge_index: (2, E) or None.
        edge_weight: (E,) or None.

    Example:
        >>> first, second = pieces(np.array([1, 0, 1]), np.array([[0, 1], [2, 2]]))
        >>> first.rows.tolist(), second.rows.tolist(), second.edge_index.tolist()
        ([1], [0, 2], [[0], [1]])
    """
    sizes = np.bincount(part)
    order = np.argsort(part, kind="stable")
    place = np.empty_like(order)  # of each instance within its part
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    groups = np.split(order, np.cumsum(sizes)[:-1])
    if edge_index is None:
        yield from (Piece(rows, None, None) for rows in groups if len(rows))
        return
    owner = part[edge_index[0]]
    within = np.flatnonzero(owner == part[edge_index[1]])
    within = within[np.argsort(owner[within], kind="stable")]
    counts = np.bincount(owner[within], minlength=len(sizes))
    for rows, edges in zip(groups, np.split(within, np.cumsum(counts)[:-1]), strict=True):
        if len(rows):
            weight = None if edge_weight is None else edge_weight[edges]
            yield Piece(rows, place[edge_index[:, edges]], weight)
