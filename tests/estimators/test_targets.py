"""Numbers and marks as targets, states without labels, and what all estimators share."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, r2_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline

from difformer import DIFFormerClassifier, DIFFormerEncoder, DIFFormerRegressor
from difformer.errors import ConfigError, DataError, RunError
from difformer.estimators.targets import Classes, Marks, Numbers, independent

SOME = {"encoder": "trained", "training": {"epochs": 30}}
ENCODERS = pytest.mark.parametrize("encoder", ["decoupled", "trained"])


def plane(rows=400, seed=0):
    """Two numbers that vary smoothly over a plane, noise beside it."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1, 1, (rows, 2))
    y = np.column_stack([np.sin(3 * x[:, 0]) + x[:, 1], 100 + 40 * x[:, 0] * x[:, 1]])
    return np.column_stack([x, np.ones(rows)]), y


def partly(y, every=4):
    known = (
        (np.arange(len(y)) % every == 0)[:, None] if y.ndim > 1 else np.arange(len(y)) % every == 0
    )
    return np.where(known, y, np.nan)


@ENCODERS
def test_numbers_are_learnt_in_their_own_units(encoder):
    x, y = plane()
    model = DIFFormerRegressor(encoder, training={"epochs": 150}).fit(x, partly(y))
    hidden = np.arange(len(y)) % 4 > 0
    assert r2_score(y[hidden], model.transduction_[hidden]) > 0.8
    assert np.array_equal(model.transduction_[~hidden], y[~hidden])
    new, truth = plane(100, seed=1)
    assert r2_score(truth, model.predict(new)) > 0.8
    assert model.score(new, truth) > 0.8


def test_one_number_a_row_keeps_its_shape():
    x, y = plane()
    one = DIFFormerRegressor().fit(x, partly(y[:, 0]))
    column = DIFFormerRegressor().fit(x, partly(y[:, :1]))
    assert one.predict(x[:3]).shape == one.transduction_[:3].shape == (3,)
    assert column.predict(x[:3]).shape == (3, 1)
    np.testing.assert_array_equal(one.transduction_, column.transduction_[:, 0])


def test_numbers_are_better_than_a_ridge_where_rows_are_near_each_other():
    x, y = plane()
    hidden, given = np.arange(len(y)) % 4 > 0, partly(y[:, 0])
    linear = Ridge().fit(x[~hidden], y[~hidden, 0]).predict(x[hidden])
    ours = DIFFormerRegressor().fit(x, given).transduction_[hidden]
    assert r2_score(y[hidden, 0], ours) > r2_score(y[hidden, 0], linear) + 0.05


def test_units_and_unknown_entries_do_not_matter():
    x, y = plane(100)
    given = partly(y)
    given[4, 0] = np.nan  # its other number is known
    model = DIFFormerRegressor().fit(x, given)
    assert model.transduction_[4, 1] == y[4, 1]
    scaled = DIFFormerRegressor().fit(x, given * 1000 - 7).transduction_
    np.testing.assert_allclose((scaled + 7) / 1000, model.transduction_, rtol=1e-4, atol=1e-4)


@ENCODERS
def test_marks_are_each_there_or_not(encoder):
    """The third mark is no linear function of the features."""
    x, _ = plane(600)
    y = np.stack([x[:, 0] > 0, x[:, 1] > 0.2, x[:, 0] * x[:, 1] > 0], 1).astype(int)
    given = np.where((np.arange(600) % 4 == 0)[:, None], y, -1)
    model = DIFFormerClassifier(encoder, training={"epochs": 150}).fit(x, given)
    hidden = np.arange(600) % 4 > 0
    base = MultiOutputClassifier(LogisticRegression()).fit(x[~hidden], y[~hidden])
    ours = f1_score(y[hidden], model.transduction_[hidden], average="micro")
    assert ours > 0.85
    assert ours > f1_score(y[hidden], base.predict(x[hidden]), average="micro") + 0.05
    assert np.array_equal(model.transduction_[~hidden], y[~hidden])
    proba = model.predict_proba(x + 0.01)
    assert proba.shape == (600, 3)
    assert ((proba >= 0) & (proba <= 1)).all()
    np.testing.assert_array_equal(model.predict(x + 0.01), proba > 0.5)
    assert model.classes_.tolist() == [0, 1, 2]


