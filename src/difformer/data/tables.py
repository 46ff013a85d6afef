"""Tables of a user as instances: every column decided once, the decision kept for new rows.

    numbers      standardised; empty cells count as the median, and a column says which were
    true, false  0 and 1
    dates        days since 1970-01-01, then as numbers
    texts        at most 50 different ones: one 0/1 column each
    prose        a median of 5 words or more: (1 + log tf) idf, sparse
    other texts  refused, with advice

A `TableSchema` holds the decisions; it is plain data, saved as JSON beside the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from difformer.data import encoders
from difformer.data.cells import Cells
from difformer.data.graphs import read_edges
from difformer.data.instances import Features, Instances
from difformer.data.labels import class_numbers, fit_classes
from difformer.data.notices import Notice
from difformer.data.reading import PathLike, Table, read_table
from difformer.errors import ConfigError, DataError

__all__ = ["Prepared", "Table", "TableSchema", "fit_schema", "load_table", "read_table"]

VERSION = 1
DEFAULT_ID = "id"
_MAX_DENSE = 2**32  # bytes of a dense x; beyond it the table is refused rather than the machine


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows made ready by a schema: the instances, and what the user should hear about them.

    Parameters
    ----------
    instances : Instances
        ``y`` is None if the table has no target column.
    notices : tuple of Notice
        Values not fitted, columns not used, ids made up.
    """

    instances: Instances
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class TableSchema:
    """What each column of a table means; turns any table of these columns into instances.

    Parameters
    ----------
    columns : tuple of NumberColumn, CategoryColumn or ProseColumn
        The features, in order.
    target : str, optional
        Column of the labels.
    classes : tuple of str, default ()
        Names of the classes.
    id_column : str, optional
        Column of the ids; None: the row number from 0.
    decisions : tuple of str, default ()
        One sentence for each column of the fitted table.
    dropped : tuple of str, default ()
        Columns of the fitted table that are no features.
    """

    columns: tuple[encoders.Encoder, ...]
    target: str | None = None
    classes: tuple[str, ...] = ()
    id_column: str | None = None
    decisions: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the F features."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def transform(self, table: Table, require_target: bool = False) -> Prepared:
        """Make instances of a table that has the fitted columns.

        Parameters
        ----------
        table : Table
            May hold other columns too (they are not used), and no target.
        require_target : bool, default False
            The target must be there, and hold no class but the fitted ones.

        Returns
        -------
        Prepared
            ``x`` is float32 (N, F): CSR if any column is prose, otherwise dense.

        Raises
        ------
        DataError
            If a feature is missing, a cell cannot be read, or ids repeat. Cost O(N F).
        """
        for column in self.columns:
            table.require(column.name, "a feature of the model")
        parts, notices = [], [self._unused(table)]
        self._check_size(table)
        for column in self.columns:
            part, notice = column.transform(Cells(table, column.name))
            parts.append(part)
            notices.append(notice)
        ids, id_notice = self._ids(table)
        y, label_notice = self._labels(table, require_target)
        instances = Instances(
            _stack(parts, table.num_rows),
            y=y,
            classes=self.classes,
            ids=ids,
            name=table.path,
            feature_names=self.feature_names,
        )
        found = (*notices, id_notice, label_notice)
        return Prepared(instances, tuple(notice for notice in found if notice is not None))

    def to_json(self) -> dict[str, Any]:
        """Give a plain dictionary of texts, numbers, lists and None for JSON."""
        return {
            "version": VERSION,
            "columns": [encoders.to_json(column) for column in self.columns],
            "target": self.target,
            "classes": list(self.classes),
            "id_column": self.id_column,
            "decisions": list(self.decisions),
            "dropped": list(self.dropped),
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TableSchema":
        """Undo `to_json`; a `DataError` if it is something else."""
        try:
            if saved["version"] != VERSION:
                raise DataError(
                    f"A table schema must be of version {VERSION}, found {saved['version']}."
                )
            return cls(
                tuple(encoders.from_json(column) for column in saved["columns"]),
                saved["target"],
                tuple(saved["classes"]),
                saved["id_column"],
                tuple(saved["decisions"]),
                tuple(saved["dropped"]),
            )
        except (KeyError, TypeError) as error:
            raise DataError(f"A table schema is damaged: {error} is missing or wrong.") from None

    def _unused(self, table: Table) -> Notice | None:
        known = {column.name for column in self.columns} | set(self.dropped)
        known |= {name for name in (self.target, self.id_column) if name}
        unused = [name for name in table.names if name not in known]
        if not unused:
            return None
        listed = ", ".join(unused[:10]) + (", ..." if len(unused) > 10 else "")
        return Notice(
            "columns",
            f"{table.path}: columns that are not part of the model are left out "
            f"({len(unused)}): {listed}.",
        )

    def _check_size(self, table: Table) -> None:
        if any(isinstance(column, encoders.ProseColumn) for column in self.columns):
            return
        size = 4 * table.num_rows * len(self.feature_names)
        if size > _MAX_DENSE:
            raise DataError(
                f"{table.path} must give at most {_MAX_DENSE // 2**30} GiB of features, found "
                f"{table.num_rows} rows of {len(self.feature_names)} features."
            )

    def _ids(self, table: Table) -> tuple[tuple[str, ...], Notice | None]:
        numbers = tuple(map(str, range(table.first, table.first + table.num_rows)))
        if self.id_column is None:
            return numbers, None
        if self.id_column not in table.names:
            return numbers, Notice(
                "ids",
                f"{table.path} has no column {self.id_column!r}: row numbers from 0 are the ids.",
            )
        return unique_ids(Cells(table, self.id_column)), None

    def _labels(self, table: Table, require: bool) -> tuple[Any, Notice | None]:
        if self.target is None or (not require and self.target not in table.names):
            if require:
                raise DataError("Labels are needed, but the schema was fitted without a target.")
            return None, None
        table.require(self.target, "the target")
        return class_numbers(Cells(table, self.target), self.classes, strict=require)


def fit_schema(
    table: Table,
    target: str | None = None,
    id_column: str | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> TableSchema:
    """Decide what each column of a table means.

    Parameters
    ----------
    table : Table
        From `read_table`.
    target : str, optional
        Column of the labels; None: there are none.
    id_column : str, optional
        Column of unique ids. Default: the column named "id" if there is one, otherwise the row
        numbers from 0. It is never a feature.
    categorical : sequence of str, default ()
        Columns to take as categories whatever they look like (up to 5,000 values).
    drop : sequence of str, default ()
        Columns to leave out.

    Returns
    -------
    TableSchema
        Its ``decisions`` say in a sentence what became of each column.

    Raises
    ------
    ConfigError
        If one column is asked for in two roles.
    DataError
        If a column named is not there, no feature is left, or a column cannot be used. Every
        message says where and what to do.
    """
    identity = _id_column(table, target, id_column)
    _check_roles(table, target, identity, categorical)
    _check_dropped(table, drop, (target, identity, *categorical))
    classes: tuple[str, ...] = ()
    decisions, columns, dropped = [], [], []
    if target is not None:
        classes = fit_classes(Cells(table, target))
        decisions.append(f"Column {target!r} is the target: {len(classes)} classes.")
    if identity is not None:
        unique_ids(Cells(table, identity))
        decisions.append(f"Column {identity!r} names the rows and is no feature.")
    for name in table.names:
        if name in (target, identity):
            continue
        if name in drop:
            decisions.append(f"Column {name!r} is left out, as asked.")
            dropped.append(name)
            continue
        encoder, decision = encoders.fit_column(Cells(table, name), name in categorical)
        decisions.append(decision)
        if encoder is None:
            dropped.append(name)
        else:
            columns.append(encoder)
    if not columns:
        raise DataError(f"{table.path} must have a feature, found none beside target and id.")
    return TableSchema(tuple(columns), target, classes, identity, tuple(decisions), tuple(dropped))


def load_table(
    path: PathLike,
    target: str | None = None,
    id_column: str | None = None,
    categorical: Sequence[str] = (),
    edges: PathLike | None = None,
    directed: bool = False,
    schema: TableSchema | None = None,
    drop: Sequence[str] = (),
) -> tuple[Instances, TableSchema]:
    """Read a table, and its edges if there are any, as instances.

    Parameters
    ----------
    path : str or Path
        CSV or Parquet file, see `read_table`.
    target, id_column, categorical, drop
        As in `fit_schema`; not used if ``schema`` is given.
    edges : str or Path, optional
        Edge list, see `difformer.data.graphs.read_edges`.
    directed : bool, default False
        Edges point from source to target only.
    schema : TableSchema, optional
        A fitted one, for new rows. Default: fit one to this table.

    Returns
    -------
    instances : Instances
    schema : TableSchema
        Its ``decisions`` also tell what was noticed about edges.

    Raises
    ------
    DataError
        If a file, column or cell cannot be used.
    """
    table = read_table(path)
    if schema is None:
        schema = fit_schema(table, target, id_column, categorical, drop)
    prepared = schema.transform(table)
    instances, notes = prepared.instances, tuple(map(str, prepared.notices))
    if edges is not None:
        assert instances.ids is not None
        found = read_edges(edges, instances.ids, directed)
        instances = replace(instances, edge_index=found.edge_index, edge_weight=found.edge_weight)
        notes += found.notes
    return instances, replace(schema, decisions=schema.decisions + notes)


def _id_column(table: Table, target: str | None, chosen: str | None) -> str | None:
    if chosen is not None:
        return table.require(chosen, "the ids")
    return DEFAULT_ID if DEFAULT_ID in table.names and target != DEFAULT_ID else None


def _check_roles(
    table: Table, target: str | None, identity: str | None, categorical: Sequence[str]
) -> None:
    if isinstance(categorical, str):
        raise ConfigError(f"categorical must be a list of columns, found {categorical!r}.")
    if target is not None:
        table.require(target, "the target")
    for name in categorical:
        table.require(name, "a category")
    if target is not None and target == identity:
        raise ConfigError(f"Column {target!r} cannot be both the target and the id.")
    for name in categorical:
        if name in (target, identity):
            raise ConfigError(f"Column {name!r} is the target or the id, so it is no category.")


def _check_dropped(table: Table, drop: Sequence[str], needed: Sequence[str | None]) -> None:
    for name in drop:
        table.require(name, "a column to leave out")
        if name in needed:
            raise ConfigError(
                f"Column {name!r} is needed in another role, so it cannot be dropped."
            )


def unique_ids(cells: Cells) -> tuple[str, ...]:
    """Texts of all cells.

    Raises
    ------
    DataError
        If a cell is empty or repeats an earlier one.
    """
    if cells.missing.any():
        raise DataError(f"{cells.where} must name every row, found {cells.first(cells.missing)}.")
    codes = cells.codes
    if len(cells.values) < len(codes):
        first_rows = np.unique(codes, return_index=True)[1]
        again = np.ones(len(codes), dtype=bool)
        again[first_rows] = False
        row = int(np.flatnonzero(again)[0])
        earlier = int(np.flatnonzero(codes == codes[row])[0])
        raise DataError(
            f"{cells.where} must name each row once, found {cells.first(again)} and in "
            f"{cells.table.place(earlier)}."
        )
    return tuple(cells.texts())


def _stack(parts: list[Features], rows: int) -> Features:
    if any(sparse.issparse(part) for part in parts):
        return sparse.csr_matrix(sparse.hstack(parts, format="csr", dtype=np.float32))
    return np.hstack(parts) if parts else np.empty((rows, 0), dtype=np.float32)
