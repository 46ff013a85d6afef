"""Whole graphs in the harness: made sets of every kind through the recipes, labels hidden."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from difformer.data import datasets
from difformer.data.graph_sets import ATOMS, GRAPH_SETS, load_graphs
from difformer.errors import ConfigError
from difformer.experiments.harness.campaign import run_cell
from difformer.experiments.harness.graphs_cell import GraphsCell
from difformer.experiments.harness.recipe import load_recipe
from difformer.experiments.harness.run import Spec, Store, execute
from difformer.experiments.methods.graph_level import GRAPH_LEVEL, _Mean
from difformer.experiments.methods.graph_networks import Pieces
from difformer.experiments.methods.graph_task import GraphTask

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
    known = split.train | split.val
    assert (task.y[~known] == -1).all()
    assert (task.y[known] >= 0).all()
    np.testing.assert_array_equal(task.train, split.train)
    np.testing.assert_array_equal(task.val, split.val)
    assert split.val.sum() == 20


def test_the_mean_is_over_each_graph_and_an_empty_one_is_zero():
    class Same(torch.nn.Module):
        def forward(self, x, edges, weight, graph):
            return x

    x, graph = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    assert _Mean(Same())(x, None, graph, 3).tolist() == [[2.0], [0.0], [5.0]]


SETS = ("mutag", "esol", "clintox", "enzymes", "imdb_binary")


@pytest.mark.skipif(datasets.data_root() is None, reason=f"{datasets.VARIABLE} is not set")
@pytest.mark.parametrize("name", SETS)
def test_real_sets_are_read_and_every_network_learns_from_them(name, tmp_path):
    pytest.importorskip("rdkit")
    data = load_graphs(name)
    metric = {"classes": "accuracy", "numbers": "rmse", "marks": "mean-roc-auc"}[data.target]
    cut = "scaffold-80-10-10" if data.groups else "k-fold-10"
    cell = GraphsCell(kind="graphs", data=name, protocol=cut, metric=metric)
    task, answers = cell.problem(0, final=True)
    few = replace(task, train=task.train & (np.arange(task.num_graphs) % 10 == 0))
    for method in ("graph-difformer", "gin", "gps"):
        row = GRAPH_LEVEL[method]
        tiny = {"epochs": 1, "hidden_channels": 8, "num_layers": 1, "batch_size": 32}
        found = row.fit(few, row.resolved(tiny), 0)
        assert np.isfinite(found).all()
        assert np.isfinite(answers.validation(found))
    if data.groups:  # a family stands in one part only
        parts = np.where(answers.split.train, 0, np.where(answers.split.val, 1, 2))
        for group in set(data.groups):
            assert len(set(parts[[g == group for g in data.groups]].tolist())) == 1


def test_pieces_are_the_graphs_themselves():
    draw = np.random.default_rng(0)
    sizes = [3, 0, 2, 4]
    ends = np.cumsum([0, *sizes])
    edges = np.concatenate([draw.integers(a, b, (2, 3)) for a, b in pairwise(ends) if b > a], 1)
    edges = edges[:, draw.permutation(edges.shape[1])]
    attr = draw.normal(size=(edges.shape[1], 2)).astype(np.float32)
    x = draw.normal(size=(9, 3)).astype(np.float32)
    shown = np.ones(4, dtype=bool)
    task = GraphTask(x, edges, attr, ends, np.zeros(4, int), shown, shown, "classes", 2)
    found_x, index, found_attr, batch, count = Pieces(task).of(np.array([3, 1, 0]))
    assert count == 3
    assert batch.tolist() == [0, 0, 0, 0, 2, 2, 2]
    np.testing.assert_array_equal(found_x.numpy(), np.concatenate([x[5:9], x[0:3]]))
    back = np.array([5, 6, 7, 8, 0, 1, 2])
    named = {
        (a, b, tuple(f)) for a, b, f in zip(*back[index.numpy()], found_attr.numpy(), strict=True)
    }
    owner = task.graph[edges[0]]
    own = [(a, b, tuple(f)) for a, b, f, g in zip(*edges, attr, owner, strict=True) if g in (0, 3)]
    assert named == set(own)
