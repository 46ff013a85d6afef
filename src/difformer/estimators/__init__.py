"""The scikit-learn contract."""

from difformer.estimators.classifier import DIFFormerClassifier
from difformer.estimators.model_selection import LabelledKFold

__all__ = ["DIFFormerClassifier", "LabelledKFold"]
