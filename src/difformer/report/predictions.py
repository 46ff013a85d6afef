"""``predictions.csv``, read row by row: how confident, and which rows are the least certain."""

import csv
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from difformer.errors import RunError
from difformer.runs.atomic import explained

PREDICTIONS = "predictions.csv"
COLUMNS = ["id", "label", "prediction", "confidence"]
BINS = 20
LEAST = 10


@dataclass(frozen=True)
class Doubt:
    """A row that is hard to tell, with the class that comes second."""

    id: str
    prediction: str
    confidence: float
    second: str
    second_confidence: float | None


@dataclass
class Tally:
    """Confidence of a set of rows: equal bins from 0 to 1, the sum, and the least certain rows."""

    rows: int = 0
    total: float = 0.0
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    least: list[tuple[float, int, list[str]]] = field(default_factory=list)  # a heap: worst on top

    def add(self, confidence: float, row: list[str]) -> None:
        """Count one row."""
        self.rows += 1
        self.total += confidence
        self.bins[min(int(confidence * BINS), BINS - 1)] += 1
        # negated, so that the heap's smallest is the most certain; of equals the earlier row stays
        entry = (-confidence, -self.rows, row)
        if len(self.least) < LEAST:
            heapq.heappush(self.least, entry)
        else:
            heapq.heappushpop(self.least, entry)

    @property
    def mean(self) -> float:
        """Mean confidence."""
        return self.total / self.rows


@dataclass(frozen=True)
class Predictions:
    """All rows of the file, and those without a label."""

    classes: tuple[str, ...]
    everything: Tally
    unlabelled: Tally

    def doubts(self, tally: Tally) -> list[Doubt]:
        """Return the least certain rows of ``tally``, the least certain first."""
        ordered = sorted(tally.least, key=lambda entry: (-entry[0], -entry[1]))
        return [_doubt(row, -negated, self.classes) for negated, _, row in ordered]


def read_predictions(path: Path) -> Predictions | None:
    """Read the file once, in constant memory.

    Returns:
        The tallies, or None if there is no such file.

    Raises:
        RunError: A column is missing, or a line is damaged; the message names the line.
    """
    if not path.exists():
        return None
    try:
        with explained(path, verb="read"), path.open(encoding="utf-8-sig", newline="") as stream:
            return _tallied(csv.reader(stream, strict=True), path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged: {error}.") from error


def _tallied(lines: Iterator[list[str]], path: Path) -> Predictions:
    header = next(lines, [])
    if header[:4] != COLUMNS:
        found = ", ".join(header[:4]) or "nothing"
        raise RunError(f"{path} is damaged: it must begin with {', '.join(COLUMNS)}, not {found}.")
    everything, unlabelled = Tally(), Tally()
    for confidence, row in _rows(lines, len(header), path):
        everything.add(confidence, row)
        if not row[1]:
            unlabelled.add(confidence, row)
    return Predictions(tuple(header[4:]), everything, unlabelled)


def _rows(lines: Iterable[list[str]], width: int, path: Path) -> Iterator[tuple[float, list[str]]]:
    for number, row in enumerate(lines, start=2):
        if not row:
            continue
        if len(row) != width:
            raise RunError(f"{path} is damaged: line {number} has {len(row)} of {width} columns.")
        yield _share(row[3], number, path), row


def _share(text: str, number: int, path: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1.000001:  # single precision may end a little above 1
        raise RunError(f"{path} is damaged: line {number} has the confidence {text[:40]!r}.")
    return min(value, 1.0)


def _doubt(row: list[str], confidence: float, classes: Sequence[str]) -> Doubt:
    rivals = sorted(_probabilities(row[4:], classes), reverse=True)[1:2]
    share, second = rivals[0] if rivals else (None, "")
    return Doubt(row[0], row[2], confidence, second, share)


def _probabilities(cells: Sequence[str], classes: Sequence[str]) -> Iterator[tuple[float, str]]:
    for cell, name in zip(cells, classes, strict=True):
        try:
            yield float(cell), name
        except ValueError:
            continue
