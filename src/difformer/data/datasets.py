"""Data sets by name: one embedded, the public benchmarks from a folder.

`DATASETS` is the one table: a new data set is one entry in it. Except for `digits`, which comes
with scikit-learn, files are read from the folder that the environment variable DIFFORMER_DATA
names, one sub-folder a data set, numpy archives without pickles.

Graphs are returned undirected: both directions of each edge, no duplicates, no self-loops
(``directed=True`` keeps edges as the source stores them). Sparse features stay sparse. Texts come
as (1 + log tf) idf with rows of norm 1. Shipped splits are masks; see `difformer.data.splits`.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.data.instances import Features, Instances
from difformer.errors import ConfigError, DataError

VARIABLE = "DIFFORMER_DATA"
Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Entry:
    """One row of the table of data sets.

    Parameters
    ----------
    description : str
        One line for a person.
    task : str
        What is predicted, and from what.
    file : str
        Path below the data folder; empty if embedded.
    features : callable
        Turns the arrays of the file into x.
    splits : str, default ""
        Further prefix under which the shipped train/val/test masks are listed, which names
        their protocol: "public_", "geom_" or "filtered_".
    stored : str, default ""
        How the file stores edges: "both directions", "one direction" or "directed". Whichever it
        is, `load` adds the missing reverse edges.
    """

    description: str
    task: str
    file: str
    features: Callable[[Arrays], Features]
    splits: str = ""
    stored: str = ""


@dataclass(frozen=True)
class Listed:
    """One row of `available`: name, description, task, where it comes from, is it there."""

    name: str
    description: str
    task: str
    where: str
    present: bool


def _csr(arrays: Arrays, prefix: str = "x") -> Features:
    data, indices, indptr = (arrays[f"{prefix}_{part}"] for part in ("data", "indices", "indptr"))
    shape = tuple(int(size) for size in arrays["x_shape"])
    return sparse.csr_matrix((data.astype(np.float32), indices, indptr), shape=shape)


def _tfidf(arrays: Arrays, prefix: str = "x") -> Features:
    """(1 + log tf) idf of shipped word counts, rows of norm 1."""
    from sklearn.feature_extraction.text import TfidfTransformer

    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(_csr(arrays, prefix))
    return sparse.csr_matrix(weighted, dtype=np.float32)


def _tfidf_of_counts(arrays: Arrays) -> Features:
    return _tfidf(arrays, "count")


def _dense(arrays: Arrays) -> Features:
    return np.asarray(arrays["x"], dtype=np.float32)


def _pixels(arrays: Arrays) -> Features:
    """Images as rows of values from 0 to 1."""
    images = arrays["image"]
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


_PARTS = ("train", "val", "test")
_NODES = "node classification"
_TEXTS = "text classification without a graph"
_IMAGES = "image classification without a graph"
_PUBLIC = "public_"  # 20 a class, 500, 1,000
_GEOM = "geom_"  # the ten shipped splits of Geom-GCN
_FILTERED = "filtered_"  # the ten shipped splits of Platonov et al.
_BOTH, _ONE, _DIRECTED = "both directions", "one direction", "directed"


def _graph(
    description: str,
    name: str,
    stored: str,
    splits: str = "",
    features: Callable[[Arrays], Features] = _csr,
) -> Entry:
    return Entry(description, _NODES, f"{name}/{name}.npz", features, splits, stored)


def _text(description: str, name: str, features: Callable[[Arrays], Features] = _tfidf) -> Entry:
    return Entry(description, _TEXTS, f"{name}/{name}.npz", features)


_TWITCH = {
    "DE": "9,498",
    "ENGB": "7,126",
    "ES": "4,648",
    "FR": "6,549",
    "PTBR": "1,912",
    "RU": "4,385",
    "TW": "2,772",
}

DATASETS: dict[str, Entry] = {
    "digits": Entry("1,797 handwritten digits of 8 x 8 pixels, embedded", _IMAGES, "", _dense),
    "cora": _graph("2,708 papers that cite each other", "cora", _BOTH, _PUBLIC),
    "citeseer": _graph("3,327 papers that cite each other", "citeseer", _BOTH, _PUBLIC),
    "pubmed": _graph("19,717 papers on diabetes that cite each other", "pubmed", _BOTH, _PUBLIC),
    "actor": _graph("7,600 actors named on one page", "actor", _DIRECTED, _GEOM),
    "chameleon": _graph("2,277 wiki pages, some duplicated", "chameleon", _DIRECTED, _GEOM),
    "squirrel": _graph("5,201 wiki pages, some duplicated", "squirrel", _DIRECTED, _GEOM),
    "chameleon_filtered": _graph(
        "890 wiki pages without duplicates", "chameleon_filtered", _ONE, _FILTERED
    ),
    "texas": _graph("183 pages of a university", "texas", _DIRECTED, _GEOM),
    "wisconsin": _graph("251 pages of a university", "wisconsin", _DIRECTED, _GEOM),
    "cornell": _graph("183 pages of a university", "cornell", _ONE, _GEOM),
    "minesweeper": _graph("10,000 cells of a game board, ROC-AUC", "minesweeper", _ONE, "", _dense),
    "amazon_computers": _graph("13,752 goods bought together", "amazon_computers", _DIRECTED),
    "coauthor_cs": _graph("18,333 authors in computer science", "coauthor_cs", _BOTH),
    "coauthor_physics": _graph("34,493 authors in physics", "coauthor_physics", _BOTH),
    "dblp": _graph("17,716 papers that cite each other", "dblp", _BOTH),
    "blogcatalog": _graph("5,196 bloggers who follow each other", "blogcatalog", _BOTH),
    "flickr_attributed": _graph("7,575 photographers", "flickr_attributed", _BOTH),
    "deezer_europe": _graph("28,281 listeners who are friends", "deezer_europe", _ONE),
    "github": _graph("37,700 developers who follow each other", "github", _ONE),
    **{
        f"twitch_{language.lower()}": Entry(
            f"{count} streamers who are friends, Twitch {language}",
            _NODES,
            f"twitch/twitch_{language}.npz",
            _csr,
            stored=_ONE,
        )
        for language, count in _TWITCH.items()
    },
    "20news_10topics": _text(
        "9,607 posts, 10 topics, 236 words, tf-idf of the paper's setting",
        "20news_10topics",
        _csr,
    ),
    "20news_10topics_log": _text(
        "the same posts, (1 + log tf) idf", "20news_10topics", _tfidf_of_counts
    ),
    "20news": _text("18,846 posts, 20 topics", "20news"),
    "r8": _text("7,674 Reuters reports, 8 topics", "r8"),
    "mr": _text("10,662 sentences of film reviews", "mr"),
    "sst2": _text("9,613 sentences of film reviews", "sst2"),
    "pokec": Entry(
        "1,632,803 people of a social network, of whom two genders",
        _NODES,
        "pokec/pokec.mat",
        _dense,
        stored=_DIRECTED,
    ),
    "stl10": Entry(
        "13,000 photographs as self-supervised features", _IMAGES, "stl10/stl10_simclr.npz", _dense
    ),
    "mnist": Entry("10,000 digits of 28 x 28", _IMAGES, "mnist/mnist_test.npz", _pixels),
    "cifar10": Entry(
        "15,000 photographs as 372 hand-made features",
        _IMAGES,
        "cifar10/cifar10_hog_15000.npz",
        _dense,
    ),
}

_PYG_NAMES = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
_SINGLE_SPLIT = "planetoid_single_split/planetoid_single_split.npz"


def load(name: str, directed: bool = False) -> Instances:
    """Load a data set by name.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    directed : bool, default False
        Keep the edges exactly as the source stores them (one direction, duplicates, loops),
        instead of both directions of each edge once.

    Returns
    -------
    Instances
        With every shipped split in ``masks``.

    Raises
    ------
    ConfigError
        For an unknown name; all names are listed.
    DataError
        If the file is not there, or cannot be read. Cost: reading one file of at most 6 MB.

    Examples
    --------
    >>> load("digits").x.shape
    (1797, 64)
    """
    if name not in DATASETS:
        raise ConfigError(f"data set must be one of {', '.join(DATASETS)}, found {name!r}.")
    entry = DATASETS[name]
    if not entry.file:
        return _load_digits()
    root = data_root()
    if root is None:
        if name in _PYG_NAMES and _has_pyg():
            return _load_with_pyg(name)
        advice = " or install difformer[pyg]" if name in _PYG_NAMES else ""
        raise DataError(
            f"Data set {name!r} needs its file {entry.file}: set {VARIABLE} to the folder of the "
            f"benchmarks{advice}."
        )
    return _load_file(name, entry, root, directed)


def available() -> list[Listed]:
    """List all data sets in the order of the table, and whether each can be loaded here.

    Returns
    -------
    list of Listed
        Rows of name, description, task, where, present. Nothing is read.
    """
    return [_listed(name, entry) for name, entry in DATASETS.items()]


def data_root() -> Path | None:
    """Return the folder of the benchmarks, or None if DIFFORMER_DATA is not set."""
    value = os.environ.get(VARIABLE, "")
    return Path(value) if value else None


def benchmark_path(what: str, file: str) -> Path:
    """Where a file lies below the folder of the benchmarks.

    Raises
    ------
    DataError
        If DIFFORMER_DATA is not set; ``what`` says for whom it was wanted.
    """
    root = data_root()
    if root is None:
        raise DataError(f"{what} needs {file}: set {VARIABLE} to the folder of the benchmarks.")
    return root / file


def _listed(name: str, entry: Entry) -> Listed:
    root = data_root()
    if not entry.file:
        where, present = "embedded", True
    elif root is not None:
        where, present = f"{VARIABLE}/{entry.file}", (root / entry.file).is_file()
    elif name in _PYG_NAMES:
        where, present = "torch_geometric", _has_pyg()
    else:
        where, present = f"{VARIABLE}/{entry.file}", False
    return Listed(name, entry.description, entry.task, where, present)


def _load_digits() -> Instances:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Instances(
        (x / 16).astype(np.float32),
        y=y.astype(np.int64),
        classes=tuple(map(str, range(10))),
        name="digits",
    )


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a numpy archive without pickles, or of a MATLAB file as Pokec's.

    Raises
    ------
    DataError
        If the file is not there, or is another thing.
    """
    try:
        if path.suffix == ".mat":
            return _read_matlab(path)
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise DataError(f"The data set's file {path} does not exist: check {VARIABLE}.") from None
    except Exception as error:  # a damaged archive raises errors of zipfile, zlib or numpy
        kind = "MATLAB file" if path.suffix == ".mat" else "numpy archive without pickles"
        raise DataError(f"{path} must be a {kind}, found {error}.") from None


