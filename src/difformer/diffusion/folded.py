r"""The linear path without queries, keys and values: they are folded into matrices of width C.

States :math:`z_j` are lifted to :math:`\tilde z_j = [z_j, 1]`, so that a map with its bias is one
matrix :math:`\tilde W`. Keys enter through their lengths and two sums alone,

.. math:: s_j = 1 / |\tilde W_K \tilde z_j|, \quad
    G = \sum_j s_j \tilde z_j \tilde z_j', \quad t = \sum_j z_j

and with :math:`r_i = 1 / |\tilde W_Q \tilde z_i|` the diffusion that an instance receives is

.. math:: \sum_j S_{ij} v_j = \bar v + r_i \tilde z_i' P / b_i, \quad b_i = N + r_i \tilde z_i' w

where :math:`P, w` and the mean value :math:`\bar v` follow from G, t and the maps: products of
C x C matrices in float64, here with their gradients. What touches N rows is in
``difformer.diffusion.all_pairs``. Values are measured from their mean, so that no digits are lost
where all instances hear nearly the same.

With :math:`\bar z = t / N`, the last column f of G and M = G - f [:math:`\bar z'`, 0], cut to its
first C columns,

.. math:: X = g \tilde W_Q' \tilde W_K, \quad P = X M W_V', \quad w = X f, \quad
    \bar v = \tilde W_V [\bar z, 1]

divided by the norms of all queries and of all keys (released) or not (per row). Without a value map
W_V is the identity. Letters with a bar in front are gradients: ``of_pull`` is that of P.

Letters: N instances, B rows of a block, H heads, C channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


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


class Sums(NamedTuple):
    """What all instances say as keys, in float64: the symmetric G in two parts, and the mean."""

    outer: Tensor  # (H, C + 1, C)  G without its last column
    last: Tensor  # (H, C + 1)     that column: sum_j s_j z~_j
    mean: Tensor  # (C,)           t / N

    def whole(self) -> Tensor:
        """G, (H, C + 1, C + 1)."""
        return torch.cat([self.outer, self.last.unsqueeze(2)], 2)


class Fold:
    """P, w and the mean value, scaled; and the gradients of what they are made from. O(H C^3).

    Args:
        sums: Sums over instances.
        maps: In their precision.
        gain: The rate is proportional to 1 + gain cos.
        row_norms: Whether queries and keys are scaled row by row; else by the norms of the whole
            tensors, as released (then all s are 1).

    Attributes:
        pull: P, (H, C + 1, C).
        weigh: w, (H, C + 1).
        centre: The mean value over heads, (C,).
    """

    def __init__(self, sums: Sums, maps: Maps, gain: float, row_norms: bool) -> None:
        self.sums, self.maps, self.gain, self.row_norms = sums, maps, gain, row_norms
        self.share = maps.scale / len(maps.query)
        self.centred = torch.addcmul(
            sums.outer, sums.last.unsqueeze(2), sums.mean, value=-1
        )  # M, (H, C + 1, C)
        self.cross = maps.query.mT @ maps.key  # X, (H, C + 1, C + 1)
        if gain != 1:
            self.cross = self.cross * gain
        if not row_norms:
            self.squares = square(maps.query), square(maps.key)
            self.norms = tuple((part * sums.whole()).sum() for part in self.squares)
            self.cross = self.cross / (self.norms[0] * self.norms[1]).sqrt()
        self.heard = self.cross @ self.centred  # (H, C + 1, C)
        self.raw_pull, self.raw_centre = self.heard, sums.mean
        if maps.value is not None:
            self.raw_pull = self.heard @ maps.value[..., :-1].mT
            self.raw_centre = (maps.value[..., :-1] @ sums.mean + maps.value[..., -1]).mean(0)
        self.pull = self.raw_pull * self.share
        self.weigh = (self.cross @ sums.last.unsqueeze(2)).squeeze(2)
        self.centre = self.raw_centre * maps.scale

    def gradients(
        self,
        of_pull: Tensor,  # (H, C + 1, C)
        of_weigh: Tensor,  # (H, C + 1)
        of_centre: Tensor,  # (C,)
    ) -> tuple[Sums, Maps]:
        """Gradients of the sums and of the maps."""
        sums, maps = self.sums, self.maps
        of_scale = (of_pull * self.raw_pull).sum() / len(maps.query) + of_centre @ self.raw_centre
        of_heard, of_mean = of_pull * self.share, of_centre * maps.scale
        of_value = None
        if maps.value is not None:
            of_value = self._of_value(of_heard, of_centre * self.share)
            of_mean = (of_centre * self.share) @ maps.value[..., :-1].sum(0)
            of_heard = of_heard @ maps.value[..., :-1]
        of_outer = self.cross.mT @ of_heard
        of_last = (self.cross.mT @ of_weigh.unsqueeze(2)).squeeze(2) - of_outer @ sums.mean
        of_mean = torch.addmv(of_mean, of_outer.flatten(0, 1).mT, sums.last.flatten(), alpha=-1)
        of_cross = torch.baddbmm(
            of_weigh.unsqueeze(2) * sums.last.unsqueeze(1), of_heard, self.centred.mT
        )
        of_norms = None if self.row_norms else self._of_norms(of_cross)
        if of_norms is not None:
            of_cross = of_cross / (self.norms[0] * self.norms[1]).sqrt()
        if self.gain != 1:
            of_cross = of_cross * self.gain
        of_query, of_key = maps.key @ of_cross.mT, maps.query @ of_cross
        if of_norms is not None:
            of_whole = of_norms[0] * self.squares[0] + of_norms[1] * self.squares[1]
            of_outer, of_last = of_outer + of_whole[..., :-1], of_last + of_whole[..., -1]
            of_query = of_query + 2 * of_norms[0] * maps.query @ sums.whole()
            of_key = of_key + 2 * of_norms[1] * maps.key @ sums.whole()
        return Sums(of_outer, of_last, of_mean), Maps(of_query, of_key, of_value, of_scale)

    def _of_value(self, of_pull: Tensor, of_centre: Tensor) -> Tensor:
        """Of the value map, (H, C, C + 1); both gradients scaled."""
        linear = torch.addcmul(of_pull.mT @ self.heard, of_centre.unsqueeze(1), self.sums.mean)
        bias = of_centre.expand(len(linear), -1)
        return torch.cat([linear, bias.unsqueeze(2)], 2)

    def _of_norms(self, of_cross: Tensor) -> tuple[Tensor, Tensor]:
        """Of the squared norms of all queries and of all keys, which X is divided by."""
        share = (of_cross * self.cross).sum() / -2
        return share / self.norms[0], share / self.norms[1]


def square(linear: Tensor) -> Tensor:
    """W~' W~ of each head, (H, C + 1, C + 1): the quadratic form of a map's length."""
    return linear.mT @ linear
