"""The default engine: decoupled diffusion, which is what works with few labels."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from difformer.estimators.engine import Fitting, keywords_of, pack_edges, seeded_build
from difformer.estimators.features import FeatureMap
from difformer.nn.context import FrozenContext
from difformer.nn.decoupled import (
    IN_INPUT_SPACE,
    DecoupledDIFFormer,
    as_probabilities,
    scaled_rows,
)
from difformer.nn.pretrained import describe, restore
from difformer.nn.trace import Trace, trace
from difformer.runs.records import Record
from difformer.training.config import TrainingConfig
from difformer.training.objectives import ensemble_cross_entropy, ensemble_probabilities
from difformer.training.trainer import train


class DecoupledEngine:
    """States diffuse, an ensemble learns from the labelled rows, labels diffuse."""

    keywords: ClassVar[frozenset[str]] = keywords_of(DecoupledDIFFormer)

    def __init__(
        self,
        model: DecoupledDIFFormer,
        options: Mapping[str, Any],
        features: FeatureMap,
        context: FrozenContext,
        y: Tensor,
        history: list[Record],
    ) -> None:
        self.model, self.options, self.features = model, dict(options), features
        self.context, self.y, self.history = context, y, history
        self._states = model.states(context.x, context.edge_index, context.edge_weight)
        self._start = model.start(self._states, y)

    @classmethod
    def fit(
        cls, given: Fitting, options: Mapping[str, Any], config: TrainingConfig
    ) -> "DecoupledEngine":
        """Diffuse, then train the readout on the labelled rows alone. See ``Engine``."""
        features = FeatureMap.fit(given.x)
        x = features.apply(given.x)
        if features.constant is not None:  # few features: principal components add nothing
            options = {"diffusivity": (IN_INPUT_SPACE,), **options}
        model = seeded_build(
            given.seed, lambda: DecoupledDIFFormer(x.shape[1], given.classes, **options)
        )
        states = model.states(x, given.edge_index, given.edge_weight)
        rows, y, train_mask, val_mask = _rows_to_learn_from(given)
        seen = states[rows]
        result = train(
            model,
            lambda: model(seen),
            y,
            train_mask,
            config,
            val_mask,
            run=given.run,
            progress=given.progress,
            objective=independent_members,
            predict=ensemble_probabilities,
        )
        context = FrozenContext(model.encoder, x, given.edge_index, given.edge_weight)
        return cls(model, options, features, context, given.y, result.history)

    def probabilities(self) -> Tensor:
        """Class probabilities of the fitted rows, (N, C)."""
        return self.model.diffuse_labels(self._start, self.context.structure)

    def embedding(self) -> Tensor:
        """Diffused features, (N, P)."""
        return self._states

    def predict(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Answers for new rows, towards the frozen context; see ``Engine``."""
        model, context = self.model, self.context
        rows = self.features.apply(x)
        states = scaled_rows(context.encode(rows, edge_index, edge_weight))
        start = model.start(states, torch.full((len(rows),), -1))
        towards = context.towards(rows, edge_index, edge_weight)
        known, q = self._start, start
        for _ in range(model.label_steps):
            q = model.label_step(q, start, towards, known)
            known = model.label_step(known, self._start, context.structure)
        return as_probabilities(q), states

    def trace(self, y: Tensor | None = None) -> Trace:
        """Energy parts of the diffusion of states."""
        context = self.context
        return trace(self.model.encoder, context.x, context.edge_index, context.edge_weight, y=y)

    def describe(self) -> dict[str, Any]:
        """Options and sizes."""
        options = dict(self.options)
        if "diffusivity" in options:
            options["diffusivity"] = describe(options["diffusivity"])
        classes = self._start.shape[1]
        return {"options": options, "in_channels": self.context.x.shape[1], "classes": classes}

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights of the readout; features, edges and labels of the fitted rows."""
        context = self.context
        saved = {"x": context.x, "y": self.y}
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
        model = DecoupledDIFFormer(described["in_channels"], described["classes"], **options)
        model.load_state_dict(weights)
        model.eval()
        prefix = "features."
        features = FeatureMap.from_tensors(
            {k.removeprefix(prefix): t for k, t in context.items() if k.startswith(prefix)}
        )
        frozen = FrozenContext(
            model.encoder, context["x"], context.get("edge_index"), context.get("edge_weight")
        )
        return cls(model, options, features, frozen, context["y"], [])


def independent_members(outputs: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Sum of the members' losses: weight decay then acts on each as if it were alone."""
    return len(outputs) * ensemble_cross_entropy(outputs, y, mask)


def _rows_to_learn_from(given: Fitting) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Rows the readout ever looks at, their classes, and which of them train and validate."""
    if given.validation is None:
        rows = given.y >= 0
        return rows, given.y[rows], torch.ones(int(rows.sum()), dtype=torch.bool), None
    mask, classes = given.validation
    rows = (given.y >= 0) | mask
    y = torch.where(mask, classes, given.y)[rows]
    return rows, y, (given.y >= 0)[rows], mask[rows]
