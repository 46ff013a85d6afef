"""Into the states and out of them against plain torch: outputs and every gradient."""

import itertools

import pytest
import torch
from diffusion_cases import relative
from torch.nn.functional import layer_norm, linear

from difformer.diffusion import affine, masks
from difformer.diffusion import rule as rules
from difformer.diffusion.affine import enter, leave
from difformer.diffusion.rule import StepRule

N, F, C = 61, 7, 5
SETTINGS = list(itertools.product((True, False), (True, False), (0.0, 0.3)))  # norm, relu, dropout


def plain(rule, x, weight, bias, gamma=None, beta=None):
    z = linear(x, weight, bias)
    if gamma is not None:
        z = layer_norm(z, z.shape[1:], gamma, beta, rule.eps)
    if rule.relu:
        z = z.relu()
    return z * masks.mask(*z.shape, rule.dropout, rule.key, z) if rule.dropout else z


def draw(norm=True, dtype=torch.float64, count=N):
    generator = torch.Generator().manual_seed(1)
    shapes = [(count, F), (C, F), (C,), *([(C,), (C,)] if norm else [])]
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [part.to(dtype).requires_grad_() for part in parts]


def results(call, parts):
    out = call(*parts)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    return [out.detach(), *torch.autograd.grad((out.double() * weight).sum(), parts)]


def doubled(parts):
    return [part.detach().double().requires_grad_() for part in parts]


@pytest.fixture(params=["made again", "kept"])
def few_rows(monkeypatch, request):
    """Several blocks, the last one short; with the product kept, too."""
    monkeypatch.setattr(rules, "NUMBERS", 16 * C)
    monkeypatch.setattr(affine, "WIDE", 4 if request.param == "made again" else 1)


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(("norm", "relu", "dropout"), SETTINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_enter_equals_plain_torch(norm, relu, dropout, dtype, tolerance):
    rule, parts = StepRule(1.0, relu=relu, dropout=dropout, key=3), draw(norm, dtype)
    found = results(lambda *given: enter(rule, *given), parts)
    expected = results(lambda *given: plain(rule, *given), doubled(parts))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        assert relative(ours.double(), theirs) < tolerance


@pytest.mark.usefixtures("few_rows")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_leave_equals_plain_torch(dtype, tolerance):
    parts = draw(False, dtype)
    for ours, theirs in zip(results(leave, parts), results(linear, doubled(parts)), strict=True):
        assert ours.dtype == dtype
        assert relative(ours.double(), theirs) < tolerance


def test_gradcheck():
    rule, parts = StepRule(1.0, relu=True, dropout=0.2, key=5), draw(count=6)
    assert torch.autograd.gradcheck(lambda *given: enter(rule, *given), parts)
    assert torch.autograd.gradcheck(leave, draw(False, count=6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype):
    rule, parts = StepRule(1.0), draw(True, dtype, count=3000)
    found = results(lambda *given: enter(rule, *given), parts)
    expected = results(lambda *given: plain(rule, *given), doubled(parts))
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours.double(), theirs) < 8 * torch.finfo(dtype).eps


def test_no_rows_and_no_gradient_where_none_is_wanted():
    x, weight, bias = (part.detach() for part in draw(False, count=0))
    assert enter(StepRule(1.0), x, weight, bias).shape == (0, C)
    assert leave(x, weight, bias).shape == (0, C)
    weight.requires_grad_()
    out = enter(StepRule(1.0), torch.ones(3, F, dtype=torch.float64), weight, bias)
    out.sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, 3))


def test_keeps_what_is_cheaper_kept():
    def kept(features):
        held = []
        weight = torch.randn(C, features, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
            enter(StepRule(1.0), torch.randn(40, features), weight, torch.zeros(C))
        return sum(t.shape == (40, C) for t in held)

    assert kept(affine.WIDE * C) == 0
    assert kept(affine.WIDE * C + 1) == 1
