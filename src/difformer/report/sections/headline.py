"""The result in words: what was predicted, for how many rows, how good, on what evidence."""

from difformer.report.blocks import Block, Bullets, Facts, Section, Text
from difformer.report.files import Files
from difformer.report.saved import Evaluation, Overview
from difformer.report.words import count, counted, duration, listed, percent, wilson


def headline(files: Files) -> Section:
    """Return the top of the page."""
    overview = files.overview
    title = overview.title if overview else files.name
    blocks: list[Block] = [
        Text(f"{_predicted(files)} {_evidence(files.evaluation)}", tone="lead"),
    ]
    if overview is None:
        blocks.append(Text("The run has saved no overview of its data.", tone="missing"))
    else:
        blocks.append(Facts(_facts(overview)))
        if overview.notes:
            blocks.append(Bullets("Notes", overview.notes))
    return Section("result", title, blocks)


def _predicted(files: Files) -> str:
    among = _among(files.overview)
    if files.predictions is None or not files.predictions.everything.rows:
        return f"No predictions have been saved{among}."
    hidden, rows = files.predictions.unlabelled.rows, files.predictions.everything.rows
    if hidden:
        return f"The class of {counted(hidden, 'unlabelled row')} was predicted{among}."
    return f"The class of {counted(rows, 'row')} was predicted{among}; all have a label."


def _among(overview: Overview | None) -> str:
    if overview is None:
        return ""
    return f", one of {counted(len(overview.classes), 'class', 'classes')}"


def _evidence(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation.count:
        return "How good the predictions are is not known: no row with a hidden label was judged."
    accuracy = evaluation.metrics.get("accuracy")
    rows = counted(evaluation.count, "row")
    if accuracy is None:
        return f"They were judged on {rows} whose labels were hidden from the training."
    low, high = wilson(round(accuracy * evaluation.count), evaluation.count)
    return (
        f"Of {rows} whose labels were hidden from the training, {percent(accuracy)} were right "
        f"(95\u00a0% interval {percent(low)} to {percent(high)}, taking rows as independent)"
        f"{_chance(evaluation)}."
    )


def _chance(evaluation: Evaluation) -> str:
    sizes = [sum(row) for row in evaluation.confusion]
    if not sum(sizes):
        return ""
    share = percent(max(sizes) / sum(sizes))
    return f"; always naming their most frequent class would be right for {share}"


def _facts(overview: Overview) -> list[tuple[str, str]]:
    facts = [
        ("Data", overview.data),
        ("Rows", count(overview.instances)),
        ("Labelled", _share_of(overview.labelled, overview.instances)),
        ("Held out", _share_of(overview.held_out, overview.instances)),
        ("Features", count(overview.features)),
        ("Edges", count(overview.edges) if overview.edges else "none given"),
        ("Diffusivity", listed(overview.diffusivity)),
        ("Time", duration(overview.seconds)),
        ("Encoder", overview.encoder),
        ("Classes", f"{count(len(overview.classes))}: {listed(overview.classes)}"),
    ]
    return facts + ([("Command", overview.command)] if overview.command else [])


def _share_of(part: int, whole: int) -> str:
    return f"{count(part)} ({percent(part / whole)})" if whole else count(part)
