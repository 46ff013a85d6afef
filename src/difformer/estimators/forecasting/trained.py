"""A DIFFormer trained end to end on what the linear readout leaves over.

The linear forecast goes first, so a network whose output map starts at zero is that forecast; the
validation windows keep the epoch that forecasts them best. It sees each node's own columns and a
learnt vector for each node, and its states diffuse between the nodes of a moment.

Letters: W windows, N nodes, D columns, K outputs (channels times horizon), B windows of a batch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from difformer.data.windows import Floats
from difformer.estimators.forecasting.decoupled import Given, LinearForecast, Setting
from difformer.estimators.forecasting.states import Design, Edges, Past, joined, moments_of
from difformer.estimators.forecasting.units import Units
from difformer.nn import DIFFormer
from difformer.training.config import TrainingConfig
from difformer.training.objectives import mean_squared_error
from difformer.training.progress import Report
from difformer.training.randomness import seeded
from difformer.training.trainer import Batch, TrainingResult, train

NETWORK: dict[str, Any] = {
    "hidden_channels": 64,
    "num_layers": 2,
    "node_channels": 16,
    "diffusivity": "simple",
    "value_map": True,
    "dropout": 0.1,
}
TRAINING: dict[str, Any] = {
    "epochs": 50,
    "learning_rate": 0.002,
    "weight_decay": 1e-4,
    "monitor": "val_loss",
    "patience": 8,
    "batch_size": 32,
}


class ForecastNetwork(nn.Module):
    """What is added to a linear forecast.

    Args:
        columns: D, what is known of a node at a moment.
        nodes: N.
        outputs: K.
        node_channels: Width of the vector that is learnt for each node; 0: none.
        options: Of ``DIFFormer``.

    Example:
        >>> network = ForecastNetwork(5, 3, 2, hidden_channels=4)
        >>> network(torch.zeros(7, 3, 5)).shape
        torch.Size([7, 3, 2])
    """

    def __init__(
        self, columns: int, nodes: int, outputs: int, node_channels: int = 0, **options: Any
    ) -> None:
        super().__init__()
        self.config = {
            "columns": columns,
            "nodes": nodes,
            "outputs": outputs,
            "node_channels": node_channels,
            "diffusivity": "simple",
            **options,
        }
        self.node = nn.Parameter(0.1 * torch.randn(nodes, node_channels))
        self.encoder = DIFFormer(columns + node_channels, out_channels=outputs, **options)
        assert self.encoder.output_map is not None
        nn.init.zeros_(self.encoder.output_map.weight)
        nn.init.zeros_(self.encoder.output_map.bias)

    def forward(self, x: Tensor, edges: Edges | None = None) -> Tensor:
        """Of windows (B, N, D), with the joined graph of all of them, (B, N, K)."""
        windows, nodes = x.shape[:2]
        own = self.node.expand(windows, *self.node.shape)
        rows = torch.cat([x, own], dim=-1).reshape(windows * nodes, -1)
        index, weight = (None, None) if edges is None else edges
        moments = self._moments(windows, nodes)
        out: Tensor = self.encoder(rows, index, weight, moments)
        return out.reshape(windows, nodes, -1)

    def _moments(self, windows: int, nodes: int) -> Tensor:
        """The same tensor for the same sizes, so that what belongs to it is remembered."""
        kept = getattr(self, "_kept", None)
        if kept is None or kept[0] != (windows, nodes):
            self._kept = kept = (windows, nodes), moments_of(windows, nodes)
        return kept[1]


@dataclass(eq=False)
class TrainedForecast:
    """A linear forecast and the network that adds to it.

    Attributes:
        linear: Fitted on the training part.
        network: In float32.
        graph: Where no graph is observed: like nodes by their past; or None.
        size: Windows at a time.
    """

    linear: LinearForecast
    network: ForecastNetwork
    graph: Edges | None
    size: int

    @property
    def setting(self) -> Setting:
        """What was told."""
        return self.linear.setting

    @property
    def units(self) -> Units:
        """The unit of forecasts."""
        return self.linear.units

    @property
    def noise(self) -> Floats:
        """Of the linear forecast."""
        return self.linear.noise

    @property
    def design(self) -> Design:
        """What the linear forecast sees."""
        return self.linear.design

    def past(self, given: Given, start: int = 0) -> Past:
        """As the linear forecast's."""
        return self.linear.past(given, start)

    @torch.no_grad()
    def forecast(self, past: Past, windows: range) -> Floats:
        """In the forecaster's unit, (w, N, F, H)."""
        found = self.linear.forecast(past, windows)
        self.network.eval()
        for start in range(0, len(windows), self.size):
            part = windows[start : start + self.size]
            more = self.network(self.columns(past, part), self.edges(past, part))
            found[start : start + len(part)] += (
                more.double().numpy().reshape(len(part), *found.shape[1:])
            )
        return found

    def columns(self, past: Past, windows: range | NDArray[np.int64]) -> Tensor:
        """What the network sees, float32, (w, N, D): each node's own columns."""
        own, _ = self.linear.design.own(past, windows)
        return torch.from_numpy(own).float()

    def edges(self, past: Past, windows: range) -> Edges | None:
        """The graphs of these windows, joined; remembered where they do not change."""
        nodes = past.values.shape[1]
        if len(past.graphs) > 1:
            return _float(joined(self.linear.design.graphs(past, windows), nodes))
        one = past.graphs[0] if past.graphs else self.graph
        if one is None:
            return None
        kept = getattr(self, "_kept", None)
        if kept is None or kept[0] != len(windows):
            self._kept = kept = len(windows), _float(joined([one] * len(windows), nodes))
        return kept[1]


