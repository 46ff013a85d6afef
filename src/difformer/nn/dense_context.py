r"""A frozen context by whole matrices of N x L, in operations that other runtimes know as well.

What ``difformer.nn.context`` answers by tiles and sparse products, for programs that are exported:
the states of the context, its neighbour lists and degrees are constants of the network. In float64,
for neighbours are a matter of the last digits. Observed graphs are left out: rows come without
edges.

Letters: N new instances, L fitted ones, F features, H heads, C channels.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from difformer.diffusion import Diffusivity, local_weights
from difformer.diffusion.local import bandwidths, self_tuned
from difformer.diffusion.penalty import QUADRATIC
from difformer.diffusion.reference import divide, unit
from difformer.nn.context import FrozenContext, Side
from difformer.nn.conv import DIFFormerConv
from difformer.nn.frozen import FrozenNetwork

SLACK = 1e-12  # relative: a distance that equals the reach may come out this much larger


class DenseWeights(nn.Module):
    """Weights of the ``local`` rule between new rows and the context, (N, L).

    Args:
        side: What the context says.
    """

    points: Tensor  # (L, P)
    reach: Tensor  # (L,)
    widths: Tensor  # (L,)
    degree: Tensor  # (L,)  among the context itself
    mean: Tensor  # (P,)
    directions: Tensor  # (F, P)

    def __init__(self, side: Side) -> None:
        super().__init__()
        x, rule, lists = side.x, side.rule, side.lists
        x = x.to_dense() if x.layout == torch.sparse_csr else x
        self.rule, self.projected = rule, rule.components is not None and 0 not in x.shape
        if self.projected:
            # A linear map is known by what it makes of zero and of the unit vectors.
            probe = torch.cat([torch.zeros(1, x.shape[1]), torch.eye(x.shape[1])]).double()
            made = torch.as_tensor(side.project(probe)).double()
            self.register_buffer("mean", made[0])
            self.register_buffer("directions", made[1:] - made[0])
        self.register_buffer("points", self._placed(x.double()))
        self.register_buffer("reach", torch.from_numpy(side.reach))
        self.register_buffer("widths", bandwidths(lists.squared, rule))
        self.register_buffer("degree", local_weights(*lists, rule, torch.float64).degree)

    def _placed(self, x: Tensor) -> Tensor:
        x = x @ self.directions + self.mean if self.projected else x
        return unit(x) if self.rule.metric == "cosine" else x

    def forward(self, x: Tensor) -> Tensor:
        """Of rows x (N, F)."""
        x, rule, keys = self._placed(x), self.rule, self.points
        squared = x.square().sum(1, keepdim=True) + keys.square().sum(1) - 2 * x @ keys.t()
        squared = squared.clamp_min(0)
        count = min(max(rule.k, rule.bandwidth), len(keys))
        nearest, index = squared.topk(count, dim=1, largest=False)
        index = index[:, : min(rule.k, count)]
        chosen = torch.zeros_like(squared).scatter(1, index, torch.ones_like(index).to(squared))
        within = (squared <= self.reach * (1 + SLACK) + SLACK).to(squared)
        if rule.weights == "binary":
            return torch.maximum(chosen, within)
        width = nearest[:, min(rule.bandwidth, count) - 1 :][:, :1].sqrt()
        return 0.5 * (chosen + within) * self_tuned(squared, width, self.widths)

    def normalised(self, weights: Tensor, norm: str) -> Tensor:
        """``row`` or ``sym``, of (..., N, L); a row without weight stays zero."""
        degree = weights.sum(-1, keepdim=True)
        scale = degree if norm == "row" else (degree * self.degree).sqrt()
        return weights / torch.where(scale > 0, scale, 1.0)


def _weighed(rules: nn.ModuleList, x: Tensor) -> list[tuple[DenseWeights, Tensor]]:
    return [(cast(DenseWeights, rule), rule(x)) for rule in rules]


class _Term(NamedTuple):
    """One term of a layer: its part in the mix, and where its neighbours are found."""

    term: Diffusivity
    share: float
    place: int | None  # among the weights of the network (input space) or of the layer


class DenseLayer(nn.Module):
    """One step of new instances towards the states that the context has there."""

    keys: Tensor  # (H, L, C)
    values: Tensor  # (H, L, C)

    def __init__(
        self,
        conv: DIFFormerConv,
        states: Tensor,
        terms: Sequence[_Term],
        sides: Sequence[Side],  # of the terms in state space
    ) -> None:
        super().__init__()
        maps = conv.query_map, conv.key_map, conv.value_map
        self.query_map, self.key_map, self.value_map = (
            None if m is None else copy.deepcopy(m).double() for m in maps
        )
        self.heads, self.mix, self.terms = conv.heads, conv.mix, tuple(terms)
        self.step_size, self.source = conv.step_size, conv.source
        states = states.double()
        self.register_buffer("keys", self._mapped(self.key_map, states))
        self.register_buffer("values", self._mapped(self.value_map, states))
        self.near = nn.ModuleList(map(DenseWeights, sides))

    def _mapped(self, linear: nn.Module | None, z: Tensor) -> Tensor:
        """Heads first, (H, N, C)."""
        if linear is None:
            return z.unsqueeze(0)
        mapped: Tensor = linear(z).unflatten(1, (self.heads, -1)).transpose(0, 1)
        return mapped

    def forward(
        self,
        z: Tensor,
        initial: Tensor,
        found: Sequence[tuple[DenseWeights, Tensor]],  # in input space
    ) -> Tensor:
        """States after the step, (N, C)."""
        near = {"input": found, "state": _weighed(self.near, z)}
        heard, total = torch.zeros_like(z), torch.zeros_like(z[:, :1])
        for term in self.terms:
            rates, itself, operator = self._rates(term, z, near)
            shares = rates if self.mix == "joint" else operator
            heard = heard + term.share * self._brought(shares, itself, z)
            total = total + term.share * (rates.sum(-1, keepdim=True) + itself)
        if self.mix == "joint":
            heard = heard / torch.where(total > 0, total, 1.0)
        heard = heard.mean(0)
        target = (1 - self.source) * heard + self.source * initial
        return torch.lerp(z, target, self.step_size)

    def _brought(self, rates: Tensor, itself: float, z: Tensor) -> Tensor:
        """Sum of values by rates (H, N, L), and the row's own, (H, N, C)."""
        brought = rates @ self.values
        return brought + itself * self._mapped(self.value_map, z) if itself else brought

    def _rates(
        self,
        part: _Term,
        z: Tensor,
        found: Mapping[str, Sequence[tuple[DenseWeights, Tensor]]],
    ) -> tuple[Tensor, float, Tensor]:
        """Rates towards the context (H or 1, N, L), that towards itself, and the operator."""
        term, rule = part.term, part.term.neighbours
        if term.support == "self":
            nothing = torch.zeros_like(z @ self.values[0].t()).unsqueeze(0)
            return nothing, 1.0, nothing
        fixed = term.penalty is QUADRATIC
        rates = torch.ones_like(z[:, :1]).unsqueeze(0) if fixed else self._pairs(term, z)
        if rule is None:
            return rates, 0.0, divide(rates)
        assert part.place is not None
        near, weights = found[rule.space][part.place]
        rates = weights * rates
        return rates, 0.0, near.normalised(rates, rule.norm if fixed else "row")

    def _pairs(self, term: Diffusivity, z: Tensor) -> Tensor:
        q, k = self._mapped(self.query_map, z), self.keys
        if term.sphere:
            squared = 2 - 2 * unit(q) @ unit(k).transpose(1, 2)
        else:
            squared = q.square().sum(-1, keepdim=True) - 2 * q @ k.transpose(1, 2)
            squared = (squared + k.square().sum(-1).unsqueeze(1)).clamp_min(0)
        return term.penalty.rate(squared)


