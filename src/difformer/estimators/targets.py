"""What an estimator learns: classes, several marks a row, or numbers. One class a kind.

A target says what is known of each row, what training minimises, and what the outputs of an encoder
mean. Engines know no more of labels than this. Adding a kind means one class here and an estimator
that makes it.

Letters: N rows, K outputs (classes, marks or numbers), M members of an ensemble.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

from difformer.nn.label_diffusion import Start
from difformer.training.objectives import (
    Objective,
    consistency_cross_entropy,
    ensemble_probabilities,
    mean_squared_error,
)

DOUBT = 1e-6  # of a known mark, and of any class that is compared
SHARPENINGS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
WORST = math.log(1e-3)  # one row that is wholly wrong shall not outweigh the others


class Target(Protocol):
    """What is known of N rows, and how outputs are judged and read."""

    kind: ClassVar[str]
    probabilities: ClassVar[bool]  # whether the answers of a row sum to 1

    @property
    def y(self) -> Tensor:
        """As ``train`` takes it: class numbers (N,), -1 unknown; or (N, K), NaN unknown."""
        ...

    @property
    def outputs(self) -> int:
        """K."""
        ...

    @property
    def known(self) -> Tensor:
        """Rows that say something, (N,) bool."""
        ...

    @property
    def mass(self) -> Tensor | None:
        """How much each row's word counts, (N,); None: all the same."""
        ...

    def values(self, guess: Tensor) -> Tensor:
        """What rows say, (N, K), in the units of :meth:`read`; the guess where they are silent."""
        ...

    def objective(self, consistency: float) -> Objective:
        """Of outputs (M, N, K): the mean over the members, and how far they are to agree."""
        ...

    def read(self, outputs: Tensor) -> Tensor:
        """Answers (N, K) of an ensemble's outputs (M, N, K)."""
        ...

    def without(self, rows: Tensor) -> Self:
        """The same, but for rows (R,) of which nothing is known."""
        ...

    def losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """What training minimises, of each of some known rows (R,): (..., R, K) to (..., R)."""
        ...

    def gains(self, answers: Tensor, rows: Tensor) -> Tensor:
        """How good answers (R, K) for known rows (R,) are, higher is better, (R,)."""
        ...

    def describe(self) -> dict[str, Any]:
        """What JSON holds of it, apart from ``y``."""
        ...


