"""A cell of a comparison: a data set, a protocol, a preparation, a metric."""

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np

from difformer.data import datasets
from difformer.data.instances import Instances
from difformer.data.protocols import protocol
from difformer.data.splits import Split
from difformer.experiments.harness.answers import CLASS_SCORES, Answers
from difformer.experiments.harness.base_cell import BaseCell
from difformer.experiments.harness.preparation import PREPARATIONS
from difformer.experiments.methods import METHODS, Method
from difformer.experiments.task import HIDDEN, Task


class Cell(BaseCell):
    """What all methods of one column meet.

    Args:
        data: name of a data set.
        protocol: name of a protocol.
        features: a key of ``PREPARATIONS``.
        metric: a key of ``CLASS_SCORES``.
        graph: whether the observed graph is shown.
    """

    TABLES: ClassVar = {
        "data": datasets.DATASETS,
        "features": PREPARATIONS,
        "metric": CLASS_SCORES,
    }

    kind: Literal["rows"] = "rows"
    features: str = "raw"
    metric: str = "accuracy"

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods that can be named here."""
        return METHODS

    @property
    def conditions(self) -> tuple[str, ...]:
        """For people: what all methods meet."""
        graph = "with the observed graph" if self.graph else "without a graph"
        return self.protocol, f"features {self.features}", graph

    def problem(self, split_seed: int, final: bool) -> tuple[Task, Answers]:
        """What methods see, and what judges them.

        Args:
            split_seed: which split of the protocol.
            final: whether settings are decided; see ``Answers``.
        """
        data = _loaded(self.data)
        return pose(self, data, protocol(self.protocol).split(data, split_seed), final)


@lru_cache(maxsize=2)
def _loaded(name: str) -> Instances:
    return datasets.load(name)


def pose(cell: Cell, data: Instances, split: Split, final: bool) -> tuple[Task, Answers]:
    """The problem of a split: labels outside its training and validation rows are hidden."""
    assert data.y is not None
    task = Task(
        PREPARATIONS[cell.features](data.x, split.train),
        np.where(split.train, data.y, HIDDEN),
        data.num_classes,
        data.edge_index if cell.graph else None,
        data.edge_weight if cell.graph else None,
        np.where(split.val, data.y, HIDDEN),
        prepared=True,
    )
    return task, Answers(data.y, split, cell.score, final)
