"""Recipes: one TOML file an experiment, with its source and what papers print for it.

    [[cell]]   the data sets and protocols
    [[entry]]  the methods, each with fixed settings or tuned within a budget
    [[peer]]   figures of others, only printed

A recipe that cannot be run here says why in ``unavailable``; it is still checked and, on made data,
tested.
"""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from difformer.errors import ConfigError, one_of
from difformer.experiments.harness.cells import AnyCell, method_of

Trust = Literal["checked", "compiled", "unchecked"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Printed(_Model):
    """A figure that somebody else printed, as text, and how far it can be trusted."""

    figure: str
    trust: Trust
    note: str = ""


class Entry(_Model):
    """One method of a recipe.

    Args:
        label: the row's name.
        method: its name in the table of methods.
        settings: those that differ from the method's defaults; a search leaves them alone.
        tuned: whether the others are searched within the recipe's budget.
        features: how they are prepared, where it is not as the cell says.
        paper: what the paper prints.
        released: what the released code is known to give.
    """

    label: str
    method: str
    settings: dict[str, Any] = Field(default_factory=dict)
    tuned: bool = False
    features: str | None = None
    paper: Printed | None = None
    released: Printed | None = None

    def meets(self, cell: AnyCell) -> AnyCell:
        """The cell as this method meets it.

        Raises:
            ValidationError: The preparation is not known, or there is none in such a cell.
        """
        if self.features is None:
            return cell
        return type(cell).model_validate({**cell.model_dump(), "features": self.features})


class Peer(Printed):
    """A row that is only printed."""

    label: str


class Recipe(_Model):
    """One experiment.

    Args:
        name: lower-case letters, digits and hyphens.
        title: for people.
        source: where protocol and settings were published.
        cells: what the methods meet.
        entries: the methods; the first is the reference of all differences.
        peers: rows that are only printed.
        seeds: runs of each method and cell.
        trials, hours: the budget of a search, for each method and cell.
        note: what may be compared with what.
        unavailable: why it cannot be run; None: it can.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str
    source: str
    cells: tuple[AnyCell, ...] = Field(alias="cell", min_length=1)
    entries: tuple[Entry, ...] = Field(alias="entry", min_length=1)
    peers: tuple[Peer, ...] = Field(alias="peer", default=())
    seeds: int = Field(default=5, ge=1)
    trials: int = Field(default=20, ge=1, le=20)
    hours: float = Field(default=1.0, gt=0, le=1)
    note: str = ""
    unavailable: str | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        labels = [entry.label for entry in self.entries]
        if len(set(labels)) < len(labels):
            raise ValueError(f"labels must differ, found {', '.join(labels)}")
        for cell in self.cells:
            for entry in self.entries:
                method_of(entry.meets(cell), entry.method).resolved(entry.settings)
        return self

    def record_name(self, cell: AnyCell) -> str:
        """Of the record that a cell becomes."""
        return self.name if len(self.cells) == 1 else f"{self.name}-{cell.name}"


def known_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package, sorted."""
    folder = files("difformer.experiments").joinpath("recipes")
    return tuple(
        sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))
    )


def load_recipe(name: str) -> Recipe:
    """A recipe by its name, or from a TOML file.

    Raises:
        ConfigError: There is none of that name, or the file is not a recipe.
    """
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the recipe {name}: {error}.") from None
        return parse_recipe(text, name)
    one_of(name, known_recipes(), "recipe")
    path = files("difformer.experiments").joinpath("recipes", f"{name}.toml")
    recipe = parse_recipe(path.read_text(encoding="utf-8"), name)
    assert recipe.name == name
    return recipe


def parse_recipe(text: str, where: str) -> Recipe:
    """A recipe from its text."""
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"Recipe {where} must be TOML: {error}.") from None
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(map(str, detail["loc"]))
        raise ConfigError(f"Recipe {where}, {place}: {detail['msg']}.") from None
