"""The scikit-learn contract."""

from difformer.estimators.classifier import DIFFormerClassifier
from difformer.estimators.encoder import DIFFormerEncoder
from difformer.estimators.forecaster import DIFFormerForecaster
from difformer.estimators.model_selection import LabelledKFold
from difformer.estimators.regressor import DIFFormerRegressor

__all__ = [
    "DIFFormerClassifier",
    "DIFFormerEncoder",
    "DIFFormerForecaster",
    "DIFFormerRegressor",
    "LabelledKFold",
]
