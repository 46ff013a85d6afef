"""Answers for new rows: each alone, towards the fitted rows as they were."""

import warnings

import estimator_cases as cases
import numpy as np
import pytest
from scipy import sparse

from difformer import DIFFormerClassifier
from difformer.diffusion import Neighbourhood

FITTED, NEW = 200, 25
ENCODERS = ("decoupled", "trained")


@pytest.fixture(scope="module")
def rows():
    x, y, known = cases.digits(FITTED, per_class=4)
    new, new_y, _ = cases.digits(NEW, skip=FITTED)
    edges = cases.ring_edges(y)
    rng = np.random.default_rng(1)
    towards = np.array([rng.integers(FITTED, size=60), rng.integers(NEW - 5, size=60)])
    return x, known, edges, new, new_y, (towards, rng.uniform(0.2, 2, 60))


def fit(encoder, x, y, edges=(), **options):
    diffusivity = {"trained": ("simple", "local"), "decoupled": None}[encoder]
    return DIFFormerClassifier(
        encoder, diffusivity, options=options, training={"epochs": 30}
    ).fit(x, y, *edges)  # fmt: skip


@pytest.fixture(scope="module", params=ENCODERS)
def plain(request, rows):
    return fit(request.param, rows[0], rows[1])


@pytest.fixture(scope="module", params=ENCODERS)
def graphed(request, rows):
    return fit(request.param, rows[0], rows[1], rows[2])


def edges_of(row, edges):
    index, weight = edges
    kept = index[1] == row
    return np.array([index[0, kept], np.zeros(kept.sum(), dtype=int)]), weight[kept]


def test_each_row_alone_gets_the_same_answer(plain, rows):
    new = rows[3]
    together, states = plain.predict_proba(new), plain.transform(new)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    for i in range(0, NEW, 4):
        np.testing.assert_allclose(plain.predict_proba(new[[i]])[0], together[i], atol=1e-6)
        np.testing.assert_allclose(plain.transform(new[[i]])[0], states[i], atol=1e-5)
    order = np.random.default_rng(0).permutation(NEW)
    np.testing.assert_allclose(plain.predict_proba(new[order]), together[order], atol=1e-6)


