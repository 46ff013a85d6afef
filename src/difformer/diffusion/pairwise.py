r"""The exact path for any penalty: O(N L) time, O(N + L) memory, a tile of pairs at a time.

Forward and backward both walk over tiles and recompute the rates; nothing of size N x L is ever
stored. Queries and keys are lifted first, so that one matrix product gives
:math:`y_{ij} = \tilde q_i \cdot \tilde k_j = a + b x_{ij}`, from which the rate
:math:`w_{ij} = f(x_{ij})` follows in place. With numerator :math:`A_i = \sum_j w_{ij} v_j` and
denominator :math:`B_i = \sum_j w_{ij}`, gradients :math:`\alpha, \beta` of A and B give

.. math::
    p_{ij} = \frac{dw_{ij}}{dy_{ij}} (\alpha_i \cdot v_j + \beta_i), \quad
    \bar{\tilde q}_i = \sum_j p_{ij} \tilde k_j, \quad
    \bar{\tilde k}_j = \sum_i p_{ij} \tilde q_i, \quad
    \bar v_j = \sum_i w_{ij} \alpha_i .

Autograd takes care of the lift. Two buffers of the size of a tile are all that pairs ever occupy:
they stay in the cache, and fresh memory, whose first touch is slow, is not asked for.

Letters: N queries, L keys, H heads, M width of queries and keys, D width of values.
Inside, heads come first: (H, N, M), as views.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.linear import lift_keys, lift_queries
from difformer.diffusion.penalty import InPlace, Penalty, in_place_of
from difformer.diffusion.segments import Segments, Tile, tiles
from difformer.diffusion.sums import sum_outer

# Pairs held at a time, twice: 4 MB in float32. Smaller tiles are no faster, for most of the time
# goes into products. A GPU wants operations that fill it.
PAIRS = {"cpu": 1 << 19, "cuda": 1 << 26}
SPREAD = 60  # rates that differ by less than 2^60 within a row need no shift to stay in range


def pairs_at_a_time(device: torch.device) -> int:
    """How many pairs a tile holds on a device, of all heads together."""
    return PAIRS.get(device.type, PAIRS["cpu"])


def squared_distance(q: Tensor, k: Tensor, sphere: bool) -> Tensor:
    """Squared distances (..., N, L) of rows (..., N, M) and (..., L, M).

    On the sphere 2 - 2 q.k, so that a zero vector counts as orthogonal to everything.
    """
    inner = q @ k.transpose(-1, -2)
    if sphere:
        return torch.rsub(inner, 2, alpha=2)  # 2 - 2 cos in one pass
    norms = q.square().sum(-1).unsqueeze(-1) + k.square().sum(-1).unsqueeze(-2)
    return (norms - 2 * inner).clamp_min(0)


def paired_distance(q: Tensor, k: Tensor, sphere: bool) -> Tensor:
    """As :func:`squared_distance`, row by row: (...) of rows (..., M) and as many rows (..., M)."""
    return 2 - 2 * (q * k).sum(-1) if sphere else (q - k).square().sum(-1)


class _Tiles:
    """All tiles, one after the other; pairs of different graphs get rate zero."""

    def __init__(self, like: Tensor, heads: int, segments: Segments, pairs: int | None) -> None:
        self.like, self.heads = like, heads
        pairs = pairs_at_a_time(like.device) if pairs is None else pairs
        self.tiles = list(tiles(segments, max(1, pairs // max(1, heads))))
        self.largest = max(map(_pairs, self.tiles), default=0)
        self.graphs: tuple[Tensor, Tensor] | None = None
        if not segments.single:
            self.graphs = segments.query_graph(like.device), segments.key_graph(like.device)

    def visits(self) -> Iterator[tuple[slice, slice, Tensor | None]]:
        """Queries, keys, and which pairs (L, N) of them are kept apart."""
        for tile in self.tiles:
            apart: Tensor | None = None
            if tile.mixed:
                assert self.graphs is not None
                query_graph, key_graph = self.graphs[0][tile.queries], self.graphs[1][tile.keys]
                apart = key_graph.unsqueeze(1) != query_graph
            yield tile.queries, tile.keys, apart

    def buffer(self) -> Tensor:
        """Room for the largest tile."""
        return self.like.new_empty(self.heads * self.largest)


def _pairs(tile: Tile) -> int:
    pairs: int = (tile.queries.stop - tile.queries.start) * (tile.keys.stop - tile.keys.start)
    return pairs


def _product(rows: Tensor, columns: Tensor, buffer: Tensor) -> Tensor:
    """All inner products of (H, R, M) and (H, C, M), written to the buffer: (H, R, C)."""
    shape = (len(rows), rows.shape[1], columns.shape[1])
    out = buffer[: shape[0] * shape[1] * shape[2]].view(shape)
    return torch.bmm(rows, columns.transpose(1, 2), out=out)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product of every head in place; of several heads at once only apart from the total."""
    if len(total) == 1:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)


