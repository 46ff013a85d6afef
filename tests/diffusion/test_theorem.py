"""The theorem as a test: hypotheses stated, worst direction included, and its converse."""

import math

import diffusion_cases as cases
import pytest
import torch

from difformer.diffusion import (
    DIFFUSIVITIES,
    SIMPLE,
    Diffusivity,
    contrast,
    degrees,
    energy,
    lambda_star,
    reference,
    regulariser,
    step_bound,
)
from difformer.errors import ConfigError

# States in a ball of radius 1 keep every squared distance in [0, 4], where every penalty here is
# concave and non-decreasing.
PENALTIES = {n: d.penalty for n, d in cases.ALL_PAIRS.items() if n.endswith("-raw")}


def ball(count, width, seed, radius=1.0):
    z = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double()
    return radius * z / z.norm(dim=1).max()


def rates_of(z, penalty):
    return reference.rates(z[:, None], z[:, None], penalty, sphere=False)[0]


def worst_states(penalty, count=24, scale=1e-3, seed=0):
    """States along the eigenvector of D^-1 L with the largest eigenvalue.

    With all states close together the rates are constant, L is that of a complete graph with
    self-loops, and any direction of zero mean is a top eigenvector; a bipartite arrangement of two
    tight far clusters pushes the eigenvalue further. Both are built by power iteration on the
    rates of the states themselves.
    """
    z = ball(count, 1, seed, scale)
    for _ in range(20):
        w = rates_of(z, penalty)
        d = w.sum(1)
        laplacian = torch.diag(d) - w
        _, vectors = torch.linalg.eigh(laplacian / (d[:, None] * d[None]).sqrt())
        z = (vectors[:, -1] / d.sqrt()).unsqueeze(1)
        z = scale * z / z.abs().max()
    return z


@pytest.mark.parametrize("start", ["random", "top-eigenvector"])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("name", PENALTIES)
def test_energy_falls_up_to_the_bound(name, share, start):
    penalty = PENALTIES[name]
    z = ball(30, 3, seed=1) if start == "random" else worst_states(penalty)
    weight = 0.01
    previous = weight * float(reference.regulariser(z, penalty, sphere=False))
    for _ in range(6):
        w = rates_of(z, penalty)
        tau = share * step_bound(weight, float(w.sum(1).min()))
        moved = reference.step(z, reference.divide(w), tau)
        now = energy(moved, z, penalty, weight).total
        assert now <= previous * (1 + 1e-12)
        z, previous = moved, now


