"""The sections of the page, in their order; each turns the saved files into blocks."""

from collections.abc import Callable

from difformer.report.blocks import Section
from difformer.report.files import Files
from difformer.report.sections.certainty import certainty
from difformer.report.sections.comparison import comparison
from difformer.report.sections.energy import energy
from difformer.report.sections.evaluation import evaluation
from difformer.report.sections.learning import learning
from difformer.report.sections.settings import settings

SECTIONS: tuple[Callable[[Files], Section], ...] = (
    evaluation,
    comparison,
    learning,
    energy,
    certainty,
    settings,
)

__all__ = ["SECTIONS"]
