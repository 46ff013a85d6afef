"""Many small graphs as a few blocks of equal size, so that one product serves a whole block.

Graphs whose sizes lie between two powers of two share a block; shorter ones end in zero rows. At
most half of a block is such padding.

Letters: N rows, G graphs, P rows with padding, B graphs of a block, n rows of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST = 1_024  # rows of a graph; larger ones are worth a product of their own
FEWEST = 4  # graphs


@dataclass(frozen=True, eq=False)
class Padding:
    """Where rows go.

    Attributes:
        rows: The row that stands at each place, (P,); 0 where none does.
        filled: Whether one does, (P, 1) bool.
        place: Where each row stands, (N,).
        blocks: B and n of each block.
        graphs: Graphs in the order of the blocks, reversed: where each graph stands, (G,).
    """

    rows: Tensor
    filled: Tensor
    place: Tensor
    blocks: tuple[tuple[int, int], ...]
    graphs: Tensor

    def spread(self, x: Tensor) -> list[Tensor]:
        """Rows (N, ...) as blocks (B, n, ...)."""
        padded: Tensor = _Spread.apply(x, self)  # type: ignore[no-untyped-call]
        parts = padded.split([b * n for b, n in self.blocks])  # slices would cost zeros backwards
        return [x.unflatten(0, shape) for x, shape in zip(parts, self.blocks, strict=True)]

    def collect(self, blocks: Sequence[Tensor]) -> Tensor:
        """The reverse, (N, ...)."""
        out: Tensor = _Collect.apply(torch.cat([x.flatten(0, 1) for x in blocks]), self)  # type: ignore[no-untyped-call]
        return out

    def by_graph(self, parts: Sequence[Tensor]) -> Tensor:
        """What each block says of its graphs (B, ...), in the order of the graphs, (G, ...)."""
        return torch.cat(list(parts)).index_select(0, self.graphs)

    def by_block(self, x: Tensor) -> Iterator[Tensor]:
        """The reverse."""
        back = torch.empty_like(self.graphs)
        back[self.graphs] = torch.arange(len(back), device=back.device)
        yield from x.index_select(0, back).split([b for b, _ in self.blocks])


class _Spread(torch.autograd.Function):
    """The gradient goes back by a gather, for every row has one place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, padding: Padding) -> Tensor:
        ctx.padding = padding
        return _spread(x, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.padding.place), None


class _Collect(torch.autograd.Function):
    """The transpose of :class:`_Spread`."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, padding: Padding) -> Tensor:
        ctx.padding = padding
        return padded.index_select(0, padding.place)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _spread(gradient, ctx.padding), None


def _spread(x: Tensor, padding: Padding) -> Tensor:
    padded = x.index_select(0, padding.rows)
    return padded.mul_(padding.filled.view(-1, *(1,) * (x.dim() - 1)))


def suits(sizes: Sequence[int]) -> bool:
    """Whether graphs of such sizes are better off in blocks."""
    return len(sizes) >= FEWEST and 0 < max(sizes) <= LARGEST


@lru_cache(maxsize=16)
def padding_of(sizes: tuple[int, ...], device: torch.device) -> Padding:
    """The blocks for graphs of such sizes, whose rows come one after the other; remembered."""
    counts = torch.tensor(sizes)
    starts = counts.cumsum(0) - counts
    widths = torch.tensor([1 << (max(size, 1) - 1).bit_length() for size in sizes])
    order = torch.argsort(widths, stable=True)
    blocks, rows, filled = [], [], []
    for width in widths.unique().tolist():
        own = order[widths[order] == width].unsqueeze(1)
        within = torch.arange(width)
        known = within < counts[own]
        rows.append(torch.where(known, starts[own] + within, 0).flatten())
        filled.append(known.flatten())
        blocks.append((len(own), width))
    row, known = torch.cat(rows), torch.cat(filled)
    place = torch.empty(sum(sizes), dtype=torch.long)
    place[row[known]] = known.nonzero().squeeze(1)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(sizes))
    row, known, place, back = (part.to(device) for part in (row, known, place, back))
    return Padding(row, known.unsqueeze(1), place, tuple(blocks), back)
