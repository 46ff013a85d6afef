"""All runs of a recipe, one after the other; what is done already is only read."""

from collections.abc import Callable
from dataclasses import dataclass

from difformer.data.protocols import protocol
from difformer.errors import ConfigError, DataError, MissingExtraError
from difformer.experiments.harness.cells import AnyCell, method_of
from difformer.experiments.harness.recipe import Entry, Recipe
from difformer.experiments.harness.run import Find, Outcome, Spec, Store, execute
from difformer.experiments.harness.tuning import HOUR, Budget, Tuned, tune

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """All runs of one method in one cell, or why there are none."""

    entry: Entry
    outcomes: tuple[Outcome, ...] = ()
    tuned: Tuned | None = None
    note: str | None = None


def run_cell(
    recipe: Recipe,
    cell: AnyCell,
    store: Store,
    seeds: int | None = None,
    tell: Tell = lambda text: None,
    find: Find = method_of,
) -> list[Line]:
    """Search and run every method of a recipe in one cell.

    Args:
        recipe: what is run.
        cell: one of its cells.
        store: where runs are kept.
        seeds: number of final runs; None: as the recipe says.
        tell: called with what is going on.
        find: where methods are looked up.

    Raises:
        ConfigError: The recipe's data are not at hand.
        DataError: Data that should be at hand are not.
    """
    count = recipe.seeds if seeds is None else seeds
    try:
        return [_line(recipe, cell, entry, store, count, tell, find) for entry in recipe.entries]
    except DataError as error:
        if recipe.unavailable is None:
            raise
        raise ConfigError(f"Recipe {recipe.name} cannot be run: {recipe.unavailable}") from error


def _line(
    recipe: Recipe, cell: AnyCell, entry: Entry, store: Store, seeds: int, tell: Tell, find: Find
) -> Line:
    cell = entry.meets(cell)
    settings, tuned = find(cell, entry.method).resolved(entry.settings), None
    try:
        if entry.tuned:
            tell(f"{cell.name}: {entry.label} is tuned")
            budget = Budget(recipe.trials, recipe.hours * HOUR)
            tuned = tune(cell, entry.method, entry.settings, budget, store, find)
            settings = tuned.settings
        outcomes = []
        for run in range(seeds):
            tell(f"{cell.name}: {entry.label}, run {run + 1} of {seeds}")
            spec = Spec(
                cell=cell,
                method=entry.method,
                settings=settings,
                stage="final",
                split_seed=protocol(cell.protocol).split_seed(run),
                model_seed=run,
            )
            outcomes.append(execute(spec, store, find))
    except MissingExtraError as error:
        return Line(entry, note=str(error))
    return Line(entry, tuple(outcomes), tuned)