@pytest.mark.parametrize("tau", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("name", PENALTIES)
def test_the_regulariser_never_rises_and_falls_by_the_stated_amount(name, tau):
    penalty = PENALTIES[name]
    for z in (ball(25, 4, seed=2), worst_states(penalty)):
        w = rates_of(z, penalty)
        s = reference.divide(w)
        before = reference.regulariser(z, penalty, False)
        after = reference.regulariser(reference.step(z, s, tau), penalty, False)
        promised = 4 * tau * (1 - tau) * (w.sum(1) * (z - s @ z).square().sum(1)).sum()
        assert float(after - before) <= -float(promised) + 1e-12 * float(before)


@pytest.mark.parametrize("name", PENALTIES)
def test_steps_above_the_bound_can_raise_the_energy(name):
    penalty = PENALTIES[name]
    z = ball(40, 3, seed=3)
    weight, tau = 1e-4, 0.5
    w = rates_of(z, penalty)
    assert tau > step_bound(weight, float(w.sum(1).min()))
    moved = reference.step(z, reference.divide(w), tau)
    before = weight * float(reference.regulariser(z, penalty, False))
    assert energy(moved, z, penalty, weight).total > before


def test_the_bound_is_nearly_tight():
    # Two instances far apart relative to the kernel hear themselves only; two that coincide in
    # rate form the complete graph. Just above the bound of the pair, the top eigenvector rises.
    z = torch.tensor([[-1e-4], [1e-4]]).double()
    w = rates_of(z, SIMPLE)
    weight = 0.05
    bound = step_bound(weight, float(w.sum(1).min()))
    s = reference.divide(w)
    before = weight * float(reference.regulariser(z, SIMPLE, False))

    def change(tau):
        return energy(reference.step(z, s, tau), z, SIMPLE, weight).total - before

    assert change(bound) <= 0
    assert change(min(1.0, 2.5 * bound)) > 0


def test_many_small_steps_approach_the_heat_equation_at_first_order():
    z = ball(12, 3, seed=4)
    s = reference.divide(rates_of(z, SIMPLE))
    exact = torch.linalg.matrix_exp(s - torch.eye(12).double()) @ z

    def error(steps):
        state = z
        for _ in range(steps):
            state = reference.step(state, s, 1 / steps)
        return float((state - exact).norm())

    assert error(64) / error(128) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("name", ["simple", "sigmoid", "welsch", "cauchy", "local"])
def test_the_regulariser_equals_its_definition(name, sphere, batched):
    z = ball(60, 4, seed=5)
    batch = torch.tensor([0] * 20 + [1] * 3 + [3] * 37) if batched else None
    penalty = DIFFUSIVITIES[name].penalty
    found = regulariser(z, penalty, sphere, batch)
    expected = reference.regulariser(z, penalty, sphere, batch)
    assert cases.relative(found, expected) < 1e-12


@pytest.mark.parametrize("name", cases.ALL_PAIRS)
def test_degrees_equal_their_definition(name):
    diffusivity = cases.ALL_PAIRS[name]
    z = ball(20, 3, seed=6)
    expected = reference.rates(z[:, None], z[:, None], diffusivity.penalty, diffusivity.sphere)
    torch.testing.assert_close(degrees(z, diffusivity), expected[0].sum(1), atol=1e-11, rtol=0)


def test_lambda_star_inverts_the_bound():
    for tau in (0.1, 0.5, 0.9):
        assert step_bound(lambda_star(tau, 3.0), 3.0) == pytest.approx(tau)
    assert lambda_star(1.0, 2.0) == math.inf
    assert lambda_star(0.0, 0.0) == 0.0
    with pytest.raises(ConfigError, match="must lie in"):
        lambda_star(1.5, 1.0)
    with pytest.raises(ConfigError, match="negative"):
        step_bound(-1.0, 1.0)


@pytest.mark.parametrize("name", sorted(DIFFUSIVITIES))
def test_rate_and_slope_are_the_derivatives_of_the_penalty(name):
    penalty = DIFFUSIVITIES[name].penalty
    x = torch.linspace(0.01, 3.9, 60, dtype=torch.float64, requires_grad=True)
    (rate,) = torch.autograd.grad(penalty.delta(x).sum(), x, create_graph=True)
    torch.testing.assert_close(penalty.rate(x), rate)
    slope = torch.zeros_like(x)
    if rate.requires_grad:
        (slope,) = torch.autograd.grad(rate.sum(), x, allow_unused=True)
    torch.testing.assert_close(penalty.slope(x), slope)


def test_the_table_is_what_the_theory_states():
    x = torch.linspace(0, 4, 9, dtype=torch.float64)
    cosine = 1 - x / 2
    torch.testing.assert_close(DIFFUSIVITIES["simple"].penalty.rate(x), 1 + cosine)
    torch.testing.assert_close(DIFFUSIVITIES["sigmoid"].penalty.rate(x), torch.sigmoid(cosine))
    s = DIFFUSIVITIES["welsch"].penalty.scale
    softmax = torch.softmax(cosine / (s / 2), 0)
    rate = DIFFUSIVITIES["welsch"].penalty.rate(x)
    torch.testing.assert_close(rate / rate.sum(), softmax)


def test_contrast_equals_its_definition():
    y = torch.tensor([0, 0, 1, 1, 2, -1, 0, 2])
    s = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).double()
    classes = torch.eye(3).double()[y.clamp_min(0)] * (y >= 0).unsqueeze(1)
    known = (y >= 0).unsqueeze(0) & (y >= 0).unsqueeze(1)
    like = (y.unsqueeze(0) == y.unsqueeze(1)) & known & ~torch.eye(8, dtype=torch.bool)
    unlike = (y.unsqueeze(0) != y.unsqueeze(1)) & known
    found = contrast(s @ classes, s.diagonal(), y)
    assert found == pytest.approx(float(s[like].mean() / s[unlike].mean()))
    flat = torch.ones(8, 8)
    assert contrast(flat @ classes.float(), flat.diagonal(), y) == pytest.approx(1.0)
    assert math.isnan(contrast(s @ classes, s.diagonal(), torch.zeros(8, dtype=torch.long)))


def test_bad_penalties_are_refused():
    from difformer.diffusion import penalty_from, resolve, welsch

    with pytest.raises(ConfigError, match="must be concave"):
        penalty_from(lambda x: x.square())
    with pytest.raises(ConfigError, match="must not fall"):
        penalty_from(lambda x: -x)
    with pytest.raises(ConfigError, match="finite derivative at distance 0"):
        penalty_from(lambda x: x.sqrt())
    with pytest.raises(ConfigError, match="positive number"):
        welsch(0.0)
    with pytest.raises(ConfigError, match="'simple', 'sigmoid'"):
        resolve("simpel")
    with pytest.raises(ConfigError, match="exactly for support"):
        Diffusivity("x", SIMPLE, "neighbours")
