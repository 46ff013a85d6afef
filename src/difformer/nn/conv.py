r"""One step of diffusion with its trainable maps.

.. math::
    z_i \leftarrow (1 - \tau) z_i + \tau \Big[ (1 - \beta) \sum_m \omega_m
        \sum_j S^{(m)}_{ij} W_V z_j + \beta z^{(0)}_i \Big]

with diffusivities :math:`S^{(m)}` of queries :math:`W_Q z` and keys :math:`W_K z`, averaged over
heads, mixed with convex weights :math:`\omega`; the observed graph is one of the terms.

Letters: N instances, L keys, H heads, C channels.
"""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from difformer.diffusion import Diffusivity, Neighbourhood, Penalty, SparseWeights, resolve
from difformer.diffusion.penalty import resolve_all
from difformer.diffusion.segments import segment
from difformer.errors import ConfigError, DataError, one_of, whole_number
from difformer.nn.influence import States, influence_of, joint_influence
from difformer.nn.motion import Motion, gain_of, linear_term, maps_of, mean_value
from difformer.nn.structure import Cache, Structure, build_structure

AnyDiffusivity = str | Penalty | Neighbourhood | Diffusivity


class DIFFormerConv(nn.Module):
    r"""One layer of energy-constrained diffusion (Wu et al., ICLR 2023, eqs. 5 to 8).

    Args:
        channels: Width C of the states, in and out.
        heads: Number H of diffusivities that are averaged. More than 1 needs ``maps``.
        diffusivity: A name, a penalty, a neighbourhood, or a sequence of them (a mix).
        step_size: :math:`\tau` in (0, 1].
        graph: Whether an observed graph, where one is passed, joins the mix as a further term.
        graph_norm: ``row`` (convex, default) or ``sym`` (GCN's).
        graph_loops: Whether every instance is its own neighbour in the observed graph; else only
            those are that hear nobody.
        mix: ``convex``: each term is normalised, then averaged. ``joint``: the rates are added and
            normalised together, W = sum of omega_m f_m.
        mix_weights: One positive number a term (the graph last), scaled to sum 1; None: equal;
            ``"learnt"``: a softmax of trained logits, equal at first. Terms that are absent leave
            their share to the others.
        source: :math:`\beta` in [0, 1): pull towards the initial states.
        maps: Whether queries and keys are learnt maps of the states; else the states themselves.
        value_map: Whether values are a learnt map of the states.

    Shapes:
        - input: x (N, C), edge_index (2, E), edge_weight (E,), batch (N,)
        - output: (N, C)

    Raises:
        ConfigError: On an unknown name or a value out of range.
        DataError: If edges, weights or batch do not fit x.

    Cost: O(N C^2) a step for ``simple``, O(N^2 C) time and O(N C) memory for the other all-pair
    diffusivities, O(E C) for the graph.

    Example:
        >>> conv = DIFFormerConv(8, heads=2)
        >>> conv(torch.randn(5, 8), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        diffusivity: AnyDiffusivity | Sequence[AnyDiffusivity] = "simple",
        *,
        step_size: float = 0.5,
        graph: bool = True,
        graph_norm: str = "row",
        graph_loops: bool = True,
        mix: str = "convex",
        mix_weights: Sequence[float] | str | None = None,
        source: float = 0.0,
        maps: bool = True,
        value_map: bool = False,
    ) -> None:
        super().__init__()
        self.channels = whole_number(channels, 1, "channels")
        self.heads = whole_number(heads, 1, "heads")
        self.terms, self.optional_term = mix_of(diffusivity, graph)
        if not (is_number(step_size) and 0 < step_size <= 1):
            raise ConfigError(f"step_size must lie in (0, 1], found {step_size!r}.")
        if not (is_number(source) and 0 <= source < 1):
            raise ConfigError(f"source must lie in [0, 1), found {source!r}.")
        if heads > 1 and not maps:
            raise ConfigError(f"heads must be 1 without learnt maps, found {heads}.")
        self.step_size, self.source = step_size, source
        self.graph_loops = graph_loops
        self.graph_norm = one_of(graph_norm, ("row", "sym"), "graph_norm")
        self.mix = one_of(mix, ("convex", "joint"), "mix")
        wide = heads * channels
        self.query_map = nn.Linear(channels, wide) if maps else None
        self.key_map = nn.Linear(channels, wide) if maps else None
        self.value_map = nn.Linear(channels, wide) if value_map else None
        self.mix_logits = (
            nn.Parameter(torch.zeros(len(self.terms))) if learnt(mix_weights) else None
        )
        fixed = None if learnt(mix_weights) else check_mix(mix_weights, len(self.terms))
        self._fixed_mix = fixed
        self._cache = Cache()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator."""
        for linear in (self.query_map, self.key_map, self.value_map):
            if linear is not None:
                linear.reset_parameters()
        if self.mix_logits is not None:
            nn.init.zeros_(self.mix_logits)

    def extra_repr(self) -> str:
        """Channels, heads and terms."""
        names = " + ".join(term.name for term in self.terms)
        return f"{self.channels}, heads={self.heads}, diffusivity={names}"

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """One step from states x; x is its own source."""
        check_states(x, self.channels, "channels")
        return self.step(x, self.structure(x, edge_index, edge_weight, batch), x)

    def structure(
        self,
        x: Tensor,
        edge_index: Tensor | None,
        edge_weight: Tensor | None,
        batch: Tensor | None,
    ) -> Structure:
        """Operators of the fixed terms; remembered while the same tensors are passed."""
        return self._cache.get(  # type: ignore[no-any-return]
            (x if self._belongs_to_input else None, edge_index, edge_weight, batch),
            lambda: build_structure(
                self.terms,
                x,
                edge_index,
                edge_weight,
                batch,
                self.graph_norm,
                self.optional_term,
                self.graph_loops,
            ),
            like=(x.shape[0], x.dtype, x.device),
        )

    def keep_structure_of(self, other: "DIFFormerConv") -> None:
        """Remember the operators that ``other`` built of the same terms.

        Raises:
            ConfigError: The terms or the graph's norm differ.
        """
        mine, theirs = ((c.terms, c.graph_norm, c.graph_loops) for c in (self, other))
        if mine != theirs:
            raise ConfigError("A structure can be kept for the same terms and kind of graph only.")
        self._cache = other._cache

    @property
    def _belongs_to_input(self) -> bool:
        """Whether a structure serves one x alone: neighbours in it, or kept between passes."""
        rules = [t.neighbours for t in self.terms if t.neighbours is not None]
        return any(rule.space == "input" or rule.every > 1 for rule in rules)

    def step(
        self, z: Tensor, structure: Structure, initial: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Move states z (N, C) one step; with ``context`` (L, C) towards those states alone."""
        target = self.influence(z, structure, context)
        if self.source:
            target = (1 - self.source) * target + self.source * initial
        return torch.lerp(z, target, self.step_size)

    def influence(self, z: Tensor, structure: Structure, context: Tensor | None = None) -> Tensor:
        r"""The mixed diffusion :math:`\sum_m \omega_m S^{(m)} W_V z`, (N, C)."""
        states, shares = self.states(z, structure, context), self.mix_shares(structure)
        if self.mix == "joint":
            return joint_influence(states, shares)
        parts = [share * influence_of(index, states) for index, share in enumerate(shares)]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def motion(self, z: Tensor, structure: Structure, fold: bool) -> Motion:
        """The same step as :meth:`step` for the engine: what it can do itself is left to it."""
        keep, moving, pull = 1 - self.step_size, 1 - self.source, self.step_size * self.source
        moving *= self.step_size
        if self.mix == "joint":
            return Motion(keep, pull, moving, self.influence(z, structure))
        shares, maps, gain = self.mix_shares(structure), None, 1.0
        index = self._linear(z, structure) if fold else None
        if index is not None:
            own = torch.as_tensor(shares[index], dtype=torch.float64, device=z.device)
            linears = self.query_map, self.key_map, self.value_map
            maps = maps_of(*linears, self.heads, moving * own)  # type: ignore[arg-type]
            gain = gain_of(structure.terms[index])
        fused = self._fused(structure)
        operators = [(moving * share, operator) for share, operator in fused.values()]
        parts = self._others(z, structure, {*fused, index})
        others = [share for at, share in enumerate(shares) if at not in fused and at != index]
        rest = None
        if len(parts) == 1 and isinstance(others[0], float):  # weighted in passing
            moving, rest = moving * others[0], parts[0]
        elif parts:
            rest = torch.stack([w * part for w, part in zip(others, parts, strict=True)]).sum(0)
        store = self.heads == 1  # a product costs more than a tensor of N x C, not than several
        return Motion(keep, pull, moving, rest, maps, gain, operators=tuple(operators), store=store)

    def _linear(self, z: Tensor, structure: Structure) -> int | None:
        """The term that is folded, if there is one."""
        return None if self.query_map is None else linear_term(structure, len(z), self.channels)

    def _fused(self, structure: Structure) -> dict[int, tuple[float, SparseWeights]]:
        """Terms that the engine multiplies by itself: fixed, of the states as they are."""
        if self.value_map is not None:
            return {}
        terms = enumerate(zip(self.mix_shares(structure), structure.operators, strict=True))
        return {
            index: (share, operator)
            for index, (share, operator) in terms
            if operator is not None and operator.fixed and isinstance(share, float)
        }

    def _others(self, z: Tensor, structure: Structure, done: set[int | None]) -> list[Tensor]:
        """Influence of the terms that are not done yet, each (N, C)."""
        indices = [index for index in range(len(structure.terms)) if index not in done]
        operators = [structure.operators[index] for index in indices]
        if None in operators:
            states = self.states(z, structure)
            return [influence_of(index, states) for index in indices]
        if not indices:
            return []
        values = mean_value(self.value_map, self.heads, z)
        return [operator.matmul(values) for operator in operators if operator is not None]

    def states(self, z: Tensor, structure: Structure, context: Tensor | None = None) -> States:
        """Queries, keys and values of states z, towards themselves or a context (L, C)."""
        queries, keys = self.to_heads(self.query_map, z), self.to_heads(self.key_map, z)
        values = self.values(z)
        sparse_keys, sparse_values = keys, values
        if context is not None:
            keys, values = self.to_heads(self.key_map, context), self.values(context)
            sparse_keys = torch.cat([keys, sparse_keys])
            sparse_values = torch.cat([values, sparse_values])
        segments = segment(len(z), len(keys), structure.batch)
        layer = self if self.training else None
        return States(
            z, queries, keys, values, sparse_keys, sparse_values, structure, segments, layer
        )

    def to_heads(self, linear: nn.Linear | None, z: Tensor) -> Tensor:
        """A learnt map into H heads, (N, H, C), or the states themselves, (N, 1, C)."""
        if linear is None:
            return z.unsqueeze(1)
        mapped: Tensor = linear(z)
        return mapped.reshape(len(z), self.heads, self.channels)

    def values(self, z: Tensor) -> Tensor:
        """Values, (L, H, C); without a value map every head moves the states themselves."""
        values = self.to_heads(self.value_map, z)
        return values.expand(len(z), self.heads, self.channels)

    def mix_shares(self, structure: Structure) -> list[float | Tensor]:
        """Convex weight of each term that is present."""
        return self.shares_of(structure.mix)

    def shares_of(self, kept: Sequence[int]) -> list[float | Tensor]:
        """Convex weights of these terms alone."""
        if self.mix_logits is not None:
            return list(torch.softmax(self.mix_logits[list(kept)], 0))
        assert self._fixed_mix is not None
        total = sum(self._fixed_mix[index] for index in kept)
        return [self._fixed_mix[index] / total for index in kept]


def mix_of(
    diffusivity: AnyDiffusivity | Sequence[AnyDiffusivity], graph: bool
) -> tuple[tuple[Diffusivity, ...], int | None]:
    """Terms of a mix, and which of them is the optional observed graph (None: none is)."""
    terms = resolve_all(diffusivity)
    if not graph or any(term.support == "edges" for term in terms):
        return terms, None
    return (*terms, resolve("graph")), len(terms)


def learnt(mix_weights: Sequence[float] | str | None) -> bool:
    """Whether mix weights are to be trained; any other word is an error."""
    if isinstance(mix_weights, str):
        return one_of(mix_weights, ("learnt",), "mix_weights") == "learnt"
    return False


def check_mix(mix_weights: Sequence[float] | str | None, terms: int) -> tuple[float, ...]:
    """Fixed mix weights, one a term."""
    if mix_weights is None:
        return (1.0,) * terms
    given: Any = list(mix_weights) if isinstance(mix_weights, Iterable) else mix_weights
    if (
        not isinstance(given, list)
        or len(given) != terms
        or not all(is_number(w) and 0 < w < float("inf") for w in given)
    ):
        raise ConfigError(
            f"mix_weights must be 'learnt', None, or {terms} positive numbers, one for each term "
            f"with the observed graph last, found {given!r}."
        )
    return tuple(float(w) for w in given)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a setting is a plain number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_states(x: Tensor, width: int, name: str) -> None:
    """Raise a ``DataError`` unless x holds rows of floats, as wide as the module was built for."""
    if x.dim() != 2 or x.shape[1] != width:
        raise DataError(
            f"x must have shape (N, {name}) with {name} = {width}, found {tuple(x.shape)}."
        )
    if not x.is_floating_point():
        raise DataError(f"x must hold floating-point numbers, found {x.dtype}.")
