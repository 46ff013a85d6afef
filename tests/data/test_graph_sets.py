"""Sets of graphs: the shipped molecules, made point clouds, and what is refused."""

import numpy as np
import pytest

from difformer.data import datasets
from difformer.data.graph_sets import GRAPH_SETS, GraphSet, load_graphs
from difformer.data.protocols import protocol
from difformer.errors import ConfigError, DataError

here = pytest.mark.skipif(
    datasets.data_root() is None, reason=f"{datasets.VARIABLE} does not name the benchmarks' folder"
)


@here
def test_the_molecules_are_all_there():
    data = load_graphs("synmol")
    assert len(data.y) == 8671
    assert data.x.shape == (185198, 14)
    assert data.edge_index.shape == (2, 393368)
    assert np.bincount(data.y).tolist() == [7144, 1527]
    split = protocol("synmol-given").split(data.population, 3)
    assert (split.train.sum(), split.val.sum(), split.test.sum()) == (6753, 1000, 918)
    other = protocol("synmol-given").split(data.population, 4)
    assert np.array_equal(split.test, other.test)
    assert not np.array_equal(split.val, other.val)


def write_points(folder, name, clouds):
    path = folder / GRAPH_SETS[name][0]
    path.parent.mkdir(parents=True)
    sizes = [len(cloud) for cloud in clouds]
    np.savez(
        path,
        x=np.ones((sum(sizes), 2), np.float32),
        pos=np.concatenate(clouds),
        node_ptr=np.cumsum([0, *sizes]),
        y=np.arange(len(clouds)) % 2,
    )


def test_point_clouds_are_joined_as_published_and_never_between_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    draw = np.random.default_rng(0)
    clouds = [draw.normal(size=(n, 3)) for n in (9, 1, 0, 4)]
    for name in ("actstrack", "tau3mu"):
        write_points(tmp_path, name, clouds)
        data = load_graphs(name)
        assert data.x.shape == (14, 5)  # features, then coordinates
        graph = data.graph_of_node
        assert (graph[data.edge_index[0]] == graph[data.edge_index[1]]).all()
    nearest = load_graphs("actstrack").edge_index
    assert np.bincount(nearest[1], minlength=14).tolist() == [5] * 9 + [0] + [3] * 4
    distance = np.linalg.norm(clouds[0][:, None] - clouds[0][None], axis=2)
    received = set(nearest[0][nearest[1] == 0].tolist())
    assert received == set(np.argsort(distance[0])[1:6].tolist())
    within = {tuple(pair) for pair in load_graphs("tau3mu").edge_index.T.tolist()}
    expected = {(i, j) for i in range(9) for j in range(9) if i != j and distance[i, j] <= 1}
    assert {pair for pair in within if pair[0] < 9} == expected


def test_what_does_not_fit_is_refused(tmp_path, monkeypatch):
    x, none = np.ones((3, 1), np.float32), np.zeros((2, 0), np.int64)
    y = np.array([0, 1])
    GraphSet(x, none, np.array([0, 2, 3]), y)
    for ends in ([0, 2], [0, 2, 4], [0, 4, 3]):
        with pytest.raises(DataError, match="node_ptr"):
            GraphSet(x, none, np.array(ends), y)
    for edges in ([[0], [2]], [[0], [3]], [[-1], [0]]):
        with pytest.raises(DataError, match="nodes of one graph"):
            GraphSet(x, np.array(edges), np.array([0, 2, 3]), y)
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        load_graphs("tau3mu")
    path = tmp_path / GRAPH_SETS["tau3mu"][0]
    path.parent.mkdir()
    np.savez(path, x=x)
    with pytest.raises(DataError, match="must hold the graphs"):
        load_graphs("tau3mu")
    with pytest.raises(ConfigError, match="set of graphs must be one of"):
        load_graphs("mine")
    monkeypatch.delenv(datasets.VARIABLE)
    with pytest.raises(DataError, match=datasets.VARIABLE):
        load_graphs("tau3mu")
