"""The classics with fixed settings that every figure of ours stands beside: one list of them.

Their settings were fixed before any figure was seen: the package's or its paper's defaults, and no
search. A tuned comparison is another protocol with another name (``campaign``).
"""

from collections.abc import Callable
from typing import TypeAlias

from difformer.errors import one_of
from difformer.experiments.methods import METHODS, Method
from difformer.experiments.task import Probabilities, Task

FitPredict: TypeAlias = Callable[[Task, int], Probabilities]

# What they are called here, and their row among all methods.
BASELINES: dict[str, Method] = {
    "logistic": METHODS["logistic"],
    "knn": METHODS["knn"],
    "mlp": METHODS["sklearn-mlp"],
    "label-spreading": METHODS["label-spreading"],
    "knn-gcn": METHODS["knn-gcn"],
    "gcn": METHODS["gcn"],
    "laplace": METHODS["laplace"],
    "poisson": METHODS["poisson"],
}


def baseline(name: str) -> Method:
    """Return the row called ``name``; any other name is a ``ConfigError`` that lists all."""
    return BASELINES[one_of(name, BASELINES, "baseline")]


def methods(has_graph: bool, names: tuple[str, ...] | None = None) -> dict[str, FitPredict]:
    """Return label -> callable for the named rows (default: all), less those that need a graph.

    Example:
        >>> list(methods(has_graph=False, names=("knn", "gcn")))
        ['k-NN']
    """
    rows = [baseline(name) for name in (BASELINES if names is None else names)]
    return {row.label: row.fit_predict for row in rows if has_graph or not row.needs_graph}
