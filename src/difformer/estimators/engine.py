"""What stands behind an estimator: a way to fit an encoder and to answer for new rows.

An engine sees tensors and a target only; labels, names and tables belong to the estimator. Adding
one means one class here or beside, and one entry in ``ENGINES``.

Letters: N fitted instances, F features, K outputs, O new rows.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from difformer.estimators.targets import Target
from difformer.nn import FrozenContext
from difformer.nn.trace import Trace
from difformer.runs import RunDirectory
from difformer.runs.records import Record
from difformer.training.config import TrainingConfig
from difformer.training.progress import Report
from difformer.training.randomness import seeded

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Fitting:
    """Everything that an engine is given to fit on.

    Attributes:
        x: Features (N, F), dense or CSR.
        target: What is known of the rows.
        edge_index: (2, E) or None.
        edge_weight: (E,) or None.
        validation: Rows that choose the best epoch, (N,) bool, and their ``y``; or None.
        seed: Of the initial weights and of training.
        run: Where to keep checkpoints and metrics, or None.
        progress: Called after each epoch.
        notice: Called with sentences that a user wants to read before the run, or None.
    """

    x: Any
    target: Target
    edge_index: Tensor | None = None
    edge_weight: Tensor | None = None
    validation: tuple[Tensor, Tensor] | None = None
    seed: int = 0
    run: RunDirectory | None = None
    progress: Report | None = None
    notice: Callable[[str], None] | None = None

    @property
    def has_edges(self) -> bool:
        """Whether there is any edge."""
        return self.edge_index is not None and self.edge_index.shape[1] > 0

    def labels(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """``y`` of training and validation together, and the masks of both, (N,)."""
        y, train = self.target.y, self.target.known
        if self.validation is None:
            return y, train, None
        mask, chosen = self.validation
        return chosen_where(mask, chosen, y), train, mask


def chosen_where(mask: Tensor, chosen: Tensor, y: Tensor) -> Tensor:
    """Rows of ``chosen`` where ``mask`` (N,) holds, else of ``y``; both (N,) or (N, K)."""
    return torch.where(mask.view(-1, *(1,) * (y.dim() - 1)), chosen, y)


class Engine(Protocol):
    """A fitted encoder with its context."""

    name: ClassVar[str]
    keywords: ClassVar[frozenset[str]]  # the options that ``fit`` knows
    history: list[Record]
    decisions: list[str]  # what was not told but found among the labels, in words
    target: Target
    context: FrozenContext

    @property
    def model(self) -> nn.Module:
        """What was fitted."""
        ...

    @classmethod
    def fit(cls, given: Fitting, options: Mapping[str, Any], config: TrainingConfig) -> "Engine":
        """Fit. ``options`` are those of the encoder, ``config`` those of training."""
        ...

    def answers(self) -> Tensor:
        """What is said of the fitted rows, (N, K): probabilities, or numbers."""
        ...

    def embedding(self) -> Tensor:
        """Last states of the fitted rows, (N, width)."""
        ...

    def predict(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Answers for new rows, (O, K)."""
        ...

    def transform(
        self, x: Any, edge_index: Tensor | None = None, edge_weight: Tensor | None = None
    ) -> Tensor:
        """Last states of new rows, (O, width)."""
        ...

    def trace(self, y: Tensor | None = None) -> Trace:
        """Energy parts of each step on the fitted rows; y for the contrast."""
        ...

    def describe(self) -> dict[str, Any]:
        """What JSON can hold: enough, with :meth:`tensors`, to restore the engine."""
        ...

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weights of the model, and its context."""
        ...

    @classmethod
    def restore(
        cls, described: Mapping[str, Any], weights: dict[str, Tensor], context: dict[str, Tensor]
    ) -> "Engine":
        """The reverse of :meth:`describe` and :meth:`tensors`."""
        ...


def seeded_build(seed: int, build: Callable[[], Model]) -> Model:
    """Call ``build`` with torch's generator at ``seed``; the caller's stream is left alone."""
    with seeded(seed):
        return build()


def keywords_of(model: type) -> frozenset[str]:
    """What may be said of a model beyond its widths, which the data decide, and its diffusivity."""
    given = {"in_channels", "out_channels", "diffusivity"}
    return frozenset(inspect.signature(model).parameters) - given


def pack(prefix: str, x: Tensor) -> dict[str, Tensor]:
    """A dense or CSR tensor as dense ones, for a file."""
    if x.layout != torch.sparse_csr:
        return {f"{prefix}.dense": x}
    return {
        f"{prefix}.crow": x.crow_indices(),
        f"{prefix}.col": x.col_indices(),
        f"{prefix}.values": x.values(),
        f"{prefix}.shape": torch.tensor(x.shape),
    }


def unpack(prefix: str, saved: Mapping[str, Tensor]) -> Tensor:
    """The reverse of :func:`pack`."""
    if f"{prefix}.dense" in saved:
        return saved[f"{prefix}.dense"]
    crow, col, values = (saved[f"{prefix}.{part}"] for part in ("crow", "col", "values"))
    size = saved[f"{prefix}.shape"].tolist()
    return torch.sparse_csr_tensor(crow, col, values, size=size, check_invariants=False)


def pack_edges(edge_index: Tensor | None, edge_weight: Tensor | None) -> dict[str, Tensor]:
    """Edges for a file; nothing where there are none."""
    named = {"edge_index": edge_index, "edge_weight": edge_weight}
    return {name: tensor for name, tensor in named.items() if tensor is not None}
