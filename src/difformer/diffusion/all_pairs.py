r"""The linear all-pair term of a step in blocks of rows, forward and backward by hand.

With P, w and G as in ``difformer.diffusion.folded``, the lengths
:math:`q_i = |\tilde W_Q \tilde z_i|` and :math:`k_j = |\tilde W_K \tilde z_j|` (all 1 without
lengths of rows), the pull :math:`u_i = P' \tilde z_i` and
:math:`\rho_i = 1 / (N q_i + w' \tilde z_i)`, an instance hears :math:`\bar v + \rho_i u_i`.

The backward goes over the rows twice. With g the gradient of what an instance hears, a query gives

.. math:: \bar P = \sum_i \rho_i \tilde z_i g_i', \quad
    \bar w = -\sum_i \alpha_i \tilde z_i, \quad \alpha_i = \rho_i^2 \, g_i \cdot u_i

with :math:`-N \tilde W_Q \sum_i (\alpha_i / q_i) \tilde z_i \tilde z_i'` the part of the gradient
of :math:`\tilde W_Q` that comes from the lengths of queries. A key, once the gradient of G is
known, gives :math:`\theta_j = \tilde z_j' \bar G \tilde z_j / k_j^3` and likewise
:math:`-\tilde W_K \sum_j \theta_j \tilde z_j \tilde z_j'`.

Products give C columns, never W: a column beyond a multiple of a register costs as much as a full
register of them, and as a factor the 1 of a lifted state costs next to nothing.

Letters: N instances, B rows of a block, H heads, C channels, W = C + 1 lifted channels.
"""

import torch
from torch import Tensor

from difformer.diffusion.folded import Fold, Maps, Sums, square
from difformer.diffusion.linear import WEAK
from difformer.diffusion.rule import StepRule
from difformer.diffusion.scratch import Scratch
from difformer.diffusion.sums import Total


class OutOfRange(ArithmeticError):
    """States so large or small that squares of their lengths do not fit into float64."""


