"""The linear forecast or a network on top of it, whichever forecasts the validation windows better.

Letters: V validation windows, N nodes, F channels, H horizon.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from difformer.data.windows import Floats, Windows
from difformer.errors import ConfigError
from difformer.estimators.forecasting import decoupled, trained
from difformer.estimators.forecasting.decoupled import (
    BLOCKS,
    LEAD,
    Fitted,
    Given,
    LinearForecast,
    Setting,
    lead_of,
)
from difformer.estimators.forecasting.intervals import Conformal
from difformer.estimators.forecasting.trained import TrainedForecast
from difformer.runs.records import Record
from difformer.training.config import TrainingConfig
from difformer.training.progress import progress_bar
from difformer.training.trainer import TrainingResult

ENOUGH = 50  # windows to learn from before a network is tried


@dataclass(frozen=True)
class Network:
    """What is asked of a trained encoder.

    Attributes:
        encoder: ``auto``, ``decoupled`` or ``trained``.
        options: Of ``ForecastNetwork``.
    """

    encoder: str
    options: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Chosen:
    """What was chosen, and learnt from everything.

    Attributes:
        model: A forecast.
        encoder: ``decoupled`` or ``trained``.
        history: A record an epoch of the network that chose the number of epochs.
        decisions: A sentence each.
        conformal: Errors on the validation windows, in the unit of the model; None without any.
    """

    model: LinearForecast | TrainedForecast
    encoder: str
    history: list[Record]
    decisions: list[str]
    conformal: Conformal | None


def choose(
    given: Given, setting: Setting, network: Network, config: TrainingConfig, shown: bool
) -> Chosen:
    """Fit what was asked for. ``shown``: whether progress is shown on a terminal.

    Raises:
        ConfigError: If a network is to be trained without validation windows.
    """
    fitted = decoupled.fit(given, setting)
    model: LinearForecast | TrainedForecast = fitted.model
    encoder, history, judged = "decoupled", list[Record](), fitted.judged
    decisions = [_told(fitted)]
    first = len(Windows(given.values, setting.lags, setting.horizon)) - given.validation
    if _tries(network, fitted, first):
        assert judged is not None
        try_network = _Trial(given, setting, network, shown)
        trial, result = try_network.train(fitted.before, first, config)
        found = trial.forecast(trial.past(given), range(first, first + given.validation))
        lead, error = _lead(judged[0], found, judged[1], setting.horizon)
        if network.encoder == "trained" or lead > LEAD * error:
            judged, encoder, history = (found, judged[1]), "trained", result.history
            again = config.model_copy(update={"epochs": result.best_epoch, "patience": None})
            model, _ = try_network.train(fitted.model, first + given.validation, again)
        if network.encoder == "auto":
            decisions.append(
                f"Encoder: {encoder} (squared error on {given.validation} validation windows lower "
                f"by {lead:.3g} +- {error:.3g} with a trained one)."
            )
    conformal = None
    if judged is not None:  # in the unit of the part before them
        factor = fitted.before.units.spread / model.units.spread
        conformal = Conformal.fit(*judged).rescaled(factor)
    return Chosen(model, encoder, history, decisions, conformal)


def _tries(network: Network, fitted: Fitted, first: int) -> bool:
    if network.encoder == "trained" and fitted.judged is None:
        raise ConfigError(
            "encoder 'trained' needs validation windows to choose the epoch, found none."
        )
    enough = first >= ENOUGH and fitted.judged is not None
    return network.encoder == "trained" or (network.encoder == "auto" and enough)


@dataclass(frozen=True)
class _Trial:
    given: Given
    setting: Setting
    network: Network
    shown: bool

    def train(
        self, linear: LinearForecast, first: int, config: TrainingConfig
    ) -> tuple[TrainedForecast, TrainingResult]:
        """A network on top of a linear forecast, trained on the windows before ``first``."""
        values, setting = linear.units.apply(self.given.values), self.setting
        target = np.array(Windows(values, setting.lags, setting.horizon).target)
        options = dict(self.network.options)
        with progress_bar(config.epochs, shown=self.shown) as report:
            past = linear.past(self.given)
            return trained.fit(linear, past, target, first, options, config, report)


def _told(fitted: Fitted) -> str:
    """One sentence on the readout."""
    gain, error = fitted.gain
    units = fitted.model.units.transform
    how = "" if not gain else f", squared error lower by {gain:.3g} +- {error:.3g} than the default"
    words = f"Readout: {fitted.chosen.words}{how}"
    return f"{words}; transform: {units}."


def _lead(first: Floats, other: Floats, truth: Floats, horizon: int) -> tuple[float, float]:
    """How much lower the other's squared error is, and its standard error, from blocks."""
    difference = (first - truth) ** 2 - (other - truth) ** 2
    known = np.isfinite(difference)
    count = np.maximum(known.sum(axis=(1, 2, 3)), 1)
    errors = np.where(known, difference, 0.0).sum(axis=(1, 2, 3)) / count
    length = max(math.ceil(len(errors) / BLOCKS), horizon)
    blocks = [errors[at : at + length].mean() for at in range(0, len(errors), length)]
    return lead_of(np.array(blocks))
