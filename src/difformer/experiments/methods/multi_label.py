"""Several yes-or-no labels a row, by the one trainer.

Letters: N rows, F features, C labels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from difformer.experiments.methods.method import Answer, Method, Settings, divided
from difformer.experiments.methods.released import RELEASED_FOR_NODES, with_self_loops
from difformer.nn import DIFFormer
from difformer.nn.official import official_options
from difformer.training import TrainingConfig, train
from difformer.training.objectives import check_equal_shapes, check_mask
from difformer.training.randomness import seeded


@dataclass(frozen=True, eq=False)
class MultiLabelTask:
    """What a method may see. Labels of test rows are NaN.

    Shapes: x (N, F); y (N, C) 0, 1 or NaN; edge_index (2, E); train and val (N,).
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    edge_index: NDArray[np.int64]
    train: NDArray[np.bool_]
    val: NDArray[np.bool_]


TRAINING: dict[str, Any] = {
    "epochs": 1000,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "patience": None,
    "eval_every": 9,
}


def binary_cross_entropy(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean over rows in ``mask`` and labels. Shapes: outputs and y equal, (N, C); mask (N,).

    Raises:
        ConfigError: The shapes differ, or no row is in ``mask``.
    """
    check_equal_shapes(outputs=outputs, y=y)
    check_mask("mask", mask, y.shape[:1])
    wanted = y[mask].to(outputs.dtype)
    return torch.nn.functional.binary_cross_entropy_with_logits(outputs[mask], wanted)


def _official(task: MultiLabelTask, settings: Settings, seed: int) -> Answer:
    settings, own = divided(settings, TRAINING)
    options, script = divided(settings, ("self_loops",))
    labels = task.y.shape[1]
    sizes = {"in_channels": task.x.shape[1], "out_channels": labels}
    with seeded(seed):
        model = DIFFormer(**official_options(**sizes, **options))
    config = TrainingConfig(seed=seed, monitor="val_loss", **own)
    x, edges = torch.from_numpy(task.x), torch.from_numpy(task.edge_index)
    if script["self_loops"]:
        edges, _ = with_self_loops(edges, None, len(x))
    y = torch.from_numpy(np.nan_to_num(task.y))
    masks = torch.from_numpy(task.train), torch.from_numpy(task.val)

    def forward() -> Tensor:
        out: Tensor = model(x, edges)
        return out

    train(model, forward, y, masks[0], config, masks[1], objective=binary_cross_entropy)
    with torch.no_grad():
        found: Answer = forward().double().sigmoid().numpy()
    return found


MULTI_LABEL: dict[str, Method] = {
    "official": Method(
        "official preset",
        _official,
        {
            **TRAINING,
            **RELEASED_FOR_NODES,
            "hidden_channels": 64,
            "num_layers": 3,
            "dropout": 0.0,
        },
    )
}
