"""What a user should hear about a table that is read in parts: one sentence for all of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Notice:
    """A sentence that may say how many rows it is about.

    Parameters
    ----------
    about : str
        What it is about; notices about the same thing become one.
    before : str
        The sentence up to the number of rows, or the whole.
    rows : int, default 0
        How many rows; 0: it does not say.
    after : str, default ""
        The rest.

    Examples
    --------
    >>> print(Notice("size", "Cells are empty in ", 3, " rows."))
    Cells are empty in 3 rows.
    """

    about: str
    before: str
    rows: int = 0
    after: str = ""

    def __str__(self) -> str:
        """Give the sentence."""
        return f"{self.before}{self.rows or ''}{self.after}"


def together(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """Add up rows of notices about the same thing; the words are those of the first.

    Examples
    --------
    >>> parts = Notice("a", "Found ", 2, ", first x."), Notice("a", "Found ", 3, ", first y.")
    >>> print(*together(parts))
    Found 5, first x.
    """
    found: dict[str, Notice] = {}
    for notice in notices:
        earlier = found.get(notice.about)
        rows = notice.rows + (earlier.rows if earlier else 0)
        found[notice.about] = replace(earlier or notice, rows=rows)
    return tuple(found.values())
