"""Which rows were fitted: told by fingerprints, so that the rows themselves need not be kept.

A row is its features and the edges that it receives. Each gets a fingerprint of 128 bits, sums of
keyed hashes modulo 2^64: equal rows have equal ones, and that two different rows among a billion
are alike is less likely than 1e-19. Zeros add nothing, so dense and sparse tables agree.

Shapes: N fitted rows, O new rows, F features, E edges.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

Words = NDArray[np.uint64]
KEYS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03))  # odd, of no meaning
BLOCK = 1 << 16  # numbers hashed at a time: they stay in the cache
GLANCE = 4  # columns that are enough to tell most new rows from all fitted ones
SAMPLE = 1000  # rows that tell which columns these are


class KnownRows:
    """Finds rows among the fitted ones. Equal fitted rows form a group.

    Args:
        prints: Fingerprints of the fitted rows, (N, 2).
        columns: Few columns that differ from row to row, (at most GLANCE,).
        glances: Fingerprints of the fitted rows in these columns alone, (N,).
    """

    def __init__(self, prints: Words, columns: NDArray[np.int64], glances: Words) -> None:
        self.prints, self.columns, self.glances = prints, columns, glances
        self._order = np.lexsort(prints.T)  # by the second word, then by the first
        ordered = prints[self._order]
        first = np.ones(len(ordered), dtype=bool)
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        self._starts = np.flatnonzero(first)
        self._counts = np.diff(np.append(self._starts, len(ordered)))
        self._groups, self._seen = ordered[self._starts], np.unique(glances)

    @classmethod
    def of(cls, x: Any, edge_index: Tensor | None, edge_weight: Tensor | None) -> "KnownRows":
        """Of a float32 table (N, F), dense or CSR, and the edges among its rows."""
        columns = _telling(x)
        glances = _of_features(x[:, columns])[:, 0]
        return cls(fingerprints(x, edge_index, edge_weight), columns, glances)

    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """Everything, for a file."""
        return {
            "known.prints": self.prints.view(np.int64),
            "known.columns": self.columns,
            "known.glances": self.glances.view(np.int64),
        }

    @classmethod
    def from_arrays(cls, saved: Mapping[str, NDArray[Any]]) -> "KnownRows":
        """The reverse of :meth:`arrays`."""
        prints, columns, glances = (saved[f"known.{n}"] for n in ("prints", "columns", "glances"))
        return cls(prints.view(np.uint64), columns, glances.view(np.uint64))

    def find(
        self, x: Any, edge_index: Tensor | None, edge_weight: Tensor | None
    ) -> NDArray[np.int64]:
        """Group of each row of a table (O, F) that was fitted, -1 of others, (O,)."""
        found = np.full(x.shape[0], -1, dtype=np.int64)
        near = np.flatnonzero(_among(self._seen, _of_features(x[:, self.columns])[:, 0]) >= 0)
        if len(near):
            prints = _of_features(x[near])
            if edge_index is not None:
                _add_edges(prints, near, edge_index.numpy(), edge_weight)
            place = _among(self._groups[:, 1], prints[:, 1])
            same = (place >= 0) & (self._groups[place, 0] == prints[:, 0])
            found[near] = np.where(same, place, -1)
        return found

    def mean(self, values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of values (N, ...) of the fitted rows, the mean over each of these groups."""
        starts, counts = self._starts[group], self._counts[group]
        found = values[self._order[starts]]
        for at in np.flatnonzero(counts > 1):
            rows = self._order[starts[at] : starts[at] + counts[at]]
            found[at] = values[rows].mean(axis=0)
        return found


def fingerprints(x: Any, edge_index: Tensor | None, edge_weight: Tensor | None) -> Words:
    """Of rows with features x (N, F), float32, dense or CSR, and the edges that enter them."""
    found = _of_features(x)
    if edge_index is not None:
        _add_edges(found, np.arange(x.shape[0]), edge_index.numpy(), edge_weight)
    return found


def _telling(x: Any) -> NDArray[np.int64]:
    """The columns with the most different values."""
    some = x[:SAMPLE].toarray() if sparse.issparse(x) else x[:SAMPLE]
    different = [len(np.unique(column)) for column in some.T]
    return np.sort(np.argsort(different, kind="stable")[-GLANCE:])


def _among(known: Words, words: Words) -> NDArray[np.int64]:
    """Where each word stands among sorted ones; -1 if it does not."""
    if len(known) == 0:
        return np.full(len(words), -1, dtype=np.int64)
    place = np.minimum(np.searchsorted(known, words), len(known) - 1)
    return np.where(known[place] == words, place, -1)


def _of_features(x: Any) -> Words:
    rows, columns = x.shape
    found = np.zeros((rows, 2), dtype=np.uint64)
    key = _mixed(np.arange(1, columns + 1, dtype=np.uint64) * KEYS[0]) | np.uint64(1)
    if sparse.issparse(x):
        owner = np.repeat(np.arange(rows), np.diff(x.indptr))
        for word, hashed in enumerate(_hashed(x.data, key[x.indices])):
            np.add.at(found[:, word], owner, hashed)
        return found
    step = max(1, BLOCK // max(columns, 1))
    for start in range(0, rows, step):
        for word, hashed in enumerate(_hashed(x[start : start + step], key)):
            found[start : start + step, word] = hashed.sum(axis=1, dtype=np.uint64)
    return found


def _hashed(values: NDArray[Any], key: Words) -> tuple[Words, Words]:
    """Two words for each number in its column; 0 for 0."""
    first = _bits(values) * key
    return first, (first ^ (first >> np.uint64(29))) * KEYS[1]


def _bits(values: NDArray[Any]) -> Words:
    """The bits of float32 numbers; those of -0 are those of 0."""
    plain = np.ascontiguousarray(values, dtype=np.float32) + np.float32(0)
    return plain.view(np.uint32).astype(np.uint64)


def _add_edges(
    found: Words,
    rows: NDArray[np.int64],
    edge_index: NDArray[np.int64],
    edge_weight: Tensor | None,
) -> None:
    """Add a word for each edge to the row that it enters; ``found`` is of these rows, sorted."""
    if not edge_index.size or not len(rows):
        return
    place = np.minimum(np.searchsorted(rows, edge_index[1]), len(rows) - 1)
    mine = rows[place] == edge_index[1]
    source, target = edge_index[0][mine].astype(np.uint64), place[mine]
    bits = np.full(len(target), _bits(np.ones(1))[0])
    if edge_weight is not None:
        bits = _bits(edge_weight.numpy()[mine])
    for word, key in enumerate(KEYS):
        hashed = _mixed(_mixed((source + np.uint64(1)) * key) ^ bits) | np.uint64(1)
        np.add.at(found[:, word], target, hashed)


def _mixed(words: Words) -> Words:
    """Every bit depends on every other: the finaliser of splitmix64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Words = words ^ (words >> np.uint64(31))
    return mixed
