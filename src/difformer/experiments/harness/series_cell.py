"""A cell of a forecasting comparison: a series, a cut in time, a scale."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from difformer.data.protocols import Population, protocol
from difformer.data.series import SERIES, Series, Snapshots, load_series
from difformer.data.splits import Split
from difformer.data.windows import Floats
from difformer.errors import ConfigError
from difformer.experiments.harness.answers import SERIES_SCORES, Answers
from difformer.experiments.harness.base_cell import BaseCell
from difformer.experiments.methods.forecasting import FORECASTING, Forecast
from difformer.experiments.methods.method import Method


class SeriesCell(BaseCell):
    """What all forecasting methods of one column meet.

    Errors are told in units of the published scale: that of the whole series, node by node, if
    ``published`` says "series" (the loader's, which has seen the test part), or as the file has
    them. Methods see values scaled by the training part alone; their forecasts are mapped back.

    Args:
        data: name of a series.
        protocol: a cut in time.
        lags: steps that a forecast may look at.
        horizon: how many steps ahead the value is that is forecast and judged.
        graph: whether the graph is shown.
        published: "file" or "series".
        metric: a key of ``SERIES_SCORES``.
    """

    TABLES: ClassVar = {"data": SERIES, "metric": SERIES_SCORES}

    kind: Literal["series"]
    protocol: str = "temporal-20-20-60"
    lags: int = Field(default=4, ge=1)
    horizon: int = Field(default=1, ge=1)
    published: Literal["file", "series"] = "file"
    metric: str = "mse"

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods that can be named here."""
        return FORECASTING

    @property
    def name(self) -> str:
        """For files and tables: also what is judged, where several cells are of the same cut."""
        ahead = f"-{self.horizon}-ahead-{self.metric}" if self.horizon > 1 else ""
        return super().name + ahead

    @property
    def conditions(self) -> tuple[str, ...]:
        """For people: what all methods meet."""
        graph = "with the graph" if self.graph else "without a graph"
        unit = "the whole series' spread" if self.published == "series" else "the file's unit"
        return (
            self.protocol,
            f"{self.lags} lags",
            f"{self.horizon} steps ahead" if self.horizon > 1 else "one step ahead",
            graph,
            f"scaled by the training part, errors in {unit}",
        )

    def problem(self, split_seed: int, final: bool) -> tuple[Forecast, Answers]:
        """What methods see, and what judges them."""
        series = load_series(self.data)
        snapshots = series.snapshots(self.lags, self.horizon)
        split = protocol(self.protocol).split(Population(len(snapshots.target), name=self.data))
        return pose_series(self, series, snapshots, split, final)


def pose_series(
    cell: SeriesCell, series: Series, snapshots: Snapshots, split: Split, final: bool
) -> tuple[Forecast, Answers]:
    """The problem of a split: targets outside its training and validation part are hidden.

    The history of a snapshot is known when it is forecast, test part or not: what is hidden is what
    follows it. Scaling is told by the steps that the training part spans.
    """
    seen = series.values[: int(split.train.sum()) + cell.lags + cell.horizon - 1]
    if cell.published == "series":
        centre, spread = series.values.mean(axis=0), series.values.std(axis=0) + 1e-10
    else:
        centre, spread = np.zeros(series.values.shape[1]), np.ones(series.values.shape[1])
    own_centre, own_spread = seen.mean(axis=0), seen.std(axis=0)
    own_spread = np.where(own_spread > 0, own_spread, 1.0)
    if not split.train.any():
        raise ConfigError("A forecast needs a training part, found none.")
    known = split.train | split.val
    target = (snapshots.target - own_centre) / own_spread
    task = Forecast(
        history=(snapshots.history - own_centre[:, None]) / own_spread[:, None],
        target=np.where(known[:, None], target, np.nan),
        train=split.train,
        val=split.val,
        edges=snapshots.edges if cell.graph else (),
        scale=(own_spread / spread, (own_centre - centre) / spread),
        file=_shown(series.values, cell.horizon),
        unit=(own_spread, own_centre),
        horizon=cell.horizon,
    )
    return task, Answers((snapshots.target - centre) / spread, split, cell.score, final)


def _shown(values: Floats, horizon: int) -> Floats:
    """All that the histories of windows show; nobody sees what follows the last one."""
    found = values.copy()
    found[len(values) - horizon :] = np.nan
    return found
