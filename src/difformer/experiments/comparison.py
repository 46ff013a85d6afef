"""Methods side by side on the same splits: mean, spread and paired differences.

With a_s the accuracy of a method on split s and b_s that of the reference, d_s = a_s - b_s over n
splits, the interval is mean(d) +- t_{0.975, n-1} sd(d) / sqrt(n). It speaks of the splits drawn
from this one data set, and takes them as independent, which overlapping splits are not quite.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text
from scipy import stats

from difformer.errors import ConfigError, DataError, MissingExtraError, one_of
from difformer.experiments.baselines import FitPredict
from difformer.experiments.task import HIDDEN, Task

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A task, the answers, and the rows that are asked; ``name`` says which split it is.

    Shapes:
        truth (N,), int64; test (N,), bool.

    Raises:
        DataError: no row is asked, a row that is asked has no answer, or its label is visible.
    """

    task: Task
    truth: NDArray[np.int64]
    test: NDArray[np.bool_]
    name: str

    def __post_init__(self) -> None:
        shape = (self.task.num_instances,)
        if self.truth.shape != shape or self.test.shape != shape:
            found = f"truth {self.truth.shape} and test {self.test.shape}"
            raise DataError(f"Split {self.name}: labels and mask must be {shape}, found {found}.")
        if not self.test.any():
            raise DataError(f"Split {self.name}: at least one instance must be tested, found none.")
        if (self.truth[self.test] < 0).any():
            raise DataError(f"Split {self.name}: an instance that is tested has no true label.")
        if (self.task.y[self.test] != HIDDEN).any():
            raise DataError(f"Split {self.name}: an instance that is tested has a visible label.")


@dataclass(frozen=True, slots=True)
class Row:
    """What one method did. Accuracies and differences are fractions; None: cannot be told.

    Args:
        method: its name in the table.
        accuracies: one a split, in the order of the comparison's ``splits``.
        mean: of the accuracies.
        std: their sample standard deviation (n - 1).
        seconds: mean wall time a split, fitting and prediction together.
        difference: mean of the paired differences, this method less the reference.
        low, high: ends of their 95 % interval.
        note: why there are no figures, or what to know about them.
    """

    method: str
    accuracies: tuple[float, ...] = ()
    mean: float | None = None
    std: float | None = None
    seconds: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result: one row a method, in the order given."""

    reference: str
    splits: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]

    def row(self, method: str) -> Row:
        """Return the row of ``method``."""
        named = {row.method: row for row in self.rows}
        return named[one_of(method, named, "method")]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain dictionaries, lists, numbers and texts."""
        plain: dict[str, Any] = json.loads(self.to_json())
        return plain

    def to_json(self) -> str:
        """Return everything as one JSON text."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def paired_interval(differences: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the ends of the 95 % t interval for the mean; None, None from fewer than two values.

    Example:
        >>> low, high = paired_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    count = len(differences)
    if count < 2:
        return None, None
    mean = float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / count**0.5
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error
    return mean - half, mean + half


def compare(
    methods: Mapping[str, FitPredict],
    cases: Sequence[Case],
    reference: str | None = None,
    seeds: Sequence[int] | None = None,
    progress: Callable[[str, str], None] | None = None,
) -> Comparison:
    """Run every method on every split, each with the split's own seed.

    Args:
        methods: name -> callable from (task, seed) to class probabilities (N, C).
        cases: the splits.
        reference: the method that the others are paired with. Default: the first.
        seeds: one a split. Default: 0, 1, 2, ...
        progress: called with (method, split) before each run.

    Raises:
        ConfigError: an unknown reference, no method or no split, seeds that do not match the
            splits, or a method whose answer has the wrong shape or holds NaN.
    """
    if not methods or not cases:
        found = f"{len(methods)} methods and {len(cases)} splits"
        raise ConfigError(f"A comparison needs at least one method and one split, found {found}.")
    chosen = tuple(range(len(cases)) if seeds is None else seeds)
    if len(chosen) != len(cases):
        raise ConfigError(f"seeds must have one entry a split ({len(cases)}), found {len(chosen)}.")
    anchor = one_of(next(iter(methods)) if reference is None else reference, methods, "reference")
    rows = [_run(name, methods[name], cases, chosen, progress) for name in methods]
    base = next(row for row in rows if row.method == anchor)
    compared = tuple(row if row is base else paired(row, base) for row in rows)
    return Comparison(anchor, tuple(case.name for case in cases), chosen, compared)


def _run(
    name: str,
    method: FitPredict,
    cases: Sequence[Case],
    seeds: Sequence[int],
    progress: Callable[[str, str], None] | None,
) -> Row:
    accuracies, seconds = [], []
    for case, seed in zip(cases, seeds, strict=True):
        if progress is not None:
            progress(name, case.name)
        started = time.perf_counter()
        try:
            probabilities = method(case.task, seed)
        except MissingExtraError as error:
            return Row(name, note=str(error))
        seconds.append(time.perf_counter() - started)
        accuracies.append(_accuracy(name, probabilities, case))
    return measured(name, accuracies, seconds)


def measured(
    name: str, values: Sequence[float], seconds: Sequence[float], note: str | None = None
) -> Row:
    """A row of what a method did on each split: mean, sample standard deviation, mean time."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    mean = float(np.mean(values))
    return Row(name, tuple(values), mean, std, float(np.mean(seconds)), note=note)


