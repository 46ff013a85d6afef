"""The unit in which a forecaster works: a transformation, and a scale from the training part.

Letters: S steps, N nodes, F channels, P steps of a season.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from difformer.errors import ConfigError, DataError, one_of

Floats = NDArray[np.float64]


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
    def fit(cls, values: Floats, transform: str = "auto") -> "Units":
        """Of a training part (S, N, F), NaN left out.

        ``auto``: the square root for values that are never negative and reach zero or vary as much
        as their mean, as counts do; else none.

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
        moved = TRANSFORMS[transform][0](values)
        count = np.isfinite(moved).sum(axis=0)
        centre = np.nansum(moved, axis=0) / np.maximum(count, 1)
        spread = np.sqrt(np.nansum((moved - centre) ** 2, axis=0) / np.maximum(count, 1))
        if transform != "none":  # then the variance is stable, and nodes need no scale of their own
            spread = np.broadcast_to(np.sqrt((spread**2).mean(axis=0)), spread.shape).copy()
        spread[spread <= 1e-12 * np.maximum(np.abs(centre), 1)] = 1.0
        return cls(transform, centre, spread)

    def apply(self, values: Floats) -> Floats:
        """Values (S, N, F) in this unit; what the transformation does not know counts as 0."""
        if self.transform != "none":
            values = np.maximum(values, 0)
        return np.asarray((TRANSFORMS[self.transform][0](values) - self.centre) / self.spread)

    def invert(self, forecasts: Floats) -> Floats:
        """Forecasts (..., N, F, H) in the unit of the file."""
        moved = forecasts * self.spread[..., None] + self.centre[..., None]
        return np.asarray(TRANSFORMS[self.transform][1](moved))


def _like_counts(values: Floats) -> bool:
    known = values[np.isfinite(values)]
    if not len(known) or (known < 0).any():
        return False
    return bool((known == 0).any() or known.std() > known.mean())


@dataclass(frozen=True, eq=False)
class Season:
    """What is usual at each phase of a season, told by a training part.

    Attributes:
        sums: Of the values of each phase, (P, N, F).
        counts: How many there were, (P, N, F).
        start: Phase of the series' first step.
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

    def usual(self, steps: NDArray[np.int64], but: Floats | None = None) -> Floats:
        """The mean of the phase of each step, without the step's own value where that is known.

        A mean that holds the very value it stands beside would be trusted too much.

        Args:
            steps: Numbers of steps, (S,); those below 0 and above the series count on.
            but: Values at these steps that the means hold, (S, N, F), NaN where they do not.
        """
        phase = steps % self.period
        sums, counts = self.sums[phase], self.counts[phase]
        if but is not None:
            held = np.isfinite(but)
            sums, counts = sums - np.where(held, but, 0.0), counts - held
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), 0.0))
