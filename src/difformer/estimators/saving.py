"""A fitted estimator as files: weights and context as safetensors, the rest as JSON."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from difformer.errors import DifformerError, RunError
from difformer.estimators.known import KnownRows
from difformer.estimators.names import Names
from difformer.nn.card import CARD, model_card
from difformer.nn.pretrained import describe, restore
from difformer.runs import RunDirectory, atomic
from difformer.runs.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from difformer.estimators.base import DIFFormerEstimator

Estimator = TypeVar("Estimator", bound="DIFFormerEstimator")
FORMAT = 2
ESTIMATOR = "estimator.json"
CONTEXT = "context.safetensors"


def save_fitted(model: "DIFFormerEstimator", folder: Path) -> None:
    """Make a finished run directory of a fitted estimator."""
    described(model)  # what no file can hold is refused before there is a folder
    run = RunDirectory.create(folder, {"estimator": type(model).__name__})
    for record in model.history_:
        run.append_metrics(record)
    write_fitted(model, run)
    run.finish({"epochs": model.n_iter_})


def write_fitted(model: "DIFFormerEstimator", run: RunDirectory) -> None:
    """Add the files of a fitted estimator to a run that is not finished yet."""
    weights, context = model.engine_.tensors()
    known = {name: torch.from_numpy(part) for name, part in model._known.arrays().items()}
    run.write_model(weights)
    save_tensors(run.path / CONTEXT, context | known)
    run.write_json(ESTIMATOR, described(model))
    run.write_text(CARD, card(model))


def card(model: "DIFFormerEstimator") -> str:
    """The model card, Markdown."""
    name, engine = type(model).__name__, model.engine_
    described = engine.describe()
    edges = engine.context.edge_index
    facts = {
        "features": model.n_features_in_,
        "fitted rows": len(model.embedding_),
        "of them labelled": int(engine.target.known.sum()),
        "edges among them": None if edges is None else int(edges.shape[1]),
        "target": described["target"]["kind"],
        "encoder": engine.name,
        **_unusual(engine.model, described["model" if "model" in described else "options"]),
        **({"adjacency": True} if described.get("adjacency") else {}),
        "epochs": model.n_iter_,
    }
    usage = (
        f"from difformer import {name}\n\n"
        f'model = {name}.load("path/to/this/folder")\n'
        f"model.{model._answering}(X)  # X: (rows, {model.n_features_in_})"
    )
    about = [
        "Answers for rows from the rows it was fitted on: a new row moves towards the fitted ones "
        "and changes none of them.",
        f"**The files hold the features of the fitted rows** (`{CONTEXT}`), what was known of them "
        "and, where there were any, their edges and names: pass them on as you would pass on the "
        "data.",
    ]
    return model_card(name, model._task, about, {k: _plain(v) for k, v in facts.items()}, usage)


def _unusual(model: object, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The diffusivity, and settings that are not the defaults of the model's class."""
    usual = {name: p.default for name, p in inspect.signature(type(model)).parameters.items()}
    return {
        name.replace("_", " "): value
        for name, value in settings.items()
        if name == "diffusivity" or name not in usual or _plain(usual[name]) != _plain(value)
    }


def described(model: "DIFFormerEstimator") -> dict[str, Any]:
    """All but the tensors, as JSON holds it.

    Raises:
        ConfigError: For a parameter that no file can hold, such as a penalty made from a function.
    """
    names = model._names
    saved = {
        "format": FORMAT,
        "estimator": type(model).__name__,
        "parameters": _described_parameters(model.get_params(deep=False)),
        "own": model._own_state(),
        "n_features_in": model.n_features_in_,
        "feature_names": getattr(model, "feature_names_in_", np.array([])).tolist(),
        "node_id": None if names is None else names.names.tolist(),
        "n_edges_left_out": model.n_edges_left_out_,
        "n_iter": model.n_iter_,
        "encoder": model.engine_.name,
        "engine": model.engine_.describe(),
    }
    return {name: _plain(value) for name, value in saved.items()}


def _described_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    if parameters["diffusivity"] is not None:
        parameters["diffusivity"] = describe(parameters["diffusivity"])
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None  # a generator's state is not a parameter
    if isinstance(parameters.get("class_weight"), Mapping):  # its keys may be numbers
        parameters["class_weight"] = list(map(list, parameters["class_weight"].items()))
    return parameters


def _restored_parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    if parameters["diffusivity"] is not None:
        parameters["diffusivity"] = restore(parameters["diffusivity"])
    if isinstance(parameters.get("class_weight"), list):
        parameters["class_weight"] = dict(parameters["class_weight"])
    return parameters


def _plain(value: Any) -> Any:
    """Without numpy's numbers, which JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def load_fitted(kind: type[Estimator], folder: Path) -> Estimator:
    """Restore a fitted estimator from a run directory.

    Raises:
        RunError: If a file is missing, damaged, not of this version, or of another estimator.
    """
    run = finished_run(folder)
    saved = atomic.read_json(folder / ESTIMATOR)
    if saved.get("format") != FORMAT:
        raise RunError(f"{folder / ESTIMATOR} must be of format {FORMAT}.")
    if saved.get("estimator") != kind.__name__:
        raise RunError(f"{folder} must hold a {kind.__name__}, found a {saved.get('estimator')}.")
    with of_this_version(folder):
        return _restored(kind, saved, run)


def finished_run(folder: Path) -> RunDirectory:
    """A run whose files are all there and as they were written.

    Raises:
        RunError: If it is missing, unfinished or damaged.
    """
    run = RunDirectory.open(folder)
    if not run.is_finished:
        raise RunError(f"{folder} holds an unfinished run; finish it with the same command first.")
    run.verify()
    return run


@contextmanager
def of_this_version(folder: Path) -> Iterator[None]:
    """Whatever goes wrong while a model is put together again: one sentence."""
    try:
        yield
    except DifformerError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{folder} does not hold a model of this version: {reason}") from None


def _restored(kind: type[Estimator], saved: dict[str, Any], run: RunDirectory) -> Estimator:
    from difformer.estimators.base import ENGINES

    model = kind(**_restored_parameters(dict(saved["parameters"])))
    model._restore_own(saved["own"])
    model.n_features_in_ = int(saved["n_features_in"])
    if saved.get("feature_names"):
        model.feature_names_in_ = np.array(saved["feature_names"], dtype=object)
    model._names = None if saved["node_id"] is None else Names(np.array(saved["node_id"]))
    model.n_edges_left_out_ = int(saved["n_edges_left_out"])
    context = load_tensors(run.path / CONTEXT)
    model._known = KnownRows.from_arrays({name: t.numpy() for name, t in context.items()})
    engine = ENGINES[saved.get("encoder", model.encoder)]
    model.engine_ = engine.restore(saved["engine"], run.read_model(), context)
    model.engine_.history = run.read_metrics() if run.metrics.is_file() else []
    model._remember()
    model.n_iter_ = int(saved["n_iter"])
    return model
