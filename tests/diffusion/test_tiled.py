"""The tiled path where speed could cost digits or memory: ranges, dtypes, buffers, many keys."""

import diffusion_cases as cases
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from difformer.diffusion import (
    DIFFUSIVITIES,
    SIGMOID,
    Penalty,
    cauchy,
    pairwise,
    penalty_from,
    propagate,
    reference,
    resolve,
    welsch,
)
from difformer.diffusion.penalty import in_place_of
from difformer.diffusion.propagate import unit
from difformer.diffusion.segments import segment

PENALTIES = {
    "sigmoid": SIGMOID,
    "welsch": welsch(0.7),
    "cauchy": cauchy(0.4),
    "custom": penalty_from(lambda x: (x + 1).sqrt()),
}
EXPONENTIAL = Penalty(  # as welsch, but known by its functions alone
    "exponential",
    delta=lambda x: -torch.expm1(-20 * x) / 20,
    rate=lambda x: torch.exp(-20 * x),
    slope=lambda x: -20 * torch.exp(-20 * x),
    shiftable=True,
)


def softmax_oracle(diffusivity, width, batch_q, batch_k):
    """exp(-x / width) over its row sum, for rates that underflow."""

    def function(q, k, v):
        x = reference.squared_distance(q, k, diffusivity.sphere)
        apart = torch.zeros(1, 1, dtype=torch.bool)
        if batch_q is not None:
            apart = batch_q.unsqueeze(1) != batch_k
        s = torch.softmax((-x / width).masked_fill(apart, -1e300), -1).masked_fill(apart, 0)
        return reference.propagate(s, v)

    return function


