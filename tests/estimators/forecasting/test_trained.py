"""The network that adds to a linear forecast."""

import numpy as np
import pytest
import torch
from forecasting_cases import random_graph, ring, waves

from difformer.data.windows import Windows
from difformer.diffusion import resolve
from difformer.estimators.forecasting import trained
from difformer.estimators.forecasting.decoupled import Given, Setting, fit
from difformer.estimators.forecasting.inputs import terms_of
from difformer.estimators.forecasting.trained import TRAINING, ForecastNetwork
from difformer.training.config import TrainingConfig

OPTIONS = {"hidden_channels": 8, "node_channels": 3}


def fitted(values, graphs, epochs=2, diffusivity=None):
    data = Given(values[..., None], None, graphs, 15)
    terms = terms_of(diffusivity, values.shape[1], bool(graphs))
    linear = fit(data, Setting(4, 2, terms)).before
    past = linear.past(data)
    target = np.array(Windows(linear.units.apply(data.values), 4, 2).target)
    config = TrainingConfig(**{**TRAINING, "epochs": epochs, "batch_size": 8})
    model, result = trained.fit(linear, past, target, len(target) - 15, OPTIONS, config)
    return model, result, past, target


def test_at_first_it_adds_nothing():
    network = ForecastNetwork(5, 3, 2, 4, hidden_channels=8)
    x = torch.randn(6, 3, 5)
    assert not network.eval()(x).any()


@pytest.mark.parametrize("graphs", ["none", "one", "many"])
def test_windows_do_not_hear_each_other(graphs):
    values = waves(60, 5)
    given_graphs = {
        "none": (),
        "one": ((torch.from_numpy(ring()), None),),
        "many": tuple(random_graph(5, 8, seed) for seed in range(60)),
    }[graphs]
    model, _, past, _ = fitted(values, given_graphs)
    assert (model.graph is None) == (graphs != "none")
    together = model.forecast(past, range(20))
    for window in range(20):
        alone = model.forecast(past, range(window, window + 1))
        np.testing.assert_allclose(together[window], alone[0], atol=1e-6)


def test_what_is_learnt_lowers_the_error_it_is_trained_on():
    values = np.abs(waves(200, 4, noise=0.0)) ** 3
    model, result, past, target = fitted(values, (), epochs=30)
    first = len(target) - 15
    error = ((model.forecast(past, range(first)) - target[:first]) ** 2).mean()
    linear = ((model.linear.forecast(past, range(first)) - target[:first]) ** 2).mean()
    assert result.best_epoch > 1
    assert error < 0.5 * linear


def test_the_epoch_is_chosen_by_validation_windows():
    model, result, past, target = fitted(waves(60, 5), (), epochs=6)
    first = len(target) - 15
    found = model.forecast(past, range(first, len(target)))
    losses = [record["val_loss"] for record in result.history]
    assert min(losses) == pytest.approx(((found - target[first:]) ** 2).mean(), rel=1e-4)


def test_a_graph_that_is_named_is_heard():
    graph = (random_graph(5, 8, 0),)
    model, _, past, _ = fitted(waves(60, 5), graph, diffusivity=("graph", "simple"))
    other, *_ = fitted(waves(60, 5), graph, diffusivity=("graph", "simple"))
    before = model.forecast(past, range(5))
    changed = other.forecast(
        type(past)(past.values, None, None, (random_graph(5, 8, 1),)), range(5)
    )
    assert not np.allclose(before, changed)
    assert resolve("graph").support == "edges"
