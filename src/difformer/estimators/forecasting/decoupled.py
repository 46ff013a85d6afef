"""Decoupled forecasting: windows diffuse by fixed rules, a linear readout listens.

The default. Nothing is trained through the diffusion, and all sums that the readout needs add up,
so which readout is best is found by going through the last part of the series: each block of it is
forecast from what came before. The default stays unless another one is clearly better.

Letters: S steps, N nodes, F channels, L lags, H horizon, W windows, D columns, B blocks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from difformer.data.windows import Floats, Windows, filled
from difformer.diffusion import Diffusivity
from difformer.estimators.forecasting.readout import Moments, solve, total
from difformer.estimators.forecasting.states import Columns, Design, Edges, Past, Seasonal
from difformer.estimators.forecasting.units import Season, Units

BLOCKS = 10  # of the validation part, each forecast from what came before
STRENGTH = 1.0  # of the ridge, in windows: nodes of a moment say little that is new
STRENGTHS = (STRENGTH, 0.1, 10.0)
LEAD = 2.0  # standard errors by which another readout must be better
PAST = 2_000  # steps of the past at most in which like nodes are sought


@dataclass(frozen=True, eq=False)
class Given:
    """What a forecaster is fitted on.

    Attributes:
        values: (S, N, F), NaN where missing.
        covariates: (S, N, K) or None.
        graphs: None, one for all steps, or one a step.
        validation: How many of the last windows choose.
    """

    values: Floats
    covariates: Floats | None
    graphs: tuple[Edges, ...]
    validation: int


@dataclass(frozen=True)
class Setting:
    """What is told, not learnt."""

    lags: int
    horizon: int
    terms: tuple[Diffusivity, ...]
    transform: str = "auto"
    season: int | None = None


@dataclass(frozen=True)
class Candidate:
    """A readout: the mean of ridge regressions on several groups of columns.

    Attributes:
        words: For people.
        members: Names of the groups that each of them sees.
        strength: Of the ridge, in windows.
    """

    words: str
    members: tuple[tuple[str, ...], ...]
    strength: float = STRENGTH

    def weights(self, moments: Moments, columns: Columns) -> Floats:
        """(D, K)."""
        alpha = self.strength / max(moments.windows, 1)
        found = []
        for names in self.members:
            use = sorted(column for name in names for column in columns.groups[name])
            found.append(solve(moments, columns, use, alpha))
        return np.asarray(np.mean(found, axis=0))


def candidates(names: Sequence[str]) -> list[Candidate]:
    """The default first: the mean of what each term says, and of all together."""
    alone, everything = ("own",), ("own", *names)
    each = tuple(("own", name) for name in names)
    several = tuple(dict.fromkeys([alone, *each, everything]))
    drifting = tuple((*member, "drift") for member in several)
    ways = {"the mean of all readouts": several, "the mean of all readouts, with drift": drifting}
    if names:
        ways |= {"own lags alone": (alone,), "own lags and all that is heard": (everything,)}
    if len(names) > 1:
        ways |= {f"own lags and '{name}'": (pair,) for name, pair in zip(names, each, strict=True)}
    return [Candidate(words, way, s) for s in STRENGTHS for words, way in ways.items()]


@dataclass(eq=False)
class LinearForecast:
    """A fitted readout with all that it needs to forecast.

    Attributes:
        setting: What was told.
        units: The unit of the weights.
        season: What is usual, or None.
        design: Makes the columns.
        weights: (D, F H).
        noise: Root mean squared error of what it was learnt from, (F, H), in its unit.
        reach: Steps that the means of the season hold: for these the own value is left out.
    """

    setting: Setting
    units: Units
    season: Season | None
    design: Design
    weights: Floats
    noise: Floats
    reach: Floats | None = field(default=None, repr=False)

    def past(self, given: Given, start: int = 0) -> Past:
        """A series in this unit. ``start``: the number of its first step, for seasons."""
        moved = self.units.apply(given.values)
        fallback = np.zeros(moved.shape[1:])
        seasonal = None
        if self.season is not None:
            seasonal = _seasonal(self.season, moved, self.setting.horizon, start, self.reach)
        covariates = given.covariates
        return Past(filled(moved, fallback), seasonal, covariates, given.graphs)

    def forecast(self, past: Past, windows: range) -> Floats:
        """In the forecaster's unit, (w, N, F, H)."""
        horizon = self.setting.horizon
        parts = []
        for part, x, level in self.design.chunks(past, windows):
            steps = (x @ self.weights).reshape(len(part), *level.shape[1:], horizon)
            parts.append(steps + level[..., None])
        return np.concatenate(parts)


def _seasonal(
    season: Season, moved: Floats, horizon: int, start: int, reach: Floats | None
) -> Seasonal:
    """Sums of the phase of each step and the next ones, and the fitted values among them."""
    steps = np.arange(start, start + len(moved) + horizon)
    held = np.full((len(steps), *moved.shape[1:]), np.nan)
    if reach is not None:
        inside = (steps >= 0) & (steps < len(reach))
        held[inside] = reach[steps[inside]]
    phase = steps % season.period
    return Seasonal(season.period, season.sums[phase], season.counts[phase], held, steps)