def test_rows_that_may_not_be_written_to_stay_as_they_are(plain, rows):
    new = np.array(rows[3], dtype=np.float32)
    new.flags.writeable = False
    double = sparse.csr_matrix((np.ones(3), [4, 4, 1], [0, 3]), shape=(1, new.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = plain.predict_proba(new)
        twice = plain.predict_proba(double)
    np.testing.assert_array_equal(found, plain.predict_proba(np.array(new)))
    assert double.nnz == 3
    np.testing.assert_allclose(twice, plain.predict_proba(double.toarray()), atol=1e-6)


def test_each_row_alone_gets_the_same_answer_with_edges(graphed, rows):
    new, edges = rows[3], rows[5]
    together = graphed.predict_proba(new, *edges)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-6)
    for i in range(0, NEW, 4):
        alone = graphed.predict_proba(new[[i]], *edges_of(i, edges))
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
    assert np.abs(together - graphed.predict_proba(new)).max() > 1e-3


def test_edges_to_new_rows_without_a_fitted_graph_change_nothing_else(plain, rows):
    new, (index, weight) = rows[3], rows[5]
    answers = plain.predict_proba(new, index, weight)
    without = ~np.isin(np.arange(NEW), index[1])
    assert without.any()
    np.testing.assert_allclose(answers[without], plain.predict_proba(new)[without], atol=1e-6)


def test_sparse_and_dense_rows_get_the_same_answer(plain, rows):
    new = rows[3]
    thin = plain.predict_proba(sparse.csr_matrix(new))
    np.testing.assert_allclose(thin, plain.predict_proba(new), atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_fitting_on_sparse_rows(encoder, rows):
    x, known, _, new, *_ = rows
    dense, thin = fit(encoder, x, known), fit(encoder, sparse.csr_matrix(x), known)
    np.testing.assert_allclose(dense.predict_proba(new), thin.predict_proba(new), atol=2e-3)
    both = thin.predict_proba(new), thin.predict_proba(sparse.csr_matrix(new))
    np.testing.assert_allclose(*both, atol=1e-5)


def test_the_answers_are_good(plain, rows):
    assert (plain.predict(rows[3]) == rows[4]).mean() >= 0.8
    best = plain.classes_[plain.predict_proba(rows[3]).argmax(axis=1)]
    np.testing.assert_array_equal(plain.predict(rows[3]), best)


def test_a_row_beside_a_fitted_one_gets_nearly_its_answer(plain, rows):
    x, known = rows[0] + np.float32(1e-4), rows[1]
    copies = np.flatnonzero(known < 0)[:40]
    fitted = plain.label_distributions_[copies]
    answers = plain.predict_proba(x[copies])
    assert np.abs(answers - fitted).mean() < 0.03
    sure = fitted.max(axis=1) > 0.6
    assert sure.sum() > 20
    np.testing.assert_array_equal(answers.argmax(axis=1)[sure], fitted.argmax(axis=1)[sure])


def test_asking_changes_nothing(plain, rows):
    before = plain.engine_.answers().numpy().copy()
    first = plain.predict_proba(rows[3])
    plain.predict_proba(rows[3][:3] * 2)
    np.testing.assert_array_equal(plain.engine_.answers().numpy(), before)
    np.testing.assert_array_equal(plain.predict_proba(rows[3]), first)


def dense_towards(matrices, w_new, normalise):
    """Operators among fitted rows, and from new rows (columns: fitted, then new)."""
    among = [normalise(a) for a in matrices]
    if normalise is cases.by_row:
        return among, [w / w.sum(axis=1, keepdims=True) for w in w_new]
    d = [a.sum(axis=1) for a in matrices]
    return among, [
        w / np.sqrt(w.sum(1)[:, None] * np.concatenate([d_m, w.sum(1)])[None])
        for w, d_m in zip(w_new, d, strict=True)
    ]


@pytest.mark.parametrize("graph", [False, True])
def test_decoupled_equals_the_dense_definition(rows, graph):
    """New rows see the fitted rows of the same step; they are seen by nobody."""
    x, known, edges, new, _, towards = rows
    model = fit("decoupled", x, known, edges if graph else (), source=0.02)
    x, new = (4 * cases.unit(a.astype(np.float64)) for a in (x, new))
    reduced, project = cases.components(x)
    matrices = [cases.self_tuned(x), cases.self_tuned(reduced)]
    pairs = (x, new), (reduced, project(new))
    empty = np.zeros((NEW, NEW))
    w_new = [np.hstack([cases.self_tuned_towards(*pair), empty]) for pair in pairs]
    shares = np.array([1.0, 1.0])
    if graph:
        matrices.append(cases.observed(*edges, FITTED))
        own = np.zeros((NEW, FITTED + NEW))
        np.add.at(own, (towards[0][1], towards[0][0]), towards[1])
        own[np.arange(NEW), FITTED + np.arange(NEW)] = 1
        w_new.append(own)
        shares = np.array([1.0, 1.0, 6.0])
    shares = shares / shares.sum()

    def step(operators, z, z_new):
        among, cross = operators
        both = np.vstack([z, z_new])
        return (
            sum(w * (s @ z) for s, w in zip(among, shares, strict=True)),
            sum(w * (s @ both) for s, w in zip(cross, shares, strict=True)),
        )

    operators = dense_towards(matrices, w_new, cases.symmetric)
    z, z_new = x, new
    for _ in range(40):
        moved, moved_new = step(operators, z, z_new)
        z, z_new = 0.98 * moved + 0.02 * x, 0.98 * moved_new + 0.02 * new
    states = 4 * cases.unit(z_new)
    readout = model.engine_.model
    start_new = cases.readout(readout, states)
    encoded = np.searchsorted(model.classes_, known)
    encoded[known < 0] = -1
    start = cases.clamped(cases.readout(readout, 4 * cases.unit(z)), encoded)
    operators = dense_towards(matrices, w_new, cases.by_row)
    among, cross = (sum(map(np.multiply, shares, side)) for side in operators)
    typical = cases.typical_surety(start[encoded < 0])
    gamma, gamma_new = cases.gammas(start, typical), cases.gammas(start_new, typical)
    weights, weights_new = among, cross
    for _ in range(3):
        q, q_new = start, start_new
        for _ in range(20):
            moved, moved_new = weights @ q, weights_new @ np.vstack([q, q_new])
            q = (1 - gamma) * moved + gamma * start
            q_new = (1 - gamma_new) * moved_new + gamma_new * start_new
        q, q_new = (part / part.sum(axis=1, keepdims=True) for part in (q, q_new))
        weights = cases.following(among, q, q)
        weights_new = cases.following(cross, q_new, np.vstack([q, q_new]))
    expected = q_new
    asked = (rows[3], *(towards if graph else ()))
    np.testing.assert_allclose(model.transform(*asked), states, atol=2e-4)
    np.testing.assert_allclose(model.predict_proba(*asked), expected, atol=2e-5)
    fitted = cases.clamped(q, encoded)
    np.testing.assert_allclose(model.label_distributions_, fitted, atol=2e-5)


@pytest.mark.parametrize("norm", ["row", "sym"])
def test_a_trained_local_layer_equals_the_dense_definition(rows, norm):
    """One layer, no maps but in and out: states of new rows are means of fitted ones."""
    x, known, _, new, *_ = rows
    rule = Neighbourhood(norm=norm)
    model = DIFFormerClassifier(
        "trained",
        rule,
        options={"num_layers": 1, "hidden_channels": 16, "norm": None, "step_size": 1.0},
        training={"epochs": 10},
    ).fit(x, known)
    net = model.engine_.model
    w, b = (t.detach().double().numpy() for t in (net.input_map.weight, net.input_map.bias))
    z, z_new = (np.maximum(a.astype(np.float64) @ w.T + b, 0) for a in (x, new))
    squared = cases.cosine_distances(x.astype(np.float64), x.astype(np.float64))
    np.fill_diagonal(squared, np.inf)
    reach = np.sort(squared, axis=1)[:, 14]
    among = (squared <= np.maximum(reach[:, None], reach[None])) | np.eye(FITTED, dtype=bool)
    d = cases.cosine_distances(new.astype(np.float64), x.astype(np.float64))
    own = np.sort(d, axis=1)[:, [14]]
    a = ((d <= own) | (d <= reach)).astype(float)
    if norm == "row":
        expected = a @ z / a.sum(axis=1, keepdims=True)
    else:
        expected = (a / np.sqrt(a.sum(1)[:, None] * among.sum(1)[None])) @ z
    np.testing.assert_allclose(model.transform(new), expected, rtol=1e-4, atol=1e-4)
    assert z_new.shape == expected.shape


def test_what_does_not_fit_is_refused(plain, rows):
    new = rows[3]
    for wrong in (new[:, :5], sparse.csr_matrix(new[:, :5])):
        with pytest.raises(
            ValueError, match="X has 5 features, but DIFFormerClassifier is expecting 64"
        ):
            plain.predict(wrong)
    for index, says in (
        ([[FITTED], [0]], rf"edge_index\[0\] must hold numbers from 0 to {FITTED - 1}"),
        ([[0], [NEW]], rf"edge_index\[1\] must hold numbers from 0 to {NEW - 1}"),
        ([[0], [-1]], r"edge_index\[1\]"),
        ([0, 1], "shape"),
    ):
        with pytest.raises(ValueError, match=says):
            plain.predict(new, index)
    for weight, says in (([-1.0], "negative"), ([np.nan], "finite"), ([1.0, 2.0], "one weight")):
        with pytest.raises(ValueError, match=says):
            plain.predict(new, [[0], [0]], weight)
