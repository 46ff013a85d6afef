"""On a CUDA device: the same answers as on a CPU, by the oracle's measure. Skipped without one."""

import copy

import nn_cases as cases
import pytest
import torch
from test_motion import LAYERS, OFFICIAL, C, F, N, make
from torch.nn.functional import cross_entropy

from difformer.diffusion import DIFFUSIVITIES, flex, propagate, reference, resolve, welsch
from difformer.diffusion.propagate import unit
from difformer.nn import DIFFormer
from difformer.nn.memory import plan_memory
from difformer.training import TrainingConfig, train

DEVICE = torch.device("cuda")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # torch's own, where it compiles a function of tensors that are no leaves
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
POSITIVE = {
    "sigmoid": DIFFUSIVITIES["sigmoid"],
    "welsch": DIFFUSIVITIES["welsch"],
    "narrow": resolve(welsch(0.05)),
    "cauchy": DIFFUSIVITIES["cauchy"],
}


@pytest.fixture(autouse=True)
def _exact_products():
    """Products in float32, as torch makes them where nobody asks for less."""
    assert torch.get_float32_matmul_precision() == "highest"


def outputs_and_gradients(model, x, edge_index, batch, device):
    """All of them on a CPU, in float64; dropout masks follow from the same seed."""
    model = copy.deepcopy(model).to(device)
    x, edge_index, batch = (
        None if part is None else part.detach().to(device) for part in (x, edge_index, batch)
    )
    x.requires_grad_()
    torch.manual_seed(5)
    out = model(x, edge_index, batch=batch)
    assert out.device.type == device.type
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
    wanted = [x, *model.parameters()]
    found = torch.autograd.grad(
        (out * weight.to(device, out.dtype)).sum(), wanted, materialize_grads=True
    )
    return [part.detach().double().cpu() for part in (out, *found)]


def assert_near(found, expected, tolerance):
    out, *grads = found
    expected_out, *expected_grads = expected
    assert (out - expected_out).abs().max() <= tolerance * expected_out.abs().max()
    largest = max(g.abs().max() for g in expected_grads)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert (ours - theirs).abs().max() <= tolerance * largest


@pytest.mark.parametrize("batched", [False, True], ids=["one-graph", "batch"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", [*LAYERS, *OFFICIAL])
def test_every_kind_of_model_equals_the_cpu(name, training, batched):
    if batched and name in OFFICIAL:
        pytest.skip("official numerics are defined for one graph alone")
    model = make(name).train(training)
    x = torch.randn(N, F, dtype=torch.float64)
    edge_index, _ = cases.draw_edges(N // 2, 90)
    batch = (torch.arange(N) >= N // 2).long() if batched else None
    case = model, x, edge_index, batch
    expected = outputs_and_gradients(*case, torch.device("cpu"))
    assert_near(outputs_and_gradients(*case, DEVICE), expected, 1e-10)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)], ids=["f32", "bf16"]
)
@pytest.mark.parametrize("name", ["simple", "sigmoid", "source", "no-norm", "official"])
def test_fewer_digits_equal_the_oracle_as_far_as_they_reach(name, dtype, tolerance):
    torch.manual_seed(0)
    exact = make(name).eval()
    x = torch.randn(700, F, dtype=torch.float64).to(dtype).double()
    edge_index, _ = cases.draw_edges(700, 2000)
    for parameter in exact.parameters():
        parameter.data = parameter.data.to(dtype).double()
    expected = outputs_and_gradients(exact, x, edge_index, None, torch.device("cpu"))
    model = copy.deepcopy(exact).to(dtype)
    found = outputs_and_gradients(model, x.to(dtype), edge_index, None, DEVICE)
    assert_near(found, expected, tolerance)


class _Rounded(torch.autograd.Function):
    """To bfloat16 and back; gradients pass."""

    @staticmethod
    def forward(ctx, x):
        return x.bfloat16().to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@pytest.mark.parametrize("batched", [False, True], ids=["one-graph", "batch"])
@pytest.mark.parametrize("width", [5, 64])
@pytest.mark.parametrize("name", POSITIVE)
def test_the_attention_kernel_equals_the_oracle(name, width, batched):
    penalty, generator = POSITIVE[name].penalty, torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(300, 2, width, generator=generator).bfloat16() for _ in range(3))
    batch = torch.randint(3, (300,), generator=generator) if batched else None
    assert flex.fits(penalty, True, v.dtype, *(t.to(DEVICE) for t in (q, k, v)))

    def run(function, device, dtype):
        leaves = [t.to(device, dtype).requires_grad_() for t in (q, k, v)]
        out = function(*leaves)
        weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
        grads = torch.autograd.grad((out * weight.to(device, dtype)).sum(), leaves)
        return [t.detach().double().cpu() for t in (out, *grads)]

    def oracle(q, k, v):
        cosine = torch.einsum("nhm,lhm->hnl", *(_Rounded.apply(unit(x)) for x in (q, k)))
        scale = torch.tensor(penalty.scale or 1.0, dtype=torch.float64)
        logits = penalty.log_rate(2 - 2 * cosine, scale)  # rates may be out of range
        if batch is not None:
            logits = logits.masked_fill(batch[:, None] != batch, -torch.inf)
        return reference.propagate(logits.softmax(-1), v)

    there = None if batch is None else batch.to(DEVICE)
    found = run(lambda *t: propagate(POSITIVE[name], *t, there), DEVICE, torch.bfloat16)
    assert_near(found, run(oracle, torch.device("cpu"), torch.float64), 2e-2)


