"""One experiment, one JSON file: what was run, on what, and what came out.

The file is the only source of a figure; pages are generated from it and nothing is typed. It
names no user, host or folder. Values stand in the unit that the metric's name states.
"""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
)

from difformer.errors import ConfigError, RunError
from difformer.experiments.comparison import Comparison, Row
from difformer.runs.atomic import read_json, write_json
from difformer.runs.environment import describe_environment

# Results and the page made of them are outputs: writing one does not make the code another code.
OUTPUTS = tuple(
    f":(top,exclude){path}"
    for path in ("results", "docs/results.md", "benchmarks/results", "docs/performance.md")
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figure(_Model):
    """One row of an experiment.

    Args:
        label: the method or the case.
        metric: what was measured, with its unit, such as "accuracy %".
        value: the figure, usually a mean; None with a ``note`` that says why.
        std: sample standard deviation of ``values``.
        values: one a split or repetition.
        reference: the row that differences are taken to.
        difference: mean paired difference, this row less the reference.
        low, high: ends of its 95 % t interval.
        seconds: mean wall time of one value.
        lower_is_better: whether it is an error.
        note: why there is no figure, or what to know about it.
    """

    label: str
    metric: str
    value: float | None = None
    std: NonNegativeFloat | None = None
    values: tuple[float, ...] = ()
    reference: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    seconds: NonNegativeFloat | None = None
    lower_is_better: bool = False
    note: str | None = None


class Machine(_Model):
    """The machine, without its name: memory in bytes, cores as far as this process may use them."""

    cpu: str
    cores: int
    memory: int | None
    system: str
    accelerators: tuple[str, ...] = ()


class Record(_Model):
    """One experiment as it stands in ``results/NAME.json``.

    Args:
        name: lower-case letters, digits and hyphens; the file's name.
        protocol: which splits, and what chose the epoch and the settings.
        command: what to type to run it again, from the repository's root.
        commit: of the code; None when it did not run from a repository.
        dirty: whether files other than results differed from that commit.
        seeds: of the models, one a split.
        splits: their names.
        recipe: name of the recipe that it is of, if it is of one.
        versions: package -> version.
        started: with its time zone.
        seconds: from start to end.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    protocol: str
    command: str
    commit: str | None
    dirty: bool | None
    seeds: tuple[int, ...]
    splits: tuple[str, ...]
    recipe: str | None = None
    machine: Machine
    versions: dict[str, str]
    started: AwareDatetime
    seconds: NonNegativeFloat
    figures: tuple[Figure, ...]


def figures_of(
    result: Comparison,
    label: str = "accuracy %",
    factor: float = 100.0,
    lower_is_better: bool = False,
) -> tuple[Figure, ...]:
    """Turn a comparison into rows of a record, times a factor; ``label`` names the metric."""
    return tuple(
        _figure(row, result.reference, label, factor, lower_is_better) for row in result.rows
    )


def write_record(
    path: str | Path,
    *,
    protocol: str,
    command: str,
    seeds: Sequence[int],
    splits: Sequence[str],
    figures: Sequence[Figure],
    started: datetime,
    seconds: float | None = None,
    recipe: str | None = None,
    code: tuple[str | None, bool | None] | None = None,
) -> Record:
    """Describe the machine, the versions and the code; write ``results/NAME.json`` atomically.

    Args:
        path: ends in ``NAME.json``, which gives the record its name.
        started: with its time zone, such as ``datetime.now(UTC)`` before the run.
        seconds: default: from ``started`` until now.
        recipe: see ``Record``.
        code: commit, and whether files differed from it, when it ran; default: now.

    Raises:
        ConfigError: a value is not allowed in a record.
        RunError: the file cannot be written.
    """
    commit, dirty = code_state() if code is None else code
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "name": Path(path).name.removesuffix(".json"),
        "protocol": protocol,
        "command": command,
        "commit": commit,
        "dirty": dirty,
        "seeds": tuple(seeds),
        "splits": tuple(splits),
        "recipe": recipe,
        "machine": this_machine(),
        "versions": _versions(),
        "started": started,
        "figures": tuple(figures),
    }
    try:
        spent = (now - started).total_seconds() if seconds is None else seconds
        record = Record(**fields, seconds=spent)
    except (ValidationError, TypeError) as error:  # TypeError: a time without its zone
        raise ConfigError(f"Not a record for {path}: {_first(error)}.") from error
    write_json(path, record.model_dump(mode="json"))
    return record


def read_record(path: str | Path) -> Record:
    """Read a record; anything missing, additional or misnamed is a ``RunError``."""
    value = read_json(path)
    try:
        record = Record.model_validate(value)
    except ValidationError as error:
        raise RunError(f"Expected an experiment's record in {path}: {_first(error)}.") from error
    if Path(path).name != f"{record.name}.json":
        raise RunError(f"Expected the record {record.name!r} as {record.name}.json, found {path}.")
    return record


def code_state() -> tuple[str | None, bool | None]:
    """Return the commit of this package's repository and whether the tree differs from it.

    An installed package belongs to no repository, even if its folder lies within one: None, None.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None, None
    changed = _git(here.parent, "status", "--porcelain", "--", ":(top)", *OUTPUTS)
    return _git(here.parent, "rev-parse", "HEAD"), bool(changed)


def this_machine() -> Machine:
    """Describe the machine that runs this."""
    described = describe_environment()
    cuda: Any = described["cuda"]
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory=_memory(),
        system=str(described["platform"]),
        accelerators=tuple(cuda),
    )


def _figure(row: Row, reference: str, metric: str, factor: float, lower_is_better: bool) -> Figure:
    def shown(value: float | None) -> float | None:
        return None if value is None else factor * value

    return Figure(
        label=row.method,
        metric=metric,
        value=shown(row.mean),
        std=shown(row.std),
        values=tuple(factor * value for value in row.accuracies),
        reference=None if row.difference is None else reference,
        difference=shown(row.difference),
        low=shown(row.low),
        high=shown(row.high),
        seconds=row.seconds,
        lower_is_better=lower_is_better,
        note=row.note,
    )


def _versions() -> dict[str, str]:
    described = describe_environment()
    packages: Any = described["packages"]
    found = {name: number for name, number in packages.items() if number is not None}
    return {"python": str(described["python"]), **found}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"{where}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
