"""From a table of series to forecasts: the one path behind ``fit --task forecast``.

A forecaster is fitted twice: on the first four fifths of the steps, to be judged on the others
beside reference points, and then on everything, to forecast what comes next.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from difformer.cli.screen import console, interruptible, paths, say
from difformer.cli.tables import write_predictions
from difformer.cli.workflow import free_folder
from difformer.data.graphs import read_edges
from difformer.data.series_tables import SeriesTable, read_series_table
from difformer.errors import ConfigError, DataError, RunError
from difformer.estimators import DIFFormerForecaster
from difformer.estimators.forecaster import LEVELS
from difformer.estimators.forecasting.backtest import Backtest
from difformer.estimators.forecasting.saving import ESTIMATOR, write_forecaster
from difformer.runs import RunDirectory, atomic
from difformer.training.settings import parse_overrides

HELD_OUT = 0.2
FEWEST_JUDGED = 5  # steps
SCHEMA, EVALUATION, CURVES = "series.json", "forecast_evaluation.json", "forecast_curves.json"
COMING, RECENT = "forecast_coming.json", 60  # and how many last values stand before what comes
OFF_STEP = 0.01  # of a step
MOST_CURVES, MOST_STEPS = 8, 400  # nodes and steps of the report's charts


@dataclass(frozen=True)
class ForecastRequest:
    """What was asked for on the command line."""

    data: str
    lags: int | None
    horizon: int
    edges: Path | None = None
    time: str | None = None
    target: str | None = None
    id_column: str | None = None
    drop: tuple[str, ...] = ()
    directed: bool = False
    season: int | None = None
    transform: str = "auto"
    encoder: str = "auto"
    diffusivity: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    seed: int = 0
    out: Path | None = None
    overwrite: bool = False


def forecast_and_report(request: ForecastRequest) -> Path:
    """Do all of it, or end with one sentence at Ctrl-C; returns the run's folder.

    Raises:
        DifformerError: Before anything is written, if the input cannot be used.
    """
    with interruptible():
        return _forecast_and_report(request)


def _forecast_and_report(request: ForecastRequest) -> Path:
    started = time.perf_counter()
    table = _read(request)
    edge_index, edge_weight, notes = _edges(request, table)
    lags = request.lags
    if lags is None:
        lags = _usual_lags(request, len(table.values))
    model = _build(request, lags)
    configuration = _configuration(request, lags)
    folder = request.out or free_folder(request.data, configuration)
    atomic.check_output(folder)
    screen = console()
    say([*(f"  {sentence}" for sentence in (*table.decisions, *notes))], screen)
    say([_about(request, table, lags, edge_index)], screen)
    if not request.overwrite and folder.exists() and any(folder.iterdir()):
        RunDirectory.create(folder, configuration)  # refuses what it must not touch
    judged = _judge(model, table, edge_index, edge_weight, request)
    evaluation = None if judged is None else evaluation_of(*judged)
    model.fit(table.values, edge_index, edge_weight)
    say(model.decisions_, screen)
    run = RunDirectory.create(folder, configuration, overwrite=request.overwrite)
    if judged is not None and evaluation is not None:
        run.write_json(EVALUATION, evaluation)
        run.write_json(CURVES, _curves(judged[0], table))
    for record in model.history_:
        run.append_metrics(record)
    write_forecaster(model, run)
    run.write_json(SCHEMA, _schema(table))
    coming = forecast_table(model, table)
    write_predictions(run.path / "predictions.csv", [coming])
    run.write_json(COMING, _coming(table, coming))
    overview = _overview(request, model, table, edge_index, time.perf_counter() - started)
    run.write_json("overview.json", overview)
    from difformer.report import write_report  # plotly takes a while to load

    write_report(run)
    run.finish(overview)
    _close(run, evaluation)
    return folder


def _read(request: ForecastRequest) -> SeriesTable:
    return read_series_table(
        request.data, request.time, request.target, request.id_column, request.drop
    )


def _edges(request: ForecastRequest, table: SeriesTable) -> tuple[Any, Any, tuple[str, ...]]:
    if request.edges is None:
        return None, None, ()
    found = read_edges(request.edges, table.nodes, request.directed)
    return found.edge_index, found.edge_weight, found.notes


def _usual_lags(request: ForecastRequest, steps: int) -> int:
    """Two horizons, or a season where that is longer; at most a sixth of the steps."""
    wanted = max(2 * request.horizon, 12, request.season or 0)
    return max(1, min(wanted, 96, steps // 6))


def _build(request: ForecastRequest, lags: int) -> DIFFormerForecaster:
    """The forecaster that was asked for; its settings are checked here."""
    model = DIFFormerForecaster(
        lags,
        request.horizon,
        encoder=request.encoder,
        diffusivity=list(request.diffusivity) or None,
        season=request.season,
        transform=request.transform,
        training=parse_overrides(request.settings) or None,
        random_state=request.seed,
        verbose=True,
    )
    model.check_parameters()
    return model


def _configuration(request: ForecastRequest, lags: int) -> dict[str, object]:
    apart = ("overwrite", "out")
    asked = {key: value for key, value in asdict(request).items() if key not in apart}
    return {"request": {"task": "forecast", **asked, "lags": lags}}


def _judge(
    model: DIFFormerForecaster,
    table: SeriesTable,
    edge_index: Any,
    edge_weight: Any,
    request: ForecastRequest,
) -> tuple[Backtest, str] | None:
    """Forecasts of the last fifth by what was known before; None: there are too few steps."""
    steps = len(table.values)
    first = steps - max(round(HELD_OUT * steps), request.horizon)
    if first < 2 * (model.lags + model.horizon) or steps - first < FEWEST_JUDGED:
        return None
    model.fit(table.values[:first], edge_index, edge_weight)
    found = model.backtest(table.values, compare=True)
    begin, end = table.labels(first, 1)[0], table.labels(steps - 1, 1)[0]
    how = (
        f"{steps - first:,} steps, {begin} to {end}, each forecast from what was known before it; "
        f"methods learnt from the {first:,} steps before."
    )
    return found, how


def evaluation_of(found: Backtest, how: str) -> dict[str, Any]:
    """Errors of the forecaster and of reference points, and coverage, as JSON can hold them."""
    methods = {"DIFFormerForecaster": found.errors()}
    methods |= {words: found.errors(words) for words in found.references}
    coverage = [
        {"level": level, "shares": [None if np.isnan(s) else s for s in shares]}
        for level, shares in found.coverage().items()
    ]
    return {
        "how": how,
        "steps": found.truth.shape[1],
        "methods": [
            {"method": name, "mae": _known(rows, "mae"), "rmse": _known(rows, "rmse")}
            for name, rows in methods.items()
        ],
        "coverage": coverage,
    }


def _known(rows: list[dict[str, float | int]], key: str) -> list[float | None]:
    return [None if np.isnan(row[key]) else float(row[key]) for row in rows]


def _curves(found: Backtest, table: SeriesTable) -> dict[str, Any]:
    """Truth and forecasts of some nodes, one step ahead and the whole horizon ahead."""
    nodes = _spread(found.truth.shape[2])
    level = max(found.intervals, default=None) if found.intervals else None
    curves = []
    for step in sorted({0, found.truth.shape[1] - 1}):
        kept = slice(max(len(found.origin) - MOST_STEPS, 0), None)
        at = [int(origin) + step for origin in found.origin[kept]]
        labels = [table.labels(number, 1)[0] for number in at]
        for node in nodes:
            lines = {"truth": found.truth, "forecast": found.forecast}
            if level is not None:
                lines |= dict(zip(("lower", "upper"), found.intervals[level], strict=True))
            shown = {name: _numbers(values[kept, step, node]) for name, values in lines.items()}
            about = {"node": table.nodes[node], "ahead": step + 1, "times": labels}
            curves.append({"lower": [], "upper": [], **about, **shown})
    return {"level": level, "dated": table.dated, "curves": curves}


def _coming(table: SeriesTable, told: Any) -> dict[str, Any]:
    """The last values of some nodes, and what is forecast to follow them."""
    columns = {name: told.column(name).to_pylist() for name in told.column_names}
    bounds = [name for name in columns if name.startswith(("lower_95", "upper_95"))]
    start = max(len(table.values) - RECENT, 0)
    curves = []
    for node in _spread(len(table.nodes)):
        rows = range(node, told.num_rows, len(table.nodes))
        shown = {
            name: [columns[name][row] for row in rows] for name in ("time", "forecast", *bounds)
        }
        curves.append(
            {
                "node": table.nodes[node],
                "times": table.labels(start, len(table.values) - start),
                "values": _numbers(table.values[start:, node]),
                "coming": shown["time"],
                "forecast": _numbers(np.array(shown["forecast"])),
                "lower": _numbers(np.array(shown[bounds[0]])) if bounds else [],
                "upper": _numbers(np.array(shown[bounds[1]])) if bounds else [],
            }
        )
    return {"curves": curves}


def _spread(count: int) -> list[int]:
    """Numbers of a few nodes, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, MOST_CURVES))})


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if not np.isfinite(v) else float(f"{v:.6g}") for v in values]


