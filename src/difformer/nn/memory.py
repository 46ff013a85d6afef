"""How much memory a training step needs, and which plan fits into what there is.

The need is not guessed from formulas but read off the model at hand: two small steps, on the first
rows of the data, are traced allocation by allocation. Every path of the library needs memory in
proportion to the instances, so that their peaks lie on a line, which is followed to the full N.

Letters: N instances, E edges, F features.
"""

import copy
import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from difformer import process
from difformer.diffusion.pairwise import pairs_at_a_time
from difformer.diffusion.workspace import Workspace
from difformer.errors import ConfigError
from difformer.nn.encoder import RECOMPUTE, DIFFormer

SIZES = (8192, 16384)  # two or more blocks of rows, so that what a block needs is counted as fixed
QUADRATIC_SIZE = 1024  # about; where time grows with N^2


@dataclass(frozen=True)
class Plan:
    """What is made again in the backward, and the peak that follows.

    Attributes:
        recompute: See ``DIFFormer.recompute``.
        step_bytes: What a training step needs at its peak, besides what is there before it.
        present_bytes: What the process (the accelerator) holds before it.
        peak_bytes: The predicted peak of the whole process (of the accelerator): the step on top
            of what is there, or what preparing the graph has already taken, if that is more.
    """

    recompute: str
    step_bytes: int
    present_bytes: int
    peak_bytes: int

    def sentence(self) -> str:
        """For people.

        Example:
            >>> Plan("products", 1_900_000_000, 500_000_000, 2_400_000_000).sentence()
            'Training needs about 2.4 GB at its peak (1.9 GB a step); recomputed: products.'
        """
        return (
            f"Training needs about {self.peak_bytes / 1e9:.2g} GB at its peak "
            f"({self.step_bytes / 1e9:.2g} GB a step); recomputed: {self.recompute}."
        )


def plan_memory(
    model: DIFFormer,
    x: Tensor,
    edge_index: Tensor | None = None,
    edge_weight: Tensor | None = None,
    memory: int | None = None,
    views: int = 1,
) -> Plan:
    """Choose the fastest plan that fits into ``memory`` bytes, and predict its peak.

    Args:
        model: The encoder. Its weights stay as they are; what it remembers of the graph and of
            neighbours is made now, if it is not there yet.
        x: Its features, (N, F), dense or CSR.
        edge_index: Observed edges, (2, E), or None.
        edge_weight: Their weights, (E,), or None.
        memory: Bytes that the process (the accelerator) may use at its peak. None: the plan that
            the model has is taken as it is.
        views: Forward passes a step.

    Raises:
        ConfigError: If even the leanest plan does not fit.

    Cost: two training steps on some thousand rows for each plan that is tried.
    """
    present, highest = _prepared(model, x, edge_index, edge_weight)
    edges = 0 if edge_index is None else edge_index.shape[1]
    plans = (model.recompute,) if memory is None else RECOMPUTE
    for recompute in plans:
        step = _step_bytes(model, x, edges, recompute, views)
        plan = Plan(recompute, step, present, max(highest, present + step))
        if memory is None or plan.peak_bytes <= memory:
            return plan
    raise ConfigError(
        f"memory must be at least {plan.peak_bytes / 1e9:.3g} GB for {x.shape[0]:,} instances even "
        f"with every state recomputed, found {memory / 1e9:.3g} GB; "  # type: ignore[operator]
        "lower hidden_channels or the number of instances."
    )


def _prepared(
    model: DIFFormer, x: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None
) -> tuple[int, int]:
    """Make what stays between steps; then what the process holds, and has held at most."""
    model.operators(x, edge_index, edge_weight)
    edges = 0 if edge_index is None else edge_index.shape[1]
    _peak(model, x, edges, min(x.shape[0], 64), model.recompute, 1)  # torch loads parts late
    return resident_bytes(x.device)


def resident_bytes(device: torch.device) -> tuple[int, int]:
    """Bytes that this process holds now and has held at most (has allocated on a GPU)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    return process.resident(), process.peak()


def _step_bytes(model: DIFFormer, x: Tensor, edges: int, recompute: str, views: int) -> int:
    """Peak of a training step on all N rows, from two small ones."""
    count = x.shape[0]
    few, more = _pair_sizes(model, x) if _is_quadratic(model) else SIZES
    if count <= more:
        return _peak(model, x, edges, count, recompute, views)
    low, high = (_peak(model, x, edges, n, recompute, views) for n in (few, more))
    return round(low + (high - low) / (more - few) * (count - few))


def _pair_sizes(model: DIFFormer, x: Tensor) -> tuple[int, int]:
    """Two sizes of trials that are cut into tiles of pairs as large as those of all N rows."""
    pairs = pairs_at_a_time(x.device) // model.config["heads"]
    edge = -(-x.shape[0] // -(-x.shape[0] // max(1, math.isqrt(pairs))))
    few = edge * max(1, round(QUADRATIC_SIZE / edge))
    return few, 2 * few


def _is_quadratic(model: DIFFormer) -> bool:
    terms = [term for layer in model.layers for term in layer.terms]
    return any(
        (t.support == "all" and t.penalty.affine is None) or t.support == "neighbours"
        for t in terms
    )


def _peak(model: DIFFormer, x: Tensor, edges: int, count: int, recompute: str, views: int) -> int:
    """Traced peak of one step on the first ``count`` rows with a share of the edges."""
    rows = _first(x, count)
    trial = copy.deepcopy(model).train()
    trial.recompute = recompute
    generator = torch.Generator().manual_seed(0)
    share = round(edges * count / max(x.shape[0], 1))
    index = torch.randint(0, count, (2, share), generator=generator).to(x.device) if edges else None
    y = torch.zeros(count, dtype=torch.long, device=x.device)

    def step() -> None:
        out = torch.stack([trial(rows, index) for _ in range(views)])
        cross_entropy(out.flatten(0, 1), y.repeat(views)).backward()

    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        step()  # what stays after the first step (gradients, the graph) is there before the next
        return _traced(step, trial, x.device)


def _traced(step: Callable[[], None], model: DIFFormer, device: torch.device) -> int:
    """Largest sum of what a step has allocated and not yet freed, its workspace included."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return int(torch.cuda.max_memory_allocated(device)) - before
    with _Tracker(model.workspace) as tracker:
        step()
    peak: int = tracker.peak
    return peak


class _Tracker(TorchDispatchMode):
    """Adds up the storages that come into being, and takes them off as they go."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.workspace, self.held = workspace, 0
        self.peak = workspace.held
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(t.untyped_storage()) for t in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            if id(storage) in given or storage in self._known:
                continue  # a view, or written in place
            self._known[storage] = True
            self.held += storage.nbytes()
            weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.held + self.workspace.held)
        return out

    def _free(self, size: int) -> None:
        self.held -= size


def _tensors(tree: Any) -> list[Tensor]:
    """All strided tensors in nested arguments; a sparse one holds strided ones."""
    leaves = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
    return [leaf for leaf in leaves if leaf.layout == torch.strided]


def _first(x: Tensor, count: int) -> Tensor:
    """The first rows, dense or CSR."""
    if x.layout != torch.sparse_csr:
        return x[:count]
    crow = x.crow_indices()[: count + 1]
    end = int(crow[-1])
    parts = crow, x.col_indices()[:end], x.values()[:end]
    return torch.sparse_csr_tensor(*parts, size=(count, x.shape[1]), check_invariants=False)
