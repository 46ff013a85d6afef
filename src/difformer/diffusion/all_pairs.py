r"""The linear all-pair term of a step in blocks of rows, forward and backward by hand.

The backward goes over the rows twice. With g the gradient of what an instance hears and b, r, s, P,
w, G as in ``difformer.diffusion.folded``, :math:`u_i = P' \tilde z_i` and
:math:`\rho_i = r_i / b_i`, a query gives

.. math:: \bar P = \sum_i \rho_i \tilde z_i g_i', \quad
    \bar w = -\sum_i \rho_i^2 (g_i \cdot u_i) \tilde z_i, \quad
    \eta_i = N \rho_i^2 r_i (g_i \cdot u_i)

with :math:`-\tilde W_Q \sum_i \eta_i \tilde z_i \tilde z_i'` the part of the gradient of
:math:`\tilde W_Q` that comes from the lengths of queries. A key, once the gradient of G is known,
gives :math:`\bar s_j = \tilde z_j' \bar G \tilde z_j` and likewise
:math:`\theta_j = s_j^3 \bar s_j`.

Letters: N instances, B rows of a block, H heads, C channels, W = C + 1 lifted channels.
"""

import torch
from torch import Tensor

from difformer.diffusion.folded import Folded, Maps, fold, square
from difformer.diffusion.linear import WEAK, Summary
from difformer.diffusion.rule import StepRule


class OutOfRange(ArithmeticError):
    """States so large or small that squares of their lengths do not fit into float64."""


