"""New rows against a frozen context: a slow definition, independence, and the context at rest."""

from dataclasses import replace

import nn_cases as cases
import pytest
import torch

from difformer.diffusion import QUADRATIC, reference
from difformer.errors import DataError
from difformer.nn import FrozenContext

KNOWN, NEW = 10, 5
NAMES = [
    "simple",
    "sigmoid",
    "welsch",
    "welsch-narrow",
    "cauchy-raw",
    "affine-raw",
    "identity",
    "graph",
    "graph_attention",
    "cauchy-edges",
    "local",
    "local-input",
    "local-tuned",
    "local-pca",
    "local-state",
    "local-state-tuned",
    "local-welsch",
    "simple+welsch",
    "sigmoid+local-state",
    "local+identity",
    "attention+simple",
]
every_name = pytest.mark.parametrize("name", NAMES)


# --- the slow definition --------------------------------------------------------------------------


def nearest(squared, count):
    """Columns of the ``count`` nearest, ties to the lower number."""
    order = sorted(range(len(squared)), key=lambda j: (float(squared[j]), j))
    return order[:count]


def kth_distance(squared, rows, k):
    """Squared distance of each context row to its k-th neighbour, or to the last there is."""
    found = []
    for i in range(rows):
        others = sorted(float(squared[i, j]) for j in range(rows) if j != i)
        found.append(others[min(k, len(others)) - 1] if others else 0.0)
    return found


def places(known, new, rule):
    """Squared distances among known and new rows, in the space of the known ones alone."""
    both = torch.cat([known, new]).detach()
    if rule.components is not None:
        mean = known.detach().mean(0)
        directions = torch.linalg.svd(known.detach() - mean, full_matrices=False)[2]
        both = (both - mean) @ directions[: rule.components].T
    return cases.squared_distances(both, replace(rule, components=None))


def local_row(squared, i, known, rule):
    """Weights from the context to new row i, (L,): the same rule, without the row itself."""
    own = squared[known + i, :known]
    chosen = nearest(own, rule.k)
    reach = kth_distance(squared, known, rule.k)
    weights = torch.zeros(known, dtype=squared.dtype)
    for j in range(known):
        mine, theirs = j in chosen, float(own[j]) <= reach[j]
        if rule.weights == "binary":
            weights[j] = float(mine or theirs)
            continue
        width = kth_distance(squared, known, rule.bandwidth)[j] ** 0.5
        my_width = float(own[nearest(own, rule.bandwidth)[-1]]) ** 0.5
        weights[j] = (mine + theirs) / 2 * torch.exp(-4 * own[j] / (width * my_width))
    return weights


def slow_predict(model, known, new, edges=None, new_edges=None):
    """The encoder's loop for each new row by itself; columns are the context, then itself."""
    edge_index, edge_weight = edges or (None, None)
    states = cases.dense_embed(model, known)
    z = initial = cases.dense_embed(model, new)
    for index, conv in enumerate(model.convs):
        rows = [
            slow_influence(conv, states, z, i, known, new, edges, new_edges)
            for i in range(len(new))
        ]
        target = (1 - conv.source) * torch.stack(rows) + conv.source * initial
        z = (1 - conv.step_size) * z + conv.step_size * target
        moved = cases.dense_influence(conv, states, known, edge_index, edge_weight, None)
        start = cases.dense_embed(model, known)
        moved = (1 - conv.source) * moved + conv.source * start
        states = (1 - conv.step_size) * states + conv.step_size * moved
        if len(model.norms):
            z, states = (cases.layer_norm(s, model.norms[index + 1]) for s in (z, states))
    return z @ model.output_map.weight.T + model.output_map.bias