class DenseNetwork(FrozenNetwork):
    """An encoder and its readout for new rows, with the context inside: O(N L C) a layer.

    Made by :func:`dense`. Input (N, F), dense; outputs are float64.
    """

    def __init__(self, context: FrozenContext) -> None:
        fitted, model = context.fitted, context.model
        structure, layers = fitted.structure, []
        for index, (conv, states) in enumerate(zip(model.layers, fitted.states, strict=True)):
            assert isinstance(conv, DIFFormerConv)
            terms = _terms(conv, structure.terms, structure.mix)
            layers.append(DenseLayer(conv, states, terms, context.sides("state", index)))
        super().__init__(model, layers)
        self.near = nn.ModuleList(map(DenseWeights, context.sides("input")))

    def beside(self, x: Tensor) -> tuple[object, ...]:
        """Weights in input space, found once for all layers."""
        return (_weighed(self.near, x.to(self.dtype)),)


def _terms(conv: DIFFormerConv, terms: Sequence[Diffusivity], kept: Sequence[int]) -> list[_Term]:
    """The terms of a layer, with the numbers of their neighbour weights."""
    shares = [float(share) for share in conv.shares_of(kept)]
    counts, found = {"input": 0, "state": 0}, []
    for term, share in zip(terms, shares, strict=True):
        place = None
        if term.neighbours is not None:
            place = counts[term.neighbours.space]
            counts[term.neighbours.space] += 1
        found.append(_Term(term, share, place))
    return found


@torch.no_grad()
def dense(context: FrozenContext) -> DenseNetwork | None:
    """The network of a context, or None where it needs edges or the released numerics."""
    official = not all(isinstance(conv, DIFFormerConv) for conv in context.model.layers)
    if official or any(term.support == "edges" for term in context.structure.terms):
        return None
    return DenseNetwork(context)
