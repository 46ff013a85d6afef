"""No loss and no metric of numbers ever broadcasts: all pairs of small shapes are tried."""

from itertools import product

import numpy as np
import pytest
import torch

from difformer.errors import ConfigError
from difformer.training import metrics
from difformer.training.objectives import mean_squared_error

SIZES = (1, 2, 3)
SHAPES = [shape for dims in range(4) for shape in product(SIZES, repeat=dims)]


def loss(truth, found):
    mask = torch.ones(truth.shape[:1], dtype=torch.bool)
    return mean_squared_error(torch.from_numpy(found), torch.from_numpy(truth), mask)


MEASURES = {
    "loss": loss,
    "mae": metrics.mean_absolute_error,
    "rmse": metrics.root_mean_squared_error,
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_pair_of_different_shapes_is_refused(name):
    measure, refused, measured = MEASURES[name], 0, 0
    for one, two in product(SHAPES, SHAPES):
        if not one and name == "loss":
            continue  # a loss has rows
        truth, found = np.ones(one), np.full(two, 3.0)
        if one == two:
            assert float(measure(truth, found)) == pytest.approx(4.0 if name == "loss" else 2.0)
            measured += 1
            continue
        with pytest.raises(ConfigError, match="Shapes must be equal"):
            measure(truth, found)
        refused += 1
    assert refused > 1_400
    assert measured >= len(SHAPES) - 1
