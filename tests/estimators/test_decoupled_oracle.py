"""The default recipe against its definition in plain numpy, and its energy on real rows."""

import estimator_cases as cases
import numpy as np
import pytest
import torch

from difformer.diffusion import Neighbourhood
from difformer.errors import ConfigError
from difformer.estimators.targets import Classes, start_of
from difformer.nn.decoupled import DecoupledDIFFormer, default_mix, scaled_rows
from difformer.training.objectives import ensemble_probabilities


@pytest.fixture(scope="module")
def rows():
    x, y, known = cases.digits(300)
    x = 4 * cases.unit(x.astype(np.float64))
    return x, y, known


@pytest.fixture(scope="module")
def neighbours(rows):
    x = rows[0]
    return [cases.self_tuned(x), cases.self_tuned(cases.components(x)[0])]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DecoupledDIFFormer(64, 10).double()


def structure_of(model, x, *edges):
    return model.encoder.structure(x, *edges)


def begun(model, states, y):
    """Q_0 and what is known of it."""
    with torch.no_grad():
        guess = ensemble_probabilities(model(states))
    return start_of(Classes(torch.from_numpy(y), 10), guess)


def answers(model, structure, start):
    return model.label_diffusion(model.label_operator(structure), start).answers()


def check(model, x, y, matrices, shares, *edges):
    """States, readout and labels of the model against the definition."""
    given = torch.from_numpy(x)
    states = model.states(given, *edges)
    expected = cases.diffused(cases.mixed(matrices, cases.symmetric, shares), x)
    np.testing.assert_allclose(states.numpy(), expected, atol=1e-8)
    start = begun(model, states, y)
    q_0 = cases.clamped(cases.readout(model, expected), y)
    np.testing.assert_allclose(start.values.numpy(), q_0, atol=1e-8)
    p = cases.mixed(matrices, cases.by_row, shares)
    q = answers(model, structure_of(model, given, *edges), start)
    np.testing.assert_allclose(q.numpy(), cases.labels_diffused(p, q_0, y < 0), atol=1e-8)
    assert (q.numpy().argmax(1) != q_0.argmax(1)).any()  # the labels did move


def test_two_neighbourhoods(model, rows, neighbours):
    check(model, rows[0], rows[2], neighbours, (1, 1))


def test_with_the_observed_graph_three_to_one(model, rows, neighbours):
    x, y, known = rows
    edge_index, weight = cases.ring_edges(y)
    graph = cases.observed(edge_index, weight, len(x))
    edges = torch.from_numpy(edge_index), torch.from_numpy(weight)
    check(model, x, known, [*neighbours, graph], (1, 1, 6), *edges)


def test_one_neighbourhood_and_other_settings(rows, neighbours):
    x, _, known = rows
    torch.manual_seed(1)
    model = DecoupledDIFFormer(
        64,
        10,
        diffusivity=(Neighbourhood(weights="self-tuned", self_loops=False, norm="sym"),),
        steps=7,
        source=0.3,
        members=0,
        label_steps=3,
        label_source=0.4,
        label_rounds=1,
    ).double()
    given = torch.from_numpy(x)
    states = model.states(given)
    expected = cases.diffused(cases.symmetric(neighbours[0]), x, 7, 0.3)
    np.testing.assert_allclose(states.numpy(), expected, atol=1e-8)
    start = begun(model, states, known)
    q = answers(model, structure_of(model, given), start).numpy()
    p, q_0 = cases.by_row(neighbours[0]), start.values.numpy()
    wanted = cases.labels_diffused(p, q_0, known < 0, 3, 0.4, 1)
    np.testing.assert_allclose(q, wanted, atol=1e-8)


def test_each_step_lowers_the_energy(model, rows, neighbours):
    """|Z - X|^2 + 49 tr Z'(I - S)Z with the source .02; S is symmetric, of norm at most 1."""
    x = rows[0]
    s = cases.mixed(neighbours, cases.symmetric, (1, 1))

    def energy(z):
        return ((z - x) ** 2).sum() + 49 * (z * (z - s @ z)).sum()

    given = torch.from_numpy(x)
    steps = model.encoder.steps(given, structure_of(model, given))
    states = [x, *(step.after.numpy() for step in steps)]
    assert len(states) == 41
    energies = np.array([energy(z) for z in states])
    assert (np.diff(energies) < 0).all()
    least = energy(np.linalg.solve(np.eye(len(x)) - 0.98 * s, 0.02 * x))
    assert least < energies[-1] < least + 0.05 * (energies[0] - least)


def test_no_label_steps_leave_the_start(rows):
    x, _, known = rows
    model = DecoupledDIFFormer(64, 10, label_steps=0).double()
    given = torch.from_numpy(x)
    start = begun(model, model.states(given), known)
    q = answers(model, structure_of(model, given), start)
    torch.testing.assert_close(q, start.values, rtol=0, atol=1e-15)


def test_forward_gives_the_logits_of_every_member(model, rows):
    logits = model(torch.from_numpy(rows[0]))
    assert logits.shape == (4, 300, 10)
    mean = logits.softmax(-1).mean(0).detach().numpy()
    np.testing.assert_allclose(mean, cases.readout(model, rows[0]), atol=1e-12)


def test_default_mix():
    near, graph = DecoupledDIFFormer(4, 2, diffusivity=("local", "graph")).encoder.layers[0].terms
    assert default_mix((near,)) == (1.0, 3.0)
    assert default_mix((near, near)) == (1.0, 1.0, 6.0)
    assert default_mix((near, graph)) == (1.0, 3.0)
    assert default_mix((graph,)) == (3.0,)


def test_scaled_rows_leave_zeros():
    z = scaled_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(z, torch.tensor([[2.4, 3.2], [0.0, 0.0]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"members": -1},
        {"label_steps": -1},
        {"label_steps": 2.5},
        {"label_rounds": -1},
        {"readout_channels": 0},
        {"label_source": -0.1},
        {"label_source": 1.1},
        {"source": -1},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"^{name} must"):
        DecoupledDIFFormer(4, 2, **wrong)