def slow_influence(conv, states, z, i, known, new, edges, new_edges):
    """What new row i hears, (C,)."""
    columns = torch.cat([states, z[i : i + 1]])

    def mapped(linear, rows):
        if linear is None:
            return rows.unsqueeze(1).expand(-1, conv.heads, -1)
        return (rows @ linear.weight.T + linear.bias).reshape(len(rows), conv.heads, cases.C)

    q = mapped(conv.query_map, z[i : i + 1])
    k, v = mapped(conv.key_map, columns), mapped(conv.value_map, columns)
    total = rate_sum = 0
    share_sum = sum(conv._fixed_mix[m] for m in kept(conv, edges))
    for m in kept(conv, edges):
        share = conv._fixed_mix[m] / share_sum
        weights, rates, columns_degree, norm = slow_term(
            conv, m, q, k, states, z, i, known, new, edges, new_edges
        )
        rates = weights * rates  # (H, L + 1)
        if conv.mix == "joint":
            total, rate_sum = total + share * rates, rate_sum + share * rates.sum(-1, keepdim=True)
            continue
        degree = rates.sum(-1, keepdim=True)
        if norm == "sym":
            scale = (degree * torch.cat([columns_degree, degree[0]])).sqrt()
        else:
            scale = degree
        total = total + share * rates / torch.where(scale > 0, scale, 1)
    s = total / torch.where(rate_sum > 0, rate_sum, 1) if conv.mix == "joint" else total
    return torch.einsum("hl,lhd->hd", s, v).mean(0)


def kept(conv, edges):
    return [m for m in range(len(conv.terms)) if m != conv.optional_term or edges is not None]


def slow_term(conv, m, q, k, states, z, i, known, new, edges, new_edges):
    """Weights (L + 1,), rates (H, L + 1), degrees of the context (L,), and the norm of a term."""
    term, count = conv.terms[m], len(states)
    rates = torch.ones(conv.heads, count + 1, dtype=z.dtype)
    if term.penalty is not QUADRATIC:
        rates = term.penalty.rate(reference.squared_distance(q, k, term.sphere))[:, 0]
    itself = torch.zeros(1, dtype=z.dtype)
    context, norm = torch.ones(count, dtype=z.dtype), "row"
    if term.support == "self":
        return torch.cat([torch.zeros(count, dtype=z.dtype), itself + 1]), rates, context, norm
    if term.support == "all":
        return torch.cat([context, itself]), rates, context, norm
    if term.support == "edges":
        row = torch.zeros(count, dtype=z.dtype)
        if new_edges is not None:
            for source, target, weight in zip(*new_edges[0].tolist(), new_edges[1], strict=True):
                row[source] += weight if target == i else 0
        degree = reference.graph_weights(*edges, count).sum(1)
        norm = conv.graph_norm if term.penalty is QUADRATIC else "row"
        return torch.cat([row, itself + 1]), rates, degree, norm
    rule = term.neighbours
    at, own = (known, new) if rule.space == "input" else (states, z)
    row = local_row(places(at, own, rule), i, count, rule)
    norm = rule.norm if term.penalty is QUADRATIC else "row"
    return torch.cat([row, itself]), rates, cases.local_weights(at, rule, None).sum(1), norm


# --- the tests ------------------------------------------------------------------------------------


def setting(name, mix, graph, **options):
    model = cases.make(name, mix=mix, heads=2, value_map=True, source=0.1, **options)
    known, new = cases.draw(KNOWN), cases.draw(NEW, seed=1)
    edges = new_edges = None
    if graph or cases.uses_edges(name):
        edges = cases.draw_edges(KNOWN, 14)
        source = torch.tensor([0, 3, 3, 8, 9, 1, 0])
        target = torch.tensor([0, 0, 1, 1, 3, 3, 0])  # rows 2 and 4 have none; one edge repeats
        new_edges = torch.stack([source, target]), torch.rand(7).double() + 0.1
    return model, known, new, edges, new_edges


def frozen(model, known, edges):
    return FrozenContext(model, known, *(edges or ()))


