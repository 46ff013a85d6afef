"""scikit-learn's own checks of an estimator, whole."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from difformer import DIFFormerClassifier

# -1 means "unlabelled" to every semi-supervised classifier. scikit-learn exempts its own from the
# one check that uses -1 and 1 as classes, by their names; we refuse such labels with an error.
EXPECTED = {"check_classifiers_classes": "labels -1 and 1: -1 means unlabelled"}


@parametrize_with_checks(
    [DIFFormerClassifier()], expected_failed_checks=lambda estimator: EXPECTED, xfail_strict=True
)
def test_contract(estimator, check):
    check(estimator)