# What MATLAB files of the field call the arrays.
_MATLAB = {"node_feat": "x", "label": "y", "edge_index": "edge_index"}


def _read_matlab(path: Path) -> dict[str, NDArray[Any]]:
    from scipy.io import loadmat

    content = loadmat(str(path))
    return {ours: np.squeeze(content[theirs]) for theirs, ours in _MATLAB.items()}


def _load_file(name: str, entry: Entry, root: Path, directed: bool) -> Instances:
    arrays = read_arrays(root / entry.file)
    try:
        y = arrays["y"].astype(np.int64)
        masks = _masks(arrays, entry.splits, len(y))
        x = entry.features(arrays)
    except KeyError as error:
        raise DataError(f"{root / entry.file} must hold an array {error}, found none.") from None
    if name in _PYG_NAMES:
        masks |= _single_split(root / _SINGLE_SPLIT, name, len(y))
    edges = arrays.get("edge_index")
    if edges is not None:
        edges = edges.astype(np.int64) if directed else undirected(edges, len(y))
    return Instances(
        x,
        y=y,
        classes=_class_names(arrays, y),
        edge_index=edges,
        masks=masks,
        name=name,
        feature_names=tuple(map(str, arrays.get("vocab", ()))),
    )


def _class_names(arrays: Arrays, y: NDArray[np.int64]) -> tuple[str, ...]:
    if "class_names" in arrays:
        return tuple(map(str, arrays["class_names"]))
    return tuple(map(str, range(int(y.max(initial=-1)) + 1)))


