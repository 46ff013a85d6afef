"""Sets of small graphs by name, each graph with a class.

Files hold all graphs one after the other: graph g owns the nodes ``node_ptr[g]:node_ptr[g + 1]``.
Point clouds come without edges; they are joined here as published.

Letters: G graphs, N nodes of all of them, F features, E directed edges.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.data.datasets import Arrays, benchmark_path, read_arrays
from difformer.data.protocols import Population
from difformer.errors import DataError, one_of

ATOMS = 14  # types of SynMol
NEAREST, RADIUS = 5, 1.0  # how point clouds are joined: ActsTrack, Tau3Mu


@dataclass(frozen=True, eq=False)
class GraphSet:
    """Graphs with classes.

    Parameters
    ----------
    x : float32 ndarray, (N, F)
        Features of all nodes.
    edge_index : int64 ndarray, (2, E)
        Never between two graphs.
    node_ptr : int64 ndarray, (G + 1,)
        Where the nodes of each graph begin; the last entry is N.
    y : int64 ndarray, (G,)
        Class of each graph.
    masks : mapping of str to bool ndarray, (G,)
        Shipped splits.
    name : str
        For messages.

    Raises
    ------
    DataError
        If the parts do not fit each other.
    """

    x: NDArray[np.float32]
    edge_index: NDArray[np.int64]
    node_ptr: NDArray[np.int64]
    y: NDArray[np.int64]
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        ends = self.node_ptr
        if len(ends) != len(self.y) + 1 or ends[0] != 0 or ends[-1] != len(self.x):
            raise DataError(f"node_ptr of {self.name!r} must lead from 0 to {len(self.x)} nodes.")
        if (np.diff(ends) < 0).any():
            raise DataError(f"node_ptr of {self.name!r} must not fall.")
        graph = self.graph_of_node
        if self.edge_index.size and (
            self.edge_index.min() < 0
            or self.edge_index.max() >= len(self.x)
            or (graph[self.edge_index[0]] != graph[self.edge_index[1]]).any()
        ):
            raise DataError(f"Edges of {self.name!r} must join nodes of one graph.")

    @property
    def graph_of_node(self) -> NDArray[np.int64]:
        """Number of the graph of each node, (N,)."""
        return np.repeat(np.arange(len(self.y)), np.diff(self.node_ptr))

    @property
    def population(self) -> Population:
        """What protocols divide: the graphs."""
        return Population(len(self.y), self.y, self.masks, name=self.name)


def _molecules(arrays: Arrays) -> dict[str, Any]:
    x = np.eye(ATOMS, dtype=np.float32)[arrays["atom_type"]]
    return {"x": x, "edge_index": arrays["edge_index"].astype(np.int64)}


def _nearest(arrays: Arrays) -> dict[str, Any]:
    """Each point with the 5 nearest of its cloud; coordinates stand among the features."""
    from sklearn.neighbors import kneighbors_graph

    def join(points: NDArray[Any]) -> Any:
        count = min(NEAREST, len(points) - 1)
        return kneighbors_graph(points, count, include_self=False) if count > 0 else None

    return _joined(arrays, join)


def _within(arrays: Arrays) -> dict[str, Any]:
    """Each point with those within a distance of 1 in its cloud."""
    from sklearn.neighbors import radius_neighbors_graph

    def join(points: NDArray[Any]) -> Any:
        return radius_neighbors_graph(points, RADIUS, include_self=False) if len(points) else None

    return _joined(arrays, join)


def _joined(arrays: Arrays, join: Callable[[NDArray[Any]], Any]) -> dict[str, Any]:
    ends, places, edges = arrays["node_ptr"], arrays["pos"], []
    for first, last in pairwise(ends):
        graph = join(places[first:last])
        if graph is not None:
            pairs = graph.tocoo()
            edges.append(np.stack([pairs.col, pairs.row]).astype(np.int64) + first)
    x = np.concatenate([arrays["x"], places], axis=1).astype(np.float32)
    none = np.zeros((2, 0), dtype=np.int64)
    return {"x": x, "edge_index": np.concatenate([none, *edges], axis=1)}


# Name -> file below DIFFORMER_DATA, and what makes features and edges of its arrays.
GRAPH_SETS: dict[str, tuple[str, Callable[[Arrays], dict[str, Any]]]] = {
    "synmol": ("synmol/synmol_logic8.npz", _molecules),
    "actstrack": ("actstrack/actstrack.npz", _nearest),
    "tau3mu": ("tau3mu/tau3mu.npz", _within),
}


def load_graphs(name: str) -> GraphSet:
    """A set of graphs by its name.

    Raises
    ------
    ConfigError
        For an unknown name; all names are listed.
    DataError
        If its file is not there, or cannot be read.
    """
    file, read = GRAPH_SETS[one_of(name, GRAPH_SETS, "set of graphs")]
    path = benchmark_path(f"Set of graphs {name!r}", file)
    arrays = read_arrays(path)
    try:
        parts = read(arrays)
        masks = {key[:-5]: arrays[key] for key in arrays if key.endswith("_mask")}
        own = {key: arrays[key].astype(np.int64) for key in ("node_ptr", "y")}
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"{path} must hold the graphs {name!r}, found {error!r}.") from None
    return GraphSet(
        parts["x"], parts["edge_index"], own["node_ptr"], own["y"], masks=masks, name=name
    )