def test_more_kernels_than_are_compiled_fall_back_to_tiles():
    """Without that, torch would form N x N numbers: 1.6 GB a time here."""
    torch.cuda.reset_peak_memory_stats()
    for number in range(12):
        z = torch.randn(20_000, 1, 16 + 4 * number, device=DEVICE, dtype=torch.bfloat16)
        assert propagate(resolve(welsch(1.0 + number)), z, z, z).isfinite().all()
    assert torch.cuda.max_memory_allocated() < 1e9


def test_many_instances_are_summed_without_loss():
    """More rows than a block holds, of which the float32 sums must agree with float64."""
    torch.manual_seed(0)
    model = DIFFormer(16, 64, 4, 2).double().eval()
    x = torch.randn(200_000, 16, dtype=torch.float64)
    with torch.no_grad():
        expected = model(x)
        found = copy.deepcopy(model).float().to(DEVICE)(x.float().to(DEVICE)).double().cpu()
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["simple", "sigmoid", "graph"])
def test_the_memory_of_a_step_is_told_within_a_fifth(name):
    rows = 200_000 if name != "sigmoid" else 20_000
    torch.manual_seed(0)
    model = DIFFormer(64, 64, 10, 3, diffusivity=name).to(DEVICE).train()
    x = torch.randn(rows, 64, device=DEVICE)
    edge_index = torch.randint(rows, (2, 10 * rows), device=DEVICE)
    target = torch.zeros(rows, dtype=torch.long, device=DEVICE)
    told = plan_memory(model, x, edge_index).step_bytes
    for _ in range(2):  # gradients are there from the first step on
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        cross_entropy(model(x, edge_index), target).backward()
    measured = torch.cuda.max_memory_allocated() - before
    assert told == pytest.approx(measured, rel=0.2)


def test_training_there_lowers_the_loss_and_repeats_itself():
    x = torch.randn(500, F)
    y = (x[:, 0] > 0).long()
    everywhere = torch.ones(500, dtype=torch.bool)

    def run():
        torch.manual_seed(1)
        model = DIFFormer(F, C, 2, 2, dropout=0.2).to(DEVICE)
        inputs = x.to(DEVICE)
        config = TrainingConfig(epochs=20, seed=3)
        found = train(model, lambda: model(inputs), y.to(DEVICE), everywhere.to(DEVICE), config)
        return [record["train_loss"] for record in found.history]

    first = run()
    assert first[-1] < first[0]
    assert run() == first
