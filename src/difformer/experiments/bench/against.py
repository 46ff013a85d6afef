"""Stored ratios beside present ones: how speed is kept.

A ratio, ours over the published form in the same run, is nearly the same on any machine and at any
load; a time is not. So ratios are stored and compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from difformer.errors import ConfigError
from difformer.experiments.bench.cases import METHODS, Settings
from difformer.experiments.bench.result import Ratio, Result

TOLERANCE = 0.25


@dataclass(frozen=True)
class Check:
    """One stored ratio, and the present one if it was measured; ``what`` is time or memory."""

    method: str
    size: int
    what: str
    stored: float
    present: float | None

    def worse(self, tolerance: float) -> bool:
        """Whether it grew by more than the tolerance, or could not be measured any more."""
        return self.present is None or self.present > self.stored * (1 + tolerance)


def settings_like(
    stored: Result, sizes: Sequence[int], methods: Sequence[str], threads: int | None
) -> Settings:
    """The settings of a stored run, narrowed to some sizes and methods.

    Only what enters a stored ratio to a published form is run.

    Raises:
        ConfigError: If no stored ratio is among them.
    """
    kept = [
        found
        for found in _guarded(stored)
        if (not sizes or found.size in sizes) and (not methods or found.method in methods)
    ]
    if not kept:
        had = ", ".join(sorted({f"{f.method} at {f.size}" for f in _guarded(stored)})) or "none"
        raise ConfigError(
            f"--against must hold a ratio at these --sizes and --methods; it has {had}."
        )
    present = {found.method for found in kept} | {found.other for found in kept}
    own = {True: set[int](), False: set[int]()}
    for found in kept:
        own[METHODS[found.method].quadratic].add(found.size)
    return stored.settings.model_copy(
        update={
            "sizes": tuple(sorted(own[False])),
            "quadratic_sizes": tuple(sorted(own[True])),
            "methods": tuple(name for name in METHODS if name in present),
            "threads": stored.settings.threads if threads is None else threads,
        }
    )


def checks(stored: Result, present: Result) -> list[Check]:
    """Every stored ratio of a case that the present run was asked for."""
    now = {(found.method, found.size): found for found in _guarded(present)}
    found = []
    for old in _guarded(stored):
        asked = [method.name for method in present.settings.methods_at(old.size)]
        if old.method not in asked:
            continue
        new = now.get((old.method, old.size))
        time = None if new is None else new.time
        found.append(Check(old.method, old.size, "time", old.time, time))
        if old.memory is not None and new is not None and new.memory is not None:
            found.append(Check(old.method, old.size, "memory", old.memory, new.memory))
    return found


def _guarded(result: Result) -> list[Ratio]:
    return [found for found in result.ratios if METHODS[found.other].family == "published"]


def check_table(found: Sequence[Check], tolerance: float) -> Table:
    """Stored and present ratios side by side."""
    table = Table("ours / published", "rows", "ratio of", "stored", "present", "", box=None)
    for check in found:
        present = "not measured" if check.present is None else f"{check.present:.2f}"
        table.add_row(
            METHODS[check.method].label,
            f"{check.size:,}",
            check.what,
            f"{check.stored:.2f}",
            present,
            "worse" if check.worse(tolerance) else "",
        )
    return table
