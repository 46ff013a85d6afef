"""Energy-constrained diffusion over sets and graphs.

The public names are loaded when first used, so that ``import difformer`` and ``difformer --help``
do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from difformer import diffusion
    from difformer.estimators import (
        DIFFormerClassifier,
        DIFFormerEncoder,
        DIFFormerForecaster,
        DIFFormerRegressor,
        LabelledKFold,
    )
    from difformer.nn import DIFFormer, DIFFormerConv, GraphDIFFormer

_HOME = {
    "DIFFormer": "difformer.nn",
    "DIFFormerClassifier": "difformer.estimators",
    "DIFFormerConv": "difformer.nn",
    "DIFFormerEncoder": "difformer.estimators",
    "DIFFormerForecaster": "difformer.estimators",
    "DIFFormerRegressor": "difformer.estimators",
    "GraphDIFFormer": "difformer.nn",
    "LabelledKFold": "difformer.estimators",
}

__all__ = [
    "DIFFormer",
    "DIFFormerClassifier",
    "DIFFormerConv",
    "DIFFormerEncoder",
    "DIFFormerForecaster",
    "DIFFormerRegressor",
    "GraphDIFFormer",
    "LabelledKFold",
    "__version__",
    "diffusion",
]


def __getattr__(name: str) -> Any:
    if name == "diffusion":
        return import_module("difformer.diffusion")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'difformer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
