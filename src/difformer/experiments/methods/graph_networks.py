"""Networks for whole graphs, all in one frame: batches of graphs, pooling, head, the one trainer.

What differs is the encoder of the nodes: diffusion, or the messages of GIN (with edge features
GINE) and GPS from torch_geometric. Numbers are learnt in units of the training part's spread.

Letters: G graphs, N nodes, E edges, F features, A edge features, C channels, K outputs.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from difformer.experiments.methods.graph_task import GraphTask
from difformer.experiments.methods.method import Answer, Method, Settings, divided
from difformer.experiments.methods.multi_label import binary_cross_entropy
from difformer.experiments.methods.networks import pyg
from difformer.nn import GraphDIFFormer
from difformer.nn.graphs import POOLS
from difformer.training import TrainingConfig, train
from difformer.training.objectives import cross_entropy, mean_squared_error
from difformer.training.randomness import seeded
from difformer.training.trainer import Batch

TRAINING: dict[str, Any] = {
    "epochs": 100,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "patience": 20,
    "batch_size": 64,
}
FRAME: dict[str, Any] = {
    "hidden_channels": 64,
    "num_layers": 4,
    "pool": "mean+sum",
    "dropout": 0.1,
}
SPACE: dict[str, tuple[Any, ...]] = {
    "hidden_channels": (32, 64, 128),
    "num_layers": (2, 3, 4, 5),
    "pool": ("mean", "sum", "mean+sum"),
    "dropout": (0.0, 0.2, 0.5),
    "learning_rate": (5e-4, 1e-3, 5e-3),
    "weight_decay": (0.0, 1e-4, 1e-3),
    "batch_size": (32, 128),
}
Build = Callable[[GraphTask, Settings], nn.Module]  # called with x, edges, edge_attr, batch, G


class Pieces:
    """Batches of graphs out of all of them."""

    def __init__(self, task: GraphTask) -> None:
        owner = task.graph[task.edge_index[0]]
        order = np.argsort(owner, kind="stable")
        self.x, self.ends = torch.from_numpy(task.x), task.node_ptr
        self.edges = task.edge_index[:, order]
        self.attr = None if task.edge_attr is None else torch.from_numpy(task.edge_attr[order])
        self.edge_ends = np.searchsorted(owner[order], np.arange(len(task.node_ptr)))

    def of(self, graphs: NDArray[np.int64]) -> tuple[Any, ...]:
        """x, edge_index, edge_attr, batch and G of some graphs."""
        nodes, sizes = _ranges(self.ends, graphs)
        edges, counts = _ranges(self.edge_ends, graphs)
        shift = np.cumsum([0, *sizes[:-1]]) - self.ends[graphs]
        index = torch.from_numpy(self.edges[:, edges] + np.repeat(shift, counts))
        attr = None if self.attr is None else self.attr[torch.from_numpy(edges)]
        batch = torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes))
        return self.x[torch.from_numpy(nodes)], index, attr, batch, len(graphs)


def _ranges(
    ends: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of what belongs to the chosen ones, one after the other, and how many each has."""
    sizes = ends[chosen + 1] - ends[chosen]
    before = np.cumsum([0, *sizes[:-1]])
    return np.arange(sizes.sum()) + np.repeat(ends[chosen] - before, sizes), sizes


def fitted(build: Build) -> Callable[[GraphTask, Settings, int], Answer]:
    """A method that trains what ``build`` makes."""

    def fit(task: GraphTask, settings: Settings, seed: int) -> Answer:
        options, own = divided(settings, TRAINING)
        size = own.pop("batch_size")
        with seeded(seed):
            network = build(task, {**options, "pool": options["pool"].split("+")})
        pieces, everything = Pieces(task), np.arange(task.num_graphs)
        y, centre, spread = _targets(task)
        learnt, choosing = (torch.from_numpy(part) for part in (task.train, task.val))
        watched = bool(choosing.any())
        own |= {} if watched else {"patience": None, "eval_every": own["epochs"]}
        config = TrainingConfig(seed=seed, monitor="val_loss", **own)

        def forward(wanted: NDArray[np.int64]) -> Tensor:
            parts = [wanted[a : a + size] for a in range(0, len(wanted), size)]
            found = torch.cat([network(*pieces.of(part)) for part in parts])
            return y.new_zeros(task.num_graphs, found.shape[1]).index_copy(
                0, torch.from_numpy(wanted), found
            )

        def batches(epoch: int) -> Iterator[Batch]:
            rows = np.flatnonzero(task.train)
            order = np.random.default_rng((seed, epoch)).permutation(rows)
            for start in range(0, len(order), size):
                part = np.sort(order[start : start + size])
                if len(part) > 1 or len(order) == 1:  # a norm over a batch needs two
                    yield Batch(torch.from_numpy(part), partial(_call, network, pieces, part))

        train(
            network,
            partial(forward, np.flatnonzero(task.val)) if watched else partial(forward, everything),
            y,
            learnt,
            config,
            choosing if watched else None,
            objective=partial(_loss, task.target),
            batches=batches,
        )
        with torch.no_grad():
            found = forward(everything).double()
        if task.target == "classes":
            return np.asarray(found.softmax(-1).numpy())
        if task.target == "marks":
            return np.asarray(found.sigmoid().numpy())
        return np.asarray(found[:, 0].numpy() * spread + centre)

    return fit


def _call(network: nn.Module, pieces: Pieces, part: NDArray[np.int64]) -> Tensor:
    out: Tensor = network(*pieces.of(part))
    return out


