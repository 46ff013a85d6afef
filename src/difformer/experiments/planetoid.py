"""The official preset and our recipe on a citation graph, on equal terms.

``python -m difformer.experiments.planetoid --protocol planetoid-public --out results/NAME.json``

Both methods see the same splits, model seeds, epochs and features (rows of sum 1, as the released
code prepares them), and both keep the weights of the first best validation accuracy; the test rows
are read once, with those weights. Settings were fixed beforehand on other splits
(docs/decisions.md).
"""

import argparse
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import normalize
from torch import Tensor

from difformer.data import datasets
from difformer.data.instances import Instances
from difformer.data.splits import Split, by_protocol
from difformer.errors import DifformerError
from difformer.estimators.trained import views_of
from difformer.experiments.comparison import paired_interval
from difformer.experiments.record import Figure, module_command, write_record
from difformer.nn import DIFFormer
from difformer.nn.official import official_options
from difformer.nn.structure import to_tensor
from difformer.training import TrainingConfig, train
from difformer.training.metrics import accuracy
from difformer.training.objectives import consistency_cross_entropy, ensemble_probabilities
from difformer.training.randomness import seeded


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained."""

    label: str
    model: dict[str, Any]
    training: dict[str, Any]


# The released hyper-parameters of DIFFormer-s on Cora (its run script).
OFFICIAL = Recipe(
    "official preset",
    official_options(
        in_channels=1,
        hidden_channels=64,
        out_channels=1,
        num_layers=8,
        dropout=0.2,
        use_weight=False,
    ),
    {"learning_rate": 1e-3, "weight_decay": 0.01},
)
# Features diffuse linearly over the observed graph with a source, under random silence of
# instances, and two views of that are to agree (Feng et al., NeurIPS 2020).
OURS = Recipe(
    "our recipe",
    {
        "hidden_channels": 64,
        "num_layers": 8,
        "diffusivity": "graph",
        "graph_norm": "sym",
        "step_size": 1.0,
        "source": 0.15,
        "maps": False,
        "norm": None,
        "dropout": 0.5,
        "input_dropout": 0.5,
        "node_dropout": 0.5,
        "activation": "output",
    },
    {"learning_rate": 0.01, "weight_decay": 5e-4, "views": 2},
)
RECIPES = (OFFICIAL, OURS)
ONE_SPLIT = ("planetoid-public", "class-balanced-single")


def run_once(recipe: Recipe, data: Instances, split: Split, seed: int, epochs: int) -> float:
    """Train on one split and return the test accuracy in percent."""
    x = to_tensor(normalize(data.x, norm="l1"))
    assert data.y is not None
    assert data.edge_index is not None
    y, edges = torch.from_numpy(data.y), torch.from_numpy(data.edge_index)
    with seeded(seed):
        sizes = {"in_channels": data.num_features, "out_channels": data.num_classes}
        model = DIFFormer(**{**recipe.model, **sizes})
    config = TrainingConfig(epochs=epochs, seed=seed, **recipe.training)
    forward = views_of(model, config.views, x, edges)
    train(
        model,
        forward,
        y,
        _tensor(split.train),
        config,
        _tensor(split.val),
        objective=partial(consistency_cross_entropy, weight=config.consistency),
        predict=ensemble_probabilities,
    )
    with torch.no_grad():
        best = ensemble_probabilities(forward()).argmax(-1)
    test = _tensor(split.test)
    return 100 * accuracy(y[test], best[test])


def _tensor(mask: Any) -> Tensor:
    return torch.from_numpy(np.asarray(mask))


def experiment(name: str, protocol: str, runs: int, epochs: int) -> tuple[Figure, ...]:
    """Both recipes on the same splits: split seeds and model seeds 0, 1, ..."""
    data = datasets.load(name)
    found: dict[str, list[float]] = {recipe.label: [] for recipe in RECIPES}
    seconds = dict.fromkeys(found, 0.0)
    for seed in range(runs):
        split = by_protocol(data, protocol, seed)
        for recipe in RECIPES:
            started = time.perf_counter()
            found[recipe.label].append(run_once(recipe, data, split, seed, epochs))
            seconds[recipe.label] += (time.perf_counter() - started) / runs
        print(seed, {k: v[-1] for k, v in found.items()}, flush=True)  # noqa: T201
    base = found[OFFICIAL.label]
    return tuple(_figure(label, v, base, seconds[label]) for label, v in found.items())


def _figure(label: str, values: list[float], base: list[float], seconds: float) -> Figure:
    differences = [a - b for a, b in zip(values, base, strict=True)]
    is_base = label == OFFICIAL.label
    low, high = (None, None) if is_base else paired_interval(differences)
    return Figure(
        label=label,
        metric="accuracy %",
        value=float(np.mean(values)),
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        values=tuple(values),
        reference=OFFICIAL.label,
        difference=None if is_base else float(np.mean(differences)),
        low=low,
        high=high,
        seconds=seconds,
    )


def _splits(protocol: str, runs: int) -> list[str]:
    if protocol in ONE_SPLIT:
        return [protocol]
    return [f"{protocol} {seed}" for seed in range(runs)]


def _spread(protocol: str) -> str:
    if protocol in ONE_SPLIT:
        return "initialisations; one split serves all runs"
    return "splits, with split seed = model seed"


def main(arguments: list[str] | None = None) -> int:
    """Run and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cora")
    parser.add_argument("--protocol", required=True)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=500)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args(arguments)
    started = datetime.now(UTC)
    try:
        figures = experiment(asked.data, asked.protocol, asked.runs, asked.epochs)
        write_record(
            asked.out,
            protocol=f"{asked.protocol}; epoch chosen on validation accuracy; "
            f"{asked.epochs} epochs; ± over {_spread(asked.protocol)}",
            command=module_command("difformer.experiments.planetoid", arguments),
            seeds=range(asked.runs),
            splits=_splits(asked.protocol, asked.runs),
            figures=figures,
            started=started,
        )
    except DifformerError as error:
        print(f"planetoid: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
