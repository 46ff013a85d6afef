"""The nearest keys and the keys in reach, against measuring all pairs."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from difformer.data import neighbors, reach
from difformer.data.neighbors import search
from difformer.data.points import prepared

FIXED = settings(max_examples=80, derandomize=True, deadline=None)


def measured(x, keys):
    return np.square(x[:, None] - keys[None]).sum(2)


def assert_joined(x, keys, k, limit, metric="euclidean", form=np.asarray):
    near, pairs = reach.joined(form(x), form(keys), k, limit, metric)
    expected = search(form(x), k, metric, keys=form(keys))
    np.testing.assert_array_equal(near.index, expected.index)
    np.testing.assert_array_equal(near.squared_distance, expected.squared_distance)
    own, others = (prepared(form(a), metric, "x") for a in (x, keys))
    squared = measured(*(a.toarray() if sparse.issparse(a) else a for a in (own, others)))
    expected = np.nonzero(squared <= limit)
    order = np.lexsort((pairs.key, pairs.row))
    np.testing.assert_array_equal([pairs.row[order], pairs.key[order]], expected)
    np.testing.assert_allclose(pairs.squared_distance[order], squared[expected], rtol=1e-12)


@st.composite
def places(draw):
    """Few distinct places, so that ties and limits that are just met abound."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    width, values = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows, keys = (rng.integers(0, values, (draw(n), width)) for n in (ROWS, KEYS))
    scale, offset = draw(
        st.sampled_from([(1.0, 0.0), (0.375, 1e5), (2.0**-40, 0.0), (2.0**40, 3.0)])
    )
    rows, keys = rows * scale + offset, keys * scale + offset
    limit = rng.integers(0, 4, len(keys)) * scale**2
    return rows, keys, limit.astype(float)


ROWS, KEYS = st.integers(0, 30), st.integers(0, 60)


@FIXED
@given(places(), st.integers(1, 6), st.sampled_from([np.asarray, sparse.csr_matrix]))
def test_equals_measuring_all_pairs(drawn, k, form):
    with mock.patch.multiple(neighbors, _SMALL=4, _TILE=150), mock.patch.multiple(reach, _TILE=150):
        assert_joined(*drawn[:2], k, drawn[2], form=form)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("scale", [1e-163, 1e-160, 1e-3, 1.0, 1e140])
def test_any_scale_in_many_dimensions(metric, form, scale):
    rng = np.random.default_rng(0)
    x, keys = rng.normal(size=(40, 12)) * scale, rng.normal(size=(300, 12)) * scale
    own = prepared(keys, metric, "keys")
    limit = np.sort(measured(own, own), axis=1)[:, 5]
    assert_joined(x, keys, 5, limit, metric, form)


def test_a_far_origin_costs_no_pair():
    rng = np.random.default_rng(0)
    x, keys = rng.normal(size=(50, 8)) + 1e4, rng.normal(size=(500, 8)) + 1e4
    limit = np.sort(measured(keys, keys), axis=1)[:, 10]
    assert_joined(x, keys, 10, limit)


@pytest.mark.parametrize("columns", [5, 31, 200])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_the_largest_values_of_each_row(columns, count):
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=(7, columns)), rng.integers(0, 3, (7, columns))):
        values = values.astype(np.float32)
        place, last = reach._largest(values, count)
        found = np.take_along_axis(values, place, axis=1)
        expected = np.sort(values, axis=1)[:, columns - count :]
        np.testing.assert_array_equal(np.sort(found, axis=1), expected)
        np.testing.assert_array_equal(last, expected[:, 0])
        assert all(len(set(row)) == count for row in place.tolist())
