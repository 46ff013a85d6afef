"""A table that is larger than memory: its parts, as if it had been read at once.

What can only be said of the whole file is found first, in passes over few columns: whether a column
holds whole numbers alone (then 1.0 is written 1), and that no id repeats.

Letters: N rows of the file.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from difformer.data.cells import Cells
from difformer.data.encoders import CategoryColumn
from difformer.data.reading import PART, PathLike, Table, read_parts, read_table
from difformer.data.tables import TableSchema, unique_ids
from difformer.errors import DataError


def table_parts(path: PathLike, schema: TableSchema, part: int = PART) -> Iterator[Table]:
    """Parts of a file, for `TableSchema.transform`.

    Parameters
    ----------
    path : str or Path
        See `read_table`.
    schema : TableSchema
        What the columns mean.
    part : int
        Bytes of the file in a part, about; a smaller file comes whole.

    Raises
    ------
    DataError
        As `read_parts`, and if an id is empty or repeats.

    Notes
    -----
    Memory O(part), and 8 bytes for each id.
    """
    file = Path(path)
    if not file.is_file() or file.stat().st_size <= part:
        yield read_table(path)
        return
    names = next(read_parts(path, part)).names
    categories = [c.name for c in schema.columns if isinstance(c, CategoryColumn)]
    texts = [n for n in (schema.id_column, schema.target, *categories) if n in names]
    whole = _whole_columns(path, texts, part)
    if schema.id_column in names:
        _check_ids(path, schema.id_column, whole, part)
    for table in read_parts(path, part):
        yield replace(table, whole=whole)


def _whole_columns(path: PathLike, names: list[str], part: int) -> frozenset[str]:
    """Those of which all filled cells are whole numbers."""
    left = set(names)
    for table in read_parts(path, part, names) if names else ():
        left = {name for name in left if Cells(table, name).whole}
        if not left:
            break
    return frozenset(left)


def _check_ids(path: PathLike, name: str, whole: frozenset[str], part: int) -> None:
    """Refuse ids that repeat anywhere: those of equal hashes are compared as texts."""
    hashes = np.sort(np.concatenate([_hashed(ids) for _, ids in _ids(path, name, whole, part)]))
    again = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(again):
        return
    seen: dict[str, str] = {}
    for table, ids in _ids(path, name, whole, part):
        for row in np.flatnonzero(np.isin(_hashed(ids), again)).tolist():
            if ids[row] in seen:
                raise DataError(
                    f"{path}, column {name!r} must name each row once, found {ids[row][:40]!r} in "
                    f"{table.place(row)} and in {seen[ids[row]]}."
                )
            seen[ids[row]] = table.place(row)


def _ids(
    path: PathLike, name: str, whole: frozenset[str], part: int
) -> Iterator[tuple[Table, tuple[str, ...]]]:
    for table in read_parts(path, part, [name]):
        table = replace(table, whole=whole)
        yield table, unique_ids(Cells(table, name))


def _hashed(ids: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
