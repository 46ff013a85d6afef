r"""The ``local`` diffusivity: rates that neighbours give.

Let :math:`c_i` be the squared distance from i to its k-th neighbour. The truncated penalty
:math:`\delta(x_{ij}) = \min(x_{ij}, \max(c_i, c_j))` has rate 1 where i is among the k neighbours
of j or j among those of i, else 0: far pairs stop pulling. This union rule keeps f symmetric, so
that the energy exists while the c are held fixed. Ties go to the lower row number.

``self-tuned`` weights refine the 1: :math:`w_{ij} = e^{-4 x_{ij} / (s_i s_j)}` averaged over both
directions, s the distance to a near neighbour (Zelnik-Manor and Perona, NeurIPS 2004). Found in
input space this is a quadratic energy on a k-NN graph.

The search itself lives in ``difformer.data.neighbors``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from difformer.diffusion.graph import SparseWeights, sparse_weights
from difformer.diffusion.neighbourhood import Neighbourhood


def local_weights(
    index: Tensor,  # (N, K) int64, nearest first, -1 where there are fewer
    squared: Tensor,  # (N, K), inf where there are fewer; K >= k and, if self-tuned, >= bandwidth
    rule: Neighbourhood,
    dtype: torch.dtype = torch.float32,
) -> SparseWeights:
    """Symmetric weights from neighbour lists. Cost O(N k log(N k)).

    Example:
        >>> index, squared = torch.tensor([[1], [0], [1]]), torch.tensor([[1.0], [1.0], [4.0]])
        >>> local_weights(index, squared, Neighbourhood(k=1)).dense()
        tensor([[1., 1., 0.],
                [1., 1., 1.],
                [0., 1., 1.]])
    """
    count = len(index)
    near, x = index[:, : rule.k], squared[:, : rule.k]
    found = near >= 0
    row = torch.arange(count, device=index.device).unsqueeze(1).expand_as(near)[found]
    col, x = near[found], x[found].double()
    if rule.weights == "binary":
        values = torch.ones_like(x)
    else:
        width = bandwidths(squared, rule)
        values = 0.5 * self_tuned(x, width[row], width[col])
    both = torch.cat([row, col]), torch.cat([col, row]), torch.cat([values, values])
    weights = sparse_weights(*both, count, count)
    values = weights.values
    if rule.weights == "binary":  # the union rule: a pair that chose each other counts once
        values = values.clamp_max(1)
    weights = SparseWeights(weights.pattern, values.to(dtype))
    return with_self(weights) if rule.self_loops else weights


def with_self(weights: SparseWeights) -> SparseWeights:
    """Add rate f(0) = 1 for every instance and itself."""
    pattern = weights.pattern
    loop = torch.arange(pattern.rows, device=pattern.col.device)
    return sparse_weights(
        torch.cat([pattern.row, loop]),
        torch.cat([pattern.col, loop]),
        torch.cat([weights.values, weights.values.new_ones(len(loop))]),
        pattern.rows,
        pattern.columns,
    )


def reach(squared: Tensor, rule: Neighbourhood) -> Tensor:
    """c: squared distance to the k-th neighbour, or to the last there is; 0 where none, (N,)."""
    return _last_finite(squared[:, : rule.k])


def bandwidths(squared: Tensor, rule: Neighbourhood) -> Tensor:
    """s: distance to the ``bandwidth``-th neighbour, or to the last there is, shape (N,)."""
    return _last_finite(squared[:, : rule.bandwidth]).double().sqrt()


def _last_finite(squared: Tensor) -> Tensor:
    return squared.masked_fill(squared.isinf(), 0).amax(1) if squared.shape[1] else squared.sum(1)


def self_tuned(x: Tensor, s_i: Tensor, s_j: Tensor) -> Tensor:
    """exp(-4 x / (s_i s_j)), elementwise; 1 for coinciding instances of any bandwidth."""
    product = (s_i * s_j).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.exp(-4 * x / product)


class Lists(NamedTuple):
    """Neighbour lists, nearest first; where there are fewer neighbours, row -1 and distance inf.

    K is at least ``rule.k`` and, for self-tuned weights, ``rule.bandwidth``.
    """

    rows: Tensor  # (N, K) int64
    squared: Tensor  # (N, K)


def cross_weights(
    near: Lists,  # (N, K): of new instances in the context
    reached: tuple[Tensor, Tensor, Tensor],  # (P,): new instance, known one, squared distance
    context: Tensor,  # (L, K): squared distances within the context, nearest first
    rule: Neighbourhood,
) -> SparseWeights:
    """Weights from a fixed context to new instances, by the same rule, without self-loops; (N, L).

    A new instance i and a known j are joined if j is among the k nearest of i or i lies within
    reach of j: ``reached`` are the pairs of the second kind. Neither the reach nor the bandwidth of
    j changes. Cost O(N k + P).
    """
    count, index, squared = len(near.rows), near.rows[:, : rule.k], near.squared[:, : rule.k]
    found = index >= 0
    row = torch.arange(count, device=index.device).unsqueeze(1).expand_as(index)[found]
    row, col = torch.cat([row, reached[0]]), torch.cat([index[found], reached[1]])
    x = torch.cat([squared[found], reached[2]]).double()
    if rule.weights == "binary":
        values = torch.ones_like(x)
    else:
        s_new, s_known = bandwidths(near.squared, rule), bandwidths(context, rule)
        values = 0.5 * self_tuned(x, s_new[row], s_known[col])
    weights = sparse_weights(row, col, values, count, len(context))
    if rule.weights == "binary":  # a pair that is joined twice counts once
        return SparseWeights(weights.pattern, weights.values.clamp_max(1))
    return weights