def test_marks_may_be_sparse_or_partly_known():
    x, y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    dense, thin = (DIFFormerClassifier(**SOME).fit(x, m) for m in (y, sparse.csr_matrix(y)))
    np.testing.assert_array_equal(dense.embedding_, thin.embedding_)
    some = y.astype(float)
    some[3, 1], some[4] = np.nan, -1
    model = DIFFormerClassifier(**SOME).fit(x, some)
    assert 0 < model.label_distributions_[3, 1] < 1
    assert abs(model.label_distributions_[3, 0] - y[3, 0]) < 1e-5
    assert ((model.label_distributions_[4] > 0) & (model.label_distributions_[4] < 1)).all()


def test_states_without_labels():
    x, y = load_iris(return_X_y=True)
    encoder = DIFFormerEncoder()
    states = encoder.fit_transform(x)
    assert states is encoder.embedding_
    assert encoder.history_ == []
    np.testing.assert_array_equal(DIFFormerClassifier().fit(x, y).embedding_, states)
    few = np.arange(150) % 10 == 0
    reader = LogisticRegression(max_iter=1000).fit(states[few], y[few])
    assert reader.score(states[~few], y[~few]) > 0.85
    line = make_pipeline(DIFFormerEncoder(), LogisticRegression(max_iter=1000))
    assert line.fit(x[::2], y[::2]).score(x[1::2], y[1::2]) > 0.85


def test_states_of_a_trained_encoder_need_labels():
    x, y = load_iris(return_X_y=True)
    with pytest.raises(DataError, match="learns from labels, found none"):
        DIFFormerEncoder("trained").fit(x)
    encoder = DIFFormerEncoder(**SOME).fit(x, y)
    np.testing.assert_array_equal(
        encoder.embedding_, DIFFormerClassifier(**SOME).fit(x, y).embedding_
    )


def test_class_weights_move_the_border():
    x, y = load_iris(return_X_y=True)
    few = np.where(np.arange(150) % 15 == 0, y, -1)
    plain, heavy = (
        DIFFormerClassifier(**SOME, class_weight=w).fit(x, few) for w in (None, {1: 20.0})
    )
    assert heavy.label_distributions_[:, 1].sum() > plain.label_distributions_[:, 1].sum() + 2
    same = DIFFormerClassifier(**SOME, class_weight={0: 1.0, 1: 1.0, 2: 1.0}).fit(x, few)
    np.testing.assert_allclose(same.label_distributions_, plain.label_distributions_, atol=1e-5)
    count = np.bincount(few[few >= 0])
    told = {c: count.sum() / (3 * n) for c, n in enumerate(count)}
    balanced, same = (
        DIFFormerClassifier(**SOME, class_weight=w).fit(x, few) for w in ("balanced", told)
    )
    np.testing.assert_array_equal(balanced.label_distributions_, same.label_distributions_)
    with pytest.raises(ConfigError, match="class_weight cannot be used"):
        DIFFormerClassifier(class_weight="heavy").fit(x, few)
    with pytest.raises(ConfigError, match="several marks a row"):
        DIFFormerClassifier(class_weight="balanced").fit(x, np.stack([y > 0, y > 1], 1))


