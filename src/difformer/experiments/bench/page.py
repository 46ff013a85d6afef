"""The generated part of docs/performance.md: ``python -m difformer.experiments.bench.page``.

It stands between two markers, made from the newest stored result of each kind of device and depth
of the encoders; what people write stands outside them and is kept. ``--check`` only tells whether
it is up to date.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from difformer.errors import DifformerError, RunError
from difformer.experiments.bench.cases import METHODS
from difformer.experiments.bench.result import FILE, PICTURE, Ratio, Result, Row, read_result
from difformer.experiments.bench.table import power, ratio, seconds, share, size_of
from difformer.experiments.scoring import PREFIX, Scoring, lines
from difformer.runs.atomic import read_json, write_text

BEGIN = "<!-- bench:begin: made by `make docs-performance` from benchmarks/results; do not edit -->"
END = "<!-- bench:end -->"
DEVICES = {"cpu": "On a CPU", "cuda": "On a GPU"}
SCORING = """\
`predict` of a fitted estimator (2 layers of width 64, 64 features in float64, 10 classes), beside
scikit-learn on the same rows, in turn in one process, medians. `simple` needs sums over the context
only and is compared with an MLP of three hidden layers of 64; `local` finds 15 neighbours among the
context and, as the union rule asks, the fitted rows that have a new one within their reach, and is
compared with brute-force nearest neighbours.
"""
Cell = Callable[[Row], str]


def generated(stored: Iterable[tuple[str, Result]], scored: Sequence[Scoring] = ()) -> str:
    """The part between the markers.

    Args:
        stored: (the path of its folder as the page links to it, result) of each.
        scored: Timings of predictions.
    """
    found = list(stored)
    parts = [_section(device, title, found) for device, title in DEVICES.items()]
    return "\n".join([*parts, _scoring(scored)])


def _scoring(scored: Sequence[Scoring]) -> str:
    """The newest timing of predictions on each machine."""
    newest: dict[str, Scoring] = {}
    for scoring in sorted(scored, key=lambda s: s.started):
        newest[scoring.machine.cpu] = scoring
    parts = ["## Predictions for new rows\n", SCORING]
    for scoring in newest.values():
        parts += [
            f"- Command: `{scoring.command}`",
            f"- Code: commit {_code(scoring.commit, scoring.dirty)}; seed {scoring.seed}",
            f"- Machine: {scoring.machine.cpu}, {scoring.machine.cores} cores, "
            f"{scoring.threads} threads; {scoring.started:%Y-%m-%d}\n",
            *lines(scoring),
            "",
        ]
    return "\n".join(parts)


def _section(device: str, title: str, found: Sequence[tuple[str, Result]]) -> str:
    own = [pair for pair in found if pair[1].settings.device == device]
    if not own:
        asked = "" if device == "cpu" else f" --device {device}"
        return f"## {title}\n\nNo run is recorded; `difformer bench{asked}` makes one.\n"
    newest: dict[int, tuple[str, Result]] = {}
    for pair in sorted(own, key=lambda pair: pair[1].started):
        newest[pair[1].settings.layers] = pair
    return "\n".join(
        _run(f"## {title}, {layers} layers", *newest[layers]) for layers in sorted(newest)[::-1]
    )


def _run(title: str, folder: str, result: Result) -> str:
    parts = [f"{title}\n", _provenance(result), f"![Time and memory]({folder}/{PICTURE})\n"]
    for quadratic in (False, True):
        parts += _tables(result, quadratic)
    return "\n".join(parts)


def _code(commit: str | None, dirty: bool | None) -> str:
    if commit is None:
        return "not run from a repository"
    return f"`{commit[:12]}`" + (" **with uncommitted changes**" if dirty else "")


def _provenance(result: Result) -> str:
    machine, settings = result.machine, result.settings
    memory = "" if machine.memory is None else f", {machine.memory / 2**30:.0f} GiB"
    devices = "".join(f", {name}" for name in machine.accelerators)
    versions = ", ".join(f"{name} {number}" for name, number in sorted(result.versions.items()))
    environment = ", ".join(f"`{name}={value}`" for name, value in result.environment.items())
    lines = [
        f"- Command: `{result.command}`",
        f"- Code: difformer {result.version}, commit {_code(result.commit, result.dirty)}",
        f"- Machine: {machine.cpu}, {machine.cores} cores{memory}{devices}, {machine.system}",
        f"- Versions: {versions}",
        f"- Processes: {result.threads} threads, {environment}",
        f"- Encoders: {settings.layers} layers; seed {settings.seed}; "
        f"medians of {settings.repeats} rounds in turn, after a warm-up",
        f"- Run: {result.started:%Y-%m-%d}, {result.seconds / 60:,.0f} min",
    ]
    return "\n".join(lines) + "\n"


def _tables(result: Result, quadratic: bool) -> list[str]:
    rows = [row for row in result.rows if METHODS[row.method].quadratic == quadratic]
    if not rows:
        return []
    what = "methods whose time grows with N²" if quadratic else "methods whose time grows with N"
    slopes = {slope.method: slope for slope in result.slopes}
    times = {name: power(slope.time) for name, slope in slopes.items()}
    memory = {name: power(slope.memory) for name, slope in slopes.items()}
    parts = [
        f"### Time of a training step, {what}\n",
        *_matrix(rows, lambda row: seconds(row.median), times),
        f"### Extra memory of a step (peak of the process), {what}\n",
        *_matrix(rows, _memory, memory),
        f"### Ratios, {what}\n",
        *_ratios(result.ratios, quadratic),
    ]
    return parts if quadratic else [*parts, *_limits(result)]


def _memory(row: Row) -> str:
    return f"{size_of(row.extra)} ({size_of(row.peak)})"


def _matrix(rows: Sequence[Row], cell: Cell, slopes: dict[str, str]) -> list[str]:
    """One line a method, one column a size, and the slope; below, what did not run."""
    sizes = sorted({row.size for row in rows})
    table = {(row.method, row.size): row for row in rows}
    lines = [_line(("method", *(f"N = {n:,}" for n in sizes), "~ N^"))]
    lines.append(_line(("---", *(["---:"] * (len(sizes) + 1)))))
    for name, method in METHODS.items():
        if any((name, size) in table for size in sizes):
            cells = [_shown(table.get((name, size)), cell) for size in sizes]
            lines.append(_line((method.label, *cells, slopes.get(name, ""))))
    return [*lines, ""]


def _shown(row: Row | None, cell: Cell) -> str:
    if row is None:
        return ""
    if row.note is None:
        return cell(row)
    needs = "" if row.predicted is None else f", {size_of(row.predicted)} predicted"
    return f"not run{needs}"


def _ratios(found: Sequence[Ratio], quadratic: bool) -> list[str]:
    kept = [pair for pair in found if METHODS[pair.method].quadratic == quadratic]
    sizes = sorted({pair.size for pair in kept})
    pairs = list(dict.fromkeys((pair.method, pair.other) for pair in kept))
    table = {(pair.method, pair.other, pair.size): pair for pair in kept}
    lines = [
        "Time and, after the comma, extra memory: ours over the other's.\n",
        _line(("ours / other", *(f"N = {n:,}" for n in sizes))),
        _line(("---", *(["---:"] * len(sizes)))),
    ]
    for ours, other in pairs:
        cells = [ratio(table.get((ours, other, size))) for size in sizes]
        lines.append(_line((f"{METHODS[ours].label} / {METHODS[other].label}", *cells)))
    return [*lines, ""]


def _limits(result: Result) -> list[str]:
    """The machine's own limit, and how much of it is reached."""
    sizes = [rate.size for rate in result.rates]
    rows = [row for row in result.rows if row.limit]
    kept = [size for size in sizes if any(row.size == size for row in rows)]
    rates = [rate for rate in result.rates if rate.size in kept]
    if not rows:
        return []
    lines = [
        "### The machine's own limit, and the part of it that is reached\n",
        _line(("", *(f"N = {n:,}" for n in kept))),
        _line(("---", *(["---:"] * len(kept)))),
        _line(("tall product, GFLOP/s", *(f"{r.flops_a_second / 1e9:.0f}" for r in rates))),
        _line(("copy, GB/s read and written", *(f"{r.bytes_a_second / 1e9:.1f}" for r in rates))),
    ]
    table = {(row.method, row.size): share(row.share_of_limit) for row in rows}
    for name in dict.fromkeys(row.method for row in rows):
        cells = [table.get((name, size), "") for size in kept]
        lines.append(_line((f"{METHODS[name].label}: reached", *cells)))
    return [*lines, ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def page(text: str, part: str) -> str:
    """The page with its generated part replaced.

    Raises:
        RunError: It has not exactly one pair of markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise RunError(f"Expected the lines {BEGIN!r} and {END!r} once each in the page.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n\n{part}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with ``--check`` tell whether it is up to date; 0, 1 (stale) or 2."""
    parser = argparse.ArgumentParser(description="Generate a part of the performance page.")
    parser.add_argument("--results", default="benchmarks/results", help="folder of the results")
    parser.add_argument("--page", default="docs/performance.md", help="the page")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it is stale")
    options = parser.parse_args(arguments)
    target = Path(options.page)
    try:
        text = target.read_text(encoding="utf-8")
        results = Path(options.results)
        wanted = page(text, generated(_stored(results, target.parent), _scored(results)))
        if not options.check and wanted != text:
            write_text(target, wanted)
    except (DifformerError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not options.check or wanted == text:
        return 0
    sys.stderr.write(f"{target} is not what the results give; run `make docs-performance`.\n")
    return 1


def _stored(results: Path, seen_from: Path) -> list[tuple[str, Result]]:
    files = sorted(results.glob(f"*/{FILE}"))
    return [
        (Path(os.path.relpath(file.parent, seen_from)).as_posix(), read_result(file))
        for file in files
    ]


def _scored(results: Path) -> list[Scoring]:
    return [Scoring.model_validate(read_json(f)) for f in sorted(results.glob(f"{PREFIX}*.json"))]


if __name__ == "__main__":
    raise SystemExit(main())
