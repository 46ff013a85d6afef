r"""What is known or guessed of instances diffuses: the last stage of decoupled diffusion.

With P the mean of the fixed terms, each row of sum 1, a round of T steps is

.. math:: Q \leftarrow (1 - \Gamma) P Q + \Gamma Q_0, \qquad \Gamma = \mathrm{diag}(\gamma_i)

Q_0 holds labels where they are known, else guesses. Where answers are probabilities two things
depend on them. A row holds on to its start the more, the surer that is: :math:`\gamma_i` is in
proportion to its confidence, gamma for a typical guess, between a tenth of gamma and five times as
much. And after a round, rates fall with the distance of two rows' answers,

.. math:: P_{ij} \propto P_{ij} \, e^{-\|q_i - q_j\|^2 / \tau}

so the next one is a step to lower a concave energy of the answers (Welsch's penalty), with rates
that are optimal for the answers of the round before: neighbours that turned out to be of another
class are hardly heard any more. What both bring is in docs/decisions.md.

Letters: N fitted instances, O new ones, K answers, T steps; K + 1 columns diffuse, the last one
being how much each row counts.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from difformer.diffusion.graph import SparseWeights, sparse_weights
from difformer.nn.structure import Structure

WIDTH = 0.5  # tau; the squared distance of two certain answers is 2
LEAST, MOST = 0.1, 5.0  # of a row's gamma, as multiples of the typical one


@dataclass(frozen=True)
class LabelRule:
    """How labels diffuse.

    Attributes:
        steps: T, of a round; 0: nothing diffuses.
        source: gamma.
        rounds: Rounds with rates that follow the answers, after the first one.
    """

    steps: int
    source: float
    rounds: int


@dataclass(frozen=True, eq=False)
class Start:
    """Q_0, and what is known about it.

    Attributes:
        values: Q_0, (N, K).
        mass: How much each row counts, (N,); None: all the same.
        probabilities: Whether rows of Q_0 sum to 1. If not, gamma is the same for all rows, and
            rates do not follow the answers.
        guessed: Rows that are no labels, (N,) bool; None: all.
    """

    values: Tensor
    mass: Tensor | None = None
    probabilities: bool = False
    guessed: Tensor | None = None

    @property
    def typical(self) -> float:
        """Median confidence of the guesses; 1 where there is none."""
        guesses = self.values if self.guessed is None else self.values[self.guessed]
        if not self.probabilities or not len(guesses):
            return 1.0
        return float(confidence(guesses).median())

    def gamma(self, source: float, typical: float) -> Tensor | float:
        """How strongly rows hold on to Q_0, (N, 1) or one number."""
        if not self.probabilities:
            return source
        sure = confidence(self.values)
        relative = sure / typical if typical > 0 else torch.ones_like(sure)
        gamma: Tensor = (source * relative.clamp(LEAST, MOST)).clamp_max(1).unsqueeze(1)
        return gamma


def confidence(q: Tensor) -> Tensor:
    """1 for a certain row of (N, K), 0 where all answers are equally likely, (N,).

    Example:
        >>> confidence(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        tensor([1., 0.])
    """
    entropy = torch.special.entr(q.clamp_min(0)).sum(1)
    sure: Tensor = (1 - entropy / math.log(max(q.shape[1], 2))).clamp(0, 1)
    return sure


class LabelDiffusion:
    """Answers of fitted rows, and of new ones that listen to them.

    Args:
        operator: P among the fitted rows, (N, N), as :func:`mean_operator` makes it.
        start: Of the fitted rows.
        rule: Steps and rounds.

    Example:
        >>> p = sparse_weights(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2), 2, 2)
        >>> start = Start(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
        >>> LabelDiffusion(p, start, LabelRule(1, 0.1, 0)).answers()
        tensor([[0.5500, 0.4500],
                [0.9500, 0.0500]])
    """

    def __init__(self, operator: SparseWeights, start: Start, rule: LabelRule) -> None:
        self.operator, self.start, self.rule = operator, start, rule
        self.typical = start.typical
        self.adapts = start.probabilities and rule.steps > 0
        self._begin = with_mass(start.values, start.mass)
        self._gamma = start.gamma(rule.source, self.typical)

    @torch.no_grad()
    def answers(self) -> Tensor:
        """Of the fitted rows after all rounds, (N, K). Cost O(T E K) a round for E entries of P."""
        *_, last = self._rounds()
        return last.answers

    @torch.no_grad()
    def follow(self, towards: SparseWeights, start: Start) -> Tensor:
        """Answers of new rows, (O, K): the fitted rows do not listen to them.

        Args:
            towards: P between new rows and, as columns, the fitted and then the new ones,
                (O, N + O).
            start: Of the new rows.
        """
        begin, gamma = with_mass(start.values), start.gamma(self.rule.source, self.typical)
        alone = not bool((towards.pattern.col >= self.operator.pattern.rows).any())
        said, heard = start.values, None
        for this in self.remembered if alone else self._rounds():
            everyone = None if heard is None else torch.cat([heard, said])
            weights = towards if everyone is None else following(towards, said, everyone)
            q = begin
            for known in this:
                q = _step(weights, torch.cat([known, q]), begin, gamma)
            said, heard = without_mass(q), this.answers
        return said

    @cached_property
    def remembered(self) -> "list[Remembered]":
        """All that new rows need which do not hear each other: of each round, its last step."""
        return [this.remembered() for this in self._rounds()]

    def _rounds(self) -> "Iterator[_Round]":
        yield (this := _Round(self.operator, self._begin, self._gamma, self.rule.steps))
        for _ in range(self.rule.rounds * self.adapts):
            weights = following(self.operator, this.answers, this.answers)
            yield (this := _Round(weights, self._begin, self._gamma, self.rule.steps))


@dataclass(frozen=True, eq=False)
class Remembered:
    """Of a round: what rows said before some of its steps, (N, K + 1) each, and answers (N, K)."""

    before: Sequence[Tensor]
    answers: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.before)


class _Round:
    """One round of steps. Iterating goes through what rows say before each of them, (N, K + 1)."""

    def __init__(
        self, weights: SparseWeights, begin: Tensor, gamma: Tensor | float, steps: int
    ) -> None:
        self._made_from = weights, begin, gamma
        self._steps = steps
        self._after: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        weights, begin, gamma = self._made_from
        q = begin
        for _ in range(self._steps):
            yield q
            q = _step(weights, q, begin, gamma)
        self._after = q

    @property
    def answers(self) -> Tensor:
        """After all steps, (N, K)."""
        if self._after is None:
            deque(self, maxlen=0)
        assert self._after is not None
        return without_mass(self._after)

    def remembered(self) -> Remembered:
        """The last step alone."""
        last = list(deque(self, maxlen=1))
        return Remembered(last, self.answers)


def _step(weights: SparseWeights, q: Tensor, begin: Tensor, gamma: Tensor | float) -> Tensor:
    return (1 - gamma) * weights.matmul(q) + gamma * begin


def mean_operator(structure: Structure, shares: Sequence[float]) -> SparseWeights:
    """P: the terms' weights, each row of sum 1 or 0, mixed by their shares. Cost O(E log E)."""
    parts = [
        (w.normalised("row"), share)
        for w, share in zip(structure.weights, shares, strict=True)
        if w is not None
    ]
    first = parts[0][0].pattern
    return sparse_weights(
        torch.cat([w.pattern.row for w, _ in parts]),
        torch.cat([w.pattern.col for w, _ in parts]),
        torch.cat([w.values * share for w, share in parts]),
        first.rows,
        first.columns,
    )


def following(
    operator: SparseWeights,
    rows: Tensor,  # (N, K) or (O, K)
    columns: Tensor,  # (N, K) or (N + O, K)
) -> SparseWeights:
    """Rates that fall with the distance between what rows and columns say; each row of sum 1.

    Rows of the operator that hear nobody stay zero. Cost O(E K) time, O(E) memory.
    """
    row, col = operator.pattern.row, operator.pattern.col
    distance = torch.zeros_like(operator.values)
    for mine, theirs in zip(rows.unbind(1), columns.unbind(1), strict=True):
        distance += (mine[row] - theirs[col]).square_()
    rates = operator.values * distance.div_(-WIDTH).exp_()
    return SparseWeights(operator.pattern, rates).normalised("row")


def with_mass(q: Tensor, mass: Tensor | None = None) -> Tensor:
    """A column beside (N, K) that diffuses too: how much each row counts, (N,). Default: 1."""
    column = torch.ones_like(q[:, :1]) if mass is None else mass.to(q).unsqueeze(1)
    return torch.cat([q * column, column], 1)


def without_mass(q: Tensor) -> Tensor:
    """Divided by that column, for an instance without any neighbour loses mass, (N, K)."""
    return q[:, :-1] / q[:, -1:].clamp_min(torch.finfo(q.dtype).tiny)