def prepared(given: Given, setting: Setting, steps: int) -> LinearForecast:
    """Unit, season and neighbours of the first so many steps; weights are still missing."""
    seen = given.values[:steps]
    units = Units.fit(seen, setting.transform, given.values)
    moved = units.apply(seen)
    season = None if setting.season is None else Season.fit(moved, setting.season)
    past = filled(moved, np.zeros(moved.shape[1:]))[-PAST:]
    lines = past.transpose(1, 0, 2).reshape(past.shape[1], -1)
    design = Design(setting.terms, setting.lags, setting.horizon, lines)
    none = np.zeros((0, 0))
    return LinearForecast(setting, units, season, design, none, none, moved)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit came to.

    Attributes:
        model: Fitted on everything.
        judged: Forecasts of the validation windows, each from what came before it, and the truth,
            both in the unit of ``before``, (V, N, F, H); None without validation windows.
        before: The model on the part before them.
        chosen: The readout.
        gain: How much lower its squared error was than the default's, and the standard error.
    """

    model: LinearForecast
    before: LinearForecast
    judged: tuple[Floats, Floats] | None
    chosen: Candidate
    gain: tuple[float, float]


def fit(given: Given, setting: Setting) -> Fitted:
    """Choose a readout on the validation windows, then learn it from all."""
    count = len(Windows(given.values, setting.lags, setting.horizon))
    first = count - given.validation
    before = prepared(given, setting, first + setting.lags + setting.horizon - 1)
    options = candidates(before.design.names)
    if not given.validation:
        _learn(before, given, range(count), options[0])
        return Fitted(before, before, None, options[0], (0.0, 0.0))
    past = before.past(given)
    columns = before.design.columns(past)
    target = Windows(before.units.apply(given.values), setting.lags, setting.horizon).target
    rolling = _Rolling(before, past, target, first, count, setting.horizon)
    errors = [rolling.errors(option, columns) for option in options]
    best, gain = _best(errors)
    judged = rolling.forecasts(options[best], columns)
    _set(before, options[best], rolling.before[0], columns)
    model = prepared(given, setting, len(given.values))
    _learn(model, given, range(count), options[best])
    truth = np.array(target[first:])
    return Fitted(model, before, (judged, truth), options[best], gain)


def _learn(model: LinearForecast, given: Given, windows: range, option: Candidate) -> None:
    past, setting = model.past(given), model.setting
    target = Windows(model.units.apply(given.values), setting.lags, setting.horizon).target
    found = total(moments_over(model, past, target, windows))
    _set(model, option, found, model.design.columns(past))


def _set(model: LinearForecast, option: Candidate, found: Moments, columns: Columns) -> None:
    """Weights, and how large errors are that are left."""
    model.weights = option.weights(found, columns)
    square = np.maximum(found.error(model.weights), 0) / np.maximum(found.count, 1)
    model.noise = np.sqrt(square).reshape(-1, model.setting.horizon)


def moments_over(
    model: LinearForecast, past: Past, target: Floats, windows: range
) -> list[Moments]:
    """Moments of runs of windows; targets (W, N, F, H)."""
    found = []
    for part, x, level in model.design.chunks(past, windows):
        y = target[part.start : part.stop] - level[..., None]
        found.append(Moments.of(x, y.reshape(*y.shape[:2], -1)))
    return found


class _Rolling:
    """Blocks of the last windows, each judged by what was learnt before it.

    The last H - 1 windows before a block are left out there: what follows them lies in the block.
    """

    def __init__(
        self,
        model: LinearForecast,
        past: Past,
        target: Floats,
        first: int,
        count: int,
        horizon: int,
    ) -> None:
        self.model, self.past = model, past
        length = max(math.ceil((count - first) / BLOCKS), horizon)
        starts = list(range(first, count, length))
        self.blocks = [range(a, min(a + length, count)) for a in starts]
        gap = horizon - 1
        runs = [range(first), *self.blocks]
        # of each run all windows but the last H - 1, and these
        cut = [max(run.stop - gap, run.start) for run in runs]
        pieces = [
            (range(run.start, at), range(at, run.stop)) for run, at in zip(runs, cut, strict=True)
        ]
        body, tail = ([self._sums(target, piece[side]) for piece in pieces] for side in (0, 1))
        numbers = range(len(self.blocks))
        # of all windows that end before each block, and of the block itself
        self.before = [total(chain(*body[: b + 1], *tail[:b])) for b in numbers]
        self.own = [total(chain(body[b + 1], tail[b + 1])) for b in numbers]

    def _sums(self, target: Floats, windows: range) -> list[Moments]:
        return moments_over(self.model, self.past, target, windows) if len(windows) else []

    def errors(self, option: Candidate, columns: Columns) -> Floats:
        """Mean squared error on each block, (B,)."""
        found = []
        for before, own in zip(self.before, self.own, strict=True):
            error = own.error(option.weights(before, columns))
            found.append(error.sum() / max(own.count.sum(), 1))
        return np.array(found)

    def forecasts(self, option: Candidate, columns: Columns) -> Floats:
        """Of the windows of all blocks, (V, N, F, H)."""
        parts: list[Any] = []
        for before, block in zip(self.before, self.blocks, strict=True):
            self.model.weights = option.weights(before, columns)
            parts.append(self.model.forecast(self.past, block))
        return np.concatenate(parts)


def _best(errors: Sequence[Floats]) -> tuple[int, tuple[float, float]]:
    """The best that is clearly better than the first, by errors on blocks; else the first."""
    best, gain = 0, (0.0, 0.0)
    for number, own in enumerate(errors[1:], start=1):
        lead, error = lead_of(errors[0] - own)
        if lead > max(LEAD * error, gain[0]):
            best, gain = number, (lead, error)
    return best, gain


def lead_of(differences: Floats) -> tuple[float, float]:
    """Mean over blocks, and its standard error: infinite for a single one."""
    count = len(differences)
    error = float(differences.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
    return float(differences.mean()), error
