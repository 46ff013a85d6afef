"""Iterators of torch_geometric_temporal, read by their attributes: the package is not needed.

A signal gives, for each of T snapshots, the last L values of every node as features and the H next
ones as targets. What a forecaster needs is the series behind them.

Letters: T snapshots, S steps, N nodes, F channels, L lags, H horizon.
"""

from typing import Any

import numpy as np

from difformer.data.windows import Floats
from difformer.errors import DataError


def is_signal(given: object) -> bool:
    """Whether it has the attributes of a temporal signal."""
    return hasattr(given, "features") and hasattr(given, "targets")


def series_of(signal: Any) -> Floats:
    """The series behind a signal, (S, N, F) with S = T + L + H - 1.

    Features are (N, L) or (N, F, L), targets (N,), (N, 1) or (N, H) of the first channel; what is
    not told of other channels at the end is NaN.

    Raises:
        DataError: If features are no windows that move on by one step each.
    """
    features = [_windows(part) for part in signal.features]
    targets = [np.asarray(part, dtype=np.float64) for part in signal.targets]
    if not features or len(features) != len(targets):
        raise DataError(
            f"A signal must hold as many features as targets, found {len(features)} and "
            f"{len(targets)}."
        )
    nodes, channels, lags = features[0].shape
    following = np.stack([part.reshape(nodes, -1) for part in targets])  # (T, N, H)
    count, _, horizon = following.shape
    series = np.full((count + lags + horizon - 1, nodes, channels), np.nan)
    for at, part in enumerate(features):
        series[at : at + lags] = np.moveaxis(part, -1, 0)
        series[at + lags : at + lags + horizon, :, 0] = following[at].T
    _check(series, features, following)
    return series


def graphs_of(signal: Any, lags: int, steps: int) -> tuple[Any, Any]:
    """Edges and weights: of one graph, or of each step of the series.

    The graph of a snapshot is the one at the last step that it has seen.
    """
    if hasattr(signal, "edge_indices"):
        at = np.clip(np.arange(steps) - lags + 1, 0, len(signal.edge_indices) - 1)
        weights = getattr(signal, "edge_weights", None)
        return (
            [signal.edge_indices[i] for i in at],
            None if weights is None else [weights[i] for i in at],
        )
    return getattr(signal, "edge_index", None), getattr(signal, "edge_weight", None)


def lags_of(signal: Any) -> int:
    """L."""
    return int(np.shape(signal.features[0])[-1])


def _windows(part: Any) -> Floats:
    window = np.asarray(part, dtype=np.float64)
    if window.ndim == 2:
        window = window[:, None]
    if window.ndim != 3:
        raise DataError(f"Features of a signal must be (N, L) or (N, F, L), found {window.shape}.")
    return window


def _check(series: Floats, features: list[Floats], following: Floats) -> None:
    lags = features[0].shape[-1]
    for at, part in enumerate(features):
        same = np.array_equal(np.moveaxis(part, -1, 0), series[at : at + lags], equal_nan=True)
        ahead = series[at + lags : at + lags + following.shape[-1], :, 0]
        if not same or not np.array_equal(following[at].T, ahead, equal_nan=True):
            raise DataError(
                "Features of a signal must be windows of one series that move on by one step, "
                f"found something else at snapshot {at}."
            )
