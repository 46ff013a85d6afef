"""From one column to features: fitted once, then the same for every new row.

Three kinds: a number (also truth values and dates), a category, prose. Each is plain data that
goes through JSON and back unchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from difformer.data.cells import Cells
from difformer.data.instances import Features
from difformer.data.notices import Notice
from difformer.errors import DataError

NUMERIC_SHARE = 0.95  # of the filled cells; a column of fewer numbers is not a numeric one
MOST_CATEGORIES = 50
MOST_FORCED = 5_000  # with --categorical
PROSE_WORDS = 5  # median words a cell
MOST_TERMS = 5_000
_ABSURD = 1e30  # standard deviations; float32 overflows soon after


@dataclass(frozen=True)
class NumberColumn:
    """(value - mean) / scale, and a 0/1 column for "was missing" if any cell was.

    Parameters
    ----------
    name : str
        Column of the table.
    kind : str
        How cells are read: "number", "bool" (0 or 1, not standardised) or "date" (days).
    fill : float
        Stands for missing cells: the median, or the commoner truth value.
    mean, scale : float
        Of the fitted column; scale 0 means constant: no value column.
    indicator : bool
        Whether there is a column for missing cells.
    """

    name: str
    kind: str
    fill: float
    mean: float
    scale: float
    indicator: bool

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a feature."""
        value = (self.name,) if self.scale else ()
        return (*value, f"{self.name} is missing") if self.indicator else value

    def transform(self, cells: Cells) -> tuple[Features, Notice | None]:
        """Give features (N, 0 to 2); there is nothing to notice."""
        values = cells.parse(self.kind)
        parts = []
        if self.scale:
            scaled = (np.where(cells.missing, self.fill, values) - self.mean) / self.scale
            absurd = np.abs(scaled) > _ABSURD
            if absurd.any():
                raise DataError(
                    f"{cells.where} must hold numbers of the size of those fitted, "
                    f"found {cells.first(absurd)}."
                )
            parts.append(scaled)
        if self.indicator:
            parts.append(cells.missing.astype(np.float64))
        empty = np.empty((len(values), 0), dtype=np.float32)
        return (np.column_stack(parts).astype(np.float32) if parts else empty), None


@dataclass(frozen=True)
class CategoryColumn:
    """One 0/1 column a value; an unseen value is all zeros.

    Parameters
    ----------
    name : str
        Column of the table.
    values : tuple of str
        Fitted values, sorted.
    missing : bool
        Whether missing cells are a value of their own, the last column.
    """

    name: str
    values: tuple[str, ...]
    missing: bool

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a feature."""
        named = tuple(f"{self.name} = {value}" for value in self.values)
        return (*named, f"{self.name} is missing") if self.missing else named

    def transform(self, cells: Cells) -> tuple[Features, Notice | None]:
        """Give 0/1 features (N, values), and a notice if any value is unseen."""
        places = {value: place for place, value in enumerate(self.values)}
        unseen = len(self.feature_names)
        absent = len(self.values)  # its own column if there is one, otherwise beyond the last
        of_code = [places.get(value, unseen) for value in cells.values]
        columns = np.array([*of_code, absent], dtype=np.int64)[cells.codes]
        eye = np.vstack([np.eye(unseen, dtype=np.float32), np.zeros((1, unseen), np.float32)])
        unknown = (columns == unseen) & ~cells.missing
        if not unknown.any():
            return eye[columns], None
        return eye[columns], Notice(
            f"unseen values of {self.name}",
            f"{cells.where}: values that were not fitted count as none of the known ones (",
            int(unknown.sum()),
            f" rows), the first is {cells.first(unknown)}.",
        )


@dataclass(frozen=True)
class ProseColumn:
    """(1 + log tf) idf of known terms, rows of norm 1.

    Parameters
    ----------
    name : str
        Column of the table.
    terms : tuple of str
        Lower-case words of at least two letters, sorted.
    idf : tuple of float
        1 + log((1 + rows) / (1 + rows with the term)), one a term.
    """

    name: str
    terms: tuple[str, ...]
    idf: tuple[float, ...]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name a feature."""
        return tuple(f"{self.name}: {term}" for term in self.terms)

    def transform(self, cells: Cells) -> tuple[Features, Notice | None]:
        """Give CSR features (N, terms); a row without a known term is all zeros."""
        counts = _counter(vocabulary=list(self.terms)).transform(cells.texts())
        weighted = sparse.csr_matrix(counts, dtype=np.float64)
        weighted.data = 1 + np.log(weighted.data)
        weighted = weighted @ sparse.diags(np.array(self.idf))
        norm = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        rows = sparse.diags(1 / np.where(norm > 0, norm, 1)) @ weighted
        return sparse.csr_matrix(rows, dtype=np.float32), None


Encoder: TypeAlias = NumberColumn | CategoryColumn | ProseColumn
_KINDS: dict[str, type[Encoder]] = {
    "number": NumberColumn,
    "category": CategoryColumn,
    "prose": ProseColumn,
}


def to_json(encoder: Encoder) -> dict[str, Any]:
    """Give a plain dictionary for JSON."""
    kind = next(kind for kind, cls in _KINDS.items() if isinstance(encoder, cls))
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(encoder).items()}
    return {"encoder": kind, **plain}


