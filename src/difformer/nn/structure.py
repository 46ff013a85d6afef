"""What does not change while states move: the pairs and weights that a forward pass works on.

Building it is where graphs are normalised and neighbours in input space are found, once for all
layers and steps. Letters: N instances, L keys, E edges, F features.
"""

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.data import neighbors
from difformer.data.order import near_order
from difformer.data.projection import pca
from difformer.diffusion import Diffusivity, Neighbourhood, SparseWeights, local_weights, observed
from difformer.diffusion.graph import Pattern, check_edges
from difformer.diffusion.local import Lists
from difformer.diffusion.penalty import QUADRATIC
from difformer.diffusion.segments import segment
from difformer.nn.recall import Recall
from difformer.nn.tiles import proposer

ARRANGED_ROWS = 1 << 16  # below it the states nearly fit into the caches in any order
ARRANGED_LAYERS = 3  # below it moving the rows there and back costs what it gains


@dataclass(frozen=True, eq=False)
class Structure:
    """The operators of each term of a mix, in the order of the terms.

    Attributes:
        terms: The diffusivities that take part.
        weights: For each term, its sparse weights before normalisation, or None.
        operators: For each term, the normalised operator where it is fixed, or None.
        batch: Graph of each instance, or None.
        mix: Index of each term in the model's mix weights.
        order: Where the rows were moved (see :func:`arranged`): which row stands first, second and
            so on. None: they stand as they came.
    """

    terms: tuple[Diffusivity, ...]
    weights: tuple[SparseWeights | None, ...]
    operators: tuple[SparseWeights | None, ...]
    batch: Tensor | None
    mix: tuple[int, ...]
    order: Tensor | None = None  # (N,) int64

    @cached_property
    def place(self) -> Tensor | None:
        """Where each row went: the reverse of ``order``, (N,)."""
        return None if self.order is None else torch.argsort(self.order)

    @cached_property
    def recall(self) -> Recall:
        """Neighbours found among the states, remembered for the next training passes."""
        return Recall()

    @cached_property
    def compact(self) -> "Structure":
        """The structure in the order that :func:`near_order` finds; itself if there is none."""
        with torch.inference_mode(False), torch.no_grad():  # remembered, and to serve in training
            found = _near_order(self)
            return self if found is None else reordered(self, found)


def arranged(structure: Structure, layers: int) -> Structure:
    """The structure with rows moved so that neighbours lie near each other, where that pays.

    The operators are moved once and remembered. States are moved by :func:`arrange` before the
    first layer and back by :func:`restore` after the last one; results are the same to rounding.

    It pays on a processor, for at least 65,536 rows and three layers, where an order is found
    (:func:`near_order`). Rows stay where neighbours are found among the states, for ties go to the
    lower row number; in a batch of graphs; and where edge weights are differentiated through.
    """
    if layers < ARRANGED_LAYERS or not _may_move(structure):
        return structure
    return structure.compact


def _may_move(structure: Structure) -> bool:
    sparse = [w for w in (*structure.weights, *structure.operators) if w is not None]
    return (
        structure.batch is None
        and any(w.pattern.rows >= ARRANGED_ROWS for w in sparse)
        and all(w.values.device.type == "cpu" and not w.values.requires_grad for w in sparse)
        and not any(
            t.neighbours is not None and t.neighbours.space == "state" for t in structure.terms
        )
    )


def _near_order(structure: Structure) -> Tensor | None:
    patterns = {id(w.pattern): w.pattern for w in structure.weights if w is not None}
    graphs = [(p.crow.numpy(), p.col.numpy()) for p in patterns.values()]
    order = near_order(next(iter(patterns.values())).rows, graphs) if graphs else None
    return None if order is None else torch.from_numpy(order)


def reordered(structure: Structure, order: Tensor) -> Structure:
    """The same operators for states in another order of rows, (N,)."""
    place = torch.argsort(order)
    done: dict[int, tuple[Pattern, Tensor]] = {}

    def moved(weights: SparseWeights | None) -> SparseWeights | None:
        if weights is None:
            return None
        key = id(weights.pattern)
        done[key] = done[key] if key in done else weights.pattern.renumbered(place)
        pattern, entries = done[key]
        return SparseWeights(pattern, weights.values[entries])

    weights = tuple(moved(w) for w in structure.weights)
    operators = tuple(moved(w) for w in structure.operators)
    return replace(structure, weights=weights, operators=operators, order=order)


