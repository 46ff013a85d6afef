"""Time and memory against N, log-log, as an SVG file: nothing to install, sharp at any size.

Two rows (time, extra memory) of three panels: all pairs without a graph, with a graph or
neighbours, and all pairs by N^2. Ours is a solid line with filled marks, the published form dashed
with open ones, other encoders dotted; a method and its published form share a colour (Okabe and
Ito's, which colour-blind people can tell apart). Names stand at the ends of the lines.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from difformer.experiments.bench.cases import METHODS, Method
from difformer.experiments.bench.result import Result, Row
from difformer.experiments.bench.table import seconds, size_of

PANELS = {
    "linear": "All pairs, linear path",
    "graph": "Graph or neighbours",
    "quadratic": "All pairs, N² rates",
}
LEFT_OUT = (
    "simple-dropout",
    "published-simple-dropout",
)  # they lie on others; the tables have them
COLOURS = {
    "simple": "#0072b2",
    "official": "#d55e00",
    "gps": "#5a5a5a",
    "simple-graph": "#0072b2",
    "official-graph": "#d55e00",
    "sgformer": "#5a5a5a",
    "graph": "#009e73",
    "gcn": "#8c6d00",
    "local": "#b0478a",
    "local-noise": "#56b4e9",
    "sigmoid": "#0072b2",
}
DASHES = {"ours": "", "published": "7 4", "peer": "2 3"}
WIDTH, HEIGHT = 250, 230  # of a panel's plot, px
LEFT, GAP, TOP, BETWEEN = 64, 256, 72, 84
LINE = 14  # px between two names
Value = Callable[[Row], float | None]


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis: values from ``low`` to ``high`` over ``length`` px."""

    low: float
    high: float
    length: float

    def at(self, value: float) -> float:
        """Px from the low end."""
        whole = math.log10(self.high / self.low)
        return self.length * math.log10(value / self.low) / whole

    def ticks(self, few: int = 3) -> list[float]:
        """Powers of ten within; where they are fewer than ``few``, 2 and 5 times them too."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decades = [10.0**k for k in range(first, last + 1)]
        finer = [factor * decade for decade in decades for factor in (1, 2, 5)]
        within = [value for value in decades if self.low <= value <= self.high]
        return [v for v in finer if self.low <= v <= self.high] if len(within) < few else within


@dataclass(frozen=True)
class Curve:
    """Points of one method."""

    method: Method
    points: tuple[tuple[int, float], ...]

    @property
    def colour(self) -> str:
        """Shared with the method that it is the published form of."""
        owner = self.method.name.removeprefix("published-")
        return COLOURS.get(owner, "#000000")


def picture(result: Result) -> str:
    """The whole SVG."""
    kept = [name for name in PANELS if _curves(result, name, _time)]
    parts = [_heading(result)]
    for row, (value, unit, title) in enumerate(_MEASURES):
        for column, panel in enumerate(kept):
            x, y = LEFT + column * (WIDTH + GAP), TOP + row * (HEIGHT + BETWEEN)
            curves = _curves(result, panel, value)
            if curves:
                drawn = _panel(curves, unit, f"{PANELS[panel]}: {title}")
                parts.append(f'<g transform="translate({x},{y})">{drawn}</g>')
    width = max(2, len(kept)) * (WIDTH + GAP)
    height = TOP + 2 * (HEIGHT + BETWEEN) - 24
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#222">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>\n"])


def _time(row: Row) -> float | None:
    return row.median


def _memory(row: Row) -> float | None:
    # Below a few MB the allocator decides, and on a logarithmic axis that would fill the panel.
    return float(row.extra) if row.extra and row.extra > 1e6 else None


_MEASURES: tuple[tuple[Value, Callable[[float], str], str], ...] = (
    (_time, seconds, "time of a training step"),
    (_memory, size_of, "extra memory of a step"),
)


def _heading(result: Result) -> str:
    machine = result.machine
    where = machine.accelerators[0] if result.settings.device == "cuda" else machine.cpu
    title = f"One training step, {result.settings.layers} layers, float32"
    under = f"{where}, {result.threads} threads, {result.started:%Y-%m-%d}. "
    under += "Solid: difformer; dashed: the published form; dotted: torch_geometric."
    return (
        f'<text x="{LEFT}" y="20" font-size="16" font-weight="bold">{escape(title)}</text>'
        f'<text x="{LEFT}" y="38">{escape(under)}</text>'
    )


def _curves(result: Result, panel: str, value: Value) -> list[Curve]:
    found = []
    for method in METHODS.values():
        rows = [row for row in result.rows if row.method == method.name]
        points = [(row.size, got) for row in rows if (got := value(row)) is not None]
        if points and method.panel == panel and method.name not in LEFT_OUT:
            found.append(Curve(method, tuple(sorted(points))))
    return found


def _panel(curves: Sequence[Curve], unit: Callable[[float], str], title: str) -> str:
    sizes = [n for curve in curves for n, _ in curve.points]
    values = [v for curve in curves for _, v in curve.points]
    x = Scale(*_roomy(min(sizes), max(sizes), 1.25), WIDTH)
    y = Scale(*_roomy(min(values), max(values), 1.5), HEIGHT)
    parts = [f'<text x="0" y="-10" font-weight="bold">{escape(title)}</text>']
    parts += [_x_tick(x, value) for value in x.ticks(few=1)]
    parts += [_y_tick(y, value, unit) for value in y.ticks()]
    parts.append(f'<path d="M0,0V{HEIGHT}H{WIDTH}" fill="none" stroke="#222"/>')
    middle, below = WIDTH / 2, HEIGHT + 36
    parts.append(f'<text x="{middle}" y="{below}" text-anchor="middle">rows N</text>')
    ends = [HEIGHT - y.at(curve.points[-1][1]) for curve in curves]
    places = spaced(ends, LINE, HEIGHT)
    for curve, end, place in zip(curves, ends, places, strict=True):
        parts.append(_drawn(curve, x, y, end, place))
    return "".join(parts)


def _roomy(low: float, high: float, least: float) -> tuple[float, float]:
    """Ends of an axis a little outside the data, and never less than a decade apart."""
    low, high = low / least, high * least
    if high / low < 11:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(11), middle * math.sqrt(11)
    return low, high


def _x_tick(x: Scale, value: float) -> str:
    at = x.at(value)
    return (
        f'<path d="M{at:.1f},0V{HEIGHT}" stroke="#e4e4e4"/><text x="{at:.1f}" y="{HEIGHT + 18}" '
        f'text-anchor="middle">{value:,.0f}</text>'
    )


def _y_tick(y: Scale, value: float, unit: Callable[[float], str]) -> str:
    at = HEIGHT - y.at(value)
    return (
        f'<path d="M0,{at:.1f}H{WIDTH}" stroke="#e4e4e4"/>'
        f'<text x="-6" y="{at + 4:.1f}" text-anchor="end">{escape(_plain(unit(value)))}</text>'
    )


def _plain(text: str) -> str:
    """A round number without its zeros after the point.

    Example:
        >>> _plain("10.0 ms"), _plain("1.00 s"), _plain("100 MB")
        ('10 ms', '1 s', '100 MB')
    """
    number, unit = text.split(" ")
    return f"{float(number):g} {unit}"


def _drawn(curve: Curve, x: Scale, y: Scale, end: float, place: float) -> str:
    spots = [(x.at(n), HEIGHT - y.at(value)) for n, value in curve.points]
    path = "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in spots)
    family, colour = curve.method.family, curve.colour
    stroke = f'stroke="{colour}" stroke-width="2" fill="none"'
    fill = colour if family == "ours" else "#fff"
    marks = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{fill}" stroke="{colour}"/>'
        for a, b in spots
    )
    lead = f"M{spots[-1][0] + 5:.1f},{end:.1f}L{WIDTH + 8},{place:.1f}"
    return (
        f'<path d="{path}" {stroke} stroke-dasharray="{DASHES[family]}"/>{marks}'
        f'<path d="{lead}" stroke="{colour}" stroke-width="0.6" fill="none"/>'
        f'<text x="{WIDTH + 11}" y="{place + 4:.1f}" fill="{colour}">'
        f"{escape(_name(curve.method))}</text>"
    )


def _name(method: Method) -> str:
    return method.label.replace(", published form", ", published")


def spaced(wanted: Sequence[float], least: float, height: float) -> list[float]:
    """Places near the wanted ones, at least ``least`` apart, in the same order, from 0 to height.

    Example:
        >>> spaced([50.0, 52.0, 90.0], 14, 100)
        [44.0, 58.0, 90.0]
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[tuple[list[int], float]] = []  # members, and where their middle wants to be
    for index in order:
        blocks.append(([index], wanted[index]))
        while len(blocks) > 1 and _touch(blocks[-2], blocks[-1], least, height):
            (one, _), (two, _) = blocks[-2:]
            members = one + two
            blocks[-2:] = [(members, sum(wanted[i] for i in members) / len(members))]
    places = [0.0] * len(wanted)
    for members, middle in blocks:
        first = _first(members, middle, least, height)
        for offset, index in enumerate(members):
            places[index] = first + offset * least
    return places


def _first(members: list[int], middle: float, least: float, height: float) -> float:
    span = (len(members) - 1) * least
    return max(0.0, min(middle - span / 2, height - span))


def _touch(
    one: tuple[list[int], float], two: tuple[list[int], float], least: float, height: float
) -> bool:
    last = _first(*one, least, height) + (len(one[0]) - 1) * least
    return _first(*two, least, height) - last < least
