"""The linear and the tiled path against the oracle: outputs and every gradient."""

import diffusion_cases as cases
import pytest
import torch

from difformer.diffusion import DIFFUSIVITIES, pairwise, propagate, reference, resolve, welsch
from difformer.diffusion.linear import summarise
from difformer.diffusion.segments import segment, tiles
from difformer.errors import DataError

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def oracle(diffusivity, batch_q, batch_k):
    def function(q, k, v):
        s = reference.matrix(q, k, diffusivity.penalty, diffusivity.sphere, batch_q, batch_k)
        return reference.propagate(s, v)

    return function


@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "shuffled"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("shape", cases.SHAPES)
@pytest.mark.parametrize("name", cases.ALL_PAIRS)
def test_equals_the_oracle(name, shape, dtype, shuffled):
    diffusivity = cases.ALL_PAIRS[name]
    q, k, v, batch_q, batch_k = cases.draw(shape, shuffled=shuffled, dtype=dtype)
    q, k, v = q.double(), k.double(), v.double()
    expected, expected_grads = cases.gradients(oracle(diffusivity, batch_q, batch_k), (q, k, v))
    found, grads = cases.gradients(
        lambda q, k, v: propagate(diffusivity, q, k, v, batch_q, batch_k),
        [x.to(dtype) for x in (q, k, v)],
    )
    assert found.dtype == dtype
    assert cases.relative(found, expected) < TOLERANCE[dtype]
    # A graph of one instance does not move whatever q and k are: compare with the whole scale.
    scale = max(float(g.abs().max()) if g.numel() else 0.0 for g in expected_grads)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        if grad.numel():
            assert float((grad.double() - expected_grad).abs().max()) <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize("name", ["simple", "sigmoid", "welsch", "cauchy-raw", "simple-raw"])
def test_equals_the_oracle_at_two_thousand(name):
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2000, 1, 8, generator=generator).double() for _ in range(3))
    if name == "simple-raw":
        q, k = 0.2 * q, 0.2 * k
    diffusivity = cases.ALL_PAIRS[name]
    expected, expected_grads = cases.gradients(oracle(diffusivity, None, None), (q, k, v))
    for dtype, tolerance in TOLERANCE.items():
        found, grads = cases.gradients(
            lambda *x: propagate(diffusivity, *x), [x.to(dtype) for x in (q, k, v)]
        )
        assert cases.relative(found, expected) < tolerance
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            assert cases.relative(grad, expected_grad) < tolerance


@pytest.mark.parametrize("name", cases.ALL_PAIRS)
def test_gradcheck(name):
    q, k, v, batch_q, batch_k = cases.draw("batch-cross", heads=1, width=2, values=2)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(
        lambda *x: propagate(cases.ALL_PAIRS[name], *x, batch_q, batch_k), leaves
    )


@pytest.mark.parametrize("pairs", [1, 7, 64, 10_000])
def test_tile_size_does_not_matter(pairs):
    q, k, v, batch_q, batch_k = cases.draw("batch")
    heads = [x.detach() for x in (q, k, v)]
    segments = segment(len(q), len(k), batch_q, batch_k)
    whole = pairwise.accumulate(*heads, welsch(0.3), False, segments)
    cut = pairwise.accumulate(*heads, welsch(0.3), False, segments, pairs=pairs)
    for a, b in zip(cut, whole, strict=True):
        assert cases.relative(a, b) < 1e-12


def test_tiles_cover_every_pair_of_a_graph_exactly_once():
    batch = torch.repeat_interleave(torch.arange(6), torch.tensor([3, 0, 9, 1, 1, 40]))
    segments = segment(54, 54, batch)
    for pairs in (1, 10, 100, 10_000):
        seen = torch.zeros(54, 54, dtype=torch.long)
        for tile in tiles(segments, pairs):
            seen[tile.queries, tile.keys] += 1
        same = batch[:, None] == batch[None, :]
        assert (seen[same] == 1).all()


@pytest.mark.parametrize("name", cases.ALL_PAIRS)
def test_alone_equals_in_a_batch(name):
    diffusivity = cases.ALL_PAIRS[name]
    q, k, v, batch_q, batch_k = cases.draw("batch")
    together = propagate(diffusivity, q, k, v, batch_q, batch_k)
    for graph in range(5):
        rows = batch_q == graph
        alone = propagate(diffusivity, q[rows], k[rows], v[rows])
        assert cases.relative(together[rows], alone) < 1e-10


@pytest.mark.parametrize("name", cases.ALL_PAIRS)
def test_row_order_does_not_matter(name):
    q, k, v, _, _ = cases.draw("one-large")
    order = torch.randperm(len(q), generator=torch.Generator().manual_seed(0))
    plain = propagate(cases.ALL_PAIRS[name], q, k, v)
    moved = propagate(cases.ALL_PAIRS[name], q[order], k[order], v[order])
    assert cases.relative(moved, plain[order]) < 1e-12


