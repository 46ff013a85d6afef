import sys
import types

import numpy as np
import pytest
from scipy import sparse
from scipy.io import savemat

from difformer.data import datasets, protocols
from difformer.errors import ConfigError, DataError

here = pytest.mark.skipif(
    datasets.data_root() is None, reason="DIFFORMER_DATA does not name the benchmarks' folder"
)

# Rows, features, classes, directed entries of the undirected graph, as published or counted.
ABSENT = {"pokec", "stl10"}  # named in recipes, and not public or too large
SIZES = {
    "digits": (1797, 64, 10, 0),
    "cora": (2708, 1433, 7, 10556),
    "citeseer": (3327, 3703, 6, 9104),
    "pubmed": (19717, 500, 3, 88648),
    "actor": (7600, 932, 5, 2 * 26659),
    "chameleon": (2277, 2325, 5, 2 * 31371),
    "squirrel": (5201, 2089, 5, 2 * 198353),
    "chameleon_filtered": (890, 2325, 5, 2 * 8854),
    "texas": (183, 1703, 5, 2 * 279),
    "wisconsin": (251, 1703, 5, 2 * 450),
    "cornell": (183, 1703, 5, 2 * 277),
    "minesweeper": (10000, 7, 2, 2 * 39402),
    "amazon_computers": (13752, 767, 10, 2 * 245861),
    "coauthor_cs": (18333, 6805, 15, 163788),
    "coauthor_physics": (34493, 8415, 5, 495924),
    "dblp": (17716, 1639, 4, 105734),
    "blogcatalog": (5196, 8189, 6, 343486),
    "flickr_attributed": (7575, 12047, 9, 479476),
    "deezer_europe": (28281, 31241, 2, 2 * 92752),
    "github": (37700, 4005, 2, 2 * 289003),
    "twitch_de": (9498, 3170, 2, 2 * 153138),
    "twitch_engb": (7126, 3170, 2, 2 * 35324),
    "twitch_es": (4648, 3170, 2, 2 * 59382),
    "twitch_fr": (6549, 3170, 2, 2 * 112666),
    "twitch_ptbr": (1912, 3170, 2, 2 * 31299),
    "twitch_ru": (4385, 3170, 2, 2 * 37304),
    "twitch_tw": (2772, 3170, 2, 2 * 63462),
    "20news_10topics": (9607, 236, 10, 0),
    "20news_10topics_log": (9607, 236, 10, 0),
    "20news": (18846, 11678, 20, 0),
    "r8": (7674, 8812, 8, 0),
    "mr": (10662, 6785, 2, 0),
    "sst2": (9613, 8408, 2, 0),
    "mnist": (10000, 784, 10, 0),
    "cifar10": (15000, 372, 10, 0),
}


def test_every_data_set_is_tested():
    assert set(SIZES) | ABSENT == set(datasets.DATASETS)


@here
@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_both_directions(name):
    data = datasets.load(name)
    edges = 0 if data.edge_index is None else data.edge_index.shape[1]
    assert (data.num_instances, data.num_features, data.num_classes, edges) == SIZES[name]
    assert data.x.dtype == np.float32
    if data.edge_index is not None:
        source, target = data.edge_index
        keys, back = (
            np.sort(a * data.num_instances + b) for a, b in ((source, target), (target, source))
        )
        np.testing.assert_array_equal(keys, back)
        assert (np.diff(keys) > 0).all()
        assert (source != target).all()


@here
def test_directed_keeps_what_the_source_stores():
    assert datasets.load("actor", directed=True).edge_index.shape[1] == 33391


@here
@pytest.mark.parametrize("name", ["20news_10topics", "20news_10topics_log", "r8", "mr", "sst2"])
def test_texts_are_rows_of_norm_1(name):
    x = datasets.load(name).x
    assert sparse.issparse(x)
    norms = np.sqrt(np.asarray(x.multiply(x).sum(axis=1)).ravel())
    np.testing.assert_allclose(norms[norms > 0], 1, rtol=1e-5)


@here
@pytest.mark.parametrize(
    ("name", "protocol", "sizes"),
    [
        ("cora", "planetoid-public", (140, 500, 1000)),
        ("citeseer", "class-balanced-single", (120, 500, 1000)),
        ("pubmed", "class-balanced-fresh", (60, 500, 1000)),
        ("actor", "geom-gcn-48-32-20", (3648, 2432, 1520)),
        ("chameleon_filtered", "filtered-10", (409, 287, 194)),
        ("deezer_europe", "given", (14140, 7070, 7071)),
        ("r8", "given", (5485, 0, 2189)),
    ],
)
def test_protocols(name, protocol, sizes):
    split = protocols.protocol(protocol).split(datasets.load(name))
    assert (split.train.sum(), split.val.sum(), split.test.sum()) == sizes
    assert split.protocol == protocol


