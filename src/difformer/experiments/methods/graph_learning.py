"""Laplace and Poisson learning on a neighbour graph, by the package ``graphlearning``.

Zhu, Ghahramani and Lafferty, Semi-Supervised Learning Using Gaussian Fields and Harmonic
Functions, ICML 2003; Calder, Cook, Thorpe and Slepcev, Poisson Learning, ICML 2020. The graph is
the latter's: 10 neighbours, w_ij = exp(-4 d_ij^2 / d_i^2) with d_i the distance to the 10th,
symmetrised. No class priors. The seed has no effect on either, except through a projection.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.errors import MissingExtraError
from difformer.experiments.methods.method import Method, Settings
from difformer.experiments.task import Probabilities, Task, scaled, spread


def laplace(task: Task, settings: Settings, seed: int) -> Probabilities:
    """Harmonic extension of the labels; its values are probabilities already."""
    return _fit(task, settings, _package().ssl.laplace)


def poisson(task: Task, settings: Settings, seed: int) -> Probabilities:
    """Poisson learning; its scores, of either sign, pass through a softmax of unit spread.

    The method ranks the classes only, so the softmax keeps the ranking and claims no calibration.
    """
    return _fit(task, settings, _package().ssl.poisson, scores=True)


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import graphlearning
    except ImportError as error:
        raise MissingExtraError("classics") from error
    return graphlearning


def _fit(task: Task, settings: Settings, method: Any, scores: bool = False) -> Probabilities:
    # graphlearning wants classes numbered without gaps; the missing ones come back in `spread`.
    classes, codes = np.unique(task.y[task.labelled], return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = np.asarray(method(_neighbour_weights(task, **settings)).fit(task.labelled, codes))
    return spread(_softmax(values) if scores else values, classes, task.num_classes)


def _neighbour_weights(task: Task, neighbours: int = 10) -> Any:
    """Return W (N, N); scikit-learn's exact search in place of the package's approximate one."""
    from sklearn.neighbors import NearestNeighbors

    x = scaled(task)
    count = min(neighbours + 1, task.num_instances)
    distances, rows = NearestNeighbors(n_neighbors=count).fit(x).kneighbors(x)
    # Copies of one instance leave d_i = 0; the smallest positive distance keeps the weights finite.
    distances = np.maximum(distances, np.finfo(np.float64).tiny ** 0.25)
    return _package().weightmatrix.knn(None, count - 1, knn_data=(rows, distances))


def _softmax(values: NDArray[Any]) -> NDArray[Any]:
    unit = values / max(float(values.std()), np.finfo(np.float64).tiny)
    weights = np.exp(unit - unit.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_NEAR = {"neighbours": (5, 7, 10, 15, 20)}
GRAPH_LEARNING = {
    "laplace": Method("Laplace learning", laplace, {"neighbours": 10}, _NEAR, extra="classics"),
    "poisson": Method("Poisson learning", poisson, {"neighbours": 10}, _NEAR, extra="classics"),
}
