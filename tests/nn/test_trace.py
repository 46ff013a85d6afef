"""Energy parts, lambda*, contrast and broken conditions of each step, against definitions."""

import math

import nn_cases as cases
import pytest
import torch

from difformer.diffusion import QUADRATIC, SIMPLE, Neighbourhood, reference, step_bound, welsch

N = 9
HARMLESS = {
    "in_channels": cases.C,
    "out_channels": cases.C,
    "maps": False,
    "norm": None,
    "graph": False,
    "input_map": False,
    "output_map": False,
    "num_layers": 6,
}


def dense_regulariser(term, z, weights):
    """R of one term on states z; ``weights`` (N, N) or None."""
    if term.support == "self":
        return 0.0
    if weights is None:
        return float(reference.regulariser(z, term.penalty, term.sphere))
    sphere = term.sphere and term.penalty is not QUADRATIC
    at = reference.unit(z) if sphere else z
    x = (at.unsqueeze(1) - at.unsqueeze(0)).square().sum(-1)
    return float((weights * term.penalty.delta(x)).sum())


def dense_contrast(s, y):
    known = (y >= 0).unsqueeze(0) & (y >= 0).unsqueeze(1)
    same = y.unsqueeze(0) == y.unsqueeze(1)
    like = s[same & known & ~torch.eye(len(y), dtype=torch.bool)]
    return float(like.mean() / s[~same & known].mean())


@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("name", cases.TERMS)
@torch.no_grad()
def test_figures_equal_their_definitions(name, maps):
    model = cases.make(name, maps=maps, heads=2 if maps else 1, source=0.1, step_size=0.3).train()
    x, (edge_index, edge_weight) = cases.draw(N), cases.draw_edges(N, 14)
    y = torch.tensor([0, 1, 0, 2, -1, 1, 0, 2, 1])
    trace = model.trace(x, edge_index, edge_weight, y=y)
    assert model.training
    model.eval()
    z = cases.dense_embed(model, x)
    cases.assert_close(trace.initial, z)
    for index, (conv, step) in enumerate(zip(model.layers, trace.steps, strict=True)):
        heard = cases.dense_influence(conv, z, x, edge_index, edge_weight, None)
        moved = 0.7 * z + 0.3 * (0.9 * heard + 0.1 * trace.initial)
        cases.assert_close(step.states, cases.layer_norm(moved, model.norms[index + 1]))
        assert step.move == pytest.approx(float((moved - z).square().sum()))
        assert step.step_size == 0.3
        assert len(step.terms) == len(conv.terms)
        assert sum(t.share for t in step.terms) == pytest.approx(1.0)
        shares = [t.share * t.regulariser_moved for t in step.terms]
        assert step.regulariser == pytest.approx(sum(shares))
        for term, found in zip(conv.terms, step.terms, strict=True):
            q, k = conv.to_heads(conv.query_map, z), conv.to_heads(conv.key_map, z)
            rates, _ = cases.dense_term(term, q, k, x, z, edge_index, edge_weight, None, "row")
            weights = cases.support_weights(term, x, z, edge_index, edge_weight, None)
            assert found.name == term.label
            assert found.regulariser == pytest.approx(dense_regulariser(term, z, weights))
            expected = dense_regulariser(term, moved, weights)
            assert found.regulariser_moved == pytest.approx(expected)
            d_min = float(rates.sum(-1).min())
            assert found.d_min == pytest.approx(d_min)
            assert found.lambda_star == pytest.approx(0.3 / (4 * 0.7 * d_min))
            if term.support == "self":
                assert math.isnan(found.contrast)
                continue
            s = (rates / rates.sum(-1, keepdim=True)).mean(0)
            assert found.contrast == pytest.approx(dense_contrast(s, y))
        z = step.states


@torch.no_grad()
def test_figures_of_a_batch_add_up():
    model = cases.make("simple+welsch")
    parts = [cases.draw(4), cases.draw(6, seed=2)]
    batch = torch.tensor([0] * 4 + [1] * 6)
    whole = model.trace(torch.cat(parts), batch=batch).steps[1]
    alone = [model.trace(part).steps[1] for part in parts]
    assert whole.move == pytest.approx(sum(step.move for step in alone))
    for term, *others in zip(whole.terms, *(step.terms for step in alone), strict=True):
        assert term.regulariser == pytest.approx(sum(t.regulariser for t in others))
        assert term.d_min == pytest.approx(min(t.d_min for t in others))


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize(
    "diffusivity",
    [cases.raw(SIMPLE), cases.raw(welsch(0.5)), cases.TERMS["cauchy-raw"], cases.NEAR, "graph"],
    ids=["simple", "welsch", "cauchy", "local", "graph"],
)
def test_within_the_theorem_nothing_is_broken_and_the_energy_never_rises(diffusivity, share):
    x = cases.draw(20, width=cases.C)
    x = x / x.norm(dim=1).max()  # a ball of radius 1: squared distances up to 4
    edges = None
    if diffusivity == "graph":
        edges = torch.cat([e := cases.draw_edges(20, 30)[0], e.flip(0)], 1)
    first = cases.make(diffusivity, **HARMLESS).trace(x, edges)
    weight = 0.02
    # Rates only rise as states contract, so the first d_min serves all steps.
    tau = share * step_bound(weight, first.steps[0].terms[0].d_min)
    trace = cases.make(diffusivity, **HARMLESS, step_size=tau).trace(x, edges)
    assert trace.broken_conditions == ()
    energy = weight * trace.steps[0].terms[0].regulariser
    for step in trace.steps:
        assert step.terms[0].lambda_star <= weight * (1 + 1e-9)
        now = step.move + weight * step.regulariser
        assert now <= energy * (1 + 1e-12)
        energy = now


