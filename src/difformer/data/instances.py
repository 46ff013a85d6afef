"""The one container that every reader fills and every estimator takes.

Shapes: N instances, F features, C classes, E directed edges, S given splits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.errors import DataError

Features: TypeAlias = Any  # NDArray[float32 or float64] or scipy CSR; scipy ships no types
UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Instances:
    """Features, labels, edges and given splits of N instances, checked once on construction.

    Parameters
    ----------
    x : ndarray or scipy.sparse.csr_matrix or csr_array, float32 or float64, (N, F)
        Features; all finite.
    y : ndarray of int64, (N,), optional
        Class numbers from 0; -1 means unlabelled.
    classes : tuple of str, default ()
        Names of the classes, in the order of their numbers.
    ids : tuple of str, optional
        Unique names of the instances. Default: the row numbers "0" to "N-1".
    edge_index : ndarray of int64, (2, E), optional
        Row 0 holds sources, row 1 targets. An undirected edge stands here in both directions.
    edge_weight : ndarray of float64, (E,), optional
        Finite and not negative. Needs ``edge_index``.
    masks : mapping of str to bool ndarray, (N,) or (S, N)
        Given splits, for example "train", "val" and "test".
    name : str, default ""
        Name of the data set, for logs.
    feature_names : tuple of str, default ()
        One name for each column of ``x``, or none at all.

    Raises
    ------
    DataError
        If the parts do not fit each other. Cost of all checks: O(N F + E).

    Examples
    --------
    >>> import numpy as np
    >>> data = Instances(np.eye(3, dtype=np.float32), y=np.array([0, 1, -1]))
    >>> data.num_instances, data.num_classes, data.labelled.tolist()
    (3, 2, [True, True, False])
    """

    x: Features
    y: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    edge_index: NDArray[np.int64] | None = None
    edge_weight: NDArray[np.float64] | None = None
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    name: str = ""
    feature_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_features(self.x)
        if self.ids is None:
            object.__setattr__(self, "ids", tuple(map(str, range(self.num_instances))))
        _check_ids(self.ids or (), self.num_instances)
        _check_labels(self.y, self.classes, self.num_instances)
        _check_edges(self.edge_index, self.edge_weight, self.num_instances)
        _check_masks(self.masks, self.num_instances)
        if self.feature_names and len(self.feature_names) != self.num_features:
            raise DataError(
                f"feature_names must name each of the {self.num_features} columns of x, "
                f"found {len(self.feature_names)} names."
            )

    @property
    def num_instances(self) -> int:
        """Number of instances N."""
        return int(self.x.shape[0])

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return int(self.x.shape[1])

    @property
    def num_classes(self) -> int:
        """Number of classes C: the length of ``classes``, or else the largest label plus one."""
        if self.classes:
            return len(self.classes)
        if self.y is None or self.y.size == 0:
            return 0
        return int(self.y.max()) + 1

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Mask of the rows whose class is known, (N,)."""
        if self.y is None:
            return np.zeros(self.num_instances, dtype=bool)
        return np.asarray(self.y >= 0)

    def __repr__(self) -> str:
        edges = 0 if self.edge_index is None else self.edge_index.shape[1]
        return (
            f"Instances({self.name!r}, N={self.num_instances}, F={self.num_features}, "
            f"C={self.num_classes}, E={edges})"
        )


def _check_features(x: Features) -> None:
    if sparse.issparse(x):
        if x.format != "csr":
            raise DataError(f"Sparse x must be in CSR form, found {x.format!r}: use x.tocsr().")
        values = x.data
    elif isinstance(x, np.ndarray):
        values = x
    else:
        raise DataError(f"x must be a numpy array or a CSR matrix, found {type(x).__name__}.")
    if x.ndim != 2:
        raise DataError(f"x must have two dimensions (N, F), found shape {x.shape}.")
    if x.dtype not in (np.float32, np.float64):
        raise DataError(f"x must be float32 or float64, found {x.dtype}.")
    if not np.isfinite(values).all():
        raise DataError(f"x must be finite, {_first_bad_cell(x)} is not.")


