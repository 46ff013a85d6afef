"""Encoders of torch_geometric, by its own classes, with the widths and depth of ours.

SGFormer and GCN are its models; GPSConv with linear attention (``performer``) is stacked between
two linear maps, as its users do. Edges are passed as ``edge_index``, the ordinary way. Everything
that they can remember (GCN's normalised graph) they may.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from difformer.experiments.bench.cases import CHANNELS, FEATURES, OUTPUTS
from difformer.experiments.task import MissingExtraError


class _Sgformer(nn.Module):
    def __init__(self, pyg: Any, layers: int) -> None:
        super().__init__()
        self.model = pyg.SGFormer(
            FEATURES,
            CHANNELS,
            OUTPUTS,
            trans_num_layers=layers,
            trans_dropout=0.0,
            gnn_num_layers=layers,
            gnn_dropout=0.0,
        )

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        batch = torch.zeros(len(x), dtype=torch.long, device=x.device)
        outputs: Tensor = self.model(x, edge_index, batch)
        return outputs


class _Gps(nn.Module):
    def __init__(self, pyg: Any, layers: int) -> None:
        super().__init__()
        self.input_map = nn.Linear(FEATURES, CHANNELS)
        self.convs = nn.ModuleList(
            pyg.GPSConv(CHANNELS, conv=None, attn_type="performer") for _ in range(layers)
        )
        self.output_map = nn.Linear(CHANNELS, OUTPUTS)

    def forward(self, x: Tensor, edge_index: Tensor | None = None) -> Tensor:
        z = self.input_map(x)
        for conv in self.convs:
            z = conv(z, edge_index)
        outputs: Tensor = self.output_map(z)
        return outputs


def _gcn(pyg: Any, layers: int) -> nn.Module:
    model: nn.Module = pyg.GCN(FEATURES, CHANNELS, layers, OUTPUTS, cached=True)
    return model


_BUILDERS: dict[str, Callable[[Any, int], nn.Module]] = {
    "sgformer": _Sgformer,
    "gps": _Gps,
    "gcn": _gcn,
}


def peer(form: str, layers: int) -> nn.Module:
    """An encoder of torch_geometric; called with (x, edge_index).

    Raises:
        MissingExtraError: torch_geometric is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import torch_geometric.nn as pyg
    except ImportError as error:
        raise MissingExtraError("pyg") from error
    return _BUILDERS[form](pyg, layers)
