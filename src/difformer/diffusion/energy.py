r"""The energy that diffusion lowers, its two parts, and the step that is certain to lower it.

.. math:: E(Z, k) = \|Z - Z_k\|^2 + \lambda R(Z), \qquad R(Z) = \sum_{ij} \delta(\|z_i - z_j\|^2)

over ordered pairs, j = i included. Wu et al. (ICLR 2023), theorem 1, says that a step size exists
that lowers E. The explicit bound here is derived in ``docs/theory/step_bound.md``: with rates
:math:`f = \delta'` of the very states that move, :math:`d_i = \sum_j f_{ij}` and
:math:`d_{min} = \min_i d_i`, R never rises for any step size in (0, 1], and

.. math:: \tau \le \frac{4 \lambda d_{min}}{1 + 4 \lambda d_{min}}
    \quad\Rightarrow\quad E(Z_{k+1}, k) \le E(Z_k, k - 1)

provided that no map or normalisation stands between the distance and the move, that all squared
distances lie where delta is concave and non-decreasing, and that f(0) is finite.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from difformer.diffusion.graph import SparseWeights
from difformer.diffusion.pairwise import paired_distance, squared_distance
from difformer.diffusion.penalty import QUADRATIC, Diffusivity, Penalty
from difformer.diffusion.propagate import accumulate, unit
from difformer.diffusion.segments import TILE, Tile, segment, tiles
from difformer.errors import ConfigError


@dataclass(frozen=True)
class Energy:
    """The two parts of E, and the weight lambda between them."""

    move: float  # |Z - Z_k|^2
    regulariser: float  # R(Z)
    weight: float  # lambda

    @property
    def total(self) -> float:
        """E = move + lambda R."""
        return self.move + self.weight * self.regulariser


def energy(
    z: Tensor,  # (N, M)
    anchor: Tensor,  # (N, M), the states Z_k
    penalty: Penalty,
    weight: float,
    sphere: bool = False,
    batch: Tensor | None = None,
) -> Energy:
    """Measure E(Z, k). Cost as :func:`regulariser`.

    Example:
        >>> from difformer.diffusion import SIMPLE
        >>> z = torch.tensor([[0.0], [1.0]])
        >>> energy(z, z, SIMPLE, weight=0.5).total  # 0.5 * 2 * (2 - 1/4)
        1.75
    """
    move = float((z - anchor).double().square().sum())
    return Energy(move, float(regulariser(z, penalty, sphere, batch)), weight)


def regulariser(
    z: Tensor,  # (N, M)
    penalty: Penalty,
    sphere: bool = False,
    batch: Tensor | None = None,
) -> Tensor:
    """R(Z), a float64 scalar.

    Cost O(N M^2) where the rate is affine and there is one graph; else O(N^2 M) time and O(N)
    memory.
    """
    z = z.double()
    if sphere:
        z = unit(z)
    elif len(z):  # distances stay; far from the origin they lose digits
        z = z - z.mean(0)
    if penalty.affine is not None and batch is None:
        return _regulariser_by_moments(z, penalty.affine, sphere)
    segments = segment(len(z), len(z), batch)
    ordered = segments.sort_queries(z)
    graph = segments.query_graph(z.device)
    total = z.new_zeros(())
    for tile in tiles(segments, TILE):
        total = total + _tile_penalty(ordered, tile, penalty, sphere, graph)
    return total


def _tile_penalty(z: Tensor, tile: Tile, penalty: Penalty, sphere: bool, graph: Tensor) -> Tensor:
    delta = penalty.delta(squared_distance(z[tile.queries], z[tile.keys], sphere))
    if tile.mixed:
        apart = graph[tile.queries, None] != graph[None, tile.keys]
        delta = delta.masked_fill(apart, 0)
    return delta.sum()


def _regulariser_by_moments(z: Tensor, affine: tuple[float, float], sphere: bool) -> Tensor:
    """Sum of a x + b x^2 / 2 over all ordered pairs, from sums over instances alone."""
    a, b = affine
    n = len(z)
    total, gram = z.sum(0), z.T @ z
    if sphere:  # x = 2 - 2c, and the sums of c and c^2 over pairs are |sum z|^2 and |Z'Z|^2
        first, second = total.square().sum(), gram.square().sum()
        return a * (2 * n * n - 2 * first) + b / 2 * (4 * n * n - 8 * first + 4 * second)
    norm = z.square().sum(1)
    sum_x = 2 * n * norm.sum() - 2 * total.square().sum()
    # x^2 = (u_i + u_j - 2c)^2 with u the squared norms
    sum_x2 = (
        2 * n * norm.square().sum()
        + 2 * norm.sum().square()
        + 4 * gram.square().sum()
        - 8 * (norm @ z) @ total
    )
    return a * sum_x + b / 2 * sum_x2


def regulariser_on(weights: SparseWeights, z: Tensor) -> Tensor:
    """Sum of w_ij |z_i - z_j|^2 over the pairs of a sparse support: a quadratic energy. O(E M)."""
    z = z.double()
    pattern = weights.pattern
    total = z.new_zeros(())
    chunks = zip(
        *(t.split(1 << 18) for t in (pattern.row, pattern.col, weights.values)), strict=True
    )
    for row, col, value in chunks:
        total = total + (paired_distance(z[row], z[col], sphere=False) * value.double()).sum()
    return total


def degrees(
    z: Tensor,  # (N, M)
    diffusivity: Diffusivity,
    batch: Tensor | None = None,
    weights: SparseWeights | None = None,
) -> Tensor:
    """d_i = sum_j f_ij, j = i included, shape (N,). Cost as one propagation of width 0."""
    if diffusivity.support == "self":
        return z.new_ones(len(z))
    if weights is not None and diffusivity.penalty is QUADRATIC:
        return weights.degree
    q = (unit(z) if diffusivity.sphere else z).unsqueeze(1)
    segments = segment(len(z), len(z), batch)
    flow = accumulate(diffusivity.unshifted, q, q, q[..., :0], segments, weights)
    return flow.denominator.squeeze(1)


def step_bound(weight: float, d_min: float) -> float:
    """Largest step size that is certain to lower the energy of weight lambda.

    Example:
        >>> step_bound(weight=0.25, d_min=1.0)
        0.5
    """
    if weight < 0 or d_min < 0:
        raise ConfigError(f"weight and d_min must not be negative, found {weight} and {d_min}.")
    product = 4 * weight * d_min
    return 1.0 if math.isinf(product) else product / (1 + product)


def lambda_star(step_size: float, d_min: float) -> float:
    """Smallest lambda that certifies a given step size; infinite at step size 1.

    Example:
        >>> lambda_star(step_size=0.5, d_min=1.0)
        0.25
    """
    if not 0 <= step_size <= 1:
        raise ConfigError(f"step_size must lie in [0, 1], found {step_size}.")
    if step_size == 1 or d_min == 0:
        return math.inf if step_size > 0 else 0.0
    return step_size / (4 * (1 - step_size) * d_min)


def contrast(
    received: Tensor,  # (N, C): what instance i receives from the instances of class c
    own: Tensor,  # (N,): what it receives from itself
    y: Tensor,  # (N,) classes 0 ... C - 1, negative: unknown
) -> float:
    """Mean weight between different instances of one class over that between two classes.

    1 means that a diffusivity cannot tell like from unlike. NaN without both kinds of pairs, or
    without any weight between different instances; infinite if all of it is between like ones.
    The N x N weights are not needed: ``received`` is the diffusion of the classes' indicators.
    O(N C).

    Example:
        >>> s = torch.tensor([[1.0, 2.0, 1.0], [2.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        >>> y = torch.tensor([0, 0, 1])
        >>> contrast(s @ torch.eye(2)[y], s.diagonal(), y)
        2.0
    """
    known = y >= 0
    received, own, y = received[known].double(), own[known].double(), y[known]
    sizes = torch.bincount(y, minlength=received.shape[1]).double()
    from_like = received.gather(1, y.unsqueeze(1)).squeeze(1)
    like = (from_like - own).sum()
    unlike = (received.sum(1) - from_like).sum()
    like_pairs, unlike_pairs = (sizes * (sizes - 1)).sum(), (sizes * (len(y) - sizes)).sum()
    if not (like_pairs and unlike_pairs):
        return math.nan
    return float((like / like_pairs) / (unlike / unlike_pairs))
