"""A cell of a comparison of whole graphs: a set of graphs under a protocol."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from difformer.data.graph_sets import GRAPH_SETS, load_graphs
from difformer.data.protocols import protocol
from difformer.experiments.harness.answers import CLASS_SCORES, Answers
from difformer.experiments.harness.base_cell import BaseCell
from difformer.experiments.methods.graph_level import GRAPH_LEVEL, GraphTask
from difformer.experiments.methods.method import Method
from difformer.experiments.task import HIDDEN


class GraphsCell(BaseCell):
    """What all methods of one column meet.

    Args:
        data: name of a set of graphs.
        protocol: name of a protocol.
        metric: a key of ``CLASS_SCORES``.
    """

    TABLES: ClassVar = {"data": GRAPH_SETS, "metric": CLASS_SCORES}

    kind: Literal["graphs"]
    metric: str = "roc-auc"

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods that can be named here."""
        return GRAPH_LEVEL

    @property
    def conditions(self) -> tuple[str, ...]:
        """For people: what all methods meet."""
        return self.protocol, "one class a graph"

    def problem(self, split_seed: int, final: bool) -> tuple[GraphTask, Answers]:
        """What methods see, and what judges them."""
        data = load_graphs(self.data)
        split = protocol(self.protocol).split(data.population, split_seed)
        task = GraphTask(
            data.x,
            data.edge_index,
            data.graph_of_node,
            np.where(split.train, data.y, HIDDEN),
            np.where(split.val, data.y, HIDDEN),
            int(data.y.max()) + 1,
        )
        return task, Answers(data.y, split, self.score, final)
