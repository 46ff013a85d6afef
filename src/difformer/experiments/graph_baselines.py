"""GCN baselines, by torch_geometric's own class.

Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017:
two layers, dropout 0.5, Adam at 0.01 with weight decay 5e-4, 200 epochs and no early stopping.
Hidden width 64 instead of their 16, as is usual now. The last weights are the result.
"""

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from difformer.errors import DataError
from difformer.experiments.task import MissingExtraError, Probabilities, Task, dense, scaled
from difformer.training.randomness import seeded

HIDDEN_CHANNELS = 64
EPOCHS = 200
NEIGHBOURS = 10


def neighbour_gcn(task: Task, seed: int) -> Probabilities:
    """GCN on the symmetric graph of the 10 nearest neighbours in input space; no given edges.

    Cost: the neighbour search, then O(epochs (N F + E) hidden).
    """
    return _gcn(task, neighbour_edges(task), None, seed)


def observed_gcn(task: Task, seed: int) -> Probabilities:
    """GCN on the task's own graph; an edge given in one direction counts in both."""
    if task.edge_index is None:
        raise DataError("GCN on the observed graph needs edge_index, found None.")
    weight = None if task.edge_weight is None else torch.as_tensor(task.edge_weight).float()
    return _gcn(task, torch.as_tensor(task.edge_index), weight, seed)


def neighbour_edges(task: Task) -> Tensor:
    """Return ``edge_index`` from each instance to its 10 nearest others."""
    from sklearn.neighbors import kneighbors_graph

    count = min(NEIGHBOURS, task.num_instances - 1)
    graph = kneighbors_graph(scaled(task.x), count, include_self=False).tocoo()
    return torch.as_tensor(np.stack([graph.row, graph.col]).astype(np.int64))


def _pyg() -> tuple[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from torch_geometric.nn import GCN
            from torch_geometric.utils import to_undirected
    except ImportError as error:
        raise MissingExtraError("pyg") from error
    return GCN, to_undirected


def _gcn(task: Task, edges: Tensor, weight: Tensor | None, seed: int) -> Probabilities:
    gcn, to_undirected = _pyg()
    if weight is None:
        edges = to_undirected(edges, num_nodes=task.num_instances)
    else:
        edges, weight = to_undirected(edges, weight, task.num_instances, reduce="mean")
    x = torch.as_tensor(dense(task.x, seed)).float()
    # torch_geometric draws from torch's global generator: lend it, and give it back as it was.
    with seeded(seed):
        # One graph serves all epochs, so its normalisation is worth caching: half the time.
        model = gcn(x.shape[1], HIDDEN_CHANNELS, 2, task.num_classes, dropout=0.5, cached=True)
        _train(model, (x, edges, weight), _targets(task))
    model.eval()
    with torch.no_grad():
        logits = model(x, edges, weight)
    probabilities: NDArray[np.float64] = logits.double().softmax(dim=1).numpy()
    return probabilities


def _targets(task: Task) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(task.labelled), torch.as_tensor(task.y[task.labelled])


def _train(
    model: torch.nn.Module,
    inputs: tuple[Tensor, Tensor, Tensor | None],
    targets: tuple[Tensor, Tensor],
) -> None:
    rows, labels = targets
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    model.train()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(*inputs)[rows], labels)
        loss.backward()
        optimizer.step()
