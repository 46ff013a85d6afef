"""The trainer: best weights, early stopping, resuming, errors, and the caller's random state."""

import copy
import functools
import json
import shutil

import pytest
import torch
from torch import nn

from difformer.errors import ConfigError, RunError
from difformer.runs import RunDirectory
from difformer.training import TrainingConfig, train
from difformer.training.objectives import (
    cross_entropy,
    ensemble_cross_entropy,
    ensemble_probabilities,
    mean_squared_error,
)

N, C = 40, 3


def made_data():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(N) % C
    x = torch.randn(N, 5, generator=generator) + nn.functional.one_hot(y, 5) * 2
    return x, y, torch.arange(N) < 20, (torch.arange(N) >= 20) & (torch.arange(N) < 30)


X, Y, TRAIN, VAL = made_data()


def make_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, C))


def fit(config=None, model=None, run=None, y=Y, train_mask=TRAIN, val_mask=VAL, **options):
    model = make_model() if model is None else model
    config = TrainingConfig(epochs=12, learning_rate=0.02) if config is None else config
    result = train(
        model, lambda: model(X), y, train_mask, config, val_mask=val_mask, run=run, **options
    )
    return model, result


def make_run(path, config=None):
    return RunDirectory.create(path, {"training": (config or TrainingConfig()).model_dump()})


def same_weights(a, b):
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def without_seconds(history):
    return [{**record, "seconds": 0} for record in history]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny tensors gain nothing from threads, and on a busy machine these wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Interruption(Exception):
    pass


def stop_after(epoch):
    def progress(record):
        if record["epoch"] == epoch:
            raise Interruption

    return progress


def test_it_learns():
    model, result = fit(TrainingConfig(epochs=100, learning_rate=0.02))
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    with torch.no_grad():
        assert (model(X).argmax(1) == Y)[30:].float().mean() > 0.7


def test_the_step_is_that_of_plain_torch():
    config = TrainingConfig(epochs=3, learning_rate=0.02, weight_decay=0.1, optimizer="adamw")
    model = nn.Linear(5, C)
    twin = copy.deepcopy(model)
    fit(config, model, val_mask=None)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(X[TRAIN]), Y[TRAIN]).backward()
        optimizer.step()
    torch.testing.assert_close(model.weight, twin.weight)
    torch.testing.assert_close(model.bias, twin.bias)


def test_the_seed_decides_and_the_callers_stream_is_left_alone():
    before = torch.get_rng_state()
    first, _ = fit()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second, _ = fit()
    third, _ = fit(TrainingConfig(epochs=12, learning_rate=0.02, seed=1))
    assert same_weights(first, second)
    assert not same_weights(first, third)