class _Move(torch.autograd.Function):
    """Rows in another order; the gradient goes back by a gather, not by adding up."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.place = place
        return z.index_select(0, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.place), None, None


def arrange(z: Tensor, structure: Structure) -> Tensor:
    """States (N, C) in the structure's order of rows; z itself if they stand as they came."""
    if structure.order is None:
        return z
    out: Tensor = _Move.apply(z, structure.order, structure.place)  # type: ignore[no-untyped-call]
    return out


def restore(z: Tensor, structure: Structure) -> Tensor:
    """The reverse of :func:`arrange`."""
    if structure.order is None:
        return z
    out: Tensor = _Move.apply(z, structure.place, structure.order)  # type: ignore[no-untyped-call]
    return out


def build_structure(
    terms: tuple[Diffusivity, ...],
    x: Tensor,  # (N, F), dense or CSR
    edge_index: Tensor | None,
    edge_weight: Tensor | None,
    batch: Tensor | None,
    graph_norm: str,
    optional: int | None = None,  # index of the term that is left out where there is no graph
    graph_loops: bool = True,
) -> Structure:
    """Prepare every term that can be prepared before the states are known.

    Raises:
        DataError: If edges, weights or batch do not fit x.
    """
    check_edges(edge_index, edge_weight, x.shape[0], x.shape[0])
    segment(x.shape[0], x.shape[0], batch)  # refuses a batch that does not fit
    kept, weights, operators = [], [], []
    for index, term in enumerate(terms):
        if index == optional and edge_index is None:
            continue
        w = _weights(term, x, edge_index, edge_weight, batch, graph_loops)
        kept.append(index)
        weights.append(w)
        operators.append(operator_of(term, w, graph_norm))
    chosen = tuple(terms[index] for index in kept)
    return Structure(chosen, tuple(weights), tuple(operators), batch, tuple(kept))


def _weights(
    term: Diffusivity,
    x: Tensor,
    edge_index: Tensor | None,
    edge_weight: Tensor | None,
    batch: Tensor | None,
    graph_loops: bool,
) -> SparseWeights | None:
    if term.support == "edges" and edge_index is not None:
        return observed(edge_index, edge_weight, x.shape[0], x.dtype, graph_loops)
    if term.neighbours is not None and term.neighbours.space == "input":
        return found_neighbours(x, term.neighbours, batch)
    return None


def operator_of(
    term: Diffusivity,
    weights: SparseWeights | None,
    graph_norm: str,
    source_degree: Tensor | None = None,
) -> SparseWeights | None:
    """A term's weights normalised; None where its rates depend on the states."""
    if weights is None or term.penalty is not QUADRATIC:
        return None
    return weights.normalised(norm_of(term, graph_norm), source_degree)


def norm_of(term: Diffusivity, graph_norm: str) -> str:
    """Neighbours bring their own normalisation, the observed graph has the model's."""
    return graph_norm if term.neighbours is None else term.neighbours.norm


def found_neighbours(x: Tensor, rule: Neighbourhood, batch: Tensor | None = None) -> SparseWeights:
    """Weights of the ``local`` diffusivity among the rows of x. Exact; O(N^2 F) time."""
    weights = local_weights(*neighbour_lists(x, rule, batch), rule, torch.float64)
    return weights.to(x.device, x.dtype)


def neighbour_lists(x: Tensor, rule: Neighbourhood, batch: Tensor | None = None) -> Lists:
    """Row numbers and squared distances of the nearest rows, (N, max(k, bandwidth))."""
    if batch is not None and rule.components is not None:
        return _lists_by_graph(x, rule, batch)
    graphs = None if batch is None else batch.cpu().numpy()
    return lists_among(projection(x, rule)(x), rule, x.device, graphs)


def lists_among(
    points: Any, rule: Neighbourhood, device: torch.device, graphs: Any = None
) -> Lists:
    """The same of points that are in the space of :func:`projection` already."""
    near = neighbors.search(
        points,
        wanted(rule),
        metric=rule.metric,
        batch=graphs,
        candidates=proposer(device),
    )
    return Lists(torch.from_numpy(near.index), torch.from_numpy(near.squared_distance))


