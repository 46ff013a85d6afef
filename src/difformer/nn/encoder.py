r"""DIFFormer: input map, layers of diffusion, output map. The forward pass reads as a loop."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from difformer.diffusion import masks
from difformer.diffusion.affine import leave
from difformer.diffusion.graph import Pattern, SparseWeights
from difformer.diffusion.workspace import Workspace
from difformer.errors import ConfigError, one_of
from difformer.nn.conv import AnyDiffusivity, DIFFormerConv, check_states, is_number
from difformer.nn.motion import Finish, advance
from difformer.nn.official import (
    OfficialConv,
    load_released,
    official_options,
    official_structure,
)
from difformer.nn.sizes import check_sizes
from difformer.nn.structure import Cache, Structure, arrange, arranged, restore

if TYPE_CHECKING:
    from difformer.nn.trace import Trace


# What the backward makes again instead of keeping it, from the fastest plan to the leanest.
RECOMPUTE = ("nothing", "products", "steps")


class Step(NamedTuple):
    """States around one diffusion step, each (N, C)."""

    before: Tensor
    moved: Tensor  # right after the step
    after: Tensor  # after normalisation and dropout


ACTIVATIONS = ("input", "output", "each")

_LEAN: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}


class DIFFormer(nn.Module):
    r"""Encode a set of instances by energy-constrained diffusion (Wu et al., ICLR 2023).

    Args:
        in_channels: Features F.
        hidden_channels: Width C of the states.
        out_channels: Outputs O; raw, no softmax.
        num_layers: Diffusion steps.
        heads: Diffusivities averaged in each layer.
        diffusivity: ``simple`` (DIFFormer-s), ``sigmoid`` (DIFFormer-a), ``welsch``, ``cauchy``,
            ``local``, ``identity`` (MLP), ``graph`` (GCN), ``graph_attention`` (GAT), a penalty, a
            neighbourhood, or a sequence of them: a mix.
        step_size, graph, graph_norm, graph_loops, mix, mix_weights, source, maps, value_map: See
            :class:`DIFFormerConv`.
        norm: ``"layer"`` (LayerNorm after the input map and each step) or None.
        dropout: Rate in [0, 1) on states, after the input map and each step; with a late
            activation after that alone.
        input_dropout: Rate on the features, before the input map.
        node_dropout: Rate at which whole instances are silenced before they diffuse: their mapped
            features become 0 and the others are scaled up (Feng et al., NeurIPS 2020).
        activation: Where a ReLU stands: after the ``"input"`` map (as published); at the
            ``"output"``, after the last step, so that features diffuse linearly; or after the
            input map and ``"each"`` step.
        jump: Whether the output map sees the states before the first step and after each, side by
            side, instead of the last ones alone (jump connections, Xu et al., ICML 2018).
        input_map, output_map: False leaves one out; its widths must then agree. Without maps,
            input and output map, and ``norm=None``, nothing is trained: *decoupled* diffusion, for
            which the theorem holds as it stands.

        recompute: What the backward makes again instead of keeping it. ``"products"``: the
            states of each step are kept, and what the graph and, with one head, all instances
            bring. ``"nothing"``: that of every head, too, and a product of the input map; some
            percent faster. ``"steps"``: only the states of every few steps. The numbers are the
            same to the last bit. ``difformer.nn.memory.plan_memory`` chooses for a given memory.

    Attributes:
        workspace: Memory for states, kept between the passes of a training on a CPU: about what a
            step needs. ``workspace.release()`` gives it to the system.

    Shapes:
        - input: x (N, F), dense or ``torch.sparse_csr``; edge_index (2, E) int64;
          edge_weight (E,); batch (N,) int64
        - output: (N, O)

    Raises:
        ConfigError: On an unknown name or a value out of range.
        DataError: If edges, weights or batch do not fit x.

    Cost: see :class:`DIFFormerConv`, per layer. The graph is normalised, and input-space
    neighbours are found, once per set of tensors.

    Example:
        >>> model = DIFFormer(16, 32, 3)
        >>> x, edge_index = torch.randn(5, 16), torch.tensor([[0, 1], [1, 0]])
        >>> model(x).shape, model(x, edge_index).shape
        (torch.Size([5, 3]), torch.Size([5, 3]))
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_layers: int = 2,
        heads: int = 1,
        diffusivity: AnyDiffusivity | Sequence[AnyDiffusivity] = "simple",
        *,
        step_size: float = 0.5,
        graph: bool = True,
        graph_norm: str = "row",
        graph_loops: bool = True,
        mix: str = "convex",
        mix_weights: Sequence[float] | str | None = None,
        source: float = 0.0,
        maps: bool = True,
        value_map: bool = False,
        norm: str | None = "layer",
        dropout: float = 0.2,
        input_dropout: float = 0.0,
        node_dropout: float = 0.0,
        activation: str = "input",
        jump: bool = False,
        input_map: bool = True,
        output_map: bool = True,
        recompute: str = "products",
        official: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.recompute = one_of(recompute, RECOMPUTE, "recompute")
        check_sizes(in_channels, hidden_channels, out_channels, num_layers, input_map, output_map)
        for name, rate in (
            ("dropout", dropout),
            ("input_dropout", input_dropout),
            ("node_dropout", node_dropout),
        ):
            if not (is_number(rate) and 0 <= rate < 1):
                raise ConfigError(f"{name} must lie in [0, 1), found {rate!r}.")
        if norm not in (None, "layer"):
            raise ConfigError(f"norm must be 'layer' or None, found {norm!r}.")
        self.dropout, self.input_dropout = dropout, input_dropout
        self.node_dropout = node_dropout
        self.late = one_of(activation, ACTIVATIONS, "activation") == "output"
        self.each, self.jump = activation == "each", jump
        if jump and not output_map:
            raise ConfigError("jump needs the output map, found output_map=False.")
        self.input_map = nn.Linear(in_channels, hidden_channels) if input_map else None
        seen = hidden_channels * (num_layers + 1 if jump else 1)
        self.output_map = nn.Linear(seen, out_channels) if output_map else None
        self.convs = nn.ModuleList()
        for _ in range(num_layers):
            if official is not None:
                self.convs.append(OfficialConv(hidden_channels, heads, **official))
                continue
            self.convs.append(
                DIFFormerConv(
                    hidden_channels,
                    heads,
                    diffusivity,
                    step_size=step_size,
                    graph=graph,
                    graph_norm=graph_norm,
                    graph_loops=graph_loops,
                    mix=mix,
                    mix_weights=mix_weights,
                    source=source,
                    maps=maps,
                    value_map=value_map,
                )
            )
        # One LayerNorm after the input map and one after each step.
        count = num_layers + 1 if norm else 0
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_channels) for _ in range(count))
        self._input_cache, self._cache = Cache(), Cache()
        self.workspace = Workspace()  # for states, while training

    @property
    def layers(self) -> "list[DIFFormerConv | OfficialConv]":
        """The diffusion layers, in order."""
        return cast("list[DIFFormerConv | OfficialConv]", list(self.convs))

    def reset_parameters(self) -> None:
        """Draw all parameters anew from torch's global generator."""
        for module in (self.input_map, *self.convs, *self.norms, self.output_map):
            if module is not None:
                module.reset_parameters()

    def extra_repr(self) -> str:
        """Sizes."""
        c = self.config
        return f"{c['in_channels']}, {c['hidden_channels']}, {c['out_channels']}"

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """Raw outputs, (N, O)."""
        return self.readout(self.encode(x, edge_index, edge_weight, batch))

    def encode(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Tensor:
        """States after the last step, (N, C); with ``jump`` after each, (N, (L + 1) C)."""
        key = self.draw_key()
        workspace = self._room()
        workspace.next_pass()
        lean = self.recompute == "steps" and torch.is_grad_enabled()
        embedding = (self.embed, x, key, workspace)
        z = checkpoint(*embedding, **_LEAN) if lean else self.embed(x, key, workspace)
        structure = self.operators(x, edge_index, edge_weight, batch)
        initial = arrange(z, structure)
        seen = [initial]
        for stage in self._stages():
            diffusion = (seen[-1], structure, initial, key, workspace, stage)
            found = (
                checkpoint(self._advance, *diffusion, **_LEAN)
                if lean
                else self._advance(*diffusion)
            )
            seen = seen + found if self.jump else found
        return self.finish(restore(side_by_side(seen), structure), key, workspace)

    def _room(self) -> Workspace:
        """Where a pass takes memory from: kept between passes once there was a training."""
        return self.workspace if self.training or self.workspace.held else Workspace()

    def _stages(self) -> Iterator[range]:
        """Layers in runs of about the square root of their number: the unit of recomputation."""
        length = math.isqrt(max(len(self.convs) - 1, 0)) + 1
        for start in range(0, len(self.convs), length):
            yield range(start, min(start + length, len(self.convs)))

    def _advance(
        self,
        z: Tensor,
        structure: Structure,
        initial: Tensor,
        key: int,
        workspace: Workspace,
        stage: range,
    ) -> list[Tensor]:
        """Diffuse through some layers: the states after the last one, or with ``jump`` of each."""
        seen: list[Tensor] = []
        for index in stage:
            finish = self._finish(index + 1, key, workspace, relu=self.each)
            z = advance(self.layers[index], z, structure, initial, finish)
            seen = [*seen, z] if self.jump else [z]
        return seen

    def steps(self, z: Tensor, structure: Structure, key: int = 0) -> Iterator[Step]:
        """Diffuse from initial states z, one step at a time: the plain form of :meth:`encode`."""
        initial = z
        for index, conv in enumerate(self.layers):
            moved = conv.step(z, structure, initial)
            after = self.settle(moved, index + 1, key)
            yield Step(z, moved, after)
            z = after

    def draw_key(self) -> int:
        """What all dropout masks of a forward pass depend on, from torch's global generator."""
        drops = self.training and (self.dropout or self.input_dropout or self.node_dropout)
        return masks.draw_key() if drops else 0

    def embed(self, x: Tensor, key: int = 0, workspace: Workspace | None = None) -> Tensor:
        """Initial states from features, (N, C)."""
        check_states(x, self.config["in_channels"], "in_channels")
        if self.input_map is None:
            z = x.to_dense() if x.layout == torch.sparse_csr else x
            return self._finish(0, key, workspace).apply(z)
        finish = self._finish(0, key, workspace, relu=not self.late)
        silences = self.training and self.node_dropout
        if x.layout != torch.sparse_csr and not silences:
            return finish.enter(self._thinned(x, key), self.input_map)
        mapped = self._multiply(x, self.input_map.weight.t(), key)
        if silences:
            silent = masks.derive(key, -3)
            mapped = mapped * masks.mask(len(mapped), 1, self.node_dropout, silent, mapped)
        return finish.apply(mapped + self.input_map.bias)

    def readout(self, z: Tensor) -> Tensor:
        """Outputs from what :meth:`encode` gives, (N, O)."""
        if self.output_map is None:
            return z
        return leave(z, self.output_map.weight, self.output_map.bias, self._room())

    def settle(self, z: Tensor, index: int, key: int = 0) -> Tensor:
        """What follows each step: normalise, with an activation at each that, drop out."""
        if self.norms:
            z = self.norms[index](z)
        z = z.relu() if self.each else z
        if self.late or not (self.training and self.dropout):
            return z
        return masks.dropout(z, self.dropout, masks.derive(key, index))

    def finish(self, z: Tensor, key: int = 0, workspace: Workspace | None = None) -> Tensor:
        """What follows the last step: with a late activation, that and its dropout."""
        if not self.late:
            return z
        rate = self.dropout if self.training else 0.0
        masking = masks.derive(key, -1)
        return Finish(relu=True, dropout=rate, key=masking, workspace=workspace).apply(z)

    def _finish(
        self, index: int, key: int, workspace: Workspace | None, relu: bool = False
    ) -> Finish:
        """The same as :meth:`settle` for the engine."""
        norm = self.norms[index] if self.norms else None
        rate = self.dropout if self.training and not self.late else 0.0
        return Finish(
            cast("nn.LayerNorm | None", norm),
            relu,
            rate,
            masks.derive(key, index),
            self.recompute,
            index == len(self.convs),
            workspace,
        )

    def _multiply(self, x: Tensor, weight: Tensor, key: int) -> Tensor:
        """x @ weight; a sparse x is never made dense, nor differentiated through."""
        if x.layout != torch.sparse_csr:
            return self._thinned(x, key) @ weight
        sparse: SparseWeights = self._input_cache.get((x,), lambda: _sparse_rows(x))
        if self.training and self.input_dropout:
            entries = len(sparse.values)
            kept = masks.mask(entries, 1, self.input_dropout, masks.derive(key, -2), sparse.values)
            sparse = SparseWeights(sparse.pattern, sparse.values * kept.squeeze(1))
        return sparse.matmul(weight)

    def _thinned(self, x: Tensor, key: int) -> Tensor:
        """Dense features after their dropout."""
        if not (self.training and self.input_dropout):
            return x
        return masks.dropout(x, self.input_dropout, masks.derive(key, -2))

    def structure(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Structure:
        """Operators that all layers share, remembered while the same tensors are passed."""
        if not self.convs:
            return Structure((), (), (), batch, ())
        conv = self.convs[0]
        if isinstance(conv, OfficialConv):
            if not self.config["graph"]:
                edge_index = edge_weight = None
            return self._cache.get(  # type: ignore[no-any-return]
                (edge_index, edge_weight, batch),
                lambda: official_structure(conv, x, edge_index, edge_weight, batch),
                like=(x.shape[0], x.dtype, x.device),
            )
        assert isinstance(conv, DIFFormerConv)
        return conv.structure(x, edge_index, edge_weight, batch)

    def keep_structure_of(self, other: "DIFFormer") -> None:
        """Remember what ``other`` found, for the same terms: neighbours are not searched again."""
        for own, theirs in zip(self.layers[:1], other.layers[:1], strict=True):
            if isinstance(own, DIFFormerConv) and isinstance(theirs, DIFFormerConv):
                own.keep_structure_of(theirs)

    def operators(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
    ) -> Structure:
        """The same as :meth:`structure` for a forward pass: rows may be moved for locality."""
        return arranged(self.structure(x, edge_index, edge_weight, batch), len(self.convs))

    def trace(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        y: Tensor | None = None,
    ) -> "Trace":
        """States, energy parts, contrast and lambda* of each step: see ``difformer.nn.trace``."""
        from difformer.nn.trace import trace

        return trace(self, x, edge_index, edge_weight, batch, y)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], **arguments: Any) -> "DIFFormer":
        """A model with the released code's numerics and weights.

        Args:
            state_dict: Tensors of a released checkpoint, by their released names.
            **arguments: Those of the released constructor (``num_heads``, ``kernel``, ``alpha``,
                ``use_bn``, ``use_residual``, ``use_weight``, ``use_graph``, ``graph_weight``,
                ``use_source``, ...), with its defaults.

        Raises:
            ConfigError: If arguments are unknown or the tensors do not fit them.
        """
        model = cls(**official_options(**arguments))
        if state_dict:
            floats = [t.dtype for t in state_dict.values() if t.is_floating_point()]
            model.to(floats[0])
        load_released(model, state_dict)
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``, which may be new."""
        from difformer.nn.pretrained import save_pretrained

        save_pretrained(self, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "DIFFormer":
        """Read what :meth:`save_pretrained` wrote; offline, nothing is executed.

        Raises:
            RunError: If a file is missing, damaged or does not fit the other.
        """
        from difformer.nn.pretrained import load_pretrained

        return load_pretrained(cls, Path(folder))


def side_by_side(states: Sequence[Tensor]) -> Tensor:
    """States of several steps in one tensor; one alone as it is."""
    return torch.cat(list(states), 1) if len(states) > 1 else states[0]


def _sparse_rows(x: Tensor) -> SparseWeights:
    pattern = Pattern(x.crow_indices(), x.col_indices(), x.shape[1])
    return SparseWeights(pattern, x.values())
