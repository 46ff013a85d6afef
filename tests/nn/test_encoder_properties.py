"""What holds for every diffusivity: batched = alone, permutations, corners, caches, copies."""

import copy

import hypothesis
import nn_cases as cases
import pytest
import torch
from hypothesis import strategies

from difformer.diffusion import reference, regulariser
from difformer.nn import DIFFormer, DIFFormerConv
from difformer.nn.structure import Cache

every_term = pytest.mark.parametrize("name", cases.TERMS)
every_mix = pytest.mark.parametrize("mix", ["convex", "joint"])
SIZES = (4, 0, 1, 7, 2)


def disjoint_union(sizes, seed=0, shuffle=True):
    """Graphs, and one batch of them with rows in random order."""
    graphs, xs, edges, weights, batch, start = [], [], [], [], [], 0
    for number, size in enumerate(sizes):
        x = cases.draw(size, seed + number)
        edge_index, edge_weight = cases.draw_edges(size, 2 * size if size else 0, seed + number)
        graphs.append((x, edge_index, edge_weight))
        xs.append(x)
        edges.append(edge_index + start)
        weights.append(edge_weight)
        batch.append(torch.full((size,), number))
        start += size
    x, batch, edges = torch.cat(xs), torch.cat(batch), torch.cat(edges, 1)
    order = torch.arange(start)
    if shuffle:
        order = torch.randperm(start, generator=torch.Generator().manual_seed(seed))
    place = torch.empty_like(order)
    place[order] = torch.arange(start)
    return graphs, (x[order], place[edges], torch.cat(weights), batch[order]), order


def assert_batched_is_alone(model, sizes, shuffle, seed=0):
    graphs, (x, edge_index, edge_weight, batch), order = disjoint_union(sizes, seed, shuffle)
    coefficients = cases.draw(len(x), 99, cases.OUT)
    outs, x_grads, totals = [], [], [torch.zeros_like(p) for p in model.parameters()]
    start = 0
    for own_x, own_edges, own_weight in graphs:
        leaf = own_x.clone().requires_grad_()
        out = model(leaf, own_edges, own_weight)
        loss = (out * coefficients[start : start + len(own_x)]).sum()
        grads = torch.autograd.grad(
            loss, [leaf, *model.parameters()], allow_unused=True, materialize_grads=True
        )
        outs.append(out.detach())
        x_grads.append(grads[0])
        totals = [total + grad for total, grad in zip(totals, grads[1:], strict=True)]
        start += len(own_x)
    leaf = x.clone().requires_grad_()
    out = model(leaf, edge_index, edge_weight, batch)
    loss = (out * coefficients[order]).sum()
    grads = torch.autograd.grad(
        loss, [leaf, *model.parameters()], allow_unused=True, materialize_grads=True
    )
    cases.assert_close(out.detach(), torch.cat(outs)[order])
    cases.assert_gradients_close(grads, [torch.cat(x_grads)[order], *totals])


@pytest.mark.parametrize("shuffle", [False, True], ids=["sorted", "unsorted"])
@every_mix
@every_term
def test_batched_is_alone(name, mix, shuffle):
    norm = "sym" if shuffle else "row"
    model = cases.make(name, mix=mix, graph_norm=norm, heads=2, value_map=shuffle)
    assert_batched_is_alone(model, SIZES, shuffle)


@hypothesis.given(
    name=strategies.sampled_from(sorted(cases.TERMS)),
    mix=strategies.sampled_from(["convex", "joint"]),
    graph_norm=strategies.sampled_from(["row", "sym"]),
    sizes=strategies.lists(strategies.integers(0, 6), min_size=1, max_size=5),
    shuffle=strategies.booleans(),
    seed=strategies.integers(0, 1000),
)
@hypothesis.settings(derandomize=True, max_examples=40, deadline=None)
def test_batched_is_alone_for_random_batches(name, mix, graph_norm, sizes, shuffle, seed):
    model = cases.make(name, mix=mix, graph_norm=graph_norm, num_layers=1)
    assert_batched_is_alone(model, sizes, shuffle, seed)


