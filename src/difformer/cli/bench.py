"""``difformer bench``: what a training step costs, beside the published form and other encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from difformer.experiments.bench.cases import Settings
    from difformer.experiments.bench.result import Result
    from difformer.experiments.bench.run import Request


def bench(
    sizes: str = typer.Option("", help="Numbers of rows, with commas. Default: 10^4 to 10^6."),
    quadratic_sizes: str = typer.Option(
        "", help="Those of methods whose time grows with N^2. Default: as --sizes, if given."
    ),
    methods: str = typer.Option("", help="Methods, with commas. Default: all."),
    layers: int = typer.Option(8, min=1, help="Diffusion layers of every encoder."),
    repeats: int = typer.Option(5, min=1, help="Timed rounds."),
    seed: int = typer.Option(0, min=0, help="Seed of inputs, graph and weights."),
    threads: int = typer.Option(0, min=0, help="Threads; 0: as many as torch takes."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    quick: bool = typer.Option(False, "--quick", help="Small sizes, at most 3 rounds."),
    long: bool = typer.Option(False, "--long", help="Also sizes that take many minutes."),
    out: Path | None = typer.Option(
        None, help="Folder. Default: benchmarks/results/HARDWARE-DATE in a checkout."
    ),
    against: Path | None = typer.Option(
        None,
        help="A stored bench.json, or a folder with some (the newest): run its cases, with its "
        "settings, and compare the ratios. --sizes and --methods narrow them.",
    ),
    tolerance: float = typer.Option(
        0.25, min=0, help="With --against: how much larger a ratio may be, as a fraction."
    ),
) -> None:
    """Time and memory of a training step, beside the published form and other encoders."""
    from difformer.experiments.bench.run import Request

    request = Request(
        sizes=sizes,
        quadratic_sizes=quadratic_sizes,
        methods=methods,
        layers=layers,
        repeats=repeats,
        seed=seed,
        threads=threads or None,
        device=device,
        quick=quick,
        long=long,
        out=out,
        against=against,
    )
    try:
        worse = _run(request, tolerance)
    except KeyboardInterrupt:
        typer.echo("difformer: interrupted; nothing was written.", err=True)
        raise typer.Exit(130) from None
    if worse:
        raise typer.Exit(1)


def _run(request: "Request", tolerance: float) -> bool:
    """Measure, print and write, or compare; whether a ratio got worse."""
    from difformer.cli.screen import console, say
    from difformer.experiments.bench.run import output_folder, settings_of, write
    from difformer.experiments.bench.table import slope_table

    settings, stored = settings_of(request)
    # A comparison is written only where that was asked for.
    folder = None if stored and request.out is None else output_folder(request)
    result = _measured(settings)
    screen = console()
    if result.slopes:
        screen.print(slope_table(result))
    if folder is not None:
        say(["Written:", *(f"  {path}" for path in write(folder, result))], screen)
    return stored is not None and _compared(stored, result, tolerance)


def _measured(settings: "Settings") -> "Result":
    """Run, printing the table of each size when it is done."""
    from difformer.cli.screen import console, say
    from difformer.experiments.bench.result import Rate, Row, in_order, ratios_of
    from difformer.experiments.bench.run import run
    from difformer.experiments.bench.table import machine_line, notes, size_table

    screen = console()

    def heard(rate: Rate, rows: list[Row]) -> None:
        say([machine_line(rate)], screen)
        screen.print(size_table(in_order(rows), ratios_of(rows)))
        say([*notes(in_order(rows)), ""], screen)

    if not screen.is_terminal:
        return run(settings, heard)
    with screen.status("Starting") as status:
        tell: Callable[[str], None] = status.update
        return run(settings, heard, tell)


def _compared(stored: "Result", present: "Result", tolerance: float) -> bool:
    """Print both ratios of every case; whether one got worse."""
    from difformer.cli.screen import console, say
    from difformer.experiments.bench.against import check_table, checks

    found = checks(stored, present)
    screen = console()
    screen.print(check_table(found, tolerance))
    if stored.machine != present.machine or stored.threads != present.threads:
        say(["The stored run is of another machine or number of threads."], screen)
    worse = sum(check.worse(tolerance) for check in found)
    say([f"{worse} of {len(found)} ratios got worse by more than {tolerance:.0%}."], screen)
    return worse > 0
