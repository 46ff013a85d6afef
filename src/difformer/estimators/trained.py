"""The end-to-end engine: a DIFFormer whose maps are trained through the diffusion.

Its options are those of ``DIFFormer``, and ``adjacency``: whether the encoder also sees whom each
row hears, as features (``difformer.data.positions``).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from difformer.data.instances import Features
from difformer.data.partition import divide, find_clusters, pieces
from difformer.data.positions import beside_neighbours
from difformer.diffusion.graph import check_edges
from difformer.errors import ConfigError, DataError
from difformer.estimators.engine import Fitting, keywords_of, pack, pack_edges, seeded_build, unpack
from difformer.estimators.targets import Target, restored
from difformer.nn import DIFFormer, FrozenContext
from difformer.nn.memory import plan_memory
from difformer.nn.pretrained import describe, restore
from difformer.nn.structure import to_numpy, to_tensor
from difformer.nn.trace import Trace
from difformer.runs.records import Record
from difformer.training.config import TrainingConfig
from difformer.training.trainer import Batch, Batches, train


class TrainedEngine:
    """A trained encoder and the rows it was fitted on, as frozen context for new ones."""

    name: ClassVar[str] = "trained"
    keywords: ClassVar[frozenset[str]] = keywords_of(DIFFormer) | {"adjacency"}

    def __init__(
        self,
        context: FrozenContext,
        target: Target,
        history: list[Record],
        adjacency: bool = False,
    ) -> None:
        self.context, self.target, self.history = context, target, history
        self.adjacency = adjacency
        self.decisions: list[str] = []

    @property
    def model(self) -> DIFFormer:
        """The encoder."""
        return self.context.model

    @classmethod
    def fit(
        cls, given: Fitting, options: Mapping[str, Any], config: TrainingConfig
    ) -> "TrainedEngine":
        """Train all maps on the labelled rows, with every row in the diffusion."""
        options, target = dict(options), given.target
        adjacency = options.pop("adjacency", False)
        if not isinstance(adjacency, bool):
            raise ConfigError(f"adjacency must be True or False, found {adjacency!r}.")
        x = _features(given.x, given.edge_index, given.edge_weight, adjacency and given.x.shape[0])
        y, mask, val_mask = given.labels()
        if not mask.any():
            raise DataError(
                "encoder 'trained' learns from labels, found none; 'decoupled' can do without."
            )
        model = seeded_build(
            given.seed, lambda: DIFFormer(x.shape[1], out_channels=target.outputs, **options)
        )
        _check_schedule(model, given, config)
        batches = _batches(model, x, given, config)
        _fit_into_memory(model, x, given, config)
        result = train(
            model,
            views_of(model, config.views, x, given.edge_index, given.edge_weight),
            y,
            mask,
            config,
            val_mask,
            run=given.run,
            progress=given.progress,
            objective=target.objective(config.consistency),
            predict=target.read,
            batches=batches,
        )
        model.workspace.release()
        context = FrozenContext(model, x, given.edge_index, given.edge_weight)
        return cls(context, target, result.history, adjacency)

    @torch.no_grad()
    def answers(self) -> Tensor:
        """What is said of the fitted rows, (N, K)."""
        return self.target.read(self.model.readout(self.embedding()).unsqueeze(0))

    @torch.no_grad()
    def embedding(self) -> Tensor:
        """Last states, (N, hidden)."""
        context = self.context
        return self.model.encode(context.x, context.edge_index, context.edge_weight)

    def predict(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Answers for new rows, towards the frozen context; see ``Engine``."""
        rows = self._rows(x, edge_index, edge_weight)
        outputs = self.context.predict(rows, edge_index, edge_weight, exact=True)
        return self.target.read(outputs.unsqueeze(0))

    def transform(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Last states of new rows; see ``Engine``."""
        rows = self._rows(x, edge_index, edge_weight)
        return self.context.encode(rows, edge_index, edge_weight, exact=True)

    def _rows(self, x: Any, edge_index: Tensor | None, edge_weight: Tensor | None) -> Tensor:
        known, width = self.context.x.shape
        width -= known * self.adjacency
        if x.shape[1] != width:
            raise DataError(f"X must have {width} features as in fit, found {x.shape[1]}.")
        if self.adjacency:
            check_edges(edge_index, edge_weight, known, x.shape[0])
            if edge_index is None:
                edge_index = torch.zeros(2, 0, dtype=torch.long)
        return _features(x, edge_index, edge_weight, self.adjacency and known)

    def trace(self, y: Tensor | None = None) -> Trace:
        """Energy parts of each layer."""
        context = self.context
        return self.model.trace(context.x, context.edge_index, context.edge_weight, y=y)

    def describe(self) -> dict[str, Any]:
        """The encoder's own configuration."""
        config = {**self.model.config, "diffusivity": describe(self.model.config["diffusivity"])}
        target = self.target.describe()
        return {
            "model": config,
            "adjacency": self.adjacency,
            "target": target,
            "decisions": self.decisions,
        }

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights of the encoder; features, edges and labels of the fitted rows."""
        context = self.context
        edges = pack_edges(context.edge_index, context.edge_weight)
        return self.model.state_dict(), {**pack("x", context.x), **edges, "y": self.target.y}

    @classmethod
    def restore(
        cls, described: Mapping[str, Any], weights: dict[str, Tensor], context: dict[str, Tensor]
    ) -> "TrainedEngine":
        """The reverse of :meth:`describe` and :meth:`tensors`."""
        config = dict(described["model"])
        model = DIFFormer(**{**config, "diffusivity": restore(config["diffusivity"])})
        model.load_state_dict(weights)
        model.eval()
        edges = context.get("edge_index"), context.get("edge_weight")
        target = restored(described["target"], context["y"])
        frozen = FrozenContext(model, unpack("x", context), *edges)
        engine = cls(frozen, target, [], bool(described.get("adjacency", False)))
        engine.decisions = list(described.get("decisions", ()))
        return engine


def _fit_into_memory(model: DIFFormer, x: Tensor, given: Fitting, config: TrainingConfig) -> None:
    """Choose what is recomputed, and say what a step will need."""
    if config.memory is None and given.notice is None:
        return
    index, weight = given.edge_index, given.edge_weight
    if size := _batch_size(x, config):
        part = divide(x.shape[0], size, (config.seed, 0))
        rows, index, weight = next(_pieces(part, given))
        x = _some(x, rows)
    plan = plan_memory(model, x, index, weight, memory=config.memory, views=config.views)
    model.recompute = plan.recompute
    if given.notice is not None:
        given.notice(plan.sentence())


def _check_schedule(model: DIFFormer, given: Fitting, config: TrainingConfig) -> None:
    """A resumed training searches for neighbours at once: a search must have been due there."""
    passes = config.checkpoint_every * config.views
    if given.run is None:
        return
    for term in (term for layer in model.layers for term in layer.terms):
        if term.neighbours is not None and passes % term.neighbours.every:
            raise ConfigError(
                "checkpoint_every must make the training passes between checkpoints "
                f"(checkpoint_every {config.checkpoint_every} x views {config.views}) a multiple "
                f"of the neighbourhood's every, which is {term.neighbours.every}."
            )


def _batches(model: DIFFormer, x: Tensor, given: Fitting, config: TrainingConfig) -> Batches | None:
    """Random parts of the rows, or clusters of the graph, for each epoch; None: all rows."""
    count, size, clusters = x.shape[0], _batch_size(x, config), None
    if size is None:
        return None
    if config.batches == "clusters":
        if given.edge_index is None:
            raise ConfigError("batches='clusters' needs an observed graph: pass edge_index.")
        clusters = find_clusters(given.edge_index.numpy(), count, size)

    def of(epoch: int) -> Iterator[Batch]:
        part = divide(count, size, (config.seed, epoch), clusters)
        for rows, *edges in _pieces(part, given):
            yield Batch(rows, views_of(model, config.views, _some(x, rows), *edges))

    return of


def _batch_size(x: Tensor, config: TrainingConfig) -> int | None:
    """Rows of a batch at most; None: all rows at once."""
    size = config.batch_size
    return None if size is None or size >= x.shape[0] else size


def _pieces(
    part: NDArray[np.int64], given: Fitting
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Rows, edges and their weights of each part."""
    edges = [None if t is None else t.numpy() for t in (given.edge_index, given.edge_weight)]
    for rows, *own in pieces(part, *edges):
        index, weight = (None if a is None else torch.from_numpy(a) for a in own)
        yield torch.from_numpy(rows), index, weight


def _some(x: Tensor, rows: Tensor) -> Tensor:
    """Some rows, dense or CSR."""
    return x[rows] if x.layout == torch.strided else to_tensor(to_numpy(x)[rows.numpy()])


def views_of(
    model: DIFFormer,
    views: int,
    x: Tensor,
    edge_index: Tensor | None = None,
    edge_weight: Tensor | None = None,
) -> Callable[[], Tensor]:
    """A forward pass that stacks so many random views in training, one in evaluation, (V, N, C)."""

    def forward() -> Tensor:
        count = views if model.training else 1
        return torch.stack([model(x, edge_index, edge_weight) for _ in range(count)])

    return forward


def _features(
    x: Features, edge_index: Tensor | None, edge_weight: Tensor | None, known: int
) -> Tensor:
    """Features as they are, float32, CSR stays CSR; with ``known`` rows whom each row hears."""
    if not known:
        return to_tensor(x.tocsr() if sparse.issparse(x) else x)
    if edge_index is None:
        raise ConfigError("adjacency needs an observed graph: pass edge_index.")
    return to_tensor(beside_neighbours(x, edge_index, edge_weight, known))
