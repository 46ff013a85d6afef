"""What the released scripts do around their model."""

import numpy as np
import torch

from difformer.experiments.methods import METHODS
from difformer.experiments.methods.released import with_self_loops
from difformer.experiments.task import Task


def test_every_node_gets_one_self_loop_whatever_it_had() -> None:
    edges = torch.tensor([[0, 1, 2, 2], [1, 1, 2, 0]])
    weight = torch.tensor([0.5, 3.0, 4.0, 2.0])
    found, weights = with_self_loops(edges, weight, 4)
    assert found.T.tolist() == [[0, 1], [2, 0], [0, 0], [1, 1], [2, 2], [3, 3]]
    assert weights is not None
    assert weights.tolist() == [0.5, 2.0, 1.0, 1.0, 1.0, 1.0]


def task(loops: bool) -> Task:
    draw = np.random.default_rng(0)
    ring = np.stack([np.arange(30), np.roll(np.arange(30), 1)])
    own = np.stack([np.arange(30)] * 2)
    y = np.where(np.arange(30) < 10, np.arange(30) % 2, -1)
    edges = np.concatenate([ring, own], 1) if loops else ring
    return Task(draw.normal(size=(30, 5)), y, 2, edges, prepared=True)


def test_the_preset_trains_on_a_graph_with_self_loops() -> None:
    official = METHODS["official"]

    def answer(loops: bool, added: bool) -> np.ndarray:
        return official.fit_predict(task(loops), 0, {"epochs": 3, "self_loops": added})

    np.testing.assert_array_equal(answer(loops=False, added=True), answer(loops=True, added=False))
    assert not np.allclose(answer(loops=False, added=True), answer(loops=False, added=False))
