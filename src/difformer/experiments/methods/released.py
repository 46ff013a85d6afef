"""What the released scripts for nodes do around their model, beside its constructor's arguments.

Every node is made its own neighbour before training (``main.py`` and ``main-batch.py`` of the
folder "node classification", qitianwu/DIFFormer at 89af3b2); the scripts for series take the graph
as it comes.
"""

from typing import Any

import torch
from torch import Tensor

from difformer.nn.official import RELEASED_DEFAULTS

RELEASED_FOR_NODES: dict[str, Any] = {**RELEASED_DEFAULTS, "self_loops": True}


def with_self_loops(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int
) -> tuple[Tensor, Tensor | None]:
    """Edges (2, E) and weights (E,) with exactly one self-loop a node, of weight 1, at the end.

    Example:
        >>> edges, _ = with_self_loops(torch.tensor([[0, 1], [1, 1]]), None, 2)
        >>> edges.tolist()
        [[0, 0, 1], [1, 0, 1]]
    """
    others = edge_index[0] != edge_index[1]
    own = torch.arange(num_nodes)
    edges = torch.cat([edge_index[:, others], own.expand(2, -1)], 1)
    if edge_weight is None:
        return edges, None
    return edges, torch.cat([edge_weight[others], edge_weight.new_ones(num_nodes)])
