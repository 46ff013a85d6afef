"""What a forecast listens to: windows of all nodes, and what they are after diffusing.

A window of a node is its state. One diffusion step moves it to the mean of the others' windows, by
rates that a diffusivity gives: the observed graph, neighbours among the past of the nodes, or all
pairs at each moment. The readout sees the states before and after, so it is a jump connection.

Letters: S steps, N nodes, F channels, L lags, H horizon, W windows, E edges, D columns, C = F L.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from difformer.data.windows import Floats, Windows
from difformer.diffusion import Diffusivity, Neighbourhood, SparseWeights, observed
from difformer.nn import DIFFormerConv
from difformer.nn.structure import found_neighbours

Edges: TypeAlias = tuple[Tensor, Tensor | None]  # (2, E) and (E,)
MOST_WAVES = 3  # harmonics of a season
CHUNK = 1 << 23  # numbers that a chunk of windows may hold in a term


@dataclass(frozen=True, eq=False)
class Past:
    """A series in the forecaster's unit, and what stands beside it.

    Attributes:
        values: (S, N, F), nothing missing.
        seasonal: What tells what is usual at each step, or None without a season.
        covariates: Known before the steps come, (S + H, N, K), or None.
        graphs: None, one for all steps, or one a step.
    """

    values: Floats
    seasonal: "Seasonal | None" = None
    covariates: Floats | None = None
    graphs: tuple[Edges, ...] = ()


@dataclass(frozen=True, eq=False)
class Seasonal:
    """Sums over all values of a step's phase, and which of them stand in a series.

    Attributes:
        period: Steps of a season.
        sums, counts: Of the phase of each step, (S + H, N, F).
        held: The step's own value where it is in the sums, else NaN, (S + H, N, F).
        steps: Numbers of the steps, (S + H,).
    """

    period: int
    sums: Floats
    counts: Floats
    held: Floats
    steps: NDArray[np.int64]

    @property
    def waves(self) -> int:
        """How many harmonics tell all nodes together where in the season a step is."""
        return max(1, min(MOST_WAVES, (self.period - 1) // 2))

    def harmonics(self, lags: int, at: slice | NDArray[np.int64], nodes: int) -> Floats:
        """Sines and cosines of the first step after each window, (w, N, 2 waves)."""
        angle = 2 * np.pi * self.steps[lags:][at] / self.period
        waves = [f(k * angle) for k in range(1, self.waves + 1) for f in (np.sin, np.cos)]
        return np.repeat(np.stack(waves, axis=1)[:, None], nodes, axis=1)

    def usual(self, length: int, at: slice | NDArray[np.int64]) -> Floats:
        """Means of the phases of windows' steps (w, N, F, length), without the windows themselves.

        Were a step's own value left out of its own mean alone, the means of two steps of one phase
        would differ by just that value, and a readout could see what it is to forecast.
        """
        sums, counts, held = (
            Windows(part, length, 0).history[at] for part in (self.sums, self.counts, self.held)
        )
        inside = np.isfinite(held)
        value, number = np.where(inside, held, 0.0), inside.astype(np.float64)
        if length > self.period:
            phase = np.arange(length) % self.period
            alike = (phase[:, None] == phase[None]).astype(np.float64)
            value, number = value @ alike, number @ alike
        left = counts - number
        return np.where(left > 0, (sums - value) / np.maximum(left, 1), 0.0)


@dataclass(frozen=True)
class Columns:
    """Which columns of a design are what.

    Attributes:
        groups: Name of a part ("own", "drift" for what is always added, or a term's), and its
            columns.
        falls: Of each channel, the column of the node's own level: its weight must not be positive,
            or forecasts would run away from what is usual.
        rises: Columns of how far others' levels lie above the own one: weights must not be
            negative, for states move towards one another.
        width: D.
    """

    groups: dict[str, tuple[int, ...]]
    falls: tuple[int, ...]
    rises: tuple[int, ...]
    width: int


class Design:
    """Makes the columns that a readout learns from.

    Args:
        terms: Diffusivities by which windows diffuse.
        lags: L.
        horizon: H.
        neighbours: For a ``Neighbourhood`` in input space: the past (N, steps) to find them in.
    """

    def __init__(
        self, terms: Sequence[Diffusivity], lags: int, horizon: int, neighbours: Floats | None
    ) -> None:
        self.terms, self.lags, self.horizon = tuple(terms), lags, horizon
        self._past = neighbours
        self.names = _distinct([term.name for term in self.terms])

    @cached_property
    def operators(self) -> dict[str, SparseWeights]:
        """Of terms whose neighbours are found once among the past of the nodes, (N, N)."""
        found = {}
        for name, term in zip(self.names, self.terms, strict=True):
            rule = term.neighbours
            if rule is not None and rule.space == "input":
                assert self._past is not None
                found[name] = neighbours_in(self._past, rule)
        return found

    @cached_property
    def _means(self) -> dict[str, SparseWeights]:
        """The same with rows of sum 1."""
        return {name: weights.normalised("row") for name, weights in self.operators.items()}

    def columns(self, past: Past) -> Columns:
        """What the columns for such a series are."""
        channels = past.values.shape[2]
        length = channels * self.lags
        groups: dict[str, tuple[int, ...]] = {}
        rises: list[int] = []
        own = list(range(length + channels))
        falls, at = tuple(range(length, length + channels)), length + channels
        more = 0
        if past.seasonal is not None:
            more += channels * (self.lags + self.horizon) + 2 * past.seasonal.waves
        more += 0 if past.covariates is None else past.covariates.shape[2] * self.horizon
        own += range(at, at + more)
        at += more
        groups["own"], groups["drift"] = tuple(own), (at,)
        at += 1
        for name in self.names:
            groups[name] = tuple(range(at, at + length + channels))
            rises += range(at + length, at + length + channels)
            at += length + channels
        return Columns(groups, falls, tuple(rises), at)

    def chunks(self, past: Past, windows: range) -> Iterator[tuple[range, Floats, Floats]]:
        """Runs of windows: which, their columns (w, N, D), and levels (w, N, F)."""
        nodes, channels = past.values.shape[1:]
        size = max(1, CHUNK // (nodes * channels * self.lags * (1 + len(self.terms))))
        for start in range(windows.start, windows.stop, size):
            part = range(start, min(start + size, windows.stop))
            yield part, *self.rows(past, part)

    def rows(self, past: Past, windows: range) -> tuple[Floats, Floats]:
        """Columns (w, N, D) and levels (w, N, F) of some windows."""
        own, level = self.own(past, windows)
        channels = level.shape[-1]
        state = own[..., : channels * (self.lags + 1)]
        parts = [own, np.ones((*level.shape[:2], 1))]
        for name, term in zip(self.names, self.terms, strict=True):
            heard = self._heard(name, term, state, past, windows)
            heard[..., -channels:] -= level
            parts.append(heard)
        return np.concatenate(parts, axis=-1), level

    def own(self, past: Past, windows: range | NDArray[np.int64]) -> tuple[Floats, Floats]:
        """The columns of the group "own" (w, N, D'), which come first, and levels (w, N, F)."""
        at = slice(windows.start, windows.stop) if isinstance(windows, range) else windows
        history = Windows(past.values, self.lags, 0).history[at]
        level = history.mean(axis=-1)
        shape = (*level.shape[:2], -1)
        parts = [(history - level[..., None]).reshape(shape), level]
        if past.seasonal is not None:
            usual = past.seasonal.usual(self.lags + self.horizon, at)
            parts.append((usual - level[..., None]).reshape(shape))
            parts.append(past.seasonal.harmonics(self.lags, at, level.shape[1])[: len(level)])
        if past.covariates is not None:
            ahead = Windows(past.covariates[self.lags :], self.horizon, 0).history[at]
            parts.append(ahead.reshape(shape))
        return np.concatenate(parts, axis=-1), level

    def _heard(
        self, name: str, term: Diffusivity, state: Floats, past: Past, windows: range
    ) -> Floats:
        """The mean of what each window hears by a term, (w, N, C + F)."""
        z = torch.from_numpy(np.ascontiguousarray(state))
        if name in self._means:
            return _alike(self._means[name], z)
        if term.name == "graph" and len(past.graphs) == 1:
            return _alike(_observed(past.graphs[0], len(z[0]), z.dtype), z)
        flat, index, weight = z.reshape(-1, z.shape[-1]), None, None
        if term.support == "edges":
            index, weight = joined(self.graphs(past, windows), len(z[0]))
        if term.name == "graph" and index is not None:
            operator = _observed((index, weight), len(flat), z.dtype)
            return operator.matmul(flat).reshape(z.shape).numpy()
        conv = DIFFormerConv(state.shape[-1], diffusivity=term, maps=False, graph=False)
        with torch.no_grad():
            structure = conv.structure(flat, index, weight, moments_of(len(z), len(z[0])))
            return conv.influence(flat, structure).reshape(z.shape).numpy()

    def graphs(self, past: Past, windows: Iterable[int]) -> list[Edges]:
        """The graph that each window sees: that of the last step that it has seen."""
        if len(past.graphs) < 2:
            return list(past.graphs) * len(list(windows))
        return [past.graphs[window + self.lags - 1] for window in windows]


def _distinct(names: Sequence[str]) -> list[str]:
    """``local``, ``local-2``, and so on."""
    found: list[str] = []
    for name in names:
        again = sum(other.split("-")[0] == name for other in found)
        found.append(f"{name}-{again + 1}" if again else name)
    return found


def moments_of(windows: int, nodes: int) -> Tensor:
    """The window of each row, (W N,)."""
    return torch.arange(windows).repeat_interleave(nodes)


def joined(graphs: Sequence[Edges], nodes: int) -> Edges:
    """One graph a window, as one whose windows do not hear each other."""
    index = torch.cat([index + number * nodes for number, (index, _) in enumerate(graphs)], dim=1)
    if all(weight is None for _, weight in graphs):
        return index, None
    given = [torch.ones(i.shape[1]) if w is None else w for i, w in graphs]
    return index, torch.cat(given)


def neighbours_in(past: Floats, rule: Neighbourhood) -> SparseWeights:
    """Weights among nodes whose pasts (N, steps) run alike, (N, N)."""
    return found_neighbours(torch.from_numpy(np.ascontiguousarray(past)), rule)


def _observed(edges: Edges, nodes: int, dtype: torch.dtype) -> SparseWeights:
    index, weight = edges
    return observed(index, weight, nodes, dtype, False).normalised("row")


def _alike(operator: SparseWeights, z: Tensor) -> Floats:
    """The same operator (N, N) for every window of (w, N, C)."""
    wide = z.transpose(0, 1).reshape(z.shape[1], -1)
    heard = operator.matmul(wide).reshape(z.shape[1], z.shape[0], -1).transpose(0, 1)
    return heard.contiguous().numpy()