@every_mix
@every_term
def test_order_of_instances_and_edges_does_not_matter(name, mix):
    model = cases.make(name, mix=mix)
    x, (edge_index, edge_weight) = cases.draw(9), cases.draw_edges(9, 14)
    expected = model(x, edge_index, edge_weight)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(9)
    cases.assert_close(model(x[order], place[edge_index], edge_weight), expected[order])
    edges = torch.randperm(14, generator=torch.Generator().manual_seed(2))
    cases.assert_close(model(x, edge_index[:, edges], edge_weight[edges]), expected)
    cases.assert_close(model(x, edge_index.int(), edge_weight), expected, 0)
    cases.assert_close(model(x, edge_index.to(torch.uint8), edge_weight.float()), expected, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_term
def test_precision_is_kept_and_inputs_are_left_alone(name, dtype):
    model = cases.make(name, heads=2).to(dtype)
    x, (edge_index, edge_weight) = cases.draw(9).to(dtype), cases.draw_edges(9, 14)
    batch = torch.tensor([1, 0, 1, 0, 0, 1, 1, 0, 1])
    given = (x, edge_index, edge_weight, batch)
    before = [t.clone() for t in given]
    out = model(*given)
    assert out.dtype == dtype
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@every_mix
@every_term
def test_no_instance_one_instance_and_isolated_instances(name, mix):
    model = cases.make(name, mix=mix)
    nothing = torch.zeros(2, 0, dtype=torch.long)
    assert model(cases.draw(0), nothing).shape == (0, cases.OUT)
    assert model(cases.draw(0), nothing, batch=torch.zeros(0, dtype=torch.long)).shape == (0, 3)
    alone = cases.draw(1)
    cases.assert_close(model(alone, nothing, batch=torch.tensor([3])), model(alone, nothing))
    x = cases.draw(6)
    x[2] = x[4]  # equal rows and a row of zeros
    x[3] = 0
    x.requires_grad_()
    out = model(x, torch.tensor([[0], [1]]))
    assert torch.isfinite(out).all()
    assert torch.isfinite(torch.autograd.grad(out.sum(), x)[0]).all()


@pytest.mark.parametrize("graph_norm", ["row", "sym"])
@pytest.mark.parametrize("name", ["graph", "graph_attention", "identity"])
def test_an_isolated_instance_keeps_its_state(name, graph_norm):
    conv = DIFFormerConv(cases.C, 1, name, graph_norm=graph_norm, graph=name != "identity").double()
    x = cases.draw(4, width=cases.C)
    moved = conv(x, torch.tensor([[0, 1], [1, 0]]))
    cases.assert_close(moved[2:], x[2:])
    if name != "identity":
        assert not torch.allclose(moved[:2], x[:2])


# Rows of a symmetric normalisation need not sum to 1.
@pytest.mark.parametrize("name", [name for name in cases.TERMS if "tuned" not in name])
def test_equal_states_are_a_fixed_point(name):
    value = cases.draw(1, width=cases.C).expand(6, -1).contiguous()
    conv = DIFFormerConv(cases.C, 2, cases.TERMS[name], source=0.2).double()
    moved = conv(value, torch.tensor([[0, 1, 2], [1, 0, 1]]))
    cases.assert_close(moved, value, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["affine-raw", "cauchy-raw"])
def test_where_the_origin_lies_does_not_matter_to_raw_states(name, dtype):
    conv = DIFFormerConv(cases.C, 1, cases.TERMS[name], maps=False).double()
    offset = 1e5 if dtype == torch.float64 else 100.0
    far = (cases.draw(30, width=cases.C) + offset).to(dtype)
    near = far.double() - offset  # what is left of the states in this precision, exactly
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-10}[dtype]  # offset * epsilon, and some
    cases.assert_close(conv.to(dtype)(far).double() - offset, conv.double()(near), tolerance)
    penalty = cases.TERMS[name].penalty
    cases.assert_close(regulariser(far, penalty), reference.regulariser(near, penalty, False))


def test_a_cache_notices_edits_other_tensors_and_other_instances():
    model = cases.make("simple")
    x, (edge_index, edge_weight) = cases.draw(9), cases.draw_edges(9, 14)
    other = cases.draw_edges(9, 14, seed=5)[0]

    def fresh(x, edge_index, edge_weight=None):
        weight = None if edge_weight is None else edge_weight.clone()
        return cases.make("simple")(x.clone(), edge_index.clone(), weight)

    for edges in (edge_index, other, edge_index):
        cases.assert_close(model(x, edges), fresh(x, edges), 1e-14)
    edge_index[0, 0] = (edge_index[0, 0] + 1) % 8
    cases.assert_close(model(x, edge_index), fresh(x, edge_index), 1e-14)
    model(x, edge_index, edge_weight)
    edge_weight.mul_(3)
    cases.assert_close(model(x, edge_index, edge_weight), fresh(x, edge_index, edge_weight), 1e-14)
    many = cases.draw(12)  # the same tensor of edges among more instances
    cases.assert_close(model(many, edge_index), fresh(many, edge_index), 1e-14)
    assert model.float()(x.float(), edge_index).dtype == torch.float32


def test_a_cache_follows_features_where_neighbours_are_found_in_them():
    model, x = cases.make("local-input"), cases.draw(9)
    model(x)
    x[0] = -x[0]
    cases.assert_close(model(x), cases.make("local-input")(x.clone()), 1e-14)


def test_a_cache_never_answers_for_a_tensor_that_is_gone():
    cache, made = Cache(), []
    for number in range(50):  # Python gives freed addresses out again
        tensor = torch.full((3,), number)
        assert cache.get((tensor,), lambda n=number: made.append(n) or n) == number
        assert cache.get((tensor,), lambda: -1) == number
        del tensor
    assert made == list(range(50))


def test_a_cache_does_not_keep_gradients_of_edge_weights_from_an_earlier_pass():
    model = cases.make("graph")
    x, (edge_index, edge_weight) = cases.draw(9), cases.draw_edges(9, 14)
    edge_weight.requires_grad_()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(model(x, edge_index, edge_weight).sum(), edge_weight)
        assert gradient.any()


