"""What is said of a graph does not depend on the batch: outputs and gradients, to 1e-10."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from difformer import GraphDIFFormer
from difformer.diffusion import DIFFUSIVITIES, Neighbourhood
from difformer.errors import ConfigError, DataError
from difformer.nn.graphs import POOLS

F, A, OUT = 3, 2, 2
TERMS = [
    *DIFFUSIVITIES,
    Neighbourhood(k=3, weights="self-tuned", bandwidth=2),
    Neighbourhood(k=2, space="state", metric="euclidean", self_loops=False),
]


@st.composite
def batches(draw):
    """Sizes of 1 to 20 graphs of 0 to 50 nodes, and a seed for what is in them."""
    sizes = draw(st.lists(st.integers(0, 50), min_size=1, max_size=20))
    return sizes, draw(st.integers(0, 2**31 - 1))


@st.composite
def models(draw):
    """Every diffusivity, norm and mix."""
    chosen = draw(st.lists(st.sampled_from(TERMS), min_size=1, max_size=2))
    maps = draw(st.booleans())
    return {
        "diffusivity": chosen,
        "heads": draw(st.sampled_from([1, 2])) if maps else 1,
        "maps": maps,
        "value_map": draw(st.booleans()),
        "graph_norm": draw(st.sampled_from(["row", "sym"])),
        "mix": draw(st.sampled_from(["convex", "joint"])),
        "mix_weights": draw(st.sampled_from([None, "learnt"])),
        "norm": draw(st.sampled_from([None, "layer"])),
        "source": draw(st.sampled_from([0.0, 0.2])),
        "activation": draw(st.sampled_from(["input", "output", "each"])),
        "jump": draw(st.booleans()),
        "edge_channels": draw(st.sampled_from([0, A])),
        "pool": draw(st.lists(st.sampled_from(list(POOLS)), min_size=1, max_size=2, unique=True)),
        "level": draw(st.sampled_from(["graph", "node"])),
    }


def graph(size, draw):
    """Features, edges and their features of one graph."""
    edges = int(draw.integers(0, 3 * size + 1)) if size else 0
    index = torch.from_numpy(draw.integers(0, max(size, 1), (2, edges)))
    x = torch.from_numpy(draw.normal(size=(size, F)))
    return x, index, torch.from_numpy(draw.normal(size=(edges, A)))


def joined(graphs):
    offsets = np.cumsum([0, *(len(x) for x, *_ in graphs)])
    return (
        torch.cat([x for x, *_ in graphs]),
        torch.cat([index + int(o) for (_, index, _), o in zip(graphs, offsets, strict=False)], 1),
        torch.cat([attr for *_, attr in graphs]),
        torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(np.diff(offsets))),
    )


def build(options, seed):
    torch.manual_seed(seed)
    return GraphDIFFormer(F, 4, OUT, 2, **options).double().eval()


def answer(model, x, index, attr, batch, graphs):
    attr = attr if model.edge_channels else None
    return model(x, index, attr, batch, graphs)


def gradients(model, loss):
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches(), models())
def test_a_graph_alone_is_the_graph_in_the_batch(batch, options):
    sizes, seed = batch
    draw = np.random.default_rng(seed)
    graphs = [graph(size, draw) for size in sizes]
    model = build(options, seed % 1000)
    x, index, attr, of = joined(graphs)
    x.requires_grad_()
    together = answer(model, x, index, attr, of, len(graphs))
    starts = np.cumsum([0, *sizes])
    for number in {0, int(draw.integers(len(graphs))), len(graphs) - 1}:
        own = slice(int(starts[number]), int(starts[number + 1]))
        alone_x, *rest = graphs[number]
        alone_x = alone_x.clone().requires_grad_()
        zeros = torch.zeros(len(alone_x), dtype=torch.long)
        alone = answer(model, alone_x, *rest, zeros, 1)
        rows = own if model.level == "node" else slice(number, number + 1)
        torch.testing.assert_close(together[rows], alone, atol=1e-10, rtol=1e-10)
        if not alone.numel():
            continue
        weights = torch.from_numpy(draw.normal(size=tuple(alone.shape)))
        there, here = (together[rows] * weights).sum(), (alone * weights).sum()
        if alone_x.numel():
            (of_batch,) = torch.autograd.grad(there, x, retain_graph=True)
            (of_alone,) = torch.autograd.grad(here, alone_x, retain_graph=True)
            torch.testing.assert_close(of_batch[own], of_alone, atol=1e-10, rtol=1e-8)
            others = torch.ones(len(x), dtype=torch.bool)
            others[own] = False
            assert not of_batch[others].any(), "another graph must not matter at all"
        for mine, theirs in zip(gradients(model, here), _kept(model, there), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-8)


def _kept(model, loss):
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("name", POOLS)
def test_pools_are_their_definitions(name):
    states = torch.randn(7, 3, dtype=torch.float64)
    batch = torch.tensor([0, 2, 0, 2, 2, 0, 4])
    score = torch.randn(7, dtype=torch.float64)
    found = POOLS[name](states, batch, 6, score)
    for number in range(6):
        own = states[batch == number]
        if not len(own):
            expected = torch.zeros(3, dtype=torch.float64)
        elif name == "attention":
            expected = score[batch == number].softmax(0) @ own
        else:
            expected = {"mean": own.mean(0), "sum": own.sum(0), "max": own.amax(0)}[name]
        torch.testing.assert_close(found[number], expected)


def test_the_order_of_nodes_says_nothing_for_a_graph():
    draw = np.random.default_rng(0)
    x, index, attr = graph(12, draw)
    model = build({"edge_channels": A, "pool": list(POOLS)}, 0)
    order = torch.from_numpy(draw.permutation(12))
    place = torch.argsort(order)
    torch.testing.assert_close(model(x, index, attr), model(x[order], place[index], attr))


def test_edge_features_are_heard():
    draw = np.random.default_rng(1)
    x, index, attr = graph(8, draw)
    model = build({"edge_channels": A, "norm": "layer"}, 0)  # so that no ReLU is dead
    assert not torch.allclose(model(x, index, attr), model(x, index, attr + 1))
    with torch.no_grad():
        model.edge_map.out.weight.zero_()  # only the rates are left
        assert not torch.allclose(model(x, index, attr), model(x, index, 2 * attr))


def test_degrees_tell_graphs_apart_that_averages_cannot():
    x = torch.ones(6, F, dtype=torch.float64)
    ring = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 0]])
    both = torch.cat([ring, ring.flip(0)], 1)
    blind, seeing = (build({"degrees": d, "pool": "mean"}, 0) for d in (False, True))
    torch.testing.assert_close(blind(x, ring), blind(x, both))
    assert not torch.allclose(seeing(x, ring), seeing(x, both))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pool": "median"}, "pool must be one of 'mean', 'sum', 'max', 'attention'"),
        ({"pool": ()}, "pool must name at least one"),
        ({"level": "edge"}, "level must be one of 'graph', 'node'"),
        ({"edge_channels": -1}, "edge_channels must be a whole number of at least 0"),
    ],
)
def test_what_cannot_be_built_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        GraphDIFFormer(F, 4, OUT, **options)


def test_what_does_not_fit_is_refused():
    x, index, attr = graph(5, np.random.default_rng(2))
    plain, edged = build({}, 0), build({"edge_channels": A}, 0)
    with pytest.raises(DataError, match="edge_channels=0"):
        plain(x, index, attr)
    with pytest.raises(DataError, match="edge_attr must have 2 columns, found none"):
        edged(x, index)
    with pytest.raises(DataError, match=r"edge_attr must have shape"):
        edged(x, index, attr[:, :1])
    with pytest.raises(DataError, match="batch_size must be at least 3"):
        plain(x, index, None, torch.tensor([0, 0, 1, 2, 2]), 2)
    assert edged(x, index[:, :0]).shape == (1, OUT)
    assert plain(x[:0], None, None, torch.zeros(0, dtype=torch.long), 2).shape == (2, OUT)


def test_a_last_graph_without_nodes_has_outputs():
    x, index, _ = graph(5, np.random.default_rng(2))
    model = build({}, 0)
    assert model(x, index, None, torch.zeros(5, dtype=torch.long), 3).shape == (3, OUT)


def test_parameters_are_drawn_anew():
    model = build({"edge_channels": A, "pool": "attention"}, 0)
    before = [p.clone() for p in model.parameters()]
    torch.manual_seed(5)
    model.reset_parameters()
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2


def test_what_edges_say_is_the_mean_of_a_function_of_them_and_their_ends():
    draw = np.random.default_rng(3)
    x, index, attr = graph(6, draw)
    own = build({"edge_channels": A}, 0).edge_map
    found = own(x, index, attr)
    for node in range(6):
        said = [
            (own.receiver(x[node]) + own.sender(x[j]) + own.edge(e)).relu()
            for j, i, e in zip(*index.tolist(), attr, strict=True)
            if i == node
        ]
        mean = torch.stack(said).mean(0) if said else torch.zeros(4, dtype=torch.float64)
        torch.testing.assert_close(found[node], own.out(mean))
