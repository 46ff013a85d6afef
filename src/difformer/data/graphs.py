"""Edge lists of a user: ids to row numbers, every doubtful line named.

Columns `source`, `target` and perhaps `weight`; without these names the first two columns are
the endpoints. Ids are compared as texts: 1 in one file and 1.0 in a column of whole numbers in
the other are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from difformer.data.cells import Cells
from difformer.data.reading import PathLike, Table, read_table
from difformer.errors import DataError

Rows = NDArray[np.int64]
_ENDS = ("source", "target")
_WEIGHT = "weight"


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges between rows, each direction once, sorted by source and target.

    Parameters
    ----------
    edge_index : int64 ndarray, (2, E)
        Row 0 sources, row 1 targets.
    edge_weight : float64 ndarray, (E,), optional
        None if the file has no column `weight`.
    notes : tuple of str, default ()
        One sentence each: edges that were left out, and how many.
    """

    edge_index: Rows
    edge_weight: NDArray[np.float64] | None
    notes: tuple[str, ...] = ()


def read_edges(
    path: PathLike, ids: Sequence[str], directed: bool = False, known: Sequence[str] | None = None
) -> Edges:
    """Read an edge list.

    Parameters
    ----------
    path : str or Path
        CSV or Parquet file, see `difformer.data.tables.read_table`.
    ids : sequence of str
        Id of each row.
    directed : bool, default False
        False adds the reverse of each edge; an edge given in both directions then counts once.
    known : sequence of str, optional
        Ids of fitted rows, when ``ids`` are new rows. Then only edges from known to new rows are
        returned: row 0 of ``edge_index`` counts in ``known``, row 1 in ``ids``. In an undirected
        file the two may stand in either order. Edges between two known rows are left out.

    Returns
    -------
    Edges
        Self-loops are left out, repeated edges count once.

    Raises
    ------
    DataError
        If ``ids`` and ``known`` share an id, an endpoint is empty or unknown, a weight is not a
        finite number of at least 0, an edge repeats with another weight, or an edge joins two new
        rows (or, if ``directed``, leads from a new row to a known one). Cost O(E log E).
    """
    numbers = _numbers(ids, known or ())
    table = read_table(path)
    ends = _end_columns(table)
    source, target = (_endpoints(Cells(table, name), numbers) for name in ends)
    weight = _weights(table, ends)
    lines = np.arange(table.num_rows)
    notes: list[str] = []
    loops = source == target
    if loops.any():
        notes.append(f"{table.path}: edges from a row to itself are left out ({int(loops.sum())}).")
    keep = ~loops
    if known is not None:
        source, target, old = _towards_new(table, source, target, len(known), directed)
        if (old & keep).any():
            count = int((old & keep).sum())
            notes.append(f"{table.path}: edges between fitted rows are left out ({count}).")
        keep &= ~old
    elif not directed:
        source, target = np.concatenate([source, target]), np.concatenate([target, source])
        lines, keep = np.tile(lines, 2), np.tile(keep, 2)
    found = _merge(table, source[keep], target[keep], lines[keep], weight, len(numbers), notes)
    if known is None:
        return found
    shifted = found.edge_index - np.array([[0], [len(known)]])
    return Edges(shifted, found.edge_weight, found.notes)


def _numbers(ids: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Number fitted rows first, then new ones."""
    numbers = {name: row for row, name in enumerate((*known, *ids))}
    if len(numbers) < len(known) + len(ids):
        twice = next(iter(set(known) & set(ids)), None)
        where = f", {twice[:40]!r} is the id of both a fitted and a new row" if twice else ""
        raise DataError(f"Edges need ids that name one row each{where}.")
    return numbers


def _end_columns(table: Table) -> tuple[str, str]:
    if len(table.names) < 2:
        raise DataError(
            f"{table.path} must have two columns for the ends of edges, found {table.names[0]!r}."
        )
    if all(name in table.names for name in _ENDS):
        return _ENDS
    others = [name for name in table.names if name != _WEIGHT]
    if len(others) < 2:
        raise DataError(f"{table.path} must have two columns for the ends of edges, found one.")
    return others[0], others[1]


def _endpoints(cells: Cells, numbers: dict[str, int]) -> Rows:
    if cells.missing.any():
        raise DataError(f"{cells.where} must name a row, found {cells.first(cells.missing)}.")
    rows = np.array([numbers.get(value, -1) for value in cells.values], dtype=np.int64)
    found = rows[cells.codes]
    if (found < 0).any():
        raise DataError(
            f"{cells.where} must hold ids of the table, found {cells.first(found < 0)}."
        )
    return found


def _weights(table: Table, ends: tuple[str, str]) -> NDArray[np.float64] | None:
    if _WEIGHT not in table.names or _WEIGHT in ends:
        return None
    cells = Cells(table, _WEIGHT)
    values = cells.parse("number", feature=False)
    bad = ~(values >= 0)  # an empty cell, too
    if bad.any():
        raise DataError(f"{cells.where} must hold numbers of at least 0, found {cells.first(bad)}.")
    return values


def _towards_new(
    table: Table, source: Rows, target: Rows, fitted: int, directed: bool
) -> tuple[Rows, Rows, NDArray[np.bool_]]:
    """Turn edges so that they lead from fitted to new rows; mark those between fitted rows."""
    new_source, new_target = source >= fitted, target >= fitted
    both = new_source & new_target & (source != target)
    if both.any():
        row = int(np.flatnonzero(both)[0])
        raise DataError(
            f"{table.path} must join each new row to fitted ones, the edge in {table.place(row)} "
            "joins two new rows."
        )
    backwards = new_source & ~new_target
    if directed and backwards.any():
        row = int(np.flatnonzero(backwards)[0])
        raise DataError(
            f"{table.path} must lead from fitted rows to new ones, the edge in "
            f"{table.place(row)} leads from a new row to a fitted one."
        )
    turned = np.where(backwards, target, source), np.where(backwards, source, target)
    return (*turned, ~new_source & ~new_target)


def _merge(
    table: Table,
    source: Rows,
    target: Rows,
    lines: Rows,
    weight: NDArray[np.float64] | None,
    count: int,
    notes: list[str],
) -> Edges:
    """Sort edges, and count equal ones once."""
    keys = source * count + target
    order = np.lexsort((lines, keys))
    keys, lines = keys[order], lines[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    if weight is not None:
        _check_agreement(table, weight, lines, first)
    repeated = len(set(lines[~first].tolist()))
    if repeated:
        notes.append(f"{table.path}: edges that repeat earlier ones count once ({repeated}).")
    kept = order[first]
    index = np.stack([source[kept], target[kept]]).astype(np.int64)
    return Edges(index, None if weight is None else weight[lines[first]], tuple(notes))


def _check_agreement(
    table: Table, weight: NDArray[np.float64], lines: Rows, first: NDArray[np.bool_]
) -> None:
    differs = ~first
    differs[1:] &= weight[lines[1:]] != weight[lines[:-1]]
    if differs.any():
        place = int(np.flatnonzero(differs)[0])
        one, other = sorted((int(lines[place - 1]), int(lines[place])))
        raise DataError(
            f"{table.path} must give an edge one weight, found {weight[one]:g} in "
            f"{table.place(one)} and {weight[other]:g} in {table.place(other)}."
        )
