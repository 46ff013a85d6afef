"""Rows by their names, so that edges stay right where rows are moved or left out.

Shapes: N rows, E edges.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.errors import DataError


class Names:
    """The names of N rows, each different.

    Args:
        names: Whole numbers or texts, (N,).

    Example:
        >>> names = Names(np.array(["a", "b"]))
        >>> names.find(np.array(["b", "c"])).tolist()
        [1, -1]
    """

    def __init__(self, names: NDArray[Any]) -> None:
        self.names = names
        self._order = np.argsort(names, kind="stable")
        self._sorted = names[self._order]

    @classmethod
    def of(cls, node_id: Any, rows: int) -> "Names":
        """Of what a user gives.

        Raises:
            DataError: If there is not one name a row, or one is missing or used twice.
        """
        names = _plain(np.asarray(node_id), "node_id")
        if names.shape != (rows,):
            raise DataError(f"node_id must name each of {rows} rows, found {names.shape}.")
        found = cls(names)
        twice = found._sorted[1:] == found._sorted[:-1]
        if twice.any():
            raise DataError(f"node_id must be unique, found {found._sorted[:-1][twice][0]} twice.")
        return found

    def find(self, names: NDArray[Any]) -> NDArray[np.int64]:
        """Row of each name, -1 where there is none."""
        if not len(self._sorted) or not len(names):
            return np.full(len(names), -1)
        if names.dtype.kind != self._sorted.dtype.kind:
            kinds = {"i": "whole numbers", "U": "texts"}
            given, own = kinds[names.dtype.kind], kinds[self._sorted.dtype.kind]
            raise DataError(f"edge_index must name rows by {own} as node_id does, found {given}.")
        place = np.minimum(np.searchsorted(self._sorted, names), len(self._sorted) - 1)
        return np.where(self._sorted[place] == names, self._order[place], -1)

    def edges(
        self, edge_index: Any, edge_weight: Any, targets: "Names | None" = None
    ) -> tuple[NDArray[np.int64], Any, int]:
        """Edges (2, E) by row numbers, their weights, and how many were left out.

        Args:
            edge_index: Row 0 names who sends, among these names; row 1 who receives, among
                ``targets``, or among these as well.
            edge_weight: (E,) or None.
            targets: The names of other rows.

        Raises:
            DataError: If they are not pairs of names, or there is not one weight each.
        """
        given = np.asarray(edge_index)
        if given.ndim != 2 or given.shape[0] != 2:
            raise DataError(f"edge_index must have shape (2, E), found {given.shape}.")
        given = _plain(given, "edge_index")
        source, target = self.find(given[0]), (targets or self).find(given[1])
        kept = (source >= 0) & (target >= 0)
        if edge_weight is not None:
            weight = np.asarray(edge_weight)
            if weight.shape != kept.shape:
                raise DataError(
                    f"edge_weight must hold a weight for each of {len(kept)} edges, "
                    f"found {weight.shape}."
                )
            edge_weight = weight[kept]
        return np.stack([source[kept], target[kept]]), edge_weight, int((~kept).sum())


def _plain(names: NDArray[Any], what: str) -> NDArray[Any]:
    """Whole numbers as int64, everything else as texts."""
    if names.dtype.kind in "iu":
        return names.astype(np.int64)
    if names.dtype.kind == "O" and all(isinstance(n, (int, np.integer)) for n in names.flat):
        return names.astype(np.int64)
    missing = names.dtype.kind not in "OU" or any(n is None or n != n for n in names.flat)
    if names.size and missing:
        raise DataError(f"{what} must hold whole numbers or texts, found {names.dtype}.")
    return names.astype(np.str_) if names.size else names.astype(np.int64)
