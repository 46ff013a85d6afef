"""The fused step against its plain definition: outputs and every gradient, in every combination."""

import itertools
import math
import weakref
from functools import partial

import pytest
import torch
from diffusion_cases import relative
from torch.nn.functional import layer_norm

from difformer.diffusion import DIFFUSIVITIES, masks, reference
from difformer.diffusion import rule as rules
from difformer.diffusion.all_pairs import AllPairs, OutOfRange
from difformer.diffusion.folded import Maps
from difformer.diffusion.graph import observed, sparse_weights
from difformer.diffusion.rule import StepRule
from difformer.diffusion.scratch import Scratch
from difformer.diffusion.step import step
from difformer.diffusion.workspace import Workspace

N, C = 61, 5


def plain(rule, z, maps, rest, initial, gamma, beta, operators=()):
    """A step written out with N x N matrices and whole tensors."""
    moved = rule.keep * z
    for share, operator in operators:
        moved = moved + share * (operator.dense().to(z.dtype) @ z)
    if maps is not None:
        moved = moved + maps.scale * diffused(rule, z, maps)
    if rest is not None:
        moved = moved + rule.rest * rest
    if initial is not None:
        moved = moved + rule.source * initial
    if gamma is not None:
        moved = layer_norm(moved, (z.shape[1],), gamma, beta, rule.eps)
    if rule.relu:
        moved = moved.relu()
    if rule.dropout:
        moved = moved * masks.mask(*z.shape, rule.dropout, rule.key, z)
    return moved


def diffused(rule, z, maps):
    def apply(linear):
        return torch.einsum("nc,hmc->nhm", z, linear[..., :-1]) + linear[..., -1]

    q, k = apply(maps.query), apply(maps.key)
    v = z.unsqueeze(1).expand(-1, len(maps.query), -1) if maps.value is None else apply(maps.value)
    if rule.row_norms:
        rates = 1 + rule.gain * (1 - reference.squared_distance(q, k, True) / 2)
    else:
        rates = 1 + rule.gain * torch.einsum("nhm,lhm->hnl", q / q.norm(), k / k.norm())
    return reference.propagate(reference.divide(rates), v).mean(1)


def draw(dtype=torch.float64, heads=1, value=False, extra=True, count=N, seed=0):
    """z, maps, rest, initial, gamma, beta: leaves that want gradients."""
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    linear = (heads, C, C + 1)
    scale = torch.tensor(0.4, dtype=dtype)
    maps = Maps(leaf(*linear), leaf(*linear), leaf(*linear) if value else None, scale)
    others = (leaf(count, C), leaf(count, C), leaf(C), leaf(C)) if extra else (None,) * 4
    return leaf(count, C), maps, *others


def leaves(parts):
    z, maps, *others = parts
    return [part for part in (z, *(maps or ()), *others) if part is not None]


def compare(rule, parts, tolerance, operators=()):
    """Outputs and gradients of the fast step against the plain one in float64."""
    exact = double(parts)
    found = with_gradients(partial(step, operators=operators), rule, parts)
    expected = with_gradients(partial(plain, operators=operators), rule, exact)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours.double(), theirs) < tolerance


def double(parts):
    def wide(part):
        if isinstance(part, Maps):
            return part.to(torch.float64)
        return None if part is None else part.double()

    return tuple(wide(part) for part in parts)


def with_gradients(function, rule, parts):
    wanted = leaves(parts)
    for leaf in wanted:
        leaf.requires_grad_()
    out = function(rule, *parts)
    generator = torch.Generator().manual_seed(9)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    grads = torch.autograd.grad((out.double() * weight).sum(), wanted)
    return [out.detach(), *grads]


COMBINATIONS = list(itertools.product((1, 3), (False, True), (True, False), (True, False)))


