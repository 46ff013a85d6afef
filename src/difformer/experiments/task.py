"""What a method of a comparison may see, and how features reach the baselines.

Shapes: N instances, F features, C classes, E directed edges.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import normalize

from difformer.data.instances import UNLABELLED, Features
from difformer.errors import DataError
from difformer.nn.decoupled import ROW_NORM

Probabilities: TypeAlias = NDArray[np.float64]  # (N, C), rows sum to 1

HIDDEN = UNLABELLED
MAX_DENSE_ENTRIES = 20_000_000  # 80 MB in float32; wider count tables are projected instead
PROJECTED = 256


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Features, the visible labels and perhaps a graph. Hidden labels are not in here at all.

    Args:
        x: features, dense or scipy CSR.
        y: class numbers from 0, and -1 where the label is hidden.
        num_classes: C; may exceed the largest visible label.
        edge_index: sources in row 0, targets in row 1.
        edge_weight: one weight an edge; needs ``edge_index``.
        val: class numbers of the rows that may choose an epoch, -1 elsewhere; default: no row.
        prepared: whether networks take the features as they are; else as ``scaled`` makes them.

    Shapes:
        x (N, F), y and val (N,), edge_index (2, E), edge_weight (E,).

    Raises:
        DataError: the parts do not fit each other, or fewer than two classes have a label.

    Example:
        >>> task = Task(np.eye(3), np.array([0, 1, -1]), num_classes=2)
        >>> task.num_instances, task.labelled.tolist()
        (3, [0, 1])
    """

    x: Features
    y: NDArray[np.int64]
    num_classes: int
    edge_index: NDArray[np.int64] | None = None
    edge_weight: NDArray[np.floating[Any]] | None = None
    val: NDArray[np.int64] | None = None
    prepared: bool = False

    def __post_init__(self) -> None:
        if self.y.shape != (self.num_instances,):
            raise DataError(f"y must have shape ({self.num_instances},), found {self.y.shape}.")
        val = self.choosing
        if val.shape != self.y.shape or ((val != HIDDEN) & (self.y != HIDDEN)).any():
            raise DataError("val must have the shape of y and no row with a label in both.")
        for labels in (self.y, val):
            if labels.min(initial=HIDDEN) < HIDDEN or labels.max(initial=0) >= self.num_classes:
                raise DataError(f"y must hold -1 (hidden) or classes 0 to {self.num_classes - 1}.")
        if len(np.unique(self.y[self.labelled])) < 2:
            raise DataError("At least two classes must have a visible label.")
        if self.edge_weight is not None and self.edge_index is None:
            raise DataError("edge_weight needs edge_index, found edge_index=None.")

    @property
    def num_instances(self) -> int:
        """N."""
        return int(self.x.shape[0])

    @property
    def choosing(self) -> NDArray[np.int64]:
        """Labels of the rows that may choose an epoch, -1 elsewhere, (N,)."""
        return np.full_like(self.y, HIDDEN) if self.val is None else self.val

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Row numbers with a visible label, ascending."""
        return np.flatnonzero(self.y != HIDDEN)


def scaled(task: Task) -> Features:
    """Bring features to one scale without changing their geometry: a root mean square norm of 4.

    Dense tables get one factor, told by the labelled rows alone, so that distances keep their
    order; their columns come scaled by whoever read the table. Counts (CSR) get rows of norm 4
    each, which turns Euclidean distance into cosine. The same regularisation then means the same on
    every data set.

    Example:
        >>> task = Task(np.array([[3.0, 4.0], [4.0, 3.0], [0.0, 1.0]]), np.array([0, 1, -1]), 2)
        >>> scaled(task)[0].round(2).tolist()
        [2.4, 3.2]
    """
    return one_scale(task.x, task.labelled)


def one_scale(x: Features, rows: NDArray[Any]) -> Features:
    """What ``scaled`` does, told by some rows: their numbers or a mask."""
    if not sparse.issparse(x):
        wide = np.asarray(x, dtype=np.float64)
        square = np.square(wide[rows]).sum(axis=1).mean()
        return wide * (ROW_NORM / np.sqrt(square) if square > 0 else 1.0)
    return sparse.csr_matrix(ROW_NORM * normalize(x.astype(np.float64)))


def as_float32(x: Features) -> Features:
    """Features as networks take them: float32, dense or CSR."""
    return x.astype(np.float32) if sparse.issparse(x) else np.asarray(x, dtype=np.float32)


def dense(task: Task, seed: int) -> NDArray[np.float64]:
    """Return scaled features as an array; counts too wide for that are projected by an SVD.

    Cost: O(N F) memory up to ``MAX_DENSE_ENTRIES``, else O(nonzeros + 256 (N + F)).
    """
    x = scaled(task)
    if not sparse.issparse(x):
        return np.asarray(x)
    if x.shape[0] * x.shape[1] <= MAX_DENSE_ENTRIES:
        return np.asarray(x.toarray())
    from sklearn.decomposition import TruncatedSVD

    width = min(PROJECTED, min(x.shape) - 1)
    return np.asarray(TruncatedSVD(width, random_state=seed).fit_transform(x))


def spread(columns: NDArray[Any], classes: NDArray[Any], num_classes: int) -> Probabilities:
    """Put the columns of the classes that a method has seen into all C columns; rows sum to 1.

    A row of zeros (a component of a graph without any label) becomes uniform.

    Example:
        >>> spread(np.array([[0.25, 0.75], [0.0, 0.0]]), np.array([0, 2]), 3)[0].tolist()
        [0.25, 0.0, 0.75]
    """
    full = np.zeros((len(columns), num_classes))
    full[:, classes] = np.clip(columns, 0.0, None)
    full[full.sum(axis=1) == 0] = 1.0
    return np.asarray(full / full.sum(axis=1, keepdims=True))
