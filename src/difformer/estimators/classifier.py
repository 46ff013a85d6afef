"""DIFFormerClassifier: the scikit-learn face of the library."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags, check_random_state
from torch import Tensor

from difformer.diffusion.graph import check_edges
from difformer.diffusion.penalty import resolve_all
from difformer.errors import ConfigError, DataError, one_of
from difformer.estimators.arrays import checked_edges, checked_table
from difformer.estimators.decoupled import DecoupledEngine
from difformer.estimators.engine import Engine, Fitting
from difformer.estimators.known import KnownRows
from difformer.estimators.labels import UNLABELLED, encode_labels
from difformer.estimators.saving import load_fitted, save_fitted
from difformer.estimators.trained import TrainedEngine
from difformer.nn.trace import Trace
from difformer.runs import RunDirectory
from difformer.training.config import TrainingConfig
from difformer.training.progress import progress_bar

ENGINES: dict[str, type[Engine]] = {
    "decoupled": DecoupledEngine,
    "trained": TrainedEngine,
}
# Settings that were fixed before any comparison; docs/decisions.md says how they were found.
DEFAULT_TRAINING: dict[str, dict[str, Any]] = {
    "decoupled": {"epochs": 100, "learning_rate": 0.01, "weight_decay": 5e-4, "eval_every": 10},
    "trained": {"epochs": 200, "learning_rate": 0.01, "weight_decay": 5e-4, "eval_every": 10},
}
DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "decoupled": {},
    "trained": {"hidden_channels": 64, "num_layers": 2},
}


class DIFFormerClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Classify instances that depend on each other, from few labels.

    Every row takes part in the diffusion; the labelled rows teach. Pass all rows to ``fit``, with
    -1 (None or NaN among objects) where the label is unknown, and read ``transduction_``.

    Parameters
    ----------
    encoder : {"decoupled", "trained"}, default "decoupled"
        ``decoupled``: fixed local diffusion, a small readout, then diffusion of the labels; best
        with few labels. ``trained``: an encoder trained end to end.
    diffusivity : str, Neighbourhood, Penalty or sequence of them, optional
        Default: neighbours in two spaces if decoupled, else ``"simple"`` (DIFFormer-s).
    options : dict, optional
        Further arguments of ``DecoupledDIFFormer`` or ``DIFFormer``, such as ``num_layers``.
    training : dict, optional
        Settings of ``TrainingConfig``, such as ``epochs``.
    random_state : int, RandomState or None, default 0
        Seed of initial weights and training. Equal seeds give equal bits on equal thread counts;
        None draws one from numpy's global generator.
    verbose : bool, default False
        Show a progress bar on a terminal, and before it what training through the diffusion will
        need of memory.

    Attributes
    ----------
    classes_ : ndarray (C,)
    transduction_ : ndarray (N,)
        The predicted class of every fitted row; labelled rows keep their label.
    label_distributions_ : ndarray (N, C)
        Class probabilities of every fitted row; those of labelled rows are 1 and 0.
    embedding_ : ndarray (N, P)
        Last states of the fitted rows.
    n_features_in_, n_iter_ : int
    feature_names_in_ : ndarray (F,)
        Columns of X, if it was a DataFrame.
    history_ : list of dict
        One record an epoch.

    Notes
    -----
    Cost of the default: an exact neighbour search, O(N^2 F) time and O(N k) memory, then 60
    sparse products.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> partly = np.where(np.arange(150) % 10 == 0, y, -1)
    >>> model = DIFFormerClassifier().fit(X, partly)
    >>> bool((model.transduction_ == y).mean() > 0.8)
    True
    """

    def __init__(
        self,
        encoder: str = "decoupled",
        diffusivity: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        self.encoder = encoder
        self.diffusivity = diffusivity
        self.options = options
        self.training = training
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any,
        edge_index: Any = None,
        edge_weight: Any = None,
        *,
        validation: Any = None,
        run: RunDirectory | None = None,
    ) -> Self:
        """Fit on all rows, labelled and not.

        Parameters
        ----------
        X : array or CSR matrix, (N, F)
        y : array (N,)
            Labels; -1, None or NaN where unknown.
        edge_index : int array (2, E), optional
            Row 0 sends, row 1 receives; give an undirected edge in both directions.
        edge_weight : array (E,), optional
            Not negative.
        validation : pair (mask (N,), labels (N,)), optional
            Rows that choose the best epoch. They do not teach.
        run : RunDirectory, optional
            Keep metrics and checkpoints there, and take up training where they end.

        Raises
        ------
        DataError
            If X, y or edges cannot be used.
        ConfigError
            If a parameter is not allowed.
        """
        self.check_parameters()
        if y is None:
            raise DataError(
                "DIFFormerClassifier requires y to be passed, but the target y is None: give a "
                "label for each row, -1 where it is unknown."
            )
        features = checked_table(self, X, reset=True)
        self.classes_, encoded = encode_labels(y, features.shape[0])
        engine = ENGINES[self.encoder]
        config = self._training_config()
        with progress_bar(config.epochs, shown=self.verbose) as report:
            given = Fitting(
                features,
                torch.from_numpy(encoded),
                len(self.classes_),
                *checked_edges(edge_index, edge_weight),
                validation=self._validation(validation, features.shape[0]),
                seed=config.seed,
                run=run,
                progress=report,
                notice=_tell if self.verbose else None,
            )
            self.engine_: Engine = engine.fit(given, self._engine_options(), config)
        self._known = KnownRows.of(features, given.edge_index, given.edge_weight)
        self._set_results(encoded)
        return self

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
        if self._training_config().memory is not None and self.encoder != "trained":
            raise ConfigError(
                "memory limits training through the diffusion and needs encoder='trained', "
                f"found encoder={self.encoder!r}."
            )
        for name in self.options or {}:
            one_of(name, sorted(ENGINES[self.encoder].keywords), "each key of options")
        terms = resolve_all(self.diffusivity) if self.diffusivity is not None else ()
        for term in terms:
            if self.encoder == "decoupled" and not term.fixed:
                raise ConfigError(
                    f"encoder 'decoupled' needs fixed rates on few pairs ('local' or 'graph'), "
                    f"found diffusivity {term.name!r}; use encoder 'trained' for it."
                )

    def predict_proba(
        self, X: Any, edge_index: Any = None, edge_weight: Any = None
    ) -> NDArray[np.float64]:
        """Class probabilities of rows, (O, C), each from the fitted rows alone.

        ``edge_index`` leads from fitted rows (row 0) to those of X (row 1). A row that was fitted,
        with the same features and the same edges, is known: its answer is that of
        ``label_distributions_``, the mean where several fitted rows are equal.
        """
        return self._answer(X, edge_index, edge_weight)[0]

    def predict(self, X: Any, edge_index: Any = None, edge_weight: Any = None) -> NDArray[Any]:
        """Classes of rows, (O,), of ``transduction_`` where known; see :meth:`predict_proba`."""
        best = self.predict_proba(X, edge_index, edge_weight).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def transform(
        self, X: Any, edge_index: Any = None, edge_weight: Any = None
    ) -> NDArray[np.float64]:
        """Last states of rows, (O, P), those of ``embedding_`` where known."""
        return self._answer(X, edge_index, edge_weight)[1]

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

    @classmethod
    def load(cls, folder: str | Path) -> "DIFFormerClassifier":
        """Read what :meth:`save`, or ``difformer fit``, wrote.

        Raises
        ------
        RunError
            If a file is missing or damaged.
        """
        return load_fitted(cls, Path(folder))

    def _engine_options(self) -> dict[str, Any]:
        options = {**DEFAULT_OPTIONS[self.encoder], **(self.options or {})}
        if self.diffusivity is not None:
            several = isinstance(self.diffusivity, (list, tuple))
            options["diffusivity"] = tuple(self.diffusivity) if several else (self.diffusivity,)
        return options

    def _training_config(self) -> TrainingConfig:
        given = {**DEFAULT_TRAINING[self.encoder], **(self.training or {}), "seed": self._seed()}
        return TrainingConfig(**given)

    def _seed(self) -> int:
        given = self.random_state
        if given is None or isinstance(given, np.random.RandomState):
            return int(check_random_state(given).randint(2**31 - 1))
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
            raise ConfigError(
                "random_state must be a whole number, a RandomState of numpy or None, "
                f"found {given!r}."
            )
        return int(given)

    def _validation(self, validation: Any, rows: int) -> tuple[Tensor, Tensor] | None:
        if validation is None:
            return None
        if not isinstance(validation, (list, tuple)) or len(validation) != 2:
            raise DataError(f"validation must be a pair of mask and labels, found {validation!r}.")
        mask, labels = (np.asarray(part) for part in validation)
        if mask.shape != (rows,) or labels.shape != (rows,):
            raise DataError(
                f"validation must be a mask and labels for {rows} rows, "
                f"found {mask.shape} and {labels.shape}."
            )
        mask = mask.astype(bool)
        if not np.isin(labels[mask], self.classes_).all():
            raise DataError("validation labels must be classes that have a labelled training row.")
        numbers = np.full(rows, UNLABELLED, dtype=np.int64)
        numbers[mask] = np.searchsorted(self.classes_, labels[mask].astype(self.classes_.dtype))
        return torch.from_numpy(mask), torch.from_numpy(numbers)

    def _set_results(self, encoded: NDArray[np.int64]) -> None:
        self.label_distributions_ = _numpy(self.engine_.probabilities())
        labelled = np.flatnonzero(encoded >= 0)
        self.label_distributions_[labelled] = 0
        self.label_distributions_[labelled, encoded[labelled]] = 1
        self.transduction_ = self.classes_[self.label_distributions_.argmax(axis=1)]
        self.embedding_ = _numpy(self.engine_.embedding())
        self.history_ = self.engine_.history
        self.n_iter_ = len(self.history_)

    def _answer(
        self, X: Any, edge_index: Any, edge_weight: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Class probabilities and last states: remembered of fitted rows, found of new ones."""
        self._check_fitted()
        rows = checked_table(self, X, reset=False)
        edges = checked_edges(edge_index, edge_weight)
        check_edges(*edges, len(self.transduction_), rows.shape[0])
        group = self._known.find(rows, *edges)
        known, fitted = group >= 0, (self.label_distributions_, self.embedding_)
        remembered = [self._known.mean(values, group[known]) for values in fitted]
        if known.all():
            return remembered[0], remembered[1]
        probabilities, states = map(_numpy, self.engine_.predict(rows, *edges))
        probabilities[known], states[known] = remembered
        return probabilities, states

    def _check_fitted(self) -> None:
        if not hasattr(self, "engine_"):
            raise NotFittedError("DIFFormerClassifier must be fitted first: call fit or load.")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201


def _numpy(x: Tensor) -> NDArray[np.float64]:
    return np.asarray(x.detach().cpu().numpy(), dtype=np.float64)
