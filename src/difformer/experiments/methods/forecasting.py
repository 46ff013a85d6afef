"""Forecasting methods: the reference points that every figure stands beside, and networks.

All see the last ``lags`` values of every node, scaled by the training part, and answer a later
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
from difformer.estimators import DIFFormerForecaster
from difformer.estimators.forecasting.references import REFERENCES, ReferenceTask
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
        history (T, N, L); target (T, N), ``horizon`` steps after the last value; train and val
        (T,); edges one graph, one a snapshot or none; scale: factor (N,) and offset (N,) that lead
        to the unit of the answers; file: all steps of the windows (S, N) in the file's unit, NaN
        where only a target would tell; unit: spread and centre (N,) by which it was scaled.
    """

    history: Floats
    target: Floats
    train: NDArray[np.bool_]
    val: NDArray[np.bool_]
    edges: tuple[Edges, ...]
    scale: tuple[Floats, Floats]
    file: Floats
    unit: tuple[Floats, Floats]
    horizon: int = 1

    def judged(self, values: Floats) -> Floats:
        """Scaled values (T, N) in the unit in which they are judged."""
        factor, offset = self.scale
        return values * factor + offset

    def scaled(self, values: Floats) -> Floats:
        """Values (S, N) of the file, scaled."""
        spread, centre = self.unit
        return np.asarray((values - centre) / spread)

    @property
    def learnt(self) -> int:
        """Snapshots of the training and the validation part, which come first."""
        return int((self.train | self.val).sum())


def _reference(name: str) -> Callable[[Forecast, Settings, int], Floats]:
    """A reference point of the forecaster, in the unit of the answers."""

    def fit(task: Forecast, settings: Settings, seed: int) -> Floats:
        train = task.train | task.val if settings.get("validation_too") else task.train
        lags, season = task.history.shape[-1], settings.get("season")
        values = task.judged(task.scaled(task.file))
        given = ReferenceTask(values, lags, task.horizon, train, season, seed)
        found: Floats = REFERENCES[name][1](given)[..., -1]
        return found

    return fit


def _forecaster(task: Forecast, settings: Settings, seed: int) -> Floats:
    """DIFFormerForecaster, fitted on the training and the validation part in the file's unit.

    A window sees the graph of its first step, as the published loader has it.
    """
    options = {key: value for key, value in settings.items() if value not in ("default", 0)}
    graph = options.pop("graph", False)
    lags, count = task.history.shape[-1], len(task.target)
    values = task.file
    index, weight = _graphs(task, lags) if graph else (None, None)
    end = task.learnt + lags + task.horizon - 1
    if "diffusivity" in options:
        options["diffusivity"] = options["diffusivity"].split("+")
    model = DIFFormerForecaster(
        lags, task.horizon, validation=int(task.val.sum()), random_state=seed, **options
    )
    model.fit(values[:end], _until(index, end), _until(weight, end))
    found = model.backtest(values, index, weight, first=lags, levels=(), fitted_too=True).forecast[
        :, -1
    ]
    assert len(found) == count
    return task.judged(task.scaled(found))


def _graphs(task: Forecast, lags: int) -> tuple[Any, Any]:
    """One graph, or one a step so that each window's last step has the graph of its snapshot."""
    if len(task.edges) < 2:
        return task.edges[0] if task.edges else (None, None)
    steps = np.arange(len(task.file)) - lags + 1
    at = np.clip(steps, 0, len(task.edges) - 1)
    return [task.edges[i][0] for i in at], [task.edges[i][1] for i in at]


def _until(graphs: Any, end: int) -> Any:
    return graphs[:end] if isinstance(graphs, list) else graphs


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


_BOTH = {"validation_too": False}

FORECASTING: dict[str, Method] = {
    "forecaster": Method(
        "DIFFormerForecaster",
        _forecaster,
        {
            "encoder": "auto",
            "diffusivity": "default",
            "graph": True,
            "season": 0,
            "transform": "auto",
        },
    ),
    "zero": Method("constant zero", _reference("zero")),
    "persistence": Method("last value", _reference("persistence")),
    "node-mean": Method("last value averaged over nodes", _reference("node-mean")),
    "seasonal": Method("value a season before", _reference("seasonal"), {"season": 7}),
    "pooled-ar": Method("linear AR, pooled", _reference("pooled-ar"), _BOTH),
    "node-ar": Method("linear AR, by node", _reference("node-ar"), _BOTH),
    "mlp": Method(
        "MLP on lags", _trained(_mlp), {**TRAINING, "hidden_channels": 16, "dropout": 0.0}
    ),
    "mlp-long": Method("MLP on lags, learnt from all", _reference("mlp"), _BOTH),
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
