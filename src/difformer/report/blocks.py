"""What a section is made of; each kind of block has the template of its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

Row = Sequence[str]


@dataclass(frozen=True)
class Text:
    """A paragraph; ``tone`` is ``plain``, ``lead``, ``note`` or ``missing``."""

    kind: ClassVar[str] = "text"
    words: str
    tone: str = "plain"


@dataclass(frozen=True)
class Bullets:
    """A list under its own small heading."""

    kind: ClassVar[str] = "bullets"
    title: str
    items: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """Large figures with their names: (name, value)."""

    kind: ClassVar[str] = "tiles"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """Names and values, one a line: (name, value)."""

    kind: ClassVar[str] = "facts"
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Grid:
    """A table of numbers, but for the first ``texts`` and the last ``remarks`` columns."""

    kind: ClassVar[str] = "grid"
    caption: str
    header: Row
    rows: Sequence[Row]
    texts: int = 1
    remarks: int = 0

    def is_number(self, column: int) -> bool:
        """Whether a column is set to the right, digit below digit."""
        return self.texts <= column < len(self.header) - self.remarks


@dataclass(frozen=True)
class Cell:
    """A count of the heat map and its share of the row, 0 to 1; None in a row without any."""

    count: str
    share: float | None
    percent: str


@dataclass(frozen=True)
class HeatMap:
    """The confusion matrix: rows are true classes, columns predicted ones."""

    kind: ClassVar[str] = "heat_map"
    caption: str
    classes: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def crowded(self) -> bool:
        """Whether percentages are left to the tooltip."""
        return len(self.classes) > 12


@dataclass(frozen=True)
class Chart:
    """A plotly figure, its words for those who do not see it, and its numbers as a table.

    Without ``grid``, the table stands in a block of its own.
    """

    kind: ClassVar[str] = "chart"
    key: str
    alt: str
    caption: str
    data: Sequence[Mapping[str, object]]
    layout: Mapping[str, object]
    grid: Grid | None = None


@dataclass(frozen=True)
class Code:
    """Text of a file, as it is."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


Block = Text | Bullets | Tiles | Facts | Grid | HeatMap | Chart | Code


@dataclass(frozen=True)
class Section:
    """A heading, the name of its link, and its blocks."""

    key: str
    title: str
    blocks: Sequence[Block] = field(default=())


def left_out(key: str, title: str, reason: str) -> Section:
    """Return a section that only says in one sentence why it is left out."""
    return Section(key, title, [Text(reason, tone="missing")])
