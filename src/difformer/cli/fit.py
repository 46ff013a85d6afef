"""``difformer fit``: from a table, a few labels and perhaps a graph to predictions."""

from pathlib import Path

import typer


def fit(
    data: str = typer.Argument(help="A CSV or Parquet file, or the name of a data set."),
    task: str = typer.Option(
        "classify", help="classify rows of a table, or forecast series of nodes."
    ),
    edges: Path | None = typer.Option(
        None, help="Edge list: columns source, target and perhaps weight; or the first two."
    ),
    target: str | None = typer.Option(
        None,
        help="Column of the labels; an empty cell is unlabelled. Forecasts: column of the values, "
        "one row a node and time; without it, each column is a node.",
    ),
    id_column: str | None = typer.Option(
        None, "--id", help="Column that names rows or nodes. Default: 'id', else the row number."
    ),
    time: str | None = typer.Option(None, help="Forecasts: column of the times."),
    lags: int | None = typer.Option(None, help="Forecasts: how many last values are seen."),
    horizon: int = typer.Option(1, help="Forecasts: how many next values are wanted."),
    season: int | None = typer.Option(
        None, help="Forecasts: steps of a season, such as 7 for days of a week."
    ),
    categorical: list[str] = typer.Option([], help="Column to read as categories; repeatable."),
    drop: list[str] = typer.Option([], help="Column to leave out; repeatable."),
    directed: bool = typer.Option(False, help="Edges point from source to target only."),
    encoder: str = typer.Option(
        "auto", help="decoupled (best with few labels), trained, or auto: what labels ask for."
    ),
    diffusivity: list[str] = typer.Option(
        [], help="simple, sigmoid, local, ...; repeat for a mix. Default: the encoder's own."
    ),
    transform: str = typer.Option(
        "auto", help="Forecasts: none, sqrt (counts), log1p, or auto: what the values ask for."
    ),
    config: Path | None = typer.Option(None, help="TOML file with training settings."),
    settings: list[str] = typer.Option(
        [], "--set", help="Training setting as key=value, such as epochs=50; repeatable."
    ),
    memory: str | None = typer.Option(
        None,
        help="Most memory to use, such as 3GiB; more is recomputed where it is short. "
        "For --encoder trained.",
    ),
    labels_per_class: int | None = typer.Option(
        None, help="Show only so many labels a class and judge on the others."
    ),
    split_seed: int = typer.Option(0, help="Seed of the draw of labels or held-out rows."),
    seed: int = typer.Option(0, help="Seed of initial weights and training."),
    compare: bool = typer.Option(False, help="Print a table beside the classics."),
    out: Path | None = typer.Option(
        None, help="Folder of the run. Default: runs/NAME, numbered if it exists."
    ),
    overwrite: bool = typer.Option(False, help="Replace a run that is already there."),
) -> None:
    """Fit DIFFormer on a table: predict a label for every row, or what comes next."""
    from difformer.errors import one_of

    if one_of(task, ("classify", "forecast"), "--task") == "forecast":
        from difformer.cli.forecasting import ForecastRequest, check_task, forecast_and_report

        check_task(
            {
                "--categorical": categorical,
                "--config": config,
                "--memory": memory,
                "--labels-per-class": labels_per_class,
                "--compare": compare,
            }
        )
        forecast_and_report(
            ForecastRequest(
                data=data,
                lags=lags,
                horizon=horizon,
                edges=edges,
                time=time,
                target=target,
                id_column=id_column,
                drop=tuple(drop),
                directed=directed,
                season=season,
                transform=transform,
                encoder=encoder,
                diffusivity=tuple(diffusivity),
                settings=tuple(settings),
                seed=seed,
                out=out,
                overwrite=overwrite,
            )
        )
        return
    from difformer.cli.workflow import Request, fit_and_report

    fit_and_report(
        Request(
            data=data,
            edges=edges,
            target=target,
            id_column=id_column,
            categorical=tuple(categorical),
            drop=tuple(drop),
            directed=directed,
            encoder=encoder,
            diffusivity=tuple(diffusivity),
            config=config,
            settings=(*settings, *([f"memory={memory}"] if memory is not None else [])),
            labels_per_class=labels_per_class,
            split_seed=split_seed,
            seed=seed,
            compare=compare,
            out=out,
            overwrite=overwrite,
        )
    )
