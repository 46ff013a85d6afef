"""Features on one scale, not too wide, the same for new rows."""

import numpy as np
import pytest
from scipy import sparse

from difformer.errors import DataError
from difformer.estimators.features import NARROWEST, WIDEST, FeatureMap


def made(rows, width, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def counts(rows, width, seed=0):
    return sparse.random(
        rows, width, density=0.05, format="csr", dtype=np.float32, random_state=seed
    )


CASES = {
    "narrow": made(40, 3),
    "one column": made(40, 1),
    "middle": made(40, 30),
    "wide": made(40, WIDEST + 40),
    "narrow sparse": counts(40, 5),
    "middle sparse": counts(40, 60),
    "wide sparse": counts(40, 500),
}


@pytest.mark.parametrize("x", CASES.values(), ids=CASES.keys())
def test_rows_have_norm_4_and_a_file_keeps_the_map(x):
    features = FeatureMap.fit(x)
    rows = features.apply(x).numpy()
    assert rows.dtype == np.float32
    norms = np.linalg.norm(rows, axis=1)
    empty = abs(x).sum(axis=1) == 0
    np.testing.assert_allclose(norms[~np.ravel(empty)], 4, rtol=1e-6)
    again = FeatureMap.from_tensors(features.tensors())
    assert (again.width, again.constant) == (features.width, features.constant)
    np.testing.assert_array_equal(again.apply(x).numpy(), rows)


@pytest.mark.parametrize("width", [20, WIDEST + 40])
def test_dense_and_sparse_rows_give_the_same(width):
    x = counts(50, width)
    dense = FeatureMap.fit(x.toarray())
    thin = FeatureMap.fit(x)
    np.testing.assert_allclose(dense.apply(x).numpy(), thin.apply(x).numpy(), atol=1e-5)
    np.testing.assert_allclose(dense.apply(x.toarray()), dense.apply(x), atol=1e-6)


def test_middle_widths_are_only_scaled():
    x = made(10, 20)
    expected = 4 * x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(FeatureMap.fit(x).apply(x).numpy(), expected, rtol=1e-5)


def test_wide_features_become_the_largest_uncentred_directions():
    x = made(300, WIDEST + 64)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    _, _, directions = np.linalg.svd(unit.astype(np.float64), full_matrices=False)
    kept = unit @ directions[:WIDEST].T
    expected = 16 * (kept @ kept.T) / np.outer(*2 * [np.linalg.norm(kept, axis=1)])
    rows = FeatureMap.fit(x).apply(x).numpy()
    assert rows.shape == (300, WIDEST)
    np.testing.assert_allclose(rows @ rows.T, expected, atol=2e-4)


def test_a_constant_column_stands_beside_few_dense_features_only():
    assert FeatureMap.fit(made(20, NARROWEST)).constant is None
    assert FeatureMap.fit(sparse.csr_matrix(made(20, 3))).constant is None
    x = made(20, NARROWEST - 1)
    features = FeatureMap.fit(x)
    assert features.constant == pytest.approx(np.sqrt((x**2).sum(axis=1).mean()), rel=1e-6)
    assert features.apply(x).shape == (20, NARROWEST)
    assert features.apply(made(3, NARROWEST - 1, seed=1)).shape == (3, NARROWEST)


def test_the_constant_keeps_points_on_a_ray_apart():
    x = np.array([[1.0, 0.0], [3.0, 0.0]], dtype=np.float32)
    near, far = FeatureMap.fit(x).apply(x).numpy()
    assert near @ far < 0.95 * 16
    c = np.sqrt(5)  # root mean square of the lengths 1 and 3
    np.testing.assert_allclose(near, 4 * np.array([1, 0, c]) / np.sqrt(1 + 5), rtol=1e-6)


def test_scale_does_not_matter():
    x = made(20, 3)
    np.testing.assert_allclose(
        FeatureMap.fit(1000 * x).apply(1000 * x), FeatureMap.fit(x).apply(x), rtol=1e-5
    )


@pytest.mark.parametrize("width", [20, WIDEST + 4])
def test_zero_rows_stay_zero(width):
    x = made(30, width)
    x[4] = 0
    rows = FeatureMap.fit(x).apply(x).numpy()
    assert (rows[4] == 0).all()
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("width", [2, 20, WIDEST + 4])
def test_a_set_of_zeros(width):
    features = FeatureMap.fit(np.zeros((5, width), dtype=np.float32))
    assert features.constant == (1 if width < NARROWEST else None)
    assert np.isfinite(features.apply(np.zeros((2, width), dtype=np.float32)).numpy()).all()


@pytest.mark.parametrize("x", CASES.values(), ids=CASES.keys())
def test_another_width_is_refused(x):
    features = FeatureMap.fit(x)
    for other in (x[:, :0], sparse.csr_matrix(np.ones((2, x.shape[1] + 1), dtype=np.float32))):
        with pytest.raises(DataError, match=f"{x.shape[1]} features as in fit, found"):
            features.apply(other)


def test_nothing_given_is_changed():
    for x in (made(9, 3), made(9, 20), made(30, WIDEST + 1)):
        before = x.copy()
        FeatureMap.fit(x).apply(x)
        np.testing.assert_array_equal(x, before)
