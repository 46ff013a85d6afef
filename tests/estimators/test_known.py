"""Fitted rows are known again: the same features and the same edges, and nothing else."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris

from difformer import DIFFormerClassifier
from difformer.estimators.known import KnownRows, fingerprints

DRAW = np.random.default_rng(0)


def table(rows=300, columns=6):
    return DRAW.integers(-2, 3, (rows, columns)).astype(np.float32)


def edges(rows, count, weighted):
    index = torch.from_numpy(DRAW.integers(0, rows, (2, count)))
    return index, torch.from_numpy(DRAW.random(count, np.float32)) if weighted else None


@pytest.mark.parametrize("weighted", [None, False, True])
def test_prints_are_equal_where_rows_are(weighted):
    """Small whole numbers and few columns: many rows are equal, most are not."""
    x = table()
    index, weight = (None, None) if weighted is None else edges(300, 200, weighted)
    found = fingerprints(x, index, weight)

    def row(i):
        mine = () if index is None else np.flatnonzero(index[1].numpy() == i)
        entering = sorted(
            (int(index[0, e]), 0 if weight is None else float(weight[e])) for e in mine
        )
        return (*x[i].tolist(), *entering)

    rows = [row(i) for i in range(300)]
    for i in range(300):
        for j in range(i):
            assert (rows[i] == rows[j]) == bool((found[i] == found[j]).all())


def test_dense_sparse_and_minus_zero_are_one():
    x = table()
    minus = np.where(x == 0, np.float32(-0.0), x)
    expected = fingerprints(x, None, None)
    assert np.array_equal(fingerprints(sparse.csr_matrix(x), None, None), expected)
    assert np.array_equal(fingerprints(minus, None, None), expected)


def test_columns_are_not_exchangeable_nor_are_neighbours_in_value():
    x = np.array([[1, 2], [2, 1], [1, np.nextafter(np.float32(2), np.float32(3))]], np.float32)
    found = fingerprints(x, None, None)
    assert len(np.unique(found, axis=0)) == 3


@pytest.mark.parametrize("weighted", [None, True])
def test_rows_are_found_by_features_and_edges(weighted):
    x = table(columns=9)
    given = (None, None) if weighted is None else edges(300, 500, weighted)
    known = KnownRows.of(x, *given)
    assert (known.find(x, *given) >= 0).all()
    values = DRAW.random((300, 2))
    mean = known.mean(values, known.find(x, *given))
    for i in range(0, 300, 37):
        same = (known.prints == known.prints[i]).all(axis=1)
        np.testing.assert_allclose(mean[i], values[same].mean(axis=0))
    other = x.copy()
    other[:, 3] += 0.5
    assert (known.find(other, *given) < 0).all()
    assert (known.find(sparse.csr_matrix(x), *given) >= 0).all()
    if weighted:
        index, weight = given
        hit = np.unique(index[1])
        assert (known.find(x, index, weight + 1)[hit] < 0).all()
        assert (known.find(x, None, None)[hit] < 0).all()


def test_an_empty_table_finds_nothing():
    known = KnownRows.of(table(), None, None)
    assert known.find(table()[:0], None, None).shape == (0,)


def few_labels(y, every=10):
    return np.where(np.arange(len(y)) % every == 0, y, -1)


SETTINGS = {
    "decoupled": {},
    "simple": {"encoder": "trained"},
    "sigmoid": {"encoder": "trained", "diffusivity": "sigmoid"},
    "local": {"encoder": "trained", "diffusivity": "local"},
    "mixed": {"encoder": "trained", "diffusivity": ("simple", "local")},
}


@pytest.mark.parametrize("graph", [False, True], ids=["no-graph", "graph"])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_fitted_rows_get_what_they_got(name, graph):
    x, y = load_iris(return_X_y=True)
    given = {}
    if graph:
        draw = np.random.default_rng(1)
        given = {"edge_index": draw.integers(0, 150, (2, 400)), "edge_weight": draw.random(400)}
    model = DIFFormerClassifier(**SETTINGS[name], training={"epochs": 5})
    model.fit(x, few_labels(y), **given)
    _, group = np.unique(x, axis=0, return_inverse=True)
    alone = np.bincount(group.ravel())[group.ravel()] == 1  # iris holds a row twice
    assert np.array_equal(model.predict(x, **given)[alone], model.transduction_[alone])
    np.testing.assert_array_equal(
        model.predict_proba(x, **given)[alone], model.label_distributions_[alone]
    )
    np.testing.assert_array_equal(model.transform(x, **given)[alone], model.embedding_[alone])
    labelled = few_labels(y) >= 0
    assert np.array_equal(model.transduction_[labelled], y[labelled])


def test_a_new_row_is_not_taken_for_a_fitted_one():
    x, y = load_iris(return_X_y=True)
    model = DIFFormerClassifier(training={"epochs": 5}).fit(x[:120], few_labels(y)[:120])
    both = model.predict_proba(np.concatenate([x[:120], x[120:]]))
    np.testing.assert_array_equal(both[120:], model.predict_proba(x[120:]))


def test_equal_rows_that_disagree_give_their_mean():
    x = np.repeat(np.arange(12.0), 2)[:, None] * np.ones((1, 20))
    y = np.full(24, -1)
    y[[0, 1, 20, 21]] = 0, 1, 1, 1
    model = DIFFormerClassifier(training={"epochs": 5}).fit(x, y)
    found = model.predict_proba(x[:1])
    np.testing.assert_allclose(found, [[0.5, 0.5]])
