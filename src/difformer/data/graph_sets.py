"""Sets of small graphs by name, each graph with a class, a number, or several marks.

Files hold all graphs one after the other: graph g owns the nodes ``node_ptr[g]:node_ptr[g + 1]``.
Point clouds come without edges; they are joined here as published.

Letters: G graphs, N nodes of all of them, F features, E directed edges, A edge features, T marks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.data.datasets import Arrays, benchmark_path, read_arrays
from difformer.data.protocols import Population
from difformer.errors import DataError, MissingExtraError, one_of

ATOMS = 14  # types of SynMol
MOST_DEGREES = 100  # of nodes without labels that are told apart
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
    y : int64 ndarray (G,), float64 ndarray (G,), or int64 ndarray (G, T)
        Class of each graph; or its number; or its marks, 1 or 0 each.
    edge_attr : float32 ndarray, (E, A), optional
        Features of the edges.
    groups : tuple of str, (G,)
        Families that protocols may keep together; empty: none are known.
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
    y: NDArray[Any]
    edge_attr: NDArray[np.float32] | None = None
    groups: tuple[str, ...] = ()
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
        edges = self.edge_index.shape[1]
        if self.edge_attr is not None and len(self.edge_attr) != edges:
            raise DataError(
                f"edge_attr of {self.name!r} must have {edges} rows, found {len(self.edge_attr)}."
            )

    @property
    def target(self) -> str:
        """What graphs have: ``classes``, ``numbers`` or ``marks``."""
        if self.y.ndim == 2:
            return "marks"
        return "numbers" if self.y.dtype.kind == "f" else "classes"

    @property
    def graph_of_node(self) -> NDArray[np.int64]:
        """Number of the graph of each node, (N,)."""
        return np.repeat(np.arange(len(self.y)), np.diff(self.node_ptr))

    @property
    def population(self) -> Population:
        """What protocols divide: the graphs."""
        labels = self.y if self.target == "classes" else None
        return Population(len(self.y), labels, self.masks, self.groups or None, name=self.name)


def _labelled_nodes(arrays: Arrays) -> dict[str, Any]:
    """Labels of nodes as 0/1 columns; where all are alike, degrees, as Xu et al. (ICLR 2019)."""
    labels, edges = arrays["node_label"], arrays["edge_index"].astype(np.int64)
    if len(np.unique(labels)) == 1:
        labels = np.minimum(np.bincount(edges[1], minlength=len(labels)), MOST_DEGREES)
    return {"x": _columns(labels[:, None]), "edge_index": edges}


def _atoms_and_bonds(arrays: Arrays) -> dict[str, Any]:
    """Every column of atoms and bonds as 0/1 columns; molecules of a scaffold are a family."""
    y = arrays["y"]
    return {
        "x": _columns(arrays["atom_feat"]),
        "edge_index": arrays["edge_index"].astype(np.int64),
        "edge_attr": _columns(arrays["edge_feat"]),
        "y": y.astype(np.float64 if y.dtype.kind == "f" else np.int64),
        "groups": scaffolds(_texts(arrays)),
    }


def _columns(table: NDArray[Any]) -> NDArray[np.float32]:
    """A 0/1 column for each value of each column, (N, F)."""
    parts = []
    for column in table.T:
        values, place = np.unique(column, return_inverse=True)
        parts.append(np.eye(len(values), dtype=np.float32)[place])
    return np.concatenate(parts, axis=1)


def _texts(arrays: Arrays) -> list[str]:
    """SMILES of the molecules."""
    content, ends = arrays["smiles_bytes"].tobytes(), arrays["smiles_offsets"]
    return [content[a:b].decode("utf-8") for a, b in pairwise(ends.tolist())]


def scaffolds(smiles: Sequence[str]) -> tuple[str, ...]:
    """Bemis-Murcko scaffold of each molecule, chirality left out.

    Raises
    ------
    MissingExtraError
        Without the package rdkit (extra ``molecules``).
    DataError
        If a text is no molecule.
    """
    try:
        from rdkit.Chem import MolFromSmiles
        from rdkit.Chem.Scaffolds import MurckoScaffold
        from rdkit.rdBase import BlockLogs
    except ImportError as error:
        raise MissingExtraError("molecules") from error
    scaffold: Any = MurckoScaffold.MurckoScaffoldSmiles
    found = []
    with BlockLogs():  # it would warn of each odd molecule on standard error
        for text in smiles:
            molecule = MolFromSmiles(text)
            if molecule is None:
                raise DataError(f"A molecule must be written as SMILES, found {text[:60]!r}.")
            found.append(str(scaffold(mol=molecule, includeChirality=False)))
    return tuple(found)


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
    **{
        name: (f"tu_{name}/tu_{name}.npz", _labelled_nodes)
        for name in ("mutag", "ptc", "proteins", "enzymes", "imdb_binary", "imdb_multi")
    },
    **{
        name: (f"molecules/{name}.npz", _atoms_and_bonds)
        for name in ("bace", "bbbp", "clintox", "esol", "freesolv", "lipo")
    },
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
        ends = arrays["node_ptr"].astype(np.int64)
        own = {"y": arrays["y"].astype(np.int64), "masks": masks, **parts}
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(f"{path} must hold the graphs {name!r}, found {error!r}.") from None
    return GraphSet(node_ptr=ends, name=name, **own)
