"""ogbn-proteins on made files: reading, hidden labels, the metric, the recipe."""

import gzip

import numpy as np
import pytest
import torch

from difformer.data import datasets
from difformer.data.proteins import load_proteins
from difformer.errors import DataError
from difformer.experiments.harness.leaks import check_objective
from difformer.experiments.harness.recipe import load_recipe
from difformer.experiments.harness.run import Spec, Store, execute
from difformer.experiments.methods.multi_label import MULTI_LABEL, binary_cross_entropy
from difformer.training.metrics import mean_roc_auc


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        for row in np.atleast_2d(table).tolist():
            file.write(",".join(map(str, row)) + "\n")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Forty proteins; three labels, of which two follow from the edges."""
    draw = np.random.default_rng(0)
    group = np.arange(40) % 2
    ends = np.array([(i, j) for i in range(40) for j in range(i) if draw.random() < 0.2])
    features = np.stack([group[ends].mean(1), draw.random(len(ends))], axis=1)
    y = np.stack([group, 1 - group, draw.integers(0, 2, 40)], axis=1)
    folder = tmp_path / "proteins"
    write(folder / "raw/edge.csv.gz", ends)
    write(folder / "raw/edge-feat.csv.gz", features)
    write(folder / "raw/node-label.csv.gz", y)
    rows = np.arange(40)[:, None]
    for part, some in (("train", rows[:20]), ("valid", rows[20:30]), ("test", rows[30:])):
        write(folder / f"split/species/{part}.csv.gz", some)
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path))
    return folder, ends, features, y


def test_features_are_means_over_edges(made):
    _, ends, features, y = made
    data = load_proteins()
    np.testing.assert_array_equal(data.y, y)
    own = [features[(ends == i).any(1)].mean(0) for i in range(40)]
    np.testing.assert_allclose(data.x, own, rtol=1e-6)
    assert data.edge_index.shape == (2, 2 * len(ends))
    assert (data.split.train.sum(), data.split.val.sum(), data.split.test.sum()) == (20, 10, 10)


def test_the_recipe_runs_on_made_files_and_sees_no_test_label(made, tmp_path):
    recipe = load_recipe("proteins")
    (cell,), (entry,) = recipe.cells, recipe.entries
    task, answers = cell.problem(0, final=True)
    assert np.isnan(task.y[answers.split.test]).all()
    assert np.isfinite(task.y[~answers.split.test]).all()
    settings = MULTI_LABEL[entry.method].resolved({**entry.settings, "epochs": 20})
    spec = Spec(
        cell=cell,
        method=entry.method,
        settings=settings,
        stage="final",
        split_seed=0,
        model_seed=0,
    )
    assert 0 < execute(spec, Store(tmp_path / "runs")).test <= 1


def test_the_metric_is_the_mean_over_labels_that_occur_both_ways():
    truth = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 0]])
    scores = np.array([[0.1, 0.3, 0.2], [0.9, 0.2, 0.8], [0.8, 0.1, 0.9], [0.2, 0.0, 0.3]])
    assert mean_roc_auc(truth, scores) == pytest.approx((1.0 + 0.5) / 2)


def test_the_loss_does_not_broadcast():
    check_objective(binary_cross_entropy)
    outputs, y = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = (np.log(2) + np.log1p(np.exp(2.0))) / 2
    found = binary_cross_entropy(outputs, y, torch.tensor([True]))
    assert float(found) == pytest.approx(expected)


def test_bad_files_are_one_sentence(made, monkeypatch):
    folder, ends, features, _ = made
    write(folder / "raw/edge-feat.csv.gz", features[1:])
    with pytest.raises(DataError, match="one row of features an edge"):
        load_proteins()
    write(folder / "raw/edge-feat.csv.gz", features)
    write(folder / "raw/edge.csv.gz", ends + 40)
    with pytest.raises(DataError, match="among 40 proteins"):
        load_proteins()
    (folder / "raw/edge.csv.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="table of numbers"):
        load_proteins()
    (folder / "raw/edge.csv.gz").unlink()
    with pytest.raises(DataError, match="does not exist"):
        load_proteins()
    monkeypatch.delenv(datasets.VARIABLE)
    with pytest.raises(DataError, match=datasets.VARIABLE):
        load_proteins()
