"""Small and odd sets: probabilities are finite and sum to 1, whatever the set looks like."""

import numpy as np
import pytest

from difformer import DIFFormerClassifier

ENCODERS = ("decoupled", "trained")


def normal(rows, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, width))


def two(rows):
    y = np.full(rows, -1)
    y[0], y[-1] = 0, 1
    return y


def zero_row():
    x = normal(30, 20)
    x[7] = 0
    return x


def duplicates():
    return np.repeat(normal(6), [20, 1, 1, 1, 20, 3], axis=0)


def outlier():
    """Far from two tight groups: its rates underflow."""
    x = 0.01 * normal(41, 3)
    x[:20, 0] += 1
    x[20:40, 1] += 1
    x[40] += [0, 0, 1]
    return x


CASES = {
    "two rows": (normal(2), None),
    "three rows": (normal(3), None),
    "fewer rows than neighbours": (normal(12), None),
    "one row more than neighbours": (normal(17, 40), None),
    "one column": (normal(30, 1), None),
    "more columns than rows": (normal(8, 300), None),
    "all rows equal": (np.ones((20, 5)), None),
    "all rows equal and wide": (np.ones((20, 30)), None),
    "all rows zero": (np.zeros((20, 5)), None),
    "all rows zero and wide": (np.zeros((20, 300)), None),
    "one row zero": (zero_row(), None),
    "duplicates": (duplicates(), None),
    "an outlier": (outlier(), None),
    "huge": (1e15 * normal(20, 20), None),
    "tiny": (1e-15 * normal(20, 20), None),
    "no edges": (normal(20), np.zeros((2, 0), dtype=int)),
    "isolated nodes": (normal(20), np.array([[0, 1], [1, 0]])),
    "directed edges": (normal(20), np.array([[0, 1, 2], [5, 5, 6]])),
    "self-loops only": (normal(20), np.array([[3, 4], [3, 4]])),
    "repeated edges": (normal(20), np.array([[0, 0, 0], [1, 1, 1]])),
    "one row zero, with edges": (zero_row(), np.array([[7, 8], [8, 7]])),
    "two rows, one edge": (normal(2), np.array([[0], [1]])),
}


def check(probabilities, rows, classes=2):
    assert probabilities.shape == (rows, classes)
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def check_model(model, x):
    check(model.label_distributions_, len(x))
    assert np.isfinite(model.embedding_).all()
    for new in (x[:3], 2 * x[:1] + 1, 0 * x[:1]):
        check(model.predict_proba(new), len(new))
        assert np.isfinite(model.transform(new)).all()


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("x", "edges"), CASES.values(), ids=CASES.keys())
def test_probabilities(encoder, x, edges):
    y = two(len(x))
    scale = max(1.0, np.abs(x).max()) if encoder == "trained" else 1.0  # it takes X as it is
    x = x / scale
    model = DIFFormerClassifier(encoder, training={"epochs": 15}).fit(x, y, edges)
    check_model(model, x)
    assert model.transduction_[[0, -1]].tolist() == [0, 1]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("weights", [[0.0, 0.0], [1e-30, 1e-30], [1e30, 1e30], [0.5, 3.0]])
def test_edge_weights(encoder, weights):
    x = normal(20)
    edges = np.array([[0, 1], [1, 0]])
    model = DIFFormerClassifier(encoder, training={"epochs": 15}).fit(x, two(20), edges, weights)
    check_model(model, x)
    check(model.predict_proba(x[:2], [[0, 1], [0, 1]], weights), 2)


def test_equal_rows_get_equal_answers():
    x = np.repeat(normal(6), 3, axis=0)
    model = DIFFormerClassifier(training={"epochs": 15}).fit(x, two(18))
    unlabelled = model.label_distributions_[3:15].reshape(4, 3, 2)
    # Ties among equal rows go to the lower number, so neighbourhoods of twins differ a little.
    assert np.ptp(unlabelled, axis=1).max() < 0.1
    answers = model.predict_proba(np.repeat(normal(2, seed=5), 4, axis=0))
    np.testing.assert_allclose(answers[:4], np.repeat(answers[:1], 4, axis=0), atol=1e-6)


def test_edge_weights_matter_and_unit_weights_are_the_default():
    x = normal(30)
    edges = np.array([[0, 29], [15, 15]])

    def at_15(weight):
        model = DIFFormerClassifier(training={"epochs": 15}).fit(x, two(30), edges, weight)
        return model.label_distributions_[15, 1]

    assert at_15([1.0, 9.0]) > at_15(None) + 0.05 > at_15([9.0, 1.0]) + 0.1
    assert at_15(None) == at_15([1.0, 1.0])


@pytest.mark.parametrize("ratio", [18.0, 24.0, 25.5, 30.0])
def test_a_row_whose_rates_nearly_vanish(ratio):
    """Rates are exp(-4 x / (s_i s_j)): for such a row between the normal numbers and zero."""
    rng = np.random.default_rng(0)
    angle = np.concatenate([np.linspace(0, 0.001, 20), np.linspace(1.5, 1.501, 20), [0.0]])
    angle[40] = angle[:20].mean() + ratio * 0.0005
    x = np.column_stack([np.cos(angle), np.sin(angle), np.zeros((41, 18))])
    x[:, 2:] += 1e-9 * rng.normal(size=(41, 18))
    y = two(41)
    y[39], y[40] = 1, -1
    model = DIFFormerClassifier(training={"epochs": 15}).fit(x, y)
    check_model(model, x)
