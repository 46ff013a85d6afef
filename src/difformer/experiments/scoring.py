"""Time of predictions for new rows, beside scikit-learn: python -m difformer.experiments.scoring.

``simple`` beside ``MLPClassifier`` with as many hidden layers as the encoder has maps of its width,
``local`` beside ``KNeighborsClassifier(algorithm="brute")`` on the same context with as many
neighbours; both in turn, in one process, with the same float64 table, and one row alone. The result
is written to ``benchmarks/results/scoring-HARDWARE-DATE.json``.

Letters: N rows in the context, O new rows.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from difformer.diffusion import Neighbourhood
from difformer.estimators import DIFFormerClassifier
from difformer.experiments.bench.result import folder_name
from difformer.experiments.record import Machine, code_state, this_machine
from difformer.runs.atomic import write_json

FEATURES, CLASSES, WIDTH, LAYERS = 64, 10, 64, 2
CONTEXT, LABELLED = 10_000, 1_000
PREFIX = "scoring-"
Floats = NDArray[np.float64]


class Timing(BaseModel):
    """Seconds of each round, ours and scikit-learn's; None: there is nothing to compare with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    case: str
    rows: int  # O
    ours: tuple[float, ...]
    other: str | None = None
    theirs: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Median of the ratios by round."""
        pairs = zip(self.ours, self.theirs, strict=False)
        return median(a / b for a, b in pairs) if self.theirs else None


class Scoring(BaseModel):
    """A stored result. No user, host or folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    commit: str | None
    dirty: bool | None
    machine: Machine
    threads: int
    seed: int
    context: int
    started: AwareDatetime
    timings: tuple[Timing, ...]


def measure(rows: int, local_rows: int, context: int, rounds: int, seed: int) -> list[Timing]:
    """Time the three cases, after a round that does not count."""
    rng = np.random.default_rng(seed)
    known = rng.normal(size=(context, FEATURES))
    y = known[:, :CLASSES].argmax(axis=1)
    some = np.where(np.arange(context) < LABELLED, y, -1)
    new, few = rng.normal(size=(rows, FEATURES)), rng.normal(size=(local_rows, FEATURES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # time does not depend on the weights
        hidden = (WIDTH,) * (LAYERS + 1)
        mlp = MLPClassifier(hidden, max_iter=2, random_state=0).fit(known, y)
    simple, local = _fitted(known, some, "simple"), _fitted(known, some, "local")
    knn = KNeighborsClassifier(Neighbourhood().k, algorithm="brute").fit(known, y)
    return [
        _in_turn("simple", new, simple.predict, "MLPClassifier", mlp.predict, rounds),
        _in_turn("local", few, local.predict, "KNeighborsClassifier", knn.predict, rounds),
        _alone(new[: 40 * rounds], simple.predict),
    ]


def _fitted(x: Floats, y: NDArray[Any], diffusivity: str) -> DIFFormerClassifier:
    options = {"hidden_channels": WIDTH, "num_layers": LAYERS}
    training = {"epochs": 2}
    return DIFFormerClassifier("trained", diffusivity, options=options, training=training).fit(x, y)


def _in_turn(
    case: str,
    new: Floats,
    ours: Callable[[Any], Any],
    other: str,
    theirs: Callable[[Any], Any],
    rounds: int,
) -> Timing:
    pairs = [(_seconds(ours, new), _seconds(theirs, new)) for _ in range(rounds + 1)][1:]
    own, others = zip(*pairs, strict=True)
    return Timing(case=case, rows=len(new), ours=own, other=other, theirs=others)


def _alone(new: Floats, ours: Callable[[Any], Any]) -> Timing:
    seconds = tuple(_seconds(ours, new[[i]]) for i in range(len(new)))
    return Timing(case="simple", rows=1, ours=seconds)


def _seconds(call: Callable[[Any], Any], x: Floats) -> float:
    started = time.perf_counter()
    call(x)
    return time.perf_counter() - started


def lines(scoring: Scoring) -> list[str]:
    """A table in Markdown."""
    table = ["| case | rows | ours | scikit-learn | ratio |", "| --- | ---: | ---: | ---: | ---: |"]
    for timing in scoring.timings:
        theirs = f"{timing.other} {1e3 * median(timing.theirs):,.0f} ms" if timing.theirs else ""
        ratio = "" if timing.ratio is None else f"{timing.ratio:.2f}"
        ours = f"{1e3 * median(timing.ours):,.{0 if timing.rows > 1 else 2}f} ms"
        table.append(f"| {timing.case} | {timing.rows:,} | {ours} | {theirs} | {ratio} |")
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the result."""
    parser = argparse.ArgumentParser(description="Time predictions for new rows.")
    parser.add_argument("--rows", type=int, default=100_000, help="new rows for simple")
    parser.add_argument("--local-rows", type=int, default=20_000, help="new rows for local")
    parser.add_argument("--context", type=int, default=CONTEXT, help="fitted rows")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds")
    parser.add_argument("--seed", type=int, default=0, help="of the tables")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder")
    given = parser.parse_args(arguments)
    (commit, dirty), machine, started = code_state(), this_machine(), datetime.now(UTC)
    timings = measure(given.rows, given.local_rows, given.context, given.rounds, given.seed)
    words = sys.argv[1:] if arguments is None else arguments
    scoring = Scoring(
        command=" ".join(["python -m difformer.experiments.scoring", *words]),
        commit=commit,
        dirty=dirty,
        machine=machine,
        threads=torch.get_num_threads(),
        seed=given.seed,
        context=given.context,
        started=started,
        timings=tuple(timings),
    )
    path = given.out / f"{PREFIX}{folder_name(machine, 'cpu', started)}.json"
    write_json(path, scoring.model_dump(mode="json"))
    sys.stdout.write("\n".join([*lines(scoring), f"Written: {path}"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
