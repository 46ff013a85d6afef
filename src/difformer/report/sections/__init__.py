"""The sections of the page, in their order; each turns the saved files into blocks.

A page has the sections of its task; what is not known has those of classification.
"""

from collections.abc import Callable

from difformer.report.blocks import Section
from difformer.report.files import FORECASTING, Files
from difformer.report.sections.certainty import certainty
from difformer.report.sections.comparison import comparison
from difformer.report.sections.energy import energy
from difformer.report.sections.evaluation import evaluation
from difformer.report.sections.forecasts import coming, errors, forecast_headline, forecasts
from difformer.report.sections.headline import headline
from difformer.report.sections.learning import learning
from difformer.report.sections.settings import settings

Make = Callable[[Files], Section]
SECTIONS: tuple[Make, ...] = (
    headline,
    evaluation,
    comparison,
    learning,
    energy,
    certainty,
    settings,
)
FORECASTS: tuple[Make, ...] = (
    forecast_headline,
    coming,
    errors,
    forecasts,
    learning,
    settings,
)


def sections_of(files: Files) -> list[Section]:
    """All sections of a run, the headline first."""
    task = files.overview.task if files.overview else None
    return [make(files) for make in (FORECASTS if task == FORECASTING else SECTIONS)]


__all__ = ["SECTIONS", "sections_of"]
