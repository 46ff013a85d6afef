"""ONNX files say what torch says."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from difformer import DIFFormerClassifier, DIFFormerEncoder, DIFFormerRegressor
from difformer.errors import ConfigError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
SOME = {"encoder": "trained", "training": {"epochs": 20}}
MODELS = {
    "classes": (DIFFormerClassifier(**SOME), Y),
    "heads": (DIFFormerClassifier(**SOME, options={"heads": 2, "num_layers": 3, "source": 0.1}), Y),
    "late": (DIFFormerClassifier(**SOME, options={"activation": "output", "norm": None}), Y),
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


@pytest.mark.parametrize(
    "options",
    [{}, {**SOME, "diffusivity": "sigmoid"}, {**SOME, "diffusivity": ("simple", "local")}],
)
def test_what_needs_more_than_sums_is_refused(options, tmp_path):
    model = DIFFormerClassifier(**options).fit(X, Y)
    with pytest.raises(ConfigError, match="no more than sums"):
        model.export_onnx(tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
