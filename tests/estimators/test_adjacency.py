"""The encoder also sees, as features, whom each row hears."""

import numpy as np
import pytest
import torch
from scipy import sparse

from difformer import DIFFormerClassifier
from difformer.errors import ConfigError

N, NEW = 40, 3
EDGES = np.array([[0, 5, 5, 7], [0, 0, 1, 1]])  # known rows that send, new rows that receive
WEIGHT = np.array([2.0, 1.0, 0.5, 1.0])


@pytest.fixture(scope="module")
def fitted():
    """Who your neighbours are says it all: two hubs, one of each class; features are noise."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(N, 4)), np.arange(N) % 2
    edges = np.stack([np.arange(N) % 2, np.arange(N)])
    model = DIFFormerClassifier(
        encoder="trained",
        diffusivity="identity",
        training={"epochs": 60},
        options={"adjacency": True, "graph": False, "hidden_channels": 16},
    )
    known = np.where(np.arange(N) < N // 2, y, -1)
    return model.fit(x, known, edge_index=edges), x, y


def test_it_learns_from_whom_rows_hear(fitted):
    model, x, y = fitted
    assert (model.transduction_ == y)[N // 2 :].mean() > 0.9
    said = model.predict(x[:NEW], edge_index=np.array([[0, 1, 0], [0, 1, 2]]))
    assert said.tolist() == [0, 1, 0]


def test_a_new_row_is_its_features_and_the_weights_of_its_edges(fitted):
    model, x, _ = fitted
    edges, weight = torch.from_numpy(EDGES), torch.from_numpy(WEIGHT)
    rows = model.engine_._rows(x[:NEW].astype(np.float32), edges, weight).to_dense().numpy()
    expected = np.zeros((NEW, N))
    np.add.at(expected, (EDGES[1], EDGES[0]), WEIGHT)
    np.testing.assert_array_equal(rows, np.hstack([x[:NEW].astype(np.float32), expected]))


def test_sparse_features_and_rows_without_edges(fitted):
    model, x, _ = fitted
    dense = model.predict_proba(x[:NEW], edge_index=EDGES, edge_weight=WEIGHT)
    given = sparse.csr_matrix(x[:NEW])
    np.testing.assert_allclose(
        model.predict_proba(given, edge_index=EDGES, edge_weight=WEIGHT), dense, atol=1e-6
    )
    assert np.isfinite(model.predict_proba(x[:NEW] + 1)).all()


def test_it_is_saved(fitted, tmp_path):
    model, x, _ = fitted
    model.save(tmp_path / "run")
    again = DIFFormerClassifier.load(tmp_path / "run")
    asked = {"edge_index": EDGES, "edge_weight": WEIGHT}
    np.testing.assert_array_equal(
        again.predict_proba(x[:NEW], **asked), model.predict_proba(x[:NEW], **asked)
    )


@pytest.mark.parametrize(
    ("options", "edges", "says"),
    [
        ({"adjacency": True}, None, "adjacency needs an observed graph"),
        ({"adjacency": "yes"}, EDGES, "adjacency must be True or False, found 'yes'"),
    ],
)
def test_what_cannot_be_is_refused(fitted, options, edges, says):
    _, x, y = fitted
    model = DIFFormerClassifier(encoder="trained", options=options)
    with pytest.raises(ConfigError, match=says):
        model.fit(x, y, edge_index=edges)
