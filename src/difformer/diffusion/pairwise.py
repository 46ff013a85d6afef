r"""The exact path for any penalty: O(N L) time, O(N + L) memory, a tile of pairs at a time.

Forward and backward both walk over tiles and recompute the rates; nothing of size N x L is ever
stored. With :math:`w_{ij} = f(x_{ij})`, numerator :math:`a_i = \sum_j w_{ij} v_j` and denominator
:math:`b_i = \sum_j w_{ij}`, gradients :math:`\alpha, \beta` of a and b give

.. math::
    p_{ij} = f'(x_{ij}) (\alpha_i \cdot v_j + \beta_i), \quad
    \bar q_i = \sum_j p_{ij} \, \partial x_{ij} / \partial q_i, \quad
    \bar k_j = \sum_i p_{ij} \, \partial x_{ij} / \partial k_j, \quad
    \bar v_j = \sum_i w_{ij} \alpha_i .

Letters: N queries, L keys, H heads, M width of queries and keys, D width of values.
Inside, heads come first: (H, N, M).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.penalty import Penalty
from difformer.diffusion.segments import TILE, Segments, Tile, tiles


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


class _Pairs:
    """Distances, rates and slopes of one tile; pairs of different graphs get rate zero."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        tile: Tile,
        penalty: Penalty,
        sphere: bool,
        graphs: tuple[Tensor, Tensor] | None,
    ) -> None:
        x = squared_distance(q[:, tile.queries], k[:, tile.keys], sphere)
        self.penalty = penalty
        self.apart: Tensor | None = None
        if tile.mixed:
            assert graphs is not None
            self.apart = graphs[0][tile.queries, None] != graphs[1][None, tile.keys]
        if penalty.shiftable:
            x = x - self._nearest(x)
        self.x = x

    def _nearest(self, x: Tensor) -> Tensor:
        """Distance to the nearest key that a row may see; 0 where it sees none."""
        if x.shape[-1] == 0:
            return x.new_zeros(*x.shape[:-1], 1)
        if self.apart is not None:
            x = x.masked_fill(self.apart, torch.inf)
        nearest = x.amin(-1, keepdim=True)
        return nearest.masked_fill(nearest.isinf(), 0)

    def _masked(self, values: Tensor) -> Tensor:
        return values if self.apart is None else values.masked_fill(self.apart, 0)

    def rates(self) -> Tensor:
        return self._masked(self.penalty.rate(self.x))

    def slopes(self) -> Tensor:
        return self._masked(self.penalty.slope(self.x))


class _Accumulate(torch.autograd.Function):
    """Numerator and denominator; the backward recomputes each tile."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        penalty: Penalty,
        sphere: bool,
        segments: Segments,
        pairs: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(q, k, v)
        ctx.settings = (penalty, sphere, segments, pairs)
        numerator = v.new_empty(q.shape[0], q.shape[1], v.shape[2])
        denominator = v.new_empty(q.shape[0], q.shape[1])
        graphs = _graphs(segments, q.device)
        for tile in tiles(segments, pairs):
            rates = _Pairs(q, k, tile, penalty, sphere, graphs).rates()
            numerator[:, tile.queries] = rates @ v[:, tile.keys]
            denominator[:, tile.queries] = rates.sum(-1)
        return numerator, denominator

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_numerator: Tensor, grad_denominator: Tensor) -> tuple[Any, ...]:
        q, k, v = ctx.saved_tensors
        penalty, sphere, segments, pairs = ctx.settings
        grad_q, grad_k, grad_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        graphs = _graphs(segments, q.device)
        moving = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        for tile in tiles(segments, pairs):
            rows, keys = tile.queries, tile.keys
            pair = _Pairs(q, k, tile, penalty, sphere, graphs)
            alpha, beta = grad_numerator[:, rows], grad_denominator[:, rows]
            grad_v[:, keys] += pair.rates().transpose(1, 2) @ alpha
            if not moving:
                continue
            p = pair.slopes() * (alpha @ v[:, keys].transpose(1, 2) + beta.unsqueeze(-1))
            grad_q[:, rows] -= 2 * (p @ k[:, keys])
            grad_k[:, keys] -= 2 * (p.transpose(1, 2) @ q[:, rows])
            if not sphere:  # x = |q|^2 + |k|^2 - 2 q.k
                grad_q[:, rows] += 2 * p.sum(2).unsqueeze(-1) * q[:, rows]
                grad_k[:, keys] += 2 * p.sum(1).unsqueeze(-1) * k[:, keys]
        return grad_q, grad_k, grad_v, None, None, None, None


def _graphs(segments: Segments, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if segments.single:
        return None
    return segments.query_graph(device), segments.key_graph(device)


def accumulate(
    q: Tensor,  # (N, H, M), unit vectors if sphere
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    penalty: Penalty,
    sphere: bool,
    segments: Segments,
    pairs: int = TILE,
) -> tuple[Tensor, Tensor]:
    """Numerator (N, H, D) and denominator (N, H) of the diffusion.

    Both are relative to each row's nearest key where the penalty is shiftable; their quotient does
    not depend on it. Cost O(N L (M + D)) time, O(N + L + pairs) memory.
    """
    heads_first = (x.transpose(0, 1).contiguous() for x in (q, k, v))
    numerator, denominator = _Accumulate.apply(  # type: ignore[no-untyped-call]
        *heads_first, penalty, sphere, segments, pairs
    )
    return numerator.transpose(0, 1), denominator.transpose(0, 1)
