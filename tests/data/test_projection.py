import numpy as np
import pytest
from scipy import sparse

from difformer.data.projection import Projection, pca
from difformer.errors import ConfigError, DataError


def cloud(rows=60, width=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)) * np.geomspace(1, 0.05, width) + 3


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("exact", [True, False])
def test_equals_the_singular_value_decomposition(centre, as_sparse, exact, monkeypatch):
    if not exact:
        monkeypatch.setattr("difformer.data.projection._EXACT_WIDTH", 0)
    x = cloud()
    centred = x - x.mean(axis=0) if centre else x
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    found = pca(sparse.csr_matrix(x) if as_sparse else x, 4, centre)
    # Equal up to sign, and the sign rule holds.
    np.testing.assert_allclose(np.abs((rows[:4] * found.directions.T).sum(axis=1)), 1, atol=1e-6)
    largest = np.abs(found.directions).argmax(axis=0)
    assert (found.directions[largest, np.arange(4)] > 0).all()
    np.testing.assert_allclose(
        found.apply(sparse.csr_matrix(x) if as_sparse else x),
        centred @ found.directions,
        atol=1e-10,
    )


def test_directions_without_variance_are_left_out():
    x = np.outer(np.arange(10.0), [1.0, 2.0, 2.0])
    assert pca(x, 3).directions.shape == (3, 1)
    assert pca(np.ones((5, 3)), 2).directions.shape == (3, 1)
    assert pca(np.ones((1, 1)), 5).directions.shape == (1, 1)


def test_runs_are_bit_identical_and_keep_float32():
    x = cloud().astype(np.float32)
    first, second = pca(x, 5), pca(x, 5)
    np.testing.assert_array_equal(first.directions, second.directions)
    assert first.apply(x).dtype == np.float32


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="at least 1"):
        pca(cloud(), 0)
    with pytest.raises(DataError, match="rows and columns"):
        pca(np.empty((0, 3)), 1)
    with pytest.raises(DataError, match=r"shape \(n, 3\)"):
        Projection(np.zeros(3), np.eye(3)).apply(np.ones((2, 4)))
