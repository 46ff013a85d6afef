"""Every baseline answers every kind of task, repeatably and without side effects."""

import sys
import warnings

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits

from difformer.errors import ConfigError, DataError, MissingExtraError
from difformer.experiments.baselines import BASELINES, baseline, methods
from difformer.experiments.methods import METHODS, graph_learning, networks
from difformer.experiments.task import Task, dense, scaled, spread

CLASSICS = ("laplace", "poisson")
OTHERS = tuple(name for name in BASELINES if name not in CLASSICS)


SHORT = {"epochs": 60, "learning_rate": 0.02, "weight_decay": 5e-4, "num_layers": 2}


def run(name: str, task: Task, seed: int = 0) -> np.ndarray:
    row = METHODS[name]
    if row.extra == "pyg":
        pytest.importorskip("torch_geometric")
    if row.extra == "classics":
        pytest.importorskip("graphlearning", exc_type=ImportError)
    settings = {
        key: SHORT[key] for key in SHORT if key in row.defaults and "epochs" in row.defaults
    }
    return row.fit_predict(task, seed, settings)


def digits(labels: int = 6, kind: str = "dense") -> tuple[Task, np.ndarray]:
    x, truth = load_digits(n_class=4, return_X_y=True)
    x, truth = x[:240], truth[:240].astype(np.int64)
    y = np.full_like(truth, -1)
    for label in range(4):
        y[np.flatnonzero(truth == label)[:labels]] = label
    # a graph with which the answer is easy: a ring through each class
    order = np.argsort(truth, kind="stable")
    ring = np.stack([order[:-1], order[1:]]).astype(np.int64)
    features = sparse.csr_matrix(x) if kind == "csr" else x
    return Task(features, y, num_classes=4, edge_index=ring), truth


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("name", METHODS)
def test_probabilities_are_right_far_more_often_than_chance(name: str, kind: str) -> None:
    task, truth = digits(kind=kind)
    given = task.x.copy()
    probabilities = run(name, task)
    assert probabilities.shape == (240, 4)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)
    assert probabilities.min() >= 0
    hidden = task.y < 0
    fixed = METHODS[name] in BASELINES.values()
    least = 0.85 if fixed else 0.6  # some want more than 24 labelled rows and 60 epochs
    assert (probabilities.argmax(axis=1) == truth)[hidden].mean() > least
    assert abs(task.x - given).max() == 0


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_fixes_the_answer_and_leaves_global_state_alone(name: str) -> None:
    task, _ = digits()
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    filters_before, threads_before = list(warnings.filters), torch.get_num_threads()
    first, second = run(name, task, seed=3), run(name, task, seed=3)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert list(warnings.filters) == filters_before
    assert torch.get_num_threads() == threads_before


@pytest.mark.parametrize("name", ["sklearn-mlp", "knn-gcn"])
def test_another_seed_gives_another_answer(name: str) -> None:
    task, _ = digits()
    assert not np.array_equal(run(name, task, seed=0), run(name, task, seed=1))


@pytest.mark.parametrize("name", METHODS)
def test_a_class_without_a_visible_label_is_not_predicted(name: str) -> None:
    task, _ = digits()
    y = np.where(task.y == 1, -1, task.y)
    probabilities = run(name, Task(task.x, y, 4, task.edge_index))
    assert probabilities.shape == (240, 4)
    assert not (probabilities.argmax(axis=1) == 1).any()


@pytest.mark.parametrize("name", METHODS)
def test_a_handful_of_instances_is_enough(name: str) -> None:
    x = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0], [5.0, 5.0], [5.1, 5.0], [5.0, 5.2]])
    edges = np.array([[0, 1, 3, 4], [1, 2, 4, 5]])
    task = Task(x, np.array([0, -1, -1, 1, -1, -1]), 2, edges)
    probabilities = run(name, task)
    assert np.isfinite(probabilities).all()
    assert probabilities.shape == (6, 2)


