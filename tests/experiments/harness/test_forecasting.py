"""Forecasts in the harness: published reference points, hidden targets, proper shapes."""

import json

import numpy as np
import pytest

from difformer.data import datasets
from difformer.data.series import SERIES, load_series
from difformer.errors import ConfigError
from difformer.experiments.harness.recipe import load_recipe
from difformer.experiments.harness.run import Spec, Store, execute
from difformer.experiments.harness.series_cell import SeriesCell
from difformer.experiments.methods.forecasting import FORECASTING

here = pytest.mark.skipif(
    datasets.data_root() is None, reason=f"{datasets.VARIABLE} does not name the benchmarks' folder"
)
CHICKENPOX = SeriesCell(kind="series", data="chickenpox", lags=4)
COVID = SeriesCell(kind="series", data="england_covid", lags=8, published="series")
# Proper MSE on the test part, as published for the same split and units.
REFERENCES = [
    (CHICKENPOX, "zero", 0.9243),
    (CHICKENPOX, "persistence", 2.7776),
    (CHICKENPOX, "node-mean", 1.2017),
    (CHICKENPOX, "pooled-ar", 0.6451),
    (COVID, "zero", 0.8197),
    (COVID, "persistence", 0.8798),
    (COVID, "node-mean", 0.6202),
    (COVID, "pooled-ar", 0.8647),
]


def run(cell, name, store, settings=None):
    row = FORECASTING[name]
    spec = Spec(
        cell=cell,
        method=name,
        settings=row.resolved(settings or {}),
        stage="final",
        split_seed=0,
        model_seed=0,
    )
    return execute(spec, store)


@here
@pytest.mark.parametrize(("cell", "name", "expected"), REFERENCES)
def test_reference_points_are_the_published_ones(tmp_path, cell, name, expected):
    assert run(cell, name, Store(tmp_path)).test == pytest.approx(expected, abs=2e-4)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A series in which a node follows its neighbour with a delay of one step."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(80, 4)).cumsum(0) * 0.1 + draw.normal(size=(80, 4))
    values[1:, 1] = 0.9 * values[:-1, 0]
    path = tmp_path / "data" / SERIES["pedalme"][0]
    path.parent.mkdir(parents=True)
    pairs = [[0, 1], [1, 2], [2, 3], [0, 0]]
    path.write_text(json.dumps({"edges": pairs, "weights": [1.0] * 4, "X": values.tolist()}))
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path / "data"))
    return SeriesCell(kind="series", data="pedalme", lags=3, protocol="temporal-60-20-20")


@pytest.mark.parametrize("name", FORECASTING)
def test_every_method_answers_in_the_unit_of_the_truth(made, tmp_path, name):
    short = {"epochs": 5} if "epochs" in FORECASTING[name].defaults else {}
    outcome = run(made, name, Store(tmp_path / "runs"), short)
    assert np.isfinite([outcome.validation, outcome.test]).all()
    assert 0 < outcome.test < 20


def test_test_targets_are_hidden_and_scaling_is_told_by_the_training_part(made):
    task, answers = made.problem(0, final=True)
    split = answers.split
    assert np.isnan(task.target[split.test]).all()
    assert np.isfinite(task.target[split.train | split.val]).all()
    series = load_series("pedalme")
    seen = series.values[: split.train.sum() + made.lags]
    scaled = (series.values - seen.mean(0)) / seen.std(0)
    np.testing.assert_allclose(task.history, np.stack([scaled[t : t + 3].T for t in range(77)]))
    np.testing.assert_allclose(task.judged(scaled[3:]), answers.truth)


def test_the_published_unit_is_the_spread_of_the_whole_series(made):
    cell = made.model_copy(update={"published": "series"})
    task, answers = cell.problem(0, final=True)
    values = load_series("pedalme").values
    expected = ((values - values.mean(0)) / (values.std(0) + 1e-10))[3:]
    np.testing.assert_allclose(answers.truth, expected)
    known = ~np.isnan(task.target)
    np.testing.assert_allclose(task.judged(task.target)[known], expected[known])


def test_a_forecast_of_another_shape_is_an_error(made):
    _, answers = made.problem(0, final=True)
    with pytest.raises(ConfigError, match="Shapes must be equal"):
        answers.test(np.zeros((77, 1)))
    with pytest.raises(ConfigError, match="answer for 77 rows"):
        answers.validation(np.zeros((4, 4)))


def test_the_recipe_that_cannot_run_runs_on_made_data(tmp_path, monkeypatch):
    recipe = load_recipe("wikimath")
    assert recipe.unavailable
    draw = np.random.default_rng(1)
    visits = {str(day): {"y": draw.normal(size=5).tolist()} for day in range(60)}
    content = {**visits, "edges": [[0, 1], [1, 2]], "weights": [1.0, 2.0], "time_periods": 60}
    path = tmp_path / "data" / SERIES["wikimath"][0]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path / "data"))
    for entry in recipe.entries:
        given = dict(entry.settings)
        if "epochs" in FORECASTING[entry.method].defaults:
            given["epochs"] = 2
        outcome = run(recipe.cells[0], entry.method, Store(tmp_path / "runs"), given)
        assert np.isfinite(outcome.test)
