"""``difformer predict``: score new rows with a finished run."""

from pathlib import Path
from typing import Any

import typer


def predict(
    run: Path = typer.Argument(help="Folder that 'difformer fit' wrote."),
    data: Path = typer.Argument(
        help="CSV or Parquet file of new rows, with the same columns; of forecasts: what came last."
    ),
    out: Path = typer.Option(..., help="File to write: .csv or .parquet."),
    edges: Path | None = typer.Option(None, help="Edges between fitted and new rows."),
    directed: bool = typer.Option(False, help="Edges point from source to target only."),
    overwrite: bool = typer.Option(False, help="Replace the file if it exists."),
) -> None:
    """Predict labels of new rows, or what comes after new values of a series.

    Labels and probabilities of a row depend on the fitted rows alone.

    A table without edges may be larger than memory: it is read, scored and written in parts. A run
    of forecasts says what comes after the table.
    """
    from difformer.cli.forecasting import forecast_after, is_forecast
    from difformer.cli.saved import Scored, open_run, score_new_rows
    from difformer.cli.screen import say
    from difformer.cli.tables import check_table_path, prediction_table, write_predictions
    from difformer.data.notices import Notice, together
    from difformer.runs.atomic import check_output

    check_output(out)
    check_table_path(out, overwrite)
    if is_forecast(run):
        say(forecast_after(run, data, out, {"--edges": edges, "--directed": directed}))
        return
    saved = open_run(run)
    notices: list[Notice] = []
    counts: list[int] = []

    def table(part: Scored) -> Any:
        notices.extend(part.notices)
        counts.append(len(part.ids))
        return prediction_table(part.ids, saved.model.classes_, part.probabilities)

    write_predictions(out, map(table, score_new_rows(saved, data, edges, directed)))
    say([*map(str, together(notices)), f"{sum(counts)} rows scored: {out}"])
