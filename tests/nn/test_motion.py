"""The engine's fused steps against the plain ones: every kind of layer, dropout included."""

import nn_cases as cases
import pytest
import torch

from difformer.diffusion import masks
from difformer.nn import DIFFormer, motion
from difformer.nn.official import official_options

N, F, C = 40, 6, 5
LAYERS = {
    "simple": {},
    "heads": {"heads": 3, "value_map": True},
    "source": {"source": 0.2, "step_size": 0.7},
    "learnt-mix": {"mix_weights": "learnt"},
    "mixed": {"diffusivity": ("simple", "sigmoid"), "mix_weights": (2.0, 1.0, 1.0)},
    "two-linear-terms": {"diffusivity": ("sigmoid", "simple", "simple"), "value_map": True},
    "joint": {"mix": "joint"},
    "sigmoid": {"diffusivity": "sigmoid"},
    "no-norm": {"norm": None},
    "no-maps": {"maps": False},
    "late": {"activation": "output"},
    "each": {"activation": "each"},
    "jump": {"jump": True, "activation": "each", "num_layers": 3},
    "late-jump": {"jump": True, "activation": "output"},
    "local": {"diffusivity": ("local", "simple"), "step_size": 0.7},
    "graph": {"diffusivity": "graph"},
    "no-loops": {"graph_loops": False, "graph_norm": "sym"},
    "wide": {"hidden_channels": 16},  # too few instances a channel to fold
}
OFFICIAL = {
    "official": {},
    "official-heads": {"num_heads": 2},
    "official-weight": {"graph_weight": 0.3, "use_source": True},
    "official-no-residual": {"use_residual": False, "use_weight": False},
    "official-sigmoid": {"kernel": "sigmoid"},
    "official-value": {"use_weight": True, "num_heads": 2},
}


def make(name, dtype=torch.float64):
    torch.manual_seed(0)
    sizes = {"in_channels": F, "hidden_channels": C, "out_channels": 3, "num_layers": 2}
    if name in LAYERS:
        model = DIFFormer(**{**sizes, "dropout": 0.3, "input_dropout": 0.2, **LAYERS[name]})
    else:
        model = DIFFormer(**official_options(**{**sizes, "dropout": 0.3, **OFFICIAL[name]}))
    return model.to(dtype)


def plainly(model, x, edge_index):
    """``DIFFormer.forward`` by plain maps and the plain steps."""
    key = model.draw_key()
    rate = model.input_dropout if model.training else 0.0
    z = model.input_map(masks.dropout(x, rate, masks.derive(key, -2)))
    z = model.norms[0](z) if model.norms else z
    if not model.late:
        z = z.relu()
        z = masks.dropout(z, model.dropout if model.training else 0.0, masks.derive(key, 0))
    seen = [z, *(step.after for step in model.steps(z, model.structure(x, edge_index), key))]
    z = torch.cat(seen, 1) if model.jump else seen[-1]
    return model.output_map(model.finish(z, key))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("name", [*LAYERS, *OFFICIAL])
def test_fused_steps_equal_plain_ones(name, graph, training):
    model = make(name).train(training)
    x = torch.randn(N, F, dtype=torch.float64, requires_grad=True)
    edge_index, _ = cases.draw_edges(N, 90) if graph or name == "graph" else (None, None)

    def run(function):
        torch.manual_seed(5)
        out = function(x, edge_index)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        wanted = [x, *model.parameters()]
        return out, torch.autograd.grad((out * weight).sum(), wanted, materialize_grads=True)

    out, grads = run(model)
    expected, expected_grads = run(lambda x, edges: plainly(model, x, edges))
    cases.assert_close(out, expected)
    # Rounding in a gradient that is 0 in truth is measured against the largest of all.
    largest = max(g.abs().max() for g in expected_grads)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert (ours - theirs).abs().max() <= 1e-10 * max(theirs.abs().max(), 1e-3 * largest)


def folds(model, x, edge_index=None):
    layer = model.layers[0]
    made = layer.motion(model.embed(x), model.structure(x, edge_index), fold=True)
    return made.maps is not None


