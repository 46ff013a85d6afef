"""From the runs of a cell to a record: means, spreads and paired intervals, in percent."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from difformer.data.protocols import protocol
from difformer.experiments.comparison import Comparison, Row, measured, paired
from difformer.experiments.harness.campaign import Line
from difformer.experiments.harness.cells import AnyCell
from difformer.experiments.harness.recipe import Recipe
from difformer.experiments.record import Figure, Record, figures_of, write_record


def figures(lines: Sequence[Line], cell: AnyCell) -> tuple[Figure, ...]:
    """A row a method; differences are paired by run and taken to the first."""
    base, *others = map(_row, lines)
    rows = (base, *(paired(row, base) for row in others))
    result = Comparison(base.method, (), (), rows)
    score = cell.score
    return figures_of(result, score.unit, score.factor, not score.higher_is_better)


def _row(line: Line) -> Row:
    if not line.outcomes:
        return Row(line.entry.label, note=line.note)
    values = [run.test for run in line.outcomes if run.test is not None]
    seconds = [run.seconds for run in line.outcomes]
    return measured(line.entry.label, values, seconds, _note(line))


def _note(line: Line) -> str | None:
    """What is particular to it: features, a search, runs of several states of the code."""
    parts = [] if line.entry.features is None else [f"features {line.entry.features}"]
    if line.tuned is not None:
        chosen = ", ".join(f"{name} {value}" for name, value in sorted(line.tuned.settings.items()))
        parts.append(f"tuned in {line.tuned.trials} trials: {chosen}")
    commits = sorted({str(run.commit)[:12] for run in line.outcomes})
    if len(commits) > 1:
        parts.append(f"runs of commits {', '.join(commits)}")
    return "; ".join(parts) or None


def write(
    recipe: Recipe,
    cell: AnyCell,
    lines: Sequence[Line],
    folder: Path,
    command: str,
    started: datetime,
) -> Record:
    """Write ``NAME.json`` into the folder of records."""
    runs = max((len(line.outcomes) for line in lines), default=0)
    named = protocol(cell.protocol)
    return write_record(
        folder / f"{recipe.record_name(cell)}.json",
        protocol="; ".join(
            [
                *cell.conditions,
                _watched(lines),
                f"settings {_chosen(lines)}",
                f"\u00b1 over {named.ranges_over}",
            ]
        ),
        command=command,
        seeds=range(runs),
        splits=[f"{cell.protocol} {named.split_seed(run)}" for run in range(runs)],
        figures=figures(lines, cell),
        started=started,
        recipe=recipe.name,
        code=_code(lines),
        seconds=sum(outcome.seconds for line in lines for outcome in line.outcomes),
    )


def _code(lines: Sequence[Line]) -> tuple[str | None, bool | None] | None:
    """The code of all runs; None where they are of several states of it."""
    states = {(run.commit, run.dirty) for line in lines for run in line.outcomes}
    return states.pop() if len(states) == 1 else None


def _watched(lines: Sequence[Line]) -> str:
    """What chose the epochs."""
    outcomes = [outcome for line in lines for outcome in line.outcomes]
    if outcomes and all(outcome.validation is None for outcome in outcomes):
        return "no validation rows"
    return "epochs chosen on validation rows"


def _chosen(lines: Sequence[Line]) -> str:
    """How the settings came about."""
    ways = {line.tuned is not None for line in lines if line.outcomes}
    words = {
        (False,): "fixed beforehand",
        (True,): "tuned on the validation rows of split 0",
        (False, True): "fixed beforehand or, where it says so, tuned on the validation rows of "
        "split 0",
    }
    return words.get(tuple(sorted(ways)), "fixed beforehand")
