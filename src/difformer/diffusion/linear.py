r"""The O(N) path: penalties whose rate is affine in squared distance.

With :math:`f(x) = a + b x` the rate of a pair is an offset of the query plus an inner product,

.. math:: f(\|q_i - k_j\|^2) = c_i + q'_i \cdot k'_j

so S is a row scaling of a matrix of rank at most M + 2 and is never formed. All that the keys
contribute is a :class:`Summary`, whose parts are sums over keys: a commutative monoid.

Letters: N queries, L keys, H heads, M width of queries and keys, D width of values, G graphs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difformer.diffusion.padded import padding_of, suits
from difformer.diffusion.segments import Segments

WEAK = 32  # sums of rates below 1/32 a key have lost digits of float32 to cancellation
BLOCK = 8192  # rows summed in the states' own precision before the sum goes on in float64


@dataclass(frozen=True, eq=False)
class Summary:
    """What the linear path needs to know of the keys, per graph and head, in float64.

    Size: 8 (1 + D + M + M D) bytes a graph and head, whatever L is.

    Example:
        >>> k, v = torch.randn(6, 1, 2), torch.randn(6, 1, 3)
        >>> whole = summarise(k, v, (6,))
        >>> parts = summarise(k[:4], v[:4], (4,)) + summarise(k[4:], v[4:], (2,))
        >>> torch.allclose(whole.outer, parts.outer)
        True
    """

    count: Tensor  # (G,)
    value: Tensor  # (G, H, D)     sum_j v_j
    key: Tensor  # (G, H, M)     sum_j k_j
    outer: Tensor  # (G, H, M, D)  sum_j k_j (x) v_j

    def __add__(self, other: "Summary") -> "Summary":
        """Merge with the summary of other keys of the same graphs."""
        return Summary(
            self.count + other.count,
            self.value + other.value,
            self.key + other.key,
            self.outer + other.outer,
        )

    def __sub__(self, other: "Summary") -> "Summary":
        """Take keys away again."""
        return Summary(
            self.count - other.count,
            self.value - other.value,
            self.key - other.key,
            self.outer - other.outer,
        )


def summarise(
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    sizes: Sequence[int],  # keys of each graph; they add up to L
) -> Summary:
    """Sum keys, values and their outer products over each graph. Cost O(L H M D).

    Blocks of rows are summed in the precision of the states and added up in float64, so that
    digits do not get lost as L grows.
    """
    if suits(sizes):
        return _summarise_blocks(k, v, tuple(sizes))
    graphs = len(sizes)
    lengths, owner = _blocks(sizes)
    heads, m, d = k.shape[1], k.shape[2], v.shape[2]
    count = torch.tensor(list(sizes), dtype=torch.float64, device=k.device)
    if not lengths:
        value, key = (count.new_zeros(graphs, heads, width) for width in (d, m))
        return Summary(count, value, key, count.new_zeros(graphs, heads, m, d))
    ks, vs = k.split(lengths), v.split(lengths)
    outer = torch.stack([torch.einsum("lhm,lhd->hmd", a, b) for a, b in zip(ks, vs, strict=True)])
    value = torch.stack([b.sum(0) for b in vs])
    key = torch.stack([a.sum(0) for a in ks])
    index = torch.tensor(owner, device=k.device)
    value, key, outer = (_sum_by(index, part.double(), graphs) for part in (value, key, outer))
    return Summary(count, value, key, outer)


def _summarise_blocks(k: Tensor, v: Tensor, sizes: tuple[int, ...]) -> Summary:
    """The same for many small graphs, a product a block of them."""
    padding = padding_of(sizes, k.device)
    pairs = list(zip(padding.spread(k), padding.spread(v), strict=True))
    outer = padding.by_graph([torch.einsum("bnhm,bnhd->bhmd", a, b) for a, b in pairs])
    key, value = (padding.by_graph([pair[at].sum(1) for pair in pairs]) for at in (0, 1))
    count = torch.tensor(sizes, dtype=torch.float64, device=k.device)
    return Summary(count, value.double(), key.double(), outer.double())


def _blocks(sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Lengths of row blocks and the graph of each; a block never spans two graphs."""
    lengths, owner = [], []
    for graph, size in enumerate(sizes):
        for start in range(0, size, BLOCK):
            lengths.append(min(BLOCK, size - start))
            owner.append(graph)
    return lengths, owner


