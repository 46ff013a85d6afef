"""Protocols: which splits a figure speaks of, by a name that stands beside it.

A protocol knows how to draw its splits, from what, and what the ± of several runs ranges over.
Some carry numbers in their name:

    planetoid-public           the shipped masks: 20 a class, 500, 1,000
    ogb                        the official split of a set of the Open Graph Benchmark
    class-balanced-single      the one split behind the published Planetoid figures
    class-balanced-fresh       20 a class, 500, 1,000, drawn anew for each seed
    class-balanced-fresh-N-V   N a class and V to choose with, drawn anew; the rest is tested
    per-class-N                N a class, drawn anew; everything else is tested
    random-T-V-R               percentages, drawn anew, class by class
    geom-gcn-48-32-20          ten shipped splits
    filtered-10                ten shipped splits of the graphs without duplicated nodes
    given                      whatever masks a data set ships
    synmol-given               shipped train and test molecules; 1,000 of the former choose
    temporal-T-V-R             percentages of snapshots, in the order of time
    k-fold-K                   K folds of graphs: one tested, the next one to choose with
    scaffold-T-V-R             percentages of molecules; families stay together

The seed of a split and the seed of a model are two numbers: run number i of a protocol takes split
``Protocol.split_seed(i)``, whatever seed its model has.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from difformer.data.folds import by_scaffold, k_fold, temporal
from difformer.data.instances import Instances
from difformer.data.splits import (
    Labels,
    Split,
    class_balanced_fresh,
    given,
    per_class,
    proportional,
)
from difformer.errors import ConfigError, DataError

SHIPPED = 10  # splits of Geom-GCN and of Platonov et al.
HELD_BACK = 1000  # molecules of SynMol


@dataclass(frozen=True, eq=False)
class Population:
    """What is divided: N rows, snapshots or graphs, with what a protocol may ask about them.

    Parameters
    ----------
    count : int
        N.
    y : int64 ndarray, (N,), optional
        Classes; -1 is unlabelled.
    masks : mapping of str to bool ndarray
        Shipped splits, (N,) or (S, N).
    groups : sequence of str, (N,), optional
        Families that stay together.
    name : str
        For messages.
    """

    count: int
    y: Labels | None = None
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    groups: Sequence[str] | None = None
    name: str = ""

    @classmethod
    def of(cls, data: Instances) -> "Population":
        """The rows of a data set."""
        return cls(data.num_instances, data.y, data.masks, name=data.name)

    @property
    def labels(self) -> Labels:
        """The classes; a ``DataError`` without any."""
        if self.y is None:
            raise DataError(f"A split needs labels, data set {self.name!r} has none.")
        return self.y


@dataclass(frozen=True)
class Protocol:
    """One way to divide a population, as an object.

    Parameters
    ----------
    name : str
        As it stands beside every figure.
    draw : callable
        Population and split seed to `Split`.
    ranges_over : str
        What differs between runs: "splits", "folds", or "initialisations" where there is one split.
    shipped : int, optional
        How many splits there are; None: as many as seeds.
    """

    name: str
    draw: Callable[[Population, int], Split]
    ranges_over: str = "splits"
    shipped: int | None = None

    def split_seed(self, run: int) -> int:
        """Which split the ``run``-th run takes, from 0."""
        return run if self.shipped is None else run % self.shipped

    def split(self, population: Population | Instances, seed: int = 0) -> Split:
        """The split of a seed.

        Raises
        ------
        ConfigError, DataError
            If the population cannot be divided so.
        """
        if isinstance(population, Instances):
            population = Population.of(population)
        return self.draw(population, seed)


def _shipped(name: str, prefix: str, count: int) -> Protocol:
    ranges_over = "initialisations" if count == 1 else "splits"
    return Protocol(name, lambda p, seed: given(p.masks, seed, prefix, name), ranges_over, count)


def _hold_back(population: Population, count: int, seed: int) -> Split:
    """The shipped split; some of what it learns from are held back to choose with."""
    shipped = given(population.masks, protocol="synmol-given")
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(shipped.train))
    held = np.zeros(population.count, dtype=bool)
    held[rows[: min(count, len(rows) // 2)]] = True
    return Split(shipped.train & ~held, held, shipped.test & ~held, "synmol-given", seed)


FIXED = {
    protocol.name: protocol
    for protocol in (
        _shipped("planetoid-public", "public_", 1),
        _shipped("ogb", "ogb_", 1),
        _shipped("class-balanced-single", "single_", 1),
        _shipped("geom-gcn-48-32-20", "geom_", SHIPPED),
        _shipped("filtered-10", "filtered_", SHIPPED),
        Protocol("given", lambda p, seed: given(p.masks, seed)),
        Protocol("synmol-given", lambda p, seed: _hold_back(p, HELD_BACK, seed)),
        Protocol("class-balanced-fresh", lambda p, seed: class_balanced_fresh(p.labels, seed)),
        Protocol("per-class", lambda p, seed: per_class(p.labels, 20, seed)),
    )
}


def _fresh(name: str, n: int, val: int) -> Protocol:
    return Protocol(name, lambda p, seed: per_class(p.labels, n, seed, val, protocol=name))


def _per_class(name: str, n: int) -> Protocol:
    return Protocol(name, lambda p, seed: per_class(p.labels, n, seed, protocol=name))


def _random(name: str, train: int, val: int, test: int) -> Protocol:
    _check_percent(name, train, val, test)
    return Protocol(name, lambda p, seed: proportional(p.labels, train / 100, val / 100, seed))


def _temporal(name: str, train: int, val: int, test: int) -> Protocol:
    _check_percent(name, train, val, test)
    one = "initialisations"
    return Protocol(name, lambda p, seed: temporal(p.count, train / 100, val / 100), one, 1)


def _k_fold(name: str, folds: int) -> Protocol:
    def draw(p: Population, seed: int) -> Split:
        return k_fold(p.labels, folds, seed % folds, seed // folds)

    return Protocol(name, draw, "folds")


def _scaffold(name: str, train: int, val: int, test: int) -> Protocol:
    _check_percent(name, train, val, test)

    def draw(p: Population, seed: int) -> Split:
        if p.groups is None:
            raise DataError(f"Protocol {name!r} needs families, data set {p.name!r} has none.")
        return by_scaffold(p.groups, train / 100, val / 100)

    return Protocol(name, draw, "initialisations", 1)


# Stem -> how many numbers follow it, and what makes the protocol of them.
FAMILIES: dict[str, tuple[int, Callable[..., Protocol]]] = {
    "class-balanced-fresh": (2, _fresh),
    "per-class": (1, _per_class),
    "random": (3, _random),
    "temporal": (3, _temporal),
    "k-fold": (1, _k_fold),
    "scaffold": (3, _scaffold),
}


def protocol(name: str) -> Protocol:
    """The protocol of a name.

    Raises
    ------
    ConfigError
        For any other name; all forms are listed.

    Examples
    --------
    >>> protocol("planetoid-public").ranges_over, protocol("k-fold-10").ranges_over
    ('initialisations', 'folds')
    """
    if name in FIXED:
        return FIXED[name]
    match = re.fullmatch(r"([a-z-]+?)((?:-\d+)+)", name)
    if match is not None and match[1] in FAMILIES:
        numbers = [int(number) for number in match[2].split("-")[1:]]
        count, make = FAMILIES[match[1]]
        if len(numbers) == count:
            return make(name, *numbers)
    forms = [stem + "-N" * count for stem, (count, _) in FAMILIES.items()]
    raise ConfigError(f"protocol must be one of {', '.join([*FIXED, *forms])}, found {name!r}.")


def _check_percent(name: str, *parts: int) -> None:
    if sum(parts) != 100:
        raise ConfigError(f"The percentages of protocol {name!r} must add up to 100.")
