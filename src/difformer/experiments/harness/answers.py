"""The truth that judges, kept apart from what methods see."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from difformer.data.splits import Split
from difformer.errors import ConfigError
from difformer.training import metrics

Truth: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """A figure that judges.

    Args:
        unit: what tables call it, such as "accuracy %".
        measure: from truth and answers of the same rows to a number.
        higher_is_better: whether it should rise.
        factor: what tables multiply it by.
    """

    unit: str
    measure: Callable[[Truth, NDArray[np.float64]], float]
    higher_is_better: bool = True
    factor: float = 100.0

    def gain(self, value: float) -> float:
        """The value, or its opposite, so that more is better."""
        return value if self.higher_is_better else -value


def _accuracy(truth: Truth, table: NDArray[np.float64]) -> float:
    return metrics.accuracy(truth, table.argmax(axis=1))


def _macro_f1(truth: Truth, table: NDArray[np.float64]) -> float:
    return metrics.macro_f1(truth, table.argmax(axis=1))


def _squared_error(truth: Truth, forecast: NDArray[np.float64]) -> float:
    return metrics.root_mean_squared_error(truth, forecast) ** 2


CLASS_SCORES = {
    "accuracy": Score("accuracy %", _accuracy),
    "macro-f1": Score("macro-f1 %", _macro_f1),
    "roc-auc": Score("roc-auc %", metrics.roc_auc),
}
SERIES_SCORES = {
    "mse": Score("MSE", _squared_error, higher_is_better=False, factor=1.0),
    "rmse": Score("RMSE", metrics.root_mean_squared_error, higher_is_better=False, factor=1.0),
    "mae": Score("MAE", metrics.mean_absolute_error, higher_is_better=False, factor=1.0),
}


GRAPH_SCORES = {
    **CLASS_SCORES,
    "mean-roc-auc": Score("mean roc-auc %", metrics.mean_roc_auc),
    "rmse": SERIES_SCORES["rmse"],
}


class LeakError(ConfigError):
    """Something that decides had seen what is tested."""


@dataclass
class Answers:
    """The truth about the rows (snapshots) that choose and about those that are tested.

    Args:
        truth: of all rows.
        split: the masks.
        score: what judges.
        final: whether settings are decided, so that the test rows may be read, once.

    Shapes:
        truth (N,) classes or (T, N) values; answers (N, C) probabilities or (T, N) forecasts.
    """

    truth: Truth
    split: Split
    score: Score
    final: bool
    _read: bool = field(default=False, init=False)

    def validation(self, found: NDArray[np.float64]) -> float | None:
        """The score on the validation rows; None if there are none."""
        return self._measured(found, self.split.val) if self.split.val.any() else None

    def test(self, found: NDArray[np.float64]) -> float:
        """The score on the test rows.

        Raises:
            LeakError: Settings are still being chosen, or the rows were read before.
        """
        if not self.final:
            raise LeakError("Test labels must not be read while settings are chosen.")
        if self._read:
            raise LeakError("Test labels must be read once a run, they were read before.")
        self._read = True
        return self._measured(found, self.split.test)

    def _measured(self, found: NDArray[np.float64], rows: NDArray[np.bool_]) -> float:
        if len(found) != len(self.truth):
            raise ConfigError(
                f"A method must answer for {len(self.truth)} rows, found {len(found)}."
            )
        if not np.isfinite(found).all():
            raise ConfigError("A method must give finite answers, found NaN or infinity.")
        return self.score.measure(self.truth[rows], found[rows])
