"""What a user reads who passes the wrong thing: the name, what is allowed, what was found."""

import re

import pytest
import torch

from difformer.diffusion import Neighbourhood
from difformer.errors import ConfigError, DataError
from difformer.nn import DIFFormer, DIFFormerConv
from difformer.nn.decoupled import DecoupledDIFFormer

BAD_CONV = {
    "channels-zero": ({"channels": 0}, "channels must be a whole number of at least 1, found 0."),
    "heads-float": ({"heads": 1.5}, "heads must be a whole number of at least 1, found 1.5."),
    "heads-bool": ({"heads": True}, "heads must be a whole number of at least 1, found True."),
    "heads-without-maps": (
        {"heads": 2, "maps": False},
        "heads must be 1 without learnt maps, found 2.",
    ),
    "step-zero": ({"step_size": 0}, "step_size must lie in (0, 1], found 0."),
    "step-nan": ({"step_size": float("nan")}, "step_size must lie in (0, 1], found nan."),
    "step-text": ({"step_size": "a"}, "step_size must lie in (0, 1], found 'a'."),
    "source-one": ({"source": 1.0}, "source must lie in [0, 1), found 1.0."),
    "source-none": ({"source": None}, "source must lie in [0, 1), found None."),
    "graph-norm": ({"graph_norm": "col"}, "graph_norm must be one of 'row', 'sym', found 'col'."),
    "mix": ({"mix": "sum"}, "mix must be one of 'convex', 'joint', found 'sum'."),
    "mix-weights-word": (
        {"mix_weights": "equal"},
        "mix_weights must be one of 'learnt', found 'equal'.",
    ),
    "mix-weights-count": ({"mix_weights": [1.0]}, "mix_weights must be 'learnt', None, or 2 posi"),
    "mix-weights-zero": ({"mix_weights": [1.0, 0.0]}, "found [1.0, 0.0]."),
    "mix-weights-inf": ({"mix_weights": [1.0, float("inf")]}, "found [1.0, inf]."),
    "mix-weights-text": ({"mix_weights": ["a", "b"]}, "found ['a', 'b']."),
    "mix-weights-number": ({"mix_weights": 0.5}, "graph last, found 0.5."),
    "diffusivity-name": (
        {"diffusivity": "gauss"},
        "diffusivity must be one of 'simple', 'sigmoid', 'welsch', 'cauchy', 'local', 'identity', "
        "'graph', 'graph_attention', found 'gauss'.",
    ),
    "diffusivity-in-mix": ({"diffusivity": ["simple", "gauss"]}, "found 'gauss'."),
    "diffusivity-empty": ({"diffusivity": []}, "at least one entry, found an empty sequence."),
    "diffusivity-number": ({"diffusivity": 5}, "found 5."),
}
BAD_MODEL = {
    "in-channels": ({"in_channels": -1}, "in_channels must be a whole number of at least 1, "),
    "hidden-channels": ({"hidden_channels": "8"}, "hidden_channels must be a whole number of"),
    "out-channels": ({"out_channels": 2.0}, "out_channels must be a whole number of at least 1, "),
    "layers": ({"num_layers": -1}, "num_layers must be a whole number of at least 0, found -1."),
    "layers-float": (
        {"num_layers": 2.5},
        "num_layers must be a whole number of at least 0, found 2.5.",
    ),
    "dropout": ({"dropout": 1.0}, "dropout must lie in [0, 1), found 1.0."),
    "dropout-text": ({"dropout": "0"}, "dropout must lie in [0, 1), found '0'."),
    "input-dropout": ({"input_dropout": -0.1}, "input_dropout must lie in [0, 1), found -0.1."),
    "node-dropout": ({"node_dropout": 1.5}, "node_dropout must lie in [0, 1), found 1.5."),
    "activation": (
        {"activation": "relu"},
        "activation must be one of 'input', 'output', 'each', found 'relu'.",
    ),
    "jump": (
        {"jump": True, "output_map": False, "out_channels": 4},
        "jump needs the output map, found output_map=False.",
    ),
    "norm": ({"norm": "batch"}, "norm must be 'layer' or None, found 'batch'."),
    "no-input-map": (
        {"input_map": False},
        "in_channels must equal hidden_channels = 4 where that map is left out, found 3.",
    ),
    "no-output-map": (
        {"output_map": False},
        "out_channels must equal hidden_channels = 4 where that map is left out, found 2.",
    ),
}
SIZES = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2}


