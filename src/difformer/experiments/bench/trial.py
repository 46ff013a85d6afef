"""One case, in the process that runs it: inputs, encoder and the step that is timed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from difformer import process
from difformer.diffusion import Neighbourhood
from difformer.experiments.bench.cases import (
    CHANNELS,
    FEATURES,
    MEAN_DEGREE,
    NEIGHBOURS,
    OUTPUTS,
    Method,
)
from difformer.experiments.bench.limit import wait
from difformer.experiments.bench.peers import peer
from difformer.experiments.bench.published import PublishedEncoder
from difformer.nn import DIFFormer
from difformer.nn.official import official_options
from difformer.training.randomness import seeded

LEARNING_RATE = 1e-3
SHORT = 2.0  # seconds; a step that is shorter finds in the caches what the one before left


@dataclass(frozen=True, eq=False)
class Inputs:
    """Shapes: x (N, FEATURES), target (N,), edge_index (2, E) or None."""

    x: Tensor
    target: Tensor
    edge_index: Tensor | None


def make_inputs(rows: int, graph: bool, seed: int, device: str = "cpu", latent: int = 0) -> Inputs:
    """Standard normal features, uniform classes and, if asked, a uniform graph without loops.

    With ``latent`` the features are waves over so many uniform hidden coordinates.
    """
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=draw)
    if latent:
        hidden = torch.rand(rows, latent, generator=draw)
        x = torch.sin(3 * hidden @ torch.randn(latent, FEATURES, generator=draw) + x[0])
    x = x.to(device)
    target = torch.randint(OUTPUTS, (rows,), generator=draw).to(device)
    if not graph:
        return Inputs(x, target, None)
    source = torch.randint(rows, (rows * MEAN_DEGREE,), generator=draw)
    offset = torch.randint(1, rows, (rows * MEAN_DEGREE,), generator=draw)
    edges = torch.stack([source, offset.add_(source).remainder_(rows)])
    return Inputs(x, target, edges.to(device))


def make_encoder(method: Method, layers: int, seed: int) -> nn.Module:
    """The encoder of a method, with weights drawn from ``seed``; called with (x, edge_index).

    Raises:
        MissingExtraError: It is one of torch_geometric's, which is not installed.
    """
    build = {"ours": _ours, "published": _published, "peer": _peer}[method.family]
    with seeded(seed):
        return build(method, layers)


def _ours(method: Method, layers: int) -> nn.Module:
    if method.form == "official":
        options = official_options(
            in_channels=FEATURES,
            hidden_channels=CHANNELS,
            out_channels=OUTPUTS,
            num_layers=layers,
            kernel="simple",
            dropout=method.dropout,
            use_weight=False,
            use_graph=method.graph,
        )
        return DIFFormer(**options)
    term: Any = Neighbourhood(k=NEIGHBOURS) if method.form == "local" else method.form
    sizes = (FEATURES, CHANNELS, OUTPUTS, layers)
    return DIFFormer(*sizes, diffusivity=term, graph=method.graph, dropout=method.dropout)


def _published(method: Method, layers: int) -> nn.Module:
    return PublishedEncoder(FEATURES, CHANNELS, OUTPUTS, layers, method.form, method.dropout)


def _peer(method: Method, layers: int) -> nn.Module:
    return peer(method.form, layers)


class Trial:
    """A case ready to run; ``ready`` says what stood before the first step, ``step`` times one.

    Attributes:
        floor: bytes of the process with its libraries, before inputs and encoder.
        base: bytes with both.
        once: seconds of what is found once for all steps (the graph's operator, neighbours).
    """

    def __init__(self, method: Method, rows: int, layers: int, seed: int, device: str) -> None:
        self.device = device
        _load_libraries(device)
        self.floor = self._held()
        self.inputs = make_inputs(rows, method.graph, seed, device, method.latent)
        self.encoder = make_encoder(method, layers, seed).to(device).train()
        self.optimizer = torch.optim.Adam(self.encoder.parameters(), lr=LEARNING_RATE)
        self.base = self._held()
        self.once = self._timed(self._prepare)
        self._forget()
        torch.manual_seed(seed)  # this process is ours alone

    def _prepare(self) -> None:
        if isinstance(self.encoder, DIFFormer):  # which remembers it while the inputs are the same
            self.encoder.structure(self.inputs.x, self.inputs.edge_index)

    def step(self) -> dict[str, float]:
        """Seconds of one training step, and bytes held after it.

        In a training a step follows a step. Here others have had their turn since the last one: so
        a short step is taken twice, and the second one counts.
        """
        seconds = self._timed(self._step)
        if seconds < SHORT:
            seconds = self._timed(self._step)
        return {"seconds": seconds, "idle": float(self._idle())}

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self.encoder(self.inputs.x, self.inputs.edge_index)
        cross_entropy(outputs, self.inputs.target).backward()
        self.optimizer.step()

    def _timed(self, call: Callable[[], None]) -> float:
        wait(self.device)
        started = time.perf_counter()
        call()
        wait(self.device)
        return time.perf_counter() - started

    def peak(self) -> int:
        """Highest bytes held during the steps."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else process.peak()

    def _held(self) -> int:
        if self.device == "cuda":
            return torch.cuda.memory_allocated()
        return process.resident()

    def _idle(self) -> int:
        # A GPU's memory stays reserved between steps, for the next one.
        return torch.cuda.memory_reserved() if self.device == "cuda" else process.resident()

    def _forget(self) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            process.forget_peak()


def _load_libraries(device: str) -> None:
    """One step of next to nothing, so that what loads at the first use counts as the process."""
    tiny = nn.Linear(4, 4).to(device)
    optimizer = torch.optim.Adam(tiny.parameters())
    cross_entropy(
        tiny(torch.ones(4, 4, device=device)), torch.zeros(4, device=device).long()
    ).backward()
    optimizer.step()
