"""``config.json`` + ``model.safetensors``: a model as files that hold data only, and its card."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from difformer.diffusion import DIFFUSIVITIES, Diffusivity, Neighbourhood, Penalty
from difformer.diffusion.penalty import PLAIN, SCALED
from difformer.errors import ConfigError, DifformerError, RunError, one_of
from difformer.nn.card import CARD, model_card

if TYPE_CHECKING:
    from difformer.nn.encoder import DIFFormer

FORMAT = 1


def save_pretrained(model: "DIFFormer", folder: Path) -> None:
    """Write all files; the configuration first, so that a broken write is noticed."""
    config = {**model.config, "diffusivity": describe(model.config["diffusivity"])}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, "model": config}, indent=2, default=list)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")
        weights = save({name: t.contiguous() for name, t in model.state_dict().items()})
        (folder / "model.safetensors").write_bytes(weights)  # save_file would hide it from others
        (folder / CARD).write_text(_card(model, config), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder} could not be written: {error.strerror or error}.") from None


def _card(model: "DIFFormer", config: Mapping[str, Any]) -> str:
    names = ("in_channels", "hidden_channels", "out_channels", "num_layers", "heads", "diffusivity")
    facts = {name.replace("_", " "): config[name] for name in names}
    facts["parameters"] = sum(p.numel() for p in model.parameters())
    usage = (
        "from difformer import DIFFormer\n\n"
        'model = DIFFormer.from_pretrained("path/to/this/folder")\n'
        "model.eval()(x, edge_index)  # x: (N, in channels); edge_index: (2, E) or left out"
    )
    about = "Encodes a whole set of instances: their states diffuse towards one another."
    return model_card("DIFFormer", None, [about], facts, usage)


def load_pretrained(kind: type["DIFFormer"], folder: Path) -> "DIFFormer":
    """Build the model that ``config.json`` describes and load its weights."""
    config = read_config(folder / "config.json")
    weights = folder / "model.safetensors"
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise RunError(f"{weights} must be a safetensors file: {error}.") from None
    try:
        model = kind(**{**config, "diffusivity": restore(config["diffusivity"])})
        if floats := [t.dtype for t in state.values() if t.is_floating_point()]:
            model.to(floats[0])
        model.load_state_dict(state)
    except (DifformerError, TypeError, ValueError, LookupError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{folder} does not hold a model of this version: {reason}") from None
    return model


def read_config(path: Path) -> dict[str, Any]:
    """The ``model`` part of a config.json."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} must be a JSON file: {error}.") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise RunError(f"{path} must be of format {FORMAT}.")
    model = config.get("model")
    if not isinstance(model, dict) or "diffusivity" not in model:
        raise RunError(f"{path} must hold a table 'model' with a diffusivity.")
    return model


def describe(diffusivity: Any) -> Any:
    """A diffusivity as JSON: a name, a table, or a list of them.

    Raises:
        ConfigError: For a penalty made from a function, which no file can hold.

    Example:
        >>> from difformer.diffusion import welsch
        >>> describe(("simple", welsch(0.5)))
        ['simple', {'penalty': 'welsch', 'scale': 0.5}]
    """
    if isinstance(diffusivity, str):
        return diffusivity
    if isinstance(diffusivity, Penalty):
        return _describe_penalty(diffusivity)
    if isinstance(diffusivity, Neighbourhood):
        return {"neighbourhood": dataclasses.asdict(diffusivity)}
    if isinstance(diffusivity, Diffusivity):
        if diffusivity == DIFFUSIVITIES.get(diffusivity.name):
            return diffusivity.name
        rule = diffusivity.neighbours
        return {
            **_describe_penalty(diffusivity.penalty),
            "name": diffusivity.name,
            "support": diffusivity.support,
            "sphere": diffusivity.sphere,
            "neighbours": None if rule is None else dataclasses.asdict(rule),
        }
    if isinstance(diffusivity, Sequence):
        return [describe(term) for term in diffusivity]
    raise ConfigError(f"diffusivity {diffusivity!r} cannot be saved.")


def _describe_penalty(penalty: Penalty) -> dict[str, Any]:
    if penalty.name in SCALED and penalty.scale is not None:
        return {"penalty": penalty.name, "scale": penalty.scale}
    if penalty == PLAIN.get(penalty.name):
        return {"penalty": penalty.name, "scale": None}
    raise ConfigError(
        f"penalty {penalty.name!r} was made from a function and cannot be saved; "
        "use a named diffusivity for models that are to be kept."
    )


def restore(described: Any) -> Any:
    """The reverse of :func:`describe`."""
    if isinstance(described, str):
        return described
    if isinstance(described, list):
        return tuple(restore(term) for term in described)
    if not isinstance(described, dict):
        raise ConfigError(f"diffusivity must be a name, a table or a list, found {described!r}.")
    if "neighbourhood" in described:
        return Neighbourhood(**described["neighbourhood"])
    name, scale = described["penalty"], described["scale"]
    known = PLAIN if scale is None else SCALED
    one_of(name, known, "penalty")
    penalty = PLAIN[name] if scale is None else SCALED[name](scale)
    if "support" not in described:
        return penalty
    rule = described["neighbours"]
    return Diffusivity(
        described["name"],
        penalty,
        described["support"],
        described["sphere"],
        None if rule is None else Neighbourhood(**rule),
    )
