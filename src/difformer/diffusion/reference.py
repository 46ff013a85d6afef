"""The definition of every path in plain O(N^2) float64: the oracle, never optimised.

Each function forms whole matrices and follows its formula word for word. The fast paths are tested
against these, outputs and gradients. Do not make this file clever.

Letters: N queries, L keys, H heads, M width of queries and keys, D width of values.
"""

import torch
from torch import Tensor

from difformer.diffusion.neighbourhood import Neighbourhood
from difformer.diffusion.penalty import Penalty


def unit(z: Tensor) -> Tensor:
    """Rows of length 1; zero rows stay zero."""
    length = z.pow(2).sum(-1, keepdim=True)
    return torch.where(length > 0, z / torch.where(length > 0, length, 1).sqrt(), z)


def squared_distance(q: Tensor, k: Tensor, sphere: bool) -> Tensor:
    """x_ij, (H, N, L): 2 - 2 cos on the sphere, |q_i - k_j|^2 elsewhere."""
    q, k = q.transpose(0, 1), k.transpose(0, 1)
    if sphere:
        return 2 - 2 * torch.einsum("hnm,hlm->hnl", unit(q), unit(k))
    return (q.unsqueeze(2) - k.unsqueeze(1)).pow(2).sum(-1)


def rates(
    q: Tensor,
    k: Tensor,
    penalty: Penalty,
    sphere: bool,
    batch: Tensor | None = None,
    batch_keys: Tensor | None = None,
) -> Tensor:
    """f(x_ij), (H, N, L); zero for pairs of different graphs."""
    f = penalty.rate(squared_distance(q, k, sphere))
    if batch is None:
        return f
    keys = batch if batch_keys is None else batch_keys
    return f * (batch.unsqueeze(1) == keys.unsqueeze(0)).to(f.dtype)


def divide(f: Tensor, allowed: Tensor | None = None) -> Tensor:
    """S = f / row sum; a row of zeros becomes uniform over its allowed pairs, else zero."""
    total = f.sum(-1, keepdim=True)
    allowed = torch.ones_like(f) if allowed is None else allowed.to(f.dtype).expand_as(f)
    uniform = allowed / allowed.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(total > 1e-13 * f.shape[-1], f / torch.where(total > 0, total, 1), uniform)


def matrix(
    q: Tensor,
    k: Tensor,
    penalty: Penalty,
    sphere: bool,
    batch: Tensor | None = None,
    batch_keys: Tensor | None = None,
) -> Tensor:
    """S for all pairs, (H, N, L)."""
    keys = batch if batch_keys is None else batch_keys
    allowed = None if batch is None else batch.unsqueeze(1) == keys.unsqueeze(0)  # type: ignore[union-attr]
    return divide(rates(q, k, penalty, sphere, batch, batch_keys), allowed)


def propagate(s: Tensor, v: Tensor) -> Tensor:
    """sum_j S_ij v_j for S (H, N, L) or (N, L) and v (L, H, D)."""
    if s.dim() == 2:
        return torch.einsum("nl,lhd->nhd", s, v)
    return torch.einsum("hnl,lhd->nhd", s, v)


def graph_weights(edge_index: Tensor, edge_weight: Tensor | None, count: int) -> Tensor:
    """a_ij, (N, N): what i receives from j; self-loops of weight 1 where there is none."""
    weight = torch.ones(edge_index.shape[1]).double() if edge_weight is None else edge_weight
    a = torch.zeros(count, count, dtype=weight.dtype)
    loop = torch.zeros(count, dtype=torch.bool)
    for e in range(edge_index.shape[1]):
        source, target = int(edge_index[0, e]), int(edge_index[1, e])
        cell = torch.zeros_like(a)
        cell[target, source] = 1
        a = a + weight[e] * cell
        loop[source] |= source == target
    return a + torch.diag((~loop).to(a.dtype))


def normalise(a: Tensor, norm: str) -> Tensor:
    """Row or symmetric normalisation by the row sums of a square matrix."""
    degree = a.sum(1)
    safe = torch.where(degree > 0, degree, 1)
    if norm == "row":
        return a / safe.unsqueeze(1)
    return a / (safe.unsqueeze(1) * safe.unsqueeze(0)).sqrt()


def neighbours(x: Tensor, k: int, batch: Tensor | None = None) -> Tensor:
    """Whether j is among the k nearest of i by squared distances x (N, N); ties to lower rows."""
    count = len(x)
    near = torch.zeros(count, count, dtype=torch.bool)
    for i in range(count):
        others = [j for j in range(count) if j != i and (batch is None or batch[j] == batch[i])]
        others.sort(key=lambda j: (float(x[i, j]), j))
        near[i, others[:k]] = True
    return near


def local_weights(x: Tensor, rule: Neighbourhood, batch: Tensor | None = None) -> Tensor:
    """Weights of the ``local`` diffusivity from squared distances, (N, N)."""
    near = neighbours(x, rule.k, batch)
    if rule.weights == "binary":
        w = (near | near.T).to(x.dtype)
    else:
        wide = neighbours(x, rule.bandwidth, batch)
        s = (x * wide).amax(1).sqrt()
        w = near * torch.exp(-4 * x / (s.unsqueeze(1) * s.unsqueeze(0)).clamp_min(1e-300))
        w = (w + w.T) / 2
    return w + torch.eye(len(x), dtype=x.dtype) if rule.self_loops else w


def regulariser(z: Tensor, penalty: Penalty, sphere: bool, batch: Tensor | None = None) -> Tensor:
    """R(Z) = sum_ij delta(x_ij) over ordered pairs of the same graph, states (N, M)."""
    delta = penalty.delta(squared_distance(z.unsqueeze(1), z.unsqueeze(1), sphere)[0])
    if batch is not None:
        delta = delta * (batch.unsqueeze(1) == batch.unsqueeze(0))
    return delta.sum()


def step(z: Tensor, s: Tensor, step_size: float) -> Tensor:
    """z_i <- (1 - tau) z_i + tau sum_j S_ij z_j, states (N, M)."""
    return (1 - step_size) * z + step_size * (s @ z)
