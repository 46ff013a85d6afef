"""The cases that every path of the diffusion is compared on. A new penalty is one line here."""

import torch

from difformer.diffusion import DIFFUSIVITIES, Diffusivity, cauchy, penalty_from, resolve, welsch


def raw(penalty):
    """The same penalty on raw states instead of unit vectors."""
    return Diffusivity(penalty.name, penalty, sphere=False)


ALL_PAIRS = {
    "simple": DIFFUSIVITIES["simple"],
    "simple-raw": raw(DIFFUSIVITIES["simple"].penalty),
    "sigmoid": DIFFUSIVITIES["sigmoid"],
    "sigmoid-raw": raw(DIFFUSIVITIES["sigmoid"].penalty),
    "welsch": resolve(welsch(0.3)),
    "welsch-raw": raw(welsch(2.0)),
    "cauchy": resolve(cauchy(0.5)),
    "cauchy-raw": raw(cauchy(2.0)),
    "custom": resolve(penalty_from(lambda x: (x + 1).sqrt())),
    "custom-raw": raw(penalty_from(lambda x: (x + 1).sqrt(), limit=100.0)),
}
SHAPES = {  # queries and keys of each graph
    "one": ((7,), (7,)),
    "one-large": ((150,), (150,)),
    "cross": ((5,), (9,)),
    "single-instance": ((1,), (1,)),
    "no-queries": ((0,), (4,)),
    "batch": ((3, 1, 8, 0, 20), (3, 1, 8, 0, 20)),
    "batch-cross": ((3, 2, 0, 8), (5, 0, 4, 1)),
}


def draw(shape, heads=2, width=4, values=3, seed=0, dtype=torch.float64, shuffled=False):
    """Random queries, keys, values and batch vectors (None for one graph)."""
    generator = torch.Generator().manual_seed(seed)
    sizes_q, sizes_k = SHAPES[shape]

    def normal(rows, wide):
        z = torch.randn(rows, heads, wide, generator=generator, dtype=torch.float64)
        return (0.4 * z).to(dtype)

    q, k = normal(sum(sizes_q), width), normal(sum(sizes_k), width)
    v = normal(sum(sizes_k), values)
    if len(sizes_q) == 1:
        return q, k, v, None, None
    batch_q, batch_k = (
        torch.repeat_interleave(torch.arange(len(s)), torch.tensor(s)) for s in (sizes_q, sizes_k)
    )
    if shuffled:
        batch_q = batch_q[torch.randperm(len(batch_q), generator=generator)]
        batch_k = batch_k[torch.randperm(len(batch_k), generator=generator)]
    return q, k, v, batch_q, batch_k


def relative(a, b):
    """max |a - b| over max |b|: the measure of every comparison with the oracle."""
    if b.numel() == 0:
        assert a.shape == b.shape
        return 0.0
    return float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-300))


def gradients(function, inputs, seed=1):
    """Output and gradients of a fixed random combination of it."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)
    grads = torch.autograd.grad((out * coefficients).sum(), leaves, allow_unused=True)
    zeros = [torch.zeros_like(x) for x in leaves]
    return out.detach(), [z if g is None else g for g, z in zip(grads, zeros, strict=True)]