def test_which_layers_are_folded():
    x = torch.randn(N, F, dtype=torch.float64)
    edges, _ = cases.draw_edges(N, 90)
    folded = {name for name in (*LAYERS, *OFFICIAL) if folds(make(name).eval(), x, edges)}
    plain = {"joint", "sigmoid", "no-maps", "wide", "official-sigmoid", "graph"}
    assert folded == {*LAYERS, *OFFICIAL} - plain


def test_which_terms_are_multiplied_in_passing():
    """Fixed operators of the states as they are: no value map, no learnt weight of the mix."""
    x, (edges, _) = torch.randn(N, F, dtype=torch.float64), cases.draw_edges(N, 90)

    def count(name):
        model = make(name).eval()
        made = model.layers[0].motion(model.embed(x), model.structure(x, edges), fold=True)
        return len(made.operators), made.rest is not None

    counts = {name: count(name) for name in (*LAYERS, *OFFICIAL)}
    assert counts["simple"] == counts["graph"] == counts["official-no-residual"] == (1, False)
    assert counts["local"] == (2, False)
    assert counts["mixed"] == counts["sigmoid"] == (1, True)
    for name in ("heads", "learnt-mix", "joint", "official-sigmoid", "official-value"):
        assert counts[name] == (0, True), name


def test_a_batch_of_graphs_is_not_folded():
    model = make("simple").eval()
    x, batch = torch.randn(N, F, dtype=torch.float64), torch.arange(N) // 20
    structure = model.structure(x, batch=batch)
    assert model.layers[0].motion(model.embed(x), structure, fold=True).maps is None


def test_states_beyond_range_take_the_plain_path():
    model = make("no-norm").eval()
    with torch.no_grad():
        for layer in model.layers:
            layer.key_map.weight.mul_(1e200)
    x = torch.randn(N, F, dtype=torch.float64)
    cases.assert_close(model(x), plainly(model, x, None))


def test_a_forward_pass_draws_one_key_and_only_if_it_drops(monkeypatch):
    drawn = []
    monkeypatch.setattr(masks, "draw_key", lambda: drawn.append(1) or 7)
    model, x = make("simple"), torch.randn(N, F, dtype=torch.float64)
    model.eval()(x)
    assert drawn == []
    model.train()(x)
    assert drawn == [1]


def test_layers_have_masks_of_their_own():
    keys = {masks.derive(7, index) for index in range(-2, 9)}
    assert len(keys) == 11
    assert all(0 <= key < 1 << 62 for key in keys)


def test_folding_starts_where_it_pays():
    model = make("simple").eval()
    for count, expected in ((motion.FOLD_FROM * C - 1, False), (motion.FOLD_FROM * C, True)):
        assert folds(model, torch.randn(count, F, dtype=torch.float64)) is expected


def test_memory_of_states_serves_every_training_pass_and_no_prediction():
    """After the first steps nothing is asked of the system; what a prediction takes it gives."""
    torch.manual_seed(0)
    model, x = DIFFormer(8, 64, 3, num_layers=3), torch.randn(9000, 8)

    def train():
        model.train().zero_grad()
        model(x).square().mean().backward()

    model.eval()(x)
    assert model.workspace.held == 0
    train()
    held = model.workspace.held
    assert held >= 4 * 9000 * 64 * 4  # the states of all layers
    for _ in range(4):
        train()
        assert model.workspace.held == held
        with torch.no_grad():
            model.eval()(x)
    assert model.workspace.held == held
    model.workspace.release()
    model.eval()(x)
    assert model.workspace.held == 0


def test_states_that_are_kept_do_not_change_with_later_passes():
    torch.manual_seed(0)
    model, x = DIFFormer(8, 64, 3, num_layers=3).train(), torch.randn(9000, 8)
    kept = model.encode(x)
    before = kept.detach().clone()
    for _ in range(3):
        model(torch.randn(9000, 8)).square().mean().backward()
    assert torch.equal(kept, before)