@pytest.mark.parametrize(("heads", "value", "row_norms", "store"), COMBINATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_plain_step(monkeypatch, heads, value, row_norms, store, dtype, tolerance):
    monkeypatch.setattr(rules, "NUMBERS", 16 * C)  # several blocks, the last one short
    rule = StepRule(
        0.5, 0.2, 0.1, gain=0.9, row_norms=row_norms, relu=value, dropout=0.3, key=7, store=store
    )
    compare(rule, draw(dtype, heads, value), tolerance)


@pytest.mark.parametrize("row_norms", [True, False])
def test_equals_the_plain_step_alone(row_norms):
    compare(StepRule(0.5, row_norms=row_norms), draw(extra=False), 1e-10)


def draw_operators(dtype, seed=4):
    """A directed graph, and weights of which some rows and columns are empty."""
    generator = torch.Generator().manual_seed(seed)
    edges = torch.randint(0, N, (2, 200), generator=generator)
    graph = observed(edges, torch.rand(200, generator=generator), N, dtype)
    few = torch.randint(0, N // 2, (2, 40), generator=generator)
    some = sparse_weights(*few, torch.rand(40, generator=generator).to(dtype), N, N)
    return (0.3, graph.normalised("row")), (0.2, some)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_sparse_operators_in_the_same_pass(monkeypatch, linear, store, count, dtype, tolerance):
    monkeypatch.setattr(rules, "NUMBERS", 16 * C)
    z, maps, *others = draw(dtype, heads=2)
    rule = StepRule(
        0.5, 0.2, 0.1, relu=True, dropout=0.3, key=7, store=store, store_neighbours=store
    )
    operators = draw_operators(dtype)[:count]
    compare(rule, (z, maps if linear else None, *others), tolerance, operators)


def test_sparse_operators_alone_in_half_precision():
    z, *_ = draw(torch.bfloat16)
    operators = draw_operators(torch.bfloat16)
    rule, parts = StepRule(0.5), (z, None, None, None, None, None)
    found = with_gradients(partial(step, operators=operators), rule, parts)
    expected = with_gradients(partial(plain, operators=operators), rule, double(parts))
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours.double(), theirs) < 8 * torch.finfo(torch.bfloat16).eps


def test_without_a_linear_term():
    z, _, *others = draw()
    compare(StepRule(0.5, 0.5, 0.1, relu=True, dropout=0.2, key=3), (z, None, *others), 1e-10)
    compare(StepRule(1.0), (z, None, None, None, None, None), 1e-10)
    compare(StepRule(1.0, dropout=0.5, key=1), (z, None, None, None, None, None), 1e-10)


def test_few_instances():
    compare(StepRule(0.5, 0.2, 0.1), draw(count=2), 1e-10)
    parts, rule = draw(count=1), StepRule(0.5, 0.2, 0.1)
    for ours, theirs in zip(
        with_gradients(step, rule, parts), with_gradients(plain, rule, parts), strict=True
    ):  # some gradients are 0, so that there is nothing to be relative to
        assert (ours - theirs).abs().max() < 1e-12


def test_float32_goes_to_float64_where_rates_cancel():
    """All keys nearly equal and all queries opposite: rates are tiny differences of large sums."""
    z, maps, *others = draw(torch.float32, extra=False, count=400)
    with torch.no_grad():
        maps.key.mul_(0.02)[..., -1] = 1
        maps.query.mul_(0.02)[..., -1] = -1
    assert not reliable(z, maps, torch.float32)
    compare(StepRule(0.5), (z, maps, *others), 1e-5)


def test_one_row_opposite_to_every_key_is_found_among_others():
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(C, generator=generator)
    z, _, *others = draw(torch.float32, extra=False)
    with torch.no_grad():
        z[5] = -direction
    key = torch.zeros(1, C, C + 1)
    key[0, :, -1] = direction  # the same key for all
    maps = Maps(torch.eye(C, C + 1).unsqueeze(0), key, None, torch.tensor(1.0))
    assert not reliable(z, maps, torch.float32)
    out = step(StepRule(0.5), z, maps, *others)
    assert relative(out.double(), plain(StepRule(0.5), *double((z, maps, *others)))) < 1e-5


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_float32_goes_to_float64_where_squares_do_not_fit(factor):
    z, maps, *others = draw(torch.float32, extra=False)
    with torch.no_grad():
        maps.key.mul_(factor)
    assert not reliable(z, maps, torch.float32)
    out = step(StepRule(0.5), z, maps, *others)
    assert relative(out.double(), plain(StepRule(0.5), *double((z, maps, *others)))) < 1e-5


def test_refuses_what_float64_cannot_square():
    z, maps, *others = draw(extra=False)
    with pytest.raises(OutOfRange):
        step(StepRule(0.5), z, maps._replace(key=maps.key * 1e200), *others)


def reliable(z, maps, work):
    term = AllPairs(StepRule(0.5), maps, len(z), work)
    read(term, z.to(work))
    return term.reliable()


def read(term, z):
    scratch, rows = Scratch(z.dtype, z.device, Workspace()), slice(0, len(z))
    term.summarise(rows, z, scratch)
    term.fold()
    term.read(0, rows, z)


@pytest.mark.parametrize("seed", range(8))
def test_a_query_opposite_to_every_key_hears_the_mean(seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(1, C, generator=generator, dtype=torch.float64).repeat(3, 1)
    linear = torch.eye(C, C + 1, dtype=torch.float64).unsqueeze(0)
    maps = Maps(linear, -linear, None, torch.tensor(1.0, dtype=torch.float64))
    assert torch.allclose(step(StepRule(0.0), z, maps), z, atol=1e-14)
    # The sum of rates is 0 up to rounding: whatever it is, nothing may be divided by it.
    term = AllPairs(StepRule(0.0), maps, 3, torch.float64)
    read(term, z)
    assert torch.equal(term.rho, torch.zeros_like(term.rho))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype):
    """Only what is read and written is rounded: the error does not grow with N."""
    z, maps, *others = draw(dtype, count=3000)
    rule = StepRule(0.5, 0.2, 0.1)
    found = with_gradients(step, rule, (z, maps, *others))
    expected = with_gradients(plain, rule, double((z, maps, *others)))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == dtype
        assert relative(ours.double(), theirs) < 8 * torch.finfo(dtype).eps


def test_gradcheck():
    z, maps, *others = draw(count=7, heads=2, value=True)
    parts = leaves((z, maps, *others))
    for part in parts:
        part.requires_grad_()
    rule = StepRule(0.5, 0.2, 0.1, dropout=0.3, key=5)

    def run(z, query, key, value, scale, *others):
        return step(rule, z, Maps(query, key, value, scale), *others)

    assert torch.autograd.gradcheck(run, parts)


def test_sums_do_not_lose_digits_with_many_instances():
    """One block repeated many times has the same means as the block alone."""
    z, maps, *_ = draw(torch.float32, extra=False, count=64)
    rule = StepRule(0.0)
    alone = step(rule, z.double(), maps.to(torch.float64))
    many = step(rule, z.repeat(4000, 1), maps)
    assert relative(many[:64].double(), alone) < 1e-5
    assert relative(many[-64:].double(), alone) < 1e-5


def test_stores_less_than_three_tensors_a_step():
    """What autograd keeps of a step: its input, and five numbers a row."""
    z, maps, *_ = draw(extra=False, count=4096)
    z.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = step(StepRule(0.5), z, maps)
    run = out.grad_fn.run
    rows = [
        part
        for part in (*vars(run.term).values(), *vars(run.settle).values(), run.stored)
        if isinstance(part, torch.Tensor) and part.numel() >= len(z)
    ]
    assert sum(t.numel() for t in kept if t.numel() >= len(z)) == z.numel()
    assert sum(t.numel() for t in rows) <= 5 * len(z)


@pytest.mark.parametrize("row_norms", [True, False])
def test_nothing_stays_once_the_step_is_gone(row_norms):
    z, maps, *_ = draw(extra=False)
    z.requires_grad_()
    out = step(StepRule(0.5, row_norms=row_norms), z, maps)
    term = out.grad_fn.run.term
    kept = [weakref.ref(x) for x in (term, term.folded, term.folded.cross, term.pull)]
    del term
    out.sum().backward()
    del out
    assert all(held() is None for held in kept)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("row_norms", [True, False])
def test_a_second_backward_finds_what_the_first_wrote_over(row_norms, heads):
    parts = z, maps, rest, initial, gamma, beta = draw(heads=heads)
    edges = torch.randint(N, (2, 4 * N), generator=torch.Generator().manual_seed(0))
    operator = sparse_weights(*edges, torch.rand(4 * N).double(), N, N).normalised("row")
    rule = StepRule(0.5, 0.3, 0.2, row_norms=row_norms, store=True, store_neighbours=True)
    wanted = [leaf.requires_grad_() for leaf in leaves(parts)]
    out = step(rule, z, maps, rest, initial, gamma, beta, [(0.4, operator)])
    first, second = (
        torch.autograd.grad(out.square().sum(), wanted, retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_masks_are_fair_and_independent():
    rate, count = 0.2, 100_000
    kept = masks.drop_(torch.ones(count, 33), rate, key=12)
    share = masks.kept_share(rate)
    spread = math.sqrt(share * (1 - share))
    assert (kept.mean(0) - share).abs().max() < 4.5 * spread / math.sqrt(count)
    z = (kept - share) / spread
    between = z.t() @ z / count
    between.fill_diagonal_(0)
    assert between.abs().max() < 5 / math.sqrt(count)
    for lag in (1, 2, 64, 4096):
        assert (z[lag:] * z[:-lag]).mean(0).abs().max() < 5 / math.sqrt(count)
    other = masks.drop_(torch.ones(count, 33), rate, key=13)
    assert ((other - share) / spread * z).mean(0).abs().max() < 5 / math.sqrt(count)


def test_masks_do_not_depend_on_the_block_nor_on_the_dtype():
    whole = masks.drop_(torch.ones(500, 9), 0.4, key=3)
    part = masks.drop_(torch.ones(50, 9, dtype=torch.float64), 0.4, key=3, first=120)
    assert torch.equal(whole[120:170].double(), part)
    assert torch.equal(masks.mask(50, 9, 0.4, 3, part, 120) * masks.kept_share(0.4), part)


def test_the_rate_of_simple():
    """gain 1 is ``simple``: f(x) = 2 - x/2 = 1 + cos."""
    a, b = DIFFUSIVITIES["simple"].penalty.affine
    assert -2 * b / (a + 2 * b) == StepRule(0.5).gain
