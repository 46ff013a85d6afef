"""What happens inside: states, energy parts, contrast and lambda* of each diffusion step.

The energy is measured on the states that move, also where a trained model breaks the conditions of
the theorem; those conditions are then named beside the figures.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from difformer.diffusion import Diffusivity, SparseWeights, contrast, lambda_star, regulariser
from difformer.diffusion.energy import regulariser_on
from difformer.diffusion.pairwise import paired_distance
from difformer.diffusion.penalty import QUADRATIC
from difformer.diffusion.propagate import unit
from difformer.diffusion.segments import segment
from difformer.errors import DataError
from difformer.nn.conv import DIFFormerConv
from difformer.nn.influence import States, flow_of, weights_of
from difformer.nn.official import OfficialConv
from difformer.nn.structure import Structure, norm_of

if TYPE_CHECKING:
    from difformer.nn.encoder import DIFFormer


BLOCK = 2048  # states whose distances are held at a time


@dataclass(frozen=True)
class TermTrace:
    """One diffusivity of one step."""

    name: str
    share: float  # its convex weight in the mix
    regulariser: float  # R before the step
    regulariser_moved: float  # R after the step
    d_min: float  # smallest sum of rates
    lambda_star: float  # smallest lambda that certifies the step size; infinite at step size 1
    contrast: float  # like pairs over unlike pairs; NaN without labels


@dataclass(frozen=True, eq=False)
class StepTrace:
    """One diffusion step."""

    states: Tensor  # (N, C), after the step and its normalisation
    move: float  # |Z+ - Z|^2
    step_size: float
    terms: tuple[TermTrace, ...]

    @property
    def regulariser(self) -> float:
        """R of the mix after the step."""
        return sum(term.share * term.regulariser_moved for term in self.terms)


@dataclass(frozen=True, eq=False)
class Trace:
    """All steps, the initial states and the conditions of the theorem that do not hold."""

    initial: Tensor  # (N, C)
    steps: tuple[StepTrace, ...]
    broken_conditions: tuple[str, ...]


@torch.no_grad()
def trace(
    model: "DIFFormer",
    x: Tensor,
    edge_index: Tensor | None = None,
    edge_weight: Tensor | None = None,
    batch: Tensor | None = None,
    y: Tensor | None = None,
) -> Trace:
    """Run the model in evaluation mode and measure every step.

    Args:
        model: The encoder; its mode is restored afterwards.
        x, edge_index, edge_weight, batch: As for the model.
        y: Classes of the instances, -1 unknown, shape (N,): for the contrast.

    Raises:
        DataError: If y does not hold one class for each instance, or as the model does.

    Cost: that of a forward pass, plus O(N^2 C) time for penalties that are not affine in squared
    distance, and to see whether raw states lie within a penalty's limit.
    """
    if y is not None and y.shape != x.shape[:1]:
        raise DataError(f"y must have shape ({x.shape[0]},), found {tuple(y.shape)}.")
    was_training = model.training
    model.eval()
    try:
        structure = model.structure(x, edge_index, edge_weight, batch)
        initial = model.embed(x)
        steps = []
        for conv, step in zip(model.layers, model.steps(initial, structure), strict=True):
            size = 1.0 if conv.step_size is None else float(conv.step_size)
            terms = _terms(conv, size, step.before, step.moved, structure, y)
            move = float((step.moved - step.before).double().square().sum())
            steps.append(StepTrace(step.after, move, size, terms))
    finally:
        model.train(was_training)
    broken = broken_conditions(model, structure)
    if not model.config["maps"] and (too_far := _beyond_limit(structure, initial)):
        broken = (*broken, too_far)
    return Trace(initial, tuple(steps), broken)


def _terms(
    conv: DIFFormerConv | OfficialConv,
    step_size: float,
    before: Tensor,
    moved: Tensor,
    structure: Structure,
    y: Tensor | None,
) -> tuple[TermTrace, ...]:
    if isinstance(conv, DIFFormerConv):
        states = conv.states(before, structure)
        shares = [float(share) for share in conv.mix_shares(structure)]
    else:  # the official numerics: measured as the diffusivity they stand for
        wide = before.unsqueeze(1)
        segments = segment(len(before), len(before))
        states = States(before, wide, wide, wide, wide, wide, structure, segments)
        shares = conv.mix_shares(structure)
    return tuple(
        _term(index, share, states, moved, step_size, y) for index, share in enumerate(shares)
    )


def _term(
    index: int, share: float, states: States, moved: Tensor, step_size: float, y: Tensor | None
) -> TermTrace:
    term = states.structure.terms[index]
    weights = weights_of(index, states)
    d_min = _d_min(index, states)
    return TermTrace(
        name=term.label,
        share=share,
        regulariser=_regulariser(term, states.z, weights, states.structure.batch),
        regulariser_moved=_regulariser(term, moved, weights, states.structure.batch),
        d_min=d_min,
        lambda_star=lambda_star(step_size, d_min),
        contrast=math.nan if y is None else _contrast(index, states, y),
    )


def _regulariser(
    term: Diffusivity, z: Tensor, weights: SparseWeights | None, batch: Tensor | None
) -> float:
    """R on the term's pairs; an instance paired with itself adds delta(0) = 0."""
    if term.support == "self":
        return 0.0
    if weights is None:
        return float(regulariser(z, term.penalty, term.sphere, batch))
    if term.penalty is QUADRATIC:
        return float(regulariser_on(weights, z))
    z = unit(z.double()) if term.sphere else z.double()
    row, col = weights.pattern.row, weights.pattern.col
    delta = term.penalty.delta(paired_distance(z[row], z[col], term.sphere))
    return float((delta * weights.values.double()).sum())


