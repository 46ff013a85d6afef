"""What a run has saved for its report, checked on reading; a file that is not there gives None.

overview.json     what was predicted, from which data, with which encoder
evaluation.json   how good it was on rows whose labels were hidden from the training
comparison.json   other methods on the same splits
trace.json        energy of each diffusion step
forecast_evaluation.json, forecast_curves.json, forecast_coming.json    the same for forecasts
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from difformer.errors import RunError
from difformer.runs.atomic import explained

OVERVIEW = "overview.json"
EVALUATION = "evaluation.json"
COMPARISON = "comparison.json"
TRACE = "trace.json"
FORECAST, CURVES = "forecast_evaluation.json", "forecast_curves.json"
COMING = "forecast_coming.json"

Count = Annotated[int, Field(ge=0)]


class Saved(BaseModel):
    """A part of a file; keys that are not named here are left to newer versions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


T = TypeVar("T", bound=Saved)
C = TypeVar("C")


class Overview(Saved):
    """``overview.json``."""

    title: str
    task: str
    data: str
    instances: Count
    features: Count
    classes: tuple[str, ...]
    labelled: Count
    held_out: Count
    edges: Count
    encoder: str
    diffusivity: tuple[str, ...]
    seconds: float
    command: str | None = None
    notes: tuple[str, ...] = ()
    steps: Count | None = None  # of a series, and the next ones:
    first: str | None = None
    last: str | None = None
    lags: Count | None = None
    horizon: Count | None = None
    season: Count | None = None


class Evaluation(Saved):
    """``evaluation.json``; rows of the confusion matrix are true classes."""

    how: str
    count: Count
    metrics: dict[str, float | None]
    classes: tuple[str, ...]
    confusion: tuple[tuple[Count, ...], ...]

    @model_validator(mode="after")
    def _share(self) -> Self:
        accuracy = self.metrics.get("accuracy")
        if accuracy is not None and not 0 <= accuracy <= 1:
            raise ValueError(f"the accuracy must be a share, found {accuracy}")
        return self

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.classes)
        if [len(row) for row in self.confusion] != [size] * size:
            raise ValueError(f"the confusion matrix must be {size} x {size}, as there are classes")
        return self


class ForecastMethod(Saved):
    """One method of ``forecast_evaluation.json``: errors at each step ahead, None unknown."""

    method: str
    mae: tuple[float | None, ...]
    rmse: tuple[float | None, ...]


class Coverage(Saved):
    """How often intervals of a level held the truth, at each step ahead."""

    level: float
    shares: tuple[float | None, ...]


class ForecastEvaluation(Saved):
    """``forecast_evaluation.json``; the first method is ours."""

    how: str
    steps: Count
    methods: tuple[ForecastMethod, ...] = Field(min_length=1)
    coverage: tuple[Coverage, ...]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        rows = [row for m in self.methods for row in (m.mae, m.rmse)]
        rows += [c.shares for c in self.coverage]
        if not self.steps or {len(row) for row in rows} != {self.steps}:
            raise ValueError(f"each row must have {self.steps} steps")
        return self


class Curve(Saved):
    """Truth and forecasts of a node; bounds are empty where there are none."""

    node: str
    ahead: Count
    times: tuple[str, ...]
    truth: tuple[float | None, ...]
    forecast: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]

    @model_validator(mode="after")
    def _long(self) -> Self:
        bounds = [row for row in (self.lower, self.upper) if row]
        if any(len(row) != len(self.times) for row in (self.truth, self.forecast, *bounds)):
            raise ValueError(f"each row must have {len(self.times)} times")
        return self


class ComingCurve(Saved):
    """The last values of a node and what is forecast to follow; bounds are empty without any."""

    node: str
    times: tuple[str, ...]
    values: tuple[float | None, ...]
    coming: tuple[str, ...]
    forecast: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    upper: tuple[float | None, ...]

    @model_validator(mode="after")
    def _long(self) -> Self:
        bounds = [row for row in (self.lower, self.upper) if row]
        if len(self.values) != len(self.times) or any(
            len(row) != len(self.coming) for row in (self.forecast, *bounds)
        ):
            raise ValueError("values and forecasts must have a time each")
        return self


class Coming(Saved):
    """``forecast_coming.json``; intervals are of 95 %."""

    curves: tuple[ComingCurve, ...]


class Curves(Saved):
    """``forecast_curves.json``."""

    level: float | None
    dated: bool
    curves: tuple[Curve, ...]


class MethodRow(Saved):
    """One method of ``comparison.json``; accuracies and differences are fractions."""

    method: str
    mean: float | None = None
    std: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None


class Comparison(Saved):
    """``comparison.json``; differences are a method less the reference, paired by split."""

    rows: tuple[MethodRow, ...]
    reference: str
    splits: tuple[str, ...]


class Term(Saved):
    """One diffusivity of one step; ``lambda_star`` None is infinite, ``contrast`` None unknown."""

    name: str
    share: float
    regulariser: float | None
    regulariser_moved: float | None
    d_min: float | None
    lambda_star: float | None
    contrast: float | None


class Step(Saved):
    """One diffusion step."""

    step: Count
    move: float | None
    step_size: float
    terms: tuple[Term, ...]


class Trace(Saved):
    """``trace.json``."""

    broken_conditions: tuple[str, ...]
    steps: tuple[Step, ...]

    @model_validator(mode="after")
    def _same_terms(self) -> Self:
        if len({tuple(term.name for term in step.terms) for step in self.steps}) > 1:
            raise ValueError("all steps must have the same terms")
        return self


def read_saved(kind: type[T], path: Path) -> T | None:
    """Read one of the files above.

    Returns:
        Its content, or None if there is no such file.

    Raises:
        RunError: The file cannot be read, is no JSON, or lacks what the report needs.
    """
    return _read(kind.model_validate_json, path)


def read_object(path: Path) -> dict[str, JsonValue] | None:
    """Read any JSON object; None if there is no such file, a ``RunError`` if it is damaged."""
    return _read(TypeAdapter(dict[str, JsonValue]).validate_json, path)


def _read(parse: Callable[[bytes], C], path: Path) -> C | None:
    if not path.exists():
        return None
    with explained(path, verb="read"):
        content = path.read_bytes()
    try:
        return parse(content)
    except ValidationError as error:
        raise RunError(f"{path} is damaged: {_first_problem(error)}.") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else problem["msg"]
