"""The machine's own limit: how fast a training step could be, given the products it needs.

Two rates are measured at each N, in turn with everything else: that of a tall matrix product,
(N, d) by (d, d) into an array that is there, and that of a copy of (N, d), which reads and writes.
Units: seconds, floating-point operations (flop), bytes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from difformer.experiments.bench.cases import CHANNELS, FEATURES, FLOAT, OUTPUTS

# Tall products a layer and training step that the algorithm needs: per-row norms with
# recomputation, and whole-array norms, where everything folds into one Gram matrix.
PRODUCTS = {"simple": 11, "official": 5}
INPUT_PRODUCTS = 2  # forward and the weights' gradient; the features need none
OUTPUT_PRODUCTS = 3  # forward, the weights' gradient, the states' gradient
PASSES = 6  # input, output and gradient of a layer, each read once and written once
BATCH_ROWS = 3_000_000  # rows that one reading of a rate goes through at least


@dataclass(frozen=True)
class Work:
    """What a training step cannot do without."""

    flops: float
    bytes: float

    def seconds(self, flops_a_second: float, bytes_a_second: float) -> float:
        """The limit: max(flops / rate, bytes / bandwidth), in seconds."""
        return max(self.flops / flops_a_second, self.bytes / bytes_a_second)


def least_work(
    rows: int,
    layers: int,
    form: str,
    features: int = FEATURES,
    channels: int = CHANNELS,
    outputs: int = OUTPUTS,
) -> Work:
    """Work of one training step without a graph, form ``simple`` (per-row norms) or ``official``.

    flops = 2 N d^2 a tall product, PRODUCTS[form] products a layer; for the input map 2 products of
    2 N F d, for the output map 3 of 2 N d O. bytes = one read and one write of each (N, d) input,
    output and gradient a layer, in float32.

    Example:
        >>> least_work(1, 1, "official", features=0, channels=10, outputs=0)
        Work(flops=1000, bytes=240)
    """
    in_layers = layers * PRODUCTS[form] * 2 * rows * channels**2
    in_input_map = INPUT_PRODUCTS * 2 * rows * features * channels
    in_output_map = OUTPUT_PRODUCTS * 2 * rows * channels * outputs
    moved = layers * PASSES * rows * channels * FLOAT
    return Work(in_layers + in_input_map + in_output_map, moved)


def product_flops(rows: int) -> int:
    """Of the product that is timed."""
    return 2 * rows * CHANNELS**2


def copy_bytes(rows: int) -> int:
    """Of the copy that is timed: read and written."""
    return 2 * rows * CHANNELS * FLOAT


class Rates:
    """Times the product and the copy at N rows; one ``step`` is one reading of both."""

    def __init__(self, rows: int, device: str = "cpu") -> None:
        import torch

        self.device, self.loops = device, max(1, BATCH_ROWS // rows)
        self.x = torch.ones(rows, CHANNELS, device=device)
        self.weight = torch.ones(CHANNELS, CHANNELS, device=device)
        self.out = torch.empty_like(self.x)

    def step(self) -> dict[str, float]:
        """Seconds of one product and of one copy."""
        import torch

        return {
            "product": self._time(lambda: torch.mm(self.x, self.weight, out=self.out)),
            "copy": self._time(lambda: self.out.copy_(self.x)),
        }

    def _time(self, call: Callable[[], object]) -> float:
        call()  # not timed: while others had their turn, caches and processor went elsewhere
        wait(self.device)
        started = time.perf_counter()
        for _ in range(self.loops):
            call()
        wait(self.device)
        return (time.perf_counter() - started) / self.loops


def wait(device: str) -> None:
    """Until a GPU has done what it was told; a CPU has."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
