"""Series over nodes as snapshots: the last values of every node, and the next ones to forecast.

Letters: S steps of the series, N nodes, T snapshots, E directed edges.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from difformer.data.datasets import benchmark_path
from difformer.data.windows import Windows
from difformer.errors import ConfigError, DataError, one_of, whole_number

Floats: TypeAlias = NDArray[np.float64]
Graph = TypeVar("Graph")
Edges: TypeAlias = tuple[NDArray[np.int64], Floats]  # (2, E) and (E,)


@dataclass(frozen=True, eq=False)
class Series:
    """A value for each step and node, and the graph, which may change with time.

    Parameters
    ----------
    values : float64 ndarray, (S, N)
        Finite.
    edges : tuple of (edge_index (2, E), edge_weight (E,)) or empty
        One graph for all steps, or one a step.
    name : str
        For messages.

    Raises
    ------
    DataError
        If the parts do not fit each other.
    """

    values: Floats
    edges: tuple[Edges, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not np.isfinite(self.values).all():
            raise DataError(
                f"A series must hold finite numbers of shape (S, N), found {self.values.shape}."
            )
        if len(self.edges) not in (0, 1, len(self.values)):
            raise DataError(
                f"A series needs one graph, or one for each of {len(self.values)} steps, found "
                f"{len(self.edges)}."
            )

    def snapshots(self, lags: int, horizon: int = 1) -> "Snapshots":
        """All windows of ``lags`` steps and the ``horizon``-th step that follows.

        Raises
        ------
        ConfigError
            If there are not enough steps.
        """
        whole_number(lags, 1, "lags")
        whole_number(horizon, 1, "horizon")
        windows = Windows(self.values[..., None], lags, horizon)
        if not len(windows):
            raise ConfigError(
                f"lags and horizon must fit into {len(self.values)} steps, found {lags} and "
                f"{horizon}."
            )
        edges = self.edges if len(self.edges) < 2 else self.edges[: len(windows)]
        return Snapshots(windows.history[:, :, 0].copy(), windows.target[:, :, 0, -1].copy(), edges)


@dataclass(frozen=True, eq=False)
class Snapshots:
    """Windows of a series.

    Parameters
    ----------
    history : float64 ndarray, (T, N, lags)
        The latest value last.
    target : float64 ndarray, (T, N)
        What follows each window, ``horizon`` steps after its last one.
    edges : tuple
        None, one graph, or one a snapshot: that of its first step.
    """

    history: Floats
    target: Floats
    edges: tuple[Edges, ...] = ()

    def edges_at(self, snapshot: int) -> Edges | None:
        """The graph of a snapshot."""
        return graph_at(self.edges, snapshot)


def graph_at(graphs: Sequence[Graph], snapshot: int) -> Graph | None:
    """What is there for a snapshot, among none, one for all, or one a snapshot."""
    if not graphs:
        return None
    return graphs[snapshot if len(graphs) > 1 else 0]


def _json(read: Callable[[dict[str, Any]], Series]) -> Callable[[Path], Series]:
    return lambda path: read(json.loads(path.read_text(encoding="utf-8")))


def _chickenpox(content: dict[str, Any]) -> Series:
    edges = np.array(content["edges"], dtype=np.int64).T
    return Series(
        np.array(content["FX"], dtype=np.float64), ((edges, np.ones(edges.shape[1])),), "chickenpox"
    )


def _england_covid(content: dict[str, Any]) -> Series:
    days, mapping = range(content["time_periods"]), content["edge_mapping"]
    edges = tuple(
        (
            np.array(mapping["edge_index"][str(day)], dtype=np.int64).T,
            np.array(mapping["edge_weight"][str(day)], dtype=np.float64),
        )
        for day in days
    )
    return Series(np.array(content["y"], dtype=np.float64), edges, "england_covid")


def _pedalme(content: dict[str, Any]) -> Series:
    edges = np.array(content["edges"], dtype=np.int64).T
    weight = np.array(content["weights"], dtype=np.float64)
    return Series(np.array(content["X"], dtype=np.float64), ((edges, weight),), "pedalme")


def _wikimath(content: dict[str, Any]) -> Series:
    """As published: the visits of each day under the key of its number."""
    days = range(content["time_periods"])
    edges = np.array(content["edges"], dtype=np.int64).T
    weight = np.array(content["weights"], dtype=np.float64)
    values = np.stack([np.array(content[str(day)]["y"], dtype=np.float64) for day in days])
    return Series(values, ((edges, weight),), "wikimath")


def _metr_la_week(path: Path) -> Series:
    with np.load(path, allow_pickle=False) as arrays:
        edges = arrays["edge_index"].astype(np.int64), arrays["edge_weight"].astype(np.float64)
        return Series(arrays["series"].astype(np.float64), (edges,), "metr_la_week")


# Name -> file below DIFFORMER_DATA, and how it is read.
SERIES: dict[str, tuple[str, Callable[[Path], Series]]] = {
    "chickenpox": ("chickenpox/chickenpox.json", _json(_chickenpox)),
    "england_covid": ("england_covid/england_covid.json", _json(_england_covid)),
    "pedalme": ("pedalme/pedalme_london.json", _json(_pedalme)),
    "wikimath": ("wikimath/wikivital_mathematics.json", _json(_wikimath)),
    "metr_la_week": ("metr_la_week/metr_la_week.npz", _metr_la_week),
}


def load_series(name: str) -> Series:
    """A series by its name.

    Raises
    ------
    ConfigError
        For an unknown name; all names are listed.
    DataError
        If its file is not there, or cannot be read.
    """
    file, read = SERIES[one_of(name, SERIES, "series")]
    path = benchmark_path(f"Series {name!r}", file)
    try:
        return read(path)
    except FileNotFoundError:
        raise DataError(f"The file {path} of series {name!r} does not exist.") from None
    except (ValueError, KeyError, TypeError, IndexError, BadZipFile, EOFError) as error:
        raise DataError(f"{path} must hold the series {name!r}, found {error!r}.") from None
