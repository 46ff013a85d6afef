"""Encoders of torch_geometric, by its own classes, with the widths and depth of ours.

SGFormer and GCN are its models; GPSConv with linear attention (``performer``) is stacked between
two linear maps, as its users do. Edges are passed as ``edge_index``, the ordinary way. Everything
that they can remember (GCN's normalised graph) they may.
"""

from collections.abc import Callable

from torch import nn

from difformer.experiments.bench.cases import CHANNELS, FEATURES, OUTPUTS
from difformer.experiments.methods.networks import Gps, WithBatch, pyg

SIZES = (FEATURES, CHANNELS, OUTPUTS)


def _sgformer(layers: int) -> nn.Module:
    return WithBatch(
        pyg().SGFormer(
            *SIZES,
            trans_num_layers=layers,
            trans_dropout=0.0,
            gnn_num_layers=layers,
            gnn_dropout=0.0,
        )
    )


def _gps(layers: int) -> nn.Module:
    return Gps(SIZES, layers, heads=1, dropout=0.0, graph=False)


def _gcn(layers: int) -> nn.Module:
    model: nn.Module = pyg().GCN(FEATURES, CHANNELS, layers, OUTPUTS, cached=True)
    return model


_BUILDERS: dict[str, Callable[[int], nn.Module]] = {"sgformer": _sgformer, "gps": _gps, "gcn": _gcn}


def peer(form: str, layers: int) -> nn.Module:
    """An encoder of torch_geometric; called with (x, edge_index).

    Raises:
        MissingExtraError: torch_geometric is not installed.
    """
    return _BUILDERS[form](layers)
