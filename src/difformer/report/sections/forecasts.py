"""Forecasts: how good by step ahead, beside reference points; intervals; truth and forecast."""

from collections.abc import Sequence

from difformer.report import charts
from difformer.report.blocks import Block, Bullets, Chart, Facts, Grid, Section, Text, left_out
from difformer.report.files import Files
from difformer.report.saved import (
    ComingCurve,
    Coverage,
    Curve,
    Curves,
    ForecastEvaluation,
    ForecastMethod,
    Overview,
)
from difformer.report.words import (
    MISSING,
    count,
    counted,
    duration,
    figure,
    listed,
    percent,
)

FEW_STEPS = 8  # up to which a table shows all
OFF = 0.03  # share by which coverage may differ before it is said
WIDEST_CHARTS = 4  # nodes that are drawn


def forecast_headline(files: Files) -> Section:
    """Return the top of the page."""
    overview = files.overview
    assert overview is not None  # it says that these are forecasts
    ahead = counted(overview.horizon or 0, "step")
    lead = (
        f"The next {ahead} of {counted(overview.instances, 'series', 'series')} were forecast. "
        f"{_evidence(files.forecast)}"
    )
    blocks: list[Block] = [Text(lead, tone="lead"), Facts(_facts(overview))]
    if overview.notes:
        blocks.append(Bullets("Notes", overview.notes))
    return Section("result", overview.title, blocks)