@pytest.mark.parametrize("case", BAD_CONV)
def test_layer_arguments(case):
    options, message = BAD_CONV[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        DIFFormerConv(**{"channels": 4, **options})


@pytest.mark.parametrize("case", [*BAD_MODEL, *(c for c in BAD_CONV if "channels" not in c)])
def test_model_arguments(case):
    options, message = {**BAD_CONV, **BAD_MODEL}[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        DIFFormer(**{**SIZES, **options})


@pytest.mark.parametrize(
    "term", ["simple", "identity", "graph_attention", Neighbourhood(space="state")]
)
def test_decoupled_diffusion_needs_fixed_terms(term):
    with pytest.raises(ConfigError, match="fixed rates on few pairs"):
        DecoupledDIFFormer(3, 2, diffusivity=["graph", term])


def edges(*pairs):
    return torch.tensor(pairs).T


BAD_INPUT = {
    "x-width": ({"x": torch.ones(5, 2)}, "x must have shape (N, in_channels) with in_channels = 3"),
    "x-vector": ({"x": torch.ones(3)}, "found (3,)."),
    "x-whole": ({"x": torch.ones(5, 3).long()}, "x must hold floating-point numbers, found torch."),
    "edges-shape": ({"edge_index": torch.zeros(3, 2).long()}, "edge_index must have shape (2, E)"),
    "edges-float": ({"edge_index": torch.zeros(2, 2)}, "edge_index must hold whole numbers"),
    "edges-high": (
        {"edge_index": edges((0, 5))},
        "edge_index[1] must hold numbers from 0 to 4, found 5 to 5.",
    ),
    "edges-low": ({"edge_index": edges((-1, 0))}, "edge_index[0] must hold numbers from 0 to 4"),
    "weights-shape": (
        {"edge_index": edges((0, 1)), "edge_weight": torch.ones(2)},
        "edge_weight must have shape (1,), one weight an edge, found (2,).",
    ),
    "weights-negative": (
        {"edge_index": edges((0, 1)), "edge_weight": -torch.ones(1)},
        "edge_weight must be finite and not negative.",
    ),
    "weights-infinite": (
        {"edge_index": edges((0, 1)), "edge_weight": torch.tensor([torch.inf])},
        "edge_weight must be finite and not negative.",
    ),
    "weights-alone": ({"edge_weight": torch.ones(1)}, "edge_weight needs edge_index, found none."),
    "batch-length": ({"batch": torch.zeros(4).long()}, "batch must hold one "),
    "batch-negative": ({"batch": -torch.ones(5).long()}, "batch must hold numbers from 0"),
    "batch-float": ({"batch": torch.zeros(5)}, "batch must hold "),
}


@pytest.mark.parametrize("diffusivity", ["simple", "sigmoid", "local", "identity"])
@pytest.mark.parametrize("case", BAD_INPUT)
def test_inputs(case, diffusivity):
    inputs, message = BAD_INPUT[case]
    model = DIFFormer(**SIZES, diffusivity=diffusivity)
    with pytest.raises((DataError, ConfigError), match=re.escape(message)):
        model(**{"x": torch.ones(5, 3), **inputs})


def test_inputs_of_a_layer():
    conv = DIFFormerConv(4, maps=False)
    with pytest.raises(DataError, match=re.escape("channels = 4, found (5, 1).")):
        conv(torch.ones(5, 1))


@pytest.mark.parametrize("name", ["graph", "graph_attention"])
def test_a_diffusivity_on_edges_asks_for_them(name):
    with pytest.raises(ConfigError, match=f"'{name}' acts on few pairs.*pass edge_index"):
        DIFFormer(**SIZES, diffusivity=name)(torch.ones(5, 3))
