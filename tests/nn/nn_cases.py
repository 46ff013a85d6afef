"""What the tests of the encoder share: diffusivities, small graphs, and a dense definition.

``dense_forward`` is the encoder written out with N x N matrices and the model's own parameters.
Letters: N instances, L keys, H heads, C channels.
"""

import torch

from difformer.diffusion import (
    DIFFUSIVITIES,
    QUADRATIC,
    Diffusivity,
    Neighbourhood,
    Penalty,
    cauchy,
    penalty_from,
    reference,
    resolve,
    welsch,
)
from difformer.nn import DIFFormer

F, C, OUT = 5, 4, 3  # features, channels, outputs


def raw(penalty, support="all", **others):
    """A penalty on the states themselves instead of unit vectors."""
    return Diffusivity(penalty.name, penalty, support, sphere=False, **others)


NEAR = Neighbourhood(k=3)
TUNED = Neighbourhood(k=3, metric="euclidean", weights="self-tuned", bandwidth=4, norm="sym")
PCA = Neighbourhood(k=2, components=2, self_loops=False)
STATE = Neighbourhood(k=2, space="state")
STATE_TUNED = Neighbourhood(k=3, space="state", weights="self-tuned", bandwidth=2, norm="sym")

# As ``simple``, but concave and rising on all distances that occur here, not on [0, 4] alone.
WIDE = Penalty(
    "wide",
    delta=lambda x: 2 * x - x.square() / 400,
    rate=lambda x: 2 - x / 200,
    slope=lambda x: torch.full_like(x, -1 / 200),
    limit=400.0,
    affine=(2.0, -1 / 200),
)

TERMS = {
    **{name: name for name in DIFFUSIVITIES},
    "local-input": NEAR,
    "local-tuned": TUNED,
    "local-pca": PCA,
    "local-state": STATE,
    "local-state-tuned": STATE_TUNED,
    "local-welsch": raw(welsch(2.0), "neighbours", neighbours=NEAR),
    "affine-raw": raw(WIDE),
    "welsch-narrow": welsch(0.2),
    "cauchy-raw": raw(cauchy(2.0)),
    "cauchy-edges": raw(cauchy(0.5), "edges"),
    "custom": penalty_from(lambda x: (x + 1).sqrt()),
    "simple+welsch": ("simple", "welsch"),
    "sigmoid+local-state": ("sigmoid", STATE),
    "local+identity": (NEAR, "identity"),
    "attention+simple": ("graph_attention", "simple"),
}


def uses_edges(name):
    """Whether a case needs an observed graph."""
    return "edges" in name or "graph" in name or "attention" in name


