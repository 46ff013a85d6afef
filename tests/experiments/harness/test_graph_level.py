"""Whole graphs in the harness: made sets of every kind through the recipes, labels hidden."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from difformer.data import datasets
from difformer.data.graph_sets import ATOMS, GRAPH_SETS
from difformer.errors import ConfigError
from difformer.experiments.harness.campaign import run_cell
from difformer.experiments.harness.recipe import load_recipe
from difformer.experiments.harness.run import Spec, Store, execute
from difformer.experiments.methods.graph_level import GRAPH_LEVEL, _Mean

NAMES = ("synmol", "actstrack", "tau3mu")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Sixty graphs whose class shows in their nodes."""
    draw = np.random.default_rng(0)
    sizes, y = draw.integers(1, 7, 60), np.arange(60) % 2
    ends = np.cumsum([0, *sizes])
    owner = np.repeat(np.arange(60), sizes)
    ring = [np.stack([np.arange(a, b - 1), np.arange(a + 1, b)]) for a, b in pairwise(ends)]
    common = {"node_ptr": ends, "y": y}
    arrays = {
        "synmol": {
            "atom_type": np.where(draw.random(len(owner)) < 0.8, y[owner], 2) % ATOMS,
            "edge_index": np.concatenate(ring, axis=1),
            "train_mask": np.arange(60) < 40,
            "test_mask": np.arange(60) >= 40,
        },
    }
    points = {
        "x": y[owner, None] + 0.1 * draw.normal(size=(len(owner), 1)),
        "pos": draw.normal(size=(len(owner), 3)),
    }
    for name in NAMES:
        path = tmp_path / GRAPH_SETS[name][0]
        path.parent.mkdir()
        np.savez(path, **common, **arrays.get(name, points))
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_on_made_graphs(made, name):
    recipe = load_recipe(name)
    (cell,) = recipe.cells
    for entry in recipe.entries:
        row = GRAPH_LEVEL[entry.method]
        spec = Spec(
            cell=cell,
            method=entry.method,
            settings=row.resolved({**entry.settings, "epochs": 25}),
            stage="final",
            split_seed=0,
            model_seed=0,
        )
        outcome = execute(spec, Store(made / "runs"))
        assert outcome.test > 0.8  # ROC-AUC; chance is 0.5


def test_what_is_unavailable_runs_as_soon_as_its_files_are_there(made, monkeypatch):
    recipe = load_recipe("tau3mu")
    short = recipe.entries[0].model_copy(update={"settings": {"epochs": 2}})
    recipe = recipe.model_copy(update={"entries": (short,)})
    (line,) = run_cell(recipe, recipe.cells[0], Store(made / "runs"), seeds=1)
    assert line.outcomes[0].test is not None
    monkeypatch.setenv(datasets.VARIABLE, str(made / "nowhere"))
    with pytest.raises(ConfigError, match="tau3mu cannot be run: its point clouds"):
        run_cell(recipe, recipe.cells[0], Store(made / "others"), seeds=1)


def test_a_task_shows_no_label_of_a_test_graph(made):
    (cell,) = load_recipe("synmol").cells
    task, answers = cell.problem(1, final=True)
    split = answers.split
    assert (task.y[~split.train] == -1).all()
    assert (task.val[~split.val] == -1).all()
    assert (task.y[split.train] >= 0).all()
    assert split.val.sum() == 20


def test_the_mean_is_over_each_graph_and_an_empty_one_is_zero():
    class Same(torch.nn.Module):
        def forward(self, x, edges, weight, graph):
            return x

    x, graph = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    assert _Mean(Same())(x, None, graph, 3).tolist() == [[2.0], [0.0], [5.0]]
