"""The physics: penalties, energies and exact diffusion paths, as pure functions on tensors."""

from difformer.diffusion.custom import penalty_from
from difformer.diffusion.energy import (
    Energy,
    contrast,
    degrees,
    energy,
    lambda_star,
    regulariser,
    step_bound,
)
from difformer.diffusion.graph import SparseWeights, observed
from difformer.diffusion.linear import Summary, summarise
from difformer.diffusion.local import local_weights
from difformer.diffusion.neighbourhood import Neighbourhood
from difformer.diffusion.penalty import (
    DIFFUSIVITIES,
    QUADRATIC,
    SIGMOID,
    SIMPLE,
    Diffusivity,
    Penalty,
    cauchy,
    resolve,
    welsch,
)
from difformer.diffusion.propagate import propagate, unit

__all__ = [
    "DIFFUSIVITIES",
    "QUADRATIC",
    "SIGMOID",
    "SIMPLE",
    "Diffusivity",
    "Energy",
    "Neighbourhood",
    "Penalty",
    "SparseWeights",
    "Summary",
    "cauchy",
    "contrast",
    "degrees",
    "energy",
    "lambda_star",
    "local_weights",
    "observed",
    "penalty_from",
    "propagate",
    "regulariser",
    "resolve",
    "step_bound",
    "summarise",
    "unit",
    "welsch",
]