def _evidence(found: ForecastEvaluation | None) -> str:
    if found is None:
        return "How good that is is not known: too few steps could be held out."
    ours, others = found.methods[0], found.methods[1:]
    mean = _mean(ours.rmse)
    told = f"On held-out steps the root mean squared error is {figure(mean, 3)}"
    known = [(m, value) for m in others if (value := _mean(m.rmse)) is not None]
    if not known or mean is None:
        return f"{told}."
    best, value = min(known, key=lambda pair: pair[1])
    if mean < value:
        share = percent(1 - mean / value, 0)
        return (
            f"{told}, {share} below the best reference point ({best.method}, {figure(value, 3)})."
        )
    return (
        f"{told}; a reference point is better ({best.method}, {figure(value, 3)}): trust that one, "
        "or give a season, a graph or a longer series."
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Over steps ahead, by squares, as the error of all of them together."""
    known = [value for value in values if value is not None]
    return (sum(v * v for v in known) / len(known)) ** 0.5 if known else None


def _facts(overview: Overview) -> list[tuple[str, str]]:
    return [
        ("Data", overview.data),
        ("Nodes", count(overview.instances)),
        ("Steps", f"{count(overview.steps or 0)}: {overview.first} to {overview.last}"),
        ("Seen", f"the last {counted(overview.lags or 0, 'value')}"),
        ("Forecast", f"the next {counted(overview.horizon or 0, 'value')}"),
        ("Season", counted(overview.season, "step") if overview.season else "none given"),
        ("Edges", count(overview.edges) if overview.edges else "none given"),
        ("Nodes listen to", listed(overview.diffusivity) or "themselves alone"),
        ("Encoder", overview.encoder),
        ("Time", duration(overview.seconds)),
    ]


def coming(files: Files) -> Section:
    """Return what is forecast to come, after the last values, for some nodes."""
    found, title = files.coming, "What comes next"
    if found is None or not found.curves:
        return left_out("coming", title, "Left out: the run has saved no forecasts.")
    names = {curve.node for curve in charts.thinned(found.curves, WIDEST_CHARTS)}
    shown = [curve for curve in found.curves if curve.node in names]
    words = (
        f"The last values of {counted(len(shown), 'node')} and what is forecast to follow them, "
        "with intervals of 95\u00a0% where there are any; predictions.csv has all nodes."
    )
    drawn = [_next(curve, number) for number, curve in enumerate(shown)]
    return Section("coming", title, [Text(words), *drawn])


def _next(curve: ComingCurve, number: int) -> Chart:
    times = [*curve.times, *curve.coming]
    known = list(range(len(curve.times)))
    ahead = list(range(len(curve.times), len(times)))
    drawn = []
    for bound, legend in ((curve.upper, True), (curve.lower, False)):
        if bound:
            drawn.append(charts.line(ahead, bound, "95\u00a0% interval", 2, legend=legend))
    drawn += [
        charts.line(known, curve.values, "known", 1),
        charts.line(ahead, curve.forecast, "forecast", 0),
    ]
    header = ("time", "forecast", "lower", "upper")
    bounds = (curve.lower or [None] * len(ahead), curve.upper or [None] * len(ahead))
    rows = [
        (time, *(figure(value) for value in values))
        for time, *values in zip(curve.coming, curve.forecast, *bounds, strict=True)
    ]
    grid = Grid(f"What is forecast for {curve.node}.", header, rows)
    alt = f"Lines of the last values of {curve.node} and of what is forecast to follow."
    return Chart(f"coming-{number}", alt, f"{curve.node}.", drawn, _over_time(times), grid)


def _over_time(times: Sequence[str]) -> dict[str, object]:
    """The frame of a chart of values over time, whose x are numbers of times."""
    ticks = charts.thinned(list(range(len(times))), 7)
    labels = [charts.label(times[i]) for i in ticks]
    return {
        "height": 320,
        "xaxis": charts.axis("time", tickvals=ticks, ticktext=labels),
        "yaxis": charts.axis("value"),
        "meta": {"panels": 1},
    }


def errors(files: Files) -> Section:
    """Return errors by step and how often intervals held the truth."""
    found, title = files.forecast, "How good it is"
    if found is None:
        return left_out("evaluation", title, "Left out: no steps could be held out to judge on.")
    words = f"Judged on {found.how} Errors are in the unit of the data."
    blocks: list[Block] = [Text(words), _table(found)]
    if found.steps > 1:
        blocks.append(_by_step(found))
    if found.coverage:
        blocks += [Text(_trust(found.coverage)), _coverage(found)]
    return Section("evaluation", title, blocks)


def _shown(steps: int) -> list[int]:
    """Numbers of the steps in a table, from 0."""
    every = list(range(steps))
    return every if steps <= FEW_STEPS else charts.thinned(every, FEW_STEPS)


def _table(found: ForecastEvaluation) -> Grid:
    last = found.steps - 1
    shown = sorted({0, last // 2, last})
    header = ["method"]
    for step in shown:
        header += [f"MAE, step {step + 1}", f"RMSE, step {step + 1}"]
    rows = [
        (m.method, *(figure(e[step]) for step in shown for e in (m.mae, m.rmse)))
        for m in found.methods
    ]
    return Grid("Mean absolute and root mean squared error by step ahead.", header, rows)


def _by_step(found: ForecastEvaluation) -> Chart:
    steps = list(range(1, found.steps + 1))
    best = min(_mean(m.rmse) or 0.0 for m in found.methods)
    drawn = [
        charts.line(steps, m.rmse, m.method, series) for series, m in enumerate(_near(found, best))
    ]
    header = ("step", *(m.method for m in found.methods))
    rows = [
        (count(step + 1), *(figure(m.rmse[step]) for m in found.methods))
        for step in _shown(found.steps)
    ]
    layout = {
        "height": 380,
        "xaxis": charts.steps_axis("steps ahead", steps),
        "yaxis": charts.axis("root mean squared error", rangemode="tozero"),
        "meta": {"panels": 1},
    }
    left = len(found.methods) - len(drawn)
    caption = "Error by steps ahead." + (
        f" {counted(left, 'method')} with more than three times the smallest error stand in the "
        "table alone."
        if left
        else ""
    )
    alt = f"Lines of the error by steps ahead for {counted(len(drawn), 'method')}."
    grid = Grid("Root mean squared error by step ahead.", header, rows)
    return Chart("errors", alt, caption, drawn, layout, grid)


def _near(found: ForecastEvaluation, best: float) -> list[ForecastMethod]:
    return [m for m in found.methods if (_mean(m.rmse) or 0.0) <= 3 * best or m is found.methods[0]]


def _trust(coverage: Sequence[Coverage]) -> str:
    words = []
    for row in coverage:
        known = [share for share in row.shares if share is not None]
        if known:
            words.append((row.level, sum(known) / len(known)))
    told = "; ".join(f"those of {percent(level, 0)} held {percent(got)}" for level, got in words)
    off = [level for level, got in words if abs(level - got) > OFF]
    verdict = (
        "They may be trusted as far as the future is like these steps."
        if not off
        else "Those that are off by more than three points should not be taken at their word: the "
        "series changed, or there were few steps to learn their width from."
    )
    return f"Intervals on the held-out steps: {told}. {verdict}"


def _coverage(found: ForecastEvaluation) -> Grid:
    shown = _shown(found.steps)
    header = ("level", *(f"step {step + 1}, %" for step in shown))
    rows = [
        (
            percent(row.level, 0),
            *(
                MISSING if row.shares[s] is None else f"{100 * (row.shares[s] or 0):.1f}"
                for s in shown
            ),
        )
        for row in found.coverage
    ]
    return Grid("Share of values inside the intervals.", header, rows)


def forecasts(files: Files) -> Section:
    """Return truth and forecasts of some nodes."""
    found, title = files.curves, "Forecast and truth"
    if found is None or not found.curves:
        return left_out("forecasts", title, "Left out: no steps were held out.")
    words = (
        "Some nodes on the held-out steps: what was forecast, from what was known by then, and "
        "what came."
    )
    drawn = [_curve(found, curve, number) for number, curve in enumerate(_chosen(found))]
    return Section("forecasts", title, [Text(words), *drawn])


def _chosen(found: Curves) -> list[Curve]:
    """A few nodes, each at the first and the last step ahead."""
    names = list(dict.fromkeys(curve.node for curve in found.curves))
    kept = set(charts.thinned(names, WIDEST_CHARTS))
    return [curve for curve in found.curves if curve.node in kept]


def _curve(found: Curves, curve: Curve, number: int) -> Chart:
    places = list(range(len(curve.times)))
    drawn = []
    if curve.lower and found.level is not None:
        name = f"{percent(found.level, 0)} interval"
        drawn += [
            {**charts.line(places, curve.upper, name, 2), "mode": "lines", "showlegend": True},
            {**charts.line(places, curve.lower, name, 2), "mode": "lines", "showlegend": False},
        ]
    drawn += [
        charts.line(places, curve.truth, "truth", 1),
        charts.line(places, curve.forecast, "forecast", 0),
    ]
    ahead = counted(curve.ahead, "step")
    caption = f"{curve.node}, {ahead} ahead."
    alt = f"Lines of truth and forecast of {curve.node}, {ahead} ahead, on held-out steps."
    return Chart(f"curve-{number}", alt, caption, drawn, _over_time(curve.times), _numbers(curve))


def _numbers(curve: Curve) -> Grid:
    rows = list(zip(curve.times, curve.truth, curve.forecast, strict=True))
    kept = charts.thinned(rows, 25)
    cells = [(time, figure(truth), figure(said)) for time, truth, said in kept]
    some = "" if len(kept) == len(rows) else f" {len(kept)} of {count(len(rows))}, evenly spread."
    return Grid(f"{curve.node}, {curve.ahead} ahead.{some}", ("time", "truth", "forecast"), cells)
