"""One call for every diffusivity: pick the exact path and divide.

Letters: N queries, L keys, H heads, M width of queries and keys, D width of values.
"""

import dataclasses
from typing import NamedTuple

import torch
from torch import Tensor

from difformer.diffusion import flex, graph, linear, pairwise
from difformer.diffusion.graph import SparseWeights
from difformer.diffusion.penalty import QUADRATIC, Diffusivity, Penalty
from difformer.diffusion.segments import Segments, segment
from difformer.errors import ConfigError

HALF = (torch.bfloat16, torch.float16)


class Flow(NamedTuple):
    """What flows into each instance before it is divided: sum of w v, and sum of w."""

    numerator: Tensor  # (N, H, D)
    denominator: Tensor  # (N, H)


def unit(z: Tensor) -> Tensor:
    """Rows of length 1; a zero row stays zero, with a finite gradient.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    # Scaling by the largest entry first keeps squares of huge and tiny states finite.
    largest = z.detach().abs().amax(-1, keepdim=True)
    z = z / torch.where(largest > 0, largest, 1)
    square = z.square().sum(-1, keepdim=True)
    return z * torch.where(square > 0, square, 1).rsqrt()


def accumulate(
    diffusivity: Diffusivity,
    q: Tensor,  # (N, H, M)
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    segments: Segments,
    weights: SparseWeights | None = None,
) -> Flow:
    """Numerator and denominator of the diffusion, by the path that the diffusivity allows.

    Args:
        diffusivity: Penalty and support.
        q: Queries, already of unit length if ``diffusivity.sphere``.
        k: Keys, likewise.
        v: Values. What has fewer digits than float32 is summed, and returned, in float32.
        segments: Which rows belong to which graph.
        weights: The pairs of a sparse support, (N, L); needed unless all pairs count.
    """
    penalty, sphere, given = diffusivity.penalty, diffusivity.sphere, v.dtype
    q, k, v = (_wide(x) for x in (q, k, v))
    if diffusivity.support == "all":
        q, k, v = ordered = segments.sort_queries(q), segments.sort_keys(k), segments.sort_keys(v)
        if not sphere:
            ordered = (*_centred(q, k, segments), v)
        if penalty.affine is not None:
            flow = Flow(*linear.accumulate(*ordered, penalty.affine, sphere, segments))
            flow = _repair(flow, diffusivity, ordered, segments)
        else:
            flow = Flow(*_form_pairs(*ordered, given, penalty, sphere, segments))
        return Flow(*(segments.unsort_queries(part) for part in flow))
    if weights is None:
        raise ConfigError(
            f"diffusivity {diffusivity.name!r} acts on few pairs and needs to be told which; "
            "for an observed graph pass edge_index."
        )
    if penalty is QUADRATIC:
        denominator = weights.degree.unsqueeze(1).expand(-1, v.shape[1])
        return Flow(weights.matmul(v), denominator)
    return Flow(*graph.attend(q, k, v, weights, penalty, sphere))


def _form_pairs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    given: torch.dtype,
    penalty: Penalty,
    sphere: bool,
    segments: Segments,
) -> tuple[Tensor, Tensor]:
    """Visit every pair: tile by tile, or by a GPU's attention kernel where values came in half."""
    if flex.fits(penalty, sphere, given, q, k, v):
        found = flex.accumulate(q.to(given), k.to(given), v.to(given), penalty, segments)
        if found is not None:
            return found
    return pairwise.accumulate(q, k, v, penalty, sphere, segments)


def _wide(x: Tensor) -> Tensor:
    """At least float32: sums over many instances need its digits and its range."""
    return x.float() if x.dtype in HALF else x


