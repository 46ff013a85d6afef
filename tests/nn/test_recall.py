"""Neighbours among the states on a schedule: how often they are found, and what that changes."""

from itertools import pairwise

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from difformer.diffusion import Neighbourhood
from difformer.errors import ConfigError
from difformer.nn import DIFFormer, influence
from difformer.nn.influence import weights_of
from difformer.nn.recall import Recall


@pytest.fixture
def searches(monkeypatch):
    """The states of each search, in order."""
    seen = []
    original = influence.found_neighbours

    def found(z, rule, batch=None):
        seen.append(z.detach().clone())
        return original(z, rule, batch)

    monkeypatch.setattr(influence, "found_neighbours", found)
    return seen


def model_of(every, layers=2, **arguments):
    torch.manual_seed(0)
    rule = Neighbourhood(k=3, space="state", every=every)
    arguments = {"dropout": 0.0, "graph": False, **arguments}
    return DIFFormer(4, 6, 3, num_layers=layers, diffusivity=rule, **arguments).double()


def data(count=20, seed=0):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)).double()


def train(model, x, passes, structure=None):
    """Some steps of descent; the states after each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    structure = model.structure(x) if structure is None else structure
    outputs = []
    for _ in range(passes):
        z = model.embed(x)
        for step in model.steps(z, structure):
            z = step.after
        optimizer.zero_grad()
        z.square().sum().backward()
        optimizer.step()
        outputs.append(z.detach())
    return outputs


@pytest.mark.parametrize(("every", "expected"), [(1, 7), (2, 4), (3, 3), (7, 1), (99, 1)])
def test_each_layer_searches_at_the_first_and_each_every_th_pass(searches, every, expected):
    train(model_of(every).train(), data(), 7)
    assert len(searches) == 2 * expected


def test_layers_and_terms_do_not_share_neighbours(searches):
    train(model_of(5).train(), data(), 1)
    assert len(searches) == 2
    assert not torch.equal(*searches)
    rules = [Neighbourhood(k=k, space="state", every=5) for k in (2, 3)]
    torch.manual_seed(0)
    model = DIFFormer(4, 6, 3, num_layers=1, diffusivity=rules, graph=False).double().train()
    z, x = torch.randn(20, 6).double(), data()
    states = model.layers[0].states(z, model.structure(x))
    assert len(weights_of(0, states).values) < len(weights_of(1, states).values)


@pytest.mark.parametrize("batch", [None, torch.tensor([0] * 9 + [1] * 11)], ids=["one", "batch"])
def test_while_states_do_not_change_the_schedule_changes_nothing(batch):
    z = data(20, seed=3).repeat(1, 2)[:, :6]
    results = []
    for every in (1, 4):
        model = model_of(every).train()
        structure = model.structure(data(), batch=batch)
        results.append([model.layers[0].influence(z, structure) for _ in range(3)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_in_between_the_neighbours_of_the_last_search_are_used():
    conv, first, second = model_of(2).train().layers[0], data(20, 1), data(20, 2)
    first, second = (torch.cat([z, z[:, :2]], 1) for z in (first, second))
    structure = model_of(2).structure(data())
    before = weights_of(0, conv.states(first, structure)).dense()
    kept = weights_of(0, conv.states(second, structure)).dense()
    fresh = weights_of(0, conv.eval().states(second, structure)).dense()
    assert torch.equal(before, kept)
    assert not torch.equal(kept, fresh)


def test_evaluation_does_not_depend_on_the_training_before(searches):
    x, model = data(), model_of(50).train()
    train(model, x, 3)
    alone = model_of(50)
    alone.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x), alone.eval()(x))
    count = len(searches)
    model(x)
    assert len(searches) == count + 2  # always found anew
    train(model.train(), x, 1)
    assert len(searches) == count + 2  # and what training remembers is left alone


def test_a_training_resumed_where_a_search_is_due_ends_with_the_same_bits():
    x, whole, first = data(), model_of(3).train(), model_of(3).train()
    expected = train(whole, x, 8)[-1]
    train(first, x, 6)
    resumed = model_of(3).train()
    resumed.load_state_dict(first.state_dict())
    assert torch.equal(train(resumed, x, 2)[-1], expected)


def test_a_backward_that_makes_states_again_meets_the_same_neighbours(searches):
    gradients = []
    for lean in (False, True):
        model, x = model_of(2, layers=1).train(), data()
        structure, views = model.structure(x), [data(20, seed) for seed in range(5)]
        conv = model.layers[0]
        searches.clear()
        for one, other in pairwise(views):  # two views a step
            model.zero_grad()
            for view in (one, other):
                z = model.embed(view)
                if lean:
                    z = checkpoint(conv.step, z, structure, z, use_reentrant=False)
                else:
                    z = conv.step(z, structure, z)
                z.square().sum().backward(retain_graph=False)
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        gradients[-1].append(torch.tensor(len(searches)))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_backwards_of_several_views_come_after_all_forwards():
    recall, made = Recall(), []
    states = [data(20, seed) for seed in range(3)]
    found = [recall.weights("layer", 2, z, lambda: made.append(0) or object()) for z in states]
    assert len(made) == 2
    assert found[0] is found[1]
    assert found[1] is not found[2]
    again = [recall.weights("layer", 2, z, lambda: 1 / 0) for z in reversed(states)]
    assert again == found[::-1]


def test_every_is_checked():
    for wrong in (0, True, 2.5):
        with pytest.raises(ConfigError, match=r"^every must be a whole number of at least 1"):
            Neighbourhood(space="state", every=wrong)
    with pytest.raises(ConfigError, match="found once, found 4"):
        Neighbourhood(every=4)
