r"""One whole step in blocks of rows: diffuse, move, normalise, drop out.

.. math:: m_i = c_0 z_i + \sum_j S_{ij} v_j + c_1 u_i + c_2 z^{(0)}_i, \quad
    z_i \leftarrow \mathrm{dropout}(\mathrm{LayerNorm}(m_i))

with the linear all-pair diffusion of ``difformer.diffusion.folded`` and the influence u of all
other terms. A block is read from memory, everything is done while it is in the cache, and it is
written. Nothing of what lies in between is stored (but for one product if ``rule.store``): the
backward makes it again.

Letters: N instances, B rows of a block, H heads, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.all_pairs import AllPairs
from difformer.diffusion.folded import Maps
from difformer.diffusion.parallel import in_threads
from difformer.diffusion.rule import StepRule, blocks
from difformer.diffusion.settle import Settle


class _Run:
    """One forward pass and what its backward needs, apart from the tensors that autograd saves."""

    def __init__(self, rule: StepRule, tensors: "_Tensors", work: torch.dtype) -> None:
        z = tensors.z
        self.rule, self.work = rule, work
        self.settle = Settle(rule, tensors.gamma, tensors.beta, len(z), work)
        self.term = None if tensors.maps is None else AllPairs(rule, tensors.maps, len(z), work)
        self.stored: Tensor | None = None
        if self.term is not None and rule.store:
            self.stored = z.new_empty(self.term.heads, *z.shape, dtype=work)

    def forward(self, t: "_Tensors") -> Tensor:
        out, term = torch.empty_like(t.z), self.term
        if term is not None:
            term.fold(*self._each(t.z, term.summarise, *term.key_zeros()))

        def block(rows: slice, lifted: Tensor) -> None:
            for head in range(0 if term is None else term.heads):
                term.read(head, rows, lifted)  # type: ignore[union-attr]
            moved = self._moved(t, rows, lifted, self._pulled(rows, lifted, True))
            out[rows] = self.settle.forward(rows, moved)

        self._each(t.z, block)
        return out

    def reliable(self) -> bool:
        """Whether the working precision sufficed; raises ``OutOfRange`` if none does."""
        return self.term is None or self.term.reliable()

    def backward(
        self, t: "_Tensors", after: Tensor | None, gradient: Tensor, wanted: "_Gradients"
    ) -> list[Tensor]:
        """Fill the wanted gradients of N rows; return those of the maps."""
        term = self.term
        zeros = (self.settle.zeros(t.z), *(() if term is None else term.start_backward()))

        def block(rows: slice, lifted: Tensor, settled: Tensor, *sums: Tensor) -> None:
            pulled = self._pulled(rows, lifted, False)
            moved = self._moved(t, rows, lifted, pulled)
            done = None if after is None else after[rows].to(self.work)
            g = self.settle.backward(rows, moved, gradient[rows].to(self.work), done, settled)
            for of_rows, share in (
                (wanted.rest, self.rule.rest),
                (wanted.initial, self.rule.source),
            ):
                if of_rows is not None:
                    torch.mul(g, share, out=of_rows[rows])
            with _writing(wanted.z, rows, self.work) as received:
                torch.mul(g, self.rule.keep, out=received)
                if term is not None:
                    term.query_backward(rows, lifted, pulled, g, received, *sums)

        settled, *sums = self._each(t.z, block, *zeros)
        self.settle.sums = settled
        if term is None:
            return []

        def keys(rows: slice, lifted: Tensor, key_sums: Tensor) -> None:
            with _writing(wanted.z, rows, self.work) as received:
                term.key_backward(rows, lifted, received, key_sums)

        return term.finish_backward(*self._each(t.z, keys, term.start_keys(*sums)))

    def _each(self, z: Tensor, work: Callable[..., None], *zeros: Tensor) -> list[Tensor]:
        """Do ``work(rows, lifted, *sums)`` for every block; the sums over all of them."""

        def share(cuts: Sequence[slice]) -> list[Tensor]:
            sums = [torch.zeros_like(zero) for zero in zeros]
            for rows, lifted in self._lifted(z, cuts):
                work(rows, lifted, *sums)
            return sums

        cuts = list(blocks(z.shape[0], z.shape[1], z.device))
        parts = in_threads(share, cuts, z.device)
        return [torch.stack(same).sum(0) for same in zip(*parts, strict=True)]

    def _pulled(self, rows: slice, lifted: Tensor, first: bool) -> list[Tensor]:
        """u of each head, (B, C): made, or read where it was stored."""
        if self.term is None:
            return []
        heads = range(self.term.heads)
        if self.stored is None:
            return [self.term.pulled(head, lifted) for head in heads]
        if first:
            for head in heads:
                self.stored[head, rows] = self.term.pulled(head, lifted)
        return list(self.stored[:, rows])

    def _moved(self, t: "_Tensors", rows: slice, lifted: Tensor, pulled: list[Tensor]) -> Tensor:
        """States of a block right after the move, (B, C)."""
        if self.term is None:
            moved = lifted[:, :-1] * self.rule.keep
        else:
            rho = self.term.rho[:, rows]
            moved = torch.addcmul(self.term.centre, pulled[0], rho[0])
            for head in range(1, self.term.heads):
                moved.addcmul_(pulled[head], rho[head])
            moved.add_(lifted[:, :-1], alpha=self.rule.keep)
        if t.rest is not None:
            moved.add_(t.rest[rows], alpha=self.rule.rest)
        if t.initial is not None:
            moved.add_(t.initial[rows], alpha=self.rule.source)
        return moved

    def _lifted(self, z: Tensor, cuts: Sequence[slice]) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows [z, 1], (B, C + 1), in one buffer that is used again and again."""
        buffer: Tensor | None = None
        for rows in cuts:
            length = rows.stop - rows.start
            if buffer is None:
                buffer = torch.ones(length, z.shape[1] + 1, dtype=self.work, device=z.device)
            lifted = buffer[:length]
            lifted[:, :-1] = z[rows]
            yield rows, lifted