def _schema(table: SeriesTable) -> dict[str, Any]:
    return {
        "time": table.time,
        "value": table.value,
        "node": table.node,
        "nodes": list(table.nodes),
        "dated": table.dated,
        "first": float(table.times[0]),
        "last": float(table.times[-1]),
        "step": table.step,
        "regular": not any("counts as one step" in told for told in table.decisions),
    }


def forecast_table(
    model: DIFFormerForecaster,
    table: SeriesTable,
    history: NDArray[np.float64] | None = None,
    start: int | None = None,
) -> Any:
    """Forecasts after the end of a table with their intervals, a row a node and time."""
    forecast = model.predict(history, start=start)
    columns: dict[str, Any] = {
        "time": np.repeat(table.labels(len(table.values), model.horizon), len(table.nodes)),
        "node": list(table.nodes) * model.horizon,
        "forecast": forecast.reshape(-1),
    }
    if model.has_intervals:
        for level in LEVELS:
            bounds = model.predict_interval(level, history, start=start)
            for name, bound in zip(("lower", "upper"), bounds, strict=True):
                columns[f"{name}_{level:.0%}".replace("%", "")] = bound.reshape(-1)
    return pa.table(columns)


def _overview(
    request: ForecastRequest,
    model: DIFFormerForecaster,
    table: SeriesTable,
    edge_index: Any,
    seconds: float,
) -> dict[str, Any]:
    return {
        "title": f"{request.target or 'Series'} of {Path(request.data).name}",
        "task": "forecasting",
        "data": request.data,
        "instances": len(table.nodes),
        "steps": len(table.values),
        "first": table.labels(0, 1)[0],
        "last": table.labels(len(table.values) - 1, 1)[0],
        "lags": model.lags,
        "horizon": model.horizon,
        "season": model.season,
        "features": 1,
        "classes": [],
        "labelled": int(np.isfinite(table.values).sum()),
        "held_out": 0,
        "edges": 0 if edge_index is None else int(edge_index.shape[1]),
        "encoder": model.encoder_,
        "diffusivity": model.diffusivities,
        "seconds": round(seconds, 3),
        "notes": [*table.decisions, *model.decisions_],
    }


