"""Networks of torch_geometric, by its own classes, all trained by ``training``.

Edges are used in both directions. What a class can remember of a graph it may (``cached``).
"""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from difformer.errors import DataError, MissingExtraError
from difformer.experiments.methods.method import Method, Settings
from difformer.experiments.methods.training import SEARCHED, TRAINING, Build, trained
from difformer.experiments.task import Task, scaled

WIDTHS, DEPTHS, RATES = (16, 64, 128, 256, 512), (2, 3, 4), (0.0, 0.2, 0.5, 0.7)


def pyg() -> Any:
    """The package torch_geometric.nn.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import torch_geometric.nn
    except ImportError as error:
        raise MissingExtraError("pyg") from error
    return torch_geometric.nn


def observed_edges(task: Task) -> tuple[Tensor, Tensor | None]:
    """The task's own graph: an edge given in one direction counts in both; weights are averaged.

    Raises:
        DataError: It has none.
    """
    if task.edge_index is None:
        raise DataError("A graph network on the observed graph needs edge_index, found None.")
    weight = None if task.edge_weight is None else torch.as_tensor(task.edge_weight).float()
    return _both_ways(task, torch.as_tensor(task.edge_index), weight)


def neighbour_edges(task: Task, count: int = 10) -> tuple[Tensor, None]:
    """The symmetric graph of each instance's nearest others in input space."""
    from sklearn.neighbors import kneighbors_graph

    count = min(count, task.num_instances - 1)
    graph = kneighbors_graph(scaled(task), count, include_self=False).tocoo()
    edges = torch.as_tensor(np.stack([graph.row, graph.col]).astype(np.int64))
    return _both_ways(task, edges, None)[0], None


