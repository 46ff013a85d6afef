"""How confident the predictions are, and which rows are the least certain."""

from difformer.report import charts
from difformer.report.blocks import Chart, Grid, Section, Text, left_out
from difformer.report.files import Files
from difformer.report.predictions import BINS, Doubt, Predictions, Tally
from difformer.report.words import count, counted, percent, points

KEY, TITLE = "certainty", "How certain it is"


def certainty(files: Files) -> Section:
    """Return the section; without predictions, the reason."""
    found = files.predictions
    if found is None or not found.everything.rows:
        return left_out(KEY, TITLE, "Left out: the run has saved no predictions.")
    hidden = found.unlabelled.rows > 0
    tally = found.unlabelled if hidden else found.everything
    noun = "unlabelled row" if hidden else "row"
    chart = _chart(tally, noun, len(found.classes))
    return Section(KEY, TITLE, [Text(_words(files, tally)), chart, _doubtful(files, found, tally)])


def _words(files: Files, tally: Tally) -> str:
    words = (
        "Confidence is the probability that the model gives to the class it names. It is "
        f"{percent(tally.mean)} on average"
    )
    accuracy = files.evaluation.metrics.get("accuracy") if files.evaluation else None
    if accuracy is None:
        return f"{words}; whether that is deserved is not known without rows to judge."
    return f"{words}; {percent(accuracy)} of the rows judged above were right."


def _chart(tally: Tally, noun: str, classes: int) -> Chart:
    lowest = min(_possible_from(classes), *(i for i, rows in enumerate(tally.bins) if rows))
    bins = list(range(lowest, BINS))
    rows = [tally.bins[i] for i in bins]
    fullest = max(bins, key=lambda i: tally.bins[i])
    alt = (
        f"Histogram of the confidence of {counted(tally.rows, noun)}; most, "
        f"{count(tally.bins[fullest])}, lie between {_interval(fullest)} %."
    )
    bars: charts.Trace = {
        "type": "bar",
        "x": [100 * (i + 0.5) / BINS for i in bins],
        "y": rows,
        "width": 100 / BINS * 0.94,
        "customdata": [_interval(i) for i in bins],
        "hovertemplate": "%{y:,d} between %{customdata} %<extra></extra>",
        "meta": {"series": 0},
    }
    grid = Grid(
        "Rows by confidence.",
        ("confidence, %", f"{noun}s"),
        [(_interval(i), count(tally.bins[i])) for i in bins],
    )
    caption = f"{counted(tally.rows, noun)} by confidence."
    return Chart(KEY, alt, caption, [bars], _layout(lowest, noun), grid)


def _layout(lowest: int, noun: str) -> dict[str, object]:
    return {
        "height": 320,
        "xaxis": charts.axis("confidence (%)", range=[100 * lowest / BINS, 100], nticks=12),
        "yaxis": charts.axis(f"{noun}s", rangemode="tozero", tickformat=",d", nticks=6),
        "showlegend": False,
        "meta": {"panels": 1},
    }


def _possible_from(classes: int) -> int:
    """Return the first bin that can be filled: the largest of C probabilities is at least 1/C."""
    return int(BINS / classes) if classes > 1 else 0


def _interval(index: int) -> str:
    width = 100 // BINS
    return f"{width * index} and {width * (index + 1)}"


def _doubtful(files: Files, found: Predictions, tally: Tally) -> Grid:
    doubts = found.doubts(tally)
    names = _class_names(files, found)
    caption = f"The {counted(len(doubts), 'row')} that the model is least certain of."
    header = ("row", "prediction", "second choice", "confidence, %", "second, %")
    return Grid(caption, header, [_cells(doubt, names) for doubt in doubts], texts=3)


def _class_names(files: Files, found: Predictions) -> dict[str, str]:
    """Return the class that each probability column stands for, by the column's name."""
    classes = files.overview.classes if files.overview else ()
    fits = len(classes) == len(found.classes)
    return dict(zip(found.classes, classes if fits else found.classes, strict=True))


def _cells(doubt: Doubt, names: dict[str, str]) -> tuple[str, ...]:
    second = names.get(doubt.second, doubt.second) or "–"
    shares = (points(doubt.confidence), points(doubt.second_confidence))
    return (doubt.id, doubt.prediction, second, *shares)
