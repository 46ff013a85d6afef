"""Forecasts of what is known by now: rolling evaluation.

Letters: O origins, H horizon, N nodes, F channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from difformer.data.windows import Floats


@dataclass(frozen=True, eq=False)
class Backtest:
    """Forecasts beside the truth, in the unit of the series.

    Attributes:
        origin: Step at which each forecast begins, (O,); its first value is for this step.
        forecast, truth: (O, H, N), or (O, H, N, F) if the series had channels; truth is NaN where
            it is missing.
        intervals: Level, and lower and upper bounds of the same shape.
        references: Words, and forecasts of reference points, of the same shape.

    Example:
        >>> zero = np.zeros((1, 1, 2))
        >>> Backtest(np.array([4]), zero, zero + [1, -3]).errors()[0]
        {'step': 1, 'mae': 2.0, 'rmse': 2.23606797749979, 'count': 2}
    """

    origin: NDArray[np.int64]
    forecast: Floats
    truth: Floats
    intervals: Mapping[float, tuple[Floats, Floats]] = field(default_factory=dict)
    references: Mapping[str, Floats] = field(default_factory=dict)

    def errors(self, of: str | None = None) -> list[dict[str, float | int]]:
        """Mean absolute and root mean squared error at each step ahead.

        Args:
            of: Words of a reference point; None: of the forecaster.
        """
        forecast = self.forecast if of is None else self.references[of]
        found: list[dict[str, float | int]] = []
        for step in range(forecast.shape[1]):
            error = forecast[:, step] - self.truth[:, step]
            error = error[np.isfinite(error)]
            some = len(error) > 0
            found.append(
                {
                    "step": step + 1,
                    "mae": float(np.abs(error).mean()) if some else float("nan"),
                    "rmse": float(np.sqrt((error**2).mean())) if some else float("nan"),
                    "count": len(error),
                }
            )
        return found

    def coverage(self) -> dict[float, list[float]]:
        """Share of known values inside the intervals of each level, at each step ahead."""
        known = np.isfinite(self.truth)
        found = {}
        for level, (lower, upper) in self.intervals.items():
            inside = (self.truth >= lower) & (self.truth <= upper)
            found[level] = [
                float(inside[:, step][known[:, step]].mean()) if known[:, step].any() else np.nan
                for step in range(self.truth.shape[1])
            ]
        return found
