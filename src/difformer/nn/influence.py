"""How each term of a mix acts on given states: the bridge from modules to the diffusion engine.

Letters: N instances, L keys, H heads, C channels.
"""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from difformer.diffusion import Diffusivity, SparseWeights
from difformer.diffusion.penalty import QUADRATIC
from difformer.diffusion.propagate import Flow, accumulate, divide, unit
from difformer.diffusion.segments import Segments
from difformer.nn.structure import Structure, found_neighbours


@dataclass(frozen=True, eq=False)
class States:
    """States of one step, mapped to queries, keys and values.

    All-pair terms look at ``keys``. Sparse terms address ``sparse_keys``: the same, or, towards a
    frozen context, the context's rows followed by the instances' own (for self-loops). ``layer``
    tells the layers apart that keep neighbours between training passes; None: they are found now.
    """

    z: Tensor  # (N, C)
    queries: Tensor  # (N, H, C)
    keys: Tensor  # (L, H, C)
    values: Tensor  # (L, H, C)
    sparse_keys: Tensor  # (L, H, C) or (L + N, H, C)
    sparse_values: Tensor  # likewise
    structure: Structure
    segments: Segments
    layer: Hashable | None = None

    @property
    def own_values(self) -> Tensor:
        """Values of the instances themselves, (N, H, C)."""
        return self.sparse_values[len(self.sparse_values) - len(self.z) :]


def weights_of(index: int, states: States) -> SparseWeights | None:
    """Sparse weights of a term: prepared, or found among the present states."""
    term, prepared = states.structure.terms[index], states.structure.weights[index]
    rule, structure = term.neighbours, states.structure
    if prepared is not None or rule is None:
        return prepared

    def find() -> SparseWeights:
        return found_neighbours(states.z, rule, structure.batch)

    if states.layer is None or rule.every == 1:
        return find()
    return structure.recall.weights((states.layer, index), rule.every, states.z, find)


def flow_of(index: int, states: States, values: Tensor | None = None) -> Flow:
    """Sum of w v and sum of w of one term, with rates as they are; other ``values`` if given."""
    term = states.structure.terms[index].unshifted
    own = states.own_values if values is None else values
    if term.support == "self":
        return Flow(own, own.new_ones(own.shape[:2]))
    return _flow(term, states, weights_of(index, states), values)


def _flow(
    term: Diffusivity, states: States, weights: SparseWeights | None, values: Tensor | None = None
) -> Flow:
    sparse = weights is not None
    keys = states.sparse_keys if sparse else states.keys
    if values is None:
        values = states.sparse_values if sparse else states.values
    queries = states.queries
    if term.sphere and term.penalty is not QUADRATIC:
        queries, keys = unit(queries), unit(keys)
    return accumulate(term, queries, keys, values, states.segments, weights)


def influence_of(index: int, states: States) -> Tensor:
    """The diffusion of one term, averaged over heads, (N, C)."""
    structure = states.structure
    term, operator = structure.terms[index], structure.operators[index]
    if term.support == "self":
        return states.own_values.mean(1)
    if operator is not None:  # the same for all heads: average first, multiply once
        return operator.matmul(_averaged(states.sparse_values))
    weights = weights_of(index, states)
    if weights is not None and term.neighbours is not None and term.penalty is QUADRATIC:
        return weights.normalised(term.neighbours.norm).matmul(_averaged(states.sparse_values))
    return divide(_flow(term, states, weights), term, states.values, states.segments).mean(1)


def _averaged(values: Tensor) -> Tensor:
    """Mean over heads, (L, C); one head is not copied."""
    return values.squeeze(1) if values.shape[1] == 1 else values.mean(1)


def joint_influence(states: States, shares: list[float | Tensor]) -> Tensor:
    """Numerators and denominators added over the terms, divided once, heads averaged, (N, C)."""
    flows = [(share, flow_of(index, states)) for index, share in enumerate(shares)]
    numerator = torch.stack([share * flow.numerator for share, flow in flows]).sum(0)
    denominator = torch.stack([share * flow.denominator for share, flow in flows]).sum(0)
    flow = Flow(numerator, denominator)
    return divide(flow, states.structure.terms[0], states.values, states.segments).mean(1)
