"""Many small graphs in blocks: the same as one after the other, and back again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difformer.diffusion import linear
from difformer.diffusion.padded import LARGEST, padding_of, suits

CPU = torch.device("cpu")


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_rows_come_back_from_their_blocks(sizes):
    padding = padding_of(tuple(sizes), CPU)
    x = torch.randn(sum(sizes), 1, 2, dtype=torch.float64, requires_grad=True)
    blocks = padding.spread(x)
    assert sum(len(block) for block in blocks) == len(sizes)
    torch.testing.assert_close(padding.collect(blocks), x)
    assert torch.autograd.gradcheck(
        lambda t: torch.cat([b.flatten() for b in padding.spread(t)]), x
    )
    sums = padding.by_graph([block.sum(1) for block in blocks])
    expected = torch.stack([part.sum(0) for part in x.split(sizes)])
    torch.testing.assert_close(sums, expected)
    torch.testing.assert_close(padding.by_graph(list(padding.by_block(sums))), sums)


@pytest.mark.parametrize("sizes", [(5, 0, 3, 17, 1), (2,) * 9, (1, 0, 0, 64)])
@pytest.mark.parametrize("heads", [1, 2])
def test_blocks_equal_one_graph_after_the_other(sizes, heads, monkeypatch):
    torch.manual_seed(0)
    count = sum(sizes)
    q, k = (torch.randn(count, heads, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    v = torch.randn(count, heads, 3, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(count, heads, dtype=torch.float64, requires_grad=True)

    def results():
        summary = linear.summarise(k, v, sizes)
        found = linear.read(summary, offset, q, sizes)
        loss = sum(
            (part * torch.arange(1.0, part.numel() + 1).view_as(part)).sum() for part in found
        )
        return (*found, summary.value, summary.outer, *torch.autograd.grad(loss, (q, k, v, offset)))

    assert suits(sizes)
    blocks = results()
    monkeypatch.setattr(linear, "suits", lambda sizes: False)
    for one, two in zip(blocks, results(), strict=True):
        torch.testing.assert_close(one, two)


def test_few_or_large_graphs_are_left_alone():
    assert not suits((3, 3))
    assert not suits((3, 3, 3, LARGEST + 1))
    assert not suits((0, 0, 0, 0))
