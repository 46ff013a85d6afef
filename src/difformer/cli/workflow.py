"""From a request to a finished run directory: the one path behind ``fit`` and ``demo``."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from difformer.cli.evaluation import class_positions, describe, judge
from difformer.cli.saved import EVALUATION, SCHEMA
from difformer.cli.screen import console, interruptible, paths, progress_line, say
from difformer.cli.tables import prediction_table, write_predictions
from difformer.data import datasets
from difformer.data.instances import Instances
from difformer.data.splits import hold_out, per_class
from difformer.data.tables import TableSchema, load_table
from difformer.errors import ConfigError, DataError
from difformer.estimators import DIFFormerClassifier
from difformer.estimators.base import DEFAULT_TRAINING
from difformer.estimators.saving import write_fitted
from difformer.nn.trace import Trace
from difformer.runs import RunDirectory, atomic
from difformer.runs.checkpoint import list_checkpoints
from difformer.runs.directory import CONFIG
from difformer.training.config import TrainingConfig, load_config

if TYPE_CHECKING:
    from difformer.experiments.comparison import Case

HELD_OUT = 0.2
MOST_LINES = 30


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    data: str
    edges: Path | None = None
    target: str | None = None
    id_column: str | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    directed: bool = False
    encoder: str = "auto"
    diffusivity: tuple[str, ...] = ()
    config: Path | None = None
    settings: tuple[str, ...] = ()
    labels_per_class: int | None = None
    split_seed: int = 0
    seed: int = 0
    compare: bool = False
    compare_splits: int = 1
    out: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Prepared:
    """Instances, the labels that may be seen, and how the others are used."""

    instances: Instances
    schema: TableSchema | None
    truth: NDArray[np.int64]  # (N,), -1 unknown to everybody
    visible: NDArray[np.int64]  # (N,), -1 hidden or unknown
    how: str

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Rows with a label that is hidden from the fit, (N,)."""
        return (self.truth >= 0) & (self.visible < 0)


def fit_and_report(request: Request) -> Path:
    """Do all of it, or end with one sentence at Ctrl-C; returns the run's folder.

    Raises:
        DifformerError: Before anything is written, if the input cannot be used.
    """
    with interruptible():
        return _fit_and_report(request)


def _fit_and_report(request: Request) -> Path:
    started = time.perf_counter()
    prepared = prepare(request)
    model = build(request)
    cases = _cases(prepared, request) if request.compare else []
    configuration = _configuration(request, model)
    folder = request.out or free_folder(request.data, configuration)
    atomic.check_output(folder)
    screen = console()
    say(_about(prepared, request), screen)
    run = RunDirectory.create(folder, configuration, overwrite=request.overwrite)
    if started_before := list_checkpoints(run.checkpoints):
        say([f"Taking up the unfinished run {folder} at {started_before[-1].name}."], screen)
    data = prepared.instances
    labels = np.array([*data.classes, ""], dtype=object)[prepared.visible]
    labels[prepared.visible < 0] = None
    model.fit(data.x, labels, data.edge_index, data.edge_weight, run=run)
    say(model.decisions_, screen)
    seconds = time.perf_counter() - started
    overview = write_results(run, prepared, model, request, seconds)
    if cases:
        _compare(run, cases, request)
    from difformer.report import write_report  # plotly takes a while to load

    write_report(run)
    run.finish(overview)
    _close(run)
    return folder


def prepare(request: Request) -> Prepared:
    """Read the data and decide which labels may be seen."""
    instances, schema = _read(request)
    if instances.y is None:
        raise ConfigError(f"--target must name the column of the labels in {request.data}.")
    truth = instances.y
    if request.labels_per_class is not None:
        split = per_class(truth, request.labels_per_class, request.split_seed)
        visible = np.where(split.train, truth, -1)
        how = (
            f"the labelled rows that were hidden: {request.labels_per_class} labels a class were "
            f"shown (split seed {request.split_seed})."
        )
        return Prepared(instances, schema, truth, visible, how)
    if (truth >= 0).all():
        hidden = hold_out(truth, HELD_OUT, request.split_seed)
        how = (
            f"{HELD_OUT:.0%} of the rows, held out because every row is labelled "
            f"(split seed {request.split_seed})."
        )
        return Prepared(instances, schema, truth, np.where(hidden, -1, truth), how)
    return Prepared(instances, schema, truth, truth, "")


