"""The cases of the benchmark: equals are compared, and limits, predictions and groups hold."""

import subprocess
import sys

import pytest
import torch

from difformer import DIFFormer
from difformer.errors import ConfigError
from difformer.experiments.bench import memory
from difformer.experiments.bench.cases import (
    METHODS,
    Settings,
    checked_sizes,
    known_methods,
)
from difformer.experiments.bench.limit import Rates, Work, least_work
from difformer.experiments.bench.published import FORMS, PublishedEncoder
from difformer.experiments.bench.trial import Trial, make_encoder, make_inputs
from difformer.experiments.bench.turns import Plan, fits, grouped, predicted

ROWS = 200
PAIRS = [
    (method, METHODS[other])
    for method in METHODS.values()
    for other in method.others
    if METHODS[other].family == "published"
]


def close(a, b, dtype):
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    assert a.shape == b.shape
    assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].name)
def test_the_published_form_gives_the_same_outputs_and_gradients(pair, dtype):
    ours, published = (make_encoder(method, 3, seed).to(dtype) for seed, method in enumerate(pair))
    published.load_state_dict(ours.state_dict())
    inputs = make_inputs(ROWS, pair[0].graph, seed=0)
    x = inputs.x.to(dtype)
    outputs = [model.eval()(x, inputs.edge_index) for model in (ours, published)]
    close(*outputs, dtype)
    for out in outputs:
        torch.nn.functional.cross_entropy(out, inputs.target).backward()
    theirs = dict(published.named_parameters())
    for name, parameter in ours.named_parameters():
        if theirs[name].grad.abs().max() > 1e-6:  # the official q and k hardly learn: rounding
            assert torch.allclose(
                parameter.grad,
                theirs[name].grad,
                rtol=1e-3 if dtype == torch.float32 else 1e-8,
                atol=1e-5 if dtype == torch.float32 else 1e-12,
            ), name


def test_the_official_form_is_that_of_released_checkpoints():
    torch.manual_seed(0)
    published = PublishedEncoder(64, 64, 10, 2, "official", heads=2)
    renamed = {"input_map": "fcs.0", "output_map": "fcs.1", "norms": "bns"}
    maps = {"query_map": "Wq", "key_map": "Wk"}
    state = {}
    for name, tensor in published.state_dict().items():
        for old, new in {**renamed, **maps}.items():
            name = name.replace(old, new)
        state[name] = tensor
    ours = DIFFormer.from_official(
        state,
        in_channels=64,
        hidden_channels=64,
        out_channels=10,
        num_heads=2,
        use_weight=False,
        dropout=0.0,
    )
    inputs = make_inputs(ROWS, graph=True, seed=1)
    for edges in (None, inputs.edge_index):
        close(ours.eval()(inputs.x, edges), published(inputs.x, edges), torch.float32)


@pytest.mark.parametrize("name", METHODS)
def test_every_case_takes_a_step(name):
    if METHODS[name].family == "peer":
        pytest.importorskip("torch_geometric")
    trial = Trial(METHODS[name], ROWS, 2, 0, "cpu")
    before = [parameter.clone() for parameter in trial.encoder.parameters()]
    assert trial.step()["seconds"] > 0
    assert min(trial.floor, trial.base, trial.peak()) > 100_000_000
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before, trial.encoder.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2
    assert trial.encoder.training
    graph = trial.inputs.edge_index
    assert (graph is not None) == METHODS[name].graph
    if graph is not None:
        assert graph.shape == (2, 20 * ROWS)
        assert (graph[0] != graph[1]).all()


def test_latent_inputs_have_few_dimensions():
    x = make_inputs(500, False, 0, latent=3).x
    assert x.shape == (500, 64)
    noise = make_inputs(500, False, 0).x
    few, many = (torch.linalg.svdvals(z - z.mean(0))[:12].square().sum() for z in (x, noise))
    assert few / (x - x.mean(0)).square().sum() > 0.9
    assert many / noise.square().sum() < 0.5


