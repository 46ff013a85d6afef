"""The readout is chosen on later blocks by what came before them, and learnt from all windows."""

import numpy as np
import pytest
from forecasting_cases import ring, waves

from difformer.data.windows import Windows
from difformer.diffusion import resolve
from difformer.estimators.forecasting import decoupled
from difformer.estimators.forecasting.decoupled import Given, Setting, candidates, fit
from difformer.estimators.forecasting.readout import Moments

LAGS, HORIZON = 4, 3


def given(values, validation=20):
    import torch

    graph = (torch.from_numpy(ring(values.shape[1])), None)
    return Given(values[..., None], None, (graph,), validation)


SETTING = Setting(LAGS, HORIZON, (resolve("graph"), resolve("simple")))


def test_a_block_is_judged_by_what_ends_before_it():
    """Slowly: a readout is learnt anew before each block."""
    data = given(waves())
    fitted = fit(data, SETTING)
    count = 80 - LAGS - HORIZON + 1
    first = count - 20
    before = fitted.before
    past = before.past(data)
    target = Windows(before.units.apply(data.values), LAGS, HORIZON).target
    columns = before.design.columns(past)
    expected = []
    length = max(20 // decoupled.BLOCKS, HORIZON)
    for start in range(first, count, length):
        block = range(start, min(start + length, count))
        ended = range(start - HORIZON + 1)  # what they forecast is over when the block begins
        x, level = before.design.rows(past, ended)
        y = (target[: ended.stop] - level[..., None]).reshape(*level.shape[:2], -1)
        weights = fitted.chosen.weights(Moments.of(x, y), columns)
        x, level = before.design.rows(past, block)
        expected.append((x @ weights)[:, :, None] + level[..., None])
    judged, truth = fitted.judged
    np.testing.assert_allclose(judged, np.concatenate(expected), atol=1e-9)
    np.testing.assert_array_equal(truth, target[first:])


def test_judged_forecasts_do_not_know_what_they_forecast():
    values = waves()
    base = fit(given(values), SETTING)
    other = values.copy()
    other[-5:] += 50
    changed = fit(given(other), SETTING)
    assert base.chosen == changed.chosen, "the test compares the same readout"
    known = 20 - 5 - HORIZON + 1
    np.testing.assert_allclose(base.judged[0][:known], changed.judged[0][:known], atol=1e-12)
    assert not np.allclose(base.judged[0], changed.judged[0])


def test_the_last_weights_are_learnt_from_all_windows():
    data = given(waves())
    fitted = fit(data, SETTING)
    whole = fit(Given(data.values, None, data.graphs, 0), SETTING)
    assert fitted.chosen == whole.chosen == candidates(["graph", "simple"])[0]
    np.testing.assert_allclose(fitted.model.weights, whole.model.weights, atol=1e-12)
    assert whole.judged is None


def test_another_readout_must_lead_clearly(monkeypatch):
    draw = np.random.default_rng(0)
    base = draw.normal(1, 0.1, 10)
    better, worse, unsure = base - 0.2 + 0.01 * draw.normal(size=10), base + 0.1, base.copy()
    unsure[0] -= 3
    assert decoupled._best([base, worse, unsure])[0] == 0
    number, (lead, error) = decoupled._best([base, worse, better, unsure])
    assert number == 2
    assert lead == pytest.approx(0.2, abs=0.02)
    assert error < 0.01


def test_neighbours_help_where_a_node_follows_another():
    values = np.random.default_rng(1).normal(size=(200, 5))
    for t in range(1, 200):
        values[t, 1:] = 0.9 * values[t - 1, :-1] + 0.1 * values[t, 1:]
    judged, truth = fit(given(values), Setting(2, 1, (resolve("graph"),))).judged
    alone, _ = fit(given(values), Setting(2, 1, ())).judged
    assert ((judged - truth)[:, 1:] ** 2).mean() < 0.7 * ((alone - truth)[:, 1:] ** 2).mean()


def test_candidates_are_told_apart():
    found = candidates(["graph", "local", "simple"])
    assert len({(c.members, c.strength) for c in found}) == len(found)
    assert candidates([])[0].members == (("own",),)
    assert ("own", "graph", "local", "simple") in found[0].members
