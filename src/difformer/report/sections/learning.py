"""The learning curve: loss and accuracy by epoch."""

from collections.abc import Sequence

from difformer.report import charts
from difformer.report.blocks import Block, Chart, Grid, Section, left_out
from difformer.report.files import Files
from difformer.report.words import count, counted, duration, figure, percent, points
from difformer.runs.records import Record

KEY, TITLE = "learning", "How it learnt"
MOST_POINTS = 2000  # of a curve
MOST_ROWS = 25  # of the table
LOSSES = (("train_loss", "training"), ("val_loss", "validation"))
ACCURACIES = (("train_accuracy", "training"), ("val_accuracy", "validation"))


def learning(files: Files) -> Section:
    """Return the section; without metrics, the reason."""
    records = files.metrics
    if not any(_known(records, key) for key, _ in (*LOSSES, *ACCURACIES)):
        return left_out(KEY, TITLE, "Left out: the run has saved no metrics of its epochs.")
    blocks: list[Block] = [_chart(records)]
    return Section(KEY, TITLE, blocks)


def _known(records: Sequence[Record], key: str) -> bool:
    return any(record.get(key) is not None for record in records)


def _chart(records: Sequence[Record]) -> Chart:
    panels = [panel for panel in (LOSSES, ACCURACIES) if any(_known(records, k) for k, _ in panel)]
    drawn: list[charts.Trace] = []
    for number, panel in enumerate(panels, start=1):
        drawn += _lines(records, panel, number)
    return Chart(
        key=KEY,
        alt=f"Learning curve by epoch. {_words(records)}",
        caption=_words(records),
        data=_one_legend_entry_each(drawn),
        layout=_layout(records, panels),
        grid=_grid(records),
    )


def _lines(
    records: Sequence[Record], panel: Sequence[tuple[str, str]], number: int
) -> list[charts.Trace]:
    scale = 100 if panel is ACCURACIES else 1
    lines = []
    for series, (key, name) in enumerate(panel):
        known = [record for record in records if record.get(key) is not None]
        kept = charts.thinned(known, MOST_POINTS)
        if kept:
            x = [record["epoch"] or 0 for record in kept]
            y = [scale * (record[key] or 0.0) for record in kept]
            lines.append(charts.line(x, y, name, series, number))
    return lines


def _one_legend_entry_each(lines: Sequence[charts.Trace]) -> list[charts.Trace]:
    seen: set[object] = set()
    done = []
    for line in lines:
        done.append({**line, "showlegend": line["name"] not in seen})
        seen.add(line["name"])
    return done


def _layout(
    records: Sequence[Record], panels: Sequence[Sequence[tuple[str, str]]]
) -> dict[str, object]:
    layout: dict[str, object] = {"height": 360, "meta": {"panels": len(panels)}}
    epochs = [record["epoch"] or 0 for record in records]
    for number, panel in enumerate(panels, start=1):
        suffix = "" if number == 1 else str(number)
        layout[f"xaxis{suffix}"] = charts.steps_axis("epoch", epochs)
        layout[f"yaxis{suffix}"] = _y_axis(records, panel)
    return layout


def _y_axis(records: Sequence[Record], panel: Sequence[tuple[str, str]]) -> charts.Axis:
    if panel is ACCURACIES:
        return charts.axis("accuracy (%)", range=[0, 103])
    return charts.value_axis(
        "loss (nats)", [record.get(key) for key, _ in panel for record in records]
    )


def _words(records: Sequence[Record]) -> str:
    seconds = sum(record.get("seconds") or 0.0 for record in records)
    words = f"{counted(len(records), 'epoch')}"
    words += f" in {duration(seconds)}." if seconds else "."
    scored = [record for record in records if record.get("val_accuracy") is not None]
    if scored:
        best = max(scored, key=lambda record: record["val_accuracy"] or 0.0)
        share, epoch = percent(best["val_accuracy"]), count(int(best["epoch"] or 0))
        words += f" The validation accuracy was highest, {share}, at epoch {epoch}."
    return words


def _grid(records: Sequence[Record]) -> Grid:
    shown = charts.thinned(records, MOST_ROWS)
    some = f"{len(shown)} of {count(len(records))} epochs, evenly spread"
    caption = "Every epoch." if len(shown) == len(records) else f"{some}."
    header = (
        "epoch",
        "training loss, nats",
        "validation loss, nats",
        "training accuracy, %",
        "validation accuracy, %",
    )
    return Grid(caption, header, [_cells(record) for record in shown], texts=0)


def _cells(record: Record) -> tuple[str, ...]:
    losses = [figure(record.get(key)) for key, _ in LOSSES]
    accuracies = [points(record.get(key)) for key, _ in ACCURACIES]
    return (count(int(record["epoch"] or 0)), *losses, *accuracies)
