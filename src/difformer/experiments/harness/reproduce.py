"""From the name of a recipe to its records: the one path behind ``difformer reproduce``."""

import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from difformer.experiments.harness.campaign import run_cell
from difformer.experiments.harness.cells import method_of
from difformer.experiments.harness.recipe import Recipe
from difformer.experiments.harness.run import Find, Store
from difformer.experiments.harness.summary import write
from difformer.experiments.record import Record
from difformer.runs.atomic import check_output

RUNS, RECORDS = Path("runs") / "reproduce", Path("results")


def reproduce(
    recipe: Recipe,
    named: str,
    seeds: int | None = None,
    runs: Path = RUNS,
    records: Path = RECORDS,
    tell: Callable[[str], None] = lambda text: None,
    find: Find = method_of,
) -> Iterator[Record]:
    """Run a recipe cell by cell; the record of each, once it is written.

    Args:
        recipe: what is run.
        named: how the user called it.
        seeds: final runs a method; None: as the recipe says.
        runs: folder of single runs; what is there is not run again.
        records: folder that the records are written to.
        tell: called with what is going on.
        find: where methods are looked up.
    """
    for cell in recipe.cells:
        check_output(records / f"{recipe.record_name(cell)}.json")
    store = Store(runs / recipe.name)
    store.clean()
    for cell in recipe.cells:
        started = datetime.now(UTC)
        lines = run_cell(recipe, cell, store, seeds, tell, find)
        yield write(recipe, cell, lines, records, command_of(named, seeds), started)


def command_of(named: str, seeds: int | None) -> str:
    """What to type for the same.

    Example:
        >>> command_of("cora", 3)
        'difformer reproduce cora --seeds 3'
    """
    return shlex.join(
        ["difformer", "reproduce", named, *([] if seeds is None else ["--seeds", str(seeds)])]
    )
