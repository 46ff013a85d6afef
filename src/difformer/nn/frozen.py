r"""A fitted encoder as a small network for single instances: what the others say is constant.

Where every layer diffuses by a linear rate between all pairs alone (``simple``), a new instance
needs nothing of the fitted ones but sums over them, which do not change any more. With its query q,
unit keys k, rates :math:`c + r\,q'k / |q|` and values v measured from their mean, one head hears

.. math:: \bar v + \frac{r q' \sum_j k_j (v_j - \bar v)'}{c L |q| + r q' \sum_j k_j}

and q enters the sums through its map alone, which is folded into them. So a layer is two products
of C x C and a division. In float64, whatever the encoder's own precision. The official numerics
divide by the norms of all fitted queries and keys instead, and |q| is 1.

Letters: N new instances, L fitted ones, F features, H heads, C channels.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from difformer.diffusion.linear import Summary, summarise
from difformer.diffusion.propagate import unit
from difformer.nn.conv import DIFFormerConv
from difformer.nn.encoder import DIFFormer, side_by_side
from difformer.nn.official import OfficialConv
from difformer.nn.structure import Structure

ROWS = 4096  # fitted instances in float64 at a time, and new ones: a block stays in the cache


class _Rule(NamedTuple):
    """How one layer moves an instance: z <- keep z + moving heard + pull z0."""

    keep: float
    moving: float
    pull: float
    offset: float  # c
    slope: float  # r
    unit: bool  # whether queries have length 1


class FrozenLayer(nn.Module):
    """One step of new instances towards the sums of the fitted ones."""

    pull: Tensor  # (C, H C)   what sums bring, values measured from their mean; over heads
    pull_bias: Tensor  # (H C,)
    weigh: Tensor  # (C, H)     r sum k
    weigh_bias: Tensor  # (H,)
    total: Tensor  # ()         c L
    mean: Tensor  # (C,)       mean value: what is heard where all rates are 0; over heads
    noise: Tensor  # ()         a sum of rates below it is rounding

    def __init__(self, rule: _Rule, query_map: nn.Linear, summary: Summary) -> None:
        super().__init__()
        queries = copy.deepcopy(query_map).double()
        self.rule, self.query_map = rule, queries if rule.unit else None
        count, value, key, outer = (
            part[0] for part in (summary.count, summary.value, summary.key, summary.outer)
        )
        self.heads, share = len(value), rule.moving / len(value)
        mean = value / count.clamp_min(1)
        pull = share * rule.slope * (outer - key.unsqueeze(2) * mean.unsqueeze(1))
        columns = {"pull": pull, "weigh": rule.slope * key.unsqueeze(2)}
        weight, bias = queries.weight.unflatten(0, (self.heads, -1)), queries.bias
        for name, sums in columns.items():  # (H, M, C) or (H, M, 1)
            folded = weight.mT @ sums
            self.register_buffer(name, folded.transpose(0, 1).flatten(1).contiguous())
            offset = bias.view(self.heads, 1, -1) @ sums
            self.register_buffer(f"{name}_bias", offset.flatten())
        self.register_buffer("total", rule.offset * count)
        self.register_buffer("mean", share * mean.sum(0))
        self.register_buffer("noise", 8 * torch.finfo(torch.float64).eps * count)

    def forward(self, z: Tensor, initial: Tensor) -> Tensor:
        """States after the step, (N, C)."""
        rates = torch.addmm(self.weigh_bias, z, self.weigh)  # (N, H), times the query's length
        total, noise = self.total, self.noise
        if self.query_map is not None:
            lengths = self.query_map(z).unflatten(1, (self.heads, -1)).norm(dim=-1)
            total, noise = total * lengths, noise * lengths
        rates = rates + total
        shares = torch.where(rates > noise, rates.reciprocal(), 0.0)
        moved = torch.add(self.mean, z, alpha=self.rule.keep)
        pulled = torch.addmm(self.pull_bias, z, self.pull)
        if self.heads == 1:
            moved = torch.addcmul(moved, pulled, shares)
        else:
            pulled = pulled.unflatten(1, (self.heads, -1))
            moved = moved + (pulled * shares.unsqueeze(2)).sum(1)
        return moved + self.rule.pull * initial if self.rule.pull else moved


class FrozenNetwork(nn.Module):
    """An encoder and its readout for new instances, each by itself: O(L C^2) a row of L layers.

    Made by :func:`freeze`. Input (N, F), dense or CSR; outputs are float64, or float32 after
    :meth:`single`.
    """

    def __init__(self, model: DIFFormer, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        parts = copy.deepcopy([model.input_map, model.output_map])
        self.input_map, self.output_map = (p if p is None else p.double() for p in parts)
        self.norms = copy.deepcopy(model.norms).double()
        self.layers, self.late = nn.ModuleList(layers), model.late
        self.each, self.jump = model.each, model.jump
        self.dtype = torch.float64
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Raw outputs, (N, O)."""
        return self.readout(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """States after the last step, (N, C); with ``jump`` after each, (N, (L + 1) C)."""
        z, beside = self.embed(x), self.beside(x)
        initial, seen = z, [z]
        for index, layer in enumerate(self.layers):
            z = layer(z, initial, *beside)
            z = self.norms[index + 1](z) if self.norms else z
            z = z.relu() if self.each else z
            seen = [*seen, z] if self.jump else [z]
        z = side_by_side(seen)
        return z.relu() if self.late else z

    def beside(self, x: Tensor) -> tuple[object, ...]:
        """What every layer is given beside the states, made from the features."""
        return ()

    def readout(self, z: Tensor) -> Tensor:
        """Outputs from states, (N, O)."""
        return z if self.output_map is None else cast(Tensor, self.output_map(z))

    def embed(self, x: Tensor) -> Tensor:
        """Initial states, (N, C)."""
        z = x.to(self.dtype)
        if z.layout == torch.sparse_csr:
            z = z.to_dense() if self.input_map is None else z @ self.input_map.weight.t()
            z = z if self.input_map is None else z + self.input_map.bias
        elif self.input_map is not None:
            z = self.input_map(z)
        z = self.norms[0](z) if self.norms else z
        return z if self.late or self.input_map is None else z.relu()

    def single(self) -> "FrozenNetwork":
        """A copy that computes in float32, for programs that do so."""
        found = copy.deepcopy(self).float()
        found.dtype = torch.float32
        for layer in cast("list[FrozenLayer]", list(found.layers)):
            layer.noise *= torch.finfo(torch.float32).eps / torch.finfo(torch.float64).eps
        return found


@torch.no_grad()
def freeze(model: DIFFormer, x: Tensor, structure: Structure) -> FrozenNetwork | None:
    """The network that an encoder is for new instances, or None if it needs more than sums.

    Args:
        model: The encoder, in evaluation mode.
        x: Features of the fitted instances, (L, F).
        structure: That among the fitted instances.

    Cost: one forward pass over the fitted instances, once.
    """
    rules = [rule for conv in model.layers if (rule := _rule(conv, structure)) is not None]
    if len(rules) < len(model.layers):
        return None
    steps = model.steps(model.embed(x), structure)
    found = zip(model.layers, rules, steps, strict=True)
    return FrozenNetwork(model, [_frozen(conv, rule, step.before) for conv, rule, step in found])


def _rule(conv: DIFFormerConv | OfficialConv, structure: Structure) -> _Rule | None:
    """How a layer moves, if its only term is linear on all pairs of one graph."""
    if structure.batch is not None or len(structure.terms) != 1:
        return None
    if isinstance(conv, OfficialConv):
        if conv.kernel != "simple":
            return None
        moving = 1.0 if conv.step_size is None else conv.step_size
        return _Rule(1 - moving, moving, moving if conv.source else 0.0, 1.0, 1.0, False)
    (term,) = structure.terms
    affine = term.penalty.affine
    if term.support != "all" or not term.sphere or affine is None or conv.query_map is None:
        return None
    step, (a, b) = conv.step_size, affine
    moving, pull = step * (1 - conv.source), step * conv.source
    return _Rule(1 - step, moving, pull, a + 2 * b, -2 * b, True)


def _frozen(conv: DIFFormerConv | OfficialConv, rule: _Rule, states: Tensor) -> FrozenLayer:
    """Sum over fitted states (L, C), in blocks, in float64."""
    maps = conv.query_map, conv.key_map, conv.value_map
    query, key, value = (None if m is None else copy.deepcopy(m).double() for m in maps)
    assert query is not None
    assert key is not None
    total, squares = None, torch.zeros(2, dtype=torch.float64, device=states.device)
    for block in states.split(ROWS):
        z = block.double()
        k = key(z).unflatten(1, (conv.heads, -1))
        v = z.unsqueeze(1) if value is None else value(z).unflatten(1, (conv.heads, -1))
        if rule.unit:
            k = unit(k)
        else:
            squares += torch.stack([query(z).square().sum(), k.square().sum()])
        part = summarise(k, v.expand(-1, conv.heads, -1), (len(z),))
        total = part if total is None else total + part
    if total is None:
        none = states.new_zeros(0, conv.heads, conv.channels, dtype=torch.float64)
        total = summarise(none, none, (0,))
    if not rule.unit:
        rule = rule._replace(slope=float(squares.prod().rsqrt()))
    return FrozenLayer(rule, query, total)
