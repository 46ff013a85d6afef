"""``difformer demo``: the default beside the classics, on data that comes with scikit-learn."""

from pathlib import Path

import typer


def demo(
    out: Path = typer.Option(
        Path("runs/demo"), help="Folder of the run; an earlier demo there is replaced."
    ),
    splits: int = typer.Option(3, min=1, max=100, help="Splits to compare on."),
    labels_per_class: int = typer.Option(10, min=1, help="Labels a class that methods may see."),
) -> None:
    """Classify 1,797 handwritten digits from 10 labels a class, beside seven other methods."""
    from difformer.cli.workflow import Request, check_replaceable, fit_and_report

    check_replaceable(out)
    fit_and_report(
        Request(
            data="digits",
            labels_per_class=labels_per_class,
            compare=True,
            compare_splits=splits,
            out=out,
            overwrite=True,
        )
    )
