"""CSV and Parquet files as tables of named columns, nothing interpreted yet.

A CSV file is read as texts: what a column means is decided later, from all of its cells. Parquet
keeps its types. Files that are larger than memory come in parts. Every failure is a `DataError` of
one sentence that names the file.
"""

import csv
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from difformer.errors import DataError

ArrowTable: TypeAlias = Any  # pyarrow ships no types
PathLike: TypeAlias = str | Path

_CSV = (".csv", ".tsv", ".txt")
_PARQUET = (".parquet", ".pq")
_DELIMITERS = (",", ";", "\t", "|")
_MAX_COLUMNS = 20_000
_MAX_BLOCK = (1 << 31) - 1  # bytes; Arrow counts them in 32 bits
PART = 1 << 23  # bytes of a file that are read at a time where it comes in parts
_CELL = 16  # bytes that a cell of a Parquet file is taken for


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of equal length, and the file they came from.

    Parameters
    ----------
    data : pyarrow.Table
        Columns with unique names; all texts if the file is a CSV.
    path : str
        The file, for messages.
    delimiter : str, default ""
        What separates the cells of a CSV file; empty for Parquet.
    first : int, default 0
        Number of the first row in the file, where this is a part of it.
    whole : frozenset of str, optional
        Columns of which all cells in the file are whole numbers; None: the cells here tell.
    """

    data: ArrowTable
    path: str
    delimiter: str = ""
    first: int = 0
    whole: frozenset[str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns in the order of the file."""
        return tuple(self.data.column_names)

    @property
    def num_rows(self) -> int:
        """Number of rows below the header."""
        return int(self.data.num_rows)

    def place(self, row: int) -> str:
        """Say where a row (from 0) stands as a person counts: CSV lines with the header as 1."""
        row += self.first
        if not self.delimiter:
            return f"row {row + 1}"
        return f"line {_line_of(self.path, self.delimiter, row)}"

    def require(self, name: str, what: str) -> str:
        """Return ``name`` if there is such a column; otherwise a `DataError` lists the columns."""
        if name in self.names:
            return name
        raise DataError(
            f"{self.path} has no column {name!r} for {what}: {_listing(name, self.names)}."
        )


def read_table(path: PathLike) -> Table:
    """Read a CSV or Parquet file.

    Parameters
    ----------
    path : str or Path
        A file that ends in .csv, .tsv or .txt (UTF-8, first line the names of the columns,
        separated by comma, semicolon, tab or bar), or in .parquet or .pq.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        If there is no such file, or it is no table, has no rows, has columns without a name or
        of one name, rows of another length, or bytes that are not UTF-8.

    Notes
    -----
    The whole file is held in memory, about its size in bytes. Blank lines are skipped.
    """
    (table,) = read_parts(path, part=None)
    return table


def read_parts(
    path: PathLike, part: int | None = PART, columns: Sequence[str] | None = None
) -> Iterator[Table]:
    """Read a CSV or Parquet file a part at a time.

    Parameters
    ----------
    path : str or Path
        As in `read_table`.
    part : int, optional
        Bytes of a part, about. None: the whole file at once.
    columns : sequence of str, optional
        Read these alone.

    Yields
    ------
    Table
        Rows in the order of the file; at least one.

    Raises
    ------
    DataError
        As `read_table`, and if a cell is longer than a part; what is wrong in a later part is
        found when it is read.

    Notes
    -----
    Memory O(part).
    """
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{file} must be a CSV or Parquet file, found a folder.")
    try:
        size = file.stat().st_size
    except (OSError, ValueError):
        raise DataError(f"{file} must be a CSV or Parquet file, found no such file.") from None
    if not size:
        raise DataError(f"{file} must hold a table, found an empty file.")
    first = 0
    for table in _reader(file)(file, part, columns):
        if table.num_rows:
            yield replace(table, first=first)
        first += table.num_rows
    if first == 0:
        raise DataError(f"{file} must have rows, found nothing but the names of the columns.")


def _reader(
    file: Path,
) -> Callable[[Path, int | None, Sequence[str] | None], Iterator[Table]]:
    suffix = file.suffix.lower()
    if suffix in _CSV:
        return _read_csv
    if suffix in _PARQUET:
        return _read_parquet
    known = ", ".join(_CSV + _PARQUET)
    raise DataError(f"{file} must end in one of {known}, found {suffix or 'no ending'!r}.")


