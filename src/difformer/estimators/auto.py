"""The encoder that hidden labels ask for, where a graph is observed and labels are many.

With few labels decoupled diffusion is best, and nothing is compared. With many, networks that learn
maps between the steps can be better, above all where neighbours are often of another class. So a
few of them and decoupled diffusion are fitted without some labels, and judged by these. A network
that wins stays as it is: the judges have chosen its epoch. Decoupled diffusion is fitted anew where
the judges' labels were taken from it.

Letters: N instances, E edges.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from difformer.estimators.decoupled import DecoupledEngine
from difformer.estimators.engine import Engine, Fitting, chosen_where
from difformer.estimators.targets import Classes, Target
from difformer.estimators.trained import TrainedEngine
from difformer.training.config import TrainingConfig

HELD_OUT = 0.2  # of the labels, where there are no validation rows
FEWEST_JUDGES = 100  # labels that judge; with fewer, decoupled diffusion stands
MOST_JUDGES = 5_000
FEW = 0.2  # of the rows with a label: fewer are few
MOST_INSTANCES, MOST_EDGES = 50_000, 2_000_000  # above them too
POWERS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of probabilities before they are compared
LEAD = 1.0  # standard errors by which another encoder must be better

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A trained encoder with the settings that it has by itself.

    Attributes:
        words: What it is, for people.
        few: Whether it takes part only where less than a fifth of the rows have a label.
        options: Of ``TrainedEngine``.
        training: Of ``TrainingConfig``.
    """

    words: str
    options: Options
    training: Options = field(default_factory=dict)
    few: bool = False


_TRAINING = {"epochs": 300, "learning_rate": 0.01, "weight_decay": 5e-4, "patience": 50}
_NETWORK: dict[str, Any] = {
    "hidden_channels": 64,
    "num_layers": 2,
    "diffusivity": "simple",
    "mix_weights": (0.2, 0.8),
    "step_size": 0.8,
    "value_map": True,
    "activation": "each",
    "jump": True,
    "dropout": 0.5,
    "graph_norm": "sym",
    "graph_loops": False,
}
CANDIDATES = (
    Candidate(
        "features alone",
        {"hidden_channels": 64, "num_layers": 0, "dropout": 0.7, "graph": False},
    ),
    Candidate("a network over the graph", _NETWORK),
    Candidate("a network over the graph that sees who hears whom", {**_NETWORK, "adjacency": True}),
    Candidate(
        "linear diffusion over the graph, two views that agree",
        {
            "hidden_channels": 64,
            "num_layers": 8,
            "diffusivity": "graph",
            "step_size": 1.0,
            "source": 0.15,
            "maps": False,
            "norm": None,
            "activation": "output",
            "dropout": 0.5,
            "input_dropout": 0.5,
            "node_dropout": 0.5,
            "graph_norm": "sym",
        },
        {"views": 2, "patience": 100},
        few=True,
    ),
)


class AutoEngine:
    """Decoupled diffusion or a trained encoder; what ``fit`` gives is one of their engines."""

    keywords: ClassVar[frozenset[str]] = DecoupledEngine.keywords

    @classmethod
    def fit(cls, given: Fitting, options: Options, config: TrainingConfig) -> Engine:
        """Fit the encoder that is best for labels that it did not see.

        With options, a limit of time, few labels, no edges, or above 50,000 instances or 2,000,000
        edges, that is decoupled diffusion. Cost: the fits of all candidates.
        """
        judges = _judges(given, config.seed)
        if options or config.time_limit is not None or judges is None:
            return DecoupledEngine.fit(given, options, config)
        blind = _without(given, judges)
        truth = given.target if given.validation is None else _validated(given)
        plain = replace(blind, validation=given.validation)  # judges are not to choose its epoch
        first: Engine = DecoupledEngine.fit(plain, options, config)
        expected = _gains(truth, first, judges)
        best, lead, found = None, 0.0, first
        candidates = _candidates(given)
        for candidate in candidates:
            fitted = _fitted(candidate, blind, config)
            more = _gains(truth, fitted, judges) - expected
            error = float(more.std() / math.sqrt(len(more)))
            if float(more.mean()) > max(lead, LEAD * error):
                best, lead, found = candidate, float(more.mean()), fitted
        engine = found
        if best is not None:
            if given.run is not None:
                logged = replace(blind, run=given.run, progress=given.progress, notice=given.notice)
                engine = _fitted(best, logged, config)
            engine.target = given.target
        elif given.run is not None or given.validation is None:  # else it has seen all it may
            engine = DecoupledEngine.fit(given, options, config)
        chosen = "decoupled diffusion" if best is None else best.words
        told = f"Encoder: {chosen} (of {len(candidates) + 1}, judged by {len(judges)} labels)."
        engine.decisions = [told, *engine.decisions]
        return engine


def _candidates(given: Fitting) -> list[Candidate]:
    """Those that may be best for so many labels."""
    few = float(given.target.known.float().mean()) < FEW
    return [candidate for candidate in CANDIDATES if few or not candidate.few]


def _judges(given: Fitting, seed: int) -> Tensor | None:
    """Labelled rows that judge, (R,); None: there are too few, or too much else."""
    edges = 0 if given.edge_index is None else given.edge_index.shape[1]
    if not 0 < edges <= MOST_EDGES or given.x.shape[0] > MOST_INSTANCES:
        return None
    if given.validation is not None:
        rows = given.validation[0].nonzero().squeeze(1)
    else:
        rows = _drawn(given, seed)
    return rows if len(rows) >= FEWEST_JUDGES else None


def _drawn(given: Fitting, seed: int) -> Tensor:
    """A share of the labelled rows, of each class alike where that is possible."""
    target, rows = given.target, given.target.known.nonzero().squeeze(1).numpy()
    count = min(int(HELD_OUT * len(rows)), MOST_JUDGES)
    if count < FEWEST_JUDGES:
        return torch.zeros(0, dtype=torch.long)
    classes = target.y[torch.from_numpy(rows)].numpy() if isinstance(target, Classes) else None
    if classes is not None and np.unique(classes, return_counts=True)[1].min() < 2:
        classes = None
    _, held = train_test_split(rows, test_size=count, random_state=seed, stratify=classes)
    return torch.from_numpy(np.sort(held))


def _without(given: Fitting, judges: Tensor) -> Fitting:
    """The same with judges as validation rows that do not teach, and without a run."""
    if given.validation is None:
        mask = torch.zeros(given.x.shape[0], dtype=torch.bool)
        mask[judges] = True
        blind = given.target.without(judges)
        given = replace(given, target=blind, validation=(mask, given.target.y))
    return replace(given, run=None, progress=None, notice=None)


def _validated(given: Fitting) -> Target:
    """The target with the labels of the validation rows."""
    assert given.validation is not None
    mask, y = given.validation
    found: Target = replace(given.target, y=chosen_where(mask, y, given.target.y))  # type: ignore[type-var]
    return found


def _gains(truth: Target, engine: Engine, judges: Tensor) -> Tensor:
    """How good what is said of the judges is, (R,): networks may be too sure, diffusion unsure."""
    answers = engine.answers()[judges]
    if isinstance(truth, Classes):
        return truth.gains(answers, judges, POWERS)
    return truth.gains(answers, judges)


def _fitted(candidate: Candidate, given: Fitting, config: TrainingConfig) -> Engine:
    """A candidate with its own settings."""
    monitor = "val_accuracy" if isinstance(given.target, Classes) else "val_loss"
    settings = {**_TRAINING, **candidate.training, "monitor": monitor, "seed": config.seed}
    return TrainedEngine.fit(given, candidate.options, TrainingConfig(**settings))
