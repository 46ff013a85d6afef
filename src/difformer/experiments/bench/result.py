"""What a run of the benchmark found, as it stands in ``bench.json``. Seconds and bytes throughout.

The file names the code, the machine, the settings and what to type to run it again; no user, host
or folder. Ratios and slopes are computed from the rows when the file is written.
"""

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from statistics import median

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from difformer import __version__
from difformer.errors import RunError
from difformer.experiments.bench.cases import ENVIRONMENT, METHODS, Method, Settings
from difformer.experiments.bench.limit import copy_bytes, least_work, product_flops
from difformer.experiments.record import Machine, code_state, this_machine
from difformer.runs.atomic import read_json, write_json

FILE, PICTURE = "bench.json", "bench.svg"
LEAST_EXTRA = 16_000_000  # bytes; below, allocators decide and a ratio says nothing


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Rate(_Model):
    """The machine at N rows: seconds of a product and of a copy, one of each a round."""

    size: int
    product: tuple[float, ...]
    copied: tuple[float, ...]
    threads: int

    @property
    def flops_a_second(self) -> float:
        """Of the tall product."""
        return product_flops(self.size) / median(self.product)

    @property
    def bytes_a_second(self) -> float:
        """Of the copy, read and written."""
        return copy_bytes(self.size) / median(self.copied)


class Row(_Model):
    """One case.

    Args:
        seconds: of a training step, one a round.
        floor: bytes of the process with its libraries.
        base: bytes with inputs and encoder too.
        peak: highest bytes during the steps.
        idle: bytes between steps.
        once: seconds of what is found once for all steps (the graph's operator, neighbours).
        predicted: bytes that the case was predicted to need.
        limit: seconds that the machine's own limit allows.
        note: why there are no figures.
    """

    method: str
    label: str
    family: str
    size: int
    seconds: tuple[float, ...] = ()
    floor: int | None = None
    base: int | None = None
    peak: int | None = None
    idle: int | None = None
    once: float | None = None
    predicted: int | None = None
    limit: float | None = None
    note: str | None = None

    @property
    def median(self) -> float | None:
        """Median seconds of a step."""
        return median(self.seconds) if self.seconds else None

    @property
    def extra(self) -> int | None:
        """Bytes of a step beyond libraries, inputs and encoder."""
        if self.peak is None or self.base is None:
            return None
        return max(0, self.peak - self.base)

    @property
    def share_of_limit(self) -> float | None:
        """Fraction of the machine's limit that is reached, 1 at best."""
        return self.limit / self.median if self.limit and self.median else None


class Slope(_Model):
    """How time and extra memory grow: log-log slopes, least squares over the sizes."""

    method: str
    time: float | None
    memory: float | None


class Ratio(_Model):
    """A method of ours over another one: time is the median of the ratios by round."""

    method: str
    other: str
    size: int
    time: float
    low: float
    high: float
    memory: float | None


class Result(_Model):
    """A whole run. ``available``: bytes that were free at the start."""

    version: str
    commit: str | None
    dirty: bool | None
    machine: Machine
    versions: dict[str, str]
    environment: dict[str, str]
    threads: int
    available: int
    settings: Settings
    command: str
    started: AwareDatetime
    seconds: float
    rates: tuple[Rate, ...]
    rows: tuple[Row, ...]
    slopes: tuple[Slope, ...]
    ratios: tuple[Ratio, ...]

    def rows_at(self, size: int) -> list[Row]:
        """The rows of one size, in the order of the table of methods."""
        return in_order(row for row in self.rows if row.size == size)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of the table of methods."""
    order = list(METHODS)
    return sorted(rows, key=lambda row: order.index(row.method))


def limit_of(method: Method, settings: Settings, rate: Rate) -> float | None:
    """The machine's limit for a case, in seconds; None where no formula is known."""
    if not method.limited:
        return None
    work = least_work(rate.size, settings.layers, method.form)
    return work.seconds(rate.flops_a_second, rate.bytes_a_second)


