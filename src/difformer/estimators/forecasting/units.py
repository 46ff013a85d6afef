"""The unit in which a forecaster works: a transformation, and a scale from the training part.

Letters: S steps, N nodes, F channels, P steps of a season.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from difformer.data.windows import Floats
from difformer.errors import ConfigError, DataError, one_of

TINY = 1e-12  # of a node's mean: a spread below it is none
ZEROS = 0.01  # share of zeros above which values are taken for counts
SPREAD = 2.0  # of the middle 80 %, in medians, above which they are too
ALIKE = 5.0  # most that spreads of nodes may differ to share one


def _same(x: Floats) -> Floats:
    return x


def _squared(x: Floats) -> Floats:
    return np.square(np.maximum(x, 0))


# Name -> transformation, and the way back. Each rises.
TRANSFORMS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "none": (_same, _same),
    "sqrt": (np.sqrt, _squared),  # counts: their variance follows their mean
    "log1p": (np.log1p, lambda x: np.expm1(np.maximum(x, 0))),
}


@dataclass(frozen=True, eq=False)
class Units:
    """From the file's unit to the forecaster's, and back.

    Attributes:
        transform: A key of ``TRANSFORMS``.
        centre, spread: Of each node and channel after the transformation, (N, F).
    """

    transform: str
    centre: Floats
    spread: Floats

    @classmethod
    def fit(cls, values: Floats, transform: str = "auto", whole: Floats | None = None) -> "Units":
        """Of a training part (S, N, F), NaN left out.

        What has no two different values there is measured by the ``whole`` series (S', N, F), if
        that is given: in a unit of nothing, its first values would drown everybody else.

        ``auto``: the square root for values like counts: never negative, and more than 1 % of them
        zero or the middle 80 % spread over more than two medians; else none.

        Raises:
            ConfigError: If the transformation is unknown.
            DataError: If it does not allow negative values, and there are some.
        """
        if transform == "auto":
            transform = "sqrt" if _like_counts(values) else "none"
        one_of(transform, ("auto", *TRANSFORMS), "transform")
        if transform != "none" and (values < 0).any():
            raise DataError(
                f"transform {transform!r} needs values of 0 or more, found "
                f"{np.nanmin(values):g}; 'none' allows any."
            )
        centre, spread = _measured(TRANSFORMS[transform][0](values))
        if whole is not None:
            own = _measured(
                TRANSFORMS[transform][0](np.maximum(whole, 0) if transform != "none" else whole)
            )
            blank = spread <= TINY * np.maximum(np.abs(centre), 1)
            centre, spread = (
                np.where(blank, b, a) for a, b in zip((centre, spread), own, strict=True)
            )
        if transform != "none" and _alike(spread):  # the variance is stable: one scale for all
            spread = np.broadcast_to(np.sqrt((spread**2).mean(axis=0)), spread.shape).copy()
        spread[spread <= TINY * np.maximum(np.abs(centre), 1)] = 1.0
        return cls(transform, centre, spread)

    def apply(self, values: Floats) -> Floats:
        """Values (S, N, F) in this unit; what the transformation does not know counts as 0."""
        if self.transform != "none":
            values = np.maximum(values, 0)
        return np.asarray((TRANSFORMS[self.transform][0](values) - self.centre) / self.spread)

    def mean(self, forecasts: Floats, noise: Floats) -> Floats:
        """Forecasts (..., N, F, H) in the unit of the file, as means.

        Going back by a square or an exponential makes a median of a mean; what is lost follows from
        the noise, the root mean squared error (F, H).
        """
        found = self.invert(forecasts)
        if self.transform == "none":
            return found
        variance = np.square(noise * self.spread[..., None])
        if self.transform == "sqrt":
            return np.asarray(found + variance)
        return np.asarray((found + 1) * np.exp(np.minimum(variance, 1.0) / 2) - 1)

    def invert(self, forecasts: Floats) -> Floats:
        """Forecasts (..., N, F, H) in the unit of the file, as medians."""
        moved = forecasts * self.spread[..., None] + self.centre[..., None]
        return np.asarray(TRANSFORMS[self.transform][1](moved))


def _measured(moved: Floats) -> tuple[Floats, Floats]:
    """Mean and spread of each node and channel, (N, F); 0 where nothing is known."""
    count = np.maximum(np.isfinite(moved).sum(axis=0), 1)
    centre = np.nansum(moved, axis=0) / count
    return centre, np.sqrt(np.nansum((moved - centre) ** 2, axis=0) / count)


def _like_counts(values: Floats) -> bool:
    """Never negative, and often zero or widely spread, by quantiles: one odd value says nothing."""
    known = values[np.isfinite(values)]
    if not len(known) or (known < 0).any():
        return False
    low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
    return bool((known == 0).mean() > ZEROS or high - low > SPREAD * middle)


def _alike(spread: Floats) -> bool:
    """Whether nodes vary about as much as each other, (N, F)."""
    low, high = np.quantile(spread, [0.1, 0.9])
    return bool(high <= ALIKE * max(low, 1e-12))


@dataclass(frozen=True, eq=False)
class Season:
    """What is usual at each phase of a season, told by a training part.

    Attributes:
        sums: Of the values of each phase, (P, N, F).
        counts: How many there were, (P, N, F).
    """

    sums: Floats
    counts: Floats

    @classmethod
    def fit(cls, values: Floats, period: int) -> "Season":
        """Of a training part (S, N, F) in the forecaster's unit, from step 0 on.

        Raises:
            ConfigError: If it is shorter than two seasons.
        """
        if len(values) < 2 * period:
            raise ConfigError(
                f"season must be at most half the {len(values)} steps to learn from, found "
                f"{period}."
            )
        known = np.isfinite(values)
        phase = np.arange(len(values)) % period
        sums, counts = (np.zeros((period, *values.shape[1:])) for _ in range(2))
        np.add.at(sums, phase, np.where(known, values, 0.0))
        np.add.at(counts, phase, known)
        return cls(sums, counts)

    @property
    def period(self) -> int:
        """P."""
        return len(self.sums)
