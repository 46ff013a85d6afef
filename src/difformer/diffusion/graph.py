r"""Sparse operators: the observed graph, and any other diffusivity with few pairs.

Edges follow torch_geometric: ``edge_index[0]`` sends, ``edge_index[1]`` receives. Row i of an
operator holds what i receives. With weights :math:`a_{ij}` (from j to i; repeated edges add up; a
self-loop of weight 1 where an instance has none) and in-degrees :math:`d_i = \sum_j a_{ij}`:

    row   S_ij = a_ij / d_i                convex: rows sum to 1
    sym   S_ij = a_ij / sqrt(d_i d_j)      Kipf and Welling (2017)

so an isolated instance keeps its state. Both are defined for directed graphs by the in-degrees.

Letters: N rows, L columns, E stored entries, H heads, D width.
"""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from difformer.diffusion.pairwise import paired_distance
from difformer.diffusion.penalty import Penalty
from difformer.errors import DataError, one_of

with warnings.catch_warnings():
    # torch says once per process that CSR is young. The products used here are tested against the
    # dense definition; the user need not be told.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.long), [], (1, 1))


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the entries of a sparse matrix are, by rows and, for the backward, by columns."""

    crow: Tensor  # (N + 1,) int64
    col: Tensor  # (E,) int64
    columns: int  # L

    @property
    def rows(self) -> int:
        """N."""
        return len(self.crow) - 1

    @property
    def row(self) -> Tensor:
        """Row of each entry, (E,): made when asked for, in O(E)."""
        return torch.repeat_interleave(
            torch.arange(self.rows, device=self.col.device), self.crow.diff()
        )

    @cached_property
    def transposed(self) -> tuple["Pattern", Tensor]:
        """The transpose, and where its entries stand here, (E,); remembered."""
        return self.turned()

    def turned(self) -> tuple["Pattern", Tensor]:
        """The same, not remembered. Cost O(E log E)."""
        order = torch.argsort(self.col, stable=True)
        counts = torch.bincount(self.col, minlength=self.columns)
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        col = self.row[order]
        if torch.equal(crow, self.crow) and torch.equal(col, self.col):
            crow, col = self.crow, self.col  # symmetric: held once
        return Pattern(crow, col, self.rows), order

    def renumbered(self, place: Tensor) -> tuple["Pattern", Tensor]:
        """Row and column i called place_i, (N,), and where the entries stood before, (E,)."""
        row, col = place[self.row], place[self.col]
        order = torch.argsort(row * self.columns + col)
        counts = torch.bincount(row, minlength=self.rows)
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Pattern(crow, col[order], self.columns), order


class _Product(torch.autograd.Function):
    """A x, with gradients for x by the transpose and for the entries edge by edge."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, weights: "SparseWeights") -> Tensor:
        ctx.weights = weights
        ctx.save_for_backward(values, x if ctx.needs_input_grad[0] else None)
        pattern = weights.pattern
        return _multiply(pattern.crow, pattern.col, values, x, pattern.columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, x = ctx.saved_tensors
        weights: SparseWeights = ctx.weights
        pattern = weights.pattern
        of_values = of_x = None
        if ctx.needs_input_grad[1]:
            if ctx.needs_input_grad[0]:
                turned, order = pattern.transposed
                across = SparseWeights(turned, values[order])
            else:
                across = weights.transpose
            columns = across.pattern
            of_x = _multiply(columns.crow, columns.col, across.values, gradient, pattern.rows)
        if ctx.needs_input_grad[0]:
            of_values = _edge_products(pattern, gradient, x)
        return of_values, of_x, None


def _multiply(crow: Tensor, col: Tensor, values: Tensor, x: Tensor, columns: int) -> Tensor:
    """The product with x (L, D), by rows: the same for any number of threads."""
    x = x.contiguous()
    if x.device.type == "cpu" and x.dtype != torch.float64:
        # The gather-and-sum kernel of embeddings: three times as fast as the CSR product, which
        # does not know half precision either (docs/decisions.md).
        out: Tensor = embedding_bag(
            col, x, crow, mode="sum", per_sample_weights=values, include_last_offset=True
        )
        return out
    return _csr(crow, col, values, columns) @ x


def _csr(crow: Tensor, col: Tensor, values: Tensor, columns: int) -> Tensor:
    size = (len(crow) - 1, columns)
    return torch.sparse_csr_tensor(crow, col, values, size, check_invariants=False)


def _edge_products(pattern: Pattern, left: Tensor, right: Tensor) -> Tensor:
    """left_i . right_j for every entry (i, j): never N x L, never E x D."""
    work = torch.promote_types(left.dtype, torch.float32)  # there is no kernel for half precision
    zeros = left.new_zeros(len(pattern.col), dtype=work)
    support = _csr(pattern.crow, pattern.col, zeros, pattern.columns)
    found: Tensor = torch.sparse.sampled_addmm(support, left.to(work), right.to(work).t(), beta=0)
    return found.values().to(left.dtype)


@dataclass(frozen=True, eq=False)
class SparseWeights:
    """Non-negative weights of few pairs: entry (i, j) says how strongly i listens to j."""

    pattern: Pattern
    values: Tensor  # (E,)
    _normalised: dict[str, "SparseWeights"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def degree(self) -> Tensor:
        """Sum of each row, shape (N,)."""
        total = self.values.new_zeros(self.pattern.rows)
        return total.index_add(0, self.pattern.row, self.values)

    def normalised(self, norm: str, source_degree: Tensor | None = None) -> "SparseWeights":
        """``row`` or ``sym`` normalisation. A row without weight stays zero.

        Without ``source_degree`` it is made once and remembered, as degrees are.

        Args:
            norm: ``row`` or ``sym``.
            source_degree: Degrees of the columns, shape (L,), for ``sym`` where rows and columns
                are different instances.
        """
        one_of(norm, ("row", "sym"), "norm")
        if source_degree is not None:
            return self._divided(norm, source_degree)
        found = self._normalised.get(norm)
        if found is None:
            found = self._divided(norm, None)
            if not torch.is_inference_mode_enabled():  # what is made there cannot serve in training
                self._normalised[norm] = found
        return found

    def _divided(self, norm: str, source_degree: Tensor | None) -> "SparseWeights":
        degree = self.degree
        inverse = _not_vanishing(degree).reciprocal()
        row = self.pattern.row
        if norm == "row":
            return SparseWeights(self.pattern, self.values * inverse[row])
        other = degree if source_degree is None else source_degree
        other = _not_vanishing(other).rsqrt()
        values = self.values * inverse.sqrt()[row] * other[self.pattern.col]
        return SparseWeights(self.pattern, values)

    def matmul(self, x: Tensor) -> Tensor:
        """The product with x of shape (L, ...), giving (N, ...). Cost O(E D)."""
        out: Tensor = _Product.apply(self.values, x.flatten(1), self)  # type: ignore[no-untyped-call]
        return out.unflatten(1, x.shape[1:]) if x.dim() > 2 else out

    @property
    def fixed(self) -> bool:
        """Whether no gradient is wanted for the values."""
        return not self.values.requires_grad

    def rows(self, some: slice, x: Tensor) -> Tensor:
        """Some rows of the product with x (L, D), without gradients. Cost O(D) an entry."""
        crow = self.pattern.crow[some.start : some.stop + 1]
        part = slice(int(crow[0]), int(crow[-1]))
        col, values = self.pattern.col[part], self.values.detach()[part]
        return _multiply(crow - crow[0], col, values, x, self.pattern.columns)

    @cached_property
    def transpose(self) -> "SparseWeights":
        """Fixed weights from the columns' side: entry (j, i) says how strongly i listens to j."""
        pattern, order = self.pattern.turned()
        return SparseWeights(pattern, self.values.detach()[order])

    def to(self, device: torch.device, dtype: torch.dtype) -> "SparseWeights":
        """The same weights elsewhere or in another precision."""
        pattern = self.pattern
        if pattern.col.device != device:
            pattern = Pattern(pattern.crow.to(device), pattern.col.to(device), pattern.columns)
        return SparseWeights(pattern, self.values.to(device, dtype))

    def dense(self) -> Tensor:
        """The matrix itself, (N, L): for inspection of small sets."""
        out = self.values.new_zeros(self.pattern.rows, self.pattern.columns)
        return out.index_put((self.pattern.row, self.pattern.col), self.values, accumulate=True)


def _not_vanishing(degree: Tensor) -> Tensor:
    """Degrees that have an inverse; below the normal numbers it would be infinite."""
    return torch.where(degree >= torch.finfo(degree.dtype).tiny, degree, 1)


def sparse_weights(
    row: Tensor,  # (E,) int64, receiving
    col: Tensor,  # (E,) int64, sending
    values: Tensor,  # (E,)
    rows: int,
    columns: int,
) -> SparseWeights:
    """Sort entries by row and column and add up repeated ones. Cost O(E log E)."""
    key, inverse = torch.unique(row * columns + col, sorted=True, return_inverse=True)
    total = values.new_zeros(len(key)).index_add(0, inverse, values)
    row, col = key // max(columns, 1), key % max(columns, 1)
    counts = torch.bincount(row, minlength=rows)
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return SparseWeights(Pattern(crow, col, columns), total)


def observed(
    edge_index: Tensor,  # (2, E) int64
    edge_weight: Tensor | None,  # (E,)
    num_nodes: int,
    dtype: torch.dtype = torch.float32,
    self_loops: bool = True,
) -> SparseWeights:
    """Weights of the observed graph, self-loops of weight 1 added where there is none.

    Without ``self_loops`` those alone get one that hear nobody at all: they stay as they are.

    Raises:
        DataError: On a wrong shape, an index outside 0 ... N - 1, or a weight that is negative or
            not finite.

    Example:
        >>> observed(torch.tensor([[0], [1]]), None, 2).normalised("row").dense()
        tensor([[1.0000, 0.0000],
                [0.5000, 0.5000]])
    """
    check_edges(edge_index, edge_weight, num_nodes, num_nodes)
    source, target = edge_index.long()  # numbers of pairs do not fit into narrower types
    ones = torch.ones(len(source), dtype=dtype, device=source.device)
    weight = ones if edge_weight is None else edge_weight.to(dtype)
    settled = torch.zeros(num_nodes, dtype=torch.bool, device=source.device)
    settled[target[source == target] if self_loops else target] = True
    missing = (~settled).nonzero().squeeze(1)
    source, target = torch.cat([source, missing]), torch.cat([target, missing])
    weight = torch.cat([weight, weight.new_ones(len(missing))])
    return sparse_weights(target, source, weight, num_nodes, num_nodes)


def check_edges(
    edge_index: Tensor | None, edge_weight: Tensor | None, sources: int, targets: int
) -> None:
    """Raise a ``DataError`` unless edges name instances and weights are finite, not negative."""
    if edge_index is None:
        if edge_weight is not None:
            raise DataError("edge_weight needs edge_index, found none.")
        return
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        raise DataError(f"edge_index must have shape (2, E), found {tuple(edge_index.shape)}.")
    if edge_index.is_floating_point() or edge_index.dtype == torch.bool:
        raise DataError(f"edge_index must hold whole numbers, found {edge_index.dtype}.")
    for name, ends, count in (("0", edge_index[0], sources), ("1", edge_index[1], targets)):
        if len(ends) and (int(ends.min()) < 0 or int(ends.max()) >= count):
            raise DataError(
                f"edge_index[{name}] must hold numbers from 0 to {count - 1}, "
                f"found {int(ends.min())} to {int(ends.max())}."
            )
    if edge_weight is None:
        return
    if edge_weight.shape != edge_index.shape[1:]:
        raise DataError(
            f"edge_weight must have shape ({edge_index.shape[1]},), one weight an edge, "
            f"found {tuple(edge_weight.shape)}."
        )
    weight = edge_weight.detach()
    if not bool((weight.isfinite() & (weight >= 0)).all()):
        raise DataError("edge_weight must be finite and not negative.")


def attend(
    q: Tensor,  # (N, H, M)
    k: Tensor,  # (L, H, M)
    v: Tensor,  # (L, H, D)
    weights: SparseWeights,
    penalty: Penalty,
    sphere: bool,
) -> tuple[Tensor, Tensor]:
    """Rates on the pairs of a sparse support alone: numerator (N, H, D), denominator (N, H).

    Graph attention in the unified view: w_ij = a_ij f(x_ij). Both are relative to each row's
    nearest pair where the penalty is shiftable. Cost O(E (M + D)) time and memory.
    """
    row, col = weights.pattern.row, weights.pattern.col
    x = paired_distance(q[row], k[col], sphere)  # (E, H)
    if penalty.shiftable:
        nearest = x.new_full(q.shape[:2], torch.inf)
        index = row.unsqueeze(1).expand_as(x)
        x = x - nearest.scatter_reduce(0, index, x.detach(), "amin")[row]
    w = penalty.rate(x) * weights.values.unsqueeze(-1)
    denominator = w.new_zeros(q.shape[:2]).index_add(0, row, w)
    numerator = torch.stack(
        [
            SparseWeights(weights.pattern, w[:, head].contiguous()).matmul(v[:, head])
            for head in range(v.shape[1])
        ],
        dim=1,
    )
    return numerator, denominator