class AllPairs:
    """One step's linear term. The passes come in the order in which the methods stand here."""

    def __init__(self, rule: StepRule, maps: Maps, count: int, work: torch.dtype) -> None:
        self.rule, self.count, self.work = rule, count, work
        self.exact = maps.to(torch.float64)
        self.heads, self.channels, self.width = maps.query.shape
        like = maps.query.detach()
        # Numbers a head and row. Without lengths of rows, r and s are 1.
        lengths = 1 if not rule.row_norms else count
        self.r = like.new_ones(self.heads, lengths, 1, dtype=work).expand(-1, count, -1)
        self.s = like.new_ones(self.heads, lengths, 1, dtype=work).expand(-1, count, -1)
        self.rho = like.new_empty(self.heads, count, 1, dtype=work)
        self.query = [linear.t().to(work).contiguous() for linear in maps.query.detach()]
        self.key = [linear.t().to(work).contiguous() for linear in maps.key.detach()]

    def key_zeros(self) -> tuple[Tensor, Tensor]:
        """Where the first pass adds up: G (H, W, W) and t (W,)."""
        outer = self.exact.key.new_zeros(self.heads, self.width, self.width)
        return outer, outer.new_zeros(self.width)

    def summarise(self, rows: slice, lifted: Tensor, outer: Tensor, total: Tensor) -> None:
        """First pass: add a block (B, W) to what all instances together say as keys."""
        total += lifted.sum(0)
        for head in range(self.heads):
            weighted = lifted
            if self.rule.row_norms:
                self.s[head, rows] = s = self._inverse_lengths(lifted, self.key[head])
                weighted = lifted * s
            outer[head] += weighted.t() @ lifted

    def fold(self, outer: Tensor, total: Tensor) -> None:
        """Between the passes: matrices that stand for everybody else."""
        self.outer, self.total = outer, total
        folded = self._fold(self._summary(self.outer, self.total), self.exact)
        self.pull, self.weigh, self.centre = (part.to(self.work) for part in folded)

    def read(self, head: int, rows: slice, lifted: Tensor) -> None:
        """Second pass: find what a head's rates add up to for the rows of a block."""
        if self.rule.row_norms:
            self.r[head, rows] = self._inverse_lengths(lifted, self.query[head])
        r = self.r[head, rows]
        total = (lifted @ self.weigh[head].unsqueeze(1)).mul_(r).add_(self.count)
        noise = 8 * torch.finfo(self.work).eps * self.count
        self.rho[head, rows] = r / torch.where(total > noise, total, torch.inf)

    def pulled(self, head: int, lifted: Tensor) -> Tensor:
        """u: where a block is pulled, before rho (B, 1) scales it; (B, C)."""
        return lifted @ self.pull[head]

    def reliable(self) -> bool:
        """Whether the digits and the range of the working precision sufficed.

        Raises:
            OutOfRange: If they did not, and there is no higher precision.
        """
        tiny = torch.finfo(self.work).tiny ** 0.5
        low, high = torch.cat([self.r, self.s]).aminmax()  # of 1 / length
        in_range = float(low) > tiny and float(high) < 1 / tiny
        if self.work == torch.float64:
            if not in_range:
                raise OutOfRange
            return True
        weak = (self.r / self.rho).amin() < self.count / WEAK  # r / rho: a sum of rates
        return in_range and bool(self.rho.amin() > 0) and not bool(weak)

    def start_backward(self) -> tuple[Tensor, Tensor]:
        """Prepare the first pass of the backward; where it adds up."""
        extra = self.width if self.rule.row_norms else 0
        rows = self.channels + 1 + extra
        back = [self.pull.transpose(1, 2), self.weigh.unsqueeze(1)]
        if self.rule.row_norms:
            back.append(-square(self.exact.query).to(self.work))
        self.query_back = torch.cat(back, 1)[..., :-1].contiguous()
        sums = self.outer.new_zeros(self.heads, rows, self.width)
        return sums, sums.new_zeros(self.channels)

    def query_backward(
        self,
        rows: slice,
        lifted: Tensor,
        pulled: list[Tensor],
        g: Tensor,
        out: Tensor,
        sums: Tensor,
        centre: Tensor,
    ) -> None:
        """Add to ``out`` (B, C) what a block receives as queries, and to the sums."""
        centre += g.sum(0)
        ends = (self.channels, self.channels + 1)
        joined = g.new_empty(len(g), sums.shape[1])
        for head, u in enumerate(pulled):
            rho, r = self.rho[head, rows], self.r[head, rows]
            torch.mul(g, rho, out=joined[:, : ends[0]])
            along = torch.linalg.vecdot(g, u).unsqueeze(1).mul_(rho.square())
            torch.neg(along, out=joined[:, ends[0] : ends[1]])
            if self.rule.row_norms:
                torch.mul(lifted, along.mul_(r).mul_(self.count), out=joined[:, ends[1] :])
            sums[head] += joined.t() @ lifted
            out.addmm_(joined, self.query_back[head])

    def start_keys(self, query_sums: Tensor, centre: Tensor) -> Tensor:
        """Between the passes: gradients of the sums over keys and, in part, of the maps.

        Returns:
            Where the second pass adds up.
        """
        ends = (self.channels, self.channels + 1)
        pull, weigh, lengths = query_sums.tensor_split(ends, dim=1)
        sums = [part.detach().requires_grad_() for part in (self.outer, self.total)]
        leaves = [m if m is None else m.detach().requires_grad_() for m in self.exact]
        with torch.enable_grad():
            folded = self._fold(self._summary(*sums), Maps(*leaves))  # type: ignore[arg-type]
        given = [leaf for leaf in leaves if leaf is not None]
        found = torch.autograd.grad(
            folded,
            [*sums, *given],
            (pull.transpose(1, 2), weigh.squeeze(1), centre),
            materialize_grads=True,
        )
        of_outer, of_total, *of_maps = found
        self.of_maps = of_maps
        self.key_back = (of_outer + of_outer.transpose(1, 2)).to(self.work)
        self.of_total = of_total[:-1].to(self.work)
        if self.rule.row_norms:
            of_maps[0] -= self.exact.query @ lengths
            self.length_back = -square(self.exact.key).to(self.work)[..., :-1].contiguous()
        else:
            self.key_back = self.key_back[..., :-1].contiguous()
        return torch.zeros_like(self.outer)

    def key_backward(self, rows: slice, lifted: Tensor, out: Tensor, sums: Tensor) -> None:
        """Second pass: add to ``out`` (B, C) what a block receives as keys, and to the sums."""
        out += self.of_total
        for head in range(self.heads):
            if not self.rule.row_norms:
                out.addmm_(lifted, self.key_back[head])
                continue
            moved, s = lifted @ self.key_back[head], self.s[head, rows]
            out.addcmul_(moved[:, :-1], s)
            theta = torch.linalg.vecdot(moved, lifted).unsqueeze(1).mul_(s.pow(3)).mul_(0.5)
            weighted = torch.mul(lifted, theta, out=moved)
            sums[head] += weighted.t() @ lifted
            out.addmm_(weighted, self.length_back[head])

    def finish_backward(self, sums: Tensor) -> list[Tensor]:
        """Gradients of the maps that were given, in order."""
        if self.rule.row_norms:
            self.of_maps[1] -= self.exact.key @ sums
        return self.of_maps

    def _summary(self, outer: Tensor, total: Tensor) -> Summary:
        count = total.new_tensor([float(self.count)])
        return Summary(count, total[None, None], outer[None, ..., -1], outer[None])

    def _fold(self, summary: Summary, maps: Maps) -> Folded:
        return fold(summary, maps, self.rule.gain, self.rule.row_norms)

    def _inverse_lengths(self, lifted: Tensor, linear: Tensor) -> Tensor:
        """1 / length of each row's map, (B, 1); infinite for zeros, which is found out later."""
        length: Tensor = torch.linalg.vector_norm(lifted @ linear, dim=1, keepdim=True)
        return length.reciprocal_()
