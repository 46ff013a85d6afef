"""How good the predictions are on rows whose labels were hidden: figures, confusions, classes."""

from collections.abc import Iterator

from difformer.report.blocks import Block, Cell, Grid, HeatMap, Section, Text, Tiles, left_out
from difformer.report.files import Files
from difformer.report.saved import Evaluation
from difformer.report.words import count, counted, figure, percent, points, shortened
from difformer.training.metrics import NAMES, SHARES

KEY, TITLE = "evaluation", "How good it is"
MOST_CLASSES = 30  # a larger matrix is no picture any more
MOST_CONFUSIONS = 20
LONGEST_NAME = 80  # characters; every cell of the heat map repeats two


def evaluation(files: Files) -> Section:
    """Return the section; without an evaluation, the reason."""
    judged = files.evaluation
    if judged is None or not judged.count:
        reason = "Left out: no row with a known label was kept from the training to be judged."
        return left_out(KEY, TITLE, reason)
    blocks: list[Block] = [Text(judged.how), Tiles(_tiles(judged))]
    many = len(judged.classes) > MOST_CLASSES
    blocks.append(_largest_confusions(judged) if many else _heat_map(judged))
    blocks.append(_classes(judged, many))
    return Section(KEY, TITLE, blocks)


def _tiles(judged: Evaluation) -> list[tuple[str, str]]:
    known = {key: value for key, value in judged.metrics.items() if value is not None}
    tiles = [(_name(key), _value(key, value)) for key, value in known.items()]
    return [*tiles, ("rows judged", count(judged.count))]


def _name(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def _value(metric: str, value: float) -> str:
    return percent(value) if metric in SHARES else figure(value, 3)


def _heat_map(judged: Evaluation) -> HeatMap:
    rows = [_cells(row) for row in judged.confusion]
    caption = (
        "Confusion matrix. Rows are true classes, columns predicted ones; each cell counts rows "
        "and shades their share of the true class."
    )
    names = [shortened(name, LONGEST_NAME) for name in judged.classes]
    return HeatMap(caption, names, rows)


def _cells(row: tuple[int, ...]) -> list[Cell]:
    total = sum(row)
    shares = [number / total if total else None for number in row]
    return [
        Cell(count(number), None if share is None else round(share, 3), percent(share, 0))
        for number, share in zip(row, shares, strict=True)
    ]


def _largest_confusions(judged: Evaluation) -> Block:
    errors = sorted(_errors(judged), reverse=True)[:MOST_CONFUSIONS]
    if not errors:
        return Text("No row was confused.")
    sizes = [sum(row) for row in judged.confusion]
    rows = [
        (judged.classes[true], judged.classes[guess], count(size), points(size / sizes[true]))
        for size, true, guess in ((size, -i, -j) for size, i, j in errors)
    ]
    caption = (
        f"The largest confusions; a matrix of {counted(len(judged.classes), 'class', 'classes')} "
        "would not be readable."
    )
    return Grid(caption, ("true class", "predicted as", "rows", "% of the class"), rows, texts=2)


def _errors(judged: Evaluation) -> Iterator[tuple[int, int, int]]:
    """Sizes with negated places, so that of equals the earlier comes first in falling order."""
    for true, row in enumerate(judged.confusion):
        for guess, size in enumerate(row):
            if size and true != guess:
                yield size, -true, -guess


def _classes(judged: Evaluation, many: bool) -> Grid:
    rows = [_class_row(judged, index) for index in range(len(judged.classes))]
    caption = "Each class. Precision: how many of those predicted are right; recall: how many of "
    caption += "the true ones are found. In %."
    if many:
        rows = [row for row in rows if row[2] is not None]
        rows = sorted(rows, key=lambda row: row[2] or 0.0)[:MOST_CLASSES]
        caption += f" Shown are the {len(rows)} classes with the lowest recall."
    texts = [
        (name, size, points(precision), points(recall)) for name, size, recall, precision in rows
    ]
    return Grid(caption, ("class", "rows", "precision", "recall"), texts)


def _class_row(judged: Evaluation, index: int) -> tuple[str, str, float | None, float | None]:
    right = judged.confusion[index][index]
    true = sum(judged.confusion[index])
    guessed = sum(row[index] for row in judged.confusion)
    recall = right / true if true else None
    precision = right / guessed if guessed else None
    return judged.classes[index], count(true), recall, precision
