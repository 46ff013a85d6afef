"""ONNX files say what torch says."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from difformer import DIFFormerClassifier, DIFFormerEncoder, DIFFormerRegressor
from difformer.diffusion import Neighbourhood
from difformer.errors import ConfigError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
SOME = {"encoder": "trained", "training": {"epochs": 20}}
HIDDEN = np.where(np.arange(len(Y)) % 5 == 0, Y, -1)
LEARNT = Neighbourhood(k=6, space="state", weights="self-tuned", metric="euclidean")
MODELS = {
    "decoupled": (DIFFormerClassifier(training={"epochs": 20}), HIDDEN),
    "decoupled numbers": (DIFFormerRegressor(training={"epochs": 20}), 100 * Y + 7.0),
    "no label steps": (DIFFormerClassifier(options={"label_steps": 0, "steps": 3}), HIDDEN),
    "sigmoid": (DIFFormerClassifier(**SOME, diffusivity="sigmoid"), HIDDEN),
    "local": (DIFFormerClassifier(**SOME, diffusivity="local"), HIDDEN),
    "mixed": (DIFFormerClassifier(**SOME, diffusivity=("simple", LEARNT, "identity")), HIDDEN),
    "joint": (
        DIFFormerClassifier(**SOME, diffusivity=("sigmoid", "local"), options={"mix": "joint"}),
        HIDDEN,
    ),
    "classes": (DIFFormerClassifier(**SOME), Y),
    "heads": (DIFFormerClassifier(**SOME, options={"heads": 2, "num_layers": 3, "source": 0.1}), Y),
    "late": (DIFFormerClassifier(**SOME, options={"activation": "output", "norm": None}), Y),
    "jump": (DIFFormerClassifier(**SOME, options={"activation": "each", "jump": True}), Y),
    "marks": (DIFFormerClassifier(**SOME), np.stack([Y > 0, Y > 1], 1)),
    "numbers": (DIFFormerRegressor(**SOME), 100 * Y + 7.0),
    "states": (DIFFormerEncoder(**SOME), Y),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_file_says_what_the_estimator_says(name, tmp_path):
    model, y = MODELS[name]
    path = tmp_path / "model.onnx"
    model.fit(X, y).export_onnx(path)
    session = onnxruntime.InferenceSession(path)
    for rows in (X[:1] + 0.0123, X[:2] - 0.0123, X + 0.0123):
        answers, states = session.run(None, {"features": rows})
        np.testing.assert_allclose(states, model.transform(rows), atol=1e-5 * np.abs(states).max())
        if hasattr(model, "predict_proba"):
            np.testing.assert_allclose(answers, model.predict_proba(rows), atol=1e-5)
        elif hasattr(model, "predict"):
            np.testing.assert_allclose(answers[:, 0], model.predict(rows), rtol=1e-5)


def test_many_features_are_reduced_in_the_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 300)).astype(np.float32)
    model = DIFFormerClassifier(training={"epochs": 5}).fit(x, np.arange(60) % 3)
    model.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    rows = x[:7] + 0.3 * rng.normal(size=(7, 300)).astype(np.float32)
    answers, _ = session.run(None, {"features": rows})
    np.testing.assert_allclose(answers, model.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {**SOME, "diffusivity": "sigmoid"}])
def test_what_was_fitted_with_edges_is_refused(options, tmp_path):
    edges = np.array([[0, 1], [1, 0]])
    model = DIFFormerClassifier(**options).fit(X, Y, edges)
    with pytest.raises(ConfigError, match="without edges"):
        model.export_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_for_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("difformer.estimators.export.LARGEST", 1 << 10)
    with pytest.raises(ConfigError, match="at most 0 MiB of fitted rows"):
        DIFFormerClassifier(training={"epochs": 5}).fit(X, Y).export_onnx(tmp_path / "model.onnx")