def _read(request: Request) -> tuple[Instances, TableSchema | None]:
    if not Path(request.data).exists() and request.data in datasets.DATASETS:
        if request.edges is not None or request.target is not None:
            raise ConfigError("--edges and --target are for tables; a data set brings its own.")
        return datasets.load(request.data), None
    if not Path(request.data).exists() and not Path(request.data).suffix:
        raise DataError(
            f"{request.data} is neither a file nor a data set; 'difformer datasets' lists those."
        )
    return load_table(
        request.data,
        request.target,
        request.id_column,
        request.categorical,
        request.edges,
        request.directed,
        drop=request.drop,
    )


def build(request: Request) -> DIFFormerClassifier:
    """The classifier that was asked for; its settings are checked here."""
    if request.encoder not in DEFAULT_TRAINING:
        raise ConfigError(
            f"--encoder must be one of {', '.join(DEFAULT_TRAINING)}, found {request.encoder!r}."
        )
    defaults = [f"{key}={value}" for key, value in DEFAULT_TRAINING[request.encoder].items()]
    settings = load_config(request.config, (*_unless_in(request, defaults), *request.settings))
    training = {**_changed(settings), "seed": request.seed}
    model = DIFFormerClassifier(
        encoder=request.encoder,
        diffusivity=request.diffusivity or None,
        training=training,
        random_state=request.seed,
        verbose=True,
    )
    model.check_parameters()
    return model


def _unless_in(request: Request, defaults: list[str]) -> list[str]:
    """The encoder's own defaults, where no file says otherwise."""
    return [] if request.config is not None else defaults


def _changed(settings: TrainingConfig) -> dict[str, Any]:
    return {key: value for key, value in settings.model_dump().items() if key != "seed"}


