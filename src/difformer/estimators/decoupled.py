"""The default engine: decoupled diffusion, which is what works with few labels."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from difformer.estimators.choice import choose, in_words
from difformer.estimators.engine import Fitting, keywords_of, pack_edges, seeded_build
from difformer.estimators.features import FeatureMap
from difformer.estimators.targets import Classes, Target, independent, restored, start_of
from difformer.nn.context import FrozenContext
from difformer.nn.decoupled import IN_INPUT_SPACE, DecoupledDIFFormer, scaled_rows
from difformer.nn.label_diffusion import Start
from difformer.nn.pretrained import describe, restore
from difformer.nn.trace import Trace, trace
from difformer.runs.records import Record
from difformer.training.config import TrainingConfig
from difformer.training.trainer import train

# Options by which users decide for themselves how strongly instances diffuse.
DIFFUSION = {"source", "steps", "mix_weights", "label_steps", "label_source", "label_rounds"}
MANY, STRONGEST = (
    1_000,
    10.0,
)  # labels from which on weight decay counts as it is; its factor at most


class DecoupledEngine:
    """States diffuse, an ensemble learns from the labelled rows, labels diffuse."""

    name: ClassVar[str] = "decoupled"
    keywords: ClassVar[frozenset[str]] = keywords_of(DecoupledDIFFormer)

    def __init__(
        self,
        model: DecoupledDIFFormer,
        options: Mapping[str, Any],
        features: FeatureMap,
        context: FrozenContext,
        target: Target,
        history: list[Record],
        decisions: list[str],
    ) -> None:
        self.model, self.options, self.features = model, dict(options), features
        self.context, self.target = context, target
        self.history, self.decisions = history, decisions
        self._states = model.states(context.x, context.edge_index, context.edge_weight)
        operator = model.label_operator(context.structure)
        self.labels = model.label_diffusion(operator, start_of(target, self._guess(self._states)))

    @classmethod
    def fit(
        cls, given: Fitting, options: Mapping[str, Any], config: TrainingConfig
    ) -> "DecoupledEngine":
        """Diffuse, then train the readout on the labelled rows alone. See ``Engine``."""
        if isinstance(given.target, Classes):  # numbers are better off without
            config = with_prior(config, int(given.target.known.sum()))
        features = FeatureMap.fit(given.x)
        x = features.apply(given.x)
        if features.constant is not None:  # few features: principal components add nothing
            options = {"diffusivity": (IN_INPUT_SPACE,), **options}
        model = seeded_build(
            given.seed, lambda: DecoupledDIFFormer(x.shape[1], given.target.outputs, **options)
        )
        trials = [] if DIFFUSION & set(options) else choose(model, x, given, config)
        decisions = [in_words(trials[0], given)] if trials else []
        options = {**options, **(trials[0].options if trials else {})}
        states = model.states(x, given.edge_index, given.edge_weight)
        history = _teach(model, states, given, config)
        context = FrozenContext(model.encoder, x, given.edge_index, given.edge_weight)
        return cls(model, options, features, context, given.target, history, decisions)

    @torch.no_grad()
    def _guess(self, states: Tensor) -> Tensor:
        """What the readout says, (N, K)."""
        return self.target.read(self.model(states))

    def answers(self) -> Tensor:
        """What is said of the fitted rows, (N, K)."""
        return self.labels.answers()

    def embedding(self) -> Tensor:
        """Diffused features, (N, P)."""
        return self._states

    def predict(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Answers for new rows, towards the frozen context; see ``Engine``."""
        rows = self.features.apply(x)
        guess = self._guess(self._states_of(rows, edge_index, edge_weight))
        towards = self.context.towards(rows, edge_index, edge_weight)
        start = Start(guess, probabilities=self.target.probabilities)
        return self.labels.follow(self.model.label_operator(towards), start)

    def transform(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Diffused features of new rows; see ``Engine``."""
        return self._states_of(self.features.apply(x), edge_index, edge_weight)

    def _states_of(
        self, rows: Tensor, edge_index: Tensor | None, edge_weight: Tensor | None
    ) -> Tensor:
        return scaled_rows(self.context.encode(rows, edge_index, edge_weight))

    def trace(self, y: Tensor | None = None) -> Trace:
        """Energy parts of the diffusion of states."""
        context = self.context
        return trace(self.model.encoder, context.x, context.edge_index, context.edge_weight, y=y)

    def describe(self) -> dict[str, Any]:
        """Options and sizes."""
        options = dict(self.options)
        if "diffusivity" in options:
            options["diffusivity"] = describe(options["diffusivity"])
        target = self.target.describe()
        return {
            "options": options,
            "in_channels": self.context.x.shape[1],
            "target": target,
            "decisions": self.decisions,
        }

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights of the readout; features, edges and labels of the fitted rows."""
        context = self.context
        saved = {"x": context.x, "y": self.target.y}
        saved |= pack_edges(context.edge_index, context.edge_weight)
        saved |= {f"features.{name}": t for name, t in self.features.tensors().items()}
        return self.model.state_dict(), saved

    @classmethod
    def restore(
        cls, described: Mapping[str, Any], weights: dict[str, Tensor], context: dict[str, Tensor]
    ) -> "DecoupledEngine":
        """The reverse of :meth:`describe` and :meth:`tensors`."""
        options = dict(described["options"])
        if "diffusivity" in options:
            options["diffusivity"] = restore(options["diffusivity"])
        target = restored(described["target"], context["y"])
        model = DecoupledDIFFormer(described["in_channels"], target.outputs, **options)
        model.load_state_dict(weights)
        model.eval()
        prefix = "features."
        features = FeatureMap.from_tensors(
            {k.removeprefix(prefix): t for k, t in context.items() if k.startswith(prefix)}
        )
        frozen = FrozenContext(
            model.encoder, context["x"], context.get("edge_index"), context.get("edge_weight")
        )
        decisions = list(described.get("decisions", ()))
        return cls(model, options, features, frozen, target, [], decisions)


def with_prior(config: TrainingConfig, labels: int) -> TrainingConfig:
    """Weight decay in proportion to what one label counts, as a prior on the readout asks.

    The loss is a mean over labels, so the same prior weighs ten times as much against it with a
    tenth of the labels. ``weight_decay`` is meant for 1,000 labels and more; with fewer it grows,
    at most tenfold.

    Example:
        >>> with_prior(TrainingConfig(weight_decay=5e-4), 200).weight_decay
        0.0025
    """
    factor = min(max(MANY / max(labels, 1), 1.0), STRONGEST)
    return config.model_copy(update={"weight_decay": config.weight_decay * factor})


def _teach(
    model: DecoupledDIFFormer, states: Tensor, given: Fitting, config: TrainingConfig
) -> list[Record]:
    """Train the readout on the labelled rows alone; nothing happens where there are none."""
    y, train_mask, val_mask = given.labels()
    rows = train_mask if val_mask is None else train_mask | val_mask
    if not rows.any():
        return []
    seen = states[rows]
    result = train(
        model,
        lambda: model(seen),
        y[rows],
        train_mask[rows],
        config,
        None if val_mask is None else val_mask[rows],
        run=given.run,
        progress=given.progress,
        objective=independent(given.target.objective(0.0)),
        predict=given.target.read,
    )
    return result.history
