"""The random stream of one training: seeded, saved and restored, without touching the caller's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def seeded(seed: int, model: nn.Module | None = None) -> Iterator[None]:
    """Run the block on a random stream of its own; the global one is as before afterwards.

    Dropout and initial weights draw from torch's global generators, so these are forked: that of
    the CPU, and those of the CUDA devices that hold parameters of ``model``, if one is given.
    """
    devices = [] if model is None else _cuda_devices(model)
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would seed every device, also those that are not forked
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


def capture_random_state(model: nn.Module) -> dict[str, Tensor]:
    """The generators' states by device name, uint8."""
    states = {"cpu": torch.get_rng_state()}
    return states | {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in _cuda_devices(model)}


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Undo ``capture_random_state``; call it inside ``seeded`` only."""
    for name, state in states.items():
        if name == "cpu":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, name)


def _cuda_devices(model: nn.Module) -> list[int]:
    devices = {parameter.device for parameter in model.parameters()}
    return sorted(d.index or 0 for d in devices if d.type == "cuda")
