r"""A linear readout of diffused windows, learnt in closed form.

.. math:: \min_w \sum (x^\top w - y)^2 / n + \alpha \, |w|_s^2

with columns in units of their root mean square. All that it needs are sums over windows:
``Moments`` add up, so that a series is read once and in parts, and an error on any block of it
follows from the block's moments alone.

Letters: D columns, K targets (channels times horizon), B blocks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from difformer.data.windows import Floats
from difformer.estimators.forecasting.states import Columns


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over rows and windows.

    Attributes:
        gram: Of columns with columns, (1, D, D), or (K, D, D) where targets are missing.
        cross: Of columns with targets, (D, K).
        square: Of targets, (K,).
        count: Rows, (K,).
        windows: How many windows they come from.
    """

    gram: Floats
    cross: Floats
    square: Floats
    count: Floats
    windows: int

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "Moments":
        """Of columns (w, N, D) and targets (w, N, K), NaN unknown."""
        windows, rows = len(x), x.reshape(-1, x.shape[-1])
        y = y.reshape(-1, y.shape[-1])
        known = np.isfinite(y)
        if known.all():
            gram = (rows.T @ rows)[None]
        else:
            gram = np.stack([rows[mask].T @ rows[mask] for mask in known.T])
            y = np.where(known, y, 0.0)
        return cls(gram, rows.T @ y, (y**2).sum(0), known.sum(0).astype(np.float64), windows)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.square + other.square,
            self.count + other.count,
            self.windows + other.windows,
        )

    def error(self, weights: Floats) -> Floats:
        """Sum of squared errors of weights (D, K), for each target, (K,)."""
        quadratic = np.einsum("dk,kde,ek->k", weights, _each(self.gram, len(self.square)), weights)
        return np.asarray(self.square - 2 * (weights * self.cross).sum(0) + quadratic)


def total(moments: Iterable[Moments]) -> Moments:
    """All together."""
    first, *others = moments
    for other in others:
        first = first + other
    return first


def solve(moments: Moments, columns: Columns, use: Sequence[int], alpha: float) -> Floats:
    """Weights (D, K); columns that are not used get 0.

    Weights of ``columns.falls`` are at most 0, those of ``columns.rises`` at least 0. Cost O(D^3).
    """
    targets = moments.cross.shape[1]
    weights = np.zeros((columns.width, targets))
    count = np.maximum(moments.count, 1)
    horizon = targets // len(columns.falls)
    for group in _alike(moments):
        gram = moments.gram[group[0] if len(moments.gram) > 1 else 0][np.ix_(use, use)]
        gram = gram / count[group[0]]
        scale = np.sqrt(np.diag(gram))
        scale[scale == 0] = 1.0
        gram = gram / np.outer(scale, scale) + alpha * np.eye(len(use))
        cross = moments.cross[np.ix_(use, group)] / count[group] / scale[:, None]
        own = np.array([columns.falls[target // horizon] for target in group])
        weights[np.ix_(use, group)] = _signed(gram, cross, columns, use, own) / scale[:, None]
    return weights


def _signed(
    gram: Floats, cross: Floats, columns: Columns, use: Sequence[int], own: NDArray[np.int64]
) -> Floats:
    """The minimum of w'Gw/2 - b'w for each column b (d, k), with the signs that are asked for.

    Columns without a sign are eliminated; what is left is a non-negative problem of few unknowns.
    """
    place = {column: at for at, column in enumerate(use)}
    rises = [place[column] for column in columns.rises if column in place]
    found = np.empty_like(cross)
    for level in np.unique(own):
        signed = [place[level], *rises]
        free = [at for at in range(len(use)) if at not in set(signed)]
        sign = np.where(np.arange(len(signed)) == 0, -1.0, 1.0)
        factor = linalg.cho_factor(gram[np.ix_(free, free)])
        coupling = gram[np.ix_(free, signed)] * sign
        reduced = gram[np.ix_(signed, signed)] * np.outer(sign, sign)
        reduced = reduced - coupling.T @ linalg.cho_solve(factor, coupling)
        root = linalg.cholesky((reduced + reduced.T) / 2)
        for target in np.flatnonzero(own == level):
            b = cross[:, target]
            alone = linalg.cho_solve(factor, b[free])
            left = b[signed] * sign - coupling.T @ alone
            some, _ = optimize.nnls(root, linalg.solve_triangular(root, left, trans="T"))
            found[free, target] = alone - linalg.cho_solve(factor, coupling @ some)
            found[signed, target] = some * sign
    return found


def _alike(moments: Moments) -> list[list[int]]:
    """Targets that share a gram matrix."""
    targets = range(moments.cross.shape[1])
    return [list(targets)] if len(moments.gram) == 1 else [[target] for target in targets]


def _each(gram: Floats, targets: int) -> Floats:
    return np.broadcast_to(gram, (targets, *gram.shape[1:]))