def slopes_of(rows: Sequence[Row]) -> tuple[Slope, ...]:
    """One a method that ran at two sizes or more."""
    found = []
    for name in METHODS:
        own = [row for row in rows if row.method == name]
        times = [(row.size, row.median or 0.0) for row in own if row.seconds]
        held = [(row.size, float(row.extra or 0)) for row in own]
        memory = [point for point in held if point[1] >= LEAST_EXTRA]
        if len(times) > 1:
            found.append(Slope(method=name, time=_slope(times), memory=_slope(memory)))
    return tuple(found)


def _slope(points: Sequence[tuple[int, float]]) -> float | None:
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def ratios_of(rows: Sequence[Row]) -> tuple[Ratio, ...]:
    """Ours over each method that it is compared with, wherever both ran in turn."""
    table = {(row.method, row.size): row for row in rows if row.seconds}
    found: list[Ratio] = []
    for row in in_order(table.values()):
        others = [table.get((name, row.size)) for name in METHODS[row.method].others]
        found += [_ratio(row, other) for other in others if other is not None]
    return tuple(found)


def _ratio(row: Row, other: Row) -> Ratio:
    by_round = [a / b for a, b in zip(row.seconds, other.seconds, strict=True)]
    extra, theirs = row.extra or 0, other.extra or 0
    return Ratio(
        method=row.method,
        other=other.method,
        size=row.size,
        time=median(by_round),
        low=min(by_round),
        high=max(by_round),
        memory=extra / theirs if min(extra, theirs) >= LEAST_EXTRA else None,
    )


def conclude(
    settings: Settings,
    rates: Sequence[Rate],
    rows: Sequence[Row],
    available: int,
    started: datetime,
) -> Result:
    """Describe code and machine, and compute what follows from the rows."""
    commit, dirty = code_state()
    return Result(
        version=__version__,
        commit=commit,
        dirty=dirty,
        machine=this_machine(),
        versions=_versions(),
        environment=ENVIRONMENT,
        threads=rates[0].threads if rates else 0,
        available=available,
        settings=settings,
        command=command_of(settings),
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        rates=tuple(rates),
        rows=tuple(rows),
        slopes=slopes_of(rows),
        ratios=ratios_of(rows),
    )


def command_of(settings: Settings) -> str:
    """What to type for the same run.

    Example:
        >>> command_of(Settings(layers=2, seed=1))
        'difformer bench --layers 2 --seed 1'
    """
    words, usual = ["difformer", "bench"], Settings()
    for name in ("sizes", "quadratic_sizes", "methods", "layers", "repeats", "seed", "threads"):
        value = getattr(settings, name)
        if value != getattr(usual, name):
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", shown]
    words += ["--device", settings.device] if settings.device != usual.device else []
    words += ["--long"] if settings.long else []
    return shlex.join(words)


def write_result(folder: Path, result: Result) -> Path:
    """Write ``bench.json`` into the folder, atomically."""
    path = folder / FILE
    write_json(path, result.model_dump(mode="json"))
    return path


def read_result(path: str | Path) -> Result:
    """Read a stored result; a folder stands for the newest one anywhere in it.

    Raises:
        RunError: Nothing there is a result of the benchmark.
    """
    if Path(path).is_dir():
        stored = [read_result(file) for file in sorted(Path(path).glob(f"**/{FILE}"))]
        if not stored:
            raise RunError(f"Expected a {FILE} somewhere in {path}, found none.")
        return max(stored, key=lambda result: result.started)
    value = read_json(path)
    try:
        return Result.model_validate(value)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise RunError(
            f"Expected a result of the benchmark in {path}: {where} is wrong."
        ) from error


def folder_name(result_machine: Machine, device: str, day: datetime) -> str:
    """Hardware and date, as a folder's name: ``amd-epyc-2-cores-2026-01-02``."""
    gpu = device == "cuda" and result_machine.accelerators
    hardware = result_machine.accelerators[0] if gpu else _cpu(result_machine)
    letters = "".join(c if c.isalnum() else " " for c in hardware.lower())
    return "-".join([*letters.split(), f"{day:%Y-%m-%d}"])


def _cpu(machine: Machine) -> str:
    return f"{machine.cpu} {machine.cores} {'core' if machine.cores == 1 else 'cores'}"


def _versions() -> dict[str, str]:
    found = {"python": python_version()}
    for package in ("torch", "torch_geometric", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
