"""DIFFormer as the harness calls it: the default, trained encoders, the unified view, the preset.

``difformer`` is the classifier's default (decoupled diffusion); the others are encoders that go
through the same trainer as everybody else's networks.
"""

from typing import Any

import torch
from torch import Tensor, nn

from difformer.data.positions import beside_neighbours
from difformer.estimators import DIFFormerClassifier
from difformer.experiments.methods.method import Method, Settings, divided
from difformer.experiments.methods.networks import observed_edges
from difformer.experiments.methods.released import RELEASED_FOR_NODES, with_self_loops
from difformer.experiments.methods.training import SEARCHED, TRAINING, trained
from difformer.experiments.task import HIDDEN, Probabilities, Task, spread
from difformer.nn import DIFFormer
from difformer.nn.official import official_options
from difformer.nn.structure import to_numpy, to_tensor


def _default(task: Task, settings: Settings, seed: int) -> Probabilities:
    model = DIFFormerClassifier(random_state=seed)
    choosing = task.choosing != HIDDEN
    validation = (choosing, task.choosing) if choosing.any() else None
    model.fit(task.x, task.y, task.edge_index, task.edge_weight, validation=validation)
    return spread(model.label_distributions_, model.classes_, task.num_classes)


def _edges(task: Task) -> tuple[Tensor | None, Tensor | None]:
    if task.edge_index is None:
        return None, None
    weight = None if task.edge_weight is None else torch.as_tensor(task.edge_weight).float()
    return torch.as_tensor(task.edge_index), weight


def _norm(options: Settings) -> str | None:
    """Files know no None."""
    return None if options["norm"] == "none" else str(options["norm"])


def _encoder(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    names = options["diffusivity"].split("+")
    given = {
        **options,
        "diffusivity": names[0] if len(names) == 1 else names,
        "norm": _norm(options),
    }
    model = DIFFormer(x.shape[1], out_channels=task.num_classes, **given)
    return model, _edges(task)


def _on_graph(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    """Steps with maps of their own over the observed graph, and between all pairs by a share.

    Edges count in both directions, as for the other networks; the features that it is called with
    may have whom each row hears beside them.
    """
    own, more = divided(options, ("all_pairs", "adjacency"))
    share = more["all_pairs"]
    mix = {"diffusivity": "simple", "mix_weights": (share, 1 - share)}
    own |= mix if share else {"diffusivity": "graph", "maps": False}
    own["norm"] = _norm(own)
    edges = observed_edges(task)
    if more["adjacency"]:
        x = to_tensor(beside_neighbours(to_numpy(x), *edges, task.num_instances))
    model = DIFFormer(x.shape[1], out_channels=task.num_classes, **own)
    return _Seeing(model, x) if more["adjacency"] else model, edges


class _Seeing(nn.Module):
    """A model that is given other features than those it is called with, (N, F)."""

    def __init__(self, model: DIFFormer, x: Tensor) -> None:
        super().__init__()
        self.model, self.x = model, x

    def forward(self, _: Tensor, *edges: Tensor | None) -> Tensor:
        """Raw outputs, (N, C)."""
        out: Tensor = self.model(self.x, *edges)
        return out


def _official(task: Task, x: Tensor, options: Settings) -> tuple[nn.Module, tuple[Any, ...]]:
    own, script = divided(options, ("self_loops",))
    chosen = official_options(in_channels=x.shape[1], out_channels=task.num_classes, **own)
    edge_index, edge_weight = _edges(task)
    if script["self_loops"] and edge_index is not None:
        edge_index, edge_weight = with_self_loops(edge_index, edge_weight, len(x))
    return DIFFormer(**chosen), (edge_index, edge_weight)


_ENCODER = {
    **TRAINING,
    "hidden_channels": 64,
    "num_layers": 4,
    "heads": 1,
    "dropout": 0.2,
    "input_dropout": 0.0,
    "node_dropout": 0.0,
    "activation": "input",
    "step_size": 0.5,
    "source": 0.0,
    "graph_norm": "row",
    "maps": True,
    "value_map": False,
    "norm": "layer",
}
_SPACE: dict[str, tuple[Any, ...]] = {
    **SEARCHED,
    "hidden_channels": (32, 64, 128),
    "num_layers": (2, 4, 8),
    "dropout": (0.0, 0.2, 0.5),
    "input_dropout": (0.0, 0.3, 0.5),
    "step_size": (0.3, 0.5, 0.8),
    "source": (0.0, 0.1, 0.3),
    "graph_norm": ("row", "sym"),
}
_ON_GRAPH = {
    **TRAINING,
    "epochs": 300,
    "hidden_channels": 64,
    "num_layers": 2,
    "dropout": 0.5,
    "input_dropout": 0.0,
    "step_size": 0.8,
    "source": 0.0,
    "value_map": True,
    "activation": "each",
    "jump": True,
    "norm": "layer",
    "graph_norm": "sym",
    "graph_loops": False,
    "all_pairs": 0.2,
    "adjacency": False,
}
_ON_GRAPH_SPACE: dict[str, tuple[Any, ...]] = {
    **SEARCHED,
    "hidden_channels": (64, 128),
    "num_layers": (0, 1, 2, 3, 5, 8),
    "dropout": (0.2, 0.5, 0.7),
    "step_size": (0.2, 0.5, 0.8, 1.0),
    "value_map": (True, False),
    "activation": ("each", "input"),
    "jump": (True, False),
    "all_pairs": (0.0, 0.2),
    "adjacency": (False, True),
}
# The released constructor's arguments, as its Planetoid scripts have them.
_RELEASED = {
    **TRAINING,
    **RELEASED_FOR_NODES,
    "patience": None,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "hidden_channels": 64,
    "num_layers": 8,
    "dropout": 0.2,
    "use_weight": False,
}


def _variant(label: str, diffusivity: str, needs_graph: bool = False) -> Method:
    defaults = {**_ENCODER, "diffusivity": diffusivity}
    return Method(label, trained(_encoder, keep_sparse=True), defaults, _SPACE, needs_graph)


OURS = {
    "difformer": Method("DIFFormer (default)", _default),
    "difformer-s": _variant("DIFFormer-s", "simple"),
    "difformer-a": _variant("DIFFormer-a", "sigmoid"),
    "difformer-local": _variant("DIFFormer, local", "local"),
    "difformer-mix": _variant("DIFFormer, simple + local", "simple+local"),
    "difformer-identity": _variant("DIFFormer as MLP", "identity"),
    "difformer-graph": _variant("DIFFormer as GCN", "graph", needs_graph=True),
    "difformer-attention": _variant("DIFFormer as GAT", "graph_attention", needs_graph=True),
    "difformer-nodes": Method(
        "DIFFormer for graphs",
        trained(_on_graph, keep_sparse=True),
        _ON_GRAPH,
        _ON_GRAPH_SPACE,
        needs_graph=True,
        extra="pyg",
    ),
    "official": Method("official preset", trained(_official, keep_sparse=True), _RELEASED),
}
