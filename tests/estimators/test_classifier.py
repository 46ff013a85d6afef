"""DIFFormerClassifier keeps scikit-learn's contract."""

from typing import ClassVar

import estimator_cases as cases
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from difformer import DIFFormerClassifier
from difformer.diffusion import Neighbourhood, welsch
from difformer.errors import ConfigError, DataError
from difformer.runs.directory import RunDirectory

ENCODERS = ("decoupled", "trained")
SHORT = {"epochs": 20}


@pytest.fixture(scope="module")
def rows():
    return cases.digits(150)


@pytest.fixture(scope="module", params=ENCODERS)
def fitted(request, rows):
    return DIFFormerClassifier(request.param, training=SHORT).fit(rows[0], rows[2])


def test_fitted_attributes(fitted, rows):
    x, _, known = rows
    assert fitted.classes_.tolist() == list(range(10))
    assert fitted.n_features_in_ == 64
    assert fitted.label_distributions_.shape == (150, 10)
    assert fitted.label_distributions_.dtype == np.float64
    assert (fitted.label_distributions_ >= 0).all()
    np.testing.assert_allclose(fitted.label_distributions_.sum(axis=1), 1, atol=1e-6)
    assert fitted.embedding_.shape == (150, 64)
    assert np.isfinite(fitted.embedding_).all()
    labelled = known >= 0
    np.testing.assert_array_equal(fitted.transduction_[labelled], known[labelled])
    best = fitted.label_distributions_.argmax(axis=1)
    np.testing.assert_array_equal(fitted.transduction_[~labelled], best[~labelled])
    assert fitted.n_iter_ == len(fitted.history_) == 20
    assert [record["epoch"] for record in fitted.history_] == list(range(1, 21))
    assert fitted.predict_proba(x[:4]).shape == (4, 10)
    assert fitted.transform(x[:4]).shape == (4, 64)
    assert 0 <= fitted.score(x[:50], rows[1][:50]) <= 1


def test_a_labelled_row_keeps_its_label_against_all_neighbours(rows):
    x, _, known = rows
    odd = known.copy()
    row = int(np.flatnonzero(known == 3)[0])
    odd[row] = 8
    for encoder in ENCODERS:
        model = DIFFormerClassifier(encoder, training={"epochs": 1}).fit(x, odd)
        assert model.transduction_[row] == 8


