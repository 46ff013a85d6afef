"""Blocks of rows shared among threads: each works on whole blocks, with one thread an operation.

Operations on a block are short. Left to torch, each would be split among all threads, which then
meet at its end: dozens of meetings a block, each of which waits for the slowest. Here threads meet
once a pass. A share is a run of neighbouring blocks and results come in the order of the shares, so
that sums do not depend on which thread was faster.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

Result = TypeVar("Result")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}  # by number of threads


def in_threads(
    work: Callable[[Sequence[slice]], Result], cuts: Sequence[slice], device: torch.device
) -> list[Result]:
    """Call ``work`` on shares of blocks, one for each of torch's threads, and wait for all.

    On an accelerator, with one thread or with one block, it is called once, in this thread.
    Gradients are not recorded.

    Example:
        >>> in_threads(len, [slice(0, 2), slice(2, 4)], torch.device("cuda"))
        [2]
    """
    count = min(torch.get_num_threads(), len(cuts))
    if device.type != "cpu" or count < 2:
        return [work(cuts)]
    inference = torch.is_inference_mode_enabled()

    def run(share: Sequence[slice]) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return work(share)

    bounds = [len(cuts) * index // count for index in range(count + 1)]
    shares = [cuts[low:high] for low, high in pairwise(bounds)]
    return list(_pool(count).map(run, shares))


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that work alone, kept from pass to pass."""
    with _lock:
        if threads not in _pools:
            _pools[threads] = _started(threads)
        return _pools[threads]


def _forget() -> None:
    """In a forked process: threads do not survive a fork, and a lock may have been held."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _started(threads: int) -> ThreadPoolExecutor:
    """A pool whose threads do not split their operations; the caller's setting stays."""
    before = torch.get_num_threads()
    barrier = threading.Barrier(threads + 1)

    def alone() -> None:
        torch.get_num_threads()  # a thread takes the default when it first asks, not later
        torch.set_num_threads(1)  # of this thread, and the default of those yet to come
        barrier.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="difformer", initializer=alone)
    for _ in range(threads):
        pool.submit(int)
    barrier.wait()
    torch.set_num_threads(before)  # the default again
    return pool
