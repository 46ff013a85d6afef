"""How much memory a process holds, how much there is, and how much a case will need. In bytes.

Linux tells the highest resident size of a process and lets it start anew; what ``getrusage`` tells
includes the parent's size at birth, so it serves elsewhere only.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SHARE = 0.8  # of the available memory, that predicted cases may fill
RUNTIME = 700_000_000  # guess of a process with its libraries, before one was measured


def resident() -> int:
    """Resident size now; where the system does not tell, the highest so far."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Highest resident size, since :func:`forget_peak` where that works; 0: not known."""
    found = _status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def forget_peak() -> None:
    """Let the highest resident size start anew from the present one."""
    try:
        REFS.write_text("5")
    except OSError:  # not Linux, or not allowed: the peak then covers the preparation too
        return


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


def _status(field: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


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
