"""The model card: ``README.md`` beside a saved model, which says what it is and how to use it.

Its head is what model hubs read (YAML between two lines of dashes); the rest is for people. It is
made from the model alone, so the same model gives the same bytes.
"""

import json
from collections.abc import Mapping, Sequence

CARD = "README.md"
PAPER = "https://arxiv.org/abs/2301.09474"


def model_card(
    title: str,
    task: str | None,
    about: Sequence[str],
    facts: Mapping[str, object],
    usage: str,
) -> str:
    """Markdown of a card.

    Args:
        title: First heading.
        task: As hubs name it, such as ``tabular-classification``; None: none of theirs.
        about: Paragraphs: what the model does, and what to know before it is passed on.
        facts: Rows of a table; None values are left out.
        usage: Python that loads the model.

    Example:
        >>> text = model_card("Model", None, ["It helps."], {"layers": 2}, "import difformer")
        >>> text.splitlines()[0], "| layers | 2 |" in text
        ('---', True)
    """
    head = {"library_name": "difformer", "pipeline_tag": task, "tags": ["difformer", "diffusion"]}
    lines = ["---"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in head.items() if value is not None]
    lines += ["---", "", f"# {title}", ""]
    for paragraph in about:
        lines += [paragraph, ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {_shown(value)} |" for name, value in facts.items() if value is not None]
    lines += ["", "```python", usage, "```", ""]
    lines += [f"Written by difformer. Method: DIFFormer (Wu et al., ICLR 2023), {PAPER}."]
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    """One cell of a table: numbers with separators, the rest as JSON without quotes around it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.replace("|", "\\|").replace("\n", " ")
