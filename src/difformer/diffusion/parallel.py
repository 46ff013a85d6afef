"""Blocks of rows shared among threads: each works on whole blocks, with one thread an operation.

Operations on a block are short. Left to torch, each would be split among all threads, which then
meet at its end: dozens of meetings a block, each of which waits for the slowest. Here threads meet
once a pass. A share is a run of neighbouring blocks and results come in the order of the shares, so
that sums do not depend on which thread was faster.

A caller that has several passes to make hands all of them to a thread of the pool (:func:`team`),
which leads: it takes the first share of each pass itself. So nothing between the passes is split
either, and no thread of torch's spins on a processor that a share waits for.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}  # by number of threads
_here = threading.local()  # .threads: size of the team that this thread leads


def threads() -> int:
    """How many threads passes are shared among: torch's number, where the caller stands."""
    return getattr(_here, "threads", 0) or torch.get_num_threads()


def team(call: Callable[[], Result], shares: int, device: torch.device) -> Result:
    """Let a thread make all passes of ``call``, with others for their shares; its result.

    On an accelerator, with one thread or with one share, this thread makes them. Gradients are not
    recorded.

    Args:
        call: What is to be done.
        shares: Into how many its passes can be cut.
        device: Where the rows are.

    Example:
        >>> team(threads, 1, torch.device("cpu")) == torch.get_num_threads()
        True
    """
    count = min(threads(), shares)
    if device.type != "cpu" or count < 2 or hasattr(_here, "threads"):
        with torch.no_grad():
            return call()

    def lead() -> Result:
        _here.threads = count
        try:
            return call()
        finally:
            del _here.threads

    return _pool(count).submit(_alone(lead)).result()


def in_threads(
    work: Callable[[Sequence[slice]], Result], cuts: Sequence[slice], device: torch.device
) -> list[Result]:
    """Call ``work`` on shares of blocks, one for each thread, and wait for all.

    On an accelerator, with one thread or with one block, it is called once, in this thread.
    Gradients are not recorded. An error of any share is raised once all have ended.

    Example:
        >>> in_threads(len, [slice(0, 2), slice(2, 4)], torch.device("cuda"))
        [2]
    """
    return team(lambda: _shared(work, cuts, device), len(cuts), device)


def sum_blocks(
    work: Callable[..., None],
    reader: Callable[[], Callable[[slice], Tensor]],
    cuts: Sequence[slice],
    zeros: Sequence[Tensor],
    device: torch.device,
) -> list[Tensor]:
    """Do ``work(rows, reader()(rows), *sums)`` for every block; the sums over all of them.

    Args:
        work: Adds to sums of its thread in place, and writes rows that no other block writes.
        reader: Gives each thread a function that reads a block, perhaps into a buffer of its own.
        cuts: The blocks.
        zeros: What the sums look like.
        device: Where the rows are.
    """

    def share(some: Sequence[slice]) -> list[Tensor]:
        sums, read = [torch.zeros_like(zero) for zero in zeros], reader()
        for rows in some:
            work(rows, read(rows), *sums)
        return sums

    parts = in_threads(share, cuts, device)
    return [torch.stack(same).sum(0) for same in zip(*parts, strict=True)]


def _shared(
    work: Callable[[Sequence[slice]], Result], cuts: Sequence[slice], device: torch.device
) -> list[Result]:
    count = min(threads(), len(cuts))
    if device.type != "cpu" or count < 2:
        return [work(cuts)]
    bounds = [len(cuts) * index // count for index in range(count + 1)]
    first, *others = [cuts[low:high] for low, high in pairwise(bounds)]
    pool, run = _pool(_here.threads), _alone(work)
    waiting = [pool.submit(run, share) for share in others]
    try:
        return [work(first), *map(_ended, waiting, [work] * len(others), others)]
    finally:
        for future in waiting:
            future.cancel() or future.exception()


def _ended(
    future: "Future[Result]", work: Callable[[Sequence[slice]], Result], share: Sequence[slice]
) -> Result:
    """The result of a share; one that no thread has begun is done here.

    So a leader never waits for a thread that waits for it.
    """
    return work(share) if future.cancel() else future.result()


def _alone(call: Callable[..., Result]) -> Callable[..., Result]:
    """The same in a thread of the pool: gradients off, inference mode as it is here."""
    inference = torch.is_inference_mode_enabled()

    def run(*arguments: Sequence[slice]) -> Result:
        with torch.inference_mode(inference), torch.no_grad():
            return call(*arguments)

    return run


def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that work alone, kept from pass to pass."""
    with _lock:
        if count not in _pools:
            _pools[count] = _started(count)
        return _pools[count]


def _forget() -> None:
    """In a forked process: threads do not survive a fork, and a lock may have been held."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _started(count: int) -> ThreadPoolExecutor:
    """A pool whose threads do not split their operations; the caller's setting stays."""
    before = torch.get_num_threads()
    barrier = threading.Barrier(count + 1)

    def alone() -> None:
        torch.get_num_threads()  # a thread takes the default when it first asks, not later
        torch.set_num_threads(1)  # of this thread, and the default of those yet to come
        barrier.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="difformer", initializer=alone)
    for _ in range(count):
        pool.submit(int)
    barrier.wait()
    torch.set_num_threads(before)  # the default again
    return pool
