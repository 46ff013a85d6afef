"""A fitted encoder with a frozen context: exact answers for new instances.

The fitted instances (the context) diffuse among themselves as they did in fitting. New instances
move towards them, layer by layer, but neither influence them nor one another, and none is its own
neighbour; a self-loop of the observed graph remains. So each new row has one answer, whatever
other rows are asked for beside it.

Letters: L context instances, N new ones, F features, C channels.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from difformer.data import neighbors
from difformer.diffusion import Diffusivity, Neighbourhood, SparseWeights
from difformer.diffusion.graph import check_edges, sparse_weights
from difformer.diffusion.local import cross_weights
from difformer.nn.conv import check_states
from difformer.nn.encoder import DIFFormer
from difformer.nn.frozen import FrozenNetwork, freeze
from difformer.nn.structure import (
    Cache,
    Structure,
    found_neighbours,
    neighbour_lists,
    operator_of,
    view,
)

ROWS = 1024  # new instances whose distances to the context are held at a time
BLOCK = 2048  # new instances whose states stay in the cache


@dataclass(frozen=True, eq=False)
class FrozenContext:
    """An encoder, the instances it was fitted on, and their graph.

    Cost of a prediction: O(N C^2) a layer where all that is asked of the context are sums
    (``simple`` alone; they are found once). Else one forward pass over the context, plus O(N L) for
    penalties that look at all pairs.

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

    @torch.no_grad()
    def predict(
        self, x: Tensor, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Raw outputs for new rows x (N, F).

        Args:
            x: Features of the new rows.
            edge_index: Edges from known to new rows, (2, E): row 0 numbers the context, row 1 the
                new rows.
            edge_weight: Their weights, (E,).

        Raises:
            DataError: If edges point outside the context or the new rows.
        """
        return self.model.readout(self.encode(x, edge_index, edge_weight))

    @torch.no_grad()
    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        exact: bool = False,
    ) -> Tensor:
        """States of new rows after the last step, (N, C), in the precision of x.

        With ``exact`` in that of the network where there is one, which is float64.
        """
        model = self.model
        was_training = model.training
        model.eval()
        try:
            network = self.network
            if network is None:
                return self._diffuse(x, edge_index, edge_weight)
            check_edges(edge_index, edge_weight, self.x.shape[0], x.shape[0])
            check_states(x, model.config["in_channels"], "in_channels")
            states = _in_blocks(network, x)
            return states if exact else states.to(x.dtype)
        finally:
            model.train(was_training)

    @property
    def network(self) -> FrozenNetwork | None:
        """What the encoder is for new rows where they need sums of the context alone."""
        return self._frozen.get(  # type: ignore[no-any-return]
            (self.x, self.edge_index, self.edge_weight),
            lambda: freeze(self.model, self.x, self.structure),
            like=tuple((id(p), p._version) for p in self.model.parameters()),
        )

    def _diffuse(self, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None) -> Tensor:
        model, known = self.model, self.structure
        towards = self.towards(x, edge_index, edge_weight)
        z = initial = model.embed(x)
        states = model.embed(self.x)
        steps = zip(model.layers, model.steps(states, known), strict=True)
        for index, (conv, step) in enumerate(steps):
            structure = self._found_again(towards, step.before, z)
            z = model.settle(conv.step(z, structure, initial, step.before), index + 1)
        return model.finish(z)

    @property
    def structure(self) -> Structure:
        """The structure among the context's own rows."""
        return self.model.structure(self.x, self.edge_index, self.edge_weight)

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
        known = self.structure
        weights, operators = [], []
        for index, term in enumerate(known.terms):
            w = None
            if term.support == "edges":
                w = self._edges(x, edge_index, edge_weight)
            elif term.neighbours is not None and term.neighbours.space == "input":
                w = _neighbours(self.x, x, term.neighbours)
            weights.append(w)
            operators.append(_normalised(term, w, known.weights[index], self._graph_norm))
        return replace(known, weights=tuple(weights), operators=tuple(operators))

    def _found_again(self, towards: Structure, states: Tensor, z: Tensor) -> Structure:
        """Find neighbours in state space among the context's present states."""
        weights, operators = list(towards.weights), list(towards.operators)
        for index, term in enumerate(towards.terms):
            rule = term.neighbours
            if rule is not None and rule.space == "state":
                w = weights[index] = _neighbours(states, z, rule)
                among = found_neighbours(states, rule) if rule.norm == "sym" else None
                operators[index] = _normalised(term, w, among, self._graph_norm)
        return replace(towards, weights=tuple(weights), operators=tuple(operators))

    @property
    def _graph_norm(self) -> str:
        return str(self.model.config["graph_norm"])

    def _edges(self, x: Tensor, edge_index: Tensor | None, weight: Tensor | None) -> SparseWeights:
        """Rows: new. Columns: the context, then the new rows themselves (self-loops)."""
        new, known = x.shape[0], self.x.shape[0]
        loop = torch.arange(new, device=x.device)
        row, col, values = loop, known + loop, torch.ones(new, dtype=x.dtype, device=x.device)
        if edge_index is not None:
            edge_index = edge_index.long()
            given = torch.ones(edge_index.shape[1]) if weight is None else weight
            row, col = torch.cat([row, edge_index[1]]), torch.cat([col, edge_index[0]])
            values = torch.cat([values, given.to(values)])
        return sparse_weights(row, col, values, new, known + new)


def _in_blocks(network: FrozenNetwork, x: Tensor) -> Tensor:
    """States of new rows (N, F), a block at a time; CSR at once, for its states are dense."""
    if x.layout == torch.sparse_csr or len(x) <= BLOCK:
        return network.encode(x)
    first = network.encode(x[:BLOCK])
    states = first.new_empty(len(x), first.shape[1])
    states[:BLOCK] = first
    for start in range(BLOCK, len(x), BLOCK):
        states[start : start + BLOCK] = network.encode(x[start : start + BLOCK])
    return states


def _normalised(
    term: Diffusivity, weights: SparseWeights | None, known: SparseWeights | None, graph_norm: str
) -> SparseWeights | None:
    """Normalise by the degrees of both sides; those of the context stay as fitted."""
    if weights is None or known is None:
        return operator_of(term, weights, graph_norm)
    degree = weights.degree
    return operator_of(term, weights, graph_norm, torch.cat([known.degree.to(degree), degree]))


def _neighbours(x: Tensor, new: Tensor, rule: Neighbourhood) -> SparseWeights:
    """Weights between new rows and the context by the ``local`` rule, in blocks of new rows."""
    squared = neighbour_lists(x, rule)[1]
    points, queries = view(x, rule), view(x, rule, new)
    blocks = []
    for start in range(0, new.shape[0], ROWS):
        near = neighbors.search(
            queries[start : start + ROWS], x.shape[0], metric=rule.metric, keys=points
        )
        index, distance = torch.from_numpy(near.index), torch.from_numpy(near.squared_distance)
        by_column = torch.empty_like(distance).scatter_(1, index, distance)
        blocks.append(cross_weights(by_column, squared, rule))
    rows = [b.pattern.row + ROWS * i for i, b in enumerate(blocks)]
    empty = torch.zeros(0, dtype=torch.long)
    found = sparse_weights(
        torch.cat([empty, *rows]),
        torch.cat([empty, *(b.pattern.col for b in blocks)]),
        torch.cat([empty.double(), *(b.values for b in blocks)]),
        new.shape[0],
        x.shape[0] + new.shape[0],
    )
    return found.to(x.device, x.dtype)