def test_above_the_bound_the_energy_of_a_trace_can_rise():
    x = cases.draw(20, width=cases.C)
    x = x / x.norm(dim=1).max()
    trace = cases.make(cases.raw(SIMPLE), **HARMLESS, step_size=0.5).trace(x)
    weight = 1e-4 * trace.steps[0].terms[0].lambda_star
    before = weight * trace.steps[0].terms[0].regulariser
    assert trace.steps[0].move + weight * trace.steps[0].regulariser > before


BROKEN = {
    "maps": ({"maps": True}, "learnt maps of the states"),
    "value-map": ({"value_map": True}, "value_map=True"),
    "norm": ({"norm": "layer", "diffusivity": cases.raw(welsch())}, "LayerNorm"),
    "sphere": ({"diffusivity": "simple"}, "unit vectors"),
    "attention": ({"diffusivity": "graph_attention"}, "unit vectors"),
    "mix": ({"graph": True}, "mix='convex'"),
    "sym": ({"diffusivity": "graph", "graph_norm": "sym"}, "rows that do not sum to 1"),
    "sym-local": ({"diffusivity": Neighbourhood(k=2, norm="sym")}, "rows that do not sum to 1"),
    "source": ({"source": 0.1}, "third part"),
    "state": ({"diffusivity": cases.STATE}, "found again"),
}
SOUND = {
    "joint": {"graph": True, "mix": "joint"},
    "joint-sym": {"diffusivity": "graph", "mix": "joint", "graph_norm": "sym"},
    "maps-without-distances": {"diffusivity": "graph", "maps": True},
    "identity": {"diffusivity": "identity"},
}


def broken(options, edge_index=None, radius=1.0):
    x = cases.draw(N, width=cases.C)
    x = radius * x / x.norm(dim=1).max()
    both = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    options = {**HARMLESS, "diffusivity": cases.raw(SIMPLE), **options}
    model = cases.make(options.pop("diffusivity"), **options)
    return model.trace(x, both if edge_index is None else edge_index).broken_conditions


@pytest.mark.parametrize("case", BROKEN)
def test_each_broken_condition_is_named(case):
    options, words = BROKEN[case]
    (named,) = broken(options)
    assert words in named


@pytest.mark.parametrize("case", SOUND)
def test_nothing_is_named_that_is_not_broken(case):
    assert broken(SOUND[case]) == ()


def test_a_directed_graph_and_far_states_are_named():
    (named,) = broken({"diffusivity": "graph"}, torch.tensor([[0, 1], [1, 2]]))
    assert "not symmetric" in named
    (named,) = broken({}, radius=3.0)
    assert "concave and rising up to 4" in named
    assert broken({"diffusivity": cases.raw(welsch())}, radius=3.0) == ()


def test_every_broken_condition_of_the_default_model_is_named():
    x, (edge_index, _) = cases.draw(N), cases.draw_edges(N, 14)
    named = " ".join(cases.make("simple", source=0.1).trace(x, edge_index).broken_conditions)
    for words in ("maps=True", "LayerNorm", "unit vectors", "convex", "third part", "symmetric"):
        assert words in named


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored_even_after_an_error(training):
    model = cases.make("simple").train(training)
    model.trace(cases.draw(N))
    assert model.training is training
    with pytest.raises(ValueError, match="edge_index"):
        model.trace(cases.draw(N), torch.tensor([[99], [0]]))
    assert model.training is training


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"y must have shape \(4,\), found \(3,\)"):
        cases.make("simple").trace(cases.draw(4), y=torch.tensor([0, 1, 0]))


def test_corners():
    model = cases.make("simple")
    nothing = model.trace(cases.draw(0), y=torch.zeros(0, dtype=torch.long)).steps[0].terms[0]
    assert nothing.regulariser == 0
    assert math.isnan(nothing.contrast)
    one = model.trace(cases.draw(1), y=torch.tensor([0])).steps[0]
    assert one.move == pytest.approx(0, abs=1e-20)
    assert math.isnan(one.terms[0].contrast)
    assert math.isnan(model.trace(cases.draw(4)).steps[0].terms[0].contrast)
    assert math.isinf(cases.make(step_size=1.0).trace(cases.draw(4)).steps[0].terms[0].lambda_star)
    assert cases.make(num_layers=0).trace(cases.draw(4)).steps == ()
