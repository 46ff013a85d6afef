"""The whole encoder against its dense definition: outputs and every gradient."""

import nn_cases as cases
import pytest
import torch

# Settings of the model, the observed graph's norm, and what is passed: no graph, one, or weights.
VARIANTS = {
    "plain": ({}, "row", ""),
    "heads": ({"heads": 2, "value_map": True, "num_layers": 1}, "sym", "weighted"),
    "heads-source": ({"heads": 2, "source": 0.1, "step_size": 0.7}, "row", "weighted"),
    "no-maps": ({"maps": False, "source": 0.1}, "sym", "graph"),
    "values-without-maps": ({"maps": False, "value_map": True, "step_size": 1.0}, "row", ""),
    "no-norm": ({"norm": None, "value_map": True, "mix_weights": "learnt"}, "sym", "weighted"),
    "nothing-learnt": (
        {
            "in_channels": cases.C,
            "out_channels": cases.C,
            "maps": False,
            "norm": None,
            "input_map": False,
            "output_map": False,
            "num_layers": 3,
        },
        "row",
        "graph",
    ),
}
N = 22


def check(model, graph, weighted, batch=None):
    x = cases.draw(N, width=model.config["in_channels"])
    edge_index, edge_weight = cases.draw_edges(N, 16) if graph else (None, None)
    inputs = (x, edge_weight) if weighted else (x,)

    def ours(x, edge_weight=None):
        return model(x, edge_index, edge_weight, batch)

    def dense(x, edge_weight=None):
        return cases.dense_forward(model, x, edge_index, edge_weight, batch)

    found, grads = cases.gradients(model, ours, inputs)
    expected, expected_grads = cases.gradients(model, dense, inputs)
    cases.assert_close(found, expected)
    cases.assert_gradients_close(grads, expected_grads)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mix", ["convex", "joint"])
@pytest.mark.parametrize("name", cases.TERMS)
def test_equals_the_dense_definition(name, mix, variant):
    options, norm, graph = VARIANTS[variant]
    model = cases.make(name, mix=mix, graph_norm=norm, **options)
    check(model, graph or cases.uses_edges(name), graph == "weighted")


@pytest.mark.parametrize("mix", ["convex", "joint"])
@pytest.mark.parametrize("name", [name for name in cases.TERMS if not cases.uses_edges(name)])
def test_equals_the_dense_definition_on_a_batch(name, mix):
    batch = torch.tensor([2, 0, 2, 0, 0, 4, 2, 0, 2, 4, 5] * 2)
    check(cases.make(name, mix=mix, heads=2), False, False, batch)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 5.0)])
@pytest.mark.parametrize("graph", [True, False])
def test_fixed_mix_weights_are_scaled_and_absent_terms_leave_their_share(graph, weights):
    model = cases.make(("simple", "welsch"), mix_weights=weights)
    check(model, graph, graph)
    conv = model.layers[0]
    edge_index = cases.draw_edges(N, 16)[0] if graph else None
    shares = conv.mix_shares(model.structure(cases.draw(N), edge_index))
    given = (weights or (1.0, 1.0, 1.0))[: 3 if graph else 2]
    assert shares == pytest.approx([w / sum(given) for w in given])


@pytest.mark.parametrize("graph", [True, False])
def test_an_observed_graph_is_ignored_where_the_model_has_none(graph):
    model = cases.make("simple", graph=graph)
    x, (edge_index, edge_weight) = cases.draw(N), cases.draw_edges(N, 16)
    same = torch.equal(model(x, edge_index, edge_weight), model(x))
    assert same is not graph
