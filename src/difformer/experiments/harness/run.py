"""One run: a method on one split with one seed. Its JSON file is all that remains of it.

The file's name says what was run, its key is a hash of everything that decides the outcome. A run
whose file is there is not run again, so a campaign may be stopped at any time.
"""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from difformer.errors import RunError
from difformer.experiments.harness.cells import AnyCell, method_of
from difformer.experiments.methods.method import Method
from difformer.experiments.record import code_state
from difformer.runs.atomic import clean_leftovers, read_json, write_json

Find = Callable[[Any, str], Method]  # from a cell and a name


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Spec(_Model):
    """Everything that decides an outcome.

    Args:
        cell: data, protocol, preparation and metric.
        method: name in the table of methods.
        settings: all of them, resolved.
        stage: ``tune`` while settings are chosen, ``final`` afterwards.
        split_seed: which split.
        model_seed: of the method.
    """

    cell: AnyCell
    method: str
    settings: dict[str, Any]
    stage: Literal["tune", "final"]
    split_seed: int
    model_seed: int

    @property
    def key(self) -> str:
        """Hash of all of it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def file(self) -> str:
        """Name of its file."""
        numbers = f"split-{self.split_seed}-seed-{self.model_seed}"
        return f"{self.cell.name}/{self.method}/{self.stage}-{numbers}-{self.key}.json"


class Outcome(_Model):
    """What came out, in the unit of the cell's score before its factor.

    Args:
        spec: what was run.
        validation: score on the validation rows; None if there are none.
        test: score on the test rows; None while settings are chosen.
        seconds: wall time of fitting and predicting.
        commit, dirty: of the code; see ``record.code_state``.
    """

    spec: Spec
    validation: float | None
    test: float | None
    seconds: float
    commit: str | None = None
    dirty: bool | None = None


class Store:
    """A folder of outcomes."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def clean(self) -> None:
        """Remove what interrupted writes have left. Nobody else may write meanwhile."""
        for folder in [path for path in self.folder.glob("**/") if path.is_dir()]:
            clean_leftovers(folder)

    def get(self, spec: Spec) -> Outcome | None:
        """The outcome of a run that is done; None if it is not.

        Raises:
            RunError: Its file is damaged or tells of another run.
        """
        path = self.folder / spec.file
        if not path.exists():
            return None
        try:
            found = Outcome.model_validate(read_json(path))
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            raise RunError(f"Expected the outcome of a run in {path}: {where} is wrong.") from error
        if found.spec != spec:
            raise RunError(f"Expected {path} to tell of the run in its name, found another one.")
        return found

    def put(self, outcome: Outcome) -> None:
        """Write an outcome, atomically."""
        path = self.folder / outcome.spec.file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, outcome.model_dump(mode="json"))


def execute(spec: Spec, store: Store, find: Find = method_of) -> Outcome:
    """The outcome of a run: read if it is there, else run and kept.

    Raises:
        MissingExtraError: The method needs an optional package.
    """
    done = store.get(spec)
    if done is not None:
        return done
    task, answers = spec.cell.problem(spec.split_seed, final=spec.stage == "final")
    started = time.perf_counter()
    answer = find(spec.cell, spec.method).fit_predict(task, spec.model_seed, spec.settings)
    seconds = time.perf_counter() - started
    commit, dirty = code_state()
    outcome = Outcome(
        spec=spec,
        validation=answers.validation(answer),
        test=answers.test(answer) if spec.stage == "final" else None,
        seconds=seconds,
        commit=commit,
        dirty=dirty,
    )
    store.put(outcome)
    return outcome
