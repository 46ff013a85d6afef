"""A penalty from a function of the user's: derivatives by autograd, conditions by trying."""

import math

import torch
from torch import Tensor

from difformer.diffusion.penalty import Penalty, Scalar
from difformer.errors import ConfigError


def penalty_from(delta: Scalar, name: str = "custom", limit: float = 4.0) -> Penalty:
    r"""Make a penalty from a function; :math:`f` and :math:`f'` come from autograd.

    Args:
        delta: Elementwise, twice differentiable function of squared distance.
        name: How messages call it.
        limit: Largest squared distance it will meet: 4 on unit vectors, more on raw states.

    Raises:
        ConfigError: If on [0, limit] it is not concave, falls somewhere, or f(0) is not finite.

    Example:
        >>> penalty_from(lambda x: torch.log1p(x)).rate(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.5000])
    """

    def rate(x: Tensor) -> Tensor:
        return _derivative(delta, x)

    penalty = Penalty(name, delta, rate, lambda x: _derivative(rate, x), limit)
    _check(penalty)
    return penalty


def _derivative(function: Scalar, x: Tensor) -> Tensor:
    """Elementwise derivative of ``function`` at ``x``, itself differentiable if ``x`` is."""
    nested = x.requires_grad
    with torch.enable_grad():
        x = x if nested else x.detach().requires_grad_()
        y = function(x)
        if not y.requires_grad:  # a constant
            return torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True, materialize_grads=True)
    return gradient if nested else gradient.detach()


def _check(penalty: Penalty) -> None:
    """Refuse a penalty for which the theorem does not hold."""
    top = penalty.limit if math.isfinite(penalty.limit) else 1e6
    grid = torch.cat(
        [
            torch.zeros(1, dtype=torch.float64),
            torch.logspace(-8, math.log10(top), 400, dtype=torch.float64),
            torch.linspace(0, top, 401, dtype=torch.float64)[1:],
        ]
    ).sort()[0]
    rates = penalty.rate(grid)
    where = f"on squared distances from 0 to {top:g}"
    if not torch.isfinite(rates[0]):
        raise ConfigError(
            f"penalty {penalty.name!r} needs a finite derivative at distance 0, "
            f"found {rates[0].item()}."
        )
    if not torch.isfinite(rates).all() or (rates < -1e-9).any():
        raise ConfigError(
            f"penalty {penalty.name!r} must not fall {where}; its derivative reaches "
            f"{rates.min().item():g}."
        )
    if (rates.diff() > 1e-9 * rates[0].abs().clamp_min(1.0)).any():
        raise ConfigError(
            f"penalty {penalty.name!r} must be concave {where}; its derivative rises."
        )
