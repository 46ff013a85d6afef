"""Methods of scikit-learn, by its own classes. All read the features through ``task.scaled``."""

import warnings
from collections.abc import Callable
from typing import Any

from difformer.experiments.methods.method import Fit, Method, Settings
from difformer.experiments.task import Probabilities, Task, dense, scaled, spread

Make = Callable[[Task, Settings, int], Any]


def inductive(make: Make, densely: bool = False, unlabelled: bool = False) -> Fit:
    """Fit on the labelled rows alone; with ``unlabelled`` on all, -1 where the label is hidden."""

    def fit(task: Task, settings: Settings, seed: int) -> Probabilities:
        x = dense(task, seed) if densely else scaled(task)
        rows = slice(None) if unlabelled else task.labelled
        model = make(task, settings, seed)
        _quietly(model, x[rows], task.y[rows])
        return spread(model.predict_proba(x), model.classes_, task.num_classes)

    return fit


def transductive(make: Make) -> Fit:
    """Fit on all rows, -1 where the label is hidden."""

    def fit(task: Task, settings: Settings, seed: int) -> Probabilities:
        model = make(task, settings, seed)
        _quietly(model, scaled(task), task.y)
        return spread(model.label_distributions_, model.classes_, task.num_classes)

    return fit


def _quietly(model: Any, x: Any, y: Any) -> None:
    with warnings.catch_warnings():
        # A baseline that stops at its iteration limit is a result, not the user's concern.
        warnings.simplefilter("ignore")
        model.fit(x, y)


def _logistic(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000, random_state=seed, **settings)


def _svm(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    # The vote of pairs decides; probabilities are only asked for by whoever ranks.
    fewest = min(int((task.y == c).sum()) for c in set(task.y[task.labelled].tolist()))
    machine = SVC(random_state=seed, **settings)
    if fewest < 2:
        return _Votes(machine)
    folds = StratifiedKFold(min(5, fewest), shuffle=True, random_state=seed)
    return CalibratedClassifierCV(machine, cv=folds, ensemble=False)


class _Votes:
    """A classifier's answers as probabilities 0 and 1, where there is too little to calibrate."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, x: Any, y: Any) -> None:
        self.model.fit(x, y)
        self.classes_ = self.model.classes_

    def predict_proba(self, x: Any) -> Any:
        return (self.model.predict(x)[:, None] == self.classes_[None]).astype(float)


def _neighbours(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    count = min(settings["n_neighbors"], len(task.labelled))
    return KNeighborsClassifier(**{**settings, "n_neighbors": count})


def _perceptron(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    width = settings["hidden_channels"]
    rest = {name: value for name, value in settings.items() if name != "hidden_channels"}
    return MLPClassifier((width,), random_state=seed, **rest)


def _boosting(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False, **settings)


def _self_training(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import SelfTrainingClassifier

    base = LogisticRegression(C=settings["C"], max_iter=1000, random_state=seed)
    return SelfTrainingClassifier(base, threshold=settings["threshold"])


def _spreading(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.semi_supervised import LabelSpreading

    return LabelSpreading(kernel="knn", max_iter=1000, **_few(settings, task))


def _propagation(task: Task, settings: Settings, seed: int) -> Any:
    from sklearn.semi_supervised import LabelPropagation

    return LabelPropagation(kernel="knn", max_iter=1000, **_few(settings, task))


def _few(settings: Settings, task: Task) -> dict[str, Any]:
    return {**settings, "n_neighbors": min(settings["n_neighbors"], task.num_instances)}


STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
NEAR = (3, 5, 7, 10, 15, 20)

CLASSIC = {
    "logistic": Method("logistic regression", inductive(_logistic), {"C": 10.0}, {"C": STRENGTHS}),
    "svm": Method(
        "SVM",
        inductive(_svm),
        {"C": 10.0, "kernel": "rbf", "gamma": "scale"},
        {"C": STRENGTHS, "kernel": ("rbf", "linear")},
    ),
    "knn": Method(
        "k-NN",
        inductive(_neighbours),
        {"n_neighbors": 5, "weights": "distance"},
        {"n_neighbors": (1, *NEAR), "weights": ("distance", "uniform")},
    ),
    "sklearn-mlp": Method(
        "MLP",
        inductive(_perceptron),
        {"hidden_channels": 64, "alpha": 1e-4, "learning_rate_init": 1e-3, "max_iter": 500},
        {"alpha": (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0), "hidden_channels": (32, 64, 128, 256)},
    ),
    "boosting": Method(
        "histogram boosting",
        inductive(_boosting, densely=True),
        {"max_iter": 100, "learning_rate": 0.1, "min_samples_leaf": 5, "l2_regularization": 0.0},
        {
            "learning_rate": (0.02, 0.05, 0.1, 0.2),
            "min_samples_leaf": (1, 2, 5, 10, 20),
            "l2_regularization": (0.0, 0.1, 1.0, 10.0),
        },
    ),
    "self-training": Method(
        "self-training",
        inductive(_self_training, unlabelled=True),
        {"C": 10.0, "threshold": 0.75},
        {"C": STRENGTHS, "threshold": (0.6, 0.75, 0.9, 0.95)},
    ),
    "label-propagation": Method(
        "label propagation",
        transductive(_propagation),
        {"n_neighbors": 7},
        {"n_neighbors": NEAR},
    ),
    "label-spreading": Method(
        "label spreading",
        transductive(_spreading),
        {"n_neighbors": 7, "alpha": 0.2},
        {"n_neighbors": NEAR, "alpha": (0.05, 0.2, 0.5, 0.8, 0.9, 0.99)},
    ),
}
