r"""The linear path without queries, keys and values: they are folded into matrices of width C.

States :math:`z_j` are lifted to :math:`\tilde z_j = [z_j, 1]`, so that a map with its bias is one
matrix :math:`\tilde W`. Keys enter through their lengths and two sums alone,

.. math:: s_j = 1 / |\tilde W_K \tilde z_j|, \quad
    G = \sum_j s_j \tilde z_j \tilde z_j', \quad t = \sum_j z_j

and with :math:`r_i = 1 / |\tilde W_Q \tilde z_i|` the diffusion that an instance receives is

.. math:: \sum_j S_{ij} v_j = \bar v + r_i \tilde z_i' P / b_i, \quad b_i = N + r_i \tilde z_i' w

where :math:`P, w` and the mean value :math:`\bar v` follow from G, t and the maps: products of
C x C matrices, made in float64 and differentiated by autograd. Only what touches N rows is
differentiated by hand, in ``difformer.diffusion.all_pairs``. Values are measured from their mean,
so that no digits are lost where all instances hear nearly the same.

Letters: N instances, B rows of a block, H heads, C channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from difformer.diffusion.linear import Summary


class Maps(NamedTuple):
    """Lifted maps of all heads; a map's bias is its last column."""

    query: Tensor  # (H, C, C + 1)
    key: Tensor  # (H, C, C + 1)
    value: Tensor | None  # (H, C, C + 1); None: values are the states
    scale: Tensor  # (): what the mean over heads is multiplied by

    @classmethod
    def of(cls, parts: Sequence[Tensor | None]) -> "Maps | None":
        """From its four parts; None if there is no query map."""
        query, key, value, scale = parts
        if query is None:
            return None
        assert key is not None
        assert scale is not None
        return cls(query, key, value, scale)

    def to(self, dtype: torch.dtype) -> "Maps":
        """The same in another precision."""
        value = None if self.value is None else self.value.to(dtype)
        return Maps(self.query.to(dtype), self.key.to(dtype), value, self.scale.to(dtype))


class Folded(NamedTuple):
    """What a block of rows needs to know of everybody else."""

    pull: Tensor  # (H, C + 1, C)  P, scaled
    weigh: Tensor  # (H, C + 1)     w
    centre: Tensor  # (C,)           mean value over heads, scaled


def fold(
    summary: Summary,  # of one set: keys s z~, values z~
    maps: Maps,
    gain: float,
    row_norms: bool,
) -> Folded:
    r"""Products of C x C matrices, differentiable. Cost O(H C^3).

    Args:
        summary: Sums over instances with keys :math:`s_j \tilde z_j` and values
            :math:`\tilde z_j`; its ``outer`` is G.
        maps: In the precision of the summary.
        gain: The rate is proportional to 1 + gain cos.
        row_norms: Whether queries and keys are scaled row by row; else by the norms of the whole
            tensors, as released (then all s are 1).
    """
    query, key, value, scale = maps
    channels = query.shape[1]
    mean = summary.value[0] / summary.count[0]  # (1, C + 1), its last entry 1
    outer = summary.outer[0]  # (H, C + 1, C + 1)
    first = outer[..., -1]  # (H, C + 1)
    centred = outer[..., :channels] - first.unsqueeze(-1) * mean[:, None, :channels]
    cross = query.transpose(1, 2) @ key * gain  # (H, C + 1, C + 1)
    if not row_norms:
        cross = cross / (_square_norm(query, outer) * _square_norm(key, outer)).sqrt()
    pull, weigh = cross @ centred, (cross @ first.unsqueeze(-1)).squeeze(-1)
    centre = mean[:, :channels]
    if value is not None:
        pull = pull @ value[..., :channels].transpose(1, 2)
        centre = (value @ mean.unsqueeze(-1)).squeeze(-1)
    share = scale / len(query)
    return Folded(share * pull, weigh, scale * centre.mean(0))


def _square_norm(linear: Tensor, outer: Tensor) -> Tensor:
    r"""Sum of squares of all queries (or keys): the trace of W~ G W~'."""
    return (square(linear) * outer).sum()


def square(linear: Tensor) -> Tensor:
    """W~' W~ of each head, (H, C + 1, C + 1): the quadratic form of a map's length."""
    return linear.transpose(1, 2) @ linear
