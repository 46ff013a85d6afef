"""Windows of a series: the last values of every node, and the next ones to forecast.

Letters: S steps of the series, N nodes, F channels, L lags, H horizon, W windows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from difformer.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Windows:
    """All windows of a series. What they show are views of it: nothing is copied.

    Parameters
    ----------
    values : float64 ndarray, (S, N, F)
    lags, horizon : int
        L and H; 0 as horizon: nothing follows.

    Examples
    --------
    >>> windows = Windows(np.arange(5.0).reshape(5, 1, 1), lags=2, horizon=1)
    >>> len(windows), windows.history[0, 0, 0], windows.target[0, 0, 0]
    (3, array([0., 1.]), array([2.]))
    """

    values: Floats
    lags: int
    horizon: int

    def __len__(self) -> int:
        return max(len(self.values) - self.lags - self.horizon + 1, 0)

    @property
    def history(self) -> Floats:
        """The last L values, the latest one last, (W, N, F, L)."""
        return sliding_window_view(self.values, self.lags, axis=0)[: len(self)]

    @property
    def target(self) -> Floats:
        """The H values that follow, (W, N, F, H)."""
        following = self.values[self.lags :]
        return sliding_window_view(following, self.horizon, axis=0)[: len(self)]

    @property
    def origin(self) -> NDArray[np.int64]:
        """The step after the last one seen: the first that is forecast, (W,)."""
        return np.arange(self.lags, self.lags + len(self))


def filled(values: Floats, fallback: Floats) -> Floats:
    """A copy in which a missing value (NaN) is the last one seen before it, else the fallback.

    Parameters
    ----------
    values : float64 ndarray, (S, N, F)
    fallback : float64 ndarray, (N, F)
        For what is missing from the start.

    Examples
    --------
    >>> filled(np.array([np.nan, 1, np.nan]).reshape(3, 1, 1), np.array([[5.0]])).ravel()
    array([5., 1., 1.])
    """
    seen = np.isfinite(values)
    if seen.all():
        return values.copy()
    last = np.where(seen, np.arange(len(values))[:, None, None], -1)
    np.maximum.accumulate(last, axis=0, out=last)
    found = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, found, fallback)


def checked_series(series: Any, name: str = "series") -> Floats:
    """A copy (S, N, F) of a series (S,), (S, N) or (S, N, F); NaN is missing.

    Raises
    ------
    DataError
        If it holds no numbers, or infinity, or has another shape.
    """
    try:
        values = np.array(series, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must hold numbers, found something else ({error}).") from None
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(
            f"{name} must have shape (S, N) or (S, N, F) with none of them 0, found "
            f"{np.shape(series)}."
        )
    if np.isinf(values).any():
        raise DataError(f"{name} must be finite or NaN where missing, found infinity.")
    return values
