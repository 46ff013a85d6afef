"""Cells of every kind, told apart in files by ``kind``; without one, a cell is of rows."""

from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from difformer.errors import one_of
from difformer.experiments.harness.cell import Cell
from difformer.experiments.harness.graphs_cell import GraphsCell
from difformer.experiments.harness.multi_label_cell import MultiLabelCell
from difformer.experiments.harness.series_cell import SeriesCell
from difformer.experiments.methods.method import Method


def _kind(value: Any) -> str:
    found = value.get("kind", "rows") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(found)


AnyCell: TypeAlias = Annotated[
    Annotated[Cell, Tag("rows")]
    | Annotated[SeriesCell, Tag("series")]
    | Annotated[GraphsCell, Tag("graphs")]
    | Annotated[MultiLabelCell, Tag("multi-label")],
    Discriminator(_kind),
]


def method_of(cell: AnyCell, name: str) -> Method:
    """The method called ``name`` in a cell; any other name is a ``ConfigError`` that lists all."""
    return cell.methods[one_of(name, cell.methods, "method")]
