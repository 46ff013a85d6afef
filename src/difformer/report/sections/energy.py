"""Energy by layer: how diffusion lowers the disagreement, and what that does not prove."""

from collections.abc import Sequence

from difformer.report import charts
from difformer.report.blocks import Block, Bullets, Chart, Grid, Section, Text, left_out
from difformer.report.files import Files
from difformer.report.saved import Step, Term, Trace
from difformer.report.words import counted, figure, percent

KEY, TITLE = "energy", "Energy by layer"
MOST_ROWS = 25
WHAT = (
    "Each layer is one step of diffusion. It trades a small move of the states, |Z⁺ − Z|², for "
    "less disagreement R between pairs of rows that the model takes as alike."
)
HOLDS = (
    "Every condition of the descent theorem that is checked holds: with a weight λ of at least λ* "
    "between the two parts, no step raises the energy."
)


def energy(files: Files) -> Section:
    """Return the section; without a trace, the reason."""
    trace = files.trace
    if trace is None:
        return left_out(KEY, TITLE, "Left out: the run has saved no trace of its diffusion steps.")
    if not trace.steps:
        return left_out(KEY, TITLE, "Left out: the model has no diffusion step.")
    blocks: list[Block] = [Text(WHAT), _chart(trace), _ends(trace), _limits(trace)]
    return Section(KEY, TITLE, blocks)


def _limits(trace: Trace) -> Block:
    if not trace.broken_conditions:
        return Text(HOLDS)
    title = (
        "What this does not prove: the theorem that each step lowers the energy does not cover "
        "this model, because"
    )
    return Bullets(title, trace.broken_conditions)


def _chart(trace: Trace) -> Chart:
    return Chart(
        key=KEY,
        alt=f"Two panels by diffusion step: disagreement R and squared move. {_words(trace)}",
        caption=f"{_words(trace)} R is measured right after a step, before any normalisation.",
        data=[*_disagreement(trace), _moves(trace)],
        layout=_layout(trace),
        grid=_all_steps(trace),
    )


def _words(trace: Trace) -> str:
    parts = [f"{counted(len(trace.steps), 'step')}."]
    for index, name in enumerate(_names(trace)):
        values = [value for value in _course(trace, index) if value is not None]
        if len(values) > 1:
            parts.append(f"R of {name}: {figure(values[0])} before, {figure(values[-1])} after.")
    return " ".join(parts)


def _names(trace: Trace) -> list[str]:
    """Return the terms' names, numbered where one occurs twice."""
    names = [term.name for term in trace.steps[0].terms]
    repeated = {name for name in names if names.count(name) > 1}
    return [
        f"{name} ({names[: index + 1].count(name)})" if name in repeated else name
        for index, name in enumerate(names)
    ]


def _course(trace: Trace, index: int) -> list[float | None]:
    """Return R of a term: before the first step and after each."""
    moved = [step.terms[index].regulariser_moved for step in trace.steps]
    return [trace.steps[0].terms[index].regulariser, *moved]


def _numbers(trace: Trace) -> list[float]:
    return [float(step.step) for step in trace.steps]


def _disagreement(trace: Trace) -> list[charts.Trace]:
    numbers = [_numbers(trace)[0] - 1, *_numbers(trace)]
    return [
        charts.line(numbers, _course(trace, index), name, index)
        for index, name in enumerate(_names(trace))
    ]


def _moves(trace: Trace) -> charts.Trace:
    after_terms = len(trace.steps[0].terms)
    moves = [step.move for step in trace.steps]
    return charts.line(_numbers(trace), moves, "squared move", after_terms, 2, legend=False)


def _layout(trace: Trace) -> dict[str, object]:
    numbers = _numbers(trace)
    courses = [v for i in range(len(trace.steps[0].terms)) for v in _course(trace, i)]
    moves = [step.move for step in trace.steps]
    return {
        "height": 360,
        "xaxis": charts.steps_axis(
            "diffusion step (0: before the first)", [numbers[0] - 1, *numbers]
        ),
        "xaxis2": charts.steps_axis("diffusion step", numbers),
        "yaxis": charts.value_axis("disagreement R (no unit)", courses),
        "yaxis2": charts.value_axis("squared move (no unit)", moves),
        "meta": {"panels": 2},
    }


def _ends(trace: Trace) -> Grid:
    caption = (
        "First and last step. λ*: smallest weight of R that certifies the step size τ, infinite at "
        "τ = 1. Contrast: how much more a row hears from its own class than from others."
    )
    header = ("step", "diffusivity", "share", "τ", "λ*", "contrast")
    ends = [trace.steps[0], trace.steps[-1]] if len(trace.steps) > 1 else [trace.steps[0]]
    names = _names(trace)
    rows = [
        _end(step, term, name)
        for step in ends
        for term, name in zip(step.terms, names, strict=True)
    ]
    return Grid(caption, header, rows, texts=2)


def _end(step: Step, term: Term, name: str) -> tuple[str, ...]:
    certificate = "∞" if term.lambda_star is None else figure(term.lambda_star)
    return (
        str(step.step),
        name,
        percent(term.share),
        figure(step.step_size, 3),
        certificate,
        figure(term.contrast, 3),
    )


def _all_steps(trace: Trace) -> Grid:
    shown = charts.thinned(trace.steps, MOST_ROWS)
    header = ("step", *(f"R after, {name}" for name in _names(trace)), "squared move")
    rows = [_step_row(step) for step in shown]
    before = [figure(term.regulariser) for term in trace.steps[0].terms]
    start: Sequence[str] = ("before", *before, "–")
    return Grid(f"{counted(len(shown), 'step')} of {len(trace.steps)}.", header, [start, *rows])


def _step_row(step: Step) -> tuple[str, ...]:
    values = [figure(term.regulariser_moved) for term in step.terms]
    return (str(step.step), *values, figure(step.move))
