"""Which weights are the best so far, and whether waiting for better ones still pays."""

from dataclasses import dataclass

from torch import Tensor, nn

Weights = dict[str, Tensor]


@dataclass
class Selection:
    """The best evaluation so far, which only a strictly better one replaces.

    Attributes:
        higher_is_better: Whether the monitored value should rise.
        patience: Consecutive misses at which to stop, or None.
        metric: The best value.
        epoch: The epoch of it.
        weights: The model's ``state_dict`` there, a copy.
        misses: Consecutive evaluations since then.
    """

    higher_is_better: bool
    patience: int | None = None
    metric: float | None = None
    epoch: int | None = None
    weights: Weights | None = None
    misses: int = 0

    def update(self, epoch: int, metric: float, model: nn.Module) -> None:
        """Take in one evaluation."""
        if self._is_better(metric):
            self.metric, self.epoch, self.misses = metric, epoch, 0
            self.weights = copy_weights(model)
        else:
            self.misses += 1

    @property
    def is_exhausted(self) -> bool:
        """Whether training should stop early."""
        return self.patience is not None and self.misses >= self.patience

    def _is_better(self, metric: float) -> bool:
        if self.metric is None:
            return True
        return metric > self.metric if self.higher_is_better else metric < self.metric


def copy_weights(model: nn.Module) -> Weights:
    """A copy of the model's ``state_dict`` that training does not change."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