def _targets(task: GraphTask) -> tuple[Tensor, float, float]:
    """Floating targets (G, K) with NaN where hidden, and centre and spread of numbers."""
    y = np.asarray(task.y, dtype=np.float64).reshape(task.num_graphs, -1)
    centre, spread = 0.0, 1.0
    if task.target == "numbers":
        known = y[task.train]
        centre, spread = float(known.mean()), float(known.std()) or 1.0
    return torch.from_numpy((y - centre) / spread).float(), centre, spread


def _loss(target: str, outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    if target == "classes":
        return cross_entropy(outputs, y[:, 0].long(), mask)
    measure = mean_squared_error if target == "numbers" else binary_cross_entropy
    return measure(outputs, y, mask)


class MessagePassing(nn.Module):
    """Layers of torch_geometric between an input map and the same pooling and head as ours.

    Args:
        task: For its sizes.
        layers: What they are, called as ``layer(states, edge_index, edge_attr, batch)``.
        options: ``hidden_channels``, ``pool``, ``dropout``.
    """

    def __init__(self, task: GraphTask, layers: list[nn.Module], options: Settings) -> None:
        super().__init__()
        width, self.pools = options["hidden_channels"], options["pool"]
        self.enter = nn.Linear(task.x.shape[1], width)
        self.edges = None if task.edge_attr is None else nn.Linear(task.edge_attr.shape[1], width)
        self.layers, self.drop = nn.ModuleList(layers), nn.Dropout(options["dropout"])
        seen = width * (len(layers) + 1) * len(self.pools)
        self.head = nn.Sequential(
            nn.Linear(seen, width),
            nn.ReLU(),
            nn.Dropout(options["dropout"]),
            nn.Linear(width, task.outputs),
        )

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None, batch: Tensor, graphs: int
    ) -> Tensor:
        """Outputs of graphs, (G, K)."""
        attr = None if self.edges is None else self.edges(edge_attr)
        states = [self.enter(x)]
        for layer in self.layers:
            states.append(self.drop(layer(states[-1], edge_index, attr, batch)))
        seen = torch.cat(states, 1)
        pooled = [POOLS[name](seen, batch, graphs, None) for name in self.pools]
        out: Tensor = self.head(torch.cat(pooled, 1))
        return out


class _Gin(nn.Module):
    """GIN (Xu et al., ICLR 2019), or GINE (Hu et al., ICLR 2020) where edges have features."""

    def __init__(self, width: int, edged: bool) -> None:
        super().__init__()
        library = pyg()
        mlp = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )
        self.conv = library.GINEConv(mlp, True) if edged else library.GINConv(mlp, True)
        self.norm, self.edged = nn.BatchNorm1d(width), edged

    def forward(self, z: Tensor, edges: Tensor, attr: Tensor | None, batch: Tensor) -> Tensor:
        """One step, (N, C)."""
        moved = self.conv(z, edges, attr) if self.edged else self.conv(z, edges)
        out: Tensor = self.norm(moved).relu()
        return out


class _Gps(nn.Module):
    """GPS (Rampasek et al., NeurIPS 2022): GIN's messages beside attention over each graph."""

    def __init__(self, width: int, edged: bool, attention: str, dropout: float) -> None:
        super().__init__()
        library = pyg()
        mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        conv = library.GINEConv(mlp) if edged else library.GINConv(mlp)
        self.layer = library.GPSConv(width, conv, heads=4, dropout=dropout, attn_type=attention)
        self.edged = edged

    def forward(self, z: Tensor, edges: Tensor, attr: Tensor | None, batch: Tensor) -> Tensor:
        """One step, (N, C)."""
        more = {"edge_attr": attr} if self.edged else {}
        out: Tensor = self.layer(z, edges, batch, **more)
        return out


def _ours(task: GraphTask, options: Settings) -> nn.Module:
    own = dict(options)
    own["norm"] = None if own["norm"] == "none" else own["norm"]
    share = own.pop("all_pairs")
    if share:
        own |= {"mix_weights": (share, 1 - share)}
    else:
        own |= {"diffusivity": "graph", "maps": False}
    edges = 0 if task.edge_attr is None else task.edge_attr.shape[1]
    return GraphDIFFormer(task.x.shape[1], out_channels=task.outputs, edge_channels=edges, **own)


def _gin(task: GraphTask, options: Settings) -> nn.Module:
    layers: list[nn.Module] = [
        _Gin(options["hidden_channels"], task.edge_attr is not None)
        for _ in range(options["num_layers"])
    ]
    return MessagePassing(task, layers, options)


def _gps(task: GraphTask, options: Settings) -> nn.Module:
    layers: list[nn.Module] = [
        _Gps(
            options["hidden_channels"],
            task.edge_attr is not None,
            options["attention"],
            options["dropout"],
        )
        for _ in range(options["num_layers"])
    ]
    return MessagePassing(task, layers, options)


GRAPH_NETWORKS: dict[str, Method] = {
    "graph-difformer": Method(
        "GraphDIFFormer",
        fitted(_ours),
        {
            **TRAINING,
            **FRAME,
            "diffusivity": "simple",
            "all_pairs": 0.3,
            "step_size": 0.5,
            "graph_norm": "row",
            "norm": "none",
        },
        {
            **SPACE,
            "all_pairs": (0.0, 0.1, 0.3, 0.6),
            "step_size": (0.5, 0.8, 1.0),
            "graph_norm": ("row", "sym"),
            "diffusivity": ("simple", "sigmoid"),
            "norm": ("none", "layer"),
        },
    ),
    "gin": Method("GIN", fitted(_gin), {**TRAINING, **FRAME}, SPACE, extra="pyg"),
    "gps": Method(
        "GPS",
        fitted(_gps),
        {**TRAINING, **FRAME, "attention": "multihead"},
        {**SPACE, "attention": ("multihead", "performer")},
        extra="pyg",
    ),
}