def _d_min(index: int, states: States) -> float:
    denominator = flow_of(index, states).denominator
    return float(denominator.min()) if denominator.numel() else 0.0


def _contrast(index: int, states: States, y: Tensor) -> float:
    """Diffuse the indicators of the classes: S Y says what each instance hears from each class."""
    y = y.to(states.z.device)
    classes = int(y.max()) + 1 if len(y) else 0
    if classes < 1:
        return math.nan
    indicator = torch.eye(classes, dtype=states.z.dtype, device=y.device)[y.clamp_min(0)]
    indicator = indicator * (y >= 0).unsqueeze(1)
    heads = states.queries.shape[1]
    values = indicator.unsqueeze(1).expand(-1, heads, -1)
    flow = flow_of(index, states, values)
    received = (flow.numerator / flow.denominator.unsqueeze(-1)).mean(1)
    own = (_own_rate(index, states) / flow.denominator).mean(1)
    return contrast(received, own, y)


def _own_rate(index: int, states: States) -> Tensor:
    """The rate between each instance and itself, (N, H)."""
    term = states.structure.terms[index]
    q, k = states.queries, states.keys
    if term.support == "self":
        return q.new_ones(q.shape[:2])
    if term.sphere:
        q, k = unit(q), unit(k)
    rate = term.penalty.rate(paired_distance(q, k, term.sphere))
    weights = weights_of(index, states)
    if weights is None:
        return rate
    pattern = weights.pattern
    loop = pattern.row == pattern.col
    own = q.new_zeros(len(q)).index_add(0, pattern.row[loop], weights.values[loop].to(q.dtype))
    return rate * own.unsqueeze(1)


def _beyond_limit(structure: Structure, z: Tensor) -> str | None:
    """Say so if raw states lie so far apart that a penalty is no longer concave and rising."""
    for term in structure.terms:
        if term.sphere or term.support == "self" or math.isinf(term.penalty.limit) or not len(z):
            continue
        blocks = z.double().split(BLOCK)
        largest = max(float(torch.cdist(a, b).max()) for a in blocks for b in blocks) ** 2
        if largest > term.penalty.limit * (1 + 1e-9):
            return (
                f"Squared distances reach {largest:.4g}; penalty {term.penalty.name!r} is concave "
                f"and rising up to {term.penalty.limit:g}."
            )
    return None


def broken_conditions(model: "DIFFormer", structure: Structure) -> tuple[str, ...]:
    """Which hypotheses of the descent theorem a model does not meet, one sentence each."""
    if not all(isinstance(conv, DIFFormerConv) for conv in model.convs):
        return ("The official numerics sum diffusion and graph and norm the whole tensor.",)
    found = []
    config = model.config
    measured = [term for term in structure.terms if term.penalty is not QUADRATIC]
    if config["maps"] and measured:
        found.append("Distances are taken between learnt maps of the states (maps=True).")
    if config["value_map"]:
        found.append("What moves is a learnt map of the states (value_map=True).")
    if config["norm"] is not None:
        found.append("LayerNorm rescales the states after each step (norm='layer').")
    if any(term.sphere for term in measured):
        found.append("Distances are taken between unit vectors, not between the states that move.")
    if any(t.neighbours is not None and t.neighbours.space == "state" for t in structure.terms):
        found.append("Neighbours are found again at each step: the penalty changes with them.")
    if not all(weights is None or _mutual(weights) for weights in structure.weights):
        found.append("The observed graph is not symmetric: i hears j otherwise than j hears i.")
    if len(structure.terms) > 1 and config["mix"] == "convex":
        found.append("Normalised terms are averaged (mix='convex') instead of their rates.")
    symmetric = any(_symmetric(term, config["graph_norm"]) for term in structure.terms)
    if symmetric and config["mix"] == "convex":
        found.append("A symmetrically normalised term has rows that do not sum to 1.")
    if config["source"]:
        found.append("A source pulls towards the initial states: the energy has a third part.")
    return tuple(found)


def _mutual(weights: SparseWeights) -> bool:
    """Whether w_ij = w_ji."""
    pattern = weights.pattern
    turned, order = pattern.turned()
    if not (torch.equal(turned.crow, pattern.crow) and torch.equal(turned.col, pattern.col)):
        return False
    return bool(torch.allclose(weights.values[order], weights.values, rtol=1e-5, atol=0))


def _symmetric(term: Diffusivity, graph_norm: str) -> bool:
    return term.support in ("edges", "neighbours") and norm_of(term, graph_norm) == "sym"
