"""Prediction tables: id, label, prediction, confidence, and a probability for each class."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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


def write_predictions(
    path: Path,
    ids: Sequence[str],
    classes: Any,
    probabilities: Any,
    labels: Sequence[str] | None = None,
) -> None:
    """Write one row an instance, atomically. ``labels`` are the given ones, "" unlabelled."""
    with prediction_writer(path) as write:
        write(_table(ids, classes, probabilities, labels))


def write_prediction_parts(
    path: Path, parts: Iterable[tuple[Sequence[str], Any]], classes: Any
) -> None:
    """Write ids and probabilities of one part after the other, into one file, atomically."""
    with prediction_writer(path) as write:
        for ids, probabilities in parts:
            write(_table(ids, classes, probabilities))


@contextmanager
def prediction_writer(path: Path) -> Iterator[Callable[[Any], None]]:
    """Yield what appends an Arrow table to a file that is there when the block ends."""
    parquet = path.suffix.lower() == ".parquet"
    open_writer = pa.parquet.ParquetWriter if parquet else pa.csv.CSVWriter
    with atomic_file(path) as draft, ExitStack() as stack:
        opened: list[Any] = []

        def write(table: Any) -> None:
            if not opened:
                opened.append(stack.enter_context(open_writer(draft, table.schema)))
            opened[0].write_table(table)

        yield write


def _table(
    ids: Sequence[str], classes: Any, probabilities: Any, labels: Sequence[str] | None = None
) -> Any:
    best = probabilities.argmax(axis=1)
    columns: dict[str, Any] = {"id": list(ids)}
    if labels is not None:
        columns["label"] = list(labels)
    columns["prediction"] = [str(classes[index]) for index in best]
    columns["confidence"] = probabilities.max(axis=1)
    for index, name in enumerate(classes):
        columns[f"probability_{name}"] = probabilities[:, index]
    return pa.table(columns)
