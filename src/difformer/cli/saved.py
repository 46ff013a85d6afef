"""A finished run, opened to score new rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.cli.evaluation import class_positions
from difformer.data.graphs import read_edges
from difformer.data.notices import Notice, together
from difformer.data.parts import table_parts
from difformer.data.tables import Prepared, TableSchema, read_table
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
    notices: tuple[Notice, ...]


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
) -> Iterator[Scored]:
    """Read a table by the run's schema and predict each row from the fitted ones.

    A large table is read and scored in parts, but for one with edges, whose ids must all be known.

    Raises:
        DataError: If the table or the edges do not fit the run.
    """
    if saved.schema is None:
        raise DataError(
            f"{saved.run.path} was fitted on a data set by name, not on a table; "
            "new rows can be scored from Python."
        )
    tables = table_parts(data, saved.schema) if edges is None else [read_table(data)]
    for table in tables:
        yield _score(saved, saved.schema.transform(table, labelled), edges, directed)


def _score(saved: SavedRun, prepared: Prepared, edges: Path | None, directed: bool) -> Scored:
    rows, notices = prepared.instances, list(prepared.notices)
    edge_index = edge_weight = None
    assert rows.ids is not None
    if edges is not None:
        found = read_edges(edges, rows.ids, directed, known=saved.ids)
        edge_index, edge_weight = found.edge_index, found.edge_weight
        notices += [Notice(note, note) for note in found.notes]
    probabilities = saved.model.predict_proba(rows.x, edge_index, edge_weight)
    labels = np.full(rows.num_instances, -1)
    if rows.y is not None:
        known = rows.y >= 0
        labels[known] = class_positions(rows.classes, saved.model.classes_)[rows.y[known]]
    return Scored(rows.ids, labels, probabilities, tuple(notices))


def judged_rows(
    saved: SavedRun, parts: Iterable[Scored]
) -> tuple[NDArray[np.int64], NDArray[np.float64], tuple[Notice, ...]]:
    """Labels and probabilities of the labelled rows whose labels the run was not taught.

    On those that it was taught it would judge itself too well.
    """
    taught = _taught(saved)
    labels, probabilities = [], []
    notices: list[Notice] = []
    for part in parts:
        fresh = np.array([name not in taught for name in part.ids], dtype=bool)
        kept = fresh & (part.labels >= 0)
        labels.append(part.labels[kept])
        probabilities.append(part.probabilities[kept])
        notices += part.notices
        if not fresh.all():
            before = "Rows whose labels were used in fitting are left out ("
            notices.append(Notice("taught", before, int((~fresh).sum()), ")."))
    return np.concatenate(labels), np.concatenate(probabilities), together(notices)


def _taught(saved: SavedRun) -> set[str]:
    """Ids of the rows whose labels the run was taught."""
    if saved.schema is None or saved.schema.id_column is None:
        return set()
    known = saved.model.engine_.target.known.numpy()
    return {name for name, is_taught in zip(saved.ids, known, strict=True) if is_taught}


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