@pytest.mark.parametrize("graph", [False, True], ids=["no-graph", "graph"])
@pytest.mark.parametrize("mix", ["convex", "joint"])
@every_name
def test_equals_the_slow_definition(name, mix, graph):
    norm = "sym" if graph else "row"
    model, known, new, edges, new_edges = setting(name, mix, graph, graph_norm=norm)
    found = frozen(model, known, edges).predict(new, *(new_edges or ()))
    with torch.no_grad():
        expected = slow_predict(model, known, new, edges, new_edges)
    cases.assert_close(found, expected)


@every_name
def test_a_new_row_does_not_depend_on_the_others(name):
    model, known, new, edges, new_edges = setting(name, "convex", True)
    context = frozen(model, known, edges)
    together = context.predict(new, *new_edges)
    edge_index, weight = new_edges
    for i in range(NEW):
        mine = edge_index[1] == i
        own = torch.stack([edge_index[0, mine], torch.zeros(int(mine.sum()), dtype=torch.long)])
        alone = context.predict(new[i : i + 1], own, weight[mine])
        cases.assert_close(alone, together[i : i + 1])
    assert context.predict(new[:0]).shape == (0, cases.OUT)


@every_name
def test_the_context_stays_as_it_was(name):
    model, known, new, edges, new_edges = setting(name, "convex", True)
    before, out = known.clone(), model(known, *edges)
    context = frozen(model.train(), known, edges)
    context.predict(new, *new_edges)
    assert model.training
    assert torch.equal(known, before)
    cases.assert_close(model.eval()(known, *edges), out, 1e-14)


def test_many_new_rows_go_in_blocks(monkeypatch):
    model, known, new, _, _ = setting("local-tuned", "convex", False)
    expected = FrozenContext(model, known).predict(new)
    monkeypatch.setattr("difformer.data.reach._TILE", 2 * len(known))
    cases.assert_close(FrozenContext(model, known).predict(new), expected, 1e-14)


@pytest.mark.parametrize("name", ["simple", "local-input", "local-pca", "local-state"])
def test_sparse_features(name):
    model, known, new, _, _ = setting(name, "convex", False)
    expected = FrozenContext(model, known).predict(new)
    found = FrozenContext(model, known.to_sparse_csr()).predict(new.to_sparse_csr())
    cases.assert_close(found, expected)


def test_a_context_that_was_edited_is_looked_at_again():
    model, known, new, edges, new_edges = setting("local-input", "convex", True)
    context = frozen(model, known, edges)
    context.predict(new, *new_edges)
    known[:4] = -known[:4]
    edges[1].mul_(2)
    found = context.predict(new, *new_edges)
    fresh = frozen(model, known.clone(), tuple(e.clone() for e in edges))
    cases.assert_close(found, fresh.predict(new.clone(), *new_edges), 1e-14)


def test_edges_outside_the_context_or_the_new_rows_are_refused():
    model, known, new, edges, _ = setting("simple", "convex", True)
    context = frozen(model, known, edges)
    with pytest.raises(DataError, match=r"edge_index\[0\] must hold numbers from 0 to 9, found 10"):
        context.predict(new, torch.tensor([[10], [0]]))
    with pytest.raises(DataError, match=r"edge_index\[1\] must hold numbers from 0 to 4, found 5"):
        context.predict(new, torch.tensor([[0], [5]]))
    with pytest.raises(DataError, match=r"in_channels = 5, found \(5, 4\)"):
        context.predict(new[:, :4])


@pytest.mark.parametrize("loops", [True, False])
def test_new_nodes_of_a_graph_are_as_fitted_ones_that_nobody_hears(loops):
    model, known, new, edges, new_edges = setting("graph", "convex", True, graph_loops=loops)
    both = torch.stack([new_edges[0][0], new_edges[0][1] + KNOWN])
    whole = torch.cat([edges[0], both], 1), torch.cat([edges[1], new_edges[1]])
    with torch.no_grad():
        expected = model(torch.cat([known, new]), *whole)[KNOWN:]
    cases.assert_close(frozen(model, known, edges).predict(new, *new_edges), expected)
