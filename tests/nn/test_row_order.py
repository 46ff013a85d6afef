"""Rows moved for the sake of the caches: the same states and gradients as in place."""

import numpy as np
import pytest
import torch

from difformer.data import order as data_order
from difformer.data.order import near_order
from difformer.diffusion import Neighbourhood
from difformer.nn import DIFFormer, structure
from difformer.nn.structure import arrange, arranged, reordered, restore

MIXES = {
    "local": [Neighbourhood(k=4)],
    "two": [Neighbourhood(k=4), Neighbourhood(k=3, weights="self-tuned", norm="sym")],
    "simple": ["simple", Neighbourhood(k=4)],
    "attention": ["graph_attention", Neighbourhood(k=4), "identity"],
}


@pytest.fixture
def small(monkeypatch):
    """Let a few rows count as many."""
    monkeypatch.setattr(structure, "ARRANGED_ROWS", 1)
    monkeypatch.setattr(data_order, "NEAR", 8)


def ring(count, seed=0):
    """Points around a circle in random order, and their edges."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randperm(count, generator=generator).double() * (2 * torch.pi / count)
    rank = torch.argsort(angle)
    edges = torch.stack([rank, rank.roll(1)])
    return torch.stack([angle.cos(), angle.sin()], 1), torch.cat([edges, edges.flip(0)], 1)


def encoded(model, x, edges, built):
    """What encode does with an arranged structure, by the plain loop."""
    z = arrange(model.embed(x), built)
    for step in model.steps(z, built):
        z = step.after
    return restore(z, built)


@pytest.mark.parametrize("mix", ["convex", "joint"])
@pytest.mark.parametrize("name", MIXES)
def test_moved_rows_give_the_same_states_and_gradients(small, name, mix):
    x, edges = ring(90)
    torch.manual_seed(0)
    model = DIFFormer(2, 6, 3, num_layers=3, diffusivity=MIXES[name], mix=mix, source=0.2).double()
    model.eval()
    plain = model.structure(x, edges)
    moved = arranged(plain, 3)
    assert moved is not plain
    assert sorted(moved.order.tolist()) == list(range(90))
    cotangent = torch.randn(90, 6, generator=torch.Generator().manual_seed(1)).double()
    results = []
    for built in (plain, moved):
        model.zero_grad()
        out = encoded(model, x, edges, built)
        out.backward(cotangent)
        results.append([out.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_operators_are_those_of_the_renumbered_rows(small):
    x, edges = ring(60)
    plain = DIFFormer(2, 4, 2, diffusivity=MIXES["two"]).structure(x, edges)
    moved = arranged(plain, 3)
    order = moved.order
    for before, after in zip(
        (*plain.weights, *plain.operators), (*moved.weights, *moved.operators), strict=True
    ):
        assert torch.equal(after.dense(), before.dense()[order][:, order])
    for w, operator in zip(moved.weights, moved.operators, strict=True):
        assert w.pattern is operator.pattern
    far = (order[1:] - order[:-1]).abs()
    assert far.float().mean() > 8  # the ring came in random order


def test_moving_there_and_back_changes_nothing_and_has_the_right_gradient():
    x, edges = ring(12)
    plain = DIFFormer(2, 4, 2, diffusivity="graph").structure(x, edges)
    moved = reordered(plain, torch.randperm(12, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(restore(arrange(x, moved), moved), x)
    assert torch.equal(arrange(x, moved)[moved.place], x)
    assert arrange(x, plain) is x
    assert restore(x, plain) is x
    x = x.clone().requires_grad_()
    weight = torch.arange(24.0).reshape(12, 2).double()
    assert torch.autograd.gradcheck(lambda x: arrange(x, moved) * weight, (x,))
    assert torch.autograd.gradcheck(lambda x: restore(x, moved) * weight, (x,))


def test_it_is_found_once_and_serves_in_training_also_when_found_while_predicting(small):
    x, edges = ring(60)
    plain = DIFFormer(2, 4, 2, diffusivity="graph").structure(x, edges)
    with torch.inference_mode():
        moved = arranged(plain, 3)
        arrange(x, moved)
    assert arranged(plain, 3) is moved
    z = x.clone().requires_grad_()
    moved.operators[0].matmul(arrange(z, moved)).sum().backward()
    assert z.grad is not None


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ({"diffusivity": Neighbourhood(k=3, space="state")}, {}),
        ({"diffusivity": ["graph", Neighbourhood(k=3, space="state")]}, {}),
        ({"diffusivity": "simple", "graph": False}, {}),
        ({"diffusivity": "graph"}, {"batch": torch.tensor([0] * 30 + [1] * 30)}),
        ({"diffusivity": "graph"}, {"edge_weight": torch.ones(120).double().requires_grad_()}),
    ],
    ids=["state", "mixed with state", "all pairs", "batch", "learnt edges"],
)
def test_rows_stay_where_order_matters_or_nothing_is_sparse(small, arguments, changes):
    x, edges = ring(60)
    built = DIFFormer(2, 4, 2, **arguments).structure(x, edges, **changes)
    assert arranged(built, 9) is built


def test_rows_stay_where_it_does_not_pay(small, monkeypatch):
    x, edges = ring(60)
    model = DIFFormer(2, 4, 2, diffusivity="graph")
    built = model.structure(x, edges)
    assert arranged(built, 2) is built  # few layers
    monkeypatch.setattr(structure, "ARRANGED_ROWS", 61)
    assert arranged(built, 3) is built  # few rows
    monkeypatch.setattr(structure, "ARRANGED_ROWS", 60)
    assert arranged(built, 3) is not built
    noise = torch.randint(0, 60, (2, 900), generator=torch.Generator().manual_seed(0))
    random = model.structure(x, noise)
    assert arranged(random, 3) is random  # no order helps
    line = torch.stack([torch.arange(59), torch.arange(1, 60)])
    straight = model.structure(x, line)
    assert arranged(straight, 3) is straight  # it needs none


def test_the_order_covers_all_graphs_and_every_row(monkeypatch):
    monkeypatch.setattr(data_order, "NEAR", 2)
    rng = np.random.default_rng(0)
    name = rng.permutation(50)
    row = np.concatenate([name[:24], name[25:49]])  # two paths; rows 24, 49 only at their ends
    col = np.concatenate([name[1:25], name[26:]])
    crow = np.concatenate([[0], np.bincount(row, minlength=50).cumsum()])
    col = col[np.argsort(row, kind="stable")]
    order = near_order(50, [(crow, col)])
    place = np.argsort(order)
    assert sorted(order.tolist()) == list(range(50))
    assert (np.abs(place[np.sort(row)] - place[col]) == 1).all()
    empty = np.zeros(51, np.int64), np.zeros(0, np.int64)
    np.testing.assert_array_equal(near_order(50, [(crow, col), empty]), order)
    assert near_order(50, [empty]) is None
