"""Every recipe is whole; a file that is none says so; tables print what others printed."""

import io

import pytest
from rich.console import Console

from difformer.errors import ConfigError
from difformer.experiments.harness.recipe import known_recipes, load_recipe, parse_recipe
from difformer.experiments.harness.table import table
from difformer.experiments.record import Figure

GOOD = """
name = "small"
title = "Small"
source = "made"
[[cell]]
data = "digits"
protocol = "class-balanced-fresh-5-50"
[[entry]]
label = "logistic"
method = "logistic"
settings = { C = 1.0 }
[[peer]]
label = "somebody"
figure = "90.0"
trust = "checked"
"""


@pytest.mark.parametrize("name", known_recipes())
def test_every_recipe_is_whole(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.source
    assert len({peer.label for peer in recipe.peers}) == len(recipe.peers)


def test_titles_differ():
    titles = [load_recipe(name).title for name in known_recipes()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "small"', 'name = "Small One"', "name"),
        ('method = "logistic"', 'method = "logit"', "method must be one of"),
        (
            'method = "logistic"',
            'method = "logistic"\nfeatures = "cooked"',
            "features must be one of",
        ),
        ("C = 1.0", "D = 1.0", "setting of logistic regression must be one of 'C'"),
        ('data = "digits"', 'data = "letters"', "data must be one of"),
        ('trust = "checked"', 'trust = "sure"', "peer.0.trust"),
        ("[[cell]]", "[[cells]]", "cell"),
        ('title = "Small"', "title = ", "must be TOML"),
    ],
)
def test_what_is_wrong_is_named(old, new, message):
    with pytest.raises(ConfigError, match=message):
        parse_recipe(GOOD.replace(old, new), "small.toml")


def test_labels_must_differ():
    twice = GOOD + '[[entry]]\nlabel = "logistic"\nmethod = "knn"\n'
    with pytest.raises(ConfigError, match="labels must differ"):
        parse_recipe(twice, "small.toml")


def test_an_entry_may_want_its_features_prepared_otherwise():
    recipe = parse_recipe(
        GOOD + '[[entry]]\nlabel = "l1"\nmethod = "logistic"\nfeatures = "rows-l1"', ""
    )
    (cell,), (as_given, otherwise) = recipe.cells, recipe.entries
    assert as_given.meets(cell) is cell
    assert otherwise.meets(cell).features == "rows-l1"
    assert otherwise.meets(cell).protocol == cell.protocol


def test_a_recipe_is_found_by_name_or_as_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert load_recipe(str(path)).title == "Small"
    with pytest.raises(ConfigError, match="recipe must be one of"):
        load_recipe("mine")
    with pytest.raises(ConfigError, match="Cannot read the recipe"):
        load_recipe(str(tmp_path / "none.toml"))


def shown(*figures):
    """The table of the recipe "cora" as text."""

    class Made:
        protocol = "one split"

    Made.figures = list(figures)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(load_recipe("cora"), Made))
    return console.export_text()


OURS = Figure(label="DIFFormer-s", metric="accuracy %", value=85.0, std=0.5, seconds=1.0)
GCN = "GCN, tuned settings"


def test_the_table_shows_ours_papers_and_peers():
    against = {"difference": -1.0, "low": -2.0, "high": 0.0, "reference": "DIFFormer-s"}
    text = shown(OURS, Figure(label=GCN, metric="accuracy %", value=84.0, **against))
    for part in (
        "85.00 ± 0.50",
        "-1.00 [-2.00, +0.00]",
        "85.9 ± 0.4 (compiled)",
        "3 initial",
        "SGFormer",
    ):
        assert part in text, text


def test_a_row_that_did_not_run_says_why():
    assert "[pyg]" in shown(OURS, Figure(label=GCN, metric="accuracy %", note="needs [pyg]"))
