"""Sums over blocks of rows against whole sums, for any number of threads and rows."""

import pytest
import torch

from difformer.diffusion.rule import ROWS, blocks
from difformer.diffusion.sums import Total

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 100])
def test_equals_the_whole_sum(count):
    left, right = torch.randn(count, 3), torch.randn(count, 5)
    rows, outer = Total((2,), CPU), Total((2, 4), CPU)
    for start in range(0, count, 6):
        some = slice(start, start + 6)
        rows.add_rows(left[some, 1:])  # a part of the columns, as callers pass it
        outer.add_outer(left[some, 1:], right[some, :-1])
    torch.testing.assert_close(rows.value(), left.double().sum(0)[1:], rtol=1e-5, atol=1e-5)
    whole = left[:, 1:].t().double() @ right[:, :-1].double()
    torch.testing.assert_close(outer.value(), whole, rtol=1e-5, atol=1e-5)


def test_adds_in_float64():
    total = Total((1,), CPU)
    total.add_rows(torch.full((1, 1), 2.0**30))
    for _ in range(100):
        total.add_rows(torch.ones(1, 1))
    assert float(total.value()) == 2**30 + 100


@pytest.mark.parametrize("count", [0, 1, 5, 4 * ROWS + 1, 100_000])
def test_blocks_cover_all_rows_in_equal_shares(threads, count):
    cuts = list(blocks(count, 64, CPU))
    assert [row for cut in cuts for row in range(cut.start, cut.stop)] == list(range(count))
    sizes = [cut.stop - cut.start for cut in cuts]
    assert all(size % threads == 0 and size <= (ROWS + 1) * threads for size in sizes[:-1])
    assert count < threads or max(sizes) - min(sizes) <= threads * len(sizes)