def _about(request: ForecastRequest, table: SeriesTable, lags: int, edge_index: Any) -> str:
    edges = "no graph" if edge_index is None else f"{edge_index.shape[1]} directed edges"
    first, last = table.labels(0, 1)[0], table.labels(len(table.values) - 1, 1)[0]
    return (
        f"{request.data}: {len(table.nodes)} nodes, {len(table.values):,} steps from {first} to "
        f"{last}, {edges}; the next {request.horizon} from the last {lags}."
    )


def describe(evaluation: Mapping[str, Any]) -> list[str]:
    """The evaluation in lines for a person."""
    last = evaluation["steps"]
    shown = sorted({1, last}) if last < 4 else sorted({1, (last + 1) // 2, last})
    lines = [f"Judged on {evaluation['how']}"]
    heads = "".join(f"{f'step {step}: MAE':>16s}{'RMSE':>10s}" for step in shown)
    lines.append(f"  {'':34s}{heads}")
    for row in evaluation["methods"]:
        cells = "".join(
            f"{_shown(row['mae'][step - 1]):>16s}{_shown(row['rmse'][step - 1]):>10s}"
            for step in shown
        )
        lines.append(f"  {row['method']:34s}{cells}")
    for row in evaluation["coverage"]:
        shares = ", ".join(
            f"{100 * row['shares'][s - 1]:.1f} %" for s in shown if row["shares"][s - 1] is not None
        )
        lines.append(f"  Intervals of {row['level']:.0%} held {shares} of the values.")
    return lines


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _close(run: RunDirectory, evaluation: Mapping[str, Any] | None) -> None:
    lines = []
    if evaluation is None:
        lines.append(
            "How good this is cannot be told: the table has too few steps to hold some out."
        )
    else:
        lines += describe(evaluation)
    say([*lines, "Written:", *paths(run.path, ("predictions.csv", "report.html"))])


@dataclass(frozen=True)
class SavedForecast:
    """A fitted forecaster and the table that it was fitted on, without its values."""

    run: RunDirectory
    model: DIFFormerForecaster
    schema: Mapping[str, Any]


def is_forecast(folder: Path) -> bool:
    """Whether a run holds a forecaster."""
    return (folder / ESTIMATOR).is_file()


def open_forecast(folder: Path) -> SavedForecast:
    """Open and verify a finished run.

    Raises:
        RunError: If it is missing, unfinished or damaged.
    """
    model = DIFFormerForecaster.load(folder)
    path = folder / SCHEMA
    if not path.is_file():
        raise RunError(f"{folder} was not written by 'difformer fit': {SCHEMA} is missing.")
    return SavedForecast(RunDirectory.open(folder), model, atomic.read_json(path))


def forecast_after(folder: Path, data: Path, out: Path, others: Mapping[str, object]) -> list[str]:
    """Write what comes after a table of the fitted nodes; what to tell about it.

    Raises:
        DifformerError: If the table does not fit the run.
    """
    check_task(others)
    saved = open_forecast(folder)
    table = read_like(saved, data)
    start = _start(saved, table)
    told = forecast_table(saved.model, table, table.values, start)
    write_predictions(out, [told])
    return [*table.decisions, f"{told.num_rows} forecasts after {data}: {out}"]


def judged_forecasts(folder: Path, data: Path | None, others: Mapping[str, object]) -> list[str]:
    """How good a run is on the steps that it held out, or on those after the fitted ones.

    Raises:
        DifformerError: If nothing can be judged.
    """
    check_task(others)
    saved = open_forecast(folder)
    if data is None:
        path = folder / EVALUATION
        if not path.is_file():
            raise DataError(f"{folder} held out no steps; give a longer series to judge on.")
        return describe(atomic.read_json(path))
    table = read_like(saved, data)
    if _start(saved, table) != 0:
        raise DataError(
            f"{data} must begin with the first fitted time and go on after the last one, found "
            f"{table.labels(0, 1)[0]} as its first time."
        )
    found = saved.model.backtest(table.values, compare=True)
    how = f"{len(found.origin):,} forecasts after the fitted steps of {data}."
    return describe(evaluation_of(found, how))


def read_like(saved: SavedForecast, data: Path) -> SeriesTable:
    """A table of the fitted nodes, in their order.

    Raises:
        DataError: If a node is missing, or a wide table has other columns.
    """
    schema = saved.schema
    return read_series_table(
        data,
        schema["time"],
        schema["value"],
        schema["node"],
        nodes=schema["nodes"],
        step=schema["step"] if schema["regular"] else None,
    )


def _start(saved: SavedForecast, table: SeriesTable) -> int:
    """Number of a table's first step, the fitted series' first one being 0.

    Raises:
        DataError: If its times do not fall on fitted steps, and a season asks which ones they are.
    """
    schema = saved.schema
    offset = replace(table, times=np.array([schema["first"]])).place_of(float(table.times[0]))
    if saved.model.season is not None and abs(offset - round(offset)) > OFF_STEP:
        raise DataError(
            f"Times of {table.time!r} must be a whole number of steps ({schema['step']:g}) after "
            f"the fitted ones, for there is a season; found {offset:.3f}."
        )
    return int(np.rint(offset))


def check_task(settings: Mapping[str, object]) -> None:
    """Refuse options that say nothing about forecasts.

    Raises:
        ConfigError: Naming the first one.
    """
    for name, value in settings.items():
        if value:
            raise ConfigError(f"{name} is for tables of rows, found it with forecasts.")
