r"""One whole step in blocks of rows: diffuse, move, normalise, drop out.

.. math:: m_i = c_0 z_i + \sum_j S_{ij} v_j + \sum_g \omega_g \sum_j A^{(g)}_{ij} z_j
        + c_1 u_i + c_2 z^{(0)}_i, \quad
    z_i \leftarrow \mathrm{dropout}(\mathrm{LayerNorm}(m_i))

with the linear all-pair diffusion of ``difformer.diffusion.folded``, fixed sparse operators A such
as the observed graph's, and the influence u of all other terms. A block is read from memory,
everything is done while it is in the cache, and it is written. Nothing of what lies in between is
stored (but for products if ``rule.store``): the backward makes it again.

Letters: N instances, B rows of a block, H heads, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.all_pairs import AllPairs
from difformer.diffusion.folded import Maps
from difformer.diffusion.graph import SparseWeights
from difformer.diffusion.parallel import sum_blocks, team
from difformer.diffusion.rule import StepRule, cuts_of, working
from difformer.diffusion.settle import Settle
from difformer.diffusion.workspace import Workspace

Result = TypeVar("Result")
Operators = Sequence[tuple[float, SparseWeights]]


class _Run:
    """One forward pass and what its backward needs, apart from the tensors that autograd saves."""

    def __init__(
        self,
        rule: StepRule,
        tensors: "_Tensors",
        operators: Operators,
        work: torch.dtype,
        workspace: Workspace,
    ) -> None:
        z = tensors.z
        self.rule, self.work = rule, work
        self.operators = operators
        self.settle = Settle(rule, tensors.gamma, tensors.beta, len(z), work)
        self.term = None if tensors.maps is None else AllPairs(rule, tensors.maps, len(z), work)
        self.stored = self.received = None
        if self.term is not None and rule.store:
            self.stored = workspace.empty((self.term.heads, *z.shape), work, z.device)
        if operators and rule.store_neighbours:
            self.received = workspace.empty(z.shape, work, z.device)

    def forward(self, t: "_Tensors", out: Tensor) -> bool:
        """Fill ``out``; whether the working precision sufficed.

        Raises:
            OutOfRange: If none does.
        """
        term = self.term
        if term is not None:
            term.fold(*self._each(t.z, term.summarise, *term.key_zeros()))

        def block(rows: slice, lifted: Tensor) -> None:
            for head in range(0 if term is None else term.heads):
                term.read(head, rows, lifted)  # type: ignore[union-attr]
            moved = self._moved(t, rows, lifted, self._pulled(rows, lifted, True), True)
            out[rows] = self.settle.forward(rows, moved)

        self._each(t.z, block)
        return term is None or term.reliable()

    def backward(
        self,
        t: "_Tensors",
        after: Tensor | None,
        gradient: Tensor,
        wanted: "_Gradients",
        flow: Tensor | None,
    ) -> list[Tensor]:
        """Fill the wanted gradients of N rows; return those of the maps.

        ``flow`` (N, C) is room for the gradient of the moved states, which neighbours ask for.
        """
        term = self.term
        zeros = (self.settle.zeros(t.z), *(() if term is None else term.start_backward()))

        def block(rows: slice, lifted: Tensor, settled: Tensor, *sums: Tensor) -> None:
            pulled = self._pulled(rows, lifted, False)
            moved = self._moved(t, rows, lifted, pulled, False)
            done = None if after is None else after[rows].to(self.work)
            g = self.settle.backward(rows, moved, gradient[rows].to(self.work), done, settled)
            for of_rows, share in (
                (wanted.rest, self.rule.rest),
                (wanted.initial, self.rule.source),
            ):
                if of_rows is not None:
                    torch.mul(g, share, out=of_rows[rows])
            if flow is not None:
                flow[rows] = g
            with _writing(wanted.z, rows, self.work) as received:
                torch.mul(g, self.rule.keep, out=received)
                if term is not None:
                    term.query_backward(rows, lifted, pulled, g, received, *sums)

        settled, *sums = self._each(t.z, block, *zeros)
        self.settle.sums = settled
        if term is None and flow is None:
            return []

        def keys(rows: slice, lifted: Tensor, *key_sums: Tensor) -> None:
            with _writing(wanted.z, rows, self.work) as received:
                if term is not None:
                    term.key_backward(rows, lifted, received, *key_sums)
                if flow is not None:
                    for share, operator in self.operators:
                        received.add_(operator.transpose.rows(rows, flow), alpha=share)

        key_sums = self._each(t.z, keys, *(() if term is None else (term.start_keys(*sums),)))
        return [] if term is None else term.finish_backward(*key_sums)

    def _each(self, z: Tensor, work: Callable[..., None], *zeros: Tensor) -> list[Tensor]:
        """Do ``work(rows, lifted, *sums)`` for every block; the sums over all of them."""
        return sum_blocks(work, lambda: self._reader(z), cuts_of(z), zeros, z.device)

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

    def _neighbours(self, z: Tensor, rows: slice, first: bool) -> Tensor | None:
        """What the sparse operators bring, (B, C): made, or read where it was stored."""
        if not self.operators:
            return None
        if self.received is not None and not first:
            return self.received[rows]
        (share, operator), *others = self.operators
        found = operator.rows(rows, z).to(self.work) * share
        for share, operator in others:
            found.add_(operator.rows(rows, z), alpha=share)
        if self.received is not None:
            self.received[rows] = found
        return found

    def _moved(
        self, t: "_Tensors", rows: slice, lifted: Tensor, pulled: list[Tensor], first: bool
    ) -> Tensor:
        """States of a block right after the move, (B, C)."""
        if self.term is None:
            moved = lifted[:, :-1] * self.rule.keep
        else:
            rho = self.term.rho[:, rows]
            moved = torch.addcmul(self.term.centre, pulled[0], rho[0])
            for head in range(1, self.term.heads):
                moved.addcmul_(pulled[head], rho[head])
            moved.add_(lifted[:, :-1], alpha=self.rule.keep)
        neighbours = self._neighbours(t.z, rows, first)
        if neighbours is not None:
            moved.add_(neighbours)
        if t.rest is not None:
            moved.add_(t.rest[rows], alpha=self.rule.rest)
        if t.initial is not None:
            moved.add_(t.initial[rows], alpha=self.rule.source)
        return moved

    def _reader(self, z: Tensor) -> Callable[[slice], Tensor]:
        """Reads blocks of rows [z, 1], (B, C + 1), into one buffer again and again."""
        buffer: Tensor | None = None

        def lifted(rows: slice) -> Tensor:
            nonlocal buffer
            length = rows.stop - rows.start
            if buffer is None:
                buffer = torch.ones(length, z.shape[1] + 1, dtype=self.work, device=z.device)
            found = buffer[:length]
            found[:, :-1] = z[rows]
            return found

        return lifted


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


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rule: StepRule,
        operators: Operators,
        workspace: Workspace,
        *parts: Tensor | None,
    ) -> Tensor:
        tensors = _Tensors.of(parts)
        work = working(tensors.z)
        out = workspace.empty_like(tensors.z)
        run = _Run(rule, tensors, operators, work, workspace)
        if not _led(lambda: run.forward(tensors, out), tensors.z):
            exact = run = _Run(rule, tensors, operators, torch.float64, workspace)
            _led(lambda: exact.forward(tensors, out), tensors.z)
        ctx.save_for_backward(*parts, out if rule.relu else None)
        ctx.run, ctx.workspace = run, workspace
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *parts, after = ctx.saved_tensors
        tensors, run, workspace = _Tensors.of(parts), ctx.run, ctx.workspace
        *_, rest, initial = ctx.needs_input_grad[:6]
        wanted = _Gradients(
            workspace.empty_like(tensors.z),
            workspace.empty_like(tensors.rest) if rest else None,
            workspace.empty_like(tensors.initial) if initial else None,
        )
        flow = workspace.empty_like(gradient) if run.operators else None
        found = _led(lambda: run.backward(tensors, after, gradient, wanted, flow), tensors.z)
        of_maps = iter(found)
        maps = [None if m is None else next(of_maps).to(m.dtype) for m in parts[5:]]
        return None, None, None, *wanted, *run.settle.gradients(tensors.gamma), *maps


def _led(call: Callable[[], Result], z: Tensor) -> Result:
    return team(call, len(cuts_of(z)), z.device)


def step(
    rule: StepRule,
    z: Tensor,  # (N, C)
    maps: Maps | None = None,
    rest: Tensor | None = None,  # (N, C)
    initial: Tensor | None = None,  # (N, C)
    gamma: Tensor | None = None,  # (C,)
    beta: Tensor | None = None,  # (C,)
    operators: Operators = (),
    workspace: Workspace | None = None,
) -> Tensor:
    """States after one step, (N, C). Cost O(N H C^2 + E C) time; memory as the module says.

    Args:
        rule: The constants.
        z: States; float16, bfloat16, float32 or float64.
        maps: Of the linear all-pair term; None: there is none.
        rest: Influence of all other terms.
        initial: States that the source pulls to.
        gamma: Weight of the LayerNorm; None: there is none.
        beta: Its bias.
        operators: Fixed sparse weights (N, N) of the states themselves, and their shares.
        workspace: Where memory is taken from.
    """
    workspace = Workspace() if workspace is None else workspace
    parts = (None,) * 4 if maps is None else tuple(maps)
    out: Tensor = _Step.apply(
        rule, tuple(operators), workspace, z, rest, initial, gamma, beta, *parts
    )  # type: ignore[no-untyped-call]
    return out
