"""A cell's record beside what the papers print, as a table on the screen."""

from rich.table import Table
from rich.text import Text

from difformer.experiments.harness.recipe import Printed, Recipe
from difformer.experiments.record import Figure, Record


def table(recipe: Recipe, record: Record) -> Table:
    """Ours, its paired difference to the first row, the paper, the released code; then peers."""
    first = record.figures[0].label
    shown = Table(title=recipe.title, caption=record.protocol, caption_justify="left")
    for name in ("row", "ours"):
        shown.add_column(name, justify="left" if name == "row" else "right")
    shown.add_column(Text(f"less {first}, 95 % interval"), justify="right")
    for name in ("paper", "released code", "s a run"):
        shown.add_column(name, justify="right")
    entries = {entry.label: entry for entry in recipe.entries}
    for figure in record.figures:
        entry = entries[figure.label]
        seconds = "" if figure.seconds is None else f"{figure.seconds:.1f}"
        cells = (figure.label, value(figure), difference(figure))
        _add(shown, *cells, printed(entry.paper), printed(entry.released), seconds)
    for peer in recipe.peers:
        _add(shown, peer.label, "", "", printed(peer), "", "")
    return shown


def _add(shown: Table, *cells: str) -> None:
    # Text, for rich would take the brackets of "difformer[pyg]" as a style and drop them.
    shown.add_row(*map(Text, cells))


def value(figure: Figure) -> str:
    """Mean and spread, or why there is none."""
    if figure.value is None:
        return figure.note or "-"
    spread = "" if figure.std is None else f" ± {digits(figure.std, figure)}"
    return f"{digits(figure.value, figure)}{spread}"


def difference(figure: Figure) -> str:
    """Mean paired difference and its interval."""
    if figure.difference is None:
        return ""
    ends = ""
    if figure.low is not None and figure.high is not None:
        low, high = (digits(end, figure, "+") for end in (figure.low, figure.high))
        ends = f" [{low}, {high}]"
    return f"{digits(figure.difference, figure, '+')}{ends}"


def digits(number: float, figure: Figure, sign: str = "") -> str:
    """Percent with two decimals; errors below ten with four, for they may be small.

    Example:
        >>> digits(0.5593, Figure(label="a", metric="MSE"))
        '0.5593'
        >>> digits(1.6e-2, Figure(label="a", metric="accuracy %"))
        '0.02'
    """
    if "%" in figure.metric or abs(figure.value or 0.0) >= 10:
        return f"{number:{sign}.2f}"
    small = 0 < abs(figure.value or 0.0) < 1e-3
    return f"{number:{sign}.2g}" if small else f"{number:{sign}.4f}"


def printed(found: Printed | None) -> str:
    """Somebody else's figure with its trust mark."""
    if found is None:
        return ""
    note = f", {found.note}" if found.note else ""
    return f"{found.figure} ({found.trust}{note})"