@pytest.mark.parametrize("name", cases.ALL_PAIRS)
def test_constants_are_fixed_points(name):
    q, k, _, batch_q, batch_k = cases.draw("batch")
    v = torch.ones(len(k), 2, 3, dtype=torch.float64)
    torch.testing.assert_close(
        propagate(cases.ALL_PAIRS[name], q, k, v, batch_q, batch_k), v, atol=1e-12, rtol=0
    )


def test_keys_that_are_all_opposite_are_heard_equally():
    q = torch.tensor([[[1.0, 0.0]]]).double()
    k = -q.expand(4, 1, 2)
    v = torch.arange(4.0).double().reshape(4, 1, 1)
    out = propagate(DIFFUSIVITIES["simple"], q, k, v)
    torch.testing.assert_close(out, torch.full((1, 1, 1), 1.5).double())


def test_no_keys_means_no_influence():
    q, k, v = torch.randn(3, 1, 2), torch.randn(0, 1, 2), torch.randn(0, 1, 4)
    for name in ("simple", "sigmoid", "welsch"):
        out = propagate(DIFFUSIVITIES[name], q, k, v)
        assert out.shape == (3, 1, 4)
        assert (out == 0).all()


def test_a_zero_state_is_orthogonal_to_all():
    z = torch.zeros(3, 1, 2, dtype=torch.float64)
    z[1, 0, 0] = 2.0
    z.requires_grad_()
    out = propagate(DIFFUSIVITIES["simple"], z, z, torch.eye(3).double().unsqueeze(1))
    torch.testing.assert_close(out[0, 0], torch.full((3,), 1 / 3).double())
    out.square().sum().backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_huge_and_tiny_states_are_finite(scale):
    z = (scale * torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    v = torch.randn(5, 1, 2)
    for name in ("simple", "sigmoid", "welsch", "cauchy"):
        out = propagate(DIFFUSIVITIES[name], z, z, v)
        expected = propagate(DIFFUSIVITIES[name], z / scale, z / scale, v)
        torch.testing.assert_close(out, expected)


def test_a_narrow_kernel_without_self_does_not_underflow():
    q, k = torch.zeros(1, 1, 2), torch.tensor([[[9.0, 0.0]], [[0.0, 9.5]]])
    v = torch.tensor([[[1.0]], [[0.0]]])
    out = propagate(cases.raw(welsch(0.1)), q, k, v)
    torch.testing.assert_close(out, torch.ones(1, 1, 1))


def test_summaries_form_a_commutative_monoid():
    _, k, v, _, batch = cases.draw("batch-cross")
    sizes = cases.SHAPES["batch-cross"][1]
    whole = summarise(k, v, sizes)
    first = (3, 0, 1, 0)
    keep = torch.zeros(len(k), dtype=torch.bool)
    for graph, count in enumerate(first):
        keep[(batch == graph).nonzero().squeeze(1)[:count]] = True
    rest = tuple(a - b for a, b in zip(sizes, first, strict=True))
    a, b = summarise(k[keep], v[keep], first), summarise(k[~keep], v[~keep], rest)
    for merged, part in ((a + b, whole), (b + a, whole), (whole - b, a)):
        for name in ("count", "value", "key", "outer"):
            torch.testing.assert_close(getattr(merged, name), getattr(part, name))
    empty = summarise(k[:0], v[:0], (0, 0, 0, 0))
    torch.testing.assert_close((whole + empty).outer, whole.outer)


def test_statistics_keep_their_digits_as_n_grows():
    k = torch.full((3_000_000, 1, 1), 0.1)
    summary = summarise(k, k, (len(k),))
    assert abs(float(summary.key) / (len(k) * float(k[0, 0, 0])) - 1) < 1e-6


def test_the_tiled_path_does_not_store_all_pairs():
    # 20,000 x 20,000 pairs in float32 would be 1.6 GB a head; saved for the backward: q, k, v.
    z = torch.randn(4000, 1, 4, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.numel()) or t, lambda t: t
    ):
        propagate(DIFFUSIVITIES["sigmoid"], z, z, z)
    assert max(saved) <= 4000 * 4


def test_a_batch_vector_of_wrong_length_is_refused():
    q = torch.randn(3, 1, 2)
    with pytest.raises(DataError, match=r"one graph number for each of the N = 3 rows"):
        propagate(resolve("simple"), q, q, q, torch.zeros(2, dtype=torch.long))
    with pytest.raises(DataError, match="from 0"):
        propagate(resolve("simple"), q, q, q, torch.tensor([0, -1, 0]))
