"""Reference points: what every forecast has to stand beside.

Each sees the windows of a series and learns from the training windows alone; all answer in the unit
of the values they are given.

Letters: S steps, N nodes, L lags, H horizon, W windows.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from difformer.data.windows import Floats, Windows, filled

HIDDEN, EPOCHS = 32, 200  # of the MLP
FEWEST_ROWS, MOST_ROWS = 50, 200_000  # that it learns from; with fewer it is the last value


@dataclass(frozen=True, eq=False)
class ReferenceTask:
    """What reference points may see.

    Attributes:
        values: One channel, (S, N), NaN where missing.
        lags, horizon: L and H.
        train: Windows to learn from, (W,) bool.
        season: Steps of a season, or None.
        seed: Of the MLP.
    """

    values: Floats
    lags: int
    horizon: int
    train: NDArray[np.bool_]
    season: int | None = None
    seed: int = 0

    @property
    def history(self) -> Floats:
        """(W, N, L); a missing value is the last one before it, or the node's mean in training."""
        learnt = self.values[: int(np.flatnonzero(self.train).max(initial=0)) + self.lags]
        known = np.isfinite(learnt)
        mean = np.where(known, learnt, 0).sum(0) / np.maximum(known.sum(0), 1)
        whole = filled(self.values[..., None], mean[:, None])
        return Windows(whole, self.lags, self.horizon).history[:, :, 0]

    @property
    def target(self) -> Floats:
        """(W, N, H), NaN where missing."""
        return Windows(self.values[..., None], self.lags, self.horizon).target[:, :, 0]

    def repeated(self, forecast: Floats) -> Floats:
        """The same (W, N) at each step ahead, (W, N, H)."""
        return np.repeat(forecast[..., None], self.horizon, axis=-1)


def _zero(task: ReferenceTask) -> Floats:
    return np.zeros(task.target.shape)


def _persistence(task: ReferenceTask) -> Floats:
    return task.repeated(task.history[..., -1])


def _node_mean(task: ReferenceTask) -> Floats:
    last = task.history[..., -1]
    return task.repeated(np.broadcast_to(last.mean(axis=1, keepdims=True), last.shape))


def _seasonal(task: ReferenceTask) -> Floats:
    """The value a season before; where there is none yet, the last one."""
    assert task.season is not None
    found = _persistence(task)
    whole = filled(task.values[..., None], np.zeros((task.values.shape[1], 1)))[..., 0]
    origin = np.arange(task.lags, task.lags + len(found))
    for step in range(task.horizon):
        seasons = -(-(step + 1) // task.season)  # the last one that is over at the origin
        at = origin + step - seasons * task.season
        found[at >= 0, :, step] = whole[at[at >= 0]]
    return found


def _pooled(task: ReferenceTask) -> Floats:
    """One linear regression on the lags, with an intercept, for all nodes."""
    from sklearn.linear_model import LinearRegression

    history, target = task.history, task.target
    found = np.empty(target.shape)
    for step in range(task.horizon):
        x, y = _rows(history[task.train], target[task.train, :, step])
        if not len(y):  # nothing to learn from
            found[..., step] = history[..., -1]
            continue
        model = LinearRegression().fit(x, y)
        found[..., step] = model.predict(history.reshape(-1, task.lags)).reshape(target.shape[:2])
    return found


def _by_node(task: ReferenceTask) -> Floats:
    """A ridge regression on the lags for each node, in units of its training part."""
    from sklearn.linear_model import Ridge

    history, target = task.history, task.target
    found = np.empty(target.shape)
    for node in range(target.shape[1]):
        own = history[task.train, node]
        centre, spread = own.mean(), own.std() or 1.0
        for step in range(task.horizon):
            x, y = _rows(own[:, None], target[task.train, node, step][:, None])
            if not len(y):
                found[:, node, step] = history[:, node, -1]
                continue
            model = Ridge(1.0).fit((x - centre) / spread, (y - centre) / spread)
            scaled = (history[:, node] - centre) / spread
            found[:, node, step] = model.predict(scaled) * spread + centre
    return found


def _mlp(task: ReferenceTask) -> Floats:
    """A network on the lags of each node, in units of its training part, blind to the others."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    history, target = task.history, task.target
    learnt = history[task.train]
    centre = learnt.mean(axis=(0, 2))[:, None]
    spread = learnt.std(axis=(0, 2))[:, None]
    spread = np.where(spread > 0, spread, 1.0)
    x = ((learnt - centre) / spread).reshape(-1, task.lags)
    y = ((target[task.train] - centre) / spread).reshape(-1, task.horizon)
    seen = np.isfinite(y)
    known = np.flatnonzero(seen.mean(axis=1) >= 0.5)  # what is missing counts as the last value
    if len(known) < FEWEST_ROWS:
        return _persistence(task)
    if len(known) > MOST_ROWS:
        known = np.random.default_rng(task.seed).choice(known, MOST_ROWS, replace=False)
    y = np.where(seen, y, x[:, -1:])
    model = MLPRegressor(
        hidden_layer_sizes=(HIDDEN,), max_iter=EPOCHS, early_stopping=True, random_state=task.seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[known], y[known] if task.horizon > 1 else y[known, 0])
    found = model.predict(((history - centre) / spread).reshape(-1, task.lags))
    return np.asarray(found.reshape(target.shape) * spread + centre)


def _rows(history: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Known pairs of windows (w, N, L) and values (w, N)."""
    x, y = history.reshape(-1, history.shape[-1]), target.reshape(-1)
    known = np.isfinite(y)
    return x[known], y[known]


# Name -> words for people, and what forecasts (W, N, H).
REFERENCES: dict[str, tuple[str, Callable[[ReferenceTask], Floats]]] = {
    "zero": ("constant zero", _zero),
    "persistence": ("last value", _persistence),
    "node-mean": ("last value averaged over nodes", _node_mean),
    "seasonal": ("value a season before", _seasonal),
    "pooled-ar": ("linear AR, pooled", _pooled),
    "node-ar": ("linear AR, by node", _by_node),
    "mlp": ("MLP on lags", _mlp),
}


def reference_forecasts(task: ReferenceTask) -> dict[str, Floats]:
    """Of every reference point that there can be, by its words, (W, N, H)."""
    return {
        words: forecast(task)
        for name, (words, forecast) in REFERENCES.items()
        if name != "seasonal" or task.season is not None
    }
