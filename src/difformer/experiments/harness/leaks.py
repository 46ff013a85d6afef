"""Checks that catch the faults by which comparisons flatter themselves.

Each takes the thing under suspicion, tries it on data that it is given, and raises ``LeakError``.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from difformer.data.instances import Features, Instances
from difformer.data.splits import Split
from difformer.errors import ConfigError
from difformer.experiments.harness.answers import LeakError
from difformer.experiments.harness.preparation import Prepare
from difformer.training.objectives import Objective

Decide = Callable[[Instances, Split], object]


def check_selection(decide: Decide, data: Instances, split: Split, seed: int = 0) -> None:
    """A decision must not depend on the labels of test rows.

    Args:
        decide: from data and split to what was decided (settings, weights, predictions); compared
            by ``==``, arrays entry by entry.
        data: with labels.
        split: its test rows get other labels.
        seed: of those.

    Raises:
        LeakError: The decision changed.
    """
    assert data.y is not None
    draw = np.random.default_rng(seed)
    other = data.y.copy()
    other[split.test] = draw.integers(0, data.num_classes, int(split.test.sum()))
    if np.array_equal(other, data.y):
        other[split.test] = (other[split.test] + 1) % data.num_classes
    if not _equal(decide(data, split), decide(_relabelled(data, other), split)):
        raise LeakError("A decision changed with the labels of the test rows.")


def _relabelled(data: Instances, y: NDArray[np.int64]) -> Instances:
    return Instances(
        data.x,
        y,
        data.classes,
        edge_index=data.edge_index,
        edge_weight=data.edge_weight,
        masks=data.masks,
        name=data.name,
    )


def _equal(a: object, b: object) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def check_preparation(prepare: Prepare, x: Features, split: Split) -> None:
    """Features of other rows must not depend on those of test rows.

    Raises:
        LeakError: They changed.
    """
    others = ~split.test
    changed = x.copy()
    changed[split.test] = 3 * changed[split.test]
    first, second = (_dense(prepare(given, split.train)[others]) for given in (x, changed))
    if not np.array_equal(first, second):
        raise LeakError("Features of other rows changed with those of the test rows.")


def _dense(x: Features) -> NDArray[np.float64]:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def check_objective(objective: Objective, rows: int = 4) -> None:
    """A loss must refuse predictions and targets of different shapes, however they broadcast.

    Raises:
        LeakError: It gave a number for one of them.
    """
    shapes: list[tuple[int, ...]] = [(rows,), (rows, 1), (1, rows), (1,), (), (rows, rows)]
    mask = torch.ones(rows, dtype=torch.bool)
    for outputs in shapes:
        for y in shapes:
            if outputs == y:
                continue
            try:
                objective(torch.zeros(outputs), torch.zeros(y), mask)
            except (ConfigError, IndexError, ValueError, RuntimeError):
                continue
            raise LeakError(f"A loss took outputs {outputs} with targets {y}: it broadcasts.")