@contextmanager
def _writing(whole: Tensor, rows: slice, work: torch.dtype) -> Iterator[Tensor]:
    """A block to be changed in the working precision; written back where that is another one."""
    block = whole[rows].to(work)
    yield block
    if block.dtype != whole.dtype:
        whole[rows] = block


class _Tensors(NamedTuple):
    """What a step is made from."""

    z: Tensor
    rest: Tensor | None
    initial: Tensor | None
    gamma: Tensor | None
    beta: Tensor | None
    maps: Maps | None

    @classmethod
    def of(cls, parts: Sequence[Tensor | None]) -> "_Tensors":
        z, rest, initial, gamma, beta, *maps = parts
        assert z is not None
        return cls(z, rest, initial, gamma, beta, Maps.of(maps))


class _Gradients(NamedTuple):
    """Gradients of N rows, to be filled."""

    z: Tensor
    rest: Tensor | None
    initial: Tensor | None


def _like(part: Tensor | None, wanted: bool) -> Tensor | None:
    return torch.empty_like(part) if part is not None and wanted else None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rule: StepRule, *parts: Tensor | None) -> Tensor:
        tensors = _Tensors.of(parts)
        work = torch.float64 if tensors.z.dtype == torch.float64 else torch.float32
        run = _Run(rule, tensors, work)
        out = run.forward(tensors)
        if not run.reliable():
            run = _Run(rule, tensors, torch.float64)
            out = run.forward(tensors)
            run.reliable()
        ctx.save_for_backward(*parts, out if rule.relu else None)
        ctx.run = run
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *parts, after = ctx.saved_tensors
        tensors, run = _Tensors.of(parts), ctx.run
        wanted = _Gradients(
            torch.empty_like(tensors.z),
            _like(tensors.rest, ctx.needs_input_grad[2]),
            _like(tensors.initial, ctx.needs_input_grad[3]),
        )
        of_maps = iter(run.backward(tensors, after, gradient, wanted))
        maps = [None if m is None else next(of_maps).to(m.dtype) for m in parts[5:]]
        return None, *wanted, *run.settle.gradients(tensors.gamma), *maps


def step(
    rule: StepRule,
    z: Tensor,  # (N, C)
    maps: Maps | None = None,
    rest: Tensor | None = None,  # (N, C)
    initial: Tensor | None = None,  # (N, C)
    gamma: Tensor | None = None,  # (C,)
    beta: Tensor | None = None,  # (C,)
) -> Tensor:
    """States after one step, (N, C). Cost O(N H C^2) time; memory as the module says.

    Args:
        rule: The constants.
        z: States; float16, bfloat16, float32 or float64.
        maps: Of the linear all-pair term; None: there is none.
        rest: Influence of all other terms.
        initial: States that the source pulls to.
        gamma: Weight of the LayerNorm; None: there is none.
        beta: Its bias.
    """
    parts = (None,) * 4 if maps is None else tuple(maps)
    out: Tensor = _Step.apply(rule, z, rest, initial, gamma, beta, *parts)  # type: ignore[no-untyped-call]
    return out
