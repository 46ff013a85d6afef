"""The constants of one step, and the blocks of rows in which it is made."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from difformer.diffusion.parallel import threads

NUMBERS = 1 << 18  # of one block of states: 1 MB in float32, so that a few fit into a core's cache
ROWS = 1 << 12  # at most, on a CPU: what is summed in the states' own precision before float64
FEWEST_ROWS = 1 << 10  # of a share: below, threads would wait longer for each other than they work


@dataclass(frozen=True)
class StepRule:
    """The constants of a step.

    Attributes:
        keep: :math:`c_0`, share of the present state.
        rest: :math:`c_1`, share of the other terms' influence.
        source: :math:`c_2`, share of the initial state.
        gain: The linear rate is proportional to 1 + gain cos.
        row_norms: See :func:`difformer.diffusion.folded.fold`.
        eps: Of the LayerNorm.
        relu: Whether negative states become 0 after the LayerNorm.
        dropout: Rate in [0, 1).
        key: Which dropout mask (``difformer.diffusion.masks``).
        store: Keep the product with N rows of the second pass for the backward, (H, N, C) numbers,
            instead of making it again.
        store_neighbours: Keep what sparse operators bring, (N, C) numbers.
    """

    keep: float
    rest: float = 0.0
    source: float = 0.0
    gain: float = 1.0
    row_norms: bool = True
    eps: float = 1e-5
    relu: bool = False
    dropout: float = 0.0
    key: int = 0
    store: bool = False
    store_neighbours: bool = False


def blocks(rows: int, channels: int, device: torch.device, shares: int = 1) -> Iterator[slice]:
    """Cut rows into blocks that fit into the cache; on an accelerator, into large ones.

    On a CPU their number is a multiple of ``shares``, or of as many as have enough rows, so that no
    share waits for another.
    """
    factor = 1 if device.type == "cpu" else 1 << 8
    size = max(1, min(NUMBERS // max(channels, 1), ROWS) * factor)
    if device.type == "cpu" and rows:
        shares = max(1, min(shares, rows // FEWEST_ROWS))
        size = -(-rows // (-(-rows // (size * shares)) * shares))
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))


def cuts_of(z: Tensor) -> list[slice]:
    """The blocks of states z (N, C), for as many threads as will work on them."""
    return list(blocks(z.shape[0], z.shape[1], z.device, threads()))


def working(z: Tensor) -> torch.dtype:
    """The precision that blocks are computed in: at least float32."""
    return torch.float64 if z.dtype == torch.float64 else torch.float32