def _both_ways(task: Task, edges: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    pyg()
    from torch_geometric.utils import to_undirected

    if weight is None:
        return to_undirected(edges, num_nodes=task.num_instances), None
    edges, weight = to_undirected(edges, weight, task.num_instances, reduce="mean")
    return edges, weight


def _mlp(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    model = pyg().MLP(
        in_channels=x.shape[1],
        hidden_channels=options["hidden_channels"],
        out_channels=task.num_classes,
        num_layers=options["num_layers"],
        dropout=options["dropout"],
        norm=options["norm"],
    )
    return model, ()


def _convolutional(name: str, neighbours: bool = False) -> Build:
    """GCN or GAT: layers of one kind with dropout in between (Kipf 2017; Velickovic 2018)."""

    def build(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
        options = dict(options)
        near = {"count": options.pop("neighbours")} if neighbours else {}
        edges, weight = neighbour_edges(task, **near) if neighbours else observed_edges(task)
        sizes = (x.shape[1], options.pop("hidden_channels"), options.pop("num_layers"))
        more = {"cached": True} if name == "GCN" else {}
        model = getattr(pyg(), name)(*sizes, task.num_classes, **options, **more)
        return model, (edges, weight) if name == "GCN" else (edges,)

    return build


class _Propagated(nn.Module):
    """A network on features whose outputs are propagated (APPNP), or propagated features (SGC)."""

    def __init__(self, before: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor, edges: Tensor, weight: Tensor | None) -> Tensor:
        out: Tensor = self.after(self.before(x), edges, weight)
        return out


def _sgc(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    layer = pyg().SGConv(x.shape[1], task.num_classes, options["steps"], cached=True)
    return _Propagated(nn.Dropout(options["dropout"]), layer), observed_edges(task)


def _appnp(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    rate, width = options["dropout"], options["hidden_channels"]
    before = nn.Sequential(
        nn.Dropout(rate),
        nn.Linear(x.shape[1], width),
        nn.ReLU(),
        nn.Dropout(rate),
        nn.Linear(width, task.num_classes),
    )
    after = pyg().APPNP(options["steps"], options["teleport"], cached=True)
    return _Propagated(before, after), observed_edges(task)


class WithBatch(nn.Module):
    """A network that wants to be told that all nodes belong to one graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Raw outputs, (N, C)."""
        batch = torch.zeros(len(x), dtype=torch.long, device=x.device)
        out: Tensor = self.model(x, edges, batch)
        return out


def _sgformer(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    model = pyg().SGFormer(
        x.shape[1],
        options["hidden_channels"],
        task.num_classes,
        trans_num_layers=options["attention_layers"],
        trans_dropout=options["dropout"],
        gnn_num_layers=options["num_layers"],
        gnn_dropout=options["dropout"],
        graph_weight=options["graph_weight"],
    )
    return WithBatch(model), (observed_edges(task)[0],)


class Gps(nn.Module):
    """GPSConv with linear attention between two linear maps, beside GCN layers or alone."""

    def __init__(
        self, sizes: tuple[int, int, int], layers: int, heads: int, dropout: float, graph: bool
    ) -> None:
        super().__init__()
        inputs, width, outputs = sizes
        self.input_map = nn.Linear(inputs, width)
        self.convs = nn.ModuleList(
            pyg().GPSConv(
                width,
                pyg().GCNConv(width, width, cached=True) if graph else None,
                heads,
                dropout,
                attn_type="performer",
            )
            for _ in range(layers)
        )
        self.output_map = nn.Linear(width, outputs)

    def forward(self, x: Tensor, edges: Tensor | None = None) -> Tensor:
        """Raw outputs, (N, C)."""
        z = self.input_map(x)
        for conv in self.convs:
            z = conv(z, edges)
        out: Tensor = self.output_map(z)
        return out


def _gps(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    graph = task.edge_index is not None
    sizes = (x.shape[1], options["hidden_channels"], task.num_classes)
    model = Gps(sizes, options["num_layers"], options["heads"], options["dropout"], graph)
    return model, (observed_edges(task)[0],) if graph else ()


_COMMON = {**TRAINING, "hidden_channels": 64, "num_layers": 2, "dropout": 0.5}
_WIDE = {**SEARCHED, "hidden_channels": WIDTHS, "num_layers": DEPTHS, "dropout": RATES}
_NORMS = (None, "batch_norm", "layer_norm")
_LAST = (None, "last")  # "last": a linear map follows the last layer
_PLAIN = {**_COMMON, "epochs": 200, "patience": None}  # Kipf and Welling's, and no early stopping

NETWORKS = {
    "mlp": Method(
        "MLP", trained(_mlp), {**_COMMON, "norm": None}, {**_WIDE, "norm": _NORMS}, extra="pyg"
    ),
    "gcn": Method(
        "GCN",
        trained(_convolutional("GCN")),
        {**_PLAIN, "norm": None, "jk": None},
        {**_WIDE, "norm": _NORMS, "jk": _LAST},
        needs_graph=True,
        extra="pyg",
    ),
    "knn-gcn": Method(
        "k-NN GCN",
        trained(_convolutional("GCN", neighbours=True)),
        {**_PLAIN, "norm": None, "neighbours": 10},
        {**_WIDE, "norm": _NORMS, "neighbours": (5, 10, 15, 20)},
        extra="pyg",
    ),
    "gat": Method(
        "GAT",
        trained(_convolutional("GAT")),
        {**_COMMON, "norm": None, "heads": 8},
        {**_WIDE, "norm": _NORMS, "heads": (1, 4, 8)},
        needs_graph=True,
        extra="pyg",
    ),
    "sgc": Method(
        "SGC",
        trained(_sgc),
        {**TRAINING, "steps": 2, "dropout": 0.0},
        {**SEARCHED, "steps": (1, 2, 3, 4, 8), "dropout": RATES},
        needs_graph=True,
        extra="pyg",
    ),
    "appnp": Method(
        "APPNP",
        trained(_appnp),
        {**TRAINING, "hidden_channels": 64, "dropout": 0.5, "steps": 10, "teleport": 0.1},
        {
            **SEARCHED,
            "hidden_channels": WIDTHS,
            "dropout": RATES,
            "steps": (2, 5, 10, 20),
            "teleport": (0.05, 0.1, 0.2, 0.5),
        },
        needs_graph=True,
        extra="pyg",
    ),
    "sgformer": Method(
        "SGFormer",
        trained(_sgformer),
        {**_COMMON, "attention_layers": 1, "graph_weight": 0.8, "num_layers": 3},
        {**_WIDE, "attention_layers": (1, 2), "graph_weight": (0.5, 0.7, 0.8, 0.9)},
        needs_graph=True,
        extra="pyg",
    ),
    "gps": Method(
        "GPS",
        trained(_gps),
        {**_COMMON, "heads": 1},
        {**_WIDE, "hidden_channels": (16, 64, 128), "heads": (1, 4)},
        extra="pyg",
    ),
}