def _first_bad_cell(x: Features) -> str:
    bad = np.flatnonzero(~np.isfinite(x.data if sparse.issparse(x) else x))[0]
    if sparse.issparse(x):
        row, column = np.searchsorted(x.indptr, bad, side="right") - 1, x.indices[bad]
    else:
        row, column = np.unravel_index(bad, x.shape)
    return f"row {row}, column {column}"


def _check_ids(ids: tuple[str, ...], count: int) -> None:
    if len(ids) != count:
        raise DataError(f"ids must name each of the {count} rows of x, found {len(ids)} ids.")
    if len(set(ids)) == count:
        return
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if name in seen:
            raise DataError(f"ids must be unique, row {row} repeats {name[:40]!r}.")
        seen.add(name)


def _check_labels(y: Any, classes: tuple[str, ...], count: int) -> None:
    if len(set(classes)) != len(classes):
        raise DataError("The names of the classes must differ from each other.")
    if y is None:
        return
    if not isinstance(y, np.ndarray) or y.dtype != np.int64:
        found = y.dtype if isinstance(y, np.ndarray) else type(y).__name__
        raise DataError(f"y must be an int64 array, found {found}.")
    if y.shape != (count,):
        raise DataError(f"y must have shape ({count},) as x has {count} rows, found {y.shape}.")
    if count and y.min() < UNLABELLED:
        row = int(np.flatnonzero(y < UNLABELLED)[0])
        raise DataError(f"y must be -1 (unlabelled) or a class number, row {row} has {y[row]}.")
    if classes and count and y.max() >= len(classes):
        row = int(np.flatnonzero(y >= len(classes))[0])
        raise DataError(f"y must be below the {len(classes)} classes, row {row} has {y[row]}.")


def _check_edges(index: Any, weight: Any, count: int) -> None:
    if index is None:
        if weight is not None:
            raise DataError("edge_weight needs an edge_index, found none.")
        return
    if not isinstance(index, np.ndarray) or index.dtype != np.int64:
        found = index.dtype if isinstance(index, np.ndarray) else type(index).__name__
        raise DataError(f"edge_index must be an int64 array, found {found}.")
    if index.ndim != 2 or index.shape[0] != 2:
        raise DataError(f"edge_index must have shape (2, E), found {index.shape}.")
    outside = ((index < 0) | (index >= count)).any(axis=0)
    if outside.any():
        edge = int(np.flatnonzero(outside)[0])
        raise DataError(
            f"edge_index must hold row numbers from 0 to {count - 1}, edge {edge} joins "
            f"{index[0, edge]} and {index[1, edge]}."
        )
    if weight is not None:
        _check_weights(weight, index.shape[1])


def _check_weights(weight: Any, count: int) -> None:
    if not isinstance(weight, np.ndarray) or weight.dtype != np.float64:
        found = weight.dtype if isinstance(weight, np.ndarray) else type(weight).__name__
        raise DataError(f"edge_weight must be a float64 array, found {found}.")
    if weight.shape != (count,):
        raise DataError(
            f"edge_weight must have shape ({count},) as there are {count} edges, "
            f"found {weight.shape}."
        )
    bad = ~(np.isfinite(weight) & (weight >= 0))
    if bad.any():
        edge = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"edge_weight must be finite and not negative, edge {edge} has {weight[edge]}."
        )


def _check_masks(masks: Mapping[str, Any], count: int) -> None:
    for name, mask in masks.items():
        fits = (
            isinstance(mask, np.ndarray)
            and mask.dtype == np.bool_
            and mask.ndim in (1, 2)
            and mask.shape[-1] == count
        )
        if not fits:
            found = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask)
            raise DataError(
                f"Mask {name!r} must be boolean with shape ({count},) or (S, {count}), "
                f"found {found}."
            )