def test_the_table_of_methods_is_whole():
    for method in METHODS.values():
        assert all(other in METHODS for other in method.others)
        if method.family == "published":
            assert method.form in FORMS
            (ours,) = [m for m in METHODS.values() if m.others[:1] == (method.name,)]
            assert (ours.dropout, ours.graph, ours.panel) == (
                method.dropout,
                method.graph,
                method.panel,
            )


def test_the_limit_counts_products_and_passes():
    n, d = 1000, 64
    for form, products in (("simple", 11), ("official", 5)):
        work = least_work(n, 8, form)
        maps = 2 * 2 * n * 64 * d + 3 * 2 * n * d * 10
        assert work.flops == 8 * products * 2 * n * d * d + maps
        assert work.bytes == 8 * 3 * 2 * n * d * 4
    assert Work(100, 30).seconds(10, 1) == 30
    assert Work(100, 30).seconds(2, 10) == 50


def test_the_machine_is_measured():
    reading = Rates(ROWS).step()
    assert set(reading) == {"product", "copy"}
    assert min(reading.values()) > 0


READ_MEMORY = """
import torch
from difformer import process
process.forget_peak()
before = process.peak()
block = torch.ones(40_000_000)
print(process.peak() - before, process.resident() - block.nbytes)
"""


def test_memory_is_read():
    """In a process of its own: one that has freed much would take the block from there."""
    child = subprocess.run([sys.executable, "-c", READ_MEMORY], capture_output=True, check=True)
    more, beside = map(int, child.stdout.split())
    assert more > 100_000_000
    assert beside > 0


def test_memory_is_predicted():
    assert memory.available() > 0
    assert memory.predict([(10, 150), (20, 200), (80, 999)], 40, 1, floor=100) == 300
    assert memory.predict([(20, 200)], 40, 2, floor=100) == 500
    assert memory.predict([(20, 200)], 20, 2, floor=100) is None


def plan(name, peak, idle):
    return Plan(METHODS[name], peak, idle)


def test_cases_of_one_size_are_split_into_groups_that_fit():
    plans = [
        plan("simple", 50, 10),
        plan("published-simple", 70, 10),
        plan("official", 50, 10),
        plan("published-official", 70, 10),
        plan("gps", 95, 10),
    ]
    assert grouped(plans, 200) == [plans]
    groups = grouped(plans, 100)
    assert [[p.method.name for p in group] for group in groups] == [
        ["simple", "published-simple", "official", "published-official"],
        ["gps"],
    ]
    assert all(fits(group, 100) for group in groups)
    assert [len(group) for group in grouped(plans, 85)] == [2, 2, 1]  # gps alone is not checked
    assert [len(group) for group in grouped(plans[:2], 75)] == [1, 1]


def test_an_unmeasured_case_is_predicted_by_counting_arrays():
    small, large = (
        predicted(METHODS["published-sigmoid"], size, 8, []).peak for size in (10**4, 2 * 10**4)
    )
    assert large - memory.RUNTIME > 3.9 * (small - memory.RUNTIME)
    assert small > 8 * 10**8 * 4


def test_sizes_and_methods_as_typed():
    assert checked_sizes("100, 50") == (50, 100)
    for bad in ("", "a", "5", "1e5"):
        with pytest.raises(ConfigError, match="--sizes"):
            checked_sizes(bad)
    assert known_methods(["gcn", "simple"]) == ("simple", "gcn")
    with pytest.raises(ConfigError, match="--methods must be one of"):
        known_methods(["nothing"])


def test_quadratic_methods_have_sizes_of_their_own_and_a_bound():
    settings = Settings(sizes=(100,), quadratic_sizes=(50, 50_000))
    assert settings.all_sizes() == [50, 100]
    assert {method.panel for method in settings.methods_at(50)} == {"quadratic"}
    assert "quadratic" not in {method.panel for method in settings.methods_at(100)}
    assert Settings(quadratic_sizes=(50_000,), long=True).methods_at(50_000)