@dataclass(frozen=True, eq=False)
class Classes:
    """One of K classes a row. Answers are probabilities that sum to 1.

    Args:
        y: Class numbers, -1 unknown, (N,).
        outputs: K.
        weight: Of each class in training, (K,); None: equal.
    """

    kind: ClassVar[str] = "classes"
    probabilities: ClassVar[bool] = True

    y: Tensor
    outputs: int
    weight: Tensor | None = None

    @property
    def known(self) -> Tensor:
        """Labelled rows."""
        return self.y >= 0

    @property
    def mass(self) -> Tensor | None:
        """The weight of a labelled row's class, 1 on average; 1 of other rows."""
        if self.weight is None:
            return None
        known = self.known
        mass = torch.ones(len(self.y), dtype=self.weight.dtype)
        mass[known] = self.weight[self.y[known]]
        mass[known] /= mass[known].mean()
        return mass

    def values(self, guess: Tensor) -> Tensor:
        """1 for the label, 0 for other classes."""
        known = self.known
        one_hot = torch.zeros_like(guess)
        one_hot[known, self.y[known]] = 1
        return torch.where(known.unsqueeze(1), one_hot, guess)

    def objective(self, consistency: float) -> Objective:
        """Cross-entropy and the agreement of views (``consistency_cross_entropy``)."""

        def judge(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            return consistency_cross_entropy(
                outputs, y, mask, weight=consistency, class_weight=self.weight
            )

        return judge

    def read(self, outputs: Tensor) -> Tensor:
        """Mean probabilities."""
        return ensemble_probabilities(outputs)

    def without(self, rows: Tensor) -> Self:
        """The class of these rows is not known."""
        return replace(self, y=self.y.index_fill(0, rows, -1))

    def losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Cross-entropy, without class weights."""
        chosen = self.y[rows].expand(outputs.shape[:-1]).unsqueeze(-1)
        return -outputs.log_softmax(-1).gather(-1, chosen).squeeze(-1)

    def gains(self, answers: Tensor, rows: Tensor, powers: Sequence[float] = SHARPENINGS) -> Tensor:
        """Log-likelihood after the best of some sharpenings p^T, for diffusion makes cautious."""
        logs = answers.clamp_min(DOUBT).log()
        truth = self.y[rows].unsqueeze(1)
        sharpened = [
            (power * logs).log_softmax(1).gather(1, truth).squeeze(1).clamp_min(WORST)
            for power in powers
        ]
        return max(sharpened, key=lambda gains: float(gains.mean()))

    def describe(self) -> dict[str, Any]:
        """Its kind, K and weights."""
        weight = None if self.weight is None else self.weight.tolist()
        return {"kind": self.kind, "outputs": self.outputs, "weight": weight}


@dataclass(frozen=True, eq=False)
class _Columns:
    """K columns, of which any entries may be known. Every row's word counts the same."""

    probabilities: ClassVar[bool] = False

    y: Tensor  # (N, K), NaN unknown

    @property
    def outputs(self) -> int:
        """K."""
        return self.y.shape[1]

    @property
    def known(self) -> Tensor:
        """Rows of which an entry is known."""
        return self.y.isfinite().any(1)

    @property
    def mass(self) -> Tensor | None:
        """All the same."""
        return None

    def without(self, rows: Tensor) -> Self:
        """No column of these rows is known."""
        return replace(self, y=self.y.index_fill(0, rows, math.nan))

    def _mean_of_known(self, entries: Tensor, rows: Tensor) -> Tensor:
        """Mean over the known columns of some rows: (..., R, K) to (..., R)."""
        known = self.y[rows].isfinite()
        return torch.where(known, entries, 0).sum(-1) / known.sum(-1)


@dataclass(frozen=True, eq=False)
class Marks(_Columns):
    """K marks a row, each there or not. Answers are the probabilities of each.

    Args:
        y: 1 there, 0 not there, NaN unknown, (N, K).
    """

    kind: ClassVar[str] = "marks"

    def values(self, guess: Tensor) -> Tensor:
        """The marks themselves, but for a doubt that keeps their logarithms finite."""
        certain = self.y.to(guess).clamp(DOUBT, 1 - DOUBT)
        return torch.where(self.y.isfinite(), certain, guess)

    def objective(self, consistency: float) -> Objective:
        """Cross-entropy of each known mark, and the views' squared distance from their mean."""

        def judge(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            there = y.isfinite() & mask.unsqueeze(1)
            truth = y[there].to(outputs).expand(len(outputs), -1)
            loss = functional.binary_cross_entropy_with_logits(outputs[:, there], truth)
            return loss + consistency * _disagreement(outputs.sigmoid())

        return judge

    def read(self, outputs: Tensor) -> Tensor:
        """Mean probabilities."""
        return outputs.sigmoid().mean(0)

    def losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy of the known marks."""
        truth = self.y[rows].nan_to_num().to(outputs).expand_as(outputs)
        entries = functional.binary_cross_entropy_with_logits(outputs, truth, reduction="none")
        return self._mean_of_known(entries, rows)

    def gains(self, answers: Tensor, rows: Tensor) -> Tensor:
        """Mean log-likelihood of the known marks."""
        certain = answers.clamp(DOUBT, 1 - DOUBT)
        return -self.losses(certain.logit(), rows)

    def describe(self) -> dict[str, Any]:
        """Its kind and K."""
        return {"kind": self.kind, "outputs": self.outputs}


@dataclass(frozen=True, eq=False)
class Numbers(_Columns):
    """K numbers a row. Training sees them centred and scaled; answers are in the units of ``y``.

    Args:
        y: Numbers, NaN unknown, (N, K).
        centre: What training takes off, (K,).
        spread: What it then divides by, (K,).
    """

    kind: ClassVar[str] = "numbers"

    centre: Tensor
    spread: Tensor

    @classmethod
    def of(cls, y: Tensor) -> "Numbers":
        """Centred at the mean of what is known, scaled by its standard deviation."""
        known = y.isfinite()
        count = known.sum(0).clamp_min(1)
        centre = torch.where(known, y, 0).sum(0) / count
        square = torch.where(known, y - centre, 0).square().sum(0) / count
        return cls(y, centre, torch.where(square > 0, square.sqrt(), 1))

    def values(self, guess: Tensor) -> Tensor:
        """The numbers themselves."""
        return torch.where(self.y.isfinite(), self.y.to(guess), guess)

    def objective(self, consistency: float) -> Objective:
        """Squared error of what is known, scaled, and the views' distance from their mean."""

        def judge(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            scaled = ((y - self.centre) / self.spread).to(outputs)
            losses = [mean_squared_error(member, scaled, mask) for member in outputs]
            return torch.stack(losses).mean() + consistency * _disagreement(outputs)

        return judge

    def read(self, outputs: Tensor) -> Tensor:
        """The members' mean, in the units of ``y``."""
        return outputs.mean(0) * self.spread.to(outputs) + self.centre.to(outputs)

    def losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """Mean squared error of the known numbers, scaled."""
        truth = ((self.y[rows] - self.centre) / self.spread).nan_to_num().to(outputs)
        return self._mean_of_known((outputs - truth).square(), rows)

    def gains(self, answers: Tensor, rows: Tensor) -> Tensor:
        """Less that error."""
        return -self.losses((answers - self.centre.to(answers)) / self.spread.to(answers), rows)

    def describe(self) -> dict[str, Any]:
        """Its kind, centre and spread."""
        scale = {"centre": self.centre.tolist(), "spread": self.spread.tolist()}
        return {"kind": self.kind, "outputs": self.outputs, **scale}


@dataclass(frozen=True, eq=False)
class Nothing:
    """Nothing is known and nothing is asked: states alone are wanted.

    Args:
        y: Anything with one entry a row, (N,).
    """

    kind: ClassVar[str] = "nothing"
    probabilities: ClassVar[bool] = False

    y: Tensor
    outputs: ClassVar[int] = 1

    @property
    def known(self) -> Tensor:
        """No row."""
        return torch.zeros(len(self.y), dtype=torch.bool)

    @property
    def mass(self) -> Tensor | None:
        """All the same."""
        return None

    def values(self, guess: Tensor) -> Tensor:
        """The guess."""
        return guess

    def objective(self, consistency: float) -> Objective:
        """There is none."""
        raise NotImplementedError

    def read(self, outputs: Tensor) -> Tensor:
        """The members' mean, which means nothing."""
        return outputs.mean(0)

    def without(self, rows: Tensor) -> Self:
        """The same."""
        return self

    def losses(self, outputs: Tensor, rows: Tensor) -> Tensor:
        """There are none."""
        raise NotImplementedError

    def gains(self, answers: Tensor, rows: Tensor) -> Tensor:
        """There are none."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Its kind."""
        return {"kind": self.kind, "outputs": self.outputs}


def start_of(target: Target, guess: Tensor) -> Start:
    """What diffuses as labels: what is known, and the guess (N, K) for the rest."""
    return Start(target.values(guess), target.mass, target.probabilities, ~target.known)


def _disagreement(answers: Tensor) -> Tensor:
    """Mean squared distance of the members' answers (M, N, K) from their mean; 0 of one member."""
    return (answers - answers.mean(0).detach()).square().sum(-1).mean()


def restored(described: Mapping[str, Any], y: Tensor) -> Target:
    """The reverse of :meth:`Target.describe`, with the ``y`` that was kept beside it."""
    kind = described["kind"]
    if kind == Classes.kind:
        weight = described["weight"]
        given = None if weight is None else torch.tensor(weight)
        return Classes(y, int(described["outputs"]), given)
    if kind == Marks.kind:
        return Marks(y)
    if kind == Numbers.kind:
        scale = (torch.tensor(described[part], dtype=y.dtype) for part in ("centre", "spread"))
        return Numbers(y, *scale)
    return Nothing(y)


def independent(objective: Objective) -> Objective:
    """Sum over the members instead of their mean: weight decay acts on each as if it were alone."""

    def judge(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        return len(outputs) * objective(outputs, y, mask)

    return judge
