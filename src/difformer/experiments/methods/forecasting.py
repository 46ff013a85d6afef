"""Forecasting methods: the reference points that every figure stands beside, and networks.

All see the last ``lags`` values of every node, scaled by the training part, and answer the next
value in the unit in which it is judged: ``Forecast.scale`` leads there.

Letters: T snapshots, N nodes, L lags.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from difformer.data.series import Edges, graph_at
from difformer.experiments.methods.method import Method, Settings, divided
from difformer.nn import DIFFormer
from difformer.nn.official import RELEASED_DEFAULTS, official_options
from difformer.training import TrainingConfig, train
from difformer.training.objectives import mean_squared_error
from difformer.training.randomness import seeded

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Forecast:
    """What a forecasting method may see. Targets of test snapshots are NaN.

    Shapes:
        history (T, N, L); target (T, N); train and val (T,); edges one graph, one a snapshot or
        none; scale: factor (N,) and offset (N,) that lead to the unit of the answers.
    """

    history: Floats
    target: Floats
    train: NDArray[np.bool_]
    val: NDArray[np.bool_]
    edges: tuple[Edges, ...]
    scale: tuple[Floats, Floats]

    def judged(self, values: Floats) -> Floats:
        """Scaled values (T, N) in the unit in which they are judged."""
        factor, offset = self.scale
        return values * factor + offset


def _zero(task: Forecast, settings: Settings, seed: int) -> Floats:
    """0 in the unit of the answers."""
    return np.zeros_like(task.target)


def _persistence(task: Forecast, settings: Settings, seed: int) -> Floats:
    """The last value of the node."""
    return task.judged(task.history[..., -1])


def _node_mean(task: Forecast, settings: Settings, seed: int) -> Floats:
    """The last value averaged over nodes, in the unit of the answers."""
    last = task.judged(task.history[..., -1])
    return np.broadcast_to(last.mean(axis=1, keepdims=True), last.shape).copy()


def _pooled(task: Forecast, settings: Settings, seed: int) -> Floats:
    """One linear regression on the lags for all nodes, in the unit of the answers."""
    from sklearn.linear_model import LinearRegression

    lags = task.history.shape[-1]
    history = np.stack([task.judged(task.history[..., lag]) for lag in range(lags)], axis=-1)
    x, y = history[task.train].reshape(-1, lags), task.judged(task.target)[task.train].reshape(-1)
    found: Floats = LinearRegression().fit(x, y).predict(history.reshape(-1, lags))
    return found.reshape(task.target.shape)


def _by_node(task: Forecast, settings: Settings, seed: int) -> Floats:
    """A ridge regression on the lags for each node."""
    from sklearn.linear_model import Ridge

    found = np.empty_like(task.target)
    for node in range(found.shape[1]):
        model = Ridge(settings["alpha"])
        model.fit(task.history[task.train, node], task.target[task.train, node])
        found[:, node] = model.predict(task.history[:, node])
    return task.judged(found)


TRAINING: dict[str, Any] = {
    "epochs": 200,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "patience": None,
}
Build = Callable[[Forecast, Settings], nn.Module]


def _trained(build: Build) -> Callable[[Forecast, Settings, int], Floats]:
    """A network called snapshot by snapshot; one step an epoch, best validation weights kept."""

    def fit(task: Forecast, settings: Settings, seed: int) -> Floats:
        options, own = divided(settings, TRAINING)
        with seeded(seed):
            network = build(task, options)
        history = torch.from_numpy(task.history).float()
        edges = [_tensors(pair) for pair in task.edges]
        target = torch.from_numpy(np.nan_to_num(task.target)).float()
        learnt = torch.from_numpy(task.train)

        def forward() -> Tensor:
            wanted = learnt if network.training else torch.ones_like(learnt)
            out = torch.zeros_like(target)
            for step in wanted.nonzero().flatten().tolist():
                out[step] = network(history[step], *(graph_at(edges, step) or ())).squeeze(-1)
            return out

        config = TrainingConfig(seed=seed, monitor="val_loss", **own)
        val = torch.from_numpy(task.val)
        train(network, forward, target, learnt, config, val, objective=mean_squared_error)
        with torch.no_grad():
            return task.judged(forward().double().numpy())

    return fit


def _tensors(pair: Edges) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(pair[0]), torch.from_numpy(pair[1]).float()


def _official(task: Forecast, options: Settings) -> nn.Module:
    lags = task.history.shape[-1]
    chosen = official_options(in_channels=lags, out_channels=1, **options)
    return DIFFormer(**chosen)


class _Perceptron(nn.Module):
    """An MLP on the lags of each node, blind to the others."""

    def __init__(self, lags: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(lags, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor, *graph: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def _mlp(task: Forecast, options: Settings) -> nn.Module:
    return _Perceptron(task.history.shape[-1], options["hidden_channels"], options["dropout"])


FORECASTING: dict[str, Method] = {
    "zero": Method("constant zero", _zero),
    "persistence": Method("last value", _persistence),
    "node-mean": Method("last value averaged over nodes", _node_mean),
    "pooled-ar": Method("linear AR, pooled", _pooled),
    "node-ar": Method("linear AR, by node", _by_node, {"alpha": 1.0}),
    "mlp": Method(
        "MLP on lags", _trained(_mlp), {**TRAINING, "hidden_channels": 16, "dropout": 0.0}
    ),
    "official": Method(
        "official preset",
        _trained(_official),
        {
            **TRAINING,
            **RELEASED_DEFAULTS,
            "hidden_channels": 4,
            "dropout": 0.2,
            "use_weight": False,
        },
    ),
}
