"""Training on parts of the rows, judged and predicted on all of them."""

import numpy as np
import pytest
import torch
from scipy import sparse

from difformer import DIFFormerClassifier
from difformer.errors import ConfigError
from difformer.training import TrainingConfig
from difformer.training.objectives import cross_entropy
from difformer.training.trainer import Batch, train

N = 240


@pytest.fixture(scope="module")
def rows():
    """Two classes; edges mostly join likes, and features say a little."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=N)
    x = rng.normal(size=(N, 6)) + 1.0 * y[:, None]
    source, target = rng.integers(N, size=(2, 12 * N))
    like = (y[source] == y[target]) | (rng.random(12 * N) < 0.1)
    return x, y, np.where(rng.random(N) < 0.2, y, -1), np.stack([source, target])[:, like]


def fitted(rows, x=None, **training):
    features, _, known, edges = rows
    model = DIFFormerClassifier(
        encoder="trained", training={"epochs": 30, "eval_every": 30, **training}
    )
    return model.fit(features if x is None else x, known, edge_index=edges)


@pytest.mark.parametrize("kind", ["random", "clusters"])
def test_it_learns_from_parts(rows, kind):
    if kind == "clusters":
        pytest.importorskip("pymetis")
    model = fitted(rows, batch_size=60, batches=kind)
    assert (model.transduction_ == rows[1])[rows[2] < 0].mean() > 0.85
    assert model.transduction_.shape == (N,)


def test_the_same_seed_gives_the_same_bits(rows):
    first, second = (fitted(rows, batch_size=50) for _ in range(2))
    np.testing.assert_array_equal(first.label_distributions_, second.label_distributions_)


def test_sparse_features_are_divided_too(rows):
    dense = fitted(rows, batch_size=50)
    again = fitted(rows, sparse.csr_matrix(rows[0]), batch_size=50)
    np.testing.assert_allclose(again.label_distributions_, dense.label_distributions_, atol=1e-3)


def test_a_batch_of_all_rows_is_no_batch(rows):
    whole, batch = fitted(rows), fitted(rows, batch_size=N)
    np.testing.assert_array_equal(batch.label_distributions_, whole.label_distributions_)


def simple_training(batches):
    torch.manual_seed(0)
    x = torch.randn(8, 3)
    y = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    mask = torch.arange(8) < 4
    model = torch.nn.Linear(3, 2)
    config = TrainingConfig(epochs=5, optimizer="adam")
    made = None
    if batches is not None:
        made = lambda epoch: (  # noqa: E731
            Batch(some, lambda some=some: model(x[some])) for some in batches
        )
    result = train(model, lambda: model(x), y, mask, config, objective=cross_entropy, batches=made)
    return result, model


def test_a_batch_without_labels_adds_nothing():
    alone, expected = simple_training([torch.arange(4)])
    beside, found = simple_training([torch.arange(4), torch.arange(4, 8)])
    whole, _ = simple_training(None)
    assert torch.equal(found.weight, expected.weight)
    losses = [[r["train_loss"] for r in result.history] for result in (alone, beside, whole)]
    assert losses[0] == losses[1] == losses[2]


def test_every_batch_is_a_step():
    one, _ = simple_training([torch.arange(4)])
    two, _ = simple_training([torch.arange(2), torch.arange(2, 4)])
    assert two.history[-1]["train_loss"] < one.history[-1]["train_loss"]


@pytest.mark.parametrize(
    ("encoder", "training", "edges", "says"),
    [
        ("decoupled", {"batch_size": 9}, True, "batch_size limits training .* encoder='trained'"),
        ("trained", {"batch_size": 9, "batches": "clusters"}, False, "needs an observed graph"),
        ("trained", {"batch_size": 0}, True, "batch_size"),
        ("trained", {"batches": "metis"}, True, "batches must be 'random' or 'clusters'"),
    ],
)
def test_what_cannot_be_is_refused(rows, encoder, training, edges, says):
    model = DIFFormerClassifier(encoder=encoder, training=training)
    with pytest.raises(ConfigError, match=says):
        model.fit(rows[0], rows[2], edge_index=rows[3] if edges else None)
