r"""Penalties and the diffusivities that follow from them: one table.

The energy of states :math:`Z = [z_i]` is

.. math:: E(Z, k) = \|Z - Z_k\|^2 + \lambda \sum_{ij} \delta(x_{ij}), \quad
    x_{ij} = \|z_i - z_j\|^2

with a concave, non-decreasing penalty :math:`\delta`. Its derivative :math:`f = \delta'` gives the
rates of the closed-form optimal diffusion, :math:`S_{ij} = f(x_{ij}) / \sum_l f(x_{il})` (Wu et
al., ICLR 2023, theorem 1). Choose the penalty and the set of pairs it acts on, and the
architecture follows: that is all a :class:`Diffusivity` says.

Adding one means adding one entry to ``DIFFUSIVITIES`` and one line to
``tests/diffusion/diffusion_cases.py``.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, SupportsIndex

import torch
from torch import Tensor
from torch.nn.functional import softplus

from difformer.diffusion.neighbourhood import Neighbourhood
from difformer.errors import ConfigError, one_of

Scalar = Callable[[Tensor], Tensor]
SUPPORTS = ("all", "neighbours", "edges", "self")


@dataclass(frozen=True)
class InPlace:
    r"""A rate as the tiled path likes it: in place, from :math:`y = a + b x`.

    One matrix product gives y, whatever a and b are, so no pass over the pairs goes into forming
    distances; and where the derivative follows from the rate, the backward needs no second
    transcendental function.

    Attributes:
        affine: ``(a, b)``.
        rate: y to :math:`f`; overwrites y.
        chain: A gradient of f, y as ``rate`` has left it, and f, to a gradient of y; overwrites
            the first.
    """

    affine: tuple[float, float]
    rate: Scalar
    chain: Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Penalty:
    r"""A concave, non-decreasing penalty :math:`\delta` of squared distance, as data.

    Attributes:
        name: How messages and configurations call it.
        delta: :math:`\delta(x)`, elementwise.
        rate: :math:`f(x) = \delta'(x) \ge 0`, elementwise.
        slope: :math:`f'(x) \le 0`, elementwise; the backward of the tiled path needs it.
        limit: Largest squared distance up to which :math:`\delta` is concave and non-decreasing.
        affine: ``(a, b)`` where :math:`f(x) = a + b x`. Such a penalty takes the linear path.
        shiftable: Whether :math:`f(x + c) \propto f(x)`. The tiled path then measures distance
            from each row's nearest key, so that narrow kernels do not underflow.
        scale: The length scale :math:`s`, where there is one.
        in_place: The same rate and slope for tiles; None: made from ``rate`` and ``slope``.
        log_rate: x and s to :math:`\log f(x)`, elementwise, of a rate that is positive on unit
            vectors; plain operations on tensors, so that it can become part of a device's kernel.
    """

    name: str
    delta: Scalar
    rate: Scalar
    slope: Scalar
    limit: float = math.inf
    affine: tuple[float, float] | None = None
    shiftable: bool = False
    scale: float | None = None
    in_place: InPlace | None = None
    log_rate: Callable[[Tensor, Tensor], Tensor] | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Copy and pickle known penalties by name: their functions are no data."""
        if PLAIN.get(self.name) is self:
            return _named, (self.name,)
        if self.scale is not None and self is SCALED[self.name](self.scale):
            return SCALED[self.name], (self.scale,)
        return super().__reduce_ex__(protocol)


def in_place_of(penalty: Penalty) -> InPlace:
    """How the tiled path gets the rates of any penalty.

    Example:
        >>> squared_distance = torch.tensor([0.0, 2.0])
        >>> found = in_place_of(SIGMOID)
        >>> a, b = found.affine
        >>> torch.equal(found.rate(a + b * squared_distance), SIGMOID.rate(squared_distance))
        True
    """
    if penalty.in_place is not None:
        return penalty.in_place
    # Rounding may leave a squared distance just below 0, where a penalty need not be defined.
    return InPlace(
        affine=(0.0, 1.0),
        rate=lambda x: penalty.rate(x.clamp_min_(0)),
        chain=lambda gradient, x, rate: gradient.mul_(penalty.slope(x)),
    )


