"""What does not change while states move: the pairs and weights that a forward pass works on.

Building it is where graphs are normalised and neighbours in input space are found, once for all
layers and steps. Letters: N instances, L keys, E edges, F features.
"""

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from difformer.data import neighbors
from difformer.diffusion import Diffusivity, Neighbourhood, SparseWeights, local_weights, observed
from difformer.diffusion.penalty import QUADRATIC


@dataclass(frozen=True)
class Structure:
    """The operators of each term of a mix, in the order of the terms.

    Attributes:
        terms: The diffusivities that take part.
        weights: For each term, its sparse weights before normalisation, or None.
        operators: For each term, the normalised operator where it is fixed, or None.
        batch: Graph of each instance, or None.
        mix: Index of each term in the model's mix weights.
    """

    terms: tuple[Diffusivity, ...]
    weights: tuple[SparseWeights | None, ...]
    operators: tuple[SparseWeights | None, ...]
    batch: Tensor | None
    mix: tuple[int, ...]


def build_structure(
    terms: tuple[Diffusivity, ...],
    x: Tensor,  # (N, F), dense or CSR
    edge_index: Tensor | None,
    edge_weight: Tensor | None,
    batch: Tensor | None,
    graph_norm: str,
    optional: int | None = None,  # index of the term that is left out where there is no graph
) -> Structure:
    """Prepare every term that can be prepared before the states are known."""
    dtype = x.dtype
    kept, weights, operators = [], [], []
    for index, term in enumerate(terms):
        if index == optional and edge_index is None:
            continue
        w = _weights(term, x, edge_index, edge_weight, batch, dtype)
        kept.append(index)
        weights.append(w)
        operators.append(None if w is None else _operator(term, w, graph_norm))
    chosen = tuple(terms[index] for index in kept)
    return Structure(chosen, tuple(weights), tuple(operators), batch, tuple(kept))


def _weights(
    term: Diffusivity,
    x: Tensor,
    edge_index: Tensor | None,
    edge_weight: Tensor | None,
    batch: Tensor | None,
    dtype: torch.dtype,
) -> SparseWeights | None:
    if term.support == "edges" and edge_index is not None:
        return observed(edge_index, edge_weight, x.shape[0], dtype)
    if term.neighbours is not None and term.neighbours.space == "input":
        return found_neighbours(x, term.neighbours, batch).to(x.new_zeros(0))
    return None


def _operator(term: Diffusivity, weights: SparseWeights, graph_norm: str) -> SparseWeights | None:
    if term.penalty is not QUADRATIC:
        return None
    norm = graph_norm if term.neighbours is None else term.neighbours.norm
    return weights.normalised(norm)


def found_neighbours(x: Tensor, rule: Neighbourhood, batch: Tensor | None = None) -> SparseWeights:
    """Weights of the ``local`` diffusivity among the rows of x. Exact; O(N^2 F) time."""
    index, squared = neighbour_lists(x, rule, batch)
    weights = local_weights(index, squared, rule, torch.float64)
    return weights.to(torch.empty(0, dtype=x.dtype, device=x.device))


def neighbour_lists(
    x: Tensor, rule: Neighbourhood, batch: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Row numbers and squared distances of the nearest rows, (N, max(k, bandwidth))."""
    points = view(x, rule)
    wanted = rule.k if rule.weights == "binary" else max(rule.k, rule.bandwidth)
    graphs = None if batch is None else batch.cpu().numpy()
    near = neighbors.search(points, wanted, metric=rule.metric, batch=graphs)
    return torch.from_numpy(near.index), torch.from_numpy(near.squared_distance)


def view(x: Tensor, rule: Neighbourhood, of: Tensor | None = None) -> Any:
    """The space in which neighbours are found: x itself, or centred principal components.

    With ``of`` the components are those of the rows of x, and the rows of ``of`` are projected.
    """
    points, wanted = to_numpy(x), to_numpy(x if of is None else of)
    if rule.components is None or rule.components >= x.shape[1]:
        return wanted
    projection = neighbors.pca(points, min(rule.components, *points.shape))
    return projection.apply(wanted)


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

    The key is identity and torch's own version counter, so an in-place edit is noticed. Tensors
    are held weakly: the cache keeps no data alive and never answers for a tensor that is gone.
    """

    def __init__(self) -> None:
        self._keys: tuple[tuple[Any, int], ...] | None = None
        self._value: Any = None

    def get(self, tensors: tuple[Tensor | None, ...], make: Any) -> Any:
        """The remembered value, or ``make()``."""
        if any(t is not None and t.requires_grad for t in tensors):
            return make()  # the result belongs to this graph of gradients alone
        if self._keys is None or not self._same(tensors):
            self._value = make()
            self._keys = tuple(
                (None, 0) if t is None else (weakref.ref(t), t._version) for t in tensors
            )
        return self._value

    def _same(self, tensors: tuple[Tensor | None, ...]) -> bool:
        assert self._keys is not None
        for (reference, version), tensor in zip(self._keys, tensors, strict=True):
            if (reference() if reference else None) is not tensor:
                return False
            if tensor is not None and tensor._version != version:
                return False
        return True

    def __deepcopy__(self, memo: Any) -> "Cache":
        """A copy starts empty: weak references cannot be copied, nor need they be."""
        return Cache()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """As for copies."""
        return Cache, ()
