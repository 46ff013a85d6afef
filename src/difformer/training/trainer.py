"""Training that can be killed at any moment and goes on as if it had not been.

An epoch is one optimiser step on all rows, or one on each batch of them; it is judged on all rows
together. A checkpoint holds everything that the later epochs depend on, so a resumed training ends
with the same bits as one that was never interrupted. What is drawn at random comes from a stream of
its own; the caller's is left alone.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from difformer.errors import ConfigError, RunError
from difformer.runs import RunDirectory
from difformer.runs.records import Record
from difformer.training.config import TrainingConfig
from difformer.training.metrics import accuracy
from difformer.training.objectives import (
    Objective,
    Predict,
    cross_entropy,
    softmax_probabilities,
)
from difformer.training.progress import Report
from difformer.training.randomness import seeded
from difformer.training.rows import Rows
from difformer.training.state import TrainingState, describe_origin, start_afresh

Forward = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows that are trained on together.

    Attributes:
        rows: Which, (n,) int64.
        forward: Their raw outputs.
    """

    rows: Tensor
    forward: Forward


Batches = Callable[[int], Iterable[Batch]]  # of an epoch


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to; the weights are in the model.

    Attributes:
        epochs: Epochs trained, those before an interruption included.
        best_epoch: The epoch whose weights were kept: the best one on the validation rows, or
            the last where there are none.
        best_metric: The monitored value there, or None without validation rows.
        stopped_early: Whether patience ended the training.
        resumed_from: The epoch of the checkpoint that it went on from; 0 if none.
        history: A record an epoch: ``epoch``, ``train_loss`` (of the step, dropout included),
            ``train_accuracy``, ``val_loss``, ``val_accuracy`` (after the step, in evaluation
            mode; None where not measured) and ``seconds``.
    """

    epochs: int
    best_epoch: int
    best_metric: float | None
    stopped_early: bool
    resumed_from: int
    history: list[Record]

    @property
    def seconds(self) -> float:
        """Wall time of all epochs."""
        return sum(record["seconds"] or 0.0 for record in self.history)


def train(
    model: nn.Module,
    forward: Forward,
    y: Tensor,
    train_mask: Tensor,
    config: TrainingConfig,
    val_mask: Tensor | None = None,
    run: RunDirectory | None = None,
    progress: Report | None = None,
    resume: bool = True,
    objective: Objective = cross_entropy,
    predict: Predict = softmax_probabilities,
    batches: Batches | None = None,
) -> TrainingResult:
    """Train ``model`` in place and leave it in evaluation mode, with the best weights.

    Args:
        model: Its parameters are optimised; buffers that are not persistent are not saved.
        forward: Computes the raw outputs of all rows with ``model`` in its present mode, for
            instance ``lambda: model(x, edge_index)``.
        y: Class numbers, -1 where unlabelled; or floating targets, NaN where unlabelled.
        train_mask: The rows to learn from.
        config: The settings.
        val_mask: The rows that choose the best weights. Default: None, the last weights stay.
        run: Where to write metrics, checkpoints and, at the end, the model. Default: nowhere.
        progress: Called with each epoch's record.
        resume: Go on from the newest usable checkpoint of ``run``. Default: True. False starts
            again and removes what an unfinished run holds.
        objective: ``(outputs, y, mask) -> ()``, to be minimised; it judges validation too.
        predict: ``outputs -> (N, C)`` class probabilities, for accuracy; unused with targets.
        batches: The batches of an epoch, each for one step; what they are must follow from the
            number of the epoch. One without a training row is left out. Default: one step on all
            rows. Evaluations take ``forward`` either way.

    Shapes:
        y (N,) int64, or (N,) or (N, ...) floating; masks (N,) bool; outputs (N, C) unless
        ``objective`` and ``predict`` take others.

    Returns:
        The history and which epoch was the best.

    Raises:
        ConfigError: Labels, masks and settings do not fit together.
        RunError: The loss became NaN or infinite; or ``run`` is damaged or of another training.

    Cost:
        One forward and backward an epoch and one more forward an evaluation; the memory of two
        to three copies of the weights besides the optimizer's two.

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
        >>> model = nn.Linear(1, 2)
        >>> config = TrainingConfig(epochs=5)
        >>> train(model, lambda: model(x), y, torch.tensor([True, True]), config).epochs
        5
    """
    rows = Rows(y, train_mask, val_mask)
    _check_monitor(config, rows)
    state = TrainingState.initial(model, config)
    loop = _Loop(state, forward, rows, config, objective, predict, batches)
    origin = describe_origin(config, rows, model)
    with seeded(config.seed, model):
        if run is not None:
            state.resume(run, origin) if resume else start_afresh(run)
        resumed_from = state.epoch
        loop.spent = sum(float(record["seconds"] or 0.0) for record in state.history)
        while not loop.is_done:
            record = loop.run_epoch()
            _keep(state, record, run, config, origin, loop.is_done)
            if progress is not None:
                progress(record)
    _settle(state, run)
    return _result(state, resumed_from)


@dataclass
class _Loop:
    """One epoch after the other, in memory."""

    state: TrainingState
    forward: Forward
    rows: Rows
    config: TrainingConfig
    objective: Objective
    predict: Predict
    batches: Batches | None = None
    spent: float = 0.0  # seconds of all epochs so far

    @property
    def is_done(self) -> bool:
        limit = self.config.time_limit
        late = limit is not None and self.spent >= limit
        return late or self.state.epoch >= self.config.epochs or self.state.selection.is_exhausted

    def run_epoch(self) -> Record:
        start = time.perf_counter()
        epoch = self.state.epoch + 1
        record: Record = {"epoch": epoch, "train_loss": self._step(epoch)}
        record |= dict.fromkeys(("train_accuracy", "val_loss", "val_accuracy"))
        if epoch % self.config.eval_every == 0 or epoch == self.config.epochs:
            record |= self._evaluate(epoch)
            monitored = record[self.config.monitor]
            if monitored is not None:
                self.state.selection.update(epoch, monitored, self.state.model)
        self.state.epoch = epoch
        record["seconds"] = time.perf_counter() - start
        self.spent += float(record["seconds"] or 0.0)
        return record

    def _step(self, epoch: int) -> float:
        """All steps of an epoch; the mean loss of its training rows."""
        self.state.model.train()
        if self.batches is None:
            return self._descend(epoch, self.forward, self.rows.y, self.rows.train)
        total, seen = 0.0, 0
        for batch in self.batches(epoch):
            learnt = self.rows.train[batch.rows]
            if count := int(learnt.sum()):
                loss = self._descend(epoch, batch.forward, self.rows.y[batch.rows], learnt)
                total, seen = total + count * loss, seen + count
        return total / max(seen, 1)

    def _descend(self, epoch: int, forward: Forward, y: Tensor, learnt: Tensor) -> float:
        self.state.optimizer.zero_grad()
        loss = self.objective(forward(), y, learnt)
        value = self._finite("training loss", loss, epoch)
        loss.backward()
        if self.config.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.state.model.parameters(), self.config.clip_norm)
        self.state.optimizer.step()
        return value

    @torch.no_grad()
    def _evaluate(self, epoch: int) -> Record:
        self.state.model.eval()
        outputs = self.forward()
        figures: Record = {}
        if self.rows.has_classes:
            classes = self.predict(outputs).argmax(dim=-1)
            figures["train_accuracy"] = self._accuracy(classes, self.rows.train)
        if self.rows.val is not None:
            loss = self.objective(outputs, self.rows.y, self.rows.val)
            figures["val_loss"] = self._finite("validation loss", loss, epoch)
            if self.rows.has_classes:
                figures["val_accuracy"] = self._accuracy(classes, self.rows.val)
        return figures

    def _accuracy(self, classes: Tensor, mask: Tensor) -> float:
        return accuracy(self.rows.y[mask], classes[mask])

    def _finite(self, what: str, loss: Tensor, epoch: int) -> float:
        if loss.dim() != 0:
            raise ConfigError(f"The objective must return a scalar, found {tuple(loss.shape)}.")
        value = loss.item()
        if not math.isfinite(value):
            raise _divergence(f"The {what} became {value}", epoch, self.config)
        return value


def _keep(
    state: TrainingState,
    record: Record,
    run: RunDirectory | None,
    config: TrainingConfig,
    origin: dict[str, object],
    is_last: bool,
) -> None:
    state.history.append(record)
    is_due = config.checkpoint_every > 0 and state.epoch % config.checkpoint_every == 0
    if is_last or is_due:
        _check_weights(state, config)  # the last good checkpoint must stay the newest
    if run is not None:
        run.append_metrics(record)
        if is_last or is_due:
            state.save(run, origin)


def _check_weights(state: TrainingState, config: TrainingConfig) -> None:
    if not all(bool(p.isfinite().all()) for p in state.model.parameters()):
        raise _divergence("A weight became NaN or infinite", state.epoch, config)


def _divergence(what: str, epoch: int, config: TrainingConfig) -> RunError:
    return RunError(
        f"{what} in epoch {epoch}; lower the learning rate ({config.learning_rate:g}) or check "
        "the scale of the features; earlier checkpoints are kept."
    )


def _check_monitor(config: TrainingConfig, rows: Rows) -> None:
    if config.patience is not None and rows.val is None:
        raise ConfigError("patience needs val_mask, for it counts misses on the validation rows.")
    if rows.val is not None and config.monitor == "val_accuracy" and not rows.has_classes:
        raise ConfigError("monitor must be 'val_loss' with floating targets, found 'val_accuracy'.")


def _settle(state: TrainingState, run: RunDirectory | None) -> None:
    if state.selection.weights is not None:
        state.model.load_state_dict(state.selection.weights)
    state.model.eval()
    if run is not None:
        run.write_model(state.model.state_dict())


def _result(state: TrainingState, resumed_from: int) -> TrainingResult:
    best = state.selection
    return TrainingResult(
        epochs=state.epoch,
        best_epoch=state.epoch if best.epoch is None else best.epoch,
        best_metric=best.metric,
        stopped_early=best.is_exhausted,
        resumed_from=resumed_from,
        history=state.history,
    )