def _sum_by(index: Tensor, parts: Tensor, groups: int) -> Tensor:
    if groups == 1:
        return parts.sum(0, keepdim=True)
    return parts.new_zeros(groups, *parts.shape[1:]).index_add(0, index, parts)


def read(
    summary: Summary,
    offset: Tensor,  # (N, H)
    q: Tensor,  # (N, H, M)
    sizes: Sequence[int],  # queries of each graph; they add up to N
) -> tuple[Tensor, Tensor]:
    r"""Evaluate :math:`\sum_j (c_i + q_i \cdot k_j) v_j` and the same without v. O(N H M D).

    Returns:
        Numerator (N, H, D) and denominator (N, H).
    """
    count, value, key, outer = (
        part.to(q.dtype) for part in (summary.count, summary.value, summary.key, summary.outer)
    )
    if suits(sizes):
        return _read_blocks((count, value, key, outer), offset, q, tuple(sizes))
    if len(sizes) == 1:
        products = torch.einsum("nhm,hmd->nhd", q, outer[0])
        value, key, counts = value[0], key[0], count[0]
    else:
        rows = zip(q.split(list(sizes)), outer, strict=True)
        products = torch.cat([torch.einsum("nhm,hmd->nhd", a, b) for a, b in rows])
        graph = torch.repeat_interleave(
            torch.arange(len(sizes), device=q.device), torch.tensor(sizes, device=q.device)
        )
        value, key, counts = value[graph], key[graph], count[graph].unsqueeze(1)
    numerator = offset.unsqueeze(-1) * value + products
    denominator = offset * counts + (q * key).sum(-1)
    return numerator, denominator


def _read_blocks(
    summary: tuple[Tensor, Tensor, Tensor, Tensor],
    offset: Tensor,
    q: Tensor,
    sizes: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """The same for many small graphs, a product a block of them."""
    padding = padding_of(sizes, q.device)
    numerators, denominators = [], []
    blocks = zip(
        padding.spread(q),
        padding.spread(offset),
        *(padding.by_block(part) for part in summary),
        strict=True,
    )
    for queries, shift, count, value, key, outer in blocks:
        products = torch.einsum("bnhm,bhmd->bnhd", queries, outer)
        numerators.append(shift.unsqueeze(-1) * value.unsqueeze(1) + products)
        found = (queries * key.unsqueeze(1)).sum(-1)
        denominators.append(shift * count.view(-1, 1, 1) + found)
    return padding.collect(numerators), padding.collect(denominators)


def lift_keys(k: Tensor, sphere: bool) -> Tensor:
    """Keys k' of the inner product: raw states need their squared norm beside them."""
    return k if sphere else torch.cat([k, k.square().sum(-1, keepdim=True)], dim=-1)


def lift_queries(
    q: Tensor, affine: tuple[float, float], sphere: bool
) -> tuple[Tensor, Tensor]:  # (N, H), (N, H, M')
    r"""Offsets c and queries q' with :math:`c_i + q'_i \cdot k'_j = a + b x_{ij}`."""
    a, b = affine
    if sphere:  # x = 2 - 2 q.k
        return q.new_full(q.shape[:2], a + 2 * b), -2 * b * q
    norm = q.square().sum(-1)
    return a + b * norm, torch.cat([-2 * b * q, torch.full_like(q[..., :1], b)], dim=-1)


def accumulate(
    q: Tensor,  # (N, H, M), unit vectors if sphere
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    affine: tuple[float, float],
    sphere: bool,
    segments: Segments,
) -> tuple[Tensor, Tensor]:
    """Numerator (N, H, D) and denominator (N, H) of the diffusion, in O((N + L) M D)."""
    summary = summarise(lift_keys(k, sphere), v, segments.keys)
    offset, lifted = lift_queries(q, affine, sphere)
    return read(summary, offset, lifted, segments.queries)
