"""The network that a fitted encoder is for single rows: when there is one, and what it gives."""

import nn_cases as cases
import pytest
import torch
from test_frozen_context import NAMES, setting

from difformer.diffusion import Neighbourhood
from difformer.errors import ConfigError
from difformer.nn import DIFFormer, FrozenContext
from difformer.nn.official import official_options

L, N, F = 30, 7, 5


def draw(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(n, F, generator=generator, dtype=torch.float64).to(dtype) for n in (L, N))


@pytest.mark.parametrize("name", NAMES)
def test_sums_suffice_for_linear_rates_alone(name):
    model, known, _, edges, _ = setting(name, "convex", False)
    network = FrozenContext(model, known, *(edges or ())).network
    assert (network is not None) == (name == "simple")
    if not cases.uses_edges(name):
        model, known, _, edges, _ = setting(name, "convex", True)
        assert FrozenContext(model, known, *edges).network is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "output"},
        {"activation": "each", "jump": True},
        {"norm": None},
        {"heads": 3},
    ],
)
def test_a_fitted_row_gets_the_answer_that_it_has(options):
    """It is in the sums already, once: as its own neighbour it stands there as in fitting."""
    torch.manual_seed(0)
    model = DIFFormer(F, 8, 3, 3, source=0.1, **options).double().eval()
    known, _ = draw()
    with torch.no_grad():
        cases.assert_close(FrozenContext(model, known).predict(known), model(known))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_heads": 2},
        {"use_source": True, "alpha": 0.3},
        {"use_residual": False},
        {"use_weight": False},
    ],
)
def test_official_norms_are_frozen_too(options):
    torch.manual_seed(0)
    given = official_options(
        in_channels=F, hidden_channels=4, out_channels=3, use_graph=False, **options
    )
    model = DIFFormer(**given).double().eval()
    known, new = draw()
    found = FrozenContext(model, known).predict(new)
    with torch.no_grad():
        cases.assert_close(found, officially(model, known, new))
        cases.assert_close(FrozenContext(model, known).predict(known), model(known))


def officially(model, known, new):
    """Row by row from the formula: whole-tensor norms are those of the fitted rows."""
    states, z = model.embed(known), model.embed(new)
    initial, start = z, states
    for index, conv in enumerate(model.layers):
        split = (conv.heads, conv.channels)

        def value(x, conv=conv, split=split):
            if conv.value_map is None:
                return x.unsqueeze(1).expand(-1, conv.heads, -1)
            return conv.value_map(x).unflatten(1, split)

        queries, keys = (m(states).unflatten(1, split) for m in (conv.query_map, conv.key_map))
        norms = queries.norm() * keys.norm()
        q = conv.query_map(z).unflatten(1, split)
        rates = 1 + torch.einsum("nhm,lhm->hnl", q, keys) / norms
        heard = torch.einsum("hnl,lhd->nhd", rates / rates.sum(-1, keepdim=True), value(states))
        target = heard.mean(1) + (initial if conv.source else 0)
        z = target if conv.step_size is None else torch.lerp(z, target, conv.step_size)
        z = model.settle(z, index + 1)
        states = model.settle(conv.step(states, model.structure(known), start), index + 1)
    return model.readout(model.finish(z))


def test_official_graphs_are_not_defined_for_new_rows():
    given = official_options(in_channels=F, hidden_channels=4, out_channels=3)
    known, new = draw(torch.float32)
    edges = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ConfigError, match="official numerics"):
        FrozenContext(DIFFormer(**given), known, edges).predict(new)


@pytest.mark.parametrize("term", ["simple", "local", Neighbourhood(k=3, space="state")])
def test_weights_that_were_trained_on_are_looked_at_again(term):
    model, (known, new) = DIFFormer(F, 8, 3, 2, diffusivity=term).double().eval(), draw()
    context = FrozenContext(model, known)
    before = context.predict(new)
    with torch.no_grad():
        model.input_map.weight.mul_(torch.rand(8, 1).double() + 0.5)
    after = context.predict(new)
    assert (after - before).abs().max() > 1e-3
    cases.assert_close(after, FrozenContext(model, known).predict(new), 1e-14)


def test_a_row_opposite_to_all_keys_hears_the_mean():
    model = DIFFormer(2, 2, 2, 1, norm=None, input_map=False, output_map=False).double().eval()
    with torch.no_grad():
        for linear, sign in ((model.layers[0].query_map, -1), (model.layers[0].key_map, 1)):
            linear.weight.copy_(sign * torch.eye(2))
            linear.bias.zero_()
    known = torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 0.0]]).double()
    new = torch.tensor([[1.0, 0.0]]).double()
    step = model.layers[0].step_size
    found = FrozenContext(model, known).predict(new)
    cases.assert_close(found, torch.lerp(new, known.mean(0, keepdim=True), step))


def test_a_float32_model_answers_in_float64_where_asked():
    torch.manual_seed(0)
    model, (known, new) = DIFFormer(F, 8, 3, 2).eval(), draw(torch.float32)
    context = FrozenContext(model, known)
    many = context.encode(new.double())
    assert many.dtype == torch.float64
    for i in range(N):
        cases.assert_close(context.encode(new[i : i + 1].double()), many[i : i + 1], 1e-13)
    assert context.encode(new).dtype == torch.float32
