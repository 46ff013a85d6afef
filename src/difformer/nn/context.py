"""A fitted encoder with a frozen context: exact answers for new instances.

The fitted instances (the context) diffuse among themselves as they did in fitting. New instances
move towards them, layer by layer, but neither influence them nor one another, and none is its own
neighbour; a self-loop of the observed graph remains. So each new row has one answer, whatever
other rows are asked for beside it.

Letters: L context instances, N new ones, F features, C channels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from difformer.data.reach import joined
from difformer.diffusion import Diffusivity, Neighbourhood, SparseWeights, local_weights
from difformer.diffusion.graph import Pattern, check_edges, sparse_weights
from difformer.diffusion.local import Lists, cross_weights, reach
from difformer.nn.conv import check_states
from difformer.nn.encoder import DIFFormer, side_by_side
from difformer.nn.frozen import FrozenNetwork, freeze
from difformer.nn.structure import (
    Cache,
    Structure,
    lists_among,
    operator_of,
    projection,
    wanted,
)

BLOCK = 2048  # new instances whose states stay in the cache


@dataclass(frozen=True, eq=False)
class FrozenContext:
    """An encoder, the instances it was fitted on, and their graph.

    Cost of a prediction: O(N C^2) a layer where all that is asked of the context are sums
    (``simple`` alone; they are found once). Else O(N L) where neighbours are searched or penalties
    look at all pairs; the states of the context are found once and kept.

    Example:
        >>> model = DIFFormer(4, 8, 2).eval()
        >>> context = FrozenContext(model, torch.randn(10, 4))
        >>> context.predict(torch.randn(3, 4)).shape
        torch.Size([3, 2])
    """

    model: DIFFormer
    x: Tensor  # (L, F)
    edge_index: Tensor | None = None
    edge_weight: Tensor | None = None
    _cache: Cache = field(default_factory=Cache, repr=False)
    _frozen: Cache = field(default_factory=Cache, repr=False)
    _states: Cache = field(default_factory=Cache, repr=False)

    @torch.no_grad()
    def predict(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        exact: bool = False,
    ) -> Tensor:
        """Raw outputs for new rows x (N, F), in the precision of x.

        Args:
            x: Features of the new rows.
            edge_index: Edges from known to new rows, (2, E): row 0 numbers the context, row 1 the
                new rows.
            edge_weight: Their weights, (E,).
            exact: In the precision of the network, float64, where there is one.

        Raises:
            DataError: If edges point outside the context or the new rows.
        """
        network = self._network_for(x, edge_index, edge_weight)
        if network is None:
            return self.model.readout(self._diffused(x, edge_index, edge_weight))
        found = _in_blocks(network, x)
        return found if exact else found.to(x.dtype)

    @torch.no_grad()
    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        exact: bool = False,
    ) -> Tensor:
        """States of new rows after the last step, (N, C); arguments as :meth:`predict`."""
        network = self._network_for(x, edge_index, edge_weight)
        if network is None:
            return self._diffused(x, edge_index, edge_weight)
        found = _in_blocks(network.encode, x)
        return found if exact else found.to(x.dtype)

    def _network_for(
        self, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None
    ) -> FrozenNetwork | None:
        """The network, if there is one that these rows can be given to."""
        with _evaluating(self.model):
            network = self.network
        if network is not None:
            check_edges(edge_index, edge_weight, self.x.shape[0], x.shape[0])
            check_states(x, self.model.config["in_channels"], "in_channels")
        return network

    def _diffused(self, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None) -> Tensor:
        with _evaluating(self.model):
            return self._diffuse(x, edge_index, edge_weight)

    @property
    def network(self) -> FrozenNetwork | None:
        """What the encoder is for new rows where they need sums of the context alone."""
        return self._frozen.get(  # type: ignore[no-any-return]
            (self.x, self.edge_index, self.edge_weight),
            lambda: freeze(self.model, self.x, self.structure),
            like=self._version,
        )

    def _diffuse(self, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None) -> Tensor:
        model, fitted = self.model, self.fitted
        towards = self.towards(x, edge_index, edge_weight)
        z = initial = model.embed(x)
        seen = [z]
        for index, (conv, states) in enumerate(zip(model.layers, fitted.states, strict=True)):
            structure = self._found_again(towards, index, z)
            z = model.settle(conv.step(z, structure, initial, states), index + 1)
            seen = [*seen, z] if model.jump else [z]
        return model.finish(side_by_side(seen))

    @property
    def structure(self) -> Structure:
        """The structure among the context's own rows."""
        return self.model.structure(self.x, self.edge_index, self.edge_weight)

    @property
    def fitted(self) -> "Fitted":
        """States of the context before each layer, kept as long as nothing changes."""
        return self._states.get(  # type: ignore[no-any-return]
            (self.x, self.edge_index, self.edge_weight), self._fit, like=self._version
        )

    @torch.no_grad()
    def _fit(self) -> "Fitted":
        with _evaluating(self.model):
            known = self.structure
            steps = self.model.steps(self.model.embed(self.x), known)
            return Fitted(known, [step.before for step in steps])

    def sides(self, space: str, layer: int = -1) -> list["Side"]:
        """The context's side of each neighbourhood in ``input`` or, before a layer, ``state``."""
        fitted = self.fitted
        x = self.x if space == "input" else fitted.states[layer]
        rules = [term.neighbours for term in fitted.structure.terms]
        found = [(at, rule) for at, rule in enumerate(rules) if rule and rule.space == space]
        return [fitted.side(layer, at, x, rule) for at, rule in found]

    @property
    def _version(self) -> tuple[tuple[int, int], ...]:
        return tuple((id(p), p._version) for p in self.model.parameters())

    def towards(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Structure:
        """The structure between new rows and the context, where it is fixed.

        Sparse weights have a row for each new instance; their columns are the context and then the
        new instances themselves. Errors as :meth:`predict`.
        """
        check_edges(edge_index, edge_weight, self.x.shape[0], x.shape[0])
        return self._cache.get(  # type: ignore[no-any-return]
            (x, edge_index, edge_weight, self.x, self.edge_index, self.edge_weight),
            lambda: self._towards(x, edge_index, edge_weight),
        )

    def _towards(
        self, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None
    ) -> Structure:
        fitted = self.fitted
        known = fitted.structure
        weights, operators = [], []
        for index, term in enumerate(known.terms):
            w = None
            if term.support == "edges":
                w = self._edges(x, edge_index, edge_weight)
            elif term.neighbours is not None and term.neighbours.space == "input":
                w = fitted.side(-1, index, self.x, term.neighbours).weights(x)
            weights.append(w)
            operators.append(_normalised(term, w, known.weights[index], self._graph_norm))
        return replace(known, weights=tuple(weights), operators=tuple(operators))

    def _found_again(self, towards: Structure, layer: int, z: Tensor) -> Structure:
        """Find neighbours in state space among the context's states before a layer."""
        weights, operators = list(towards.weights), list(towards.operators)
        for index, term in enumerate(towards.terms):
            rule = term.neighbours
            if rule is not None and rule.space == "state":
                side = self.fitted.side(layer, index, self.fitted.states[layer], rule)
                w = weights[index] = side.weights(z)
                among = side.among if rule.norm == "sym" else None
                operators[index] = _normalised(term, w, among, self._graph_norm)
        return replace(towards, weights=tuple(weights), operators=tuple(operators))

    @property
    def _graph_norm(self) -> str:
        return str(self.model.config["graph_norm"])

    def _edges(self, x: Tensor, edge_index: Tensor | None, weight: Tensor | None) -> SparseWeights:
        """Rows: new. Columns: the context, then the new rows themselves (self-loops)."""
        new, known = x.shape[0], self.x.shape[0]
        loop = torch.arange(new, device=x.device)
        if not self.model.config["graph_loops"] and edge_index is not None:
            loop = loop[~torch.isin(loop, edge_index[1])]  # who hears nobody stays as it is
        row, col = loop, known + loop
        values = torch.ones(len(loop), dtype=x.dtype, device=x.device)
        if edge_index is not None:
            edge_index = edge_index.long()
            given = torch.ones(edge_index.shape[1]) if weight is None else weight
            row, col = torch.cat([row, edge_index[1]]), torch.cat([col, edge_index[0]])
            values = torch.cat([values, given.to(values)])
        return sparse_weights(row, col, values, new, known + new)


def _in_blocks(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What is called gives of new rows (N, F), a block at a time; of CSR at once."""
    if x.layout == torch.sparse_csr or len(x) <= BLOCK:
        return call(x)
    first = call(x[:BLOCK])
    found = first.new_empty(len(x), first.shape[1])
    found[:BLOCK] = first
    for start in range(BLOCK, len(x), BLOCK):
        found[start : start + BLOCK] = call(x[start : start + BLOCK])
    return found


@contextmanager
def _evaluating(model: DIFFormer) -> Iterator[None]:
    """In evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _normalised(
    term: Diffusivity, weights: SparseWeights | None, known: SparseWeights | None, graph_norm: str
) -> SparseWeights | None:
    """Normalise by the degrees of both sides; those of the context stay as fitted."""
    if weights is None or known is None:
        return operator_of(term, weights, graph_norm)
    degree = weights.degree
    return operator_of(term, weights, graph_norm, torch.cat([known.degree.to(degree), degree]))


class Fitted:
    """What new rows ask of the context where sums are not enough: states, and neighbour lists."""

    def __init__(self, structure: Structure, states: list[Tensor]) -> None:
        self.structure = structure
        self.states = states  # before each layer, (L, C)
        self._sides: dict[tuple[int, int], Side] = {}

    def side(self, layer: int, term: int, x: Tensor, rule: Neighbourhood) -> "Side":
        """Of a term in input space (layer -1) or among the states x before a layer."""
        if (layer, term) not in self._sides:
            self._sides[layer, term] = Side(x, rule)
        return self._sides[layer, term]


class Side:
    """The context's side of the ``local`` rule: its points, and how far each of them reaches."""

    def __init__(self, x: Tensor, rule: Neighbourhood) -> None:
        self.x, self.rule, self.project = x, rule, projection(x, rule)
        self.points = self.project(x)
        self.lists = lists_among(self.points, rule, x.device)
        self.reach = reach(self.lists.squared, rule).double().numpy()

    def weights(self, new: Tensor) -> SparseWeights:
        """Between new rows (N, F) and the context; with columns for the new rows themselves."""
        rows, rule = self.project(new), self.rule
        near, pairs = joined(rows, self.points, wanted(rule), self.reach, rule.metric)
        lists = Lists(torch.from_numpy(near.index), torch.from_numpy(near.squared_distance))
        row, key, squared = map(torch.from_numpy, pairs)
        found = cross_weights(lists, (row, key, squared), self.lists.squared, rule)
        pattern, columns = found.pattern, len(self.reach) + new.shape[0]
        wide = SparseWeights(Pattern(pattern.crow, pattern.col, columns), found.values)
        return wide.to(self.x.device, self.x.dtype)

    @cached_property
    def among(self) -> SparseWeights:
        """Weights among the context itself."""
        found = local_weights(*self.lists, self.rule, torch.float64)
        return found.to(self.x.device, self.x.dtype)
