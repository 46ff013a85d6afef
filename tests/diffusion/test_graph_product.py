"""The sparse product in every precision against the dense definition, with gradients."""

import diffusion_cases as cases
import pytest
import torch

from difformer.diffusion import reference
from difformer.diffusion.graph import SparseWeights, sparse_weights

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def some_weights(rows, columns, entries, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    row = torch.randint(0, max(rows, 1), (entries,), generator=generator)
    col = torch.randint(0, max(columns, 1), (entries,), generator=generator)
    values = torch.rand(entries, generator=generator, dtype=torch.float64) + 0.1
    return sparse_weights(row, col, values.to(dtype), rows, columns)


def states(rows, width, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("learnt", [False, True], ids=["fixed", "learnt"])
@pytest.mark.parametrize("shape", [(40, 40, 200), (30, 50, 90), (50, 7, 300)], ids=str)
def test_the_product_equals_the_dense_one(dtype, learnt, shape):
    weights = some_weights(*shape, dtype=dtype)
    x = states(shape[1], 6, dtype)

    def fast(x, values):
        used = values if learnt else weights.values
        return SparseWeights(weights.pattern, used).matmul(x)

    def slow(x, values):
        used = values if learnt else weights.values.double()
        return reference.propagate(SparseWeights(weights.pattern, used).dense(), x.unsqueeze(1))[
            :, 0
        ]

    found, grads = cases.gradients(fast, (x, weights.values))
    expected, slow_grads = cases.gradients(slow, (x.double(), weights.values.double()))
    pairs = [(found, expected), (grads[0], slow_grads[0])]
    pairs += [(grads[1], slow_grads[1])] if learnt else []
    for one, other in pairs:
        assert cases.relative(one, other) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_good_as_its_digits(dtype):
    weights = some_weights(40, 30, 200, dtype=dtype)
    x = states(30, 6, dtype).requires_grad_()
    values = weights.values.requires_grad_()
    out = SparseWeights(weights.pattern, values).matmul(x)
    assert out.dtype == dtype
    out.sum().backward()
    wide = SparseWeights(weights.pattern, weights.values.detach().double())
    eps = torch.finfo(dtype).eps
    assert cases.relative(out.detach(), wide.matmul(x.detach().double())) < 4 * eps
    assert cases.relative(x.grad, wide.dense().sum(0).unsqueeze(1).expand_as(x)) < 8 * eps
    expected = x.detach().double().sum(1)[weights.pattern.col]
    assert cases.relative(values.grad, expected) < 4 * eps


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sizes", [(0, 0, 0), (3, 0, 0), (0, 3, 0), (3, 4, 0), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("width", [0, 1, 5])
def test_nothing_is_a_size_too(dtype, sizes, width):
    weights = some_weights(*sizes, dtype=dtype)
    values = weights.values.requires_grad_()
    x = states(sizes[1], width, dtype).requires_grad_()
    out = SparseWeights(weights.pattern, values).matmul(x)
    torch.testing.assert_close(out, weights.dense() @ x)
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert values.grad.shape == values.shape


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gradients_are_the_same_for_any_number_of_threads(dtype):
    weights = some_weights(3000, 3000, 40_000, dtype=dtype)
    x, cotangent = states(3000, 16, dtype), states(3000, 16, dtype, seed=2)

    def run(threads):
        torch.set_num_threads(threads)
        inputs = [x.clone().requires_grad_(), weights.values.clone().requires_grad_()]
        SparseWeights(weights.pattern, inputs[1]).matmul(inputs[0]).backward(cotangent)
        return [leaf.grad for leaf in inputs]

    before = torch.get_num_threads()
    try:
        for one, other in zip(run(1), run(2), strict=True):
            assert torch.equal(one, other)
    finally:
        torch.set_num_threads(before)


def test_rows_that_are_not_contiguous_are_read_in_their_order():
    weights = some_weights(20, 20, 60, dtype=torch.float32)
    wide = states(20, 12, torch.float32)
    assert torch.equal(weights.matmul(wide[:, ::2]), weights.matmul(wide[:, ::2].contiguous()))
    assert torch.equal(weights.matmul(wide.t()[:6].t()), weights.matmul(wide[:, :6].contiguous()))


def test_a_symmetric_pattern_is_held_once():
    weights = some_weights(9, 9, 30)
    row, col = weights.pattern.row, weights.pattern.col
    both = sparse_weights(
        torch.cat([row, col]), torch.cat([col, row]), weights.values.repeat(2), 9, 9
    )
    turned, order = both.pattern.transposed
    assert turned.crow is both.pattern.crow
    assert turned.col is both.pattern.col
    torch.testing.assert_close(both.values[order], both.values)
    assert weights.pattern.transposed[0].col is not weights.pattern.col


@pytest.mark.parametrize("some", [slice(0, 9), slice(2, 5), slice(4, 4), slice(8, 9)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_some_rows_of_a_product_and_of_its_transpose(some, dtype):
    weights = some_weights(9, 9, 30)
    weights = SparseWeights(weights.pattern, weights.values.to(dtype))
    x = states(9, 3).to(dtype)
    torch.testing.assert_close(weights.rows(some, x), (weights.dense() @ x)[some])
    torch.testing.assert_close(weights.transpose.rows(some, x), (weights.dense().t() @ x)[some])


def test_weights_are_normalised_once():
    weights = some_weights(9, 9, 30)
    assert weights.normalised("row") is weights.normalised("row")
    assert weights.normalised("row") is not weights.normalised("sym")
    degree = weights.degree + 1
    expected = (
        weights.values / (weights.degree[weights.pattern.row] * degree[weights.pattern.col]).sqrt()
    )
    torch.testing.assert_close(weights.normalised("sym", degree).values, expected)


def test_what_is_normalised_while_predicting_does_not_spoil_training():
    weights = some_weights(9, 9, 30)
    with torch.inference_mode():
        weights.normalised("row")
    x = states(9, 2).requires_grad_()
    weights.normalised("row").matmul(x).sum().backward()
    assert x.grad is not None
