"""Sums over the rows of blocks, in which each thread reads the rows that it has written.

torch splits operations on a block by rows, one share for each thread, but a sum over rows by
columns: then each core fetches from the others' caches what they have just written, and they fetch
it back for the next block. That costs more than the sum. Here shares of rows are summed apart.

Letters: B rows of a block, T threads, J and K columns.
"""

import torch
from torch import Tensor


class Total:
    """A sum in float64 to which blocks of rows are added.

    Args:
        shape: (J,) of sums of rows, (J, K) of sums of outer products.
        device: Where the rows are.

    Example:
        >>> total = Total((1, 2), torch.device("cpu"))
        >>> total.add_outer(torch.ones(4, 1), torch.ones(4, 2))
        >>> total.value()
        tensor([[4., 4.]], dtype=torch.float64)
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.shape, self.device, self.threads = shape, device, _threads(device)
        self._parts: Tensor | None = None  # of each thread, or of all together

    def add_rows(self, block: Tensor) -> None:
        """Add the rows of (B, J)."""
        self._add(_shares(block, self.threads).sum(1))

    def add_outer(self, left: Tensor, right: Tensor) -> None:
        """Add left' right of (B, J) and (B, K): the outer products of rows."""
        self._add(_outer(left, right, self.threads))

    def value(self) -> Tensor:
        """The sum so far, (J,) or (J, K)."""
        if self._parts is None:
            return torch.zeros(self.shape, dtype=torch.float64, device=self.device)
        return self._parts.sum(0) if self._parts.shape[0] > 1 else self._parts[0]

    def _add(self, parts: Tensor) -> None:
        if self._parts is None:
            self._parts = parts.double()
        elif parts.shape[0] == self._parts.shape[0]:
            self._parts.add_(parts)
        else:  # rows that do not divide by the threads come as one part
            self._parts = (self._parts.sum(0) + parts.sum(0)).unsqueeze(0)


def sum_outer(left: Tensor, right: Tensor) -> Tensor:
    """left' right of (B, J) and (B, K), (J, K), in float64, of one block alone.

    Example:
        >>> sum_outer(torch.ones(4, 1), torch.ones(4, 2))
        tensor([[4., 4.]], dtype=torch.float64)
    """
    return _outer(left, right, _threads(left.device)).sum(0, dtype=torch.float64)


def _threads(device: torch.device) -> int:
    return torch.get_num_threads() if device.type == "cpu" else 1


def _outer(left: Tensor, right: Tensor, threads: int) -> Tensor:
    return torch.bmm(_shares(left, threads).mT, _shares(right, threads))


def _shares(block: Tensor, threads: int) -> Tensor:
    """(T, B / T, J), or (1, B, J) if T does not divide B."""
    rows, columns = block.shape
    count = 1 if rows % threads else threads
    return block.view(count, rows // count, columns)
