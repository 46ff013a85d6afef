"""What this process holds of memory, in bytes, as the system tells it.

Linux tells the highest resident size of a process and lets it start anew; what ``getrusage`` tells
includes the parent's size at birth, so it serves elsewhere only.
"""

import sys
from pathlib import Path

STATUS, REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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


def _status(field: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None
