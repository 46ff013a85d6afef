"""A floor under the default: handwritten digits, 10 labels a class, drawn splits 0 to 4."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.semi_supervised import LabelSpreading

from difformer import DIFFormerClassifier
from difformer.data.splits import per_class


@pytest.mark.slow
def test_the_default_is_right_and_above_label_spreading():
    x, y = load_digits(return_X_y=True)
    ours, theirs = [], []
    for seed in range(5):
        shown = per_class(y, 10, seed).train
        known = np.where(shown, y, -1)
        model = DIFFormerClassifier().fit(x, known)
        ours.append((model.transduction_ == y)[~shown].mean())
        spreading = LabelSpreading(kernel="knn", n_neighbors=7).fit(x, known)
        theirs.append((spreading.transduction_ == y)[~shown].mean())
    assert np.mean(ours) >= 0.96
    assert np.mean(ours) > np.mean(theirs)
    assert np.min(ours) > 0.93
