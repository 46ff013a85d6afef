"""The cells of one column: which are missing, as texts, as numbers, as dates.

Each distinct cell is interpreted once, so a long column of few values is cheap. A cell is missing
if it is empty or one of NA, NaN, nan, null, None (blanks around a cell never count), or null in
Parquet. Rows are counted from 0 here; messages count as a person does.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from difformer.data.reading import Table
from difformer.errors import DataError

MISSING = frozenset({"", "NA", "NaN", "nan", "null", "None"})
LARGEST = 1e100  # a number beyond it cannot be standardised safely
_WHOLE = re.compile(r"[+-]?\d+\.0*")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
_TRUTH = {"true": 1.0, "false": 0.0}
_SECONDS_A_DAY = 86_400.0


class Cells:
    """Column ``name`` of ``table``."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name
        self._array = table.data.column(name).combine_chunks()

    @property
    def where(self) -> str:
        """File and column, to begin a message with."""
        return f"{self.table.path}, column {self.name!r}"

    @cached_property
    def _encoded(self) -> tuple[Any, list[str]]:
        """Each cell's place among distinct texts, and these without blanks around them."""
        encoded = _texts(self._array, self.where).dictionary_encode()
        return encoded.indices, [text.strip() for text in encoded.dictionary.to_pylist()]

    @property
    def whole(self) -> bool:
        """Whether all filled cells are whole numbers, perhaps written as 1.0."""
        filled = (text for text in self._encoded[1] if text not in MISSING)
        return all(_WHOLE.fullmatch(text) or text.lstrip("+-").isdigit() for text in filled)

    @cached_property
    def _distinct(self) -> tuple[NDArray[np.int64], list[str]]:
        indices, stripped = self._encoded
        places: dict[str, int] = {}
        codes = [
            -1 if text in MISSING else places.setdefault(short, len(places))
            for text, short in zip(stripped, self._without_zeros(stripped), strict=True)
        ]
        raw = indices.fill_null(len(codes)).to_numpy(zero_copy_only=False)
        return np.array([*codes, -1], dtype=np.int64)[raw], list(places)

    def _without_zeros(self, texts: list[str]) -> list[str]:
        """Write 1.0 as 1 in a column of whole numbers, so that names agree between files."""
        known = self.table.whole
        whole = self.whole if known is None else self.name in known
        return [text.split(".")[0] for text in texts] if whole else texts

    @property
    def codes(self) -> NDArray[np.int64]:
        """Place of each cell's text in `values`, -1 if missing, (N,)."""
        return self._distinct[0]

    @property
    def values(self) -> list[str]:
        """Distinct texts. In a column of whole numbers written as 1.0, that is 1."""
        return self._distinct[1]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Mask of the cells without a value, (N,)."""
        return self.codes < 0

    def texts(self) -> list[str]:
        """Texts of all cells, empty where missing."""
        values = [*self.values, ""]
        return [values[code] for code in self.codes]

    def first(self, wanted: NDArray[np.bool_]) -> str:
        """Place and text of the first row of a mask, for a message."""
        row = int(np.flatnonzero(wanted)[0])
        code = self.codes[row]
        text = repr(self.values[code][:40]) if code >= 0 else "an empty cell"
        return f"{text} in {self.table.place(row)}"

    def share(self, kind: str) -> float:
        """Share of the filled cells that can be read as "number", "bool" or "date"."""
        filled = ~self.missing
        return float((~np.isnan(self._read(kind)))[filled].mean()) if filled.any() else 0.0

    def parse(self, kind: str, feature: bool = True) -> NDArray[np.float64]:
        """Read all cells as one kind: float64 (N,), NaN where missing.

        ``feature`` adds the advice for feature columns to the message.

        Dates become days since 1970-01-01, times without a zone are taken as UTC.

        Raises
        ------
        DataError
            If a filled cell is not of this kind, infinite or larger than 1e100 in size.
        """
        values = self._read(kind)
        with np.errstate(invalid="ignore"):
            bad = ~self.missing & ~(np.abs(values) <= LARGEST)
        if bad.any():
            advice = f", or give --categorical {self.name} if it holds names" if feature else ""
            raise DataError(
                f"{self.where} must hold {_KINDS[kind][1]}, found {self.first(bad)}: correct or "
                f"empty the cell{advice}."
            )
        return values

    def _read(self, kind: str) -> NDArray[np.float64]:
        """Values of all cells; NaN if missing or not of this kind."""
        read = _KINDS[kind][0]
        return np.array([*map(read, self.values), np.nan])[self.codes]


def _texts(array: Any, where: str) -> Any:
    """Any column that can be a feature, as Arrow texts."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    for fits, convert in _CONVERSIONS:
        if fits(kind):
            return convert(array)
    raise DataError(f"{where} must hold numbers, texts, truth values or dates, found {kind}.")


def _float_texts(array: Any) -> Any:
    # repr() gives every digit; Arrow's own text of 1e20 or 0.1f differs between versions.
    values = array.cast(pa.float64()).to_pylist()
    return pa.array([None if v is None or v != v else repr(v) for v in values], pa.string())


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_date(kind: Any) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def _date_texts(array: Any) -> Any:
    utc = array.cast(pa.timestamp("us"), safe=False)
    return pc.strftime(utc, format="%Y-%m-%dT%H:%M:%S")


_CONVERSIONS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (_is_text, lambda array: array.cast(pa.string())),
    (pa.types.is_integer, lambda array: array.cast(pa.string())),
    (pa.types.is_boolean, lambda array: array.cast(pa.string())),
    (pa.types.is_floating, _float_texts),
    (pa.types.is_decimal, lambda array: array.cast(pa.string())),
    (_is_date, _date_texts),
)


def _number(text: str) -> float:
    """A number in ASCII digits; infinity is one, so that its message is about that cell."""
    if "_" in text or not text.isascii():
        return np.nan
    try:
        return float(text)
    except ValueError:
        return np.nan


def _truth(text: str) -> float:
    return _TRUTH.get(text.lower(), np.nan)


def _days(text: str) -> float:
    if not _DATE.fullmatch(text):
        return np.nan
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return np.nan
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.timestamp() / _SECONDS_A_DAY


_KINDS: dict[str, tuple[Callable[[str], float], str]] = {
    "number": (_number, "finite numbers"),
    "bool": (_truth, "true or false"),
    "date": (_days, "dates as 2024-12-31 or 2024-12-31T23:59"),
}
