"""DIFFormerClassifier: classes, or several marks a row, from few labels."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from difformer.errors import ConfigError, DataError
from difformer.estimators.base import DIFFormerEstimator
from difformer.estimators.labels import UNLABELLED, encode_labels, encode_marks, holds_marks
from difformer.estimators.targets import Classes, Marks, Target
from difformer.runs import RunDirectory

# What classes may be, in a file.
KINDS = {"i": "numbers", "u": "numbers", "b": "truths"}
TYPES: dict[str, Any] = {"numbers": np.int64, "truths": np.bool_, "texts": np.str_}


class DIFFormerClassifier(ClassifierMixin, DIFFormerEstimator):  # type: ignore[misc]
    """Classify instances that depend on each other, from few labels.

    Every row takes part in the diffusion; the labelled rows teach. Pass all rows to ``fit``, with
    -1 (None or NaN among objects) where the label is unknown, and read ``transduction_``. Labels of
    several columns, 1 or 0 each, are marks: any number of them may be there in a row.

    Parameters
    ----------
    encoder : {"auto", "decoupled", "trained"}, default "auto"
        ``decoupled``: fixed local diffusion, a small readout, then diffusion of the labels; best
        with few labels. ``trained``: an encoder trained end to end. ``auto``: decoupled; but with
        edges, 500 labels or more (or 100 validation rows) and nothing else set, that and up to
        four trained encoders are compared on a fifth of the labels, and the best one is taken.
    diffusivity : str, Neighbourhood, Penalty or sequence of them, optional
        Default: neighbours in two spaces if decoupled, else ``"simple"`` (DIFFormer-s).
    options : dict, optional
        Further arguments of ``DecoupledDIFFormer`` or ``DIFFormer``, such as ``num_layers``. How
        strongly instances diffuse if decoupled (``source``, ``label_steps``, and whether edges are
        trusted) is chosen by cross-validation among the labelled rows, unless one of these is given
        here, there is a ``time_limit``, or there are more than 200,000 rows.
    training : dict, optional
        Settings of ``TrainingConfig``, such as ``epochs``. If decoupled, ``weight_decay`` is meant
        for 1,000 labels or more and grows in proportion with fewer, at most tenfold.
    class_weight : dict or "balanced", optional
        Weight of each class in training. Default: each labelled row counts the same.
    random_state : int, RandomState or None, default 0
        Seed of initial weights and training. Equal seeds give equal bits on equal thread counts;
        None draws one from numpy's global generator.
    time_limit : float, optional
        Seconds after which training stops with what it has. Then equal seeds no longer give equal
        bits, for how far it gets depends on the machine.
    verbose : bool, default False
        Show a progress bar on a terminal, and before it what training through the diffusion will
        need of memory.

    Attributes
    ----------
    classes_ : ndarray (C,)
        For marks: the numbers of their columns.
    transduction_ : ndarray (N,), for marks (N, C)
        The predicted class of every fitted row; labelled rows keep their label.
    label_distributions_ : ndarray (N, C)
        Class probabilities of every fitted row; those of labelled rows are 1 and 0.
    embedding_ : ndarray (N, P)
        Last states of the fitted rows.
    n_features_in_, n_iter_ : int
    n_edges_left_out_ : int
        Edges that named an absent row (``node_id``).
    feature_names_in_ : ndarray (F,)
        Columns of X, if it was a DataFrame.
    history_ : list of dict
        One record an epoch.
    decisions_ : list of str
        What was decided by the labels, a sentence each.

    Notes
    -----
    Cost of the default: an exact neighbour search, O(N^2 F) time and O(N k) memory, then about 500
    sparse products, most of them as wide as there are classes. The choice among strengths of
    diffusion is three quarters of the time; ``options={"source": 0.02}`` does without.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> partly = np.where(np.arange(150) % 10 == 0, y, -1)
    >>> model = DIFFormerClassifier().fit(X, partly)
    >>> bool((model.transduction_ == y).mean() > 0.8)
    True
    """

    _task = "tabular-classification"

    def __init__(
        self,
        encoder: str = "auto",
        diffusivity: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = 0,
        time_limit: float | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            diffusivity,
            options=options,
            training=training,
            random_state=random_state,
            time_limit=time_limit,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(
        self,
        X: Any,
        y: Any = None,
        edge_index: Any = None,
        edge_weight: Any = None,
        node_id: Any = None,
        *,
        validation: Any = None,
        run: RunDirectory | None = None,
    ) -> Self:
        """Fit on all rows, labelled and not.

        Parameters
        ----------
        X : array or CSR matrix, (N, F)
        y : array (N,), or (N, C) of marks
        edge_index : int array (2, E), optional
            Row 0 sends, row 1 receives; give an undirected edge in both directions.
        edge_weight : array (E,), optional
            Not negative.
        node_id : array (N,), optional
            A name for each row, whole numbers or texts. Edges then name rows instead of counting
            them, and those that name an absent row are left out: so cross-validation may slice.
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
        return self._fit(X, y, edge_index, edge_weight, node_id, validation, run)

    def _target(self, y: Any, rows: int) -> Target:
        if y is None:
            raise DataError(
                "DIFFormerClassifier requires y to be passed, but the target y is None: give a "
                "label for each row, -1 where it is unknown."
            )
        if holds_marks(y):
            if self.class_weight is not None:
                raise ConfigError("class_weight needs one class a row, found several marks a row.")
            marks = encode_marks(y, rows)
            self.classes_ = np.arange(marks.shape[1])
            return Marks(torch.from_numpy(marks))
        self.classes_, encoded = encode_labels(y, rows)
        return Classes(torch.from_numpy(encoded), len(self.classes_), self._weights(encoded))

    def _weights(self, encoded: NDArray[np.int64]) -> Tensor | None:
        """Of each class, (C,)."""
        if self.class_weight is None:
            return None
        labels = self.classes_[encoded[encoded >= 0]]
        try:
            found = compute_class_weight(self.class_weight, classes=self.classes_, y=labels)
        except ValueError as error:
            raise ConfigError(f"class_weight cannot be used: {error}") from None
        return torch.from_numpy(found.astype(np.float32))

    def _chosen(self, validation: Any, target: Target) -> tuple[Tensor, Tensor] | None:
        """Rows that choose the best epoch, and their class numbers."""
        rows = len(target.y)
        if validation is None:
            return None
        if not isinstance(validation, (list, tuple)) or len(validation) != 2:
            raise DataError(f"validation must be a pair of mask and labels, found {validation!r}.")
        if target.kind != Classes.kind:
            raise DataError("validation needs one class a row, found several marks a row.")
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

    def _set_results(self) -> None:
        self.label_distributions_ = self._answers
        self.transduction_ = self._named(self._answers)

    def _named(self, probabilities: NDArray[np.float64]) -> NDArray[Any]:
        """Classes of probabilities (N, C), (N,); of marks, which are more likely there, (N, C)."""
        if self.engine_.target.kind == Marks.kind:
            return (probabilities > 0.5).astype(np.int64)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def predict_proba(
        self, X: Any, edge_index: Any = None, edge_weight: Any = None, node_id: Any = None
    ) -> NDArray[np.float64]:
        """Class probabilities of rows, (O, C), each from the fitted rows alone.

        ``edge_index`` leads from fitted rows (row 0) to those of X (row 1); where ``fit`` was given
        names, it names both. A row that was fitted, with the same features and the same edges, is
        known: its answer is that of ``label_distributions_``, the mean where several are equal.
        """
        return self._of_rows("predict", X, edge_index, edge_weight, node_id)

    def predict(
        self, X: Any, edge_index: Any = None, edge_weight: Any = None, node_id: Any = None
    ) -> NDArray[Any]:
        """Classes of rows, (O,), of ``transduction_`` where known; see :meth:`predict_proba`."""
        return self._named(self.predict_proba(X, edge_index, edge_weight, node_id))

    def _own_state(self) -> dict[str, Any]:
        kind = KINDS.get(self.classes_.dtype.kind, "texts")
        return {"classes": self.classes_.tolist(), "classes_are": kind}

    def _restore_own(self, saved: Mapping[str, Any]) -> None:
        self.classes_ = np.array(saved["classes"], dtype=TYPES[saved["classes_are"]])

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
