r"""The published form, written plainly from the formulas: what the engine is measured against.

Queries, keys and values are (N, H, d) arrays, and each formula is one line of torch:

.. math::
    z_i^+ = \frac12 z_i + \frac12 \frac{\sum_j v_j + (\sum_j k_j v_j^T)^T q_i}
                                     {N + q_i \cdot \sum_j k_j}

with q and k divided by the norms of their rows (``row``) or by those of the whole arrays
(``official``); ``row-sigmoid`` forms the N x N rates. With a graph, degrees, normalisation and the
sorting of the edges happen in every layer and call, as in the released code. Nothing is remembered
and nothing recomputed. Parameters carry the names of :class:`difformer.DIFFormer`, so that both
can be given the same weights: tests hold the two to equal outputs.

Letters: N instances, H heads, d channels a head, E edges.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

STEP_SIZE = 0.5
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
Pair = Callable[[Tensor, Tensor], Tensor]


def simple_by_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rates 1 + cos(q_i, k_j), (N, H, d)."""
    return _linear(q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True), v)


def simple_official(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rates 1 + q_i . k_j / (|Q| |K|), norms of the whole arrays, (N, H, d)."""
    return _linear(q / q.norm(), k / k.norm(), v)


def sigmoid_by_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Rates sigmoid(cos(q_i, k_j)) as an (N, N, H) array, (N, H, d)."""
    q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    rates = torch.einsum("nhd,lhd->nlh", q, k).sigmoid()
    shares = rates / rates.sum(dim=1, keepdim=True)
    return torch.einsum("nlh,lhd->nhd", shares, v)


def _linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    summary = torch.einsum("lhm,lhd->hmd", k, v)
    numerator = torch.einsum("nhm,hmd->nhd", q, summary) + v.sum(dim=0)
    denominator = torch.einsum("nhm,hm->nh", q, k.sum(dim=0)) + len(k)
    return numerator / denominator.unsqueeze(-1)


def released_graph(edge_index: Tensor, z: Tensor) -> Tensor:
    """Sum of z_j / sqrt(c_i c_j) over edges from j, c the edges received (float32), (N, d)."""
    source, target = edge_index
    count = torch.bincount(target, minlength=len(z)).float()
    values = (1 / count[target]).sqrt() * (1 / count[source]).sqrt()
    values = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    return _sparse(edge_index, values.to(z.dtype), len(z)) @ z


def row_graph(edge_index: Tensor, z: Tensor) -> Tensor:
    """The mean of z_i itself and the z_j that edges bring it, (N, d). No loops in edge_index."""
    loops = torch.arange(len(z), device=z.device).expand(2, -1)
    edges = torch.cat([edge_index, loops], dim=1)
    degree = torch.bincount(edges[1], minlength=len(z)).to(z.dtype)
    return _sparse(edges, 1 / degree[edges[1]], len(z)) @ z


def _sparse(edge_index: Tensor, values: Tensor, rows: int) -> Tensor:
    source, target = edge_index
    order = target.argsort()
    ends = torch.bincount(target, minlength=rows).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    size = (rows, rows)
    return torch.sparse_csr_tensor(
        starts, source[order], values[order], size, check_invariants=False
    )


def summed(diffused: Tensor, received: Tensor) -> Tensor:
    """Attention + graph, as released."""
    return diffused + received


def averaged(diffused: Tensor, received: Tensor) -> Tensor:
    """The mean of both, as in the paper."""
    return (diffused + received) / 2


# form -> attention, graph operator, and how the two are put together
FORMS: dict[str, tuple[Attention, Pair, Pair]] = {
    "row": (simple_by_row, row_graph, averaged),
    "official": (simple_official, released_graph, summed),
    "row-sigmoid": (sigmoid_by_row, row_graph, averaged),
}


class PublishedLayer(nn.Module):
    """Queries, keys and values, attention and, with edges, the graph; heads are averaged."""

    def __init__(self, channels: int, heads: int, form: str) -> None:
        super().__init__()
        self.shape = (heads, channels)
        self.query_map = nn.Linear(channels, heads * channels)
        self.key_map = nn.Linear(channels, heads * channels)
        self.attention, self.graph, self.together = FORMS[form]

    def forward(self, z: Tensor, edge_index: Tensor | None) -> Tensor:
        """What the states z (N, d) hear, (N, d)."""
        q = self.query_map(z).unflatten(1, self.shape)
        k = self.key_map(z).unflatten(1, self.shape)
        v = z.unsqueeze(1)
        diffused = self.attention(q, k, v).mean(dim=1)
        return (
            diffused if edge_index is None else self.together(diffused, self.graph(edge_index, z))
        )


class PublishedEncoder(nn.Module):
    """Input map, L layers with residual, LayerNorm and dropout, output map."""

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int,
        form: str,
        dropout: float = 0.0,
        heads: int = 1,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.input_map = nn.Linear(in_channels, hidden_channels)
        self.output_map = nn.Linear(hidden_channels, out_channels)
        self.convs = nn.ModuleList(
            PublishedLayer(hidden_channels, heads, form) for _ in range(num_layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_channels) for _ in range(num_layers + 1))

    def forward(self, x: Tensor, edge_index: Tensor | None = None) -> Tensor:
        """Raw outputs, (N, O)."""
        z = self._drop(self.norms[0](self.input_map(x)).relu())
        for layer, norm in zip(self.convs, self.norms[1:], strict=True):
            moved = STEP_SIZE * layer(z, edge_index) + (1 - STEP_SIZE) * z
            z = self._drop(norm(moved))
        outputs: Tensor = self.output_map(z)
        return outputs

    def _drop(self, z: Tensor) -> Tensor:
        return dropout(z, self.dropout, self.training)
