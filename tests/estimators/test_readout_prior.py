"""Weight decay of the readout as a prior that does not depend on how many labels there are."""

import numpy as np
import pytest

from difformer import DIFFormerClassifier, DIFFormerRegressor
from difformer.estimators import decoupled
from difformer.estimators.decoupled import with_prior
from difformer.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("labels", "factor"), [(1, 10), (80, 10), (160, 6.25), (1_000, 1), (9_000, 1)]
)
def test_it_grows_as_labels_get_fewer(labels: int, factor: float) -> None:
    found = with_prior(TrainingConfig(weight_decay=5e-4), labels).weight_decay

    assert found == pytest.approx(5e-4 * factor)


def test_none_stays_none() -> None:
    assert with_prior(TrainingConfig(weight_decay=0.0), 10).weight_decay == 0


@pytest.mark.parametrize("target", ["classes", "numbers"])
def test_classes_learn_with_it_and_numbers_without(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = decoupled.train

    def train(*arguments: object, **keywords: object) -> object:
        seen.extend(a.weight_decay for a in arguments if isinstance(a, TrainingConfig))
        return original(*arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(decoupled, "train", train)
    x = np.random.default_rng(0).normal(size=(60, 20))
    y = (x[:, 0] > 0).astype(int)
    options = {"options": {"source": 0.1}, "training": {"epochs": 2}}
    if target == "classes":
        DIFFormerClassifier("decoupled", **options).fit(x, np.where(np.arange(60) < 40, y, -1))
    else:
        DIFFormerRegressor("decoupled", **options).fit(
            x, np.where(np.arange(60) < 40, x[:, 0], np.nan)
        )

    assert seen == pytest.approx([5e-3 if target == "classes" else 5e-4])
