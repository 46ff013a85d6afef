"""The scikit-learn contract."""

from difformer.estimators.classifier import DIFFormerClassifier

__all__ = ["DIFFormerClassifier"]
