r"""The numerics of the released DIFFormer code, and its checkpoints, as one named preset.

The released code departs from the paper (docs/decisions.md lists where). This file reproduces its
numbers so that published results can be checked; new work should use the default numerics.

``simple``   rates 1 + q.k / (\|Q\| \|K\|) with norms of the *whole* tensors, near 1 + O(1/N)
``sigmoid``  rates sigmoid(q.k) without any norm
the graph    sum of a_ij v_j / sqrt(c_i c_j), c the *number* of edges received, no self-loops
together     diffusion + graph, *summed*; or (1 - w) diffusion + w graph with a graph weight w > 0
then         plus the layer-0 state if ``use_source``; then the step

Letters: N instances, H heads, C channels.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from difformer.diffusion import SIGMOID, Diffusivity, SparseWeights, resolve
from difformer.diffusion.graph import check_edges, sparse_weights
from difformer.diffusion.linear import read, summarise
from difformer.diffusion.pairwise import accumulate
from difformer.diffusion.segments import segment
from difformer.errors import ConfigError, DataError, one_of
from difformer.nn.motion import FOLD_FROM, Motion, maps_of, mean_value
from difformer.nn.structure import Structure

if TYPE_CHECKING:
    from difformer.nn.encoder import DIFFormer

KERNELS = ("simple", "sigmoid")


class OfficialConv(nn.Module):
    """One layer with the released numerics. See :func:`official_options`."""

    def __init__(
        self,
        channels: int,
        heads: int,
        kernel: str,
        *,
        step_size: float | None,
        graph_weight: float | None,
        source: bool,
        value_map: bool,
    ) -> None:
        super().__init__()
        self.channels, self.heads = channels, heads
        self.kernel = one_of(kernel, KERNELS, "kernel")
        self.terms: tuple[Diffusivity, ...] = (resolve(kernel), resolve("graph"))
        self.step_size, self.graph_weight, self.source = step_size, graph_weight, source
        self.query_map = nn.Linear(channels, heads * channels)
        self.key_map = nn.Linear(channels, heads * channels)
        self.value_map = nn.Linear(channels, heads * channels) if value_map else None

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator."""
        for linear in (self.query_map, self.key_map, self.value_map):
            if linear is not None:
                linear.reset_parameters()

    def step(
        self, z: Tensor, structure: Structure, initial: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Move states z (N, C) one step; whole-tensor norms leave no room for a context."""
        if context is not None:
            raise ConfigError("The official numerics do not define rows outside the fitted set.")
        target = self.influence(z, structure)
        if self.source:
            target = target + initial
        return target if self.step_size is None else torch.lerp(z, target, self.step_size)

    def motion(self, z: Tensor, structure: Structure, fold: bool) -> Motion:
        """The same step as :meth:`step` for the engine: the kernel ``simple`` folded."""
        keep, moving = (
            (0.0, 1.0) if self.step_size is None else (1 - self.step_size, self.step_size)
        )
        pull = moving if self.source else 0.0
        if self.kernel != "simple" or not fold or len(z) < FOLD_FROM * self.channels:
            return Motion(keep, pull, moving, self.influence(z, structure))
        own = share = 1.0
        operator = structure.operators[-1]
        if operator is not None and self.graph_weight is not None:
            own, share = 1 - self.graph_weight, self.graph_weight
        scale = torch.tensor(moving * own, dtype=torch.float64, device=z.device)
        maps = maps_of(self.query_map, self.key_map, self.value_map, self.heads, scale)
        # One of six products, and little memory beside the whole-tensor norms' few other tensors.
        folded = Motion(keep, pull, maps=maps, row_norms=False, store=True)
        if operator is None:
            return folded
        if self.value_map is None and operator.fixed:
            return folded._replace(operators=((moving * share, operator),))
        rest = operator.matmul(mean_value(self.value_map, self.heads, z))
        return folded._replace(share=moving * share, rest=rest)

    def influence(self, z: Tensor, structure: Structure) -> Tensor:
        """Diffusion plus graph, averaged over heads, (N, C)."""
        shape = (self.heads, self.channels)
        q, k = self.query_map(z).unflatten(1, shape), self.key_map(z).unflatten(1, shape)
        v = z.unsqueeze(1) if self.value_map is None else self.value_map(z).unflatten(1, shape)
        diffused = self._diffuse(q, k, v.expand(-1, self.heads, -1)).mean(1)
        operator = structure.operators[-1] if structure.operators else None
        if operator is None:
            return diffused
        received = operator.matmul(v.mean(1))
        if self.graph_weight is None:
            return diffused + received
        return torch.lerp(diffused, received, self.graph_weight)

    def mix_shares(self, structure: Structure) -> list[float]:
        """Weight of diffusion and graph; they are summed where no graph weight is set."""
        if self.graph_weight is None or len(structure.terms) == 1:
            return [1.0] * len(structure.terms)
        return [1 - self.graph_weight, self.graph_weight]

    def _diffuse(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.kernel == "simple":
            q, k = q / q.norm(), k / k.norm()
            numerator, denominator = read(
                summarise(k, v, (len(k),)), q.new_ones(q.shape[:2]), q, (len(q),)
            )
        else:
            # As on the sphere, x = 2 - 2 q.k: the rate is sigmoid(q.k), though no norm was taken.
            segments = segment(len(q), len(k))
            numerator, denominator = accumulate(q, k, v, SIGMOID, True, segments)
        return numerator / denominator.unsqueeze(-1)


def official_structure(
    conv: OfficialConv,
    x: Tensor,
    edge_index: Tensor | None,
    edge_weight: Tensor | None,
    batch: Tensor | None,
) -> Structure:
    """The released graph operator; a batch of graphs was never defined there."""
    if batch is not None:
        raise DataError("The official numerics attend over the whole tensor: batch must be None.")
    if edge_index is None:
        return Structure((conv.terms[0],), (None,), (None,), None, (0,))
    operator = official_operator(edge_index, edge_weight, x.shape[0], x.dtype)
    return Structure(conv.terms, (None, operator), (None, operator), None, (0, 1))


def official_operator(
    edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int, dtype: torch.dtype
) -> SparseWeights:
    """a_ij / sqrt(c_i c_j) with c the number of edges received, in float32 as released.

    An edge from an instance that receives none is dropped, as its weight would be infinite.
    """
    check_edges(edge_index, edge_weight, num_nodes, num_nodes)
    source, target = edge_index.long()
    count = torch.bincount(target, minlength=num_nodes).float()
    scale = (1 / count[target]).sqrt() * (1 / count[source]).sqrt()
    values = scale.to(dtype) if edge_weight is None else edge_weight.to(dtype) * scale.to(dtype)
    values = torch.where(torch.isfinite(values), values, 0)
    return sparse_weights(target, source, values, num_nodes, num_nodes)


RELEASED_DEFAULTS: dict[str, Any] = {
    "num_layers": 2,
    "num_heads": 1,
    "kernel": "simple",
    "alpha": 0.5,
    "dropout": 0.5,
    "use_bn": True,
    "use_residual": True,
    "use_weight": True,
    "use_graph": True,
    "graph_weight": -1.0,
    "use_source": False,
}


def official_options(**arguments: Any) -> dict[str, Any]:
    """Translate the released constructor's arguments into those of :class:`DIFFormer`.

    Raises:
        ConfigError: On an argument that the released constructor does not have.
    """
    sizes = ("in_channels", "hidden_channels", "out_channels")
    for name in arguments:
        one_of(name, (*sizes, *RELEASED_DEFAULTS), "argument of the released constructor")
    if missing := [name for name in sizes if name not in arguments]:
        raise ConfigError(f"from_official needs {', '.join(missing)}.")
    given = {**RELEASED_DEFAULTS, **arguments}
    official = {
        "kernel": one_of(given["kernel"], KERNELS, "kernel"),
        "step_size": given["alpha"] if given["use_residual"] else None,
        "graph_weight": given["graph_weight"] if given["graph_weight"] > 0 else None,
        "source": given["use_source"],
        "value_map": given["use_weight"],
    }
    return {
        **{name: given[name] for name in sizes},
        "num_layers": given["num_layers"],
        "heads": given["num_heads"],
        "dropout": given["dropout"],
        "norm": "layer" if given["use_bn"] else None,
        "graph": given["use_graph"],
        "official": official,
    }


def load_released(model: "DIFFormer", state_dict: Mapping[str, Tensor]) -> None:
    """Copy a released checkpoint's tensors into a model built with :func:`official_options`.

    Raises:
        ConfigError: If a tensor is missing, unknown or of another shape.
    """
    renamed = {_renamed(name): tensor for name, tensor in state_dict.items()}
    own = model.state_dict()
    # The released model always creates LayerNorms and uses them only if asked to.
    renamed = {n: t for n, t in renamed.items() if n in own or not n.startswith(("norms.",))}
    if odd := sorted(set(own) ^ set(renamed)):
        raise ConfigError(f"The checkpoint does not fit the arguments given: {', '.join(odd)}.")
    for name, tensor in renamed.items():
        if own[name].shape != tensor.shape:
            raise ConfigError(
                f"{name} must have shape {tuple(own[name].shape)}, found {tuple(tensor.shape)}."
            )
    model.load_state_dict(renamed)


def _renamed(name: str) -> str:
    table = {
        "fcs.0.": "input_map.",
        "fcs.1.": "output_map.",
        "bns.": "norms.",
        ".Wq.": ".query_map.",
        ".Wk.": ".key_map.",
        ".Wv.": ".value_map.",
    }
    for released, ours in table.items():
        name = name.replace(released, ours)
    return name
