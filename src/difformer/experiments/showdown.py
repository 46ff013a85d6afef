"""Our methods beside the classics on the same splits: the table of ``demo`` and ``--compare``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.data.instances import Instances
from difformer.data.splits import hold_out, per_class
from difformer.errors import DataError
from difformer.estimators import DIFFormerClassifier
from difformer.experiments.baselines import FitPredict, methods
from difformer.experiments.comparison import Case, Comparison, compare
from difformer.experiments.task import Probabilities, Task, spread

CLASSICS = ("logistic", "knn", "mlp", "label-spreading", "knn-gcn", "gcn")
FOLDS = 5
DEFAULT = "DIFFormer (default)"


def ours(**parameters: Any) -> FitPredict:
    """A method of ours, as a comparison calls it."""

    def fit_predict(task: Task, seed: int) -> Probabilities:
        model = DIFFormerClassifier(**parameters, random_state=seed)
        model.fit(task.x, task.y, task.edge_index, task.edge_weight)
        return spread(model.label_distributions_, model.classes_, task.num_classes)

    return fit_predict


def contenders(has_graph: bool, chosen: dict[str, Any] | None = None) -> dict[str, FitPredict]:
    """Name -> method: the default, what was chosen if it is another, -s, -a, the classics."""
    table = {DEFAULT: ours()}
    if chosen:
        table["as asked for"] = ours(**chosen)
    table["DIFFormer-s"] = ours(encoder="trained", diffusivity="simple")
    table["DIFFormer-a"] = ours(encoder="trained", diffusivity="sigmoid")
    return table | methods(has_graph, CLASSICS)


def showdown(
    cases: Sequence[Case],
    seeds: Sequence[int],
    chosen: dict[str, Any] | None = None,
    progress: Callable[[str, str], None] | None = None,
) -> Comparison:
    """Run every contender on every split; differences are against our default."""
    has_graph = cases[0].task.edge_index is not None
    return compare(contenders(has_graph, chosen), cases, DEFAULT, seeds, progress)


def drawn_cases(data: Instances, n: int, seeds: Sequence[int]) -> list[Case]:
    """Splits with ``n`` labels a class, one a seed; all other labelled rows are asked."""
    truth = _truth(data)
    return [_case(data, per_class(truth, n, s).train, f"{n} a class, seed {s}") for s in seeds]


def held_out_cases(data: Instances, fraction: float, seeds: Sequence[int]) -> list[Case]:
    """Splits that hide a fraction of the labels, one a seed."""
    truth = _truth(data)
    return [
        _case(data, (truth >= 0) & ~hold_out(truth, fraction, s), f"held out, seed {s}")
        for s in seeds
    ]


def folded_cases(data: Instances, seed: int) -> list[Case]:
    """Stratified folds among the labelled rows: each is hidden once.

    Raises:
        DataError: If a class has a single label, which no fold can hide.
    """
    from sklearn.model_selection import StratifiedKFold

    truth = _truth(data)
    known = np.flatnonzero(truth >= 0)
    fewest = int(np.bincount(truth[known]).min())
    if fewest < 2:
        raise DataError("A comparison needs at least two labels of each class, found one.")
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    cases = []
    for number, (kept, _) in enumerate(folds.split(known, truth[known])):
        visible = np.zeros(len(truth), dtype=bool)
        visible[known[kept]] = True
        cases.append(_case(data, visible, f"fold {number + 1}"))
    return cases


def _truth(data: Instances) -> NDArray[np.int64]:
    if data.y is None:
        raise DataError("A comparison needs labels, found none.")
    return data.y


def _case(data: Instances, visible: NDArray[np.bool_], name: str) -> Case:
    truth = _truth(data)
    task = Task(
        data.x,
        np.where(visible, truth, -1),
        data.num_classes,
        data.edge_index,
        data.edge_weight,
    )
    return Case(task, truth, (truth >= 0) & ~visible, name)