def _float(edges: Edges) -> Edges:
    index, weight = edges
    return index, None if weight is None else weight.float()


def fit(
    linear: LinearForecast,
    past: Past,
    target: Floats,
    first: int,
    options: Mapping[str, Any],
    config: TrainingConfig,
    progress: Report | None = None,
) -> tuple[TrainedForecast, TrainingResult]:
    """Train on the windows before ``first``; those from there on, if any, choose the epoch.

    Args:
        linear: Fitted on the windows before ``first``.
        past: The series in its unit.
        target: In that unit, (W, N, F, H), NaN where missing.
        first: The first validation window; W: there are none.
        options: Of ``ForecastNetwork``.
        config: ``batch_size`` counts windows.
    """
    size = config.batch_size or len(target)
    columns = len(linear.design.columns(past).groups["own"])
    nodes, width = target.shape[1], target.shape[2] * target.shape[3]
    with seeded(config.seed):
        network = ForecastNetwork(columns, nodes, width, **options)
    model = TrainedForecast(linear, network, _like_nodes(linear, past), size)
    left = torch.from_numpy(target - linear.forecast(past, range(len(target)))).float()
    left = left.reshape(len(target), nodes, width)
    learnt = torch.arange(len(target)) < first

    def forward() -> Tensor:  # only the windows that choose are looked at
        judging = range(first, len(target))
        parts = [judging[a : a + size] for a in range(0, len(judging), size)]
        found = [network(model.columns(past, part), model.edges(past, part)) for part in parts]
        return torch.cat([left.new_zeros(first, nodes, width), *found])

    def batches(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng((config.seed, epoch)).permutation(first)
        for start in range(0, first, size):
            rows = np.sort(order[start : start + size])
            x, edges = model.columns(past, rows), _edges_of(model, past, rows)
            yield Batch(torch.from_numpy(rows), partial(network, x, edges))

    result = train(
        network,
        forward,
        left,
        learnt,
        config,
        None if first == len(target) else ~learnt,
        objective=mean_squared_error,
        progress=progress,
        batches=batches,
    )
    network.encoder.workspace.release()
    return model, result


def _edges_of(model: TrainedForecast, past: Past, rows: NDArray[np.int64]) -> Edges | None:
    if len(past.graphs) < 2:
        return model.edges(past, range(len(rows)))
    nodes = past.values.shape[1]
    return _float(joined(model.linear.design.graphs(past, rows.tolist()), nodes))


def _like_nodes(linear: LinearForecast, past: Past) -> Edges | None:
    """Neighbours among the past of the nodes, as a graph, where none is observed."""
    if past.graphs:
        return None
    for weights in linear.design.operators.values():
        pattern = weights.pattern
        return torch.stack([pattern.col, pattern.row]), weights.values.float()
    return None
