r"""Into the states and out of them, in blocks of rows.

.. math:: z_i = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{LayerNorm}(W x_i + b))), \quad
    y_i = W z_i + b

Nothing with N rows is made but the result: the backward of ``enter`` makes the product again, or
reads it where that costs less. Gradients of weights are added up in float64.

Letters: N instances, B rows of a block, F features in, C channels out.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.parallel import sum_blocks
from difformer.diffusion.rule import StepRule, cuts_of, working
from difformer.diffusion.settle import Settle
from difformer.diffusion.workspace import Workspace

WIDE = 4  # features a channel from which on a product costs more than keeping it


class _Affine:
    """W x + b of blocks, and its gradients."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.work = working(x)
        self.x, self.weight, self.bias = x, weight.to(self.work), bias.to(self.work)
        self.across = self.weight.t().contiguous()

    def forward(self, block: Tensor) -> Tensor:
        """Of rows in the working precision, (B, C)."""
        return torch.addmm(self.bias, block, self.across)

    def zeros(self) -> tuple[Tensor, Tensor]:
        """Where gradients of weight and bias add up."""
        weight = torch.zeros_like(self.weight, dtype=torch.float64)
        return weight, torch.zeros_like(self.bias, dtype=torch.float64)

    def backward(
        self, block: Tensor, g: Tensor, of_x: Tensor | None, of_weight: Tensor, of_bias: Tensor
    ) -> None:
        """Add what a block with gradient g (B, C) gives to the sums, and fill ``of_x`` (B, F)."""
        of_weight += g.t() @ block
        of_bias += g.sum(0)
        if of_x is not None and of_x.dtype == self.work:
            torch.mm(g, self.weight, out=of_x)
        elif of_x is not None:
            of_x.copy_(g @ self.weight)

    def each(self, work: Callable[..., None], *zeros: Tensor) -> list[Tensor]:
        """Do ``work(rows, block of x, *sums)`` for every block; the sums."""
        return sum_blocks(work, lambda: self._read, cuts_of(self.x), zeros, self.x.device)

    def _read(self, rows: slice) -> Tensor:
        return self.x[rows].to(self.work)


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rule: StepRule,
        workspace: Workspace,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
    ) -> Tensor:
        affine, shape = _Affine(x, weight, bias), (len(x), len(weight))
        out = workspace.empty(shape, x.dtype, x.device)
        settle = Settle(rule, gamma, beta, len(x), affine.work)
        keep = rule.store or x.shape[1] > WIDE * shape[1]
        mapped = workspace.empty(shape, affine.work, x.device) if keep else None

        def block(rows: slice, some: Tensor) -> None:
            found = affine.forward(some)
            if mapped is not None:
                mapped[rows] = found
            out[rows] = settle.forward(rows, found)

        affine.each(block)
        after = out if rule.relu else None
        ctx.save_for_backward(x, weight, bias, gamma, after, mapped)
        ctx.settle, ctx.workspace = settle, workspace
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gamma, after, mapped = ctx.saved_tensors
        affine, settle = _Affine(x, weight, bias), ctx.settle
        of_x = ctx.workspace.empty_like(x) if ctx.needs_input_grad[2] else None

        def block(rows: slice, some: Tensor, settled: Tensor, *sums: Tensor) -> None:
            found = affine.forward(some) if mapped is None else mapped[rows]
            done = None if after is None else after[rows].to(affine.work)
            g = settle.backward(rows, found, gradient[rows].to(affine.work), done, settled)
            affine.backward(some, g, _part(of_x, rows), *sums)

        zeros = settle.zeros(gradient), *affine.zeros()
        settle.sums, of_weight, of_bias = affine.each(block, *zeros)
        of_map = of_weight.to(weight.dtype), of_bias.to(bias.dtype)
        return None, None, of_x, *of_map, *settle.gradients(gamma)


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, workspace: Workspace, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        affine = _Affine(z, weight, bias)
        out = workspace.empty((len(z), len(weight)), z.dtype, z.device)

        def block(rows: slice, some: Tensor) -> None:
            out[rows] = affine.forward(some)

        affine.each(block)
        ctx.save_for_backward(z, weight, bias)
        ctx.workspace = workspace
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, bias = ctx.saved_tensors
        affine = _Affine(z, weight, bias)
        of_z = ctx.workspace.empty_like(z) if ctx.needs_input_grad[1] else None

        def block(rows: slice, some: Tensor, *sums: Tensor) -> None:
            affine.backward(some, gradient[rows].to(affine.work), _part(of_z, rows), *sums)

        of_weight, of_bias = affine.each(block, *affine.zeros())
        return None, of_z, of_weight.to(weight.dtype), of_bias.to(bias.dtype)


def _part(whole: Tensor | None, rows: slice) -> Tensor | None:
    return None if whole is None else whole[rows]


def enter(
    rule: StepRule,
    x: Tensor,  # (N, F)
    weight: Tensor,  # (C, F)
    bias: Tensor,  # (C,)
    gamma: Tensor | None = None,  # (C,)
    beta: Tensor | None = None,  # (C,)
    workspace: Workspace | None = None,
) -> Tensor:
    """Initial states from features, (N, C). Cost O(N F C).

    Args:
        rule: LayerNorm, ReLU and dropout; with ``store`` the product is kept.
        x: Features; float16, bfloat16, float32 or float64.
        weight: Of the map.
        bias: Of the map.
        gamma: Weight of the LayerNorm; None: there is none.
        beta: Its bias.
        workspace: Where memory is taken from.
    """
    workspace = Workspace() if workspace is None else workspace
    out: Tensor = _Enter.apply(rule, workspace, x, weight, bias, gamma, beta)  # type: ignore[no-untyped-call]
    return out


def leave(
    z: Tensor,  # (N, F)
    weight: Tensor,  # (C, F)
    bias: Tensor,  # (C,)
    workspace: Workspace | None = None,
) -> Tensor:
    """Outputs from states, W z + b: (N, C). Cost O(N F C)."""
    workspace = Workspace() if workspace is None else workspace
    out: Tensor = _Leave.apply(workspace, z, weight, bias)  # type: ignore[no-untyped-call]
    return out
