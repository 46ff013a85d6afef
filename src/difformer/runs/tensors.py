"""Named tensors on disk as safetensors: no code is stored, so none can run on loading."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from difformer.errors import RunError
from difformer.runs.atomic import write_bytes


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write dense tensors atomically; tensors that share memory are stored once each.

    Args:
        path: The file, usually ``*.safetensors``.
        tensors: Names and tensors, on any device.

    Raises:
        RunError: A value is no dense tensor, or the file cannot be written.

    Cost:
        Twice the size of the tensors in memory, for a moment.
    """
    plain = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    try:
        content = save(plain)  # save_file would make a file that its owner alone may read
    except SafetensorError as error:
        raise RunError(f"Cannot write {path}: {error}.") from error
    write_bytes(path, content)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file into the memory of the CPU.

    Raises:
        RunError: The file is missing or is not a whole safetensors file.
    """
    if not Path(path).is_file():
        raise RunError(f"Expected a safetensors file at {path}, found none.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"Expected a whole safetensors file at {path}: {error}.") from error


def _plain(name: str, tensor: object) -> Tensor:
    """A contiguous copy of its own on the CPU: safetensors refuses shared memory."""
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        found = tensor.layout if isinstance(tensor, Tensor) else type(tensor).__name__
        raise RunError(f"Expected {name!r} to be a dense tensor for saving, found {found}.")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