@pytest.mark.parametrize("encoder", ENCODERS)
def test_same_seed_same_bits(encoder, rows):
    x, _, known = rows

    def answers(seed):
        model = DIFFormerClassifier(encoder, training=SHORT, random_state=seed).fit(x, known)
        return model.label_distributions_, model.predict_proba(x[:5] * 1.1)

    first, again, other = answers(1), answers(1), answers(2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_fit_leaves_its_arguments_and_the_global_generators_alone(rows):
    x, y, known = rows
    edge_index, weight = cases.ring_edges(y)
    before = [a.copy() for a in (x, known, edge_index, weight)]
    streams = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for encoder in ENCODERS:
        model = DIFFormerClassifier(encoder, training=SHORT).fit(x, known, edge_index, weight)
        model.predict(x[:5])
    for was, now in zip(before, (x, known, edge_index, weight), strict=True):
        np.testing.assert_array_equal(was, now)
    assert torch.equal(streams[0], torch.get_rng_state())
    np.testing.assert_array_equal(streams[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("form", [np.array, sparse.csr_matrix], ids=["dense", "csr"])
def test_later_changes_of_the_callers_arrays_do_not_matter(encoder, form, rows):
    x, y, known = rows
    given, (edge_index, weight) = form(x), cases.ring_edges(y)
    weight = weight.astype(np.float32)
    model = DIFFormerClassifier(encoder, training=SHORT).fit(given, known, edge_index, weight)
    before = model.predict_proba(x[:5])
    (given.data if sparse.issparse(given) else given)[:] = 1
    edge_index[:] = 0
    weight[:] = 9
    np.testing.assert_array_equal(model.predict_proba(x[:5]), before)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_arrays_that_cannot_be_written_to(encoder, rows):
    x, y, known = (a.copy() for a in rows)
    edge_index, weight = cases.ring_edges(y)
    for array in (x, known, edge_index, weight):
        array.flags.writeable = False
    model = DIFFormerClassifier(encoder, training=SHORT).fit(x, known, edge_index, weight)
    model.predict(x[:3], edge_index[:, :0], weight[:0])


def test_tables_lists_and_other_number_types(rows):
    x, _, known = rows
    expected = DIFFormerClassifier(training=SHORT).fit(x, known).label_distributions_
    for other in (pd.DataFrame(x), x.tolist(), x.astype(int), x.astype(np.float64)):
        labels = pd.Series(known) if isinstance(other, pd.DataFrame) else known
        model = DIFFormerClassifier(training=SHORT).fit(other, labels)
        np.testing.assert_array_equal(model.label_distributions_, expected)
    coo = DIFFormerClassifier(training=SHORT).fit(sparse.coo_array(x), known)
    np.testing.assert_allclose(coo.label_distributions_, expected, atol=1e-3)


def test_class_names_do_not_change_the_answer(rows):
    x, _, known = rows
    expected = DIFFormerClassifier(training=SHORT).fit(x, known)
    spread = np.where(known < 0, -1, 10 * known + 5)
    names = [None if k < 0 else f"digit {k}" for k in known]
    for labels, name in ((spread, lambda k: 10 * k + 5), (names, lambda k: f"digit {k}")):
        model = DIFFormerClassifier(training=SHORT).fit(x, labels)
        assert model.classes_.tolist() == [name(k) for k in range(10)]
        np.testing.assert_array_equal(model.label_distributions_, expected.label_distributions_)
        assert model.transduction_.tolist() == [name(k) for k in expected.transduction_]
        assert model.predict(x[:3]).tolist() == [name(k) for k in expected.predict(x[:3])]


def test_clone_and_parameters():
    terms = ("simple", Neighbourhood(k=3), welsch(0.5))
    model = DIFFormerClassifier(
        "trained", terms, options={"num_layers": 3}, training=SHORT, random_state=4, verbose=True
    )
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    assert set(model.get_params()) == {
        "encoder", "diffusivity", "options", "training", "class_weight", "random_state",
        "time_limit", "verbose",
    }  # fmt: skip
    assert copy.set_params(encoder="decoupled", diffusivity=None).encoder == "decoupled"
    with pytest.raises(ValueError, match="Invalid parameter"):
        copy.set_params(layers=3)
    assert "random_state=4" in repr(model)


def test_fit_does_not_change_parameters(rows):
    training, options = {"epochs": 2}, {"steps": 3}
    model = DIFFormerClassifier(training=training, options=options).fit(rows[0], rows[2])
    assert model.get_params()["training"] is training
    assert (training, options) == ({"epochs": 2}, {"steps": 3})
    assert clone(model).fit(rows[0], rows[2]).n_iter_ == 2


def test_unfitted_is_an_error(tmp_path):
    model = DIFFormerClassifier()
    for ask in (
        lambda: model.predict(np.ones((2, 3))),
        lambda: model.predict_proba(np.ones((2, 3))),
        lambda: model.transform(np.ones((2, 3))),
        lambda: model.trace(),
        lambda: model.save(tmp_path / "model"),
    ):
        with pytest.raises(NotFittedError, match="fitted first: call fit or load"):
            ask()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            {"encoder": "magic"},
            "encoder must be one of 'auto', 'decoupled', 'trained', found 'magic'",
        ),
        ({"diffusivity": "magic"}, "'simple'.*found 'magic'"),
        ({"diffusivity": "simple"}, "'decoupled' needs fixed rates.*'simple'; use .*'trained'"),
        ({"diffusivity": ("local", "sigmoid")}, "found diffusivity 'sigmoid'"),
        ({"diffusivity": "identity"}, "found diffusivity 'identity'"),
        ({"diffusivity": "graph_attention"}, "found diffusivity 'graph_attention'"),
        ({"diffusivity": Neighbourhood(space="state")}, "found diffusivity 'local'"),
        ({"training": {"epoch": 3}}, "Unknown setting 'epoch'; did you mean 'epochs'"),
        ({"training": {"epochs": 0}}, "epochs must be greater than or equal to 1, found 0"),
        ({"training": {"learning_rate": float("nan")}}, "learning_rate"),
        ({"options": {"stepz": 3}}, "each key of options must be .*'steps'.*, found 'stepz'"),
        ({"options": {"num_layers": 3}}, "found 'num_layers'"),
        ({"encoder": "trained", "options": {"steps": 3}}, "'num_layers'.*found 'steps'"),
        ({"random_state": "0"}, "random_state must be a whole number, .*found '0'"),
        ({"random_state": True}, "random_state must be a whole number, .*found True"),
        ({"random_state": 1.5}, "random_state must be a whole number, .*found 1.5"),
        ({"random_state": -1}, "seed must be greater than or equal to 0, found -1"),
    ],
)
def test_parameters_are_checked_before_the_data(parameters, says):
    model = DIFFormerClassifier(**parameters)
    with pytest.raises(ConfigError, match=says):
        model.check_parameters()
    with pytest.raises(ConfigError, match=says):
        model.fit("no data", None)
    assert not hasattr(model, "classes_")


