"""Does what is said of a graph depend on its batch: ``python -m difformer.experiments.batch_leak``.

Models with random weights, in float64 and evaluation mode, answer for random graphs, each alone and
all in one batch. Writes ``results/batch-leak.json``: the largest difference, as a share of the
largest output. Rounding alone gives about 1e-15.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from difformer.experiments.methods.networks import pyg
from difformer.experiments.record import Figure, write_record
from difformer.nn import GraphDIFFormer

NAME, COMMAND = "batch-leak", "python -m difformer.experiments.batch_leak"
METRIC = "largest difference, share of the largest output"
BATCHES, GRAPHS, NODES, FEATURES, OUTPUTS = 20, 8, 30, 8, 4

Model = Callable[[Tensor, Tensor, Tensor], Tensor]  # x, edge_index, batch to (N, K) or (G, K)


def ours(diffusivity: str) -> Model:
    """Outputs of graphs."""
    model = GraphDIFFormer(FEATURES, 16, OUTPUTS, diffusivity=diffusivity).double().eval()
    return lambda x, edges, batch: model(x, edges, None, batch, int(batch.max()) + 1)


def sgformer() -> Model:
    """Outputs of graphs: the mean over the nodes of torch_geometric's model."""
    library = pyg()
    model: nn.Module = library.SGFormer(FEATURES, 16, OUTPUTS).double().eval()

    def answer(x: Tensor, edges: Tensor, batch: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)  # it makes ones of the default type within
        try:
            out: Tensor = library.global_mean_pool(model(x, edges, batch), batch)
            return out
        finally:
            torch.set_default_dtype(torch.float32)

    return answer


MODELS: dict[str, Callable[[], Model]] = {
    "GraphDIFFormer, simple": lambda: ours("simple"),
    "GraphDIFFormer, sigmoid": lambda: ours("sigmoid"),
    "GraphDIFFormer, local": lambda: ours("local"),
    "torch_geometric SGFormer": sgformer,
}


def random_batch(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Features and edges of some graphs."""
    draw = np.random.default_rng(seed)
    graphs = []
    for _ in range(GRAPHS):
        size = int(draw.integers(2, NODES + 1))
        edges = torch.from_numpy(draw.integers(0, size, (2, 3 * size)))
        graphs.append((torch.from_numpy(draw.normal(size=(size, FEATURES))), edges))
    return graphs


@torch.no_grad()
def leak(model: Model, graphs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Largest difference of graphs alone and in the batch, as a share of the largest output."""
    sizes = [len(x) for x, _ in graphs]
    starts = np.cumsum([0, *sizes[:-1]])
    batch = torch.repeat_interleave(torch.arange(len(graphs)), torch.tensor(sizes))
    edges = torch.cat([e + int(at) for (_, e), at in zip(graphs, starts, strict=True)], 1)
    together = model(torch.cat([x for x, _ in graphs]), edges, batch)
    alone = torch.cat([model(x, e, torch.zeros(len(x), dtype=torch.long)) for x, e in graphs])
    return float((together - alone).abs().max() / alone.abs().max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all models and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=Path, default=Path("results"))
    given = parser.parse_args(arguments)
    started, figures = datetime.now(UTC), []
    for label, build in MODELS.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build()
        values = [leak(model, random_batch(seed)) for seed in range(BATCHES)]
        figures.append(Figure(label=label, metric=METRIC, value=max(values), lower_is_better=True))
        print(f"{label:32s} {max(values):.2g}")  # noqa: T201
    write_record(
        given.records / f"{NAME}.json",
        protocol=f"{BATCHES} batches of {GRAPHS} random graphs of 2 to {NODES} nodes, float64, "
        "evaluation mode, random weights; graph outputs alone and in the batch; a value is the "
        "largest over all batches",
        command=COMMAND,
        seeds=[0],
        splits=[f"batch {seed}" for seed in range(BATCHES)],
        figures=figures,
        started=started,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
