"""What follows the move of a step, in blocks of rows: LayerNorm and dropout.

Letters: B rows of a block, C channels.
"""

import torch
from torch import Tensor

from difformer.diffusion import masks
from difformer.diffusion.rule import StepRule


class Settle:
    """LayerNorm and dropout of a block, forward and backward."""

    def __init__(
        self,
        rule: StepRule,
        gamma: Tensor | None,
        beta: Tensor | None,
        count: int,
        work: torch.dtype,
    ) -> None:
        self.rule = rule
        self.share = masks.kept_share(rule.dropout) if rule.dropout else 1.0
        self.gamma = None if gamma is None else self._kept(gamma.to(work))
        self.beta = None if beta is None else self._kept(beta.to(work))
        if gamma is not None:
            self.eps = gamma.new_tensor([rule.eps], dtype=work)
            self.mean = gamma.new_empty(count, 1, dtype=work)
            self.rstd = gamma.new_empty(count, 1, dtype=work)

    def _kept(self, part: Tensor) -> Tensor:
        """Divided by the share that dropout keeps."""
        return part if self.share == 1 else part / self.share

    def forward(self, rows: slice, moved: Tensor, out: Tensor) -> None:
        """Fill ``out`` with the states after a block's move, which is used up.

        Mean and spread of rows are remembered.
        """
        more = self.rule.relu or self.rule.dropout > 0
        done = moved if more or out.dtype != moved.dtype else out
        if self.gamma is not None and self.beta is not None:
            self._normalise(rows, moved, done, self.gamma, self.beta)
        elif self.rule.dropout:
            moved.div_(self.share)
        if self.rule.relu:
            moved.clamp_min_(0)
        if self.rule.dropout:
            masks.drop_(moved, self.rule.dropout, self.rule.key, rows.start)
        if self.gamma is None or done is moved:
            out.copy_(moved)

    def _normalise(
        self, rows: slice, moved: Tensor, out: Tensor, gamma: Tensor, beta: Tensor
    ) -> None:
        """LayerNorm without fresh memory, as torch's own would take."""
        mean, spread = self.mean[rows], self.rstd[rows]
        torch.mean(moved, 1, keepdim=True, out=mean)
        torch.linalg.vector_norm(moved.sub_(mean), dim=1, keepdim=True, out=spread)
        torch.addcmul(self.eps, spread, spread, value=1 / moved.shape[1], out=spread).rsqrt_()
        torch.addcmul(beta, moved.mul_(spread), gamma, out=out)

    def start_backward(self, like: Tensor) -> None:
        """Prepare to add up gradients of weight and bias."""
        shape = (2, like.shape[1])
        self.of_both = torch.zeros(shape, dtype=torch.float64, device=like.device)

    def backward(
        self, rows: slice, moved: Tensor, gradient: Tensor, after: Tensor | None
    ) -> Tensor:
        """Gradient of ``moved``; ``after``: the states after it, for a ReLU."""
        if after is not None:  # what was dropped is 0 as well
            gradient = torch.ops.aten.threshold_backward(gradient, after, 0)
        elif self.rule.dropout:
            gradient = masks.drop_(gradient.clone(), self.rule.dropout, self.rule.key, rows.start)
        if self.gamma is None:
            return gradient / self.share
        of_moved, of_gamma, of_beta = torch.ops.aten.native_layer_norm_backward(
            gradient,
            moved,
            moved.shape[1:],
            self.mean[rows],
            self.rstd[rows],
            self.gamma,
            self.beta,
            [True, True, True],
        )
        self.of_both += torch.stack([of_gamma, of_beta])
        return of_moved  # type: ignore[no-any-return]

    def gradients(self, like: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """Of the LayerNorm's weight and bias."""
        if like is None:
            return None, None
        of_gamma, of_beta = self._kept(self.of_both).to(like.dtype)
        return of_gamma, of_beta
