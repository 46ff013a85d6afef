"""Settings chosen by validation alone: a search of optuna's within a stated budget.

The first trial is the method's defaults, the others come from a tree-structured Parzen estimator
over the method's finite space (Bergstra et al., NeurIPS 2011). Every trial is a run of its own, on
one split and one seed, and kept: a search that was stopped goes on to the same end, for the sampler
of trial k is seeded by k and told of all trials before it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from difformer.errors import ConfigError, MissingExtraError
from difformer.experiments.harness.cells import AnyCell, method_of
from difformer.experiments.harness.run import Find, Outcome, Spec, Store, execute

HOUR = 3600.0
STARTUP = 6  # trials drawn at random before the estimator takes over


@dataclass(frozen=True)
class Budget:
    """What a search may cost: trials, and seconds of all of them together."""

    trials: int = 20
    seconds: float = HOUR


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        settings: of the best trial, resolved; the earlier one of two that are equally good.
        validation: its score.
        trials: how many were run.
    """

    settings: dict[str, Any]
    validation: float
    trials: int


def tune(
    cell: AnyCell,
    name: str,
    fixed: Mapping[str, Any],
    budget: Budget,
    store: Store,
    find: Find = method_of,
    split_seed: int = 0,
    model_seed: int = 0,
) -> Tuned:
    """Search a method's settings on one split.

    Args:
        cell: data and protocol.
        name: of the method.
        fixed: settings that the search leaves alone.
        budget: what it may cost.
        store: where the trials are kept.
        find: where methods are looked up.
        split_seed: the split whose validation rows choose.
        model_seed: of all trials.

    Raises:
        ConfigError: The split has no validation rows.
        MissingExtraError: optuna, or the method's package, is not installed.
    """
    row = find(cell, name)
    space = {key: values for key, values in row.space.items() if key not in fixed}
    outcomes: list[Outcome] = []
    with _study() as study:
        study.enqueue_trial({key: row.defaults[key] for key in space})
        while len(outcomes) < min(budget.trials, _size(space)):
            if outcomes and sum(outcome.seconds for outcome in outcomes) >= budget.seconds:
                break
            chosen = _ask(study, space, len(outcomes))
            spec = Spec(
                cell=cell,
                method=name,
                settings=row.resolved({**chosen.params, **fixed}),
                stage="tune",
                split_seed=split_seed,
                model_seed=model_seed,
            )
            outcomes.append(execute(spec, store, find))
            study.tell(chosen, _gain(outcomes[-1]))
    best = max(outcomes, key=_gain)  # the first of equals
    return Tuned(best.spec.settings, _validation(best), len(outcomes))


def _gain(outcome: Outcome) -> float:
    """What is to rise."""
    return outcome.spec.cell.score.gain(_validation(outcome))


def _validation(outcome: Outcome) -> float:
    if outcome.validation is None:
        raise ConfigError(
            f"Settings are chosen by validation rows, protocol {outcome.spec.cell.protocol!r} "
            "has none."
        )
    return outcome.validation


def _size(space: Mapping[str, tuple[Any, ...]]) -> int:
    size = 1
    for values in space.values():
        size *= len(values)
    return size


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("tune") from error
    return optuna


@contextmanager
def _study() -> Iterator[Any]:
    """A search in memory. optuna's messages are held back, and its setting put back."""
    optuna = _optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(before)


def _ask(study: Any, space: Mapping[str, tuple[Any, ...]], number: int) -> Any:
    """Trial ``number``, with a value for every setting of the space in ``params``."""
    study.sampler = _optuna().samplers.TPESampler(seed=number, n_startup_trials=STARTUP)
    trial = study.ask()
    for key, values in space.items():
        trial.suggest_categorical(key, values)
    return trial
