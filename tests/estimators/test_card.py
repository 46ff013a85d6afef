"""Model cards: what hubs read stands at the head, and the code on them runs."""

import json
import re

import estimator_cases as cases
import numpy as np
import pytest

from difformer import DIFFormer, DIFFormerClassifier, DIFFormerEncoder, DIFFormerRegressor
from difformer.nn.card import model_card


def head(text):
    _, front, _ = text.split("---\n", 2)
    return {key: json.loads(value) for key, value in (x.split(": ", 1) for x in front.splitlines())}


def run_code(text, folder, **given):
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "path/to/this/folder" in code
    exec(code.replace("path/to/this/folder", str(folder)), given)
    return given["model"]


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        (DIFFormerClassifier, "tabular-classification"),
        (DIFFormerRegressor, "tabular-regression"),
        (DIFFormerEncoder, "feature-extraction"),
    ],
)
def test_the_card_of_a_saved_estimator(kind, task, tmp_path):
    x, _, known = cases.digits(80, per_class=4)
    model = kind(training={"epochs": 3}).fit(x, known)
    model.save(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    assert head(text)["pipeline_tag"] == task
    assert head(text)["library_name"] == "difformer"
    assert "| fitted rows | 80 |" in text
    assert f"| features | {x.shape[1]} |" in text
    assert "context.safetensors" in text
    loaded = run_code(text, tmp_path / "model", X=x)
    np.testing.assert_array_equal(loaded.embedding_, model.embedding_)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == text


def test_the_card_of_a_saved_encoder(tmp_path):
    import torch

    model = DIFFormer(4, 8, 3, 2, diffusivity=("simple", "local"))
    model.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert '| diffusivity | ["simple", "local"] |' in text
    assert f"| parameters | {sum(p.numel() for p in model.parameters()):,} |" in text
    loaded = run_code(text, tmp_path, x=torch.randn(5, 4), edge_index=None)
    assert loaded.config == model.config


def test_cells_do_not_break_the_table():
    text = model_card("M", None, [], {"names": ["a|b", "c\nd"], "none": None}, "pass")
    assert '| names | ["a\\|b", "c\\nd"] |' in text
    assert "none" not in text
    assert "pipeline_tag" not in text
