"""A fitted estimator as files: weights and context as safetensors, the rest as JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from difformer.errors import DifformerError, RunError
from difformer.estimators.known import KnownRows
from difformer.nn.pretrained import describe
from difformer.runs import RunDirectory, atomic
from difformer.runs.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from difformer.estimators.classifier import DIFFormerClassifier

FORMAT = 2
ESTIMATOR = "estimator.json"
CONTEXT = "context.safetensors"
KINDS = {"i": "numbers", "u": "numbers", "b": "truths"}
TYPES: dict[str, Any] = {"numbers": np.int64, "truths": np.bool_, "texts": np.str_}


def save_fitted(model: "DIFFormerClassifier", folder: Path) -> None:
    """Make a finished run directory of a fitted estimator."""
    described(model)  # what no file can hold is refused before there is a folder
    run = RunDirectory.create(folder, {"estimator": type(model).__name__})
    for record in model.history_:
        run.append_metrics(record)
    write_fitted(model, run)
    run.finish({"epochs": model.n_iter_})


def write_fitted(model: "DIFFormerClassifier", run: RunDirectory) -> None:
    """Add the files of a fitted estimator to a run that is not finished yet."""
    weights, context = model.engine_.tensors()
    known = model._known
    context |= {
        "known.prints": torch.from_numpy(known.prints.view(np.int64)),
        "known.columns": torch.from_numpy(known.columns),
        "known.glances": torch.from_numpy(known.glances.view(np.int64)),
    }
    run.write_model(weights)
    save_tensors(run.path / CONTEXT, context)
    run.write_json(ESTIMATOR, described(model))


def described(model: "DIFFormerClassifier") -> dict[str, Any]:
    """All but the tensors, as JSON holds it.

    Raises:
        ConfigError: For a parameter that no file can hold, such as a penalty made from a function.
    """
    parameters = model.get_params(deep=False)
    if parameters["diffusivity"] is not None:
        parameters["diffusivity"] = describe(parameters["diffusivity"])
    saved = {
        "format": FORMAT,
        "parameters": parameters,
        "classes": model.classes_.tolist(),
        "classes_are": KINDS.get(model.classes_.dtype.kind, "texts"),
        "n_features_in": model.n_features_in_,
        "feature_names": getattr(model, "feature_names_in_", np.array([])).tolist(),
        "n_iter": model.n_iter_,
        "engine": model.engine_.describe(),
    }
    return {name: _plain(value) for name, value in saved.items()}


def _plain(value: Any) -> Any:
    """Without numpy's numbers, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def load_fitted(kind: "type[DIFFormerClassifier]", folder: Path) -> "DIFFormerClassifier":
    """Restore a fitted estimator from a run directory.

    Raises:
        RunError: If a file is missing, damaged, or not of this version.
    """
    run = RunDirectory.open(folder)
    if not run.is_finished:
        raise RunError(f"{folder} holds an unfinished run; finish it with the same command first.")
    run.verify()
    saved = atomic.read_json(folder / ESTIMATOR)
    if saved.get("format") != FORMAT:
        raise RunError(f"{folder / ESTIMATOR} must be of format {FORMAT}.")
    try:
        return _restored(kind, saved, run)
    except DifformerError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{folder} does not hold a model of this version: {reason}") from None


def _restored(
    kind: "type[DIFFormerClassifier]", saved: dict[str, Any], run: RunDirectory
) -> "DIFFormerClassifier":
    from difformer.estimators.classifier import ENGINES
    from difformer.nn.pretrained import restore

    parameters = dict(saved["parameters"])
    if parameters["diffusivity"] is not None:
        parameters["diffusivity"] = restore(parameters["diffusivity"])
    model = kind(**parameters)
    model.classes_ = np.array(saved["classes"], dtype=TYPES[saved["classes_are"]])
    model.n_features_in_ = int(saved["n_features_in"])
    if saved.get("feature_names"):
        model.feature_names_in_ = np.array(saved["feature_names"], dtype=object)
    engine = ENGINES[model.encoder]
    context = load_tensors(run.path / CONTEXT)
    prints, columns, glances = (
        context[f"known.{n}"].numpy() for n in ("prints", "columns", "glances")
    )
    model._known = KnownRows(prints.view(np.uint64), columns, glances.view(np.uint64))
    model.engine_ = engine.restore(saved["engine"], run.read_model(), context)
    model.engine_.history = run.read_metrics() if run.metrics.is_file() else []
    model._set_results(context["y"].numpy())
    model.n_iter_ = int(saved["n_iter"])
    return model
