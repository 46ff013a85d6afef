"""Where labels are many and a graph is observed, hidden labels choose the encoder."""

import numpy as np
import pytest

from difformer import DIFFormerClassifier, DIFFormerEncoder, DIFFormerRegressor
from difformer.estimators import auto
from difformer.estimators.auto import CANDIDATES
from difformer.training import TrainingConfig

N = 700


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Two candidates and few epochs: what is chosen here is clear soon."""
    monkeypatch.setattr(auto, "CANDIDATES", CANDIDATES[:2])  # features alone, a network
    monkeypatch.setattr(auto, "_TRAINING", {**auto._TRAINING, "epochs": 40, "patience": 20})


def rows(kind):
    """Neighbours of the same class; or neighbours of any class whose features tell one's own."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=N)
    source, target = rng.integers(N, size=(2, 20 * N))
    if kind == "alike":
        x, kept = rng.normal(size=(N, 8)), y[source] == y[target]
    else:
        said = rng.integers(3, size=N)  # to whom one speaks
        x = np.hstack([np.eye(3)[said], rng.normal(size=(N, 5))])
        kept = said[source] == y[target]
    kept &= rng.random(len(kept)) < 0.3
    known = np.where(rng.random(N) < 0.8, y, -1)
    return x, y, known, np.stack([source, target])[:, kept]


def accuracy(model, y, known):
    return (model.transduction_ == y)[known < 0].mean()


def test_decoupled_diffusion_stays_where_it_is_as_good():
    x, y, known, edges = rows("alike")
    model = DIFFormerClassifier().fit(x, known, edge_index=edges)
    assert model.engine_.name == "decoupled"
    assert model.decisions_[0].startswith("Encoder: decoupled diffusion (of 3, judged by 1")
    plain = DIFFormerClassifier(encoder="decoupled").fit(x, known, edge_index=edges)
    np.testing.assert_array_equal(model.label_distributions_, plain.label_distributions_)
    assert accuracy(model, y, known) > 0.9


@pytest.fixture(scope="module")
def misled():
    return rows("told")


@pytest.mark.parametrize("given", [False, True], ids=["labels", "validation"])
def test_a_trained_encoder_is_taken_where_it_is_better(misled, given, tmp_path):
    x, y, known, edges = misled
    validation = None
    if given:
        chooses = np.arange(N) < 150
        validation, known = (chooses, y), np.where(chooses, -1, known)
    model = DIFFormerClassifier().fit(x, known, edge_index=edges, validation=validation)
    assert model.engine_.name == "trained"
    assert "a network over the graph" in model.decisions_[0]
    plain = DIFFormerClassifier(encoder="decoupled").fit(x, known, edge_index=edges)
    assert accuracy(model, y, known) > 0.9 > accuracy(plain, y, known) + 0.05
    again = DIFFormerClassifier().fit(x, known, edge_index=edges, validation=validation)
    np.testing.assert_array_equal(model.label_distributions_, again.label_distributions_)
    model.save(tmp_path / "run")
    loaded = DIFFormerClassifier.load(tmp_path / "run")
    assert loaded.encoder == "auto"
    assert loaded.decisions_ == model.decisions_
    asked = x[:3] + 0.01, edges[:, edges[1] < 3]
    np.testing.assert_array_equal(loaded.predict_proba(*asked), model.predict_proba(*asked))


def test_numbers_are_judged_too(misled):
    x, y, known, edges = misled
    numbers = np.where(known < 0, np.nan, 10.0 * y)
    model = DIFFormerRegressor().fit(x, numbers, edge_index=edges)
    assert model.engine_.name == "trained"
    assert abs(model.transduction_ - 10.0 * y).mean() < 2


@pytest.mark.parametrize(
    "settings",
    [
        {"options": {"source": 0.1}},
        {"diffusivity": "local"},
        {"training": {"epochs": 20}},
        {"time_limit": 60.0},
        {"encoder": "decoupled"},
    ],
    ids=["options", "diffusivity", "training", "time", "encoder"],
)
def test_who_decides_something_gets_no_comparison(misled, settings):
    x, _, known, edges = misled
    model = DIFFormerClassifier(**settings).fit(x, known, edge_index=edges)
    assert model.engine_.name == "decoupled"
    assert not any("Encoder" in sentence for sentence in model.decisions_)


def test_what_the_command_line_spells_out_decides_nothing(misled):
    x, _, known, edges = misled
    spelt = TrainingConfig(epochs=100, eval_every=10, seed=3, checkpoint_every=7).model_dump()
    model = DIFFormerClassifier(training=spelt).fit(x, known, edge_index=edges)
    assert model.engine_.name == "trained"


def test_neither_without_edges_nor_with_few_labels(misled):
    x, _, known, edges = misled
    few = np.where(np.arange(N) < 300, known, -1)
    for model in (
        DIFFormerClassifier().fit(x, known),
        DIFFormerClassifier().fit(x, few, edge_index=edges),
    ):
        assert model.engine_.name == "decoupled"
        assert not any("Encoder" in sentence for sentence in model.decisions_)
    assert DIFFormerEncoder().fit(x, known, edge_index=edges).engine_.name == "decoupled"