def _read_csv(file: Path, part: int | None, columns: Sequence[str] | None) -> Iterator[Table]:
    names, delimiter = _read_header(file)
    wrong_rows: list[Any] = []

    def remember(row: Any) -> str:
        wrong_rows.append(row)
        return "skip"

    options = {
        # One thread, so that a wrong row knows its number.
        "read_options": pa_csv.ReadOptions(
            column_names=list(names),
            skip_rows_after_names=1,
            use_threads=False,
            block_size=_block(file) if part is None else part,
        ),
        "parse_options": pa_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember
        ),
        "convert_options": pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=False,
            include_columns=None if columns is None else list(columns),
        ),
    }
    try:
        for data in (
            [pa_csv.read_csv(file, **options)] if part is None else _streamed(file, options)
        ):
            if wrong_rows:
                break
            yield Table(data, str(file), delimiter)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{file} must be a CSV file in UTF-8: {_sentence(error)}.") from None
    if wrong_rows:
        row = wrong_rows[0]
        raise DataError(
            f"{file} must have {row.expected_columns} cells in each row as in its first line, "
            f"found {row.actual_columns} in {_place_of_wrong(file, delimiter, row)}."
        )


def _streamed(file: Path, options: dict[str, Any]) -> Iterator[ArrowTable]:
    with pa_csv.open_csv(file, **options) as batches:
        for batch in batches:
            yield pa.table(batch)


def _block(file: Path) -> int:
    """The whole file in one block if it fits: Arrow refuses a cell longer than a block."""
    return min(max(file.stat().st_size + 1, 1 << 16), _MAX_BLOCK)


def _read_header(file: Path) -> tuple[tuple[str, ...], str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = next((line for line in lines if line.strip("\r\n")), "")
            delimiter = _delimiter(first, file)
            lines.seek(0)
            records = csv.reader(lines, delimiter=delimiter)
            names = next((row for row in records if row), [])
            empty = bool(names) and not _has_more(records)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} must be a CSV file in UTF-8: {_sentence(error)}.") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read: {_sentence(error)}.") from None
    checked = _checked_names([name.strip() for name in names], file)
    if empty:
        raise DataError(f"{file} must have rows, found nothing but the names of the columns.")
    return checked, delimiter


def _has_more(records: Iterator[list[str]]) -> bool:
    try:
        return any(records)
    except (csv.Error, UnicodeDecodeError):
        return True  # for the reader of the cells to judge


def _delimiter(header: str, file: Path) -> str:
    if file.suffix.lower() == ".tsv":
        return "\t"
    # max() returns the first of equals: a comma where nothing separates.
    return max(_DELIMITERS, key=header.count)


def _checked_names(names: list[str], file: Path) -> tuple[str, ...]:
    if not names:
        raise DataError(f"{file} must hold a table, found only blank lines.")
    if len(names) > _MAX_COLUMNS:
        raise DataError(f"{file} must have at most {_MAX_COLUMNS:,} columns, found {len(names):,}.")
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                f"{file} must name every column, column {number} of {len(names)} has no name: "
                "if it is a row index, drop it or name it id."
            )
        if name in seen:
            raise DataError(f"{file} must name each column once, found {name[:40]!r} twice.")
        seen.add(name)
    return tuple(names)


def _read_parquet(file: Path, part: int | None, columns: Sequence[str] | None) -> Iterator[Table]:
    try:
        with pa_parquet.ParquetFile(file) as parquet:
            # pandas writes its row index as a column of this name; it is no feature.
            names = [n for n in parquet.schema_arrow.names if not n.startswith("__index_level_")]
            _checked_names(names, file)
            wanted = [name for name in names if columns is None or name in columns]
            if part is None:
                yield Table(parquet.read(wanted), str(file))
                return
            rows = max(1, part // (_CELL * len(names)))
            for batch in parquet.iter_batches(rows, columns=wanted):
                yield Table(pa.Table.from_batches([batch]), str(file))
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{file} must be a Parquet file: {_sentence(error)}.") from None


def csv_lines(path: str, delimiter: str) -> Iterator[int]:
    """Give the line number on which each record begins, header first; blank lines are skipped."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        before = 0
        for record in reader:
            if record:
                yield before + 1
            before = reader.line_num


def _line_of(path: str, delimiter: str, row: int) -> int:
    """Line of a row (from 0); counted only when a message needs it."""
    try:
        for number, line in enumerate(csv_lines(path, delimiter)):
            if number == row + 1:
                return line
    except (OSError, csv.Error):
        pass
    return row + 2


def _place_of_wrong(file: Path, delimiter: str, row: Any) -> str:
    # Arrow counts records from 1, the header included.
    if row.number is None:
        return "one row"
    return f"line {_line_of(str(file), delimiter, row.number - 2)}"


def _sentence(error: BaseException) -> str:
    """The first line of another library's message, short and without its full stop."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text[:120].rstrip(". ")


def _listing(name: str, names: tuple[str, ...]) -> str:
    """Name the closest column, if any is close, and the first thirty."""
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"the closest is {close[0]!r}, " if close else ""
    return f"{hint}its columns are {', '.join(names[:30])}" + (", ..." if len(names) > 30 else "")
