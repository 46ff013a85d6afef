r"""DIFFormer for batches of graphs: molecules, proteins, regions, point clouds.

States diffuse between the nodes of a graph, never between graphs: what is said of a graph does not
depend on which others lie in its batch. Edge features, whatever their kind, say two things: the
mean over the edges that a node receives of a learnt function of the edge and both its ends stands
among the node's features, and a learnt positive function of the edge is its rate.

Letters: N nodes of all graphs, G graphs, E edges, F features, A edge features, C channels, O
outputs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from difformer.errors import ConfigError, DataError, one_of, whole_number
from difformer.nn.encoder import DIFFormer

LEVELS = ("graph", "node")


class GraphDIFFormer(nn.Module):
    """Outputs for whole graphs, or for the nodes of graphs.

    The signature is that of models of torch_geometric: ``model(data.x, data.edge_index,
    data.edge_attr, data.batch)``.

    Args:
        in_channels: Features F of a node.
        hidden_channels: Width C of the states.
        out_channels: Outputs O; raw, no softmax.
        num_layers: Diffusion steps.
        edge_channels: Features A of an edge; 0: there are none.
        pool: How the states of a graph become one: ``"mean"``, ``"sum"``, ``"max"``,
            ``"attention"`` (a learnt convex mean), or several of them, side by side.
        level: What outputs belong to: each ``"graph"``, or each ``"node"``.
        degrees: Whether a node sees how many edges it has (log(1 + degree)): an average over
            neighbours does not tell.
        dropout: Rate on states and before the last map.
        options: Of :class:`DIFFormer`, such as ``diffusivity``; by default a ReLU follows each
            step, all steps are seen by the output, and states keep their size
            (``activation="each"``, ``jump=True``, ``norm=None``).

    Shapes:
        - input: x (N, F), edge_index (2, E), edge_attr (E, A) or (E,), batch (N,)
        - output: (G, O), or (N, O) for nodes

    Raises:
        ConfigError: On an unknown name or a value out of range.
        DataError: If parts do not fit each other.

    Cost: see :class:`DIFFormerConv`; O(N C) for pooling.

    Example:
        >>> model = GraphDIFFormer(4, 16, 2, edge_channels=3)
        >>> x, edge_index = torch.randn(5, 4), torch.tensor([[0, 1, 3], [1, 0, 4]])
        >>> batch = torch.tensor([0, 0, 0, 1, 1])
        >>> model(x, edge_index, torch.randn(3, 3), batch).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 3,
        *,
        edge_channels: int = 0,
        pool: str | Sequence[str] = ("mean", "sum"),
        level: str = "graph",
        degrees: bool = True,
        dropout: float = 0.1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.config = {
            "in_channels": in_channels,
            "hidden_channels": hidden_channels,
            "out_channels": out_channels,
            "num_layers": num_layers,
            "edge_channels": whole_number(edge_channels, 0, "edge_channels"),
            "pool": pool,
            "level": one_of(level, LEVELS, "level"),
            "degrees": degrees,
            "dropout": dropout,
            **options,
        }
        names = (pool,) if isinstance(pool, str) else tuple(pool)
        if not names:
            raise ConfigError("pool must name at least one way, found none.")
        self.pools = [one_of(name, POOLS, "pool") for name in names]
        self.level, self.degrees, self.edge_channels = level, degrees, edge_channels
        width = in_channels + (hidden_channels if edge_channels else 0) + degrees
        usual = {"activation": "each", "jump": True, "value_map": True, "norm": None}
        chosen = {**usual, **options}
        self.encoder = DIFFormer(
            width, hidden_channels, hidden_channels, num_layers, dropout=dropout, **chosen
        )
        self.edge_map = (
            _EdgeMap(in_channels, edge_channels, hidden_channels) if edge_channels else None
        )
        self.edge_rate = nn.Linear(edge_channels, 1) if edge_channels else None
        self.score = nn.Linear(hidden_channels, 1) if "attention" in self.pools else None
        pooled = hidden_channels * (len(names) if level == "graph" else 1)
        self.head = nn.Sequential(
            nn.Linear(pooled, hidden_channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_channels, out_channels),
        )

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Raw outputs. ``batch_size`` is G, for a last graph that may have no node."""
        states = self.encode(x, edge_index, edge_attr, batch)
        if self.level == "node":
            return self._out(states)
        return self._out(self.pooled(states, batch, batch_size))

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """States of all nodes, (N, C)."""
        edge_attr = self._checked(edge_index, edge_attr)
        parts = [x]
        if self.degrees:
            parts.append(_degree(edge_index, x).log1p().unsqueeze(1))
        weight = None
        if self.edge_map is not None and self.edge_rate is not None:
            parts.append(self.edge_map(x, edge_index, edge_attr))
            if edge_attr is not None:
                weight = softplus(self.edge_rate(edge_attr)).squeeze(1)
        states: Tensor = self.encoder(torch.cat(parts, 1), edge_index, weight, batch)
        return states

    def pooled(self, states: Tensor, batch: Tensor | None, count: int | None = None) -> Tensor:
        """What the states of each graph come to, (G, P C)."""
        if batch is None:
            batch = torch.zeros(len(states), dtype=torch.long, device=states.device)
        graphs = int(batch.max()) + 1 if len(batch) else 0
        if count is not None:
            if count < graphs:
                raise DataError(f"batch_size must be at least {graphs}, as batch says: {count}.")
            graphs = count
        score = None if self.score is None else self.score(states).squeeze(1)
        return torch.cat([POOLS[name](states, batch, graphs, score) for name in self.pools], 1)

    def _out(self, states: Tensor) -> Tensor:
        out: Tensor = self.head(states)
        return out

    def _checked(self, edge_index: Tensor | None, edge_attr: Tensor | None) -> Tensor | None:
        """Edge features (E, A), or None where the model has none."""
        if not self.edge_channels:
            if edge_attr is not None:
                raise DataError("edge_attr was given, but the model has edge_channels=0.")
            return None
        if edge_index is None or edge_attr is None:
            if edge_index is not None and edge_index.shape[1]:
                raise DataError(f"edge_attr must have {self.edge_channels} columns, found none.")
            return None
        if edge_attr.dim() == 1:
            edge_attr = edge_attr.unsqueeze(1)
        if edge_attr.shape != (edge_index.shape[1], self.edge_channels):
            raise DataError(
                f"edge_attr must have shape ({edge_index.shape[1]}, {self.edge_channels}), found "
                f"{tuple(edge_attr.shape)}."
            )
        weight = self.head[0].weight
        assert isinstance(weight, Tensor)
        return edge_attr.to(weight.dtype)

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator."""
        for module in (self.encoder, self.edge_map, self.edge_rate, self.score, *self.head):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def extra_repr(self) -> str:
        """Sizes."""
        c = self.config
        return f"{c['in_channels']}, {c['hidden_channels']}, {c['out_channels']}, {c['level']}"


