"""What a method is to the harness: a name, a way to fit, its settings, and what may be tuned."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from difformer.errors import one_of

Settings: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = NDArray[np.float64]
Fit: TypeAlias = Callable[[Any, Settings, int], Answer]
Choices: TypeAlias = tuple[Any, ...]


def divided(settings: Settings, training: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the architecture, and those of the training.

    Example:
        >>> divided({"width": 3, "epochs": 2}, ["epochs"])
        ({'width': 3}, {'epochs': 2})
    """
    own = {name: settings[name] for name in training}
    return {name: settings[name] for name in settings if name not in own}, own


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the table of methods.

    Args:
        label: the name that tables show.
        fit: from a task, settings and a seed to answers: class probabilities (N, C) of a ``Task``,
            values (T, N) of a ``Forecast``.
        defaults: every setting and its value where nothing else is said.
        space: settings that a search may change, and the values among which it chooses.
        needs_graph: whether it is for tasks with ``edge_index`` only.
        extra: the optional dependency that it imports when called; without it, the call raises
            ``MissingExtraError``.
    """

    label: str
    fit: Fit
    defaults: Settings = field(default_factory=dict)
    space: Mapping[str, Choices] = field(default_factory=dict)
    needs_graph: bool = False
    extra: str | None = None

    def resolved(self, settings: Settings) -> dict[str, Any]:
        """All settings, with some of them given.

        Raises:
            ConfigError: One is unknown.
        """
        for name in settings:
            one_of(name, self.defaults, f"setting of {self.label}")
        return {**self.defaults, **settings}

    def fit_predict(self, task: Any, seed: int, settings: Settings | None = None) -> Answer:
        """The answers, with the defaults where nothing else is given."""
        return self.fit(task, self.resolved(settings or {}), seed)
