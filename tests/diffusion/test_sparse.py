"""The observed graph and the local diffusivity against the oracle, with gradients."""

import diffusion_cases as cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difformer.diffusion import (
    DIFFUSIVITIES,
    SIMPLE,
    Diffusivity,
    Neighbourhood,
    degrees,
    local_weights,
    observed,
    propagate,
    reference,
)
from difformer.diffusion.local import Lists, cross_weights
from difformer.errors import ConfigError, DataError

NORMS = ("row", "sym")
EDGES = torch.tensor([[0, 1, 2, 0, 3, 4, 4, 4, 0], [1, 0, 0, 1, 3, 0, 1, 5, 5]])


def weights_of(edges):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(edges.shape[1], generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_directed_graph_equals_the_oracle(norm, weighted):
    weight = weights_of(EDGES) if weighted else torch.ones(EDGES.shape[1]).double()
    x = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0)).double()

    def fast(x, weight):
        return observed(EDGES, weight, 8, torch.float64).normalised(norm).matmul(x)

    def slow(x, weight):
        s = reference.normalise(reference.graph_weights(EDGES, weight, 8), norm)
        return reference.propagate(s, x)

    found, grads = cases.gradients(fast, (x, weight))
    expected, expected_grads = cases.gradients(slow, (x, weight))
    assert cases.relative(found, expected) < 1e-12
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert cases.relative(grad, expected_grad) < 1e-10


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20),
        )
    ),
    st.sampled_from(NORMS),
)
def test_any_graph_equals_the_oracle(graph, norm):
    count, pairs = graph
    edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    s = observed(edges, None, count, torch.float64).normalised(norm).dense()
    expected = reference.normalise(reference.graph_weights(edges, None, count), norm)
    torch.testing.assert_close(s, expected, atol=1e-14, rtol=0)
    if norm == "row":
        torch.testing.assert_close(s.sum(1), torch.ones(count).double())


@pytest.mark.parametrize("norm", NORMS)
def test_edge_order_does_not_matter_and_an_isolated_node_keeps_its_state(norm):
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).double()
    weight = weights_of(EDGES)
    order = torch.randperm(EDGES.shape[1], generator=torch.Generator().manual_seed(1))
    plain = observed(EDGES, weight, 8, torch.float64).normalised(norm).matmul(x)
    moved = observed(EDGES[:, order], weight[order], 8, torch.float64).normalised(norm).matmul(x)
    torch.testing.assert_close(moved, plain, atol=1e-14, rtol=0)
    torch.testing.assert_close(plain[7], x[7])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_product_is_the_same_for_any_number_of_threads(threads):
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(0, 500, (2, 4000), generator=generator)
    x = torch.randn(500, 16, generator=generator)
    operator = observed(edges, None, 500).normalised("sym")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = operator.matmul(x)
        torch.set_num_threads(threads)
        assert torch.equal(operator.matmul(x), expected)
    finally:
        torch.set_num_threads(before)


def test_the_product_has_the_right_gradient():
    operator = observed(EDGES, None, 8, torch.float64).normalised("sym")
    x = torch.randn(8, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(operator.matmul, (x,))
    weight = weights_of(EDGES).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: observed(EDGES, w, 8, torch.float64).normalised("row").matmul(x), (x, weight)
    )


@pytest.mark.parametrize("sphere", [True, False])
def test_graph_attention_equals_the_dense_definition(sphere):
    import dataclasses

    diffusivity = dataclasses.replace(DIFFUSIVITIES["graph_attention"], sphere=sphere)
    weight = weights_of(EDGES)
    q, k, v = (
        torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(s)).double() for s in range(3)
    )
    support = observed(EDGES, weight, 8, torch.float64)

    def slow(q, k, v):
        f = reference.rates(q, k, diffusivity.penalty, sphere) * support.dense()
        return reference.propagate(reference.divide(f), v)

    found, grads = cases.gradients(
        lambda q, k, v: propagate(diffusivity, q, k, v, weights=support), (q, k, v)
    )
    expected, expected_grads = cases.gradients(slow, (q, k, v))
    assert cases.relative(found, expected) < 1e-12
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert cases.relative(grad, expected_grad) < 1e-10


def lists(x, k, batch=None):
    """Neighbour lists, nearest first, by the slow definition."""
    near = reference.neighbours(x, k, batch)
    index = torch.full((len(x), k), -1)
    squared = torch.full((len(x), k), torch.inf, dtype=x.dtype)
    for i in range(len(x)):
        order = sorted(near[i].nonzero().squeeze(1).tolist(), key=lambda j: (float(x[i, j]), j))
        index[i, : len(order)] = torch.tensor(order, dtype=torch.long)
        squared[i, : len(order)] = x[i, order]
    return index, squared


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("weights", ["binary", "self-tuned"])
@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_local_weights_equal_the_oracle(weights, self_loops, batched, ties):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(14, 2, generator=generator).double()
    z = (2 * z).round() if ties else z
    x = (z[:, None] - z[None]).square().sum(-1)
    batch = torch.tensor([0] * 9 + [1] + [2] * 4) if batched else None
    rule = Neighbourhood(k=3, bandwidth=2, weights=weights, self_loops=self_loops)
    index, squared = lists(x, 3, batch)
    found = local_weights(index, squared, rule, torch.float64).dense()
    expected = reference.local_weights(x, rule, batch)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("weights", ["binary", "self-tuned"])