def _named(name: str) -> "Penalty":
    return PLAIN[name]


def _constant(value: float) -> Scalar:
    return lambda x: torch.full_like(x, value)


def _sigmoid_rate(x: Tensor) -> Tensor:
    return torch.rsub(x, 1, alpha=0.5).sigmoid()  # sigmoid(1 - x / 2) in two passes over x


def _sigmoid_slope(x: Tensor) -> Tensor:
    rate = _sigmoid_rate(x)
    return 0.5 * rate * (rate - 1)


def _sigmoid_chain(gradient: Tensor, y: Tensor, rate: Tensor) -> Tensor:
    """Gradient times f (1 - f), in one pass."""
    return torch.ops.aten.sigmoid_backward.grad_input(gradient, rate, grad_input=gradient)  # type: ignore[no-any-return]


SIMPLE = Penalty(
    "simple",
    delta=lambda x: 2 * x - x.square() / 4,
    rate=lambda x: 2 - x / 2,
    slope=_constant(-0.5),
    limit=4.0,
    affine=(2.0, -0.5),
)
SIGMOID = Penalty(
    "sigmoid",
    delta=lambda x: x - 2 * softplus(x / 2 - 1),
    rate=_sigmoid_rate,
    slope=_sigmoid_slope,
    in_place=InPlace((1.0, -0.5), torch.sigmoid_, _sigmoid_chain),
    log_rate=lambda x, s: -torch.log1p(torch.exp(x / 2 - 1)),
)
QUADRATIC = Penalty(
    "quadratic",
    delta=lambda x: x,
    rate=torch.ones_like,
    slope=torch.zeros_like,
    affine=(1.0, 0.0),
)


def _positive(scale: float) -> float:
    if not (math.isfinite(scale) and scale > 0):
        raise ConfigError(f"scale must be a positive number, found {scale!r}.")
    return float(scale)


def welsch(scale: float = 1.0) -> Penalty:
    r"""Welsch's penalty :math:`s(1 - e^{-x/s})`; on unit vectors a softmax at temperature s/2.

    Example:
        >>> welsch(0.5).rate(torch.tensor(0.5)).item() == torch.tensor(-1.0).exp().item()
        True
    """
    return _welsch(_positive(scale))


@cache  # equal scales give the same object, so that settings can be compared
def _welsch(s: float) -> Penalty:
    return Penalty(
        "welsch",
        delta=lambda x: -s * torch.expm1(-x / s),
        rate=lambda x: torch.exp(-x / s),
        slope=lambda x: -torch.exp(-x / s) / s,
        shiftable=True,
        scale=s,
        # To base 2, which is three times faster than exp here.
        in_place=InPlace(
            (0.0, -1 / (s * math.log(2))),
            torch.exp2_,
            lambda gradient, y, rate: gradient.mul_(rate).mul_(math.log(2)),
        ),
        log_rate=lambda x, s: -x / s,
    )


def cauchy(scale: float = 1.0) -> Penalty:
    r"""Cauchy's penalty :math:`s \log(1 + x/s)`: far pairs pull weakly, none is forgotten."""
    return _cauchy(_positive(scale))


@cache
def _cauchy(s: float) -> Penalty:
    return Penalty(
        "cauchy",
        delta=lambda x: s * torch.log1p(x / s),
        rate=lambda x: 1 / (1 + x / s),
        slope=lambda x: -1 / (s * (1 + x / s).square()),
        scale=s,
        in_place=InPlace(
            (1.0, 1 / s),
            torch.reciprocal_,
            lambda gradient, y, rate: gradient.mul_(rate).mul_(rate).neg_(),
        ),
        log_rate=lambda x, s: -torch.log1p(x / s),
    )


# Penalties that files and pickles know by name, or by name and scale.
PLAIN = {penalty.name: penalty for penalty in (SIMPLE, SIGMOID, QUADRATIC)}
SCALED: dict[str, Callable[[float], Penalty]] = {"welsch": welsch, "cauchy": cauchy}