def test_the_callers_stream_is_left_alone_after_an_error_too():
    before = torch.get_rng_state()
    with pytest.raises(Interruption):
        fit(progress=stop_after(2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("monitor", "choose"), [("val_accuracy", max), ("val_loss", min)])
def test_the_first_of_the_best_weights_is_kept(monitor, choose):
    config = TrainingConfig(epochs=25, learning_rate=0.05, monitor=monitor)
    model, result = fit(config)
    values = [record[monitor] for record in result.history]
    assert result.best_metric == choose(values)
    assert result.best_epoch == values.index(choose(values)) + 1
    shorter, _ = fit(config.replace(epochs=result.best_epoch))
    assert same_weights(model, shorter)


def test_without_validation_the_last_weights_stay():
    _, result = fit(val_mask=None)
    assert (result.best_epoch, result.best_metric) == (12, None)
    assert result.history[0]["val_loss"] is None
    assert result.history[0]["train_accuracy"] is not None


def test_patience_counts_consecutive_misses():
    config = TrainingConfig(epochs=200, learning_rate=0.05, patience=3)
    _, result = fit(config)
    values = [record["val_accuracy"] for record in result.history]
    assert result.stopped_early
    assert result.epochs == len(values) < 200
    misses, best = 0, -1.0
    for epoch, value in enumerate(values, start=1):
        misses, best = (0, value) if value > best else (misses + 1, best)
        assert (misses >= 3) == (epoch == result.epochs)


def test_evaluation_can_be_rarer_but_never_misses_the_last_epoch():
    _, result = fit(TrainingConfig(epochs=7, eval_every=3))
    measured = [r["epoch"] for r in result.history if r["val_loss"] is not None]
    assert measured == [3, 6, 7]


def test_modes_are_right_in_steps_and_evaluations():
    model, modes = make_model(), []

    def forward():
        modes.append((model.training, torch.is_grad_enabled()))
        return model(X)

    train(model, forward, Y, TRAIN, TrainingConfig(epochs=2), val_mask=VAL)
    assert modes == [(True, True), (False, False)] * 2
    assert not model.training


def test_clipping_bounds_the_gradient(monkeypatch):
    model = make_model()
    norms = []
    step = torch.optim.Adam.step

    def spy(self, *args):
        grads = [p.grad.norm() for p in model.parameters()]
        norms.append(torch.stack(grads).norm().item())
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    fit(TrainingConfig(epochs=3, clip_norm=0.01), model)
    assert len(norms) == 3
    assert max(norms) < 0.0101


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("stop", [1, 4, 5, 8, 11, 12])
def test_an_interrupted_training_goes_on_bit_by_bit(tmp_path, stop, optimizer):
    config = TrainingConfig(epochs=12, learning_rate=0.02, checkpoint_every=4, optimizer=optimizer)
    whole_run = make_run(tmp_path / "whole", config)
    whole, expected = fit(config, run=whole_run)
    run = make_run(tmp_path / "cut", config)
    with pytest.raises(Interruption):
        fit(config, run=run, progress=stop_after(stop))
    resumed, result = fit(config, run=make_run(tmp_path / "cut", config))
    assert result.resumed_from == stop - stop % 4
    assert same_weights(resumed, whole)
    assert without_seconds(result.history) == without_seconds(expected.history)
    assert without_seconds(run.read_metrics()) == without_seconds(whole_run.read_metrics())
    assert (run.path / "model.safetensors").read_bytes() == (
        whole_run.path / "model.safetensors"
    ).read_bytes()


def test_a_damaged_checkpoint_sends_us_to_the_older_one(tmp_path):
    config = TrainingConfig(epochs=12, learning_rate=0.02, checkpoint_every=4)
    whole, _ = fit(config)
    run = make_run(tmp_path / "run", config)
    with pytest.raises(Interruption):
        fit(config, run=run, progress=stop_after(9))
    path = run.checkpoints / "epoch-000008" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    resumed, result = fit(config, run=run)
    assert result.resumed_from == 4
    assert same_weights(resumed, whole)
    assert [record["epoch"] for record in run.read_metrics()] == list(range(1, 13))
    assert sorted(p.name for p in run.checkpoints.iterdir())[-1] == "epoch-000012"


def test_resuming_removes_what_a_cut_off_saving_would_have_removed(tmp_path):
    config = TrainingConfig(epochs=12, checkpoint_every=4, monitor="val_loss")
    run = make_run(tmp_path / "run", config)
    fit(config, run=run, val_mask=None)
    shutil.copytree(run.checkpoints / "epoch-000008", run.checkpoints / "epoch-000004")
    fit(config, run=run, val_mask=None)
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["epoch-000008", "epoch-000012"]


def test_metrics_and_checkpoints_of_a_run(tmp_path):
    config = TrainingConfig(epochs=12, checkpoint_every=0)
    run = make_run(tmp_path / "run", config)
    model, result = fit(config, run=run)
    assert run.read_metrics() == result.history
    assert [p.name for p in run.checkpoints.iterdir()] == ["epoch-000012"]
    assert set(json.loads(run.metrics.read_text().splitlines()[0])) == {
        "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds",
    }  # fmt: skip
    twin = make_model()
    twin.load_state_dict(run.read_model())
    assert same_weights(model, twin)


def test_a_finished_run_is_read_again_and_not_changed(tmp_path):
    run = make_run(tmp_path / "run")
    model, first = fit(run=run)
    run.finish({})
    again, second = fit(run=RunDirectory.open(run.path))
    run.verify()
    assert same_weights(model, again)
    assert second.resumed_from == 12
    assert (second.best_epoch, second.history) == (first.best_epoch, first.history)
    with pytest.raises(RunError, match="holds a finished run"):
        fit(run=run, resume=False)


def test_starting_again_is_possible(tmp_path):
    run = make_run(tmp_path / "run")
    fit(run=run)
    _, result = fit(run=run, resume=False)
    assert result.resumed_from == 0
    assert len(run.read_metrics()) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": TrainingConfig(epochs=12, seed=5)}, "other learning_rate|other seed"),
        ({"train_mask": torch.arange(N) < 19}, "other labels and masks"),
        ({"model": nn.Linear(5, C)}, "does not fit the run"),
    ],
)
def test_another_training_is_not_resumed(tmp_path, change, message):
    run = make_run(tmp_path / "run")
    fit(run=run)
    with pytest.raises(RunError, match=message):
        fit(run=run, **change)


