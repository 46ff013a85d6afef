"""Plans of recomputation change no bit; the predicted memory is what a process really takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from difformer.diffusion import pairwise
from difformer.diffusion.masks import draw_key
from difformer.errors import ConfigError
from difformer.nn import DIFFormer, memory
from difformer.nn.encoder import RECOMPUTE
from difformer.nn.memory import Plan, plan_memory

MODELS = {
    "simple": {"num_layers": 5, "dropout": 0.3, "input_dropout": 0.1, "node_dropout": 0.1},
    "mixed": {"diffusivity": ("simple", "sigmoid"), "heads": 2, "value_map": True, "source": 0.1},
    "jump": {"num_layers": 5, "dropout": 0.3, "activation": "each", "jump": True},
    "late": {"activation": "output", "diffusivity": "local", "num_layers": 3},
    "single": {"num_layers": 1},
    "none": {"num_layers": 0},
}


def gradients(name, recompute, sparse=False):
    torch.manual_seed(3)
    model = DIFFormer(6, 8, 3, recompute=recompute, **{"num_layers": 4, **MODELS[name]})
    x = torch.randn(70, 6)
    x = x.to_sparse_csr() if sparse else x
    edges = torch.randint(0, 70, (2, 200))
    out = model(x, edges)
    loss = cross_entropy(out, torch.arange(70) % 3)
    wanted = list(model.parameters())
    return [out, *torch.autograd.grad(loss, wanted, materialize_grads=True)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("recompute", RECOMPUTE[1:])
def test_recomputation_changes_no_bit(name, recompute):
    for kept, again in zip(gradients(name, "nothing"), gradients(name, recompute), strict=True):
        assert torch.equal(kept, again)


def test_recomputation_changes_no_bit_with_sparse_features():
    kept, again = (gradients("simple", plan, sparse=True) for plan in ("nothing", "steps"))
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))


def test_plans_go_from_the_fastest_to_the_leanest(monkeypatch):
    model = DIFFormer(16, 16, 4, num_layers=9)
    x = torch.randn(20_000, 16)
    needs, present = [], 10**9
    for recompute in RECOMPUTE:
        model.recompute = recompute
        needs.append(plan_memory(model, x).step_bytes)
    assert needs[0] > needs[1] > needs[2]
    monkeypatch.setattr(memory, "resident_bytes", lambda device: (present, present))
    for need, recompute in zip(needs, RECOMPUTE, strict=True):
        assert plan_memory(model, x, memory=round(present + 1.02 * need)).recompute == recompute
    with pytest.raises(ConfigError, match="memory must be at least"):
        plan_memory(model, x, memory=present + needs[2] // 2)


def test_planning_leaves_the_model_and_the_random_stream_alone():
    model, x = DIFFormer(4, 8, 2), torch.randn(300, 4)
    before = {name: p.clone() for name, p in model.named_parameters()}
    edge_index = torch.randint(0, 300, (2, 500))
    state = torch.get_rng_state()
    plan_memory(model, x, edge_index, memory=10**12)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())
    assert draw_key() >= 0


@pytest.mark.parametrize("rows", [3000, 7000])
def test_large_tiles_of_pairs_are_told_at_their_size(monkeypatch, rows):
    """As on a GPU, where a trial of fixed size holds smaller or larger tiles than all rows do."""
    monkeypatch.setitem(pairwise.PAIRS, "cpu", 1 << 22)
    model = DIFFormer(8, 8, 2, 2, diffusivity="sigmoid")
    x = torch.randn(rows, 8)
    whole = memory._peak(model, x, 0, rows, model.recompute, 1)
    assert plan_memory(model, x).step_bytes == pytest.approx(whole, rel=0.05)


def test_sparse_features_are_planned_too():
    x = torch.eye(40, 12).to_sparse_csr()
    assert plan_memory(DIFFormer(12, 4, 2), x).step_bytes > 0


def test_a_model_that_needs_a_graph_is_planned_with_one():
    model = DIFFormer(4, 8, 2, 1, diffusivity="graph")
    edges = torch.randint(100, (2, 300))
    assert plan_memory(model, torch.randn(100, 4), edges).step_bytes > 0


def test_the_sentence_names_the_peak():
    assert "2.4 GB" in Plan("products", 1, 2, 2_400_000_000).sentence()


CHILD = """
import json, sys, torch
from torch.nn.functional import cross_entropy
from difformer.nn import DIFFormer
from difformer.nn.memory import plan_memory
torch.set_num_threads(1)
options, count, edges = json.loads(sys.argv[1])
torch.manual_seed(0)
model = DIFFormer(32, 32, 5, **options)
x, y = torch.randn(count, 32), torch.zeros(count, dtype=torch.long)
index = torch.randint(0, count, (2, edges)) if edges else None
plan = plan_memory(model, x, index)
for _ in range(2):
    model.zero_grad()
    cross_entropy(model(x, index), y).backward()
status = open("/proc/self/status").read()  # ru_maxrss would count the parent of a fork, too
peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
print(json.dumps([plan.peak_bytes, peak, plan.step_bytes]))
"""
PREDICTED = {
    "simple": ({"num_layers": 4}, 300_000, 0),
    "kept": ({"num_layers": 4, "recompute": "nothing"}, 300_000, 0),
    "lean": ({"num_layers": 6, "recompute": "steps", "dropout": 0.0}, 300_000, 0),
    "graph": ({"num_layers": 3}, 200_000, 1_000_000),
    "heads": ({"heads": 2, "value_map": True, "source": 0.1}, 200_000, 0),
    "sigmoid": ({"diffusivity": "sigmoid", "num_layers": 1}, 6_000, 0),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize("name", PREDICTED)
def test_the_prediction_is_right_within_a_fifth(name):
    """In a process of its own, for memory that was once taken counts for ever."""
    arguments = [sys.executable, "-c", CHILD, json.dumps(PREDICTED[name])]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    predicted, peak, step = json.loads(done.stdout.splitlines()[-1])
    assert step > 0
    assert predicted == pytest.approx(peak, rel=0.2)
