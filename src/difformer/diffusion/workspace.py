"""Memory of large tensors that is taken up again when they are gone.

The first touch of fresh memory costs ten times as much as writing it again, and more on a virtual
machine. A training step makes and drops a dozen tensors of N x C: here the next one takes the
memory of one that is gone. Large pages make the first touch cheaper where the system has them.
"""

import mmap
import sys
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

LEAST = 1 << 18  # bytes; smaller tensors are taken up again by the usual allocator
SLACK = 1.25  # a buffer serves tensors that need at least 1 / SLACK of it
KEPT = 3  # passes after which a buffer that nobody asked for is dropped


class Workspace:
    """Memory for tensors on a CPU; elsewhere, and for small ones, torch's own.

    A tensor is an ordinary one. Once it and all that shares its memory are gone, its memory
    serves again. Nothing but the atomic operations of ``deque`` touches the state, for tensors go
    wherever and whenever they are collected.

    Example:
        >>> workspace = Workspace()
        >>> first = workspace.empty((1024, 512), torch.float32)
        >>> place = first.data_ptr()
        >>> del first
        >>> workspace.empty((1024, 500), torch.float32).data_ptr() == place
        True
    """

    def __init__(self) -> None:
        self.held = 0  # bytes, in use or not
        self._pass = 0
        self._era: object = object()  # another one after every release
        self._free: dict[int, deque[tuple[mmap.mmap, int]]] = {}  # by size: memory, last pass

    def empty(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
    ) -> Tensor:
        """A tensor whose entries are not set."""
        size = dtype.itemsize
        for length in shape:
            size *= length
        if (device is not None and device.type != "cpu") or size < LEAST:
            return torch.empty(*shape, dtype=dtype, device=device)
        memory = self._taken(size) or self._fresh(size)
        lease = memoryview(memory)
        weakref.finalize(lease, self._give_back, memory, self._era).atexit = False
        numbers = torch.frombuffer(lease, dtype=dtype, count=size // dtype.itemsize)
        return numbers.view(*shape)

    def empty_like(self, tensor: Tensor) -> Tensor:
        """A tensor of the same shape, type and device."""
        return self.empty(tensor.shape, tensor.dtype, tensor.device)

    def next_pass(self) -> None:
        """Say that a pass begins; what none of the last ones used is given to the system."""
        self._pass += 1
        for waiting in list(self._free.values()):
            for _ in range(len(waiting)):
                try:
                    memory, last = waiting.popleft()
                except IndexError:  # taken in the meantime
                    break
                if last + KEPT > self._pass:
                    waiting.append((memory, last))
                else:
                    self.held -= len(memory)

    def release(self) -> None:
        """Give what is not in use to the system, and the rest when it comes back."""
        self._era, self._free, self.held = object(), {}, 0

    def _taken(self, size: int) -> mmap.mmap | None:
        for capacity in sorted(self._free):
            if size <= capacity <= size * SLACK:
                try:
                    return self._free[capacity].pop()[0]
                except (IndexError, KeyError):
                    continue
        return None

    def _fresh(self, size: int) -> mmap.mmap:
        pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if sys.platform == "win32":
            memory = mmap.mmap(-1, pages)
        else:  # private: a forked process must not write into ours
            memory = mmap.mmap(-1, pages, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without large pages
                memory.madvise(mmap.MADV_HUGEPAGE)
        self.held += pages
        return memory

    def _give_back(self, memory: mmap.mmap, era: object) -> None:
        if era is self._era:
            waiting = self._free.setdefault(len(memory), deque())
            waiting.append((memory, self._pass))

    def __deepcopy__(self, memo: object) -> "Workspace":
        """A copy starts empty: memory belongs to the tensors that use it."""
        return Workspace()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """As for copies."""
        return Workspace, ()
