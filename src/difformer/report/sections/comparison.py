"""Other methods on the same splits: accuracies, and paired differences with their intervals."""

from collections.abc import Sequence

from difformer.report import charts
from difformer.report.blocks import Chart, Grid, Section, Text, left_out
from difformer.report.files import Files
from difformer.report.saved import Comparison, MethodRow
from difformer.report.words import MISSING, counted, points, shortened

KEY, TITLE = "comparison", "Beside other methods"
ROW_HEIGHT, MARGINS = 38, 90  # pixels


def comparison(files: Files) -> Section:
    """Return the section; without a comparison, the reason."""
    found = files.comparison
    if found is None or not found.rows:
        return left_out(KEY, TITLE, "Left out: no other method was run on the same data.")
    if not any(row.mean is not None for row in found.rows):
        return Section(KEY, TITLE, [Text("No method could be measured."), _grid(found)])
    return Section(KEY, TITLE, [Text(_words(found)), _grid(found), _chart(found)])


def _words(found: Comparison) -> str:
    splits = counted(len(found.splits), "split")
    if len(found.splits) < 2:
        return f"Accuracy on {splits}: no spread and no interval can be given."
    return (
        f"Mean accuracy over {splits}. Differences are a method less {found.reference}, paired by "
        "split, with a 95\u00a0% t interval; they speak of splits of this one data set."
    )


def _grid(found: Comparison) -> Grid:
    header: tuple[str, ...] = (
        "method",
        "accuracy, %",
        "standard deviation, points",
        f"less {shortened(found.reference)}, points",
        "95 % interval, points",
    )
    rows = [_cells(row) for row in found.rows]
    if not any(row.note for row in found.rows):
        return Grid("Methods side by side.", header, rows)
    noted = [(*cells, row.note or "") for cells, row in zip(rows, found.rows, strict=True)]
    return Grid("Methods side by side.", (*header, "note"), noted, remarks=1)


def _cells(row: MethodRow) -> tuple[str, ...]:
    interval = MISSING
    if row.low is not None and row.high is not None:
        interval = f"{points(row.low, sign=True)} to {points(row.high, sign=True)}"
    difference = points(row.difference, sign=True)
    return (row.method, points(row.mean), points(row.std), difference, interval)


def _chart(found: Comparison) -> Chart:
    rows = [row for row in found.rows if row.mean is not None]
    anchor = next((row.mean for row in rows if row.method == found.reference), None)
    best = max(rows, key=lambda row: row.mean or 0.0)
    alt = (
        "The table above as dots with intervals: mean accuracy of "
        f"{counted(len(rows), 'method')}; the highest is {best.method} with {points(best.mean)} %."
    )
    return Chart(
        key=KEY,
        alt=alt,
        caption=_caption(found, anchor),
        data=[_dots(rows, found.reference, anchor)],
        layout=_layout(rows, anchor),
    )


def _caption(found: Comparison, anchor: float | None) -> str:
    if anchor is None or not any(row.low is not None for row in found.rows):
        return "Dots are mean accuracies."
    return (
        f"Dots are mean accuracies; the vertical line is that of {found.reference}. A bar is the "
        "95\u00a0% interval of the paired difference: where it keeps clear of the line, the choice "
        "of splits is an unlikely reason for the difference."
    )


def _dots(rows: Sequence[MethodRow], reference: str, anchor: float | None) -> charts.Trace:
    symbols = ["diamond" if row.method == reference else "circle" for row in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [100 * (row.mean or 0.0) for row in rows],
        "y": list(range(len(rows))),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_reach(row, row.high, anchor) for row in rows],
            "arrayminus": [_reach(row, row.low, anchor) for row in rows],
            "thickness": 2,
            "width": 5,
        },
        "customdata": [charts.label(row.method) for row in rows],
        "hovertemplate": "%{customdata}: %{x:.1f} %<extra></extra>",
        "marker": {"size": 11, "symbol": symbols},
        "meta": {"series": 0},
    }


def _reach(row: MethodRow, end: float | None, anchor: float | None) -> float:
    """Return how far the interval reaches from the dot, in points."""
    if end is None or row.difference is None or anchor is None:
        return 0.0
    return 100 * abs(end - row.difference)


def _layout(rows: Sequence[MethodRow], anchor: float | None) -> dict[str, object]:
    names = [charts.label(row.method) for row in rows]
    places = {"tickvals": list(range(len(rows))), "ticktext": names}
    line = {"type": "line", "x0": 100 * (anchor or 0), "x1": 100 * (anchor or 0), "yref": "paper"}
    return {
        "height": MARGINS + ROW_HEIGHT * len(rows),
        "xaxis": charts.axis("accuracy (%)"),
        "yaxis": {**places, "range": [len(rows) - 0.5, -0.5], "automargin": True},
        "shapes": [] if anchor is None else [{**line, "y0": 0, "y1": 1, "layer": "below"}],
        "showlegend": False,
        "meta": {"panels": 1},
    }
