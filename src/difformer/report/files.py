"""All that a report is made from, read once."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from difformer.errors import RunError
from difformer.report.predictions import PREDICTIONS, Predictions, read_predictions
from difformer.report.saved import (
    COMING,
    COMPARISON,
    CURVES,
    EVALUATION,
    FORECAST,
    OVERVIEW,
    TRACE,
    Coming,
    Comparison,
    Curves,
    Evaluation,
    ForecastEvaluation,
    Overview,
    Trace,
    read_object,
    read_saved,
)
from difformer.runs import RunDirectory
from difformer.runs.atomic import explained
from difformer.runs.directory import CONFIG, ENVIRONMENT
from difformer.runs.records import Record

FORECASTING = "forecasting"  # the task of runs with forecasts


@dataclass(frozen=True)
class Files:
    """The content of a run's files; None for a file that is not there."""

    name: str
    overview: Overview | None
    evaluation: Evaluation | None
    comparison: Comparison | None
    trace: Trace | None
    predictions: Predictions | None
    forecast: ForecastEvaluation | None
    curves: Curves | None
    coming: Coming | None
    metrics: list[Record]
    config: str
    environment: Mapping[str, object]


def read_files(run: RunDirectory) -> Files:
    """Read what the run has saved.

    Raises:
        RunError: A file is damaged.
    """
    overview = read_saved(Overview, run.path / OVERVIEW)
    forecasts = overview is not None and overview.task == FORECASTING
    return Files(
        name=os.fsencode(run.path.resolve().name).decode("utf-8", "replace"),
        overview=overview,
        evaluation=read_saved(Evaluation, run.path / EVALUATION),
        comparison=read_saved(Comparison, run.path / COMPARISON),
        trace=read_saved(Trace, run.path / TRACE),
        predictions=None if forecasts else read_predictions(run.path / PREDICTIONS),
        forecast=read_saved(ForecastEvaluation, run.path / FORECAST),
        curves=read_saved(Curves, run.path / CURVES),
        coming=read_saved(Coming, run.path / COMING),
        metrics=_checked(run.read_metrics(), run.metrics),
        config=_text(run.path / CONFIG),
        environment=read_object(run.path / ENVIRONMENT) or {},
    )


def _text(path: Path) -> str:
    try:
        with explained(path, verb="read"):
            return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}.") from error


def _checked(records: list[Record], path: Path) -> list[Record]:
    """Refuse a line without its epoch or with something other than finite numbers."""
    for number, record in enumerate(records, start=1):
        if record.get("epoch") is None or not all(map(_is_number, record.values())):
            raise RunError(f"{path} is damaged: line {number} must hold an epoch and numbers.")
    return records


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and abs(float(str(value))) < float("inf"))
