"""Parts of instances and of their graph: nothing is lost, doubled or mixed up."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difformer.data.partition import divide, find_clusters, pieces
from difformer.errors import MissingExtraError


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 60), st.integers(0, 9))
def test_parts_are_of_equal_sizes_and_hold_everyone(count, size, seed):
    part = divide(count, size, (seed,))
    sizes = np.bincount(part, minlength=max(1, -(-count // size)))
    assert sizes.sum() == count
    assert sizes.max() <= size
    assert sizes.max() - sizes.min() <= 1


def test_a_division_follows_from_its_seed():
    first = divide(100, 30, (7, 1))
    assert np.array_equal(first, divide(100, 30, (7, 1)))
    assert not np.array_equal(first, divide(100, 30, (7, 2)))


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 60), st.integers(1, 4), st.integers(0, 99))
def test_a_piece_is_the_induced_graph_in_its_own_numbers(count, edges, parts, seed):
    draw = np.random.default_rng(seed)
    edge_index, weight = draw.integers(count, size=(2, edges)), draw.random(edges)
    part = draw.integers(parts, size=count)
    dense = np.zeros((count, count))
    np.add.at(dense, (edge_index[1], edge_index[0]), weight)
    seen = []
    for rows, index, value in pieces(part, edge_index, weight):
        assert len(rows)
        assert len(set(part[rows])) == 1
        own = np.zeros((len(rows), len(rows)))
        np.add.at(own, (index[1], index[0]), value)
        np.testing.assert_allclose(own, dense[rows][:, rows])
        seen += rows.tolist()
    assert sorted(seen) == list(range(count))


def test_without_a_graph_pieces_are_rows():
    (first, *rest) = pieces(np.array([0, 2, 2]))
    assert first.rows.tolist() == [0]
    assert [piece.rows.tolist() for piece in rest] == [[1, 2]]
    assert first.edge_index is None


def cliques(count, size):
    """Edges within groups of consecutive instances, and one to the next group."""
    pairs = [
        (i, j)
        for i in range(count)
        for j in range(count)
        if i != j and (i // size == j // size or j == i + 1)
    ]
    return np.array(pairs).T


def test_clusters_stay_together():
    pytest.importorskip("pymetis")
    edges = cliques(60, 3)
    clusters = find_clusters(edges, 60, 30)
    part = divide(60, 30, (0,), clusters)
    assert np.bincount(part).tolist() == pytest.approx([30, 30], abs=9)
    within = part[edges[0]] == part[edges[1]]
    assert within.mean() > 0.8  # 0.5 by chance
    assert not np.array_equal(part, divide(60, 30, (1,), clusters))


def test_nothing_to_cluster():
    pytest.importorskip("pymetis")
    none = np.zeros((2, 0), dtype=np.int64)
    assert find_clusters(none, 5, 2).tolist() == [0, 1, 2, 3, 4]


def test_clusters_need_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(MissingExtraError, match=r"difformer\[clusters\]"):
        find_clusters(cliques(6, 3), 6, 3)
