"""An optimizer's ``state_dict`` as tensors for safetensors and scalars for JSON, and back.

torch keeps it as ``{"state": {0: {"step": ..., "exp_avg": ...}}, "param_groups": [{...}]}``.
Tensors are named ``<parameter>.<entry>``; JSON keeps the rest. JSON knows neither integer keys nor
tuples, so both are made again on the way back.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from difformer.errors import RunError


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Split ``optimizer.state_dict()``.

    Returns:
        The tensors by flat name, and what is left as a JSON object.

    Raises:
        RunError: A group holds something that JSON cannot hold, such as a learning rate tensor.
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, object]] = {}
    for index, entries in state["state"].items():
        scalars[str(index)] = {k: v for k, v in entries.items() if not isinstance(v, Tensor)}
        tensors |= {f"{index}.{k}": v for k, v in entries.items() if isinstance(v, Tensor)}
    groups = [_checked(group) for group in state["param_groups"]]
    return tensors, {"state": scalars, "param_groups": groups}


def restore_optimizer(
    tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
) -> dict[str, object]:
    """Undo ``flatten_optimizer``: the argument of ``optimizer.load_state_dict``."""
    state: dict[int, dict[str, object]] = {
        int(index): dict(entries) for index, entries in scalars["state"].items()
    }
    for name, tensor in tensors.items():
        index, _, entry = name.partition(".")
        state[int(index)][entry] = tensor
    return {"state": state, "param_groups": [_with_tuples(g) for g in scalars["param_groups"]]}


def _checked(group: Mapping[str, object]) -> dict[str, object]:
    for name, value in group.items():
        if not isinstance(value, (bool, int, float, str, list, tuple, type(None))):
            kind = type(value).__name__
            raise RunError(f"Cannot save the optimizer: its setting {name!r} is a {kind}.")
    return dict(group)


def _with_tuples(group: Mapping[str, object]) -> dict[str, object]:
    return {
        name: tuple(value) if isinstance(value, list) and name != "params" else value
        for name, value in group.items()
    }
