"""Figures as people read them: cells, and tables on the screen."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from difformer.experiments.bench.cases import METHODS
from difformer.experiments.bench.result import Rate, Ratio, Result, Row

HEADS = (
    "method",
    "a step",
    "range",
    "peak",
    "extra",
    "once",
    "of limit",
    "/ published",
    "/ torch_geometric",
)


SHORT = 1e-3  # seconds; less is not shown as done once


def seconds(value: float | None) -> str:
    """Three significant digits, in s or ms.

    Example:
        >>> seconds(0.01234), seconds(1.234), seconds(None)
        ('12.3 ms', '1.23 s', '')
    """
    if value is None:
        return ""
    return f"{significant(1000 * value)} ms" if value < 1 else f"{significant(value)} s"


def size_of(value: float | None) -> str:
    """Bytes in MB or GB, powers of ten.

    Example:
        >>> size_of(512_345_678), size_of(3_040_000_000)
        ('512 MB', '3.04 GB')
    """
    if value is None:
        return ""
    return f"{value / 1e6:.0f} MB" if value < 1e9 else f"{significant(value / 1e9)} GB"


def significant(value: float) -> str:
    """Three significant digits without an exponent.

    Example:
        >>> significant(1234.5), significant(99.99), significant(0.012345)
        ('1234', '100', '0.0123')
    """
    rounded = float(f"{value:.3g}")
    return f"{value:.0f}" if rounded >= 100 or value == 0 else f"{rounded:#.3g}"


def share(value: float | None) -> str:
    """A fraction in percent."""
    return "" if value is None else f"{100 * value:.0f} %"


def spread(values: Sequence[float]) -> str:
    """Smallest to largest, in s or ms.

    Example:
        >>> spread([0.02, 0.0123]), spread([0.9, 1.2])
        ('12.3 to 20.0 ms', '900 ms to 1.20 s')
    """
    if not values:
        return ""
    low, high = seconds(min(values)), seconds(max(values))
    shared = low.split()[1] == high.split()[1]
    return f"{low.split()[0] if shared else low} to {high}"


def ratio(found: Ratio | None) -> str:
    """Time and memory of ours over another's.

    Example:
        >>> ratio(Ratio(method="a", other="b", size=1, time=0.5, low=0.4, high=0.6, memory=None))
        '0.50'
    """
    if found is None:
        return ""
    return f"{found.time:.2f}" + ("" if found.memory is None else f", {found.memory:.2f}")


def machine_line(rate: Rate) -> str:
    """The machine's limit at one size, in words."""
    return (
        f"{rate.size:,} rows. The machine: product {rate.flops_a_second / 1e9:.0f} GFLOP/s, "
        f"copy {rate.bytes_a_second / 1e9:.1f} GB/s, {rate.threads} threads."
    )


def size_table(rows: Sequence[Row], ratios: Sequence[Ratio]) -> Table:
    """All rows of one size that ran, each published form below the method that it is a form of.

    The last columns are ratios of time and, after the comma, of extra memory.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, head in enumerate(HEADS):
        table.add_column(head, justify="left" if index in (0, len(HEADS) - 1) else "right")
    for row in rows:
        if row.note is None:
            table.add_row(*map(Text, _cells(row, ratios)))
    return table


def notes(rows: Sequence[Row]) -> list[str]:
    """What did not run, and why, one line each."""
    return [f"  {row.label}: {row.note}" for row in rows if row.note is not None]


def _cells(row: Row, ratios: Sequence[Ratio]) -> tuple[str, ...]:
    own = [found for found in ratios if found.method == row.method and found.size == row.size]
    plain = [found for found in own if METHODS[found.other].family == "published"]
    peers = [found for found in own if METHODS[found.other].family == "peer"]
    return (
        "  published form" if row.family == "published" else row.label,
        seconds(row.median),
        spread(row.seconds),
        size_of(row.peak),
        size_of(row.extra),
        seconds(row.once) if row.once and row.once > SHORT else "",
        share(row.share_of_limit),
        "; ".join(map(ratio, plain)),
        "; ".join(f"{ratio(found)} of {METHODS[found.other].label.split()[0]}" for found in peers),
    )


def slope_table(result: Result) -> Table:
    """How time and extra memory grow with N."""
    table = Table("method", "time ~ N^", "memory ~ N^", box=None, pad_edge=False)
    for slope in result.slopes:
        table.add_row(METHODS[slope.method].label, power(slope.time), power(slope.memory))
    return table


def power(value: float | None) -> str:
    """An exponent."""
    return "" if value is None else f"{value:.2f}"