class _EdgeMap(nn.Module):
    """The mean over a node's edges of relu(A x_i + B x_j + C e_ij), mapped, (N, C)."""

    def __init__(self, channels: int, edge_channels: int, width: int) -> None:
        super().__init__()
        self.receiver, self.sender = nn.Linear(channels, width), nn.Linear(channels, width)
        self.edge, self.out = nn.Linear(edge_channels, width), nn.Linear(width, width)

    def forward(self, x: Tensor, edge_index: Tensor | None, edge_attr: Tensor | None) -> Tensor:
        """Zero, mapped, for a node without edges."""
        heard = x.new_zeros(len(x), self.out.in_features)
        if edge_index is not None and edge_attr is not None:
            source, target = edge_index
            own, other = (
                linear(x).index_select(0, end)
                for linear, end in ((self.receiver, target), (self.sender, source))
            )
            said = (own + other + self.edge(edge_attr)).relu()
            heard = heard.index_add(0, target, said)
            heard = heard / _degree(edge_index, x).clamp_min(1).unsqueeze(1)
        out: Tensor = self.out(heard)
        return out

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator."""
        for linear in (self.receiver, self.sender, self.edge, self.out):
            linear.reset_parameters()


def _degree(edge_index: Tensor | None, x: Tensor) -> Tensor:
    """How many edges each node receives, (N,)."""
    if edge_index is None:
        return x.new_zeros(len(x))
    return torch.bincount(edge_index[1], minlength=len(x)).to(x.dtype)


def _sum(states: Tensor, batch: Tensor, graphs: int, score: Tensor | None) -> Tensor:
    return states.new_zeros(graphs, states.shape[1]).index_add(0, batch, states)


def _mean(states: Tensor, batch: Tensor, graphs: int, score: Tensor | None) -> Tensor:
    sizes = torch.bincount(batch, minlength=graphs).clamp_min(1).unsqueeze(1)
    return _sum(states, batch, graphs, score) / sizes


def _max(states: Tensor, batch: Tensor, graphs: int, score: Tensor | None) -> Tensor:
    """Zero for a graph without nodes."""
    index = batch.unsqueeze(1).expand_as(states)
    start = states.new_zeros(graphs, states.shape[1])
    return start.scatter_reduce(0, index, states, "amax", include_self=False)


def _attention(states: Tensor, batch: Tensor, graphs: int, score: Tensor | None) -> Tensor:
    """Convex weights within each graph, the softmax of the scores."""
    assert score is not None
    start = score.new_zeros(graphs)
    highest = start.scatter_reduce(0, batch, score, "amax", include_self=False).detach()
    weight = (score - highest[batch]).exp()
    total = start.index_add(0, batch, weight)
    return _sum(states * (weight / total[batch]).unsqueeze(1), batch, graphs, score)


# Name -> states (N, C), batch (N,), G and scores (N,) to (G, C).
POOLS: dict[str, Callable[[Tensor, Tensor, int, Tensor | None], Tensor]] = {
    "mean": _mean,
    "sum": _sum,
    "max": _max,
    "attention": _attention,
}
