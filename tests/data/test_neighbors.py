import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from difformer.data.neighbors import search
from difformer.errors import ConfigError, DataError

FIXED = settings(max_examples=60, derandomize=True, deadline=None)


def naive(x, k, keys=None, exclude_self=True, batch=None, keys_batch=None):
    """The definition: sort all rows by (squared distance, row number)."""
    own = keys is None
    keys = x if own else keys
    keys_batch = batch if own else keys_batch
    index = np.full((len(x), k), -1)
    squared = np.full((len(x), k), np.inf)
    for i in range(len(x)):
        pairs = sorted(
            (float(np.square(x[i] - keys[j]).sum()), j)
            for j in range(len(keys))
            if not (own and exclude_self and i == j)
            and (batch is None or batch[i] == keys_batch[j])
        )[:k]
        for place, (distance, j) in enumerate(pairs):
            index[i, place], squared[i, place] = j, distance
    return index, squared


def same(found, expected):
    np.testing.assert_array_equal(found.index, expected[0])
    np.testing.assert_allclose(found.squared_distance, expected[1], rtol=1e-12, atol=0)


@st.composite
def grids(draw):
    """Few distinct places, so that ties and duplicates abound, as dense or sparse rows.

    Sparse rows add squares in another order than dense ones: there the scales are exact in
    float64, though not whole numbers, so that a tie is a tie in either order.
    """
    as_sparse = draw(st.booleans())
    seed = draw(st.integers(0, 10_000))
    rows, width = draw(st.integers(0, 60)), draw(st.integers(1, 4))
    scale = draw(st.sampled_from([1.0, 0.375, 2.0**20] if as_sparse else [0.37, 1e-3, 1e6]))
    offset = draw(st.sampled_from([0.0, 100.125] if as_sparse else [0.0, 100.1]))
    rng = np.random.default_rng(seed)
    x = rng.integers(0, draw(st.integers(1, 4)), (rows, width)) * scale + offset
    return x, (sparse.csr_matrix if as_sparse else np.asarray), rng


@FIXED
@given(grids(), st.integers(1, 12), st.booleans())
def test_equals_the_definition_with_ties(drawn, k, exclude_self):
    x, form, _ = drawn
    same(search(form(x), k, exclude_self=exclude_self), naive(x, k, exclude_self=exclude_self))


@FIXED
@given(grids(), st.integers(1, 5))
def test_equals_the_definition_within_graphs(drawn, k):
    x, form, rng = drawn
    batch = rng.integers(0, 5, len(x))
    same(search(form(x), k, batch=batch), naive(x, k, batch=batch))


@FIXED
@given(grids(), st.integers(1, 5), st.booleans())
def test_equals_the_definition_among_keys(drawn, k, batched):
    x, form, rng = drawn
    keys = rng.permutation(np.concatenate([x, x + 0.5]))[: rng.integers(0, 2 * len(x) + 1)]
    graphs = {}
    if batched:
        graphs = {
            "batch": rng.integers(0, 3, len(x)),
            "keys_batch": rng.integers(0, 3, len(keys)),
        }
    same(search(x, k, keys=form(keys), **graphs), naive(x, k, keys=keys, **graphs))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_definition_on_real_numbers(dtype):
    x = np.random.default_rng(0).normal(size=(300, 9)).astype(dtype) + 1000
    same(search(x, 7), naive(x.astype(np.float64), 7))


def test_tiles_do_not_matter(monkeypatch):
    x = np.random.default_rng(0).integers(0, 3, (200, 4)) * 0.37
    whole = search(x, 6)
    monkeypatch.setattr("difformer.data.neighbors._TILE", 300)
    monkeypatch.setattr("difformer.data.points._PAIRS", 17)
    tiled = search(x, 6)
    np.testing.assert_array_equal(whole.index, tiled.index)
    np.testing.assert_array_equal(whole.squared_distance, tiled.squared_distance)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_distances_are_symmetric_to_the_last_bit_and_zero_between_twins(as_sparse):
    x = np.random.default_rng(1).normal(size=(80, 33)) + 1e4
    x[40:] = x[:40]
    count = len(x)
    found = search(sparse.csr_matrix(x) if as_sparse else x, count - 1)
    full = np.zeros((count, count))
    np.put_along_axis(full, found.index, found.squared_distance, axis=1)
    np.testing.assert_array_equal(full, full.T)
    assert (found.squared_distance[:, 0] == 0).all()
    np.testing.assert_array_equal(found.index[:40, 0], np.arange(40, 80))


def test_cosine_is_two_minus_two_cos_and_zero_rows_stay_zero():
    x = np.array([[1.0, 0.0], [5.0, 5.0], [0.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    found = search(x, 4, metric="cosine")
    np.testing.assert_array_equal(found.index[0], [1, 2, 4, 3])
    np.testing.assert_allclose(found.squared_distance[0], [2 - np.sqrt(2), 1, 1, 4])
    assert found.index[2, 0] == 4
    np.testing.assert_allclose(found.squared_distance[2], [0, 1, 1, 1])
    as_sparse = search(sparse.csr_matrix(x), 4, metric="cosine")
    np.testing.assert_array_equal(as_sparse.index, found.index)


def test_cosine_ignores_the_length_of_rows_however_small():
    x = np.random.default_rng(0).normal(size=(30, 5))
    scaled = x * np.geomspace(1e-140, 1e140, 30)[:, None]
    found = search(x, 5, "cosine")
    same(search(scaled, 5, "cosine"), (found.index, found.squared_distance))


def test_few_rows_are_padded():
    for count in (0, 1, 2):
        found = search(np.ones((count, 3)), 3)
        assert found.index.shape == (count, 3)
        assert (found.index[:, max(0, count - 1) :] == -1).all()
        assert np.isinf(found.squared_distance[found.index == -1]).all()


def test_no_columns_means_all_rows_are_equal():
    assert search(np.empty((4, 0)), 2).index.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_nothing_that_came_in_is_changed():
    x = np.random.default_rng(0).normal(size=(20, 3))
    before, csr = x.copy(), sparse.csr_matrix(x)
    search(x, 2, "cosine")
    search(csr, 2, "cosine")
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(csr.toarray(), before)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"k": 0}, ConfigError, "k must be a whole number"),
        ({"k": 1.5}, ConfigError, "k must be a whole number"),
        ({"k": 1, "metric": "manhattan"}, ConfigError, "'euclidean', 'cosine'"),
        ({"k": 1, "batch": [0]}, DataError, "each of 3 rows"),
        ({"k": 1, "batch": [0.0, 1.0, 2.0]}, DataError, "whole number"),
        ({"k": 1, "keys": np.ones((2, 5))}, DataError, "2 columns of x, found 5"),
        ({"k": 1, "keys_batch": [0, 1, 2]}, ConfigError, "keys_batch"),
        ({"k": 1, "keys": np.ones((2, 2)), "batch": [0, 0, 0]}, ConfigError, "keys_batch"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, says):
    with pytest.raises(error, match=says):
        search(np.ones((3, 2)), **arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_values_that_have_no_distance_are_refused(bad):
    with pytest.raises(DataError, match="finite"):
        search(np.array([[1.0], [bad]]), 1)
