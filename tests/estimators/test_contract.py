"""scikit-learn's own checks of an estimator, whole."""

import numpy as np
import pandas as pd
from sklearn.utils.estimator_checks import parametrize_with_checks

from difformer import DIFFormerClassifier, DIFFormerEncoder, DIFFormerRegressor

# -1 means "unlabelled" to every semi-supervised classifier. scikit-learn exempts its own from the
# one check that uses -1 and 1 as classes, by their names; we refuse such labels with an error.
EXPECTED = {"check_classifiers_classes": "labels -1 and 1: -1 means unlabelled"}
QUICK = {"epochs": 40, "eval_every": 40}
ESTIMATORS = [
    DIFFormerClassifier(),
    DIFFormerRegressor(),
    DIFFormerEncoder(),
    DIFFormerClassifier("trained", training=QUICK),
]


def expected(estimator):
    return EXPECTED if isinstance(estimator, DIFFormerClassifier) else {}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected, xfail_strict=True)
def test_contract(estimator, check):
    check(estimator)


def test_states_come_as_a_data_frame_where_asked():
    x = np.random.default_rng(0).normal(size=(20, 3))
    model = DIFFormerClassifier(training={"epochs": 1}).fit(x, np.arange(20) % 2)
    frame = model.set_output(transform="pandas").transform(x[:2])
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns[0] == "difformerclassifier0"
    assert frame.shape == (2, model.embedding_.shape[1])
