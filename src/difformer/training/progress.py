"""A progress bar on standard error, silent where that is no terminal."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[[Mapping[str, float | int | None]], None]


@contextmanager
def progress_bar(
    epochs: int, description: str = "Training", shown: bool = True
) -> Iterator[Report]:
    """Yield a function for ``train(progress=...)`` that moves a bar.

    Args:
        epochs: The length of the bar.
        description: The text before it.
        shown: False keeps silent on a terminal, too.

    Example:
        >>> with progress_bar(3) as report:
        ...     report({"epoch": 1, "train_loss": 0.5, "val_accuracy": None})
    """
    if not (shown and sys.stderr.isatty()):
        yield _silent
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=epochs, figures="")

        def report(record: Mapping[str, float | int | None]) -> None:
            bar.update(task, completed=record["epoch"] or 0, figures=describe_figures(record))

        yield report


def describe_figures(record: Mapping[str, float | int | None]) -> str:
    """The figures of an epoch that a glance can take in.

    Example:
        >>> describe_figures({"epoch": 1, "train_loss": 0.51234, "val_accuracy": 0.8})
        'loss 0.5123 · val 80.0 %'
    """
    loss, accuracy, val_loss = (
        record.get(name) for name in ("train_loss", "val_accuracy", "val_loss")
    )
    parts = [] if loss is None else [f"loss {loss:.4f}"]
    if accuracy is not None:
        parts.append(f"val {100 * accuracy:.1f} %")
    elif val_loss is not None:
        parts.append(f"val {val_loss:.4f}")
    return " · ".join(parts)


def _silent(record: Mapping[str, float | int | None]) -> None:
    """Show nothing."""