def _centred(q: Tensor, k: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """Move the origin of each graph to the mean of its keys.

    Distances stay as they are, but states far from the origin would lose digits to cancellation.
    """
    keys, queries = segments.key_graph(k.device), segments.query_graph(k.device)
    total = k.new_zeros(len(segments.keys), *k.shape[1:]).index_add(0, keys, k.detach())
    centre = total / segments.key_counts(k.device).clamp_min(1)[:, None, None]
    return q - centre[queries], k - centre[keys]


def _repair(
    flow: Flow, diffusivity: Diffusivity, ordered: tuple[Tensor, Tensor, Tensor], segments: Segments
) -> Flow:
    """Sum again in float64 for the rows in which the linear path loses digits of float32.

    It adds large numbers that cancel where a query lies opposite to nearly all of its keys: an
    outlier, or every query where all keys are nearly equal. Linear time, however many they are.
    """
    q, k, v = ordered
    affine, sphere = diffusivity.penalty.affine, diffusivity.sphere
    if q.dtype == torch.float64 or affine is None:
        return flow
    graph = segments.query_graph(q.device)
    counts = segments.key_counts(q.device)[graph].unsqueeze(1)
    weak = (flow.denominator.detach() < counts / linear.WEAK).any(1).nonzero().squeeze(1)
    if len(weak) == 0:
        return flow
    some = dataclasses.replace(
        segments, queries=tuple(torch.bincount(graph[weak], minlength=len(segments.keys)).tolist())
    )
    q, k, v = q[weak].double(), k.double(), v.double()
    if sphere:  # lengths that are 1 to float32 leave 1 + cos wrong, even negative, where it is tiny
        q, k = unit(q), unit(k)
    exact = linear.accumulate(q, k, v, affine, sphere, some)
    return Flow(*(a.index_copy(0, weak, b.to(a.dtype)) for a, b in zip(flow, exact, strict=True)))


def divide(flow: Flow, diffusivity: Diffusivity, v: Tensor, segments: Segments) -> Tensor:
    """Numerator over denominator, (N, H, D), in the dtype of ``v``.

    Two corners are defined here. A query whose keys all have rate zero (for ``simple``: all of
    them exactly opposite) hears each of them equally. A query without any key hears nothing: 0.
    """
    numerator, denominator = flow
    empty = denominator <= _noise(diffusivity, segments, denominator)
    if not bool(empty.any()):
        return (numerator / denominator.unsqueeze(-1)).to(v.dtype)
    quotient = numerator / torch.where(empty, 1, denominator).unsqueeze(-1)
    if diffusivity.support != "all":
        return quotient.masked_fill(empty.unsqueeze(-1), 0).to(v.dtype)
    mean = _mean_of_keys(_wide(v), segments)
    return torch.where(empty.unsqueeze(-1), mean, quotient).to(v.dtype)


def _noise(diffusivity: Diffusivity, segments: Segments, like: Tensor) -> Tensor:
    """Below this a sum of rates is rounding error, (N, 1): 1 + cos can miss 0 by an epsilon."""
    if diffusivity.penalty.affine is None or diffusivity.support != "all":
        return like.new_zeros(())
    counts = segments.key_counts(like.device)[segments.query_graph(like.device)]
    return segments.unsort_queries(8 * torch.finfo(like.dtype).eps * counts).unsqueeze(1)


def _mean_of_keys(v: Tensor, segments: Segments) -> Tensor:
    """Mean value over the keys of each query's graph, (N, H, D); 0 without keys."""
    keys = segments.key_graph(v.device)
    total = v.new_zeros(len(segments.keys), *v.shape[1:])
    total = total.index_add(0, keys, segments.sort_keys(v))
    mean = total / segments.key_counts(v.device).clamp_min(1)[:, None, None]
    return segments.unsort_queries(mean[segments.query_graph(v.device)])


def propagate(
    diffusivity: Diffusivity,
    q: Tensor,  # (N, H, M)
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    batch: Tensor | None = None,  # (N,)
    batch_keys: Tensor | None = None,  # (L,), None: as batch
    weights: SparseWeights | None = None,
) -> Tensor:
    r"""The diffusion :math:`\sum_j S_{ij} v_j` that a diffusivity gives, exactly. (N, H, D)

    Equals ``reference.propagate`` to rounding. Cost: O((N + L) M D) for an affine rate
    (``simple``), O(N L (M + D)) time and linear memory for other penalties on all pairs,
    O(E (M + D)) on a sparse support.

    Example:
        >>> from difformer.diffusion import DIFFUSIVITIES
        >>> z = torch.eye(3).unsqueeze(1)
        >>> propagate(DIFFUSIVITIES["simple"], z, z, z).squeeze(1)
        tensor([[0.5000, 0.2500, 0.2500],
                [0.2500, 0.5000, 0.2500],
                [0.2500, 0.2500, 0.5000]])
    """
    if diffusivity.support == "self":
        return v
    segments = segment(len(q), len(k), batch, batch_keys)
    q, k = _wide(q), _wide(k)
    if diffusivity.sphere:
        q, k = unit(q), unit(k)
    flow = accumulate(diffusivity, q, k, v, segments, weights)
    return divide(flow, diffusivity, v, segments)
