"""Which rows belong to which graph: a batch of graphs without padding.

Letters: N queries, L keys, G graphs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import torch
from torch import Tensor

from difformer.errors import DataError

TILE = 1 << 17  # pairs held at a time: 0.5 MB in float32, so that a tile stays in a core's cache
ALIGNED = 16  # numbers of a cache line in float32: where blocks of many rows like to end
SHARED = 1 << 14  # pairs up to which small graphs share a tile


@dataclass(frozen=True)
class Segments:
    """Sizes of each graph among queries and keys, and the order that sorts rows by graph.

    ``order_*`` is None where rows are already grouped by graph in rising order.
    """

    queries: tuple[int, ...]
    keys: tuple[int, ...]
    order_queries: Tensor | None = None
    order_keys: Tensor | None = None

    @property
    def single(self) -> bool:
        """Whether all rows form one graph."""
        return len(self.queries) == 1

    def sort_queries(self, x: Tensor) -> Tensor:
        """Rows of queries in graph order."""
        return x if self.order_queries is None else x[self.order_queries]

    def sort_keys(self, x: Tensor) -> Tensor:
        """Rows of keys in graph order."""
        return x if self.order_keys is None else x[self.order_keys]

    def unsort_queries(self, x: Tensor) -> Tensor:
        """Undo :meth:`sort_queries`."""
        if self.order_queries is None:
            return x
        inverse = torch.empty_like(self.order_queries)
        inverse[self.order_queries] = torch.arange(len(inverse), device=inverse.device)
        return x[inverse]

    def query_graph(self, device: torch.device) -> Tensor:
        """The graph of each (sorted) query, shape (N,)."""
        return _repeat(self.queries, device)

    def key_graph(self, device: torch.device) -> Tensor:
        """The graph of each (sorted) key, shape (L,)."""
        return _repeat(self.keys, device)

    def key_counts(self, device: torch.device) -> Tensor:
        """The number of keys of each graph, (G,)."""
        return torch.tensor(self.keys, device=device)


def _repeat(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    counts = torch.tensor(sizes, dtype=torch.long, device=device)
    return torch.repeat_interleave(torch.arange(len(sizes), device=device), counts)


def segment(
    num_queries: int,
    num_keys: int,
    batch_queries: Tensor | None = None,
    batch_keys: Tensor | None = None,
) -> Segments:
    """Describe the graphs among ``num_queries`` rows and ``num_keys`` rows.

    Args:
        num_queries: N.
        num_keys: L.
        batch_queries: Graph of each query, int64, shape (N,), from 0. None: one graph.
        batch_keys: Graph of each key, shape (L,). None: as the queries, which needs N = L.

    Raises:
        DataError: If a vector has the wrong length or holds a negative number.
    """
    if batch_queries is None and batch_keys is None:
        return Segments((num_queries,), (num_keys,))
    if batch_queries is None:
        raise DataError("batch of the queries is missing although the keys have one.")
    batch_keys = batch_queries if batch_keys is None else batch_keys
    for name, batch, rows in (("N", batch_queries, num_queries), ("L", batch_keys, num_keys)):
        if batch.dim() != 1 or len(batch) != rows:
            raise DataError(
                f"batch must hold one graph number for each of the {name} = {rows} rows, "
                f"found shape {tuple(batch.shape)}."
            )
        if batch.is_floating_point() or batch.dtype == torch.bool:
            raise DataError(f"batch must hold whole numbers, found {batch.dtype}.")
        if len(batch) and int(batch.min()) < 0:
            raise DataError(f"batch must hold numbers from 0, found {int(batch.min())}.")
    graphs = 1 + max((int(b.max()) for b in (batch_queries, batch_keys) if len(b)), default=0)
    queries, order_queries = _grouped(batch_queries, graphs)
    keys, order_keys = (
        (queries, order_queries) if batch_keys is batch_queries else _grouped(batch_keys, graphs)
    )
    return Segments(queries, keys, order_queries, order_keys)


def _grouped(batch: Tensor, graphs: int) -> tuple[tuple[int, ...], Tensor | None]:
    sizes = tuple(torch.bincount(batch, minlength=graphs).tolist())
    if len(batch) < 2 or bool((batch[1:] >= batch[:-1]).all()):
        return sizes, None
    return sizes, torch.argsort(batch, stable=True)


@dataclass(frozen=True)
class Tile:
    """A block of queries and a block of keys; ``mixed`` if it spans several graphs."""

    queries: slice
    keys: slice
    mixed: bool


def tiles(segments: Segments, pairs: int = TILE) -> Iterator[Tile]:
    """Cover all pairs of the same graph with blocks of at most about ``pairs`` pairs.

    A large graph is cut along queries and keys; runs of small graphs share a block, in which pairs
    of different graphs are masked. All blocks of one query come one after the other.
    """
    graphs = list(zip(segments.queries, segments.keys, strict=True))
    row = key = g = 0
    while g < len(graphs):
        rows, keys = graphs[g]
        end = g + 1
        while end < len(graphs):
            more_rows, more_keys = rows + graphs[end][0], keys + graphs[end][1]
            if more_rows * more_keys > min(pairs, SHARED):
                break
            rows, keys, end = more_rows, more_keys, end + 1
        whole = Tile(slice(row, row + rows), slice(key, key + keys), end > g + 1)
        yield from _cut(whole, pairs)
        row, key, g = row + rows, key + keys, end


def _cut(whole: Tile, pairs: int) -> Iterator[Tile]:
    """Square blocks where there is room: a product with a block reads each of its sides once."""
    queries, keys = whole.queries, whole.keys
    width = max(1, min(keys.stop - keys.start, isqrt(pairs)))
    height = max(1, min(queries.stop - queries.start, pairs // width))
    for rows in _blocks(queries, height):
        for columns in _blocks(keys, max(1, pairs // height)):
            yield Tile(rows, columns, whole.mixed)


def _blocks(whole: slice, most: int) -> Iterator[slice]:
    """Few equal blocks of about ``most`` rows; one if it is empty."""
    rows = whole.stop - whole.start
    count = max(1, -(-rows // most))
    ends = [rows * i // count for i in range(count)]
    if rows >= 8 * ALIGNED * count:
        ends = [end // ALIGNED * ALIGNED for end in ends]
    return (slice(whole.start + a, whole.start + b) for a, b in pairwise([*ends, rows]))
