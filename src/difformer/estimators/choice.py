"""How strongly instances diffuse, chosen by cross-validation among the labelled rows.

Much diffusion is what few labels need; with many, it blurs classes that the features tell apart;
and where neighbours or edges mislead, none is best. Each candidate is judged by labels that are
hidden in turn: a readout learns from the others, labels diffuse without the hidden ones, and what
is said of those is compared with them. The first candidate stays unless another one is better by
more than two standard errors of the difference, row by row, for a hundred labels say little.

Letters: N instances, n labelled ones, F features, S strengths of diffusion, R rounds of hiding, M
members of the readout, K outputs.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.func import functional_call, vmap

from difformer.estimators.engine import Fitting
from difformer.estimators.targets import Classes, Target, start_of
from difformer.nn.decoupled import DecoupledDIFFormer, default_mix
from difformer.training.config import TrainingConfig
from difformer.training.trainer import train

SOURCES = (0.02, 0.1, 0.3, 0.9)  # at 0.9 hardly anything diffuses
FOLDS = 5
MOST_TAUGHT = 10_000  # R n at most, but for one round
MOST_INSTANCES = 200_000  # above it the default stands
LEAD = 2.0  # standard errors by which a candidate must lead
JUDGES = 2  # members of the readout that judge: the linear map and one MLP
MISTRUST = 0.01  # weight of edges that mislead, beside 1 of all neighbours

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One candidate, and how good it was on hidden labels.

    Attributes:
        options: ``source``, ``label_steps`` and ``mix_weights`` of ``DecoupledDIFFormer``.
        gain: Mean over the labelled rows; see ``Target.gains``.
        lead: How much more that is than the first candidate's.
        error: Standard error of the lead.
    """

    options: Options
    gain: float
    lead: float
    error: float

    @property
    def convinces(self) -> bool:
        """Whether it is better than the first candidate by more than chance would make it."""
        return self.lead > LEAD * self.error


def choose(
    model: DecoupledDIFFormer, x: Tensor, given: Fitting, config: TrainingConfig
) -> list[Trial]:
    """Let the model diffuse as is best for hidden labels; all trials, the chosen one first.

    There are none, and the model stays as it is, with a limit of time, above 200,000 instances, and
    where a class has one label only.

    Args:
        model: Its readout is not changed.
        x: Features (N, F).
        given: Labels and edges.
        config: Of the readout's training.

    Cost: a diffusion of the states, S R small readouts, and about S R diffusions of labels; all
    but the second twice where there are edges.
    """
    hidden = _rounds(given.target, x, config.seed)
    if hidden is None or config.time_limit is not None or len(x) > MOST_INSTANCES:
        return []
    judge = _Judge(model, x, given, config, hidden)
    candidates = list(_candidates(model, given))  # before the judge changes how the model diffuses
    judged = [
        found
        for _, alike in groupby(candidates, lambda options: options["mix_weights"])
        for found in judge.gains(list(alike))
    ]
    trials = _ranked(judged)
    model.diffuse_by(**trials[0].options)
    return trials


def in_words(trial: Trial, given: Fitting) -> str:
    """One sentence on what was chosen."""
    options = trial.options
    said = [f"source={options['source']:g}", f"label_steps={options['label_steps']}"]
    if given.has_edges:
        mistrusted = min(options["mix_weights"]) < 1  # other terms weigh 1 or more
        said.append("edges hardly used" if mistrusted else "edges used")
    labels = int(given.target.known.sum())
    return f"Diffusion: {', '.join(said)} (cross-validation among {labels} labelled rows)."


def _candidates(model: DecoupledDIFFormer, given: Fitting) -> Iterator[Options]:
    """The default first, those that mix alike in a row."""
    terms = model.encoder.config["diffusivity"]
    mixes = [default_mix(terms)]
    if given.has_edges and any(term.neighbours is not None for term in terms):
        mixes.append(default_mix(terms, MISTRUST))
    for mix in mixes:
        for source in SOURCES:
            yield {"mix_weights": mix, "source": source, "label_steps": model.label_steps}
        yield {"mix_weights": mix, "source": SOURCES[-1], "label_steps": 0}


