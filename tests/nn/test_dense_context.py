"""The context by whole matrices against the one by tiles and sparse products."""

import nn_cases as cases
import pytest
import torch
from test_frozen_context import NAMES, setting

from difformer.diffusion import Neighbourhood
from difformer.nn import DIFFormer, FrozenContext
from difformer.nn.dense_context import DenseWeights, dense
from difformer.nn.official import official_options

WITHOUT_EDGES = [name for name in NAMES if not cases.uses_edges(name)]


@pytest.mark.parametrize("mix", ["convex", "joint"])
@pytest.mark.parametrize("name", WITHOUT_EDGES)
def test_equals_the_frozen_context(name, mix):
    model, known, new, _, _ = setting(name, mix, False)
    context = FrozenContext(model, known)
    network = dense(context)
    cases.assert_close(network.encode(new), context.encode(new), 1e-10)
    cases.assert_close(network(new), context.predict(new), 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_there_is_none_where_edges_count(name):
    model, known, _, edges, _ = setting(name, "convex", True)
    assert dense(FrozenContext(model, known, *edges)) is None


def test_there_is_none_for_the_released_numerics():
    options = official_options(in_channels=5, hidden_channels=4, out_channels=3, use_graph=False)
    model = DIFFormer(**options).double().eval()
    assert dense(FrozenContext(model, cases.draw(9)[:, :5])) is None


@pytest.mark.parametrize("weights", ["binary", "self-tuned"])
def test_a_row_at_the_place_of_a_fitted_one_is_within_the_same_reaches(weights):
    """Distances that equal the reach count, though they come out of another sum."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 7, generator=generator).double()
    rule = Neighbourhood(k=4, weights=weights, metric="euclidean", self_loops=False)
    model = DIFFormer(7, 7, 2, 1, diffusivity=rule, graph=False).double().eval()
    context = FrozenContext(model, x)
    found = DenseWeights(context.sides("input")[0])(x)
    expected = context.towards(x.clone()).weights[0].dense()[:, :60]
    cases.assert_close(found, expected, 1e-9)
