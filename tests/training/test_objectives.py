"""Objectives equal their formulas, and no shape is ever broadcast."""

import pytest
import torch
from torch.nn import functional

from difformer.errors import ConfigError
from difformer.training.objectives import (
    balanced_class_weight,
    cross_entropy,
    ensemble_cross_entropy,
    ensemble_probabilities,
    mean_squared_error,
    softmax_probabilities,
)

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 1, -1, 0])
MASK = torch.tensor([True, True, True, True, False, False])


def test_cross_entropy_is_the_mean_over_the_mask():
    expected = -torch.log_softmax(LOGITS, 1)[torch.arange(4), Y[:4]].mean()
    torch.testing.assert_close(cross_entropy(LOGITS, Y, MASK), expected)


def test_class_weights_are_those_of_torch():
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    expected = functional.cross_entropy(LOGITS[:4], Y[:4], weight=weight)
    actual = cross_entropy(LOGITS, Y, MASK, class_weight=weight)
    torch.testing.assert_close(actual, expected)


def test_a_sample_weight_of_two_is_a_row_twice():
    weight = torch.tensor([2.0, 1.0, 1.0, 0.0, 9.0, 9.0])
    rows = torch.tensor([0, 0, 1, 2])
    expected = functional.cross_entropy(LOGITS[rows], Y[rows])
    actual = cross_entropy(LOGITS, Y, MASK, sample_weight=weight)
    torch.testing.assert_close(actual, expected)


def test_label_smoothing_is_that_of_torch():
    expected = functional.cross_entropy(LOGITS[:4], Y[:4], label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(LOGITS, Y, MASK, label_smoothing=0.1), expected)


def test_balanced_weights_give_each_class_the_same_say():
    weight = balanced_class_weight(Y, MASK, classes=4)
    assert weight.tolist() == pytest.approx([4 / 3, 2 / 3, 4 / 3, 0])
    assert weight[Y[MASK]].mean().item() == pytest.approx(1)


def test_an_ensemble_is_the_mean_of_its_members():
    outputs = torch.stack([LOGITS, LOGITS.flip(0)])
    expected = (cross_entropy(LOGITS, Y, MASK) + cross_entropy(LOGITS.flip(0), Y, MASK)) / 2
    torch.testing.assert_close(ensemble_cross_entropy(outputs, Y, MASK), expected)
    expected = (softmax_probabilities(LOGITS) + softmax_probabilities(LOGITS.flip(0))) / 2
    torch.testing.assert_close(ensemble_probabilities(outputs), expected)


def test_mean_squared_error_is_the_mean_over_the_mask():
    y = torch.arange(6.0, dtype=torch.float64)
    expected = ((LOGITS[:4, 0] - y[:4]) ** 2).mean()
    torch.testing.assert_close(mean_squared_error(LOGITS[:, 0], y, MASK), expected)


@pytest.mark.parametrize(
    ("outputs", "y"),
    [((6, 1), (6,)), ((6,), (6, 1)), ((6, 3), (6, 1)), ((1,), (6,)), ((6,), ())],
)
def test_mean_squared_error_never_broadcasts(outputs, y):
    with pytest.raises(ConfigError, match="Shapes must be equal"):
        mean_squared_error(torch.zeros(outputs), torch.zeros(y), MASK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": LOGITS[:, 0]}, r"outputs must have shape \(N, C\), found \(6,\)"),
        ({"y": Y[:, None]}, r"y must have shape \(6,\), found \(6, 1\)"),
        ({"y": Y[:1]}, r"y must have shape \(6,\), found \(1,\)"),
        ({"mask": MASK[:1]}, "mask must be torch.bool of shape"),
        ({"mask": MASK.long()}, "mask must be torch.bool of shape"),
        ({"mask": MASK & False}, "at least one row"),
        ({"mask": MASK | True}, "in 0 to 2, found -1"),
        ({"y": Y + 1}, "in 0 to 2, found 3"),
        ({"class_weight": torch.ones(1)}, "Shapes must be equal"),
        ({"sample_weight": torch.ones(6, 1)}, "Shapes must be equal"),
    ],
)
def test_cross_entropy_refuses_what_does_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        cross_entropy(**{"outputs": LOGITS, "y": Y, "mask": MASK, **change})


def test_an_ensemble_has_three_axes():
    with pytest.raises(ConfigError, match=r"\(M, N, C\), found \(6, 3\)"):
        ensemble_cross_entropy(LOGITS, Y, MASK)
