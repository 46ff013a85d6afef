"""The linear path where large numbers cancel: queries opposite to nearly all of their keys."""

import diffusion_cases as cases
import pytest
import torch

from difformer.diffusion import DIFFUSIVITIES, SIMPLE, pairwise, propagate, reference

SIMPLE_RAW = cases.raw(SIMPLE)


def opposite(queries, keys, spread, seed=0):
    """Queries that all lie opposite to keys which differ by about ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.tensor([1.0, 0.0, 0.0]) + spread * torch.randn(keys, 3, generator=generator)
    q = -torch.tensor([1.0, 0.0, 0.0]) + spread * torch.randn(queries, 3, generator=generator)
    v = torch.randn(keys, 1, 2, generator=generator)
    return q.unsqueeze(1), k.unsqueeze(1), v


def expected(diffusivity, q, k, v, batch_q=None, batch_k=None):
    wide = [x.double() for x in (q, k, v)]
    return cases.gradients(
        lambda q, k, v: reference.propagate(
            reference.matrix(q, k, SIMPLE, diffusivity.sphere, batch_q, batch_k), v
        ),
        wide,
    )


def found(diffusivity, q, k, v, batch_q=None, batch_k=None):
    return cases.gradients(
        lambda q, k, v: propagate(diffusivity, q, k, v, batch_q, batch_k), (q, k, v)
    )


@pytest.fixture
def no_pairs(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pairs were formed")

    monkeypatch.setattr(pairwise, "accumulate", refuse)


@pytest.mark.usefixtures("no_pairs")
@pytest.mark.parametrize("batched", [False, True])
def test_weak_rows_equal_the_oracle(batched):
    q, k, v = opposite(60, 400, 0.02)
    q[::3] = -q[::3]  # strong rows beside the weak ones
    batch_q = batch_k = None
    if batched:
        batch_q = torch.arange(60) % 3
        batch_k = torch.arange(400) % 2
    out, grads = found(DIFFUSIVITIES["simple"], q, k, v, batch_q, batch_k)
    right, right_grads = expected(DIFFUSIVITIES["simple"], q, k, v, batch_q, batch_k)
    # Directions are float32: an angle of 0.03 to the opposite carries their rounding of 1e-7.
    assert cases.relative(out, right) < 1e-5
    for grad, right_grad in zip(grads, right_grads, strict=True):
        assert cases.relative(grad, right_grad) < 2e-5


@pytest.mark.usefixtures("no_pairs")
def test_raw_states_equal_the_oracle():
    q, k, v = opposite(50, 300, 0.03)
    right, _ = expected(SIMPLE_RAW, q, k, v)
    out, _ = found(SIMPLE_RAW, q, k, v)
    assert cases.relative(out, right) < 2e-5


@pytest.mark.usefixtures("no_pairs")
def test_all_rows_may_be_weak_in_linear_time():
    # The cliff: pair by pair these would be 400,000,000 rates.
    q, k, v = opposite(20_000, 20_000, 0.05)
    out, grads = found(DIFFUSIVITIES["simple"], q, k, v)
    rows = slice(0, 20_000, 1000)
    right, _ = expected(DIFFUSIVITIES["simple"], q[rows], k, v)
    assert cases.relative(out[rows], right) < 1e-4
    assert all(torch.isfinite(g).all() for g in grads)


def test_exactly_opposite_keys_are_heard_equally_in_float32():
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(50, 1, 3, generator=generator)
    for row in q:
        k, v = -row.expand(7, 1, 3), torch.arange(7.0).reshape(7, 1, 1)
        out = propagate(DIFFUSIVITIES["simple"], row.unsqueeze(0), k, v)
        torch.testing.assert_close(out, torch.full((1, 1, 1), 3.0))
