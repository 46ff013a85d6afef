"""The parent: which cases run beside each other, and whose turn it is. See the package's text."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from difformer.errors import RunError
from difformer.experiments.bench import memory
from difformer.experiments.bench.cases import (
    ENVIRONMENT,
    FEATURES,
    FLOAT,
    MEAN_DEGREE,
    Method,
    Settings,
)
from difformer.experiments.bench.result import Rate, Row, limit_of
from difformer.experiments.bench.worker import RATES

WARM_UP = 1  # rounds that are not timed
WORKER = "difformer.experiments.bench.worker"
Tell = Callable[[str], None]


@dataclass
class Plan:
    """A case that is to run, and the bytes it is predicted to hold in and between steps."""

    method: Method
    peak: int
    idle: int


class Child:
    """A process that runs one case; see ``worker`` for what is said."""

    def __init__(self, name: str, size: int, settings: Settings) -> None:
        case = {
            "method": name,
            "size": size,
            "layers": settings.layers,
            "seed": settings.seed,
            "threads": settings.threads,
            "device": settings.device,
        }
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", WORKER, json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )

    def ask(self, word: str) -> dict[str, Any]:
        """Say a word and wait for the answer; a child that died answers with a note."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"note": self._epitaph()}
        return answer

    def _epitaph(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["nothing was said"])[-1]
        return f"the process ended with {code}: {last[:200]}"

    def close(self) -> None:
        """End it, whatever it does, and let go of its pipes."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def measure(
    settings: Settings, allowed: int, tell: Tell = lambda text: None
) -> Iterator[tuple[Rate, list[Row]]]:
    """Run everything, size by size.

    Args:
        allowed: bytes that the cases of one size may hold together.
        tell: called with what is going on.

    Raises:
        RunError: The machine's own rates cannot be measured.
    """
    done: list[Row] = []
    for size in settings.all_sizes():
        plans, rows = _plan(settings, size, allowed, done)
        rates: list[Rate] = []
        for group in grouped(plans, allowed):
            rate, found = _take_turns(group, size, settings, tell)
            rates.append(rate)
            rows += found
        done += rows
        if rates:
            yield _joined(rates), rows
        else:
            yield _take_turns([], size, settings, tell)[0], rows


def _plan(
    settings: Settings, size: int, allowed: int, done: Sequence[Row]
) -> tuple[list[Plan], list[Row]]:
    """What can run at this size, and a row for each case that cannot."""
    plans, refused = [], []
    for method in settings.methods_at(size):
        plan = predicted(method, size, settings.layers, done)
        if plan.peak <= allowed:
            plans.append(plan)
            continue
        note = f"not run: needs {plan.peak / 1e9:.1f} GB, {allowed / 1e9:.1f} GB may be used"
        refused.append(_row(method, size, predicted=plan.peak, note=note))
    return plans, refused


def predicted(method: Method, size: int, layers: int, done: Sequence[Row]) -> Plan:
    """Bytes from the smaller sizes of the same method, or by counting arrays."""
    own = [row for row in done if row.method == method.name and row.peak and row.floor is not None]
    floor = own[-1].floor if own else None
    floor = memory.RUNTIME if floor is None else floor
    edges = size * MEAN_DEGREE if method.graph else 0
    inputs = FLOAT * size * FEATURES + 64 * edges
    peaks, idles = [(r.size, r.peak or 0) for r in own], [(r.size, r.idle or 0) for r in own]
    peak = memory.predict(peaks, size, 2 if method.dense else 1, floor)
    idle = memory.predict(idles, size, 1, floor)
    return Plan(
        method,
        floor + method.guess(size, layers) if peak is None else peak,
        floor + 2 * inputs if idle is None else idle,
    )


def grouped(plans: Sequence[Plan], allowed: int) -> list[list[Plan]]:
    """Split into groups that fit: what all hold between steps, plus the largest step, in bytes.

    A method that is compared with its neighbour in the list stays with it where the two fit.
    """
    groups: list[list[Plan]] = []
    for unit in _units(plans):
        for candidate in [unit] if fits(unit, allowed) else [[plan] for plan in unit]:
            if groups and fits(groups[-1] + candidate, allowed):
                groups[-1] += candidate
            else:
                groups.append(list(candidate))
    return groups


def fits(plans: Sequence[Plan], allowed: int) -> bool:
    """Whether all can be alive while any one of them takes its step."""
    idle = sum(plan.idle for plan in plans)
    return idle + max(plan.peak - plan.idle for plan in plans) <= allowed


def _units(plans: Sequence[Plan]) -> list[list[Plan]]:
    units: list[list[Plan]] = []
    for plan in plans:
        if units and plan.method.name in units[-1][0].method.others:
            units[-1].append(plan)
        else:
            units.append([plan])
    return units


@dataclass
class _Seat:
    """A child at the table, and what it said so far."""

    plan: Plan
    child: Child
    said: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def sits(self) -> bool:
        return "note" not in self.said

    def hear(self, word: str) -> dict[str, Any]:
        answer = self.child.ask(word)
        self.said.update({key: value for key, value in answer.items() if key != "seconds"})
        return answer


def _take_turns(
    plans: Sequence[Plan], size: int, settings: Settings, tell: Tell
) -> tuple[Rate, list[Row]]:
    with ExitStack() as stack:
        machine = _born(stack, RATES, size, settings)
        seats = [_Seat(plan, _born(stack, plan.method.name, size, settings)) for plan in plans]
        said = _checked(machine.ask("prepare"), size)
        for seat in seats:
            tell(f"{size:,} rows: {seat.plan.method.label} gets ready")
            seat.hear("prepare")
        readings = []
        for turn in range(WARM_UP + settings.repeats):
            readings.append(_checked(machine.ask("step"), size))
            for seat in (seat for seat in seats if seat.sits):
                tell(f"{size:,} rows, round {turn} of {settings.repeats}: {seat.plan.method.label}")
                answer = seat.hear("step")
                if seat.sits and turn >= WARM_UP:
                    seat.seconds.append(answer["seconds"])
        for seat in (seat for seat in seats if seat.sits):
            seat.hear("stop")
    rate = Rate(
        size=size,
        product=tuple(reading["product"] for reading in readings[WARM_UP:]),
        copied=tuple(reading["copy"] for reading in readings[WARM_UP:]),
        threads=said["threads"],
    )
    return rate, [_result(seat, size, settings, rate) for seat in seats]


def _born(stack: ExitStack, name: str, size: int, settings: Settings) -> Child:
    child = Child(name, size, settings)
    stack.callback(child.close)
    return child


def _checked(answer: dict[str, Any], size: int) -> dict[str, Any]:
    if "note" in answer:
        raise RunError(f"The machine's rates at {size} rows cannot be measured: {answer['note']}.")
    return answer


def _result(seat: _Seat, size: int, settings: Settings, rate: Rate) -> Row:
    method, said = seat.plan.method, seat.said
    if not seat.sits:
        return _row(method, size, predicted=seat.plan.peak, note=f"not run: {said['note']}")
    return _row(
        method,
        size,
        seconds=tuple(seat.seconds),
        floor=said["floor"],
        base=said["base"],
        peak=said["peak"],
        idle=int(said["idle"]),
        once=said["once"],
        predicted=seat.plan.peak,
        limit=limit_of(method, settings, rate),
    )


def _row(method: Method, size: int, **fields: Any) -> Row:
    return Row(method=method.name, label=method.label, family=method.family, size=size, **fields)


def _joined(rates: Sequence[Rate]) -> Rate:
    """The readings of all groups of one size as one."""
    return Rate(
        size=rates[0].size,
        product=tuple(value for rate in rates for value in rate.product),
        copied=tuple(value for rate in rates for value in rate.copied),
        threads=rates[0].threads,
    )
