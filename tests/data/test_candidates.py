"""Whoever proposes candidates, the neighbours are those of the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from test_neighbors import FIXED, grids, naive, same

from difformer.data import candidates, neighbors
from difformer.data.candidates import by_faiss, by_sklearn, propose
from difformer.data.neighbors import search
from difformer.nn.tiles import by_tiles, nearest_in_tiles, proposer


def faiss(queries, keys, count):
    pytest.importorskip("faiss")
    return by_faiss(queries, keys, count)


WHO = {"sklearn": by_sklearn, "faiss": faiss, "tiles": by_tiles(torch.device("cpu"), 2000)}


@pytest.fixture(autouse=True)
def _no_small_sets(monkeypatch):
    """Small sets are measured whole; here they shall be proposed."""
    monkeypatch.setattr(neighbors, "_SMALL", 0)


@pytest.mark.parametrize("who", WHO)
@FIXED
@given(grids(), st.integers(1, 12), st.booleans())
def test_equals_the_definition_with_ties(who, drawn, k, exclude_self):
    x, _, _ = drawn
    found = search(x, k, exclude_self=exclude_self, candidates=WHO[who])
    same(found, naive(x, k, exclude_self=exclude_self))


@FIXED
@given(grids(), st.integers(1, 12), st.booleans())
def test_sparse_rows_equal_the_definition_with_ties(drawn, k, exclude_self):
    x, form, _ = drawn
    same(search(form(x), k, exclude_self=exclude_self), naive(x, k, exclude_self=exclude_self))


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("scale", [1.0, 1e-140, 1e140])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_equals_the_definition_far_from_the_origin_and_at_any_scale(who, scale, offset):
    x = (np.random.default_rng(0).normal(size=(300, 9)) + offset) * scale
    found = search(x, 7, candidates=WHO[who])
    index, squared = naive(x, 7)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.squared_distance, squared, rtol=1e-12)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("close", [1e-3, 1e-9])
def test_rows_that_single_precision_cannot_tell_apart_are_told_apart(who, close):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(1, 5)) + close * rng.normal(size=(200, 5)), 9 * np.eye(5)])
    same(search(x, 6, candidates=WHO[who]), naive(x, 6))


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_nothing_left_out_is_nearer_than_told(who, offset):
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(40, 6)) + offset, rng.normal(size=(300, 6)) + offset
    found = WHO[who](queries, keys, 12)
    squared = np.square(queries[:, None] - keys).sum(-1)
    assert found.rows.shape == (40, 12)
    np.put_along_axis(squared, found.rows, np.inf, axis=1)
    assert (squared.min(1) >= found.beyond).all()
    assert (squared.min(1) < found.beyond * 1.5).all()  # and the bound is worth something


def test_without_columns_all_rows_are_equal():
    for who in WHO.values():
        assert search(np.empty((20, 0)), 2, candidates=who).index[5].tolist() == [0, 1]


@pytest.mark.parametrize("installed", [False, True])
def test_faiss_is_used_for_dense_rows_where_it_is_installed(monkeypatch, installed):
    asked = []
    monkeypatch.setattr(candidates, "_has_faiss", lambda: installed)
    monkeypatch.setattr(candidates, "by_faiss", lambda *a: asked.append("faiss"))
    monkeypatch.setattr(candidates, "by_sklearn", lambda *a: asked.append("sklearn"))
    propose(np.ones((3, 2)), np.ones((3, 2)), 1)
    propose(sparse.csr_matrix((3, 2)), sparse.csr_matrix((3, 2)), 1)
    assert asked == ["faiss" if installed else "sklearn", "sklearn"]


def test_tiles_are_for_accelerators_and_leave_sparse_rows_alone():
    assert proposer(torch.device("cpu")) is propose
    assert proposer(torch.device("meta")) is not propose
    x = np.random.default_rng(0).integers(0, 3, (60, 4)) * 0.5
    found = search(sparse.csr_matrix(x), 5, candidates=by_tiles(torch.device("cpu")))
    same(found, naive(x, 5))


def test_products_with_fewer_digits_are_not_trusted():
    before = torch.get_float32_matmul_precision()
    seen = []
    try:
        torch.set_float32_matmul_precision("high")
        x = np.random.default_rng(0).normal(size=(50, 4))
        original = nearest_in_tiles
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "difformer.nn.tiles.nearest_in_tiles",
                lambda q, *rest: (seen.append(q.dtype), original(q, *rest))[1],
            )
            same(search(x, 3, candidates=by_tiles(torch.device("cpu"))), naive(x, 3))
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {torch.float64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tiles_on_a_cuda_device_equal_the_definition():
    x = np.random.default_rng(0).normal(size=(500, 20))
    same(search(x, 9, candidates=by_tiles(torch.device("cuda"), 50_000)), naive(x, 9))
