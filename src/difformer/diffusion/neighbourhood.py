"""How near instances are found and weighed: the settings of the ``local`` diffusivity."""

from dataclasses import dataclass

from difformer.errors import ConfigError, one_of, whole_number


@dataclass(frozen=True)
class Neighbourhood:
    r"""How the ``local`` diffusivity finds and weighs neighbours.

    Attributes:
        k: Neighbours per instance, itself not counted.
        space: ``input`` (found once: a quadratic energy on a k-NN graph) or ``state`` (found again
            as states move: the truncated penalty min(x, c)).
        metric: ``cosine`` (x = 2 - 2 cos) or ``euclidean``.
        components: Centre and reduce to this many principal components first (None: do not).
        weights: ``binary``: 1 for every pair that the union rule joins.
            ``self-tuned``: :math:`e^{-4 x_{ij} / (s_i s_j)}` averaged over both directions, s the
            distance to the ``bandwidth``-th neighbour (Zelnik-Manor and Perona, 2004).
        bandwidth: See ``weights``.
        self_loops: Whether an instance counts itself (rate 1), as f(0) = 1 asks.
        norm: ``row`` (convex) or ``sym``.
        every: Neighbours in state space are found at the first and then at each ``every``-th
            forward pass in training mode, layer by layer, and kept in between; in evaluation mode
            always (``difformer.nn.recall``).
    """

    k: int = 15
    space: str = "input"
    metric: str = "cosine"
    components: int | None = None
    weights: str = "binary"
    bandwidth: int = 10
    self_loops: bool = True
    norm: str = "row"
    every: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        one_of(self.space, ("input", "state"), "space")
        one_of(self.metric, ("cosine", "euclidean"), "metric")
        one_of(self.weights, ("binary", "self-tuned"), "weights")
        one_of(self.norm, ("row", "sym"), "norm")
        for field in ("k", "bandwidth", "components", "every"):
            if field != "components" or self.components is not None:
                whole_number(getattr(self, field), 1, field)
        if self.space == "input" and self.every != 1:
            raise ConfigError(
                "every must be 1 for neighbours in input space, which are found once, "
                f"found {self.every}."
            )