def _rounds(target: Target, x: Tensor, seed: int) -> Tensor | None:
    """Which labelled rows are hidden in each round, (R, n) bool; None: there are too few.

    Rows are drawn in the order of their features (N, F), so that the order of a table says nothing.
    """
    rows = target.known.nonzero().squeeze(1)
    if not len(rows):
        return None
    order = np.lexsort(x[rows].numpy().T)
    rows = rows[order]
    classes = target.y[rows] if isinstance(target, Classes) else rows.new_zeros(len(rows))
    counts = torch.bincount(classes)
    folds = min(FOLDS, int(counts[counts > 0].min()))
    if folds < 2:
        return None
    rounds = max(1, min(folds, MOST_TAUGHT // len(rows)))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    hidden = torch.zeros(rounds, len(rows), dtype=torch.bool)
    for row, (_, test) in zip(hidden, splits.split(classes, classes), strict=False):
        row[order[test]] = True
    return hidden


class _Judge:
    """Gains of candidates on labels that are hidden in turn."""

    def __init__(
        self,
        model: DecoupledDIFFormer,
        x: Tensor,
        given: Fitting,
        config: TrainingConfig,
        hidden: Tensor,  # (R, n)
    ) -> None:
        self.model, self.x, self.hidden = model, x, hidden
        self.target, self.edges = given.target, (given.edge_index, given.edge_weight)
        self.config = config.model_copy(update={"eval_every": config.epochs, "patience": None})
        self.rows = given.target.known.nonzero().squeeze(1)
        self.structure = model.encoder.structure(x, *self.edges)

    def gains(self, candidates: Sequence[Options]) -> Iterator[tuple[Options, Tensor]]:
        """Of candidates that mix alike: each with :meth:`_gain`."""
        self.model.diffuse_by(**candidates[0])
        sources = list(dict.fromkeys(options["source"] for options in candidates))
        states = self.model.states_by_source(self.x, *self.edges, sources=sources)
        self.operator = self.model.label_operator(self.structure)
        readout = self._taught([z[self.rows] for z in states])
        for options in candidates:
            self.model.diffuse_by(label_steps=options["label_steps"])
            at = sources.index(options["source"])
            yield options, self._gain(readout, at, states[at])

    def _taught(self, seen: Sequence[Tensor]) -> "_Copies":
        """A readout for each strength and round, taught without what is hidden."""
        target, rounds = self.target, len(self.hidden)
        copies = _Copies(self.model.members[:JUDGES], len(seen) * rounds)
        inputs = torch.stack(list(seen)).repeat_interleave(rounds, 0)
        weights = torch.where(self.hidden, 0, self._mass())
        weights = weights / weights.sum(1, keepdim=True)
        weights = weights.repeat(len(seen), 1).unsqueeze(1)
        train(
            copies,
            lambda: copies(inputs),
            target.y[self.rows],
            torch.ones(len(self.rows), dtype=torch.bool),
            self.config,
            objective=lambda outputs, *_: (target.losses(outputs, self.rows) * weights).sum(),
            predict=lambda outputs: target.read(outputs.flatten(0, 1)),
        )
        return copies

    def _mass(self) -> Tensor:
        """How much each labelled row counts, (n,)."""
        mass = self.target.mass
        return torch.ones(len(self.rows)) if mass is None else mass[self.rows]

    @torch.no_grad()
    def _gain(self, readout: "_Copies", at: int, states: Tensor) -> Tensor:
        """Gain of each row that is hidden, in the order of the rounds, for states of a strength."""
        rounds, answers = len(self.hidden), []
        for number, hidden in enumerate(self.hidden):
            target = self.target.without(self.rows[hidden])
            guess = target.read(readout.of_copy(at * rounds + number, states))
            labels = self.model.label_diffusion(self.operator, start_of(target, guess))
            answers.append(labels.answers()[self.rows[hidden]])
        which = self.hidden.nonzero()[:, 1]  # no row is hidden twice
        return self.target.gains(torch.cat(answers), self.rows[which]) * self._mass()[which]


class _Copies(nn.Module):
    """Copies of an ensemble, each with weights of its own, trained as one.

    Args:
        members: M modules; the copies start with their weights.
        copies: How many.
    """

    def __init__(self, members: Iterable[nn.Module], copies: int) -> None:
        super().__init__()
        self._members = list(members)  # for what they do; a list, so that they are not trained
        self._names = [[name for name, _ in m.named_parameters()] for m in self._members]
        self.stacks = nn.ModuleList(
            nn.ParameterList(w.detach().expand(copies, *w.shape).clone() for w in m.parameters())
            for m in self._members
        )

    def forward(self, x: Tensor) -> Tensor:
        """Every copy on rows of its own: (copies, n, F) to (copies, M, n, K)."""
        outputs = [
            vmap(partial(self._member, index))(tuple(stack), x)
            for index, stack in enumerate(self._stacks())
        ]
        return torch.stack(outputs, 1)

    def of_copy(self, copy: int, x: Tensor) -> Tensor:
        """One copy on rows (N, F), (M, N, K)."""
        stacks = enumerate(self._stacks())
        return torch.stack([self._member(i, [w[copy] for w in stack], x) for i, stack in stacks])

    def _stacks(self) -> list[list[Tensor]]:
        return [list(cast("nn.ParameterList", stack)) for stack in self.stacks]

    def _member(self, index: int, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        named = dict(zip(self._names[index], weights, strict=True))
        out: Tensor = functional_call(self._members[index], named, (x,))
        return out


def _ranked(judged: Sequence[tuple[Options, Tensor]]) -> list[Trial]:
    """The best that convinces first, then the others as they came; leads are over the first."""
    (_, first), *_ = judged
    trials = []
    for options, gains in judged:
        lead = gains - first
        error = float(lead.std() / math.sqrt(len(lead)))
        trials.append(Trial(options, float(gains.mean()), float(lead.mean()), error))
    best = max([trials[0], *(t for t in trials if t.convinces)], key=lambda trial: trial.gain)
    return [best, *(trial for trial in trials if trial is not best)]