def _add_outer(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add the sum of outer products of rows, (H, R, A) and (H, R, B), to (H, A, B) in place."""
    for head, (rows, others) in enumerate(zip(left, right, strict=True)):
        total[head] += sum_outer(rows, others)


class _Accumulate(torch.autograd.Function):
    """Numerator and denominator; the backward recomputes each tile."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,  # (H, N, M), lifted
        k: Tensor,  # (H, L, M), lifted
        v: Tensor,  # (H, L, D)
        function: InPlace,
        walk: _Tiles,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(q, k, v)
        ctx.settings = (function, walk)
        # Rows first in memory, as the caller wants them.
        numerator = v.new_zeros(q.shape[1], v.shape[0], v.shape[2]).transpose(0, 1)
        denominator = v.new_zeros(q.shape[:2], dtype=torch.float64)

        buffer = walk.buffer()
        for rows, keys, apart in walk.visits():
            w = function.rate(_product(q[:, rows], k[:, keys], buffer))
            if apart is not None:
                w.masked_fill_(apart.t(), 0)
            _add_product(numerator[:, rows], w, v[:, keys])
            denominator[:, rows] += w.sum(-1)
        return numerator, denominator.to(v.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_numerator: Tensor, grad_denominator: Tensor) -> tuple[Any, ...]:
        q, k, v = ctx.saved_tensors
        function, walk = ctx.settings
        width = v.shape[2]
        alpha = torch.cat([grad_numerator, grad_denominator.unsqueeze(-1)], -1)
        lifted_v = torch.cat([v, torch.ones_like(v[..., :1])], -1)
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        moving = any(ctx.needs_input_grad[:2])
        first, second = walk.buffer(), walk.buffer()
        # Tiles are keys x queries here: two of the three sums below then read them along rows.
        for rows, keys, apart in walk.visits():
            y = _product(k[:, keys], q[:, rows], first)
            w = function.rate(y)
            if apart is not None:
                w.masked_fill_(apart, 0)
            _add_product(grad_v[:, keys], w, alpha[:, rows, :width])
            if not moving:
                continue
            p = function.chain(_product(lifted_v[:, keys], alpha[:, rows], second), y, w)
            if apart is not None:
                p.masked_fill_(apart, 0)
            _add_product(grad_k[:, keys], p, q[:, rows])
            _add_outer(grad_q[:, rows], p, k[:, keys])
        return grad_q, grad_k, grad_v, None, None


def accumulate(
    q: Tensor,  # (N, H, M), unit vectors if sphere
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    penalty: Penalty,
    sphere: bool,
    segments: Segments,
    pairs: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Numerator (N, H, D) and denominator (N, H) of the diffusion.

    Where the penalty is shiftable, both may lack a factor that is common to a row; their quotient
    does not depend on it. Cost O(N L (M + D)) time, O(N + L + pairs) memory.

    Example:
        >>> from difformer.diffusion import SIGMOID
        >>> from difformer.diffusion.segments import segment
        >>> z = torch.zeros(4, 1, 2)
        >>> accumulate(z, z, z, SIGMOID, True, segment(4, 4))[1][:, 0] / 4
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    function = in_place_of(penalty)
    walk = _Tiles(v, v.shape[1], segments, pairs)
    queries, keys = _lifted(q, k, penalty, function, sphere, walk)
    # Sums of nearly equal numbers round into the same direction again and again. Denominators are
    # summed in float64; values are measured from their mean, whatever it is: no term depends on it.
    centre = v.detach().mean(0) if len(v) else v.new_zeros(v.shape[1:])
    deviation, denominator = _Accumulate.apply(  # type: ignore[no-untyped-call]
        *(x.transpose(0, 1) for x in (queries, keys, v - centre)), function, walk
    )
    deviation, denominator = deviation.transpose(0, 1), denominator.transpose(0, 1)
    return torch.addcmul(deviation, denominator.unsqueeze(-1), centre), denominator


def _lifted(
    q: Tensor, k: Tensor, penalty: Penalty, function: InPlace, sphere: bool, walk: _Tiles
) -> tuple[Tensor, Tensor]:
    """Queries and keys whose inner product is y, up to a constant of the row if shiftable."""
    a, b = function.affine
    offset, queries = lift_queries(q, function.affine, sphere)
    keys = lift_keys(k, sphere)
    constant = a + 2 * b  # of all pairs on the sphere
    if penalty.shiftable:
        constant = 0
        if penalty.in_place is None or _spread(q, k, b, sphere) > SPREAD:
            offset, sphere = -_nearest(queries.detach(), keys.detach(), b, walk), False
    if sphere and constant == 0:
        return queries, keys
    return (
        torch.cat([queries, offset.unsqueeze(-1)], -1),
        torch.cat([keys, torch.ones_like(keys[..., :1])], -1),
    )


def _spread(q: Tensor, k: Tensor, b: float, sphere: bool) -> float:
    """By how much y can differ among the pairs of a row, at most."""
    if sphere:
        return 4 * abs(b)
    longest = [float(x.detach().norm(dim=-1).amax()) if x.numel() else 0.0 for x in (q, k)]
    return abs(b) * sum(longest) ** 2


def _nearest(q: Tensor, k: Tensor, b: float, walk: _Tiles) -> Tensor:
    """y of the nearest key that a row may see, (N, H); 0 where it sees none. One more product."""
    sign = 1.0 if b < 0 else -1.0  # the nearest key has the largest sign * y
    q, k = sign * q.transpose(0, 1), k.transpose(0, 1)
    nearest = q.new_full(q.shape[:2], -torch.inf)

    buffer = walk.buffer()
    for rows, keys, apart in walk.visits():
        if keys.start < keys.stop:
            y = _product(q[:, rows], k[:, keys], buffer)
            if apart is not None:
                y.masked_fill_(apart.t(), -torch.inf)
            nearest[:, rows] = torch.maximum(nearest[:, rows], y.amax(-1))
    return sign * nearest.masked_fill_(nearest.isinf(), 0).transpose(0, 1)
