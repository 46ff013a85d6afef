"""ogbn-proteins from its raw files: a graph of proteins, 112 yes-or-no labels, a split by species.

Edges carry eight features; as published, a node's features are the means over its edges, and edges
keep none. The files are those of the original download, below DIFFORMER_DATA/proteins:

    raw/edge.csv.gz, raw/edge-feat.csv.gz, raw/node-label.csv.gz
    split/species/train.csv.gz, valid.csv.gz, test.csv.gz

Letters: N proteins, E undirected edges, as stored once each, C labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.data.datasets import benchmark_path, undirected
from difformer.data.splits import Split
from difformer.errors import DataError

FOLDER = "proteins"


@dataclass(frozen=True, eq=False)
class MultiLabel:
    """Rows with several yes-or-no labels each.

    Shapes: x (N, F) float32; y (N, C), 0 or 1; edge_index (2, 2E).
    """

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    edge_index: NDArray[np.int64]
    split: Split


def load_proteins() -> MultiLabel:
    """Read the raw files.

    Raises
    ------
    DataError
        If one is not there, or does not fit the others.
    """
    folder = benchmark_path("ogbn-proteins", FOLDER)
    edges, features, labels = (
        _table(folder / "raw" / f"{name}.csv.gz") for name in ("edge", "edge-feat", "node-label")
    )
    y = labels.astype(np.int64)
    if len(edges) != len(features) or edges.shape[1] != 2:
        raise DataError(f"{folder} must hold one row of features an edge, found {len(features)}.")
    ends = edges.astype(np.int64).T
    count = len(y)
    if ends.size and (ends.min() < 0 or ends.max() >= count):
        raise DataError(f"{folder} must hold edges among {count} proteins, found {ends.max()}.")
    total, degree = np.zeros((count, features.shape[1])), np.zeros(count)
    for end in ends:
        np.add.at(total, end, features)
        degree += np.bincount(end, minlength=count)
    x = (total / np.maximum(degree, 1)[:, None]).astype(np.float32)
    return MultiLabel(x, y, undirected(ends, count), _split(folder / "split" / "species", count))


def _split(folder: Path, count: int) -> Split:
    first, second, third = (
        np.isin(np.arange(count), _table(folder / f"{part}.csv.gz").astype(np.int64))
        for part in ("train", "valid", "test")
    )
    return Split(first, second, third, "ogb")


def _table(path: Path) -> NDArray[Any]:
    from pyarrow import csv

    options = csv.ReadOptions(autogenerate_column_names=True)
    try:
        found = csv.read_csv(str(path), read_options=options)
    except FileNotFoundError:
        raise DataError(f"The file {path} of ogbn-proteins does not exist.") from None
    except Exception as error:  # whatever a damaged archive raises
        raise DataError(f"{path} must be a table of numbers, found {error}.") from None
    columns = [column.to_numpy() for column in found.columns]
    return np.stack(columns, axis=1)
