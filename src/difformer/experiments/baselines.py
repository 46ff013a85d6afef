"""The classics that every figure of ours stands beside: one table of them.

Each is scikit-learn's, torch_geometric's or graphlearning's own class with settings fixed before
any figure was seen: the package's or its paper's defaults, and no search. All read the features
through ``task.scaled``. A tuned comparison is another protocol with another name.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from difformer.errors import one_of
from difformer.experiments.task import Probabilities, Task, scaled, spread

Method: TypeAlias = Callable[[Task, int], Probabilities]


@dataclass(frozen=True, slots=True)
class Baseline:
    """One row of the table.

    Args:
        label: the name that tables show.
        fit_predict: from a task and a seed to class probabilities (N, C).
        needs_graph: whether it is for tasks with ``edge_index`` only.
        extra: the optional dependency that it imports when called; without it, the call raises
            ``MissingExtraError``.
    """

    label: str
    fit_predict: Method
    needs_graph: bool = False
    extra: str | None = None


def _inductive(model: Any, task: Task) -> Probabilities:
    x = scaled(task.x)
    with warnings.catch_warnings():
        # A baseline that stops at its iteration limit is a result, not the user's concern.
        warnings.simplefilter("ignore")
        model.fit(x[task.labelled], task.y[task.labelled])
    return spread(model.predict_proba(x), model.classes_, task.num_classes)


def logistic_regression(task: Task, seed: int) -> Probabilities:
    """Multinomial logistic regression, C = 10, L-BFGS; the seed has no effect."""
    from sklearn.linear_model import LogisticRegression

    return _inductive(LogisticRegression(C=10.0, max_iter=1000, random_state=seed), task)


def nearest_neighbours(task: Task, seed: int) -> Probabilities:
    """5 nearest labelled instances, weighted by inverse distance; the seed has no effect."""
    from sklearn.neighbors import KNeighborsClassifier

    count = min(5, len(task.labelled))
    return _inductive(KNeighborsClassifier(count, weights="distance"), task)


def multilayer_perceptron(task: Task, seed: int) -> Probabilities:
    """One hidden layer of 64, Adam, at most 500 epochs, otherwise scikit-learn's defaults."""
    from sklearn.neural_network import MLPClassifier

    return _inductive(MLPClassifier((64,), max_iter=500, random_state=seed), task)


def label_spreading(task: Task, seed: int) -> Probabilities:
    """scikit-learn's LabelSpreading: 7 neighbours, alpha 0.2, to convergence; no effect of seed."""
    from sklearn.semi_supervised import LabelSpreading

    count = min(7, task.num_instances)
    model = LabelSpreading(kernel="knn", n_neighbors=count, alpha=0.2, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(scaled(task.x), task.y)
    return spread(model.label_distributions_, model.classes_, task.num_classes)


def _neighbour_gcn(task: Task, seed: int) -> Probabilities:
    from difformer.experiments.graph_baselines import neighbour_gcn

    return neighbour_gcn(task, seed)


def _observed_gcn(task: Task, seed: int) -> Probabilities:
    from difformer.experiments.graph_baselines import observed_gcn

    return observed_gcn(task, seed)


def _laplace(task: Task, seed: int) -> Probabilities:
    from difformer.experiments.classic_baselines import laplace

    return laplace(task, seed)


def _poisson(task: Task, seed: int) -> Probabilities:
    from difformer.experiments.classic_baselines import poisson

    return poisson(task, seed)


BASELINES: Mapping[str, Baseline] = {
    "logistic": Baseline("logistic regression", logistic_regression),
    "knn": Baseline("k-NN", nearest_neighbours),
    "mlp": Baseline("MLP", multilayer_perceptron),
    "label-spreading": Baseline("label spreading", label_spreading),
    "knn-gcn": Baseline("k-NN GCN", _neighbour_gcn, extra="pyg"),
    "gcn": Baseline("GCN", _observed_gcn, needs_graph=True, extra="pyg"),
    "laplace": Baseline("Laplace learning", _laplace, extra="classics"),
    "poisson": Baseline("Poisson learning", _poisson, extra="classics"),
}


def baseline(name: str) -> Baseline:
    """Return the row called ``name``; any other name is a ``ConfigError`` that lists all."""
    return BASELINES[one_of(name, BASELINES, "baseline")]


def methods(has_graph: bool, names: tuple[str, ...] | None = None) -> dict[str, Method]:
    """Return label -> callable for the named rows (default: all), less those that need a graph.

    Example:
        >>> list(methods(has_graph=False, names=("knn", "gcn")))
        ['k-NN']
    """
    rows = [baseline(name) for name in (BASELINES if names is None else names)]
    return {row.label: row.fit_predict for row in rows if has_graph or not row.needs_graph}
