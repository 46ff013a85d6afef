"""The experiments that the results page waits for, and what the papers print for them.

They stand in ``expected.toml``. A figure of a paper keeps its trust mark: "checked" (seen in a
public source), "compiled" (seen in a public compilation of paper tables) or "unchecked" (from
memory, never to be quoted as verified).
"""

import tomllib
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PaperFigure(_Model):
    """What a paper prints for the row called ``label``."""

    label: str
    figure: str
    trust: Literal["checked", "compiled", "unchecked"]


class Expected(_Model):
    """One experiment that should have a record.

    Args:
        name: of its record, ``results/NAME.json``.
        title: the heading.
        command: what runs it; None while nothing does.
        paper: the papers' figures, by row.
        note: a sentence on what may be compared with what.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    command: str | None = None
    paper: tuple[PaperFigure, ...] = ()
    note: str | None = None


def expected_experiments() -> tuple[Expected, ...]:
    """Return the list, in the order of the page."""
    text = files("difformer.experiments").joinpath("expected.toml").read_text(encoding="utf-8")
    return tuple(Expected.model_validate(entry) for entry in tomllib.loads(text)["experiment"])
