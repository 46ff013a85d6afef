"""The softmax form for GPUs, through FlexAttention's eager form on a CPU, against the oracle.

The compiled kernel is run in ``tests/nn/test_cuda.py``. Everything else is here: the score, its
derivative, the mask, the numerator and denominator that are rebuilt from the quotient and the
log-sum-exp.
"""

import math

import diffusion_cases as cases
import pytest
import torch
from torch._higher_order_ops.flex_attention import flex_attention as eager
from torch.nn.attention.flex_attention import _create_empty_block_mask, create_block_mask

from difformer.diffusion import DIFFUSIVITIES, flex, pairwise, propagate, reference, resolve, welsch
from difformer.diffusion.propagate import unit
from difformer.diffusion.segments import segment

POSITIVE = {
    "sigmoid": DIFFUSIVITIES["sigmoid"],
    "welsch": DIFFUSIVITIES["welsch"],
    "narrow": resolve(welsch(0.01)),
    "cauchy": DIFFUSIVITIES["cauchy"],
}


@pytest.fixture
def as_if_on_cuda(monkeypatch):
    """Takes the GPU's path on a CPU; counts the calls."""
    calls = []

    def attention(q, k, v, score, mask):
        calls.append(q.shape)
        blocks = (mask or _create_empty_block_mask(q, k)).as_tuple()
        out, log_total, _ = eager(q, k, v, score, blocks, 1.0, {})
        return out, log_total * math.log(2)  # the operator returns it to base 2

    monkeypatch.setattr(flex, "attention", attention)
    monkeypatch.setattr(flex, "fits", lambda penalty, sphere, *others: sphere)
    return calls


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("shape", ["one", "one-large", "cross", "batch", "batch-cross"])
@pytest.mark.parametrize("name", ["sigmoid", "welsch", "cauchy"])
def test_equals_the_oracle(name, shape, dtype, as_if_on_cuda):
    diffusivity = POSITIVE[name]
    q, k, v, batch_q, batch_k = cases.draw(shape, shuffled=True)

    def oracle(q, k, v):
        s = reference.matrix(q, k, diffusivity.penalty, True, batch_q, batch_k)
        return reference.propagate(s, v)

    expected, expected_grads = cases.gradients(oracle, (q, k, v))
    found, grads = cases.gradients(
        lambda *x: propagate(diffusivity, *x, batch_q, batch_k), [x.to(dtype) for x in (q, k, v)]
    )
    assert as_if_on_cuda
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype]
    assert cases.relative(found, expected) < tolerance
    scale = max(float(g.abs().max()) for g in expected_grads)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert float((grad.double() - expected_grad).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("name", ["sigmoid", "cauchy"])
def test_numerator_and_denominator_are_those_of_the_tiled_path(name, as_if_on_cuda):
    penalty = POSITIVE[name].penalty
    q, k, v, batch_q, batch_k = cases.draw("batch-cross")
    q, k, segments = unit(q), unit(k), segment(len(q), len(k), batch_q, batch_k)

    def joined(accumulate):
        return lambda q, k, v: torch.cat([part.flatten() for part in accumulate(q, k, v)])

    found = cases.gradients(joined(lambda *x: flex.accumulate(*x, penalty, segments)), (q, k, v))
    expected = cases.gradients(
        joined(lambda *x: pairwise.accumulate(*x, penalty, True, segments)), (q, k, v)
    )
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_a_narrow_kernel_stays_in_range(as_if_on_cuda):
    _, k, v, _, _ = cases.draw("cross", dtype=torch.float32)
    found = propagate(POSITIVE["narrow"], -k[:5], k, v)
    x = reference.squared_distance(-k[:5].double(), k.double(), True)
    expected = reference.propagate(torch.softmax(-x / 0.01, -1), v.double())
    assert cases.relative(found, expected) < 1e-4
    assert as_if_on_cuda


@pytest.mark.parametrize(
    ("queries", "keys"),
    [((300, 0, 5, 200, 1), (100, 30, 7, 400, 0)), ((1,) * 300, (2,) * 300), ((0, 129), (128, 1))],
)
def test_blocks_of_the_mask_hold_all_pairs_of_a_graph_and_few_others(queries, keys):
    batch_q, batch_k = (
        torch.repeat_interleave(torch.arange(len(s)), torch.tensor(s)) for s in (queries, keys)
    )
    segments = segment(len(batch_q), len(batch_k), batch_q, batch_k)
    found = flex._mask(segments, torch.device("cpu"))
    expected = create_block_mask(
        found.mask_mod, None, None, len(batch_q), len(batch_k), device="cpu"
    )
    # Between graphs of one block of queries a block of keys may be visited in vain.
    needed, visited = expected.to_dense().bool(), found.to_dense().bool()
    assert bool((visited | ~needed).all())
    assert int(visited.sum()) <= int(needed.sum()) + 2


def test_only_cuda_takes_this_path():
    q = torch.randn(3, 1, 2)
    assert not flex.fits(DIFFUSIVITIES["sigmoid"].penalty, True, torch.bfloat16, q, q, q)


def test_tiles_take_over_where_too_many_kernels_were_compiled(monkeypatch, as_if_on_cuda):
    from torch._dynamo import exc  # slow to load

    def refuse(*arguments):
        raise exc.FailOnRecompileLimitHit("recompile_limit reached")

    q, k, v, _, _ = cases.draw("one")
    expected = propagate(POSITIVE["sigmoid"], q, k, v)
    monkeypatch.setattr(flex, "attention", refuse)
    torch.testing.assert_close(propagate(POSITIVE["sigmoid"], q, k, v), expected)