def assert_equal_outputs_and_gradients(function, oracle, inputs, tolerance):
    expected, expected_grads = cases.gradients(oracle, [x.double() for x in inputs])
    found, grads = cases.gradients(function, inputs)
    assert found.dtype == inputs[0].dtype
    assert cases.relative(found, expected) < tolerance
    scale = max(float(g.abs().max()) for g in expected_grads if g.numel())
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        if grad.numel():
            assert float((grad.double() - expected_grad).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("name", PENALTIES)
def test_rates_in_place_are_the_rates(name):
    penalty = PENALTIES[name]
    x = torch.linspace(0, 4, 50, dtype=torch.float64)
    gradient = torch.linspace(-1, 2, 50, dtype=torch.float64)
    in_place = in_place_of(penalty)
    a, b = in_place.affine
    y = a + b * x
    rate = in_place.rate(y)
    torch.testing.assert_close(rate, penalty.rate(x))
    found = b * in_place.chain(gradient.clone(), y, rate)
    torch.testing.assert_close(found, gradient * penalty.slope(x))


@pytest.mark.parametrize("name", sorted(DIFFUSIVITIES))
def test_the_log_of_a_rate_is_its_log(name):
    penalty = DIFFUSIVITIES[name].penalty
    if penalty.log_rate is not None:
        x = torch.linspace(0, 4, 50, dtype=torch.float64)
        s = torch.tensor(penalty.scale or 1.0)
        torch.testing.assert_close(penalty.log_rate(x, s), penalty.rate(x).log())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("shape", ["one-large", "batch", "batch-cross"])
@pytest.mark.parametrize("sphere", [True, False], ids=["sphere", "raw"])
@pytest.mark.parametrize("penalty", [welsch(0.05), EXPONENTIAL], ids=["welsch", "exponential"])
def test_narrow_kernels_equal_the_oracle(penalty, sphere, shape, dtype):
    diffusivity = resolve(penalty) if sphere else cases.raw(penalty)
    q, k, v, batch_q, batch_k = cases.draw(shape, shuffled=True)
    inputs = [x.to(dtype) for x in (q, k, v)]
    assert_equal_outputs_and_gradients(
        lambda *x: propagate(diffusivity, *x, batch_q, batch_k),
        softmax_oracle(diffusivity, 0.05, batch_q, batch_k),
        inputs,
        # A narrow kernel multiplies the rounding of distances by 1/s.
        {torch.float64: 1e-10, torch.float32: 2e-5}[dtype],
    )


def test_the_nearest_key_of_another_graph_is_not_measured_from():
    # Graph 1 holds the very state of graph 0's query, whose own keys are far away.
    q = torch.tensor([[[0.0, 0.0]], [[9.0, 0.0]]])
    k = torch.tensor([[[9.0, 0.0]], [[0.0, 9.5]], [[0.0, 0.0]]])
    v = torch.tensor([[[1.0]], [[0.0]], [[5.0]]])
    out = propagate(cases.raw(welsch(0.1)), q, k, v, torch.tensor([0, 1]), torch.tensor([0, 0, 1]))
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([1.0, 5.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
@pytest.mark.parametrize("name", ["simple", "sigmoid", "welsch", "cauchy-raw"])
def test_half_precision_only_rounds_inputs_and_results(name, dtype):
    # Sums are float32. Two roundings remain: of the incoming gradient, and of what is returned.
    inputs = [x.to(dtype) for x in cases.draw("one-large")[:3]]
    diffusivity = cases.ALL_PAIRS[name]
    assert_equal_outputs_and_gradients(
        lambda *x: propagate(diffusivity, *x),
        lambda q, k, v: reference.propagate(
            reference.matrix(q, k, diffusivity.penalty, diffusivity.sphere), v
        ),
        inputs,
        torch.finfo(dtype).eps + 1e-5,
    )


@pytest.mark.parametrize("name", ["simple", "sigmoid"])
def test_half_precision_does_not_overflow_with_many_keys(name):
    # Denominators reach 140,000; float16 ends at 65,504.
    q, v = torch.ones(2, 1, 2).half(), torch.ones(200_000, 1, 2).half()
    out = propagate(DIFFUSIVITIES[name], q, v, 3 * v)
    assert out.dtype == torch.float16
    assert (out == 3).all()


@pytest.mark.parametrize("equal", [False, True], ids=["random", "equal"])
def test_denominators_keep_their_digits_with_many_keys(equal):
    # Equal rates are the worst: every addition rounds into the same direction.
    generator = torch.Generator().manual_seed(0)
    q, k = (unit(torch.randn(n, 1, 8, generator=generator)) for n in (40, 50_000))
    k = k[:1].expand_as(k) if equal else k
    v = torch.ones(50_000, 1, 1)
    numerator, denominator = pairwise.accumulate(
        q, k, v, SIGMOID, True, segment(len(q), len(k)), pairs=1 << 13
    )
    exact = torch.sigmoid(q[:, 0].double() @ k[:, 0].double().T).sum(1)
    assert float((denominator[:, 0].double() / exact - 1).abs().max()) < 1e-6
    assert float((numerator[:, 0, 0].double() / exact - 1).abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["sigmoid", "welsch", "cauchy", "custom-raw"])
def test_memory_is_never_read_before_it_is_written(name):
    q, k, v, batch_q, batch_k = cases.draw("batch-cross")
    plain = cases.gradients(
        lambda *x: propagate(cases.ALL_PAIRS[name], *x, batch_q, batch_k), (q, k, v)
    )
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    try:
        assert torch.empty(3).isnan().all()
        filled = cases.gradients(
            lambda *x: propagate(cases.ALL_PAIRS[name], *x, batch_q, batch_k), (q, k, v)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(filled, plain, rtol=0, atol=0)


@pytest.fixture(params=[2, 3])
def several_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", cases.SHAPES)
@pytest.mark.parametrize("name", ["sigmoid", "welsch", "welsch-raw", "custom"])
@pytest.mark.usefixtures("several_threads")
def test_equals_the_oracle_with_several_threads(name, shape):
    diffusivity = cases.ALL_PAIRS[name]
    q, k, v, batch_q, batch_k = cases.draw(shape, shuffled=True)

    def found(q, k, v):
        return propagate(diffusivity, q, k, v, batch_q, batch_k)

    def oracle(q, k, v):
        s = reference.matrix(q, k, diffusivity.penalty, diffusivity.sphere, batch_q, batch_k)
        return reference.propagate(s, v)

    assert_equal_outputs_and_gradients(found, oracle, (q, k, v), 1e-10)
    # The order of sums does not depend on which thread was faster.
    runs = [cases.gradients(found, (q, k, v)) for _ in range(3)]
    for run in runs[1:]:
        torch.testing.assert_close(run, runs[0], rtol=0, atol=0)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor holds that any operation returns."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.numel())
        return out


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("name", ["sigmoid", "welsch", "custom"])
def test_no_tensor_is_larger_than_a_tile(name, heads, monkeypatch):
    monkeypatch.setitem(pairwise.PAIRS, "cpu", 1 << 14)
    z = torch.randn(1500, heads, 3, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        cases.gradients(lambda z: propagate(cases.ALL_PAIRS[name], z, z, z), [z])
    assert largest.numbers <= max(1 << 14, 1500 * heads * 4)


def test_inputs_stay_as_they_are():
    q, k, v, _, _ = cases.draw("one-large")
    q = unit(q)
    before = [x.clone() for x in (q, k, v)]
    leaves = [x.requires_grad_() for x in (q, unit(k), v)]
    for penalty in PENALTIES.values():
        n, d = pairwise.accumulate(*leaves, penalty, True, segment(len(q), len(k)))
        (n.sum() + d.sum()).backward()
    for x, y in zip((q, k, v), before, strict=True):
        assert torch.equal(x, y)


def test_rounding_gives_no_negative_distance():
    # Just below 0 this penalty is not defined.
    penalty = penalty_from(lambda x: (x + 1e-9).sqrt(), limit=1000.0)
    z = torch.randn(200, 1, 5, generator=torch.Generator().manual_seed(0))
    _, grads = cases.gradients(lambda z: propagate(cases.raw(penalty), z, z, z), [z])
    assert torch.isfinite(grads[0]).all()


def test_only_what_is_wanted_is_differentiated():
    q, k, v, _, _ = cases.draw("one")
    v.requires_grad_()
    propagate(DIFFUSIVITIES["sigmoid"], q, k, v).sum().backward()
    expected = reference.matrix(q, k, SIGMOID, True).sum(1)  # (H, L)
    torch.testing.assert_close(v.grad, expected.T.unsqueeze(2).expand_as(v))
