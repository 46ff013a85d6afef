"""``difformer evaluate``: how good a run is, on rows whose labels it has not seen."""

from pathlib import Path

import typer


def evaluate(
    run: Path = typer.Argument(help="Folder that 'difformer fit' wrote."),
    data: Path | None = typer.Argument(
        None,
        help="Labelled table; of forecasts: the fitted series and what came after it. Default: "
        "what was held out.",
    ),
    edges: Path | None = typer.Option(None, help="Edges between fitted and new rows."),
    directed: bool = typer.Option(False, help="Edges point from source to target only."),
) -> None:
    """Print metrics of a run on what it held out, or on a labelled table."""
    from difformer.cli.evaluation import describe, judge
    from difformer.cli.forecasting import is_forecast, judged_forecasts
    from difformer.cli.saved import judged_rows, open_run, read_evaluation, score_new_rows
    from difformer.cli.screen import say

    if is_forecast(run):
        say(judged_forecasts(run, data, {"--edges": edges, "--directed": directed}))
        return
    saved = open_run(run)
    if data is None:
        say(describe(read_evaluation(saved)))
        return
    parts = score_new_rows(saved, data, edges, directed, labelled=True)
    labels, probabilities, notices = judged_rows(saved, parts)
    how = (
        f"{len(labels)} labelled rows of {data} that were not used in fitting, scored as new rows."
    )
    result = judge(how, labels, probabilities, saved.model.classes_)
    say([*map(str, notices), *describe(result)])
