"""A cell whose rows carry several yes-or-no labels: ogbn-proteins."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from difformer.data.proteins import load_proteins
from difformer.experiments.harness.answers import Answers, Score
from difformer.experiments.harness.base_cell import BaseCell
from difformer.experiments.methods.method import Method
from difformer.experiments.methods.multi_label import MULTI_LABEL, MultiLabelTask
from difformer.training import metrics


class MultiLabelCell(BaseCell):
    """What all methods meet; the protocol is the official split by species."""

    TABLES: ClassVar = {"metric": {"roc-auc": Score("roc-auc %", metrics.mean_roc_auc)}}

    kind: Literal["multi-label"]
    data: Literal["proteins"] = "proteins"
    protocol: Literal["ogb"] = "ogb"
    metric: str = "roc-auc"

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods that can be named here."""
        return MULTI_LABEL

    @property
    def conditions(self) -> tuple[str, ...]:
        """For people: what all methods meet."""
        return self.protocol, "split by species", "features: means over the edges of a node"

    def problem(self, split_seed: int, final: bool) -> tuple[MultiLabelTask, Answers]:
        """What methods see, and what judges them."""
        data = load_proteins()
        known = (data.split.train | data.split.val)[:, None]
        y = np.where(known, data.y, np.nan).astype(np.float32)
        task = MultiLabelTask(data.x, y, data.edge_index, data.split.train, data.split.val)
        return task, Answers(data.y, data.split, self.score, final)