@dataclass(frozen=True)
class Diffusivity:
    """A penalty and the pairs that it acts on; everything a diffusion layer needs to know.

    Attributes:
        name: Public name.
        penalty: Gives the rate of a pair from its squared distance.
        support: ``all`` pairs; the nearest ``neighbours``; the observed ``edges``; or ``self``.
        sphere: Whether states are scaled to unit vectors before distances are taken, so that
            x = 2 - 2 cos. A zero vector counts as orthogonal to everything.
        neighbours: How neighbours are found (``support="neighbours"`` only).
    """

    name: str
    penalty: Penalty
    support: str = "all"
    sphere: bool = True
    neighbours: Neighbourhood | None = None

    def __post_init__(self) -> None:
        """Check the support, and that neighbours are described exactly where they are used."""
        one_of(self.support, SUPPORTS, "support")
        if (self.neighbours is not None) != (self.support == "neighbours"):
            raise ConfigError("neighbours must be given exactly for support 'neighbours'.")

    @property
    def label(self) -> str:
        """Its name, and for neighbours where they are found: for tables and charts.

        Example:
            >>> resolve(Neighbourhood(components=50)).label
            'local, 15 neighbours in 50 components'
        """
        rule = self.neighbours
        if rule is None:
            return self.name
        space = f"{rule.components} components" if rule.components else f"{rule.space} space"
        return f"{self.name}, {rule.k} neighbours in {space}"

    @property
    def fixed(self) -> bool:
        """Whether it acts on few pairs, at rates that do not change while the states move."""
        if self.penalty is not QUADRATIC:
            return False
        if self.neighbours is not None:
            return self.neighbours.space == "input"
        return self.support == "edges"

    @property
    def unshifted(self) -> "Diffusivity":
        """With rates as they are, not relative to the nearest key, so that they can be added up."""
        if not self.penalty.shiftable:
            return self
        return dataclasses.replace(self, penalty=dataclasses.replace(self.penalty, shiftable=False))


DIFFUSIVITIES: dict[str, Diffusivity] = {
    # All pairs.
    "simple": Diffusivity("simple", SIMPLE),
    "sigmoid": Diffusivity("sigmoid", SIGMOID),
    "welsch": Diffusivity("welsch", welsch()),
    "cauchy": Diffusivity("cauchy", cauchy()),
    # The nearest pairs: a penalty that flattens out.
    "local": Diffusivity("local", QUADRATIC, "neighbours", neighbours=Neighbourhood()),
    # The unified view: MLP, GCN, GAT as settings of the same step.
    "identity": Diffusivity("identity", QUADRATIC, "self"),
    "graph": Diffusivity("graph", QUADRATIC, "edges"),
    "graph_attention": Diffusivity("graph_attention", welsch(), "edges"),
}


def resolve(diffusivity: "str | Penalty | Neighbourhood | Diffusivity") -> Diffusivity:
    """Turn a public name, a penalty or a neighbourhood into a :class:`Diffusivity`.

    Raises:
        ConfigError: If the name is unknown; the message lists the known ones.

    Example:
        >>> resolve("simple").support, resolve(welsch(0.1)).penalty.scale
        ('all', 0.1)
        >>> resolve(Neighbourhood(k=5, space="state")).name
        'local'
    """
    if isinstance(diffusivity, Diffusivity):
        return diffusivity
    if isinstance(diffusivity, Penalty):
        return Diffusivity(diffusivity.name, diffusivity)
    if isinstance(diffusivity, Neighbourhood):
        return dataclasses.replace(DIFFUSIVITIES["local"], neighbours=diffusivity)
    return DIFFUSIVITIES[one_of(diffusivity, DIFFUSIVITIES, "diffusivity")]


def resolve_all(
    diffusivity: "str | Penalty | Neighbourhood | Diffusivity | Iterable[object]",
) -> tuple[Diffusivity, ...]:
    """Resolve one diffusivity or a sequence of them (a mix), in order; none is an error."""
    if isinstance(diffusivity, (str, Penalty, Neighbourhood, Diffusivity)):
        return (resolve(diffusivity),)
    entries = diffusivity if isinstance(diffusivity, Iterable) else (diffusivity,)
    terms = tuple(resolve(term) for term in entries)  # type: ignore[arg-type]
    if not terms:
        raise ConfigError("diffusivity must name at least one entry, found an empty sequence.")
    return terms
