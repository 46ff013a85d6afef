"""Tables of series: wide (a column a node) or long (a row a node and time), with a time column.

Letters: S steps, N nodes.
"""

import re
from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from difformer.data.cells import Cells
from difformer.data.reading import PathLike, Table, read_table
from difformer.data.windows import Floats
from difformer.errors import ConfigError, DataError

TIMES = ("time", "date", "datetime", "timestamp", "ds", "day", "week", "month", "step", "t")
NODES = ("id", "node", "region", "location", "sensor", "series", "unique_id")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMPACT = re.compile(r"(19|20)\d{6}")  # 20240131
REGULAR = 1e-6  # of a step: times that far from a multiple of it are regular
MOST_VALUES = 1 << 28  # of a series: 2 GiB
MOST_GAPS = 0.5  # share of missing steps up to which they are filled in as missing


@dataclass(frozen=True, eq=False)
class SeriesTable:
    """A series as a table told it.

    Parameters
    ----------
    values : float64 ndarray, (S, N)
        NaN where a cell is empty, or a step or row is not there.
    times : float64 ndarray, (S,)
        Rising; days since 1970-01-01 for dates, else numbers.
    nodes : tuple of str
    dated : bool
        Whether times are dates.
    step : float
        Distance of two times: days, or as they come; of ``monthly`` tables, months.
    monthly : bool
        Whether times are the same day of months.
    time, value, node : str or None
        Columns of the file; ``value`` and ``node`` None: the table is wide.
    decisions : tuple of str
        How it was read, a sentence each.
    """

    values: Floats
    times: NDArray[np.float64]
    nodes: tuple[str, ...]
    dated: bool
    time: str
    step: float = 1.0
    monthly: bool = False
    value: str | None = None
    node: str | None = None
    decisions: tuple[str, ...] = ()

    def labels(self, start: int, count: int) -> list[str]:
        """Times of ``count`` steps from number ``start`` on, beyond the end of the table too."""
        found = []
        for number in range(start, start + count):
            beyond = number - len(self.times) + 1
            time = self.times[min(number, len(self.times) - 1)]
            if beyond > 0:
                time = later(float(time), beyond * self.step, self.monthly)
            found.append(written(float(time), self.dated))
        return found

    def place_of(self, time: float) -> float:
        """How many steps after the first time another one is."""
        return float(_distance(np.array([self.times[0], time]), self.monthly)[1] / self.step)


def written(time: float, dated: bool) -> str:
    """A time as people write it.

    Examples
    --------
    >>> written(18262.0, True), written(18262.5, True), written(3.0, False)
    ('2020-01-01', '2020-01-01 12:00', '3')
    """
    if not dated:
        return f"{time:.10g}"
    moment = EPOCH + timedelta(seconds=round(time * 86_400))
    if (moment.hour, moment.minute, moment.second) == (0, 0, 0):
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M}" if not moment.second else f"{moment:%Y-%m-%d %H:%M:%S}"


def later(time: float, steps: float, monthly: bool) -> float:
    """A time so many steps of length 1 later: days (or as it comes), or months.

    Examples
    --------
    >>> written(later(18262.0, 14, True), True)
    '2021-03-01'
    """
    if not monthly:
        return time + steps
    day = EPOCH + timedelta(days=time)
    months = day.year * 12 + day.month - 1 + round(steps)
    year, month = months // 12, months % 12 + 1
    last = monthrange(year, month)[1]
    number = last if _ends_month(day) else min(day.day, last)
    return float((day.replace(year=year, month=month, day=number) - EPOCH).days)


def _ends_month(day: datetime) -> bool:
    return day.day == monthrange(day.year, day.month)[1]


def _distance(times: NDArray[np.float64], monthly: bool) -> NDArray[np.float64]:
    """From the first time to each, in days (or as they come), or in months."""
    if not monthly:
        return np.asarray(times - times[0])
    days = [EPOCH + timedelta(days=float(time)) for time in times]
    months = np.array([day.year * 12 + day.month for day in days], dtype=np.float64)
    return np.asarray(months - months[0])


def _is_monthly(times: NDArray[np.float64]) -> bool:
    """Whether these are the same day of different months, or the last days of them."""
    if float(np.diff(times).min()) < 28 or (times % 1).any():
        return False
    days = [EPOCH + timedelta(days=float(time)) for time in times]
    alike = len({day.day for day in days}) == 1 and days[0].day <= 28
    return alike or all(map(_ends_month, days))


