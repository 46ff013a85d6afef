"""DIFFormerForecaster: series of nodes that influence each other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from difformer.data.windows import Floats, Windows
from difformer.diffusion.penalty import resolve_all
from difformer.errors import ConfigError, DataError, one_of, whole_number
from difformer.estimators.engine import keywords_of
from difformer.estimators.forecasting.backtest import Backtest
from difformer.estimators.forecasting.choosing import Network, choose
from difformer.estimators.forecasting.decoupled import Given, Setting
from difformer.estimators.forecasting.inputs import (
    carried,
    checked_covariates,
    is_flat,
    names_of,
    of_states,
    read_series,
    scale_of,
    terms_of,
)
from difformer.estimators.forecasting.intervals import Conformal
from difformer.estimators.forecasting.references import ReferenceTask, reference_forecasts
from difformer.estimators.forecasting.saving import load_forecaster, save_forecaster
from difformer.estimators.forecasting.states import Edges
from difformer.estimators.forecasting.trained import NETWORK, TRAINING
from difformer.nn import DIFFormer
from difformer.nn.conv import is_number
from difformer.training.config import TrainingConfig

ENCODERS = ("auto", "decoupled", "trained")
LEVELS = (0.8, 0.95)
FEWEST = 5  # validation windows; with fewer, nothing is chosen and there are no intervals


class DIFFormerForecaster(BaseEstimator):  # type: ignore[misc]
    """Forecast series of nodes that influence each other, with a graph or without.

    Each node's last values are its state; states diffuse along the observed graph, between nodes
    whose past runs alike, and between all pairs (DIFFormer-s); a readout listens to all of them.

    Parameters
    ----------
    lags : int, default 12
        L, how many last values are seen.
    horizon : int, default 1
        H, how many next values are forecast at once; more are forecast from forecasts.
    encoder : {"auto", "decoupled", "trained"}, default "auto"
        ``decoupled``: fixed diffusion and a linear readout, learnt in closed form in seconds.
        ``trained``: a DIFFormer trained end to end on what that leaves over. ``auto``: both, where
        50 windows or more are there to learn from, and the one that is better on later ones.
    diffusivity : str, Neighbourhood, Penalty or sequence of them, optional
        What nodes listen to. Default: the graph, where there is one, ``"local"`` (here: nodes whose
        past runs alike) and ``"simple"``. ``"identity"``: each node for itself.
    transform : {"auto", "none", "sqrt", "log1p"}, default "auto"
        Before anything else. ``auto``: the square root for values like counts (never negative, with
        many zeros or widely spread), else none. Forecasts are means all the same.
    season : int, optional
        Steps of a season, such as 7 for days of a week: what is usual at each phase, told by the
        past, is seen as well.
    validation : float or int, default 0.2
        Share or number of the last windows, which choose the readout and tell how wide intervals
        are. In the end the linear readout learns from all windows.
    options : dict, optional
        Of the trained encoder: arguments of ``DIFFormer``, and ``node_channels``, the width of a
        vector that is learnt for each node.
    training : dict, optional
        Settings of ``TrainingConfig`` for it; ``batch_size`` counts windows.
    random_state : int, default 0
        Seed of its initial weights and training. The decoupled encoder draws nothing.
    time_limit : float, optional
        Seconds of its training at most.
    verbose : bool, default False
        Show its progress on a terminal.

    Attributes
    ----------
    nodes_ : list
        Names of the nodes: columns of a DataFrame, else their numbers.
    encoder_ : str
        What was taken.
    decisions_ : list of str
        What was found in the data, a sentence each.
    history_ : list of dict
        One record an epoch of the trained encoder.

    Examples
    --------
    >>> t = np.arange(120)
    >>> series = np.stack([np.sin(t / 5 + shift) for shift in (0.0, 0.3, 0.6)], axis=1)
    >>> model = DIFFormerForecaster(lags=6, horizon=3).fit(series)
    >>> model.predict().shape, model.predict(steps=10).shape
    ((3, 3), (10, 3))
    >>> lower, upper = model.predict_interval(0.9)
    >>> bool((lower <= upper).all())
    True
    """

    def __init__(
        self,
        lags: int = 12,
        horizon: int = 1,
        *,
        encoder: str = "auto",
        diffusivity: Any = None,
        transform: str = "auto",
        season: int | None = None,
        validation: float | int = 0.2,
        options: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        random_state: int = 0,
        time_limit: float | None = None,
        verbose: bool = False,
    ) -> None:
        self.lags = lags
        self.horizon = horizon
        self.encoder = encoder
        self.diffusivity = diffusivity
        self.transform = transform
        self.season = season
        self.validation = validation
        self.options = options
        self.training = training
        self.random_state = random_state
        self.time_limit = time_limit
        self.verbose = verbose

    def fit(
        self,
        series: Any,
        edge_index: Any = None,
        edge_weight: Any = None,
        covariates: Any = None,
    ) -> Self:
        """Learn from a series, up to its last step.

        Parameters
        ----------
        series : array or DataFrame (S, N) or (S, N, F), or a signal of torch_geometric_temporal
            NaN where a value is missing. All channels are forecast.
        edge_index : int array (2, E), or a list of S of them, optional
            Row 0 sends, row 1 receives. A window sees the graph of its last step.
        edge_weight : array (E,), or a list of S of them, optional
        covariates : array (S, K) or (S, N, K), optional
            What is known of each step before it comes, such as holidays.

        Raises
        ------
        DataError
            If the series is too short, or parts do not fit each other.
        ConfigError
            If a parameter is not allowed.
        """
        config = self.check_parameters()
        values, graphs = read_series(series, edge_index, edge_weight)
        count = len(Windows(values, self.lags, self.horizon))
        if count < 2:
            raise DataError(
                f"series must have at least lags + horizon + 1 = {self.lags + self.horizon + 1} "
                f"steps, found {len(values)}."
            )
        self._flat, self._steps = is_flat(series), len(values)
        self.nodes_ = names_of(series, values.shape[1])
        empty = ~np.isfinite(values).any(axis=(0, 2))
        if empty.any():
            raise DataError(
                f"Each node must have a value, found none of {self.nodes_[int(empty.argmax())]!r}; "
                "leave such nodes out."
            )
        beside = checked_covariates(covariates, values.shape, self.horizon)
        self._covariate_scale = None if beside is None else scale_of(beside[: len(values)])
        beside = self._scaled(beside, len(values))
        given = Given(values, beside, graphs, self._validation(count))
        terms = terms_of(self.diffusivity, values.shape[1], bool(graphs))
        setting = Setting(self.lags, self.horizon, terms, self.transform, self.season)
        chosen = choose(given, setting, self._network(), config, self.verbose)
        self.model_, self.encoder_ = chosen.model, chosen.encoder
        self.history_, self.decisions_ = chosen.history, chosen.decisions
        self._conformal = chosen.conformal
        self._remember(given)
        return self

    def check_parameters(self) -> TrainingConfig:
        """Check what can be checked without data; ``fit`` does so first.

        Raises
        ------
        ConfigError
            On a value that is not allowed.
        """
        whole_number(self.lags, 1, "lags")
        whole_number(self.horizon, 1, "horizon")
        one_of(self.encoder, ENCODERS, "encoder")
        if self.season is not None:
            whole_number(self.season, 2, "season")
        if self.diffusivity is not None:
            resolve_all(self.diffusivity)
        share = self.validation
        if not is_number(share) or share < 0 or (isinstance(share, float) and share >= 1):
            raise ConfigError(
                f"validation must be a share in [0, 1) or a number of windows, found {share!r}."
            )
        known = keywords_of(DIFFormer) | {"node_channels"}
        for name in self.options or {}:
            one_of(name, sorted(known), "each key of options")
        training = {**TRAINING, **(self.training or {}), "seed": self.random_state}
        if self.time_limit is not None:
            training["time_limit"] = self.time_limit
        return TrainingConfig(**training)

    def predict(
        self,
        history: Any = None,
        steps: int | None = None,
        *,
        edge_index: Any = None,
        edge_weight: Any = None,
        covariates: Any = None,
        start: int | None = None,
    ) -> Floats:
        """What follows, (steps, N), or (steps, N, F) for a series with channels.

        Parameters
        ----------
        history : array (S', N) or (S', N, F), optional
            At least L steps, in the unit of the fitted series. Default: the fitted series.
        steps : int, optional
            How many steps; beyond H from forecasts. Default: H.
        edge_index, edge_weight : optional
            Of the history. Default: the last graph of the fit.
        covariates : array (steps, K) or (steps, N, K), optional
            Of the steps to come, where ``fit`` had some.
        start : int, optional
            The number of the history's first step, the fit's first one being 0; with a season it
            must be told.

        Raises
        ------
        DataError
            If the history is too short or of other nodes.
        """
        steps = self.horizon if steps is None else whole_number(steps, 1, "steps")
        given, first = self._history(history, edge_index, edge_weight, start)
        ahead = self._ahead(covariates, steps)
        found: list[Floats] = []
        values = carried(given.values)[-self.lags :]
        first += len(given.values) - len(values)
        for done in range(0, steps, self.horizon):
            coming = None if ahead is None else ahead[done : done + self.horizon]
            next_ones = self._next(values, given.graphs[-1:], first, coming)
            found.append(next_ones)
            values = np.concatenate([values, next_ones])[-self.lags :]
            first += len(next_ones)
        return self._shaped(np.concatenate(found)[:steps])

    def predict_interval(
        self,
        level: float = 0.8,
        history: Any = None,
        *,
        edge_index: Any = None,
        edge_weight: Any = None,
        covariates: Any = None,
        start: int | None = None,
    ) -> tuple[Floats, Floats]:
        """Lower and upper bounds of the next H values, each (H, N) or (H, N, F).

        Split conformal intervals. Where ``start`` says which step a history begins with, their
        width follows how often steps in it that came after the fitted ones were missed. See
        :meth:`predict` for the arguments.

        Raises
        ------
        ConfigError
            If the level does not lie between 0 and 1, or there were too few validation windows.
        """
        conformal = self._conformal_or_raise()
        given, first = self._history(history, edge_index, edge_weight, start)
        half = conformal.half_width(level)
        width = np.ones(self.horizon)
        windows = len(Windows(given.values, self.lags, self.horizon))
        # the first window that forecasts no fitted step
        new = max(self._steps - first - self.lags, 0)
        if start is not None and new < windows and not self._covariates:
            past = self.model_.past(given, first)
            forecast = self.model_.forecast(past, range(new, windows))
            truth = Windows(self.model_.units.apply(given.values), self.lags, self.horizon).target
            width = conformal.widths(forecast, truth[new:], level)[-1]
        ahead = self._ahead(covariates, self.horizon)
        values = carried(given.values)[-self.lags :]
        first += len(given.values) - len(values)
        centre = self._next_in_units(values, given.graphs[-1:], first, ahead)
        bounds = [self.model_.units.invert(centre + sign * half * width) for sign in (-1, 1)]
        lower, upper = (self._shaped(np.moveaxis(bound, -1, 0)) for bound in bounds)
        return lower, upper

    def backtest(
        self,
        series: Any,
        edge_index: Any = None,
        edge_weight: Any = None,
        covariates: Any = None,
        *,
        first: int | None = None,
        levels: Sequence[float] = LEVELS,
        compare: bool = False,
        fitted_too: bool = False,
    ) -> Backtest:
        """Forecasts at every step of a longer series, each from what was known by then.

        Parameters
        ----------
        series : array (S', N) or (S', N, F)
            The fitted series and what came after it, from the same first step.
        edge_index, edge_weight, covariates : optional
            Of that series; default: the last graph of the fit.
        first : int, optional
            The first step to be forecast. Default: the first one after the fitted series.
        levels : sequence of float
            Of the intervals; none without validation windows.
        fitted_too : bool, default False
            Whether ``first`` may be a fitted step; the forecaster has learnt from those.
        compare : bool, default False
            Whether reference points, fitted on the steps before ``first``, are given as well.

        Raises
        ------
        DataError
            If nothing is left to forecast.
        """
        self._check_fitted()
        first = self._steps if first is None else whole_number(first, self.lags, "first")
        if first < self._steps and not fitted_too:
            raise ConfigError(
                f"first must be at least {self._steps}, for earlier steps were learnt from; "
                f"fitted_too=True judges there all the same; found {first}."
            )
        values, graphs = read_series(self._ordered(series), edge_index, edge_weight)
        self._check_nodes(values)
        count = len(Windows(values, self.lags, self.horizon))
        begin = first - self.lags
        if begin >= count:
            raise DataError(
                f"series must have at least horizon = {self.horizon} steps from step {first} on, "
                f"where forecasts begin; found {len(values)} steps in all."
            )
        graphs = graphs or self._last_graph
        beside = checked_covariates(covariates, values.shape, self.horizon)
        self._check_covariates(beside)
        given = Given(values, self._scaled(beside, len(values)), graphs, 0)
        past, windows = self.model_.past(given), range(begin, count)
        forecast = self.model_.forecast(past, windows)
        target = Windows(values, self.lags, self.horizon).target[begin:]
        bounds = self._bounds(forecast, values, begin, levels)
        references = {}
        if compare:
            references = self._references(values, begin)
        return Backtest(
            np.arange(first, first + len(windows)),
            self._over_origins(self._mean(forecast)),
            self._over_origins(target),
            {
                level: (self._over_origins(lower), self._over_origins(upper))
                for level, (lower, upper) in bounds.items()
            },
            {words: self._over_origins(found) for words, found in references.items()},
        )

    @property
    def has_intervals(self) -> bool:
        """Whether there were validation windows to tell how wide intervals are."""
        self._check_fitted()
        return self._conformal is not None

    @property
    def diffusivities(self) -> list[str]:
        """Names of what nodes listen to."""
        self._check_fitted()
        return list(self.model_.design.names)

    def error_ratio(self, found: Backtest) -> float:
        """How many times as large errors of a backtest are as those on the validation windows.

        Both in the unit in which the forecaster works, as root mean squares over everything. Far
        above 1, intervals are too narrow until their widths have followed.
        """
        usual = self._conformal_or_raise().scale
        truth, forecast = (
            self.model_.units.apply(values if values.ndim == 4 else values[..., None])
            for values in (found.truth, found.forecast)
        )
        return float(np.sqrt(np.nanmean((truth - forecast) ** 2) / np.mean(usual**2)))

    def save(self, folder: str | Path) -> None:
        """Write the fitted forecaster to a new folder: safetensors and JSON, no pickle."""
        self._check_fitted()
        save_forecaster(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save`, or ``difformer fit``, wrote.

        Raises
        ------
        RunError
            If a file is missing or damaged, or of another estimator.
        """
        return load_forecaster(cls, Path(folder))

    def _network(self) -> Network:
        """What is asked of a trained encoder."""
        options = {**NETWORK, **(self.options or {})}
        if self.diffusivity is not None and "diffusivity" not in (self.options or {}):
            options["diffusivity"] = of_states(self.diffusivity)
        return Network(self.encoder, options)

    def _remember(self, given: Given) -> None:
        """What is needed to go on where the fitted series ends."""
        self._last = given.values
        self._last_graph = given.graphs[-1:]
        self._covariates = 0 if given.covariates is None else given.covariates.shape[2]

    def _validation(self, count: int) -> int:
        """Number of validation windows; 0 where they would be too few."""
        share = self.validation
        wanted = round(share * count) if isinstance(share, float) else int(share)
        if isinstance(share, int) and not isinstance(share, bool) and share >= count:
            raise ConfigError(
                f"validation must leave windows to learn from: below {count}, found {share}."
            )
        if isinstance(share, float):
            enough = wanted >= FEWEST and count - wanted >= self.horizon
            return wanted if enough else 0
        if wanted and count - wanted < self.horizon:  # what ends before the first block teaches
            raise ConfigError(
                f"validation must leave at least horizon = {self.horizon} of {count} windows to "
                f"learn from, found {share}."
            )
        return wanted

    def _history(
        self, history: Any, edge_index: Any, edge_weight: Any, start: int | None
    ) -> tuple[Given, int]:
        """A history with its graphs, and the number of its first step."""
        self._check_fitted()
        history = self._ordered(history)
        if history is None:
            return Given(self._last, None, self._last_graph, 0), 0
        values, graphs = read_series(history, edge_index, edge_weight)
        self._check_nodes(values)
        if len(values) < self.lags:
            raise DataError(
                f"history must have at least lags = {self.lags} steps, found {len(values)}."
            )
        if start is not None and (
            isinstance(start, bool) or not isinstance(start, (int, np.integer))
        ):
            raise ConfigError(f"start must be a whole number, found {start!r}.")
        if self.season is not None and start is None:
            raise ConfigError(
                "start must say which step a history begins with, for there is a season; the "
                "first step of the fitted series is 0."
            )
        if graphs and not self._last_graph:
            raise DataError("edge_index was not given in fit, so a history cannot have one.")
        return Given(values, None, graphs or self._last_graph, 0), start or 0

    def _ordered(self, series: Any) -> Any:
        """A DataFrame's columns in the order of the fit, where both have names."""
        columns = getattr(series, "columns", None)
        if columns is None or self.nodes_ == list(range(len(self.nodes_))):
            return series
        if missing := [name for name in self.nodes_ if name not in set(columns)]:
            raise DataError(
                f"A column must be there for each fitted node, found no {missing[0]!r}."
            )
        return series[self.nodes_]

    def _check_nodes(self, values: Floats) -> None:
        if values.shape[1:] != self._last.shape[1:]:
            raise DataError(
                f"A series of {self._last.shape[1]} nodes and {self._last.shape[2]} channels was "
                f"fitted, found {values.shape[1]} and {values.shape[2]}."
            )

    def _check_covariates(self, covariates: Floats | None) -> None:
        found = 0 if covariates is None else covariates.shape[2]
        if found != self._covariates:
            raise DataError(f"covariates must have {self._covariates} columns, found {found}.")

    def _ahead(self, covariates: Any, steps: int) -> Floats | None:
        """Covariates of the steps to come, (steps, N, K)."""
        nodes = self._last.shape[1]
        if covariates is None:
            self._check_covariates(None)
            return None
        found = checked_covariates(covariates, (steps, nodes), 0)
        self._check_covariates(found)
        return self._scaled(found, steps)

    def _scaled(self, covariates: Floats | None, known: int) -> Floats | None:
        """In units of the fit; what is not known, after so many steps, counts as the mean."""
        if covariates is None or self._covariate_scale is None:
            return None
        centre, spread = self._covariate_scale
        found = (covariates - centre) / spread
        found[known:] = 0.0
        return np.asarray(found)

    def _next_in_units(
        self, values: Floats, graphs: tuple[Edges, ...], first: int, ahead: Floats | None
    ) -> Floats:
        """The next H values after the last L ones, (N, F, H)."""
        beside = None
        if ahead is not None:
            pad = np.zeros((self.horizon - len(ahead), *ahead.shape[1:]))
            beside = np.concatenate([np.zeros((self.lags, *ahead.shape[1:])), ahead, pad])
        past = self.model_.past(Given(values, beside, graphs, 0), first)
        return np.asarray(self.model_.forecast(past, range(1))[0])

    def _next(
        self, values: Floats, graphs: tuple[Edges, ...], first: int, ahead: Floats | None
    ) -> Floats:
        """In the unit of the series, (H, N, F)."""
        found = self._mean(self._next_in_units(values, graphs, first, ahead))
        return np.asarray(np.moveaxis(found, -1, 0))

    def _mean(self, forecast: Floats) -> Floats:
        """Forecasts (..., N, F, H) in the unit of the series."""
        return self.model_.units.mean(forecast, self.model_.noise)

    def _bounds(
        self, forecast: Floats, values: Floats, begin: int, levels: Sequence[float]
    ) -> dict[float, tuple[Floats, Floats]]:
        """Lower and upper bounds of each level, (O, N, F, H)."""
        if self._conformal is None:
            return {}
        truth = Windows(self.model_.units.apply(values), self.lags, self.horizon).target[begin:]
        found = {}
        for level in levels:
            half = self._conformal.half_width(level)
            width = self._conformal.widths(forecast, truth, level)[:-1, None, None]
            invert = self.model_.units.invert
            found[level] = invert(forecast - half * width), invert(forecast + half * width)
        return found

    def _references(self, values: Floats, begin: int) -> dict[str, Floats]:
        """Reference points of every channel, (O, N, F, H)."""
        count = len(Windows(values, self.lags, self.horizon))
        train = np.arange(count) <= begin - self.horizon
        found: dict[str, list[Floats]] = {}
        for channel in range(values.shape[2]):
            task = ReferenceTask(
                values[..., channel], self.lags, self.horizon, train, self.season, self.random_state
            )
            for words, forecast in reference_forecasts(task).items():
                found.setdefault(words, []).append(forecast[begin:])
        return {words: np.stack(parts, axis=2) for words, parts in found.items()}

    def _conformal_or_raise(self) -> Conformal:
        self._check_fitted()
        if self._conformal is None:
            raise ConfigError(
                f"Intervals need at least {FEWEST} validation windows, found none; give a longer "
                "series or a larger validation."
            )
        return self._conformal

    def _shaped(self, values: Floats) -> Floats:
        return np.asarray(values[..., 0] if self._flat else values)

    def _over_origins(self, values: Floats) -> Floats:
        """From (O, N, F, H) to (O, H, N) or (O, H, N, F)."""
        return self._shaped(np.moveaxis(np.asarray(values), -1, 1))

    def _check_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError(f"{type(self).__name__} must be fitted first: call fit or load.")
        fitted = self.model_.setting
        for name in ("lags", "horizon", "season"):
            if getattr(self, name) != getattr(fitted, name):
                raise ConfigError(
                    f"{name} was {getattr(fitted, name)} in fit, found {getattr(self, name)}: fit "
                    "again after a change."
                )
