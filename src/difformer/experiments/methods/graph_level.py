"""Classes of whole graphs as in the papers: an encoder of nodes, the mean over each graph.

All graphs make one step together. Letters: G graphs, N nodes, F features, C classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from difformer.experiments.methods.graph_networks import GRAPH_NETWORKS
from difformer.experiments.methods.graph_task import GraphTask
from difformer.experiments.methods.method import Answer, Method, Settings, divided
from difformer.nn import DIFFormer
from difformer.nn.graphs import POOLS
from difformer.training import TrainingConfig, train
from difformer.training.randomness import seeded

TRAINING: dict[str, Any] = {
    "epochs": 150,
    "learning_rate": 0.01,
    "weight_decay": 1e-4,
    "patience": None,
    "eval_every": 1,
}


class _Mean(nn.Module):
    """The mean over each graph of what an encoder says of its nodes, (G, C)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor, count: int) -> Tensor:
        out = self.encoder(x, edges, None, graph)
        return POOLS["mean"](out, graph, count, None)


def _pooled(build: Callable[[GraphTask, Settings], nn.Module]) -> Callable[..., Answer]:
    def fit(task: GraphTask, settings: Settings, seed: int) -> Answer:
        options, own = divided(settings, TRAINING)
        with seeded(seed):
            network = _Mean(build(task, options))
        inputs = tuple(map(torch.from_numpy, (task.x, task.edge_index, task.graph)))
        y = torch.from_numpy(task.y)
        learnt, choosing = (torch.from_numpy(part) for part in (task.train, task.val))
        config = TrainingConfig(seed=seed, **own)

        def forward() -> Tensor:
            out: Tensor = network(*inputs, len(y))
            return out

        train(network, forward, y, learnt, config, choosing if bool(choosing.any()) else None)
        with torch.no_grad():
            found: Answer = forward().double().softmax(-1).numpy()
        return found

    return fit


def _encoder(task: GraphTask, options: Settings) -> nn.Module:
    return DIFFormer(task.x.shape[1], out_channels=task.outputs, **options)


GRAPH_LEVEL: dict[str, Method] = {
    name: Method(
        label,
        _pooled(_encoder),
        {
            **TRAINING,
            "diffusivity": diffusivity,
            "hidden_channels": 64,
            "num_layers": 2,
            "dropout": 0.3,
            "step_size": 0.5,
            "value_map": True,
        },
    )
    for name, label, diffusivity in (
        ("difformer-s", "DIFFormer-s", "simple"),
        ("difformer-a", "DIFFormer-a", "sigmoid"),
    )
} | GRAPH_NETWORKS
