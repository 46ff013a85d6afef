"""Our default beside the classics with a few labels a class and no graph.

``python -m difformer.experiments.few_labels --data digits --labels 10 --splits 20 --out FILE``

No validation rows: every method has fixed settings. Laplace and Poisson learning need the extra
``classics``; without it their rows say so.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from difformer.data import datasets
from difformer.errors import DifformerError
from difformer.experiments.baselines import BASELINES, methods
from difformer.experiments.comparison import compare
from difformer.experiments.record import figures_of, module_command, write_record
from difformer.experiments.showdown import DEFAULT, drawn_cases, ours

CLASSICS = tuple(name for name, row in BASELINES.items() if not row.needs_graph)


def main(arguments: list[str] | None = None) -> int:
    """Run and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--labels", type=int, default=10)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    started = datetime.now(UTC)
    try:
        cases = drawn_cases(datasets.load(asked.data), asked.labels, range(asked.splits))
        table = {DEFAULT: ours(), **methods(has_graph=False, names=CLASSICS)}
        result = compare(table, cases, DEFAULT, progress=_tell)
        write_record(
            asked.out,
            protocol=f"per-class: {asked.labels} labels a class, judged on all other rows; "
            "no validation rows, fixed settings; ± over splits, split seed = model seed",
            command=module_command("difformer.experiments.few_labels", arguments),
            seeds=result.seeds,
            splits=result.splits,
            figures=figures_of(result),
            started=started,
        )
    except DifformerError as error:
        print(f"few_labels: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _tell(method: str, split: str) -> None:
    print(f"{method}: {split}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
