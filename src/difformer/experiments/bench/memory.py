"""How much memory there is, and how much a case will need. In bytes."""

import os
from collections.abc import Sequence
from pathlib import Path

SHARE = 0.8  # of the available memory, that predicted cases may fill
RUNTIME = 700_000_000  # guess of a process with its libraries, before one was measured


def available() -> int:
    """Memory that processes can still have, within the limits of a container."""
    free = [size for size in (_machine(), _container()) if size is not None]
    return min(free, default=1 << 62)


def predict(measured: Sequence[tuple[int, int]], rows: int, power: int, floor: int) -> int | None:
    """Bytes at ``rows``: floor + (bytes - floor) (rows / n)^power, n the largest smaller size.

    None where no smaller size was measured.

    Args:
        measured: (n, bytes) of the same method; larger sizes are not looked at.
        power: 1 or 2, the order of growth.
        floor: what a process needs whatever n is.

    Example:
        >>> predict([(10, 150), (20, 200)], 40, 1, floor=100)
        300
        >>> predict([(20, 200)], 40, 2, floor=100)
        500
    """
    smaller = [(n, size) for n, size in measured if n < rows]
    if not smaller:
        return None
    n, size = max(smaller)
    return floor + round(max(0, size - floor) * (rows / n) ** power)


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _container() -> int | None:
    try:
        most = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return most - int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # none, or "max"
        return None
