"""A fitted forecaster as files: safetensors and JSON in a run directory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from difformer.data.windows import Floats
from difformer.diffusion import SparseWeights
from difformer.diffusion.graph import sparse_weights
from difformer.errors import RunError
from difformer.estimators.forecasting.decoupled import LinearForecast, Setting
from difformer.estimators.forecasting.inputs import terms_of
from difformer.estimators.forecasting.intervals import Conformal
from difformer.estimators.forecasting.states import Design
from difformer.estimators.forecasting.trained import ForecastNetwork, TrainedForecast
from difformer.estimators.forecasting.units import Season, Units
from difformer.estimators.saving import finished_run, of_this_version
from difformer.nn.card import CARD, model_card
from difformer.nn.pretrained import describe, restore
from difformer.runs import RunDirectory, atomic
from difformer.runs.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from difformer.estimators.forecaster import DIFFormerForecaster

Forecaster = TypeVar("Forecaster", bound="DIFFormerForecaster")
FORMAT = 1
ESTIMATOR, STATE = "forecaster.json", "forecaster.safetensors"


def save_forecaster(model: "DIFFormerForecaster", folder: Path) -> None:
    """Make a finished run directory of a fitted forecaster."""
    described(model)  # what no file can hold is refused before there is a folder
    run = RunDirectory.create(folder, {"estimator": type(model).__name__})
    for record in model.history_:
        run.append_metrics(record)
    write_forecaster(model, run)
    run.finish({"epochs": len(model.history_)})


def write_forecaster(model: "DIFFormerForecaster", run: RunDirectory) -> None:
    """Add the files of a fitted forecaster to a run that is not finished yet."""
    fitted = model.model_
    run.write_model(fitted.network.state_dict() if isinstance(fitted, TrainedForecast) else {})
    save_tensors(run.path / STATE, _tensors(model))
    run.write_json(ESTIMATOR, described(model))
    run.write_text(CARD, _card(model))


def _linear(model: "DIFFormerForecaster") -> LinearForecast:
    fitted = model.model_
    return fitted.linear if isinstance(fitted, TrainedForecast) else fitted


def described(model: "DIFFormerForecaster") -> dict[str, Any]:
    """All but the tensors, as JSON holds it."""
    parameters = model.get_params(deep=False)
    if parameters["diffusivity"] is not None:
        parameters["diffusivity"] = describe(parameters["diffusivity"])
    linear, fitted = _linear(model), model.model_
    network = None
    if isinstance(fitted, TrainedForecast):
        config = dict(fitted.network.config)
        config["diffusivity"] = describe(config["diffusivity"])
        network = {"config": config, "size": fitted.size}
    return {
        "format": FORMAT,
        "estimator": type(model).__name__,
        "parameters": parameters,
        "nodes": [name.item() if isinstance(name, np.generic) else name for name in model.nodes_],
        "flat": model._flat,
        "steps": model._steps,
        "covariates": model._covariates,
        "encoder": model.encoder_,
        "decisions": model.decisions_,
        "transform": linear.units.transform,
        "operators": list(linear.design.operators),
        "network": network,
    }


def _tensors(model: "DIFFormerForecaster") -> dict[str, Tensor]:
    linear, found = _linear(model), {"last": model._last}
    found |= {"weights": linear.weights, "noise": linear.noise}
    found |= {"units.centre": linear.units.centre, "units.spread": linear.units.spread}
    if linear.season is not None:
        found |= {"season.sums": linear.season.sums, "season.counts": linear.season.counts}
        assert linear.reach is not None
        found |= {"season.reach": linear.reach}
    if model._covariate_scale is not None:
        names = ("covariates.centre", "covariates.spread")
        found |= dict(zip(names, model._covariate_scale, strict=True))
    if model._conformal is not None:
        found |= {f"conformal.{k}": v for k, v in vars(model._conformal).items()}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in found.items()}
    for name, weights in linear.design.operators.items():
        pattern = weights.pattern
        tensors |= {f"operator.{name}.pairs": torch.stack([pattern.row, pattern.col])}
        tensors |= {f"operator.{name}.values": weights.values}
    graphs = {"graph": model._last_graph[0] if model._last_graph else None}
    graphs["like"] = model.model_.graph if isinstance(model.model_, TrainedForecast) else None
    for name, graph in graphs.items():
        if graph is not None:
            tensors |= {f"{name}.edge_index": graph[0]}
            tensors |= {} if graph[1] is None else {f"{name}.edge_weight": graph[1]}
    return tensors


def _card(model: "DIFFormerForecaster") -> str:
    name = type(model).__name__
    facts = {
        "nodes": len(model.nodes_),
        "fitted steps": model._steps,
        "lags": model.lags,
        "horizon": model.horizon,
        "encoder": model.encoder_,
        "transform": _linear(model).units.transform,
        "season": model.season,
        "with a graph": bool(model._last_graph),
    }
    about = [
        "Forecasts series of nodes that influence each other: the last values of every node "
        "diffuse towards those of the others, and a readout listens.",
        f"**The files hold the fitted series** (`{STATE}`) and, where there was one, its last "
        "graph: pass them on as you would pass on the data.",
    ]
    usage = (
        f"from difformer import {name}\n\n"
        f'model = {name}.load("path/to/this/folder")\n'
        "model.predict()  # the next steps; model.predict(history) after other values"
    )
    return model_card(name, "time-series-forecasting", about, facts, usage)


def load_forecaster(kind: type[Forecaster], folder: Path) -> Forecaster:
    """Restore a fitted forecaster from a run directory.

    Raises:
        RunError: If a file is missing, damaged, not of this version, or of another estimator.
    """
    run = finished_run(folder)
    if not (folder / ESTIMATOR).is_file():
        raise RunError(f"{folder} must hold a {kind.__name__}, found no {ESTIMATOR}.")
    saved = atomic.read_json(folder / ESTIMATOR)
    if saved.get("format") != FORMAT or saved.get("estimator") != kind.__name__:
        raise RunError(f"{folder / ESTIMATOR} must be a {kind.__name__} of format {FORMAT}.")
    with of_this_version(folder):
        return _restored(kind, saved, load_tensors(folder / STATE), run)


def _restored(
    kind: type[Forecaster], saved: dict[str, Any], tensors: dict[str, Tensor], run: RunDirectory
) -> Forecaster:
    parameters = dict(saved["parameters"])
    if parameters["diffusivity"] is not None:
        parameters["diffusivity"] = restore(parameters["diffusivity"])
    model = kind(**parameters)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    model.nodes_, model._flat, model._steps = saved["nodes"], saved["flat"], saved["steps"]
    model._covariates, model.encoder_ = saved["covariates"], saved["encoder"]
    model.decisions_, model._last = saved["decisions"], arrays["last"]
    model.history_ = run.read_metrics() if run.metrics.is_file() else []
    graph = _graph(tensors, "graph")
    model._last_graph = () if graph is None else (graph,)
    model._conformal = (
        Conformal(*(arrays[f"conformal.{name}"] for name in ("scale", "scores", "count")))
        if "conformal.scale" in arrays
        else None
    )
    model._covariate_scale = None
    if "covariates.centre" in arrays:
        model._covariate_scale = arrays["covariates.centre"], arrays["covariates.spread"]
    linear = _restored_linear(model, saved, arrays, tensors)
    model.model_ = linear
    if saved["network"] is not None:
        config = dict(saved["network"]["config"])
        network = ForecastNetwork(**{**config, "diffusivity": restore(config["diffusivity"])})
        network.load_state_dict(run.read_model())
        network.eval()
        size = saved["network"]["size"]
        model.model_ = TrainedForecast(linear, network, _graph(tensors, "like"), size)
    return model


def _restored_linear(
    model: "DIFFormerForecaster",
    saved: dict[str, Any],
    arrays: dict[str, Floats],
    tensors: dict[str, Tensor],
) -> LinearForecast:
    nodes = len(model.nodes_)
    terms = terms_of(model.diffusivity, nodes, bool(model._last_graph))
    setting = Setting(model.lags, model.horizon, terms, model.transform, model.season)
    design = Design(terms, model.lags, model.horizon, None)
    design.operators = {name: _operator(tensors, name, nodes) for name in saved["operators"]}
    units = Units(saved["transform"], arrays["units.centre"], arrays["units.spread"])
    season = None
    if model.season is not None:
        season = Season(arrays["season.sums"], arrays["season.counts"])
    reach = arrays.get("season.reach")
    weights, noise = arrays["weights"], arrays["noise"]
    return LinearForecast(setting, units, season, design, weights, noise, reach)


def _operator(tensors: dict[str, Tensor], name: str, nodes: int) -> SparseWeights:
    row, col = tensors[f"operator.{name}.pairs"]
    return sparse_weights(row, col, tensors[f"operator.{name}.values"], nodes, nodes)


def _graph(tensors: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor | None] | None:
    if f"{name}.edge_index" not in tensors:
        return None
    return tensors[f"{name}.edge_index"], tensors.get(f"{name}.edge_weight")
