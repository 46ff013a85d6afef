"""Which methods are measured, at which sizes: one table. No torch here, for --help reads it.

Letters: N rows, L layers, E edges, d = CHANNELS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from difformer.errors import ConfigError, one_of

FEATURES, CHANNELS, OUTPUTS = 64, 64, 10
MEAN_DEGREE, NEIGHBOURS = 20, 10
FLOAT = 4  # bytes

SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
QUADRATIC_SIZES = (1_000, 2_000, 5_000, 10_000)
QUICK_SIZES, QUICK_QUADRATIC_SIZES = (10_000, 31_623), (1_000, 2_000)
LONG_SIZE = 50_000
# Largest N of the published form and of torch_geometric's encoders without --long: minutes a step.
MOST = {"ours": None, "published": 100_000, "peer": 100_000}

# Read when a process loads torch: threads that wait spin shortly (docs/decisions.md).
ENVIRONMENT = {"GOMP_SPINCOUNT": "10000"}

Family = Literal["ours", "published", "peer"]


@dataclass(frozen=True)
class Method:
    """One row of the benchmark.

    Args:
        name: as typed after ``--methods``.
        label: as shown.
        family: ours, the published form written plainly, or an encoder of torch_geometric.
        form: what the builders make of it, such as ``"row"`` or ``"official"`` numerics.
        panel: where it stands in the picture: ``linear``, ``graph`` or ``quadratic``.
        graph: whether a random graph of mean degree MEAN_DEGREE is passed.
        dropout: rate.
        latent: features are functions of so many hidden coordinates; 0: noise.
        others: the methods that this one of ours is compared with, the published form first.
        arrays: guess of the (N, d) arrays that a layer holds (quadratic in memory: (N, N)).
        messages: guess of the (E, d) arrays that a layer holds.
        dense: whether memory grows with N^2.
        most, most_long: largest N without and with ``--long``; None: that of its family, and no
            bound.
        limited: whether the machine's limit is known for it.
    """

    name: str
    label: str
    family: Family
    form: str
    panel: str = "linear"
    graph: bool = False
    dropout: float = 0.0
    latent: int = 0
    others: tuple[str, ...] = ()
    arrays: float = 16.0
    messages: float = 0.0
    dense: bool = False
    most: int | None = None
    most_long: int | None = None
    limited: bool = False

    @property
    def quadratic(self) -> bool:
        """Whether its time grows with N^2, so that it has sizes of its own."""
        return self.panel == "quadratic"

    def guess(self, rows: int, layers: int) -> int:
        """Bytes that a step takes at most, by counting arrays: used before anything is measured."""
        edges = rows * MEAN_DEGREE if self.graph else 0
        width = rows if self.dense else CHANNELS
        a_layer = self.arrays * rows * width + self.messages * edges * CHANNELS
        return int(FLOAT * (layers * a_layer + rows * FEATURES) + 64 * edges)


_TABLE = (
    Method(
        "simple",
        "simple",
        "ours",
        "simple",
        others=("published-simple", "gps"),
        limited=True,
    ),
    Method("published-simple", "simple, published form", "published", "row"),
    Method(
        "simple-dropout",
        "simple, dropout 0.2",
        "ours",
        "simple",
        dropout=0.2,
        others=("published-simple-dropout",),
        limited=True,
    ),
    Method(
        "published-simple-dropout",
        "simple, dropout 0.2, published form",
        "published",
        "row",
        dropout=0.2,
    ),
    Method(
        "official",
        "official numerics",
        "ours",
        "official",
        others=("published-official", "gps"),
        limited=True,
    ),
    Method("published-official", "official numerics, published form", "published", "official"),
    Method("gps", "GPSConv performer (PyG)", "peer", "gps", arrays=60),
    Method(
        "simple-graph",
        "simple + graph",
        "ours",
        "simple",
        panel="graph",
        graph=True,
        others=("published-simple-graph", "sgformer"),
    ),
    Method(
        "published-simple-graph",
        "simple + graph, published form",
        "published",
        "row",
        panel="graph",
        graph=True,
        arrays=24,
    ),
    Method(
        "official-graph",
        "official + graph",
        "ours",
        "official",
        panel="graph",
        graph=True,
        others=("published-official-graph", "sgformer"),
    ),
    Method(
        "published-official-graph",
        "official + graph, published form",
        "published",
        "official",
        panel="graph",
        graph=True,
        arrays=24,
    ),
    Method(
        "sgformer",
        "SGFormer (PyG)",
        "peer",
        "sgformer",
        panel="graph",
        graph=True,
        arrays=40,
        messages=2,
    ),
    Method("graph", "graph", "ours", "graph", panel="graph", graph=True, others=("gcn",)),
    Method("gcn", "GCN (PyG)", "peer", "gcn", panel="graph", graph=True, messages=2),
    Method(
        "local",
        "local, 10 neighbours",
        "ours",
        "local",
        panel="graph",
        latent=3,  # the library may then move neighbours near each other
        others=("simple",),
        most=100_000,  # the search is exact: its time grows with N^2
        most_long=316_228,
    ),
    Method(
        "local-noise",
        "local, neighbours in noise",
        "ours",
        "local",
        panel="graph",  # in noise no order of rows brings neighbours near
        others=("simple",),
        most=100_000,
        most_long=316_228,
    ),
    Method(
        "sigmoid",
        "sigmoid",
        "ours",
        "sigmoid",
        panel="quadratic",
        others=("published-sigmoid",),
        most=10_000,
        most_long=LONG_SIZE,
    ),
    Method(
        "published-sigmoid",
        "sigmoid, published form",
        "published",
        "row-sigmoid",
        panel="quadratic",
        arrays=5,
        dense=True,
        most=10_000,
        most_long=LONG_SIZE,
    ),
)
METHODS = {method.name: method for method in _TABLE}


class Settings(BaseModel):
    """What was asked for; a stored result holds it, so that the same can be run again.

    Args:
        sizes: N of the methods whose time grows with N.
        quadratic_sizes: N of the others.
        methods: names, in the order of ``METHODS``.
        layers: diffusion layers of every encoder.
        repeats: timed rounds, after one that is not timed.
        seed: of the inputs, the graph and the weights.
        threads: of torch; None: its default.
        device: ``cpu`` or ``cuda``.
        long: whether sizes that take many minutes are run too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: tuple[int, ...] = SIZES
    quadratic_sizes: tuple[int, ...] = QUADRATIC_SIZES
    methods: tuple[str, ...] = tuple(METHODS)
    layers: int = Field(default=8, ge=1)
    repeats: int = Field(default=5, ge=1)
    seed: int = 0
    threads: int | None = Field(default=None, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    long: bool = False

    def all_sizes(self) -> list[int]:
        """Every N at which something runs, ascending."""
        found = {*self.sizes, *self.quadratic_sizes}
        return sorted(size for size in found if self.methods_at(size))

    def methods_at(self, size: int) -> list[Method]:
        """The methods that run at this N."""
        chosen = [METHODS[name] for name in self.methods]
        return [method for method in chosen if size in self._sizes_of(method)]

    def _sizes_of(self, method: Method) -> list[int]:
        sizes = self.quadratic_sizes if method.quadratic else self.sizes
        usual = MOST[method.family] if method.most is None else method.most
        most = method.most_long if self.long else usual
        return [size for size in sizes if most is None or size <= most]


def known_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The named methods in the table's order; all of them where none is named.

    Raises:
        ConfigError: On an unknown name.
    """
    for name in names:
        one_of(name, METHODS, "--methods")
    return tuple(name for name in METHODS if name in names or not names)


def checked_sizes(text: str) -> tuple[int, ...]:
    """Numbers of rows from ``"1000,2000"``, ascending and each once.

    Raises:
        ConfigError: If one is not a whole number of at least 2 NEIGHBOURS.

    Example:
        >>> checked_sizes("2_000, 1000")
        (1000, 2000)
    """
    least = 2 * NEIGHBOURS
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < least:
        raise ConfigError(
            f"--sizes must be whole numbers of at least {least}, with commas between them, "
            f"found {text!r}."
        )
    return tuple(sizes)
