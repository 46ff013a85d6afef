"""From a request to ``bench.json`` and its picture: the one path behind ``difformer bench``."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from difformer.errors import ConfigError, one_of
from difformer.experiments.bench import memory
from difformer.experiments.bench.against import settings_like
from difformer.experiments.bench.cases import (
    LONG_SIZE,
    QUADRATIC_SIZES,
    QUICK_QUADRATIC_SIZES,
    QUICK_SIZES,
    SIZES,
    Settings,
    checked_sizes,
    known_methods,
)
from difformer.experiments.bench.picture import picture
from difformer.experiments.bench.result import (
    FILE,
    PICTURE,
    Rate,
    Result,
    Row,
    conclude,
    folder_name,
    read_result,
    write_result,
)
from difformer.experiments.bench.turns import measure
from difformer.experiments.record import this_machine
from difformer.runs.atomic import check_output, write_text

QUICK_REPEATS = 3
RESULTS = Path("benchmarks") / "results"
Heard = Callable[[Rate, list[Row]], None]


@dataclass(frozen=True)
class Request:
    """What was typed; empty texts and None stand for the defaults."""

    sizes: str = ""
    quadratic_sizes: str = ""
    methods: str = ""
    layers: int = 8
    repeats: int = 5
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    quick: bool = False
    long: bool = False
    out: Path | None = None
    against: Path | None = None


def settings_of(request: Request) -> tuple[Settings, Result | None]:
    """The settings of a run, and the stored result that it is compared with.

    Raises:
        ConfigError: A value is not allowed.
        RunError: ``against`` is no result.
    """
    sizes = checked_sizes(request.sizes) if request.sizes else ()
    typed = [name.strip() for name in request.methods.split(",") if name.strip()]
    methods = known_methods(typed)
    if request.against is not None:
        stored = read_result(request.against)
        return settings_like(stored, sizes, typed, request.threads), stored
    quadratic = checked_sizes(request.quadratic_sizes) if request.quadratic_sizes else sizes
    on_gpu = one_of(request.device, ("cpu", "cuda"), "--device") == "cuda"
    settings = Settings(
        sizes=sizes or (QUICK_SIZES if request.quick else SIZES),
        quadratic_sizes=quadratic or _quadratic_sizes(request),
        methods=methods,
        layers=request.layers,
        repeats=min(request.repeats, QUICK_REPEATS) if request.quick else request.repeats,
        seed=request.seed,
        threads=request.threads,
        device="cuda" if on_gpu else "cpu",
        long=request.long,
    )
    if not settings.all_sizes():
        raise ConfigError("--sizes must hold one that a method is run at; --long allows more.")
    return settings, None


def _quadratic_sizes(request: Request) -> tuple[int, ...]:
    usual = QUICK_QUADRATIC_SIZES if request.quick else QUADRATIC_SIZES
    return (*usual, LONG_SIZE) if request.long else usual


def run(
    settings: Settings,
    heard: Heard = lambda rate, rows: None,
    tell: Callable[[str], None] = lambda text: None,
    allowed: int | None = None,
) -> Result:
    """Measure everything; ``heard`` is called when a size is done.

    Args:
        allowed: bytes that may be used. Default: 80 % of what is available.
    """
    started = datetime.now(UTC)
    free = available(settings.device)
    share = round(memory.SHARE * free) if allowed is None else allowed
    rates, rows = [], []
    for rate, found in measure(settings, share, tell):
        rates.append(rate)
        rows += found
        heard(rate, found)
    return conclude(settings, rates, rows, free, started)


def available(device: str) -> int:
    """Bytes that are free, of the machine or of its GPU.

    Raises:
        ConfigError: No GPU is there.
    """
    if device == "cpu":
        return memory.available()
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("--device cuda needs a CUDA device that torch can use, found none.")
    return int(torch.cuda.mem_get_info()[0])


def output_folder(request: Request) -> Path:
    """Where the result will be written: a folder that holds none yet.

    Raises:
        ConfigError: The folder given holds a result.
        RunError: It can never be written.
    """
    if request.out is not None:
        if (request.out / FILE).exists():
            raise ConfigError(f"--out {request.out} holds a {FILE}; give another folder.")
        check_output(request.out / FILE)
        return request.out
    now = datetime.now(UTC)
    name = folder_name(this_machine(), request.device, now)
    results = _checkout()
    folder = Path(f"difformer-bench-{now:%Y-%m-%d}") if results is None else results / name
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    check_output(candidate)
    return candidate


def _checkout() -> Path | None:
    """The folder of results if we stand in a checkout of this project."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "src" / "difformer" / "experiments" / "bench").is_dir():
            return (folder / RESULTS).relative_to(here) if folder == here else folder / RESULTS
    return None


def write(folder: Path, result: Result) -> list[Path]:
    """Write the result and its picture; the paths."""
    path = write_result(folder, result)
    write_text(folder / PICTURE, picture(result))
    return [path, folder / PICTURE]
