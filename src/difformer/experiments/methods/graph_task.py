"""What a method for whole graphs may see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from difformer.experiments.task import HIDDEN


@dataclass(frozen=True, eq=False)
class GraphTask:
    """Graphs, and what is known of some of them. Targets of test graphs are not in here.

    Attributes:
        x: (N, F).
        edge_index: (2, E).
        edge_attr: (E, A) or None.
        node_ptr: Where the nodes of each graph begin, (G + 1,).
        y: Classes (G,), -1 where hidden; numbers (G,) or marks (G, T), NaN where hidden.
        train, val: Graphs that teach and that choose, (G,) bool.
        target: ``classes``, ``numbers`` or ``marks``.
        outputs: Classes, 1, or T.
    """

    x: NDArray[np.float32]
    edge_index: NDArray[np.int64]
    edge_attr: NDArray[np.float32] | None
    node_ptr: NDArray[np.int64]
    y: NDArray[Any]
    train: NDArray[np.bool_]
    val: NDArray[np.bool_]
    target: str
    outputs: int

    @property
    def num_graphs(self) -> int:
        """G."""
        return len(self.y)

    @property
    def graph(self) -> NDArray[np.int64]:
        """Graph of each node, (N,)."""
        return np.repeat(np.arange(self.num_graphs), np.diff(self.node_ptr))


def hidden(y: NDArray[Any], shown: NDArray[np.bool_]) -> NDArray[Any]:
    """Targets with those of other graphs hidden."""
    if y.dtype.kind in "iu" and y.ndim == 1:
        return np.where(shown, y, HIDDEN)
    return np.where(shown.reshape(-1, *(1,) * (y.ndim - 1)), y.astype(np.float64), np.nan)