def from_json(saved: Mapping[str, Any]) -> Encoder:
    """Undo `to_json`. Raises KeyError or TypeError for anything else."""
    cls = _KINDS[saved["encoder"]]
    names = [field.name for field in fields(cls)]
    plain = {name: tuple(v) if isinstance(v := saved[name], list) else v for name in names}
    build: Any = cls
    encoder: Encoder = build(**plain)
    return encoder


def fit_column(cells: Cells, categorical: bool) -> tuple[Encoder | None, str]:
    """Decide what a column is, and fit it.

    Parameters
    ----------
    cells : Cells
        The column.
    categorical : bool
        Take it as a category whatever it looks like.

    Returns
    -------
    encoder : NumberColumn, CategoryColumn, ProseColumn or None
        None drops the column.
    decision : str
        One sentence for the log.

    Raises
    ------
    DataError
        If the column is of no use as it is; the message says what to do.
    """
    if cells.missing.all():
        return None, f"Column {cells.name!r} is dropped: all of its cells are empty."
    if categorical:
        return _fit_category(cells, MOST_FORCED)
    for kind, share in (("bool", 1.0), ("number", NUMERIC_SHARE), ("date", NUMERIC_SHARE)):
        if cells.share(kind) >= share:
            return _fit_number(cells, kind)
    if _is_prose(cells):
        return _fit_prose(cells)
    return _fit_category(cells, MOST_CATEGORIES)


def _fit_number(cells: Cells, kind: str) -> tuple[Encoder | None, str]:
    values = cells.parse(kind)
    filled = values[~cells.missing]
    indicator = bool(cells.missing.any())
    fill = float(np.median(filled)) if kind != "bool" else float(filled.mean() >= 0.5)
    complete = np.where(cells.missing, fill, values)
    # Against the largest value: rounding gives a constant column a tiny spread.
    spread = float(complete.std())
    scale = spread if spread > 1e-12 * np.abs(complete).max() else 0.0
    mean = float(complete.mean())
    if kind == "bool" and scale:
        mean, scale = 0.0, 1.0
    if not scale and not indicator:
        return None, f"Column {cells.name!r} is dropped: it is constant."
    noun = {"number": "numbers", "bool": "0 and 1", "date": "days since 1970-01-01"}[kind]
    how = "" if kind == "bool" else ", standardised"
    if not scale:
        how = ", constant: only whether a cell is empty is kept"
    gaps = ""
    if indicator:
        gaps = f"; empty cells ({int(cells.missing.sum())}) count as {fill:g} and are marked"
    encoder = NumberColumn(cells.name, kind, fill, mean, scale, indicator)
    return encoder, f"Column {cells.name!r} is read as {noun}{how}{gaps}."


def _fit_category(cells: Cells, most: int) -> tuple[Encoder | None, str]:
    values, missing = tuple(sorted(cells.values)), bool(cells.missing.any())
    if len(values) > most:
        raise DataError(
            f"{cells.where} must hold numbers, prose or at most {most} different texts, "
            f"found {len(values)}: drop it, or give --id {cells.name} if it names the rows"
            + (f", or --categorical {cells.name}." if most < MOST_FORCED else ".")
        )
    if len(values) + missing == 1:
        return None, f"Column {cells.name!r} is dropped: it is constant."
    gaps = f"; empty cells ({int(cells.missing.sum())}) are one more" if missing else ""
    encoder = CategoryColumn(cells.name, values, missing)
    return encoder, f"Column {cells.name!r} is read as a category of {len(values)} values{gaps}."


def _is_prose(cells: Cells) -> bool:
    """Long texts that seldom repeat; long names that repeat are a category."""
    words = np.array([len(value.split()) for value in cells.values])
    filled = cells.codes[~cells.missing]
    repeats = len(words) <= MOST_CATEGORIES and len(words) <= len(filled) / 2
    return bool(np.median(words[filled]) >= PROSE_WORDS) and not repeats


def _fit_prose(cells: Cells) -> tuple[Encoder | None, str]:
    texts = cells.texts()
    counter = _counter()
    try:
        counts = sparse.csr_matrix(counter.fit_transform(texts))
    except ValueError:  # "empty vocabulary"
        return None, f"Column {cells.name!r} is dropped: its texts hold no words."
    terms = counter.get_feature_names_out()
    rows_with = np.bincount(counts.indices, minlength=len(terms))
    kept = _best_terms(rows_with)
    idf = 1 + np.log((1 + len(texts)) / (1 + rows_with[kept]))
    encoder = ProseColumn(cells.name, tuple(map(str, terms[kept])), tuple(map(float, idf)))
    return encoder, (
        f"Column {cells.name!r} is read as prose: {len(kept)} of {len(terms)} words, "
        "(1 + log tf) idf, rows of norm 1."
    )


def _best_terms(rows_with: NDArray[np.int64]) -> NDArray[np.int64]:
    """The words of most rows, at most 5,000, in ascending order; none of a single row."""
    kept = np.flatnonzero(rows_with >= 2)
    if not len(kept):
        kept = np.arange(len(rows_with))
    common = kept[np.argsort(-rows_with[kept], kind="stable")][:MOST_TERMS]
    return np.sort(common)


def _counter(vocabulary: Sequence[str] | None = None) -> Any:
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(vocabulary=vocabulary)
