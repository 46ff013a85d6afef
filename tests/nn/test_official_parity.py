"""The official preset against numbers of the released code: outputs and every gradient."""

import json
import os
from pathlib import Path

import nn_cases as cases
import numpy as np
import pytest
import torch

from difformer.errors import ConfigError, DataError
from difformer.nn import DIFFormer, FrozenContext

ROOT = os.environ.get("DIFFORMER_DATA")
NAMES = (
    "sigmoid_graph_noweight_heads2",
    "sigmoid_graph_weighted_edges",
    "sigmoid_set",
    "simple_graph",
    "simple_graph_noweight",
    "simple_graphweight_source_nonorm",
    "simple_set_heads4",
)
here = pytest.mark.skipif(
    ROOT is None, reason="DIFFORMER_DATA does not name the benchmarks' folder"
)
RENAMED = (
    ("input_map.", "fcs.0."),
    ("output_map.", "fcs.1."),
    ("norms.", "bns."),
    ("query_map", "Wq"),
    ("key_map", "Wk"),
    ("value_map", "Wv"),
)
SIZES = {"in_channels": 3, "hidden_channels": 4, "out_channels": 2}


def released(name):
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return name


def parity():
    return Path(ROOT) / "parity"


@here
def test_every_case_is_tested():
    assert sorted(json.loads((parity() / "cases.json").read_text())) == sorted(NAMES)


@here
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_released_code(name):
    arguments = json.loads((parity() / "cases.json").read_text())[name]
    with np.load(parity() / f"{name}.npz", allow_pickle=False) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    weighted = arguments.pop("edge_weight")
    state = {k.removeprefix("param/"): v for k, v in data.items() if k.startswith("param/")}
    model = DIFFormer.from_official(state, **arguments).eval()
    x = data["x"].requires_grad_()
    out = model(x, data["edge_index"], data["edge_weight"] if weighted else None)
    (out * data["coef"]).sum().backward()
    tolerance = 1e-6 if arguments["use_graph"] else 1e-9
    cases.assert_close(out.detach(), data["out"], tolerance)
    cases.assert_close(x.grad, data["grad_x"], tolerance)
    compared = set()
    for own, parameter in model.named_parameters():
        key = f"grad/{released(own)}"
        if key in data:
            cases.assert_close(parameter.grad, data[key], tolerance)
            compared.add(key)
        else:
            assert parameter.grad is None or not parameter.grad.any()
    assert compared == {key for key in data if key.startswith("grad/")}


def test_arguments_that_the_released_constructor_lacks_are_refused():
    with pytest.raises(ConfigError, match=r"'num_heads'.*found 'heads'"):
        DIFFormer.from_official({}, **SIZES, heads=2)
    with pytest.raises(ConfigError, match="needs hidden_channels, out_channels"):
        DIFFormer.from_official({}, in_channels=3)
    with pytest.raises(
        ConfigError, match=r"kernel must be one of 'simple', 'sigmoid', found 'gcn'"
    ):
        DIFFormer.from_official({}, **SIZES, kernel="gcn")


def test_tensors_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match=r"does not fit.*convs\.0\.key_map\.bias"):
        DIFFormer.from_official({}, **SIZES)
    model = official()
    state = {released(k): v for k, v in model.state_dict().items()}
    state["fcs.0.weight"] = state["fcs.0.weight"][:, :2]
    with pytest.raises(ConfigError, match=r"input_map.weight must have shape \(4, 3\), found"):
        DIFFormer.from_official(state, **SIZES)


def official(**options):
    from difformer.nn.official import official_options

    return DIFFormer(**official_options(**SIZES, **options)).double().eval()


def test_what_the_released_code_does_not_define_is_refused():
    model, x = official(), cases.draw(6, width=3)
    with pytest.raises(DataError, match="batch must be None"):
        model(x, batch=torch.zeros(6, dtype=torch.long))
    with pytest.raises(ConfigError, match="outside the fitted set"):
        FrozenContext(model, x, cases.draw_edges(6, 8)[0]).predict(x)
    with pytest.raises(ConfigError, match="outside the fitted set"):
        FrozenContext(official(kernel="sigmoid"), x).predict(x)


def test_the_operator_follows_the_instances_and_their_precision():
    model, (edge_index, _) = official(), cases.draw_edges(5, 8)
    few, many = cases.draw(5, width=3), cases.draw(9, width=3)
    expected = model(many, edge_index.clone())
    model(few, edge_index)
    cases.assert_close(model(many, edge_index), expected, 0)
    assert model.float()(few.float(), edge_index).dtype == torch.float32


def test_a_trace_of_the_official_numerics_says_that_they_are_outside_the_theorem():
    x, (edge_index, edge_weight) = cases.draw(6, width=3), cases.draw_edges(6, 8)
    trace = official(graph_weight=0.8).trace(x, edge_index, edge_weight)
    assert [t.share for t in trace.steps[0].terms] == pytest.approx([0.2, 0.8])
    assert len(trace.broken_conditions) == 1
    assert [t.share for t in official().trace(x, edge_index).steps[0].terms] == [1.0, 1.0]
