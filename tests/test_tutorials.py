"""Every tutorial runs as it stands there, from its first block to its last."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"


def test_there_are_tutorials():
    assert list(FOLDER.glob("*.md"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_a_tutorial_runs(path):
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    exec(compile("".join(blocks), path.name, "exec"), {"__name__": "tutorial"})
