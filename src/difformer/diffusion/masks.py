"""Dropout masks that depend on (key, instance, channel) alone.

A mask is computed, not drawn: any block of rows can be made again, in any order and on any machine,
so nothing has to be stored for the backward, and splitting the instances does not change it. The
hash is two rounds of multiply and xor-shift on 32 bits: 15 for a channel of the first half, 15 for
its partner in the second half.

Letters: B rows, C channels.
"""

from typing import Any

import torch
from torch import Tensor

from difformer.diffusion.rule import blocks

BITS = 15  # the resolution of a rate: 1 / 32768
_ROUND = ((-2048144789, 15), (-1028477387, 16))  # odd multipliers and shifts (Appleby's fmix32)
_STEP = -7046029254386353131  # 2^64 over the golden ratio, odd
_MIX = ((-4658895280553007687, 30), (-7723592293110705685, 27))  # splitmix64's multipliers
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number


def draw_key() -> int:
    """A fresh key from torch's global generator."""
    return int(torch.randint(1 << 62, ()).item())


def derive(key: int, index: int) -> int:
    """The key of one of several masks that belong together."""
    mixed = (key ^ (index * 0xD1B54A32D192ED03)) * 0x2545F4914F6CDD1D
    return (mixed ^ (mixed >> 29)) & ((1 << 62) - 1)


def dropout(x: Tensor, rate: float, key: int) -> Tensor:
    """Set entries of x (B, C) to zero and scale the others up, differentiably; a copy.

    Example:
        >>> dropout(torch.ones(2, 2), 0.0, key=7)
        tensor([[1., 1.],
                [1., 1.]])
    """
    out: Tensor = _Dropout.apply(x, rate, key)  # type: ignore[no-untyped-call]
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, key: int) -> Tensor:
        ctx.settings = rate, key
        return _dropped(x, rate, key)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _dropped(gradient, *ctx.settings), None, None


def _dropped(x: Tensor, rate: float, key: int) -> Tensor:
    out = x / kept_share(rate)
    for rows in blocks(out.shape[0], out.shape[1], x.device):
        drop_(out[rows], rate, key, rows.start)
    return out


def kept_share(rate: float) -> float:
    """The exact probability with which :func:`drop_` keeps an entry.

    Example:
        >>> kept_share(0.5), round(kept_share(0.2), 4)
        (0.5, 0.8)
    """
    return 1 - _threshold(rate) / (1 << BITS)


def drop_(x: Tensor, rate: float, key: int, first: int = 0) -> Tensor:
    """Set a random share of the entries of x (B, C) to zero, in place, and return x. No scaling.

    Args:
        x: Rows ``first``, ``first + 1``, ... of a larger tensor; floating point.
        rate: Probability of zero, in [0, 1), rounded to 1/32768.
        key: Which mask; see :func:`draw_key`.
        first: Number of the first row.
    """
    bits = x.view(_WORDS[x.element_size()])
    rows, columns = x.shape
    low, high = _kept(first, rows, columns, rate, key, x.device)
    half = low.shape[1]
    bits[:, :half].bitwise_and_(low)
    bits[:, half:].bitwise_and_(high[:, : columns - half])
    return x


def mask(
    rows: int, columns: int, rate: float, key: int, like: Tensor, first: int = 0
) -> Tensor:  # (B, C)
    """What :func:`drop_` multiplies by, scaled so that the mean is 1.

    Example:
        >>> mask(2, 4, 0.0, 7, torch.empty(0))
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """
    kept = torch.cat(_kept(first, rows, columns, rate, key, like.device), 1)[:, :columns]
    return -kept.to(like.dtype) / kept_share(rate)


def _threshold(rate: float) -> int:
    return min(round(rate * (1 << BITS)), (1 << BITS) - 1)


def _kept(
    first: int, rows: int, columns: int, rate: float, key: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """-1 where an entry is kept, else 0: int32, for the first and the second half of columns."""
    bits = _hashed(first, rows, (columns + 1) // 2, key, device)
    # Two numbers of 15 bits side by side; adding 2^15 - threshold sets bit 16 of those kept.
    ceiling = (1 << BITS) - 1
    bits.bitwise_and_(ceiling << 16 | ceiling)
    lift = (1 << BITS) - _threshold(rate)
    bits.add_(_signed(lift << 16 | lift))
    return bits.bitwise_left_shift(16).bitwise_right_shift_(31), bits.bitwise_right_shift_(31)


def _signed(word: int) -> int:
    """32 bits as torch's int32 reads them."""
    return word - (1 << 32) if word >= 1 << 31 else word


def _hashed(first: int, rows: int, columns: int, key: int, device: torch.device) -> Tensor:
    """Hashed bits, int32, shape (rows, columns)."""
    row = _avalanche(torch.arange(first, first + rows, device=device), key)
    column = _avalanche(torch.arange(-columns, 0, device=device), key)
    x = torch.bitwise_xor(row.to(torch.int32).unsqueeze(1), column.to(torch.int32))
    shifted = torch.empty_like(x)
    for factor, shift in _ROUND:
        x.mul_(factor)
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))  # a logical shift
    return x


def _avalanche(number: Tensor, key: int) -> Tensor:
    """Hash whole numbers to 64 bits, of which any 32 will do."""
    x = (number + 1) * _STEP + key
    for factor, shift in _MIX:
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return x ^ ((x >> 31) & ((1 << 33) - 1))
