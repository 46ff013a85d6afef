"""A finished run, opened to score new rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.cli.evaluation import class_positions
from difformer.data.graphs import read_edges
from difformer.data.tables import TableSchema, read_table
from difformer.errors import DataError, RunError
from difformer.estimators import DIFFormerClassifier
from difformer.runs import RunDirectory, atomic

SCHEMA = "schema.json"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class SavedRun:
    """A fitted model and what is needed to read rows like those it was fitted on."""

    run: RunDirectory
    model: DIFFormerClassifier
    schema: TableSchema | None
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """New rows, their class numbers by the model's order (-1 unknown) and probabilities."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    notes: tuple[str, ...]


def open_run(folder: Path) -> SavedRun:
    """Open and verify a finished run.

    Raises:
        RunError: If it is missing, unfinished or damaged.
    """
    run = RunDirectory.open(folder)
    model = DIFFormerClassifier.load(folder)
    path = folder / SCHEMA
    if not path.is_file():
        raise RunError(f"{folder} was not written by 'difformer fit': {SCHEMA} is missing.")
    saved: dict[str, Any] = atomic.read_json(path)
    table = saved.get("table")
    schema = None if table is None else TableSchema.from_json(table)
    return SavedRun(run, model, schema, tuple(saved.get("ids", ())))


def score_new_rows(
    saved: SavedRun, data: Path, edges: Path | None, directed: bool, labelled: bool = False
) -> Scored:
    """Read a table by the run's schema and predict each row from the fitted ones.

    Raises:
        DataError: If the table or the edges do not fit the run.
    """
    if saved.schema is None:
        raise DataError(
            f"{saved.run.path} was fitted on a data set by name, not on a table; "
            "new rows can be scored from Python."
        )
    prepared = saved.schema.transform(read_table(data), require_target=labelled)
    rows, notes = prepared.instances, list(prepared.warnings)
    edge_index = edge_weight = None
    assert rows.ids is not None
    if edges is not None:
        found = read_edges(edges, rows.ids, directed, known=saved.ids)
        edge_index, edge_weight = found.edge_index, found.edge_weight
        notes += found.notes
    probabilities = saved.model.predict_proba(rows.x, edge_index, edge_weight)
    labels = np.full(rows.num_instances, -1)
    if rows.y is not None:
        known = rows.y >= 0
        labels[known] = class_positions(rows.classes, saved.model.classes_)[rows.y[known]]
    return Scored(rows.ids, labels, probabilities, tuple(notes))


def without_taught(saved: SavedRun, scored: Scored) -> Scored:
    """Leave out rows whose labels the run was taught: on them it would judge itself too well."""
    if saved.schema is None or saved.schema.id_column is None:
        return scored
    taught_rows = saved.model.engine_.target.known.numpy()
    taught = {name for name, is_taught in zip(saved.ids, taught_rows, strict=True) if is_taught}
    kept = np.array([name not in taught for name in scored.ids], dtype=bool)
    count = int((~kept).sum())
    if count == 0:
        return scored
    rows = "row is" if count == 1 else "rows are"
    note = f"{count} {rows} left out: their labels were used in fitting."
    return Scored(
        tuple(np.array(scored.ids, dtype=object)[kept]),
        scored.labels[kept],
        scored.probabilities[kept],
        (*scored.notes, note),
    )


def read_evaluation(saved: SavedRun) -> dict[str, Any]:
    """What the run found on its held-out rows.

    Raises:
        DataError: If no row was held out.
    """
    path = saved.run.path / EVALUATION
    if not path.is_file():
        raise DataError(
            f"{saved.run.path} held out no labelled row; give a labelled table to judge on."
        )
    return atomic.read_json(path)
