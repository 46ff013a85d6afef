"""Many cells at once: mean ranks, and paired tests that are corrected for their number.

In each cell the best method has rank 1; equal means share the mean of their ranks. A method is
compared with the first one by a paired t test over the runs of a cell; the p values of a cell's
methods are corrected by Holm's step-down rule (Holm, Scand. J. Statist., 1979), so that the chance
of even one false finding among them stays below the level. Runs of one data set overlap, so p
values are somewhat too small; it is still what the field reports.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from difformer.experiments.record import Figure, Record

LEVEL = 0.05


@dataclass(frozen=True)
class Standing:
    """One method over all cells.

    Attributes:
        label: its name.
        mean_rank: over the cells that it has figures in.
        cells: how many these are.
        wins, losses: cells in which it is better or worse than the reference beyond Holm's bound.
    """

    label: str
    mean_rank: float
    cells: int
    wins: int
    losses: int


def standings(records: Sequence[Record]) -> list[Standing]:
    """All methods, best mean rank first. The reference is the first row of each record."""
    ranks: dict[str, list[float]] = {}
    verdicts: dict[str, list[int]] = {}
    for record in records:
        means = {f.label: _sign(f) * f.value for f in record.figures if f.value is not None}
        places = stats.rankdata([-value for value in means.values()])
        for label, place in zip(means, places, strict=True):
            ranks.setdefault(label, []).append(float(place))
        for label, verdict in compared(record).items():
            verdicts.setdefault(label, []).append(verdict)
    found = [
        Standing(
            label,
            float(np.mean(places)),
            len(places),
            sum(v > 0 for v in verdicts.get(label, [])),
            sum(v < 0 for v in verdicts.get(label, [])),
        )
        for label, places in ranks.items()
    ]
    return sorted(found, key=lambda standing: (standing.mean_rank, standing.label))


def compared(record: Record) -> dict[str, int]:
    """Method -> 1, 0 or -1: better, not told apart, or worse than the first of a record."""
    base, *others = [figure for figure in record.figures if figure.value is not None]
    p_values, signs = {}, {}
    for figure in others:
        if len(figure.values) != len(base.values) or len(base.values) < 2:
            continue
        differences = np.subtract(figure.values, base.values)
        signs[figure.label] = _sign(figure) * int(np.sign(differences.mean()))
        p_values[figure.label] = _p_value(differences)
    rejected = holm(p_values)
    return {label: signs[label] if rejected[label] else 0 for label in p_values}


def _sign(figure: Figure) -> int:
    return -1 if figure.lower_is_better else 1


def _p_value(differences: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Of the two-sided one-sample t test; 0 where all differences are equal and not 0."""
    size = float(np.abs(differences).max())
    if np.ptp(differences) <= 1e-9 * size:  # equal but for rounding
        return 0.0 if size else 1.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Mapping[str, float], level: float = LEVEL) -> dict[str, bool]:
    """Which hypotheses are rejected when all of them are tested together.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': True, 'b': False, 'c': False}
    """
    order = sorted(p_values, key=lambda label: p_values[label])
    rejected, going = {}, True
    for step, label in enumerate(order):
        going = going and p_values[label] <= level / (len(order) - step)
        rejected[label] = going
    return {label: rejected[label] for label in p_values}
