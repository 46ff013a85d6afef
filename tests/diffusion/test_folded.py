"""Gradients of the small products, by hand, against autograd through the same products."""

import pytest
import torch

from difformer.diffusion.folded import Fold, Maps, Sums

C = 4


def draw(heads, value):
    generator = torch.Generator().manual_seed(heads)

    def leaf(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    # G is symmetric where it comes from; its gradients are those of entries on their own.
    sums = Sums(leaf(heads, C + 1, C), leaf(heads, C + 1), leaf(C))
    linear = (heads, C, C + 1)
    maps = Maps(leaf(*linear), leaf(*linear), leaf(*linear) if value else None, leaf())
    return sums, maps


@pytest.mark.parametrize("row_norms", [True, False], ids=["rows", "whole"])
@pytest.mark.parametrize("gain", [1.0, 0.7])
@pytest.mark.parametrize("value", [True, False], ids=["value-map", "states"])
@pytest.mark.parametrize("heads", [1, 3])
def test_gradients_equal_those_of_autograd(heads, value, gain, row_norms):
    sums, maps = draw(heads, value)
    if not row_norms:  # norms are of what may be measured: G must be positive
        with torch.no_grad():
            whole = sums.whole() @ sums.whole().mT
            sums.outer.copy_(whole[..., :-1])
            sums.last.copy_(whole[..., -1])
    leaves = [part for part in (*sums, *maps) if part is not None]
    made = Fold(sums, maps, gain, row_norms)
    out = made.pull, made.weigh, made.centre
    given = [torch.randn_like(part) for part in out]
    expected = torch.autograd.grad(out, leaves, given)
    with torch.no_grad():
        of_sums, of_maps = Fold(sums, maps, gain, row_norms).gradients(*given)
    found = [part for part in (*of_sums, *of_maps) if part is not None]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_they_are_the_products_that_the_module_states():
    sums, maps = draw(2, True)
    made = Fold(sums, maps, 0.7, True)
    for h in range(2):
        cross = 0.7 * maps.query[h].T @ maps.key[h]
        centred = sums.whole()[h] - torch.outer(
            sums.last[h], torch.cat([sums.mean, torch.zeros(1)])
        )
        pull = cross @ centred[:, :-1] @ maps.value[h][:, :-1].T
        torch.testing.assert_close(made.pull[h], maps.scale * pull / 2)
        torch.testing.assert_close(made.weigh[h], cross @ sums.last[h])
    lifted = torch.cat([sums.mean, torch.ones(1, dtype=torch.float64)])
    torch.testing.assert_close(made.centre, maps.scale * (maps.value @ lifted).mean(0))
