"""Pieces of plotly figures, as the plain dictionaries that plotly.js reads.

Colours are not here: a trace says in ``meta.series`` which colour of the style sheet it takes, so
that light, dark and printed pages share one figure. ``layout.meta.panels`` tells the page's script
to put two panels side by side, or one above the other where there is little room.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from difformer.report.words import shortened

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
FEW_POINTS = 40  # up to which each is marked
DECADES = 30.0  # a range beyond this factor is easier to read on a logarithmic axis

T = TypeVar("T")
Values = Sequence[float | None]
Trace = dict[str, object]
Axis = dict[str, object]


def line(
    x: Sequence[float], y: Values, name: str, series: int, panel: int = 1, legend: bool = True
) -> Trace:
    """Return a line; gaps of values that were not measured are bridged."""
    kept = [(a, rounded(b)) for a, b in zip(x, y, strict=True) if b is not None]
    marked = len(kept) <= FEW_POINTS
    return {
        "type": "scatter",
        "mode": "lines+markers" if marked else "lines",
        "x": [a for a, _ in kept],
        "y": [b for _, b in kept],
        "name": label(name),
        "legendgroup": str(series),
        "showlegend": legend,
        "xaxis": axis_name("x", panel),
        "yaxis": axis_name("y", panel),
        "line": {"width": 2, "dash": DASHES[series % len(DASHES)]},
        "marker": {"size": 7, "symbol": SYMBOLS[series % len(SYMBOLS)]},
        "meta": {"series": series},
    }


def axis_name(letter: str, panel: int) -> str:
    """Return plotly's name of an axis: x, x2, ..."""
    return letter if panel == 1 else f"{letter}{panel}"


def axis(title: str, **others: object) -> Axis:
    """Return an axis with its title; names and units are ours, never data."""
    return {"title": {"text": title, "standoff": 10}, "automargin": True, **others}


def steps_axis(title: str, values: Sequence[float]) -> Axis:
    """Return an axis of whole numbers."""
    few = len(set(values)) <= 12
    return axis(title, **({"dtick": 1} if few else {"nticks": 8}), tickformat=",d")


def value_axis(title: str, values: Values) -> Axis:
    """Return an axis from 0, or a logarithmic one if the values span many sizes."""
    known = [value for value in values if value is not None]
    if known and min(known) > 0 and max(known) / min(known) > DECADES:
        return axis(f"{title}, log scale", type="log", exponentformat="power", dtick=1)
    return axis(title, rangemode="tozero", exponentformat="power")


def label(text: str) -> str:
    """Return data as a label: short, and with nothing that plotly would read as its markup."""
    plain = " ".join(shortened(text).split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def rounded(value: float | None) -> float | None:
    """Keep six significant digits: more than a chart shows, in half of the space."""
    return None if value is None else float(f"{value:.6g}")


def thinned(items: Sequence[T], most: int) -> list[T]:
    """Return at most ``most`` items, evenly spread, the first and the last among them.

    Example:
        >>> thinned([1, 2, 3, 4, 5, 6, 7], most=3)
        [1, 4, 7]
    """
    if len(items) <= most:
        return list(items)
    last = len(items) - 1
    return [items[round(i * last / (most - 1))] for i in range(most)]


def script_json(value: Mapping[str, object]) -> str:
    """Return JSON that no text inside can lead out of a ``<script>`` element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