@here
def test_the_single_split_has_20_a_class():
    data = datasets.load("cora")
    split = protocols.protocol("class-balanced-single").split(data)
    assert np.bincount(data.y[split.train]).tolist() == [20] * 7


@here
def test_all_are_present():
    absent = {row.name for row in datasets.available() if not row.present}
    assert absent == ABSENT


def test_what_is_not_at_hand_is_read_from_made_files(tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    (tmp_path / "pokec").mkdir()
    x, y = np.arange(12.0).reshape(6, 2), np.array([0, 1, -1, 1, 0, 1])
    edges = np.array([[0, 1, 5], [1, 2, 5]])
    content = {"node_feat": x, "label": y[:, None], "edge_index": edges, "num_nodes": 6}
    savemat(tmp_path / "pokec" / "pokec.mat", content)
    pokec = datasets.load("pokec")
    assert pokec.x.tolist() == x.tolist()
    assert pokec.y.tolist() == y.tolist()
    assert pokec.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    (tmp_path / "stl10").mkdir()
    np.savez(tmp_path / "stl10" / "stl10_simclr.npz", x=x, y=np.abs(y))
    assert datasets.load("stl10").x.dtype == np.float32
    (tmp_path / "pokec" / "pokec.mat").write_bytes(b"no such file")
    with pytest.raises(DataError, match="must be a MATLAB file"):
        datasets.load("pokec")
    savemat(tmp_path / "pokec" / "pokec.mat", {"node_feat": x})
    with pytest.raises(DataError, match="must be a MATLAB file"):
        datasets.load("pokec")


def test_digits_needs_nothing(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    data = datasets.load("digits")
    assert data.x.shape == (1797, 64)
    assert (data.x.min(), data.x.max()) == (0, 1)
    rows = {row.name: row for row in datasets.available()}
    assert rows["digits"].present
    assert not rows["r8"].present


def test_unknown_names_list_all():
    with pytest.raises(ConfigError, match=r"digits, cora, .* found 'core'"):
        datasets.load("core")


def test_without_the_folder_the_message_says_what_to_set(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    monkeypatch.setattr(datasets, "_has_pyg", lambda: False)
    with pytest.raises(DataError, match=r"set DIFFORMER_DATA .* or install difformer\[pyg\]"):
        datasets.load("cora")
    with pytest.raises(DataError, match="set DIFFORMER_DATA to the folder of the benchmarks"):
        datasets.load("r8")


def test_a_missing_and_a_damaged_file(monkeypatch, tmp_path):
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match=r"r8\.npz does not exist"):
        datasets.load("r8")
    (tmp_path / "r8").mkdir()
    file = tmp_path / "r8" / "r8.npz"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="numpy archive"):
        datasets.load("r8")
    np.savez(file, y=np.zeros(3, int))
    with pytest.raises(DataError, match="must hold an array 'x_data'"):
        datasets.load("r8")


class FakeGraph(dict):
    """As much of a PyTorch Geometric graph as is asked for."""

    class Tensor:
        def __init__(self, array):
            self.array = np.asarray(array)

        def numpy(self):
            return self.array

    x = Tensor(np.eye(3))
    y = Tensor([0, 1, 1])
    edge_index = Tensor([[0, 1], [1, 2]])


def test_planetoid_through_pytorch_geometric(monkeypatch, tmp_path):
    asked = []

    def planetoid(root, name):
        asked.append((root, name))
        row = FakeGraph.Tensor([True, False, False])
        return [FakeGraph({"train_mask": row, **_rest()})]

    def _rest():
        return {
            "val_mask": FakeGraph.Tensor([False, True, False]),
            "test_mask": FakeGraph.Tensor([False, False, True]),
        }

    module = types.ModuleType("torch_geometric.datasets")
    module.Planetoid = planetoid
    monkeypatch.setitem(sys.modules, "torch_geometric", types.ModuleType("torch_geometric"))
    monkeypatch.setitem(sys.modules, "torch_geometric.datasets", module)
    monkeypatch.setattr(datasets, "_has_pyg", lambda: True)
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = datasets.load("citeseer")
    assert asked == [(str(tmp_path / "difformer" / "planetoid"), "CiteSeer")]
    assert data.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert protocols.protocol("planetoid-public").split(data).train.tolist() == [True, False, False]

    def offline(root, name):
        raise OSError("no network")

    module.Planetoid = offline
    with pytest.raises(DataError, match="could not be fetched"):
        datasets.load("citeseer")