def _lists_by_graph(x: Tensor, rule: Neighbourhood, batch: Tensor) -> Lists:
    """As :func:`neighbour_lists`: each graph has its own mean and principal components."""
    points, width = to_numpy(x), wanted(rule)
    index = torch.full((x.shape[0], width), neighbors.NONE)
    squared = torch.full((x.shape[0], width), torch.inf, dtype=torch.float64)
    for graph in batch.unique().tolist():
        rows = (batch == graph).nonzero().squeeze(1).cpu()
        own = points[rows.numpy()]
        local, squared[rows] = lists_among(_projector(own, rule)(own), rule, x.device)
        index[rows] = torch.where(local == neighbors.NONE, local, rows[local])
    return Lists(index, squared)


def projection(x: Tensor, rule: Neighbourhood) -> Callable[[Tensor], Any]:
    """Into the space in which neighbours are found: as they are, or principal components of x."""
    project = _projector(to_numpy(x), rule)
    return lambda rows: project(to_numpy(rows))


def _projector(points: Any, rule: Neighbourhood) -> Callable[[Any], Any]:
    if rule.components is None or 0 in points.shape:
        return lambda rows: rows
    return pca(points, rule.components).apply


def wanted(rule: Neighbourhood) -> int:
    """How many nearest rows the rule looks at."""
    return rule.k if rule.weights == "binary" else max(rule.k, rule.bandwidth)


def to_numpy(x: Tensor) -> Any:
    """A dense array, or a scipy CSR matrix for a CSR tensor."""
    x = x.detach().cpu()
    if x.layout != torch.sparse_csr:
        return x.numpy()
    parts = (x.values().numpy(), x.col_indices().numpy(), x.crow_indices().numpy())
    return sparse.csr_matrix(parts, shape=tuple(x.shape))


def to_tensor(x: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    """The reverse of :func:`to_numpy`."""
    if not sparse.issparse(x):
        return torch.as_tensor(np.asarray(x), dtype=dtype)
    x = x.tocsr()
    return torch.sparse_csr_tensor(
        torch.as_tensor(x.indptr, dtype=torch.long),
        torch.as_tensor(x.indices, dtype=torch.long),
        torch.as_tensor(x.data, dtype=dtype),
        size=x.shape,
        check_invariants=False,
    )


class Cache:
    """Remembers the last result for the very same tensors, unchanged since.

    The key is identity and torch's own version counter, so an in-place edit through torch is
    noticed; one of memory that numpy shares is not. Tensors are held weakly: the cache never
    answers for a tensor that is gone.
    """

    def __init__(self) -> None:
        # Replaced as a whole, so that another thread never sees keys of one result with another.
        self._entry: tuple[tuple[tuple[Any, int], ...], Hashable, Any] | None = None

    def get(self, tensors: tuple[Tensor | None, ...], make: Any, like: Hashable = None) -> Any:
        """The remembered value, or ``make()``; ``like`` is what else the value depends on."""
        if any(t is not None and (t.requires_grad or t.is_inference()) for t in tensors):
            return make()  # it belongs to this graph of gradients alone, or has no version
        entry = self._entry
        if entry is not None and entry[1] == like and _unchanged(entry[0], tensors):
            return entry[2]
        keys = tuple((None, 0) if t is None else (weakref.ref(t), t._version) for t in tensors)
        value = make()
        if not torch.is_inference_mode_enabled():  # what is made there cannot serve in training
            self._entry = keys, like, value
        return value

    def __deepcopy__(self, memo: Any) -> "Cache":
        """A copy starts empty: weak references cannot be copied, nor need they be."""
        return Cache()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """As for copies."""
        return Cache, ()


def _unchanged(keys: tuple[tuple[Any, int], ...], tensors: tuple[Tensor | None, ...]) -> bool:
    for (reference, version), tensor in zip(keys, tensors, strict=True):
        if (reference() if reference else None) is not tensor:
            return False
        if tensor is not None and tensor._version != version:
            return False
    return True
