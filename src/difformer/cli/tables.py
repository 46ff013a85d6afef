"""Prediction tables: id, label, prediction, confidence, and a probability for each class."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from difformer.errors import ConfigError
from difformer.runs.atomic import atomic_file


def check_table_path(path: Path, overwrite: bool) -> None:
    """Refuse another ending than .csv or .parquet, and a file that is already there.

    Raises:
        ConfigError: In either case.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out must end in .csv or .parquet, found {path}.")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists; add --overwrite or give another name.")


def write_predictions(path: Path, tables: Iterable[Any]) -> None:
    """Write Arrow tables of :func:`prediction_table`, at least one, into one file, atomically."""
    parquet = path.suffix.lower() == ".parquet"
    open_writer = pa.parquet.ParquetWriter if parquet else pa.csv.CSVWriter
    with atomic_file(path) as draft, ExitStack() as stack:
        writer = None
        for table in tables:
            writer = writer or stack.enter_context(open_writer(draft, table.schema))
            writer.write_table(table)


def prediction_table(
    ids: Sequence[str], classes: Any, probabilities: Any, labels: Sequence[str] | None = None
) -> Any:
    """One row an instance. ``labels`` are the given ones, "" unlabelled."""
    best = probabilities.argmax(axis=1)
    columns: dict[str, Any] = {"id": list(ids)}
    if labels is not None:
        columns["label"] = list(labels)
    columns["prediction"] = [str(classes[index]) for index in best]
    columns["confidence"] = probabilities.max(axis=1)
    for index, name in enumerate(classes):
        columns[f"probability_{name}"] = probabilities[:, index]
    return pa.table(columns)
