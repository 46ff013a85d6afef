r"""Into the states and out of them, in blocks of rows.

.. math:: z_i = \mathrm{dropout}(\mathrm{ReLU}(\mathrm{LayerNorm}(W x_i + b))), \quad
    y_i = W z_i + b

Nothing with N rows is made but the result: the backward of ``enter`` makes the product again, or
reads it where that costs less. Gradients of weights are added up in float64.

Letters: N instances, B rows of a block, F features in, C channels out.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.rule import StepRule, blocks_of, working
from difformer.diffusion.scratch import Scratch
from difformer.diffusion.settle import Settle
from difformer.diffusion.sums import Total
from difformer.diffusion.workspace import Workspace

WIDE = 4  # features a channel from which on a product costs more than keeping it


class _Affine:
    """W x + b of blocks, and its gradients."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, workspace: Workspace) -> None:
        self.work = working(x)
        self.x, self.weight, self.bias = x, weight.to(self.work), bias.to(self.work)
        self.across = self.weight.t().contiguous()
        self.scratch = Scratch(self.work, x.device, workspace)

    def start_backward(self) -> None:
        """Prepare to add up gradients of weight and bias."""
        self.of_weight = Total(tuple(self.weight.shape), self.x.device)
        self.of_bias = Total(tuple(self.bias.shape), self.x.device)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and they in the working precision, (B, F)."""
        return blocks_of(self.x, self.work)

    def forward(self, block: Tensor) -> Tensor:
        """Of rows in the working precision, (B, C); until the next block."""
        out = self.scratch.block("mapped", block.shape[0], self.bias.shape[0])
        return torch.addmm(self.bias, block, self.across, out=out)

    def backward(self, block: Tensor, g: Tensor, of_x: Tensor | None) -> None:
        """Add what a block with gradient g (B, C) gives to the sums, and fill ``of_x`` (B, F)."""
        self.of_weight.add_outer(g, block)
        self.of_bias.add_rows(g)
        if of_x is not None and of_x.dtype == self.work:
            torch.mm(g, self.weight, out=of_x)
        elif of_x is not None:
            of_x.copy_(g @ self.weight)

    def gradients(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Of weight and bias."""
        return self.of_weight.value().to(like.dtype), self.of_bias.value().to(like.dtype)


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
        affine, shape = _Affine(x, weight, bias, workspace), (len(x), len(weight))
        out = workspace.empty(shape, x.dtype, x.device)
        settle = Settle(rule, gamma, beta, len(x), affine.work)
        keep = rule.store or x.shape[1] > WIDE * shape[1]
        mapped = workspace.empty(shape, affine.work, x.device) if keep else None
        for rows, block in affine.blocks():
            found = affine.forward(block)
            if mapped is not None:
                mapped[rows] = found
            settle.forward(rows, found, out[rows])
        after = out if rule.relu else None
        ctx.save_for_backward(x, weight, bias, gamma, after, mapped)
        ctx.settle, ctx.workspace = settle, workspace
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, gamma, after, mapped = ctx.saved_tensors
        affine, settle = _Affine(x, weight, bias, ctx.workspace), ctx.settle
        of_x = ctx.workspace.empty_like(x) if ctx.needs_input_grad[2] else None
        affine.start_backward()
        settle.start_backward(gradient)
        for rows, block in affine.blocks():
            found = affine.forward(block) if mapped is None else mapped[rows]
            done = None if after is None else after[rows].to(affine.work)
            g = settle.backward(rows, found, gradient[rows].to(affine.work), done)
            affine.backward(block, g, _part(of_x, rows))
        return None, None, of_x, *affine.gradients(weight), *settle.gradients(gamma)


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, workspace: Workspace, z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        affine = _Affine(z, weight, bias, workspace)
        out = workspace.empty((len(z), len(weight)), z.dtype, z.device)
        for rows, block in affine.blocks():
            out[rows] = affine.forward(block)
        ctx.save_for_backward(z, weight, bias)
        ctx.workspace = workspace
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, bias = ctx.saved_tensors
        affine = _Affine(z, weight, bias, ctx.workspace)
        of_z = ctx.workspace.empty_like(z) if ctx.needs_input_grad[1] else None
        affine.start_backward()
        for rows, block in affine.blocks():
            affine.backward(block, gradient[rows].to(affine.work), _part(of_z, rows))
        return None, of_z, *affine.gradients(weight)


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
