"""A cell of a comparison of whole graphs: a set of graphs under a protocol."""

from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar, Literal

from difformer.data.datasets import data_root
from difformer.data.graph_sets import GRAPH_SETS, GraphSet, load_graphs
from difformer.data.protocols import protocol
from difformer.experiments.harness.answers import GRAPH_SCORES, Answers
from difformer.experiments.harness.base_cell import BaseCell
from difformer.experiments.methods.graph_level import GRAPH_LEVEL
from difformer.experiments.methods.graph_task import GraphTask, hidden
from difformer.experiments.methods.method import Method


class GraphsCell(BaseCell):
    """What all methods of one column meet.

    Args:
        data: name of a set of graphs.
        protocol: name of a protocol.
        metric: a key of ``GRAPH_SCORES``.
    """

    TABLES: ClassVar = {"data": GRAPH_SETS, "metric": GRAPH_SCORES}

    kind: Literal["graphs"]
    metric: str = "roc-auc"

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods that can be named here."""
        return GRAPH_LEVEL

    @property
    def conditions(self) -> tuple[str, ...]:
        """For people: what all methods meet."""
        return self.protocol, "whole graphs"

    def problem(self, split_seed: int, final: bool) -> tuple[GraphTask, Answers]:
        """What methods see, and what judges them."""
        data = _loaded(self.data, data_root())
        split = protocol(self.protocol).split(data.population, split_seed)
        outputs = {"classes": int(data.y.max()) + 1, "numbers": 1, "marks": data.y.shape[-1]}
        task = GraphTask(
            data.x,
            data.edge_index,
            data.edge_attr,
            data.node_ptr,
            hidden(data.y, split.train | split.val),
            split.train,
            split.val,
            data.target,
            outputs[data.target],
        )
        return task, Answers(data.y, split, self.score, final)


@lru_cache(maxsize=2)
def _loaded(name: str, root: object) -> GraphSet:
    """Read once, as long as the folder of the benchmarks is the same."""
    return load_graphs(name)
