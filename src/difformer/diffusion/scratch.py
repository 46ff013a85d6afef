"""Room of one thread for what lies between two operations on a block of rows.

The next block takes up the same memory: it is in the cache, and nothing is asked of the system.
"""

import torch
from torch import Tensor

from difformer.diffusion.workspace import Workspace


class Scratch:
    """Named buffers for blocks of rows, in the working precision.

    Args:
        work: The working precision.
        device: Where they lie.
        workspace: Where their memory is taken from.

    Example:
        >>> scratch = Scratch(torch.float32, torch.device("cpu"), Workspace())
        >>> scratch.lifted(torch.tensor([[2.0, 3.0]]))
        tensor([[2., 3., 1.]])
    """

    def __init__(self, work: torch.dtype, device: torch.device, workspace: Workspace) -> None:
        self.work, self.device, self.workspace = work, device, workspace
        self._kept: dict[tuple[str, int], Tensor] = {}
        self._views: dict[tuple[str, int, int], Tensor] = {}  # of them: blocks are of few lengths

    def block(self, name: str, rows: int, width: int, ones: int = 0) -> Tensor:
        """What ``name`` held, for (rows, width) numbers; not set when it is new.

        The last ``ones`` columns are 1, as long as nobody writes there.
        """
        found = self._views.get((name, rows, width))
        if found is None:
            found = self._views[name, rows, width] = self._room(name, rows, width, ones)[:rows]
        return found

    def _room(self, name: str, rows: int, width: int, ones: int) -> Tensor:
        kept = self._kept.get((name, width))
        if kept is None or kept.shape[0] < rows:
            kept = self.workspace.empty((rows, width), self.work, self.device)
            if ones:
                kept[:, width - ones :] = 1
            self._kept[name, width] = kept
        return kept

    def clear(self) -> None:
        """Give all memory back."""
        self._kept.clear()
        self._views.clear()

    def lifted(self, z: Tensor) -> Tensor:
        """[z, 1] of a block z (B, C), (B, C + 1)."""
        rows, channels = z.shape
        found = self.block("lifted", rows, channels + 1, ones=1)
        found[:, :-1] = z
        return found