def check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but an earlier run of the demo.

    Raises:
        ConfigError: If a run of other data lies there.
    """
    if not (folder / CONFIG).is_file():
        return
    request = RunDirectory.open(folder).config.get("request")
    if not isinstance(request, dict) or request.get("data") != "digits":
        raise ConfigError(f"{folder} holds another run; the demo needs a folder of its own.")


def free_folder(data: str, configuration: Mapping[str, object]) -> Path:
    """runs/NAME, or runs/NAME-2, ...: the first that is free, or that this run left unfinished."""
    stem = Path(data).stem or "run"
    candidate, number = Path("runs") / stem, 1
    while candidate.exists() and not RunDirectory.can_resume(candidate, configuration):
        number += 1
        candidate = Path("runs") / f"{stem}-{number}"
    return candidate


def _configuration(request: Request, model: DIFFormerClassifier) -> dict[str, object]:
    # Where it is written, and how its settings were spelled, do not make it another run.
    apart = ("overwrite", "out", "config", "settings")
    asked = {key: value for key, value in asdict(request).items() if key not in apart}
    return {"request": asked, "training": dict(model.training or {})}


def write_results(
    run: RunDirectory,
    prepared: Prepared,
    model: DIFFormerClassifier,
    request: Request,
    seconds: float,
) -> dict[str, Any]:
    """Everything that can be said of the fitted model, as files of the run; the overview."""
    data = prepared.instances
    assert data.ids is not None
    write_fitted(model, run)
    schema = None if prepared.schema is None else prepared.schema.to_json()
    run.write_json(SCHEMA, {"table": schema, "ids": list(data.ids)})
    names = [data.classes[k] if k >= 0 else "" for k in prepared.visible]
    table = prediction_table(data.ids, model.classes_, model.label_distributions_, names)
    write_predictions(run.path / "predictions.csv", [table])
    with atomic.atomic_file(run.path / "embedding.npy") as draft:
        np.save(draft, model.embedding_.astype(np.float32), allow_pickle=False)
    trace = model.trace(prepared.truth)
    run.write_json("trace.json", trace_to_json(trace))
    overview = _overview(prepared, model, request, trace, seconds)
    run.write_json("overview.json", overview)
    rows = prepared.judged
    if rows.any():
        order = class_positions(data.classes, model.classes_)
        run.write_json(
            EVALUATION,
            judge(
                f"{int(rows.sum())} rows: {prepared.how}",
                order[prepared.truth[rows]],
                model.label_distributions_[rows],
                model.classes_,
            ),
        )
    return overview


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """Energy parts of each step; infinite and unknown values become null."""
    steps = []
    for number, step in enumerate(trace.steps, start=1):
        terms = [
            {key: _finite(value) for key, value in asdict(term).items()} for term in step.terms
        ]
        steps.append(
            {"step": number, "move": step.move, "step_size": step.step_size, "terms": terms}
        )
    return {"broken_conditions": list(trace.broken_conditions), "steps": steps}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _overview(
    prepared: Prepared,
    model: DIFFormerClassifier,
    request: Request,
    trace: Trace,
    seconds: float,
) -> dict[str, Any]:
    data = prepared.instances
    terms = trace.steps[0].terms if trace.steps else ()
    return {
        "title": f"{request.target or 'Class'} of {Path(request.data).name}",
        "task": "classification",
        "data": request.data,
        "instances": data.num_instances,
        "features": data.num_features,
        "classes": [str(name) for name in model.classes_],
        "labelled": int((prepared.visible >= 0).sum()),
        "held_out": int(prepared.judged.sum()),
        "edges": 0 if data.edge_index is None else int(data.edge_index.shape[1]),
        "encoder": model.engine_.name,
        "diffusivity": [term.name for term in terms],
        "epochs": model.n_iter_,
        "seconds": round(seconds, 3),
        "notes": [*(prepared.schema.decisions if prepared.schema else ()), *model.decisions_],
    }


def _cases(prepared: Prepared, request: Request) -> "list[Case]":
    """The splits to compare on."""
    from difformer.experiments import showdown

    data, first = prepared.instances, request.split_seed
    seeds = range(first, first + request.compare_splits)
    if request.labels_per_class is not None:
        return showdown.drawn_cases(data, request.labels_per_class, seeds)
    if prepared.judged.any():
        return showdown.held_out_cases(data, HELD_OUT, seeds)
    return showdown.folded_cases(data, first)


def _compare(run: RunDirectory, cases: "list[Case]", request: Request) -> None:
    """Print the table beside the classics and keep it in the run."""
    from difformer.experiments import showdown
    from difformer.experiments.comparison import render

    screen = console()
    splits = "one split" if len(cases) == 1 else f"{len(cases)} splits"
    say([f"Comparing with other methods on {splits} ..."], screen)
    with progress_line(screen) as show:
        result = showdown.showdown(cases, range(len(cases)), _asked(request), show)
    run.write_json("comparison.json", result.as_dict())
    screen.print(render(result))


def _asked(request: Request) -> dict[str, Any] | None:
    """Parameters that differ from the default, if any do."""
    if request.encoder == "auto" and not request.diffusivity:
        return None
    return {"encoder": request.encoder, "diffusivity": request.diffusivity or None}


def _about(prepared: Prepared, request: Request) -> list[str]:
    data, lines = prepared.instances, []
    if prepared.schema is not None:
        told = prepared.schema.decisions
        lines += [f"  {sentence}" for sentence in told[:MOST_LINES]]
        if len(told) > MOST_LINES:
            lines.append(f"  ... and {len(told) - MOST_LINES} more, all in {SCHEMA} of the run.")
    edges = "no graph" if data.edge_index is None else f"{data.edge_index.shape[1]} directed edges"
    shown = int((prepared.visible >= 0).sum())
    lines.append(
        f"{request.data}: {data.num_instances} instances, {data.num_features} features, "
        f"{data.num_classes} classes, {shown} labels shown, {edges}."
    )
    if prepared.judged.any():
        lines.append(f"Judged on {int(prepared.judged.sum())} rows: {prepared.how}")
    return lines


def _close(run: RunDirectory) -> None:
    """Say how good it is and where it lies."""
    lines = []
    if not (run.path / EVALUATION).is_file():
        lines.append(
            "How good this is cannot be told without hidden labels: "
            "--compare or --labels-per-class N would say."
        )
    else:
        lines += describe(atomic.read_json(run.path / EVALUATION))
    lines.append("Written:")
    lines += paths(run.path, ("predictions.csv", "report.html"))
    say(lines)
