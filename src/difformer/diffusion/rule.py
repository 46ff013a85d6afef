"""The constants of one step, and the blocks of rows in which it is made."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Of one thread's share of a block: 0.8 MB in float32, so that a few fit into a core's cache.
NUMBERS = 3 << 16
ROWS = 3 << 10  # of a share at most: what is summed in the states' own precision before float64
MOST_SHARES = 16  # threads beyond that get smaller ones
ACCELERATOR = 171  # shares of a block there: half a million rows of 64 channels


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


def blocks(rows: int, channels: int, device: torch.device) -> Iterator[slice]:
    """Cut rows into blocks of about equal size that fit into the caches; on an accelerator, large.

    On a CPU their lengths are multiples of the number of threads, but for the last one's.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    shares = min(threads, MOST_SHARES) if device.type == "cpu" else ACCELERATOR
    size = max(1, min(NUMBERS // max(channels, 1), ROWS) * shares)
    size = -(-rows // max(1, -(-rows // size)))
    size = max(1, -(-size // threads) * threads)
    for start in range(0, rows, size):
        yield slice(start, min(rows, start + size))


def blocks_of(x: Tensor, work: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """The blocks of x (N, C): which rows, and they in the working precision, (B, C)."""
    for rows in blocks(x.shape[0], x.shape[1], x.device):
        yield rows, x[rows].to(work)


def working(z: Tensor) -> torch.dtype:
    """The precision that blocks are computed in: at least float32."""
    return torch.float64 if z.dtype == torch.float64 else torch.float32
