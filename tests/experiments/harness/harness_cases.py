"""Made data sets under known names, and methods that answer without learning."""

import numpy as np
from scipy import sparse

from difformer.data.datasets import DATASETS
from difformer.experiments.methods import Method

NAMES = ("texas", "wisconsin", "cornell")  # heads of files; what is in them is made here


def write_data(folder, names=NAMES, rows=90, classes=3):
    """Two numbers a class with noise, a graph that mostly joins likes, ten shipped splits."""
    for number, name in enumerate(names):
        draw = np.random.default_rng(number)
        y = np.arange(rows) % classes
        x = sparse.csr_matrix(np.eye(classes)[y].repeat(2, 1) + draw.random((rows, 2 * classes)))
        source = draw.integers(0, rows, 3 * rows)
        like = [draw.choice(np.flatnonzero(y == y[s])) for s in source]
        place = np.array([draw.permutation(rows) for _ in range(10)])
        masks = {
            f"{part}_mask": (place >= low * rows) & (place < high * rows)
            for part, low, high in (("train", 0, 0.4), ("val", 0.4, 0.7), ("test", 0.7, 1))
        }
        path = folder / DATASETS[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            x_data=x.data.astype(np.float32),
            x_indices=x.indices,
            x_indptr=x.indptr,
            x_shape=np.array(x.shape),
            y=y,
            edge_index=np.stack([source, np.array(like)]),
            **masks,
        )


def centroids(task, settings, seed):
    """Nearest class mean, blurred by a setting: quick, and better with less blur."""
    x = np.asarray(task.x.todense() if sparse.issparse(task.x) else task.x)
    means = np.stack(
        [
            x[task.y == c].mean(0) if (task.y == c).any() else x.mean(0)
            for c in range(task.num_classes)
        ]
    )
    noise = np.random.default_rng(seed).normal(size=(len(x), task.num_classes))
    score = -((x[:, None] - means) ** 2).sum(-1) + settings["blur"] * noise
    weight = np.exp(score - score.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


CENTROIDS = Method(
    "centroids",
    centroids,
    {"blur": 1.0, "idle": 0},
    {"blur": (0.0, 0.1, 1.0, 10.0), "idle": (0, 1, 2)},
)


def find(cell, name):
    """As ``cells.method_of``, for ``centroids`` alone."""
    assert name == "centroids"
    return CENTROIDS
