r"""Prediction intervals: split conformal, and wider or narrower as truths come in.

A score is the error of a forecast in units of what is usual for its node. Half the width of an
interval of level 1 - a is the conformal quantile of the scores on the validation windows (Vovk et
al., 2005; Lei et al., 2018). A series may drift, so widths follow what happens: after each step
whose truth is known,

.. math:: \log w \leftarrow \log w + \eta \, (\text{share of nodes missed} - a)

which keeps the long-run share of misses at a, whatever the series does (as in Gibbs and Candes,
2021, and Angelopoulos et al., 2023, with a logarithm so that widths stay positive).

Letters: V validation windows, N nodes, F channels, H horizon, Q kept scores.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from difformer.data.windows import Floats
from difformer.errors import ConfigError
from difformer.nn.conv import is_number

MOST_SCORES = 10_000  # of each channel and step ahead
PRIOR = 3.0  # windows that the mean over nodes counts for in a node's own scale
SLOW = 30.0  # nodes at which a step moves widths by half of what it could


@dataclass(frozen=True, eq=False)
class Conformal:
    """Scores of the validation windows.

    Attributes:
        scale: Usual size of a node's error at each step ahead, (N, F, H).
        scores: Sorted, (F, H, Q); with fewer than Q known the last ones are infinite.
        count: How many are known, (F, H).
    """

    scale: Floats
    scores: Floats
    count: NDArray[np.int64]

    @classmethod
    def fit(cls, forecast: Floats, truth: Floats) -> "Conformal":
        """Of windows (V, N, F, H) in the forecaster's unit; NaN is unknown."""
        error = np.abs(truth - forecast)
        known = np.isfinite(error).sum(axis=0)
        squares = np.nansum(error**2, axis=0)
        pooled = _typical(squares / np.maximum(known, 1), known > 0)
        scale = np.sqrt((squares + PRIOR * pooled) / (known + PRIOR))
        scale[scale == 0] = 1.0
        scores = np.sort((error / scale).reshape(-1, *error.shape[2:]), axis=0)  # NaN go last
        count = np.isfinite(scores).sum(axis=0)
        if len(scores) > MOST_SCORES:
            scores, count = _thinned(scores, count)
        scores = np.where(np.isfinite(scores), scores, np.inf)
        return cls(scale, np.moveaxis(scores, 0, -1), count)

    def rescaled(self, factor: Floats) -> "Conformal":
        """For another unit of each node and channel: errors times (N, F)."""
        return replace(self, scale=self.scale * factor[..., None])

    def half_width(self, level: float) -> Floats:
        """Of intervals of a level in (0, 1), (N, F, H); infinite where scores are too few.

        Raises:
            ConfigError: If the level lies elsewhere.
        """
        if not (is_number(level) and 0 < level < 1):
            raise ConfigError(f"level must lie between 0 and 1, found {level!r}.")
        rank = np.ceil((self.count + 1) * level).astype(int) - 1
        # as wide as the largest error seen, where finitely many say no more
        rank = np.clip(rank, 0, np.maximum(self.count - 1, 0))
        quantile = np.take_along_axis(self.scores, rank[..., None], axis=-1)[..., 0]
        return np.asarray(self.scale * quantile)

    def widths(self, forecast: Floats, truth: Floats, level: float) -> Floats:
        """How much wider than :meth:`half_width` intervals should be, step by step.

        Args:
            forecast: Of windows that follow each other, in the forecaster's unit, (W, N, F, H).
            truth: NaN where it is not known, (W, N, F, H).
            level: Of the intervals.

        Returns:
            (W + 1, H): before each window, from truths that are known by then; the last entry is
            for the window after them.
        """
        half = self.half_width(level)
        windows, nodes, _, horizon = forecast.shape
        speed = nodes / (nodes + SLOW)
        log_width = np.zeros((windows + 1, horizon))
        for step in range(horizon):
            now = 0.0
            for window in range(windows + 1):
                ended = window - step - 1  # the last window whose truth at this step is known
                if ended >= 0:
                    wide = half[..., step] * math.exp(log_width[ended, step])
                    missed = np.abs(truth[ended, ..., step] - forecast[ended, ..., step]) > wide
                    known = np.isfinite(truth[ended, ..., step])
                    if known.any():
                        now += speed * (float(missed[known].mean()) - (1 - level))
                log_width[window, step] = now
        return np.exp(log_width)


def _typical(squares: Floats, known: NDArray[np.bool_]) -> Floats:
    """Median over known nodes, (F, H), for one odd node is not to widen all; 0 without any."""
    found = np.zeros(squares.shape[1:])
    for at in np.ndindex(found.shape):
        some = squares[(slice(None), *at)][known[(slice(None), *at)]]
        found[at] = np.median(some) if len(some) else 0.0
    return found


def _thinned(scores: Floats, count: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Evenly many of the known ones, the largest included."""
    shares = np.linspace(0, 1, MOST_SCORES)
    at = np.rint(shares[:, None, None] * np.maximum(count - 1, 0)).astype(int)
    kept = np.take_along_axis(scores, at, axis=0)
    return kept, np.minimum(count, MOST_SCORES)