@pytest.mark.parametrize("name", ["simple", "local-input", "graph_attention", "local-state"])
def test_inference_mode_leaves_nothing_behind_that_training_cannot_use(name):
    model = cases.make(name)
    x, edge_index = cases.draw(9), cases.draw_edges(9, 14)[0]
    expected = model(x, edge_index).detach()
    model = copy.deepcopy(model)
    with torch.inference_mode():
        found = model(x.clone(), edge_index.clone())
        cases.assert_close(found.clone(), expected, 1e-14)
        model(x, edge_index)
    model(x, edge_index).sum().backward()


def test_copies_and_state_dicts_give_the_same_outputs():
    model = cases.make(("simple", "local"), heads=2, mix_weights="learnt")
    x, edge_index = cases.draw(9), cases.draw_edges(9, 14)[0]
    expected = model(x, edge_index)
    twin = copy.deepcopy(model)
    cases.assert_close(twin(x, edge_index), expected, 1e-14)
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert torch.equal(model(x, edge_index), expected)
    other = cases.make(("simple", "local"), seed=3, heads=2, mix_weights="learnt")
    assert not torch.allclose(other(x, edge_index), expected)
    other.load_state_dict(model.state_dict())
    cases.assert_close(other(x, edge_index), expected, 1e-14)


@pytest.mark.parametrize("name", ["simple", "sigmoid", "local-input", "local-pca", "local-state"])
def test_sparse_features_give_what_dense_ones_give(name):
    model = cases.make(name, heads=2)
    x = cases.draw(9) * (cases.draw(9, seed=3) > -0.5)
    x[4] = 0
    edge_index = cases.draw_edges(9, 14)[0]
    found, grads = cases.gradients(model, lambda: model(x.to_sparse_csr(), edge_index), ())
    expected, expected_grads = cases.gradients(model, lambda: model(x, edge_index), ())
    cases.assert_close(found, expected)
    cases.assert_gradients_close(grads, expected_grads)
    model.train()
    assert torch.isfinite(model(x.to_sparse_csr(), edge_index)).all()


def test_sparse_features_without_an_input_map():
    model = cases.make("simple", in_channels=cases.C, input_map=False)
    x = cases.draw(6, width=cases.C)
    cases.assert_close(model(x.to_sparse_csr()), model(x), 0)


def test_dropout_of_sparse_features_drops_entries_and_rescales_the_rest():
    model = DIFFormer(400, 3, 2, num_layers=0, norm=None, dropout=0.0, input_dropout=0.5).double()
    with torch.no_grad():
        model.input_map.weight.fill_(1.0)
        model.input_map.bias.zero_()
    x = torch.ones(20, 400).double()
    for features in (x, x.to_sparse_csr()):
        z = model.embed(features)
        assert (z[:, 0] / 2 % 1 == 0).all()  # each kept entry counts twice
        assert 340 < z.mean() < 460
        assert len(z[:, 0].unique()) > 1


def test_learnt_mix_weights_are_convex_trained_and_left_to_the_terms_present():
    model = cases.make(("simple", "welsch"), mix_weights="learnt")
    conv, x = model.layers[0], cases.draw(9)
    edge_index = cases.draw_edges(9, 14)[0]
    shares = torch.stack(conv.mix_shares(model.structure(x, edge_index))).detach()
    assert float(shares.sum()) == pytest.approx(1.0)
    fewer = torch.stack(conv.mix_shares(model.structure(x))).detach()
    torch.testing.assert_close(fewer, shares[:2] / shares[:2].sum())
    model(x, edge_index).square().sum().backward()
    assert conv.mix_logits.grad.all()
    model.zero_grad()
    model(x).square().sum().backward()
    assert conv.mix_logits.grad[:2].all()
    assert conv.mix_logits.grad[2] == 0
    conv.reset_parameters()
    assert not conv.mix_logits.any()


def test_dropout_acts_in_training_alone():
    model = cases.make("simple", dropout=0.5, input_dropout=0.5)
    x = cases.draw(9)
    assert torch.equal(model(x), model(x))
    cases.assert_close(model(x), cases.dense_forward(model, x))
    model.train()
    assert not torch.equal(model(x), model(x))
    model.dropout = model.input_dropout = 0.0
    cases.assert_close(model(x), cases.dense_forward(model, x))


@pytest.mark.parametrize("official", [False, True])
def test_the_same_seed_draws_the_same_parameters(official):
    from difformer.nn.official import official_options

    options = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2}
    model = DIFFormer(**(official_options(**options) if official else options))
    drawn = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(4)
            model.reset_parameters()
        drawn.append(copy.deepcopy(model.state_dict()))
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    model.reset_parameters()
    changed = [n for n, t in model.state_dict().items() if not torch.equal(t, drawn[0][n])]
    assert changed == [n for n in drawn[0] if not n.startswith("norms")]
