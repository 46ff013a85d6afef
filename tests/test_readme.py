"""The README's Python runs as it stands there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_is_code_to_run():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("code", BLOCKS, ids=["estimator", "forecaster", "module"])
def test_a_block_runs(code):
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "truth" in names:
        right = (names["model"].transduction_ == names["truth"]).mean()
        assert right > 0.9
    elif "series" in names:
        result = names["result"]
        assert result.errors()[0]["rmse"] < result.errors("last value")[0]["rmse"]
        assert names["lower"].shape == (4, 5)
    else:
        assert tuple(names["out"].shape) == (5, 3)
