"""Runs and searches: kept once, never repeated, and blind to what is tested."""

import json

import numpy as np
import pytest
from harness_cases import CENTROIDS, find, write_data
from pydantic import ValidationError

from difformer.data import datasets
from difformer.errors import ConfigError, RunError
from difformer.experiments.harness import cell as cells
from difformer.experiments.harness.answers import LeakError
from difformer.experiments.harness.cell import Cell
from difformer.experiments.harness.recipe import parse_recipe
from difformer.experiments.harness.reproduce import reproduce
from difformer.experiments.harness.run import Spec, Store, execute
from difformer.experiments.harness.tuning import Budget, tune

optuna = pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def _data(tmp_path, monkeypatch):
    write_data(tmp_path / "data")
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path / "data"))
    cells._loaded.cache_clear()
    yield
    cells._loaded.cache_clear()


CELL = Cell(data="texas", protocol="geom-gcn-48-32-20")


def spec(stage="final", split=0, seed=0, **settings):
    return Spec(
        cell=CELL,
        method="centroids",
        settings=CENTROIDS.resolved(settings),
        stage=stage,
        split_seed=split,
        model_seed=seed,
    )


def counted(calls):
    def look_up(cell, name):
        calls.append(name)
        return find(cell, name)

    return look_up


def test_a_run_is_kept_and_read_instead_of_run_again(tmp_path):
    store, calls = Store(tmp_path / "runs"), []
    first = execute(spec(), store, counted(calls))
    again = execute(spec(), store, counted(calls))
    assert first == again
    assert calls == ["centroids"]
    assert first.test is not None
    assert 0 < first.test <= 1
    others = [spec(seed=1), spec(split=1), spec(blur=0.0), spec("tune")]
    assert len({s.key for s in [spec(), *others]}) == 5
    for other in others:
        execute(other, store, counted(calls))
    assert len(calls) == 5


def test_split_and_model_have_seeds_of_their_own(tmp_path):
    store = Store(tmp_path)
    noisy = [execute(spec(seed=s, blur=10.0), store, find).test for s in range(4)]
    assert len(set(noisy)) > 1  # same split, other seeds
    exact = [execute(spec(seed=s, blur=0.0), store, find).test for s in range(3)]
    assert len(set(exact)) == 1  # a method without chance, on one split


def test_a_damaged_or_foreign_file_is_an_error(tmp_path):
    store = Store(tmp_path)
    execute(spec(), store, find)
    path = tmp_path / spec().file
    text = path.read_text()
    path.write_text(text.replace('"model_seed": 0', '"model_seed": 7'))
    with pytest.raises(RunError, match="another one"):
        store.get(spec())
    path.write_text(json.dumps({**json.loads(text), "test": "good"}))
    with pytest.raises(RunError, match="test is wrong"):
        store.get(spec())


def test_while_settings_are_chosen_no_test_label_can_be_read(tmp_path):
    assert execute(spec("tune"), Store(tmp_path), find).test is None
    task, answers = CELL.problem(0, final=False)
    guess = np.full((task.num_instances, task.num_classes), 1 / 3)
    with pytest.raises(LeakError, match="while settings are chosen"):
        answers.test(guess)
    task, answers = CELL.problem(0, final=True)
    answers.test(guess)
    with pytest.raises(LeakError, match="once a run"):
        answers.test(guess)


def test_a_task_shows_no_label_of_a_test_row():
    task, answers = CELL.problem(3, final=True)
    split = answers.split
    assert (task.y[split.train] >= 0).all()
    assert (task.y[~split.train] == -1).all()
    assert (task.choosing[split.val] >= 0).all()
    assert (task.choosing[~split.val] == -1).all()


def test_a_search_takes_the_best_on_validation_and_repeats_nothing(tmp_path):
    store, calls = Store(tmp_path), []
    found = tune(CELL, "centroids", {}, Budget(trials=8), store, counted(calls))
    assert found.trials == 8
    files = sorted(store.folder.glob("**/*.json"))
    outcomes = [json.loads(file.read_text()) for file in files]
    assert found.validation == max(outcome["validation"] for outcome in outcomes)
    assert all(outcome["test"] is None for outcome in outcomes)
    assert CENTROIDS.defaults in [outcome["spec"]["settings"] for outcome in outcomes]
    before = len(calls)
    assert tune(CELL, "centroids", {}, Budget(trials=8), store, counted(calls)) == found
    assert len(calls) - before == 1  # the space is looked up, nothing is run


def test_a_search_that_was_stopped_goes_on_to_the_same_end(tmp_path):
    whole = tune(CELL, "centroids", {}, Budget(trials=9), Store(tmp_path / "a"), find)
    tune(CELL, "centroids", {}, Budget(trials=4), Store(tmp_path / "b"), find)
    resumed = tune(CELL, "centroids", {}, Budget(trials=9), Store(tmp_path / "b"), find)
    assert resumed == whole
    names = [sorted(p.name for p in (tmp_path / k).glob("**/*.json")) for k in "ab"]
    assert names[0] == names[1]


def test_a_search_keeps_to_its_budget_and_leaves_given_settings_alone(tmp_path):
    found = tune(CELL, "centroids", {"idle": 2}, Budget(trials=20), Store(tmp_path), find)
    assert found.trials <= 4  # all there is: four values of blur
    assert found.settings["idle"] == 2
    late = tune(CELL, "centroids", {}, Budget(20, seconds=0.0), Store(tmp_path / "late"), find)
    assert late.trials == 1


def test_a_search_without_validation_rows_is_refused(tmp_path):
    cell = Cell(data="texas", protocol="per-class-5")
    with pytest.raises(ConfigError, match="has none"):
        tune(cell, "centroids", {}, Budget(2), Store(tmp_path), find)


def test_a_search_changes_no_setting_of_optuna(tmp_path):
    before = optuna.logging.get_verbosity()
    tune(CELL, "centroids", {}, Budget(2), Store(tmp_path), find)
    assert optuna.logging.get_verbosity() == before


@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "roc-auc"])
def test_every_metric_scores(tmp_path, metric):
    cell = Cell(data="texas", protocol="geom-gcn-48-32-20", metric=metric, graph=False)
    outcome = execute(spec().model_copy(update={"cell": cell}), Store(tmp_path), find)
    assert 0 < outcome.test <= 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("data", "mine"), ("protocol", "mine"), ("features", "mine"), ("metric", "mine")],
)
def test_an_unknown_name_in_a_cell_is_refused(field, value):
    known = {"data": "texas", "protocol": "per-class", field: value}
    with pytest.raises(ValidationError, match="mine"):
        Cell(**known)


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("per-class-5", "no validation rows"),
        ("geom-gcn-48-32-20", "epochs chosen on validation rows"),
    ],
)
def test_a_record_says_whether_there_were_validation_rows(tmp_path, protocol, said):
    recipe = parse_recipe(
        f'name = "one"\ntitle = "One"\nsource = "made"\n[[cell]]\ndata = "texas"\n'
        f'protocol = "{protocol}"\n[[entry]]\nlabel = "ours"\nmethod = "logistic"\n',
        "one.toml",
    )
    folders = {"runs": tmp_path / "runs", "records": tmp_path / "results"}
    (record,) = reproduce(recipe, "one.toml", seeds=1, **folders)
    assert said in record.protocol