def test_divergence_stops_with_advice_and_keeps_the_last_checkpoint(tmp_path):
    config = TrainingConfig(epochs=12, checkpoint_every=2)
    run = make_run(tmp_path / "run", config)
    calls = []

    def objective(outputs, y, mask):
        calls.append(0)
        loss = cross_entropy(outputs, y, mask)
        return loss * float("nan") if len(calls) > 10 else loss  # two calls an epoch

    with pytest.raises(RunError, match=r"loss became nan in epoch 6; lower the learning rate"):
        fit(config, run=run, objective=objective)
    assert [p.name for p in sorted(run.checkpoints.iterdir())] == ["epoch-000002", "epoch-000004"]
    assert len(run.read_metrics()) == 5


def test_weights_that_are_not_finite_never_reach_a_checkpoint(tmp_path):
    config = TrainingConfig(epochs=3, checkpoint_every=1, eval_every=3)
    run = make_run(tmp_path / "run", config)
    model = make_model()

    def spoil(record):
        model[0].weight.register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(RunError, match="A weight became NaN or infinite in epoch 2"):
        fit(config, model, run=run, progress=spoil)
    assert [p.name for p in run.checkpoints.iterdir()] == ["epoch-000001"]


def test_an_ensemble_trains_through_its_own_objective():
    members = nn.ModuleList(make_model() for _ in range(3))
    result = train(
        members,
        lambda: torch.stack([member(X) for member in members]),
        Y,
        TRAIN,
        TrainingConfig(epochs=30, learning_rate=0.02),
        val_mask=VAL,
        objective=ensemble_cross_entropy,
        predict=ensemble_probabilities,
    )
    assert result.best_metric is not None
    assert result.history[-1]["train_accuracy"] > 0.8


def test_targets_are_regressed_and_unlabelled_rows_are_nan():
    target = X[:, 0] * 2
    target[30:] = torch.nan
    model = nn.Sequential(nn.Linear(5, 1), nn.Flatten(0))
    config = TrainingConfig(epochs=200, learning_rate=0.05, monitor="val_loss", weight_decay=0)
    _, result = fit(config, model, y=target, objective=mean_squared_error)
    assert result.best_metric < 0.01
    assert result.history[0]["val_accuracy"] is None


def test_weighted_objectives_come_by_partial():
    weighted = functools.partial(cross_entropy, class_weight=torch.tensor([1.0, 0.0, 0.0]))
    model, _ = fit(TrainingConfig(epochs=100), objective=weighted, val_mask=None)
    with torch.no_grad():
        assert (model(X).argmax(1) == 0).all()


def with_label(value, row):
    y = Y.clone()
    y[row] = value
    return y


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": with_label(-1, 3)}, "train_mask must select labelled rows only, found 1"),
        ({"y": with_label(-1, 25)}, "val_mask must select labelled rows only, found 1"),
        ({"y": with_label(C, 3)}, "must be in 0 to 2, found 3"),
        ({"y": Y.int()}, "y must be torch.int64 or floating, found torch.int32"),
        ({"y": Y[:, None]}, r"y must have shape \(40,\), found \(40, 1\)"),
        ({"train_mask": TRAIN.long()}, "train_mask must be torch.bool"),
        ({"train_mask": TRAIN[:-1]}, r"train_mask must be .* \(40,\), found .* \(39,\)"),
        ({"train_mask": TRAIN & False}, "train_mask must select at least one row"),
        ({"val_mask": VAL | TRAIN}, "must be disjoint, found 20 in both"),
        ({"y": Y.float()}, "monitor must be 'val_loss'"),
        ({"y": torch.full((N, 2), torch.nan)}, "found 20 without label"),
        ({"val_mask": None, "config": TrainingConfig(patience=3)}, "patience needs val_mask"),
        ({"objective": lambda o, y, m: o[:, 0]}, r"must return a scalar, found \(40,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        fit(**change)


def test_unlabelled_rows_outside_the_masks_do_not_matter():
    other = Y.clone()
    other[30:] = -1
    assert same_weights(fit()[0], fit(y=other)[0])
