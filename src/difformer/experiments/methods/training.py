"""The one trainer that every network of a comparison goes through.

Validation rows, where the task has any, choose the weights: those of the first best evaluation.
Without them the last weights stay. Test labels are not part of a task.

Shapes: N instances, F features, C classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from difformer.experiments.methods.method import Fit, Settings, divided
from difformer.experiments.task import HIDDEN, Probabilities, Task, as_float32, scaled
from difformer.nn.structure import to_tensor
from difformer.training import TrainingConfig, train
from difformer.training.objectives import consistency_cross_entropy, ensemble_probabilities
from difformer.training.randomness import seeded

TRAINING: dict[str, Any] = {
    "epochs": 500,
    "patience": 100,
    "learning_rate": 0.01,
    "weight_decay": 5e-4,
    "optimizer": "adam",
    "views": 1,
    "consistency": 1.0,
    "eval_every": 1,
}
SEARCHED: dict[str, tuple[Any, ...]] = {
    "learning_rate": (1e-3, 5e-3, 1e-2),
    "weight_decay": (0.0, 1e-4, 5e-4, 1e-3, 1e-2, 0.1),
}
# From (task, features, settings of the architecture) to a network and what it is called with.
Build = Callable[[Task, Tensor, Settings], tuple[nn.Module, tuple[Any, ...]]]


def trained(build: Build, keep_sparse: bool = False) -> Fit:
    """A method that trains what ``build`` makes, called as ``network(x, *inputs)``.

    Args:
        build: The network and its inputs besides the features.
        keep_sparse: Whether it takes features as CSR; else they are made dense.
    """

    def fit(task: Task, settings: Settings, seed: int) -> Probabilities:
        x = features(task, keep_sparse)
        options, own = divided(settings, TRAINING)
        with seeded(seed):
            network, inputs = build(task, x, options)
        if not (task.choosing != HIDDEN).any():
            own |= {"patience": None, "eval_every": own["epochs"]}  # nothing to wait for, or to see
        return _train(network, (x, *inputs), task, TrainingConfig(seed=seed, **own))

    return fit


def features(task: Task, keep_sparse: bool = False) -> Tensor:
    """The task's features as a float32 tensor, (N, F)."""
    x = as_float32(task.x if task.prepared else scaled(task))
    return to_tensor(x.toarray() if sparse.issparse(x) and not keep_sparse else x)


def _train(
    network: nn.Module, inputs: tuple[Any, ...], task: Task, config: TrainingConfig
) -> Probabilities:
    y = np.where(task.y != HIDDEN, task.y, task.choosing)
    learnt, choosing = (torch.from_numpy(part != HIDDEN) for part in (task.y, task.choosing))

    def forward() -> Tensor:
        count = config.views if network.training else 1
        return torch.stack([network(*inputs) for _ in range(count)])

    train(
        network,
        forward,
        torch.from_numpy(y),
        learnt,
        config,
        choosing if bool(choosing.any()) else None,
        objective=partial(consistency_cross_entropy, weight=config.consistency),
        predict=ensemble_probabilities,
    )
    with torch.no_grad():
        found: Probabilities = ensemble_probabilities(forward().double()).numpy()
    return found