def test_a_time_limit_ends_training():
    x, y = load_iris(return_X_y=True)
    options = {"training": {"epochs": 1_000_000}, "time_limit": 0.5}
    for encoder in ("decoupled", "trained"):
        model = DIFFormerClassifier(encoder, **options).fit(x, y)
        assert 1 <= model.n_iter_ < 1_000_000
    assert DIFFormerRegressor(time_limit=1e-9).fit(x, y).n_iter_ == 1
    with pytest.raises(ConfigError, match="time_limit"):
        DIFFormerClassifier(time_limit=0).fit(x, y)


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        (DIFFormerRegressor, np.full(5, np.nan), "at least one number"),
        (DIFFormerRegressor, np.array([1, 2, np.inf, 3, 4]), "found infinity"),
        (DIFFormerRegressor, list("abcde"), "must hold numbers"),
        (DIFFormerRegressor, np.zeros(4), r"for each of 5 rows, found \(4,\)"),
        (DIFFormerRegressor, None, "NaN where it is unknown"),
        (DIFFormerClassifier, np.full((5, 2), -1), "mark at least one row"),
        (DIFFormerClassifier, np.full((5, 2), 3), "1 or 0"),
        (DIFFormerClassifier, np.zeros((4, 2)), "each of 5 rows, found 4"),
        (DIFFormerClassifier, np.array([list("ab")] * 5), "found texts"),
    ],
)
def test_targets_that_say_nothing_are_refused(kind, y, message):
    with pytest.raises(DataError, match=message):
        kind().fit(np.eye(5), y)


MADE = {
    "numbers": (DIFFormerRegressor(**SOME), lambda x, y: y + 0.5),
    "columns": (DIFFormerRegressor(), lambda x, y: np.stack([y, x[:, 0]], 1)),
    "marks": (DIFFormerClassifier(), lambda x, y: np.stack([y > 0, y > 1], 1).astype(int)),
    "weighted": (
        DIFFormerClassifier(**SOME, class_weight={0: 1.0, 1: 2.0, 2: 1.0}),
        lambda x, y: y,
    ),
    "states": (DIFFormerEncoder(), lambda x, y: None),
    "taught": (DIFFormerEncoder(**SOME), lambda x, y: y),
}


@pytest.mark.parametrize("name", MADE)
def test_a_loaded_estimator_equals_the_saved_one(name, tmp_path):
    x, y = load_iris(return_X_y=True)
    model, target = MADE[name]
    model.fit(x, target(x, y)).save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    asked = np.concatenate([x[:3], x[:20] + 0.05])
    np.testing.assert_array_equal(loaded.transform(asked), model.transform(asked))
    if hasattr(model, "predict"):
        np.testing.assert_array_equal(loaded.predict(asked), model.predict(asked))
        np.testing.assert_array_equal(loaded.transduction_, model.transduction_)
    assert loaded.get_params() == model.get_params()


def test_a_model_is_loaded_by_its_own_class(tmp_path):
    DIFFormerEncoder().fit(np.eye(12)).save(tmp_path / "model")
    with pytest.raises(RunError, match="must hold a DIFFormerClassifier, found a DIFFormerEncoder"):
        DIFFormerClassifier.load(tmp_path / "model")


def test_objectives_of_targets_are_their_definitions():
    draw = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 6, 2, generator=draw)
    mask = torch.tensor([1, 1, 1, 0, 1, 0]).bool()
    marks = torch.tensor([[1, 0], [0, torch.nan], [1, 1], [0, 0], [0, 1], [1, 0]])
    found = Marks(marks).objective(0.0)(outputs, marks, mask)
    entries = [
        -(marks[i, k] * outputs[m, i, k].sigmoid().log())
        - (1 - marks[i, k]) * (1 - outputs[m, i, k].sigmoid()).log()
        for m in range(3) for i in range(6) for k in range(2)
        if mask[i] and marks[i, k].isfinite()
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(entries).mean())
    numbers = Numbers.of(marks * 10)
    found = numbers.objective(0.0)(outputs, numbers.y, mask)
    scaled = (numbers.y - numbers.centre) / numbers.spread
    entries = [
        (outputs[m, i, k] - scaled[i, k]) ** 2
        for m in range(3) for i in range(6) for k in range(2)
        if mask[i] and scaled[i, k].isfinite()
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(entries).mean())
    y = torch.tensor([0, 1, 1, -1, 0, -1])
    weight = torch.tensor([1.0, 3.0])
    found = independent(Classes(y, 2, weight).objective(0.0))(outputs, y, mask)
    logs = outputs.log_softmax(-1)
    total = sum(-weight[y[i]] * logs[m, i, y[i]] for m in range(3) for i in range(6) if mask[i])
    torch.testing.assert_close(found, total / weight[y[mask]].sum())