def test_random_state_as_scikit_learn_has_it(rows):
    def weights(random_state):
        model = DIFFormerClassifier(training={"epochs": 1}, random_state=random_state)
        return model.fit(rows[0], rows[2]).label_distributions_

    assert not np.array_equal(weights(None), weights(None))
    first, again = (weights(np.random.RandomState(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, weights(4))


def test_allowed_parameters_pass():
    for diffusivity in ("local", "graph", ("local", "graph"), Neighbourhood(k=3)):
        DIFFormerClassifier(diffusivity=diffusivity).check_parameters()
    for diffusivity in ("simple", ("sigmoid", welsch(0.3)), "identity"):
        DIFFormerClassifier("trained", diffusivity, random_state=np.int64(3)).check_parameters()


def test_the_graph_alone_needs_a_graph(rows):
    with pytest.raises(ConfigError, match="pass edge_index"):
        DIFFormerClassifier(diffusivity="graph").fit(rows[0], rows[2])


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"X": np.array([[1.0, np.nan], [0.0, 1.0]])}, "X must be finite.*impute"),
        ({"X": np.array([[1.0, np.inf], [0.0, 1.0]])}, "X must be finite"),
        ({"X": np.array([[1e300, 1.0], [0.0, 1.0]])}, "X must be finite"),
        ({"X": sparse.csr_matrix([[1.0, np.nan], [0.0, 1.0]])}, "X must be finite"),
        ({"X": np.ones(2)}, "X cannot be used: Expected 2D array, got 1D"),
        ({"X": np.ones((2, 0))}, r"0 feature\(s\) \(shape=\(2, 0\)\)"),
        ({"X": np.ones((0, 2))}, r"0 sample\(s\) \(shape=\(0, 2\)\)"),
        (
            {"X": [["a", "b"], ["c", "d"]]},
            "X cannot be used: could not convert string to float: 'a'",
        ),
        ({"X": np.ones((3, 2))}, "y must hold one label for each of 3 rows"),
        ({"edge_index": [[0], [2]]}, r"edge_index\[1\] must hold numbers from 0 to 1"),
        ({"edge_index": [[0.5], [1]]}, "edge_index must hold whole numbers"),
        ({"edge_index": [[True], [False]]}, "edge_index must hold whole numbers"),
        ({"edge_index": [0, 1]}, r"edge_index must have shape \(2, E\)"),
        (
            {"edge_index": [[0], [1]], "edge_weight": [-1.0]},
            "edge_weight must .*negative",
        ),
        ({"edge_index": [[0], [1]], "edge_weight": [np.inf]}, "edge_weight must be finite"),
        ({"edge_index": [[0], [1]], "edge_weight": [1.0, 1.0]}, "one weight an edge"),
        ({"edge_index": [[0], [1]], "edge_weight": ["a"]}, "edge_weight must hold numbers"),
        ({"edge_weight": [1.0]}, "edge_weight needs edge_index"),
        ({"validation": 3}, "validation must be a pair of mask and labels, found 3"),
        ({"validation": (np.ones(3, bool), np.ones(3))}, "mask and labels for 2 rows"),
        ({"validation": (np.ones(2, bool), np.array([0, 7]))}, "labelled training row"),
    ],
)
def test_data_that_cannot_be_used(encoder, change, says):
    data = {"X": np.array([[1.0, 2.0], [3.0, 1.0]]), "y": [0, 1], **change}
    with pytest.raises(DataError, match=says):
        DIFFormerClassifier(encoder).fit(**data)


def test_trace_has_a_step_for_each_diffusion_step(fitted):
    steps = fitted.trace().steps
    assert len(steps) == {"decoupled": 40, "trained": 2}[fitted.encoder]
    labelled = fitted.trace(fitted.transduction_)
    assert labelled.steps[0].terms[0].contrast is not None