class AllPairs:
    """One step's linear term. The passes come in the order in which the methods stand here."""

    def __init__(self, rule: StepRule, maps: Maps, count: int, work: torch.dtype) -> None:
        self.rule, self.count, self.work = rule, count, work
        self.exact = maps.to(torch.float64)
        self.heads, self.channels, self.width = maps.query.shape
        like = self.exact.key
        # Lengths of keys and queries, (H, N, 2). Without lengths of rows, all are 1.
        if rule.row_norms:
            self.lengths = like.new_empty(self.heads, count, 2, dtype=work)
            both = torch.cat([self.exact.key, self.exact.query], 1).mT  # (H, W, 2 C)
            self.measures = both.to(work, memory_format=torch.contiguous_format)
        else:
            self.lengths = like.new_ones(1, 1, 1, dtype=work).expand(self.heads, count, 2)
        self.key_lengths, self.query_lengths = self.lengths.unbind(2)
        self.rho = like.new_empty(self.heads, count, dtype=work)

        # The first pass adds up G, but for its last column, and t as last row (of G or below it).
        rows = self.width + 1 if rule.row_norms else self.width
        self.key_sums = self._totals(rows, self.channels)

    def summarise(self, rows: slice, states: Tensor, scratch: Scratch) -> None:
        """First pass: add a block (B, C) to what all instances together say as keys."""
        lifted = weighted = scratch.lifted(states)
        for head in range(self.heads):
            if self.rule.row_norms:
                weighted = scratch.block("weighted", states.shape[0], self.width + 1, ones=1)
                keys = self._measure(head, rows, lifted, scratch)[:, :1]
                torch.div(lifted, keys, out=weighted[:, :-1])
            self.key_sums[head].add_outer(weighted, states)

    def fold(self) -> None:
        """Between the passes: matrices that stand for everybody else."""
        sums = _stacked(self.key_sums)
        inverse = self.key_lengths.reciprocal().sum(1, dtype=torch.float64)
        last = torch.cat([sums[:, self.channels], inverse.unsqueeze(1)], 1)
        keys = Sums(sums[:, : self.width], last, sums[0, -1] / self.count)
        self.folded = Fold(keys, self.exact, self.rule.gain, self.rule.row_norms)
        found = self.folded.pull, self.folded.weigh, self.folded.centre
        self.pull, self.weigh, self.centre = (part.to(self.work) for part in found)

    def read(self, head: int, rows: slice, states: Tensor) -> None:
        """Second pass: find what a head's rates add up to for the rows of a block (B, C)."""
        lengths, rho = self.query_lengths[head, rows], self.rho[head, rows]
        *linear, constant = self.weigh[head].split(self.channels)
        torch.addmv(lengths, states, *linear, beta=self.count, out=rho)
        rho.add_(constant)
        if self.work == torch.float64:  # else ``reliable`` finds out
            noise = 8 * torch.finfo(self.work).eps * self.count
            rho.masked_fill_(rho <= noise * lengths, torch.inf)
        rho.reciprocal_()

    def pulled(self, head: int, states: Tensor, out: Tensor) -> Tensor:
        """u: where a block is pulled, before rho scales it; (B, C)."""
        linear, constant = self.pull[head].split(self.channels)
        return torch.addmm(constant, states, linear, out=out)

    def reliable(self) -> bool:
        """Whether the digits and the range of the working precision sufficed.

        Raises:
            OutOfRange: If they did not, and there is no higher precision.
        """
        shares = self.rho * self.query_lengths  # 1 / a sum of rates
        found = torch.stack([*self.lengths.aminmax(), *shares.aminmax()])
        shortest, longest, least, most = found.tolist()
        tiny = torch.finfo(self.work).tiny ** 0.5
        in_range = shortest > tiny and longest < 1 / tiny
        if self.work == torch.float64:
            if not in_range:
                raise OutOfRange
            return True
        return bool(in_range and least > 0 and most <= WEAK / self.count)

    def start_backward(self) -> None:
        """Prepare the first pass of the backward."""
        back = [self.pull.mT, -self.weigh.unsqueeze(1)]
        if self.rule.row_norms:
            back.append((-self.count * square(self.exact.query)).to(self.work))
        self.query_back = torch.cat([part[..., :-1] for part in back], 1)
        columns = self.query_back.shape[1]
        self.query_sums = self._totals(columns, self.channels)
        self.query_rows = self._totals(columns)  # what the last column of W would be
        self.of_centre = Total((self.channels,), self.exact.key.device)

    def query_backward(
        self,
        rows: slice,
        states: Tensor,
        pulled: list[Tensor],
        g: Tensor,
        out: Tensor,
        scratch: Scratch,
    ) -> None:
        """Set ``out`` (B, C) to what a block keeps and receives as queries; add to the sums."""
        self.of_centre.add_rows(g)
        joined = scratch.block("joined", g.shape[0], self.query_back.shape[1])
        along, kept = joined[:, self.channels], self.rule.keep
        for head, u in enumerate(pulled):
            rho = self.rho[head, rows]
            scaled = torch.mul(g, rho.unsqueeze(1), out=joined[:, : self.channels])
            torch.mul(inner(scaled, u, scratch), rho, out=along)
            if self.rule.row_norms:
                share = torch.div(along, self.query_lengths[head, rows], out=joined[:, -1])
                torch.mul(states, share.unsqueeze(1), out=joined[:, self.channels + 1 : -1])
            self.query_sums[head].add_outer(joined, states)
            self.query_rows[head].add_rows(joined)
            before, kept = (out, 1.0) if head else (g, kept)
            torch.addmm(before, joined, self.query_back[head], beta=kept, out=out)

    def start_keys(self) -> None:
        """Between the passes: gradients of the sums over keys and, in part, of the maps."""
        last = _stacked(self.query_rows).unsqueeze(2)
        query_sums = torch.cat([_stacked(self.query_sums), last], 2)
        pull, weigh, lengths = query_sums.tensor_split((self.channels, self.width), dim=1)
        of_keys, of_maps = self.folded.gradients(pull.mT, -weigh.squeeze(1), self.of_centre.value())
        of_outer = of_keys.whole()
        back = of_outer + of_outer.mT
        of_total = (of_keys.mean / (self.count * self.heads)).expand(self.heads, 1, -1)
        self.of_maps = [part for part in of_maps if part is not None]
        if self.rule.row_norms:
            self.of_maps[0].baddbmm_(self.exact.query, lengths, alpha=-self.count)
            self._start_lengths(back, of_total)
        else:
            back = back[..., :-1]
            self.key_back = torch.cat([back[:, :-1], back[:, -1:] + of_total], 1).to(self.work)

    def _start_lengths(self, back: Tensor, of_total: Tensor) -> None:
        """What a key is multiplied by where it has a length: see ``_key_backward``."""
        linear, last = back[:, :-1, :-1], back[:, :-1, -1]
        self.key_back = linear.to(self.work, memory_format=torch.contiguous_format)
        self.twice_last, self.corner_back = (2 * last).to(self.work), back[:, -1, -1].to(self.work)
        of_lengths = square(self.exact.key)[..., :-1] / -2
        parts = [of_lengths, last.unsqueeze(1), of_total]
        self.length_back = torch.cat(parts, 1).to(self.work)
        self.length_sums = self._totals(self.width, self.channels)
        self.corners = self.exact.key.new_zeros(self.heads)  # what the last column lacks

    def key_backward(self, rows: slice, states: Tensor, out: Tensor, scratch: Scratch) -> None:
        """Second pass: add to ``out`` (B, C) what a block receives as keys, and to the sums."""
        for head in range(self.heads):
            if self.rule.row_norms:
                self._key_backward(head, rows, states, out, scratch)
            else:
                out.addmm_(scratch.lifted(states), self.key_back[head])

    def _key_backward(
        self, head: int, rows: slice, states: Tensor, out: Tensor, scratch: Scratch
    ) -> None:
        """One head's, with lengths: [theta z, theta, 1 / length, 1] times what they ask for."""
        lengths = self.key_lengths[head, rows]
        weighted = scratch.block("lengths", states.shape[0], self.width + 2, ones=1)
        moved = torch.mm(states, self.key_back[head], out=scratch.block("moved", *states.shape))
        inverse = torch.reciprocal(lengths, out=weighted[:, self.width])
        out.addcmul_(moved, inverse.unsqueeze(1))
        theta = torch.addmv(inner(moved, states, scratch), states, self.twice_last[head])
        theta.add_(self.corner_back[head]).mul_(inverse).div_(lengths.square())
        weighted[:, self.channels] = theta
        torch.mul(states, theta.unsqueeze(1), out=weighted[:, : self.channels])
        self.length_sums[head].add_outer(weighted[:, : self.width], states)
        self.corners[head] += theta.sum()
        out.addmm_(weighted, self.length_back[head])

    def finish_backward(self) -> list[Tensor]:
        """Gradients of the maps that were given, in order."""
        if self.rule.row_norms:
            outer = self._completed(_stacked(self.length_sums), self.corners)
            self.of_maps[1].baddbmm_(self.exact.key, outer, alpha=-0.5)
        return self.of_maps

    def _totals(self, *shape: int) -> list[Total]:
        return [Total(shape, self.exact.key.device) for _ in range(self.heads)]

    def _completed(self, sums: Tensor, corners: Tensor) -> Tensor:
        """Symmetric (H, W, W) from its first C columns, on top of (H, W + 1, C), and the corner."""
        last = torch.cat([sums[:, self.channels], corners.unsqueeze(1)], 1)
        return torch.cat([sums[:, : self.width], last.unsqueeze(2)], 2)

    def _measure(self, head: int, rows: slice, lifted: Tensor, scratch: Scratch) -> Tensor:
        """Lengths of a block's keys and queries, (B, 2); remembered."""
        count, both = lifted.shape[0], self.measures.shape[2]
        mapped = torch.mm(lifted, self.measures[head], out=scratch.block("mapped", count, both))
        found = self.lengths[head, rows]
        torch.linalg.vector_norm(mapped.view(count, 2, -1), dim=2, out=found)
        return found


def _stacked(totals: list[Total]) -> Tensor:
    found = [total.value() for total in totals]
    return torch.stack(found) if len(found) > 1 else found[0].unsqueeze(0)


def inner(left: Tensor, right: Tensor, scratch: Scratch) -> Tensor:
    """Inner products of the rows of (B, C), (B,); in the room of the moved states."""
    return torch.mul(left, right, out=scratch.block("moved", *left.shape)).sum(1)
