"""A child process: ``python -m difformer.experiments.bench.worker CASE``, CASE being JSON.

It loads its libraries and answers one line of JSON for each line that it reads: to ``prepare`` when
inputs and encoder are there, to ``step`` with the seconds of one, to ``stop`` with its peak, and
ends. A case that cannot run answers why. Nothing else reaches standard output.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from difformer.errors import DifformerError
from difformer.experiments.bench.cases import METHODS

RATES = "rates"  # the case that measures the machine
Send = Callable[[dict[str, Any]], None]


def main(arguments: list[str] | None = None) -> int:
    """Run one case until the parent says stop, or is gone."""
    (case,) = sys.argv[1:] if arguments is None else arguments
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library that prints must not be taken for an answer

    def send(message: dict[str, Any]) -> None:
        channel.write(json.dumps(message) + "\n")

    try:
        _serve(json.loads(case), send)
    except DifformerError as error:
        send({"note": str(error)})
    except (MemoryError, RuntimeError) as error:  # torch's own out-of-memory is a RuntimeError
        send({"note": f"ended with {type(error).__name__}: {str(error).splitlines()[0][:200]}"})
    return 0


def _serve(case: dict[str, Any], send: Send) -> None:
    import torch

    if case["threads"] is not None:
        torch.set_num_threads(case["threads"])
    if case["device"] == "cuda" and not torch.cuda.is_available():
        send({"note": "torch finds no CUDA device"})
        return
    if case["method"] == RATES:
        _answer_rates(case, send)
    else:
        _answer_trial(case, send)


def _answer_rates(case: dict[str, Any], send: Send) -> None:
    import torch

    from difformer.experiments.bench.limit import Rates

    sys.stdin.readline()
    rates = Rates(case["size"], case["device"])
    send({"threads": torch.get_num_threads()})
    for _ in _asked():
        send(dict(rates.step()))
    send({})


def _answer_trial(case: dict[str, Any], send: Send) -> None:
    from difformer.experiments.bench.trial import Trial

    sys.stdin.readline()
    method = METHODS[case["method"]]
    trial = Trial(method, case["size"], case["layers"], case["seed"], case["device"])
    send({"floor": trial.floor, "base": trial.base, "once": trial.once})
    for _ in _asked():
        send(dict(trial.step()))
    send({"peak": trial.peak()})


def _asked() -> Any:
    """Yield once for each ``step`` that the parent asks for."""
    for line in sys.stdin:
        if line.strip() != "step":
            return
        yield line


if __name__ == "__main__":
    sys.exit(main())
