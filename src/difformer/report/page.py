"""One page of HTML that needs nothing but itself: text, tables, charts, styles and scripts."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from difformer.report.blocks import Block, Chart, Section
from difformer.report.charts import script_json
from difformer.report.files import Files, read_files
from difformer.report.sections import sections_of
from difformer.runs import RunDirectory
from difformer.runs.atomic import write_text

REPORT = "report.html"


def write_report(run: RunDirectory) -> Path:
    """Write ``report.html`` into the folder of a run, from the files that lie there.

    Sections whose files are missing say so in one sentence. In a finished run, call ``finish``
    again afterwards: the manifest lists the report too.

    Args:
        run: Finished or not; nothing else in it is changed.

    Returns:
        The path of the page: about 5 MB, nearly all of it the chart library.

    Raises:
        RunError: A file is damaged, or the page cannot be written.
    """
    path = run.path / REPORT
    write_text(path, render(read_files(run)))
    return path


def render(files: Files) -> str:
    """Return the page."""
    headline, *sections = sections_of(files)
    library = Markup(get_plotlyjs()) if _charts(sections) else Markup("")
    template = _environment().get_template("page.html")
    return template.render(headline=headline, sections=sections, library=library)


def _charts(sections: list[Section]) -> list[Block]:
    return [block for section in sections for block in section.blocks if isinstance(block, Chart)]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("difformer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = _figure_json
    return environment


def _figure_json(chart: Chart) -> Markup:
    return Markup(script_json({"data": list(chart.data), "layout": dict(chart.layout)}))