def _accuracy(name: str, probabilities: NDArray[np.float64], case: Case) -> float:
    expected = (case.task.num_instances, case.task.num_classes)
    if np.shape(probabilities) != expected:
        found = np.shape(probabilities)
        raise ConfigError(f"{name} must give probabilities of shape {expected}, found {found}.")
    if not np.isfinite(probabilities).all():
        raise ConfigError(f"{name} must give finite probabilities, found NaN or infinity.")
    return float((probabilities.argmax(axis=1) == case.truth)[case.test].mean())


def paired(row: Row, base: Row) -> Row:
    """The row with its differences to another one; unchanged where one has no figures."""
    if not row.accuracies or not base.accuracies:
        return row
    differences = [a - b for a, b in zip(row.accuracies, base.accuracies, strict=True)]
    low, high = paired_interval(differences)
    return Row(
        **{**asdict(row), "difference": float(np.mean(differences)), "low": low, "high": high}
    )


def render(result: Comparison, title: str | None = None) -> Table:
    """Return the table: accuracy and paired difference in percent, wall time in seconds a split."""
    count = len(result.splits)
    table = Table(title=title, caption=_caption(count), caption_justify="left")
    table.add_column("method")
    table.add_column("accuracy %", justify="right")
    table.add_column(Text(f"less {result.reference}, 95 % interval"), justify="right")
    table.add_column("s a split", justify="right")
    for row in result.rows:
        cells = (row.method, _accuracy_text(row), _difference_text(row), _seconds_text(row))
        # Text, for rich would take the brackets of "difformer[pyg]" as a style and drop them.
        table.add_row(*map(Text, cells))
    return table


def _caption(count: int) -> str:
    if count == 1:
        return "One split: no spread and no interval can be given."
    return f"Mean ± standard deviation over {count} splits; differences are paired by split."


def _accuracy_text(row: Row) -> str:
    if row.mean is None:
        return row.note or "-"
    spread = "" if row.std is None else f" ± {100 * row.std:.1f}"
    return f"{100 * row.mean:.1f}{spread}"


def _difference_text(row: Row) -> str:
    if row.difference is None:
        return ""
    if row.low is None or row.high is None:
        return f"{100 * row.difference:+.1f}"
    return f"{100 * row.difference:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"


def _seconds_text(row: Row) -> str:
    return "" if row.seconds is None else f"{row.seconds:.2f}"