class TestValidation:
    """Rows that choose the epoch; they do not teach."""

    TRAINING: ClassVar = {
        "epochs": 12,
        "eval_every": 1,
        "learning_rate": 0.02,
        "monitor": "val_loss",
    }
    # The strength of diffusion is chosen by as many epochs as there are to be.
    OPTIONS: ClassVar = {"decoupled": {"source": 0.02}, "trained": {}}

    def fit(self, encoder, rows, labels, **training):
        x, _, known = rows
        mask = np.zeros(len(x), dtype=bool)
        mask[np.flatnonzero(known < 0)[:40]] = True
        model = DIFFormerClassifier(
            encoder, options=self.OPTIONS[encoder], training={**self.TRAINING, **training}
        )
        return model.fit(x, known, validation=(mask, labels)), mask

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_training_does_not_look_at_them(self, encoder, rows):
        y = rows[1]
        right, mask = self.fit(encoder, rows, y)
        wrong, _ = self.fit(encoder, rows, (y + 1) % 10)
        for name in ("train_loss", "train_accuracy"):
            losses = [[record[name] for record in m.history_] for m in (right, wrong)]
            assert losses[0] == losses[1]
        assert [r["val_loss"] for r in right.history_] != [r["val_loss"] for r in wrong.history_]
        rest, _ = self.fit(encoder, rows, np.where(mask, y, (y + 1) % 10))
        np.testing.assert_array_equal(rest.label_distributions_, right.label_distributions_)

    @pytest.mark.parametrize("encoder", ENCODERS)
    def test_they_choose_the_epoch_and_nothing_else(self, encoder, rows):
        y = rows[1]
        settings = {"learning_rate": 0.05, "epochs": 40}
        model, _ = self.fit(encoder, rows, (y + 1) % 10, **settings)
        best = 1 + int(np.argmin([record["val_loss"] for record in model.history_]))
        assert 1 < best < 40  # wrong labels: more training is worse
        training = {**self.TRAINING, **settings, "epochs": best}
        until = DIFFormerClassifier(encoder, options=self.OPTIONS[encoder], training=training)
        until.fit(rows[0], rows[2])
        # The decoupled readout sees other rows at a time, which rounds otherwise.
        np.testing.assert_allclose(
            model.label_distributions_, until.label_distributions_, atol=1e-6
        )

    def test_patience_stops(self, rows):
        model, _ = self.fit("decoupled", rows, (rows[1] + 1) % 10, patience=2, epochs=200)
        assert model.n_iter_ < 200

    def test_texts_with_gaps(self, rows):
        x, y, known = rows
        names = np.array([*"abcdefghij", None], dtype=object)
        mask = np.zeros(len(x), dtype=bool)
        mask[np.flatnonzero(known < 0)[:40]] = True
        held = np.where(mask, y, -1)
        training = {**self.TRAINING, "epochs": 5}
        numbered = DIFFormerClassifier(training=training).fit(x, known, validation=(mask, held))
        named = DIFFormerClassifier(training=training).fit(
            x, names[known], validation=(mask, names[held])
        )
        np.testing.assert_array_equal(numbered.label_distributions_, named.label_distributions_)

    def test_rows_that_teach_may_not_validate(self, rows):
        x, _, known = rows
        with pytest.raises(ConfigError, match="disjoint"):
            DIFFormerClassifier().fit(x, known, validation=(known >= 0, known))


@pytest.mark.parametrize("parameters", [{}, {"encoder": "trained", "diffusivity": "welsch"}])
def test_a_fitted_model_survives_pickling_and_copying(parameters):
    import copy
    import pickle

    x, y = load_digits(return_X_y=True)
    x, y = x[:60], np.where(np.arange(60) % 3 == 0, y[:60], -1)
    model = DIFFormerClassifier(**parameters, training={"epochs": 3}).fit(x, y)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict_proba(x[:5]), model.predict_proba(x[:5]))


def test_columns_of_a_data_frame_must_stay_as_they_were():
    x, y = load_digits(return_X_y=True)
    frame = pd.DataFrame(x[:60], columns=[f"c{i}" for i in range(64)])
    model = DIFFormerClassifier(training={"epochs": 3})
    model.fit(frame, np.where(np.arange(60) % 3 == 0, y[:60], -1))
    assert model.feature_names_in_[1] == "c1"
    with pytest.raises(DataError, match="same order"):
        model.predict(frame.iloc[:, ::-1])
    with pytest.raises(DataError, match="unseen at fit time: - odd"):
        model.predict(frame.rename(columns={"c0": "odd"}))


def test_an_empty_text_is_no_class():
    x = load_digits().data[:60]
    y = np.array(["", "a", "b"] * 20)
    assert DIFFormerClassifier(training={"epochs": 3}).fit(x, y).classes_.tolist() == ["a", "b"]
    listed = DIFFormerClassifier(training={"epochs": 3}).fit(x, y.tolist())
    assert listed.classes_.tolist() == ["a", "b"]


def test_a_schedule_of_searches_that_checkpoints_cut_is_refused(rows, tmp_path):
    x, _, known = rows
    local = Neighbourhood(k=3, space="state", every=4)
    settings = {"epochs": 2, "checkpoint_every": 6}

    def fit(name, **changes):
        run = RunDirectory.create(tmp_path / name, {})
        model = DIFFormerClassifier("trained", diffusivity=local, training=settings | changes)
        return model.fit(x, known, run=run)

    with pytest.raises(ConfigError, match="checkpoint_every must make the training passes"):
        fit("cut")
    fit("whole", checkpoint_every=8)
    fit("views", views=2)
    DIFFormerClassifier("trained", diffusivity=local, training=settings).fit(x, known)  # no run


def test_a_fitted_model_holds_no_memory_for_training(rows):
    fitted = DIFFormerClassifier("trained", training={"epochs": 2}).fit(rows[0], rows[2])
    assert fitted.engine_.model.workspace.held == 0