def read_series_table(
    path: PathLike,
    time: str | None = None,
    value: str | None = None,
    node: str | None = None,
    drop: Sequence[str] = (),
    nodes: Sequence[str] | None = None,
    step: float | None = None,
) -> SeriesTable:
    """Read a series from a CSV or Parquet file.

    Parameters
    ----------
    path : str or Path
        See `difformer.data.reading.read_table`.
    time : str, optional
        Column of the times, dates or numbers. Default: the one called time, date, timestamp, ds or
        alike, else the first column if it holds dates.
    value : str, optional
        Column of the values: then the table is long, a row a node and time. Default: it is wide,
        and every other column is a node.
    node : str, optional
        Long tables: column that names the node. Default: the one called id, node, region or alike.
    drop : sequence of str
        Columns to leave out.
    nodes : sequence of str, optional
        The nodes that are wanted, in this order; others are left out.
    step : float, optional
        Distance of two times, if it is known. Default: the smallest in the table.

    Raises
    ------
    DataError
        If a column is missing, a cell is no number, or a time is missing or repeated.
    """
    table = read_table(path)
    for name in drop:
        table.require(name, "--drop")
    time = _time_column(table, time)
    times, dated = _times(Cells(table, time))
    when = _When(time, times, dated, step)
    if value is None:
        return _wide(table, when, [*drop, time], nodes)
    value, node = table.require(value, "the values"), _node_column(table, node)
    return _chosen(_long(table, when, value, node), nodes, table.path)


@dataclass(frozen=True, eq=False)
class _When:
    """The column of times, the time of each row, whether it is a date, and the step if known."""

    name: str
    times: NDArray[np.float64]
    dated: bool
    step: float | None


def _chosen(found: SeriesTable, nodes: Sequence[str] | None, path: str) -> SeriesTable:
    """The wanted nodes alone."""
    if nodes is None:
        return found
    _check_wanted(nodes, found.nodes, path)
    place = {name: at for at, name in enumerate(found.nodes)}
    told = list(found.decisions)
    if left := len(found.nodes) - len(nodes):
        told.append(f"Nodes that were not fitted are left out ({left:,}).")
    values = found.values[:, [place[name] for name in nodes]]
    return replace(found, values=values, nodes=tuple(nodes), decisions=tuple(told))


def _check_wanted(wanted: Sequence[str], found: Sequence[str], path: str) -> None:
    there = set(found)
    if missing := [name for name in wanted if name not in there]:
        raise DataError(f"{path} must have all fitted nodes, found no {missing[0]!r}.")


def _time_column(table: Table, given: str | None) -> str:
    if given is not None:
        return table.require(given, "the times")
    for name in table.names:
        if name.strip().lower() in TIMES:
            return name
    first = table.names[0]
    if Cells(table, first).share("date") == 1.0:
        return first
    raise ConfigError(
        f"{table.path} needs a column of times: name it with --time, found "
        f"{', '.join(map(repr, table.names[:8]))}."
    )


def _node_column(table: Table, given: str | None) -> str:
    if given is not None:
        return table.require(given, "the nodes")
    for name in table.names:
        if name.strip().lower() in NODES:
            return name
    raise ConfigError(
        f"{table.path} is long, for --target is given, and needs a column of nodes: name it with "
        f"--id, found {', '.join(map(repr, table.names[:8]))}."
    )


def _times(cells: Cells) -> tuple[NDArray[np.float64], bool]:
    """Times of the rows, and whether they are dates."""
    if cells.missing.any():
        raise DataError(
            f"{cells.where} must hold a time in each row, found {cells.first(cells.missing)}."
        )
    dated = cells.share("number") < 1.0
    times = cells.parse("date" if dated else "number", feature=False)
    if dated or not _COMPACT.fullmatch(cells.values[0]):
        return times, dated
    compact = _compact(times)
    return (times, False) if compact is None else (compact, True)


