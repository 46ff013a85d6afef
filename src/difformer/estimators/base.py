"""What the estimators have in common: parameters, checks, fitting, answers for new rows, files.

An estimator adds what its labels mean: ``_target`` makes a target of them, ``_set_results`` names
the answers for the fitted rows.
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_random_state
from torch import Tensor

from difformer.diffusion.graph import check_edges
from difformer.diffusion.penalty import resolve_all
from difformer.errors import ConfigError, DataError, one_of
from difformer.estimators.arrays import checked_edges, checked_table
from difformer.estimators.auto import AutoEngine
from difformer.estimators.decoupled import DecoupledEngine
from difformer.estimators.engine import Engine, Fitting
from difformer.estimators.export import export_onnx
from difformer.estimators.known import KnownRows
from difformer.estimators.names import Names
from difformer.estimators.saving import load_fitted, save_fitted
from difformer.estimators.targets import Target
from difformer.estimators.trained import TrainedEngine
from difformer.nn.trace import Trace
from difformer.runs import RunDirectory
from difformer.training.config import TrainingConfig
from difformer.training.progress import progress_bar

ENGINES: dict[str, Any] = {  # classes with a ``fit`` that gives an ``Engine``
    "auto": AutoEngine,
    "decoupled": DecoupledEngine,
    "trained": TrainedEngine,
}
# Settings that were fixed before any comparison; docs/decisions.md says how they were found.
_DECOUPLED = {"epochs": 100, "learning_rate": 0.01, "weight_decay": 5e-4, "eval_every": 10}
DEFAULT_TRAINING: dict[str, dict[str, Any]] = {
    "auto": _DECOUPLED,
    "decoupled": _DECOUPLED,
    "trained": {"epochs": 200, "learning_rate": 0.01, "weight_decay": 5e-4, "eval_every": 10},
}
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "auto": {},
    "decoupled": {},
    "trained": {"hidden_channels": 64, "num_layers": 2},
}
HARMLESS = ("seed", "checkpoint_every")  # settings that decide nothing about how an encoder learns
SHORTEST = 1e-3  # seconds of training at least, however little of a time limit is left

Array = NDArray[np.float64]


class DIFFormerEstimator(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
    ABC,
):
    """The common part. Parameters and attributes are described where they are used."""

    _task: str  # as model hubs call it
    _answering = "predict"  # the method that a model card shows
    embedding_: Array  # (N, P)
    engine_: Engine
    _known: KnownRows
    _names: Names | None  # of the fitted rows
    _answers: Array  # (N, K) what is known or said of the fitted rows

    def __init__(
        self,
        encoder: str = "auto",
        diffusivity: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        time_limit: float | None = None,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.diffusivity = diffusivity
        self.options = options
        self.training = training
        self.random_state = random_state
        self.time_limit = time_limit
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any = None,
        edge_index: Any = None,
        edge_weight: Any = None,
        node_id: Any = None,
    ) -> Self:
        """Fit on all rows, known and not.

        Parameters
        ----------
        X : array or CSR matrix, (N, F)
        y : array (N,), or (N, T) of numbers
            NaN where a number is unknown, -1 where a class is. Only an encoder can do without.
        edge_index : int array (2, E), optional
            Row 0 sends, row 1 receives; give an undirected edge in both directions.
        edge_weight : array (E,), optional
            Not negative.
        node_id : array (N,), optional
            A name for each row, whole numbers or texts. Edges then name rows instead of counting
            them, and those that name an absent row are left out: so cross-validation may slice.

        Raises
        ------
        DataError
            If X, y or edges cannot be used.
        ConfigError
            If a parameter is not allowed.
        """
        return self._fit(X, y, edge_index, edge_weight, node_id)

    @abstractmethod
    def _target(self, y: Any, rows: int) -> Target:
        """What labels say; the estimator may remember what they are called."""

    @abstractmethod
    def _set_results(self) -> None:
        """Name the answers for the fitted rows."""

    def _chosen(self, validation: Any, target: Target) -> tuple[Tensor, Tensor] | None:
        """Rows that choose the best epoch, and their labels; None: there are none."""
        return None

    def _own_state(self) -> dict[str, Any]:
        """What a file must keep of the labels' names, as JSON holds it."""
        return {}

    def _restore_own(self, saved: Mapping[str, Any]) -> None:
        """The reverse of :meth:`_own_state`."""

    def _fit(
        self,
        X: Any,
        y: Any,
        edge_index: Any,
        edge_weight: Any,
        node_id: Any,
        validation: Any = None,
        run: RunDirectory | None = None,
    ) -> Self:
        started = time.monotonic()
        self.check_parameters()
        features = checked_table(self, X, reset=True)
        rows = features.shape[0]
        target = self._target(y, rows)
        edges = self._fitted_edges(edge_index, edge_weight, node_id, rows)
        config = self._training_config()
        with progress_bar(config.epochs, shown=self.verbose) as report:
            given = Fitting(
                features,
                target,
                *edges,
                validation=self._chosen(validation, target),
                seed=config.seed,
                run=run,
                progress=report,
                notice=_tell if self.verbose else None,
            )
            if config.time_limit is not None:
                left = config.time_limit - (time.monotonic() - started)
                config = config.model_copy(update={"time_limit": max(left, SHORTEST)})
            encoder = self._encoder_to_fit()
            self.engine_ = ENGINES[encoder].fit(given, self._engine_options(), config)
        self._known = KnownRows.of(features, *edges)
        self._remember()
        return self

    def _remember(self) -> None:
        """Attributes that follow from the fitted engine."""
        engine = self.engine_
        self._answers = _numpy(engine.target.values(engine.answers().double()))
        self.embedding_ = _numpy(engine.embedding())
        self.history_, self.decisions_ = engine.history, engine.decisions
        self.n_iter_ = len(self.history_)
        self._set_results()

    def _fitted_edges(
        self, edge_index: Any, edge_weight: Any, node_id: Any, rows: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Edges among the rows; those that name an absent row are left out and counted."""
        self._names = None if node_id is None else Names.of(node_id, rows)
        self.n_edges_left_out_ = 0
        if self._names is not None and edge_index is not None:
            edge_index, edge_weight, left_out = self._names.edges(edge_index, edge_weight)
            self.n_edges_left_out_ = left_out
            if left_out and self.verbose:
                _tell(f"{left_out} edges name rows that are not there and are left out.")
        return checked_edges(edge_index, edge_weight)

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @property
    def _n_features_out(self) -> int:
        """Columns of ``transform``, for their names."""
        return int(self.embedding_.shape[1])

    def check_parameters(self) -> None:
        """Check what can be checked without data; ``fit`` does so first.

        Raises
        ------
        ConfigError
            On an unknown encoder, diffusivity or setting, or a pair that does not fit together.
        """
        one_of(self.encoder, ENGINES, "encoder")
        config = self._settings(self._fixed_seed() or 0)
        for name in ("memory", "batch_size"):
            if getattr(config, name) is not None and self.encoder != "trained":
                raise ConfigError(
                    f"{name} limits training through the diffusion and needs encoder='trained', "
                    f"found encoder={self.encoder!r}."
                )
        for name in self.options or {}:
            one_of(name, sorted(ENGINES[self.encoder].keywords), "each key of options")
        terms = resolve_all(self.diffusivity) if self.diffusivity is not None else ()
        for term in terms:
            if self.encoder != "trained" and not term.fixed:
                raise ConfigError(
                    f"encoder 'decoupled' needs fixed rates on few pairs ('local' or 'graph'), "
                    f"found diffusivity {term.name!r}; use encoder 'trained' for it."
                )

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Array:
        """Fit, and the last states of the fitted rows: ``embedding_``."""
        found: Array = self.fit(X, y, **fit_params).embedding_
        return found

    def transform(
        self, X: Any, edge_index: Any = None, edge_weight: Any = None, node_id: Any = None
    ) -> Array:
        """Last states of rows, (O, P), those of ``embedding_`` where known."""
        return self._of_rows("transform", X, edge_index, edge_weight, node_id)

    def trace(self, y: Any = None) -> Trace:
        """Energy parts of each diffusion step on the fitted rows.

        ``y`` holds class numbers (positions in ``classes_``), -1 unknown: for the contrast.
        """
        self._check_fitted()
        known = None if y is None else torch.as_tensor(np.asarray(y, dtype=np.int64))
        return self.engine_.trace(known)

    def save(self, folder: str | Path) -> None:
        """Write the fitted model to a new folder: safetensors, JSON and TOML, no pickle."""
        self._check_fitted()
        save_fitted(self, Path(folder))

    def export_onnx(self, path: str | Path) -> None:
        """Write an ONNX file: ``features`` (N, F) in, ``answers`` (N, K), ``states`` (N, P) out.

        In float32, for any number of rows. Each gets what the encoder says of it as a new row: the
        file does not know the fitted rows again. Answers are class probabilities or numbers.

        Raises
        ------
        ConfigError
            If ``fit`` was given edges, or the rows that the file must hold are larger than 2 GiB.
        MissingExtraError
            Without the package onnx (extra ``onnx``).
        """
        self._check_fitted()
        export_onnx(self, Path(path))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what :meth:`save`, or ``difformer fit``, wrote.

        Raises
        ------
        RunError
            If a file is missing or damaged, or of another estimator.
        """
        return load_fitted(cls, Path(folder))

    def _engine_options(self) -> dict[str, Any]:
        options = {**DEFAULT_OPTIONS[self.encoder], **(self.options or {})}
        if self.diffusivity is not None:
            several = isinstance(self.diffusivity, (list, tuple))
            options["diffusivity"] = tuple(self.diffusivity) if several else (self.diffusivity,)
        return options

    def _encoder_to_fit(self) -> str:
        """What was asked for; who sets something of the default encoder does not want another."""
        own = TrainingConfig(**DEFAULT_TRAINING[self.encoder])
        asked = self._settings(own.seed)
        changed = asked.model_copy(update={name: getattr(own, name) for name in HARMLESS}) != own
        decided = self.options or self.diffusivity is not None or changed
        return "decoupled" if self.encoder == "auto" and decided else self.encoder

    def _training_config(self) -> TrainingConfig:
        return self._settings(self._seed())

    def _settings(self, seed: int) -> TrainingConfig:
        given = {**DEFAULT_TRAINING[self.encoder], **(self.training or {}), "seed": seed}
        if self.time_limit is not None:
            given["time_limit"] = self.time_limit
        return TrainingConfig(**given)

    def _fixed_seed(self) -> int | None:
        """The seed, if it is a number; None: it is to be drawn."""
        given = self.random_state
        if given is None or isinstance(given, np.random.RandomState):
            return None
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
            raise ConfigError(
                "random_state must be a whole number, a RandomState of numpy or None, "
                f"found {given!r}."
            )
        return int(given)

    def _seed(self) -> int:
        fixed = self._fixed_seed()
        if fixed is None:
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        return fixed

    def _of_rows(
        self,
        what: Literal["predict", "transform"],
        X: Any,
        edge_index: Any,
        edge_weight: Any,
        node_id: Any,
    ) -> Array:
        """Answers or last states: remembered of fitted rows, found by the engine of new ones."""
        self._check_fitted()
        rows = checked_table(self, X, reset=False)
        edges = self._edges_towards(edge_index, edge_weight, node_id, rows.shape[0])
        group = self._known.find(rows, *edges)
        known = group >= 0
        remembered = {"predict": self._answers, "transform": self.embedding_}[what]
        if known.all():
            return self._known.mean(remembered, group)
        found = _numpy(getattr(self.engine_, what)(rows, *edges))
        if known.any():
            found[known] = self._known.mean(remembered, group[known])
        return found

    def _edges_towards(
        self, edge_index: Any, edge_weight: Any, node_id: Any, rows: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Edges from fitted rows to these. Between named rows, others are left out."""
        if edge_index is not None and self._names is not None:
            if node_id is None:
                raise DataError("node_id must name the rows, as it did in fit, found None.")
            names = Names.of(node_id, rows)
            edge_index, edge_weight, _ = self._names.edges(edge_index, edge_weight, names)
        elif node_id is not None and self._names is None:
            raise DataError("node_id names rows, but fit was not given any.")
        edges = checked_edges(edge_index, edge_weight)
        check_edges(*edges, len(self.embedding_), rows)
        return edges

    def _check_fitted(self) -> None:
        if not hasattr(self, "engine_"):
            raise NotFittedError(f"{type(self).__name__} must be fitted first: call fit or load.")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201


def _numpy(x: Tensor) -> Array:
    return np.asarray(x.detach().cpu().numpy(), dtype=np.float64)