def test_iteration_limits_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    task = Task(draw.normal(size=(30, 5)), draw.integers(0, 2, 30), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run("sklearn-mlp", task)  # noise is not fitted in 500 epochs


def test_the_observed_graph_and_its_weights_are_used() -> None:
    pytest.importorskip("torch_geometric")
    x = np.eye(4)
    y = np.array([0, -1, 1, -1])
    edges = np.array([[0, 2, 0, 2], [1, 3, 3, 1]])
    right, crossed = np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0, 1.0])
    aligned = run("gcn", Task(x, y, 2, edges, right)).argmax(axis=1)
    swapped = run("gcn", Task(x, y, 2, edges, crossed)).argmax(axis=1)
    assert (aligned[1], aligned[3]) == (0, 1)
    assert (swapped[1], swapped[3]) == (1, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_one_direction_of_an_edge_counts_as_both(weighted: bool) -> None:
    pytest.importorskip("torch_geometric")
    task, _ = digits()
    assert task.edge_index is not None
    edges = task.edge_index
    weight = np.linspace(0.5, 2.0, edges.shape[1]) if weighted else None
    forth, back = (Task(task.x, task.y, 4, e, weight) for e in (edges, edges[::-1].copy()))
    np.testing.assert_allclose(run("gcn", forth), run("gcn", back), atol=1e-4)


def test_gcn_without_edges_says_so() -> None:
    task, _ = digits()
    with pytest.raises(DataError, match="needs edge_index"):
        run("gcn", Task(task.x, task.y, 4))


def test_neighbour_edges_are_the_ten_nearest_others() -> None:
    task, _ = digits()
    pytest.importorskip("torch_geometric")
    source, target = networks.neighbour_edges(task)[0].numpy()
    distance = np.linalg.norm(task.x[:, None] - task.x[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    limit = np.sort(distance, axis=1)[:, 9]
    pairs = set(zip(source.tolist(), target.tolist(), strict=True))
    assert pairs == {(j, i) for i, j in pairs}
    closer = distance < limit[:, None] - 1e-9
    assert {(i, j) for i, j in np.argwhere(closer).tolist()} <= pairs
    assert all(distance[i, j] <= max(limit[i], limit[j]) + 1e-9 for i, j in pairs)
    assert (np.bincount(source) >= 10).all()


def test_laplace_is_the_harmonic_extension() -> None:
    pytest.importorskip("graphlearning", exc_type=ImportError)
    task, _ = digits()
    weights = np.asarray(graph_learning._neighbour_weights(task).todense())
    laplacian = np.diag(weights.sum(axis=1)) - weights
    hidden, shown = task.y < 0, task.y >= 0
    onehot = np.eye(4)[task.y[shown]]
    closed = np.linalg.solve(laplacian[np.ix_(hidden, hidden)], weights[np.ix_(hidden, shown)])
    np.testing.assert_allclose(run("laplace", task)[hidden], closed @ onehot, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "module"), [("knn-gcn", "torch_geometric.nn"), ("laplace", "graphlearning")]
)
def test_a_missing_extra_names_its_remedy(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = BASELINES[name].extra
    with pytest.raises(MissingExtraError, match=rf"pip install difformer\[{extra}\]"):
        baseline(name).fit_predict(digits()[0], 0)


def test_the_table_is_selected_by_name_and_by_graph() -> None:
    assert "GCN" in methods(has_graph=True)
    assert "GCN" not in methods(has_graph=False)
    assert list(methods(False, ("mlp", "knn"))) == ["MLP", "k-NN"]
    with pytest.raises(ConfigError, match="'label-spreading'"):
        baseline("spreading")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1], "shape"),
        ([0, 2, -1], "classes 0 to 1"),
        ([0, -2, 1], "classes 0 to 1"),
        ([0, 0, -1], "two classes"),
        ([-1, -1, -1], "two classes"),
    ],
)
def test_a_task_refuses_labels_that_do_not_fit(y: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Task(np.eye(3), np.array(y), 2)


def test_weights_without_edges_are_refused() -> None:
    with pytest.raises(DataError, match="edge_index"):
        Task(np.eye(3), np.array([0, 1, -1]), 2, edge_weight=np.ones(2))


def test_scaling_keeps_the_order_of_distances_and_the_size_of_rows() -> None:
    x = np.random.default_rng(0).normal(size=(50, 7)) * 100
    y = np.arange(50) % 3 - 1
    ours = scaled(Task(x, y, 2))
    np.testing.assert_allclose(np.square(ours[y >= 0]).sum(axis=1).mean(), 16.0)
    np.testing.assert_allclose(ours / x, (ours / x)[0, 0])
    two = np.array([0, 1])
    counts = sparse.csr_matrix(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(scaled(Task(counts, two, 2)).toarray(), [[2.4, 3.2], [0.0, 0.0]])
    assert (scaled(Task(np.zeros((2, 3)), two, 2)) == 0).all()


def test_wide_counts_are_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("difformer.experiments.task.MAX_DENSE_ENTRIES", 100)
    counts = sparse.random(40, 60, density=0.2, format="csr", random_state=0)
    task = Task(counts, np.arange(40) % 2, 2)
    assert dense(task, 0).shape == (40, 39)
    np.testing.assert_array_equal(dense(task, 0), dense(task, 0))


def test_spread_makes_rows_without_evidence_uniform() -> None:
    full = spread(np.array([[2.0, 2.0], [0.0, 0.0], [-1.0, 1.0]]), np.array([0, 2]), 3)
    np.testing.assert_allclose(full, [[0.5, 0, 0.5], [1 / 3] * 3, [0, 0, 1.0]])


def test_a_search_starts_from_the_defaults_and_stays_in_the_settings() -> None:
    for name, row in METHODS.items():
        for key, values in row.space.items():
            assert row.defaults[key] in values, (name, key)
    with pytest.raises(ConfigError, match="setting of GCN must be one of"):
        METHODS["gcn"].resolved({"width": 3})


def test_validation_rows_choose_the_weights_and_are_not_learnt_from() -> None:
    """With one epoch's weights to choose from, labels of validation rows change nothing."""
    pytest.importorskip("torch_geometric")
    task, truth = digits()
    rows = np.flatnonzero(task.y < 0)[:40]
    val = np.full_like(task.y, -1)
    val[rows] = truth[rows]
    wrong = np.where(val >= 0, (val + 1) % 4, -1)
    with_val = [Task(task.x, task.y, 4, task.edge_index, val=labels) for labels in (val, wrong)]
    once = [METHODS["gcn"].fit_predict(given, 0, {"epochs": 1}) for given in (task, *with_val)]
    np.testing.assert_array_equal(once[0], once[1])
    np.testing.assert_array_equal(once[0], once[2])
    many = [METHODS["gcn"].fit_predict(given, 0, {"epochs": 40}) for given in with_val]
    assert not np.array_equal(*many)  # another epoch was the best