def test_new_instances_join_by_the_same_rule(weights):
    # A new instance beside a fixed context gets the weights it would get as the last row of the
    # whole set, except where its arrival would have displaced a neighbour within the context.
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(30, 2, generator=generator).double()
    x = (z[:, None] - z[None]).square().sum(-1)
    rule = Neighbourhood(k=4, bandwidth=3, weights=weights, self_loops=False)
    _, context = lists(x[:29, :29], 4)
    squared, index = x[29:, :29].sort()
    reached = (x[29:, :29] <= context[:, 3]).nonzero(as_tuple=True)
    pairs = *reached, x[29:, :29][reached]
    found = cross_weights(Lists(index[:, :4], squared[:, :4]), pairs, context, rule).dense()[0]
    near = torch.zeros(29, dtype=torch.bool)
    near[x[29, :29].argsort()[:4]] = True
    within = x[29, :29] <= context[:, 3]
    if weights == "binary":
        expected = (near | within).double()
    else:
        s_new, s = x[29, :29].sort()[0][2].sqrt(), context[:, 2].sqrt()
        kernel = torch.exp(-4 * x[29, :29] / (s_new * s))
        expected = 0.5 * (near.double() + within.double()) * kernel
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["simple", "graph", "graph_attention"])
def test_degrees_on_edges_equal_their_definition(name):
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(6, 4, generator=generator).double()
    term = Diffusivity(name, SIMPLE, "edges") if name == "simple" else DIFFUSIVITIES[name]
    weight = weights_of(EDGES)
    found = degrees(z, term, weights=observed(EDGES, weight, 6, torch.float64))
    rates = reference.rates(z.unsqueeze(1), z.unsqueeze(1), term.penalty, term.sphere)[0]
    expected = (reference.graph_weights(EDGES, weight, 6) * rates).sum(1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("field", ["k", "bandwidth", "components"])
def test_neighbourhoods_need_whole_numbers(field):
    for value in (0, True, 2.5):
        with pytest.raises(ConfigError, match=f"^{field} must be a whole number of at least 1"):
            Neighbourhood(**{field: value})


def test_identical_instances_get_finite_weights():
    x = torch.zeros(6, 6, dtype=torch.float64)
    rule = Neighbourhood(k=2, bandwidth=2, weights="self-tuned", self_loops=False)
    index, squared = lists(x, 2)
    w = local_weights(index, squared, rule, torch.float64).dense()
    assert torch.isfinite(w).all()
    assert w.max() == 1.0


def test_bad_graphs_are_refused():
    with pytest.raises(DataError, match=r"shape \(2, E\)"):
        observed(torch.zeros(3, 4, dtype=torch.long), None, 5)
    with pytest.raises(DataError, match="from 0 to 4, found 0 to 7"):
        observed(torch.tensor([[0, 7], [1, 2]]), None, 5)
    with pytest.raises(DataError, match="one weight an edge"):
        observed(torch.tensor([[0], [1]]), torch.ones(3), 5)
    with pytest.raises(DataError, match="finite and not negative"):
        observed(torch.tensor([[0], [1]]), -torch.ones(1), 5)
    with pytest.raises(DataError, match="whole numbers"):
        observed(torch.zeros(2, 1), None, 5)
    z = torch.randn(3, 1, 2)
    with pytest.raises(ConfigError, match="needs to be told which"):
        propagate(DIFFUSIVITIES["graph"], z, z, z)


def test_a_narrow_kernel_on_edges_does_not_underflow():
    from difformer.diffusion import welsch

    narrow = Diffusivity("narrow", welsch(0.01), "edges", sphere=False)
    z = torch.tensor([[0.0], [3.0], [5.0]]).unsqueeze(1)
    edges = torch.tensor([[1, 2], [0, 0]])
    weights = observed(edges, None, 3, self_loops=False)
    out = propagate(narrow, z, z, z, weights=weights)
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([3.0, 3.0, 5.0]))  # the nearer of two


def test_without_self_loops_those_alone_hear_themselves_that_hear_nobody():
    edges = torch.tensor([[0, 2, 1], [1, 1, 1]])  # 1 has a loop of its own, 0 and 2 hear nobody
    weights = observed(edges, torch.tensor([2.0, 3.0, 5.0]), 3, self_loops=False)
    assert weights.dense().tolist() == [[1, 0, 0], [2, 5, 3], [0, 0, 1]]


@pytest.mark.parametrize("norm", NORMS)
def test_degrees_below_the_normal_numbers_stay_finite(norm):
    edges = torch.tensor([[1], [0]])
    weights = observed(edges, torch.tensor([1e-40]), 2, self_loops=False)
    assert torch.isfinite(weights.normalised(norm).values).all()
