"""How often prediction intervals hold the truth: ``python -m difformer.experiments.coverage``.

On the series and cuts of the forecast recipes. The forecaster learns from the training and the
validation part, and every later step is forecast from what was known by then. Writes
``results/forecast-intervals.json``.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from difformer.data.protocols import Population, protocol
from difformer.data.series import load_series
from difformer.errors import DifformerError
from difformer.estimators import DIFFormerForecaster
from difformer.estimators.forecaster import LEVELS
from difformer.estimators.forecasting.backtest import Backtest
from difformer.experiments.record import Figure, write_record

NAME = "forecast-intervals"
COMMAND = "python -m difformer.experiments.coverage"
METRIC = "values inside %"


@dataclass(frozen=True)
class Case:
    """A series, its cut in time, and what is forecast."""

    data: str
    cut: str
    lags: int
    horizon: int = 1
    season: int | None = None
    encoder: str = "auto"


CASES = (
    Case("chickenpox", "temporal-20-20-60", 4),
    Case("england_covid", "temporal-20-20-60", 8, season=7),
    Case("pedalme", "temporal-20-20-60", 4),
    Case("metr_la_week", "temporal-70-10-20", 12, 12, 288, "decoupled"),
)


def measure(case: Case) -> tuple[Backtest, float]:
    """Forecasts of the test part, and how many times as large their errors are as those before."""
    series = load_series(case.data)
    snapshots = series.snapshots(case.lags, case.horizon)
    split = protocol(case.cut).split(Population(len(snapshots.target), name=case.data))
    first = int((split.train | split.val).sum()) + case.lags
    indices, weights = zip(*series.edges, strict=True)
    model = DIFFormerForecaster(
        case.lags,
        case.horizon,
        encoder=case.encoder,
        season=case.season,
        validation=int(split.val.sum()),
    )
    learnt = first + case.horizon - 1
    model.fit(series.values[:learnt], list(indices[:learnt]), list(weights[:learnt]))
    found = model.backtest(series.values, list(indices), list(weights))
    return found, model.error_ratio(found)


def figures_of_case(case: Case, found: Backtest, ratio: float) -> list[Figure]:
    """A row for each level and some steps ahead, and why it is off where it is."""
    rows = []
    steps = sorted({0, (case.horizon - 1) // 2, case.horizon - 1})
    for level, shares in found.coverage().items():
        for step in steps:
            value = 100 * shares[step]
            rows.append(
                Figure(
                    label=f"{case.data}, {level:.0%} intervals, {step + 1} ahead",
                    metric=METRIC,
                    value=value,
                    note=_why(found, value - 100 * level, ratio),
                )
            )
    return rows


def _why(found: Backtest, off: float, ratio: float) -> str | None:
    """What to know where more than three points are missing."""
    if abs(off) <= 3:
        return None
    tested, nodes = found.truth.shape[0], found.truth.shape[2]
    return (
        f"{off:+.1f} points: errors are {ratio:.2f} times those on the validation part, and "
        f"{tested} test steps of {nodes} nodes are few for widths to follow"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all cases and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=Path("results"))
    given = parser.parse_args(arguments)
    started, begin = datetime.now(UTC), time.perf_counter()
    figures: list[Figure] = []
    try:
        for case in CASES:
            figures += figures_of_case(case, *measure(case))
    except DifformerError as error:
        print(f"difformer: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for figure in figures:
        print(f"{figure.label:50s} {figure.value:6.1f} {figure.note or ''}")  # noqa: T201
    write_record(
        given.records / f"{NAME}.json",
        protocol="; ".join(
            [
                "Split conformal intervals with widths that follow misses",
                *(f"{c.data}: {c.cut}, {c.lags} lags, season {c.season}" for c in CASES),
                f"levels {', '.join(f'{level:.0%}' for level in LEVELS)}",
                "learnt from training and validation part, judged on the test part",
            ]
        ),
        command=COMMAND,
        seeds=[0],
        splits=[case.cut for case in CASES],
        figures=figures,
        started=started,
        seconds=time.perf_counter() - begin,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
