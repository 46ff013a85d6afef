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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difformer.diffusion.all_pairs import AllPairs
from difformer.diffusion.folded import Maps
from difformer.diffusion.graph import SparseWeights
from difformer.diffusion.rule import StepRule, blocks_of, working
from difformer.diffusion.scratch import Scratch
from difformer.diffusion.settle import Settle
from difformer.diffusion.workspace import Workspace

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
        self.scratch = Scratch(work, z.device, workspace)

    def forward(self, t: "_Tensors", out: Tensor) -> bool:
        """Fill ``out``; whether the working precision sufficed.

        Raises:
            OutOfRange: If none does.
        """
        term, scratch = self.term, self.scratch
        if term is not None:
            for rows, states in blocks_of(t.z, self.work):
                term.summarise(rows, states, scratch)
            term.fold()
        for rows, states in blocks_of(t.z, self.work):
            pulled: list[Tensor] = []
            if term is not None:
                for head in range(term.heads):
                    term.read(head, rows, states)
                    pulled.append(term.pulled(head, states, self._room(head, rows)))
            moved = self._moved(t, rows, states, pulled, True)
            self.settle.forward(rows, moved, out[rows])
        scratch.clear()
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

        ``flow`` (N, C) is room for the gradient of the moved states, which neighbours ask for. Both
        may be what :meth:`lend` gave: rows are written after they were read.
        """
        term = self.term
        self.settle.start_backward(t.z)
        if term is not None:
            term.start_backward()
        for rows, states in blocks_of(t.z, self.work):
            pulled = self._again(rows, states)
            moved = self._moved(t, rows, states, pulled, False)
            done = None if after is None else after[rows].to(self.work)
            g = self.settle.backward(rows, moved, gradient[rows].to(self.work), done)
            self._spread(rows, g, wanted, flow)
            with _writing(wanted.z, rows, self.work) as received:
                if term is None:
                    torch.mul(g, self.rule.keep, out=received)
                else:
                    term.query_backward(rows, states, pulled, g, received, self.scratch)
        if term is not None:
            term.start_keys()
        if term is not None or flow is not None:
            self._second_backward(t.z, wanted.z, flow)
        self.scratch.clear()
        self.stored = self.received = None  # may be written over; another backward makes them again
        return [] if term is None else term.finish_backward()

    def lend(self, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Room that the backward may write over, (N, C): the stored product's, the neighbours'."""
        if like.dtype != self.work:
            return None, None
        if self.stored is None or len(self.stored) > 1:
            return None, self.received
        return self.stored[0], self.received

    def _spread(self, rows: slice, g: Tensor, wanted: "_Gradients", flow: Tensor | None) -> None:
        """Hand the gradient of a block's moved states on to what they were made from, but z."""
        for whole, share in ((wanted.rest, self.rule.rest), (wanted.initial, self.rule.source)):
            if whole is not None:
                torch.mul(g, share, out=whole[rows])
        if flow is not None:
            flow[rows] = g

    def _second_backward(self, z: Tensor, of_z: Tensor, flow: Tensor | None) -> None:
        """Add what instances receive as keys and as neighbours."""
        for rows, states in blocks_of(z, self.work):
            with _writing(of_z, rows, self.work) as received:
                if self.term is not None:
                    self.term.key_backward(rows, states, received, self.scratch)
                if flow is not None:
                    for share, operator in self.operators:
                        received.add_(operator.transpose.rows(rows, flow), alpha=share)

    def _room(self, head: int, rows: slice) -> Tensor:
        """Where a block's product of a head goes, (B, C)."""
        if self.stored is not None:
            return self.stored[head, rows]
        assert self.term is not None
        return self.scratch.block(f"pulled {head}", rows.stop - rows.start, self.term.channels)

    def _again(self, rows: slice, states: Tensor) -> list[Tensor]:
        """u of each head: made again, or read where it was stored."""
        if self.term is None:
            return []
        if self.stored is not None:
            return list(self.stored[:, rows])
        term = self.term
        return [term.pulled(h, states, self._room(h, rows)) for h in range(term.heads)]

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
        self,
        t: "_Tensors",
        rows: slice,
        states: Tensor,
        pulled: list[Tensor],
        first: bool,
    ) -> Tensor:
        """States of a block right after the move, (B, C); in the scratch."""
        moved, keep = self.scratch.block("moved", *states.shape), self.rule.keep
        if self.term is None:
            torch.mul(states, keep, out=moved)
        else:
            torch.add(self.term.centre, states, alpha=keep, out=moved)
            for head, u in enumerate(pulled):
                moved.addcmul_(u, self.term.rho[head, rows].unsqueeze(1))
        neighbours = self._neighbours(t.z, rows, first)
        if neighbours is not None:
            moved.add_(neighbours)
        if t.rest is not None:
            moved.add_(t.rest[rows], alpha=self.rule.rest)
        if t.initial is not None:
            moved.add_(t.initial[rows], alpha=self.rule.source)
        return moved


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
        if not run.forward(tensors, out):
            run = _Run(rule, tensors, operators, torch.float64, workspace)
            run.forward(tensors, out)
        ctx.save_for_backward(*parts, out if rule.relu else None)
        ctx.run, ctx.workspace = run, workspace
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *parts, after = ctx.saved_tensors
        tensors, run, workspace = _Tensors.of(parts), ctx.run, ctx.workspace
        *_, rest, initial = ctx.needs_input_grad[:6]
        of_z, flow = run.lend(tensors.z)
        wanted = _Gradients(
            workspace.empty_like(tensors.z) if of_z is None else of_z,
            workspace.empty_like(tensors.rest) if rest else None,
            workspace.empty_like(tensors.initial) if initial else None,
        )
        if run.operators and flow is None:
            flow = workspace.empty_like(gradient)
        found = run.backward(tensors, after, gradient, wanted, flow)
        of_maps = iter(found)
        maps = [None if m is None else next(of_maps).to(m.dtype) for m in parts[5:]]
        return None, None, None, *wanted, *run.settle.gradients(tensors.gamma), *maps


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
