"""From a layer's settings to one fused step: what is folded, what is computed apart, what follows.

Letters: N instances, H heads, C channels.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from difformer.diffusion import Diffusivity, SparseWeights
from difformer.diffusion.affine import enter
from difformer.diffusion.all_pairs import OutOfRange
from difformer.diffusion.folded import Maps
from difformer.diffusion.rule import StepRule
from difformer.diffusion.step import step
from difformer.diffusion.workspace import Workspace
from difformer.nn.structure import Structure

FOLD_FROM = 4  # instances a channel: below, products of C x C matrices cost more than they save


class Motion(NamedTuple):
    """How a layer moves states.

    z <- keep z + linear term + operators z + share rest + source initial.
    """

    keep: float
    source: float
    share: float = 1.0
    rest: Tensor | None = None  # (N, C)
    maps: Maps | None = None  # of the linear term, its coefficient included
    gain: float = 1.0
    row_norms: bool = True
    operators: tuple[tuple[float, SparseWeights], ...] = ()  # fixed, each with its share
    store: bool = False  # keep the linear term's product where a plan leaves the choice


class Layer(Protocol):
    """What ``advance`` needs of a diffusion layer."""

    def motion(self, z: Tensor, structure: Structure, fold: bool) -> Motion:
        """The layer's motion; with ``fold`` its linear term may be left to the engine."""


@dataclass(frozen=True)
class Finish:
    """What follows a step: LayerNorm, ReLU, dropout.

    Attributes:
        norm: The LayerNorm, or None.
        relu: Whether a ReLU follows it.
        dropout: Rate; 0 while evaluating.
        key: Which mask.
        recompute: The model's plan, see :class:`difformer.nn.DIFFormer`.
        last: Whether the backward comes next: what it would find stored is not long in making, and
            memory is at its peak.
        workspace: Where memory for states is taken from.
    """

    norm: nn.LayerNorm | None = None
    relu: bool = False
    dropout: float = 0.0
    key: int = 0
    recompute: str = "products"
    last: bool = False
    workspace: Workspace | None = None

    def enter(self, x: Tensor, linear: nn.Linear) -> Tensor:
        """Map features (N, F), then finish: initial states (N, C)."""
        maps = linear.weight, linear.bias
        return enter(self._rule(Motion(1.0, 0.0)), x, *maps, *self._norms(), self.workspace)

    def apply(self, z: Tensor) -> Tensor:
        """Normalise, activate and drop out alone."""
        return self._run(Motion(1.0, 0.0), z, None)

    def after(self, motion: Motion, z: Tensor, initial: Tensor) -> Tensor:
        """Move states (N, C), then finish."""
        return self._run(motion, z, initial if motion.source else None)

    def _run(self, motion: Motion, z: Tensor, initial: Tensor | None) -> Tensor:
        states = z, motion.maps, motion.rest, initial
        rule, room = self._rule(motion), self.workspace
        return step(rule, *states, *self._norms(), motion.operators, room)

    def _norms(self) -> tuple[Tensor | None, Tensor | None]:
        return (None, None) if self.norm is None else (self.norm.weight, self.norm.bias)

    def _rule(self, motion: Motion) -> StepRule:
        kept = self.recompute == "nothing"
        return StepRule(
            keep=motion.keep,
            rest=motion.share,
            source=motion.source,
            gain=motion.gain,
            row_norms=motion.row_norms,
            eps=1e-5 if self.norm is None else self.norm.eps,
            relu=self.relu,
            dropout=self.dropout,
            key=self.key,
            store=kept or (motion.store and self.recompute == "products" and not self.last),
            store_neighbours=self.recompute != "steps",
        )


def advance(
    layer: Layer, z: Tensor, structure: Structure, initial: Tensor, finish: Finish
) -> Tensor:
    """One step of a layer and what follows it, (N, C), in blocks of rows."""
    if len(z):
        try:
            return finish.after(layer.motion(z, structure, fold=True), z, initial)
        except OutOfRange:  # lengths whose squares overflow: scaled row by row on the plain path
            pass
    return finish.after(layer.motion(z, structure, fold=False), z, initial)


def linear_term(structure: Structure, count: int, channels: int) -> int | None:
    """Which term of a mix the engine can fold, if any: the first linear one on all pairs."""
    if structure.batch is not None or count < FOLD_FROM * channels:
        return None
    for index, term in enumerate(structure.terms):
        if term.support == "all" and term.sphere and term.penalty.affine is not None:
            a, b = term.penalty.affine
            if a + 2 * b > 0:
                return index
    return None


def gain_of(term: Diffusivity) -> float:
    """The rate a + b x with x = 2 - 2 cos, up to a factor, is 1 + gain cos."""
    assert term.penalty.affine is not None
    a, b = term.penalty.affine
    return -2 * b / (a + 2 * b)


def maps_of(
    query: nn.Linear, key: nn.Linear, value: nn.Linear | None, heads: int, scale: Tensor
) -> Maps:
    """A layer's maps as the engine takes them; ``scale`` () multiplies what they give."""
    values = None if value is None else _lifted(value, heads)
    return Maps(_lifted(query, heads), _lifted(key, heads), values, scale)


def _lifted(linear: nn.Linear, heads: int) -> Tensor:
    """A map with its bias as last column, (H, C, C + 1)."""
    joined: Tensor = torch.cat([linear.weight, linear.bias.unsqueeze(1)], 1)
    return joined.view(heads, -1, joined.shape[1])


def mean_value(linear: nn.Linear | None, heads: int, z: Tensor) -> Tensor:
    """Values averaged over heads, (N, C): one product, whatever H is."""
    if linear is None:
        return z
    weight = linear.weight.unflatten(0, (heads, -1)).mean(0)
    bias = linear.bias.unflatten(0, (heads, -1)).mean(0)
    mean: Tensor = nn.functional.linear(z, weight, bias)
    return mean