def make(name="simple", seed=0, **options):
    """A float64 model in evaluation mode with parameters of a usual size, LayerNorm's included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"in_channels": F, "hidden_channels": C, "out_channels": OUT, **options}
        diffusivity = TERMS.get(name, name) if isinstance(name, str) else name
        model = DIFFormer(**{"diffusivity": diffusivity, **sizes}).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn(parameter.shape, dtype=torch.float64))
            if "state" in str(name) and model.input_map is not None:
                # Few zeros after the ReLU: rows on one axis would tie in cosine, up to rounding.
                first = model.norms[0] if len(model.norms) else model.input_map
                first.bias.add_(2.0)
    return model


def draw(rows, seed=0, width=F):
    """Random features, (rows, width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def draw_edges(rows, count, seed=0):
    """Directed edges with a self-loop and a repeated edge; the last instance stays isolated."""
    generator = torch.Generator().manual_seed(seed + 1)
    edges = torch.randint(0, max(rows - 1, 1), (2, count), generator=generator)
    if count > 2:
        edges[:, 1] = edges[:, 0]
        edges[1, 2] = edges[0, 2]
    weight = torch.rand(count, generator=generator, dtype=torch.float64) + 0.1
    return edges, weight


# --- the dense definition -------------------------------------------------------------------------


def squared_distances(x, rule):
    """Squared distances (N, N) in the space in which a rule looks for neighbours."""
    x = x.detach()
    if rule.components is not None:
        x = x - x.mean(0)
        x = x @ torch.linalg.svd(x, full_matrices=False)[2][: rule.components].T
    if rule.metric == "cosine":
        x = reference.unit(x)
    return (x.unsqueeze(1) - x.unsqueeze(0)).pow(2).sum(-1)


def local_weights(x, rule, batch):
    """Neighbour weights (N, N), graph by graph."""
    w = torch.zeros(len(x), len(x), dtype=x.dtype)
    groups = (
        [torch.arange(len(x))]
        if batch is None
        else [(batch == graph).nonzero().squeeze(1) for graph in batch.unique()]
    )
    for rows in groups:
        if len(rows):
            own = reference.local_weights(squared_distances(x[rows], rule), rule)
            w[rows.unsqueeze(1), rows.unsqueeze(0)] = own
    return w


def support_weights(term, x, z, edge_index, edge_weight, batch):
    """The sparse weights of a term as a matrix (N, N); None where all pairs count."""
    if term.support == "self":
        return torch.eye(len(z), dtype=z.dtype)
    if term.support == "edges":
        return reference.graph_weights(edge_index, edge_weight, len(z)).to(z.dtype)
    if term.support == "neighbours":
        return local_weights(x if term.neighbours.space == "input" else z, term.neighbours, batch)
    return None


def dense_term(term, q, k, x, z, edge_index, edge_weight, batch, graph_norm):
    """Rates and normalised matrix of one term, each (H, N, N)."""
    weights = support_weights(term, x, z, edge_index, edge_weight, batch)
    heads = q.shape[1]
    if weights is None:
        rates = reference.rates(q, k, term.penalty, term.sphere, batch)
        return rates, reference.matrix(q, k, term.penalty, term.sphere, batch)
    if term.penalty is QUADRATIC:
        norm = graph_norm if term.neighbours is None else term.neighbours.norm
        s = weights if term.support == "self" else reference.normalise(weights, norm)
        return weights.expand(heads, -1, -1), s.expand(heads, -1, -1)
    rates = weights * term.penalty.rate(reference.squared_distance(q, k, term.sphere))
    return rates, rates / rates.sum(-1, keepdim=True)


def dense_influence(conv, z, x, edge_index, edge_weight, batch):
    """The mixed diffusion of one layer, (N, C)."""
    shape = (len(z), conv.heads, C)

    def mapped(linear):
        if linear is None:
            return z.unsqueeze(1).expand(shape)
        return (z @ linear.weight.T + linear.bias).reshape(shape)

    q, k, v = mapped(conv.query_map), mapped(conv.key_map), mapped(conv.value_map)
    kept = [i for i in range(len(conv.terms)) if i != conv.optional_term or edge_index is not None]
    if conv.mix_logits is None:
        shares = torch.tensor([conv._fixed_mix[i] for i in kept], dtype=z.dtype)
    else:
        shares = torch.stack([conv.mix_logits[i] for i in kept]).exp()
    shares = shares / shares.sum()
    parts = [
        dense_term(conv.terms[i], q, k, x, z, edge_index, edge_weight, batch, conv.graph_norm)
        for i in kept
    ]
    if conv.mix == "joint":
        rates = sum(share * rate for share, (rate, _) in zip(shares, parts, strict=True))
        total = rates.sum(-1, keepdim=True)
        s = rates / torch.where(total > 0, total, 1)  # who hears nobody hears nothing
    else:
        s = sum(share * s for share, (_, s) in zip(shares, parts, strict=True))
    return reference.propagate(s, v).mean(1)


def layer_norm(z, norm):
    """LayerNorm by its definition."""
    centred = z - z.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + norm.eps).sqrt()
    return scaled * norm.weight + norm.bias


def dense_embed(model, x):
    """Initial states."""
    z = x
    if model.input_map is not None:
        z = x @ model.input_map.weight.T + model.input_map.bias
    if len(model.norms):
        z = layer_norm(z, model.norms[0])
    return z.clamp_min(0) if model.input_map is not None else z


def dense_forward(model, x, edge_index=None, edge_weight=None, batch=None):
    """``DIFFormer.forward`` in evaluation mode, word for word."""
    z = initial = dense_embed(model, x)
    for index, conv in enumerate(model.convs):
        target = dense_influence(conv, z, x, edge_index, edge_weight, batch)
        target = (1 - conv.source) * target + conv.source * initial
        z = (1 - conv.step_size) * z + conv.step_size * target
        if len(model.norms):
            z = layer_norm(z, model.norms[index + 1])
    if model.output_map is None:
        return z
    return z @ model.output_map.weight.T + model.output_map.bias


# --- comparisons ----------------------------------------------------------------------------------


def gradients(model, function, inputs, seed=7):
    """Output, and gradients of a fixed random combination of it for inputs and parameters."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    wanted = [*leaves, *model.parameters()]
    coefficients = draw(len(out), seed, out.shape[1])
    grads = torch.autograd.grad((out * coefficients).sum(), wanted, allow_unused=True)
    pairs = zip(grads, wanted, strict=True)
    return out.detach(), [torch.zeros_like(w) if g is None else g for g, w in pairs]


def assert_close(found, expected, tolerance=1e-10):
    """max |a - b| over max |b|."""
    assert found.shape == expected.shape
    found, expected = found.detach(), expected.detach()
    if expected.numel():
        scale = float(expected.abs().max().clamp_min(1e-300))
        assert float((found - expected).abs().max()) <= tolerance * scale


def assert_gradients_close(found, expected, tolerance=1e-10):
    """The same for each gradient; those that vanish are held against the largest of all."""
    largest = max((float(e.abs().max()) for e in expected if e.numel()), default=0.0)
    for a, b in zip(found, expected, strict=True):
        if b.numel():
            scale = max(float(b.abs().max()), 1e-2 * largest)
            assert float((a - b).abs().max()) <= tolerance * scale


def single(name):
    """The resolved term of a case that is not a mix."""
    return resolve(TERMS[name])