def _compact(times: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Days since 1970 of numbers like 20240131; None if one is no date."""
    try:
        days = [datetime.strptime(f"{int(time)}", "%Y%m%d").replace(tzinfo=UTC) for time in times]
    except ValueError:
        return None
    return np.array([(day - EPOCH).days for day in days], dtype=np.float64)


def _wide(
    table: Table, when: _When, apart: Sequence[str], wanted: Sequence[str] | None
) -> SeriesTable:
    time, times, dated = when.name, when.times, when.dated
    nodes = [name for name in table.names if name not in set(apart)]
    told = []
    if wanted is not None:
        _check_wanted(wanted, nodes, table.path)
        if left := len(nodes) - len(wanted):
            told.append(f"Columns that were not fitted are left out ({left:,}).")
        nodes = list(wanted)
    if not nodes:
        raise DataError(f"{table.path} must have a column for each node beside {time!r}.")
    columns = [Cells(table, name) for name in nodes]
    for cells in columns:
        if cells.share("number") == 0.0 and not cells.missing.all():
            raise DataError(
                f"{cells.where} must hold numbers, for each column is a node without --target: "
                f"found {cells.first(~cells.missing)}; a row for each node and time needs --target "
                "(its value) and --id (its node)."
            )
    values = np.stack([cells.parse("number", feature=False) for cells in columns], 1)
    order = np.argsort(times, kind="stable")
    twice = np.flatnonzero(np.diff(times[order]) == 0)
    if len(twice):
        row = int(order[twice[0] + 1])
        raise DataError(
            f"{table.path} must have one row for each time, found "
            f"{written(float(times[row]), dated)} again in {table.place(row)}; a long table needs "
            "--target."
        )
    words = f"wide: column {time!r} is the time, each of the {len(nodes)} others a node"
    found = _regular(values[order], times[order], tuple(nodes), words, when)
    return replace(found, decisions=(*found.decisions, *told))


def _long(table: Table, when: _When, value: str, node: str) -> SeriesTable:
    time, times, dated = when.name, when.times, when.dated
    cells = Cells(table, node)
    if cells.missing.any():
        found = cells.first(cells.missing)
        raise DataError(f"{cells.where} must name a node in each row, found {found}.")
    numbers = Cells(table, value).parse("number", feature=False)
    moments, step = np.unique(times, return_inverse=True)
    nodes = sorted(cells.values, key=_natural)
    place = {name: at for at, name in enumerate(nodes)}
    column = np.array([place[name] for name in cells.values])[cells.codes]
    pair = step * len(nodes) + column
    _, first, count = np.unique(pair, return_index=True, return_counts=True)
    if (count > 1).any():
        again = int(np.flatnonzero(pair == pair[first[count > 1][0]])[1])
        raise DataError(
            f"{table.path} must have one row for each node and time, found node "
            f"{cells.texts()[again]!r} at {written(float(times[again]), dated)} again in "
            f"{table.place(again)}."
        )
    if len(moments) * len(nodes) > MOST_VALUES:
        raise DataError(
            f"{table.path} would be a series of {len(moments):,} times and {len(nodes):,} nodes, "
            f"more than {MOST_VALUES:,} values: is {time!r} the time and {node!r} the node?"
        )
    values = np.full((len(moments), len(nodes)), np.nan)
    values[step, column] = numbers
    words = f"long: {time!r} is the time, {node!r} the node, {value!r} the value"
    series = _regular(values, moments, tuple(nodes), words, when)
    return replace(series, value=value, node=node)


def _natural(text: str) -> list[tuple[int, str]]:
    """So that node 10 follows node 9."""
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _regular(
    values: Floats,
    times: NDArray[np.float64],
    nodes: tuple[str, ...],
    words: str,
    when: _When,
) -> SeriesTable:
    """Steps that are not there become missing values, where times are multiples of a step."""
    told, step = [f"The table is {words}."], when.step or 1.0
    monthly = when.dated and len(times) > 2 and _is_monthly(times)
    if len(times) > 1:
        distance = _distance(times, monthly)
        step = when.step or float(np.diff(distance).min())
        place = distance / step
        whole = np.rint(place).astype(np.int64)
        gaps = int(whole[-1] + 1 - len(times))
        even = np.abs(place - whole).max() <= REGULAR * max(whole[-1], 1) + 1e-3
        if when.step is not None and (not even or len(np.unique(whole)) < len(whole)):
            raise DataError(
                f"Times of {when.name!r} must be whole steps of {step:g} apart, as those that were "
                f"fitted, found {written(float(times[-2]), when.dated)} and then "
                f"{written(float(times[-1]), when.dated)} among others."
            )
        if not even:
            told.append("Times are not evenly spaced: each row counts as one step.")
            step = float(np.median(np.diff(distance)))
        elif gaps > MOST_GAPS * len(times) and when.step is None:
            told.append(f"Most steps are missing ({gaps:,}): each row counts as one step.")
            step = float(np.median(np.diff(distance)))
        elif gaps:
            told.append(f"Steps that are not in the table count as missing ({gaps:,}).")
            full = np.full((whole[-1] + 1, values.shape[1]), np.nan)
            full[whole] = values
            every = [later(float(times[0]), step * at, monthly) for at in range(len(full))]
            values, times = full, np.array(every)
    if missing := int(np.isnan(values).sum()):
        told.append(f"Missing values: {missing:,} of {values.size:,}.")
    return SeriesTable(
        values, times, nodes, when.dated, when.name, step, monthly, decisions=tuple(told)
    )