def undirected(edges: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Give both directions of each edge once, without self-loops, sorted by source and target.

    Parameters
    ----------
    edges : int ndarray, (2, E)
        Row 0 sources, row 1 targets.
    count : int
        Number of nodes N.

    Returns
    -------
    int64 ndarray, (2, E')
        Cost O(E log E).

    Examples
    --------
    >>> undirected(np.array([[0, 0, 2], [1, 1, 2]]), 3).tolist()
    [[0, 1], [1, 0]]
    """
    source, target = edges.astype(np.int64)
    keep = source != target
    source, target = source[keep], target[keep]
    keys = np.unique(np.concatenate([source * count + target, target * count + source]))
    return np.stack(np.divmod(keys, max(count, 1)))


def _masks(arrays: Arrays, prefix: str, count: int) -> dict[str, NDArray[np.bool_]]:
    """Every shipped mask under its own name, and the plain ones under the further prefix."""
    masks = {key.removesuffix("_mask"): arrays[key] for key in arrays if key.endswith("_mask")}
    for key in arrays:
        if key.endswith("_idx"):
            masks[key.removesuffix("_idx")] = _masks_of_rows(arrays[key], count)
    if prefix:
        masks |= {prefix + part: masks[part] for part in _PARTS if part in masks}
    return masks


def _masks_of_rows(rows: NDArray[Any], count: int) -> NDArray[np.bool_]:
    masks = np.zeros((*rows.shape[:-1], count), dtype=bool)
    np.put_along_axis(masks, rows.astype(np.int64), True, axis=-1)
    return masks


def _single_split(path: Path, name: str, count: int) -> dict[str, NDArray[np.bool_]]:
    """The one split of the published Planetoid figures, if its file is there."""
    if not path.is_file():
        return {}
    arrays = read_arrays(path)
    return {f"single_{part}": _masks_of_rows(arrays[f"{name}_{part}"], count) for part in _PARTS}


def _has_pyg() -> bool:
    return importlib.util.find_spec("torch_geometric") is not None


def _load_with_pyg(name: str) -> Instances:
    """Planetoid through PyTorch Geometric, which downloads it once into the user's cache."""
    from torch_geometric.datasets import Planetoid

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        graph = Planetoid(str(cache / "difformer" / "planetoid"), _PYG_NAMES[name])[0]
    except Exception as error:  # network, disk or archive: whatever the download met
        raise DataError(
            f"Data set {name!r} could not be fetched by torch_geometric ({type(error).__name__}): "
            f"set {VARIABLE} to a folder that holds {DATASETS[name].file}."
        ) from error
    y = graph.y.numpy().astype(np.int64)
    return Instances(
        sparse.csr_matrix(graph.x.numpy().astype(np.float32)),
        y=y,
        classes=_class_names({}, y),
        edge_index=undirected(graph.edge_index.numpy(), len(y)),
        masks=_masks(
            {f"{part}_mask": graph[f"{part}_mask"].numpy() for part in _PARTS}, _PUBLIC, len(y)
        ),
        name=name,
    )
