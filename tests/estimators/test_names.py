"""Rows by name: edges stay right where rows are moved, left out or sliced."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from difformer import DIFFormerClassifier, LabelledKFold
from difformer.errors import DataError
from difformer.estimators.names import Names

ROWS, EDGES = 60, 200
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(ROWS, 4))
Y = np.where(np.arange(ROWS) % 3 == 0, np.arange(ROWS) % 2, -1)
INDEX = DRAW.integers(0, ROWS, (2, EDGES))
WEIGHT = DRAW.random(EDGES)
TEXTS = np.array([f"row {i}" for i in range(ROWS)])
NUMBERS = np.arange(ROWS) * 7 - 100


def model(**options):
    return DIFFormerClassifier(training={"epochs": 5}, **options)


@pytest.mark.parametrize("names", [TEXTS, TEXTS.astype(object), NUMBERS], ids=["U", "O", "i"])
def test_names_are_numbers_in_other_words(names):
    expected = model().fit(X, Y, INDEX, WEIGHT)
    found = model().fit(X, Y, names[INDEX], WEIGHT, node_id=names)
    assert np.array_equal(found.label_distributions_, expected.label_distributions_)
    new, towards = X[:5] + 1, INDEX[:, INDEX[1] < 5]
    asked = {"edge_index": names[towards], "node_id": names[:5]}
    assert np.array_equal(found.predict_proba(new, **asked), expected.predict_proba(new, towards))
    assert found.n_edges_left_out_ == 0


def test_the_order_of_rows_does_not_matter():
    order = DRAW.permutation(ROWS)
    one = model().fit(X, Y, TEXTS[INDEX], WEIGHT, TEXTS)
    other = model().fit(X[order], Y[order], TEXTS[INDEX], WEIGHT, TEXTS[order])
    found, expected = other.label_distributions_, one.label_distributions_[order]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_edges_to_absent_rows_are_left_out_and_counted():
    kept = np.arange(ROWS) >= 10
    inside = kept[INDEX].all(axis=0)
    found = model().fit(X[kept], Y[kept], TEXTS[INDEX], WEIGHT, TEXTS[kept])
    assert found.n_edges_left_out_ == (~inside).sum()
    expected = model().fit(X[kept], Y[kept], INDEX[:, inside] - 10, WEIGHT[inside])
    assert np.array_equal(found.label_distributions_, expected.label_distributions_)
    # Of the same edges, those from a fitted row to a new one count in a prediction.
    towards = kept[INDEX[0]] & ~kept[INDEX[1]]
    index = np.stack([INDEX[0, towards] - 10, INDEX[1, towards]])
    answers = found.predict_proba(X[:10], TEXTS[INDEX], WEIGHT, TEXTS[:10])
    assert np.array_equal(answers, expected.predict_proba(X[:10], index, WEIGHT[towards]))


def test_without_names_an_index_beyond_the_rows_is_an_error():
    with pytest.raises(DataError, match=r"numbers from 0 to 59, found 60"):
        model().fit(X, Y, np.array([[0], [60]]))


def test_verbose_tells_the_count(capsys):
    names = TEXTS.copy()
    names[0] = "somebody else"
    model(verbose=True).fit(X, Y, TEXTS[INDEX], WEIGHT, names)
    assert "edges name rows that are not there" in capsys.readouterr().err


def test_cross_validation_slices_names_and_keeps_edges():
    search = GridSearchCV(
        model(), {"training": [{"epochs": 2}, {"epochs": 4}]}, cv=LabelledKFold(3)
    )
    search.fit(X, Y, edge_index=TEXTS[INDEX], edge_weight=WEIGHT, node_id=TEXTS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    expected = model().set_params(**search.best_params_).fit(X, Y, INDEX, WEIGHT)
    found = search.best_estimator_.label_distributions_
    assert np.array_equal(found, expected.label_distributions_)


def test_metadata_is_routed_through_a_pipeline():
    with config_context(enable_metadata_routing=True):
        routed = model().set_fit_request(edge_index=True, edge_weight=True, node_id=True)
        routed.set_predict_request(edge_index=True, node_id=True)
        line = make_pipeline(StandardScaler(), routed)
        given = {"edge_index": TEXTS[INDEX], "edge_weight": WEIGHT, "node_id": TEXTS}
        line.fit(X, Y, **given)
        scaled = StandardScaler().fit_transform(X)
        expected = model().fit(scaled, Y, INDEX, WEIGHT)
        assert np.array_equal(line[-1].label_distributions_, expected.label_distributions_)
        asked = {"edge_index": TEXTS[INDEX[:, :9]], "node_id": TEXTS}
        found = line.predict(X, **asked)
        assert np.array_equal(found, expected.predict(scaled, INDEX[:, :9]))
        rows = np.arange(ROWS) % 3 == 0
        cross_val_predict(line, X[rows], Y[rows], params={"node_id": TEXTS[rows]}, cv=2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (TEXTS[:-1], r"must name each of 60 rows, found \(59,\)"),
        (np.where(np.arange(ROWS) < 2, "one", TEXTS), "found one twice"),
        (X[:, 0], "whole numbers or texts, found float64"),
        (np.array([None, *TEXTS[1:]], dtype=object), "whole numbers or texts"),
    ],
)
def test_names_that_name_nothing_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        model().fit(X, Y, TEXTS[INDEX], node_id=names)


def test_edges_that_cannot_be_read_are_refused():
    names = Names.of(TEXTS, ROWS)
    with pytest.raises(DataError, match=r"shape \(2, E\), found \(200, 2\)"):
        names.edges(TEXTS[INDEX].T, None)
    with pytest.raises(DataError, match="by texts as node_id does, found whole numbers"):
        names.edges(INDEX, None)
    with pytest.raises(DataError, match="a weight for each of 200 edges"):
        names.edges(TEXTS[INDEX], WEIGHT[1:])
    assert names.edges(np.empty((2, 0)), None)[0].shape == (2, 0)


def test_predictions_need_names_where_the_fit_had_them():
    named, plain = model().fit(X, Y, TEXTS[INDEX], node_id=TEXTS), model().fit(X, Y)
    with pytest.raises(DataError, match="node_id must name the rows"):
        named.predict(X[:2], TEXTS[INDEX[:, :3]])
    with pytest.raises(DataError, match="fit was not given any"):
        plain.predict(X[:2], node_id=TEXTS[:2])


def test_names_are_kept_in_files(tmp_path):
    fitted = model().fit(X, Y, TEXTS[INDEX], node_id=TEXTS)
    fitted.save(tmp_path / "model")
    loaded = DIFFormerClassifier.load(tmp_path / "model")
    asked = {"edge_index": np.array([["row 3"], ["new"]]), "node_id": ["new"]}
    new = X[:1] + 1
    assert np.array_equal(loaded.predict_proba(new, **asked), fitted.predict_proba(new, **asked))
