"""Run folders with made files, as a training would leave them."""

import csv
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from difformer.runs import RunDirectory

FLOWERS = ("setosa", "versicolor", "virginica")


def overview(classes: Sequence[str] = FLOWERS) -> dict[str, Any]:
    return {
        "title": "Species of 1,200 flowers from 60 labels",
        "task": "classification",
        "data": "flowers.csv",
        "instances": 1200,
        "features": 17,
        "classes": list(classes),
        "labelled": 60,
        "held_out": 300,
        "edges": 0,
        "encoder": "trained, 4 steps, width 64",
        "diffusivity": ["simple", "neighbours"],
        "seconds": 83.2,
        "command": "difformer fit flowers.csv --target species",
        "notes": ["3 rows had no feature at all and kept the mean of the others."],
    }


def metrics(epochs: int = 120) -> list[dict[str, float | int | None]]:
    noise = random.Random(0)
    return [
        {
            "epoch": epoch,
            "train_loss": 1.1 * math.exp(-epoch / 30) + 0.05 + 0.02 * noise.random(),
            "train_accuracy": 1 - 0.6 * math.exp(-epoch / 18),
            "val_loss": None if epoch % 5 else 1.0 * math.exp(-epoch / 35) + 0.21,
            "val_accuracy": None if epoch % 5 else 0.94 - 0.5 * math.exp(-epoch / 22),
            "seconds": 0.4,
        }
        for epoch in range(1, epochs + 1)
    ]


def trace(steps: int = 4, names: Sequence[str] = ("simple", "neighbours")) -> dict[str, Any]:
    def term(name: str, step: int) -> dict[str, Any]:
        start = 900.0 if name == names[0] else 210.0
        return {
            "name": name,
            "share": 1 / len(names),
            "regulariser": start * 0.7 ** (step - 1),
            "regulariser_moved": start * 0.7**step,
            "d_min": 14.2,
            "lambda_star": None if step == 1 else 0.0176,
            "contrast": 1.2 + 0.4 * step,
        }

    return {
        "broken_conditions": [
            "Distances are taken between learnt maps of the states (maps=True).",
            "LayerNorm rescales the states after each step (norm='layer').",
        ],
        "initial_regulariser": None,
        "steps": [
            {
                "step": step,
                "move": 340.0 * 0.5**step,
                "step_size": 0.5,
                "terms": [term(name, step) for name in names],
            }
            for step in range(1, steps + 1)
        ],
    }


def evaluation(classes: Sequence[str] = FLOWERS) -> dict[str, Any]:
    noise, size = random.Random(1), len(classes)
    confusion = [[noise.choice((0, 0, 1, 3)) for _ in range(size)] for _ in range(size)]
    for index in range(size):
        confusion[index][index] = 90 + index
    count = sum(map(sum, confusion))
    right = sum(confusion[index][index] for index in range(size))
    return {
        "how": "300 rows, drawn in equal shares from every class, were hidden and judged once.",
        "count": count,
        "metrics": {
            "accuracy": right / count,
            "macro_f1": 0.938,
            "log_loss": 0.214,
            "roc_auc": None,
        },
        "classes": list(classes),
        "confusion": confusion,
    }


def comparison() -> dict[str, Any]:
    def row(method: str, mean: float | None, less: float | None = None, half: float = 0.0) -> Any:
        low = None if less is None else less - half
        high = None if less is None else less + half
        return {
            "method": method,
            "accuracies": [],
            "mean": mean,
            "std": None if mean is None else 0.012,
            "seconds": 1.0,
            "difference": less,
            "low": low,
            "high": high,
            "note": None if mean is not None else "needs the extra 'classics'",
        }

    rows = [
        row("DIFFormer", 0.942),
        row("label spreading", 0.921, -0.021, 0.009),
        row("logistic regression", 0.874, -0.068, 0.014),
        row("random forest of 500 trees with default settings", 0.938, -0.004, 0.011),
        row("Poisson learning", None),
    ]
    return {"rows": rows, "reference": "DIFFormer", "splits": [f"split {i}" for i in range(10)]}


def predictions(classes: Sequence[str] = FLOWERS, rows: int = 1200) -> list[list[str]]:
    noise = random.Random(2)
    table = [["id", "label", "prediction", "confidence", *(f"p {name}" for name in classes)]]
    for index in range(rows):
        weights = [noise.random() ** 4 + 1e-3 for _ in classes]
        weights[index % len(classes)] += 2 * noise.random()
        shares = [weight / sum(weights) for weight in weights]
        top = max(range(len(classes)), key=lambda k: shares[k])
        label = classes[top] if index < 60 else ""
        table.append([f"row-{index}", label, classes[top], f"{shares[top]:.6f}", *map(str, shares)])
    return table


def make_run(folder: Path, classes: Sequence[str] = FLOWERS, **files: Any) -> RunDirectory:
    """Make a run with every file; ``name=None`` leaves one out, another value replaces it."""
    run = RunDirectory.create(folder, {"estimator": {"epochs": 120, "name": "<DIFFormer>"}})
    content = {
        "overview": overview(classes),
        "evaluation": evaluation(classes),
        "comparison": comparison(),
        "trace": trace(),
        **{name: value for name, value in files.items() if name not in ("metrics", "predictions")},
    }
    for name, value in content.items():
        if value is not None:
            (run.path / f"{name}.json").write_text(json.dumps(value))
    for record in files.get("metrics", metrics()) or ():
        run.append_metrics(record)
    table = files.get("predictions", predictions(classes))
    if table is not None:
        with (run.path / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(table)
    return run
